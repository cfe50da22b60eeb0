//! Frequencies of symbols in 4096ths: the best for given counts, and their few bytes at the head of a stream.

use crate::codec::{
    Malformed,
    bits::{Reader, Writer, gamma_bits},
};
use std::{collections::BinaryHeap, sync::LazyLock};

/// Bits of the sum of all frequencies.
pub(super) const BITS: u32 = 12;
/// Coarsest precision that [`Frequencies`] may have.
const COARSEST: u32 = BITS - 7;
/// Fractional bits of costs in bits.
pub(super) const FRACTION: u32 = 32;

/// How often each symbol is expected: multiples of `2^(12 - precision)` in 4096, none for symbols that do not occur.
///
/// A stream of few symbols knows their frequencies too badly to pay for all their digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frequencies {
    precision: u32,
    /// Present symbols in ascending order, each with its frequency in steps.
    steps: Vec<(u8, u32)>,
}

/// `2^32 log2 f` for `f` to 4096, at most a few units low: digit by digit from repeated squares, so in integers only. Second
/// differences, at least 256 units, keep their sign.
static LOG: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let log = |f: u32| {
        let whole = f.ilog2();
        // 1 to 2, with 31 binary places, but 62 in the square.
        let (mut x, mut log) = (u64::from(f) << (31 - whole), u64::from(whole));
        for _ in 0..FRACTION {
            x = (x * x) >> 31;
            let digit = x >> 32;
            log = log << 1 | digit;
            x >>= digit;
        }
        log
    };
    std::iter::once(0).chain((1..=1 << BITS).map(log)).collect()
});

impl Frequencies {
    /// Those that make table and symbols shortest for these counts, not all zero.
    ///
    /// For a precision of `p` bits the steps `g`, of sum `2^p` and at least 1 for a symbol that occurs, minimise
    /// `sum count (p - log2 g)`. That sum is separable and convex, so steps that no move of one step between two symbols
    /// improves are the best. From 12 bits on precision falls as long as that makes the whole shorter. All in integers, with
    /// `log2` in 32 binary places: the same on every machine.
    pub(super) fn fit(counts: &[u64; 256]) -> (Self, u128) {
        let at = |precision| {
            let table = Self { precision, steps: steps(counts, precision) };
            let cost = table.cost(counts);
            (table, cost)
        };
        let mut best = at(BITS);
        let present = best.0.steps.len();
        while best.0.precision > COARSEST && present > 1 && present <= 1 << (best.0.precision - 1) {
            let coarser = at(best.0.precision - 1);
            if coarser.1 >= best.1 {
                break;
            }
            best = coarser;
        }
        best
    }

    /// The symbol, if it is the only one.
    pub(super) fn only(&self) -> Option<u8> {
        (self.steps.len() == 1).then(|| self.steps[0].0)
    }

    /// Present symbols in ascending order: symbol, frequency in 4096ths, sum of the frequencies before it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u32, u32)> {
        let shift = BITS - self.precision;
        self.steps.iter().scan(0, move |start, (symbol, steps)| {
            let frequency = steps << shift;
            *start += frequency;
            Some((*symbol, frequency, *start - frequency))
        })
    }

    /// Bits of table and symbols, times `2^32`.
    fn cost(&self, counts: &[u64; 256]) -> u128 {
        let cost = |(symbol, steps): &(u8, u32)| {
            let bits = (u64::from(self.precision) << FRACTION) - LOG[*steps as usize];
            u128::from(counts[usize::from(*symbol)]) * u128::from(bits)
        };
        self.steps.iter().map(cost).sum::<u128>() + (u128::from(self.table_bits()) << FRACTION)
    }

    fn table_bits(&self) -> u32 {
        let Some((largest, present)) = self.largest_of_several() else { return 16 };
        let presence = match Presence::of(largest, present) {
            Presence::All => 0,
            Presence::List => 8 * (present as u32 - 1),
            Presence::Bitmap => largest.into(),
        };
        let mut before = self.first_guess();
        let numbers = self.steps[..present - 1].iter().map(|(_, steps)| {
            let digits = steps.ilog2();
            let bits = gamma_bits(zigzag(digits as i32 - before as i32)) + digits;
            before = digits;
            bits
        });
        8 + if present < 256 { 8 } else { 0 } + presence + 3 + numbers.sum::<u32>()
    }

    fn largest_of_several(&self) -> Option<(u8, usize)> {
        let present = self.steps.len();
        (present > 1).then(|| (self.steps[present - 1].0, present))
    }

    /// Digits after the highest that the first frequency is expected to have.
    fn first_guess(&self) -> u32 {
        self.precision - (self.steps.len() as u32).ilog2()
    }

    /// Appends the table: one byte of how many symbols are present less 1, one of the largest of them unless all 256 are. If it
    /// is not the only one: which of the smaller are present, unless all are; 3 bits of precision; and each frequency but
    /// the last in steps, as the change of its length (gamma code) and the digits below the highest.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut bits = Writer::new(out);
        bits.put(self.steps.len() as u32 - 1, 8);
        let Some((largest, present)) = self.largest_of_several() else {
            bits.put(self.steps[0].0.into(), 8);
            return bits.finish();
        };
        if present < 256 {
            bits.put(largest.into(), 8);
        }
        let mut smaller = self.steps[..present - 1].iter().map(|(symbol, _)| *symbol).peekable();
        match Presence::of(largest, present) {
            Presence::All => {}
            Presence::List => smaller.for_each(|symbol| bits.put(symbol.into(), 8)),
            Presence::Bitmap => {
                for symbol in 0..largest {
                    bits.put(smaller.next_if_eq(&symbol).is_some().into(), 1);
                }
            }
        }
        bits.put(self.precision - COARSEST, 3);
        let mut before = self.first_guess();
        for (_, steps) in &self.steps[..present - 1] {
            let digits = steps.ilog2();
            bits.put_gamma(zigzag(digits as i32 - before as i32));
            bits.put(steps - (1 << digits), digits);
            before = digits;
        }
        bits.finish();
    }

    /// Takes a table from the head of `bytes`; returns what follows, too.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut bits = Reader::new(bytes);
        let present = bits.take(8)? as usize + 1;
        let largest = if present < 256 { bits.take(8)? as u8 } else { 255 };
        let mut table = Self { precision: BITS, steps: Vec::with_capacity(present) };
        if present == 1 {
            table.steps.push((largest, 1 << BITS));
            return Ok((table, bits.finish()?));
        }
        if present - 1 > largest.into() {
            return Err(Malformed("more symbols than the largest allows"));
        }
        match Presence::of(largest, present) {
            Presence::All => table.steps.extend((0..largest).map(|symbol| (symbol, 0))),
            Presence::List => {
                for _ in 1..present {
                    table.steps.push((bits.take(8)? as u8, 0));
                }
            }
            Presence::Bitmap => {
                for symbol in 0..largest {
                    if bits.take(1)? == 1 {
                        table.steps.push((symbol, 0));
                    }
                }
            }
        }
        table.steps.push((largest, 0));
        if table.steps.len() != present || !table.steps.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Malformed("the present symbols are not as many, or not in order"));
        }
        table.precision = COARSEST + bits.take(3)?;
        if present > 1 << table.precision {
            return Err(Malformed("too coarse for so many symbols"));
        }
        let (mut before, mut rest) = (table.first_guess(), 1 << table.precision);
        for (_, steps) in &mut table.steps[..present - 1] {
            let digits = before.checked_add_signed(unzigzag(bits.take_gamma(4)?));
            before = digits.filter(|d| *d < BITS).ok_or(Malformed("a frequency is too large"))?;
            *steps = 1 << before | bits.take(before)?;
            rest = u32::checked_sub(rest, *steps)
                .filter(|rest| *rest > 0)
                .ok_or(Malformed("frequencies sum to more than all"))?;
        }
        table.steps[present - 1].1 = rest;
        Ok((table, bits.finish()?))
    }
}

/// How it is written which symbols below the largest are present.
enum Presence {
    All,
    List,
    Bitmap,
}

impl Presence {
    fn of(largest: u8, present: usize) -> Self {
        let largest = usize::from(largest);
        match present - 1 {
            smaller if smaller == largest => Self::All,
            smaller if 8 * smaller < largest => Self::List,
            _ => Self::Bitmap,
        }
    }
}

/// 0, -1, 1, -2, ... as 1, 2, 3, 4, ...
fn zigzag(x: i32) -> u32 {
    (x << 1 ^ x >> 31) as u32 + 1
}

fn unzigzag(z: u32) -> i32 {
    let z = z - 1;
    (z >> 1) as i32 ^ -((z & 1) as i32)
}

/// The best steps at one precision. See [`Frequencies::fit`].
fn steps(counts: &[u64; 256], precision: u32) -> Vec<(u8, u32)> {
    let total: u128 = counts.iter().map(|c| u128::from(*c)).sum();
    let present = (0..=255u8).filter(|s| counts[usize::from(*s)] > 0);
    let mut steps: Vec<(u8, u32)> = present
        .map(|s| {
            let share = (u128::from(counts[usize::from(s)]) << precision) / total;
            (s, share.max(1) as u32)
        })
        .collect();
    // What a step more saves, and what a step less costs: nothing has less than one.
    let gain = |(s, steps): (u8, u32)| {
        let bits = LOG[steps as usize + 1] - LOG[steps as usize];
        u128::from(counts[usize::from(s)]) * u128::from(bits)
    };
    let loss = |(s, steps)| if steps == 1 { u128::MAX } else { gain((s, steps - 1)) };
    let mut sum: u32 = steps.iter().map(|s| s.1).sum();
    if sum < 1 << precision {
        let mut gains: BinaryHeap<_> = (0..steps.len()).map(|i| (gain(steps[i]), i)).collect();
        while sum < 1 << precision {
            let mut most = gains.peek_mut().expect("some symbol is present");
            let i = most.1;
            steps[i].1 += 1;
            sum += 1;
            // Of a symbol that has all there is no further step.
            if sum < 1 << precision {
                most.0 = gain(steps[i]);
            }
        }
    }
    while sum > 1 << precision {
        let cheapest = (0..steps.len()).min_by_key(|i| loss(steps[*i]));
        steps[cheapest.expect("some symbol is present")].1 -= 1;
        sum -= 1;
    }
    // A step from the symbol that misses it least to the one that gains most: rarely one is left to make.
    while steps.len() > 1 {
        let from = (0..steps.len()).min_by_key(|i| loss(steps[*i])).expect("two symbols");
        let others = (0..steps.len()).filter(|i| *i != from);
        let to = others.max_by_key(|i| gain(steps[*i])).expect("two symbols");
        if gain(steps[to]) <= loss(steps[from]) {
            break;
        }
        steps[from].1 -= 1;
        steps[to].1 += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(u8, u64)]) -> [u64; 256] {
        let mut counts = [0; 256];
        of.iter().for_each(|(s, c)| counts[usize::from(*s)] = *c);
        counts
    }

    #[test]
    fn logarithms_are_close_and_concave() {
        for f in 1..=1 << BITS {
            let exact = f64::from(f as u32).log2() * 2f64.powi(32);
            assert!((LOG[f] as f64 - exact).abs() < 16.0, "log2 {f}");
        }
        let mut gains = LOG[1..].windows(2).map(|w| w[1] - w[0]);
        assert!(gains.by_ref().is_sorted_by(|a, b| *a >= *b + 200));
    }

    #[test]
    fn a_worked_example() {
        // 5:2:1 is exact at every precision; 5 bits are the shortest: 8 + 8 + 3, and lengths 4 and 3 after a guess of 4.
        let (table, cost) = Frequencies::fit(&counts(&[(0, 5), (1, 2), (2, 1)]));
        assert_eq!((table.precision, &table.steps[..]), (5, &[(0, 20), (1, 8), (2, 4)][..]));
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        assert_eq!(table.table_bits(), 8 + 8 + 3 + (1 + 4) + (3 + 3));
        // From the low bit: precision 000, gamma code 1, digits 0010; gamma code 01 and 0, digits 000.
        assert_eq!(bytes, [2, 2, 0b0100_1000, 0b0000_0010]);
        // 5 log2 (8 / 5) + 2 2 + 3 = 10.39.
        assert_eq!(cost >> FRACTION, 30 + 10);
    }

    /// The best steps by trying all, of three symbols.
    #[test]
    fn steps_are_the_best_of_all() {
        for c in [[1u64, 1, 1], [1, 1, 1000], [3, 50, 47], [1_000_000_007, 5, 40_000], [9, 10, 9]] {
            for precision in [5, 8] {
                let of = counts(&[(0, c[0]), (7, c[1]), (255, c[2])]);
                let saved = |s: [u32; 3]| -> u128 {
                    (0..3).map(|i| u128::from(c[i]) * u128::from(LOG[s[i] as usize])).sum()
                };
                let all = 1u32 << precision;
                let best = (1..all - 1)
                    .flat_map(|a| (1..all - a).map(move |b| [a, b, all - a - b]))
                    .map(saved)
                    .max();
                let got = steps(&of, precision);
                let got = [got[0].1, got[1].1, got[2].1];
                assert_eq!(got.iter().sum::<u32>(), all);
                assert_eq!(Some(saved(got)), best, "{c:?} at {precision} bits: {got:?}");
            }
        }
    }

    #[test]
    fn tables_come_back() {
        let cases = [
            counts(&[(7, 3)]),
            counts(&[(0, 1), (255, 1_000_000)]),
            counts(&[(3, 9), (100, 40), (200, 1)]),
            [1; 256],
            std::array::from_fn(|i| if i % 3 == 0 { 0 } else { 1 << (i % 23) }),
            std::array::from_fn(|i| u64::from(i < 16) * (i as u64 * 1000 + 1)),
            std::array::from_fn(|i| if i == 9 { u64::MAX >> 9 } else { 1 }),
        ];
        for counts in cases {
            let (table, _) = Frequencies::fit(&counts);
            assert_eq!(table.iter().map(|s| s.1).sum::<u32>(), 1 << BITS);
            let mut bytes = Vec::new();
            table.write(&mut bytes);
            assert_eq!(bytes.len(), table.table_bits().div_ceil(8) as usize);
            bytes.push(1);
            let (back, rest) = Frequencies::read(&bytes).unwrap();
            assert_eq!((&back, rest), (&table, &[1][..]));
            for end in 0..bytes.len() - 1 {
                assert!(Frequencies::read(&bytes[..end]).is_err(), "cut to {end} bytes");
            }
        }
    }

    /// Whatever the bytes: a table that writes them again, or a refusal.
    #[test]
    fn wrong_tables_are_refused() {
        let mut state = 1u64;
        let mut accepted = 0;
        for _ in 0..200_000 {
            let mut bytes: [u8; 12] = std::array::from_fn(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            bytes[0] %= 5;
            bytes[1] %= 12;
            if let Ok((table, rest)) = Frequencies::read(&bytes) {
                let mut back = Vec::new();
                table.write(&mut back);
                assert_eq!(back, bytes[..12 - rest.len()]);
                assert_eq!(table.iter().map(|s| s.1).sum::<u32>(), 1 << BITS);
                assert!(table.iter().all(|s| s.1 > 0));
                accepted += 1;
            }
        }
        assert!(accepted > 1000);
    }
}
