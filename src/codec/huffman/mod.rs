//! Canonical Huffman codes of at most 8 bits, in up to 64 interleaved lanes: for small alphabets of more than about a bit.
//!
//! A stream is
//! - nothing, for no symbols;
//! - the symbol, twice, if all are the same;
//! - otherwise the code, then blocks of 131,072 symbols, the last of them shorter.
//!
//! The code is told by the first and the last symbol that has one, then the lengths of these and of all between, each after the
//! one before it (the first after 6), as bits: 0 the same, 10 one more, 110 one less, 1110 no code, 1111 and three bits (lowest
//! first) any length, less one; then zeros to a whole byte. Shorter codes go first, those of a length in the order of symbols.
//!
//! Symbol `i` of a block is in lane `i % lanes`. A block of `n` symbols has as many lanes as the largest power of two in
//! `n / 1024`, at least 1 and at most 64; a lane is a string of codes, first bit lowest, padded with zeros to whole bytes. A
//! block starts with the lanes' lengths in bytes: the least of them in 12 bits and a width in 4 bits, as a little-endian u16,
//! then what each has beyond the least, in so many bits, first lane lowest, padded with zeros to whole bytes. A block of one
//! lane has no lengths: it is always the last and runs to the end.
//!
//! Every sequence of symbols has exactly one stream, and decoding refuses every other.

mod code;

use crate::{
    codec::{Malformed, bits::Writer},
    simd::{codecs::huffman as lanes, histogram},
};
use code::Code;

/// Symbols of a block.
pub const BLOCK: usize = 1 << 17;

/// Lanes of a block of so many symbols.
pub fn lanes_of(symbols: usize) -> usize {
    1 << (symbols / 1024).clamp(1, lanes::MOST).ilog2()
}

/// Appends the stream of `symbols`. Does nothing and returns `false` if they are of more than 128 kinds, which is more than
/// codes of 8 bits serve well.
pub fn encode(symbols: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(mut encoder) = Encoder::start(&histogram(symbols), out) else { return false };
    symbols.chunks(BLOCK).for_each(|block| encoder.block(block, out));
    true
}

/// Writes a stream block by block.
pub(super) struct Encoder {
    /// By symbol: its code in the low byte, its length in the high one. None for fewer than two kinds.
    code: Option<[u16; 256]>,
    lanes: lanes::Encoder,
    bodies: Vec<u8>,
}

impl Encoder {
    /// Appends what comes before the blocks of symbols that occur so often.
    pub(super) fn start(counts: &[u64; 256], out: &mut Vec<u8>) -> Option<Self> {
        let code = write_head(counts, out)?.map(|code| code.encoder());
        Some(Self { code, lanes: lanes::Encoder::default(), bodies: Vec::new() })
    }

    /// Appends a block: [`BLOCK`] symbols, or the last.
    pub(super) fn block(&mut self, symbols: &[u8], out: &mut Vec<u8>) {
        let Some(code) = &self.code else { return };
        let mut lengths = [0; lanes::MOST];
        let lengths = &mut lengths[..lanes_of(symbols.len())];
        self.bodies.clear();
        self.lanes.encode(code, symbols, lengths, &mut self.bodies);
        write_lengths(lengths, out);
        out.extend_from_slice(&self.bodies);
    }
}

/// Bytes that [`encode`] takes at most for symbols that occur so often; `None` where it is not applicable.
///
/// Exact below 2048 symbols. Above, the lanes' lengths and padding are not known from counts: up to 0.4 % too much.
pub fn cost(counts: &[u64; 256]) -> Option<u64> {
    let symbols = counts.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    let mut head = Vec::new();
    let Some(code) = write_head(counts, &mut head)? else { return Some(head.len() as u64) };
    let (least, most) = code.range();
    // The padding of a lane is at most 7 bits, and no lane has more symbols than twice 1024.
    let block = |symbols: u64| {
        let lanes = lanes_of(symbols as usize) as u64;
        if lanes == 1 {
            return 0;
        }
        let spread = symbols.div_ceil(lanes) * u64::from(most) / 8 + 1
            - symbols / lanes * u64::from(least) / 8;
        let width = u64::from(u64::BITS - spread.leading_zeros());
        2 + (lanes * width).div_ceil(8) + lanes * 7 / 8
    };
    let (blocks, rest) = (symbols / BLOCK as u64, symbols % BLOCK as u64);
    let overhead = blocks.saturating_mul(block(BLOCK as u64)) + block(rest);
    Some((code.bits(counts).div_ceil(8)).saturating_add(overhead).saturating_add(head.len() as u64))
}

/// Decodes as many symbols as `out` holds from a stream of exactly these bytes.
///
/// # Errors
///
/// [`Malformed`] if [`encode`] does not write these bytes for any symbols; `out` then holds anything.
pub fn decode(bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let stream = Stream::read(bytes, out.len())?;
    for (block, out) in stream.blocks.iter().zip(out.chunks_mut(BLOCK)) {
        stream.decode(bytes, block, out)?;
    }
    stream.check(bytes, &histogram(out))
}

/// Where everything is in a stream whose lanes have not been looked at.
pub(crate) struct Stream {
    /// By the next eight bits: their symbol in the low byte, the length of its code in the high one. A lone symbol's is 0.
    pub code: [u16; 256],
    /// Bytes before the blocks.
    head: usize,
    /// In order.
    pub blocks: Vec<Block>,
}

/// Where the lanes of a block are, all of them within the stream.
pub(crate) struct Block {
    /// Byte of the stream where the first lane starts.
    pub start: usize,
    /// Number of lanes.
    pub lanes: usize,
    /// Where each ends and the next one starts, in bytes from `start` on.
    pub ends: [u32; lanes::MOST],
}

impl Stream {
    /// Finds the lanes of so many symbols.
    pub(crate) fn read(bytes: &[u8], symbols: usize) -> Result<Self, Malformed> {
        let lone = matches!(bytes, [first, last, ..] if first == last);
        let (code, head) = match *bytes {
            _ if symbols == 0 => ([0; 256], 0),
            [symbol, ..] if lone => ([symbol.into(); 256], 2),
            _ => Code::read(bytes).map(|(code, head)| (code.decoder(), head))?,
        };
        let (mut at, mut blocks) = (head, Vec::new());
        for first in (0..symbols).step_by(BLOCK) {
            let symbols = (symbols - first).min(BLOCK);
            let lanes = lanes_of(symbols);
            let (ends, before) =
                if lone { ([0; lanes::MOST], 0) } else { read_lengths(&bytes[at..], symbols)? };
            blocks.push(Block { start: at + before, lanes, ends });
            at += before + ends[lanes - 1] as usize;
        }
        if at != bytes.len() {
            return Err(Malformed("the stream is longer than its symbols"));
        }
        Ok(Self { code, head, blocks })
    }

    /// Decodes one of its blocks.
    pub(super) fn decode(
        &self,
        bytes: &[u8],
        block: &Block,
        out: &mut [u8],
    ) -> Result<(), Malformed> {
        let end = block.start + block.ends[block.lanes - 1] as usize;
        // Lanes are read ahead of their ends.
        let padded: Vec<u8>;
        let ahead = match bytes.get(block.start..end + lanes::AHEAD) {
            Some(ahead) => ahead,
            None => {
                padded = [&bytes[block.start..end], &[0; lanes::AHEAD]].concat();
                &padded
            }
        };
        match lanes::decode(&self.code, ahead, &block.ends[..block.lanes], out) {
            true => Ok(()),
            false => Err(Malformed("a lane does not end where it says, or not in zeros")),
        }
    }

    /// Whether the code is the one that symbols have which occur so often.
    pub(super) fn check(&self, bytes: &[u8], counts: &[u64; 256]) -> Result<(), Malformed> {
        let mut head = Vec::new();
        write_head(counts, &mut head);
        match bytes.starts_with(&head) && head.len() == self.head {
            true => Ok(()),
            false => Err(Malformed("not the code that these symbols have")),
        }
    }
}

/// Appends what comes before the blocks. `None` if there are too many kinds of symbols; no code where there are fewer than two.
fn write_head(counts: &[u64; 256], out: &mut Vec<u8>) -> Option<Option<Code>> {
    let mut kinds = (0..=255u8).filter(|s| counts[usize::from(*s)] > 0);
    match (kinds.next(), kinds.next()) {
        (None, _) => return Some(None),
        (Some(symbol), None) => {
            out.extend([symbol, symbol]);
            return Some(None);
        }
        _ => {}
    }
    let code = Code::of(counts)?;
    code.write(out);
    Some(Some(code))
}

/// Appends the lengths of a block's lanes.
fn write_lengths(lengths: &[u32], out: &mut Vec<u8>) {
    if lengths.len() == 1 {
        return;
    }
    let least = lengths.iter().copied().min().unwrap_or(0);
    let most = lengths.iter().copied().max().unwrap_or(0);
    let width = u32::BITS - (most - least).leading_zeros();
    out.extend(((least | width << 12) as u16).to_le_bytes());
    let mut bits = Writer::new(out);
    lengths.iter().for_each(|length| bits.put(length - least, width));
    bits.finish();
}

/// Reads what [`write_lengths`] has written for a block of so many symbols: where its lanes end, which is within `bytes`, from
/// the first one's start on; and where that is.
fn read_lengths(bytes: &[u8], symbols: usize) -> Result<([u32; lanes::MOST], usize), Malformed> {
    let short = Malformed("the stream ends within a block");
    let (mut ends, lanes) = ([0; lanes::MOST], lanes_of(symbols));
    if lanes == 1 {
        // No code is longer than a byte.
        if bytes.len() > symbols {
            return Err(Malformed("the stream is longer than its symbols"));
        }
        ends[0] = bytes.len() as u32;
        return Ok((ends, 0));
    }
    let [low, high, rest @ ..] = bytes else { return Err(short) };
    let word = u32::from(u16::from_le_bytes([*low, *high]));
    let (least, width) = (word & 0xfff, word >> 12);
    let size = (lanes * width as usize).div_ceil(8);
    let (packed, body) = rest.split_at_checked(size).ok_or(short)?;
    let (mut buffer, mut held, mut packed) = (0u32, 0, packed.iter());
    let (mut end, mut all, mut tight) = (0, 0, false);
    for lane in &mut ends[..lanes] {
        while held < width {
            buffer |= u32::from(*packed.next().ok_or(short)?) << held;
            held += 8;
        }
        let beyond = buffer & ((1 << width) - 1);
        buffer >>= width;
        held -= width;
        end += least + beyond;
        all |= beyond;
        tight |= beyond == 0;
        *lane = end;
    }
    if buffer != 0 || !tight || u32::BITS - all.leading_zeros() != width {
        return Err(Malformed("lengths of lanes that are not in their shortest form"));
    }
    if body.len() < end as usize {
        return Err(short);
    }
    Ok((ends, 2 + size))
}

#[cfg(test)]
mod tests;
