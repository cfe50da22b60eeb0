//! Step, levels, frequencies and the price of a bit, from weights: by turns the paths of least cost, and from what these take all the
//! rest. In f64 by `+ - * /` and the `libm` crate, from exact sums, so that every machine finds the same.

use crate::{
    DType,
    codec::trellis::Trellis,
    decide::trellis::{
        EVEN, FINE, Grid, LEVELS, MIDDLE, Part,
        classes::{ONE, share},
        tails::{OUTER, Tails},
    },
    dtype, parallel, words,
};
use std::f64::consts::LN_2;

/// Turns at most.
const TURNS: usize = 10;

/// How near the goal is near enough, in bits.
const NEAR: f64 = 4e-3;

/// The squared error of paths through even levels, in squared steps, at most.
const EVEN_ERROR: f64 = 0.35;

/// How much larger a step is that is tried where weights far out are off by most.
const COARSER: f64 = 1.4;

/// Steps to the furthest weight, or to the middle, at most.
const FINEST: f64 = (1 << 24) as f64;

/// What a grid is to be good for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So many bits a weight, of tables and lanes nothing counted.
    Bits(f64),
    /// A squared error of a weight.
    Error(f64),
}

/// Step, levels and frequencies.
#[derive(Clone, Debug)]
pub struct Fit {
    /// How far levels are apart.
    pub(super) step: f64,
    /// What [`FINE`] positions are: a step, but no more than a part of how far weights go, whose levels may be closer than a large step.
    pub(super) unit: f64,
    /// Where the middle one is, in positions.
    pub(super) middle: i32,
    /// Where each level is, in steps from the middle one.
    pub(super) levels: [f64; LEVELS],
    /// Bits of each level in the table of its parity.
    pub(super) bits: [f64; LEVELS],
    /// The squared steps that a bit is worth.
    pub(super) price: f64,
    /// How far the furthest weight is, in units.
    reach: f64,
    /// Where weights are far from the middle; how far the levels beyond the even ones are, in steps; and the smallest step.
    tails: Tails,
    outer: [f64; OUTER],
    finest: f64,
    /// Whether weights count differently.
    pub(super) weighed: bool,
    /// How far the weights are from 0 that are in the middle, and the furthest from there: in their own measure.
    mean: f64,
    furthest: f64,
}

/// What the weights of some paths have taken: of every level how many, and how much these count; the sum of their positions from the
/// middle, and over all levels the sum of the squares of these, each times what its weight counts.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: [u64; LEVELS],
    /// What a weight counts where all count alike, or in the mean.
    one: f64,
    shares: [u64; LEVELS],
    sums: [i128; LEVELS],
    squares: u128,
}

/// A position whose square is added up in 64 bits.
const SQUARED: i32 = 1 << 21;

impl Default for Tally {
    fn default() -> Self {
        let (counts, shares) = ([0; LEVELS], [0; LEVELS]);
        Self { counts, one: 1.0, shares, sums: [0; LEVELS], squares: 0 }
    }
}

impl Tally {
    /// What these weights have taken, each of its class, or all of the same.
    pub fn of(grid: &Grid, (weights, classes): (&[f32], &[u8]), codes: &[u8]) -> Self {
        match classes {
            [] => Self::of_equal(grid, weights, codes),
            _ => Self::of_classes(grid, (weights, classes), codes),
        }
    }

    fn of_classes(grid: &Grid, (weights, classes): (&[f32], &[u8]), codes: &[u8]) -> Self {
        let mut all = Self { one: ONE, ..Self::default() };
        for ((w, class), code) in weights.iter().zip(classes).zip(codes) {
            let (level, share) = (usize::from(*code), share(*class));
            let t = i64::from(grid.positions.offset(*w));
            all.counts[level] += 1;
            all.shares[level] += share;
            all.sums[level] += i128::from(t) * i128::from(share);
            all.squares += (t * t) as u128 * u128::from(share);
        }
        all
    }

    fn of_equal(grid: &Grid, weights: &[f32], codes: &[u8]) -> Self {
        // Four side by side, so that no weight waits for the one before.
        let (mut counts, mut sums, mut squares) = ([[0u64; LEVELS]; 4], [[0i64; LEVELS]; 4], 0u128);
        for (weights, codes) in weights.chunks(1 << 16).zip(codes.chunks(1 << 16)) {
            let (mut of_part, mut far) = (0u64, 0u128);
            let mut take = |w: f32, code: u8, side: usize| {
                let t = grid.positions.offset(w);
                counts[side][usize::from(code)] += 1;
                sums[side][usize::from(code)] += i64::from(t);
                // So many squares are no more than 2^58; few are further.
                match t.abs() <= SQUARED {
                    true => of_part += (i64::from(t) * i64::from(t)) as u64,
                    false => far += (i128::from(t) * i128::from(t)) as u128,
                }
            };
            let (fours, rest) = weights.as_chunks::<4>();
            let (codes_of_fours, codes_of_rest) = codes.as_chunks::<4>();
            for (weights, codes) in fours.iter().zip(codes_of_fours) {
                (0..4).for_each(|side| take(weights[side], codes[side], side));
            }
            rest.iter().zip(codes_of_rest).for_each(|(w, code)| take(*w, *code, 0));
            squares += u128::from(of_part) + far;
        }
        let mut all = Self { squares, ..Self::default() };
        for (counts, sums) in counts.iter().zip(&sums) {
            all.counts.iter_mut().zip(counts).for_each(|(all, n)| *all += n);
            all.sums.iter_mut().zip(sums).for_each(|(all, sum)| *all += i128::from(*sum));
        }
        all.shares = all.counts;
        all
    }

    /// Adds another of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.one = other.one;
        for i in 0..LEVELS {
            self.counts[i] += other.counts[i];
            self.shares[i] += other.shares[i];
            self.sums[i] += other.sums[i];
        }
        self.squares += other.squares;
    }

    /// How many weights have taken each level.
    pub fn counts(&self) -> &[u64; LEVELS] {
        &self.counts
    }

    /// How many weights there are.
    pub fn weights(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean of what has taken a level, in units from the middle; none where nothing has.
    fn mean(&self, level: usize) -> Option<f64> {
        let n = self.shares[level];
        (n > 0).then(|| self.sums[level] as f64 / n as f64 / f64::from(FINE))
    }

    /// Bits of a weight, without tables.
    fn entropy(&self) -> f64 {
        let mut of = [0u64; 2];
        (0..LEVELS).for_each(|i| of[i % 2] += self.counts[i]);
        let bits = |i: usize| match self.counts[i] {
            0 => 0.0,
            n => n as f64 * libm::log2(of[i % 2] as f64 / n as f64),
        };
        (0..LEVELS).map(bits).sum::<f64>() / self.weights() as f64
    }

    /// The squared error of a weight if all levels are means, in squared units, times what it counts.
    fn error(&self) -> f64 {
        let explained = |i: usize| match self.shares[i] {
            0 => 0.0,
            n => self.sums[i] as f64 * (self.sums[i] as f64 / n as f64),
        };
        let left = self.squares as f64 - (0..LEVELS).map(explained).sum::<f64>();
        (left / self.one / self.weights() as f64 / f64::from(FINE * FINE)).max(0.0)
    }
}

impl Fit {
    /// A grid of evenly spaced levels for weights with this mean and this variance around it, of which none is further from the
    /// mean than `furthest`, and of which `parts` are a sample.
    pub fn new(goal: Goal, (mean, variance, furthest): (f64, f64, f64), parts: &[Part]) -> Self {
        // Where the mean is no matter the level of 0 is worth having.
        let mean = if mean.abs() * 2.0 < variance.sqrt() { 0.0 } else { mean };
        let step = match goal {
            Goal::Bits(bits) => variance.sqrt() * libm::exp2(1.05 - bits),
            Goal::Error(error) => (error / 0.275).sqrt(),
        };
        let mut fit = Self {
            step: 1.0,
            unit: 1.0,
            middle: 0,
            levels: [0.0; LEVELS],
            bits: [0.0; LEVELS],
            price: 0.38,
            reach: 0.0,
            outer: [0.0; OUTER],
            finest: (furthest.max(mean.abs()) / FINEST).max(f64::from(f32::MIN_POSITIVE)),
            tails: Tails::of(parts, mean, furthest),
            weighed: false,
            mean,
            furthest,
        };
        fit.finest = fit.finest.max(fit.tails.finest());
        fit.set_step(step);
        // As of normally distributed weights.
        let deviation = (variance.sqrt() / fit.step).max(0.1);
        for i in 0..LEVELS {
            fit.levels[i] = fit.plain(i);
            let z = fit.levels[i] / deviation;
            fit.bits[i] = (z * z / (2.0 * LN_2)).min(16.0) + libm::log2(1.3 * deviation).max(0.0);
        }
        fit
    }

    /// The same of weights that have classes.
    pub fn weighed(self) -> Self {
        Self { weighed: true, ..self }
    }

    fn set_step(&mut self, step: f64) {
        self.step = step.max(self.finest);
        self.unit = match self.furthest > 0.0 {
            true => self.step.min((self.furthest / 8.0).max(self.finest)),
            false => self.step,
        };
        self.middle = (self.mean / self.unit * f64::from(FINE)).round_ties_even() as i32;
        self.reach = self.furthest / self.unit;
        self.outer = self.tails.levels(self.step);
        // Those that are no whole steps from the middle have been so many smaller or larger ones.
        let far = |i: &usize| (*i as i32 - MIDDLE as i32).abs() > EVEN;
        (0..LEVELS).filter(far).for_each(|i| self.levels[i] = self.plain(i));
    }

    /// Where a level is before anything has taken it, in steps.
    pub(super) fn plain(&self, level: usize) -> f64 {
        let i = level as i32 - MIDDLE as i32;
        match (i.abs() - EVEN - 1).clamp(-1, OUTER as i32 - 1) {
            -1 => f64::from(i),
            outer => f64::from(i.signum()) * self.outer[outer as usize],
        }
    }

    /// The grid.
    pub fn grid(&self, trellis: Trellis) -> Grid {
        Grid::new(trellis, self, self.reach)
    }

    /// Takes levels, frequencies and price from what weights have taken.
    fn take(&mut self, tally: &Tally) {
        let mut of = [0u64; 2];
        (0..LEVELS).for_each(|i| of[i % 2] += tally.counts[i]);
        for i in 0..LEVELS {
            let n = tally.counts[i];
            // What few have taken is likely to be wanted elsewhere by others.
            let mean = tally.mean(i).filter(|_| n > 20).map(|mean| mean * self.unit / self.step);
            self.levels[i] = mean.unwrap_or_else(|| self.plain(i));
            self.bits[i] = libm::log2((of[i % 2] as f64 + 1.0) / (n as f64 + 0.05));
        }
        // As much error as a bit less makes where each bit is worth a factor of 4; but what weights far out are off by, no bit would mend.
        let steps = self.unit / self.step;
        self.price = 2.0 * LN_2 * (tally.error() * steps * steps).clamp(1e-6, self.even_error());
    }

    /// Moves the step towards the goal, given what the weights have taken; says how far off it was, in bits.
    pub fn towards(&mut self, goal: Goal, tally: &Tally) -> f64 {
        let off = match goal {
            Goal::Bits(bits) => tally.entropy() - bits,
            Goal::Error(error) => {
                let found = tally.error() * self.unit * self.unit;
                0.5 * libm::log2(error.max(1e-300) / found.max(1e-300))
            }
        };
        self.set_step(self.step * libm::exp2(0.9 * off.clamp(-4.0, 4.0)));
        off
    }

    /// Turns until the goal is met, on parts of the weights, each a stream of its own.
    pub fn settle(&mut self, trellis: Trellis, goal: Goal, parts: &[Part]) {
        for turn in 0..TURNS {
            let grid = self.grid(trellis);
            let tallies = parallel::map(parts, &|Part { weights, classes }| {
                let mut codes = vec![0; weights.len()];
                grid.follow(&grid.places(weights, classes), &mut codes);
                Tally::of(&grid, (weights, classes), &codes)
            });
            let mut all = Tally::default();
            tallies.iter().for_each(|tally| all.add(tally));
            if all.weights() == 0 {
                return;
            }
            self.take(&all);
            let off = self.towards(goal, &all);
            if turn > 2 && off.abs() < NEAR {
                return;
            }
        }
    }

    /// Whether weights far out are off by more than all others: a larger step may have less error.
    pub fn is_led_by_tails(&self, tally: &Tally) -> bool {
        let steps = self.unit / self.step;
        tally.error() * steps * steps > self.even_error()
    }

    /// The squared error of paths through even levels, in squared steps, at most. What counts more may be off by as much.
    fn even_error(&self) -> f64 {
        if self.weighed { 4.0 * EVEN_ERROR } else { EVEN_ERROR }
    }

    /// Takes a somewhat larger step.
    pub fn coarsen(&mut self, tally: &Tally) {
        self.take(tally);
        self.set_step(self.step * COARSER);
    }

    /// Whether a smaller step would tell nothing more apart, or have more error.
    pub fn is_finest(&self) -> bool {
        self.step <= self.finest
    }

    /// The squared error of a weight, times what it counts, given what all have taken, with these entries for the levels.
    pub fn error(&self, tally: &Tally, (entries, codes): (&[f32], &Codes)) -> f64 {
        let mut error = tally.squares as f64;
        for level in (0..LEVELS).filter(|i| tally.counts[*i] > 0) {
            let entry = f64::from(entries[usize::from(codes[level])]);
            let at = entry / self.unit * f64::from(FINE) - f64::from(self.middle);
            error += at * (tally.shares[level] as f64 * at - 2.0 * tally.sums[level] as f64);
        }
        let position = self.unit / f64::from(FINE);
        (error / tally.one / tally.weights() as f64).max(0.0) * (position * position)
    }

    /// The entries of the levels that are taken, in a type, and the code of each level: the smallest that its subset has left, so that the
    /// table is no longer than it need be.
    pub fn entries(&self, tally: &Tally, dtype: DType) -> (Vec<f32>, Codes) {
        let (mut codes, mut entries) = ([0; LEVELS], vec![0.0; 1]);
        let mut next = [0, 1, 2, 3];
        let middle = f64::from(self.middle) / f64::from(FINE);
        for level in 0..LEVELS {
            let Some(mean) = tally.mean(level) else { continue };
            let code = &mut next[level % 4];
            codes[level] = *code as u8;
            entries.resize(entries.len().max(*code + 1), 0.0);
            entries[*code] =
                ((middle + mean) * self.unit).clamp(f32::MIN.into(), f32::MAX.into()) as f32;
            *code += 4;
        }
        let mut stored = vec![0; words(dtype, entries.len())];
        dtype::encode(dtype, &entries, &mut stored, 0);
        dtype::decode(dtype, &stored, 0, &mut entries);
        (entries, codes)
    }
}

/// The code of each level.
pub type Codes = [u8; LEVELS];
