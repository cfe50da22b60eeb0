//! Retrieval structures on one thread: what they take, how often a position without a survivor becomes one, and asking for all
//! positions; checked before they are timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use tersor::codec::{Malformed, bloomier, ribbon};

fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

type EncodeKept = fn(usize, &[u32], &[u8], (u32, u32), &mut Vec<u8>);
type Query = fn(&[u8], &mut [u32], &mut [u8]) -> Result<(), Malformed>;

struct Retrieval {
    name: &'static str,
    encode: EncodeKept,
    decode: Query,
}

const RETRIEVALS: &[Retrieval] = &[
    Retrieval { name: "ribbon", encode: ribbon::encode, decode: ribbon::decode },
    Retrieval { name: "Bloomier", encode: bloomier::encode, decode: bloomier::decode },
];

/// Functions from positions to values of 4 bits in 8 bits: bytes beside those of the survivors' results, how many other positions
/// become values beside `2^-4`, and asking for all positions.
fn retrieval(c: &mut Criterion) {
    const BITS: (u32, u32) = (4, 8);
    let mut state = 1;
    for (source, positions, density) in
        [("26k of 262,144 positions", 1 << 18, 0.1), ("2M of 67M positions", 1 << 26, 0.03)]
    {
        let (mut mask, mut values) = (vec![0u32; positions / 32], Vec::new());
        for i in 0..positions {
            if uniform(&mut state) < density {
                mask[i / 32] |= 1 << (i % 32);
                values.push((uniform(&mut state) * 16.0) as u8);
            }
        }
        let mut group = c.benchmark_group(source);
        group.sample_size(10).throughput(Throughput::Elements(positions as u64));
        for Retrieval { name, encode, decode } in RETRIEVALS {
            let mut bytes = Vec::new();
            let start = std::time::Instant::now();
            encode(positions, &mask, &values, BITS, &mut bytes);
            let rate = values.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
            let (mut got, mut out) = (vec![0; mask.len()], vec![0; positions]);
            decode(&bytes, &mut got, &mut out).unwrap();
            let survives = |i: &usize| mask[i / 32] >> (i % 32) & 1 == 1;
            let kept: Vec<u8> = (0..positions).filter(survives).map(|i| out[i]).collect();
            assert!(kept == values && mask.iter().zip(&got).all(|(m, g)| m & !g == 0), "{name}");
            let read: u32 = got.iter().map(|word| word.count_ones()).sum();
            let false_positives =
                (read as usize - kept.len()) as f64 / (positions - kept.len()) as f64;
            let over = bytes.len() as f64 / values.len() as f64 * 100.0 - 100.0;
            println!(
                "{source}: {name} {over:+.2} % bytes, {false_positives:.5} false positives (1/16), {rate:.1} M survivors/s built"
            );
            group.bench_function(format!("{name} query"), |b| {
                b.iter(|| decode(black_box(&bytes), &mut got, &mut out).unwrap());
            });
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)); targets = retrieval }
criterion_main!(benches);
