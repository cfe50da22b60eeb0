//! The exact magnitude threshold of 16.8 million f32 weights on one thread, beside reading the data once; checked against
//! selection before it is timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tersor::{
    Backend, Tensor,
    kernels::{histogram, magnitude_tail},
    prune::{Threshold, kept, refine, threshold},
};

const N: usize = 1 << 24;

/// The magnitude's bits, and how many weights on it are kept.
fn exact(weights: &Tensor, density: f64) -> (u32, u64) {
    let keep = kept(density, N as u64);
    match threshold(&histogram(&Backend::Cpu, weights).unwrap(), keep) {
        Threshold::Exact { magnitude, ties } => (magnitude, ties),
        Threshold::Prefix { prefix, keep } => {
            refine(prefix, keep, &magnitude_tail(&Backend::Cpu, weights, prefix).unwrap())
        }
    }
}

fn bench(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f32 / (1u64 << 53) as f32
    };
    let values: Vec<f32> =
        (0..N).map(|_| (uniform() + uniform() + uniform() - 1.5) * 0.02).collect();
    let weights = Tensor::from_f32(&Backend::Cpu, &values, 4096).unwrap();
    let mut group = c.benchmark_group("magnitude threshold/F32/one thread");
    group.sample_size(10).throughput(Throughput::Bytes(4 * N as u64));
    group.bench_function("read once", |b| {
        b.iter(|| black_box(&values).iter().fold(0, |a, w| a ^ w.to_bits()));
    });
    for density in [0.1, 0.5] {
        let mut magnitudes: Vec<u32> = values.iter().map(|w| w.to_bits() & 0x7fff_ffff).collect();
        let keep = kept(density, N as u64) as usize;
        let (above, limit, _) = magnitudes.select_nth_unstable_by(keep - 1, |a, b| b.cmp(a));
        let ties = keep as u64 - above.iter().filter(|m| **m > *limit).count() as u64;
        assert_eq!(exact(&weights, density), (*limit, ties), "density {density}");
        group.bench_function(format!("density {density}"), |b| b.iter(|| exact(&weights, density)));
    }
}

criterion_group! { name = benches; config = Criterion::default().warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_secs(1)); targets = bench }
criterion_main!(benches);
