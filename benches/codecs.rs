//! Codecs of symbols on one thread: bits a symbol beside the entropy, encoding and decoding; every round trip is checked before it
//! is timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use tersor::codec::{Malformed, bloomier, rans, ribbon};

const N: usize = 8 << 20;

struct Codec {
    name: &'static str,
    encode: fn(&[u8], &mut Vec<u8>),
    decode: fn(&[u8], &mut [u8]) -> Result<(), Malformed>,
}

const CODECS: &[Codec] = &[Codec { name: "rANS", encode: rans::encode, decode: rans::decode }];

fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Indices of Gaussian weights into the optimal palette of `k` levels: Lloyd's iteration on a fine histogram.
fn gaussian(k: usize, state: &mut u64) -> Vec<u8> {
    const BINS: usize = 1 << 14;
    let center = |bin: usize| (bin as f64 + 0.5) / BINS as f64 * 12.0 - 6.0;
    let mass: Vec<f64> = (0..BINS).map(|b| (-center(b) * center(b) / 2.0).exp()).collect();
    // Starts where the density's cube root has equal shares: near the optimum for any k.
    let total: f64 = mass.iter().map(|m| m.cbrt()).sum();
    let (mut level, mut sum) = (vec![0; BINS], 0.0);
    for (level, mass) in level.iter_mut().zip(&mass) {
        sum += mass.cbrt();
        *level = ((sum / total * k as f64) as usize).min(k - 1);
    }
    for _ in 0..300 {
        let (mut sums, mut masses) = (vec![0.0; k], vec![1e-300; k]);
        for b in 0..BINS {
            sums[level[b]] += mass[b] * center(b);
            masses[level[b]] += mass[b];
        }
        let levels: Vec<f64> = sums.iter().zip(&masses).map(|(s, m)| s / m).collect();
        let mut at = 0;
        for (b, level) in level.iter_mut().enumerate() {
            while at + 1 < k && levels[at] + levels[at + 1] < 2.0 * center(b) {
                at += 1;
            }
            *level = at;
        }
    }
    let mut normal = || {
        let (a, b) = (uniform(state), uniform(state));
        (-2.0 * a.ln()).sqrt() * (b * std::f64::consts::TAU).cos()
    };
    let bin = |x: f64| (((x + 6.0) / 12.0 * BINS as f64).max(0.0) as usize).min(BINS - 1);
    (0..N).map(|_| level[bin(normal())] as u8).collect()
}

/// Nine of ten weights are pruned, the others have one of 16 levels.
fn pruned(state: &mut u64) -> Vec<u8> {
    let mut indices = gaussian(16, state);
    // An index takes the place of no weight: 0 is for those that are pruned.
    for index in &mut indices {
        *index = if uniform(state) < 0.9 { 0 } else { *index + 1 };
    }
    indices
}

fn entropy(symbols: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    symbols.iter().for_each(|s| counts[usize::from(*s)] += 1);
    let share = |c: &u32| f64::from(*c) / symbols.len() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| -share(c) * share(c).log2()).sum()
}

fn symbols(c: &mut Criterion) {
    let mut state = 1;
    for (source, symbols) in [
        ("Gaussian, 16 levels", gaussian(16, &mut state)),
        ("Gaussian, 256 levels", gaussian(256, &mut state)),
        ("90 % pruned, 16 levels", pruned(&mut state)),
    ] {
        let mut group = c.benchmark_group(source);
        group.sample_size(20).throughput(Throughput::Elements(N as u64));
        for Codec { name, encode, decode } in CODECS {
            let mut bytes = Vec::new();
            encode(&symbols, &mut bytes);
            let mut back = vec![0; N];
            decode(&bytes, &mut back).unwrap();
            assert!(back == symbols, "{name}");
            let (bits, entropy) = (bytes.len() as f64 * 8.0 / N as f64, entropy(&symbols));
            let over = (bits / entropy - 1.0) * 100.0;
            println!("{source}: {name} {bits:.4} bits, entropy {entropy:.4}, {over:+.2} %");
            group.bench_function(format!("{name} encode"), |b| {
                b.iter(|| {
                    bytes.clear();
                    encode(black_box(&symbols), &mut bytes);
                });
            });
            group.bench_function(format!("{name} decode"), |b| {
                b.iter(|| decode(black_box(&bytes), &mut back).unwrap());
            });
        }
    }
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

criterion_group! { name = benches; config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)); targets = symbols, retrieval }
criterion_main!(benches);
