//! Affine codes: ranges, the search for a clip, codes from weights and back.

pub(crate) mod clip_errors;
pub(crate) mod dequantize;
pub(crate) mod quantize;
pub(crate) mod range;

pub use clip_errors::{best_clips, clip_errors};
pub use dequantize::dequantize;
pub use quantize::{quantize, quantize_in_integers};
pub use range::range;

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] =
    &[&clip_errors::KERNEL, &dequantize::KERNEL, &quantize::KERNEL, &range::KERNEL];
