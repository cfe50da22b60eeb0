use crate::{
    Backend, Result, Tensor,
    kernels::layer_norm,
    nn::{layers::weight::bytes, store::Model},
};

/// Layer normalization over the columns of every row.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    /// Loads `<name>.weight` and `<name>.bias`, each of `width` values.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](crate::Error::Format) if one is missing or has another length;
    /// [`Error::Digest`](crate::Error::Digest), [`Error::Io`](crate::Error::Io), [`Error::Gpu`](crate::Error::Gpu).
    pub fn load(
        model: &Model,
        on: &Backend,
        name: &str,
        width: usize,
        epsilon: f32,
    ) -> Result<Self> {
        Ok(Self {
            gamma: model.vector(on, &format!("{name}.weight"), width)?,
            beta: model.vector(on, &format!("{name}.bias"), width)?,
            epsilon,
        })
    }

    /// Normalizes the rows of `x`, or of `x + residual`. Errors and agreement: [`layer_norm`].
    pub fn forward(&self, on: &Backend, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        layer_norm(on, x, residual, &self.gamma, &self.beta, self.epsilon)
    }

    /// Bytes it takes on the device.
    pub fn bytes(&self) -> u64 {
        bytes(&self.gamma) + bytes(&self.beta)
    }
}
