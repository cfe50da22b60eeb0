//! Products with weights that are decoded on their way into the registers, for few rows of `x`: there the weights are read once, and
//! writing them out as f32 would take longer than the sums.

use crate::simd::products::rows::Packed;
#[cfg(target_arch = "x86_64")]
use crate::simd::products::{
    blocks::{Block, for_each_block, tasks},
    decode::{BLOCK, Decode, DecodeWork, mask, with},
    floats::{Avx512, Floats, LANES},
};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of `x` up to which decoding again for each few of them is cheaper than writing decoded rows out.
pub(crate) const FEW: usize = 4;

/// Multiplies rows of f32 with packed weights: the very bits of [`matmul_f32`](crate::simd::products::matmul_f32()) with the weights decoded.
/// `false`, and nothing done, where this machine or this form has no way to.
///
/// - `x`: `[m, k]`; `w`: `[n, k]`.
/// - `out`: `[m, n]`.
pub(crate) fn matmul_packed(
    x: &[f32],
    w: Packed,
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
) -> bool {
    assert!(x.len() == m * k && out.len() == m * n && m > 0 && n > 0 && k > 0);
    #[cfg(target_arch = "x86_64")]
    return with(w, (n, k), Product { x, sizes: (m, n, k), out });
    #[cfg(not(target_arch = "x86_64"))]
    {
        _ = w;
        false
    }
}

/// Decodes some rows of packed weights; `false`, and nothing done, where this machine or this form has no way to.
///
/// - `w`: `[n, k]`; `rows`: within n.
/// - `out`: `[rows, k]`.
pub(crate) fn decode_rows(
    w: Packed,
    rows: Range<usize>,
    (n, k): (usize, usize),
    out: &mut [f32],
) -> bool {
    assert!(rows.end <= n && out.len() == rows.len() * k && k > 0);
    #[cfg(target_arch = "x86_64")]
    return with(w, (n, k), Rows { first: rows.start, k, out });
    #[cfg(not(target_arch = "x86_64"))]
    {
        _ = w;
        false
    }
}

/// A product to do.
#[cfg(target_arch = "x86_64")]
struct Product<'a> {
    x: &'a [f32],
    sizes: (usize, usize, usize),
    out: &'a mut [f32],
}

/// Columns of outputs whose sums are finished together.
#[cfg(target_arch = "x86_64")]
const COLS: usize = 4;

#[cfg(target_arch = "x86_64")]
impl DecodeWork for Product<'_> {
    fn run<D: Decode>(self, floats: Avx512, decoder: &D) {
        let Self { x, sizes: (m, n, k), out } = self;
        let tasks = tasks(n * k * (m + 2) / 64);
        let cols = n.div_ceil(tasks).next_multiple_of(COLS);
        for_each_block(out, n, (m, cols), tasks, |out| {
            // SAFETY: whoever has a decoder has asked the machine.
            unsafe { enter(Task { floats, decoder, x, k, out }) }
        });
    }
}

/// Some columns of outputs.
#[cfg(target_arch = "x86_64")]
struct Task<'a, D> {
    floats: Avx512,
    decoder: &'a D,
    x: &'a [f32],
    k: usize,
    out: Block<'a, f32>,
}

/// # Safety
///
/// The machine must have the instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
unsafe fn enter<D: Decode>(task: Task<D>) {
    let Task { floats, decoder, x, k, mut out } = task;
    let (rows, cols) = (out.rows.len(), out.cols.clone());
    for col in cols.clone().step_by(COLS) {
        // Columns that are not there repeat the last.
        let w = [0, 1, 2, 3].map(|c| (col + c).min(cols.end - 1));
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            let x = x[row * k..][..left * k].as_ptr();
            let mut put = |sums: &[[__m512; COLS]]| {
                for sums in sums {
                    let to = &mut out.row(row)[col - cols.start..];
                    let there = to.len().min(COLS);
                    to[..there].copy_from_slice(&floats.totals(*sums)[..there]);
                    row += 1;
                }
            };
            // SAFETY: as many rows of `x` are left, of `k` elements each, and the decoder has the rows `w`.
            unsafe {
                match left {
                    4.. => put(&dots::<D, 4>(floats, decoder, x, w, k)),
                    2.. => put(&dots::<D, 2>(floats, decoder, x, w, k)),
                    _ => put(&dots::<D, 1>(floats, decoder, x, w, k)),
                }
            }
        }
    }
}

/// `R` rows of four outputs, each as the sums of sixteen lanes.
///
/// # Safety
///
/// `x` must have as many rows of `k` elements, the decoder the rows `w`, and the machine the instructions.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn dots<D: Decode, const R: usize>(
    floats: Avx512,
    decoder: &D,
    x: *const f32,
    w: [usize; COLS],
    k: usize,
) -> [[__m512; COLS]; R] {
    let mut all = [[floats.zero(); COLS]; R];
    // SAFETY: the caller answers for the rows, and the elements are within them.
    unsafe {
        let mut c = 0;
        while c < COLS {
            if D::SIDE_BY_SIDE {
                let sums = columns::<D, R, 2>(floats, decoder, x, [w[c], w[c + 1]], k);
                for (all, sums) in all.iter_mut().zip(sums) {
                    all[c..c + 2].copy_from_slice(&sums);
                }
                c += 2;
            } else {
                let sums = columns::<D, R, 1>(floats, decoder, x, [w[c]], k);
                for (all, [sum]) in all.iter_mut().zip(sums) {
                    all[c] = sum;
                }
                c += 1;
            }
        }
    }
    all
}

/// # Safety
///
/// As above.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn columns<D: Decode, const R: usize, const C: usize>(
    floats: Avx512,
    decoder: &D,
    x: *const f32,
    w: [usize; C],
    k: usize,
) -> [[__m512; C]; R] {
    let mut sums = [[floats.zero(); C]; R];
    let full = k / BLOCK * BLOCK;
    // SAFETY: the caller answers for the rows, and the elements are within them.
    unsafe {
        let mut rows = [decoder.row(w[0]); C];
        for (row, n) in rows.iter_mut().zip(w).skip(1) {
            *row = decoder.row(n);
        }
        for at in (0..full).step_by(BLOCK) {
            step::<D, R, C>(floats, decoder, x, &mut rows, k, (at, BLOCK), &mut sums);
        }
        if full < k {
            step::<D, R, C>(floats, decoder, x, &mut rows, k, (full, k - full), &mut sums);
        }
    }
    sums
}

/// # Safety
///
/// As above, and `count` elements from `at` on must be within the rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn step<D: Decode, const R: usize, const C: usize>(
    floats: Avx512,
    decoder: &D,
    x: *const f32,
    rows: &mut [D::Row; C],
    k: usize,
    (at, count): (usize, usize),
    sums: &mut [[__m512; C]; R],
) {
    // SAFETY: the caller answers for all of it.
    unsafe {
        let mut w = [[floats.zero(); 4]; C];
        for (w, row) in w.iter_mut().zip(rows) {
            *w = decoder.block(row, at, count);
        }
        for q in 0..4 {
            let count = count.saturating_sub(q * LANES);
            if count == 0 {
                break;
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = floats.load(x.wrapping_add(r * k + at + q * LANES), count);
                for (sum, w) in sums.iter_mut().zip(&w) {
                    // A lane beyond the row may hold anything.
                    let w = match count {
                        LANES.. => w[q],
                        _ => _mm512_maskz_mov_ps(mask(count), w[q]),
                    };
                    *sum = floats.mul_add(*sum, x, w);
                }
            }
        }
    }
}

/// Rows to decode.
#[cfg(target_arch = "x86_64")]
struct Rows<'a> {
    first: usize,
    k: usize,
    out: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl DecodeWork for Rows<'_> {
    fn run<D: Decode>(self, _: Avx512, decoder: &D) {
        for (n, row) in self.out.chunks_mut(self.k).enumerate() {
            // SAFETY: whoever has a decoder has asked the machine; `decode_rows` has checked that the rows are there.
            unsafe { decode(decoder, self.first + n, row) }
        }
    }
}

/// # Safety
///
/// The machine must have the instructions, and the decoder row `n`, which is as long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
unsafe fn decode<D: Decode>(decoder: &D, n: usize, row: &mut [f32]) {
    // SAFETY: the caller answers for the row; no more is written than there is.
    unsafe {
        let mut state = decoder.row(n);
        let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
        let full = blocks.len() * BLOCK;
        for (b, block) in blocks.iter_mut().enumerate() {
            let w = decoder.block(&mut state, b * BLOCK, BLOCK);
            for (w, to) in w.into_iter().zip(block.as_chunks_mut::<LANES>().0) {
                _mm512_storeu_ps(to.as_mut_ptr(), w);
            }
        }
        if !rest.is_empty() {
            let w = decoder.block(&mut state, full, rest.len());
            for (w, to) in w.into_iter().zip(rest.chunks_mut(LANES)) {
                _mm512_mask_storeu_ps(to.as_mut_ptr(), mask(to.len()), w);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::matmul_f32;
    use crate::{
        DType,
        codec::bitpack,
        dtype::{decode, encode},
        words,
    };

    fn noise(seed: u32, count: usize) -> Vec<u32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (state >> ((state >> 28) + 4) ^ state).wrapping_mul(277_803_737)
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// Of very different magnitudes.
    fn floats(seed: u32, count: usize) -> Vec<f32> {
        let value = |(i, w): (usize, u32)| {
            (w as i32 as f32 / (1u32 << 31) as f32) * [1.0, 1e-3, 300.0][i % 3]
        };
        noise(seed, count).into_iter().enumerate().map(value).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// Compares with the plain twin: the weights decoded, then multiplied. Whether the form ran.
    fn check(w: Packed, plain: &[f32], (n, k): (usize, usize), what: &str) -> bool {
        let mut got = vec![f32::NAN; n * k];
        if !decode_rows(w, 0..n, (n, k), &mut got) {
            assert!(!matmul_packed(&vec![0.0; k], w, (1, n, k), &mut vec![0.0; n]), "{what}");
            return false;
        }
        assert_eq!(bits(&got), bits(plain), "{what}, {n} x {k}");
        let some = n / 2..n;
        let mut got = vec![f32::NAN; some.len() * k];
        assert!(decode_rows(w, some.clone(), (n, k), &mut got));
        assert_eq!(bits(&got), bits(&plain[some.start * k..]), "{what}, {n} x {k}");
        for m in [1, 2, 3, 4, 5] {
            let x = floats(9, m * k);
            let (mut got, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            assert!(matmul_packed(&x, w, (m, n, k), &mut got));
            matmul_f32(&x, plain, (m, n, k), &mut expected);
            assert_eq!(bits(&got), bits(&expected), "{what}, {m} x {n} x {k}");
        }
        true
    }

    const SIZES: [(usize, usize); 14] = [
        (1, 1),
        (2, 7),
        (3, 15),
        (4, 16),
        (5, 17),
        (6, 31),
        (7, 32),
        (8, 33),
        (3, 63),
        (9, 64),
        (17, 65),
        (4, 127),
        (5, 200),
        (33, 1024),
    ];

    fn unpacked(codes: &[u32], bits: u32, (n, k): (usize, usize)) -> Vec<u8> {
        let words = bitpack::words(k, bits);
        let mut all = vec![0; n * k];
        for (row, out) in codes.chunks(words).zip(all.chunks_mut(k)) {
            bitpack::unpack(row, bits, out);
        }
        assert_eq!(codes.len(), n * words);
        all
    }

    /// Says whether all of the forms ran, as they must where the machine has the instructions.
    fn all_ran(ran: &[bool]) {
        #[cfg(target_arch = "x86_64")]
        let has = detected!("avx512vbmi");
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        if !has {
            eprintln!("SKIPPED: this machine has no AVX-512 with byte instructions");
        }
        assert!(ran.iter().all(|r| *r == has), "{ran:?}");
    }

    #[test]
    fn palettes_are_those_of_plain_code() {
        let mut ran = Vec::new();
        for (bits, k_of_table) in
            [(1, 2), (1, 1), (2, 4), (2, 3), (4, 16), (4, 13), (8, 256), (8, 255), (8, 140)]
        {
            for (n, k) in SIZES {
                for share in [1, 3, n] {
                    if bits == 8 && n.div_ceil(share) > 16 {
                        continue;
                    }
                    let codes = noise(1, n * bitpack::words(k, bits));
                    let entries = floats(2, n.div_ceil(share) * k_of_table);
                    let value = |(i, code): (usize, &u8)| {
                        let code = usize::from(*code).min(k_of_table - 1);
                        entries[i / k / share * k_of_table + code]
                    };
                    let plain: Vec<f32> =
                        unpacked(&codes, bits, (n, k)).iter().enumerate().map(value).collect();
                    let w = Packed::Palette {
                        codes: &codes,
                        bits,
                        entries: &entries,
                        k: k_of_table,
                        share,
                    };
                    ran.push(check(
                        w,
                        &plain,
                        (n, k),
                        &format!("{bits} bits, {k_of_table} entries, {share}"),
                    ));
                }
            }
        }
        all_ran(&ran);
    }

    #[test]
    fn integer_codes_are_those_of_plain_code() {
        let mut ran = Vec::new();
        for bits in [2, 4, 8] {
            for (n, k) in SIZES {
                for (symmetric, group) in [
                    (true, k),
                    (false, k),
                    (true, n * k),
                    (false, n * k),
                    (true, 16),
                    (false, 32),
                    (true, 128),
                ] {
                    if !k.is_multiple_of(group) && !group.is_multiple_of(k) {
                        continue;
                    }
                    let codes = noise(3, n * bitpack::words(k, bits));
                    let most = (1u32 << bits) - 1;
                    let groups = (n * k).div_ceil(group);
                    let scales: Vec<[u32; 2]> = floats(4, groups)
                        .iter()
                        .zip(noise(5, groups))
                        .map(|(s, z)| [s.abs().to_bits(), if symmetric { 0 } else { z & most }])
                        .collect();
                    let value = |(i, code): (usize, &u8)| {
                        let [scale, zero_point] = scales[i / group];
                        let up = 8 - bits;
                        let integer = match symmetric {
                            true => i32::from((code << up) as i8 >> up),
                            false => i32::from(*code) - zero_point as i32,
                        };
                        integer as f32 * f32::from_bits(scale)
                    };
                    let plain: Vec<f32> =
                        unpacked(&codes, bits, (n, k)).iter().enumerate().map(value).collect();
                    let w =
                        Packed::Affine { codes: &codes, bits, symmetric, scales: &scales, group };
                    ran.push(check(
                        w,
                        &plain,
                        (n, k),
                        &format!("{bits} bits, {symmetric}, group {group}"),
                    ));
                }
            }
        }
        all_ran(&ran);
        // Groups in which sixteen weights may lie in two, and codes that straddle words.
        let (codes, scales) = (noise(1, 96), [[0; 2]; 96]);
        for (bits, group) in [(4, 8), (4, 48), (3, 96), (5, 96), (6, 96), (7, 96)] {
            let w = Packed::Affine { codes: &codes, bits, symmetric: true, scales: &scales, group };
            assert!(!check(w, &[], (4, 96), ""));
        }
    }

    #[test]
    fn floats_are_those_of_plain_code() {
        let mut ran = Vec::new();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2] {
            for (n, k) in SIZES {
                let mut stored = vec![0; words(dtype, n * k)];
                encode(dtype, &floats(6, n * k), &mut stored, 0);
                let mut plain = vec![0.0; n * k];
                decode(dtype, &stored, 0, &mut plain);
                let w = Packed::Dense { words: &stored, dtype };
                ran.push(check(w, &plain, (n, k), dtype.name()));
            }
        }
        all_ran(&ran);
        let w = Packed::Dense { words: &[0; 8], dtype: DType::F64 };
        assert!(!check(w, &[], (2, 2), ""));
    }

    #[test]
    fn survivors_are_those_of_plain_code() {
        let mut ran = Vec::new();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for (n, k) in SIZES {
                for (density, lost) in [(0, 0), (1, 0), (2, 0), (3, 0), (2, 3)] {
                    let per_row = k.div_ceil(32);
                    let word = |(i, w): (usize, u32)| {
                        let kept = [0, w & w.rotate_left(9), 0x6c95_a35c, u32::MAX][density];
                        let left = k - i % per_row * 32;
                        if left < 32 { kept & ((1 << left) - 1) } else { kept }
                    };
                    let mask: Vec<u32> =
                        noise(7, n * per_row).into_iter().enumerate().map(word).collect();
                    let mut starts = Vec::new();
                    let mut survivors = 0;
                    for word in &mask {
                        starts.push(survivors as u32);
                        survivors += word.count_ones() as usize;
                    }
                    // One that the values do not hold counts as zero.
                    let held = survivors.saturating_sub(lost);
                    let mut values = vec![0; words(dtype, held)];
                    encode(dtype, &floats(8, held), &mut values, 0);
                    let mut decoded = vec![0.0; survivors];
                    decode(dtype, &values, 0, &mut decoded[..held]);
                    let mut next = decoded.into_iter();
                    let plain: Vec<f32> = (0..n * k)
                        .map(|i| {
                            let bit = mask[i / k * per_row + i % k / 32] >> (i % k % 32) & 1;
                            if bit == 1 { next.next().unwrap() } else { 0.0 }
                        })
                        .collect();
                    let w = Packed::Sparse {
                        mask: &mask,
                        starts: &starts,
                        values: &values,
                        dtype,
                        survivors: held,
                    };
                    ran.push(check(
                        w,
                        &plain,
                        (n, k),
                        &format!("{}, {density}, {lost}", dtype.name()),
                    ));
                }
            }
        }
        all_ran(&ran);
    }

    #[test]
    fn what_lies_beyond_a_row_has_no_part() {
        // Padding is code 0, which here stands for an infinity.
        let (codes, entries) =
            ([[0x1111_1111, 0x1111_1111, 0x11]; 2].concat(), [f32::INFINITY, 2.0]);
        let w = Packed::Palette { codes: &codes, bits: 4, entries: &entries, k: 2, share: 2 };
        check(w, &[2.0; 36], (2, 18), "infinity");
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (m, n, k) = (3, 203, 333);
        let (x, w) = (floats(1, m * k), noise(2, n * bitpack::words(k, 4)));
        let entries = floats(3, 16);
        let w = Packed::Palette { codes: &w, bits: 4, entries: &entries, k: 16, share: n };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; m * n];
            let ran = pool.install(|| matmul_packed(&x, w, (m, n, k), &mut out));
            ran.then(|| bits(&out))
        };
        assert_eq!(run(1), run(5));
    }
}
