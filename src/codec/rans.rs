//! Range asymmetric numeral systems: symbols near their entropy, decoded in 32 lanes side by side.
//!
//! A state `x` of 32 bits takes a symbol of frequency `f` in 4096 and start `c` (the sum of the frequencies before it) as
//! `x' = (x / f) 4096 + x mod f + c`, and gives it back from `x' mod 4096`. A state that would leave 32 bits puts 16 bits away
//! first; one that falls below `2^16` takes them back. Encoding runs from the last symbol to the first.
//!
//! # Stream
//!
//! Nothing for no symbols. Else a table of frequencies; if more than one symbol is present, blocks of 65,536 symbols
//! follow, the last as long as is left, each with its length in bytes before it (LEB128), but for the last, which takes the rest.
//!
//! A block of fewer than 2,048 symbols has one lane, whose state begins at 0: that costs nothing, as this lane alone knows that no
//! words are left to take back. It is the final state of the encoder and then words of 16 bits. The state has as few bytes as
//! it needs, and whether three or four is seen from the parity of the length.
//!
//! A block of more has `2^floor(log2(symbols / 512))` lanes, at most 32; symbol `i` is in lane `i mod lanes`, and the lanes
//! share one sequence of words: of those that need one after a row of symbols, the lower lane takes the earlier. A lane begins
//! at `2^16` or more, so 16 bits of each beginning are free: they hold the block's last symbols, its tail, encoded in one lane
//! as above. So a lane costs about 4 bits. The block is: how many symbols the tail has (10 bits), its words if those are the
//! most (5 bits); of each lane's final state the number of bits after 17 (4 bits each), then the bits after the highest; padding;
//! words.
//!
//! # Source
//!
//! Duda 2013, "Asymmetric numeral systems"; Giesen 2014, "Interleaved entropy coders".

use crate::{
    codec::{
        Malformed,
        bits::{Reader, Writer, put_number, take_number},
        frequencies::{BITS, FRACTION, Frequencies},
    },
    simd::{self, codecs::rans::Lanes},
};
use std::ops::Range;

/// Symbols of a block.
pub const BLOCK: usize = 1 << 16;
/// Most lanes of a block.
const LANES: usize = 32;
/// Most symbols of a tail, so that what one lane does alone stays a small part of a block.
const TAIL: usize = 1023;
fn lanes(symbols: usize) -> usize {
    if symbols < 2048 { 1 } else { 1 << (symbols / 512).ilog2().min(LANES.ilog2()) }
}

/// A symbol as the encoder sees it.
#[derive(Clone, Copy, Default)]
struct Share {
    frequency: u32,
    start: u32,
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
type Shares = [Share; 256];

/// What the lowest 12 bits of a state say: the frequency in the highest 12 bits, then how far into the symbol's range they are
/// in 12 bits, then the symbol.
pub(crate) type Slots = [u32; 1 << BITS];

/// Takes a symbol from a state.
#[inline(always)]
fn pop(x: &mut u32, slots: &Slots) -> u8 {
    let slot = slots[(*x % (1 << BITS)) as usize];
    // Less than 2^32: the frequency is less than 2^12, as no symbol is alone.
    *x = (slot >> 20) * (*x >> BITS) + (slot >> 8 & 0xfff);
    slot as u8
}

fn shares(frequencies: &Frequencies) -> Shares {
    let mut shares = [Share::default(); 256];
    for (symbol, frequency, start) in frequencies.iter() {
        shares[usize::from(symbol)] = Share { frequency, start };
    }
    shares
}

fn slots(frequencies: &Frequencies) -> Slots {
    let mut slots = [0; 1 << BITS];
    for (symbol, frequency, start) in frequencies.iter() {
        for i in 0..frequency {
            slots[(start + i) as usize] = frequency << 20 | i << 8 | u32::from(symbol);
        }
    }
    slots
}

/// Appends the stream of `symbols`.
pub fn encode(symbols: &[u8], out: &mut Vec<u8>) {
    encode_counted(symbols, &simd::histogram(symbols), out);
}

/// The same of symbols that occur so often.
pub fn encode_counted(symbols: &[u8], counts: &[u64; 256], out: &mut Vec<u8>) {
    if symbols.is_empty() {
        return;
    }
    let (frequencies, _) = Frequencies::fit(counts);
    frequencies.write(out);
    if frequencies.only().is_some() {
        return;
    }
    let shares = shares(&frequencies);
    let packed = shares.map(|share| share.start << 16 | share.frequency);
    let reciprocals = shares.map(|share| u32::MAX.checked_div(share.frequency).unwrap_or(0));
    let (mut words, mut bytes) = (vec![0; BLOCK.min(symbols.len())], Vec::new());
    let mut blocks = symbols.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        bytes.clear();
        if lanes(block.len()) == 1 {
            encode_alone(block, &shares, &mut words, &mut bytes);
        } else {
            encode_lanes(block, &shares, (&packed, &reciprocals), &mut words, &mut bytes);
        }
        if blocks.peek().is_some() {
            put_number(bytes.len(), out);
        }
        out.extend_from_slice(&bytes);
    }
}

/// Bytes that [`encode`] would append for symbols of these counts: exact for none and for one symbol, else an estimate that may be
/// off by a few bytes a block and 0.2 %.
pub fn cost(counts: &[u64; 256]) -> u64 {
    let symbols: u64 = counts.iter().sum();
    if symbols == 0 {
        return 0;
    }
    let (frequencies, bits) = Frequencies::fit(counts);
    if frequencies.only().is_some() {
        return 2;
    }
    let bits = bits >> FRACTION;
    // What lanes add to a block, in bits: a head, 4 bits each, and what the tail leaves free.
    let tail = TAIL as u128 * bits / u128::from(symbols);
    let added = |symbols: usize| match lanes(symbols) {
        1 => 8,
        lanes => 32 + 4 * lanes as u128 + (16 * lanes as u128).saturating_sub(tail),
    };
    let (blocks, rest) = (symbols / BLOCK as u64, (symbols % BLOCK as u64) as usize);
    let bits = bits + u128::from(blocks) * (added(BLOCK) + 16) + added(rest);
    bits.div_ceil(8) as u64
}

/// Adds how often each symbol occurs.
fn count(symbols: &[u8], sums: &mut [u64; 256]) {
    sums.iter_mut().zip(simd::histogram(symbols)).for_each(|(sum, n)| *sum += n);
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

/// The inverse: fills `out` from the state and all of the words.
fn pop_alone(mut x: u32, words: &[u8], slots: &Slots, out: &mut [u8]) -> Result<(), Malformed> {
    let mut words = words.chunks_exact(2);
    if words.len() > 0 && x >> 16 == 0 {
        return Err(Malformed("a state is too small"));
    }
    for symbol in out {
        *symbol = pop(&mut x, slots);
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

fn decode_alone(bytes: &[u8], slots: &Slots, out: &mut [u8]) -> Result<(), Malformed> {
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
    pop_alone(x, words, slots, out)
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
        Lanes { states: self.states, words: self.words, symbols: &mut out[..symbols] }
    }
}

/// The inverse of [`push_lanes`]: decodes what is left.
fn pop_lanes(lanes: usize, block: &mut Lanes, slots: &Slots) -> Result<(), Malformed> {
    let mut left = block.words.chunks_exact(2);
    for row in block.symbols.chunks_mut(lanes) {
        for (x, symbol) in block.states.iter_mut().zip(row) {
            *symbol = pop(x, slots);
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

/// Decodes the tail, which the lanes' last states hold.
fn decode_tail(
    head: &Head,
    states: &[u32; LANES],
    slots: &Slots,
    out: &mut [u8],
) -> Result<(), Malformed> {
    let (out, tail) = out.split_at_mut(out.len() - head.tail);
    let mut free = [0; 2 * LANES];
    for (free, x) in free.chunks_exact_mut(2).zip(states) {
        free.copy_from_slice(&(*x as u16).to_le_bytes());
    }
    let x = u32::from(states[0] as u16) | states[1] << 16;
    let (free, rest) = free[4..2 * head.lanes].split_at(2 * head.tail_words);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Malformed("more words than a tail has"));
    }
    pop_alone(x, free, slots, tail)?;
    // Slots are in the order of symbols.
    let symbol = out[out.len() - 1];
    let slot = slots[slots.partition_point(|slot| (*slot as u8) < symbol)];
    if head.tail < TAIL && x >> (32 - BITS) < slot >> 20 {
        return Err(Malformed("a tail is shorter than its lanes allow"));
    }
    Ok(())
}

fn decode_lanes(bytes: &[u8], slots: &Slots, out: &mut [u8]) -> Result<(), Malformed> {
    let head = Head::read(bytes, out.len())?;
    let mut block = [head.lanes(out)];
    if head.lanes == LANES {
        simd::codecs::rans::decode_rows(slots, &mut block);
    }
    pop_lanes(head.lanes, &mut block[0], slots)?;
    let states = block[0].states;
    decode_tail(&head, &states, slots, out)
}

/// Two whole blocks side by side: each alone would wait for its own states.
fn decode_two(
    bytes: [&[u8]; 2],
    slots: &Slots,
    out: (&mut [u8], &mut [u8]),
) -> Result<(), Malformed> {
    let heads = [Head::read(bytes[0], out.0.len())?, Head::read(bytes[1], out.1.len())?];
    let mut blocks = [heads[0].lanes(out.0), heads[1].lanes(out.1)];
    simd::codecs::rans::decode_rows(slots, &mut blocks);
    for block in &mut blocks {
        simd::codecs::rans::decode_rows(slots, std::array::from_mut(block));
        pop_lanes(LANES, block, slots)?;
    }
    let [a, b] = blocks.map(|block| block.states);
    decode_tail(&heads[0], &a, slots, out.0)?;
    decode_tail(&heads[1], &b, slots, out.1)
}

fn put_words(words: &[u16], out: &mut Vec<u8>) {
    out.extend_from_slice(bytemuck::cast_slice(words));
}

/// A stream as a device decodes it.
pub(crate) enum Layout {
    /// All of its symbols are this one.
    Only(u8),
    /// Where its blocks are.
    Blocks { slots: Box<Slots>, blocks: Vec<Range<usize>> },
}

/// Table and blocks of a stream of so many symbols.
pub(crate) fn layout(bytes: &[u8], symbols: usize) -> Result<Layout, Malformed> {
    let mut blocks = Vec::new();
    if symbols == 0 {
        let slots = Box::new([0; 1 << BITS]);
        return match bytes {
            [] => Ok(Layout::Blocks { slots, blocks }),
            _ => Err(Malformed("bytes for no symbols")),
        };
    }
    let (frequencies, mut left) = Frequencies::read(bytes)?;
    if let Some(symbol) = frequencies.only() {
        return match left {
            [] => Ok(Layout::Only(symbol)),
            _ => Err(Malformed("bytes after the stream")),
        };
    }
    for _ in 1..symbols.div_ceil(BLOCK) {
        let length = take_number(&mut left)?;
        let block = left.split_off(..length).ok_or(Malformed("ends in a block"))?;
        let end = bytes.len() - left.len();
        blocks.push(end - block.len()..end);
    }
    blocks.push(bytes.len() - left.len()..bytes.len());
    Ok(Layout::Blocks { slots: Box::new(slots(&frequencies)), blocks })
}

/// Fills `out` with the symbols of a stream, which must be all of `bytes`.
///
/// # Errors
///
/// [`Malformed`] unless [`encode`] would have written these bytes for these symbols.
pub fn decode(bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let (slots, blocks) = match layout(bytes, out.len())? {
        Layout::Only(symbol) => {
            out.fill(symbol);
            return Ok(());
        }
        Layout::Blocks { slots, blocks } => (slots, blocks),
    };
    let mut counts = [0; 256];
    for (ranges, out) in blocks.chunks(2).zip(out.chunks_mut(2 * BLOCK)) {
        let two = |i: usize| &bytes[ranges[i].clone()];
        if out.len() == 2 * BLOCK {
            decode_two([two(0), two(1)], &slots, out.split_at_mut(BLOCK))?;
        } else {
            for (range, out) in ranges.iter().zip(out.chunks_mut(BLOCK)) {
                match lanes(out.len()) {
                    1 => decode_alone(&bytes[range.clone()], &slots, out)?,
                    _ => decode_lanes(&bytes[range.clone()], &slots, out)?,
                }
            }
        }
        count(out, &mut counts);
    }
    // The same symbols with other frequencies would be other bytes.
    if !out.is_empty() && Frequencies::fit(&counts).0 != Frequencies::read(bytes)?.0 {
        return Err(Malformed("frequencies are not the best for the symbols"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeatable numbers.
    fn random(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }
    }

    /// A name, and symbols from random numbers.
    type Source = (&'static str, fn(u64) -> u8);

    /// Hard distributions.
    fn sources() -> Vec<Source> {
        vec![
            ("all equal", |_| 9),
            ("two symbols", |r| (r % 2) as u8 * 255),
            ("one in a thousand", |r| u8::from(r.is_multiple_of(1000))),
            ("one in 65,536", |r| 3 - u8::from(r.is_multiple_of(65_536))),
            ("sixteen", |r| (((r & 255) * (r >> 8 & 255)) >> 12) as u8),
            ("pruned", |r| if r % 10 > 0 { 0 } else { (r >> 32) as u8 % 15 + 1 }),
            ("all 256", |r| r as u8),
            ("halving", |r| r.trailing_zeros() as u8),
            ("halving from the top", |r| 255 - r.trailing_zeros() as u8),
            ("spread", |r| (r % 7 * 41) as u8),
        ]
    }

    fn counted(symbols: &[u8]) -> [u64; 256] {
        let mut counts = [0; 256];
        count(symbols, &mut counts);
        counts
    }

    fn symbols(source: fn(u64) -> u8, len: usize) -> Vec<u8> {
        let mut random = random(len as u64);
        (0..len).map(|_| source(random())).collect()
    }

    fn encoded(symbols: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        encode(symbols, &mut bytes);
        bytes
    }

    fn lengths() -> impl Iterator<Item = usize> {
        let edges = [511, 512, 2047, 2048, 2049, 4095, 4096, 5000, 8192, 16_383, 16_384, 20_000];
        let blocks = [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2048, 3 * BLOCK + 17];
        (0..=200).chain(edges).chain(blocks)
    }

    #[test]
    fn every_source_comes_back_at_every_length() {
        for (name, source) in sources() {
            for len in lengths() {
                let symbols = symbols(source, len);
                let bytes = encoded(&symbols);
                let mut back = vec![0xAA; len];
                assert_eq!(decode(&bytes, &mut back), Ok(()), "{name}, {len} symbols");
                assert!(back == symbols, "{name}, {len} symbols");
                let (cost, size) = (cost(&counted(&symbols)), bytes.len() as u64);
                let limit = 2 + size / 500 + 8 * (len / 2048).div_ceil(32) as u64;
                assert!(cost.abs_diff(size) <= limit, "{name}, {len}: {size} bytes, not {cost}");
            }
        }
    }

    #[test]
    fn explicit_forms() {
        assert!(encoded(&[]).is_empty());
        assert_eq!(encoded(&[7]), [0, 7]);
        assert_eq!(encoded(&[7; 1_000_000]), [0, 7]);
        assert_eq!(decode(&[0], &mut []), Err(Malformed("bytes for no symbols")));
        assert!(decode(&[], &mut [0]).is_err());
        assert!(decode(&[0, 7, 0], &mut [0; 5]).is_err());
    }

    /// Cuts and flips of streams are refused, or else they are other streams.
    #[test]
    fn damage_is_refused() {
        let (mut refused, mut others) = (0, 0);
        for (name, source) in sources() {
            for len in [1, 2, 3, 5, 17, 100, 1000, 2048, 4096] {
                let symbols = symbols(source, len);
                let bytes = encoded(&symbols);
                let mut out = vec![0; len];
                let mut check = |damaged: &[u8]| match decode(damaged, &mut out) {
                    Err(_) => refused += 1,
                    Ok(()) => {
                        assert_eq!(encoded(&out), damaged, "{name}, {len} symbols");
                        others += 1;
                    }
                };
                (0..bytes.len()).for_each(|end| check(&bytes[..end]));
                check(&[&bytes[..], &[0]].concat());
                let mut damaged = bytes.clone();
                for bit in 0..8 * bytes.len().min(700) {
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    check(&damaged);
                    damaged[bit / 8] ^= 1 << (bit % 8);
                }
                for other in [len - 1, len + 1] {
                    let mut out = vec![0; other];
                    if decode(&bytes, &mut out).is_ok() {
                        assert_eq!(encoded(&out), bytes, "{name}, {len} symbols");
                    }
                }
            }
        }
        // Any bits are halves or bytes of equal frequencies.
        assert!(refused > 3 * others, "{refused} refused, {others} are other streams");
    }

    #[test]
    fn within_half_a_percent_of_the_entropy() {
        for (name, source) in sources() {
            let symbols = symbols(source, 1 << 20);
            let counts = counted(&symbols);
            let bits = |c: &u64| *c as f64 * -(*c as f64 / symbols.len() as f64).log2();
            let entropy: f64 = counts.iter().filter(|c| **c > 0).map(bits).sum::<f64>() / 8.0;
            // Where a symbol takes no bit, tails leave free what lanes cost.
            let free = if entropy < 0.1 * symbols.len() as f64 / 8.0 { 16.0 * 100.0 } else { 0.0 };
            let bytes = encoded(&symbols).len() as f64;
            let limit = entropy * 1.005 + free + 4.0;
            assert!(bytes <= limit, "{name}: {bytes} bytes, entropy {entropy:.0}");
        }
    }
}
