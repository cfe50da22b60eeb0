//! Which weights survive: exact thresholds from counts, and the choice of rows or blocks. On the host, integers only.

use crate::kernels::{Histogram, order_key};

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
}

/// How many of `n` weights survive at a density: `floor(density * n + 0.5)`.
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

/// The `keep` largest of the norms, ties to the lowest index, as flags.
pub fn largest<T: Ord + Copy>(norms: &[T], keep: u64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(norms[*i]), *i));
    let mut flags = vec![false; norms.len()];
    order.iter().take(keep as usize).for_each(|i| flags[*i] = true);
    flags
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
    fn ties_of_norms_go_to_the_lowest_index() {
        assert_eq!(largest(&[3, 5, 3, 5, 1], 3), [true, true, false, true, false]);
    }
}
