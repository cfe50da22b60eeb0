//! Codes that number vectors: of consecutive weights of a row together, as sums of entries of codebooks, times the scale of a group.
//!
//! A plain vector quantizer has one codebook; a product quantizer one for each of its sub-spaces, which take turns along a row; a
//! residual one has stages, each of which codes what those before it have left. Entries are integers of at most 2047 in
//! magnitude, so that sums of them are exact, and the weights need one multiply.

use crate::{
    DType,
    decide::affine::ScaleType,
    form::{Component, Matrix, Memory, PIECE, Packing, Passes},
};

/// How weights are written as codes of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Weights of a vector, 1 to 16.
    pub dim: u8,
    /// Entries of a codebook, 2 to 65,536.
    pub k: u32,
    /// Sub-spaces: vector v of a row has the codebooks of space `v mod spaces`.
    pub spaces: u32,
    /// Entries that are added up for a vector, 1 to 8.
    pub stages: u8,
    /// Elements that share a scale; 0 for all of the tensor.
    pub group: u64,
    /// The type of the scales.
    pub scales: ScaleType,
}

/// In the manifest: weights of a vector, entries of a codebook, sub-spaces, stages, group.
pub(super) type Text = (u8, u32, u32, u8, u64);

impl Vector {
    /// How the codes of a row are packed.
    pub fn packing(self) -> Packing {
        Packing::of_vectors(self.dim, self.k, self.stages)
    }

    /// Codebooks: of each sub-space all stages.
    pub fn books(self) -> u64 {
        u64::from(self.spaces) * u64::from(self.stages)
    }

    /// Weights after which the codebooks take turns again.
    pub fn period(self) -> u64 {
        u64::from(self.dim) * u64::from(self.spaces)
    }

    pub(super) fn text(self) -> Text {
        (self.dim, self.k, self.spaces, self.stages, self.group)
    }

    pub(super) fn of_text((dim, k, spaces, stages, group): Text, scales: ScaleType) -> Self {
        Self { dim, k, spaces, stages, group, scales }
    }

    pub(super) fn check(self, (_, cols): Matrix, pruned: bool) -> Result<(), String> {
        let Self { dim, k, spaces, stages, group, .. } = self;
        if !(1..=16).contains(&dim) {
            return Err(format!("vectors of {dim} weights, expected 1 to 16"));
        }
        if !(2..=1 << 16).contains(&k) {
            return Err(format!("codebooks of {k} entries, expected 2 to 65536"));
        }
        if spaces == 0 || !(1..=8).contains(&stages) {
            let why = "expected at least 1, and 1 to 8";
            return Err(format!("{spaces} sub-spaces of {stages} stages, {why}"));
        }
        if !cols.is_multiple_of(self.period()) {
            return Err(match spaces {
                1 => format!("vectors of {dim} do not divide rows of {cols}"),
                _ => format!("{spaces} sub-spaces of {dim} do not divide rows of {cols}"),
            });
        }
        if cols > PIECE {
            return Err(format!("vectors in rows of {cols}, expected at most {PIECE}"));
        }
        if group != 0 && !(cols.is_multiple_of(group) && group.is_multiple_of(dim.into())) {
            return Err(format!(
                "groups of {group} are no whole vectors of {dim} in rows of {cols}"
            ));
        }
        if pruned {
            return Err("vectors of a pruned tensor".into());
        }
        Ok(())
    }

    /// `vectors of 4, 256 entries, per channel`; `8 x vectors of 4, ...`; `vectors of 4, 2 stages of 256 entries, ...`.
    pub(super) fn words(self, (_, cols): Matrix) -> String {
        let Self { dim, k, spaces, stages, group, .. } = self;
        let spaces = if spaces == 1 { String::new() } else { format!("{spaces} x ") };
        let stages = if stages == 1 { String::new() } else { format!("{stages} stages of ") };
        let of = match group {
            0 => "per tensor".to_owned(),
            g if g == cols => "per channel".to_owned(),
            g => format!("per {g}"),
        };
        format!("{spaces}vectors of {dim}, {stages}{k} entries, {of}")
    }

    /// Elements that share a scale.
    pub(super) fn group(self, (rows, cols): Matrix) -> u64 {
        if self.group == 0 { rows * cols } else { self.group }
    }

    pub(super) fn tables(self, (rows, cols): Matrix) -> Vec<Component> {
        let scales = cols.checked_div(self.group).map_or(vec![1], |groups| vec![rows, groups]);
        let (k, dim) = (self.k.into(), self.dim.into());
        let books = vec![self.spaces.into(), self.stages.into(), k, dim];
        vec![
            Component { name: "scales", dtype: self.scales.dtype(), shape: Some(scales) },
            Component { name: "codebook", dtype: DType::I16, shape: Some(books) },
        ]
    }

    /// Numbers of all codebooks.
    pub fn numbers(self) -> u64 {
        self.books() * u64::from(self.k) * u64::from(self.dim)
    }

    /// What finding scales and codebooks takes: the ranges and norms of groups, the vectors that codebooks are made from with what is
    /// left of them, and the codebooks as every thread has them.
    pub fn memory(self, passes: &Passes) -> Memory {
        let groups = passes.elements.div_ceil(passes.group) * 40;
        let sample = sample_of(self.k) * u64::from(self.spaces);
        let vectors = sample.min(passes.elements / u64::from(self.dim).max(1));
        let of_vector = 8 * u64::from(self.dim.div_ceil(2)) * 4 + 32;
        Memory {
            thread: passes.unit * 8 + self.numbers() * 6,
            survey: passes.unit * 8,
            shared: groups + vectors * of_vector + self.numbers() * 16,
        }
    }
}

/// Vectors that a codebook of `k` entries is made from, at most: enough that more would not change it by a hundredth of its error.
pub fn sample_of(k: u32) -> u64 {
    (256 * u64::from(k)).clamp(1 << 16, 1 << 20)
}
