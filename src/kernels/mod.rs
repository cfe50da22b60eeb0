//! One module per kernel. Each holds the contract, the CPU reference and the GPU path.

mod activate;
mod activation;
mod add;
mod attention;
mod binarize;
mod bloomier_query;
mod clip_errors;
mod depalettize;
mod dequantize;
mod gather_rows;
mod groups;
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
pub mod order_key;
mod pack_codes;
mod palettize;
mod product;
mod quantize;
mod quantize_rows;
mod range;
mod rans_decode;
mod requantize;
mod ribbon_query;
mod row_threshold;
mod scatter;
mod softmax;
mod sort_rows;

pub use activate::activate;
pub use activation::Activation;
pub use add::add;
pub use attention::attention;
pub use binarize::{BinaryMatrix, binarize};
pub(crate) use binarize::{mean_magnitude, row_sums};
pub use bloomier_query::bloomier_query;
pub use clip_errors::{best_clips, clip_errors};
pub use depalettize::{Codebook, depalettize};
pub use dequantize::dequantize;
pub use gather_rows::gather_rows;
pub use groups::Groups;
pub use histogram::{Counting, Histogram, histogram};
pub use histogram_tails::{TAIL, histogram_tails};
pub use huffman_decode::huffman_decode;
pub use im2col::{Image, Window, im2col};
pub use layer_norm::layer_norm;
pub use magnitude_mask::magnitude_mask;
pub use magnitude_sums::{BlockGrid, magnitude_sums};
pub use magnitude_tail::magnitude_tail;
pub use masked_mean::masked_mean;
pub use matmul_affine::{AffineMatrix, matmul_affine};
pub use matmul_binary::{matmul_binary, xnor_dots};
pub use matmul_f32::matmul_f32;
pub(crate) use matmul_i8::longest_row;
pub use matmul_i8::{
    Channels, Epilogue, Int8, Int8Weights, Tile, matmul_i8, matmul_i8_in_tiles, matmul_i8_with,
};
pub use matmul_i8_coop::{KERNEL as MATMUL_I8_COOP, matmul_i8_coop, matmul_i8_coop_as};
pub use matmul_palette::{PaletteMatrix, matmul_palette};
pub use matmul_sparse::{SparseMatrix, matmul_sparse};
pub use max_pool::max_pool;
pub use merge_runs::merge_runs;
pub use nm_mask::nm_mask;
pub use pack_codes::pack_codes;
pub use palettize::{Assigner, palettize};
pub use quantize::{quantize, quantize_in_integers};
pub use quantize_rows::{Int8Rows, quantize_rows, quantize_rows_in_integers};
pub use range::{Range, range};
pub use rans_decode::rans_decode;
pub use requantize::{multiplier, requantize};
pub use ribbon_query::ribbon_query;
pub use row_threshold::row_threshold;
pub use scatter::{Order, Survivors, count_survivors, scatter};
pub use softmax::softmax;
pub use sort_rows::sort_rows;

use crate::{DType, Error, Result, Tensor};

/// Every kernel, for the tests and benches that must not miss one.
pub const ALL: &[&crate::gpu::Kernel] = &[
    &crate::gpu::NUMERICS,
    &activate::KERNEL,
    &add::KERNEL,
    &attention::KERNEL,
    &binarize::KERNEL,
    &bloomier_query::KERNEL,
    &clip_errors::KERNEL,
    &depalettize::KERNEL,
    &dequantize::KERNEL,
    &gather_rows::KERNEL,
    &histogram::KERNEL,
    &histogram_tails::KERNEL,
    &huffman_decode::KERNEL,
    &im2col::KERNEL,
    &layer_norm::KERNEL,
    &magnitude_mask::KERNEL,
    &magnitude_sums::KERNEL,
    &magnitude_tail::KERNEL,
    &masked_mean::KERNEL,
    &matmul_affine::KERNEL,
    &matmul_binary::KERNEL,
    &matmul_f32::KERNEL,
    &matmul_i8::KERNEL,
    &matmul_i8_coop::KERNEL,
    &matmul_palette::KERNEL,
    &matmul_sparse::KERNEL,
    &max_pool::KERNEL,
    &merge_runs::KERNEL,
    &nm_mask::KERNEL,
    &pack_codes::KERNEL,
    &palettize::KERNEL,
    &quantize::KERNEL,
    &quantize_rows::KERNEL,
    &range::KERNEL,
    &rans_decode::KERNEL,
    &requantize::KERNEL,
    &ribbon_query::KERNEL,
    &row_threshold::KERNEL,
    &scatter::KERNEL,
    &softmax::KERNEL,
    &sort_rows::KERNEL,
];

/// Iterations that an invocation may take in all its loops together: llvmpipe ends them silently after 65,535, and a card that
/// is kept busy for so long by one invocation is badly used anyway. Kernels cut their work or refuse it.
const ITERATIONS: usize = 65_535;

/// Refuses a tensor whose elements are no weights.
fn expect_weights(kernel: &'static str, weights: &Tensor) -> Result<()> {
    let dtype = weights.dtype();
    if dtype.is_weight() {
        return Ok(());
    }
    Err(Error::shape(kernel, "dtype", dtype.name(), "F64, F32, F16, BF16, F8_E4M3 or F8_E5M2"))
}

/// Refuses what is not an F32 matrix of this shape.
fn expect_f32(
    kernel: &'static str,
    what: &'static str,
    tensor: &Tensor,
    (rows, cols): (usize, usize),
) -> Result<()> {
    let text = |dtype: DType, rows, cols| format!("{} [{rows}, {cols}]", dtype.name());
    if tensor.dtype() == DType::F32 && (tensor.rows(), tensor.cols()) == (rows, cols) {
        return Ok(());
    }
    let got = text(tensor.dtype(), tensor.rows(), tensor.cols());
    Err(Error::shape(kernel, what, got, text(DType::F32, rows, cols)))
}

/// Symbols of streams that each start a word: all but the last are padded to whole words.
fn symbols_of(streams: &[(&[u8], usize)]) -> usize {
    streams.iter().fold(0, |all, (_, symbols)| all.next_multiple_of(4) + symbols)
}

/// The bytes of each stream, and where its symbols go.
fn parts_of<'a, 'b>(
    out: &'a mut [u32],
    streams: &[(&'b [u8], usize)],
) -> Vec<(&'b [u8], &'a mut [u8])> {
    let mut rest = out;
    let part = |(bytes, symbols): &(&'b [u8], usize)| {
        let (here, after) = std::mem::take(&mut rest).split_at_mut(symbols.div_ceil(4));
        rest = after;
        (*bytes, &mut bytemuck::cast_slice_mut(here)[..*symbols])
    };
    streams.iter().map(part).collect()
}

/// A mask and values of so many positions, as `query` fills them.
fn on_cpu(
    positions: usize,
    query: impl FnOnce(&mut [u32], &mut [u8]) -> Result<()>,
) -> Result<(Tensor, Tensor)> {
    let mut mask = vec![0; positions.div_ceil(32)];
    let mut values = vec![0u32; positions.div_ceil(4)];
    query(&mut mask, &mut bytemuck::cast_slice_mut(&mut values)[..positions])?;
    let mask = Tensor::cpu(DType::U32, 1, mask.len(), mask);
    Ok((mask, Tensor::cpu(DType::U8, 1, positions, values)))
}

/// A mask and values of positions of which none is kept.
fn no_survivors(gpu: &crate::gpu::Gpu, positions: usize) -> Result<(Tensor, Tensor)> {
    let words = positions.div_ceil(32);
    let mask = Tensor::gpu(DType::U32, 1, words, gpu.zeros(4 * words)?);
    Ok((mask, Tensor::gpu(DType::U8, 1, positions, gpu.zeros(positions)?)))
}

/// Folds values sixteen side by side: such loops become SIMD, and their order does not depend on the machine.
#[inline(always)]
fn sixteen<T: Copy, A: Copy>(values: &[T], start: A, fold: impl Fn(A, T) -> A) -> [A; 16] {
    let mut lanes = [start; 16];
    let whole = values.chunks_exact(16);
    for (lane, x) in lanes.iter_mut().zip(whole.remainder()) {
        *lane = fold(*lane, *x);
    }
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = fold(*lane, *x);
        }
    }
    lanes
}

/// Counts that were started on one backend can only go on there.
fn on_another_backend(kernel: &'static str) -> Error {
    Error::Gpu { kernel, message: "the counts are on another backend".into() }
}

/// Rows that one task of a CPU kernel takes: about a million elements, and a multiple of 4, so that tasks start on 32-bit
/// boundaries whatever the type.
fn task_rows(rows: usize, cols: usize) -> usize {
    let wanted = (1usize << 20).div_ceil(cols.max(1)).next_multiple_of(4);
    wanted.min(rows.next_multiple_of(4)).max(4)
}
