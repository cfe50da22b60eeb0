//! Exact one-dimensional k-means: from a histogram, or sorted values, to the palette of least squared error, or of the least
//! whose codes have so many bits of entropy.

mod entropy;
#[cfg(test)]
mod oracle;
mod refine;
mod settle;
mod solve;
mod twofold;

pub use entropy::entries as entropy_entries;
pub use refine::{SLOTS, Tails, palette_of_histogram, relative_error};

use crate::{DType, decide::order_key, dtype};

/// Distinct values and how much each weighs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bins {
    /// Strictly ascending, finite.
    pub values: Vec<f64>,
    /// Positive whole numbers: how often the value occurs, or multiples of its importance.
    pub weights: Vec<f64>,
}

/// What a palette is to be good for.
///
/// # Example
///
/// ```
/// use tersor::kmeans::Goal;
///
/// assert_eq!(Goal::Entries(16).entries(), 16);
/// assert_eq!(Goal::Entropy(2.5).entries(), 32); // four times what three bits number
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The least squared error of at most so many entries, 1 to 256: [`palette`].
    Entries(usize),
    /// The least squared error of codes with so many bits of entropy, above 0 and up to 8: [`entropy_palette`].
    Entropy(f64),
}

impl Goal {
    /// The most entries that a palette may have.
    pub fn entries(self) -> usize {
        match self {
            Self::Entries(k) => k,
            Self::Entropy(bits) => entropy_entries(bits) as usize,
        }
    }

    /// The palette of bins.
    pub fn palette(self, bins: &Bins, dtype: DType) -> Palette {
        match self {
            Self::Entries(k) => palette(bins, k, dtype),
            Self::Entropy(bits) => entropy_palette(bins, bits, dtype),
        }
    }
}

/// A table of values, and which weight takes which.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Palette {
    /// Strictly ascending; values of the tensor's own type. Those of F64 are f32 values, because all that decides about F64
    /// weights takes them as f32: even of two distinct values, each is restored only to within 2^-24 of itself.
    pub entries: Vec<f32>,
    /// One less than the entries, not descending. A weight takes the entry whose number is that of the thresholds below it:
    /// on a threshold, the lower one.
    pub thresholds: Vec<f32>,
}

impl Bins {
    /// Bins of single values, from their [order keys](order_key) in ascending order, as
    /// [`sort_rows`](crate::kernels::sort_rows) gives them; both zeros are one value.
    pub fn of_keys(keys: &[u32]) -> Self {
        let (mut values, mut weights) = (vec![0.0; keys.len()], vec![0.0; keys.len()]);
        let one_zero = |key: u32| key + u32::from(key == order_key::of_f32(-0.0));
        // Without a branch on whether the value ends here, which nothing could predict.
        let (mut len, mut start) = (0, 0);
        for (i, key) in keys.iter().enumerate() {
            let key = one_zero(*key);
            values[len] = f64::from(order_key::to_f32(key));
            weights[len] = (i + 1 - start) as f64;
            let ends = keys.get(i + 1).is_none_or(|next| one_zero(*next) != key);
            len += usize::from(ends);
            start = if ends { i + 1 } else { start };
        }
        values.truncate(len);
        weights.truncate(len);
        Self { values, weights }
    }

    /// Bins of values in ascending order, equal ones together.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::kmeans::Bins;
    ///
    /// let bins = Bins::of_sorted([(-1.0, 1.0), (2.0, 1.0), (2.0, 3.0)]);
    /// assert_eq!((bins.values, bins.weights), (vec![-1.0, 2.0], vec![1.0, 4.0]));
    /// ```
    pub fn of_sorted(sorted: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let sorted = sorted.into_iter();
        let room = sorted.size_hint().1.unwrap_or(0);
        let mut bins = Self { values: Vec::with_capacity(room), weights: Vec::with_capacity(room) };
        for (value, weight) in sorted {
            match (bins.values.last(), bins.weights.last_mut()) {
                (Some(last), Some(sum)) if *last == value => *sum += weight,
                _ => {
                    bins.values.push(value);
                    bins.weights.push(weight);
                }
            }
        }
        bins
    }
}

/// The palette of at most `k` entries with the least (weighted) squared error.
///
/// The boundary between two entries is the midpoint of the two unrounded centroids, in f64, rounded down to f32, which no f32
/// weight can tell from the midpoint itself; entries are
/// the centroids rounded to `dtype`, equal ones merged. Fewer distinct values than `k` make a shorter palette without error
/// (of F64: with the rounding to f32 as its only error).
///
/// The error of the unrounded centroids is the least whatever the range of values and weights: no sum cancels, and all that
/// rounding may add is 2^-20 of that error.
///
/// - `bins`: as a histogram gives them; without any, the palette is a single zero.
/// - `k`: 1 to 256.
///
/// Agreement: exact: one written order of f64 operations.
///
/// # Source
///
/// Grønlund et al. 2017, arXiv 1701.07204.
///
/// # Example
///
/// ```
/// use tersor::{DType, kmeans::{Bins, palette}};
///
/// let bins = Bins::of_sorted([0.0, 1.0, 10.0, 11.0, 15.0].map(|value| (value, 1.0)));
/// let best = palette(&bins, 2, DType::F32);
/// assert_eq!(best.entries, [0.5, 12.0]); // the means of {0, 1} and {10, 11, 15}
/// assert_eq!(best.thresholds, [6.25]);
/// ```
pub fn palette(bins: &Bins, k: usize, dtype: DType) -> Palette {
    Palette::nearest(dtype, &optimal_centroids(bins, k))
}

fn optimal_centroids(bins: &Bins, k: usize) -> Vec<f64> {
    match bins.values.len() <= k {
        true => bins.values.clone(),
        false => centroids(bins, &solve::optimal_cuts(bins, k)),
    }
}

/// The palette whose codes have at most so many bits of entropy, with the least (weighted) squared error that is found.
///
/// `bits` are those of order 0, `Σ p log₂(1 / p)` per weight: what an entropy coder reaches (rANS to within 0.5 %), not the
/// width of a packed code, which is that of [`entropy_entries`]. At the entropy of an optimal palette of Gaussian weights the
/// error is 14 to 19 % below that palette's: entries lie at about equal steps, also where weights are rare.
///
/// Where the optimal palette of [`entropy_entries`] takes no more bits, it is the result; so weights with no more distinct
/// values, and no more entropy, are without error. Otherwise the partition may leave bits unused where no price of a bit leads
/// to one between two others: the values ±1 in equal numbers have one bit or none. It is the best one at some price, as far as
/// the solver sees, and not proved to be: on smooth densities `D + λ R` is within 0.2 % of the least possible up to four bits.
///
/// Thresholds lie at the ends of the histogram's bins, so that the codes of its weights have exactly the entropy that its
/// counts say; entries are the centroids rounded to `dtype`, equal ones merged.
///
/// - `bins`: as a histogram gives them, weights being counts; without any, the palette is a single zero.
/// - `bits`: above 0, up to 8.
///
/// Agreement: exact: one written order of f64 operations.
///
/// # Source
///
/// Chou, Lookabaugh, Gray 1989.
///
/// # Example
///
/// ```
/// use tersor::{DType, kmeans::{Bins, entropy_palette}};
///
/// // A half, a quarter and two eighths of eight weights are 1.75 bits.
/// let bins = Bins::of_sorted([(-4.0, 2.0), (0.0, 4.0), (3.0, 1.0), (8.0, 1.0)]);
/// assert_eq!(entropy_palette(&bins, 1.75, DType::F32).entries, [-4.0, 0.0, 3.0, 8.0]);
/// // With less the two nearest share a code, at the mean of four 0 and a 3.
/// assert_eq!(entropy_palette(&bins, 1.7, DType::F32).entries, [-4.0, 0.6, 8.0]);
/// ```
pub fn entropy_palette(bins: &Bins, bits: f64, dtype: DType) -> Palette {
    if bins.values.is_empty() {
        return Palette { entries: vec![0.0], thresholds: Vec::new() };
    }
    let k = entropy_entries(bits) as usize;
    let cuts = entropy::constrained_cuts(bins, bits, k);
    let centroids = centroids(bins, &cuts);
    let inner = &cuts[1..cuts.len() - 1];
    let ends = inner.iter().map(|cut| end_of_bin(bins.values[cut - 1], bins.values[*cut]));
    Palette::new(dtype, &centroids, ends)
}

/// The mean of every run, from the distances to its first value: sums of one sign, and exact where the values are close, so that
/// a mean in the middle of two values of a type is rounded as such.
fn centroids(bins: &Bins, cuts: &[usize]) -> Vec<f64> {
    let centroid = |c: &[usize]| {
        let (values, weights) = (&bins.values[c[0]..c[1]], &bins.weights[c[0]..c[1]]);
        let (mut weight, mut moment) = (0.0, 0.0);
        for (v, w) in values.iter().zip(weights) {
            weight += w;
            moment += w * (v - values[0]);
        }
        values[0] + moment / weight
    };
    cuts.windows(2).map(centroid).collect()
}

impl Palette {
    /// Of centroids, the nearest of which a weight takes.
    fn nearest(dtype: DType, centroids: &[f64]) -> Self {
        if centroids.is_empty() {
            return Self { entries: vec![0.0], thresholds: Vec::new() };
        }
        let middles = centroids.windows(2).map(|pair| below(0.5 * (pair[0] + pair[1])));
        Self::new(dtype, centroids, middles)
    }

    /// Rounds centroids, and leaves out those that are equal then.
    fn new(dtype: DType, centroids: &[f64], thresholds: impl Iterator<Item = f32>) -> Self {
        let rounded = round_to(dtype, centroids);
        let mut palette = Self { entries: vec![rounded[0]], thresholds: Vec::new() };
        for (threshold, entry) in thresholds.zip(&rounded[1..]) {
            if palette.entries.last() == Some(entry) {
                continue;
            }
            palette.entries.push(*entry);
            palette.thresholds.push(threshold);
        }
        palette
    }
}

/// The last f32 of the bin of a histogram whose mean is `value`, where the next bin has another: 2^12 keys, or one 16th or a
/// single one of them where the values were counted.
fn end_of_bin(value: f64, next: f64) -> f32 {
    let start = below(value);
    let key = order_key::of_f32(start);
    // Neither zero is above +0, so that -0 as a threshold would take both from the bins above.
    let last = if value < 0.0 { -f32::from_bits(1) } else { f32::MAX };
    let ends = [0xfff, 0xf].map(|low| order_key::to_f32(key | low).min(last));
    ends.into_iter().find(|end| f64::from(*end) < next).unwrap_or(start)
}

/// The largest f32 that is not above a value: no f32 lies between the two.
fn below(value: f64) -> f32 {
    let nearest = value as f32;
    let down = if f64::from(nearest) > value { nearest.next_down() } else { nearest };
    // Adding +0 makes of -0 the +0 that both zeros are not above.
    down + 0.0
}

/// Values as elements of `dtype`, widened again.
pub(crate) fn round_to(dtype: DType, values: &[f64]) -> Vec<f32> {
    let singles: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    let mut words = vec![0; crate::words(dtype, singles.len())];
    dtype::encode(dtype, &singles, &mut words, 0);
    let mut rounded = vec![0.0; singles.len()];
    dtype::decode(dtype, &words, 0, &mut rounded);
    // A palette holds one zero.
    rounded.iter().map(|v| v + 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_the_bins_of_their_values() {
        let values = [-2.5, -0.0, 0.0, 0.0, 1e-40, 7.0, 7.0];
        let keys = values.map(order_key::of_f32);
        assert_eq!(Bins::of_keys(&keys), Bins::of_sorted(values.map(|v| (f64::from(v), 1.0))));
        assert_eq!(Bins::of_keys(&[]), Bins::default());
        assert_eq!(Bins::of_keys(&[!0 >> 1, 1 << 31]).weights, [2.0]);
    }

    #[test]
    fn fewer_values_than_entries_have_no_error() {
        let bins = Bins { values: vec![-1.5, 0.0, 2.0], weights: vec![1.0, 5.0, 2.0] };
        let p = palette(&bins, 16, DType::F32);
        assert_eq!(p, Palette { entries: vec![-1.5, 0.0, 2.0], thresholds: vec![-0.75, 1.0] });
        assert_eq!(palette(&Bins::default(), 4, DType::F32).entries, [0.0]);
    }

    #[test]
    fn centroids_that_round_to_the_same_value_merge() {
        let bins = Bins { values: vec![1.0, 1.0001, 1.0002, 2.0], weights: vec![1.0; 4] };
        let p = palette(&bins, 3, DType::BF16);
        assert_eq!((p.entries, p.thresholds.len()), (vec![1.0, 2.0], 1));
    }

    #[test]
    fn a_threshold_separates_neighbours() {
        let ulp = |bits| f64::from(f32::from_bits(bits));
        for bits in [0x3f80_0001, 0x3f80_0002, 0xbf80_0001, 0xbf80_0002, 0x0000_0001, 0x8000_0001] {
            let (a, b) = (ulp(bits), ulp(bits + 1));
            let (a, b) = (a.min(b), a.max(b));
            assert_eq!(below(0.5 * (a + b)), a as f32, "{bits:x}");
        }
        assert_eq!(below(-1e-60), -f32::from_bits(1), "both zeros are above it");
        assert_eq!((below(-0.0).to_bits(), below(1e-60).to_bits()), (0, 0));
    }

    #[test]
    fn a_bin_ends_before_the_next() {
        let value = |key| f64::from(order_key::to_f32(key));
        for start in [0x3f80_0000, 0xbf80_0000, 0x7fff_e000u32] {
            // The mean of a bin whose values are not known, then a value of a counted bin, then one of 16.
            assert_eq!(
                f64::from(end_of_bin(value(start + 7), value(start + 4099))),
                value(start + 4095)
            );
            assert_eq!(f64::from(end_of_bin(value(start + 7), value(start + 8))), value(start + 7));
            assert_eq!(
                f64::from(end_of_bin(value(start + 7), value(start + 25))),
                value(start + 15)
            );
            let between = 0.5 * (value(start + 7) + value(start + 8));
            assert_eq!(f64::from(end_of_bin(between, value(start + 25))), value(start + 15));
        }
        // Zeros are above a bin that ends with -0, and in the bin of zero.
        assert_eq!(end_of_bin(-1e-44, 0.0), -f32::from_bits(1));
        assert_eq!(end_of_bin(0.0, 1.0), f32::from_bits(0xfff));
        assert_eq!(end_of_bin(0.0, 1e-45).to_bits(), 0);
    }

    #[test]
    fn entropy_worked_example() {
        // Eight weights: a half, a quarter and two eighths are 1.75 bits. With fewer the two that are closest share a code.
        let bins = Bins { values: vec![-4.0, 0.0, 3.0, 8.0], weights: vec![2.0, 4.0, 1.0, 1.0] };
        let exact = entropy_palette(&bins, 1.75, DType::F32);
        assert_eq!(exact.entries, [-4.0, 0.0, 3.0, 8.0]);
        let fewer = entropy_palette(&bins, 1.7, DType::F32);
        assert_eq!(fewer.entries, [-4.0, 0.6, 8.0]);
        assert_eq!(fewer.thresholds.iter().map(|t| t.floor()).collect::<Vec<_>>(), [-4.0, 3.0]);
        assert_eq!(entropy_palette(&bins, 0.1, DType::F32).entries, [0.375]);
        assert_eq!(entropy_palette(&Bins::default(), 2.0, DType::F32).entries, [0.0]);
        assert_eq!([0.1, 1.0, 2.5, 4.0, 5.0, 8.0].map(entropy_entries), [8, 8, 32, 64, 128, 256]);
    }

    #[test]
    fn worked_example() {
        // {0, 1} and {10, 11, 15}: centroids 0.5 and 12, boundary 6.25.
        let bins = Bins { values: vec![0.0, 1.0, 10.0, 11.0, 15.0], weights: vec![1.0; 5] };
        let p = palette(&bins, 2, DType::F32);
        assert_eq!(p, Palette { entries: vec![0.5, 12.0], thresholds: vec![6.25] });
        // With all importance on 15 the centroid follows it.
        let weighted = Bins { weights: vec![1.0, 1.0, 1.0, 1.0, 1e9], ..bins };
        assert!(palette(&weighted, 2, DType::F32).entries[1] > 14.9);
    }
}
