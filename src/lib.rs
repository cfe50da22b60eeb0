//! Weight compression on any GPU, with the same bytes from the CPU.

mod error;
mod tensor;

pub use error::{Error, Result};
pub use tensor::{DType, TensorInfo};
