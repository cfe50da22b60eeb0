//! Recipes: which tensors are treated how. TOML; the first matching rule wins; every tensor must match one.

use crate::{
    DType, Error, Result,
    codec::{block::Structure, stream::Coder},
    digest::{Digest, digest},
    quote::printable,
    tensor::elements,
};
use globset::{Glob, GlobMatcher};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The recipes that ship with the binary, by name.
pub const PRESETS: [(&str, &str); 10] = [
    ("int8", include_str!("../recipes/int8.toml")),
    ("int4", include_str!("../recipes/int4.toml")),
    ("palette8", include_str!("../recipes/palette8.toml")),
    ("palette4", include_str!("../recipes/palette4.toml")),
    ("coded4", include_str!("../recipes/coded4.toml")),
    ("coded3", include_str!("../recipes/coded3.toml")),
    ("sparse24", include_str!("../recipes/sparse24.toml")),
    ("deep", include_str!("../recipes/deep.toml")),
    ("weightless", include_str!("../recipes/weightless.toml")),
    ("lossless", include_str!("../recipes/lossless.toml")),
];

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
}

/// One rule: what it matches, and what is done to it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `match` or `regex`, to name it in messages. Either has to match the whole name of a tensor.
    pub pattern: String,
    matcher: Matcher,
    min_dims: usize,
    min_elements: u64,
    dtypes: Vec<DType>,
    /// The rule may match nothing.
    pub optional: bool,
    /// What is done to the tensors it matches.
    pub treatment: Treatment,
}

#[derive(Clone, Debug)]
enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
}

/// What a rule does. Neither `prune`, `quantize` nor `encode`: the tensor is kept bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Treatment {
    /// 1 where the rows of the matrix view are the columns of storage: weights stored `[in, out]`.
    pub axis: u8,
    /// Which weights survive.
    pub prune: Option<Prune>,
    /// How the survivors are stored.
    pub quantize: Option<Quantize>,
    /// How that is coded; `None` where it is stored as it is.
    pub encode: Option<Encode>,
    /// A safetensors file of weights for the squared errors of a palette: one for each element, or for each column.
    pub importance: Option<PathBuf>,
    /// What happens to a tensor with NaN or infinite values.
    pub nonfinite: NonFinite,
    /// The largest Frobenius ratio ‖W-Q‖ / ‖W‖ that verification accepts.
    pub max_rel_error: Option<f64>,
}

/// Which weights survive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    deny_unknown_fields,
    expecting = "a table such as { kind = \"magnitude\", density = 0.5 }"
)]
pub enum Prune {
    /// The `density * n` of largest magnitude, zeros never. F64 weights are compared as f32, so those that round to the same f32 are tied,
    /// and go by their index.
    Magnitude {
        /// Share that survives, 0..=1.
        density: f64,
        /// Over what the threshold is taken.
        #[serde(default)]
        scope: Scope,
        /// Not again: if of all tensors of the rule no larger share than `density` is non-zero, these weights survive, in
        /// every tensor.
        #[serde(default)]
        once: bool,
    },
    /// `n` of every `m` consecutive weights of a row.
    #[serde(rename = "n:m")]
    NOfM {
        /// How many survive.
        n: u32,
        /// Of how many, at most 16.
        m: u32,
    },
    /// Whole rows by their norm.
    Channel {
        /// Share of rows that survives.
        density: f64,
        /// Their norm.
        #[serde(default)]
        norm: Norm,
    },
    /// Whole blocks by their norm.
    Block {
        /// Share of blocks that survives.
        density: f64,
        /// Their norm.
        #[serde(default)]
        norm: Norm,
        /// Rows and columns of a block.
        block: [u32; 2],
    },
}

/// Over what a magnitude threshold is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each tensor keeps its own share.
    #[default]
    Tensor,
    /// Each row keeps its own share.
    Row,
    /// One threshold for all tensors of the rule.
    Model,
}

/// The norm of a row or block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of magnitudes.
    L1,
    /// Sum of squares.
    #[default]
    L2,
}

/// How weights become codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Quantize {
    /// Equal steps: a scale, and a zero point if asymmetric.
    Affine {
        /// Bits per code, 2..=8.
        bits: u8,
        /// Zero point 0.
        symmetric: bool,
        /// What shares a scale.
        granularity: Granularity,
        /// How the scale is chosen.
        objective: Objective,
    },
    /// A table of the k best values.
    Palette {
        /// Entries, 2..=256.
        k: u32,
        /// What shares a table.
        granularity: Granularity,
        /// The table, which is then the tensor's, is the smallest one of a power of two of entries, up to `k`, whose error
        /// relative to the survivors, `‖w - q‖ / ‖w‖`, is at most this.
        max_error: Option<f64>,
    },
    /// The sign of every weight, and one magnitude for each row: the mean of its own, which has the least squared error.
    Binary,
    /// A table for the tensor that is the best for so many bits per surviving weight once codes are entropy-coded. The bits are
    /// the order-0 entropy of the codes, which rANS reaches to within 0.5 %, not their packed width.
    Entropy {
        /// Above 0, up to 8.
        bits: f64,
    },
}

impl Quantize {
    /// The error limit by which a palette is chosen.
    pub fn max_error(&self) -> Option<f64> {
        match self {
            Self::Palette { max_error, .. } => *max_error,
            Self::Affine { .. } | Self::Binary | Self::Entropy { .. } => None,
        }
    }
}

/// How what is stored is coded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Encode {
    /// Masks and codes or values as streams.
    Streams(Coder),
    /// Masks and codes together in a retrieval structure, which is wrong for some of the pruned weights.
    Retrieval {
        /// Which.
        structure: Structure,
        /// Results have the fewest bits with which the weights that come back although they were pruned have, as expected, no
        /// larger Frobenius norm than this share of the survivors'.
        max_error: f64,
    },
}

/// The `max_error` of a retrieval structure that is only named.
const RETRIEVAL_ERROR: f64 = 0.1;

/// What shares a scale or a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Granularity {
    /// The tensor.
    Tensor,
    /// A row.
    Channel,
    /// Affine: consecutive elements of a row. Palette: consecutive rows. The first size of the list that divides.
    Group(Vec<GroupSize>),
}

/// A group size to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GroupSize {
    /// This many.
    Of(u64),
    /// The whole row; always divides.
    Row,
}

/// How the scale of a group is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// From the largest magnitude.
    #[default]
    Range,
    /// The clip with the smallest squared error.
    Mse,
}

/// What happens to a tensor with NaN or infinite values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// It is kept bit for bit, with a warning.
    #[default]
    Keep,
    /// The job is refused.
    Error,
}

// ------------------------------------------------------------------------------------------ the file as it is written

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    rule: Vec<toml::Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    r#match: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    min_dims: usize,
    #[serde(default)]
    min_elements: u64,
    #[serde(default)]
    dtype: OneOrMany<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    keep: bool,
    axis: Option<u8>,
    prune: Option<Prune>,
    quantize: Option<RawQuantize>,
    encode: Option<RawEncode>,
    importance: Option<PathBuf>,
    nonfinite: Option<NonFinite>,
    max_rel_error: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected one value or a list of them")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> From<OneOrMany<T>> for Vec<T> {
    fn from(from: OneOrMany<T>) -> Self {
        match from {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "encode is not known, expected \"raw\", \"huffman\", \"rans\", \"auto\", \"ribbon\", \"bloomier\", or { kind = \"ribbon\", max_error = 0.1 }"
)]
enum RawEncode {
    Named(EncodeName),
    Retrieval(RawRetrieval),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodeName {
    Raw,
    Huffman,
    Rans,
    Auto,
    Ribbon,
    Bloomier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetrieval {
    kind: Structure,
    max_error: f64,
}

impl RawEncode {
    fn check(self) -> std::result::Result<Option<Encode>, String> {
        let retrieval = |structure, max_error| Encode::Retrieval { structure, max_error };
        Ok(match self {
            Self::Named(EncodeName::Raw) => None,
            Self::Named(EncodeName::Huffman) => Some(Encode::Streams(Coder::Huffman)),
            Self::Named(EncodeName::Rans) => Some(Encode::Streams(Coder::Rans)),
            Self::Named(EncodeName::Auto) => Some(Encode::Streams(Coder::Auto)),
            Self::Named(EncodeName::Ribbon) => Some(retrieval(Structure::Ribbon, RETRIEVAL_ERROR)),
            Self::Named(EncodeName::Bloomier) => {
                Some(retrieval(Structure::Bloomier, RETRIEVAL_ERROR))
            }
            Self::Retrieval(RawRetrieval { max_error, .. })
                if !max_error.is_finite() || max_error <= 0.0 =>
            {
                return Err(format!("max_error is {max_error}, expected a number above 0"));
            }
            Self::Retrieval(RawRetrieval { kind, max_error }) => Some(retrieval(kind, max_error)),
        })
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawGranularity {
    Tensor,
    Channel,
    Group,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawGroup {
    Of(u64),
    Named(String),
}

#[derive(Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    deny_unknown_fields,
    expecting = "a table such as { kind = \"affine\", bits = 8 }"
)]
enum RawQuantize {
    Affine {
        bits: u8,
        #[serde(default = "yes")]
        symmetric: bool,
        granularity: Option<RawGranularity>,
        #[serde(default)]
        group: OneOrMany<RawGroup>,
        #[serde(default)]
        objective: Objective,
    },
    Palette {
        bits: Option<u8>,
        k: Option<u32>,
        max_error: Option<f64>,
        granularity: Option<RawGranularity>,
        #[serde(default)]
        group: OneOrMany<RawGroup>,
    },
    // Not a unit, which would take any key.
    Binary {},
    Entropy {
        bits: f64,
    },
}

fn yes() -> bool {
    true
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
        let names = || PRESETS.map(|(n, _)| n).join(", ");
        let found = PRESETS.iter().find(|(n, _)| *n == name);
        let (_, text) = found.ok_or_else(|| {
            Error::Usage(format!("no preset is called {name:?}; there are: {}", names()))
        })?;
        Self::parse(text)
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
            Ok(serde_json::json!({
                "pattern": rule.pattern,
                "regex": matches!(rule.matcher, Matcher::Regex(_)),
                "min_dims": rule.min_dims,
                "min_elements": rule.min_elements,
                "dtypes": rule.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>(),
                "optional": rule.optional,
                "treatment": treatment,
            }))
        };
        let rules = self.rules.iter().map(rule).collect::<Result<Vec<_>>>()?;
        Ok(digest(serde_json::json!(rules).to_string().as_bytes()))
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
        let rules = file.rule.into_iter().enumerate().map(|(i, raw)| {
            let line = 1 + text[..raw.span().start].matches('\n').count();
            let raw = raw.into_inner();
            let pattern = raw.r#match.clone().or(raw.regex.clone()).unwrap_or_default();
            Rule::check(raw, pattern.clone()).map_err(|why| {
                Error::Recipe(format!("line {line}, rule {} ({pattern:?}): {why}", i + 1))
            })
        });
        Ok(Self { rules: rules.collect::<Result<_>>()? })
    }
}

impl Rule {
    /// Whether the rule applies to a tensor.
    pub fn matches(&self, name: &str, dtype: DType, shape: &[u64]) -> bool {
        self.names(name) && self.missing(dtype, shape).is_none()
    }

    /// Why the rule does not apply to a tensor whose name it matches: what the tensor "is" or "has".
    pub fn unmet(&self, name: &str, dtype: DType, shape: &[u64]) -> Option<String> {
        self.missing(dtype, shape).filter(|_| self.names(name))
    }

    fn names(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    fn missing(&self, dtype: DType, shape: &[u64]) -> Option<String> {
        if shape.len() < self.min_dims {
            return Some(format!("has fewer than {} dimensions", self.min_dims));
        }
        if elements(shape) < self.min_elements {
            return Some(format!("has fewer than {} elements", self.min_elements));
        }
        let listed = self.dtypes.is_empty() || self.dtypes.contains(&dtype);
        (!listed).then(|| format!("is {}, which the rule for its name does not list", dtype.name()))
    }

    fn check(raw: RawRule, pattern: String) -> std::result::Result<Self, String> {
        let matcher = match (raw.r#match, raw.regex) {
            (Some(glob), None) => {
                Matcher::Glob(Glob::new(&glob).map_err(|e| e.to_string())?.compile_matcher())
            }
            (None, Some(regex)) => {
                Matcher::Regex(Regex::new(&format!("^(?:{regex})$")).map_err(|e| e.to_string())?)
            }
            _ => return Err("expected either match = \"glob\" or regex = \"expression\"".into()),
        };
        let dtypes: Vec<String> = raw.dtype.into();
        let dtypes =
            dtypes.iter().map(|d| DType::parse(d).ok_or(format!("dtype {d:?} is not known")));
        let encode_given = raw.encode.is_some();
        let encode = raw.encode.map(RawEncode::check).transpose()?.flatten();
        let changed = raw.prune.is_some() || raw.quantize.is_some();
        if if raw.keep { changed } else { !changed && encode.is_none() } {
            return Err("expected keep = true, or one or more of prune, quantize, encode".into());
        }
        let without_effect = [
            ("axis", raw.axis.is_some()),
            ("encode", encode_given),
            ("importance", raw.importance.is_some()),
            ("nonfinite", raw.nonfinite.is_some()),
            ("max_rel_error", raw.max_rel_error.is_some()),
        ];
        if let Some((key, _)) = without_effect.iter().find(|(_, given)| raw.keep && *given) {
            return Err(format!("{key} does nothing where keep = true; leave it out"));
        }
        if let Some(axis) = raw.axis.filter(|axis| *axis > 1) {
            return Err(format!("axis is {axis}, expected 0 or 1"));
        }
        if let Some(prune) = raw.prune {
            prune.check()?;
        }
        if let Some(limit) = raw.max_rel_error.filter(|l| !l.is_finite() || *l < 0.0) {
            return Err(format!("max_rel_error is {limit}, expected a finite number from 0 on"));
        }
        let quantize = raw.quantize.map(RawQuantize::check).transpose()?;
        let one_palette = match &quantize {
            Some(Quantize::Palette { granularity, .. }) => *granularity == Granularity::Tensor,
            Some(Quantize::Entropy { .. }) => true,
            _ => false,
        };
        if matches!(encode, Some(Encode::Retrieval { .. })) && !(one_palette && raw.prune.is_some())
        {
            return Err("ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor".into());
        }
        if raw.importance.is_some() && !matches!(quantize, Some(Quantize::Palette { .. })) {
            return Err("importance weighs the squared errors of palettes; expected one".into());
        }
        Ok(Self {
            pattern,
            matcher,
            min_dims: raw.min_dims,
            min_elements: raw.min_elements,
            dtypes: dtypes.collect::<std::result::Result<_, _>>()?,
            optional: raw.optional,
            treatment: Treatment {
                axis: raw.axis.unwrap_or(0),
                prune: raw.prune,
                quantize,
                encode,
                importance: raw.importance,
                nonfinite: raw.nonfinite.unwrap_or_default(),
                max_rel_error: raw.max_rel_error,
            },
        })
    }
}

impl Treatment {
    /// Whether the tensor is kept bit for bit.
    pub fn keeps(&self) -> bool {
        self.prune.is_none() && self.quantize.is_none() && self.encode.is_none()
    }
}

impl Prune {
    fn check(self) -> std::result::Result<(), String> {
        match self {
            Self::Magnitude { density, .. }
            | Self::Channel { density, .. }
            | Self::Block { density, .. }
                if !(0.0..=1.0).contains(&density) =>
            {
                Err(format!("density is {density}, expected 0 to 1"))
            }
            Self::NOfM { n, m } if !(1 <= n && n < m && m <= 16) => {
                Err(format!("n:m is {n}:{m}, expected 1 <= n < m <= 16"))
            }
            Self::Block { block: [r, c], .. } if r == 0 || c == 0 => {
                Err(format!("block is [{r}, {c}], expected at least [1, 1]"))
            }
            _ => Ok(()),
        }
    }
}

impl RawQuantize {
    fn check(self) -> std::result::Result<Quantize, String> {
        match self {
            Self::Affine { bits, symmetric, granularity, group, objective } => {
                if !(2..=8).contains(&bits) {
                    return Err(format!("bits is {bits}, expected 2 to 8"));
                }
                let granularity =
                    granularity_of(granularity.unwrap_or(RawGranularity::Channel), group)?;
                Ok(Quantize::Affine { bits, symmetric, granularity, objective })
            }
            Self::Palette { bits, k, max_error, granularity, group } => {
                let k = match (bits, k, max_error) {
                    (Some(bits @ 1..=8), None, None) => 1 << bits,
                    (None, Some(k @ 2..=256), None) => k,
                    (None, None, Some(limit)) if limit.is_finite() && limit >= 0.0 => 256,
                    _ => {
                        return Err(
                            "expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"
                                .into(),
                        );
                    }
                };
                let granularity =
                    granularity_of(granularity.unwrap_or(RawGranularity::Tensor), group)?;
                if matches!(&granularity, Granularity::Group(sizes) if sizes.contains(&GroupSize::Row))
                {
                    return Err("a palette's group is a number of rows; expected numbers".into());
                }
                if max_error.is_some() && granularity != Granularity::Tensor {
                    return Err(
                        "max_error chooses one table for a tensor; leave granularity out".into()
                    );
                }
                Ok(Quantize::Palette { k, granularity, max_error })
            }
            Self::Binary {} => Ok(Quantize::Binary),
            Self::Entropy { bits } if bits > 0.0 && bits <= 8.0 => Ok(Quantize::Entropy { bits }),
            Self::Entropy { bits } => Err(format!("bits is {bits}, expected above 0, up to 8")),
        }
    }
}

fn granularity_of(
    granularity: RawGranularity,
    group: OneOrMany<RawGroup>,
) -> std::result::Result<Granularity, String> {
    let sizes = Vec::from(group).into_iter().map(|size| match size {
        RawGroup::Of(0) => Err("group is 0, expected at least 1".into()),
        RawGroup::Of(size) => Ok(GroupSize::Of(size)),
        RawGroup::Named(name) if name == "row" => Ok(GroupSize::Row),
        RawGroup::Named(name) => Err(format!("group is {name:?}, expected a number or \"row\"")),
    });
    let sizes: Vec<_> = sizes.collect::<std::result::Result<_, String>>()?;
    match (granularity, sizes.is_empty()) {
        (RawGranularity::Tensor, true) => Ok(Granularity::Tensor),
        (RawGranularity::Channel, true) => Ok(Granularity::Channel),
        (RawGranularity::Group, false) => Ok(Granularity::Group(sizes)),
        (RawGranularity::Group, true) => {
            Err("granularity is \"group\", but group is missing".into())
        }
        (_, false) => Err("group is given, but granularity is not \"group\"".into()),
    }
}
