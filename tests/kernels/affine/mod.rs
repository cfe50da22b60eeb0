mod clip_errors;
mod dequantize;
mod quantize;
mod range;
