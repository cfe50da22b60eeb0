use super::*;
use proptest::prelude::*;

const FLOATS: [DType; 6] =
    [DType::BF16, DType::F16, DType::F32, DType::F64, DType::F8E4M3, DType::F8E5M2];

fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 33).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Weights that are nearly normally distributed.
fn weights(dtype: DType, count: usize) -> Vec<u8> {
    let mut noise = noise(count as u64);
    let mut sum = || (0..8).map(|_| (noise() >> 40) as f32 / (1 << 24) as f32).sum::<f32>();
    let values: Vec<f32> = (0..count).map(|_| (sum() - 4.0) * 0.02).collect();
    let mut words = vec![0; crate::words(dtype, count)];
    crate::dtype::encode(dtype, &values, &mut words, 0);
    let mut bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
    bytes.truncate(dtype.bytes(count));
    if dtype == DType::F64 {
        // Mantissas beyond those of f32.
        bytes.chunks_exact_mut(8).for_each(|x| x[0] = x[5] ^ x[4]);
    }
    bytes
}

fn round_trip(what: &str, dtype: DType, bytes: &[u8]) -> Vec<u8> {
    let mut coded = vec![0xAA];
    encode(dtype, bytes, &mut coded);
    assert_eq!(coded.remove(0), 0xAA, "appended");
    let mut back = vec![0x55; bytes.len()];
    assert_eq!(decode(dtype, &coded, &mut back), Ok(()), "{what}, {}", dtype.name());
    assert!(back == bytes, "{what}, {}", dtype.name());
    assert!(coded.len() <= bytes.len() + 1, "{what}, {}", dtype.name());
    coded
}

#[test]
fn every_pattern_comes_back() {
    for dtype in FLOATS {
        let size = dtype.bytes(1);
        // All patterns of 8 and 16 bits; all first and last halves of longer ones. NaNs, infinities and subnormals are
        // among them.
        let all: Vec<u8> = (0..1u32 << 16)
            .flat_map(|i| {
                let half = (i as u16).to_le_bytes();
                (0..size).map(move |b| if b < 2 { half[b] } else { half[b % 2] ^ (b / 2) as u8 })
            })
            .collect();
        round_trip("patterns", dtype, &all);
        // The same among weights, so that they are others beside common ones.
        let mut mixed = weights(dtype, 1 << 20);
        mixed[5 * size..][..all.len()].copy_from_slice(&all);
        let coded = round_trip("patterns among weights", dtype, &mixed);
        assert_ne!(coded[0], 0, "{}", dtype.name());
    }
}

#[test]
fn every_length_and_distribution_comes_back() {
    for dtype in FLOATS {
        let size = dtype.bytes(1);
        for count in (0..70).chain([1000, 2048, 65_535, 65_536, 131_072, 131_073, 300_001]) {
            round_trip("weights", dtype, &weights(dtype, count));
            round_trip("zeros", dtype, &vec![0; count * size]);
            let mut noise = noise(count as u64);
            let random: Vec<u8> = (0..count * size).map(|_| noise() as u8).collect();
            round_trip("noise", dtype, &random);
            // One float in a hundred is not zero.
            let mut sparse = weights(dtype, count);
            sparse.chunks_exact_mut(size).for_each(|x| {
                if !noise().is_multiple_of(100) {
                    x.fill(0);
                }
            });
            round_trip("sparse", dtype, &sparse);
        }
    }
}

#[test]
fn weights_take_what_their_exponents_do() {
    for (dtype, most) in [
        (DType::BF16, 0.66),
        (DType::F16, 0.85),
        (DType::F32, 0.775),
        (DType::F64, 0.545),
        (DType::F8E4M3, 0.655),
        (DType::F8E5M2, 0.7),
    ] {
        let bytes = weights(dtype, 1 << 19);
        let ratio = round_trip("weights", dtype, &bytes).len() as f64 / bytes.len() as f64;
        eprintln!("{}: {ratio:.4}", dtype.name());
        assert!(ratio < most, "{}: {ratio}", dtype.name());
    }
}

#[test]
fn bf16_is_within_half_a_percent_of_the_entropy_of_its_exponents() {
    let bytes = weights(DType::BF16, 1 << 19);
    let counts = Float::<2, 7, JOINT>::count(&bytes);
    let n = (bytes.len() / 2) as f64;
    let entropy: f64 =
        counts.iter().filter(|c| **c > 0).map(|c| (n / *c as f64).log2() * *c as f64).sum();
    let bound = entropy / 8.0 + n;
    let took = round_trip("weights", DType::BF16, &bytes).len() as f64;
    assert!(took < 1.005 * bound, "{} of the bound", took / bound);
}

#[test]
fn a_worked_example() {
    // 1.0, -1.0 and 1.5 forty times: exponent 127; signs before mantissas.
    let patterns = [0x3f80u16, 0xbf80, 0x3fc0];
    let bytes: Vec<u8> = patterns.repeat(40).iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut coded = Vec::new();
    encode(DType::BF16, &bytes, &mut coded);
    // Six bits of sign and digits, 0, 32 and 0; symbols 0, 0 and 2, of which the code is a bit each.
    let digits = [0u8, 32, 0].repeat(40);
    let mut packed = vec![0; bitpack::words(120, 6)];
    bitpack::pack(&digits, 6, &mut packed);
    let symbols = [0u8, 0, 2].repeat(40);
    let mut stream = Vec::new();
    assert!(huffman::encode(&symbols, &mut stream));
    let length = (stream.len() as u32).to_le_bytes();
    let packed: &[u8] = bytemuck::cast_slice(&packed);
    assert_eq!(coded, [&[129, 127, 0], packed, &length, &stream].concat());
    // The first form, in which the mantissas are whole: it is read for ever.
    let first = [&[1, 127][..], &[0, 0x80, 0x40].repeat(40), &[2, 0, 0, 0], &[0, 0]].concat();
    let mut back = vec![0; bytes.len()];
    assert_eq!(decode(DType::BF16, &first, &mut back), Ok(()));
    assert_eq!(back, bytes);
    let mut again = Vec::new();
    Float::<2, 7, 0>::encode(&bytes, &mut again);
    assert_eq!(again, first);
    // Integers, and what is too short to gain, stay as they are.
    for (dtype, bytes) in
        [(DType::I32, &[1, 2, 3, 4][..]), (DType::BF16, &bytes[..4]), (DType::F64, &[])]
    {
        let mut coded = Vec::new();
        encode(dtype, bytes, &mut coded);
        assert_eq!(coded, [&[0], bytes].concat());
    }
}

/// The first form.
fn encode_first(dtype: DType, bytes: &[u8], out: &mut Vec<u8>) {
    match dtype {
        DType::BF16 => Float::<2, 7, 0>::encode(bytes, out),
        DType::F16 => Float::<2, 10, 0>::encode(bytes, out),
        DType::F32 => Float::<4, 23, 0>::encode(bytes, out),
        DType::F64 => Float::<8, 52, 0>::encode(bytes, out),
        DType::F8E4M3 => Float::<1, 3, 0>::encode(bytes, out),
        _ => Float::<1, 2, 0>::encode(bytes, out),
    }
}

#[test]
fn planes_that_are_not_noise_are_coded() {
    // Weights that were halves: two bytes of the mantissa are nearly all zeros.
    let mut bytes = weights(DType::F32, 300_000);
    bytes.chunks_exact_mut(4).for_each(|x| (x[0], x[1]) = (0, x[1] & 0xe0));
    let ratio = round_trip("halves", DType::F32, &bytes).len() as f64 / bytes.len() as f64;
    assert!(ratio < 0.47, "{ratio}");
    // A row in eight of them is enough.
    let mut bytes = weights(DType::F32, 300_000);
    let rows = bytes.chunks_mut(4 * 384).step_by(8);
    rows.for_each(|row| row.chunks_mut(4).for_each(|x| (x[0], x[1]) = (0, x[1] & 0xe0)));
    let mixed = round_trip("mixed", DType::F32, &bytes).len() as f64 / bytes.len() as f64;
    assert!(mixed < 0.81, "{mixed}");
    // Flags that do not say which planes are coded are refused.
    let mut coded = Vec::new();
    encode(DType::F32, &bytes, &mut coded);
    let flags = 1 + usize::from(coded[0] - JOINED);
    assert_eq!(coded[flags], 0b11);
    for flags_now in [0, 1, 2, 4, 7, 0x83] {
        coded[flags] = flags_now;
        assert!(decode(DType::F32, &coded, &mut vec![0; bytes.len()]).is_err(), "{flags_now}");
    }
}

fn refused_or_canonical(
    what: &dyn std::fmt::Debug,
    dtype: DType,
    bytes: &[u8],
    length: usize,
) -> bool {
    let mut out = vec![0; length];
    let refused = decode(dtype, bytes, &mut out).is_err();
    let (mut again, mut first) = (Vec::new(), Vec::new());
    if !refused {
        encode(dtype, &out, &mut again);
        encode_first(dtype, &out, &mut first);
    }
    assert!(
        refused || again == bytes || first == bytes,
        "{what:?}, {}: not what is written",
        dtype.name()
    );
    refused
}

#[test]
fn truncations_and_flipped_bits_are_refused_or_canonical() {
    for dtype in FLOATS {
        for count in [0, 1, 40, 300, 2500] {
            let plain = weights(dtype, count);
            let mut bytes = round_trip("weights", dtype, &plain);
            for short in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
                assert!(refused_or_canonical(&short, dtype, &bytes[..short], plain.len()));
            }
            for bit in (0..8 * bytes.len()).step_by(1 + bytes.len() / 500) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                refused_or_canonical(&bit, dtype, &bytes, plain.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(0);
            assert!(refused_or_canonical(&"longer", dtype, &bytes, plain.len()));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        count in 0usize..100,
        which in 0usize..6,
    ) {
        refused_or_canonical(&"arbitrary", FLOATS[which], &bytes, FLOATS[which].bytes(count));
    }
}
