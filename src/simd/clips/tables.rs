//! Grids of few codes, at several clips at once: what a code stands for is looked up in a vector, and the sums of all clips are
//! added up together. AVX-512 with VNNI.

use crate::simd::clips::{LOOK, Step, Steps};
use std::arch::x86_64::*;

/// Weights of a vector.
const LANES: usize = 32;
/// Vectors whose pairs of squares of small errors are below 2^32.
const MANY: usize = 4;

/// The sums of squared errors at [`LOOK`] clips, from number `first` on, of what has [few](Steps::few) codes.
///
/// Bit 15 of what is added to round a product is the sign of the weight, so that after the shift a code below zero is one of the second
/// half of the table, whose limit is another.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn squares(steps: &Steps, first: usize, us: &[u16], limits: &[u16], errors: &mut [u64]) {
    let (above, below) = (steps.grid.limits as u16, (steps.grid.limits >> 16) as u16);
    let set = |x: u16| _mm512_set1_epi16(x as i16);
    let Step { half, unshift, .. } = steps.at(first);
    let unshift = set(unshift);
    let codes = codes(steps.k, above, below);
    let zero = _mm512_setzero_si512();
    let (mut inverses, mut tables, mut sums) = ([zero; LOOK], [zero; LOOK], [zero; LOOK]);
    for i in 0..LOOK {
        let step = steps.at(first + i);
        inverses[i] = set(step.inverse);
        let part = _mm512_mulhrs_epi16(codes, set(step.part));
        tables[i] = _mm512_add_epi16(_mm512_mullo_epi16(codes, set(step.whole)), part);
    }
    let low = _mm512_set1_epi64(0xffff_ffff);
    for (us, limits) in us.chunks(MANY * LANES).zip(limits.chunks(MANY * LANES)) {
        let mut pairs = [zero; LOOK];
        for (us, limits) in us.chunks(LANES).zip(limits.chunks(LANES)) {
            let (u, limits) = (load(us), load(limits));
            let negative = _mm512_cmpneq_epi16_mask(limits, set(above));
            let round = _mm512_mask_blend_epi16(negative, set(half), set(half | 0x8000));
            for i in 0..LOOK {
                let product = _mm512_add_epi16(upper(u, inverses[i]), round);
                let at = upper(product, unshift);
                let error = _mm512_sub_epi16(u, _mm512_permutexvar_epi16(at, tables[i]));
                pairs[i] = _mm512_dpwssd_epi32(pairs[i], error, error);
            }
        }
        for (sum, pairs) in sums.iter_mut().zip(pairs) {
            let both =
                _mm512_add_epi64(_mm512_and_si512(pairs, low), _mm512_srli_epi64::<32>(pairs));
            *sum = _mm512_add_epi64(*sum, both);
        }
    }
    errors.copy_from_slice(&totals(sums));
}

/// Of every place of a table its code: in the first half those up to `above`, in the second those up to `below`; again and again where
/// codes are of fewer bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes(k: u32, above: u16, below: u16) -> __m512i {
    let set = |x: u16| _mm512_set1_epi16(x as i16);
    // The sign is bit 15 before the shift.
    let sign = 1u16 << (31 - k);
    let places = load(&PLACES);
    let limits =
        _mm512_mask_blend_epi16(_mm512_test_epi16_mask(places, set(sign)), set(above), set(below));
    _mm512_min_epu16(_mm512_and_si512(places, set(sign - 1)), limits)
}

const PLACES: [u16; LANES] = {
    let (mut places, mut i) = ([0; LANES], 0);
    while i < LANES {
        places[i] = i as u16;
        i += 1;
    }
    places
};

/// At most a vector; what is missing is zero, which has no error.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(from: &[u16]) -> __m512i {
    let there = u32::MAX >> (LANES - from.len().min(LANES));
    // SAFETY: so many of them are read, and no more.
    unsafe { _mm512_maskz_loadu_epi16(there, from.as_ptr().cast()) }
}

/// The upper halves of products; see the loops of one clip for why they are in words of their own.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn upper(a: __m512i, b: __m512i) -> __m512i {
    let product: __m512i;
    // SAFETY: an instruction on registers that the machine was asked for.
    unsafe {
        std::arch::asm!(
            "vpmulhuw {product}, {a}, {b}",
            product = lateout(zmm_reg) product,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    product
}

/// The sum of each vector, in their order: halves of pairs of vectors are added until there is one.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(sums: [__m512i; 8]) -> [u64; 8] {
    let pairs = |i: usize| {
        let (a, b) = (sums[2 * i], sums[2 * i + 1]);
        _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    };
    let quarters = |a, b| {
        let (even, odd) = (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b));
        _mm512_add_epi64(even, odd)
    };
    let all = quarters(quarters(pairs(0), pairs(1)), quarters(pairs(2), pairs(3)));
    // SAFETY: a vector is so many bytes, each pattern of which is a number.
    unsafe { std::mem::transmute(all) }
}
