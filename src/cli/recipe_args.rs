//! What is to be done to a checkpoint: a preset, a recipe or bits, and what stands before them.

use crate::cli::{
    json::{RecipeGiven, given},
    target_args::TargetArgs,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Error, Result,
    recipe::{Additions, Granularity, GroupSize, Kind, Preset, Recipe},
    search::Target,
};

/// Which recipe to use. One of the first three is needed.
#[derive(Args)]
pub struct RecipeArgs {
    #[arg(short, long, value_name = "NAME", help = preset_help())]
    preset: Option<String>,
    /// A recipe file (TOML)
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Bits of a weight, in the place of a preset or recipe
    ///
    /// It is a preset with other bits: of int8 or int4 for --kind affine (2 to 8 bits), palette8 or palette4 for palette (1 to 8),
    /// coded4 for trellis (0.25 to 6, such as 2.5) and, with palettes, for entropy (any above 0 up to 8). What is treated, and what
    /// has more bits, is as there.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    bits: Option<f64>,
    /// With --bits, what shares a scale or table
    ///
    /// So many weights of a row (palette: so many rows), a channel, or the tensor.
    #[arg(long, value_name = "N|channel|tensor", requires = "bits", value_parser = parse_group)]
    group: Option<Granularity>,
    /// With --bits, how weights are quantized: affine if nothing is said
    ///
    /// In equal steps, by a table of the best values, by the best table for so many bits after coding, or along paths through a
    /// trellis, which has the least error for its bytes.
    #[arg(long, value_enum, requires = "bits")]
    kind: Option<KindName>,
    /// Keep the tensors of such names; may be repeated
    #[arg(long, value_name = "GLOB")]
    keep: Vec<String>,
    /// Treat the tensors of such names as a preset would; may be repeated
    ///
    /// The first that matches decides, after every --keep and before the recipe.
    #[arg(long, value_name = "GLOB=PRESET", value_parser = parse_set)]
    set: Vec<(String, String)>,
    /// Refuse a treated tensor whose ‖W-Q‖ / ‖W‖ is larger
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    max_error: Option<f64>,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum KindName {
    Affine,
    Palette,
    Entropy,
    Trellis,
}

impl KindName {
    fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Palette => "palette",
            Self::Entropy => "entropy",
            Self::Trellis => "trellis",
        }
    }
}

fn preset_help() -> String {
    format!("A recipe that comes with tersor: {}; see `tersor presets`", Preset::names())
}

/// Flags as they were given, with their values.
pub type Flags = Vec<(String, String)>;

impl RecipeArgs {
    /// Whether they say what is done, not only what stands before it.
    pub fn says_what(&self) -> Result<bool> {
        let aims = self.aim()?.is_some();
        Ok(aims || self.preset.is_some() || self.recipe.is_some() || self.bits.is_some())
    }

    /// Which was asked for.
    pub fn given(&self) -> RecipeGiven<'_> {
        RecipeGiven {
            preset: self.preset.as_deref(),
            recipe: self.recipe.as_deref().map(given),
            bits: self.bits,
            target: self.target.given(),
        }
    }

    /// The flags that were given, and the text of what they name.
    pub fn shown(&self) -> Result<(Flags, Option<String>)> {
        let flag = |name: &str, value: String| (format!("--{name}"), value);
        let mut flags = Vec::new();
        flags.extend(self.preset.iter().map(|p| flag("preset", p.clone())));
        flags.extend(self.recipe.iter().map(|p| flag("recipe", given(p))));
        flags.extend(self.bits.map(|b| flag("bits", b.to_string())));
        flags.extend(self.kind.map(|k| flag("kind", k.name().into())));
        flags.extend(self.group.as_ref().map(|g| flag("group", group_words(g))));
        flags.extend(self.keep.iter().map(|k| flag("keep", k.clone())));
        flags.extend(self.set.iter().map(|(glob, preset)| flag("set", format!("{glob}={preset}"))));
        flags.extend(self.max_error.map(|x| flag("max-error", x.to_string())));
        flags.extend(self.target.shown());
        let text = match (&self.preset, &self.recipe) {
            (Some(name), _) => Some(Preset::named(name)?.text.to_owned()),
            (None, Some(path)) => Some(std::fs::read_to_string(path).map_err(Error::io(path))?),
            (None, None) => None,
        };
        Ok((flags, text))
    }

    /// A recipe with what stands before it.
    pub fn before(&self, recipe: Recipe) -> Result<Recipe> {
        self.additions().before(recipe)
    }

    /// What stands before a recipe.
    pub fn additions(&self) -> Additions {
        let (keep, set) = (self.keep.clone(), self.set.clone());
        Additions { keep, set, max_error: self.max_error }
    }

    /// What is to be met, where there is a target in the place of a recipe.
    pub fn aim(&self) -> Result<Option<Target>> {
        let Some(target) = self.target.target()? else { return Ok(None) };
        let fixed = [
            (self.preset.is_some(), "--preset"),
            (self.recipe.is_some(), "--recipe"),
            (self.bits.is_some(), "--bits"),
        ];
        match fixed.iter().find(|(given, _)| *given) {
            None => Ok(Some(target)),
            Some((_, flag)) => Err(Error::Usage(format!(
                "{} and {flag} each say what is done to every tensor; leave one out (--keep and --set go with either)",
                target.flag()
            ))),
        }
    }

    /// The recipe that they make together.
    pub fn read(&self) -> Result<Recipe> {
        let two = |one: &str, other: &str| {
            let hint = "--keep, --set and --max-error go with either";
            Err(Error::Usage(format!(
                "{one} and {other} each say what is done to every tensor; leave one out ({hint})"
            )))
        };
        let recipe = match (&self.preset, &self.recipe, self.bits) {
            (Some(name), None, None) => Recipe::preset(name)?,
            (None, Some(path), None) => Recipe::read(path)?,
            (None, None, Some(bits)) => {
                let kind = match self.kind {
                    None | Some(KindName::Affine) => Kind::Affine,
                    Some(KindName::Palette) => Kind::Palette,
                    Some(KindName::Entropy) => Kind::Entropy,
                    Some(KindName::Trellis) => Kind::Trellis,
                };
                Recipe::of_bits(bits, kind, self.group.clone())?
            }
            (Some(_), Some(_), _) => return two("--preset", "--recipe"),
            (Some(_), _, Some(_)) => return two("--bits", "--preset"),
            (None, Some(_), Some(_)) => return two("--bits", "--recipe"),
            (None, None, None) => {
                return Err(Error::Usage(
                    "what is to be done? Say --preset NAME, --recipe FILE, --bits N or --target-size SIZE; `tersor presets` lists the presets"
                        .into(),
                ));
            }
        };
        self.before(recipe)
    }
}

/// What shares a scale or a table.
fn parse_group(text: &str) -> std::result::Result<Granularity, String> {
    match text {
        "channel" => Ok(Granularity::Channel),
        "tensor" => Ok(Granularity::Tensor),
        _ => match text.parse() {
            Ok(size) if size > 0 => Ok(Granularity::Group(vec![GroupSize::Of(size)])),
            _ => Err("expected a number from 1 on, \"channel\" or \"tensor\"".into()),
        },
    }
}

/// What shares a scale or a table, as it was given.
fn group_words(group: &Granularity) -> String {
    match group {
        Granularity::Channel => "channel".into(),
        Granularity::Tensor => "tensor".into(),
        Granularity::Group(sizes) => {
            let size = |size: &GroupSize| match size {
                GroupSize::Of(n) => n.to_string(),
                GroupSize::Row => "row".into(),
            };
            sizes.iter().map(size).collect::<Vec<_>>().join(",")
        }
    }
}

/// A glob, which may hold the sign itself, and a preset.
fn parse_set(text: &str) -> std::result::Result<(String, String), String> {
    let (glob, preset) =
        text.rsplit_once('=').ok_or("expected GLOB=PRESET, such as \"*.mlp.*=int4\"")?;
    Ok((glob.into(), preset.into()))
}
