//! Which weights survive.

pub(crate) mod magnitude_mask;
pub(crate) mod magnitude_sums;
pub(crate) mod magnitude_tail;
pub(crate) mod nm_mask;
pub(crate) mod row_threshold;

pub use magnitude_mask::magnitude_mask;
pub use magnitude_sums::{BlockGrid, magnitude_sums};
pub use magnitude_tail::magnitude_tail;
pub use nm_mask::nm_mask;
pub use row_threshold::row_threshold;

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] = &[
    &magnitude_mask::KERNEL,
    &magnitude_sums::KERNEL,
    &magnitude_tail::KERNEL,
    &nm_mask::KERNEL,
    &row_threshold::KERNEL,
];
