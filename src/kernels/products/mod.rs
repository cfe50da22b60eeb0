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
pub(crate) mod matmul_vectors;
pub(crate) mod product;
pub(crate) mod quantize_rows;
pub(crate) mod requantize;

pub(crate) use int8::longest_row;
pub use int8::{Channels, Epilogue, Int8};
#[doc(hidden)]
pub use matmul_binary::xnor_dots;
#[doc(hidden)]
pub use matmul_i8::{Tile, matmul_i8_in_tiles};
#[doc(hidden)]
pub use matmul_i8_coop::KERNEL as MATMUL_I8_COOP;
#[doc(hidden)]
pub use quantize_rows::quantize_rows_in_integers;

kernels! {
    matmul_affine: AffineMatrix, matmul_affine;
    matmul_binary: matmul_binary;
    matmul_f32: matmul_f32;
    matmul_i8: Int8Weights, matmul_i8, matmul_i8_with, matrix_units;
    #[doc(hidden)]
    matmul_i8_coop: matmul_i8_coop, matmul_i8_coop_as;
    matmul_palette: PaletteMatrix, matmul_palette;
    matmul_sparse: SparseMatrix, matmul_sparse;
    matmul_vectors: VectorMatrix, matmul_vectors;
    quantize_rows: Int8Rows, quantize_rows;
    requantize: multiplier, requantize;
}
