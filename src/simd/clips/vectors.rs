//! The sums of squared errors at one clip, as many weights at a time as a vector has room for; the rest by the portable loops.

macro_rules! vectors {
    (
        $module:ident, $features:literal, $vector:ident, $lanes:literal, $load:ident, $set16:ident, $mask:expr,
        $mulhi:literal, $register:ident, $mullo:ident, $mulhrs:ident, $madd:ident, $min:ident, $subs:ident, $sub:ident, $add16:ident,
        $add32:ident, $add64:ident, $and:ident, $srli64:ident, $zero:ident
    ) => {
        pub(super) mod $module {
            use crate::simd::clips::{Step, Steps, portable_beyond, portable_squares};
            use std::arch::x86_64::*;

            /// Adds numbers below 2^32, side by side.
            #[inline]
            #[target_feature(enable = $features)]
            fn add(sums: $vector, pairs: $vector) -> $vector {
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

            /// The sum of the squares of what `error` makes of a weight and its largest code, `MANY` vectors at a time, whose pairs of
            /// squares are below 2^32.
            #[inline]
            #[target_feature(enable = $features)]
            fn sum<const MANY: usize>(
                us: &[[u16; $lanes]],
                limits: &[[u16; $lanes]],
                error: impl Fn(&[u16; $lanes], &[u16; $lanes]) -> $vector,
            ) -> u64 {
                let ((us, us_left), (limits, limits_left)) =
                    (us.as_chunks::<MANY>(), limits.as_chunks::<MANY>());
                let mut sums = $zero();
                for (us, limits) in us.iter().zip(limits) {
                    let mut pairs = $zero();
                    for i in 0..MANY {
                        let error = error(&us[i], &limits[i]);
                        pairs = $add32(pairs, $madd(error, error));
                    }
                    sums = add(sums, pairs);
                }
                let mut pairs = $zero();
                for (u, limit) in us_left.iter().zip(limits_left) {
                    let error = error(u, limit);
                    pairs = $add32(pairs, $madd(error, error));
                }
                sums = add(sums, pairs);
                total(sums)
            }

            /// Two vectors at a time: their pairs of squares are below 2^32 even if every error is 32,767.
            #[target_feature(enable = $features)]
            pub(in crate::simd::clips) fn any(
                steps: &Steps,
                first: usize,
                us: &[u16],
                limits: &[u16],
                errors: &mut [u64],
            ) {
                let ((us, rest), (limits, rest_limits)) = (us.as_chunks(), limits.as_chunks());
                for (of_clip, clip) in errors.iter_mut().zip(first..) {
                    let step = &steps.at(clip);
                    let (inverse, wide) = ($set16(step.inverse as i16), $set16(step.wide as i16));
                    let (half, unshift) = ($set16(step.half as i16), $set16(step.unshift as i16));
                    let sum = sum::<2>(us, limits, |u, limit| {
                        let u = load(u);
                        let product = $add16($add16(upper(u, inverse), $and(u, wide)), half);
                        let code = $min(upper(product, unshift), load(limit));
                        $sub(u, restored(step, code))
                    });
                    *of_clip = sum + portable_squares(step, rest, rest_limits);
                }
            }

            /// Four at a time, whose errors are small, and inverse steps of 16 bits.
            #[target_feature(enable = $features)]
            pub(in crate::simd::clips) fn plain(
                steps: &Steps,
                first: usize,
                us: &[u16],
                limits: &[u16],
                errors: &mut [u64],
            ) {
                let ((us, rest), (limits, rest_limits)) = (us.as_chunks(), limits.as_chunks());
                for (of_clip, clip) in errors.iter_mut().zip(first..) {
                    let step = &steps.at(clip);
                    let inverse = $set16(step.inverse as i16);
                    let (half, unshift) = ($set16(step.half as i16), $set16(step.unshift as i16));
                    let sum = sum::<4>(us, limits, |u, limit| {
                        let u = load(u);
                        let product = $add16(upper(u, inverse), half);
                        let code = $min(upper(product, unshift), load(limit));
                        $sub(u, restored(step, code))
                    });
                    *of_clip = sum + portable_squares(step, rest, rest_limits);
                }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd::clips) fn beyond(
                steps: &Steps,
                clip: usize,
                us: &[u16],
                limits: &[u16],
            ) -> u64 {
                let ((us, rest), (limits, rest_limits)) = (us.as_chunks(), limits.as_chunks());
                let step = &steps.at(clip);
                let sum = sum::<2>(us, limits, |u, limit| {
                    $subs(load(u), restored(step, load(limit)))
                });
                sum + portable_beyond(steps, clip, rest, rest_limits)
            }
        }
    };
}

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
    _mm256_srli_epi64,
    _mm256_setzero_si256
);

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
    _mm512_srli_epi64,
    _mm512_setzero_si512
);
