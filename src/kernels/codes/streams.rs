//! What the decoders of streams share on the host.

use crate::{
    DType, Error, Result, Tensor,
    codec::lanes::BLOCK,
    gpu::{Buffer, Gpu},
    parallel,
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

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
pub(crate) fn no_survivors(gpu: &Gpu, positions: usize) -> Result<(Tensor, Tensor)> {
    let words = positions.div_ceil(32);
    let mask = Tensor::gpu(DType::U32, 1, words, gpu.zeros(4 * words)?);
    Ok((mask, Tensor::gpu(DType::U8, 1, positions, gpu.zeros(positions)?)))
}

/// Streams of rANS one after the other, and where their blocks are, as `lib/rans` reads them.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    data: Vec<u8>,
    blocks: Vec<[u32; 5]>,
    /// The number of the stream of every block.
    pub(crate) of: Vec<usize>,
    /// Where the symbols of the next stream go.
    pub(crate) out: usize,
}

impl Placed {
    /// Puts a stream of so many symbols after the others: its number, where its blocks are in its bytes, which table they have.
    pub(crate) fn put(
        &mut self,
        (stream, bytes): (usize, &[u8]),
        symbols: usize,
        blocks: Vec<Range<usize>>,
        table: usize,
    ) {
        for (first, range) in (0..).step_by(BLOCK).zip(blocks) {
            let (start, count) = (self.data.len() + range.start, (symbols - first).min(BLOCK));
            let numbers = [start, range.len(), count, (self.out + first) / 4, table];
            self.blocks.push(numbers.map(|n| n as u32));
            self.of.push(stream);
        }
        self.data.extend_from_slice(bytes);
        self.out += symbols.next_multiple_of(4);
    }

    /// The bytes on the device, how many words they are, and the blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if bytes or symbols do not fit it.
    pub(crate) fn upload(
        &self,
        gpu: &Gpu,
        kernel: &'static str,
        symbols: usize,
    ) -> Result<(Buffer, u32, Buffer)> {
        let max = gpu.max_bytes() as usize;
        if self.data.len() > max || symbols > max {
            let message = format!("{} bytes of streams, {symbols} symbols", self.data.len());
            return Err(Error::beyond(kernel, message));
        }
        let mut words = vec![0u32; self.data.len().div_ceil(4)];
        bytemuck::cast_slice_mut(&mut words)[..self.data.len()].copy_from_slice(&self.data);
        Ok((gpu.upload(&words)?, words.len() as u32, gpu.upload(&self.blocks)?))
    }
}
