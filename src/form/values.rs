//! The values themselves, in the original type: of a tensor that is pruned, coded or both, and not quantized.

use crate::{
    DType,
    codec::sparse,
    form::{Component, Matrix},
};

/// The component that stores them.
pub(super) const STORED: &str = "values";

/// How many survive is known only from the mask.
pub(super) fn stored(dtype: DType) -> Component {
    Component { name: STORED, dtype, shape: None }
}

/// Bytes of the survivors of rows of `cols` weights.
pub(super) fn stored_length(dtype: DType, mask: &[u32], cols: usize) -> u64 {
    dtype.bytes(sparse::row_counts(mask, cols).sum::<usize>()) as u64
}

/// A row counts as a group, though nothing is shared.
pub(super) fn group((_, cols): Matrix) -> u64 {
    cols
}

pub(super) fn words() -> String {
    "values".into()
}

/// Refuses a tensor that nothing was done to: it would have been kept.
pub(super) fn check(pruned: bool, coded: bool) -> Result<(), String> {
    match pruned || coded {
        true => Ok(()),
        false => Err("neither pruned, quantized nor coded".into()),
    }
}
