//! Vectors of weights as entries of codebooks: integers from weights, the nearest entry, and back.

pub(crate) mod dequantize_vectors;
pub(crate) mod nearest;
pub(crate) mod vector_points;

/// The largest magnitude of a number of a vector or an entry.
pub const VECTOR_LIMIT: i16 = crate::simd::nearest::LIMIT;

#[doc(hidden)]
pub use vector_points::vector_points_in_integers;

kernels! {
    dequantize_vectors: VectorCodes, dequantize_vectors;
    nearest: Entries, nearest, nearest_and_rest, points_of;
    vector_points: vector_points;
}
