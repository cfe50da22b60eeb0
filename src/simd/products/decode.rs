//! Decoders of packed weights with AVX-512: sixty-four weights at a time, as four vectors.

use crate::{
    DType, dtype,
    simd::products::{
        floats::{Avx512, Floats},
        rows::Packed,
    },
};
use std::arch::x86_64::*;

/// Weights that are decoded at a time.
pub(super) const BLOCK: usize = 64;

/// Weights of one form. Having a value of it proves that the machine has AVX-512 with its byte instructions.
pub(super) trait Decode: Sync {
    /// Whether a row leaves enough registers to decode two at a time.
    const SIDE_BY_SIDE: bool = true;
    /// What is known of a row.
    type Row: Copy;

    /// Row `n`.
    ///
    /// # Safety
    ///
    /// The row must exist.
    unsafe fn row(&self, n: usize) -> Self::Row;

    /// The weights from `at` on, which is where the last block of this row ended. Lanes beyond `count` hold anything.
    ///
    /// # Safety
    ///
    /// `count` weights, 1 to 64, must be there.
    unsafe fn block(&self, row: &mut Self::Row, at: usize, count: usize) -> [__m512; 4];
}

/// Something to do with the weights.
pub(super) trait DecodeWork {
    fn run<D: Decode>(self, floats: Avx512, decoder: &D);
}

/// Tables of 256 entries that are worth laying out for a product.
const TABLES: usize = 16;

/// Does `work` with the decoder of `w`, of `rows` rows and `cols` columns, if there is one.
pub(super) fn with(w: Packed, (rows, cols): (usize, usize), work: impl DecodeWork) -> bool {
    let bytes = detected!("avx512bw")
        && detected!("avx512vl")
        && detected!("avx512vbmi")
        && detected!("popcnt");
    let Some(floats) = Avx512::detect().filter(|_| bytes) else { return false };
    match w {
        Packed::Dense { words, dtype } => {
            assert!(words.len() >= crate::words(dtype, rows * cols));
            match dtype {
                DType::F32 => work.run(floats, &Dense::<4> { words, cols, bf16: false }),
                DType::F16 => work.run(floats, &Dense::<2> { words, cols, bf16: false }),
                DType::BF16 => work.run(floats, &Dense::<2> { words, cols, bf16: true }),
                DType::F8E4M3 | DType::F8E5M2 => {
                    let planes = [planes(dtype::f8_table(dtype))];
                    // Elements of a byte need no fresh word.
                    let codes = bytemuck::cast_slice(words);
                    work.run(floats, &Bytes { codes, stride: cols, planes: &planes, share: rows });
                }
                _ => return false,
            }
        }
        Packed::Palette { codes, bits, entries, k, share } => {
            let stride = (cols * bits as usize).div_ceil(32);
            assert!(codes.len() >= rows * stride && k > 0 && share > 0);
            assert!(entries.len() >= rows.div_ceil(share) * k);
            let tables = Entries { entries, k, share, bits };
            match bits {
                1 => work.run(floats, &Codes::<1, _> { codes, stride, tables }),
                2 => work.run(floats, &Codes::<2, _> { codes, stride, tables }),
                4 => work.run(floats, &Codes::<4, _> { codes, stride, tables }),
                8 if rows.div_ceil(share) <= TABLES => {
                    let tables = entries.chunks_exact(k).map(|entries| {
                        let mut full = [entries[k - 1]; 256];
                        full[..k].copy_from_slice(entries);
                        planes(&full)
                    });
                    let planes: Vec<_> = tables.collect();
                    let codes = bytemuck::cast_slice(codes);
                    work.run(floats, &Bytes { codes, stride: 4 * stride, planes: &planes, share });
                }
                _ => return false,
            }
        }
        Packed::Affine { codes, bits, symmetric, scales, group } => {
            let stride = (cols * bits as usize).div_ceil(32);
            assert!(codes.len() >= rows * stride && group > 0);
            assert!(scales.len() >= (rows * cols).div_ceil(group));
            let shift = match group {
                _ if group.is_multiple_of(cols) => usize::BITS - 1,
                16.. if group.is_power_of_two() && cols.is_multiple_of(group) => {
                    group.trailing_zeros()
                }
                _ => return false,
            };
            let scales = Scales { scales, group, cols, shift, symmetric, bits };
            match bits {
                2 => work.run(floats, &Codes::<2, _> { codes, stride, tables: scales }),
                4 => work.run(floats, &Codes::<4, _> { codes, stride, tables: scales }),
                8 => work.run(floats, &Integers { codes, stride, scales }),
                _ => return false,
            }
        }
        Packed::Vectors => return false,
        Packed::Sparse { mask, starts, values, dtype, survivors } => {
            let stride = cols.div_ceil(32);
            assert!(mask.len() >= rows * stride && starts.len() >= rows * stride);
            assert!(values.len() >= crate::words(dtype, survivors));
            macro_rules! run {
                ($size:literal, $bf16:literal) => {
                    work.run(
                        floats,
                        &Sparse::<$size> { mask, starts, values, survivors, stride, bf16: $bf16 },
                    )
                };
            }
            match dtype {
                DType::F32 => run!(4, false),
                DType::F16 => run!(2, false),
                DType::BF16 => run!(2, true),
                _ => return false,
            }
        }
    }
    true
}

/// The first `count` lanes, at most 16.
#[inline(always)]
pub(super) fn mask(count: usize) -> u16 {
    ((1u32 << count.min(16)) - 1) as u16
}

/// The first `count` elements of `SIZE` bytes, at most 16, as f32; the others are zero.
///
/// # Safety
///
/// They must be readable, and the machine must have the instructions.
#[inline(always)]
unsafe fn elements<const SIZE: usize>(
    from: *const u32,
    first: usize,
    count: usize,
    bf16: bool,
) -> __m512 {
    // SAFETY: the caller answers for the elements; a masked one is not read.
    unsafe {
        if SIZE == 4 {
            return match count {
                16.. => _mm512_loadu_ps(from.add(first).cast()),
                _ => _mm512_maskz_loadu_ps(mask(count), from.add(first).cast()),
            };
        }
        let halves = from.cast::<i16>().wrapping_add(first);
        let halves = match count {
            16.. => _mm256_loadu_si256(halves.cast()),
            _ => _mm256_maskz_loadu_epi16(mask(count), halves),
        };
        match bf16 {
            true => _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)),
            false => _mm512_cvtph_ps(halves),
        }
    }
}

/// Elements of 4 bytes, or of 2.
struct Dense<'a, const SIZE: usize> {
    words: &'a [u32],
    cols: usize,
    bf16: bool,
}

impl<const SIZE: usize> Decode for Dense<'_, SIZE> {
    /// The number of its first element.
    type Row = usize;

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> usize {
        n * self.cols
    }

    #[inline(always)]
    unsafe fn block(&self, row: &mut usize, at: usize, count: usize) -> [__m512; 4] {
        // SAFETY: the caller answers for the elements.
        unsafe {
            let mut out = [_mm512_setzero_ps(); 4];
            for (q, out) in out.iter_mut().enumerate() {
                let left = count.saturating_sub(16 * q);
                if left == 0 {
                    break;
                }
                *out = elements::<SIZE>(self.words.as_ptr(), *row + at + 16 * q, left, self.bf16);
            }
            out
        }
    }
}

/// Where the values come from that codes of few bits stand for: a vector in which lane c is the value of code c, repeated where
/// there are fewer codes than lanes.
trait Tables: Sync {
    type Row: Copy;

    /// # Safety
    ///
    /// The row must exist, and the machine must have the instructions.
    unsafe fn row(&self, n: usize) -> Self::Row;

    /// The table of the sixteen weights from column `at` on.
    ///
    /// # Safety
    ///
    /// They must be there, and the machine must have the instructions.
    unsafe fn at(&self, row: Self::Row, at: usize) -> __m512;
}

/// Tables of a palette.
struct Entries<'a> {
    entries: &'a [f32],
    k: usize,
    share: usize,
    bits: u32,
}

impl Tables for Entries<'_> {
    type Row = __m512;

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> __m512 {
        let entries = &self.entries[n / self.share * self.k..][..self.k];
        let codes = (1 << self.bits) - 1;
        let table: [f32; 16] = std::array::from_fn(|lane| entries[(lane & codes).min(self.k - 1)]);
        // SAFETY: the caller answers for the instructions.
        unsafe { _mm512_loadu_ps(table.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn at(&self, row: __m512, _: usize) -> __m512 {
        row
    }
}

/// The values of integer codes.
struct Scales<'a> {
    scales: &'a [[u32; 2]],
    group: usize,
    cols: usize,
    /// By how much a column is shifted to be the number of its group in the row.
    shift: u32,
    symmetric: bool,
    bits: u32,
}

impl Scales<'_> {
    /// The number of the first group of a row.
    #[inline(always)]
    fn first(&self, n: usize) -> usize {
        n * self.cols / self.group
    }

    /// Scale and zero point of a group of a row.
    #[inline(always)]
    fn of(&self, first: usize, at: usize) -> (f32, i32) {
        let [scale, zero_point] = self.scales[first + (at >> self.shift)];
        (f32::from_bits(scale), zero_point as i32)
    }
}

impl Tables for Scales<'_> {
    /// The integers, and the number of the first group.
    type Row = (__m512, usize);

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> (__m512, usize) {
        let codes = (1 << self.bits) - 1;
        let integer = |lane: i32| {
            let (code, sign) = (lane & codes, (codes + 1) / 2);
            if self.symmetric && code >= sign { code - codes - 1 } else { code }
        };
        let table: [f32; 16] = std::array::from_fn(|lane| integer(lane as i32) as f32);
        // SAFETY: the caller answers for the instructions.
        (unsafe { _mm512_loadu_ps(table.as_ptr()) }, self.first(n))
    }

    #[inline(always)]
    unsafe fn at(&self, (integers, first): (__m512, usize), at: usize) -> __m512 {
        let (scale, zero_point) = self.of(first, at);
        // SAFETY: the caller answers for the instructions.
        unsafe {
            let integers = match self.symmetric {
                true => integers,
                false => _mm512_sub_ps(integers, _mm512_set1_ps(zero_point as f32)),
            };
            _mm512_mul_ps(integers, _mm512_set1_ps(scale))
        }
    }
}

/// Codes of 1, 2 or 4 bits: a look-up in a register each.
struct Codes<'a, const BITS: usize, T> {
    codes: &'a [u32],
    /// Words of a row.
    stride: usize,
    tables: T,
}

impl<const BITS: usize, T: Tables> Decode for Codes<'_, BITS, T> {
    type Row = (*const u32, T::Row);

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> Self::Row {
        let codes = self.codes[n * self.stride..][..self.stride].as_ptr();
        // SAFETY: the caller answers for the row.
        (codes, unsafe { self.tables.row(n) })
    }

    #[inline(always)]
    unsafe fn block(&self, (codes, row): &mut Self::Row, at: usize, count: usize) -> [__m512; 4] {
        // SAFETY: the words that hold `count` codes are those of this row; no other is read.
        unsafe {
            let words = (count * BITS).div_ceil(32);
            let from = codes.add(at * BITS / 32);
            let packed = match count {
                BLOCK => match BITS {
                    4 => _mm512_castsi256_si512(_mm256_loadu_si256(from.cast())),
                    2 => _mm512_castsi128_si512(_mm_loadu_si128(from.cast())),
                    _ => _mm512_castsi128_si512(_mm_loadl_epi64(from.cast())),
                },
                _ => _mm512_maskz_loadu_epi32(mask(words), from.cast()),
            };
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            // The word of a lane's code, and where it begins in that. What lies above it is another of the equal entries.
            let (of_word, shift) = match BITS {
                4 => {
                    let within = _mm512_and_si512(lanes, _mm512_set1_epi32(7));
                    (_mm512_srli_epi32(lanes, 3), _mm512_slli_epi32(within, 2))
                }
                2 => (_mm512_setzero_si512(), _mm512_slli_epi32(lanes, 1)),
                _ => (_mm512_setzero_si512(), lanes),
            };
            let mut out = [_mm512_setzero_ps(); 4];
            for (q, out) in out.iter_mut().enumerate() {
                if 16 * q >= count {
                    break;
                }
                let word = (16 * q * BITS / 32) as i32;
                let begins = (16 * q * BITS % 32) as i32;
                let words = _mm512_permutexvar_epi32(
                    _mm512_add_epi32(of_word, _mm512_set1_epi32(word)),
                    packed,
                );
                let shift = _mm512_add_epi32(shift, _mm512_set1_epi32(begins));
                let codes = _mm512_srlv_epi32(words, shift);
                *out = _mm512_permutexvar_ps(codes, self.tables.at(*row, at + 16 * q));
            }
            out
        }
    }
}

/// Integer codes of 8 bits.
struct Integers<'a> {
    codes: &'a [u32],
    /// Words of a row.
    stride: usize,
    scales: Scales<'a>,
}

impl Decode for Integers<'_> {
    type Row = (*const u8, usize);

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> Self::Row {
        (self.codes[n * self.stride..][..self.stride].as_ptr().cast(), self.scales.first(n))
    }

    #[inline(always)]
    unsafe fn block(&self, (codes, first): &mut Self::Row, at: usize, count: usize) -> [__m512; 4] {
        // SAFETY: `count` codes are those of this row; no other is read.
        unsafe {
            let mut out = [_mm512_setzero_ps(); 4];
            for (q, out) in out.iter_mut().enumerate() {
                let (at, count) = (at + 16 * q, count.saturating_sub(16 * q));
                if count == 0 {
                    break;
                }
                let codes = match count {
                    16.. => _mm_loadu_si128(codes.add(at).cast()),
                    _ => _mm_maskz_loadu_epi8(mask(count), codes.add(at).cast()),
                };
                let (scale, zero_point) = self.scales.of(*first, at);
                let integers = match self.scales.symmetric {
                    true => _mm512_cvtepi8_epi32(codes),
                    false => {
                        let zero_point = _mm512_set1_epi32(zero_point);
                        _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), zero_point)
                    }
                };
                *out = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(scale));
            }
            out
        }
    }
}

/// A table of 256 values as its bytes: first the lowest of every value, at last the highest.
type Planes = [[u8; 256]; 4];

fn planes(table: &[f32; 256]) -> Planes {
    let mut planes = [[0; 256]; 4];
    for (i, value) in table.iter().enumerate() {
        for (plane, byte) in planes.iter_mut().zip(value.to_le_bytes()) {
            plane[i] = byte;
        }
    }
    planes
}

/// Codes of 8 bits that point into a table: each byte of a value is looked up in four registers. A gather takes as long for
/// sixteen weights as this does for sixty-four.
struct Bytes<'a> {
    codes: &'a [u8],
    /// Bytes of a row.
    stride: usize,
    planes: &'a [Planes],
    /// Rows that share a table.
    share: usize,
}

impl Decode for Bytes<'_> {
    const SIDE_BY_SIDE: bool = false;
    type Row = (*const u8, [[__m512i; 4]; 4]);

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> Self::Row {
        let codes = &self.codes[n * self.stride..][..self.stride];
        // SAFETY: the caller answers for the instructions; a plane has four times 64 bytes.
        unsafe {
            let mut planes = [[_mm512_setzero_si512(); 4]; 4];
            for (plane, bytes) in planes.iter_mut().zip(&self.planes[n / self.share]) {
                for (quarter, bytes) in plane.iter_mut().zip(bytes.as_chunks::<64>().0) {
                    *quarter = _mm512_loadu_si512(bytes.as_ptr().cast());
                }
            }
            (codes.as_ptr(), planes)
        }
    }

    #[inline(always)]
    unsafe fn block(
        &self,
        (codes, planes): &mut Self::Row,
        at: usize,
        count: usize,
    ) -> [__m512; 4] {
        // SAFETY: `count` codes are those of this row; no other is read.
        unsafe {
            let from = codes.add(at);
            let codes = match count {
                BLOCK => _mm512_loadu_si512(from.cast()),
                _ => _mm512_maskz_loadu_epi8((1u64 << count) - 1, from.cast()),
            };
            // Four codes of every sixteen come together in a quarter, so that interleaving within quarters leaves vectors in order.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let codes = _mm512_permutexvar_epi32(order, codes);
            let upper = _mm512_movepi8_mask(codes);
            let mut bytes = [codes; 4];
            for (byte, [a, b, c, d]) in bytes.iter_mut().zip(*planes) {
                let low = _mm512_permutex2var_epi8(a, codes, b);
                let high = _mm512_permutex2var_epi8(c, codes, d);
                *byte = _mm512_mask_blend_epi8(upper, low, high);
            }
            let [a, b, c, d] = bytes;
            let (ab_low, ab_high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            [
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(ab_low, cd_low)),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(ab_low, cd_low)),
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(ab_high, cd_high)),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(ab_high, cd_high)),
            ]
        }
    }
}

/// The survivors of a mask, of 4 bytes or of 2: they are read side by side and spread to where the mask has its bits.
struct Sparse<'a, const SIZE: usize> {
    mask: &'a [u32],
    starts: &'a [u32],
    values: &'a [u32],
    survivors: usize,
    /// Words of a row of the mask.
    stride: usize,
    bf16: bool,
}

impl<const SIZE: usize> Decode for Sparse<'_, SIZE> {
    /// The row's mask, and the number of the next survivor.
    type Row = (*const u32, usize);

    #[inline(always)]
    unsafe fn row(&self, n: usize) -> Self::Row {
        let mask = &self.mask[n * self.stride..][..self.stride];
        (mask.as_ptr(), self.starts[n * self.stride] as usize)
    }

    #[inline(always)]
    unsafe fn block(&self, (words, next): &mut Self::Row, at: usize, count: usize) -> [__m512; 4] {
        // SAFETY: the words that hold `count` bits are those of this row; no survivor is read that is not there.
        unsafe {
            let from = words.add(at / 32);
            let low = u64::from(*from);
            let mut bits = if count > 32 { low | u64::from(*from.add(1)) << 32 } else { low };
            let mut out = [_mm512_setzero_ps(); 4];
            for out in &mut out {
                let here = bits as u16;
                bits >>= 16;
                let kept = here.count_ones() as usize;
                let first = (*next).min(self.survivors);
                let values = elements::<SIZE>(
                    self.values.as_ptr(),
                    first,
                    kept.min(self.survivors - first),
                    self.bf16,
                );
                *out = _mm512_maskz_expand_ps(here, values);
                *next += kept;
            }
            out
        }
    }
}
