//! Codes of 1 to 8 bits in 32-bit words: first code in the low bits, the last word padded with zeros.

use crate::simd;
use multiversion::multiversion;

/// Words that `codes` codes of `bits` bits take.
pub fn words(codes: usize, bits: u32) -> usize {
    (codes * bits as usize).div_ceil(32)
}

/// Packs `codes`, each in the low `bits` bits of a byte, into [`words`] words.
///
/// # Panics
///
/// If `out` has not that length, or `bits` is not 1 to 8.
pub fn pack(codes: &[u8], bits: u32, out: &mut [u32]) {
    assert!((1..=8).contains(&bits) && out.len() == words(codes.len(), bits));
    match bits {
        1 => pack_even::<1>(codes, out),
        2 => pack_even::<2>(codes, out),
        4 => pack_even::<4>(codes, out),
        8 => pack_even::<8>(codes, out),
        _ => pack_eights(codes, bits, bytemuck::cast_slice_mut(out)),
    }
}

/// Unpacks as many codes of `bits` bits as `out` holds, each into the low bits of a byte.
///
/// # Panics
///
/// If `packed` is not [`words`] long, or `bits` is not 1 to 8.
pub fn unpack(packed: &[u32], bits: u32, out: &mut [u8]) {
    assert!((1..=8).contains(&bits) && packed.len() == words(out.len(), bits));
    match bits {
        1 => unpack_even::<1>(packed, out),
        2 => unpack_even::<2>(packed, out),
        4 => unpack_even::<4>(packed, out),
        8 => unpack_even::<8>(packed, out),
        _ => unpack_eights(bytemuck::cast_slice(packed), bits, out),
    }
}

/// [`pack`]s into bytes.
///
/// # Panics
///
/// If `out` is not [`words`] of four bytes long, or `bits` is not 1 to 8.
pub fn pack_bytes(codes: &[u8], bits: u32, out: &mut [u8]) {
    assert!((1..=8).contains(&bits) && out.len() == 4 * words(codes.len(), bits));
    pack_eights(codes, bits, out);
}

/// [`unpack`]s from bytes.
///
/// # Panics
///
/// If `packed` is not [`words`] of four bytes long, or `bits` is not 1 to 8.
pub fn unpack_bytes(packed: &[u8], bits: u32, out: &mut [u8]) {
    assert!((1..=8).contains(&bits) && packed.len() == 4 * words(out.len(), bits));
    unpack_eights(packed, bits, out);
}

/// Whether all bits from one on are zero.
pub fn is_zero_from(packed: &[u8], bit: usize) -> bool {
    let (first, rest) = match packed.get(bit / 8..) {
        None | Some([]) => return true,
        Some([first, rest @ ..]) => (first, rest),
    };
    first >> (bit % 8) == 0 && rest.iter().all(|byte| *byte == 0)
}

/// Whether the bits after the last code of every row are zero. `rows` says how many codes each row of `packed` holds.
pub fn padding_is_zero(packed: &[u32], bits: u32, rows: impl Iterator<Item = usize>) -> bool {
    let mut end = 0;
    let mut ends = rows.map(|codes| {
        end += words(codes, bits);
        (end, codes * bits as usize % 32)
    });
    ends.all(|(end, used)| used == 0 || packed[end - 1] >> used == 0)
}

/// Eight codes at a time, which take as many bytes as a code has bits.
fn pack_eights(codes: &[u8], bits: u32, out: &mut [u8]) {
    let done = simd::pack_eights(codes, bits, out);
    let (eights, rest) = codes[done..].as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut at = done / 8 * bits as usize;
    for eight in eights.iter().chain([&last]) {
        let packed = squeeze(u64::from_le_bytes(*eight), bits).to_le_bytes();
        // What a group writes beyond its own bytes is zero, and the next one's.
        match out[at..].first_chunk_mut() {
            Some(to) => *to = packed,
            None => {
                let len = (out.len() - at).min(bits as usize);
                out[at..at + len].copy_from_slice(&packed[..len]);
            }
        }
        at = (at + bits as usize).min(out.len());
    }
    out[at..].fill(0);
}

/// The same back.
fn unpack_eights(packed: &[u8], bits: u32, out: &mut [u8]) {
    let done = simd::unpack_eights(packed, bits, out);
    let (packed, out) = (&packed[done / 8 * bits as usize..], &mut out[done..]);
    let (eights, rest) = out.as_chunks_mut::<8>();
    let group = |at: usize| {
        let from = &packed[at.min(packed.len())..];
        let mut bytes = [0; 8];
        match from.first_chunk() {
            Some(whole) => bytes = *whole,
            None => bytes[..from.len()].copy_from_slice(from),
        }
        spread(u64::from_le_bytes(bytes), bits).to_le_bytes()
    };
    for (i, eight) in eights.iter_mut().enumerate() {
        *eight = group(i * bits as usize);
    }
    rest.copy_from_slice(&group(eights.len() * bits as usize)[..rest.len()]);
}

/// The low bits of eight bytes, side by side: neighbours are pushed together, then pairs, then fours.
fn squeeze(codes: u64, bits: u32) -> u64 {
    let codes = codes & (0x0101_0101_0101_0101 * ((1 << bits) - 1));
    let pairs = (codes & 0x00ff_00ff_00ff_00ff) | (codes & 0xff00_ff00_ff00_ff00) >> (8 - bits);
    let fours =
        (pairs & 0x0000_ffff_0000_ffff) | (pairs & 0xffff_0000_ffff_0000) >> (16 - 2 * bits);
    (fours & 0xffff_ffff) | fours >> 32 << (4 * bits)
}

/// The same back, whatever lies above them.
fn spread(packed: u64, bits: u32) -> u64 {
    let half = (1u64 << (4 * bits)) - 1;
    let fours = (packed & half) | (packed >> (4 * bits) & half) << 32;
    let low = 0x0000_0001_0000_0001 * ((1u64 << (2 * bits)) - 1);
    let pairs = (fours & low) | (fours & low << (2 * bits)) << (16 - 2 * bits);
    let low = 0x0001_0001_0001_0001 * ((1u64 << bits) - 1);
    (pairs & low) | (pairs & low << bits) << (8 - bits)
}

fn pack_even<const BITS: u32>(codes: &[u8], out: &mut [u32]) {
    match BITS {
        8 => {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
            let (whole, padding) = bytes.split_at_mut(codes.len());
            whole.copy_from_slice(codes);
            padding.fill(0);
        }
        4 => pack_nibbles(codes, out),
        _ => {
            let per = (32 / BITS) as usize;
            for (codes, word) in codes.chunks(per).zip(out) {
                let shifted = codes.iter().enumerate();
                let mask = (1u32 << BITS) - 1;
                *word =
                    shifted.fold(0, |w, (i, c)| w | (u32::from(*c) & mask) << (BITS * i as u32));
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn pack_nibbles(codes: &[u8], out: &mut [u32]) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
    let (whole, padding) = bytes.split_at_mut(codes.len() / 2);
    for (pair, byte) in codes.chunks_exact(2).zip(whole) {
        *byte = (pair[0] & 15) | pair[1] << 4;
    }
    padding.fill(0);
    if codes.len() % 2 == 1 {
        padding[0] = codes[codes.len() - 1] & 15;
    }
}

fn unpack_even<const BITS: u32>(packed: &[u32], out: &mut [u8]) {
    let bytes: &[u8] = bytemuck::cast_slice(packed);
    match BITS {
        8 => out.copy_from_slice(&bytes[..out.len()]),
        4 => unpack_nibbles(bytes, out),
        _ => {
            let mask = (1 << BITS) - 1;
            for (codes, byte) in out.chunks_mut((8 / BITS) as usize).zip(bytes) {
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = byte >> (BITS as usize * i) & mask;
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn unpack_nibbles(bytes: &[u8], out: &mut [u8]) {
    let odd = out.len() / 2;
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = byte & 15;
        pair[1] = byte >> 4;
    }
    if let Some(last) = out.chunks_exact_mut(2).into_remainder().first_mut() {
        *last = bytes[odd] & 15;
    }
}

#[cfg(test)]
mod tests {
    use super::{is_zero_from, pack, pack_bytes, padding_is_zero, unpack, unpack_bytes, words};

    #[test]
    fn literal_words() {
        let mut out = [0; 2];
        pack(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 4, &mut out);
        assert_eq!(out, [0x8765_4321, 0x9]);
        // The eleventh code of three bits starts at bit 30 and ends in the second word.
        pack(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5], 3, &mut out);
        assert_eq!(out, [0x4000_0000, 0x1]);
        pack(&[0xff, 1, 0x80, 3, 4], 8, &mut out);
        assert_eq!(out, [0x0380_01ff, 4]);
    }

    #[test]
    fn padding_is_found_in_every_row() {
        // Rows of 3, none, 8 and 1 codes of four bits: only the second word is full.
        let rows = || [3, 0, 8, 1].into_iter();
        assert!(padding_is_zero(&[0xfff, u32::MAX, 0xf], 4, rows()));
        assert!(!padding_is_zero(&[0x1000, 0, 0], 4, rows()));
        assert!(!padding_is_zero(&[0, 0, 0x8000_0000], 4, rows()));
    }

    #[test]
    fn every_width_and_length_comes_back() {
        for bits in 1..=8 {
            for len in (0..130).chain([191, 192, 1000]) {
                let codes: Vec<u8> = (0..len)
                    .map(|i| (i as u32 * 37 + bits * 11) as u8 & ((1u16 << bits) - 1) as u8)
                    .collect();
                let mut packed = vec![0xffff_ffff; words(len, bits)];
                pack(&codes, bits, &mut packed);
                let mut back = vec![0xAA; len];
                unpack(&packed, bits, &mut back);
                assert_eq!(codes, back, "{bits} bits, {len} codes");
                let bytes: &[u8] = bytemuck::cast_slice(&packed);
                let mut same = vec![0xff; bytes.len()];
                pack_bytes(&codes, bits, &mut same);
                assert_eq!(same, bytes, "{bits} bits, {len} codes");
                back.fill(0xAA);
                unpack_bytes(bytes, bits, &mut back);
                assert_eq!(codes, back, "{bits} bits, {len} codes");
                assert!(is_zero_from(bytes, len * bits as usize));
                let last = codes.last().is_some_and(|code| *code != 0);
                assert!(!last || !is_zero_from(bytes, (len - 1) * bits as usize));
                let used = len * bits as usize % 32;
                assert!(used == 0 || packed[packed.len() - 1] >> used == 0, "padding is zero");
            }
        }
    }
}
