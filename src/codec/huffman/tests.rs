use crate::{
    codec::huffman::{BLOCK, code::Code, cost, decode, encode, lanes_of},
    simd::histogram,
};
use proptest::prelude::*;

fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// A symbol from 31 random bits.
type Symbol = fn(u64) -> u8;

/// Distributions by name.
const DISTRIBUTIONS: [(&str, Symbol); 8] = [
    ("all equal", |_| 7),
    ("two symbols", |r| if r % 2 == 0 { 0 } else { 255 }),
    ("maximal skew", |r| if r % 997 == 0 { 9 } else { 8 }),
    ("geometric", |r| (r | 1 << 30).trailing_zeros() as u8),
    ("sixteen", |r| ((r & 15) * (r >> 4 & 15) / 15) as u8),
    ("even", |r| (r & 127) as u8),
    ("odd bytes", |r| 255 - 2 * (r & 63 & r >> 6) as u8),
    ("thirteen", |r| 100 + (r % 13) as u8),
];

fn symbols(seed: usize, length: usize, symbol: Symbol) -> Vec<u8> {
    let mut noise = noise(seed as u64);
    (0..length).map(|_| symbol(noise())).collect()
}

fn encoded(symbols: &[u8]) -> Vec<u8> {
    let mut out = vec![0xAA];
    assert!(encode(symbols, &mut out));
    assert_eq!(out.remove(0), 0xAA, "streams are appended");
    out
}

/// Encodes, decodes and compares; the cost is a bound, exact for a lane or none, and close.
fn round_trip(what: &str, symbols: &[u8]) -> Vec<u8> {
    let bytes = encoded(symbols);
    let mut back = vec![0x55; symbols.len()];
    assert_eq!(decode(&bytes, &mut back), Ok(()), "{what}, {} symbols", symbols.len());
    assert!(back == symbols, "{what}, {} symbols", symbols.len());
    let (took, cost) = (bytes.len() as u64, cost(&histogram(symbols)).unwrap());
    let close = if symbols.len() < 2048 { took } else { took + took / 100 + 8 };
    assert!((took..=close).contains(&cost), "{what}: {took} bytes cost {cost}");
    bytes
}

#[test]
fn every_length_and_distribution_comes_back() {
    let edges = [1023, 1024, 2047, 2048, 4095, 4096, 32_767, 40_000, 65_535, 65_536, 65_537];
    let blocks = [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2049, 3 * BLOCK, 3 * BLOCK + 70_001];
    for (what, symbol) in DISTRIBUTIONS {
        for length in (0..200).chain(edges).chain(blocks) {
            round_trip(what, &symbols(length, length, symbol));
        }
    }
}

#[test]
fn worked_streams() {
    assert!(encoded(&[]).is_empty());
    assert_eq!(encoded(&[5]), [5, 5]);
    assert_eq!(encoded(&[5; 1_000_000]), [5, 5]);
    // One bit each: 0 for the first, 1 for the second; 1111 and 1 - 1 as 000, then the same again.
    assert_eq!(encoded(&[4, 5, 5, 4, 5]), [4, 5, 0b0000_1111, 0b0001_0110]);
    // Two lanes of 128 bytes each: 128 and a width of 0.
    let pairs: Vec<u8> = (0..2048).map(|i| (i / 2 % 2) as u8).collect();
    let bytes = encoded(&pairs);
    assert_eq!(bytes[3..6], [128, 0, 0b1010_1010]);
    assert_eq!(bytes.len(), 3 + 2 + 256);
}

#[test]
fn lanes_depend_on_the_symbols_alone() {
    let lanes = [(1, 1), (2047, 1), (2048, 2), (65_535, 32), (65_536, 64), (BLOCK, 64)];
    for (symbols, expected) in lanes {
        assert_eq!(lanes_of(symbols), expected);
    }
}

#[test]
fn many_kinds_of_symbols_are_not_for_this_code() {
    let all: Vec<u8> = (0..129).collect();
    let mut out = vec![1, 2];
    assert!(!encode(&all, &mut out));
    assert_eq!((out, cost(&histogram(&all))), (vec![1, 2], None));
}

#[test]
fn sixteen_levels_of_gaussian_weights_take_little_more_than_their_entropy() {
    // How likely the levels of the optimal 16-level quantizer of N(0, 1) are (Max 1960), in millionths: the lower half.
    let chances = [8_180, 24_446, 42_714, 60_482, 76_164, 88_709, 97_423, 101_882];
    let mut all = [0; 256];
    for (i, p) in chances.into_iter().enumerate() {
        (all[i], all[15 - i]) = (8 * p, 8 * p);
    }
    let bits_of = |n: u64| (8e6 / n as f64).log2() * n as f64;
    let entropy: f64 = all.iter().filter(|n| **n > 0).map(|n| bits_of(*n)).sum();
    let bits = 8.0 * cost(&all).unwrap() as f64;
    assert!(bits < 1.015 * entropy, "{} over entropy", bits / entropy);
    // The real thing, without what the cost allows for.
    let mut noise = noise(1);
    let mut level = || {
        let mut r = noise() % 1_000_000;
        (0..16).find(|l| r.checked_sub(all[*l] / 8).map(|left| r = left).is_none()).unwrap() as u8
    };
    let symbols: Vec<u8> = (0..4 * BLOCK).map(|_| level()).collect();
    let counts = histogram(&symbols);
    let n = symbols.len() as f64;
    let entropy: f64 = counts[..16].iter().map(|c| (n / *c as f64).log2() * *c as f64).sum();
    let bits = 8.0 * round_trip("Gaussian", &symbols).len() as f64;
    assert!(bits < 1.013 * entropy, "{} over entropy", bits / entropy);
}

/// Bytes are refused, or are the stream of what they decode to.
fn refused_or_canonical(what: &dyn std::fmt::Debug, bytes: &[u8], length: usize) -> bool {
    let mut out = vec![0; length];
    let refused = decode(bytes, &mut out).is_err();
    assert!(refused || encoded(&out) == bytes, "{what:?}: accepted, but not what is written");
    refused
}

#[test]
fn truncations_and_flipped_bits_are_refused_or_canonical() {
    for (what, symbol) in DISTRIBUTIONS {
        for length in [1, 2, 3, 10, 100, 700, 2048, 5000] {
            let bytes = encoded(&symbols(length, length, symbol));
            for short in 0..bytes.len() {
                assert!(refused_or_canonical(&(what, length, short), &bytes[..short], length));
            }
            let mut bytes = bytes;
            for bit in 0..8 * bytes.len() {
                bytes[bit / 8] ^= 1 << (bit % 8);
                refused_or_canonical(&(what, length, bit), &bytes, length);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            for extra in [0, 1, 255] {
                bytes.push(extra);
                assert!(refused_or_canonical(&(what, length, extra), &bytes, length));
                bytes.pop();
            }
            for other in [0, length - 1, length + 1] {
                refused_or_canonical(&(what, length, other), &bytes, other);
            }
        }
    }
}

#[test]
fn a_code_of_another_distribution_is_refused() {
    // Complete, and the symbols decode; but no encoder would have chosen it.
    let mut code = Code { lengths: [0; 256] };
    code.lengths[..4].copy_from_slice(&[1, 2, 3, 3]);
    let mut bytes = Vec::new();
    code.write(&mut bytes);
    // 0, 1, 2 and 3 once each.
    bytes.extend([0b1101_1010, 0b1]);
    let error = decode(&bytes, &mut [0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "not the code that these symbols have");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        length in 0usize..5000,
    ) {
        refused_or_canonical(&"arbitrary", &bytes, length);
    }

    #[test]
    fn arbitrary_symbols_come_back(
        alphabet in prop::collection::vec(any::<u8>(), 1..128),
        picks in prop::collection::vec(any::<u16>(), 0..5000),
        skew in 1usize..4,
    ) {
        let pick = |p: &u16| (f64::from(*p) / 65536.0).powi(skew as i32) * alphabet.len() as f64;
        let symbols: Vec<u8> = picks.iter().map(|p| alphabet[pick(p) as usize]).collect();
        round_trip("arbitrary", &symbols);
    }
}
