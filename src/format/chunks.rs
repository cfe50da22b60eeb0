//! The pieces of a file that have a digest each.

use crate::{Result, parallel};
use std::sync::{Mutex, PoisonError};

/// Bytes under one digest.
pub const CHUNK: u64 = 4 << 20;

/// Bytes of a chunk that are read and hashed at a time, so that they are still in the cache.
pub(crate) const PART: usize = 256 << 10;

/// Bytes under one twofold digest, a whole part of a chunk: what a run reads again of its own output, while the rest of what is done with
/// it is in the cache too.
pub(crate) const SPAN: u64 = 512 << 10;

/// Where the chunks of `len` bytes start.
pub(crate) fn chunk_starts(len: u64) -> Vec<u64> {
    (0..len.div_ceil(CHUNK)).map(|chunk| chunk * CHUNK).collect()
}

/// What `of` makes of each of the chunks of `len` bytes, which `read` reads from a position on.
pub(crate) fn map_chunks<T: Send>(
    len: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<()> + Sync,
    of: impl Fn(&[u8]) -> T + Sync,
) -> Result<Vec<T>> {
    // Buffers that nobody fills at the moment.
    let spare = Mutex::new(Vec::new());
    let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
    parallel::try_map(&chunk_starts(len), &|start| {
        let mut buffer: Vec<u8> = spare().pop().unwrap_or_default();
        buffer.resize((len - start).min(CHUNK) as usize, 0);
        read(*start, &mut buffer)?;
        let found = of(&buffer);
        spare().push(buffer);
        Ok(found)
    })
}
