//! Range, mean and deviation of weights: exact, or f64 in one fixed order, whatever the machine and the number of threads.

use crate::{DType, decide::histogram::Histogram, dtype};
use multiversion::multiversion;

/// Elements that are taken together: they stay in the first cache for the second pass over them.
const PART: usize = 512;
/// Sums that run side by side; their number, not the machine's, fixes the order of additions.
const LANES: usize = 16;

/// What is known of some weights. Only those count that are finite as f32, as everywhere else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// How many there are.
    pub count: u64,
    /// Zeros of either sign among them.
    pub zeros: u64,
    /// The smallest, exactly; infinite without any.
    pub min: f64,
    /// The largest, exactly; infinite without any.
    pub max: f64,
    /// Σ w / count
    pub mean: f64,
    /// Σ (w - mean)²
    pub squares: f64,
}

impl Default for Moments {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, zeros: 0, min, max, mean: 0.0, squares: 0.0 }
    }
}

impl Moments {
    /// Those of `len` elements, given as little-endian words.
    pub fn of(dtype: DType, elements: &[u32], len: usize) -> Self {
        let (mut moments, mut part) = (Self::default(), [0.0; PART]);
        for first in (0..len).step_by(PART) {
            let (filled, rest) = part.split_at_mut(PART.min(len - first));
            dtype::decode_f64(dtype, elements, first, filled);
            // Not finite, so it does not count.
            rest.fill(f64::NAN);
            moments.merge(&of_part(&part));
        }
        moments
    }

    /// Those of a type that has a bin for every pattern.
    pub fn of_patterns(histogram: &Histogram) -> Self {
        let bins = histogram.bins();
        let mut moments = Self::default();
        for (value, n) in bins.values.iter().zip(&bins.weights).filter(|(v, _)| v.is_finite()) {
            let zeros = if *value == 0.0 { *n as u64 } else { 0 };
            let (min, max, mean) = (*value, *value, *value);
            moments.merge(&Self { count: *n as u64, zeros, min, max, mean, squares: 0.0 });
        }
        moments
    }

    /// Adds what follows.
    ///
    /// # Source
    ///
    /// Chan, Golub, LeVeque 1979, STAN-CS-79-773.
    pub fn merge(&mut self, next: &Self) {
        if next.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, next.count as f64);
        let step = next.mean - self.mean;
        self.mean += step * (b / (a + b));
        self.squares += next.squares + step * step * (a * b / (a + b));
        self.count += next.count;
        self.zeros += next.zeros;
        self.min = self.min.min(next.min);
        self.max = self.max.max(next.max);
    }

    /// √(Σ (w - mean)² / count), where there is anything.
    pub fn deviation(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.squares / self.count as f64).sqrt())
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn of_part(part: &[f64; PART]) -> Moments {
    let (lanes, _) = part.as_chunks::<LANES>();
    let finite = |w: f64| (w as f32).is_finite();
    let (mut counts, mut zeros, mut sums) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let (mut least, mut most) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    for chunk in lanes {
        for (l, w) in chunk.iter().enumerate() {
            counts[l] += if finite(*w) { 1.0 } else { 0.0 };
            zeros[l] += if *w == 0.0 { 1.0 } else { 0.0 };
            sums[l] += if finite(*w) { *w } else { 0.0 };
            least[l] = if finite(*w) && *w < least[l] { *w } else { least[l] };
            most[l] = if finite(*w) && *w > most[l] { *w } else { most[l] };
        }
    }
    let count: f64 = counts.iter().sum();
    let mean = if count > 0.0 { sums.iter().sum::<f64>() / count } else { 0.0 };
    let mut squares = [0.0; LANES];
    for chunk in lanes {
        for (l, w) in chunk.iter().enumerate() {
            squares[l] += if finite(*w) { (w - mean) * (w - mean) } else { 0.0 };
        }
    }
    Moments {
        count: count as u64,
        zeros: zeros.iter().sum::<f64>() as u64,
        min: least.into_iter().fold(f64::INFINITY, f64::min),
        max: most.into_iter().fold(f64::NEG_INFINITY, f64::max),
        mean,
        squares: squares.iter().sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Moments {
        let words: Vec<u32> =
            values.iter().flat_map(|v| [v.to_bits() as u32, (v.to_bits() >> 32) as u32]).collect();
        Moments::of(DType::F64, &words, values.len())
    }

    #[test]
    fn worked_example() {
        let m = of(&[1.0, -0.0, f64::NAN, 5.0, f64::INFINITY, -2.0, 1e39]);
        assert_eq!((m.count, m.zeros, m.min, m.max), (4, 1, -2.0, 5.0));
        assert_eq!((m.mean, m.squares), (1.0, 0.0 + 1.0 + 16.0 + 9.0));
        assert_eq!(of(&[f64::NAN]).deviation(), None);
        assert_eq!(of(&[0.1; 2000]).deviation().map(|d| d < 1e-16), Some(true));
    }

    #[test]
    fn a_large_mean_hides_no_deviation() {
        let values: Vec<f64> = (0..5000).map(|i| 1e9 + f64::from(i % 2)).collect();
        let m = of(&values);
        assert!((m.mean - (1e9 + 0.5)).abs() < 1e-6);
        assert!((m.deviation().unwrap() - 0.5).abs() < 1e-9);
    }
}
