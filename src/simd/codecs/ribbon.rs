//! The stream of a ribbon's results: the inner loop of [`crate::codec::retrieval::ribbon`].

use crate::codec::retrieval::{
    NONE, STEP,
    ribbon::{BUCKET, Ribbon},
};
#[cfg(target_arch = "x86_64")]
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn mix(x: __m512i) -> __m512i {
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
        let low = mix(_mm512_add_epi32(position, _mm512_set1_epi32(ribbon.seed as i32)));
        let high = mix(_mm512_add_epi32(low, step));
        let other = mix(_mm512_add_epi32(high, step));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::retrieval::ribbon::{Parts, encode, parts};

    #[test]
    fn results_are_the_plain_ones() {
        let mask: Vec<u32> =
            (0..1000u32).map(|i| i.wrapping_mul(0x9e37_79b9) & 0x1111_0101).collect();
        let survivors: u32 = mask.iter().map(|word| word.count_ones()).sum();
        let values = vec![1; survivors as usize];
        for t in 1..=15 {
            let mut bytes = vec![];
            encode(32_000, &mask, &values, (1, t), &mut bytes);
            let Parts { ribbons, .. } = parts(&bytes, 32_000).unwrap().unwrap();
            assert!(ribbons.len() > 1 && ribbons[0].bumps.iter().any(|b| *b > 0));
            for ribbon in &ribbons {
                for (first, len) in [(0, 100), (5, 1), (1003, 1024), (31_000, 1000)] {
                    let (mut got, mut expected) = (vec![7; len], vec![7; len]);
                    results(ribbon, t, first, &mut got);
                    plain(ribbon, t, first, &mut expected);
                    assert_eq!(got, expected, "{t} bits, from {first}");
                }
            }
        }
    }
}
