//! Files: the only module that opens or writes them.
//!
//! - `safetensors/`: headers and indices, read strictly.
//! - `archive/`: what a tersor archive says of itself.
//! - `output/`: files that appear in their place whole, or not at all.

mod archive;
mod checkpoint;
mod chunks;
mod folder;
mod output;
mod quantized;
mod safetensors;
mod variant;

pub use crate::{
    digest::{Digest, digest, short},
    quote::{quoted, shown},
};
pub use archive::{
    Archive, ArchivedTensor,
    manifest::{COMPONENTS, Component, Manifest, Method, TensorManifest, code_bits, matrix},
};
pub use checkpoint::{Checkpoint, SourceFile};
pub use chunks::CHUNK;
pub use output::{
    OutputFile, OutputFolder,
    partial::{Origin, partial},
    target::{Target, spare},
};
pub use quantized::{Quantized, already_quantized};
pub use safetensors::{
    header::{Header, MAX_NAME, MAX_TENSORS, read as read_header},
    header_text::{Entry, Preface, write_header},
    metadata::Metadata,
};

pub(crate) use safetensors::{
    header::{MAX_HEADER, MAX_RANK},
    header_text::{entry_length, header_length},
    index::index_text,
};
