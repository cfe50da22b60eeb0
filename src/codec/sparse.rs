//! Survivors of a mask, stored one after the other, and back. A mask has a bit for every element, row by row, each row from
//! a fresh 32-bit word, first element in the low bit.

use crate::{DType, codec::bitpack, words};

/// How many bits of a mask are set in each of its rows of `cols` elements.
pub fn row_counts(mask: &[u32], cols: usize) -> impl Iterator<Item = usize> {
    mask.chunks(cols.div_ceil(32).max(1))
        .map(|row| row.iter().map(|w| w.count_ones() as usize).sum())
}

/// Whether every padding bit of a mask is zero.
pub fn padding_is_zero(mask: &[u32], cols: usize) -> bool {
    let used = cols % 32;
    used == 0 || mask.chunks(cols.div_ceil(32)).all(|row| row[row.len() - 1] >> used == 0)
}

/// Calls `f` with the position of every set bit, as `row * cols + column`.
pub(crate) fn survivors(mask: &[u32], cols: usize, mut f: impl FnMut(usize)) {
    for (r, row) in mask.chunks(cols.div_ceil(32).max(1)).enumerate() {
        for (w, word) in row.iter().enumerate() {
            let mut bits = *word;
            while bits != 0 {
                f(r * cols + w * 32 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

/// The elements whose bit is set, one after the other, padded with zeros to whole words.
pub fn gather(dtype: DType, elements: &[u32], cols: usize, mask: &[u32]) -> Vec<u32> {
    let kept = mask.iter().map(|w| w.count_ones() as usize).sum();
    let mut out = vec![0; words(dtype, kept)];
    let mut next = 0;
    match dtype.bits() {
        64 => survivors(mask, cols, |i| {
            out[next..next + 2].copy_from_slice(&elements[2 * i..2 * i + 2]);
            next += 2;
        }),
        32 => gather_into(elements, mask, cols, &mut out),
        16 => gather_into::<u16>(
            bytemuck::cast_slice(elements),
            mask,
            cols,
            bytemuck::cast_slice_mut(&mut out),
        ),
        _ => gather_into::<u8>(
            bytemuck::cast_slice(elements),
            mask,
            cols,
            bytemuck::cast_slice_mut(&mut out),
        ),
    }
    out
}

fn gather_into<T: Copy>(elements: &[T], mask: &[u32], cols: usize, out: &mut [T]) {
    let mut next = 0;
    survivors(mask, cols, |i| {
        out[next] = elements[i];
        next += 1;
    });
}

/// Puts elements back where the mask has their bits, zeros elsewhere: `rows * cols` elements.
pub fn scatter(dtype: DType, kept: &[u32], rows: usize, cols: usize, mask: &[u32]) -> Vec<u32> {
    let mut out = vec![0; words(dtype, rows * cols)];
    let mut next = 0;
    match dtype.bits() {
        64 => survivors(mask, cols, |i| {
            out[2 * i..2 * i + 2].copy_from_slice(&kept[next..next + 2]);
            next += 2;
        }),
        32 => scatter_into(kept, mask, cols, &mut out),
        16 => scatter_into::<u16>(
            bytemuck::cast_slice(kept),
            mask,
            cols,
            bytemuck::cast_slice_mut(&mut out),
        ),
        _ => scatter_into::<u8>(
            bytemuck::cast_slice(kept),
            mask,
            cols,
            bytemuck::cast_slice_mut(&mut out),
        ),
    }
    out
}

fn scatter_into<T: Copy>(kept: &[T], mask: &[u32], cols: usize, out: &mut [T]) {
    let mut next = 0;
    survivors(mask, cols, |i| {
        out[i] = kept[next];
        next += 1;
    });
}

/// From codes of all elements, packed row by row, to those of the survivors, packed row by row: each row's from a fresh
/// 32-bit boundary.
pub fn gather_codes(codes: &[u32], bits: u32, cols: usize, mask: &[u32]) -> Vec<u32> {
    let wide = bitpack::words(cols, bits);
    let mut out = Vec::new();
    let (mut all, mut kept) = (vec![0; cols], Vec::with_capacity(cols));
    for (r, mask) in mask.chunks(cols.div_ceil(32).max(1)).enumerate() {
        bitpack::unpack(&codes[r * wide..][..wide], bits, &mut all);
        kept.clear();
        survivors(mask, cols, |i| kept.push(all[i]));
        let start = out.len();
        out.resize(start + bitpack::words(kept.len(), bits), 0);
        bitpack::pack(&kept, bits, &mut out[start..]);
    }
    out
}

/// The inverse of [`gather_codes`]; pruned elements get code `filler`. The survivors' codes must be as long as the mask says.
pub fn scatter_codes(kept: &[u32], bits: u32, cols: usize, mask: &[u32], filler: u8) -> Vec<u32> {
    let wide = bitpack::words(cols, bits);
    let rows = mask.len() / cols.div_ceil(32).max(1);
    let mut out = vec![0; rows * wide];
    let (mut all, mut row, mut at) = (vec![0; cols], Vec::new(), 0);
    for (r, mask) in mask.chunks(cols.div_ceil(32).max(1)).enumerate() {
        row.resize(mask.iter().map(|w| w.count_ones() as usize).sum(), 0);
        let len = bitpack::words(row.len(), bits);
        bitpack::unpack(&kept[at..at + len], bits, &mut row);
        at += len;
        all.fill(filler);
        let mut next = 0;
        survivors(mask, cols, |i| {
            all[i] = row[next];
            next += 1;
        });
        bitpack::pack(&all, bits, &mut out[r * wide..][..wide]);
    }
    out
}

/// Sets the elements whose bit is not set to +0.
pub fn clear_pruned(dtype: DType, elements: &mut [u32], rows: usize, cols: usize, mask: &[u32]) {
    let kept = gather(dtype, elements, cols, mask);
    elements.copy_from_slice(&scatter(dtype, &kept, rows, cols, mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_come_back_and_the_rest_is_zero() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::F8E4M3] {
            for cols in [1usize, 3, 31, 32, 33, 70] {
                let rows = 5;
                let elements: Vec<u32> = (0..words(dtype, rows * cols) as u32)
                    .map(|i| i.wrapping_mul(2_654_435_761) | 0x0101_0101)
                    .collect();
                let per_row = cols.div_ceil(32);
                let mask: Vec<u32> = (0..(rows * per_row) as u32)
                    .map(|i| {
                        let used = cols - (i as usize % per_row * 32).min(cols);
                        i.wrapping_mul(0x9e37_79b9)
                            & if used >= 32 { u32::MAX } else { (1 << used) - 1 }
                    })
                    .collect();
                assert!(padding_is_zero(&mask, cols));
                let kept = gather(dtype, &elements, cols, &mask);
                let count: usize = row_counts(&mask, cols).sum();
                assert_eq!(kept.len(), words(dtype, count));
                let back = scatter(dtype, &kept, rows, cols, &mask);
                assert_eq!(gather(dtype, &back, cols, &mask), kept);
                let mut cleared = elements.clone();
                clear_pruned(dtype, &mut cleared, rows, cols, &mask);
                assert_eq!(cleared, back);
            }
        }
        assert_eq!(gather(DType::F32, &[7, 8, 9], 3, &[0b101]), [7, 9]);
        assert!(!padding_is_zero(&[0b1000], 3));
    }

    #[test]
    fn codes_of_survivors_start_every_row_afresh() {
        // Codes 1 2 3 4 | 5 6 7 8, of which 2 4 | 5 survive.
        let kept = gather_codes(&[0x4321, 0x8765], 4, 4, &[0b1010, 0b0001]);
        assert_eq!(kept, [0x42, 0x5]);
        assert_eq!(scatter_codes(&kept, 4, 4, &[0b1010, 0b0001], 0), [0x4020, 0x0005]);
        assert_eq!(gather_codes(&[0x4321, 0x8765], 4, 4, &[0, 0b0001]), [0x5]);
    }
}
