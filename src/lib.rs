//! tersor makes neural-network checkpoints small: it clusters, quantizes and prunes their weights with compute shaders on any
//! GPU, and a CPU backend computes the same bytes.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("model.safetensors");
//! # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
//! # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
//! # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
//! use tersor::{Backend, Cancel, Device, Silent, pipeline, recipe::Recipe};
//!
//! // `path`: a checkpoint of one F32 matrix, 64 x 255, whose rows are -127, -126, ... 127.
//! let small = path.with_file_name("small.safetensors");
//! let (on, cancel) = (Backend::open(Device::Cpu)?, Cancel::new());
//! let options = pipeline::Options::new(&on, &Silent, &cancel);
//! pipeline::compress(&path, &small, &Recipe::preset("int8")?, &options)?;
//!
//! let report = pipeline::verify(&small, Some(&path), &options)?;
//! assert_eq!(report.tensors[0].method.as_str(), "int8 per channel");
//! assert_eq!(report.tensors[0].error.max_abs_error, Some(0.0)); // whole numbers at scale 1
//! assert!(report.ratio > 3.5); // a byte for each float, a scale for each row, a header
//! # Ok::<(), tersor::Error>(())
//! ```
//!
//! # Which function to use
//!
//! - A checkpoint on disk becomes an archive, and an archive a checkpoint again: [`pipeline::compress`],
//!   [`pipeline::decompress`], [`pipeline::verify`]. What is done to which tensor says a [`recipe::Recipe`].
//! - A matrix in memory: [`ops::quantize`] for integer codes (the choice for speed of inference), [`ops::palettize`] for a
//!   table of the best k values (the choice for least error at a given size), [`ops::prune_magnitude`] and [`ops::prune_nm`]
//!   for sparsity.
//! - A single step of these, tile by tile: [`kernels`].
//! - What is in a checkpoint: [`inspect::inspect`].
//!
//! Everything takes a [`Backend`], which [`Backend::open`] opens: the CPU, or a GPU through wgpu.
//!
//! # In a dev build
//!
//! Cargo builds dependencies of a dev build without optimization, which makes tersor some ten times as slow as it need be there. In the
//! `Cargo.toml` of the workspace:
//!
//! ```toml
//! [profile.dev.package.tersor]
//! opt-level = 2
//! ```
//!
//! # Promises
//!
//! The same input, recipe and version give the same bytes on the CPU and on every GPU, with any number of threads and any
//! tile size. Every archive is reopened, decoded and measured before a job says that it is done. A tensor that cannot be
//! treated is kept bit for bit, and the report says why.

#![deny(unsafe_code)]

pub mod cluster;
pub mod crosscheck;
pub mod diff;
pub mod form;
pub mod format;
pub mod inspect;
pub mod kernels;
pub mod nn;
pub mod ops;
pub mod pictures;
pub mod pipeline;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod search;

// What the tests, benches, fuzzers and the program reach into, and what may change with every version.
#[doc(hidden)]
pub mod codec;
#[doc(hidden)]
pub mod dtype;
#[doc(hidden)]
pub mod gpu;
#[doc(hidden)]
pub mod page;
#[doc(hidden)]
pub mod stage;

mod backend;
mod decide;
mod digest;
mod engine;
mod error;
mod measure;
mod parallel;
mod progress;
mod quote;
mod random;
mod restore;
mod scratch;
mod simd;
mod tensor;
mod treat;
mod verify;

pub use backend::{Backend, Device};
pub use decide::{affine, kmeans, threshold as prune, trellis};
pub use dtype::DType;
pub use error::{Cause, Error, Result};
pub use gpu::{AdapterSummary, Gpu, GpuOptions, adapters};
pub use progress::{Cancel, Progress, Silent};
pub use tensor::{Scaled, Storage, Stored, Tensor, TensorInfo, words};

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
