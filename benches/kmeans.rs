//! Exact one-dimensional k-means: histogram, solution and assignment of 16.8 million weights on one thread, beside reading
//! the data once; and per channel. Every result is checked before it is timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tersor::{
    Backend, DType, Tensor, dtype,
    kernels::{Assigner, Groups, histogram, palettize, sort_rows},
    kmeans::{Bins, Goal, Palette, palette, palette_of_histogram},
    words,
};

const N: usize = 1 << 24;

/// Gaussian weights of deviation 0.02.
fn gaussian(dtype: DType, n: usize) -> Tensor {
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut words = vec![0; words(dtype, n)];
    let mut row = vec![0.0; 4096];
    for first in (0..n).step_by(4096) {
        for w in &mut row {
            *w = (0.02 * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
                as f32;
        }
        dtype::encode(dtype, &row, &mut words, first);
    }
    Tensor::new(&Backend::Cpu, dtype, n / 4096, 4096, words).unwrap()
}

fn whole(w: &Tensor, k: usize) -> (Palette, Tensor) {
    let histogram = histogram(&Backend::Cpu, w).unwrap();
    let second_pass = |_| panic!("the bins of Gaussian weights hide too much");
    let p = palette_of_histogram(&histogram, Goal::Entries(k), w.dtype(), second_pass).unwrap();
    let a = [Assigner::new(&p, w.dtype(), w.elements() as u64)];
    let bits = if k == 16 { 4 } else { 8 };
    let codes = palettize(&Backend::Cpu, w, &a, Groups::of(w.elements()), bits).unwrap();
    (p, codes)
}

fn per_channel(w: &Tensor, k: usize) -> Vec<Palette> {
    let sorted = sort_rows(&Backend::Cpu, w).unwrap().read(&Backend::Cpu).unwrap();
    sorted.chunks(w.cols()).map(|keys| palette(&Bins::of_keys(keys), k, w.dtype())).collect()
}

/// Squared error of a palette over sorted weights.
fn error(sorted: &[f64], p: &Palette) -> f64 {
    let mut code = 0;
    let mut sum = 0.0;
    for w in sorted {
        while code < p.thresholds.len() && *w > f64::from(p.thresholds[code]) {
            code += 1;
        }
        sum += (w - f64::from(p.entries[code])).powi(2);
    }
    sum
}

fn bench(c: &mut Criterion) {
    // For scripts/peers_kmeans.py: the same weights as raw f32.
    if let Some(path) = std::env::var_os("KMEANS_DATA") {
        let data = gaussian(DType::F32, N).read(&Backend::Cpu).unwrap();
        std::fs::write(path, bytemuck::cast_slice::<u32, u8>(&data)).unwrap();
    }
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    // The 20-bit bins of f32 against the optimum over single values, on the first million weights.
    let f32s = gaussian(DType::F32, 1 << 20);
    let mut sorted: Vec<f64> =
        f32s.read_f32(&Backend::Cpu).unwrap().iter().map(|w| f64::from(*w)).collect();
    sorted.sort_by(f64::total_cmp);
    for (k, limit) in [(16, 1e-6), (256, 5e-5)] {
        let best = palette(&Bins::of_sorted(sorted.iter().map(|v| (*v, 1.0))), k, DType::F32);
        let excess = error(&sorted, &whole(&f32s, k).0) / error(&sorted, &best) - 1.0;
        println!("f32, k = {k}: squared error {excess:+.1e} of the optimum, limit {limit:.0e}");
        assert!(excess <= limit);
    }
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let w = gaussian(dtype, N);
        let mut group = c.benchmark_group(format!("kmeans/{}/one thread", dtype.name()));
        group.sample_size(10).throughput(Throughput::Elements(N as u64));
        let data = w.read(&Backend::Cpu).unwrap();
        group.bench_function("read once", |b| {
            b.iter(|| black_box(&data).iter().fold(0u32, |a, b| a ^ b));
        });
        for k in [16, 256] {
            group.bench_function(format!("histogram, k = {k}, assignment"), |b| {
                b.iter(|| whole(&w, k))
            });
        }
        let p = whole(&w, 16).0;
        assert_eq!(p.entries.len(), 16);
        group.bench_function("histogram alone", |b| {
            b.iter(|| histogram(&Backend::Cpu, &w).unwrap())
        });
        let bins = histogram(&Backend::Cpu, &w).unwrap().bins();
        for k in [16, 256] {
            group.bench_function(format!("solution alone, k = {k}"), |b| {
                b.iter(|| palette(&bins, k, dtype))
            });
        }
        if dtype != DType::F16 {
            group.bench_function("4096 channels, k = 16", |b| b.iter(|| per_channel(&w, 16)));
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_secs(1)); targets = bench }
criterion_main!(benches);
