//! Counting and sorting weights.

pub(crate) mod histogram;
pub(crate) mod histogram_tails;
pub(crate) mod merge_runs;
pub(crate) mod sort_rows;

pub use histogram::{Counting, histogram};
pub use histogram_tails::histogram_tails;
pub use merge_runs::merge_runs;
pub use sort_rows::sort_rows;

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] =
    &[&histogram::KERNEL, &histogram_tails::KERNEL, &merge_runs::KERNEL, &sort_rows::KERNEL];
