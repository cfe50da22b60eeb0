//! Huffman streams: worked example, agreement on adversarial distributions, refusal of damaged bytes.

use crate::support::{CPU, assert_same, backends, cross_check, gpu, tiny_gpu};
use tersor::{
    Backend, Error, Result,
    codec::huffman::{BLOCK, encode},
    kernels::huffman_decode,
};

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

const DISTRIBUTIONS: [Symbol; 7] = [
    |_| 7,
    |r| if r % 2 == 0 { 0 } else { 255 },
    |r| if r % 997 == 0 { 9 } else { 8 },
    |r| (r | 1 << 30).trailing_zeros() as u8,
    |r| ((r & 15) * (r >> 4 & 15) / 15) as u8,
    |r| (r & 127) as u8,
    |r| 255 - 2 * (r & 63 & r >> 6) as u8,
];

fn stream(symbols: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode(symbols, &mut bytes));
    bytes
}

fn random(seed: usize, length: usize, symbol: Symbol) -> Vec<u8> {
    let mut noise = noise(seed as u64);
    (0..length).map(|_| symbol(noise())).collect()
}

fn run(on: &Backend, streams: &[(&[u8], usize)]) -> Result<Vec<u32>> {
    huffman_decode(on, streams)?.read(on)
}

#[test]
fn worked_example() {
    // 4, 5, 5, 4, 5 and then 3 fives: 0 for 4 and 1 for 5, behind the code; and a stream of one kind of symbol.
    let (first, second) = ([4, 5, 0b0000_1111, 0b1111_0110], [9, 9]);
    for on in backends() {
        let out = run(on, &[(&first, 8), (&second, 6)]).unwrap();
        assert_eq!(out, [0x0405_0504, 0x0505_0505, 0x0909_0909, 0x0909], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    let edges = [1, 2, 3, 4, 5, 63, 64, 65, 511, 2047, 2048, 2049, 4096, 5001, 8192, 40_000];
    let blocks = [65_535, 65_536, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 2051];
    for (d, symbol) in DISTRIBUTIONS.into_iter().enumerate() {
        for length in edges.into_iter().chain(blocks) {
            let symbols = random(length, length, symbol);
            let bytes = stream(&symbols);
            cross_check((d, length), |on| run(on, &[(&bytes, length)]));
            let mut expected = symbols;
            expected.resize(expected.len().next_multiple_of(4), 0);
            let expected: &[u32] = &bytemuck::pod_collect_to_vec(&expected);
            assert_same(&(d, length), expected, &run(&CPU, &[(&bytes, length)]).unwrap());
        }
    }
}

#[test]
fn many_streams_go_together() {
    let lengths = [4, BLOCK + 100, 1000, 0, 2048, 70_000, 17];
    let all: Vec<Vec<u8>> = lengths
        .iter()
        .zip(DISTRIBUTIONS)
        .map(|(length, symbol)| stream(&random(*length, *length, symbol)))
        .collect();
    let streams: Vec<_> = all.iter().map(Vec::as_slice).zip(lengths).collect();
    cross_check("streams", |on| run(on, &streams));
}

#[test]
fn dispatches_may_be_folded() {
    // 7 workgroups per dimension.
    let bytes = stream(&random(1, 40, DISTRIBUTIONS[4]));
    let streams = vec![(&bytes[..], 40); 16];
    if let Some(tiny) = tiny_gpu() {
        assert_same(&"folded", &run(&CPU, &streams).unwrap(), &run(tiny, &streams).unwrap());
    }
}

#[test]
fn nothing_gives_nothing() {
    for on in backends() {
        for streams in [&[][..], &[(&[][..], 0)]] {
            assert!(run(on, streams).unwrap().is_empty(), "{}", on.name());
        }
    }
}

#[test]
fn damaged_bytes_are_refused_or_are_other_symbols() {
    for (length, symbol) in
        [(300, DISTRIBUTIONS[4]), (2500, DISTRIBUTIONS[3]), (4500, DISTRIBUTIONS[5])]
    {
        let bytes = stream(&random(length, length, symbol));
        let refused = |on: &Backend, bytes: &[u8]| match run(on, &[(bytes, length)]) {
            Err(Error::Malformed { .. }) => true,
            Err(e) => panic!("{e}"),
            Ok(_) => false,
        };
        for on in backends() {
            for short in (0..bytes.len()).step_by(7) {
                assert!(refused(on, &bytes[..short]), "{length} cut to {short}, {}", on.name());
            }
        }
        // The CPU also refuses codes that do not suit the symbols; all else the GPU sees too.
        let (mut seen, mut noise) = ((0, 0), noise(1));
        for _ in 0..200 {
            let mut bytes = bytes.clone();
            let bit = noise() as usize % (8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(gpu) = gpu() else { break };
            let both = (refused(&CPU, &bytes), refused(gpu, &bytes));
            assert!(both.0 || !both.1, "{length}, bit {bit}: only the GPU refuses");
            if !both.0 {
                cross_check((length, bit), |on| run(on, &[(&bytes, length)]));
            }
            seen = (seen.0 + i32::from(both.0), seen.1 + i32::from(both.1));
        }
        eprintln!("{length}: refused {seen:?} of 200");
    }
}

#[test]
fn streams_start_words() {
    for on in backends() {
        let out = run(on, &[(&[5, 5], 3), (&[6, 6], 5), (&[], 0), (&[7, 7], 1)]).unwrap();
        assert_eq!(out, [0x0005_0505, 0x0606_0606, 6, 7], "{}", on.name());
    }
}
