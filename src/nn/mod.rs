//! Networks that run on weights as an archive stores them: codes, tables and masks go to the device, and nothing is restored
//! first.
//!
//! - [`Model`]: weights by name, from a checkpoint or an archive.
//! - [`Linear`], [`Embedding`], [`LayerNorm`]: layers. Each loads itself by name, checks that its tensors fit, and runs on the
//!   backend it was loaded to, from tensor to tensor without reading back.
//! - [`Network`]: dense and convolution layers one after the other (the LeNets), in floating point.
//! - [`IntegerNetwork`]: the same without floating point between its first layer and its last, from a calibration.
//! - [`Bert`]: an encoder of the Hugging Face family, from its folder.
//!
//! [`Arithmetic`] says how a layer takes its inputs: as they are, or quantized to 8 bits row by row, for integer products.

// For the demo and its fuzzer.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod idx;
mod layers;
mod models;
mod store;

pub use layers::{
    embedding::Embedding,
    layer_norm::LayerNorm,
    linear::{Arithmetic, Linear},
    weight::Weight,
};
pub use models::{
    bert::{Bert, BertConfig},
    integer::{Calibration, IntegerNetwork},
    network::{Architecture, LENET_5, LENET_300_100, LayerShape, Network},
};
pub use store::Model;
