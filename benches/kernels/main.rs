//! Every kernel on every backend: bytes that the step must move per second. Results are compared before they are timed. On a
//! GPU the time is that of the device's own timestamps, transfers left out.

mod jobs;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jobs::{JOBS, Job, Output, job};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tersor::{
    Backend, DType, Device, Result, Tensor,
    affine::{AffineCode, ClipGrid, Scale},
    dtype,
    form::{BlockTransform, TransformKind},
    kernels::*,
    kmeans::{Palette, palette},
    prune::Limit,
    recipe::Norm,
    words,
};

const COLS: usize = 4096;

/// What a kernel needs, on one backend.
struct Inputs {
    on: Backend,
    weights: Tensor,
    dtype: DType,
    per_row: Vec<Scale>,
    per_128: Vec<ClipGrid>,
    limits: Vec<Limit>,
    palette: Palette,
    int8: Tensor,
    codes4: Tensor,
    coefficients: Tensor,
    entries: Entries,
    vectors: Tensor,
}

/// The transform of the benches, and the slower one.
fn hadamard() -> BlockTransform {
    BlockTransform { kind: TransformKind::Hadamard { seed: 1 }, block: 128, steps: vec![] }
}

fn dct() -> BlockTransform {
    BlockTransform { kind: TransformKind::Dct, block: 32, steps: vec![] }
}

const INT8: AffineCode = AffineCode { bits: 8, symmetric: true };
const INT4: AffineCode = AffineCode { bits: 4, symmetric: true };

impl Inputs {
    fn new(on: Backend, dtype: DType, rows: usize) -> Self {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(0x3f80_0000 | (state >> 9)) - 1.5
        };
        let values: Vec<f32> =
            (0..rows * COLS).map(|_| (random() + random() + random()) * 0.02).collect();
        let mut data = vec![0; words(dtype, values.len())];
        dtype::encode(dtype, &values, &mut data, 0);
        let cpu = Tensor::new(&Backend::Cpu, dtype, rows, COLS, data.clone()).unwrap();
        let weights = Tensor::new(&on, dtype, rows, COLS, data).unwrap();
        let ranges = range(&Backend::Cpu, &cpu, Groups::of(COLS)).unwrap();
        let per_row: Vec<_> = ranges.iter().map(|r| INT8.scale(*r, 64)).collect();
        let groups = range(&Backend::Cpu, &cpu, Groups::of(128)).unwrap();
        let limits = row_threshold(&Backend::Cpu, &cpu, COLS / 2).unwrap();
        let limits: Vec<_> = limits
            .iter()
            .enumerate()
            .map(|(r, l)| Limit { ties_before: l.ties_before + (r * COLS) as u64, ..*l })
            .collect();
        let palette = palette(&histogram(&Backend::Cpu, &cpu).unwrap().bins(), 16, dtype);
        let assigner = [Assigner::new(&palette, dtype, values.len() as u64)];
        Self {
            int8: quantize(&on, &weights, INT8, Groups::of(COLS), &per_row).unwrap(),
            codes4: palettize(&on, &weights, &assigner, Groups::of(values.len()), 4).unwrap(),
            coefficients: transform(&on, &weights, &hadamard()).unwrap(),
            // Any byte is a code.
            vectors: Tensor::new(
                &on,
                DType::U32,
                rows,
                COLS / 16,
                (0..(rows * COLS / 16) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect(),
            )
            .unwrap(),
            entries: Entries {
                dim: 4,
                k: 256,
                values: (0..1024).map(|i| i * 997 % 4095 - 2047).map(|v| v as i16).collect(),
            },
            per_128: groups.iter().map(|r| ClipGrid::new(INT4, *r)).collect(),
            on,
            weights,
            dtype,
            per_row,
            limits,
            palette,
        }
    }
}

/// Runs a kernel and returns a word of its result, or all of them to compare.
type Run = fn(&Inputs, bool) -> Result<Vec<u32>>;

fn words_of(i: &Inputs, t: Tensor, all: bool) -> Result<Vec<u32>> {
    if all { t.into_words(&i.on) } else { Ok(Vec::new()) }
}

/// Kernels of a checkpoint's weights: the kernel, what it does here, bytes written per weight, and how to run it.
const KERNELS: [(&str, &str, f64, Run); 20] = [
    ("range", "range per row", 0.0, |i, _| {
        Ok(range(&i.on, &i.weights, Groups::of(COLS))?
            .iter()
            .flat_map(|r| [r.min.to_bits(), r.max.to_bits()])
            .collect())
    }),
    ("histogram", "histogram", 0.0, |i, _| {
        Ok(histogram(&i.on, &i.weights)?.counts.iter().map(|n| *n as u32).collect())
    }),
    ("histogram_tails", "histogram, values of 64 bins", 0.0, |i, _| {
        let bins: Vec<u32> = (0..64).map(|b| (order_key::of_f32(0.01) >> 12) + b).collect();
        let found = histogram_tails(&i.on, &i.weights, &bins)?;
        Ok(found.into_iter().flat_map(|(key, n)| [key, n]).collect())
    }),
    ("quantize", "quantize int8 per row", 1.0, |i, all| {
        words_of(i, quantize(&i.on, &i.weights, INT8, Groups::of(COLS), &i.per_row)?, all)
    }),
    ("clip_errors", "clip search int4 per 128", 0.0, |i, _| {
        best_clips(&i.on, &i.weights, INT4, Groups::of(128), &i.per_128)
    }),
    ("dequantize", "dequantize int8", 1.0, |i, all| {
        words_of(
            i,
            dequantize(&i.on, &i.int8, COLS, INT8, Groups::of(COLS), &i.per_row, i.dtype)?,
            all,
        )
    }),
    ("palettize", "palettize k = 16", 0.5, |i, all| {
        let n = i.weights.elements();
        let assigner = [Assigner::new(&i.palette, i.dtype, n as u64)];
        words_of(i, palettize(&i.on, &i.weights, &assigner, Groups::of(n), 4)?, all)
    }),
    ("depalettize", "depalettize k = 16", 0.5, |i, all| {
        let book = Codebook { entries: &i.palette.entries, k: i.palette.entries.len(), bits: 4 };
        words_of(
            i,
            depalettize(&i.on, &i.codes4, COLS, book, Groups::of(i.weights.elements()), i.dtype)?,
            all,
        )
    }),
    ("vector_points", "points of vectors of 4", 2.0, |i, all| {
        words_of(i, vector_points(&i.on, &i.weights, 4, Groups::of(COLS), &i.per_row)?, all)
    }),
    ("dequantize_vectors", "dequantize vectors of 4", 0.25, |i, all| {
        let book = VectorCodes { entries: &i.entries, stages: 1 };
        let groups = Groups::of(COLS);
        words_of(
            i,
            dequantize_vectors(&i.on, &i.vectors, COLS, book, groups, &i.per_row, i.dtype)?,
            all,
        )
    }),
    ("sort_rows", "sort rows", 4.0, |i, all| words_of(i, sort_rows(&i.on, &i.weights)?, all)),
    ("merge_runs", "sort long rows", 4.0, |i, all| {
        let long = i.weights.clone().reshape(i.weights.rows() / 16, 16 * COLS)?;
        words_of(i, sort_rows(&i.on, &long)?, all)
    }),
    ("transform", "hadamard 128", 4.0, |i, all| {
        words_of(i, transform(&i.on, &i.weights, &hadamard())?, all)
    }),
    ("untransform", "hadamard 128, back", 1.0, |i, all| {
        words_of(i, untransform(&i.on, &i.coefficients, &hadamard(), i.dtype)?, all)
    }),
    ("transform", "dct 32", 4.0, |i, all| words_of(i, transform(&i.on, &i.weights, &dct())?, all)),
    ("untransform", "dct 32, back", 1.0, |i, all| {
        words_of(i, untransform(&i.on, &i.coefficients, &dct(), i.dtype)?, all)
    }),
    ("nm_mask", "mask 2:4", 0.125, |i, all| words_of(i, nm_mask(&i.on, &i.weights, 2, 4)?, all)),
    ("magnitude_mask", "mask by threshold", 0.125, |i, all| {
        words_of(i, magnitude_mask(&i.on, &i.weights, Groups::of(COLS), &i.limits)?, all)
    }),
    ("row_threshold", "threshold per row", 0.0, |i, _| {
        Ok(row_threshold(&i.on, &i.weights, COLS / 2)?
            .iter()
            .flat_map(|l| [l.threshold, l.ties_before as u32])
            .collect())
    }),
    ("magnitude_sums", "norms of rows", 0.0, |i, _| {
        let grid = BlockGrid { rows: 1, cols: COLS, row0: 0, col0: 0 };
        Ok(magnitude_sums(&i.on, &i.weights, grid, Norm::L2, &[32767.0])?
            .iter()
            .map(|s| *s as u32)
            .collect())
    }),
];

/// The kernels of [`ALL`] are those that a list here names, but for the device's own test, which runs when it is opened.
fn every_kernel_is_here() {
    let here = KERNELS.iter().map(|(kernel, ..)| *kernel).chain(JOBS).chain(["numerics"]);
    let here: BTreeSet<_> = here.collect();
    assert_eq!(here, ALL.iter().map(|kernel| kernel.name).collect());
}

/// Whether benches are only to be tried, once each, as `cargo test --benches` does: criterion tells by the same arguments.
fn trying() -> bool {
    let given = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    given("--test") || !given("--bench")
}

fn bench(c: &mut Criterion) {
    every_kernel_is_here();
    let mut backends = vec![(Backend::Cpu, if trying() { 1 << 20 } else { 16 << 20 })];
    match Backend::open(Device::Gpu) {
        Ok(Backend::Gpu(gpu)) => {
            // A software adapter takes seconds for what a card does in a millisecond.
            let few = gpu.adapter().software || trying();
            let elements = if few { 1 << 20 } else { 64 << 20 };
            backends.push((Backend::Gpu(gpu), elements));
        }
        _ => println!("SKIPPED on GPU: no adapter"),
    }
    for dtype in [DType::BF16, DType::F32] {
        let reference = Inputs::new(Backend::Cpu, dtype, (1 << 20) / COLS);
        let expected: Vec<_> =
            KERNELS.iter().map(|(.., run)| run(&reference, true).unwrap()).collect();
        for (on, elements) in &backends {
            let title = format!("{}/{}", on.name(), dtype.name());
            let open = || match on {
                Backend::Cpu => Backend::Cpu,
                Backend::Gpu(_) => Backend::open(Device::Gpu).unwrap(),
            };
            let small = Inputs::new(open(), dtype, (1 << 20) / COLS);
            for ((_, name, _, run), expected) in KERNELS.iter().zip(&expected) {
                assert!(
                    run(&small, true).unwrap() == *expected,
                    "{name} on {title}: the results differ"
                );
            }
            let inputs = Inputs::new(open(), dtype, elements / COLS);
            let mut group = c.benchmark_group(title);
            group.sample_size(10);
            for (_, name, written, run) in KERNELS {
                let read = dtype.bits() as f64 / 8.0;
                group.throughput(Throughput::Bytes(((read + written) * *elements as f64) as u64));
                group.bench_with_input(BenchmarkId::from_parameter(name), &inputs, |b, inputs| {
                    b.iter_custom(|times| {
                        (0..times).map(|_| once(&inputs.on, || run(inputs, false))).sum()
                    });
                });
            }
        }
    }
}

/// The kernels of other things than weights: the same on every backend, floats to a ten-thousandth.
fn bench_jobs(c: &mut Criterion) {
    let results = |on: &Backend, job: &Job| -> Vec<(DType, Vec<u32>)> {
        match (job.run)(on).unwrap() {
            Output::Words(words) => vec![(DType::U32, words)],
            Output::Tensors(all) => {
                all.into_iter().map(|t| (t.dtype(), t.into_words(on).unwrap())).collect()
            }
        }
    };
    type Read = (DType, Vec<u32>);
    let same = |(a, b): (&Read, &Read)| {
        let floats = a.0 == DType::F32;
        let near = |(a, b): (&u32, &u32)| {
            let (x, y) = (f32::from_bits(*a), f32::from_bits(*b));
            a == b || floats && (x - y).abs() <= 1e-4 * (1.0 + x.abs())
        };
        a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(near)
    };
    for on in [Some(Backend::Cpu), Backend::open(Device::Gpu).ok()].into_iter().flatten() {
        let mut group = c.benchmark_group(format!("{}/others", on.name()));
        group.sample_size(10);
        for kernel in JOBS {
            let Some(job) = job(kernel, &on).unwrap() else {
                println!("SKIPPED: {kernel} on {}", on.name());
                continue;
            };
            // What runs on matrix units alone is the product that the CPU does under another name.
            let reference = kernel.strip_suffix("_coop").unwrap_or(kernel);
            let expected = jobs::job(reference, &Backend::Cpu).unwrap().unwrap();
            let (got, expected) = (results(&on, &job), results(&Backend::Cpu, &expected));
            let agree = got.len() == expected.len() && got.iter().zip(&expected).all(same);
            assert!(agree, "{kernel} on {}: the results differ", on.name());
            group.throughput(Throughput::Bytes(job.bytes));
            group.bench_function(kernel, |b| {
                b.iter_custom(|times| (0..times).map(|_| once(&on, || (job.run)(&on))).sum());
            });
        }
    }
}

/// The time of one run: the device's own, or the host's on the CPU.
fn once<T>(on: &Backend, run: impl Fn() -> Result<T>) -> Duration {
    match on {
        Backend::Gpu(gpu) => gpu.timed(run).expect("the adapter has timestamps").1,
        Backend::Cpu => {
            let started = Instant::now();
            std::hint::black_box(run().expect("the CPU does not fail"));
            started.elapsed()
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    targets = bench, bench_jobs
}
criterion_main!(benches);
