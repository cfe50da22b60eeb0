//! The relative index of Deep Compression (Han, Mao, Dally 2016, section 2): where the survivors of a mask are, as how many
//! pruned weights lie before each. A gap of `width` bits that has all bits set is filler: so many pruned weights and no
//! survivor. What follows the last survivor is not written.

use crate::codec::{Malformed, sparse::survivors};

/// Bits of a gap, least and most.
pub const WIDTHS: std::ops::RangeInclusive<u32> = 2..=8;

/// The gaps of a mask of rows of `cols` elements, fillers included.
pub fn encode(mask: &[u32], cols: usize, width: u32) -> Vec<u8> {
    let filler = (1 << width) - 1;
    let (mut symbols, mut next) = (Vec::new(), 0);
    survivors(mask, cols, |at| {
        let gap = at - next;
        symbols.extend(std::iter::repeat_n(filler as u8, gap / filler));
        symbols.push((gap % filler) as u8);
        next = at + 1;
    });
    symbols
}

/// How often each gap occurs in [`encode`] at every width of [`WIDTHS`], in one pass.
pub fn counts(mask: &[u32], cols: usize) -> Vec<(u32, [u64; 256])> {
    let mut next = 0;
    let mut of_width: Vec<_> = WIDTHS.map(|width| (width, [0; 256])).collect();
    survivors(mask, cols, |at| {
        let gap = at - next;
        for (width, counts) in &mut of_width {
            let filler = (1 << *width) - 1;
            counts[filler] += (gap / filler) as u64;
            counts[gap % filler] += 1;
        }
        next = at + 1;
    });
    of_width
}

/// The mask of `rows` rows of `cols` elements whose gaps these are.
///
/// # Errors
///
/// If they go beyond its end, end with a filler, or are the same at a smaller width, which is then the one to name.
pub fn decode(symbols: &[u8], width: u32, rows: usize, cols: usize) -> Result<Vec<u32>, Malformed> {
    let filler = (1u32 << width) - 1;
    let narrower = (1 << (width - 1)) - 1;
    if width > *WIDTHS.start() && symbols.iter().all(|s| u32::from(*s) < narrower) {
        return Err(Malformed("gaps that a smaller width has too"));
    }
    let row_words = cols.div_ceil(32);
    let mut mask = vec![0; rows * row_words];
    let (mut row, mut column) = (0, 0);
    let mut last = 0;
    for symbol in symbols {
        last = u32::from(*symbol);
        column += last as usize;
        while column >= cols && row < rows {
            column -= cols;
            row += 1;
        }
        if last == filler {
            continue;
        }
        if row >= rows {
            return Err(Malformed("a survivor beyond the end"));
        }
        mask[row * row_words + column / 32] |= 1u32 << (column % 32);
        column += 1;
    }
    match !symbols.is_empty() && last == filler {
        true => Err(Malformed("gaps that end with a filler")),
        false => Ok(mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gaps_beyond_the_width_take_fillers() {
        // Survivors at 0, 1 and 9 of ten: gaps 0, 0, 7.
        assert_eq!(encode(&[0b10_0000_0011], 10, 2), [0, 0, 3, 3, 1]);
        assert_eq!(encode(&[0b10_0000_0011], 10, 3), [0, 0, 7, 0]);
        assert_eq!(encode(&[0b10_0000_0011], 10, 4), [0, 0, 7]);
        assert_eq!(decode(&[0, 0, 7, 0], 3, 1, 10).unwrap(), [0b10_0000_0011]);
        assert_eq!(decode(&[], 2, 2, 10).unwrap(), [0, 0]);
        assert!(decode(&[], 3, 2, 10).is_err(), "a width that nothing needs");
        assert!(decode(&[0, 7], 3, 1, 10).is_err(), "a filler at the end");
        assert!(decode(&[6, 6], 3, 1, 10).is_err(), "beyond the end");
        assert!(decode(&[0; 11], 3, 1, 10).is_err(), "more survivors than places");
    }

    proptest! {
        #[test]
        fn masks_come_back(
            cols in 1usize..80,
            rows in 1usize..9,
            words in proptest::collection::vec(any::<u32>(), 27),
            sparser in proptest::collection::vec(any::<u32>(), 27),
            thin in any::<bool>(),
        ) {
            let per_row = cols.div_ceil(32);
            let mask: Vec<u32> = (0..rows * per_row)
                .map(|i| {
                    let used = cols - (i % per_row * 32).min(cols);
                    let bits = if thin { words[i] & sparser[i] & sparser[26 - i] } else { words[i] };
                    bits & if used >= 32 { u32::MAX } else { (1 << used) - 1 }
                })
                .collect();
            for (width, expected) in counts(&mask, cols) {
                let symbols = encode(&mask, cols, width);
                let mut found = [0; 256];
                symbols.iter().for_each(|s| found[usize::from(*s)] += 1);
                prop_assert_eq!(found, expected);
                let needed = width == 2 || symbols.iter().any(|s| *s >= (1 << (width - 1)) - 1);
                let decoded = decode(&symbols, width, rows, cols);
                prop_assert_eq!(decoded.ok(), needed.then(|| mask.clone()));
            }
        }
    }
}
