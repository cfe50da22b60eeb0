//! What stands between the products of a network.

pub(crate) mod activate;
pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod attention;
pub(crate) mod gather_rows;
pub(crate) mod im2col;
pub(crate) mod layer_norm;
pub(crate) mod masked_mean;
pub(crate) mod max_pool;
pub(crate) mod softmax;

pub use activate::activate;
pub use activation::Activation;
pub use add::add;
pub use attention::attention;
pub use gather_rows::gather_rows;
pub use im2col::{Image, Window, im2col};
pub use layer_norm::layer_norm;
pub use masked_mean::masked_mean;
pub use max_pool::max_pool;
pub use softmax::softmax;

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] = &[
    &activate::KERNEL,
    &add::KERNEL,
    &attention::KERNEL,
    &gather_rows::KERNEL,
    &im2col::KERNEL,
    &layer_norm::KERNEL,
    &masked_mean::KERNEL,
    &max_pool::KERNEL,
    &softmax::KERNEL,
];
