//! From stored bytes to codes on the device: packing, entropy decoders, retrieval structures, and where survivors go.

pub(crate) mod bloomier_query;
pub(crate) mod huffman_decode;
pub(crate) mod pack_codes;
pub(crate) mod rans_decode;
pub(crate) mod ribbon_query;
pub(crate) mod scatter;
pub(crate) mod streams;

pub use bloomier_query::bloomier_query;
pub use huffman_decode::huffman_decode;
pub use pack_codes::pack_codes;
pub use rans_decode::rans_decode;
pub use ribbon_query::ribbon_query;
pub use scatter::{Order, Survivors, count_survivors, scatter};

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] = &[
    &bloomier_query::KERNEL,
    &huffman_decode::KERNEL,
    &pack_codes::KERNEL,
    &rans_decode::KERNEL,
    &ribbon_query::KERNEL,
    &scatter::KERNEL,
];
