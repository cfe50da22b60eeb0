//! The pieces of a file that have a digest each.

use crate::{
    Result,
    digest::{Digest, digest},
};
use rayon::prelude::*;

/// Bytes under one digest.
pub const CHUNK: u64 = 4 << 20;

/// The digests of the chunks of `len` bytes, which `read` reads from a position on.
pub(crate) fn chunk_digests(
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
