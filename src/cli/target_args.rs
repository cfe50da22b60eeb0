//! What a model is to be made to fit, in the place of a recipe; and where what was found is written.

use crate::cli::{
    json::{TargetGiven, given},
    parse_size,
    recipe_args::Flags,
};
use clap::Args;
use std::path::{Component, Path, PathBuf};
use tersor::{
    Error, Result,
    format::{Checkpoint, TextFile, TextKind, shown},
    pipeline::Options,
    recipe::Additions,
    search::{Ask, Found, Target, search},
};

/// A size or an error to aim at.
#[derive(Args)]
pub struct TargetArgs {
    /// Find the recipe with the least error for so many bytes of output: 900MiB, 1.5GB, ...
    ///
    /// Every tensor that presets treat is tried in some forty ways that a recipe knows, on a sample if it is large, and bytes go where
    /// they take away most error. What is found is written by --write-recipe, and used like any recipe.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "A size to aim at")]
    target_size: Option<u64>,
    /// The same for so many bits of output for each element of the checkpoint, everything counted
    #[arg(long, value_name = "X", allow_hyphen_values = true, help_heading = "A size to aim at")]
    target_bpw: Option<f64>,
    /// Find the fewest bytes with which ‖W-Q‖ / ‖W‖ of no tensor is larger
    #[arg(long, value_name = "X", allow_hyphen_values = true, help_heading = "A size to aim at")]
    max_rel_error: Option<f64>,
    /// With one of these: treat alike what is used together, queries, keys and values of a layer, gate and up projections
    #[arg(long, help_heading = "A size to aim at")]
    together: bool,
    /// With one of these: write the recipe that was found
    #[arg(long, value_name = "FILE.toml", help_heading = "A size to aim at")]
    write_recipe: Option<PathBuf>,
    /// With one of these: write what other sizes would have, .csv or .svg; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "A size to aim at")]
    write_curve: Vec<PathBuf>,
}

const RECIPE: TextKind = TextKind { flag: "--write-recipe", is: "recipe", endings: &["toml"] };
const CURVE: TextKind = TextKind { flag: "--write-curve", is: "curve", endings: &["csv", "svg"] };

/// Places that are claimed for what will be found.
pub struct Claimed {
    recipe: Option<TextFile>,
    curves: Vec<(TextFile, bool)>,
}

impl TargetArgs {
    /// The target, if there is one.
    pub fn target(&self) -> Result<Option<Target>> {
        let all: Vec<Target> = [
            self.target_size.map(Target::Size),
            self.target_bpw.map(Target::BitsPerWeight),
            self.max_rel_error.map(Target::Error),
        ]
        .into_iter()
        .flatten()
        .collect();
        match all[..] {
            [] => {
                let only = [
                    (self.together, "--together"),
                    (self.write_recipe.is_some(), RECIPE.flag),
                    (!self.write_curve.is_empty(), CURVE.flag),
                ];
                match only.iter().find(|(given, _)| *given) {
                    None => Ok(None),
                    Some((_, flag)) => Err(Error::Usage(format!(
                        "{flag} is of what a search finds: it goes with --target-size, --target-bpw or --max-rel-error"
                    ))),
                }
            }
            [one] => Ok(Some(one)),
            [one, other, ..] => Err(Error::Usage(format!(
                "{} and {}: there can be only one target",
                one.flag(),
                other.flag()
            ))),
        }
    }

    /// Flags as they were given.
    pub fn shown(&self) -> Flags {
        let mut flags = Flags::new();
        let mut flag = |name: &str, value: String| flags.push((name.into(), value));
        self.target_size.iter().for_each(|x| flag("--target-size", x.to_string()));
        self.target_bpw.iter().for_each(|x| flag("--target-bpw", x.to_string()));
        self.max_rel_error.iter().for_each(|x| flag("--max-rel-error", x.to_string()));
        if self.together {
            flag("--together", String::new());
        }
        self.write_recipe.iter().for_each(|p| flag(RECIPE.flag, given(p)));
        self.write_curve.iter().for_each(|p| flag(CURVE.flag, given(p)));
        flags
    }

    /// The same for programs.
    pub fn given(&self) -> TargetGiven {
        TargetGiven {
            target_size: self.target_size,
            target_bpw: self.target_bpw,
            max_rel_error: self.max_rel_error,
        }
    }

    /// Claims the places of what is to be written, before a search that reads a model.
    pub fn claim(
        &self,
        model: &Path,
        variant: Option<&str>,
        output: Option<&Path>,
        force: bool,
    ) -> Result<Claimed> {
        let mut claimed = Claimed { recipe: None, curves: Vec::new() };
        if self.write_recipe.is_none() && self.write_curve.is_empty() {
            return Ok(claimed);
        }
        let source = Checkpoint::open_variant(model, variant)?;
        let claim =
            |kind, path: &Path| TextFile::claim(kind, path, &[&source], [""; 0], output, force);
        if let Some(path) = &self.write_recipe {
            claimed.recipe = Some(claim(RECIPE, path)?);
        }
        let plain = |path: &Path| {
            path.components().filter(|c| *c != Component::CurDir).collect::<PathBuf>()
        };
        for (i, path) in self.write_curve.iter().enumerate() {
            if self.write_curve[..i].iter().any(|other| plain(other) == plain(path)) {
                let why = format!("{} is named twice", shown(path));
                return Err(Error::Usage(why));
            }
            let svg = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg"));
            claimed.curves.push((claim(CURVE, path)?, svg));
        }
        Ok(claimed)
    }

    /// Searches, and says what is to be said of it.
    pub fn search(
        &self,
        target: Target,
        model: &Path,
        additions: &Additions,
        options: &Options,
    ) -> Result<Found> {
        let found = search(model, &Ask { target, additions, together: self.together }, options)?;
        found.remarks.iter().for_each(|remark| options.progress.warn(remark));
        Ok(found)
    }
}

impl Claimed {
    /// Writes what was found.
    pub fn publish(self, found: &Found) -> Result<()> {
        let claimed = self;
        if let Some(place) = claimed.recipe {
            place.publish(&found.text)?;
        }
        for (place, svg) in claimed.curves {
            place.publish(&match svg {
                true => found.curve.svg(Some((found.output_bytes, found.rel_error))),
                false => found.curve.csv(),
            })?;
        }
        Ok(())
    }
}

impl TargetArgs {
    /// What is said of it at the end.
    pub fn said(&self, found: &Found) -> String {
        let mut text = format!(
            "\nfound: {} bytes; ‖W-Q‖ / ‖W‖ is {:.4} in the mean over {} weights (root of mean squares)\n",
            found.output_bytes, found.rel_error, found.searched
        );
        match &self.write_recipe {
            Some(path) => text += &format!("the recipe is {}\n", shown(path)),
            None => text += "--write-recipe FILE.toml keeps the recipe\n",
        }
        let curves: Vec<String> = self.write_curve.iter().map(|p| shown(p)).collect();
        if !curves.is_empty() {
            text += &format!("what other sizes would have is in {}\n", curves.join(" and "));
        }
        text
    }
}
