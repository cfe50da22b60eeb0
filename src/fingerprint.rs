//! Fingerprints: what tells, within one run, whether bytes that come back from disk or from a decoder are the ones that were there
//! before. A digest says so to everybody and for ever, and costs a fifth of a job where every byte has one three times; a
//! fingerprint is never stored, has nobody to withstand, and costs what reading the bytes does.

use multiversion::multiversion;

/// Of some bytes.
pub type Fingerprint = u64;

/// Numbers that are carried on side by side: four vectors of the widest kind, so that none waits for its own product.
const LANES: usize = 64;
/// Odd, so that multiplying loses nothing.
const FACTOR: u32 = 0x9e37_79b1;
const WIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The fingerprint of bytes: every word of 32 bits is added to the one of 64 numbers whose turn it is, which is then multiplied by an
/// odd number and turned by 13 bits; the numbers are taken together in the same way. Every step can be undone, so that bytes
/// that differ in one word have different fingerprints, and others do but for one in 2^64.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut lanes: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
    let (rounds, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    carry_on(&mut lanes, rounds);
    let (words, last) = rest.as_chunks::<4>();
    let mut end = [0; 4];
    end[..last.len()].copy_from_slice(last);
    let words = words.iter().chain([&end]).map(|word| u64::from(u32::from_le_bytes(*word)));
    let all = lanes.iter().map(|lane| u64::from(*lane)).chain(words);
    all.fold(bytes.len() as u64, |print, word| (print ^ word).wrapping_mul(WIDE).rotate_left(29))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn carry_on(lanes: &mut [u32; LANES], rounds: &[[u8; 4 * LANES]]) {
    // A local copy stays in registers.
    let mut local = *lanes;
    for round in rounds {
        let words = round.as_chunks::<4>().0;
        for (lane, word) in local.iter_mut().zip(words) {
            *lane = (*lane ^ u32::from_le_bytes(*word)).wrapping_mul(FACTOR).rotate_left(13);
        }
    }
    *lanes = local;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_length_shows() {
        for len in [0, 1, 3, 4, 255, 256, 257, 1000, 1028] {
            let mut bytes: Vec<u8> = (0..len).map(|i| (i * 37 % 251) as u8).collect();
            let print = fingerprint(&bytes);
            for bit in 0..8 * bytes.len() {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(fingerprint(&bytes), print, "bit {bit} of {len} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(0);
            assert_ne!(fingerprint(&bytes), print, "a zero after {len} bytes");
        }
    }

    #[test]
    fn what_faults_do_together_shows() {
        // Signs flipped in a whole column of words, words exchanged, and blocks moved by a round do not make up for each other.
        let bytes: Vec<u8> =
            (0..4096u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let print = fingerprint(&bytes);
        for step in [1, 2, 64, 128] {
            let mut signs = bytes.clone();
            signs.chunks_exact_mut(4).step_by(step).for_each(|word| word[3] ^= 0x80);
            assert_ne!(fingerprint(&signs), print, "every {step}th sign");
            let mut moved = bytes.clone();
            moved.rotate_left(4 * step);
            assert_ne!(fingerprint(&moved), print, "moved by {step} words");
            let mut exchanged = bytes.clone();
            (0..4).for_each(|i| exchanged.swap(i, 4 * step + i));
            assert_ne!(fingerprint(&exchanged), print, "exchanged over {step} words");
        }
    }

    #[test]
    fn plain_loops_give_the_same() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * i >> 3) as u8).collect();
        let mut lanes: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
        let rounds = bytes.as_chunks::<{ 4 * LANES }>().0;
        let mut other = lanes;
        carry_on(&mut lanes, rounds);
        for (i, word) in rounds.as_flattened().as_chunks::<4>().0.iter().enumerate() {
            let lane = &mut other[i % LANES];
            *lane = (*lane ^ u32::from_le_bytes(*word)).wrapping_mul(FACTOR).rotate_left(13);
        }
        assert_eq!(lanes, other);
    }
}
