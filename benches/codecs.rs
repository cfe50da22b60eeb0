//! Codecs on 8 million symbols, in pieces as the storage blocks of an archive hold them, on one thread, with zstd's level 1
//! beside them; checked before they are timed. Sizes are printed: bits per symbol, and how much that is over the entropy.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use std::f64::consts::TAU;
use tersor::{
    Backend, DType, Device,
    codec::{floats, huffman, rans},
    kernels::{huffman_decode, rans_decode},
};

/// Symbols, and of a piece: as many weights as 1 MiB of bf16 holds.
const N: usize = 8 << 20;
const PIECE: usize = 1 << 19;

type Encode = fn(&[u8], &mut Vec<u8>);
type Decode = fn(&[u8], &mut [u8]);

/// What to measure: symbols are bytes.
const CODECS: &[(&str, Encode, Decode)] = &[
    (
        "huffman",
        |symbols, out| assert!(huffman::encode(symbols, out)),
        |bytes, out| huffman::decode(bytes, out).unwrap(),
    ),
    ("rans", rans::encode, |bytes, out| rans::decode(bytes, out).unwrap()),
    ("zstd -1", zstd_encode, zstd_decode),
];

/// The same for floats.
const FLOATS: &[(&str, DType, Encode, Decode)] = &[
    (
        "floats",
        DType::BF16,
        |bytes, out| floats::encode(DType::BF16, bytes, out),
        |bytes, out| floats::decode(DType::BF16, bytes, out).unwrap(),
    ),
    ("zstd -1", DType::BF16, zstd_encode, zstd_decode),
    (
        "floats",
        DType::F32,
        |bytes, out| floats::encode(DType::F32, bytes, out),
        |bytes, out| floats::decode(DType::F32, bytes, out).unwrap(),
    ),
    ("zstd -1", DType::F32, zstd_encode, zstd_decode),
];

fn zstd_encode(symbols: &[u8], out: &mut Vec<u8>) {
    out.extend(zstd::bulk::compress(symbols, 1).unwrap());
}

fn zstd_decode(bytes: &[u8], out: &mut [u8]) {
    zstd::bulk::decompress_to_buffer(bytes, out).unwrap();
}

/// Normally distributed, of deviation 1 (Box and Muller).
fn gaussian() -> impl FnMut() -> f64 {
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    move || (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos()
}

/// Boundaries between the levels of the best quantizer of `k` levels of these values (Lloyd, on their sorted sums).
fn boundaries(mut values: Vec<f64>, k: usize) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(values.iter().scan(0.0, |sum, v| {
            *sum += v;
            Some(*sum)
        }))
        .collect();
    let (half, width) = (k as f64 / 2.0, 6.0 / k as f64);
    let mut limits: Vec<f64> = (1..k).map(|i| (i as f64 - half) * width).collect();
    for _ in 0..2000 {
        let at = |limit: &f64| values.partition_point(|v| v < limit);
        let cuts: Vec<usize> =
            [0].into_iter().chain(limits.iter().map(at)).chain([values.len()]).collect();
        let means: Vec<f64> =
            cuts.windows(2).map(|c| (sums[c[1]] - sums[c[0]]) / (c[1] - c[0]) as f64).collect();
        limits = means.windows(2).map(|m| (m[0] + m[1]) / 2.0).collect();
    }
    limits
}

fn entropy(symbols: impl Iterator<Item = u8>) -> f64 {
    let mut counts = [0u64; 256];
    symbols.for_each(|s| counts[usize::from(s)] += 1);
    let n = counts.iter().sum::<u64>() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| *c as f64 / n * (n / *c as f64).log2()).sum()
}

/// Encodes `data` in pieces of `piece` bytes, decodes it, compares, and times both; says how many bytes that took.
fn measure(
    c: &mut Criterion,
    (title, name): (&str, &str),
    (data, piece): (&[u8], usize),
    throughput: Throughput,
    (encode, decode): (Encode, Decode),
) -> usize {
    let coded = |parts: &mut Vec<Vec<u8>>| {
        for (symbols, out) in data.chunks(piece).zip(parts) {
            out.clear();
            encode(symbols, out);
        }
    };
    let mut parts = vec![Vec::new(); data.len().div_ceil(piece)];
    let mut back = vec![0; data.len()];
    let decoded = |parts: &[Vec<u8>], back: &mut [u8]| {
        back.chunks_mut(piece).zip(parts).for_each(|(out, bytes)| decode(bytes, out));
    };
    coded(&mut parts);
    decoded(&parts, &mut back);
    assert!(back == data, "{name}, {title}: it does not come back");
    let mut group = c.benchmark_group(title);
    group.sample_size(10).throughput(throughput);
    group.bench_function(format!("{name}, encode"), |b| b.iter(|| coded(&mut parts)));
    group.bench_function(format!("{name}, decode"), |b| b.iter(|| decoded(&parts, &mut back)));
    parts.iter().map(Vec::len).sum()
}

fn bench(c: &mut Criterion) {
    let mut gaussian = gaussian();
    let values: Vec<f64> = (0..N).map(|_| gaussian()).collect();
    let quantized = |k| -> Vec<u8> {
        let limits = boundaries(values[..1 << 20].to_vec(), k);
        values.iter().map(|v| limits.partition_point(|l| l <= v) as u8).collect()
    };
    let indices = quantized(16);
    let weights: Vec<f32> = values.iter().map(|v| (v * 0.02) as f32).collect();
    let halves: Vec<u16> = weights.iter().map(|w| bf16::from_f32(*w).to_bits()).collect();
    let exponents = |x: &u16| (x >> 7) as u8;
    // Nine in ten fall to the level of zero.
    let pruned = indices.iter().map(|i| if gaussian().abs() < 1.644_854 { 7 } else { *i });
    let data: [(&str, Vec<u8>); 4] = [
        ("4-bit indices of Gaussian weights", indices.clone()),
        ("8-bit indices of Gaussian weights", quantized(256)),
        ("exponents of Gaussian bf16", halves.iter().map(exponents).collect()),
        ("4-bit indices, 90 % pruned", pruned.collect()),
    ];
    for (title, symbols) in &data {
        let entropy = entropy(symbols.iter().copied());
        // Huffman codes of 8 bits do not serve 256 symbols.
        let wide = title.starts_with('8');
        for (name, encode, decode) in CODECS.iter().filter(|c| !(wide && c.0 == "huffman")) {
            let throughput = Throughput::Elements(N as u64);
            let took = measure(c, (title, name), (symbols, PIECE), throughput, (*encode, *decode));
            let bits = 8.0 * took as f64 / N as f64;
            let over = 100.0 * (bits / entropy - 1.0);
            println!("{title}, {name}: {bits:.4} bits/symbol, {over:+.2} % over {entropy:.4}\n");
        }
    }
    on_device(c, &data);
    for (name, dtype, encode, decode) in FLOATS {
        let (bytes, rest): (&[u8], f64) = match dtype {
            DType::BF16 => (bytemuck::cast_slice(&halves), 8.0),
            _ => (bytemuck::cast_slice(&weights), 24.0),
        };
        let title = format!("Gaussian {}", dtype.name());
        let throughput = Throughput::Bytes(bytes.len() as u64);
        let took = measure(c, (&title, name), (bytes, 1 << 20), throughput, (*encode, *decode));
        let entropy = match dtype {
            DType::BF16 => entropy(halves.iter().map(exponents)),
            _ => entropy(weights.iter().map(|w| (w.to_bits() >> 23) as u8)),
        };
        let bound = (entropy + rest) * N as f64 / 8.0 / bytes.len() as f64;
        let ratio = took as f64 / bytes.len() as f64;
        let over = 100.0 * (ratio / bound - 1.0);
        println!("{title}, {name}: {ratio:.4} of the size, {over:+.2} % over {bound:.4}\n");
    }
}

/// The same symbols on the adapter that is there: coded bytes read and symbols written a second, by its own clock, transfers
/// left out. Decoded symbols are compared before.
fn on_device(c: &mut Criterion, data: &[(&str, Vec<u8>)]) {
    let Ok(on @ Backend::Gpu(_)) = Backend::open(Device::Gpu) else {
        println!("SKIPPED on GPU: no adapter");
        return;
    };
    let Backend::Gpu(gpu) = &on else { return };
    // A software adapter takes seconds for what a card does in a millisecond.
    let symbols = if gpu.adapter().software { 1 << 20 } else { N };
    let mut group = c.benchmark_group(on.name());
    group.sample_size(10);
    for (title, all) in data {
        let pieces = || all[..symbols].chunks(PIECE);
        for (name, encode, _) in &CODECS[..2] {
            if *name == "huffman" && title.starts_with('8') {
                continue;
            }
            let coded: Vec<Vec<u8>> = pieces()
                .map(|piece| {
                    let mut bytes = Vec::new();
                    encode(piece, &mut bytes);
                    bytes
                })
                .collect();
            let streams: Vec<(&[u8], usize)> = coded
                .iter()
                .zip(pieces())
                .map(|(bytes, piece)| (&bytes[..], piece.len()))
                .collect();
            let decode = || match *name {
                "huffman" => huffman_decode(&on, &streams),
                _ => rans_decode(&on, &streams),
            };
            let decoded = decode().unwrap().read(&on).unwrap();
            assert!(
                bytemuck::cast_slice::<u32, u8>(&decoded) == &all[..symbols],
                "{name}, {title}"
            );
            let moved = symbols + coded.iter().map(Vec::len).sum::<usize>();
            group.throughput(Throughput::Bytes(moved as u64));
            group.bench_function(format!("{name}, {title}"), |b| {
                b.iter_custom(|times| {
                    let once = || gpu.timed(decode).expect("the adapter has timestamps").1;
                    (0..times).map(|_| once()).sum()
                });
            });
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_secs(1)); targets = bench }
criterion_main!(benches);
