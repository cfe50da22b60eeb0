use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{expect::expect_f32, layers::softmax::row_lanes, tasks::sixteen},
    parallel::spans,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "layer_norm",
    wgsl: wgsl!("lib/grid", "layers/layer_norm"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
}

/// Brings every row to mean 0 and variance 1, then scales and shifts its columns.
///
/// `y[r, c] = gamma[c] n[r, c] + beta[c]`, `n = (z - mean) / s`, `s = sqrt(variance + epsilon)`, `z = x + residual`, mean and
/// variance those of row r of z
///
/// - `x`: F32 `[rows, cols]`; `residual`: the same, or nothing; magnitudes of z below 2^50.
/// - `gamma`, `beta`: F32 `[1, cols]`.
/// - `epsilon`: from 1e-30 to 1; BERT's is 1e-12.
/// - returns F32 `[rows, cols]`.
///
/// Agreement: against f64. On the CPU all is done in f64 and rounded once: `|error| <= 2^-24 |y|`, and `2^-52 (cols / 16 + 20) (1
/// + m) (1 + |n|) |gamma|`, with `m = max |z| / s` of the row. On a device, with `c = cols / 256` and `o = 2^-24 (c + 14) m`,
/// which must be small: `|error| <= 2^-24 (c + 15 + |n| ((c + 17) / 2 + 9)) |gamma| + 2^-24 |y|`, to first order in o: a row may
/// lie far from zero. A residual is added in f32 there, which may cost another `2^-24 (2 + |n|) m |gamma|`.
///
/// # Errors
///
/// [`Error::Shape`] if a matrix is not F32 or has another shape, or epsilon is out of range; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Ba, Kiros and Hinton 2016, arXiv 1607.06450; the sums: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
/// variance" (the corrected two-pass algorithm).
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let row = |values: [f32; 2]| Tensor::from_f32(&on, &values, 1);
/// let (x, gamma, beta) = (row([1.0, 3.0])?, row([2.0, 2.0])?, row([1.0, 0.0])?);
/// let y = kernels::layer_norm(&on, &x, None, &gamma, &beta, 1e-12)?;
/// assert_eq!(y.read_f32(&on)?, [-1.0, 2.0]); // mean 2, variance 1: 2 * -1 + 1, 2 * 1 + 0
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn layer_norm(
    on: &Backend,
    x: &Tensor,
    residual: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    let (rows, cols) = (x.rows(), x.cols());
    expect_f32(KERNEL.name, "x", x, (rows, cols))?;
    if let Some(residual) = residual {
        expect_f32(KERNEL.name, "residual", residual, (rows, cols))?;
    }
    expect_f32(KERNEL.name, "gamma", gamma, (1, cols))?;
    expect_f32(KERNEL.name, "beta", beta, (1, cols))?;
    if !(1e-30..=1.0).contains(&epsilon) {
        return Err(Error::shape(KERNEL.name, "epsilon", epsilon, "1e-30 to 1"));
    }
    match on {
        Backend::Cpu => {
            let residual = residual.map(Tensor::words).transpose()?.map(bytemuck::cast_slice);
            let [x, gamma, beta] =
                [x.words()?, gamma.words()?, beta.words()?].map(bytemuck::cast_slice);
            let y = reference(x, residual, gamma, beta, epsilon.into());
            Ok(Tensor::cpu(DType::F32, rows, cols, y))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, residual, gamma, beta, epsilon),
    }
}

fn reference(
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
    epsilon: f64,
) -> Vec<u32> {
    let cols = gamma.len();
    let mut y = vec![0; x.len()];
    spans(&mut y, cols, (1 << 14) / cols.max(1) + 1, &|first, y| {
        let mut z = vec![0.0; cols];
        for (r, y) in (first..).zip(y.chunks_mut(cols)) {
            let x = &x[r * cols..][..cols];
            let residual = residual.map(|residual| &residual[r * cols..][..cols]);
            let y = bytemuck::cast_slice_mut(y);
            normalize(x, residual, gamma, beta, epsilon, &mut z, y);
        }
    });
    y
}

/// One row, in f64 throughout; `z` is scratch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn normalize(
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
    epsilon: f64,
    z: &mut [f64],
    y: &mut [f32],
) {
    for (z, x) in z.iter_mut().zip(x) {
        *z = f64::from(*x);
    }
    for (z, x) in z.iter_mut().zip(residual.unwrap_or_default()) {
        *z += f64::from(*x);
    }
    let count = z.len() as f64;
    let mean = sixteen(z, 0.0, |sum, z| sum + z).iter().sum::<f64>() / count;
    z.iter_mut().for_each(|z| *z -= mean);
    let variance = sixteen(z, 0.0, |sum, z| sum + z * z).iter().sum::<f64>() / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((y, z), (gamma, beta)) in y.iter_mut().zip(z).zip(gamma.iter().zip(beta)) {
        *y = (f64::from(*gamma) * (*z * scale) + f64::from(*beta)) as f32;
    }
}

fn on_gpu(
    gpu: &Gpu,
    x: &Tensor,
    residual: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    let (rows, cols) = (x.rows(), x.cols());
    let y = gpu.alloc(4 * x.elements())?;
    let params = Params { rows: rows as u32, cols: cols as u32, epsilon };
    let (lanes, workgroups) = row_lanes(&KERNEL, rows, cols);
    let constants = [("LANES", lanes), ("RESIDUAL", residual.is_some().into())];
    // Something must be bound where there is no residual.
    let second = residual.unwrap_or(x).buffer()?;
    let buffers = [x.buffer()?, second, gamma.buffer()?, beta.buffer()?, &y];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, workgroups)?;
    Ok(Tensor::gpu(DType::F32, rows, cols, y))
}
