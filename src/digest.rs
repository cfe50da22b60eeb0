//! Digests: what says that bytes are the ones that were written.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use multiversion::multiversion;

/// The first 16 bytes of a blake3 digest.
pub type Digest = [u8; 16];

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    short(blake3::hash(bytes))
}

/// The first 16 bytes of a whole digest.
pub fn short(hash: blake3::Hash) -> Digest {
    hash.as_bytes()[..16].try_into().expect("a blake3 hash has 32 bytes")
}

/// A digest as text.
pub fn encode_digest(digest: Digest) -> String {
    BASE64.encode(digest)
}

/// The digest that a text is.
pub(crate) fn decode_digest(text: &str) -> Option<Digest> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// Whether a digest is the one that is expected. A fuzzer could never guess one: it is let through to what lies behind.
pub(crate) fn agrees(found: Digest, expected: Digest) -> bool {
    found == expected || cfg!(fuzzing)
}

/// What tells the source of a tensor from another: chance never makes two alike, though somebody who wants to could.
pub type Fingerprint = [u8; 8];

/// Sums of [`mixed`], side by side.
const LANES: usize = 32;
/// Odd, so that no product loses a bit: the first prime of xxHash.
const PRIME: u32 = 0x9E37_79B1;

/// The fingerprint of a tensor, from the digests of its blocks.
pub fn fingerprint(blocks: &[Digest]) -> Fingerprint {
    let digest = digest(blocks.as_flattened());
    digest[..8].try_into().expect("a digest has 16 bytes")
}

/// A digest of the bytes of a block, about as fast as they are read: BLAKE3's of 32 sums of words. Every sum takes each of its words by
/// `s = rotate_left(s + word, 13) * prime`, which loses nothing of either, so that one word that changes always shows.
///
/// # Source
///
/// The inner loop of XXH32, without its first product: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
pub fn mixed(bytes: &[u8]) -> Digest {
    let mut sums = [0u32; LANES];
    let (parts, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    mix(&mut sums, parts);
    if !rest.is_empty() {
        let mut last = [0; 4 * LANES];
        last[..rest.len()].copy_from_slice(rest);
        mix(&mut sums, &[last]);
    }
    digest(sums.map(u32::to_le_bytes).as_flattened())
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mix(sums: &mut [u32; LANES], parts: &[[u8; 4 * LANES]]) {
    // A local copy stays in registers.
    let mut s = *sums;
    for part in parts {
        let (words, _) = part.as_chunks::<4>();
        for l in 0..LANES {
            let word = u32::from_le_bytes(words[l]);
            s[l] = s[l].wrapping_add(word).rotate_left(13).wrapping_mul(PRIME);
        }
    }
    *sums = s;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_block_shows_in_its_mixed_digest() {
        let plain: Vec<u8> = (0..300u32).map(|i| (i * 37) as u8).collect();
        let first = mixed(&plain);
        for bit in 0..8 * plain.len() {
            let mut other = plain.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(mixed(&other), first, "bit {bit}");
        }
    }

    #[test]
    fn signs_and_places_show_in_a_mixed_digest() {
        let floats: Vec<f32> = (0..4096).map(|i| (i as f32).sin()).collect();
        let of = |floats: &[f32]| mixed(bytemuck::cast_slice(floats));
        let first = of(&floats);
        // Changes of the highest bit alone, an even number of them in every lane.
        let negated: Vec<f32> = floats.iter().map(|x| -x).collect();
        assert_ne!(of(&negated), first);
        let mut swapped = floats.clone();
        swapped.swap(7, 7 + LANES);
        assert_ne!(of(&swapped), first);
        // As a program of ten lines of Python has them, from docs/format.md.
        assert_eq!(encode_digest(mixed(b"")), "Jy/IJDDDCk+fWN+Eof4/FA");
        assert_eq!(encode_digest(mixed(b"tersor")), "iICg3Gd5s3c/rYup/xq3rA");
    }
}
