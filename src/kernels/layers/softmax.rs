use crate::{
    Backend, DType, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{expect::expect_f32, layers::activation::exp, tasks::sixteen},
    parallel::spans,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "softmax",
    wgsl: wgsl!("lib/grid", "layers/softmax"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
}

/// Turns every row into weights that add up to 1.
///
/// `y[r, c] = exp(x[r, c] - highest) / sum of exp(x[r, ..] - highest)`, highest the largest of the row
///
/// - `x`: F32 `[rows, cols]`, no NaN. What lies beyond ±1e38, the infinities too, counts as ±1e38: a row of nothing but -inf
///   gives equal weights.
/// - returns F32 `[rows, cols]`; 0 where `x` lies 87 or more below the highest.
///
/// Agreement: `|error| <= 2^-24 y r + 2^-124` against f64, with `d = highest - x`: on the CPU `r = d + ln(cols) + 9`, the
/// roundings of differences, exponentials and a quotient; on a device `r = 5 (d + ln(cols)) + cols / 256 + 27`, since WGSL lets
/// an exponential of t be off by 3 + 2 |t| units in the last place and a quotient by 2.5.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if `x` is not F32; [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Source
///
/// Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs".
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let x = Tensor::from_f32(&on, &[7.0, 7.0, 0.0, -100.0], 2)?;
/// assert_eq!(kernels::softmax(&on, &x)?.read_f32(&on)?, [0.5, 0.5, 1.0, 0.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn softmax(on: &Backend, x: &Tensor) -> Result<Tensor> {
    expect_f32(KERNEL.name, "x", x, (x.rows(), x.cols()))?;
    match on {
        Backend::Cpu => {
            let y = reference(bytemuck::cast_slice(x.words()?), x.cols());
            Ok(Tensor::cpu(DType::F32, x.rows(), x.cols(), y))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x),
    }
}

fn reference(x: &[f32], cols: usize) -> Vec<u32> {
    let mut y = vec![0; x.len()];
    spans(&mut y, cols, (1 << 14) / cols.max(1) + 1, &|first, y| {
        for (x, y) in x[first * cols..].chunks(cols).zip(y.chunks_mut(cols)) {
            normalize(x, bytemuck::cast_slice_mut(y));
        }
    });
    y
}

/// Beyond it a value counts as it.
const LIMIT: f32 = 1e38;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn normalize(x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(&mut *y) {
        *y = x.clamp(-LIMIT, LIMIT);
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let highest = sixteen(y, -LIMIT, larger).into_iter().fold(-LIMIT, larger);
    for y in &mut *y {
        *y = power(*y - highest);
    }
    let sum: f64 = sixteen(y, 0.0, |sum, y| sum + f64::from(y)).iter().sum();
    let scale = (1.0 / sum) as f32;
    for y in y {
        *y *= scale;
    }
}

/// e^t of t <= 0; 0 from -87 down, where the exponential has no normal number left.
#[inline(always)]
pub(crate) fn power(t: f32) -> f32 {
    let inside = t > -87.0;
    let power = exp(if inside { t } else { -87.0 });
    if inside { power } else { 0.0 }
}

fn on_gpu(gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
    let y = gpu.alloc(4 * x.elements())?;
    let params = Params { rows: x.rows() as u32, cols: x.cols() as u32 };
    let (lanes, workgroups) = row_lanes(&KERNEL, x.rows(), x.cols());
    gpu.dispatch(&KERNEL, &[("LANES", lanes)], &params, &[x.buffer()?, &y], workgroups)?;
    Ok(Tensor::gpu(DType::F32, x.rows(), x.cols(), y))
}

/// Invocations that share a row, a power of two that leaves each at most four columns if it can, and the workgroups of all rows.
pub(crate) fn row_lanes(kernel: &Kernel, rows: usize, cols: usize) -> (f64, u64) {
    let lanes = cols.div_ceil(4).next_power_of_two().min(kernel.workgroup as usize) as u32;
    (lanes.into(), (rows as u64).div_ceil(u64::from(kernel.workgroup / lanes)))
}
