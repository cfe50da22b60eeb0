//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod clip_errors;
mod depalettize;
mod dequantize;
mod histogram;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod matmul_affine;
mod matmul_f32;
mod matmul_palette;
mod matmul_sparse;
mod nm_mask;
mod palettize;
mod product;
mod quantize;
mod range;
mod row_threshold;
mod sort_rows;
