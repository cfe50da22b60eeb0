//! Matrix products, on every backend: operations or bytes per second. Results are compared with the CPU's before they are timed.
//! On a GPU the time is that of the device's own timestamps, transfers left out.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use tersor::{
    Backend, DType, Device, Result, Tensor,
    affine::{AffineCode, Scale},
    codec::bitpack,
    kernels::*,
};

/// Repeatable words.
fn noise(seed: u32, len: usize) -> Vec<u32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> ((state >> 28) + 4) ^ state).wrapping_mul(277_803_737)
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Repeatable values from -1 to 1.
fn values(seed: u32, len: usize) -> Vec<f32> {
    noise(seed, len).iter().map(|w| *w as i32 as f32 / (1u32 << 31) as f32).collect()
}

type Run = Box<dyn Fn(&Backend) -> Result<Tensor>>;

/// A product of `[m, k]` activations with `[n, k]` weights, ready to run.
struct Product {
    on: Backend,
    run: Run,
    /// Bytes of weights that it must read at least.
    bytes: u64,
}

const FORMS: [&str; 11] = [
    "int8 x int8",
    "int8 x int8, laid out once",
    "f32",
    "f8",
    "int8",
    "int4, groups of 128",
    "int4, groups of 32",
    "palette of 16",
    "palette of 256",
    "binary",
    "2:4 f16",
];

fn product(on: Backend, form: &str, (m, n, k): (usize, usize, usize)) -> Result<Product> {
    let x = Tensor::from_f32(&on, &values(1, m * k), m)?;
    let codes = |bits: u32| noise(2, n * bitpack::words(k, bits));
    let scales = |groups| vec![Scale { scale: 0.01, zero_point: 0 }; groups];
    let affine = |bits: u8, group: usize| {
        let code = AffineCode { bits, symmetric: true };
        AffineMatrix::new(&on, codes(bits.into()), (n, k), code, group, &scales(n * k / group))
    };
    let none = Activation::None;
    let (run, bytes): (Run, u64) = match form {
        "int8 x int8" | "int8 x int8, laid out once" => {
            let matrix = |seed, rows| -> Result<Int8> {
                let words = Tensor::new(&on, DType::U32, rows, k / 4, noise(seed, rows * k / 4))?;
                Ok(Int8 { words, cols: k, signed: true })
            };
            let (a, w) = (matrix(1, m)?, matrix(2, n)?);
            let channels = Channels::new(&on, &vec![[0; 4]; n])?;
            if form == "int8 x int8" {
                let run = move |on: &Backend| matmul_i8(on, &a, &w, &channels, Epilogue::Sum);
                (Box::new(run), (n * k) as u64)
            } else {
                let w = Int8Weights::new(&on, w, true)?;
                let run = move |on: &Backend| matmul_i8_with(on, &a, &w, &channels, Epilogue::Sum);
                (Box::new(run), (n * k) as u64)
            }
        }
        "f32" => {
            let w = Tensor::from_f32(&on, &values(2, n * k), n)?;
            (Box::new(move |on| matmul_f32(on, &x, &w, None, none)), 4 * (n * k) as u64)
        }
        "f8" => {
            let w = Tensor::new(&on, DType::F8E4M3, n, k, vec![0x3c38_b830; n * k / 4])?;
            (Box::new(move |on| matmul_f32(on, &x, &w, None, none)), (n * k) as u64)
        }
        "int8" | "int4, groups of 128" | "int4, groups of 32" => {
            let w = match form {
                "int8" => affine(8, k)?,
                "int4, groups of 128" => affine(4, 128)?,
                _ => affine(4, 32)?,
            };
            let bytes = w.bytes();
            (Box::new(move |on| matmul_affine(on, &x, &w, None, none)), bytes)
        }
        "palette of 16" | "palette of 256" | "binary" => {
            let (bits, group) = match form {
                "palette of 16" => (4, n * k),
                "palette of 256" => (8, n * k),
                _ => (1, k),
            };
            let entries = values(3, (n * k / group) << bits);
            let w = PaletteMatrix::new(&on, codes(bits), (n, k), bits, group, &entries)?;
            let bytes = w.bytes();
            (Box::new(move |on| matmul_palette(on, &x, &w, None, none)), bytes)
        }
        _ => {
            let mask = vec![0x6c95_a35c; n * k / 32];
            let halves = tersor::words(DType::F16, n * k / 2);
            let mut stored = vec![0; halves];
            tersor::dtype::encode(DType::F16, &values(4, n * k / 2), &mut stored, 0);
            let w = SparseMatrix::new(&on, mask, stored, DType::F16, (n, k))?;
            let bytes = w.bytes();
            (Box::new(move |on| matmul_sparse(on, &x, &w, None, none)), bytes)
        }
    };
    Ok(Product { on, run, bytes })
}

/// The time of one run: the device's own, or the host's on the CPU.
fn once(p: &Product) -> Duration {
    match &p.on {
        Backend::Gpu(gpu) => gpu.timed(|| (p.run)(&p.on)).expect("the adapter has timestamps").1,
        Backend::Cpu => {
            let started = Instant::now();
            std::hint::black_box((p.run)(&p.on).expect("the CPU does not fail"));
            started.elapsed()
        }
    }
}

/// Elements that are not the CPU's: integers exactly, floats within a millionth of the largest.
fn agrees(a: &[u32], b: &[u32], exact: bool) -> bool {
    let f = |x: &u32| f32::from_bits(*x);
    let largest = a.iter().fold(0.0f32, |m, x| m.max(f(x).abs()));
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| x == y || !exact && (f(x) - f(y)).abs() <= 1e-5 * largest)
}

fn bench(c: &mut Criterion) {
    let open = |gpu: bool| if gpu { Backend::open(Device::Gpu).unwrap() } else { Backend::Cpu };
    let gpu = match Backend::open(Device::Gpu) {
        Ok(Backend::Gpu(gpu)) => Some(gpu.adapter().software),
        _ => {
            println!("SKIPPED on GPU: no adapter");
            None
        }
    };
    for on_gpu in [Some(false), gpu.map(|_| true)].into_iter().flatten() {
        let card = on_gpu && gpu == Some(false);
        let title = open(on_gpu).name().to_owned();
        for form in FORMS {
            let shape = (5, 96, 512);
            let read = |p: Product| (p.run)(&p.on).unwrap().read(&p.on).unwrap();
            let expected = read(product(Backend::Cpu, form, shape).unwrap());
            let got = read(product(open(on_gpu), form, shape).unwrap());
            assert!(agrees(&expected, &got, form.starts_with("int8 x int8")), "{form} on {title}");
            let mut group = c.benchmark_group(format!("products/{title}/{form}"));
            group.sample_size(10);
            let square = match (card, on_gpu) {
                (true, _) => 8192,
                (_, true) => 256,
                _ => 1024,
            };
            let side = if card { 8192 } else { square.min(1024) * 2 };
            let mut shapes = vec![(square, square, square), (1, side, side), (8, side, side)];
            if !on_gpu {
                for side in [384, 4096] {
                    shapes.extend([(1, side, side), (32, side, side)]);
                }
            }
            for (m, n, k) in shapes {
                let p = product(open(on_gpu), form, (m, n, k)).unwrap();
                group.throughput(match m {
                    1 | 8 | 32 => Throughput::Bytes(p.bytes),
                    _ => Throughput::Elements(2 * (m * n * k) as u64),
                });
                group.bench_with_input(
                    BenchmarkId::from_parameter(format!("{m} x {n} x {k}")),
                    &p,
                    |b, p| {
                        b.iter_custom(|times| (0..times).map(|_| once(p)).sum());
                    },
                );
            }
        }
        let mut group = c.benchmark_group(format!("products/{title}/im2col"));
        group.sample_size(10);
        // Both convolutions of LeNet-5 on 250 images.
        for (side, channels) in [(28, 1), (12, 20)] {
            let on = open(on_gpu);
            let image = Image { count: 250, height: side, width: side, channels };
            let window = Window { height: 5, width: 5, stride: 1, padding: 0 };
            let x = values(1, image.count * side * side * channels);
            let x = Tensor::from_f32(&on, &x, image.count * side * side).unwrap();
            let run = Box::new(move |on: &Backend| im2col(on, &x, image, window, 0));
            let places = 250 * (side - 4) * (side - 4);
            group.throughput(Throughput::Elements((places * 25 * channels) as u64));
            let p = Product { on, run, bytes: 0 };
            let id = BenchmarkId::from_parameter(format!("{side} x {side} x {channels}"));
            group.bench_with_input(id, &p, |b, p| {
                b.iter_custom(|times| (0..times).map(|_| once(p)).sum());
            });
        }
        drop(group);
        let mut group = c.benchmark_group(format!("products/{title}/signs x signs"));
        group.sample_size(10);
        let side = match (card, on_gpu) {
            (true, _) => 8192,
            (_, true) => 512,
            _ => 2048,
        };
        for m in [1, side] {
            let on = open(on_gpu);
            let matrix = |seed, rows: usize| {
                let bits =
                    Tensor::new(&on, DType::U32, rows, side / 32, noise(seed, rows * side / 32));
                let scales = Tensor::from_f32(&on, &vec![1.0; rows], rows);
                BinaryMatrix { bits: bits.unwrap(), scales: scales.unwrap(), cols: side }
            };
            let (a, w) = (matrix(1, m), matrix(2, side));
            let p = Product { on, run: Box::new(move |on| xnor_dots(on, &a, &w)), bytes: 0 };
            group.throughput(Throughput::Elements(2 * (m * side * side) as u64));
            group.bench_with_input(
                BenchmarkId::from_parameter(format!("{m} x {side} x {side}")),
                &p,
                |b, p| {
                    b.iter_custom(|times| (0..times).map(|_| once(p)).sum());
                },
            );
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    targets = bench
}
criterion_main!(benches);
