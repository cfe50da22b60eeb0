//! Codes along paths through a trellis: each is coded with one of two tables, which the path so far chooses.
//!
//! A path is at a state below [`Trellis::states`] and begins at state 0. The lowest bit of the state is the parity of the next code,
//! so that only codes of that parity, a *superset*, need a table; the second bit of the code, which of the superset's two
//! *subsets* it is of, leads on:
//!
//! `next = (state >> 1) ^ (if state is odd: h0 >> 1) ^ (if code & 2: h1 >> 1)`
//!
//! with the parity-check polynomials `h0`, `h1` of a systematic convolutional code with feedback. So the codes mod 4 of any path
//! keep apart from those of others for some steps, which is what a search through the paths gains from.
//!
//! # Stream
//!
//! Nothing for no codes. Else two tables of frequencies as in [`rans`](super::rans): of the even codes, then of the odd ones, both
//! of codes shifted right by one. A table of no code is that of the code 0 alone. Where a table has one code alone, that has
//! 4095 of 4096, and its neighbour of the other subset the rest. Blocks of 65,536 codes follow, as there. Each lane of a
//! block has a path of its own, from state 0; the tail goes on with the paths of the lanes whose turn it is.
//!
//! # Source
//!
//! Ungerboeck 1982, "Channel coding with multilevel/phase signals", table I: `h0` and `h1` of codes for amplitude modulation.
//! Marcellin and Fischer 1990, "Trellis coded quantization of memoryless and Gauss-Markov sources"; Fischer and Wang 1992,
//! "Entropy-constrained trellis coded quantization".

use crate::{
    codec::{
        Malformed,
        frequencies::{BITS, Frequencies},
        lanes::{self, Model, Share, Shares},
    },
    simd::{self, codecs::rans::Lanes},
};
use std::ops::Range;

pub use crate::codec::lanes::BLOCK;

/// Which trellis paths go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trellis {
    states: u8,
    /// `h0 >> 1`, `h1 >> 1`.
    taps: [u8; 2],
}

impl Trellis {
    /// The trellis of 4, 8, 16, 32 or 64 states.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::codec::trellis::Trellis;
    ///
    /// let trellis = Trellis::new(8).unwrap();
    /// assert_eq!((trellis.next(0, 0), trellis.next(0, 2), trellis.next(1, 1)), (0, 2, 5));
    /// assert_eq!(Trellis::new(12), None);
    /// ```
    pub fn new(states: u8) -> Option<Self> {
        let taps = simd::codecs::trellis::taps(states.into())?;
        Some(Self { states, taps })
    }

    /// How many states it has.
    pub fn states(self) -> u8 {
        self.states
    }

    /// What changes a state that loses a one, and what one that a code of its superset's second subset leads on from.
    pub(crate) fn taps(self) -> [u32; 2] {
        self.taps.map(u32::from)
    }

    /// The state after a code, of which only the second bit counts.
    #[inline(always)]
    pub fn next(self, state: u8, code: u8) -> u8 {
        let [lost, led] = self.taps;
        (state >> 1) ^ (lost * (state & 1)) ^ (led * (code >> 1 & 1))
    }
}

impl Trellis {
    /// Changes the lowest bit of each code of a stream so that its lanes' codes are paths.
    pub fn lead(self, codes: &mut [u8]) {
        for block in codes.chunks_mut(BLOCK) {
            let mut states = vec![0; lanes::lanes(block.len())];
            for row in block.chunks_mut(states.len()) {
                for (code, state) in row.iter_mut().zip(&mut states) {
                    *code = *code & !1 | *state & 1;
                    *state = self.next(*state, *code);
                }
            }
        }
    }
}

/// The tables of the even codes and of the odd ones: `slots[p][x]` for the superset of parity p, with the codes themselves.
pub(crate) type Slots = [u32; 2 << BITS];

#[derive(Clone, Copy)]
struct Paths<'a> {
    trellis: Trellis,
    slots: &'a Slots,
    shares: &'a Shares,
}

impl Model for Paths<'_> {
    #[inline(always)]
    fn slot(self, x: u32, path: &mut u32) -> u32 {
        let slot = self.slots[(((*path & 1) << BITS) | (x % (1 << BITS))) as usize];
        *path = self.trellis.next(*path as u8, slot as u8).into();
        slot
    }

    fn frequency(self, symbol: u8) -> u32 {
        self.shares[usize::from(symbol)].frequency
    }

    fn decode_rows<const N: usize>(self, blocks: &mut [Lanes; N]) {
        simd::codecs::rans::decode_path_rows(self.slots, self.trellis.taps(), blocks);
    }
}

/// How often each code of a parity occurs, shifted right; the code 0 once where none does.
fn of_superset(counts: &[u64; 256], parity: usize) -> [u64; 256] {
    let mut of = [0; 256];
    for (m, n) in of[..128].iter_mut().enumerate() {
        *n = counts[2 * m + parity];
    }
    if of.iter().all(|n| *n == 0) {
        of[0] = 1;
    }
    of
}

/// The tables of codes that occur so often.
fn fit(counts: &[u64; 256]) -> [Frequencies; 2] {
    [0, 1].map(|parity| Frequencies::fit(&of_superset(counts, parity)).0)
}

/// The codes of a table: code, frequency, start.
fn codes(table: &Frequencies, parity: u8) -> Vec<(u8, u32, u32)> {
    if let Some(m) = table.only() {
        let (code, all) = (m << 1 | parity, 1 << BITS);
        return match code & 2 {
            0 => vec![(code, all - 1, 0), (code | 2, 1, all - 1)],
            _ => vec![(code & !2, 1, 0), (code, all - 1, 1)],
        };
    }
    table.iter().map(|(m, frequency, start)| (m << 1 | parity, frequency, start)).collect()
}

fn shares(tables: &[Frequencies; 2]) -> Shares {
    let mut shares = [Share::default(); 256];
    for (table, parity) in tables.iter().zip(0..) {
        for (code, frequency, start) in codes(table, parity) {
            shares[usize::from(code)] = Share { frequency, start };
        }
    }
    shares
}

fn slots(tables: &[Frequencies; 2]) -> Box<Slots> {
    let mut slots = Box::new([0; 2 << BITS]);
    for ((table, parity), slots) in tables.iter().zip(0..).zip(slots.chunks_exact_mut(1 << BITS)) {
        for (code, frequency, start) in codes(table, parity) {
            for i in 0..frequency {
                slots[(start + i) as usize] = frequency << 20 | i << 8 | u32::from(code);
            }
        }
    }
    slots
}

/// Appends the stream of codes, which are paths through the trellis as the lanes of blocks take turns.
pub fn encode(codes: &[u8], out: &mut Vec<u8>) {
    if codes.is_empty() {
        return;
    }
    let tables = fit(&simd::histogram(codes));
    tables.iter().for_each(|table| table.write(out));
    lanes::encode(codes, &shares(&tables), out);
}

/// A stream as a device decodes it.
pub(crate) struct Layout {
    pub(crate) slots: Box<Slots>,
    pub(crate) blocks: Vec<Range<usize>>,
    tables: Option<[Frequencies; 2]>,
}

impl Layout {
    /// The bits that its codes have together.
    pub(crate) fn alphabet(&self) -> u16 {
        self.slots.iter().fold(0, |all, slot| all | (slot & 0xff) as u16)
    }
}

/// Tables and blocks of a stream of so many codes.
pub(crate) fn layout(bytes: &[u8], symbols: usize) -> Result<Layout, Malformed> {
    if symbols == 0 {
        let (slots, blocks) = (Box::new([0; 2 << BITS]), Vec::new());
        return match bytes {
            [] => Ok(Layout { slots, blocks, tables: None }),
            _ => Err(Malformed("bytes for no symbols")),
        };
    }
    let (even, left) = Frequencies::read(bytes)?;
    let (odd, left) = Frequencies::read(left)?;
    let tables = [even, odd];
    if tables.iter().any(|table| table.iter().any(|(m, ..)| m >= 128)) {
        return Err(Malformed("a code beyond 8 bits"));
    }
    let blocks = lanes::split(bytes, left, symbols)?;
    Ok(Layout { slots: slots(&tables), blocks, tables: Some(tables) })
}

/// Fills `out` with the codes of a stream, which must be all of `bytes`.
///
/// # Errors
///
/// [`Malformed`] unless [`encode`] would have written these bytes for these codes.
pub fn decode(trellis: Trellis, bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let Layout { slots, blocks, tables } = layout(bytes, out.len())?;
    let Some(tables) = tables else { return Ok(()) };
    let model = Paths { trellis, slots: &slots, shares: &shares(&tables) };
    let mut counts = [0; 256];
    lanes::decode(bytes, &blocks, model, out, |codes| {
        counts.iter_mut().zip(simd::histogram(codes)).for_each(|(sum, n)| *sum += n);
    })?;
    // The same codes with other frequencies would be other bytes.
    match fit(&counts) == tables {
        true => Ok(()),
        false => Err(Malformed("frequencies are not the best for the symbols")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::number;

    /// Codes along paths, at most so many of each superset, small ones more likely.
    fn path(trellis: Trellis, len: usize, few: u64, seed: u64) -> Vec<u8> {
        let code = |i| {
            let r = number(seed, i);
            ((r % few).min(r >> 32 & 127).min(r >> 40 & 127) as u8) << 1
        };
        let mut codes: Vec<u8> = (0..len as u64).map(code).collect();
        trellis.lead(&mut codes);
        codes
    }

    fn encoded(codes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        encode(codes, &mut bytes);
        bytes
    }

    fn lengths() -> Vec<usize> {
        let edges = [2047, 2048, 2049, 5000, 16_384, 20_000];
        let blocks = [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2048, 3 * BLOCK + 17];
        (0..70).chain(edges).chain(blocks).collect()
    }

    #[test]
    fn paths_come_back_at_every_length() {
        for states in [4, 8, 16, 32, 64] {
            let trellis = Trellis::new(states).unwrap();
            for few in [1, 2, 3, 20, 128] {
                for len in lengths() {
                    let codes = path(trellis, len, few, u64::from(states));
                    let bytes = encoded(&codes);
                    let mut back = vec![0xAA; len];
                    assert_eq!(decode(trellis, &bytes, &mut back), Ok(()), "{states} {few} {len}");
                    assert!(back == codes, "{states} states, {few} codes, {len} of them");
                }
            }
        }
    }

    #[test]
    fn worked_examples() {
        let trellis = Trellis::new(8).unwrap();
        // Nothing leads away from state 0: the second table has nothing to say, and the codes next to nothing.
        assert!(encoded(&[]).is_empty());
        assert_eq!(encoded(&[4; 3]), [0, 2, 0, 0]);
        let mut out = [9; 3];
        assert_eq!(decode(trellis, &encoded(&[4; 3]), &mut out), Ok(()));
        assert_eq!(out, [4; 3]);
        // 2 leads to state 2, from there 0 to 1, where codes are odd.
        let codes = [2, 0, 1, 5];
        let mut out = [0; 4];
        assert_eq!(decode(trellis, &encoded(&codes), &mut out), Ok(()));
        assert_eq!(out, codes);
    }

    #[test]
    fn damage_is_refused() {
        let (mut refused, mut others) = (0, 0);
        let trellis = Trellis::new(8).unwrap();
        for few in [1, 3, 20, 128] {
            for len in [1, 2, 5, 17, 100, 1000, 2048, 4096] {
                let codes = path(trellis, len, few, 3);
                let bytes = encoded(&codes);
                let mut out = vec![0; len];
                let mut check = |damaged: &[u8]| match decode(trellis, damaged, &mut out) {
                    Err(_) => refused += 1,
                    Ok(()) => {
                        assert_eq!(encoded(&out), damaged, "{few} codes, {len} of them");
                        others += 1;
                    }
                };
                (0..bytes.len()).for_each(|end| check(&bytes[..end]));
                check(&[&bytes[..], &[0]].concat());
                let mut damaged = bytes.clone();
                for bit in 0..8 * bytes.len().min(500) {
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    check(&damaged);
                    damaged[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
        assert!(refused > 3 * others, "{refused} refused, {others} are other paths");
        // A trellis that leads elsewhere reads other codes, which its tables do not fit.
        let codes = path(trellis, 5000, 20, 3);
        let mut out = vec![0; 5000];
        assert!(decode(Trellis::new(16).unwrap(), &encoded(&codes), &mut out).is_err());
        let mut beyond = vec![];
        Frequencies::fit(&std::array::from_fn(|m| u64::from(m > 126 && m < 130)))
            .0
            .write(&mut beyond);
        beyond.extend([0, 0, 0]);
        assert_eq!(decode(trellis, &beyond, &mut [0]), Err(Malformed("a code beyond 8 bits")));
    }
}
