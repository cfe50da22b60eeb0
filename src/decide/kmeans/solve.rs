//! The partition of sorted values into k runs of least squared error: the global optimum.
//!
//! Lagrangian relaxation (parametric search): with a price λ on every run, one dynamic program that is free to choose the
//! number of runs takes O(B log B) time and O(B) memory; λ is moved until it chooses k. Where ties leave no λ that does, the
//! layered program decides.
//!
//! The error of a run is a difference of prefix sums. Those of f64 decide wherever a bound on their rounding is less than 2^-20
//! of the error that is left; elsewhere, as where a few values are 10^9 times the others, [`Twofold`] ones do.
//!
//! Every number that can change the result is computed with `+ - * /` in a fixed order, or by the `libm` crate, so that every
//! machine finds the same partition. Errors are equal if their computed values are; then the lower boundary wins.
//!
//! Sources: Grønlund, Larsen, Mathiasen, Nielsen, Schneider, Song 2017, arXiv 1701.07204; Aggarwal, Schieber, Tokuyama 1994.

use crate::decide::kmeans::{
    Bins,
    twofold::{Twofold, two_sum},
};

/// The share of the error, 2^-20, that the rounding of f64 sums may hide.
const ROUNDING: f64 = 1.0 / 1_048_576.0;

/// Prices tried by interpolation. Only data whose error changes by many orders of magnitude between two numbers of runs need
/// more.
const GUESSES: usize = 40;

/// Boundaries `0 = c₀ < c₁ < .. < cₖ = B` of the k runs of least squared error.
///
/// Needs `1 <= k < bins.len()`.
pub(super) fn optimal_cuts(bins: &Bins, k: usize) -> Vec<usize> {
    if k == 1 {
        return vec![0, bins.values.len()];
    }
    let sums = Sums::new(bins);
    let mut cuts = companded(bins, k);
    lloyd(bins, &sums, &mut cuts);
    let (cuts, price) = search(&sums, k, first_price(sums.error(&cuts), k));
    match sums.rounding(k) <= ROUNDING * sums.error(&cuts) {
        true => cuts,
        false => exactly_optimal(&ExactSums::new(bins), k, cuts, price),
    }
}

/// For a smooth density the error falls as k^-2, so a run is worth about 2 SSE / k.
fn first_price(error: f64, k: usize) -> f64 {
    (1.93 * error / k as f64).max(f64::MIN_POSITIVE)
}

/// The same from sums of twice the precision, and from a partition into k runs and its price to begin with.
fn exactly_optimal(sums: &ExactSums, k: usize, mut cuts: Vec<usize>, price: f64) -> Vec<usize> {
    let mut error = sums.error(&cuts);
    let mut start = if price > 0.0 && price <= error { price } else { first_price(error, k) };
    loop {
        let better = search(sums, k, start).0;
        let before = error;
        error = sums.error(&better);
        if error < before {
            cuts = better;
        }
        // The program adds prices to errors: those that are far below the price are lost, so the price has to fit the error.
        if !(error > 0.0 && error < ROUNDING * before) {
            return cuts;
        }
        start = first_price(error, k);
    }
}

/// What the partitions of bins cost: their error, less whatever is the same for all.
trait Costs {
    type Cost: Copy + PartialOrd;
    const ZERO: Self::Cost;
    const INFINITY: Self::Cost;

    /// Number of bins.
    fn len(&self) -> usize;

    /// What costs `before` and a run of bins i..j more.
    fn then(&self, before: Self::Cost, i: usize, j: usize) -> Self::Cost;

    /// With the price of a run.
    fn paid(cost: Self::Cost, price: f64) -> Self::Cost;

    /// The error of a partition.
    fn error(&self, cuts: &[usize]) -> f64;
}

/// Prefix sums of weights and of mean-centred values. The error of a partition is a constant minus the sum of its gains, so
/// no prefix sum of squares is needed, which is faster and better conditioned.
struct Sums {
    len: usize,
    /// Weight and moment of the bins before each.
    before: Vec<[f64; 2]>,
    total: f64,
    mean: f64,
    /// The largest distance from the mean, the sum of all, and the least weight.
    farthest: f64,
    distances: f64,
    lightest: f64,
}

impl Sums {
    fn new(bins: &Bins) -> Self {
        let len = bins.values.len();
        let weights: f64 = bins.weights.iter().sum();
        let mean = bins.values.iter().zip(&bins.weights).map(|(v, w)| v * w).sum::<f64>() / weights;
        let (mut before, mut total) = (vec![[0.0; 2]; len + 1], 0.0);
        let (mut distances, mut lightest) = (0.0, f64::INFINITY);
        let (mut moment, mut lost) = (0.0, 0.0);
        for i in 0..len {
            let (v, w) = (bins.values[i] - mean, bins.weights[i]);
            let (sum, rest) = two_sum(moment, w * v);
            (moment, lost) = (sum, lost + rest);
            before[i + 1] = [before[i][0] + w, moment + lost];
            total += w * v * v;
            distances += (w * v).abs();
            lightest = f64::min(lightest, w);
        }
        let farthest = (bins.values[0] - mean).abs().max((bins.values[len - 1] - mean).abs());
        Self { len, before, total, mean, farthest, distances, lightest }
    }

    /// By how much the error falls when bins i..j get a centroid of their own.
    #[inline(always)]
    fn gain(&self, i: usize, j: usize) -> f64 {
        let ([weight_i, moment_i], [weight_j, moment_j]) = (self.before[i], self.before[j]);
        let moment = moment_j - moment_i;
        moment * moment / (weight_j - weight_i)
    }

    fn centroid(&self, i: usize, j: usize) -> f64 {
        let ([weight_i, moment_i], [weight_j, moment_j]) = (self.before[i], self.before[j]);
        (moment_j - moment_i) / (weight_j - weight_i) + self.mean
    }

    /// By how much the partition into k runs that the program finds may be worse than the best, at most.
    ///
    /// With A the sum of distances from the mean, R the largest, u = 2^-53: a prefix moment is off by 3 u A, for the rounding of
    /// values, of products, and its own; a gain by twice that, times 2 R, and by 6 u of itself. Every one of k comparisons may
    /// be decided wrongly by the errors of two gains. Weights are whole numbers, exact up to 2^53.
    fn rounding(&self, k: usize) -> f64 {
        let unit = 0.5 * f64::EPSILON;
        let moment = 6.0 * unit * self.distances;
        let weight = self.before[self.len][0];
        let of_weights = if weight < 1.0 / unit { 0.0 } else { 2.0 * unit * weight };
        let gain = 2.0 * self.farthest * moment
            + moment * moment / self.lightest
            + of_weights * self.farthest * self.farthest
            + 6.0 * unit * self.total;
        2.0 * k as f64 * gain
    }
}

impl Costs for Sums {
    type Cost = f64;
    const ZERO: f64 = 0.0;
    const INFINITY: f64 = f64::INFINITY;

    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn then(&self, before: f64, i: usize, j: usize) -> f64 {
        before - self.gain(i, j)
    }

    #[inline(always)]
    fn paid(cost: f64, price: f64) -> f64 {
        cost + price
    }

    fn error(&self, cuts: &[usize]) -> f64 {
        self.total
            - cuts.windows(2).filter(|c| c[1] > c[0]).map(|c| self.gain(c[0], c[1])).sum::<f64>()
    }
}

/// Sums of weights, values and squares, from zero outwards: those up to a value contain none that are larger, so whatever the
/// values beyond, a run's differences keep 106 bits less those of the number of weights.
pub(super) struct ExactSums {
    /// From the first value that is not below zero up to each bin; negative below it.
    upto: Vec<[Twofold; 3]>,
}

impl ExactSums {
    pub(super) fn new(bins: &Bins) -> Self {
        let zero = bins.values.partition_point(|v| *v < 0.0);
        let mut upto = vec![[Twofold::ZERO; 3]; bins.values.len() + 1];
        let of_bin = |i: usize| {
            let (v, w) = (bins.values[i], bins.weights[i]);
            let moment = Twofold::product(v, w);
            [Twofold::new(w), moment, moment * v]
        };
        for i in zero..bins.values.len() {
            let more = of_bin(i);
            upto[i + 1] = std::array::from_fn(|t| upto[i][t] + more[t]);
        }
        for i in (0..zero).rev() {
            let more = of_bin(i);
            upto[i] = std::array::from_fn(|t| upto[i + 1][t] - more[t]);
        }
        Self { upto }
    }

    #[inline(always)]
    fn sum(&self, of: usize, i: usize, j: usize) -> Twofold {
        self.upto[j][of] - self.upto[i][of]
    }

    pub(super) fn weight(&self, i: usize, j: usize) -> f64 {
        self.sum(0, i, j).value()
    }

    pub(super) fn centroid(&self, i: usize, j: usize) -> f64 {
        self.sum(1, i, j).value() / self.weight(i, j)
    }

    /// The squared error from the centroid, which may be rounded: what that adds is as far below the square of the centroid as
    /// these sums are exact.
    #[inline(always)]
    fn cost(&self, i: usize, j: usize) -> Twofold {
        let (weight, moment) = (self.sum(0, i, j), self.sum(1, i, j));
        let centroid = moment.value() / weight.value();
        self.sum(2, i, j) - (moment + (moment - weight * centroid)) * centroid
    }
}

impl Costs for ExactSums {
    type Cost = Twofold;
    const ZERO: Twofold = Twofold::ZERO;
    const INFINITY: Twofold = Twofold::INFINITY;

    fn len(&self) -> usize {
        self.upto.len() - 1
    }

    #[inline(always)]
    fn then(&self, before: Twofold, i: usize, j: usize) -> Twofold {
        before + self.cost(i, j)
    }

    #[inline(always)]
    fn paid(cost: Twofold, price: f64) -> Twofold {
        cost + Twofold::new(price)
    }

    fn error(&self, cuts: &[usize]) -> f64 {
        let runs = cuts.windows(2).map(|c| self.cost(c[0], c[1]));
        runs.fold(Twofold::ZERO, |sum, cost| sum + cost).value()
    }
}

/// Moves the price until the free program chooses k runs. They and the price.
fn search<S: Costs>(sums: &S, k: usize, start: f64) -> (Vec<usize>, f64) {
    // The price below which there are too many runs, and above which too few, with how many.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let (mut runs_low, mut runs_high) = (sums.len(), 1);
    // The best partitions at those two prices.
    let (mut many, mut few) = (Vec::new(), Vec::new());
    // The number of runs is about proportional to price^(-1/power).
    let (mut price, mut power, mut previous) = (start, 3.0, None);
    // While only one side is known: the least step, squared each time.
    let mut leap = 1.03;
    for step in 0.. {
        let cuts = priced(sums, price);
        let runs = cuts.len() - 1;
        if runs == k {
            return (cuts, price);
        }
        // Where the price of as many runs as lie between two partitions finds none between them, both are best at it.
        if step > GUESSES && high.is_finite() && low > 0.0 && !(runs_high < runs && runs < runs_low)
        {
            break;
        }
        // The price was probably close to that of one run more or less.
        let near = if runs > k { runs as f64 - 0.5 } else { runs as f64 + 0.5 };
        let here = (libm::log(price), libm::log(near / k as f64));
        if let Some((log_price, log_runs)) = previous.replace(here) {
            let measured: f64 = (here.0 - log_price) / (log_runs - here.1);
            power = if measured.is_finite() { measured.clamp(2.0, 6.0) } else { 3.0 };
        }
        let guess = libm::exp(here.0 + power * here.1);
        if runs > k {
            (low, runs_low, many) = (price, runs, cuts);
        } else {
            (high, runs_high, few) = (price, runs, cuts);
        }
        if high.is_finite() && high - low <= 1e-13 * high {
            break;
        }
        price = if low > 0.0 && high.is_finite() {
            if step >= GUESSES {
                (sums.error(&few) - sums.error(&many)) / (runs_low - runs_high) as f64
            } else if step % 4 == 3 {
                low.sqrt() * high.sqrt()
            } else {
                let (of_low, of_high) = (runs_low as f64, runs_high as f64);
                let share = libm::log(of_low / k as f64) / libm::log(of_low / of_high);
                libm::exp(
                    libm::log(low) + share.clamp(0.1, 0.9) * (libm::log(high) - libm::log(low)),
                )
            }
        } else if low > 0.0 {
            guess.max(low * leap)
        } else {
            guess.min(high / leap)
        };
        leap *= leap;
        if !(price > low && price < high) {
            break;
        }
    }
    // Ties leave no price that k runs are best for. Small problems are decided by the layered program, which prefers lower
    // boundaries throughout; it would take seconds for large ones.
    if k * sums.len() <= 1 << 20 || many.is_empty() || few.is_empty() {
        return (layered(sums, k), price);
    }
    (spliced(&few, &many, k), price)
}

/// A best partition into k runs from two that are equally good at one price, with fewer and with more runs.
///
/// The one with more is followed up to a run that lies within a run of the other, and the other from the end of that on. Such
/// a run exists because the cost is Monge, and for the same reason neither path gets worse by changing over.
fn spliced(few: &[usize], many: &[usize], k: usize) -> Vec<usize> {
    let ahead = k - (few.len() - 1);
    let inside = |i: &usize| few[*i] <= many[i + ahead] && many[i + ahead + 1] <= few[i + 1];
    let i = (0..few.len() - 1)
        .find(inside)
        .expect("a path with more runs has one within a run of the other");
    [&many[..=i + ahead], &few[i + 1..]].concat()
}

/// The best partition for a price per run, the number of runs left free.
///
/// `best[j] = min over i < j of best[i] + cost(i, j) + price`. The cost is Monge, so once a later i is better it stays better:
/// a queue holds the candidates with the j from which each is best, found by binary search.
fn priced<S: Costs>(sums: &S, price: f64) -> Vec<usize> {
    let n = sums.len();
    let (mut best, mut from) = (vec![S::ZERO; n + 1], vec![0u32; n + 1]);
    let mut queue: Vec<(u32, u32)> = Vec::with_capacity(64);
    queue.push((0, 1));
    let mut head = 0;
    for j in 1..=n {
        while head + 1 < queue.len() && queue[head + 1].1 as usize <= j {
            head += 1;
        }
        let i = queue[head].0 as usize;
        best[j] = S::paid(sums.then(best[i], i, j), price);
        from[j] = i as u32;
        if j == n {
            break;
        }
        let value = |i: usize, t: usize| sums.then(best[i], i, t);
        loop {
            let (last, since) = queue[queue.len() - 1];
            let (last, t) = (last as usize, (since as usize).max(j + 1));
            // Strictly better: a tie stays with the lower boundary.
            if value(j, t) < value(last, t) {
                queue.pop();
                if queue.len() > head {
                    continue;
                }
                queue.push((j as u32, t as u32));
                break;
            }
            if value(j, n) >= value(last, n) {
                break;
            }
            // It usually takes over soon: steps that double find the end of the search faster than halving all that is left.
            let (mut worse, mut better, mut step) = (t, n, 1);
            while worse + step < n {
                if value(j, worse + step) < value(last, worse + step) {
                    better = worse + step;
                    break;
                }
                worse += step;
                step *= 2;
            }
            while better - worse > 1 {
                let middle = (worse + better) / 2;
                if value(j, middle) < value(last, middle) {
                    better = middle
                } else {
                    worse = middle
                }
            }
            queue.push((j as u32, better as u32));
            break;
        }
    }
    let (mut cuts, mut j) = (vec![n], n);
    while j > 0 {
        j = from[j] as usize;
        cuts.push(j);
    }
    cuts.reverse();
    cuts
}

/// The best partition into exactly k runs: one divide-and-conquer pass a run, O(k B log B) time and O(k B) memory.
fn layered<S: Costs>(sums: &S, k: usize) -> Vec<usize> {
    let n = sums.len();
    let mut before = vec![S::INFINITY; n + 1];
    let mut now = before.clone();
    let mut from = vec![0u32; (k + 1) * (n + 1)];
    for (j, cost) in before.iter_mut().enumerate().skip(1) {
        *cost = sums.then(S::ZERO, 0, j);
    }
    for layer in 2..=k {
        let from = &mut from[layer * (n + 1)..][..n + 1];
        now[..layer].fill(S::INFINITY);
        // (first and last j to find, first and last i to try)
        let mut stack = vec![(layer, n, layer - 1, n - 1)];
        while let Some((j0, j1, i0, i1)) = stack.pop() {
            if j0 > j1 {
                continue;
            }
            let j = (j0 + j1) / 2;
            let (mut least, mut at) = (S::INFINITY, i0);
            for (i, cost) in before.iter().enumerate().take(i1.min(j - 1) + 1).skip(i0) {
                let value = sums.then(*cost, i, j);
                if value < least {
                    (least, at) = (value, i);
                }
            }
            (now[j], from[j]) = (least, at as u32);
            if j > j0 {
                stack.push((j0, j - 1, i0, at));
            }
            stack.push((j + 1, j1, at, i1));
        }
        std::mem::swap(&mut before, &mut now);
    }
    let (mut cuts, mut j) = (vec![n], n);
    for layer in (2..=k).rev() {
        j = from[layer * (n + 1) + j] as usize;
        cuts.push(j);
    }
    cuts.push(0);
    cuts.reverse();
    cuts
}

/// A first guess: boundaries spread by about the cube root of the smoothed density (Panter and Dite 1951).
fn companded(bins: &Bins, k: usize) -> Vec<usize> {
    let n = bins.values.len();
    let cells = (8 * k).max(256);
    let (low, high) = (bins.values[0], bins.values[n - 1]);
    let width = (high - low) / cells as f64;
    let mut mass = vec![0.0; cells];
    for (v, w) in bins.values.iter().zip(&bins.weights) {
        mass[(((v - low) / width) as usize).min(cells - 1)] += w;
    }
    let mut cumulative = vec![0.0; cells + 1];
    for t in 0..cells {
        let around = &mass[t.saturating_sub(2)..(t + 3).min(cells)];
        cumulative[t + 1] =
            cumulative[t] + about_cube_root(around.iter().sum::<f64>() / around.len() as f64);
    }
    let (mut cuts, mut t) = (vec![0], 0);
    for q in 1..k {
        let target = cumulative[cells] * q as f64 / k as f64;
        while t + 1 < cells && cumulative[t + 1] < target {
            t += 1;
        }
        let share = (target - cumulative[t]) / (cumulative[t + 1] - cumulative[t]);
        let x = low + width * (t as f64 + if share.is_finite() { share } else { 0.0 });
        let at = bins.values.partition_point(|v| *v < x);
        cuts.push(at.max(cuts[q - 1] + 1).min(n - (k - q)));
    }
    cuts.push(n);
    cuts
}

/// x^(3/8), from square roots, which every machine computes alike and fast.
fn about_cube_root(x: f64) -> f64 {
    let root = x.sqrt().sqrt();
    root * root.sqrt()
}

/// A few steps of Lloyd's iteration on the prefix sums: only to find a good first price.
fn lloyd(bins: &Bins, sums: &Sums, cuts: &mut [usize]) {
    for _ in 0..30 {
        let centroid = |c: &[usize]| {
            if c[1] > c[0] {
                sums.centroid(c[0], c[1])
            } else {
                bins.values[c[0].min(sums.len - 1)]
            }
        };
        let centroids: Vec<f64> = cuts.windows(2).map(centroid).collect();
        let mut changed = false;
        for (cut, pair) in cuts[1..].iter_mut().zip(centroids.windows(2)) {
            let middle = 0.5 * (pair[0] + pair[1]);
            let at = bins.values.partition_point(|v| *v < middle);
            changed |= at != *cut;
            *cut = at;
        }
        if !changed {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, n: usize) -> impl Iterator<Item = f64> {
        let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s >> 11) as f64 / (1u64 << 53) as f64
        })
        .take(n)
    }

    fn bins(mut values: Vec<f64>, seed: u64) -> Bins {
        values.sort_by(f64::total_cmp);
        values.dedup();
        let weights = noise(seed, values.len()).map(|x| (x * 5.0).floor() + 1.0).collect();
        Bins { values, weights }
    }

    fn laws() -> Vec<(&'static str, Vec<f64>)> {
        let spread = |f: &dyn Fn(f64) -> f64, n| noise(3, n).map(f).collect::<Vec<_>>();
        vec![
            ("uniform", spread(&|x| x - 0.5, 600)),
            ("heavy tail", spread(&|x| (x - 0.5) / (1.0001 - x), 600)),
            ("huge range", spread(&|x| (x - 0.5) * 10f64.powf(x * 70.0 - 35.0), 400)),
            ("equal gaps", (0..500).map(f64::from).collect()),
            ("two clumps", spread(&|x| if x < 0.5 { x * 1e-6 } else { 1.0 + x * 1e-6 }, 500)),
            ("integers", spread(&|x| (x * 50.0).floor(), 2000)),
            ("one outlier", noise(9, 300).chain([1e30]).collect()),
            ("symmetric", (1..200).flat_map(|i| [f64::from(i), -f64::from(i)]).collect()),
        ]
    }

    #[test]
    fn the_priced_search_is_as_good_as_the_layered_program() {
        for (law, values) in laws() {
            let equal = Bins {
                weights: vec![1.0; bins(values.clone(), 1).values.len()],
                ..bins(values.clone(), 1)
            };
            for bins in [bins(values, 1), equal] {
                let sums = Sums::new(&bins);
                for k in [2, 3, 7, 16, 40, bins.values.len() - 1] {
                    if k >= bins.values.len() {
                        continue;
                    }
                    let cuts = optimal_cuts(&bins, k);
                    assert_eq!(cuts.len(), k + 1, "{law}");
                    assert!(cuts.windows(2).all(|c| c[0] < c[1]), "{law}");
                    let (got, best) = (sums.error(&cuts), sums.error(&layered(&sums, k)));
                    assert!(
                        (got - best).abs() <= 1e-12 * sums.total.max(best),
                        "{law}, k = {k}: {got} > {best}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_layered_program_is_as_good_as_trying_everything() {
        fn brute(
            sums: &Sums,
            k: usize,
            at: usize,
            cuts: &mut Vec<usize>,
            best: &mut (f64, Vec<usize>),
        ) {
            if k == 1 {
                cuts.push(sums.len);
                let error = sums.error(cuts);
                if error < best.0 {
                    *best = (error, cuts.clone());
                }
                cuts.pop();
                return;
            }
            for next in at + 1..=sums.len + 1 - k {
                cuts.push(next);
                brute(sums, k - 1, next, cuts, best);
                cuts.pop();
            }
        }
        for seed in 0..40 {
            let bins = bins(noise(seed + 1, 10).map(|x| (x * 12.0).floor()).collect(), seed);
            let sums = Sums::new(&bins);
            for k in 2..bins.values.len() {
                let mut best = (f64::INFINITY, Vec::new());
                brute(&sums, k, 0, &mut vec![0], &mut best);
                let error = sums.error(&layered(&sums, k));
                assert!((error - best.0).abs() <= 1e-12 * sums.total, "seed {seed}, k = {k}");
                let error = sums.error(&optimal_cuts(&bins, k));
                assert!((error - best.0).abs() <= 1e-12 * sums.total, "seed {seed}, k = {k}");
            }
        }
    }

    #[test]
    fn splicing_gives_the_partition_between() {
        // Equal gaps: at most prices a whole range of numbers of runs is equally good.
        let bins = Bins { values: (0..64).map(f64::from).collect(), weights: vec![1.0; 64] };
        let sums = Sums::new(&bins);
        for (a, b) in [(3, 9), (7, 8), (1, 30), (16, 32)] {
            let (few, many) = (layered(&sums, a.max(2)), layered(&sums, b));
            for k in few.len()..many.len() - 1 {
                let cuts = spliced(&few, &many, k);
                assert_eq!((cuts.len(), cuts[0], cuts[k]), (k + 1, 0, 64));
                assert!(cuts.windows(2).all(|c| c[0] < c[1]));
            }
        }
        // Where the two really are equally good, so is what lies between: 64 values into 16 or 32 equal runs at price 1.5.
        let (few, many) = (priced(&sums, 4.6), priced(&sums, 4.4));
        for k in few.len()..many.len() - 1 {
            let (got, best) =
                (sums.error(&spliced(&few, &many, k)), sums.error(&layered(&sums, k)));
            assert!((got - best).abs() <= 1e-9 * best, "{k}: {got} > {best}");
        }
    }

    #[test]
    fn a_tie_goes_to_the_lower_boundary() {
        // Three equal gaps into two runs: {0} {1 2} and {0 1} {2} are equally good.
        let bins = Bins { values: vec![0.0, 1.0, 2.0], weights: vec![1.0; 3] };
        assert_eq!(optimal_cuts(&bins, 2), [0, 1, 3]);
        assert_eq!(layered(&Sums::new(&bins), 2), [0, 1, 3]);
    }
}
