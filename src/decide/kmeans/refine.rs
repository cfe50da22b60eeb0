//! From a histogram to a palette: solved on its bins and, where those are too wide for that, on the values in them.

use crate::{
    DType, Result,
    decide::{
        histogram::{Histogram, TAIL},
        kmeans::{Bins, Goal, Palette},
    },
};

/// Most bins whose values are counted one by one.
pub const SLOTS: usize = 2048;

/// Share of the error, per entry, that bins may hide. Gaussian weights hide 6e-6 of it with 16 entries, 1.5e-3 with 256.
const HIDDEN: f64 = 8e-6;

/// More distinct values than this are taken 16 neighbours at a time: their bins are then 1/256 as wide as the histogram's.
const DISTINCT: usize = 1 << 18;

/// How often each value occurs in some bins of a histogram, or how much it weighs.
#[derive(Clone, Debug)]
pub struct Tails {
    bins: Vec<u32>,
    counts: Vec<u64>,
}

impl Tails {
    /// Of bins in ascending order, with nothing counted yet.
    fn new(bins: Vec<u32>) -> Self {
        Self { counts: vec![0; bins.len() * TAIL], bins }
    }

    /// The bins, ascending.
    pub fn bins(&self) -> &[u32] {
        &self.bins
    }

    /// Counts order keys, each so many times. Keys in other bins are left out; keys of one bin in a row are found at once.
    pub fn add(&mut self, keys: impl IntoIterator<Item = (u32, u64)>) {
        let mut slot = 0;
        for (key, n) in keys {
            if self.bins.get(slot) != Some(&(key >> 12)) {
                match self.bins.binary_search(&(key >> 12)) {
                    Ok(found) => slot = found,
                    Err(_) => continue,
                }
            }
            self.counts[slot * TAIL + (key & 0xfff) as usize] += n;
        }
    }
}

/// The palette for the weights of a histogram, of at most k entries by its goal.
///
/// It is solved on the means of the histogram's bins. Bins hide no more than `H = Σ n (l - first)(last - l) ulp²`, where l is the
/// mean of a bin's n weights, of the squared error; where that is more than `8e-6 k` of the error E that is left, `count` is
/// asked for the values in the up to 2,048 bins that hide most, and the palette is solved again on those. So no bin hides a thing
/// where weights have at most k distinct values, and such a palette is without error.
///
/// With `r = H / E` of the bins that stay, the error of [`Goal::Entries`] is at most `(1 + r) / (1 - √r)²` times the least possible: 1.023 with 16
/// entries and 1.10 with 256, which no weights come near (Gaussian ones measure 1 + 4e-7 and 1 + 5e-5). Only weights that
/// spread evenly over more than 2,048 bins of equal width can exceed it: those evenly in ±[1, 2), with 256 entries, by r = 0.006.
///
/// - `count`: adds every weight of the histogram whose bin is asked for.
///
/// Agreement: exact: integer counts, then one written order of f64 operations.
///
/// # Errors
///
/// Those of `count`.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels, kmeans::{Goal, palette_of_histogram}};
///
/// let on = Backend::Cpu;
/// // The first two share a bin of the histogram.
/// let weights = Tensor::from_f32(&on, &[1.0, 1.0f32.next_up(), 2.0], 1)?;
/// let histogram = kernels::histogram(&on, &weights)?;
/// let palette = palette_of_histogram(&histogram, Goal::Entries(3), DType::F32, |mut tails| {
///     let found = kernels::histogram_tails(&on, &weights, tails.bins())?;
///     tails.add(found.into_iter().map(|(key, n)| (key, n.into())));
///     Ok(tails)
/// })?;
/// assert_eq!(palette.entries, [1.0, 1.0f32.next_up(), 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn palette_of_histogram(
    histogram: &Histogram,
    goal: Goal,
    dtype: DType,
    count: impl FnOnce(Tails) -> Result<Tails>,
) -> Result<Palette> {
    let bins = histogram.bins();
    let coarse = goal.palette(&bins, dtype);
    let mut hidden = histogram.hidden();
    let total: f64 = hidden.iter().map(|(_, h)| h).sum();
    if total <= HIDDEN * goal.entries() as f64 * squared_error(&bins, &coarse) {
        return Ok(coarse);
    }
    hidden.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    hidden.truncate(SLOTS);
    let mut wide: Vec<u32> = hidden.into_iter().map(|(bin, _)| bin).collect();
    wide.sort_unstable();
    let tails = count(Tails::new(wide))?;
    Ok(goal.palette(&refined(histogram, &tails), dtype))
}

/// The error of the best palette of `k` entries relative to the weights of a histogram, `‖w - q‖ / ‖w‖`: at most so much,
/// since weights that share a bin are taken to lie as far from its mean as they can. 0 where the error is.
///
/// - `k`: 1 to 256; `dtype`: that of the entries.
///
/// Agreement: exact: one written order of f64 operations.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels, kmeans::relative_error};
///
/// let on = Backend::Cpu;
/// let histogram = kernels::histogram(&on, &Tensor::from_f32(&on, &[3.0, 5.0], 1)?)?;
/// assert_eq!(relative_error(&histogram, 2, DType::F32), 0.0);
/// // One entry is 4: the error is √(1 + 1), the norm √(9 + 25).
/// assert_eq!(relative_error(&histogram, 1, DType::F32), (2f64 / 34.0).sqrt());
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn relative_error(histogram: &Histogram, k: usize, dtype: DType) -> f64 {
    let bins = histogram.bins();
    let hidden: f64 = histogram.hidden().iter().map(|(_, h)| h).sum();
    let error = squared_error(&bins, &crate::decide::kmeans::palette(&bins, k, dtype)) + hidden;
    let squares: f64 = bins.values.iter().zip(&bins.weights).map(|(v, n)| n * v * v).sum();
    if error == 0.0 { 0.0 } else { (error / squares).sqrt() }
}

/// The bins of a histogram, those whose values were counted replaced by these.
fn refined(histogram: &Histogram, tails: &Tails) -> Bins {
    let distinct = tails.counts.iter().filter(|n| **n > 0).count();
    let step = if distinct > DISTINCT { 16 } else { 1 };
    let mut slots = tails.bins.iter().zip(tails.counts.chunks_exact(TAIL)).peekable();
    let mut values = Vec::with_capacity(distinct.div_ceil(step) + histogram.counts.len() / 16);
    for (bin, n) in histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        match slots.next_if(|(slot, _)| **slot as usize == bin) {
            None => values.push((Histogram::mean(bin, *n, histogram.lows[bin]), *n as f64)),
            Some((_, counts)) => {
                for (i, counts) in counts.chunks(step).enumerate() {
                    let (mut n, mut lows) = (0, 0);
                    for (j, of_low) in counts.iter().enumerate() {
                        n += of_low;
                        lows += of_low * (i * step + j) as u64;
                    }
                    if n > 0 {
                        values.push((Histogram::mean(bin, n, lows), n as f64));
                    }
                }
            }
        }
    }
    Bins::of_sorted(values)
}

/// Σ w (v - entry of v)², in the order of the values.
fn squared_error(bins: &Bins, palette: &Palette) -> f64 {
    let (mut code, mut sum) = (0, 0.0);
    for (v, w) in bins.values.iter().zip(&bins.weights) {
        while palette.thresholds.get(code).is_some_and(|t| f64::from(*t) < *v) {
            code += 1;
        }
        let error = v - f64::from(palette.entries[code]);
        sum += w * (error * error);
    }
    sum
}
