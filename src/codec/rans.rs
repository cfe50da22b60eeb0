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
        frequencies::{BITS, FRACTION, Frequencies},
        lanes::{self, Model, Share, Shares},
    },
    simd::{self, codecs::rans::Lanes},
};
use std::ops::Range;

pub use crate::codec::lanes::BLOCK;
pub(crate) use crate::codec::lanes::Slots;

/// One table, whatever came before.
impl Model for &Slots {
    #[inline(always)]
    fn slot(self, x: u32, _: &mut u32) -> u32 {
        self[(x % (1 << BITS)) as usize]
    }

    fn frequency(self, symbol: u8) -> u32 {
        // Slots are in the order of symbols.
        self[self.partition_point(|slot| (*slot as u8) < symbol)] >> 20
    }

    fn decode_rows<const N: usize>(self, blocks: &mut [Lanes; N]) {
        simd::codecs::rans::decode_rows(self, blocks);
    }
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
    lanes::encode(symbols, &shares(&frequencies), out);
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
    lanes::cost(symbols, bits >> FRACTION).div_ceil(8) as u64
}

/// Adds how often each symbol occurs.
fn count(symbols: &[u8], sums: &mut [u64; 256]) {
    sums.iter_mut().zip(simd::histogram(symbols)).for_each(|(sum, n)| *sum += n);
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
    if symbols == 0 {
        let slots = Box::new([0; 1 << BITS]);
        return match bytes {
            [] => Ok(Layout::Blocks { slots, blocks: Vec::new() }),
            _ => Err(Malformed("bytes for no symbols")),
        };
    }
    let (frequencies, left) = Frequencies::read(bytes)?;
    if let Some(symbol) = frequencies.only() {
        return match left {
            [] => Ok(Layout::Only(symbol)),
            _ => Err(Malformed("bytes after the stream")),
        };
    }
    let blocks = lanes::split(bytes, left, symbols)?;
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
    lanes::decode(bytes, &blocks, &*slots, out, |symbols| count(symbols, &mut counts))?;
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
