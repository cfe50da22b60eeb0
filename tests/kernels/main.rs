//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod add;
mod clip_errors;
mod depalettize;
mod dequantize;
mod histogram;
mod histogram_tails;
mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod merge_runs;
mod nm_mask;
mod palettize;
mod quantize;
mod range;
mod row_threshold;
mod sort_rows;
