//! The instructions that products of 8-bit codes need, in three sets.

use std::arch::x86_64::*;

/// A set of vector instructions. Having a value of it proves that the machine has them.
///
/// A step is what one 32-bit lane of `a` and one of `w` hold: four codes as bytes where the machine multiplies bytes, which must
/// then be unsigned on one side and signed on the other, or two codes as 16-bit integers.
pub(super) trait Isa: Copy + Send + Sync + 'static {
    /// A vector of 32-bit lanes.
    type V: Copy;
    /// Its lanes.
    const LANES: usize;
    /// Steps that a word of four codes takes: 1 or 2.
    const STEPS: usize;
    /// Rows and vectors of a tile whose sums fit the registers and leave room for the factors.
    const TILE: (usize, usize);

    /// Asks the machine.
    fn detect() -> Option<Self>;

    /// Runs `work` where the compiler may use these instructions.
    fn enter(self, work: impl Work);

    fn splat(self, lane: u32) -> Self::V;

    fn add(self, a: Self::V, b: Self::V) -> Self::V;

    /// `sum`, plus the products of each lane's codes. Bytes: `a` or else `w` is the signed side; 16-bit codes have a sign anyway.
    fn dot<const A_SIGNED: bool>(self, sum: Self::V, a: Self::V, w: Self::V) -> Self::V;

    /// The first `count` lanes, at most all, from memory; the others are zero.
    ///
    /// # Safety
    ///
    /// They must be readable.
    unsafe fn load(self, from: *const u32, count: usize) -> Self::V;

    /// The first `count` lanes, at most all, to memory.
    ///
    /// # Safety
    ///
    /// They must be writable.
    unsafe fn store(self, to: *mut i32, count: usize, v: Self::V);

    /// The first `words` words of codes of `w`, at most as many as fill a vector, as steps that suit `dot`.
    ///
    /// # Safety
    ///
    /// They must be readable.
    unsafe fn codes<const A_SIGNED: bool, const W_SIGNED: bool>(
        self,
        from: *const u32,
        words: usize,
    ) -> Self::V;

    /// The sums of all lanes of each of four vectors.
    fn sums(self, v: [Self::V; 4]) -> [i32; 4];
}

/// Something to do with the instructions of an [`Isa`].
pub(super) trait Work {
    /// Must be `#[inline(always)]`, as all that it calls, to be compiled with them.
    fn run<I: Isa>(self, isa: I);
}

/// What makes bytes of `w` suit `dot`: as many as one side must be unsigned, the other signed, and a byte changes sides with its
/// highest bit.
pub(super) const fn flip<I: Isa>(a_signed: bool, w_signed: bool) -> u32 {
    if I::STEPS == 1 && a_signed == w_signed { 0x8080_8080 } else { 0 }
}

/// AVX512-VNNI: 64 products an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512Vnni(());

/// AVX-VNNI: 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct AvxVnni(());

/// AVX2: 16, of 16-bit codes. `vpmaddubsw` would take bytes, but saturates.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Isa for Avx512Vnni {
    type V = __m512i;
    const LANES: usize = 16;
    const STEPS: usize = 1;
    const TILE: (usize, usize) = (8, 3);

    fn detect() -> Option<Self> {
        (detected!("avx512f") && detected!("avx512vnni")).then_some(Self(()))
    }

    fn enter(self, work: impl Work) {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn enter(isa: Avx512Vnni, work: impl Work) {
            work.run(isa);
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { enter(self, work) }
    }

    #[inline(always)]
    fn splat(self, lane: u32) -> __m512i {
        // SAFETY: `self` proves that the machine has the instruction, here and below.
        unsafe { _mm512_set1_epi32(lane as i32) }
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn dot<const A_SIGNED: bool>(self, sum: __m512i, a: __m512i, w: __m512i) -> __m512i {
        let (unsigned, signed) = if A_SIGNED { (w, a) } else { (a, w) };
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sum, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32, count: usize) -> __m512i {
        // SAFETY: as above, and a masked lane is not read.
        unsafe {
            match count {
                16.. => _mm512_loadu_si512(from.cast()),
                _ => _mm512_maskz_loadu_epi32((1 << count) - 1, from.cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, count: usize, v: __m512i) {
        // SAFETY: as above, and a masked lane is not written.
        unsafe {
            match count {
                16.. => _mm512_storeu_si512(to.cast(), v),
                _ => _mm512_mask_storeu_epi32(to, (1 << count) - 1, v),
            }
        }
    }

    #[inline(always)]
    unsafe fn codes<const A_SIGNED: bool, const W_SIGNED: bool>(
        self,
        from: *const u32,
        words: usize,
    ) -> __m512i {
        // SAFETY: as above; the caller answers for the words.
        unsafe {
            let codes = self.load(from, words);
            if A_SIGNED == W_SIGNED {
                _mm512_xor_si512(codes, self.splat(flip::<Self>(A_SIGNED, W_SIGNED)))
            } else {
                codes
            }
        }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
        // SAFETY: as above.
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let all =
                _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            let half =
                _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
            quarter_sums(half)
        }
    }
}

/// The two halves' sum.
///
/// # Safety
///
/// The machine must have AVX2.
#[inline(always)]
unsafe fn quarter_sums(v: __m256i) -> [i32; 4] {
    // SAFETY: the caller answers for the instructions; four lanes are as large as an array of four.
    unsafe {
        let sums = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        std::mem::transmute::<__m128i, [i32; 4]>(sums)
    }
}

/// What the two sets of 256 bits have in common.
macro_rules! isa_256 {
    ($isa:ident, $features:literal, $detect:expr, $steps:literal) => {
        type V = __m256i;
        const LANES: usize = 8;
        const STEPS: usize = $steps;
        const TILE: (usize, usize) = (6, 2);

        fn detect() -> Option<Self> {
            $detect.then_some(Self(()))
        }

        fn enter(self, work: impl Work) {
            #[target_feature(enable = $features)]
            fn enter(isa: $isa, work: impl Work) {
                work.run(isa);
            }
            // SAFETY: `self` proves that the machine has the instructions.
            unsafe { enter(self, work) }
        }

        #[inline(always)]
        fn splat(self, lane: u32) -> __m256i {
            // SAFETY: `self` proves that the machine has the instruction, here and below.
            unsafe { _mm256_set1_epi32(lane as i32) }
        }

        #[inline(always)]
        fn add(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_add_epi32(a, b) }
        }

        #[inline(always)]
        unsafe fn load(self, from: *const u32, count: usize) -> __m256i {
            // SAFETY: as above, and a masked lane is not read.
            unsafe {
                match count {
                    8.. => _mm256_loadu_si256(from.cast()),
                    _ => _mm256_maskload_epi32(from.cast(), mask_256(count)),
                }
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i32, count: usize, v: __m256i) {
            // SAFETY: as above, and a masked lane is not written.
            unsafe {
                match count {
                    8.. => _mm256_storeu_si256(to.cast(), v),
                    _ => _mm256_maskstore_epi32(to, mask_256(count), v),
                }
            }
        }

        #[inline(always)]
        fn sums(self, [a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
            // SAFETY: as above.
            unsafe {
                let (ab, cd) = (_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
                quarter_sums(_mm256_hadd_epi32(ab, cd))
            }
        }
    };
}

/// Lanes whose highest bit is set: the first `count`.
///
/// # Safety
///
/// The machine must have AVX2.
#[inline(always)]
unsafe fn mask_256(count: usize) -> __m256i {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

impl Isa for AvxVnni {
    isa_256!(AvxVnni, "avx2,avxvnni", (detected!("avx2") && detected!("avxvnni")), 1);

    #[inline(always)]
    fn dot<const A_SIGNED: bool>(self, sum: __m256i, a: __m256i, w: __m256i) -> __m256i {
        let (unsigned, signed) = if A_SIGNED { (w, a) } else { (a, w) };
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_dpbusd_avx_epi32(sum, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn codes<const A_SIGNED: bool, const W_SIGNED: bool>(
        self,
        from: *const u32,
        words: usize,
    ) -> __m256i {
        // SAFETY: `self` proves that the machine has the instruction; the caller answers for the words.
        unsafe {
            let codes = self.load(from, words);
            if A_SIGNED == W_SIGNED {
                _mm256_xor_si256(codes, self.splat(flip::<Self>(A_SIGNED, W_SIGNED)))
            } else {
                codes
            }
        }
    }
}

impl Isa for Avx2 {
    isa_256!(Avx2, "avx2", detected!("avx2"), 2);

    #[inline(always)]
    fn dot<const A_SIGNED: bool>(self, sum: __m256i, a: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, w)) }
    }

    #[inline(always)]
    unsafe fn codes<const A_SIGNED: bool, const W_SIGNED: bool>(
        self,
        from: *const u32,
        words: usize,
    ) -> __m256i {
        // SAFETY: `self` proves that the machine has the instructions; the caller answers for the words.
        unsafe {
            let bytes = match words {
                4.. => _mm_loadu_si128(from.cast()),
                _ => _mm_maskload_epi32(from.cast(), _mm256_castsi256_si128(mask_256(words))),
            };
            if W_SIGNED { _mm256_cvtepi8_epi16(bytes) } else { _mm256_cvtepu8_epi16(bytes) }
        }
    }
}
