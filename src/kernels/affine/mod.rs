//! Affine codes: ranges, the search for a clip, codes from weights and back.

pub(crate) mod clip_errors;
pub(crate) mod dequantize;
pub(crate) mod quantize;
pub(crate) mod range;

#[doc(hidden)]
pub use quantize::quantize_in_integers;

kernels! {
    clip_errors: best_clips, clip_errors;
    dequantize: dequantize;
    quantize: quantize;
    range: range;
}
