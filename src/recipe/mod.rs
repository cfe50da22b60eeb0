//! Recipes: which tensors are treated how. TOML; the first matching rule wins; every tensor must match one.

mod defaults;
mod flags;
mod presets;
mod rule;
mod treatment;
mod written;

pub use crate::codec::{block::Structure, stream::Coder};
pub use defaults::DEFAULTS;
pub use flags::{Additions, Kind};
pub use presets::{MINILM_BYTES, Measured, PRESETS, Preset, SHIPPED};
pub use rule::{Role, Rule};
pub use treatment::{
    Encode, Granularity, GroupSize, NonFinite, Norm, Objective, Prune, Quantize, Scope, Transform,
    Treatment, TrellisGoal,
};

use crate::{
    Error, Result,
    digest::{Digest, digest},
    quote::printable,
};
use rule::Matcher;
use std::path::Path;
use written::{File, checked};

pub(crate) use defaults::defaults;

/// A parsed and checked recipe.
///
/// # Example
///
/// ```
/// use tersor::{DType, recipe::Recipe};
///
/// let recipe = Recipe::parse(
///     r#"
///     version = 1
///     [[rule]]
///     match = "*.weight"
///     min_dims = 2
///     prune = { kind = "n:m", n = 2, m = 4 }
///     [[rule]]
///     match = "*"
///     keep = true
///     "#,
/// )?;
/// let first = |name, shape: &[u64]| {
///     recipe.rules.iter().position(|rule| rule.matches(name, DType::F32, shape))
/// };
/// assert_eq!(first("fc.weight", &[10, 84]), Some(0));
/// assert_eq!(first("norm.weight", &[84]), Some(1)); // one dimension
/// assert_eq!(first("fc.bias", &[10]), Some(1));
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recipe {
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// Whether [`DEFAULTS`] come before them: what these keep is kept, and weights that they know to be stored `[in, out]` are
    /// treated so by rules that do not set `axis`.
    pub defaults: bool,
}

impl Recipe {
    /// The preset called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is none of that name.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::recipe::{Quantize, Recipe};
    ///
    /// let quantize = &Recipe::preset("int8")?.rules[0].treatment.quantize;
    /// assert!(matches!(quantize, Some(Quantize::Affine { bits: 8, symmetric: true, .. })));
    /// assert!(Recipe::preset("int5").is_err());
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self> {
        Self::parse(Preset::named(name)?.text)
    }

    /// Reads a recipe. Paths in it are those of its folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; as [`Recipe::parse`], with the name of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let mut recipe = Self::parse(&text).map_err(|e| match e {
            Error::Recipe(why) => Error::Recipe(format!("{}: {why}", path.display())),
            other => other,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for rule in &mut recipe.rules {
            if let Some(importance) = &mut rule.treatment.importance {
                *importance = folder.join(&*importance);
            }
        }
        Ok(recipe)
    }

    /// The digest of what it asks for, with the contents of the files of importance in the place of their names. It is of JSON, whose
    /// names and order are fixed here: what `{:?}` prints may be another with every compiler and every crate below.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if such a file cannot be read.
    pub fn digest(&self) -> Result<Digest> {
        let rule = |rule: &Rule| {
            let mut treatment = rule.treatment.clone();
            if let Some(path) = &mut treatment.importance {
                let mut hash = blake3::Hasher::new();
                let read = std::fs::File::open(&path).and_then(|file| hash.update_reader(file));
                read.map_err(Error::io(&*path))?;
                *path = hash.finalize().to_hex().as_str().into();
            }
            let mut json = serde_json::json!({
                "pattern": rule.pattern,
                "regex": rule.is_regex(),
                "min_dims": rule.min_dims,
                "min_elements": rule.min_elements,
                "dtypes": rule.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>(),
                "optional": rule.optional,
                "treatment": treatment,
            });
            // Left out where there is none: recipes that have none have the digests that they had.
            if let Some(only) = &rule.only {
                json["only"] = only.glob().glob().into();
            }
            if let Some(role) = rule.role {
                json["role"] = serde_json::json!(role);
            }
            if self.defaults {
                json["sets_axis"] = rule.sets_axis.into();
            }
            Ok(json)
        };
        let rules = self.rules.iter().map(rule).collect::<Result<Vec<_>>>()?;
        let rules = serde_json::json!(rules);
        let asked = match self.defaults {
            true => serde_json::json!({ "defaults": DEFAULTS, "rules": rules }),
            false => rules,
        };
        Ok(digest(asked.to_string().as_bytes()))
    }

    /// Parses a recipe and checks every rule by itself. A relative path in it is one of the working directory.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] with the line of an unknown key or a wrong type, or naming the rule whose values make no sense.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::recipe::{Prune, Recipe};
    ///
    /// let recipe = Recipe::parse(
    ///     r#"
    ///     version = 1
    ///     [[rule]]
    ///     match = "*"
    ///     prune = { kind = "channel", density = 0.25 }
    ///     "#,
    /// )?;
    /// assert!(matches!(recipe.rules[0].treatment.prune, Some(Prune::Channel { density: 0.25, .. })));
    ///
    /// let error = Recipe::parse("version = 2").unwrap_err();
    /// assert_eq!(error.to_string(), "recipe: version 2 is not known, expected 1");
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|e| {
            let lines: Vec<String> = e.to_string().lines().map(printable).collect();
            Error::Recipe(lines.join("\n"))
        })?;
        if file.version != 1 {
            return Err(Error::Recipe(format!(
                "version {} is not known, expected 1",
                file.version
            )));
        }
        if file.rule.is_empty() {
            return Err(Error::Recipe("it has no rule; expected at least one [[rule]]".into()));
        }
        Ok(Self { rules: checked(text, file.rule)?, defaults: file.defaults })
    }
}
