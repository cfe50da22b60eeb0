//! Layers that run on compressed weights.

pub(in crate::nn) mod embedding;
pub(in crate::nn) mod layer_norm;
pub(in crate::nn) mod linear;
pub(in crate::nn) mod weight;
