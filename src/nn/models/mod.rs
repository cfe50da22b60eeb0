//! Whole networks.

pub(in crate::nn) mod bert;
pub(in crate::nn) mod integer;
pub(in crate::nn) mod network;
