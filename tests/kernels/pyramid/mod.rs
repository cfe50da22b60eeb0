mod dequantize_pyramid;
mod pyramid_search;
