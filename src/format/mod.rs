//! Files: the only module that opens or writes them.

mod archive;
mod checkpoint;
mod folder;
mod header;
mod header_text;
mod index;
mod json;
mod lock;
mod manifest;
mod output;
mod partial;
mod quantized;
mod quote;
mod rename;
mod target;
mod temporary;
mod writes;

pub use archive::{Archive, ArchivedTensor};
pub use checkpoint::{Checkpoint, SourceFile};
pub use header::{Header, MAX_NAME, MAX_TENSORS, read as read_header};
pub use header_text::{Entry, Preface, write_header};
pub use manifest::{COMPONENTS, Component, Manifest, Method, TensorManifest, code_bits, matrix};
pub use output::{OutputFile, OutputFolder};
pub use partial::{Origin, partial};
pub use quantized::already_quantized;
pub use quote::{quoted, shown};
pub use target::{Target, spare};

pub(crate) use header::MAX_HEADER;
pub(crate) use header_text::{described_length, entry_length, header_length};
pub(crate) use index::index_text;
pub(crate) use quote::printable;

use crate::Result;
use rayon::prelude::*;

/// Bytes under one digest.
pub const CHUNK: u64 = 4 << 20;

/// The first 16 bytes of a blake3 digest.
pub type Digest = [u8; 16];

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    short(blake3::hash(bytes))
}

/// Whether a digest is the one that is expected. A fuzzer could never guess one: it is let through to what lies behind.
pub(crate) fn agrees(found: Digest, expected: Digest) -> bool {
    found == expected || cfg!(fuzzing)
}

/// The digests of the chunks of `len` bytes, which `read` reads from a position on.
fn chunk_digests(
    len: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<()> + Sync,
) -> Result<Vec<Digest>> {
    let one = |buffer: &mut Vec<u8>, chunk: u64| {
        let start = chunk * CHUNK;
        buffer.resize((len - start).min(CHUNK) as usize, 0);
        read(start, buffer)?;
        Ok(digest(buffer))
    };
    (0..len.div_ceil(CHUNK)).into_par_iter().map_init(Vec::new, one).collect()
}

/// The first 16 bytes of a whole digest.
pub fn short(hash: blake3::Hash) -> Digest {
    hash.as_bytes()[..16].try_into().expect("a blake3 hash has 32 bytes")
}
