//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod activate;
mod add;
mod attention;
mod binarize;
mod bloomier_query;
mod clip_errors;
mod depalettize;
mod dequantize;
mod gather_rows;
mod histogram;
mod histogram_tails;
mod huffman_decode;
mod im2col;
mod layer_norm;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod masked_mean;
mod matmul_affine;
mod matmul_binary;
mod matmul_f32;
mod matmul_i8;
mod matmul_i8_coop;
mod matmul_palette;
mod matmul_sparse;
mod max_pool;
mod merge_runs;
mod nm_mask;
mod pack_codes;
mod palettize;
mod product;
mod quantize;
mod quantize_rows;
mod range;
mod rans_decode;
mod requantize;
mod retrieval;
mod ribbon_query;
mod row_threshold;
mod scatter;
mod softmax;
mod sort_rows;
