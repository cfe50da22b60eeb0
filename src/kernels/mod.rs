//! One module per kernel. Each holds the contract, the CPU reference and the GPU path.

mod activation;
mod add;
mod clip_errors;
mod depalettize;
mod dequantize;
mod groups;
mod histogram;
mod histogram_tails;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod merge_runs;
mod nm_mask;
pub mod order_key;
mod palettize;
mod quantize;
mod range;
mod row_threshold;
mod sort_rows;

pub use activation::Activation;
pub use add::add;
pub use clip_errors::{best_clips, clip_errors};
pub use depalettize::{Codebook, depalettize};
pub use dequantize::dequantize;
pub use groups::Groups;
pub use histogram::{Counting, Histogram, histogram};
pub use histogram_tails::{TAIL, histogram_tails};
pub use magnitude_mask::magnitude_mask;
pub use magnitude_sums::{BlockGrid, magnitude_sums};
pub use magnitude_tail::magnitude_tail;
pub use merge_runs::merge_runs;
pub use nm_mask::nm_mask;
pub use palettize::{Assigner, palettize};
pub use quantize::{quantize, quantize_in_integers};
pub use range::{Range, range};
pub use row_threshold::row_threshold;
pub use sort_rows::sort_rows;

use crate::{Error, Result, Tensor};

/// Every kernel, for the tests and benches that must not miss one.
pub const ALL: &[&crate::gpu::Kernel] = &[
    &crate::gpu::NUMERICS,
    &add::KERNEL,
    &clip_errors::KERNEL,
    &depalettize::KERNEL,
    &dequantize::KERNEL,
    &histogram::KERNEL,
    &histogram_tails::KERNEL,
    &magnitude_mask::KERNEL,
    &magnitude_sums::KERNEL,
    &magnitude_tail::KERNEL,
    &merge_runs::KERNEL,
    &nm_mask::KERNEL,
    &palettize::KERNEL,
    &quantize::KERNEL,
    &range::KERNEL,
    &row_threshold::KERNEL,
    &sort_rows::KERNEL,
];

/// Iterations that an invocation may take in all its loops together: llvmpipe ends them silently after 65,535, and a card that
/// is kept busy for so long by one invocation is badly used anyway. Kernels cut their work or refuse it.
const ITERATIONS: usize = 65_535;

/// Refuses a tensor whose elements are no weights.
fn expect_weights(kernel: &'static str, weights: &Tensor) -> Result<()> {
    let dtype = weights.dtype();
    if dtype.is_weight() {
        return Ok(());
    }
    Err(Error::shape(kernel, "dtype", dtype.name(), "F64, F32, F16, BF16, F8_E4M3 or F8_E5M2"))
}

/// Counts that were started on one backend can only go on there.
fn on_another_backend(kernel: &'static str) -> Error {
    Error::Gpu { kernel, message: "the counts are on another backend".into() }
}

/// Rows that one task of a CPU kernel takes: about a million elements, and a multiple of 4, so that tasks start on 32-bit
/// boundaries whatever the type.
fn task_rows(rows: usize, cols: usize) -> usize {
    let wanted = (1usize << 20).div_ceil(cols.max(1)).next_multiple_of(4);
    wanted.min(rows.next_multiple_of(4)).max(4)
}
