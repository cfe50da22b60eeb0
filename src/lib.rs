//! Weight compression on any GPU, with the same bytes from the CPU.

pub mod affine;
pub mod codec;
pub mod dtype;
pub mod format;
pub mod gpu;
pub mod kernels;
pub mod kmeans;
pub mod recipe;

pub mod stage;

mod backend;
mod error;
mod tensor;

pub use backend::{Backend, Device};
pub use dtype::DType;
pub use error::{Error, Result};
pub use tensor::{Tensor, TensorInfo, words};
