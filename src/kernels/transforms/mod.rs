//! Orthogonal transforms of blocks of a row, in integers.

mod mixing;
pub(crate) mod transform;
pub(crate) mod untransform;

kernels! {
    transform: transform;
    untransform: untransform;
}
