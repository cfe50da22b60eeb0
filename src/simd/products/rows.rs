//! The forms in which rows of weights are stored.

use crate::DType;

/// Rows of weights as they are stored.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "decoded with AVX-512 alone"))]
pub(crate) enum Packed<'a> {
    /// Elements of a float type.
    Dense { words: &'a [u32], dtype: DType },
    /// Codes that point into tables, each row from a fresh word; a code beyond its table takes the last entry.
    Palette {
        codes: &'a [u32],
        bits: u32,
        /// `[tables, k]`.
        entries: &'a [f32],
        k: usize,
        /// Rows that share a table.
        share: usize,
    },
    /// Integer codes, each row from a fresh word.
    Affine {
        codes: &'a [u32],
        bits: u32,
        symmetric: bool,
        /// Bits of the scale, and the zero point.
        scales: &'a [[u32; 2]],
        /// Consecutive elements that share a scale.
        group: usize,
    },
    /// Codes of vectors, which the caller decodes.
    Vectors,
    /// The values where a mask has a bit; each of its rows is from a fresh word.
    Sparse {
        mask: &'a [u32],
        /// How many survivors come before each word of the mask.
        starts: &'a [u32],
        values: &'a [u32],
        dtype: DType,
        survivors: usize,
    },
}
