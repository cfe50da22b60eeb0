//! Files: the only module that opens or writes them.

mod archive;
mod checkpoint;
mod header;
mod manifest;
mod writer;

pub use archive::Archive;
pub use archive::ArchivedTensor;
pub use checkpoint::{Checkpoint, SourceFile};
pub use header::quoted;
pub use manifest::{COMPONENTS, Component, Manifest, Method, TensorManifest, code_bits, matrix};
pub use writer::{Entry, OutputFile, OutputFolder, header_text};

/// Bytes under one digest.
pub const CHUNK: u64 = 4 << 20;

/// The first 16 bytes of a blake3 digest.
pub type Digest = [u8; 16];

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    short(blake3::hash(bytes))
}

/// The first 16 bytes of a whole digest.
pub fn short(hash: blake3::Hash) -> Digest {
    hash.as_bytes()[..16].try_into().expect("a blake3 hash has 32 bytes")
}
