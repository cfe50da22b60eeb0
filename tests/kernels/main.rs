//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod binarize;
mod clip_errors;
mod depalettize;
mod dequantize;
mod histogram;
mod im2col;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod matmul_binary;
mod max_pool;
mod nm_mask;
mod palettize;
mod quantize;
mod range;
mod row_threshold;
mod sort_rows;
