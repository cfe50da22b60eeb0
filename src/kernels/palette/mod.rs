//! Tables of values: codes from weights and back.

pub(crate) mod binarize;
pub(crate) mod depalettize;
pub(crate) mod palettize;

pub(crate) use binarize::{mean_magnitude, row_sums};

kernels! {
    binarize: BinaryMatrix, binarize;
    depalettize: Codebook, depalettize;
    palettize: Assigner, palettize;
}
