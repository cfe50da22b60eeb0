//! Tables of values: codes from weights and back.

pub(crate) mod binarize;
pub(crate) mod depalettize;
pub(crate) mod palettize;

pub use binarize::{BinaryMatrix, binarize};
pub(crate) use binarize::{mean_magnitude, row_sums};
pub use depalettize::{Codebook, depalettize};
pub use palettize::{Assigner, palettize};

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] =
    &[&binarize::KERNEL, &depalettize::KERNEL, &palettize::KERNEL];
