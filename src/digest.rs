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
    let mut mixing = Mixing::default();
    mixing.update(bytes);
    mixing.finish()
}

/// A digest of bytes that no run hands to another: of the [`mixed`] digests of their halves. Each step of a sum waits for the one
/// before, so that both together take half the time.
pub fn twofold(bytes: &[u8]) -> Digest {
    let (a, b) = bytes.split_at(bytes.len() / 2 / PART * PART);
    let (whole, rest) = b.split_at(a.len());
    let mut mixing = [Mixing::default(), Mixing::default()];
    let [of_a, of_b] = &mut mixing;
    mix_both([&mut of_a.0, &mut of_b.0], [a, whole].map(|bytes| bytes.as_chunks().0));
    of_b.update(rest);
    digest(mixing.map(Mixing::finish).as_flattened())
}

/// The [`mixed`] digest of bytes and the [`twofold`] one of as many others, in little more than the time of the first.
pub fn mixed_and_twofold(bytes: &[u8], others: &[u8]) -> [Digest; 2] {
    assert_eq!(bytes.len(), others.len());
    let (a, b) = others.split_at(others.len() / 2 / PART * PART);
    let (whole, rest) = b.split_at(a.len());
    let (first, last) = bytes.split_at(2 * a.len());
    let mut mixing = [Mixing::default(), Mixing::default(), Mixing::default()];
    let [of_bytes, of_a, of_b] = &mut mixing;
    let sums = [&mut of_bytes.0, &mut of_a.0, &mut of_b.0];
    mix_three(sums, first.as_chunks().0, [a, whole].map(|half| half.as_chunks().0));
    of_bytes.update(last);
    of_b.update(rest);
    let [mixed, a, b] = mixing.map(Mixing::finish);
    [mixed, digest([a, b].as_flattened())]
}

/// What [`mixed`] has taken so far.
#[derive(Clone, Debug, Default)]
struct Mixing([u32; LANES]);

impl Mixing {
    /// Takes the bytes that follow: a multiple of [`PART`], but for the last.
    fn update(&mut self, bytes: &[u8]) {
        let (parts, rest) = bytes.as_chunks();
        mix(&mut self.0, parts);
        if !rest.is_empty() {
            let mut last = [0; PART];
            last[..rest.len()].copy_from_slice(rest);
            mix(&mut self.0, &[last]);
        }
    }

    /// The digest of all.
    fn finish(self) -> Digest {
        digest(self.0.map(u32::to_le_bytes).as_flattened())
    }
}

/// Bytes of a word for each sum.
const PART: usize = 4 * LANES;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mix(sums: &mut [u32; LANES], parts: &[[u8; PART]]) {
    // A local copy stays in registers.
    let mut s = *sums;
    parts.iter().for_each(|part| step(&mut s, part));
    *sums = s;
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mix_both([of_a, of_b]: [&mut [u32; LANES]; 2], [a, b]: [&[[u8; PART]]; 2]) {
    let (mut s, mut t) = (*of_a, *of_b);
    for (a, b) in a.iter().zip(b) {
        step(&mut s, a);
        step(&mut t, b);
    }
    (*of_a, *of_b) = (s, t);
}

/// Of the first twice as many parts as of each of the others.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mix_three(
    [of_first, of_a, of_b]: [&mut [u32; LANES]; 3],
    first: &[[u8; PART]],
    [a, b]: [&[[u8; PART]]; 2],
) {
    let (mut r, mut s, mut t) = (*of_first, *of_a, *of_b);
    for (([c, d], a), b) in first.as_chunks::<2>().0.iter().zip(a).zip(b) {
        step(&mut r, c);
        step(&mut s, a);
        step(&mut t, b);
        step(&mut r, d);
    }
    (*of_first, *of_a, *of_b) = (r, s, t);
}

#[inline(always)]
fn step(sums: &mut [u32; LANES], part: &[u8; PART]) {
    let (words, _) = part.as_chunks::<4>();
    for l in 0..LANES {
        let word = u32::from_le_bytes(words[l]);
        sums[l] = sums[l].wrapping_add(word).rotate_left(13).wrapping_mul(PRIME);
    }
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
    fn every_bit_shows_in_a_twofold_digest() {
        for len in [0, 1, 127, 128, 255, 256, 257, 700] {
            let plain: Vec<u8> = (0..len).map(|i: u32| (i * 37) as u8).collect();
            for bit in 0..8 * plain.len() {
                let mut other = plain.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(twofold(&other), twofold(&plain), "bit {bit} of {len} bytes");
            }
        }
    }

    #[test]
    fn blocks_in_pieces_and_halves_at_once_have_the_same_digests() {
        let bytes: Vec<u8> = (0..2000u32).map(|i| (i * i) as u8).collect();
        for len in [0, 1, PART - 1, PART, PART + 1, 5 * PART, 900] {
            let (a, b) = (&bytes[..len], &bytes[1000..][..len]);
            let halves = [a, b].map(|half| &half[..len / PART * PART]);
            let both = digest(halves.map(mixed).as_flattened());
            assert_eq!(twofold(&halves.concat()), both, "{len}");
            assert_eq!(mixed_and_twofold(a, b), [mixed(a), twofold(b)], "{len}");
            let mut mixing = Mixing::default();
            a.chunks(2 * PART).for_each(|piece| mixing.update(piece));
            assert_eq!(mixing.finish(), mixed(a), "{len}");
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
