//! The instructions that sums of f32 products need: sixteen lanes, of which each is a sum of its own.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Lanes, whatever the machine: it is they that fix the order of summation.
pub(super) const LANES: usize = 16;

/// Sixteen lanes on some machine. Having a value of it proves that the machine has the instructions.
pub(super) trait Floats: Copy + Send + Sync + 'static {
    /// Sixteen lanes.
    type V: Copy;
    /// Rows of a tile of four columns whose sums fit the registers, at most 6.
    const ROWS: usize;

    /// Asks the machine.
    fn detect() -> Option<Self>;

    /// Runs `work` where the compiler may use these instructions.
    fn enter(self, work: impl FloatWork);

    fn zero(self) -> Self::V;

    /// The first `count` lanes, at most all, from memory; the others are zero.
    ///
    /// # Safety
    ///
    /// They must be readable.
    unsafe fn load(self, from: *const f32, count: usize) -> Self::V;

    /// `sum + x w`, rounded twice: machines that cannot round once are to give the same bits.
    fn mul_add(self, sum: Self::V, x: Self::V, w: Self::V) -> Self::V;

    /// The sums of all lanes of each of four vectors, each as [`total`] adds them.
    fn totals(self, v: [Self::V; 4]) -> [f32; 4];
}

/// Something to do with the instructions of a [`Floats`].
pub(super) trait FloatWork {
    /// Must be `#[inline(always)]`, as all that it calls, to be compiled with them.
    fn run<F: Floats>(self, floats: F);
}

/// The sum of sixteen lanes, in the order that vector instructions find easiest.
fn total(v: [f32; LANES]) -> f32 {
    let quarter = |q: usize| (v[4 * q] + v[4 * q + 2]) + (v[4 * q + 1] + v[4 * q + 3]);
    (quarter(0) + quarter(2)) + (quarter(1) + quarter(3))
}

/// Any machine.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Floats for Plain {
    type V = [f32; LANES];
    const ROWS: usize = 1;

    fn detect() -> Option<Self> {
        Some(Self)
    }

    fn enter(self, work: impl FloatWork) {
        work.run(self);
    }

    #[inline(always)]
    fn zero(self) -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, count: usize) -> [f32; LANES] {
        if count >= LANES {
            // SAFETY: the caller answers for all lanes.
            return unsafe { from.cast::<[f32; LANES]>().read() };
        }
        let mut v = [0.0; LANES];
        for (l, lane) in v.iter_mut().enumerate().take(count) {
            // SAFETY: the caller answers for this lane.
            *lane = unsafe { *from.add(l) };
        }
        v
    }

    #[inline(always)]
    fn mul_add(self, mut sum: [f32; LANES], x: [f32; LANES], w: [f32; LANES]) -> [f32; LANES] {
        for l in 0..LANES {
            sum[l] += x[l] * w[l];
        }
        sum
    }

    #[inline(always)]
    fn totals(self, v: [[f32; LANES]; 4]) -> [f32; 4] {
        v.map(total)
    }
}

/// AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Floats for Avx512 {
    type V = __m512;
    const ROWS: usize = 6;

    fn detect() -> Option<Self> {
        detected!("avx512f").then_some(Self(()))
    }

    fn enter(self, work: impl FloatWork) {
        #[target_feature(enable = "avx512f")]
        fn enter(floats: Avx512, work: impl FloatWork) {
            work.run(floats);
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { enter(self, work) }
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: `self` proves that the machine has the instruction, here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: as above, and a masked lane is not read.
        unsafe {
            match count {
                LANES.. => _mm512_loadu_ps(from),
                _ => _mm512_maskz_loadu_ps((1 << count) - 1, from),
            }
        }
    }

    #[inline(always)]
    fn mul_add(self, sum: __m512, x: __m512, w: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(sum, _mm512_mul_ps(x, w)) }
    }

    #[inline(always)]
    fn totals(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: as above; four lanes are as large as an array of four.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let quarters = _mm512_add_ps(
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
            );
            let high = _mm512_castps_pd(quarters);
            let halves = _mm256_add_ps(
                _mm512_castps512_ps256(quarters),
                _mm256_castpd_ps(_mm512_extractf64x4_pd(high, 1)),
            );
            let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
            std::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
}

/// AVX.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx(());

#[cfg(target_arch = "x86_64")]
impl Floats for Avx {
    type V = [__m256; 2];
    const ROWS: usize = 1;

    fn detect() -> Option<Self> {
        detected!("avx").then_some(Self(()))
    }

    fn enter(self, work: impl FloatWork) {
        #[target_feature(enable = "avx")]
        fn enter(floats: Avx, work: impl FloatWork) {
            work.run(floats);
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { enter(self, work) }
    }

    #[inline(always)]
    fn zero(self) -> [__m256; 2] {
        // SAFETY: `self` proves that the machine has the instruction, here and below.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, count: usize) -> [__m256; 2] {
        if count >= LANES {
            // SAFETY: as above.
            return unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] };
        }
        let mut lanes = [0.0f32; LANES];
        for (l, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller answers for this lane.
            *lane = unsafe { *from.add(l) };
        }
        // SAFETY: as above, of an array.
        unsafe { [_mm256_loadu_ps(lanes.as_ptr()), _mm256_loadu_ps(lanes.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn mul_add(self, sum: [__m256; 2], x: [__m256; 2], w: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            [
                _mm256_add_ps(sum[0], _mm256_mul_ps(x[0], w[0])),
                _mm256_add_ps(sum[1], _mm256_mul_ps(x[1], w[1])),
            ]
        }
    }

    #[inline(always)]
    fn totals(self, [a, b, c, d]: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: as above; four lanes are as large as an array of four.
        unsafe {
            let mut halves = [_mm256_setzero_ps(); 2];
            for h in 0..2 {
                let (a, b, c, d) = (a[h], b[h], c[h], d[h]);
                let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
                halves[h] = _mm256_add_ps(
                    _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                    _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
                );
            }
            let half = _mm256_add_ps(halves[0], halves[1]);
            let sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
            std::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
}
