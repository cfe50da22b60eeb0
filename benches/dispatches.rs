//! How long dispatches are: every kernel of jobs on a synthetic checkpoint, and of products, by the device's own timestamps. Nothing
//! is planned over 100 ms. `cargo bench --bench dispatches`

use std::{collections::BTreeMap, time::Duration};
use tersor::{
    Backend, Cancel, DType, Device, Result, Silent, Tensor,
    gpu::Dispatched,
    kernels::{Activation, Channels, Epilogue, Int8, matmul_f32, matmul_i8},
    pipeline::{Options, PARANOID, compress, decompress},
    recipe::{PRESETS, Recipe},
};

static CANCEL: Cancel = Cancel::new();

fn noise(seed: u32, n: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let unit = |bits: u32| f32::from_bits(0x3f80_0000 | bits >> 9) - 1.5;
        (unit(state) * unit(state.rotate_left(16))).to_bits()
    };
    (0..n).map(|_| next()).collect()
}

/// Matrices of 32 and 16 MiB, so that units are full, and one of rows that are sorted in several runs.
fn checkpoint(path: &std::path::Path) {
    let shapes = [(2048, 4096), (4096, 1024), (512, 11008)];
    let data: Vec<_> =
        shapes.iter().enumerate().map(|(i, (r, c))| noise(i as u32, r * c)).collect();
    let views = shapes.iter().zip(&data).enumerate().map(|(i, ((rows, cols), words))| {
        let view = safetensors::tensor::TensorView::new(
            safetensors::Dtype::F32,
            vec![*rows, *cols],
            bytemuck::cast_slice(words),
        );
        (format!("layer{i}.weight"), view.expect("the shape fits"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a scratch file");
}

fn products(on: &Backend) -> Result<()> {
    let (m, n, k) = (1024, 2048, 2048);
    let codes = |rows: usize| -> Result<Int8> {
        let words = Tensor::new(on, DType::U32, rows, k / 4, noise(9, rows * k / 4))?;
        Ok(Int8 { words, cols: k, signed: true })
    };
    let channels = Channels::new(on, &vec![[0; 4]; n])?;
    matmul_i8(on, &codes(m)?, &codes(n)?, &channels, Epilogue::Sum)?;
    let floats = |rows: usize| Tensor::new(on, DType::F32, rows, k, noise(8, rows * k));
    matmul_f32(on, &floats(m)?, &floats(n)?, None, Activation::None)?;
    Ok(())
}

fn print(title: &str, dispatches: &[Dispatched]) {
    let mut of: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    dispatches.iter().for_each(|(kernel, time)| of.entry(kernel).or_default().push(*time));
    println!("{title}");
    for (kernel, mut times) in of {
        times.sort();
        let at =
            |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let over = times.iter().filter(|t| t.as_millis() >= 100).count();
        println!(
            "  {kernel:<16} {:>5} dispatches: median {:>8.3} ms, 99 % {:>8.3} ms, longest {:>8.3} ms, over 100 ms: {over}",
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

fn main() -> Result<()> {
    let on = match Backend::open(Device::Gpu) {
        Ok(on) => on,
        Err(e) => {
            println!("SKIPPED: {e}");
            return Ok(());
        }
    };
    let Backend::Gpu(gpu) = &on else { unreachable!("a GPU was asked for") };
    println!("{}", on.name());
    let dir = tempfile::tempdir().expect("a scratch folder");
    let [input, output, back] = ["in", "out", "back"].map(|n| dir.path().join(n));
    checkpoint(&input);
    let (progress, cancel) = (&Silent, &CANCEL);
    let options = Options {
        threads: 2,
        memory: 4 << 30,
        force: true,
        paranoid: PARANOID,
        ..Options::new(&on, progress, cancel)
    };
    for (name, text) in PRESETS.iter().filter(|(name, _)| *name != "lossless") {
        let recipe = Recipe::parse(text)?;
        let job = || compress(&input, &output, &recipe, &options);
        print(&format!("compress, {name}"), &gpu.dispatches(job)?.1);
        let job = || decompress(&output, &back, &options);
        print(&format!("decompress, {name}"), &gpu.dispatches(job)?.1);
    }
    print("products, the first time", &gpu.dispatches(|| products(&on))?.1);
    print("products, once their speed is known", &gpu.dispatches(|| products(&on))?.1);
    Ok(())
}
