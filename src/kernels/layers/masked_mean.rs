use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::expect::expect_f32,
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "masked_mean",
    wgsl: wgsl!("lib/grid", "layers/masked_mean"),
    workgroup: 256,
    params: size_of::<Params>(),
};

/// Columns that a workgroup takes.
const BLOCK: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    blocks: u32,
    total: u32,
}

/// The mean of every sequence's rows, padding left out.
///
/// `means[b, c] = sum of x[b, s, c] over s < lengths[b] / lengths[b]`; 0 where the length is 0
///
/// - `x`: F32 `[sequences * S, cols]`, finite; padding may hold anything.
/// - `lengths`: how many rows of each sequence count, at most S.
/// - returns F32 `[sequences, cols]`.
///
/// Agreement: against f64, on the CPU, which adds in f64 and rounds once, `2^-24 |mean|` and `2^-52 (lengths[b] + 2)` of the mean
/// of the magnitudes; on a device, which adds sixteen sums, `2^-24 (lengths[b] / 16 + 10)` of the mean of the magnitudes.
///
/// # Errors
///
/// [`Error::Shape`] if `x` is not F32, its rows are not as many for every sequence, or a length is larger than that;
/// [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Reimers and Gurevych 2019, arXiv 1908.10084 (mean pooling).
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// // Two sequences of two rows, of which the last one is padding.
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0, 99.0], 4)?;
/// assert_eq!(kernels::masked_mean(&on, &x, &[2, 1])?.read_f32(&on)?, [2.0, 3.0, 5.0, 6.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn masked_mean(on: &Backend, x: &Tensor, lengths: &[u32]) -> Result<Tensor> {
    expect_f32(KERNEL.name, "x", x, (x.rows(), x.cols()))?;
    let rows = expect_sequences(KERNEL.name, x.rows(), lengths)?;
    match on {
        Backend::Cpu => {
            let means = reference(bytemuck::cast_slice(x.words()?), (rows, x.cols()), lengths);
            Ok(Tensor::cpu(DType::F32, lengths.len(), x.cols(), means))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, rows, lengths),
    }
}

/// Rows that each sequence has; refuses rows that do not make so many sequences, and lengths beyond them.
pub(crate) fn expect_sequences(
    kernel: &'static str,
    rows: usize,
    lengths: &[u32],
) -> Result<usize> {
    if !rows.is_multiple_of(lengths.len()) {
        let expected = format!("a multiple of {} sequences", lengths.len());
        return Err(Error::shape(kernel, "rows", rows, expected));
    }
    let each = rows.checked_div(lengths.len()).unwrap_or(0);
    match lengths.iter().find(|length| **length as usize > each) {
        Some(length) => Err(Error::shape(kernel, "lengths", length, format!("at most {each}"))),
        None => Ok(each),
    }
}

fn reference(x: &[f32], (rows, cols): (usize, usize), lengths: &[u32]) -> Vec<u32> {
    let mut means = vec![0; lengths.len() * cols];
    chunks(&mut means, cols, &|b, means| {
        let length = lengths[b];
        let mut sums = vec![0.0; cols];
        for row in x[b * rows * cols..].chunks_exact(cols).take(length as usize) {
            add(row, &mut sums);
        }
        for (mean, sum) in means.iter_mut().zip(sums) {
            *mean = ((sum / f64::from(length.max(1))) as f32).to_bits();
        }
    });
    means
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn add(row: &[f32], sums: &mut [f64]) {
    for (x, sum) in row.iter().zip(sums) {
        *sum += f64::from(*x);
    }
}

fn on_gpu(gpu: &Gpu, x: &Tensor, rows: usize, lengths: &[u32]) -> Result<Tensor> {
    let blocks = x.cols().div_ceil(BLOCK);
    let total = lengths.len() * blocks;
    let means = gpu.alloc(4 * lengths.len() * x.cols())?;
    let params = Params {
        rows: rows as u32,
        cols: x.cols() as u32,
        blocks: blocks as u32,
        total: total as u32,
    };
    let buffers = [x.buffer()?, &gpu.upload(lengths)?, &means];
    gpu.dispatch(&KERNEL, &[], &params, &buffers, total as u64)?;
    Ok(Tensor::gpu(DType::F32, lengths.len(), x.cols(), means))
}
