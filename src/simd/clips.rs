//! Squared errors of clipped grids, sixteen bits a weight: see [`ClipGrid`], whose every term but the product of a weight and its
//! inverse step fits them, and of that the upper half is enough.

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
    /// K - 16.
    shift: u32,
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
}

impl<'a> Steps<'a> {
    /// That of a grid; `reciprocals` are the clips'.
    pub(crate) fn new(
        grid: &'a ClipGrid,
        code: AffineCode,
        reciprocals: &'a [u32; CLIP_COUNT],
    ) -> Self {
        Self { grid, k: ClipGrid::shift(code), reciprocals }
    }

    /// At the clip of a number.
    fn at(&self, clip: usize) -> Step {
        let inverse = (self.grid.codes_per_u * self.reciprocals[clip] + 16384) >> 15;
        let step = self.grid.steps_per_64th * (CLIPS.start() + clip as u32);
        Step {
            inverse: inverse as u16,
            wide: if inverse >> 16 == 0 { 0 } else { u16::MAX },
            half: 1 << (self.k - 17),
            shift: self.k - 16,
            whole: (step >> 15) as u16,
            part: (step & 0x7fff) as u16,
        }
    }

    /// The sum of squared errors of weights in u, with the largest code of each, at the clip of a number.
    pub(crate) fn squares(&self, clip: usize, us: &[u16], limits: &[u16]) -> u64 {
        LOOPS[0].squares(&self.at(clip), us, limits)
    }

    /// The number of the clip of least error, ties to the larger.
    ///
    /// From the largest down. What the weights beyond the largest code lose is a part of the error which only grows from there: where
    /// that alone is no less than the least error so far, no smaller clip is better.
    pub(crate) fn best(&self, us: &[u16], limits: &[u16]) -> usize {
        let (mut best, mut least) = (CLIP_COUNT - 1, u64::MAX);
        for clip in (0..CLIP_COUNT).rev() {
            let look = clip % LOOK == 0 && least < u64::MAX;
            if look && LOOPS[0].beyond(&self.at(clip), us, limits) >= least {
                break;
            }
            let error = self.squares(clip, us, limits);
            if error < least {
                (best, least) = (clip, error);
            }
        }
        best
    }
}

type Loop = unsafe fn(&Step, &[u16], &[u16]) -> u64;

/// The loops for one set of instructions, over weights in u and the largest code of each.
#[derive(Clone, Copy, Debug)]
struct Loops {
    squares: Loop,
    beyond: Loop,
}

/// Those that the machine can run, the fastest first.
static LOOPS: LazyLock<Vec<Loops>> = LazyLock::new(|| {
    let mut loops = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if detected!("avx512bw") {
            loops.push(Loops { squares: avx512::squares, beyond: avx512::beyond });
        }
        if detected!("avx2") {
            loops.push(Loops { squares: avx2::squares, beyond: avx2::beyond });
        }
    }
    loops.push(Loops { squares: portable, beyond: portable_beyond });
    loops
});

impl Loops {
    /// The sum of squared errors.
    fn squares(&self, step: &Step, us: &[u16], limits: &[u16]) -> u64 {
        debug_assert_eq!(us.len(), limits.len());
        // SAFETY: the machine was asked before they were listed.
        unsafe { (self.squares)(step, us, limits) }
    }

    /// The sum of squares of what weights are beyond their largest code.
    fn beyond(&self, step: &Step, us: &[u16], limits: &[u16]) -> u64 {
        debug_assert_eq!(us.len(), limits.len());
        // SAFETY: as above.
        unsafe { (self.beyond)(step, us, limits) }
    }
}

/// Every so many clips it is asked whether smaller ones can be better.
const LOOK: usize = 4;

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

fn portable(step: &Step, us: &[u16], limits: &[u16]) -> u64 {
    let squares = us.iter().zip(limits).map(|(u, limit)| {
        let upper = (u32::from(*u) * u32::from(step.inverse)) >> 16;
        let code = (upper as u16 + (*u & step.wide) + step.half) >> step.shift;
        square(*u, step.restored(code.min(*limit)))
    });
    squares.sum()
}

fn portable_beyond(step: &Step, us: &[u16], limits: &[u16]) -> u64 {
    us.iter().zip(limits).map(|(u, limit)| square(*u, step.restored(*limit).min(*u))).sum()
}

/// The same of as many weights as a vector has room for; the rest by the portable loops.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    (
        $module:ident, $features:literal, $vector:ident, $lanes:literal, $load:ident, $set16:ident, $mask:expr,
        $mulhi:literal, $register:ident, $mullo:ident, $mulhrs:ident, $madd:ident, $min:ident, $subs:ident, $sub:ident, $add16:ident,
        $add32:ident, $add64:ident, $and:ident, $srl16:ident, $srli64:ident, $zero:ident
    ) => {
        mod $module {
            use super::{Step, portable, portable_beyond};
            use std::arch::x86_64::*;

            /// Adds two vectors' pairs of squares: below 2^32 even if every error were 32,767.
            #[inline]
            #[target_feature(enable = $features)]
            fn add(sums: $vector, a: $vector, b: $vector) -> $vector {
                let pairs = $add32($madd(a, a), $madd(b, b));
                let low = $and(pairs, $mask);
                $add64(sums, $add64(low, $srli64::<32>(pairs)))
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn total(sums: $vector) -> u64 {
                // SAFETY: a vector is so many bytes, each pattern of which is a number.
                let lanes: [u64; $lanes / 4] = unsafe { std::mem::transmute(sums) };
                lanes.iter().sum()
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn restored(step: &Step, code: $vector) -> $vector {
                let whole = $mullo(code, $set16(step.whole as i16));
                $add16(whole, $mulhrs(code, $set16(step.part as i16)))
            }

            /// The upper halves of products. In the compiler's own words they are products of 32 bits, and where a factor is the same in
            /// every round of a loop it does not find its way back.
            #[inline]
            #[target_feature(enable = $features)]
            fn upper(a: $vector, b: $vector) -> $vector {
                let product: $vector;
                // SAFETY: an instruction on registers that the machine was asked for.
                unsafe {
                    std::arch::asm!(
                        $mulhi,
                        product = lateout($register) product,
                        a = in($register) a,
                        b = in($register) b,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
                product
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn load(from: &[u16; $lanes]) -> $vector {
                // SAFETY: it is as long as a vector.
                unsafe { $load(from.as_ptr().cast()) }
            }

            #[target_feature(enable = $features)]
            pub(super) fn squares(step: &Step, us: &[u16], limits: &[u16]) -> u64 {
                let ((pairs, rest), (tops, rest_tops)) =
                    (us.as_chunks::<{ 2 * $lanes }>(), limits.as_chunks::<{ 2 * $lanes }>());
                let (inverse, wide) = ($set16(step.inverse as i16), $set16(step.wide as i16));
                let (half, shift) =
                    ($set16(step.half as i16), _mm_cvtsi32_si128(step.shift as i32));
                let error = |u: &[u16; $lanes], top: &[u16; $lanes]| {
                    let u = load(u);
                    let product = $add16(upper(u, inverse), $and(u, wide));
                    let code = $min($srl16($add16(product, half), shift), load(top));
                    $sub(u, restored(step, code))
                };
                let mut sums = $zero();
                for (us, tops) in pairs.iter().zip(tops) {
                    let ([u, v], [top, over]) = (halves(us), halves(tops));
                    sums = add(sums, error(u, top), error(v, over));
                }
                total(sums) + portable(step, rest, rest_tops)
            }

            #[target_feature(enable = $features)]
            pub(super) fn beyond(step: &Step, us: &[u16], limits: &[u16]) -> u64 {
                let ((pairs, rest), (tops, rest_tops)) =
                    (us.as_chunks::<{ 2 * $lanes }>(), limits.as_chunks::<{ 2 * $lanes }>());
                let loss = |u: &[u16; $lanes], top: &[u16; $lanes]| {
                    $subs(load(u), restored(step, load(top)))
                };
                let mut sums = $zero();
                for (us, tops) in pairs.iter().zip(tops) {
                    let ([u, v], [top, over]) = (halves(us), halves(tops));
                    sums = add(sums, loss(u, top), loss(v, over));
                }
                total(sums) + portable_beyond(step, rest, rest_tops)
            }

            fn halves(both: &[u16; 2 * $lanes]) -> [&[u16; $lanes]; 2] {
                let (halves, _) = both.as_chunks::<$lanes>();
                [&halves[0], &halves[1]]
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors!(
    avx2,
    "avx2",
    __m256i,
    16,
    _mm256_loadu_si256,
    _mm256_set1_epi16,
    _mm256_set1_epi64x(0xffff_ffff),
    "vpmulhuw {product}, {a}, {b}",
    ymm_reg,
    _mm256_mullo_epi16,
    _mm256_mulhrs_epi16,
    _mm256_madd_epi16,
    _mm256_min_epu16,
    _mm256_subs_epu16,
    _mm256_sub_epi16,
    _mm256_add_epi16,
    _mm256_add_epi32,
    _mm256_add_epi64,
    _mm256_and_si256,
    _mm256_srl_epi16,
    _mm256_srli_epi64,
    _mm256_setzero_si256
);

#[cfg(target_arch = "x86_64")]
vectors!(
    avx512,
    "avx512f,avx512bw",
    __m512i,
    32,
    _mm512_loadu_si512,
    _mm512_set1_epi16,
    _mm512_set1_epi64(0xffff_ffff),
    "vpmulhuw {product}, {a}, {b}",
    zmm_reg,
    _mm512_mullo_epi16,
    _mm512_mulhrs_epi16,
    _mm512_madd_epi16,
    _mm512_min_epu16,
    _mm512_subs_epu16,
    _mm512_sub_epi16,
    _mm512_add_epi16,
    _mm512_add_epi32,
    _mm512_add_epi64,
    _mm512_and_si512,
    _mm512_srl_epi16,
    _mm512_srli_epi64,
    _mm512_setzero_si512
);

#[cfg(test)]
mod tests {
    use super::Steps;
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
            ] {
                let code = AffineCode { bits, symmetric };
                let grid = ClipGrid::new(code, Range { min: range.0, max: range.1 });
                let (above, below) = (grid.limits as u16, (grid.limits >> 16) as u16);
                for len in [0, 1, 31, 32, 64, 127, 128, 700] {
                    // Most are small, some the largest there are.
                    let us: Vec<u16> = (0..len)
                        .map(|i| match i % 50 {
                            7 => 32767,
                            _ => (noise() >> (17 + (noise() >> 20) % 4)) as u16,
                        })
                        .collect();
                    let limits: Vec<u16> =
                        (0..len).map(|_| if noise() >> 31 == 0 { above } else { below }).collect();
                    let expected = formulas(&grid, code, &us, &limits);
                    let reciprocals = reciprocals();
                    let steps = Steps::new(&grid, code, &reciprocals);
                    for (set, loops) in super::LOOPS.iter().enumerate() {
                        let all =
                            (0..CLIP_COUNT).map(|i| loops.squares(&steps.at(i), &us, &limits));
                        assert!(
                            all.eq(expected),
                            "set {set}: {bits} bits, {symmetric}, {range:?}, {len}"
                        );
                    }
                    let best = CLIPS.start() + steps.best(&us, &limits) as u32;
                    assert_eq!(
                        best,
                        best_clip(&expected),
                        "{bits} bits, {symmetric}, {range:?}, {len}"
                    );
                    for (i, all) in expected.iter().enumerate() {
                        let step = steps.at(i);
                        let beyond = super::portable_beyond(&step, &us, &limits);
                        assert!(beyond <= *all);
                        for (set, loops) in super::LOOPS.iter().enumerate() {
                            assert_eq!(loops.beyond(&step, &us, &limits), beyond, "set {set}");
                        }
                    }
                }
            }
        }
    }
}
