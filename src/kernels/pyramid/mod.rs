//! Pyramid vector quantization: integers of a fixed sum of magnitudes, times a gain.

pub(crate) mod dequantize_pyramid;
pub(crate) mod pyramid_search;

pub(crate) use dequantize_pyramid::field;

kernels! {
    dequantize_pyramid: PyramidCodes, dequantize_pyramid;
    pyramid_search: pyramid_search;
}
