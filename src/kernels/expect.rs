//! Arguments that are no kernel's, refused in the same words by all.

use crate::{DType, Error, Result, Tensor};

/// Refuses a tensor whose elements are no weights.
pub(crate) fn expect_weights(kernel: &'static str, weights: &Tensor) -> Result<()> {
    let dtype = weights.dtype();
    if dtype.is_weight() {
        return Ok(());
    }
    Err(Error::shape(kernel, "dtype", dtype.name(), "F64, F32, F16, BF16, F8_E4M3 or F8_E5M2"))
}

/// Refuses what is not an F32 matrix of this shape.
pub(crate) fn expect_f32(
    kernel: &'static str,
    what: &'static str,
    tensor: &Tensor,
    (rows, cols): (usize, usize),
) -> Result<()> {
    let text = |dtype: DType, rows, cols| format!("{} [{rows}, {cols}]", dtype.name());
    if tensor.dtype() == DType::F32 && (tensor.rows(), tensor.cols()) == (rows, cols) {
        return Ok(());
    }
    let got = text(tensor.dtype(), tensor.rows(), tensor.cols());
    Err(Error::shape(kernel, what, got, text(DType::F32, rows, cols)))
}

/// Counts that were started on one backend can only go on there.
pub(crate) fn on_another_backend(kernel: &'static str) -> Error {
    Error::Backend { kernel, found: "the counts are on another backend" }
}
