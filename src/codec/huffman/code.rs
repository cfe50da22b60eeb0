//! The code: its lengths, its bits, and its bytes at the head of a stream.

use crate::codec::{Malformed, bits::Writer};

/// The longest code, in bits.
pub const LIMIT: u32 = 8;

/// The most symbols that a code serves. Twice as many would fit, but the more there are, the less is left of the limit to tell
/// frequent from rare.
pub const SYMBOLS: usize = 128;

/// A code is no longer than need be, where that costs at most one part in so many: short ones decode faster.
const SLACK: u64 = 1024;

/// A complete prefix code of two symbols or more.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// Bits of every symbol's code; 0 for those without.
    pub lengths: [u8; 256],
}

impl Code {
    /// The best code of at most [`LIMIT`] bits for symbols that occur so often, two of them or more, or a shorter one that is
    /// nearly as good. None if they are more than [`SYMBOLS`].
    pub fn of(counts: &[u64; 256]) -> Option<Self> {
        let mut symbols: Vec<(u64, u8)> =
            (0..=255).map(|s| (counts[usize::from(s)], s)).filter(|(n, _)| *n > 0).collect();
        if symbols.len() > SYMBOLS {
            return None;
        }
        symbols.sort_unstable();
        let levels = package_merge(&symbols);
        let code = |limit| Self { lengths: select(&symbols, &levels[..limit as usize]) };
        let best = code(LIMIT);
        let bits = best.bits(counts);
        // A single block of symbols decodes in no time.
        let slack =
            if symbols.iter().map(|(n, _)| n).sum::<u64>() < 1 << 16 { 0 } else { bits / SLACK };
        let shorter = (6..LIMIT).filter(|limit| symbols.len() <= 1 << limit).map(code);
        Some(shorter.into_iter().find(|c| c.bits(counts) <= bits + slack).unwrap_or(best))
    }

    /// Bits of all codes together.
    pub fn bits(&self, counts: &[u64; 256]) -> u64 {
        counts
            .iter()
            .zip(&self.lengths)
            .fold(0, |sum, (n, l)| sum.saturating_add(n.saturating_mul(u64::from(*l))))
    }

    /// The longest code's length and the shortest's.
    pub fn range(&self) -> (u32, u32) {
        let used = || self.lengths.iter().filter(|l| **l > 0).map(|l| u32::from(*l));
        (used().min().unwrap_or(0), used().max().unwrap_or(0))
    }

    /// Every symbol with its length and its code, first bit lowest, in the order of codes.
    ///
    /// Canonical: shorter codes first, those of a length in the order of symbols.
    fn codes(&self) -> impl Iterator<Item = (u8, u32, u32)> {
        let (mut next, mut last) = (0u32, 0);
        let lengths = (1..=LIMIT).flat_map(|l| (0..=255u8).map(move |s| (s, l)));
        lengths.filter(|(s, l)| u32::from(self.lengths[usize::from(*s)]) == *l).map(
            move |(s, l)| {
                next <<= l - last;
                last = l;
                let code = next.reverse_bits() >> (32 - l);
                next += 1;
                (s, l, code)
            },
        )
    }

    /// By symbol: its code in the low byte, its length in the high one.
    pub fn encoder(&self) -> [u16; 256] {
        let mut words = [0; 256];
        for (symbol, length, code) in self.codes() {
            words[usize::from(symbol)] = (code | length << 8) as u16;
        }
        words
    }

    /// By the next eight bits: their symbol in the low byte, the length of its code in the high one.
    pub fn decoder(&self) -> [u16; 256] {
        let mut words = [0; 256];
        for (symbol, length, code) in self.codes() {
            for word in words.iter_mut().skip(code as usize).step_by(1 << length) {
                *word = u16::from(symbol) | (length as u16) << 8;
            }
        }
        words
    }

    /// Appends the bytes that tell the code: [the stream's](super) head.
    pub fn write(&self, out: &mut Vec<u8>) {
        let used = || (0..=255u8).filter(|s| self.lengths[usize::from(*s)] > 0);
        let (first, last) = (used().next().unwrap_or(0), used().next_back().unwrap_or(0));
        out.extend([first, last]);
        let (mut lengths, mut before) = (Writer::new(out), START);
        for length in &self.lengths[first.into()..=last.into()] {
            let (bits, count) = match *length {
                0 => (0b0111, 4),
                l if l == before => (0, 1),
                l if l == before + 1 => (0b01, 2),
                l if l + 1 == before => (0b011, 3),
                l => (0b1111 | u32::from(l - 1) << 4, 7),
            };
            if *length > 0 {
                before = *length;
            }
            lengths.put(bits, count);
        }
        lengths.finish();
    }

    /// Reads what [`Code::write`] has written, and how many bytes that were. The code is complete; whether it is the one that
    /// [`Code::of`] would choose is not known before its symbols are.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let short = Malformed("the stream ends within its code");
        let [first, last, rest @ ..] = bytes else { return Err(short) };
        let mut at = 0;
        let mut bit = || {
            let byte = rest.get(at / 8).ok_or(short)?;
            at += 1;
            Ok(byte >> ((at - 1) % 8) & 1)
        };
        let (mut lengths, mut before) = ([0; 256], START);
        for length in (*first..=*last).map(usize::from) {
            let mut ones = 0;
            while ones < 4 && bit()? == 1 {
                ones += 1;
            }
            lengths[length] = match ones {
                0 => before,
                1 => before + 1,
                2 => before - 1,
                3 => continue,
                _ => 1 + (bit()? | bit()? << 1 | bit()? << 2),
            };
            before = lengths[length];
            if !(1..=LIMIT as u8).contains(&before) {
                return Err(Malformed("a code longer or shorter than codes may be"));
            }
        }
        // Kraft: the codes of a complete code fill all windows of eight bits, and no window twice.
        let windows: u32 = lengths.iter().filter(|l| **l > 0).map(|l| 256 >> l).sum();
        match windows {
            256 => Ok((Self { lengths }, 2 + at.div_ceil(8))),
            0..256 => Err(Malformed("a code that leaves bits without a meaning")),
            _ => Err(Malformed("a code that gives bits two meanings")),
        }
    }
}

/// The length that the first symbol's is told from.
const START: u8 = 6;

/// Package-merge (Larmore and Hirschberg 1990): for every level the leaves, least first, merged with the pairs of the level
/// below; `true` where an item is a leaf. A leaf goes before a pair of its weight.
fn package_merge(symbols: &[(u64, u8)]) -> Vec<Vec<bool>> {
    let mut level: Vec<u64> = symbols.iter().map(|(n, _)| *n).collect();
    let mut levels = vec![vec![true; level.len()]];
    for _ in 1..LIMIT {
        let mut pairs = level.chunks_exact(2).map(|p| p[0].saturating_add(p[1])).peekable();
        let mut leaves = symbols.iter().map(|(n, _)| *n).peekable();
        let (mut weights, mut flags) = (Vec::new(), Vec::new());
        loop {
            let leaf = match (leaves.peek(), pairs.peek()) {
                (Some(leaf), Some(pair)) => leaf <= pair,
                (leaf, None) if leaf.is_none() => break,
                (leaf, _) => leaf.is_some(),
            };
            flags.push(leaf);
            weights.extend(if leaf { leaves.next() } else { pairs.next() });
        }
        level = weights;
        levels.push(flags);
    }
    levels
}

/// Walks the levels down from the last: of its items the 2n - 2 least are taken, and every pair takes two of the level below. A
/// symbol's code is as long as its leaf is taken often.
fn select(symbols: &[(u64, u8)], levels: &[Vec<bool>]) -> [u8; 256] {
    let mut lengths = [0; 256];
    let mut taken = 2 * symbols.len() - 2;
    for flags in levels.iter().rev() {
        let leaves = flags[..taken].iter().filter(|leaf| **leaf).count();
        for (_, symbol) in &symbols[..leaves] {
            lengths[usize::from(*symbol)] += 1;
        }
        taken = 2 * (taken - leaves);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_best_of_at_most_eight_bits() {
        let lengths = |counts: &[u64]| {
            let mut all = [0; 256];
            all[..counts.len()].copy_from_slice(counts);
            Code::of(&all).unwrap().lengths[..counts.len()].to_vec()
        };
        assert_eq!(lengths(&[1, 9]), [1, 1]);
        assert_eq!(lengths(&[8, 4, 2, 0, 1, 1]), [1, 2, 3, 0, 4, 4]);
        assert_eq!(lengths(&[5; 4]), [2; 4]);
        // Fibonacci numbers: without a limit the least two would have nine bits. The best within it are 8, 8, 8, 8, 6, 5, 4, 3,
        // 2, 1 and others of the same sum, 364: by hand.
        let fibonacci = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55];
        let lengths_of_it = lengths(&fibonacci);
        assert_eq!(
            lengths_of_it.iter().zip(fibonacci).map(|(l, n)| u64::from(*l) * n).sum::<u64>(),
            364
        );
        assert_eq!(lengths(&[1; 128]), [7; 128]);
        assert!(Code::of(&std::array::from_fn(|s| u64::from(s < 129))).is_none());
    }

    #[test]
    fn no_complete_code_of_five_symbols_is_shorter() {
        // All lengths that fill the windows exactly, against the best found, for counts on both sides of every tie.
        let complete: Vec<[u8; 5]> =
            vectors::<5>(1).filter(|v| v.iter().map(|l| 256u32 >> l).sum::<u32>() == 256).collect();
        assert_eq!(complete.len(), 75);
        for n in 0..7u64.pow(5) {
            let counts: [u64; 5] = std::array::from_fn(|i| 1 + n / 7u64.pow(i as u32) % 7);
            let bits = |v: &[u8; 5]| v.iter().zip(counts).map(|(l, n)| u64::from(*l) * n).sum();
            let least: u64 = complete.iter().map(bits).min().unwrap();
            let mut all = [0; 256];
            all[40..45].copy_from_slice(&counts);
            assert_eq!(Code::of(&all).unwrap().bits(&all), least, "{counts:?}");
        }
    }

    /// All vectors of `N` lengths from `least` to 8.
    fn vectors<const N: usize>(least: u8) -> impl Iterator<Item = [u8; N]> {
        let base = 9 - u32::from(least);
        (0..base.pow(N as u32))
            .map(move |n| std::array::from_fn(|i| least + (n / base.pow(i as u32) % base) as u8))
    }

    #[test]
    fn complete_codes_are_read_and_no_others() {
        let mut complete = 0;
        for vector in vectors::<5>(0) {
            let mut lengths = [0; 256];
            lengths[251..].copy_from_slice(&vector);
            let mut bytes = Vec::new();
            Code { lengths }.write(&mut bytes);
            let windows: u32 = vector.iter().filter(|l| **l > 0).map(|l| 256 >> l).sum();
            match Code::read(&bytes) {
                Ok((code, length)) => {
                    assert_eq!((windows, code.lengths, length), (256, lengths, bytes.len()));
                    complete += 1;
                }
                Err(_) => assert_ne!(windows, 256, "{vector:?}"),
            }
            for short in 0..bytes.len() {
                assert!(Code::read(&bytes[..short]).is_err(), "{vector:?} cut to {short}");
            }
        }
        // Ordered complete codes of one to five symbols, among zeros: 10 pairs, 10 3 triples, 5 13 fours, 75 fives.
        assert_eq!(complete, 10 + 10 * 3 + 5 * 13 + 75);
    }

    #[test]
    fn codes_are_canonical_and_prefix_free() {
        let mut counts = [0; 256];
        for (s, n) in [(3, 8), (7, 4), (200, 2), (255, 2)] {
            counts[s] = n;
        }
        let code = Code::of(&counts).unwrap();
        // 0, 10, 110, 111, first bit lowest.
        let encoder = code.encoder();
        assert_eq!([3, 7, 200, 255].map(|s| encoder[s]), [0x100, 0x201, 0x303, 0x307]);
        let decoder = code.decoder();
        for (window, word) in decoder.iter().enumerate() {
            let (symbol, length) = (usize::from(*word & 0xff), word >> 8);
            let expected = window as u16 & ((1 << length) - 1) | length << 8;
            assert_eq!(encoder[symbol], expected, "window {window:08b}");
        }
    }

    #[test]
    fn a_worked_table() {
        let mut lengths = [0; 256];
        lengths[4..8].copy_from_slice(&[2, 2, 0, 1]);
        let mut bytes = Vec::new();
        Code { lengths }.write(&mut bytes);
        // 1111 and 2 - 1 as 100, lowest first; 0; 1110; 110; a zero of padding.
        assert_eq!(bytes, [4, 7, 0b0001_1111, 0b0011_0111]);
    }
}
