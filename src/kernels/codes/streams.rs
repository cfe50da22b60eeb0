//! What the decoders of streams share on the host.

use crate::{DType, Result, Tensor};

/// Symbols of streams that each start a word: all but the last are padded to whole words.
pub(crate) fn symbols_of(streams: &[(&[u8], usize)]) -> usize {
    streams.iter().fold(0, |all, (_, symbols)| all.next_multiple_of(4) + symbols)
}

/// The bytes of each stream, and where its symbols go.
pub(crate) fn parts_of<'a, 'b>(
    out: &'a mut [u32],
    streams: &[(&'b [u8], usize)],
) -> Vec<(&'b [u8], &'a mut [u8])> {
    let mut rest = out;
    let part = |(bytes, symbols): &(&'b [u8], usize)| {
        let (here, after) = std::mem::take(&mut rest).split_at_mut(symbols.div_ceil(4));
        rest = after;
        (*bytes, &mut bytemuck::cast_slice_mut(here)[..*symbols])
    };
    streams.iter().map(part).collect()
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
