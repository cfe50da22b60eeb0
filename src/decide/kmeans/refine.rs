//! From a histogram to a palette: solved on its bins and, where those are too wide for that, on the values in them.

use crate::{
    DType, Result,
    decide::{
        histogram::{Count, Histogram, TAIL},
        kmeans::{Bins, Goal, Palette, below, optimal_centroids, settle::settle},
        order_key,
    },
};

/// Most bins whose values are counted one by one: those that hide most, and those around the boundaries of palettes.
pub const SLOTS: usize = WIDE + 255 + 2 * AROUND;

/// Most bins whose values are counted because they hide much.
const WIDE: usize = 2048;

/// So many bins on either side of boundaries, shared by all: those of 16 entries move by up to four bins, those of 256 stay.
const AROUND: usize = 64;

/// Share of the error, per entry, that bins may hide. Gaussian weights hide 6e-6 of it with 16 entries, 1.5e-3 with 256.
const HIDDEN: f64 = 8e-6;

/// More distinct values than this are taken 16 neighbours at a time: their bins are then 1/256 as wide as the histogram's.
const DISTINCT: usize = 1 << 18;

/// How often each value occurs in some bins of a histogram, or how much it weighs.
#[derive(Clone, Debug)]
pub struct Tails<N = u64> {
    bins: Vec<u32>,
    counts: Vec<N>,
}

impl<N: Count> Tails<N> {
    /// Of bins in ascending order, with nothing counted yet.
    fn new(bins: Vec<u32>) -> Self {
        Self { counts: vec![N::default(); bins.len() * TAIL], bins }
    }

    /// The bins, ascending.
    pub fn bins(&self) -> &[u32] {
        &self.bins
    }

    /// The counts of a bin.
    fn slot(&self, bin: u32) -> Option<&[N]> {
        let slot = self.bins.binary_search(&bin).ok()?;
        Some(&self.counts[slot * TAIL..][..TAIL])
    }

    /// Counts order keys, each so many times. Keys in other bins are left out; keys of one bin in a row are found at once.
    pub fn add(&mut self, keys: impl IntoIterator<Item = (u32, N)>) {
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
/// Of types of 16 and 8 bits it is the [optimum](crate::kmeans::palette). Bins of F32 hold up to 4,096 values, and hide at most
/// `Σ n (l - first)(last - l) ulp²` of the squared error, where l is the mean of a bin's n weights. So the palette is solved on
/// the means of bins. Where they hide more than `8e-6 k` of the error that is left,
///
/// 1. it is solved again, with the values in the up to 2,048 bins that hide most, which `count` is asked for: no bin hides a
///    thing where weights have at most k distinct values, and such a palette is without error;
/// 2. that of [`Goal::Entries`] is moved by Lloyd's iteration on the values in the bins around its boundaries, which `count` is
///    asked for, too, until no boundary moves.
///
/// No palette has boundaries in more than k - 1 bins. With H what those k - 1 hide that hide most among the bins that were not
/// counted, and `r = H / E`, the error E of [`Goal::Entries`] is at most `1 / (√(1 - r) - √r)²` times the least possible: to draw the
/// weights of the bins in which the best palette has boundaries together changes the norm of all errors by no more than √H, and
/// then a palette with its boundaries between bins is as good. Gaussian weights have 1.0003 with 16 entries and 1.02 with 256;
/// where nothing is counted it is 1.03 and 1.1 for any. What is measured for Gaussian weights is 1 + 4e-7 and 1 + 5e-5, and
/// 1 + 1.7e-4 for those evenly in ±[1, 2) and 256 entries.
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
pub fn palette_of_histogram<N: Count>(
    histogram: &Histogram<N>,
    goal: Goal,
    dtype: DType,
    mut count: impl FnMut(Tails<N>) -> Result<Tails<N>>,
) -> Result<Palette> {
    let bins = histogram.bins();
    let coarse = goal.palette(&bins, dtype);
    let mut hidden = histogram.hidden();
    let total: f64 = hidden.iter().map(|(_, h)| h).sum();
    if total <= HIDDEN * goal.entries() as f64 * squared_error(&bins, &coarse) {
        return Ok(coarse);
    }
    hidden.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    hidden.truncate(WIDE);
    let mut wide: Vec<u32> = hidden.into_iter().map(|(bin, _)| bin).collect();
    wide.sort_unstable();
    let mut tails = vec![count(Tails::new(wide))?];
    let bins = refined(histogram, &tails, &[]);
    let Goal::Entries(k) = goal else { return Ok(goal.palette(&bins, dtype)) };
    let mut centroids = optimal_centroids(&bins, k);
    let around = around_boundaries(histogram, &centroids);
    let counted = |bin: &u32| tails[0].slot(*bin).is_some();
    let wide: Vec<u32> = around.iter().copied().filter(|bin| !counted(bin)).collect();
    if !wide.is_empty() {
        tails.push(count(Tails::new(wide))?);
    }
    settle(&refined(histogram, &tails, &around), &mut centroids);
    Ok(Palette::nearest(dtype, &centroids))
}

/// The bins that hide something and hold the middle of two centroids, or lie beside one that does.
fn around_boundaries<N: Count>(histogram: &Histogram<N>, centroids: &[f64]) -> Vec<u32> {
    let boundary = |pair: &[f64]| order_key::of_f32(below(0.5 * (pair[0] + pair[1]))) >> 12;
    let beside = (AROUND / centroids.len()) as u32;
    let last = histogram.counts.len() as u32 - 1;
    let near = |bin: u32| bin.saturating_sub(beside)..=(bin + beside).min(last);
    let all = centroids.windows(2).map(boundary).flat_map(near);
    let mut around: Vec<u32> = all.filter(|bin| histogram.hides(*bin as usize) > 0.0).collect();
    around.sort_unstable();
    around.dedup();
    around
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
pub fn relative_error<N: Count>(histogram: &Histogram<N>, k: usize, dtype: DType) -> f64 {
    let bins = histogram.bins();
    let hidden: f64 = histogram.hidden().iter().map(|(_, h)| h).sum();
    let error = squared_error(&bins, &crate::decide::kmeans::palette(&bins, k, dtype)) + hidden;
    let squares: f64 = bins.values.iter().zip(&bins.weights).map(|(v, n)| n * v * v).sum();
    if error == 0.0 { 0.0 } else { (error / squares).sqrt() }
}

/// The bins of a histogram, those whose values were counted replaced by these; where they are too many, by 16 neighbours at a
/// time, except in the bins of `single`.
fn refined<N: Count>(histogram: &Histogram<N>, tails: &[Tails<N>], single: &[u32]) -> Bins {
    let distinct = |tails: &Tails<N>| tails.counts.iter().filter(|n| **n > N::default()).count();
    let distinct: usize = tails.iter().map(distinct).sum();
    let coarse = if distinct > DISTINCT { 16 } else { 1 };
    let mut values = Vec::with_capacity(distinct + histogram.counts.len() / 16);
    for (bin, n) in histogram.counts.iter().enumerate().filter(|(_, n)| **n > N::default()) {
        let Some(counts) = tails.iter().find_map(|tails| tails.slot(bin as u32)) else {
            values.push((Histogram::mean(bin, *n, histogram.lows[bin]), n.to_f64()));
            continue;
        };
        let step = if single.binary_search(&(bin as u32)).is_ok() { 1 } else { coarse };
        for (i, counts) in counts.chunks(step).enumerate() {
            let (mut n, mut lows) = (N::default(), N::default());
            for (j, of_low) in counts.iter().enumerate() {
                n += *of_low;
                lows += *of_low * N::from((i * step + j) as u32);
            }
            if n > N::default() {
                values.push((Histogram::mean(bin, n, lows), n.to_f64()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{kmeans::palette, order_key::to_f32};

    /// The palette of values, and how often they were counted.
    fn of(values: &[f32], k: usize) -> (Palette, usize) {
        let mut histogram = Histogram::<u64>::of_nothing(DType::F32);
        let keys: Vec<u32> = values.iter().map(|v| order_key::of_f32(*v)).collect();
        for key in &keys {
            histogram.counts[(key >> 12) as usize] += 1;
            histogram.lows[(key >> 12) as usize] += u64::from(key & 0xfff);
        }
        let mut passes = 0;
        let found = palette_of_histogram(&histogram, Goal::Entries(k), DType::F32, |mut tails| {
            passes += 1;
            tails.add(keys.iter().map(|key| (*key, 1)));
            Ok(tails)
        });
        (found.expect("counting does not fail"), passes)
    }

    /// The error relative to that of the optimum on single values.
    fn excess(values: &[f32], k: usize) -> (f64, usize) {
        let mut keys: Vec<u32> = values.iter().map(|v| order_key::of_f32(*v)).collect();
        keys.sort_unstable();
        let bins = Bins::of_sorted(keys.iter().map(|key| (f64::from(to_f32(*key)), 1.0)));
        let (found, passes) = of(values, k);
        let least = squared_error(&bins, &palette(&bins, k, DType::F32));
        (squared_error(&bins, &found) / least - 1.0, passes)
    }

    #[test]
    fn palettes_of_bins_are_as_good_as_those_of_single_values() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut laws: Vec<(&str, Vec<f32>)> = Vec::new();
        // Evenly in ±[1, 2), where every bin has as many weights and a palette of 256 entries 16 bins an entry.
        let even = (0..65536).map(|i| (1.0 + uniform()) as f32 * [1.0, -1.0][i % 2]).collect();
        laws.push(("even", even));
        let gaussian = (0..65536).map(|_| {
            (0.02 * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
                as f32
        });
        let gaussian: Vec<f32> = gaussian.collect();
        let with = |outliers: [f32; 2]| gaussian.iter().copied().chain(outliers).collect();
        laws.push(("outliers", with([-3e38, 1e20])));
        laws.push(("gaussian", gaussian.clone()));
        laws.push(("around one", gaussian.iter().map(|v| 1.0 + v).collect()));
        for (law, values) in &laws {
            for k in [2, 16, 256] {
                let (excess, passes) = excess(values, k);
                // With 256 weights an entry many palettes are stable that are a little worse than the best, the more so
                // where all weights are equally dense.
                let limit = match (*law, k) {
                    ("even", 256) => 3e-4,
                    (_, 256) => 1e-4,
                    _ => 1e-5,
                };
                assert!(excess < limit, "{law}, k = {k}: {excess:e} in {passes} passes");
                assert!(passes <= 2, "{law}, k = {k}: {passes} passes");
            }
        }
    }

    #[test]
    fn bins_of_one_value_are_not_counted() {
        let values: Vec<f32> = (0..4096).map(|i| (i % 512) as f32).collect();
        assert_eq!(of(&values, 16).1, 0);
    }
}
