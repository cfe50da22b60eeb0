//! Where levels lie beyond the even ones, and how small a step may be. There are few of them, and as a step becomes smaller more weights
//! need them: at some step what these are off by outweighs what the others gain.

use crate::decide::trellis::{EVEN, MIDDLE, Part};

/// Levels on either side beyond the even ones.
pub(super) const OUTER: usize = MIDDLE - 1 - EVEN as usize;

/// Bins of distances to an octave, as a power of two: as many as the first digits of a float tell apart.
const DIGITS: u32 = 4;

/// The share of the outer levels that is spread evenly over octaves, whatever lies there: a sample does not know all.
const UNSEEN: f64 = 0.15;

/// Steps that are tried, four to an octave.
const TRIES: usize = 100;

/// What a squared step counts that weights are from the mean of those that share a level, where those in even ones count 1 each: of these it
/// is a twelfth, and a path may take but every second level, which is worst where they are far apart.
const PATHS: f64 = 36.0;

/// As few weights in a bin as have levels of their own, wherever these were: each is the mean of what takes it.
const LONE: u32 = 2;

/// Weights about as far from the middle.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    low: f64,
    high: f64,
    /// Of all weights.
    share: f64,
    variance: f64,
    /// Few weights.
    lone: bool,
}

/// How far weights are from the middle.
#[derive(Clone, Debug)]
pub(super) struct Tails {
    /// Those with any weights, ascending.
    bins: Vec<Bin>,
    furthest: f64,
}

impl Tails {
    /// Of a sample of weights around a mean, of which none of all is further than `furthest`.
    pub fn of(parts: &[Part], mean: f64, furthest: f64) -> Self {
        let bin = |distance: f64| (distance as f32).to_bits() >> (23 - DIGITS);
        let low = |bin: usize| f64::from(f32::from_bits((bin as u32) << (23 - DIGITS)));
        // How many there are, and the sums of how far they are from the lower end and of the squares of that.
        let mut sums = vec![(0u32, 0.0, 0.0); 1 << (9 + DIGITS)];
        for w in parts.iter().flat_map(|part| &part.weights) {
            let distance = (f64::from(*w) - mean).abs();
            let bin = bin(distance) as usize;
            let (n, sum, squares) = &mut sums[bin];
            let off = distance - low(bin);
            (*n, *sum, *squares) = (*n + 1, *sum + off, *squares + off * off);
        }
        let all = sums.iter().map(|(n, ..)| f64::from(*n)).sum::<f64>().max(1.0);
        let of = |(i, (n, sum, squares)): (usize, &(u32, f64, f64))| {
            let n = f64::from(*n);
            let variance = (squares / n - (sum / n) * (sum / n)).max(0.0);
            let lone = n <= f64::from(LONE);
            Bin { low: low(i), high: low(i + 1), share: n / all, variance, lone }
        };
        let bins = sums.iter().enumerate().filter(|(_, (n, ..))| *n > 0).map(of).collect();
        Self { bins, furthest }
    }

    /// How far from the middle each outer level is, in steps.
    pub fn levels(&self, step: f64) -> [f64; OUTER] {
        let (even, reach) = (f64::from(EVEN), self.furthest / step);
        let mut levels: [f64; OUTER] = std::array::from_fn(|i| even + 1.0 + i as f64);
        if reach <= levels[OUTER - 1] {
            return levels;
        }
        // As many levels for a bin as have the least squared error together: by the cubic root of the density.
        let ends = |(low, high): (f64, f64)| (even.max(low / step), reach.min(high / step));
        let of = |bin: &Bin| {
            let (low, high) = ends((bin.low, bin.high));
            (low, high, libm::cbrt(bin.share * (high - low) * (high - low)))
        };
        let outer = self.bins.iter().filter(|bin| bin.high / step > even && !bin.lone).map(of);
        let outer: Vec<(f64, f64, f64)> = outer.filter(|(low, high, _)| high > low).collect();
        let seen: f64 = outer.iter().map(|bin| bin.2).sum::<f64>().max(f64::MIN_POSITIVE);
        let octaves = libm::log2(reach / even);
        // The share of the levels up to a distance.
        let share = |x: f64| {
            let of = |(low, high, share): &(f64, f64, f64)| {
                share * ((x - low) / (high - low)).clamp(0.0, 1.0)
            };
            (1.0 - UNSEEN) * outer.iter().map(of).sum::<f64>() / seen
                + UNSEEN * libm::log2(x / even) / octaves
        };
        let mut last = even;
        for (i, level) in levels.iter_mut().enumerate() {
            let wanted = (i + 1) as f64 / OUTER as f64;
            let (mut low, mut high) = (last, reach);
            for _ in 0..40 {
                let middle = 0.5 * (low + high);
                *if share(middle) < wanted { &mut low } else { &mut high } = middle;
            }
            // None is nearer to the one before than even ones are.
            *level = high.max(last + 1.0);
            last = *level;
        }
        levels[OUTER - 1] = levels[OUTER - 1].max(reach);
        levels
    }

    /// The step at which errors are least.
    pub fn finest(&self) -> f64 {
        if self.furthest <= 0.0 {
            return 0.0;
        }
        let even = f64::from(EVEN);
        let (mut step, mut least) = (self.furthest / (even + OUTER as f64), (f64::MAX, 0.0));
        for _ in 0..TRIES {
            let levels = self.levels(step);
            // What is nearest to each outer level, and how far these are from one another.
            let (mut error, mut nearest) = (0.0, [(0.0, 0.0, 0.0); OUTER]);
            for bin in self.bins.iter().filter(|bin| !bin.lone) {
                let x = 0.5 * (bin.low + bin.high) / step;
                if x <= even {
                    error += bin.share;
                    continue;
                }
                let above = levels.partition_point(|level| *level < x).min(OUTER - 1);
                let below = above.saturating_sub(1);
                let at = if x - levels[below] < levels[above] - x { below } else { above };
                let off = x - levels[at];
                let (share, sum, squares) = &mut nearest[at];
                *share += bin.share;
                *sum += bin.share * off;
                *squares += bin.share * (off * off + bin.variance / (step * step));
            }
            for (share, sum, squares) in nearest.into_iter().filter(|of| of.0 > 0.0) {
                error += PATHS * (squares - sum * sum / share).max(0.0);
            }
            let error = step * step * error;
            // Of equal ones the smallest, at which few values are the most exact.
            if error <= 1.000_001 * least.0 {
                least = (error, step);
            } else if error > 16.0 * least.0 {
                break;
            }
            step *= 0.840_896_415_253_714_5;
        }
        least.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn part(of: impl Fn(u64) -> f64) -> [Part; 1] {
        let weights = (0..1 << 15).map(|i| of(i) as f32).collect();
        [Part { weights, classes: Vec::new() }]
    }

    fn even(i: u64) -> f64 {
        (random::number(3, i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    #[test]
    fn levels_are_where_weights_are() {
        // A tenth goes thirty times as far.
        let parts = part(|i| even(i) * if i % 10 == 0 { 30.0 } else { 1.0 });
        let tails = Tails::of(&parts, 0.0, 30.0);
        for step in [0.3, 0.2, 0.1, 0.01] {
            let levels = tails.levels(step);
            let all = [&[96.0][..], &levels].concat();
            assert!(all.windows(2).all(|w| w[1] - w[0] >= 1.0), "{step}: {levels:?}");
            assert!(levels[OUTER - 1] >= 30.0 / step);
            // They are evenly distributed there, and so are nearly all levels.
            let widest = all.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
            assert!(
                step > 0.2 || widest < 2.0 * (30.0 / step - 96.0) / OUTER as f64,
                "{step}: {levels:?}"
            );
        }
        // One that is far away takes a few.
        let tails = Tails::of(&part(even), 0.0, 1e6);
        assert_eq!(tails.levels(0.005).iter().filter(|x| **x > 300.0).count(), 5);
    }

    #[test]
    fn a_smaller_step_is_worth_it_until_too_many_weights_are_beyond() {
        let plain = Tails::of(&part(even), 0.0, 1.0).finest();
        assert!((0.5..2.0).contains(&(plain * 127.0)), "{plain}");
        // As if it were not there.
        let lone = Tails::of(&part(even), 0.0, 1e6).finest();
        assert!((0.4..2.5).contains(&(lone * 127.0)), "{lone}");
        let heavy = part(|i| even(i) * if i % 10 == 0 { 30.0 } else { 1.0 });
        let heavy = Tails::of(&heavy, 0.0, 30.0).finest();
        assert!((0.05..0.25).contains(&heavy), "{heavy}");
    }
}
