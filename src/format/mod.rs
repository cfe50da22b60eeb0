//! Files: the only module that opens or writes them.
//!
//! - `safetensors/`: headers and indices, read strictly.
//! - `quantized/`: what of a checkpoint is quantized already.
//! - `archive/`: what a tersor archive says of itself.
//! - `output/`: files that appear in their place whole, or not at all.

mod archive;
mod checkpoint;
mod chunks;
mod folder;
mod foreign;
mod hub;
mod model_config;
mod modules;
mod opened;
mod output;
mod quantized;
mod real;
mod regular;
mod safetensors;
mod variant;

pub use crate::digest::Digest;
pub use archive::{Archive, ArchivedTensor, manifest::Manifest};
pub use checkpoint::{Checkpoint, SourceFile};
pub use modules::{Listing, Module};
pub use opened::Opened;

// For the program, tests and fuzzers.
#[doc(hidden)]
pub use crate::{
    digest::{digest, short},
    quote::{quoted, shown},
};
#[doc(hidden)]
pub use chunks::CHUNK;
pub(crate) use chunks::{chunk_starts, map_chunks};
#[doc(hidden)]
pub use model_config::ModelConfig;
#[doc(hidden)]
pub use output::{
    OutputFile, OutputFolder,
    partial::{Origin, partial},
    place::in_folder,
    target::{Target, spare},
    text_file::{TextFile, TextKind},
};
#[doc(hidden)]
pub use quantized::{Quantized, already_quantized};
#[doc(hidden)]
pub use regular::regular;
pub use safetensors::metadata::Metadata;
#[doc(hidden)]
pub use safetensors::{
    header::{Header, MAX_NAME, MAX_TENSORS, read as read_header},
    header_text::{Entry, Preface, write_header},
};

pub(crate) use safetensors::{
    header::MAX_HEADER,
    header_text::{entry_length, header_length, tied_length},
    index::{index_length, index_text},
};
