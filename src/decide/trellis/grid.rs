//! Levels, and what weights cost in each subset of them.

use crate::{
    codec::{
        lanes::{self, BLOCK},
        trellis::Trellis,
    },
    decide::trellis::{
        CLASSES, EVEN, FINE, LEVELS, MIDDLE,
        classes::{ONE, share},
        fit::{Codes, Fit},
    },
    simd::codecs::trellis::{self, COST, Choices},
};

/// Cost of the square of a step.
const UNIT: f64 = 400.0;

/// Positions on either side beyond the even ones, at most: as far as 2^30.
const FAR: i32 = octaves(1 << 30) - octaves(EVEN * FINE);

/// Where a number is, in 64ths of octaves: its exponent and its first six digits as a float.
#[inline(always)]
const fn octaves(t: i32) -> i32 {
    ((t as f32).to_bits() >> DIGITS) as i32
}

/// Digits of a float after those.
const DIGITS: u32 = 17;

/// How much the squared error of a weight of each class counts.
const COUNTS: [f64; CLASSES] = {
    let (mut counts, mut class) = ([0.0; CLASSES], 0);
    while class < CLASSES {
        counts[class] = share(class as u8) as f64 / ONE;
        class += 1;
    }
    counts
};

// Tables of all classes have no more positions than an u16 tells apart.
const _: () = assert!(CLASSES as i32 * (2 * (EVEN * FINE + FAR) + 1) <= 1 << 16);

/// Levels on either side of the nearest that are looked at: two of each subset.
const AROUND: usize = 8;

/// Where weights lie, in whole numbers: `t = round_ties_even(w * per_weight)`, at most 2^30 in magnitude, less `middle`. As far as
/// `core` from 0 a position is one `t`, beyond it a 64th of an octave, and the last on either side all that are left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positions {
    /// Positions of a weight of 1, as far as they are even: an f32, with which one multiplication in f32 says `t`.
    pub per_weight: f32,
    /// What is taken off every `t`.
    pub middle: i32,
    /// The last even one.
    pub core: i32,
    /// Positions beyond the even ones, on either side.
    pub far: i32,
}

impl Positions {
    /// `t` of a weight, less the middle.
    #[inline(always)]
    pub fn offset(&self, weight: f32) -> i32 {
        const MOST: f32 = (1 << 30) as f32;
        // From here on floats are whole, and below it adding this rounds, ties to even, to what then stands in the low bits. A cast
        // would not be done on many at once.
        const WHOLE: f32 = (1 << 23) as f32;
        let at = weight * self.per_weight;
        let from = at.abs().min(MOST);
        let small = (from + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits());
        let (digits, exponent) = (from.to_bits() & 0x7f_ffff | 0x80_0000, from.to_bits() >> 23);
        let large = digits << exponent.saturating_sub(150).min(7);
        let rounded = if from < WHOLE { small } else { large } as i32;
        (if at < 0.0 { -rounded } else { rounded }) - self.middle
    }

    /// The position of a weight.
    #[inline(always)]
    pub fn of(&self, weight: f32) -> u16 {
        let t = self.offset(weight);
        let from = t.abs();
        let beyond = (octaves(from) - octaves(self.core)).clamp(0, self.far);
        let steps = from.min(self.core) + beyond;
        (self.core + self.far + if t < 0 { -steps } else { steps }) as u16
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        (2 * (self.core + self.far) + 1) as usize
    }

    /// How far the middle of a position is, where [`FINE`] are one.
    fn units(&self, position: usize) -> f64 {
        let off = position as i32 - self.core - self.far;
        let beyond = (off.abs() - self.core).max(0);
        let end = |i: i32| f64::from(f32::from_bits(((octaves(self.core) + i) as u32) << DIGITS));
        let from = match beyond {
            // With the last even one what is beyond it by less than a 64th of an octave.
            0 => f64::from(off.abs()),
            i => 0.5 * (end(i) + end(i + 1)),
        };
        f64::from(off.signum()) * from / f64::from(FINE)
    }
}

/// All that a search for the codes of weights needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Which paths there are.
    pub trellis: Trellis,
    /// Where weights lie.
    pub positions: Positions,
    /// What a weight costs in each subset, at most 4095, by its position; where weights count differently, a table for each class, one
    /// after the other.
    pub costs: Vec<[u16; 4]>,
    /// The code that costs that.
    pub codes: Vec<[u8; 4]>,
}

impl Grid {
    /// The grid of weights of which none is further from the middle than `reach` units.
    pub(super) fn new(trellis: Trellis, fit: &Fit, reach: f64) -> Self {
        let most = ((reach + 1.0) * f64::from(FINE)).min(f64::from(1 << 30)) as i32;
        let core = most.min(EVEN * FINE);
        let far = if most > core { octaves(most) - octaves(core) } else { 0 };
        let per_weight = (f64::from(FINE) / fit.unit).min(f64::from(f32::MAX)) as f32;
        let middle = fit.middle;
        let positions = Positions { per_weight, middle, core, far };
        let (mut costs, mut codes) = (Vec::new(), Vec::new());
        let counts: &[f64] = if fit.weighed { &COUNTS } else { &[1.0] };
        for counts in counts {
            Self::tables(fit, &positions, *counts, (&mut costs, &mut codes));
        }
        Self { trellis, positions, costs, codes }
    }

    /// The tables of weights whose squared error counts so much.
    fn tables(
        fit: &Fit,
        positions: &Positions,
        counts: f64,
        (costs, codes): (&mut Vec<[u16; 4]>, &mut Vec<[u8; 4]>),
    ) {
        let even = f64::from(EVEN);
        // Those that have become hard to tell apart by rounding stay where they would be.
        let mut nearest = 0;
        for position in 0..positions.count() {
            let at = positions.units(position) * fit.unit / fit.step;
            while nearest + 1 < LEVELS
                && (fit.plain(nearest + 1) - at).abs() <= (fit.plain(nearest) - at).abs()
            {
                nearest += 1;
            }
            let around = nearest.saturating_sub(AROUND)..(nearest + AROUND + 1).min(LEVELS);
            let mut best = [(f64::MAX, 0); 4];
            // The middle ones are in reach of all that are not far.
            let middle = if at.abs() < even { MIDDLE - 2..MIDDLE + 2 } else { 0..0 };
            for level in around.chain(middle) {
                let off = at - fit.levels[level];
                let cost = counts * (off * off) + fit.price * fit.bits[level];
                if cost < best[level % 4].0 {
                    best[level % 4] = (cost, level as u8);
                }
            }
            let least = best.iter().fold(f64::MAX, |least, b| least.min(b.0));
            let cost = |(cost, _): (f64, u8)| {
                ((cost - least) * UNIT).round_ties_even().min(COST.into()) as u16
            };
            costs.push(best.map(cost));
            codes.push(best.map(|(_, level)| level));
        }
    }

    /// The same with other codes for its levels, each of the same subset.
    pub fn with_codes(mut self, codes: &Codes) -> Self {
        self.codes.iter_mut().flatten().for_each(|code| *code = codes[usize::from(*code)]);
        self
    }

    /// The positions of weights: in the table of its class, where each has one.
    pub fn places(&self, weights: &[f32], classes: &[u8]) -> Vec<u16> {
        let mut positions = vec![0; weights.len()];
        place(&self.positions, weights, &mut positions);
        let size = self.positions.count() as u16;
        for (position, class) in positions.iter_mut().zip(classes) {
            *position += u16::from(*class) * size;
        }
        positions
    }

    /// The codes of the weights of a stream at these positions: of every 65,536 those along the paths of least cost, a path for each
    /// lane of [`crate::codec::trellis`].
    ///
    /// # Panics
    ///
    /// If there are not as many codes, or a position is beyond the grid.
    pub fn follow(&self, positions: &[u16], codes: &mut [u8]) {
        assert_eq!(positions.len(), codes.len());
        let choices = Choices { costs: &self.costs, codes: &self.codes };
        let mut kept = Vec::new();
        for (positions, codes) in positions.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)) {
            let (states, lanes) = (self.trellis.states().into(), lanes::lanes(positions.len()));
            trellis::search(states, lanes, choices, positions, &mut kept, codes);
        }
    }

    /// The codes of the weights of a stream.
    pub fn search(&self, weights: &[f32]) -> Vec<u8> {
        let mut codes = vec![0; weights.len()];
        self.follow(&self.places(weights, &[]), &mut codes);
        codes
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn place(of: &Positions, weights: &[f32], positions: &mut [u16]) {
    weights.iter().zip(positions).for_each(|(w, position)| *position = of.of(*w));
}
