//! Entropy-constrained scalar quantization: the partition of sorted values into runs of least squared error whose codes have no
//! more than so many bits of entropy.
//!
//! With a price λ on every bit the objective is `D + λ R`, where `D = Σ w (v - centroid)²` and `R = Σ w log₂(W / w of the
//! run)`. Its cells are runs of sorted values, because two parabolas `(v - c)² + λ bits` cross once. R spoils the Monge property
//! that [`solve`] lives on, so the program below tries every union of the cells of a fine palette, which is quadratic in their
//! number alone, and Lloyd's iteration then moves the boundaries on all bins. λ is moved until the entropy is the one asked for.
//!
//! Everything is computed in f64 with `+ - * /` in a fixed order, or by the `libm` crate, so that every machine finds the same
//! partition.
//!
//! Source: Chou, Lookabaugh, Gray 1989, "Entropy-constrained vector quantization", IEEE Trans. ASSP 37(1).

use crate::decide::kmeans::{
    Bins,
    solve::{self, ExactSums},
};
use std::f64::consts::LN_2;

/// Cells of the palette whose unions are tried.
const GRID: usize = 256;

/// Lloyd's steps at each price: the unions leave little to do.
const STEPS: usize = 8;

/// Prices tried at most, which only data of a few distinct values need.
const PRICES: usize = 64;

/// The most entries of a palette for so many bits: four times as many as that many bits could number, at most 256.
///
/// Gaussian weights use half of them; the rest is for heavy tails. An entry that is rare costs its 4 bytes and hardly a bit.
pub fn entries(bits: f64) -> u32 {
    (4 << bits.ceil() as u32).min(256)
}

/// Boundaries `0 = c₀ < c₁ < .. = B` of at most k runs whose codes have an entropy of at most `bits`, of little error.
///
/// Needs bins of positive weight.
pub(super) fn constrained_cuts(bins: &Bins, bits: f64, k: usize) -> Vec<usize> {
    let of = Runs::new(bins);
    // Where the optimal palette takes no more bits, there is nothing to trade.
    let optimal = of.optimal(k);
    if of.entropy(&optimal) <= bits {
        return optimal;
    }
    let grid = Grid::new(&of, of.optimal(GRID.max(2 * k)));
    let mut candidates = Vec::new();
    let found = search(&of, &grid, bits, k);
    let log_price = match found.above {
        Some(above) => {
            candidates.extend(of.splice(&above, &found.below, bits, k));
            found.log_price
        }
        // The number of entries is what limits the bits: only moving the optimal palette's boundaries is left.
        None => libm::log2(2.0 * LN_2 * of.error(&optimal) / of.weight),
    };
    candidates.extend([found.below, optimal]);
    let filled = candidates.into_iter().filter_map(|cuts| of.fill(cuts, log_price, bits));
    let least = filled.reduce(|a, b| if b.0 < a.0 { b } else { a });
    least.expect("what is below stays so at some price").1
}

/// Runs of bins i..j.
struct Runs<'a> {
    bins: &'a Bins,
    sums: ExactSums,
    weight: f64,
}

impl<'a> Runs<'a> {
    fn new(bins: &'a Bins) -> Self {
        let sums = ExactSums::new(bins);
        let weight = sums.weight(0, bins.values.len());
        Self { bins, sums, weight }
    }

    fn optimal(&self, k: usize) -> Vec<usize> {
        let n = self.bins.values.len();
        if n <= k { (0..=n).collect() } else { solve::optimal_cuts(self.bins, k) }
    }

    fn centroid(&self, i: usize, j: usize) -> f64 {
        // Within its run whatever the rounding, so that centroids ascend.
        self.sums.centroid(i, j).clamp(self.bins.values[i], self.bins.values[j - 1])
    }

    /// Bits of the code of a run.
    fn length(&self, i: usize, j: usize) -> f64 {
        libm::log2(self.weight / self.sums.weight(i, j))
    }

    fn bits(&self, i: usize, j: usize) -> f64 {
        self.sums.weight(i, j) * self.length(i, j)
    }

    fn entropy(&self, cuts: &[usize]) -> f64 {
        cuts.windows(2).map(|c| self.bits(c[0], c[1])).sum::<f64>() / self.weight
    }

    fn error_of(&self, i: usize, j: usize) -> f64 {
        let c = self.centroid(i, j);
        let of_bin = |(v, w): (&f64, &f64)| w * ((v - c) * (v - c));
        self.bins.values[i..j].iter().zip(&self.bins.weights[i..j]).map(of_bin).sum()
    }

    fn error(&self, cuts: &[usize]) -> f64 {
        cuts.windows(2).map(|c| self.error_of(c[0], c[1])).sum()
    }

    /// What `D + λ R` gains where the two runs at boundary i become one.
    fn merger(&self, price: f64, cuts: &[usize], i: usize) -> f64 {
        let (a, b, c) = (cuts[i - 1], cuts[i], cuts[i + 1]);
        let (left, right) = (self.sums.weight(a, b), self.sums.weight(b, c));
        let apart = self.centroid(b, c) - self.centroid(a, b);
        let worse = left * (right / (left + right)) * (apart * apart);
        worse - price * (self.bits(a, b) + self.bits(b, c) - self.bits(a, c))
    }

    /// Merges the runs for which it costs least until there are k.
    fn merge(&self, price: f64, cuts: &mut Vec<usize>, k: usize) {
        if cuts.len() <= k + 1 {
            return;
        }
        let mut costs: Vec<f64> =
            (1..cuts.len() - 1).map(|i| self.merger(price, cuts, i)).collect();
        while cuts.len() > k + 1 {
            let least = |a: usize, b: usize| if costs[b] < costs[a] { b } else { a };
            let i = (0..costs.len()).reduce(least).expect("k is at least 1");
            costs.remove(i);
            cuts.remove(i + 1);
            if i > 0 {
                costs[i - 1] = self.merger(price, cuts, i);
            }
            if i < costs.len() {
                costs[i] = self.merger(price, cuts, i + 1);
            }
        }
    }

    /// Lloyd's iteration: every value takes the centroid for which `(v - c)² + λ bits` is least, the lower one of two; runs that
    /// are left without a value disappear.
    fn lloyd(&self, price: f64, cuts: &mut Vec<usize>) {
        let values = &self.bins.values;
        // The parabolas that are lowest somewhere: centroid, bits, and the value above which each is.
        let mut lowest: Vec<(f64, f64, f64)> = Vec::with_capacity(cuts.len());
        for _ in 0..STEPS {
            lowest.clear();
            for run in cuts.windows(2) {
                let (c, bits) = (self.centroid(run[0], run[1]), self.length(run[0], run[1]));
                let mut from = f64::NEG_INFINITY;
                while let Some((last, of_last, since)) = lowest.last() {
                    from = 0.5 * (last + c) + price * (bits - of_last) / (2.0 * (c - last));
                    if from > *since {
                        break;
                    }
                    lowest.pop();
                    from = f64::NEG_INFINITY;
                }
                lowest.push((c, bits, from));
            }
            let mut moved = Vec::with_capacity(lowest.len() + 1);
            moved.push(0);
            for (_, _, from) in &lowest[1..] {
                let at = values.partition_point(|v| v <= from);
                if at > moved[moved.len() - 1] && at < values.len() {
                    moved.push(at);
                }
            }
            moved.push(values.len());
            if moved == *cuts {
                return;
            }
            *cuts = moved;
        }
    }

    /// Of the partitions that change over from one of two to the other, the one with the most bits that are allowed.
    ///
    /// Two that are equally good at one price, but far apart in bits, are two ways to partition many places, each of which is
    /// a choice of its own.
    fn splice(&self, above: &[usize], below: &[usize], bits: f64, k: usize) -> Option<Vec<usize>> {
        let mut best: Option<(f64, Vec<usize>)> = None;
        for (left, right) in [(above, below), (below, above)] {
            let mut so_far = 0.0;
            // Bits of the runs of the right one from each boundary on.
            let mut rest = vec![0.0; right.len()];
            for i in (0..right.len() - 1).rev() {
                rest[i] = rest[i + 1] + self.bits(right[i], right[i + 1]);
            }
            for i in 1..left.len() - 1 {
                so_far += self.bits(left[i - 1], left[i]);
                let j = right.partition_point(|cut| *cut <= left[i]);
                let all = (so_far + self.bits(left[i], right[j]) + rest[j]) / self.weight;
                let more = best.as_ref().is_none_or(|(most, _)| all > *most);
                if more && all <= bits && i + right.len() - j <= k {
                    best = Some((all, [&left[..=i], &right[j..]].concat()));
                }
            }
        }
        best.map(|(_, cuts)| cuts)
    }

    /// Moves the boundaries, at prices around the one found, until hardly a bit is left. The partition and its error; none if
    /// it takes too many bits at each.
    fn fill(&self, cuts: Vec<usize>, log_price: f64, bits: f64) -> Option<(f64, Vec<usize>)> {
        let mut best = (self.entropy(&cuts) <= bits).then(|| (self.error(&cuts), cuts.clone()));
        // The optimal palette may be a hair above, where next to no price is enough.
        let reach = if best.is_some() { 2.0 } else { 40.0 };
        let (mut low, mut high) = (log_price - reach, log_price + 2.0);
        for _ in 0..16 {
            let middle = 0.5 * (low + high);
            let mut moved = cuts.clone();
            self.lloyd(libm::exp2(middle), &mut moved);
            if self.entropy(&moved) > bits {
                low = middle;
                continue;
            }
            high = middle;
            let error = self.error(&moved);
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, moved));
            }
        }
        best
    }
}

/// Error and bits of every union of neighbouring cells of a palette.
struct Grid {
    cuts: Vec<usize>,
    /// Of cells i..=j, at `j (j + 1) / 2 + i`.
    errors: Vec<f64>,
    bits: Vec<f64>,
}

impl Grid {
    fn new(of: &Runs, cuts: Vec<usize>) -> Self {
        let n = cuts.len() - 1;
        let cells = cuts.windows(2).map(|c| {
            (of.sums.weight(c[0], c[1]), of.centroid(c[0], c[1]), of.error_of(c[0], c[1]))
        });
        let cells: Vec<(f64, f64, f64)> = cells.collect();
        let (mut errors, mut bits) = (vec![0.0; n * (n + 1) / 2], vec![0.0; n * (n + 1) / 2]);
        for i in 0..n {
            // Cell by cell, and only sums of what is positive: an outlier does not drown the error of others.
            let (mut weight, mut mean, mut error) = (0.0, 0.0, 0.0);
            for (j, (w, c, e)) in cells.iter().enumerate().skip(i) {
                let (share, apart) = (w / (weight + w), c - mean);
                error += e + weight * share * (apart * apart);
                mean += share * apart;
                weight += w;
                errors[j * (j + 1) / 2 + i] = error;
                bits[j * (j + 1) / 2 + i] = weight * libm::log2(of.weight / weight);
            }
        }
        Self { cuts, errors, bits }
    }

    /// The error of all cells in one.
    fn spread(&self) -> f64 {
        self.errors[self.errors.len() - (self.cuts.len() - 1)]
    }

    /// The best partition into unions for a price per bit.
    fn priced(&self, price: f64) -> Vec<usize> {
        let n = self.cuts.len() - 1;
        let (mut best, mut from) = (vec![0.0; n + 1], vec![0; n + 1]);
        for j in 0..n {
            let first = j * (j + 1) / 2;
            let (errors, bits) = (&self.errors[first..][..=j], &self.bits[first..][..=j]);
            let (mut least, mut at) = (f64::INFINITY, 0);
            for (i, ((before, error), bits)) in best.iter().zip(errors).zip(bits).enumerate() {
                let cost = before + (error + price * bits);
                if cost < least {
                    (least, at) = (cost, i);
                }
            }
            (best[j + 1], from[j + 1]) = (least, at);
        }
        let (mut cuts, mut j) = (vec![self.cuts[n]], n);
        while j > 0 {
            j = from[j];
            cuts.push(self.cuts[j]);
        }
        cuts.reverse();
        cuts
    }
}

/// What the search for a price has found.
struct Found {
    /// The partition with the fewest bits above those asked for; none where no price is low enough.
    above: Option<Vec<usize>>,
    /// One with no more than those.
    below: Vec<usize>,
    /// The price of that.
    log_price: f64,
}

/// Moves the price until the entropy is just above the bits on one side and below them on the other.
fn search(of: &Runs, grid: &Grid, bits: f64, k: usize) -> Found {
    // One run has no entropy, whatever the price.
    let (mut above, mut below) = (None, vec![0, of.bins.values.len()]);
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    let (mut bits_low, mut bits_high) = (0.0, 0.0);
    // At many levels D falls as 4^-R, so a bit is worth 2 ln 2 D.
    let worth = 2.0 * LN_2 * grid.spread() / of.weight;
    let (mut log_price, mut leap) = (libm::log2(worth) - 2.0 * bits, 1.0);
    for step in 0..PRICES {
        let price = libm::exp2(log_price);
        let mut cuts = grid.priced(price);
        of.merge(price, &mut cuts, k);
        of.lloyd(price, &mut cuts);
        let entropy = of.entropy(&cuts);
        if entropy > bits {
            (low, bits_low, above) = (log_price, entropy, Some(cuts));
        } else {
            (high, bits_high, below) = (log_price, entropy, cuts);
        }
        if low.is_finite() && high.is_finite() {
            if high - low < 1e-3 {
                break;
            }
            let share =
                if step % 3 == 2 { 0.5 } else { (bits_low - bits) / (bits_low - bits_high) };
            log_price = low + share.clamp(0.05, 0.95) * (high - low);
        } else {
            // Where the number of entries limits the bits, no price is low enough.
            if leap > 256.0 {
                break;
            }
            // Always beyond the guess, and ever further.
            log_price += 2.0 * (entropy - bits) + if entropy > bits { leap } else { -leap };
            leap *= 2.0;
        }
    }
    Found { above, below, log_price: if high.is_finite() { high } else { log_price } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bins of equal width from -range to range, weighted by a density.
    fn law(n: usize, range: f64, density: impl Fn(f64) -> f64) -> Bins {
        let value = |i| range * ((2 * i + 1) as f64 / n as f64 - 1.0);
        let values: Vec<f64> = (0..n).map(value).collect();
        let weights = values.iter().map(|v| (1e9 * density(*v)).ceil()).collect();
        Bins { values, weights }
    }

    fn laws(n: usize) -> [(&'static str, Bins); 4] {
        [
            ("gaussian", law(n, 5.0, |x| (-0.5 * x * x).exp())),
            ("laplace", law(n, 15.0, |x| (-x.abs()).exp())),
            ("student", law(n, 40.0, |x| (1.0 + x * x / 3.0).powi(-2))),
            ("uniform", law(n, 1.0, |_| 1.0)),
        ]
    }

    fn constrained(bins: &Bins, bits: f64) -> (f64, f64, Vec<usize>) {
        let cuts = constrained_cuts(bins, bits, entries(bits) as usize);
        let of = Runs::new(bins);
        (of.entropy(&cuts), of.error(&cuts) / of.weight, cuts)
    }

    #[test]
    fn gaussian_weights_lose_14_to_19_percent_less_than_in_an_optimal_palette() {
        let (_, bins) = &laws(8000)[0];
        let of = Runs::new(bins);
        // Bits and error of optimal palettes: Max 1960.
        for (k, bits, error, share) in
            [(4, 1.911, 0.1175, 0.856), (8, 2.825, 0.03455, 0.821), (16, 3.765, 0.0095, 0.811)]
        {
            let optimal = of.optimal(k);
            let (entropy, least) = (of.entropy(&optimal), of.error(&optimal) / of.weight);
            assert!((entropy - bits).abs() < 2e-3 && (least / error - 1.0).abs() < 2e-3, "{k}");
            let (got, lost, cuts) = constrained(bins, entropy);
            assert!(got <= entropy && got > entropy - 1e-3, "{k}: {got} of {entropy} bits");
            assert!((lost / least - share).abs() < 3e-3, "{k}: {}", lost / least);
            assert!(cuts.len() - 1 <= 2 * k + 1, "{k}: {}", cuts.len() - 1);
        }
    }

    #[test]
    fn smooth_laws_use_the_bits_they_are_given_and_lose_less_with_more() {
        for (law, bins) in &laws(4000)[..3] {
            let mut before = f64::INFINITY;
            for step in 1..=16 {
                let bits = 0.4 * f64::from(step);
                let (entropy, error, cuts) = constrained(bins, bits);
                assert!(entropy <= bits, "{law}: {entropy} of {bits}");
                assert!(entropy > 0.985 * bits, "{law}: {entropy} of {bits}");
                assert!(error < before, "{law} at {bits}: {error}");
                assert!(cuts.len() - 1 <= entries(bits) as usize, "{law} at {bits}");
                assert_eq!((cuts[0], cuts[cuts.len() - 1]), (0, 4000));
                assert!(cuts.windows(2).all(|c| c[0] < c[1]), "{law} at {bits}");
                before = error;
            }
        }
    }

    /// The least `D + λ R` of any partition.
    fn least_cost(of: &Runs, price: f64) -> f64 {
        let n = of.bins.values.len();
        let mut best = vec![f64::INFINITY; n + 1];
        best[0] = 0.0;
        for j in 1..=n {
            // The run i..j grows downwards.
            let (mut weight, mut mean, mut error) = (0.0, 0.0, 0.0);
            for i in (0..j).rev() {
                let (v, w) = (of.bins.values[i], of.bins.weights[i]);
                error += weight * w / (weight + w) * (v - mean) * (v - mean);
                mean += w / (weight + w) * (v - mean);
                weight += w;
                let cost = best[i] + error + price * weight * (of.weight / weight).log2();
                best[j] = best[j].min(cost);
            }
        }
        best[n]
    }

    #[test]
    fn a_price_is_answered_by_nearly_the_best_partition() {
        for (law, bins) in laws(2000) {
            let of = Runs::new(&bins);
            let grid = Grid::new(&of, of.optimal(GRID));
            // From more than four bits to none.
            for octave in [-8, -6, -4, -2, 0] {
                let price = grid.spread() / of.weight * f64::from(octave).exp2();
                let mut cuts = grid.priced(price);
                of.lloyd(price, &mut cuts);
                let cost = of.error(&cuts) + price * of.entropy(&cuts) * of.weight;
                let ratio = cost / least_cost(&of, price);
                assert!((1.0 - 1e-9..1.002).contains(&ratio), "{law}, 2^{octave}: {ratio}");
            }
        }
    }

    #[test]
    fn a_price_on_few_bins_is_answered_by_the_best_partition() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64
        };
        for _ in 0..50 {
            let mut values: Vec<f64> = (0..60).map(|_| random()).collect();
            values.sort_by(f64::total_cmp);
            values.dedup();
            let weights = values.iter().map(|_| 1.0 + (random() / 1e4).floor()).collect();
            let bins = Bins { values, weights };
            let of = Runs::new(&bins);
            let grid = Grid::new(&of, of.optimal(GRID));
            for octave in [-14, -10, -6, -2] {
                let price = grid.spread() / of.weight * f64::from(octave).exp2();
                let cuts = grid.priced(price);
                let cost = of.error(&cuts) + price * of.entropy(&cuts) * of.weight;
                let best = least_cost(&of, price);
                assert!((cost - best).abs() <= 1e-9 * best, "2^{octave}: {cost} > {best}");
                // Lloyd's iteration cannot improve it, and must not make it worse.
                let mut moved = cuts.clone();
                of.lloyd(price, &mut moved);
                let after = of.error(&moved) + price * of.entropy(&moved) * of.weight;
                assert!((after - best).abs() <= 1e-9 * best, "2^{octave}: {after} > {best}");
            }
        }
    }

    #[test]
    fn merging_leaves_as_many_runs_as_asked_for() {
        let (_, bins) = &laws(2000)[1];
        let of = Runs::new(bins);
        let mut cuts = of.optimal(64);
        for k in [64, 63, 20, 2, 1] {
            let mut merged = cuts.clone();
            of.merge(1e-3, &mut merged, k);
            assert_eq!((merged.len(), merged[0], merged[k]), (k + 1, 0, 2000));
            assert!(merged.iter().all(|cut| cuts.contains(cut)));
            cuts = merged;
        }
        // Of three runs those two that are close together.
        let bins = Bins { values: vec![0.0, 1.0, 1.1], weights: vec![1.0; 3] };
        let mut cuts = vec![0, 1, 2, 3];
        Runs::new(&bins).merge(0.0, &mut cuts, 2);
        assert_eq!(cuts, [0, 1, 3]);
    }

    #[test]
    fn odd_data_stay_within_their_bits() {
        let gaussian = &laws(500)[0].1;
        let with = |outlier: f64| {
            let mut bins = gaussian.clone();
            match outlier < 0.0 {
                true => {
                    bins.values.insert(0, outlier);
                    bins.weights.insert(0, 1.0);
                }
                false => {
                    bins.values.push(outlier);
                    bins.weights.push(1.0);
                }
            }
            bins
        };
        let cases = [
            ("one value", Bins { values: vec![3.0], weights: vec![7.0] }),
            ("two values", Bins { values: vec![-1.0, 1.0], weights: vec![5.0, 5.0] }),
            ("two uneven values", Bins { values: vec![0.0, 1.0], weights: vec![1e6, 1.0] }),
            ("mostly zero", {
                let mut bins = gaussian.clone();
                bins.weights[250] = 1e12;
                bins
            }),
            ("outlier", with(1e4)),
            ("outlier below", with(-1e4)),
            ("huge outlier", with(3e38)),
            ("huge outlier below", with(-3e38)),
            (
                "huge range",
                Bins {
                    values: (0..600)
                        .map(|i| f64::from(i - 300) * 10f64.powi(i32::abs(i - 300) / 10))
                        .collect(),
                    weights: vec![1.0; 600],
                },
            ),
            (
                "tiny",
                Bins {
                    values: (0..500).map(|i| f64::from(i) * 1e-45).collect(),
                    weights: vec![1.0; 500],
                },
            ),
        ];
        for (case, bins) in &cases {
            for bits in [1e-9, 0.01, 0.5, 1.0, 2.5, 7.99, 8.0] {
                let (entropy, error, cuts) = constrained(bins, bits);
                assert!(entropy <= bits && error.is_finite(), "{case}: {entropy} of {bits}");
                assert!(cuts.len() - 1 <= entries(bits) as usize, "{case} at {bits}");
                assert!(cuts.windows(2).all(|c| c[0] < c[1]), "{case} at {bits}");
            }
        }
        // What an outlier costs: hardly more than its own code.
        for case in [with(1e4), with(-1e4), with(1e9), with(-1e20), with(3e38), with(-3e38)] {
            let (alone, lost) = (constrained(gaussian, 2.5).1, constrained(&case, 2.5).1);
            assert!(lost < 1.02 * alone, "{lost} > {alone}");
        }
        // As much entropy as the values have: no error.
        assert_eq!(constrained(&cases[1].1, 1.0).2, [0, 1, 2]);
        assert_eq!(constrained(&cases[1].1, 0.99).2, [0, 2]);
        assert_eq!(constrained(&cases[2].1, 0.01).1, 0.0);
    }
}
