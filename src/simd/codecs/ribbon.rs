//! A ribbon and the stream of its results: the inner loop of the codec of that name, which says what a ribbon is and how one is
//! made.

use crate::simd::codecs::hash::{NONE, STEP, high, mix};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Starts of a bucket.
pub(crate) const BUCKET: usize = 128;

/// A ribbon: where windows start, and its slots.
pub(crate) struct Ribbon {
    /// Slots by 64.
    pub(crate) groups: usize,
    /// Whether windows start in the order of positions.
    pub(crate) ordered: bool,
    pub(crate) seed: u32,
    /// How far positions are shifted to fill 32 bits, if ordered.
    pub(crate) shift: u32,
    /// What the high part of a product with is the start.
    pub(crate) scale: u32,
    /// For each bucket how many of its low starts are bumped; none for the last ribbon.
    pub(crate) bumps: Vec<u8>,
    /// `t` words for each group of 64 slots, and a group of zeros.
    pub(crate) slots: Vec<u64>,
}

impl Ribbon {
    /// A ribbon without slots; `groups` is at least 1.
    pub(crate) fn new(number: usize, ordered: bool, positions: usize, groups: usize) -> Self {
        let starts = groups as u64 * 64 - 63;
        let bits = positions.next_power_of_two().ilog2().max(1);
        // Below 2^32 times the starts by the positions, so the last position starts before the end.
        let scale = if ordered { (starts << bits) / positions as u64 } else { starts };
        let seed = STEP.wrapping_mul(number as u32 + 1);
        let (shift, scale) = (32 - bits, scale as u32);
        Self { groups, ordered, seed, shift, scale, bumps: vec![], slots: vec![] }
    }

    /// Where a position's window starts, its coefficients, of which the first is 1, and its mask of 15 bits.
    #[inline(always)]
    pub(crate) fn equation(&self, position: u32) -> (u32, u64, u16) {
        let low = mix(position.wrapping_add(self.seed));
        let upper = mix(low.wrapping_add(STEP));
        let other = mix(upper.wrapping_add(STEP));
        let at = if self.ordered { position << self.shift } else { other };
        let coefficients = u64::from(upper) << 32 | u64::from(low) | 1;
        (high(at, self.scale), coefficients, other as u16 & 0x7fff)
    }

    /// Whether the bucket of this start has bumped it.
    #[inline(always)]
    pub(crate) fn bumped(&self, start: u32) -> bool {
        let bump = self.bumps.get(start as usize / BUCKET).copied().unwrap_or(0);
        start as usize % BUCKET < bump.into()
    }

    /// The result for a position, or [`NONE`] if it was bumped.
    pub(crate) fn result(&self, position: u32, t: u32) -> u16 {
        let (start, coefficients, mask) = self.equation(position);
        if self.bumped(start) {
            return NONE;
        }
        let (group, shift) = (start as usize / 64 * t as usize, start % 64);
        let bit = |k: usize| {
            let (low, high) = (self.slots[group + k], self.slots[group + t as usize + k]);
            let window = low >> shift | (high << 1) << (63 - shift);
            (((window & coefficients).count_ones() & 1) as u16) << k
        };
        (0..t as usize).map(bit).sum::<u16>() ^ mask & ((1 << t) - 1)
    }
}

/// [`Ribbon::result`] for neighbouring positions from `first` on.
pub(crate) fn results(ribbon: &Ribbon, t: u32, first: u32, out: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if detected!("avx512f") && detected!("avx512bw") && detected!("avx512vpopcntdq") {
        // SAFETY: the machine has the instructions.
        return unsafe {
            match t {
                0..=8 => results_avx512::<1>(ribbon, t, first, out),
                _ => results_avx512::<2>(ribbon, t, first, out),
            }
        };
    }
    plain(ribbon, t, first, out);
}

fn plain(ribbon: &Ribbon, t: u32, first: u32, out: &mut [u16]) {
    for (out, position) in out.iter_mut().zip(first..) {
        *out = ribbon.result(position, t);
    }
}

/// [`mix`] of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn mixed(x: __m512i) -> __m512i {
    let x = _mm512_xor_si512(x, _mm512_srli_epi32::<16>(x));
    let x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x7feb_352d));
    let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
    let x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x846c_a68b_u32 as i32));
    _mm512_xor_si512(x, _mm512_srli_epi32::<16>(x))
}

/// The bits of a result are neighbours in memory: up to 8 in each of `VECTORS` vectors, whose lanes are masked by the
/// coefficients and counted.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn results_avx512<const VECTORS: usize>(ribbon: &Ribbon, t: u32, first: u32, out: &mut [u16]) {
    let step = _mm512_set1_epi32(STEP as i32);
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let scale = _mm512_set1_epi32(ribbon.scale as i32);
    let shift = _mm_cvtsi32_si128(ribbon.shift as i32);
    let one = _mm512_set1_epi64(1);
    let t = t as usize;
    let masks: [u8; VECTORS] = std::array::from_fn(|v| match t - 8 * v {
        8.. => 0xff,
        few => (1 << few) - 1,
    });
    let [mut starts, mut lows, mut highs, mut others] = [[0u32; 16]; 4];
    for (i, out) in out.chunks_mut(16).enumerate() {
        let position = first.wrapping_add(16 * i as u32);
        let position = _mm512_add_epi32(_mm512_set1_epi32(position as i32), lanes);
        let low = mixed(_mm512_add_epi32(position, _mm512_set1_epi32(ribbon.seed as i32)));
        let high = mixed(_mm512_add_epi32(low, step));
        let other = mixed(_mm512_add_epi32(high, step));
        let at = if ribbon.ordered { _mm512_sll_epi32(position, shift) } else { other };
        let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(at, scale));
        let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(at), scale);
        let start = _mm512_mask_blend_epi32(0xaaaa, even, odd);
        // SAFETY: 16 lanes each.
        unsafe {
            _mm512_storeu_si512(starts.as_mut_ptr().cast(), start);
            _mm512_storeu_si512(lows.as_mut_ptr().cast(), low);
            _mm512_storeu_si512(highs.as_mut_ptr().cast(), high);
            _mm512_storeu_si512(others.as_mut_ptr().cast(), other);
        }
        for (i, out) in out.iter_mut().enumerate() {
            let start = starts[i] as usize;
            let group = &ribbon.slots[start / 64 * t..][..2 * t];
            let coefficients = u64::from(highs[i]) << 32 | u64::from(lows[i]) | 1;
            let coefficients = _mm512_set1_epi64(coefficients as i64);
            let shift = (start % 64) as i64;
            let (right, left) = (_mm512_set1_epi64(shift), _mm512_set1_epi64(64 - shift));
            let mut result = 0;
            for (v, mask) in masks.into_iter().enumerate() {
                // SAFETY: two groups of `t` words, of which masked lanes are not read.
                let (low, high) = unsafe {
                    let low = group.as_ptr().add(8 * v).cast();
                    let high = group.as_ptr().add(t + 8 * v).cast();
                    (_mm512_maskz_loadu_epi64(mask, low), _mm512_maskz_loadu_epi64(mask, high))
                };
                // A shift by 64 gives 0.
                let window =
                    _mm512_or_si512(_mm512_srlv_epi64(low, right), _mm512_sllv_epi64(high, left));
                let ones = _mm512_popcnt_epi64(_mm512_and_si512(window, coefficients));
                result |= u16::from(_mm512_test_epi64_mask(ones, one)) << (8 * v);
            }
            let bump = ribbon.bumps.get(start / BUCKET).copied().unwrap_or(0);
            *out = if start % BUCKET < bump.into() {
                NONE
            } else {
                result ^ others[i] as u16 & ((1 << t) - 1)
            };
        }
    }
}
