//! What the decoders of streams share on the host.

use crate::{
    DType, Error, Result, Tensor,
    codec::lanes::BLOCK,
    gpu::{Buffer, Gpu, Kernel},
    parallel,
};
use std::{
    fmt::Display,
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

/// The refusal of a stream, by its number.
pub(crate) fn malformed(kernel: &'static str, stream: usize, why: impl Display) -> Error {
    Error::malformed(kernel, format!("{why}, in stream {stream}"))
}

/// What `lib/rans` is told beside its buffers.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    total: u32,
    words: u32,
    tables: u32,
}

/// A decoder whose shader has `lib/rans`.
pub(crate) struct Decoder<'a> {
    pub(crate) kernel: &'static Kernel,
    pub(crate) constants: &'a [(&'static str, f64)],
    /// Of every symbol, about.
    pub(crate) operations: u64,
}

/// Streams of rANS one after the other, and where their blocks are, as `lib/rans` reads them.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    data: Vec<u8>,
    blocks: Vec<[u32; 5]>,
    /// The number of the stream of every block.
    of: Vec<usize>,
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

    /// The symbols of all streams, given their tables one after the other, so many in number, and room for the symbols.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if bytes or symbols do not fit the device; [`Error::Malformed`] if a block does not end where it began.
    pub(crate) fn decode(
        &self,
        gpu: &Gpu,
        with: &Decoder,
        (slots, tables): (&[u32], usize),
        (room, symbols): (Buffer, usize),
    ) -> Result<Tensor> {
        let name = with.kernel.name;
        let (data, words, blocks) = self.upload(gpu, name, symbols)?;
        let failed = gpu.zeros(4)?;
        let params = Params { total: self.of.len() as u32, words, tables: tables as u32 };
        let buffers = [&data, &blocks, &gpu.upload(slots)?, &room, &failed];
        let (workgroups, operations) = (self.of.len() as u64, with.operations * symbols as u64);
        let groups = (&buffers[..], workgroups);
        gpu.dispatch_long(with.kernel, with.constants, &params, groups, operations)?;
        match gpu.read(&failed, 1)?[0] {
            0 => Ok(Tensor::gpu(DType::U8, 1, symbols, room)),
            block => {
                let of = self.of[block as usize - 1];
                Err(malformed(name, of, "a block does not end where it began"))
            }
        }
    }

    /// The bytes on the device, how many words they are, and the blocks.
    fn upload(
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
