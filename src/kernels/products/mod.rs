//! Matrix products with weights as they are stored, and the integers that go into them.

pub(crate) mod coop_probe;
pub(crate) mod int8;
pub(crate) mod matmul_affine;
pub(crate) mod matmul_binary;
pub(crate) mod matmul_f32;
pub(crate) mod matmul_i8;
pub(crate) mod matmul_i8_coop;
pub(crate) mod matmul_palette;
pub(crate) mod matmul_sparse;
pub(crate) mod product;
pub(crate) mod quantize_rows;
pub(crate) mod requantize;

pub(crate) use int8::longest_row;
pub use int8::{Channels, Epilogue, Int8};
pub use matmul_affine::{AffineMatrix, matmul_affine};
pub use matmul_binary::{matmul_binary, xnor_dots};
pub use matmul_f32::matmul_f32;
pub use matmul_i8::{
    Int8Weights, Tile, matmul_i8, matmul_i8_in_tiles, matmul_i8_with, matrix_units,
};
pub use matmul_i8_coop::{KERNEL as MATMUL_I8_COOP, matmul_i8_coop, matmul_i8_coop_as};
pub use matmul_palette::{PaletteMatrix, matmul_palette};
pub use matmul_sparse::{SparseMatrix, matmul_sparse};
pub use quantize_rows::{Int8Rows, quantize_rows, quantize_rows_in_integers};
pub use requantize::{multiplier, requantize};

use crate::gpu::Kernel;

/// The kernels of this wing.
pub(super) const KERNELS: &[&Kernel] = &[
    &matmul_affine::KERNEL,
    &matmul_binary::KERNEL,
    &matmul_f32::KERNEL,
    &matmul_i8::KERNEL,
    &matmul_i8_coop::KERNEL,
    &matmul_palette::KERNEL,
    &matmul_sparse::KERNEL,
    &quantize_rows::KERNEL,
    &requantize::KERNEL,
];
