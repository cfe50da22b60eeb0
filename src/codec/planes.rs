//! Elements that are no floats without loss: integers, packed codes, exponents. Of every element its lowest byte, then of every
//! element the next, and so on: each such plane is a [`stream`] of its bytes, and all but the last have their length in bytes before
//! them, as a number. So a plane of zeros, as large integers have it, takes two bytes, and packed codes what their bytes need.
//!
//! Which coder a plane has is the writer's choice; that is all there is to choose.

use crate::codec::{
    Malformed,
    bits::{put_number, take_number},
    stream::{self, Coder},
};

/// Appends the bytes of elements of so many bytes each.
///
/// # Panics
///
/// If the bytes are not whole elements.
pub fn encode(width: usize, bytes: &[u8], coder: Coder, out: &mut Vec<u8>) {
    assert!(bytes.len().is_multiple_of(width), "whole elements");
    let mut coded = Vec::new();
    for byte in 0..width {
        coded.clear();
        match width {
            1 => stream::encode(bytes, 8, coder, &mut coded),
            _ => {
                let plane: Vec<u8> = bytes.iter().skip(byte).step_by(width).copied().collect();
                stream::encode(&plane, 8, coder, &mut coded);
            }
        }
        if byte + 1 < width {
            put_number(coded.len(), out);
        }
        out.extend_from_slice(&coded);
    }
}

/// Decodes elements of so many bytes each, which fill `out`, from exactly these bytes.
///
/// # Errors
///
/// [`Malformed`] if they are not such planes; `out` then holds anything.
///
/// # Panics
///
/// If `out` does not hold whole elements.
pub fn decode(width: usize, mut bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    assert!(out.len().is_multiple_of(width), "whole elements");
    if width == 1 {
        return stream::decode(bytes, 8, out);
    }
    let mut plane = vec![0; out.len() / width];
    for byte in 0..width {
        let length = if byte + 1 < width { take_number(&mut bytes)? } else { bytes.len() };
        let (coded, rest) =
            bytes.split_at_checked(length).ok_or(Malformed("a plane beyond the end"))?;
        bytes = rest;
        stream::decode(coded, 8, &mut plane)?;
        out.iter_mut().skip(byte).step_by(width).zip(&plane).for_each(|(to, b)| *to = *b);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(width: usize, bytes: &[u8], coder: Coder) -> usize {
        let mut coded = vec![0xAA];
        encode(width, bytes, coder, &mut coded);
        assert_eq!(coded.remove(0), 0xAA, "appended");
        let mut back = vec![0x55; bytes.len()];
        assert_eq!(decode(width, &coded, &mut back), Ok(()));
        assert!(back == bytes, "{width}, {coder:?}");
        coded.len()
    }

    #[test]
    fn small_numbers_in_large_integers_take_what_they_are() {
        let numbers: Vec<u8> = (0..50_000u64).flat_map(|i| (i * i % 7).to_le_bytes()).collect();
        for coder in [Coder::Huffman, Coder::Rans, Coder::Auto] {
            let took = round_trip(8, &numbers, coder);
            // 7 values of 3 bits at most, and seven planes of zeros.
            assert!(took < 50_000 * 3 / 8 + 100, "{coder:?}: {took}");
        }
        // Codes of 4 bits, of which some are much more common, in words of 32 bits.
        let code = |i: u32| (i.wrapping_mul(2_654_435_761) >> 28).min(9).saturating_sub(6);
        let word = |i: u32| (0..8).map(|j| code(8 * i + j) << (4 * j)).sum::<u32>();
        let packed: Vec<u8> = (0..20_000).flat_map(|i| word(i).to_le_bytes()).collect();
        assert!(round_trip(4, &packed, Coder::Auto) < packed.len() * 6 / 10);
    }

    #[test]
    fn a_worked_example() {
        // 7, 7, 263: the low bytes are all 7; the high ones 0, 0, 1 are too few to code.
        let mut coded = Vec::new();
        encode(2, &[7, 0, 7, 0, 7, 1], Coder::Auto, &mut coded);
        assert_eq!(coded, [3, 1, 7, 7, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn everything_comes_back_and_damage_is_refused_or_something_else(
            count in 0usize..300, width in prop::sample::select(vec![1usize, 2, 4, 8]),
            spread in 1u32..256, seed in any::<u32>(), at in any::<prop::sample::Index>(),
        ) {
            let byte = |i: usize| ((i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 20) % spread;
            let bytes: Vec<u8> = (0..count * width).map(|i| byte(i) as u8).collect();
            for coder in [Coder::Huffman, Coder::Rans, Coder::Auto] {
                round_trip(width, &bytes, coder);
            }
            let mut coded = Vec::new();
            encode(width, &bytes, Coder::Auto, &mut coded);
            let mut back = vec![0; bytes.len()];
            let short = at.index(coded.len());
            prop_assert!(decode(width, &coded[..short], &mut back).is_err());
            coded.push(0);
            prop_assert!(decode(width, &coded, &mut back).is_err());
        }
    }
}
