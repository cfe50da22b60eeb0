//! The kernels of this crate as ops, a file for each family. An [`Op`] says how cases of a kernel are made and run; all else, from
//! comparing to shrinking, is the same for all.

mod affine;
mod codes;
mod grouping;
mod integers;
mod layers;
mod order;
mod palette;
mod probe;
mod products;
mod prune;
mod pyramid;
mod retrieval;
mod transforms;
mod vectors;

#[doc(hidden)]
pub use products::product_bound;

use crate::crosscheck::op::Op;

/// Every op.
pub const ALL: &[&Op] = &[
    &probe::NUMERICS,
    &affine::QUANTIZE,
    &affine::DEQUANTIZE,
    &affine::RANGE,
    &affine::CLIP_ERRORS,
    &palette::PALETTIZE,
    &palette::DEPALETTIZE,
    &pyramid::PYRAMID_SEARCH,
    &pyramid::DEQUANTIZE_PYRAMID,
    &vectors::VECTOR_POINTS,
    &vectors::NEAREST,
    &vectors::DEQUANTIZE_VECTORS,
    &order::HISTOGRAM,
    &order::HISTOGRAM_TAILS,
    &order::SORT_ROWS,
    &order::MERGE_RUNS,
    &prune::MAGNITUDE_MASK,
    &prune::MAGNITUDE_SUMS,
    &prune::MAGNITUDE_TAIL,
    &prune::NM_MASK,
    &prune::ROW_THRESHOLD,
    &prune::BINARIZE,
    &codes::PACK_CODES,
    &codes::HUFFMAN_DECODE,
    &codes::RANS_DECODE,
    &codes::TRELLIS_DECODE,
    &codes::TRELLIS_SEARCH,
    &codes::SCATTER,
    &retrieval::RIBBON_QUERY,
    &retrieval::BLOOMIER_QUERY,
    &layers::ACTIVATE,
    &layers::ADD,
    &layers::ATTENTION,
    &layers::GATHER_ROWS,
    &layers::IM2COL,
    &layers::LAYER_NORM,
    &layers::MASKED_MEAN,
    &layers::MAX_POOL,
    &layers::SOFTMAX,
    &products::MATMUL_AFFINE,
    &products::MATMUL_BINARY,
    &products::MATMUL_F32,
    &integers::MATMUL_I8,
    &integers::MATMUL_I8_FLOAT,
    &products::MATMUL_PALETTE,
    &products::MATMUL_SPARSE,
    &products::MATMUL_VECTORS,
    &integers::QUANTIZE_ROWS,
    &integers::REQUANTIZE,
    &transforms::TRANSFORM,
    &transforms::UNTRANSFORM,
];
