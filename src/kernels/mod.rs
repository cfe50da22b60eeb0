//! One module per kernel. Each holds the contract, the CPU reference and the GPU path.

mod depalettize;
mod dequantize;
mod groups;
mod histogram;
pub mod order_key;
mod palettize;
mod quantize;
mod range;

pub use depalettize::{Codebook, depalettize};
pub use dequantize::dequantize;
pub use groups::Groups;
pub use histogram::{Counting, Histogram, histogram};
pub use palettize::{Assigner, palettize};
pub use quantize::{quantize, quantize_in_integers};
pub use range::{Range, range};

use crate::{Error, Result, Tensor};

/// Every kernel, for the tests and benches that must not miss one.
pub const ALL: &[&crate::gpu::Kernel] = &[&crate::gpu::NUMERICS, &depalettize::KERNEL,
    &dequantize::KERNEL,
    &histogram::KERNEL,
    &palettize::KERNEL,
    &quantize::KERNEL, &range::KERNEL];

/// Refuses a tensor whose elements are no weights.
fn expect_weights(kernel: &'static str, weights: &Tensor) -> Result<()> {
    let dtype = weights.dtype();
    if dtype.is_weight() {
        return Ok(());
    }
    Err(Error::shape(kernel, "dtype", dtype.name(), "F64, F32, F16, BF16, F8_E4M3 or F8_E5M2"))
}

/// Rows that one task of a CPU kernel takes: about a million elements, and a multiple of 4, so that tasks start on 32-bit
/// boundaries whatever the type.
fn task_rows(rows: usize, cols: usize) -> usize {
    let wanted = (1usize << 20).div_ceil(cols.max(1)).next_multiple_of(4);
    wanted.min(rows.next_multiple_of(4)).max(4)
}
