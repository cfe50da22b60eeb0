//! Every kernel: a worked example on every backend, agreement of the GPU with the reference, refusals. One file a kernel.

#[path = "../support/mod.rs"]
mod support;

mod affine;
mod codes;
mod layers;
mod order;
mod palette;
mod products;
mod prune;
