//! Blocks of symbols in up to 32 lanes of rANS, whatever says the frequencies: the part that [`rans`](super::rans), which says how a
//! block is stored, and [`trellis`](super::trellis) have in common.

use crate::{
    codec::{
        Malformed,
        bits::{Reader, Writer, put_number, take_number},
        frequencies::BITS,
    },
    simd::{self, codecs::rans::Lanes},
};
use std::ops::Range;

/// Symbols of a block.
pub const BLOCK: usize = 1 << 16;
/// Most lanes of a block.
pub(crate) const LANES: usize = 32;
/// Most symbols of a tail, so that what one lane does alone stays a small part of a block.
const TAIL: usize = 1023;

/// Lanes of a block of so many symbols.
pub(crate) fn lanes(symbols: usize) -> usize {
    if symbols < 2048 { 1 } else { 1 << (symbols / 512).ilog2().min(LANES.ilog2()) }
}

/// A symbol as the encoder sees it.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) frequency: u32,
    pub(super) start: u32,
}

impl Share {
    /// Puts the symbol into a state that holds at most [`Self::fits`].
    #[inline(always)]
    fn push(self, x: u32) -> u32 {
        ((x / self.frequency) << BITS) + x % self.frequency + self.start
    }

    /// Whether the state takes the symbol without putting a word away.
    #[inline(always)]
    fn fits(self, x: u32) -> bool {
        x >> (32 - BITS) < self.frequency
    }
}

/// A share for each symbol, zeros for absent ones.
pub(super) type Shares = [Share; 256];

/// What the lowest 12 bits of a state say: the frequency in the highest 12 bits, then how far into the symbol's range they are
/// in 12 bits, then the symbol.
pub(crate) type Slots = [u32; 1 << BITS];

/// What a decoder knows of the symbols.
pub(super) trait Model: Copy {
    /// What the state of a lane says, given what else the lane has come by.
    fn slot(self, x: u32, path: &mut u32) -> u32;

    /// The frequency of a symbol that a slot has named.
    fn frequency(self, symbol: u8) -> u32;

    /// Decodes rows of blocks side by side, as long as each has rows and as many words as any row could need; none where the
    /// machine has no instructions that make it fast.
    fn decode_rows<const N: usize>(self, blocks: &mut [Lanes; N]);

    /// Takes a symbol from a state.
    #[inline(always)]
    fn pop(self, x: &mut u32, path: &mut u32) -> u8 {
        let slot = self.slot(*x, path);
        // Less than 2^32: the frequency is less than 2^12, as no symbol is alone.
        *x = (slot >> 20) * (*x >> BITS) + (slot >> 8 & 0xfff);
        slot as u8
    }
}

/// Appends the blocks of all symbols.
pub(super) fn encode(symbols: &[u8], shares: &Shares, out: &mut Vec<u8>) {
    let packed = shares.map(|share| share.start << 16 | share.frequency);
    let reciprocals = shares.map(|share| u32::MAX.checked_div(share.frequency).unwrap_or(0));
    let (mut words, mut bytes) = (vec![0; BLOCK.min(symbols.len())], Vec::new());
    let mut blocks = symbols.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        bytes.clear();
        if lanes(block.len()) == 1 {
            encode_alone(block, shares, &mut words, &mut bytes);
        } else {
            encode_lanes(block, shares, (&packed, &reciprocals), &mut words, &mut bytes);
        }
        if blocks.peek().is_some() {
            put_number(bytes.len(), out);
        }
        out.extend_from_slice(&bytes);
    }
}

/// About the bits that blocks take for so many symbols, of so many bits in all.
pub(super) fn cost(symbols: u64, bits: u128) -> u128 {
    // What lanes add to a block, in bits: a head, 4 bits each, and what the tail leaves free.
    let tail = TAIL as u128 * bits / u128::from(symbols);
    let added = |symbols: usize| match lanes(symbols) {
        1 => 8,
        lanes => 32 + 4 * lanes as u128 + (16 * lanes as u128).saturating_sub(tail),
    };
    let (blocks, rest) = (symbols / BLOCK as u64, (symbols % BLOCK as u64) as usize);
    bits + u128::from(blocks) * (added(BLOCK) + 16) + added(rest)
}

/// Where in `bytes` the blocks of so many symbols are, at least one, of which the first begins so far from the end.
pub(super) fn split(
    bytes: &[u8],
    mut left: &[u8],
    symbols: usize,
) -> Result<Vec<Range<usize>>, Malformed> {
    let mut blocks = Vec::new();
    for _ in 1..symbols.div_ceil(BLOCK) {
        let length = take_number(&mut left)?;
        let block = left.split_off(..length).ok_or(Malformed("ends in a block"))?;
        let end = bytes.len() - left.len();
        blocks.push(end - block.len()..end);
    }
    blocks.push(bytes.len() - left.len()..bytes.len());
    Ok(blocks)
}

/// Fills `out` with the symbols of blocks; shows those of each one or two to `seen`.
pub(super) fn decode(
    bytes: &[u8],
    blocks: &[Range<usize>],
    model: impl Model,
    out: &mut [u8],
    mut seen: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    for (ranges, out) in blocks.chunks(2).zip(out.chunks_mut(2 * BLOCK)) {
        let two = |i: usize| &bytes[ranges[i].clone()];
        if out.len() == 2 * BLOCK {
            decode_two([two(0), two(1)], model, out.split_at_mut(BLOCK))?;
        } else {
            for (range, out) in ranges.iter().zip(out.chunks_mut(BLOCK)) {
                match lanes(out.len()) {
                    1 => decode_alone(&bytes[range.clone()], model, out)?,
                    _ => decode_lanes(&bytes[range.clone()], model, out)?,
                }
            }
        }
        seen(out);
    }
    Ok(())
}

/// Puts the last of `symbols` into a state that begins at 0, and words to the end of `words`, until those are full or `most`
/// symbols are in; returns how many are, the state, and how many words.
fn push_alone(
    symbols: &[u8],
    most: usize,
    shares: &Shares,
    words: &mut [u16],
) -> (usize, u32, usize) {
    let (mut x, mut free) = (0, words.len());
    for (done, symbol) in symbols.iter().rev().enumerate() {
        let share = shares[usize::from(*symbol)];
        if done == most || !share.fits(x) && free == 0 {
            return (done, x, words.len() - free);
        }
        if !share.fits(x) {
            free -= 1;
            words[free] = x as u16;
            x >>= 16;
        }
        x = share.push(x);
    }
    (symbols.len(), x, words.len() - free)
}

/// The inverse: fills `out` from the state and all of the words. The symbols take the turns of the lanes whose `paths` these are,
/// beginning at number `turn`.
fn pop_alone(
    mut x: u32,
    words: &[u8],
    model: impl Model,
    (paths, turn): (&mut [u32], usize),
    out: &mut [u8],
) -> Result<(), Malformed> {
    let mut words = words.chunks_exact(2);
    if words.len() > 0 && x >> 16 == 0 {
        return Err(Malformed("a state is too small"));
    }
    let lanes = paths.len();
    for (i, symbol) in out.iter_mut().enumerate() {
        *symbol = model.pop(&mut x, &mut paths[(turn + i) % lanes]);
        if x >> 16 == 0
            && let Some(word) = words.next()
        {
            x = x << 16 | u32::from(u16::from_le_bytes([word[0], word[1]]));
        }
    }
    if x != 0 || words.len() > 0 {
        return Err(Malformed("a lane does not end where it began"));
    }
    Ok(())
}

/// Bytes of a number without zeros at its high end.
fn needed(x: u32) -> usize {
    4 - x.leading_zeros() as usize / 8
}

fn encode_alone(block: &[u8], shares: &Shares, words: &mut [u16], out: &mut Vec<u8>) {
    let (_, x, used) = push_alone(block, block.len(), shares, words);
    out.extend_from_slice(&x.to_le_bytes()[..needed(x)]);
    put_words(&words[words.len() - used..], out);
}

fn decode_alone(bytes: &[u8], model: impl Model, out: &mut [u8]) -> Result<(), Malformed> {
    let (state, words) = match bytes.len() {
        0..4 => bytes.split_at(bytes.len()),
        len => bytes.split_at(4 - len % 2),
    };
    let mut x = [0; 4];
    x[..state.len()].copy_from_slice(state);
    let x = u32::from_le_bytes(x);
    if needed(x) != state.len() {
        return Err(Malformed("a state has a zero at its high end"));
    }
    pop_alone(x, words, model, (&mut [0], 0), out)
}

/// Puts symbols, of which the first belongs to the first lane, into the states, and words before `at`.
fn push_lanes(
    symbols: &[u8],
    shares: &Shares,
    states: &mut [u32],
    words: &mut [u16],
    at: &mut usize,
) {
    for row in symbols.chunks(states.len()).rev() {
        for (x, symbol) in states.iter_mut().zip(row).rev() {
            let share = shares[usize::from(*symbol)];
            if !share.fits(*x) {
                *at -= 1;
                words[*at] = *x as u16;
                *x >>= 16;
            }
            *x = share.push(*x);
        }
    }
}

fn encode_lanes(
    block: &[u8],
    shares: &Shares,
    tables: (&[u32; 256], &[u32; 256]),
    words: &mut [u16],
    out: &mut Vec<u8>,
) {
    let lanes = lanes(block.len());
    // The tail's state in the first two, its words after it.
    let mut free = [0u16; LANES];
    let room = lanes - 2;
    let mut tail_words = [0; LANES];
    let (tail, x, used) = push_alone(block, TAIL, shares, &mut tail_words[..room]);
    (free[0], free[1]) = (x as u16, (x >> 16) as u16);
    free[2..2 + used].copy_from_slice(&tail_words[room - used..room]);

    let mut states = free.map(|word| 1 << 16 | u32::from(word));
    let mut at = words.len();
    let symbols = &block[..block.len() - tail];
    let rows = if lanes == LANES { symbols.len() / LANES * LANES } else { 0 };
    let (rows, rest) = symbols.split_at(rows);
    push_lanes(rest, shares, &mut states[..lanes], words, &mut at);
    if simd::codecs::rans::encode_rows(rows, tables, &mut states, words, &mut at) == 0 {
        push_lanes(rows, shares, &mut states[..lanes], words, &mut at);
    }

    let mut bits = Writer::new(out);
    bits.put(tail as u32, 10);
    if tail == TAIL {
        bits.put(used as u32, 5);
    }
    let states = &states[..lanes];
    states.iter().for_each(|x| bits.put(x.ilog2() - 16, 4));
    states.iter().for_each(|x| bits.put(x - (1 << x.ilog2()), x.ilog2()));
    bits.finish();
    put_words(&words[at..], out);
}

/// What stands before the words of a block of several lanes.
struct Head<'a> {
    lanes: usize,
    tail: usize,
    tail_words: usize,
    states: [u32; LANES],
    words: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8], symbols: usize) -> Result<Self, Malformed> {
        let lanes = lanes(symbols);
        let mut bits = Reader::new(bytes);
        let tail = bits.take(10)? as usize;
        let tail_words = if tail == TAIL { bits.take(5)? as usize } else { lanes - 2 };
        if tail_words > lanes - 2 {
            return Err(Malformed("more words in a tail than its lanes hold"));
        }
        let mut states = [0; LANES];
        for x in &mut states[..lanes] {
            *x = 16 + bits.take(4)?;
        }
        for x in &mut states[..lanes] {
            *x = 1 << *x | bits.take(*x)?;
        }
        let words = bits.finish()?;
        if !words.len().is_multiple_of(2) {
            return Err(Malformed("half a word"));
        }
        Ok(Self { lanes, tail, tail_words, states, words })
    }

    fn lanes<'b>(&self, out: &'b mut [u8]) -> Lanes<'b>
    where
        'a: 'b,
    {
        let symbols = out.len() - self.tail;
        let (states, paths) = (self.states, [0; LANES]);
        Lanes { states, paths, words: self.words, symbols: &mut out[..symbols] }
    }
}

/// The inverse of [`push_lanes`]: decodes what is left.
fn pop_lanes(lanes: usize, block: &mut Lanes, model: impl Model) -> Result<(), Malformed> {
    let mut left = block.words.chunks_exact(2);
    for row in block.symbols.chunks_mut(lanes) {
        for ((x, path), symbol) in block.states.iter_mut().zip(&mut block.paths).zip(row) {
            *symbol = model.pop(x, path);
            if *x >> 16 == 0 {
                let word = left.next().ok_or(Malformed("a lane lacks a word"))?;
                *x = *x << 16 | u32::from(u16::from_le_bytes([word[0], word[1]]));
            }
        }
    }
    if left.len() > 0 || block.states[..lanes].iter().any(|x| x >> 16 != 1) {
        return Err(Malformed("a lane does not end where it began"));
    }
    Ok(())
}

/// What the lanes have come to once all of their own symbols are decoded.
type Ends = ([u32; LANES], [u32; LANES]);

/// Decodes the tail, which the lanes' last states hold.
fn decode_tail(
    head: &Head,
    (states, mut paths): Ends,
    model: impl Model,
    out: &mut [u8],
) -> Result<(), Malformed> {
    let (out, tail) = out.split_at_mut(out.len() - head.tail);
    let mut free = [0; 2 * LANES];
    for (free, x) in free.chunks_exact_mut(2).zip(states) {
        free.copy_from_slice(&(x as u16).to_le_bytes());
    }
    let x = u32::from(states[0] as u16) | states[1] << 16;
    let (free, rest) = free[4..2 * head.lanes].split_at(2 * head.tail_words);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Malformed("more words than a tail has"));
    }
    pop_alone(x, free, model, (&mut paths[..head.lanes], out.len()), tail)?;
    let frequency = model.frequency(out[out.len() - 1]);
    if head.tail < TAIL && x >> (32 - BITS) < frequency {
        return Err(Malformed("a tail is shorter than its lanes allow"));
    }
    Ok(())
}

fn decode_lanes(bytes: &[u8], model: impl Model, out: &mut [u8]) -> Result<(), Malformed> {
    let head = Head::read(bytes, out.len())?;
    let mut block = [head.lanes(out)];
    if head.lanes == LANES {
        model.decode_rows(&mut block);
    }
    pop_lanes(head.lanes, &mut block[0], model)?;
    let [block] = block;
    let ends = (block.states, block.paths);
    decode_tail(&head, ends, model, out)
}

/// Two whole blocks side by side: each alone would wait for its own states.
fn decode_two(
    bytes: [&[u8]; 2],
    model: impl Model,
    out: (&mut [u8], &mut [u8]),
) -> Result<(), Malformed> {
    let heads = [Head::read(bytes[0], out.0.len())?, Head::read(bytes[1], out.1.len())?];
    let mut blocks = [heads[0].lanes(out.0), heads[1].lanes(out.1)];
    model.decode_rows(&mut blocks);
    for block in &mut blocks {
        model.decode_rows(std::array::from_mut(block));
        pop_lanes(LANES, block, model)?;
    }
    let [a, b] = blocks.map(|block| (block.states, block.paths));
    decode_tail(&heads[0], a, model, out.0)?;
    decode_tail(&heads[1], b, model, out.1)
}

fn put_words(words: &[u16], out: &mut Vec<u8>) {
    out.extend_from_slice(bytemuck::cast_slice(words));
}
