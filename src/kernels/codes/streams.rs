//! What the decoders of streams share on the host.

use crate::{DType, Result, Tensor, parallel};
use std::sync::{Mutex, PoisonError};

/// Symbols of streams that each start a word: all but the last are padded to whole words.
pub(crate) fn symbols_of(streams: &[(&[u8], usize)]) -> usize {
    streams.iter().fold(0, |all, (_, symbols)| all.next_multiple_of(4) + symbols)
}

/// Fills the symbols of a stream, its number first, from its bytes.
type Decode<'a> = dyn Fn(usize, &[u8], &mut [u8]) -> Result<()> + Sync + 'a;

/// So many symbols of all streams.
pub(crate) fn decoded(
    streams: &[(&[u8], usize)],
    symbols: usize,
    decode: &Decode,
) -> Result<Vec<u32>> {
    let mut out = vec![0; symbols.div_ceil(4)];
    let (mut parts, mut rest) = (Vec::with_capacity(streams.len()), &mut out[..]);
    for (i, (bytes, symbols)) in streams.iter().enumerate() {
        let (here, after) = rest.split_at_mut(symbols.div_ceil(4));
        parts.push((i, *bytes, Mutex::new(&mut bytemuck::cast_slice_mut(here)[..*symbols])));
        rest = after;
    }
    parallel::try_each(&parts, &|(i, bytes, out)| {
        decode(*i, bytes, &mut out.lock().unwrap_or_else(PoisonError::into_inner))
    })?;
    Ok(out)
}

/// A mask and values of so many positions, as `query` fills them.
pub(crate) fn on_cpu(
    positions: usize,
    query: impl FnOnce(&mut [u32], &mut [u8]) -> Result<()>,
) -> Result<(Tensor, Tensor)> {
    let mut mask = vec![0; positions.div_ceil(32)];
    let mut values = vec![0u32; positions.div_ceil(4)];
    query(&mut mask, &mut bytemuck::cast_slice_mut(&mut values)[..positions])?;
    let mask = Tensor::cpu(DType::U32, 1, mask.len(), mask);
    Ok((mask, Tensor::cpu(DType::U8, 1, positions, values)))
}

/// A mask and values of positions of which none is kept.
pub(crate) fn no_survivors(gpu: &crate::gpu::Gpu, positions: usize) -> Result<(Tensor, Tensor)> {
    let words = positions.div_ceil(32);
    let mask = Tensor::gpu(DType::U32, 1, words, gpu.zeros(4 * words)?);
    Ok((mask, Tensor::gpu(DType::U8, 1, positions, gpu.zeros(positions)?)))
}
