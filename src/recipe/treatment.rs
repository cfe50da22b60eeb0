//! What a rule does to the tensors it matches.

use crate::{
    codec::{block::Structure, stream::Coder, trellis::Trellis},
    decide::affine::ScaleType,
    form::{BlockTransform, TransformKind},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a rule does. Neither `prune`, `quantize` nor `encode`: the tensor is kept bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Treatment {
    /// 1 where the rows of the matrix view are the columns of storage: weights stored `[in, out]`.
    pub axis: u8,
    /// Which weights survive.
    pub prune: Option<Prune>,
    /// What is done to the rows before they are quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
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

/// What is done to the rows of a tensor before they are quantized, and undone when it is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transform {
    /// Which.
    pub kind: TransformKind,
    /// Weights of a block; `None` for as many as divide the row, up to the most.
    pub block: Option<u32>,
    /// Steps of the coefficients, as in [`BlockTransform::steps`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<u8>,
}

impl Transform {
    /// What it is for rows of so many weights.
    ///
    /// # Errors
    ///
    /// Why it does not fit them, in words.
    pub(crate) fn fit(&self, cols: u64) -> Result<BlockTransform, String> {
        let (kind, steps) = (self.kind, self.steps.clone());
        let block = self.block.or_else(|| BlockTransform::largest(kind, cols)).ok_or_else(|| {
            let (least, _) = kind.blocks();
            format!("{} transforms at least {least} weights, which do not divide its rows of {cols}", kind.name())
        })?;
        let fitted = BlockTransform { kind, block, steps };
        fitted.check(cols).map(|()| fitted)
    }
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
        /// The type that scales are stored in.
        #[serde(skip_serializing_if = "is_usual")]
        scales: ScaleType,
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
    /// Vectors of consecutive weights, as sums of entries of codebooks that are trained on the tensor, times the scale of a group.
    Vector {
        /// Weights of a vector, 1..=16.
        d: u8,
        /// Entries of a codebook, 2..=65536.
        k: u32,
        /// Sub-spaces, each with codebooks of its own, which take turns along a row.
        spaces: u32,
        /// Entries that are added up, each the nearest to what those before it have left; 1..=8.
        stages: u8,
        /// What shares a scale.
        granularity: Granularity,
        /// The type that scales are stored in.
        #[serde(skip_serializing_if = "is_usual")]
        scales: ScaleType,
        /// Of the vectors that the search starts from.
        #[serde(skip_serializing_if = "is_zero")]
        seed: u64,
    },
    /// Points of an integer pyramid: of n consecutive weights integers whose magnitudes add up to k, numbered, times a gain of the
    /// tensor's table.
    Pyramid {
        /// Weights of a vector: 4 to 64, a multiple of 4.
        n: u8,
        /// What the magnitudes add up to, 1..=127.
        k: u8,
        /// Bits of a gain's number, 1..=10.
        gain_bits: u8,
    },
    /// The sign of every weight, and one magnitude for each row: the mean of its own, which has the least squared error.
    Binary,
    /// Levels of the tensor in equal steps, taken along paths through a trellis and coded with a table for each parity: see
    /// [`crate::codec::trellis`].
    Trellis {
        /// Which trellis.
        #[serde(serialize_with = "states")]
        trellis: Trellis,
        /// What the steps are to be good for.
        goal: TrellisGoal,
    },
    /// A table for the tensor that is the best for so many bits per surviving weight once codes are entropy-coded. The bits are
    /// the order-0 entropy of the codes, which rANS reaches to within 0.5 %, not their packed width.
    Entropy {
        /// Above 0, up to 8.
        bits: f64,
    },
}

/// What the steps of a trellis are to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrellisGoal {
    /// So many bits per surviving weight, tables and all that is stored of the tensor counted but the index of survivors: 0.25 to 6.
    Bits(f64),
    /// The fewest bits with an error relative to the survivors, `‖w - q‖ / ‖w‖`, of at most so much: 0.005 to 0.9.
    Error(f64),
}

fn states<S: serde::Serializer>(trellis: &Trellis, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u8(trellis.states())
}

/// What is usual is left out of what the digest of a recipe is of: recipes that do not say it have the digests that they had.
fn is_usual(scales: &ScaleType) -> bool {
    *scales == ScaleType::default()
}

fn is_zero(seed: &u64) -> bool {
    *seed == 0
}

impl Quantize {
    /// The error limit by which a palette is chosen.
    pub fn max_error(&self) -> Option<f64> {
        match self {
            Self::Palette { max_error, .. } => *max_error,
            Self::Affine { .. }
            | Self::Vector { .. }
            | Self::Pyramid { .. }
            | Self::Trellis { .. }
            | Self::Binary
            | Self::Entropy { .. } => None,
        }
    }

    /// The bits per weight for which a palette is the best once codes are entropy-coded.
    pub fn entropy_bits(&self) -> Option<f64> {
        match self {
            Self::Entropy { bits } => Some(*bits),
            Self::Affine { .. }
            | Self::Palette { .. }
            | Self::Vector { .. }
            | Self::Pyramid { .. }
            | Self::Trellis { .. }
            | Self::Binary => None,
        }
    }

    /// Whether a tensor has one palette.
    pub fn is_one_palette(&self) -> bool {
        match self {
            Self::Palette { granularity, .. } => *granularity == Granularity::Tensor,
            Self::Entropy { .. } | Self::Trellis { .. } => true,
            Self::Affine { .. } | Self::Vector { .. } | Self::Pyramid { .. } | Self::Binary => {
                false
            }
        }
    }

    /// Whether importance, which weighs the squared errors of entries of a palette, a codebook or a trellis, has an effect.
    pub fn takes_importance(&self) -> bool {
        match self {
            Self::Palette { .. } | Self::Vector { .. } | Self::Trellis { .. } => true,
            Self::Affine { .. } | Self::Pyramid { .. } | Self::Binary | Self::Entropy { .. } => {
                false
            }
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

impl Treatment {
    /// Whether the tensor is kept bit for bit.
    pub fn keeps(&self) -> bool {
        self.prune.is_none() && self.quantize.is_none() && self.encode.is_none()
    }

    /// Whether the tensor is coded and changes no bit by it, whatever it holds.
    pub fn is_lossless(&self) -> bool {
        self.prune.is_none() && self.quantize.is_none() && self.encode.is_some()
    }
}
