use crate::{
    Backend, Result, Tensor,
    kernels::{
        Activation, AffineMatrix, PaletteMatrix, SparseMatrix, VectorMatrix, matmul_affine,
        matmul_f32, matmul_palette, matmul_sparse, matmul_vectors,
    },
    words,
};

/// A matrix of weights `[outputs, inputs]` on a device, in the form that an archive stores.
#[derive(Clone, Debug)]
pub enum Weight {
    /// As it was, in its original type.
    Dense(Tensor),
    /// Integer codes and scales.
    Affine(AffineMatrix),
    /// Codes and tables of values.
    Palette(PaletteMatrix),
    /// Codes of vectors, codebooks and scales.
    Vectors(VectorMatrix),
    /// A mask and what survives.
    Sparse(SparseMatrix),
}

impl Weight {
    /// `activation(x Wᵀ + bias)`: F32 `[rows of x, outputs]`. Agreement and errors: those of the form's kernel.
    pub fn product(
        &self,
        on: &Backend,
        x: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        match self {
            Self::Dense(w) => matmul_f32(on, x, w, bias, activation),
            Self::Affine(w) => matmul_affine(on, x, w, bias, activation),
            Self::Palette(w) => matmul_palette(on, x, w, bias, activation),
            Self::Vectors(w) => matmul_vectors(on, x, w, bias, activation),
            Self::Sparse(w) => matmul_sparse(on, x, w, bias, activation),
        }
    }

    /// Bytes it takes on the device.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Dense(w) => bytes(w),
            Self::Affine(w) => w.bytes(),
            Self::Palette(w) => w.bytes(),
            Self::Vectors(w) => w.bytes(),
            Self::Sparse(w) => w.bytes(),
        }
    }
}

/// Bytes a tensor takes on its device.
pub(in crate::nn) fn bytes(t: &Tensor) -> u64 {
    words(t.dtype(), t.elements()) as u64 * 4
}
