//! Squared errors of clipped grids, sixteen bits a weight: see [`ClipGrid`], whose every term but the product of a weight and its
//! inverse step fits them, and of that the upper half is enough.

#[cfg(target_arch = "x86_64")]
mod tables;
#[cfg(target_arch = "x86_64")]
mod vectors;

use crate::decide::affine::{AffineCode, CLIP_COUNT, CLIPS, ClipGrid};
use std::sync::LazyLock;

/// A grid at one clip, cut into what fits 16 bits.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The inverse of the step, times 2^K, less 2^16 where that is not beneath it.
    inverse: u16,
    /// All ones if it is not: the weight is added once more.
    wide: u16,
    /// 2^(K-1), without its low 16 bits, which are zero.
    half: u16,
    /// 2^(32-K): the upper half of a product with it is shifted right by K - 16, by one instruction where a shift takes two.
    unshift: u16,
    /// The step in u: whole, and in 2^15ths.
    whole: u16,
    part: u16,
}

/// The grid of a group at every clip.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    grid: &'a ClipGrid,
    k: u32,
    reciprocals: &'a [u32; CLIP_COUNT],
    /// No inverse step needs more than 16 bits, and no error is beyond [`SMALL`], whatever the weights.
    plain: bool,
    /// It is plain, and a table of 32 has room for the codes of both signs.
    few: bool,
}

/// Eight squares of errors up to this fit 32 bits.
const SMALL: u16 = 23170;

impl<'a> Steps<'a> {
    /// That of a grid; `reciprocals` are the clips'.
    pub(crate) fn new(
        grid: &'a ClipGrid,
        code: AffineCode,
        reciprocals: &'a [u32; CLIP_COUNT],
    ) -> Self {
        let mut steps =
            Self { grid, k: ClipGrid::shift(code), reciprocals, plain: false, few: false };
        // At the smallest clip steps are the shortest, and weights beyond the largest code lose most; within it they lose half a step,
        // which is never that much.
        let least = steps.at(0);
        let lost = |limit: u32| 32767u16.saturating_sub(least.restored(limit as u16));
        let lost = lost(grid.limits & 0xffff).max(lost(grid.limits >> 16));
        steps.plain = least.wide == 0 && lost <= SMALL;
        // Before the shift the largest weight leaves bit 15 free, for its sign.
        let largest = ((32767 * u32::from(least.inverse)) >> 16) + u32::from(least.half);
        steps.few = steps.plain && steps.k >= 27 && largest >> 15 == 0;
        steps
    }

    /// At the clip of a number.
    fn at(&self, clip: usize) -> Step {
        let inverse = (self.grid.codes_per_u * self.reciprocals[clip] + 16384) >> 15;
        let step = self.grid.steps_per_64th * (CLIPS.start() + clip as u32);
        Step {
            inverse: inverse as u16,
            wide: if inverse >> 16 == 0 { 0 } else { u16::MAX },
            half: 1 << (self.k - 17),
            unshift: 1 << (32 - self.k),
            whole: (step >> 15) as u16,
            part: (step & 0x7fff) as u16,
        }
    }

    /// The sums of squared errors of weights in u, with the largest code of each, at as many clips as there is room for, from number
    /// `first` on.
    pub(crate) fn squares(&self, first: usize, us: &[u16], limits: &[u16], errors: &mut [u64]) {
        LOOPS[0].squares(self, first, us, limits, errors);
    }

    /// The number of the clip of least error, ties to the larger.
    ///
    /// From the largest down. What the weights beyond the largest code lose is a part of the error which only grows from there: where
    /// that alone is no less than the least error so far, no smaller clip is better.
    pub(crate) fn best(&self, us: &[u16], limits: &[u16]) -> usize {
        self.best_by(&LOOPS[0], us, limits)
    }

    fn best_by(&self, loops: &Loops, us: &[u16], limits: &[u16]) -> usize {
        // One by one they are worth a look sooner.
        let many = if loops.few.is_some() && self.few { LOOK } else { LOOK / 2 };
        let (mut best, mut least, mut errors) = (CLIP_COUNT - 1, u64::MAX, [0; LOOK]);
        let mut end = CLIP_COUNT;
        while end > 0 {
            if end < CLIP_COUNT && loops.beyond(self, end - 1, us, limits) >= least {
                break;
            }
            let clips = end.saturating_sub(many)..end;
            let errors = &mut errors[..clips.len()];
            loops.squares(self, clips.start, us, limits, errors);
            for (clip, error) in clips.clone().zip(errors).rev() {
                if *error < least {
                    (best, least) = (clip, *error);
                }
            }
            end = clips.start;
        }
        best
    }
}

/// So many clips are tried, at most, before it is asked whether smaller ones can be better.
const LOOK: usize = 8;

type Squares = unsafe fn(&Steps, usize, &[u16], &[u16], &mut [u64]);
type Beyond = unsafe fn(&Steps, usize, &[u16], &[u16]) -> u64;

/// The loops for one set of instructions, over weights in u and the largest code of each.
#[derive(Clone, Copy, Debug)]
struct Loops {
    squares: Squares,
    /// Of what is [plain](Steps::plain).
    plain: Squares,
    /// Of what is plain and has [few](Steps::few) codes, [`LOOK`] clips at once.
    few: Option<Squares>,
    beyond: Beyond,
}

/// Those that the machine can run, the fastest first.
static LOOPS: LazyLock<Vec<Loops>> = LazyLock::new(|| {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use vectors::{avx2, avx512};
        if detected!("avx512bw") {
            let (squares, plain): (Squares, Squares) = (avx512::any, avx512::plain);
            let loops = Loops { squares, plain, few: None, beyond: avx512::beyond };
            if detected!("avx512vnni") {
                all.push(Loops { few: Some(tables::squares), ..loops });
            }
            all.push(loops);
        }
        if detected!("avx2") {
            let (squares, plain): (Squares, Squares) = (avx2::any, avx2::plain);
            all.push(Loops { squares, plain, few: None, beyond: avx2::beyond });
        }
    }
    let (squares, plain): (Squares, Squares) = (portable, portable);
    all.push(Loops { squares, plain, few: None, beyond: portable_beyond });
    all
});

impl Loops {
    /// The sums of squared errors at as many clips as there is room for.
    fn squares(&self, steps: &Steps, first: usize, us: &[u16], limits: &[u16], errors: &mut [u64]) {
        debug_assert_eq!(us.len(), limits.len());
        let of = match self.few {
            Some(few) if errors.len() == LOOK && steps.few => few,
            _ if steps.plain => self.plain,
            _ => self.squares,
        };
        // SAFETY: the machine was asked before they were listed.
        unsafe { of(steps, first, us, limits, errors) }
    }

    /// The sum of squares of what weights are beyond their largest code.
    fn beyond(&self, steps: &Steps, clip: usize, us: &[u16], limits: &[u16]) -> u64 {
        debug_assert_eq!(us.len(), limits.len());
        // SAFETY: as above.
        unsafe { (self.beyond)(steps, clip, us, limits) }
    }
}

impl Step {
    /// What a code stands for.
    fn restored(&self, code: u16) -> u16 {
        let part = (u32::from(code) * u32::from(self.part) + 16384) >> 15;
        code.wrapping_mul(self.whole).wrapping_add(part as u16)
    }
}

fn square(u: u16, restored: u16) -> u64 {
    let error = u64::from(u.abs_diff(restored));
    error * error
}

fn portable(steps: &Steps, first: usize, us: &[u16], limits: &[u16], errors: &mut [u64]) {
    for (error, clip) in errors.iter_mut().zip(first..) {
        *error = portable_squares(&steps.at(clip), us, limits);
    }
}

fn portable_squares(step: &Step, us: &[u16], limits: &[u16]) -> u64 {
    let squares = us.iter().zip(limits).map(|(u, limit)| {
        let upper = (u32::from(*u) * u32::from(step.inverse)) >> 16;
        let product = upper as u16 + (*u & step.wide) + step.half;
        let code = (u32::from(product) * u32::from(step.unshift)) >> 16;
        square(*u, step.restored((code as u16).min(*limit)))
    });
    squares.sum()
}

fn portable_beyond(steps: &Steps, clip: usize, us: &[u16], limits: &[u16]) -> u64 {
    let step = steps.at(clip);
    us.iter().zip(limits).map(|(u, limit)| square(*u, step.restored(*limit).min(*u))).sum()
}

#[cfg(test)]
mod tests {
    use super::{LOOK, Steps};
    use crate::decide::{
        affine::{AffineCode, CLIP_COUNT, CLIPS, ClipGrid, best_clip, reciprocals},
        range::Range,
    };

    /// The formulas of [`ClipGrid`] as they stand there, in 64 bits.
    fn formulas(
        grid: &ClipGrid,
        code: AffineCode,
        us: &[u16],
        limits: &[u16],
    ) -> [u64; CLIP_COUNT] {
        let (k, reciprocals) = (ClipGrid::shift(code), reciprocals());
        std::array::from_fn(|i| {
            let step = u64::from(grid.steps_per_64th) * (u64::from(*CLIPS.start()) + i as u64);
            let m = (u64::from(grid.codes_per_u) * u64::from(reciprocals[i]) + 16384) >> 15;
            let squares = us.iter().zip(limits).map(|(u, limit)| {
                let u = u64::from(*u);
                let code = ((u * m + (1 << (k - 1))) >> k).min((*limit).into());
                u.abs_diff((code * step + 16384) >> 15).pow(2)
            });
            squares.sum()
        })
    }

    #[test]
    fn sixteen_bits_give_what_the_formulas_give() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state
        };
        for bits in 2..=8 {
            for (symmetric, range) in [
                (true, (-1.0, 1.0)),
                (true, (-0.3, 2.0)),
                (false, (-1.0, 1.0)),
                (false, (0.0, 1.0)),
                (false, (-5.0, 0.0)),
                (false, (-1.0, 0.01)),
                (false, (-0.37, 1.0)),
                // Inverse steps on either side of 16 bits, and of 15 before the shift.
                (false, (-0.52, 1.0)),
                (false, (-0.74, 1.0)),
                (false, (-0.77, 1.0)),
                (false, (-1.0, 0.8)),
            ] {
                let code = AffineCode { bits, symmetric };
                let grid = ClipGrid::new(code, Range { min: range.0, max: range.1 });
                let (above, below) = (grid.limits as u16, (grid.limits >> 16) as u16);
                let lengths = [0, 1, 31, 32, 64, 127, 128, 129, 700];
                for (len, large) in lengths.into_iter().flat_map(|n| [(n, false), (n, true)]) {
                    // Most are small, some the largest there are; or all are large.
                    let us: Vec<u16> = (0..len)
                        .map(|i| match i % 50 {
                            7 => 32767,
                            _ if large => 32767 - (noise() >> 24) as u16,
                            _ => (noise() >> (17 + (noise() >> 20) % 4)) as u16,
                        })
                        .collect();
                    let limits: Vec<u16> =
                        (0..len).map(|_| if noise() >> 30 == 0 { above } else { below }).collect();
                    let expected = formulas(&grid, code, &us, &limits);
                    let reciprocals = reciprocals();
                    let steps = Steps::new(&grid, code, &reciprocals);
                    for (set, loops) in super::LOOPS.iter().enumerate() {
                        let which =
                            format!("set {set}: {bits} bits, {symmetric}, {range:?}, {len}");
                        let mut all = [0; CLIP_COUNT];
                        loops.squares(&steps, 0, &us, &limits, &mut all);
                        assert_eq!(all, expected, "{which}");
                        for first in 0..=CLIP_COUNT - LOOK {
                            let mut some = [0; LOOK];
                            loops.squares(&steps, first, &us, &limits, &mut some);
                            assert_eq!(some, expected[first..][..LOOK], "{which}, from {first}");
                        }
                        let best = CLIPS.start() + steps.best_by(loops, &us, &limits) as u32;
                        assert_eq!(best, best_clip(&expected), "{which}");
                    }
                    for (i, all) in expected.iter().enumerate() {
                        let beyond = super::portable_beyond(&steps, i, &us, &limits);
                        assert!(beyond <= *all);
                        for (set, loops) in super::LOOPS.iter().enumerate() {
                            assert_eq!(loops.beyond(&steps, i, &us, &limits), beyond, "set {set}");
                        }
                    }
                }
            }
        }
    }
}
