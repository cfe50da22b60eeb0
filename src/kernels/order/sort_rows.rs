use crate::{
    Backend, DType, Result, Tensor,
    decide::order_key,
    dtype,
    gpu::{Gpu, Kernel},
    kernels::order::merge_runs,
    parallel::spans,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "sort_rows",
    wgsl: wgsl!("lib/grid", "lib/dtype", "order/sort_rows"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    per_row: u32,
    padded: u32,
    runs: u32,
}

/// Keys that fit a workgroup's memory.
const RUN: usize = 4096;

/// Sorts every row.
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - returns U32 `[rows, cols]`: the [order keys](crate::decide::order_key) of each row, ascending.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the elements are no weights; [`Error::Gpu`](crate::Error::Gpu) if the device fails, or one binding cannot hold the keys.
///
/// # Source
///
/// Batcher 1968, "Sorting networks and their applications", for runs of 4,096, which [`merge_runs()`](crate::kernels::order::merge_runs::merge_runs()) merges;
/// on the CPU a radix sort.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels, kmeans::Bins};
///
/// let on = Backend::Cpu;
/// let keys = kernels::sort_rows(&on, &Tensor::from_f32(&on, &[2.0, -1.0, 0.0, 2.0], 1)?)?.read(&on)?;
/// assert_eq!(keys, [0x407f_ffff, 0x8000_0000, 0xc000_0000, 0xc000_0000]);
/// let bins = Bins::of_keys(&keys);
/// assert_eq!((bins.values, bins.weights), (vec![-1.0, 0.0, 2.0], vec![1.0, 1.0, 2.0]));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn sort_rows(on: &Backend, weights: &Tensor) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    match on {
        Backend::Cpu => {
            let keys = reference(weights.dtype(), weights.words()?, weights.rows(), weights.cols());
            Ok(Tensor::cpu(DType::U32, weights.rows(), weights.cols(), keys))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights),
    }
}

fn reference(dtype: DType, words: &[u32], rows: usize, cols: usize) -> Vec<u32> {
    let mut sorted = vec![0; rows * cols];
    // Narrow types decode to f32 with zeros below: only so many bits of their keys tell values apart.
    let low = match dtype {
        DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => 16,
        DType::F16 => 8,
        _ => 0,
    };
    spans(&mut sorted, cols, (1 << 17) / cols.max(1) + 1, &|first, sorted| {
        let (mut values, mut scratch) = (vec![0.0; cols], vec![0; cols]);
        for (r, sorted) in (first..).zip(sorted.chunks_mut(cols)) {
            dtype::decode(dtype, words, r * cols, &mut values);
            sorted.iter_mut().zip(&values).for_each(|(key, w)| *key = order_key::of_f32(*w));
            radix_sort(sorted, &mut scratch, low);
        }
    });
    sorted
}

/// Sorts by the bits from `low` on; the bits below must follow the sign, as those of decoded floats do.
pub(crate) fn radix_sort(keys: &mut [u32], scratch: &mut [u32], low: u32) {
    match low {
        _ if keys.len() < 64 => keys.sort_unstable(),
        16 => radix_passes::<256, 2>(keys, scratch, low),
        8 => radix_passes::<256, 3>(keys, scratch, low),
        _ => radix_passes::<2048, 3>(keys, scratch, 0),
    }
}

/// As many passes, each by a digit of so many values, from bit `low` on.
fn radix_passes<const DIGITS: usize, const PASSES: usize>(
    keys: &mut [u32],
    scratch: &mut [u32],
    low: u32,
) {
    let digit = |key: u32, pass: usize| {
        (key >> (low + pass as u32 * DIGITS.ilog2())) as usize & (DIGITS - 1)
    };
    let mut starts = [[0u32; DIGITS]; PASSES];
    for key in keys.iter() {
        (0..PASSES).for_each(|pass| starts[pass][digit(*key, pass)] += 1);
    }
    let (mut from, mut to) = (&mut *keys, scratch);
    for (pass, starts) in starts.iter_mut().enumerate() {
        let mut next = 0;
        for start in starts.iter_mut() {
            (*start, next) = (next, next + *start);
        }
        for key in from.iter() {
            let start = &mut starts[digit(*key, pass)];
            to[*start as usize] = *key;
            *start += 1;
        }
        std::mem::swap(&mut from, &mut to);
    }
    if PASSES % 2 == 1 {
        to.copy_from_slice(from);
    }
}

fn on_gpu(gpu: &Gpu, weights: &Tensor) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let out = gpu.alloc(4 * rows * cols)?;
    let per_row = cols.div_ceil(RUN);
    let padded = cols.min(RUN).next_power_of_two().max(2);
    let params = Params {
        cols: cols as u32,
        per_row: per_row as u32,
        padded: padded as u32,
        runs: (rows * per_row) as u32,
    };
    let constants = [("DTYPE", dtype::code(weights.dtype()))];
    let workgroups = (rows * per_row) as u64;
    // Every step of the network compares all pairs: 78 steps for whole runs.
    let steps = (padded.ilog2() * (padded.ilog2() + 1) / 2) as usize;
    let buffers = [weights.buffer()?, &out];
    let operations = (4 * rows * per_row * padded * steps) as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    let mut sorted = Tensor::gpu(DType::U32, rows, cols, out);
    let mut run = RUN;
    while run < cols {
        sorted = merge_runs::on_gpu(gpu, &sorted, run)?;
        run *= 2;
    }
    Ok(sorted)
}
