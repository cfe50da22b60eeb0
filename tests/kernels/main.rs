//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod activate;
mod attention;
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
mod nm_mask;
mod palettize;
mod quantize;
mod range;
mod row_threshold;
mod softmax;
mod sort_rows;
