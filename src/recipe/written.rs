//! Rules as they are written in TOML, and the checks that make one of each.

use crate::{
    DType, Error, Result,
    codec::{
        block::Structure,
        pyramid::{BITS, Pyramid},
        stream::Coder,
        trellis::Trellis,
    },
    decide::affine::ScaleType,
    form::TransformKind,
    recipe::{
        rule::{Matcher, Role, Rule},
        treatment::{
            Encode, Granularity, GroupSize, NonFinite, Objective, Prune, Quantize, Transform,
            Treatment, TrellisGoal,
        },
    },
};
use globset::Glob;
use regex::Regex;
use serde::Deserialize;
use std::path::PathBuf;

/// The `max_error` of a retrieval structure that is only named.
const RETRIEVAL_ERROR: f64 = 0.1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) defaults: bool,
    #[serde(default)]
    pub(super) rule: Vec<toml::Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    r#match: Option<String>,
    regex: Option<String>,
    role: Option<Role>,
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
    why: Option<String>,
    axis: Option<u8>,
    prune: Option<Prune>,
    transform: Option<RawTransform>,
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

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "transform is not known, expected \"hadamard\", \"dct\", or { kind = \"hadamard\", block = 128, seed = 1 }"
)]
enum RawTransform {
    Named(TransformName),
    Of(RawTransformOf),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TransformName {
    Hadamard,
    Dct,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTransformOf {
    kind: TransformName,
    // As wide as numbers of a recipe are, so that it is said which one is out of its range.
    block: Option<i64>,
    seed: Option<i64>,
    quantization: Option<RawSteps>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawSteps {
    Named(String),
    Of(Vec<i64>),
}

/// The first row of the example for luminance in annex K of JPEG, ITU-T T.81.
const JPEG_STEPS: [u8; 8] = [16, 11, 10, 16, 24, 40, 51, 61];

impl RawTransform {
    fn check(self) -> std::result::Result<Transform, String> {
        let of = match self {
            Self::Named(kind) => {
                RawTransformOf { kind, block: None, seed: None, quantization: None }
            }
            Self::Of(of) => of,
        };
        let kind = match of.kind {
            TransformName::Hadamard => {
                let seed = of.seed.unwrap_or(0);
                let seed = u32::try_from(seed)
                    .map_err(|_| format!("seed is {seed}, expected 0 to {}", u32::MAX))?;
                TransformKind::Hadamard { seed }
            }
            TransformName::Dct if of.seed.is_some() => {
                return Err(
                    "seed is of the signs of a Hadamard transform; a cosine transform has none"
                        .into(),
                );
            }
            TransformName::Dct => TransformKind::Dct,
        };
        let (least, most) = kind.blocks();
        let fits = |block: i64| {
            let fits = |b: &u32| b.is_power_of_two() && (least..=most).contains(b);
            u32::try_from(block)
                .ok()
                .filter(fits)
                .ok_or(format!("block is {block}, expected a power of two from {least} to {most}"))
        };
        let block = of.block.map(fits).transpose()?;
        let given = of.quantization.is_some();
        let steps = match of.quantization {
            None => Vec::new(),
            Some(_) if kind != TransformKind::Dct => {
                return Err(
                    "quantization is a step for every frequency of a cosine transform".into()
                );
            }
            Some(RawSteps::Named(name)) if name == "jpeg" => JPEG_STEPS.to_vec(),
            Some(RawSteps::Named(name)) => {
                return Err(format!(
                    "quantization is {name:?}, expected \"jpeg\" or a list of steps"
                ));
            }
            Some(RawSteps::Of(steps)) => {
                let step = |step: i64| {
                    let found = u8::try_from(step).ok().filter(|s| *s > 0);
                    found.ok_or(format!("quantization has a step of {step}, expected 1 to 255"))
                };
                steps.into_iter().map(step).collect::<std::result::Result<_, _>>()?
            }
        };
        // As many steps as a block has weights say how many these are.
        let block = match (given, u32::try_from(steps.len()), block) {
            (false, ..) => block,
            (true, Ok(n), block) if [8, 16, 32].contains(&n) && block.is_none_or(|b| b == n) => {
                Some(n)
            }
            (true, _, block) => {
                let blocks = block.map_or("8, 16 or 32".into(), |b| b.to_string());
                return Err(format!(
                    "quantization has {} steps, expected one for each of the {blocks} weights of a block",
                    steps.len()
                ));
            }
        };
        Ok(Transform { kind, block, steps })
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
        #[serde(default)]
        scales: ScaleType,
    },
    Palette {
        bits: Option<u8>,
        k: Option<u32>,
        max_error: Option<f64>,
        granularity: Option<RawGranularity>,
        #[serde(default)]
        group: OneOrMany<RawGroup>,
    },
    Vector(RawVector),
    Product(RawVector),
    Residual(RawVector),
    Pyramid {
        n: i64,
        k: Option<i64>,
        bits: Option<f64>,
        gain_bits: Option<i64>,
    },
    Trellis {
        bits: Option<f64>,
        max_error: Option<f64>,
        states: Option<u8>,
    },
    // Not a unit, which would take any key.
    Binary {},
    Entropy {
        bits: f64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVector {
    d: i64,
    k: i64,
    spaces: Option<i64>,
    stages: Option<i64>,
    granularity: Option<RawGranularity>,
    #[serde(default)]
    group: OneOrMany<RawGroup>,
    #[serde(default)]
    scales: ScaleType,
    #[serde(default)]
    seed: i64,
}

impl RawVector {
    /// Of the kinds only a product has sub-spaces for certain, and only a residual quantizer stages; each may have both.
    fn check(
        self,
        spaces: Option<i64>,
        stages: Option<i64>,
    ) -> std::result::Result<Quantize, String> {
        let Self { d, k, granularity, group, scales, seed, .. } = self;
        let within = |name: &str, value: i64, range: std::ops::RangeInclusive<u32>, of: &str| {
            let found = u32::try_from(value).ok().filter(|v| range.contains(v));
            let (least, most) = range.into_inner();
            found.ok_or(format!("{name} is {value}, expected {least} to {most}{of}"))
        };
        let d = within("d", d, 1..=16, " weights of a vector")? as u8;
        let k = within("k", k, 2..=1 << 16, " entries")?;
        let seed = u64::try_from(seed)
            .map_err(|_| format!("seed is {seed}, expected 0 to {}", i64::MAX))?;
        let spaces = spaces.ok_or("a product has sub-spaces; expected spaces = 2 or more")?;
        let stages = stages.ok_or("a residual quantizer has stages; expected stages = 2 to 8")?;
        let spaces = within("spaces", spaces, 1..=1 << 20, "")?;
        let stages = within("stages", stages, 1..=8, "")? as u8;
        let granularity = granularity_of(granularity.unwrap_or(RawGranularity::Channel), group)?;
        Ok(Quantize::Vector { d, k, spaces, stages, granularity, scales, seed })
    }
}

/// A pyramid of so many pulses, or of as many as so many bits a weight allow, those of the gain among them.
fn pyramid(
    n: i64,
    k: Option<i64>,
    bits: Option<f64>,
    gain_bits: i64,
) -> std::result::Result<Quantize, String> {
    let within = |value: i64, range: std::ops::RangeInclusive<u8>| {
        u8::try_from(value).ok().filter(|v| range.contains(v))
    };
    let n = within(n, 4..=64)
        .filter(|n| n.is_multiple_of(4))
        .ok_or(format!("n is {n}, expected 4 to 64, a multiple of 4"))?;
    let gain_bits =
        within(gain_bits, 1..=10).ok_or(format!("gain_bits is {gain_bits}, expected 1 to 10"))?;
    let of = |k: u8| Pyramid::new(n.into(), k.into());
    let k = match (k, bits) {
        (Some(k), None) => {
            let k = within(k, 1..=127).ok_or(format!("k is {k}, expected 1 to 127"))?;
            if of(k).is_none() {
                return Err(format!("k is {k}, which takes more than {BITS} bits for n = {n}"));
            }
            k
        }
        (None, Some(bits)) if !(bits > 0.0 && bits <= 16.0) => {
            return Err(format!("bits is {bits}, expected above 0 and up to 16"));
        }
        (None, Some(bits)) => {
            let fits = |k: &u8| {
                of(*k).is_some_and(|p| {
                    f64::from(p.bits() + u32::from(gain_bits)) <= bits * f64::from(n)
                })
            };
            (1..=127).rev().find(fits).ok_or_else(|| {
                format!("bits is {bits}, too few for a pulse and a gain in {n} weights")
            })?
        }
        (Some(_), Some(_)) => {
            return Err("k and bits each say how many pulses there are; leave one out".into());
        }
        (None, None) => {
            return Err("expected one of k = 1 to 127, bits above 0 and up to 16".into());
        }
    };
    Ok(Quantize::Pyramid { n, k, gain_bits })
}

fn yes() -> bool {
    true
}

/// The rules that stand in `text`.
pub(super) fn checked(text: &str, rules: Vec<toml::Spanned<RawRule>>) -> Result<Vec<Rule>> {
    let rule = |(i, raw): (usize, toml::Spanned<RawRule>)| {
        let line = 1 + text[..raw.span().start].matches('\n').count();
        let raw = raw.into_inner();
        let named = raw.r#match.clone().or(raw.regex.clone());
        let pattern = named.or(raw.role.map(|role| role.to_string())).unwrap_or_default();
        raw.check(pattern.clone()).map_err(|why| {
            Error::Recipe(format!("line {line}, rule {} ({pattern:?}): {why}", i + 1))
        })
    };
    rules.into_iter().enumerate().map(rule).collect()
}

impl RawRule {
    /// What it says, or why that makes no sense.
    fn check(self, pattern: String) -> std::result::Result<Rule, String> {
        let raw = self;
        let matcher = match (raw.r#match, raw.regex) {
            (Some(glob), None) => {
                Matcher::Glob(Glob::new(&glob).map_err(|e| e.to_string())?.compile_matcher())
            }
            (None, Some(regex)) => {
                Matcher::Regex(Regex::new(&format!("^(?:{regex})$")).map_err(|e| e.to_string())?)
            }
            // Its role says which.
            (None, None) if raw.role.is_some() => Matcher::All,
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
            ("transform", raw.transform.is_some()),
            ("encode", encode_given),
            ("importance", raw.importance.is_some()),
            ("nonfinite", raw.nonfinite.is_some()),
            ("max_rel_error", raw.max_rel_error.is_some()),
        ];
        if let Some((key, _)) = without_effect.iter().find(|(_, given)| raw.keep && *given) {
            return Err(format!("{key} does nothing where keep = true; leave it out"));
        }
        if raw.why.is_some() && !raw.keep {
            return Err("why says why a tensor is kept; expected keep = true".into());
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
        let transform = raw.transform.map(RawTransform::check).transpose()?;
        if let Some(transform) = &transform {
            let by_error = quantize.as_ref().and_then(Quantize::max_error).is_some();
            let refused = [
                (
                    raw.prune.is_some(),
                    "prune does not go with transform: weights that are zero are no zeros once they are transformed",
                ),
                (
                    raw.importance.is_some(),
                    "importance does not go with transform: coefficients are sums of weights of unequal importance",
                ),
                (
                    by_error && !transform.steps.is_empty(),
                    "max_error does not go with steps: the errors of coefficients are not those of weights",
                ),
            ];
            if let Some((_, why)) = refused.iter().find(|(refused, _)| *refused) {
                return Err((*why).into());
            }
            if quantize.is_none() {
                return Err("transform prepares rows for quantize; expected one".into());
            }
        }
        let one_palette = quantize.as_ref().is_some_and(Quantize::is_one_palette);
        if matches!(encode, Some(Encode::Retrieval { .. })) && !(one_palette && raw.prune.is_some())
        {
            return Err("ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor".into());
        }
        // Nobody need say what there is no choice of.
        let encode = match &quantize {
            Some(Quantize::Trellis { .. }) if !encode_given => Some(Encode::Streams(Coder::Auto)),
            _ => encode,
        };
        let coded = matches!(encode, Some(Encode::Streams(Coder::Rans | Coder::Auto)));
        if matches!(quantize, Some(Quantize::Trellis { .. })) && !coded {
            return Err(
                "codes of a trellis are paths, which rANS codes; leave encode out, or say \"rans\" or \"auto\""
                    .into(),
            );
        }
        let vectors = matches!(quantize, Some(Quantize::Vector { .. }));
        if matches!(quantize, Some(Quantize::Pyramid { .. })) {
            if raw.prune.is_some() {
                return Err("pyramids hold all weights; leave prune out".into());
            }
            if encode.is_some() {
                return Err("all numbers of a pyramid are about as likely; leave encode out".into());
            }
        }
        if vectors && raw.prune.is_some() {
            return Err("vectors hold all weights; leave prune out".into());
        }
        let by_error =
            matches!(quantize, Some(Quantize::Trellis { goal: TrellisGoal::Error(_), .. }));
        if raw.importance.is_some() && by_error {
            return Err(
                "max_error is of plain errors, which importance does not weigh; give bits".into()
            );
        }
        if raw.importance.is_some() && !quantize.as_ref().is_some_and(Quantize::takes_importance) {
            return Err(
                "importance weighs the squared errors of palettes, vectors and trellises; expected one".into(),
            );
        }
        Ok(Rule {
            pattern,
            matcher,
            only: None,
            flag: None,
            role: raw.role,
            min_dims: raw.min_dims,
            min_elements: raw.min_elements,
            dtypes: dtypes.collect::<std::result::Result<_, _>>()?,
            optional: raw.optional,
            why: raw.why.map(Into::into),
            sets_axis: raw.axis.is_some(),
            treatment: Treatment {
                axis: raw.axis.unwrap_or(0),
                prune: raw.prune,
                transform,
                quantize,
                encode,
                importance: raw.importance,
                nonfinite: raw.nonfinite.unwrap_or_default(),
                max_rel_error: raw.max_rel_error,
            },
        })
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
            Self::Affine { bits, symmetric, granularity, group, objective, scales } => {
                if !(2..=8).contains(&bits) {
                    return Err(format!("bits is {bits}, expected 2 to 8"));
                }
                let granularity =
                    granularity_of(granularity.unwrap_or(RawGranularity::Channel), group)?;
                Ok(Quantize::Affine { bits, symmetric, granularity, objective, scales })
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
            Self::Vector(RawVector { spaces: Some(_), .. }) => {
                Err("spaces are of a product; expected kind = \"product\"".into())
            }
            Self::Vector(RawVector { stages: Some(_), .. }) => {
                Err("stages are of a residual quantizer; expected kind = \"residual\"".into())
            }
            Self::Vector(raw) => raw.check(Some(1), Some(1)),
            Self::Product(raw) => {
                let (spaces, stages) = (raw.spaces, raw.stages.or(Some(1)));
                raw.check(spaces, stages)
            }
            Self::Residual(raw) => {
                let (spaces, stages) = (raw.spaces.or(Some(1)), raw.stages);
                raw.check(spaces, stages)
            }
            Self::Pyramid { n, k, bits, gain_bits } => pyramid(n, k, bits, gain_bits.unwrap_or(8)),
            Self::Trellis { bits, max_error, states } => {
                let states = states.unwrap_or(8);
                let trellis = Trellis::new(states)
                    .ok_or_else(|| format!("states is {states}, expected 4, 8, 16, 32 or 64"))?;
                let goal = match (bits, max_error) {
                    (Some(bits), None) if (0.25..=6.0).contains(&bits) => TrellisGoal::Bits(bits),
                    (None, Some(error)) if (0.005..=0.9).contains(&error) => {
                        TrellisGoal::Error(error)
                    }
                    _ => {
                        return Err(
                            "expected one of bits = 0.25 to 6, max_error = 0.005 to 0.9".into()
                        );
                    }
                };
                Ok(Quantize::Trellis { trellis, goal })
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
