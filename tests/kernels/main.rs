//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod add;
mod activate;
mod attention;
mod binarize;
mod clip_errors;
mod depalettize;
mod dequantize;
mod gather_rows;
mod histogram;
mod layer_norm;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod masked_mean;
mod im2col;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod matmul_binary;
mod max_pool;
mod matmul_i8;
mod nm_mask;
mod palettize;
mod quantize;
mod quantize_rows;
mod range;
mod requantize;
mod row_threshold;
mod softmax;
mod sort_rows;
