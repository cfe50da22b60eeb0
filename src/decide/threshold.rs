//! Which weights survive: exact thresholds from counts, and the choice of rows or blocks. On the host, integers only.

use crate::decide::{histogram::Histogram, order_key};

/// What keeps exactly so many weights of a group: those above the threshold, and the first of those on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The bits of a magnitude as f32.
    pub threshold: u32,
    /// A weight on the threshold is kept if it is one of the first so many elements.
    pub ties_before: u64,
}

impl Limit {
    /// Keeps everything.
    pub const ALL: Self = Self { threshold: 0, ties_before: u64::MAX };
    /// Keeps nothing: no magnitude is so large.
    pub const NONE: Self = Self { threshold: u32::MAX - 1, ties_before: 0 };

    /// The same, but zeros do not survive: they come back as zeros in any case, and a tensor that was pruned before keeps the
    /// weights that it has.
    pub fn without_zeros(self) -> Self {
        if self.threshold == 0 { Self { ties_before: 0, ..self } } else { self }
    }
}

/// How many of `n` weights survive at a density: `floor(density * n + 0.5)`.
///
/// # Example
///
/// ```
/// use tersor::prune::kept;
///
/// assert_eq!([kept(0.5, 5), kept(0.1, 4), kept(0.125, 4), kept(1.0, 9)], [3, 0, 1, 9]);
/// ```
pub fn kept(density: f64, n: u64) -> u64 {
    ((density * n as f64 + 0.5).floor() as u64).min(n)
}

/// A threshold that is known up to its low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// Exact: the magnitude bits, and how many weights on it are kept.
    Exact {
        /// Bits of the magnitude as f32.
        magnitude: u32,
        /// Weights on it that are kept.
        ties: u64,
    },
    /// The upper 19 bits, and how many weights that share them are kept: see [`refine`].
    Prefix {
        /// Upper bits of the magnitude.
        prefix: u32,
        /// Weights with these upper bits that are kept.
        keep: u64,
    },
}

/// The magnitude of which exactly `keep` weights are at least as large, from a histogram. `keep` is at least 1 and at most
/// the number of weights.
pub fn threshold(histogram: &Histogram, keep: u64) -> Threshold {
    let counts = &histogram.counts;
    let bins = counts.len();
    let mut left = keep;
    // Bins of the two signs mirror each other: the largest magnitudes are at both ends.
    for distance in 0..bins / 2 {
        let (negative, positive) = (distance, bins - 1 - distance);
        let n = counts[negative] + counts[positive];
        if n >= left {
            return match histogram.lows.is_empty() {
                true => {
                    let magnitude = histogram.value(positive).to_bits() & 0x7fff_ffff;
                    Threshold::Exact { magnitude, ties: left }
                }
                false => {
                    let key = (positive as u32) << 12;
                    Threshold::Prefix { prefix: order_key::to_f32(key).to_bits() >> 12, keep: left }
                }
            };
        }
        left -= n;
    }
    unreachable!("keep is at most the number of weights")
}

/// The exact threshold, given the counts of the low 12 bits of those that share its upper bits.
///
/// # Example
///
/// ```
/// use tersor::prune::refine;
///
/// // Of the low bits, one weight has 5 and three have 2: the second largest is one of these three.
/// let mut tail = vec![0; 4096];
/// (tail[5], tail[2]) = (1, 3);
/// assert_eq!(refine(0x3f800, 2, &tail), (0x3f80_0002, 1));
/// ```
pub fn refine(prefix: u32, keep: u64, tail: &[u64]) -> (u32, u64) {
    let mut left = keep;
    for (low, n) in tail.iter().enumerate().rev() {
        if *n >= left {
            return (prefix << 12 | low as u32, left);
        }
        left -= n;
    }
    unreachable!("the histogram counted as many")
}

/// What keeps the `keep` largest magnitudes of those that a histogram has counted. `tail` counts the low 12 bits of those that
/// share upper bits, as [`refine`] takes them; `cut_off` finds where so many weights on a magnitude end.
///
/// # Errors
///
/// Those of `tail` and `cut_off`.
pub fn limit<E>(
    histogram: &Histogram,
    keep: u64,
    tail: impl FnOnce(u32) -> Result<Vec<u64>, E>,
    cut_off: impl FnOnce(u32, u64) -> Result<Limit, E>,
) -> Result<Limit, E> {
    if keep == 0 {
        return Ok(Limit::NONE);
    }
    if keep == histogram.total() {
        return Ok(Limit::ALL);
    }
    let (magnitude, ties) = match threshold(histogram, keep) {
        Threshold::Exact { magnitude, ties } => (magnitude, ties),
        Threshold::Prefix { prefix, keep } => refine(prefix, keep, &tail(prefix)?),
    };
    cut_off(magnitude, ties)
}

/// The `keep` largest of the norms, ties to the lowest index, as a bit for each, first in the low bit. At most all are kept.
///
/// # Example
///
/// ```
/// use tersor::prune::largest;
///
/// assert_eq!(largest(&[3, 5, 3, 5, 1], 3), [0b01011]); // both fives, and the first three
/// ```
pub fn largest(norms: &[u64], keep: u64) -> Vec<u32> {
    if keep == 0 {
        return vec![0; norms.len().div_ceil(32)];
    }
    // The smallest norm that is kept, digit by digit, and how many of those equal to it are.
    let (mut smallest, mut ties) = (0, keep);
    let digits = 64 - norms.iter().max().map_or(0, |n| n.leading_zeros());
    for shift in (0..digits.next_multiple_of(16)).step_by(16).rev() {
        let mut counts = vec![0u64; 1 << 16];
        for n in norms.iter().filter(|n| n.checked_shr(shift + 16).unwrap_or(0) == smallest) {
            counts[(n >> shift & 0xffff) as usize] += 1;
        }
        let mut digit = 0xffff;
        while digit > 0 && counts[digit] < ties {
            ties -= counts[digit];
            digit -= 1;
        }
        smallest = smallest << 16 | digit as u64;
    }
    let mut bit = |n: &u64| {
        let tied = *n == smallest && ties > 0;
        ties -= u64::from(tied);
        u32::from(*n > smallest || tied)
    };
    let word = |norms: &[u64]| norms.iter().enumerate().fold(0, |w, (i, n)| w | bit(n) << i);
    norms.chunks(32).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_round_half_up() {
        assert_eq!(
            [kept(0.5, 5), kept(0.0, 9), kept(1.0, 9), kept(0.1, 4), kept(0.125, 4)],
            [3, 0, 9, 0, 1]
        );
    }

    #[test]
    fn the_largest_norms_are_those_of_sorting() {
        assert_eq!(largest(&[3, 5, 3, 5, 1], 3), [0b01011]);
        assert_eq!((largest(&[], 0), largest(&[0, 0], 1)), (vec![], vec![1]));
        // Norms of up to 64 bits, with many ties, and with digits that differ from the first to the last.
        let norms: Vec<u64> = (0..1000u64)
            .map(|i| (i % 97).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 5 * 15))
            .collect();
        let mut order: Vec<usize> = (0..norms.len()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(norms[*i]), *i));
        for keep in [0, 1, 31, 500, 999, 1000] {
            let bits = largest(&norms, keep as u64);
            let kept = |i: &usize| bits[i / 32] >> (i % 32) & 1 == 1;
            assert!(order[..keep].iter().all(kept) && !order[keep..].iter().any(kept), "{keep}");
        }
    }
}
