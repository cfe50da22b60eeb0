//! Weight compression on any GPU, with the same bytes from the CPU.

pub mod dtype;
pub mod gpu;
pub mod kernels;

mod backend;
mod error;
mod tensor;

pub use backend::{Backend, Device};
pub use dtype::DType;
pub use error::{Error, Result};
pub use tensor::{Tensor, TensorInfo, words};
