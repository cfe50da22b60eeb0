//! Weight compression on any GPU, with the same bytes from the CPU.

pub mod affine;
pub mod codec;
pub mod dtype;
pub mod format;
pub mod gpu;
pub mod inspect;
pub mod kernels;
pub mod kmeans;
pub mod nn;
pub mod pipeline;
pub mod plan;
pub mod prune;
pub mod recipe;

pub mod report;
pub mod stage;

mod backend;
mod encode;
mod engine;
mod error;
mod metrics;
mod progress;
mod restore;
mod tensor;
mod verify;

pub use backend::{Backend, Device};
pub use dtype::DType;
pub use error::{Error, Result};
pub use progress::{Cancel, Progress, Silent};
pub use tensor::{Tensor, TensorInfo, words};
