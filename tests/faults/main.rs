//! Devices that compute wrongly: what a job makes of them, and that the cross-check notices. `cargo test --features faults --test faults`.

#[path = "../support/mod.rs"]
mod support;

mod jobs;
mod kernels;
