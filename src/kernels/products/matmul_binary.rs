use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Buffer, Gpu, Kernel},
    kernels::palette::binarize::BinaryMatrix,
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_binary",
    wgsl: wgsl!("lib/grid", "products/matmul_binary"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    cols: u32,
    words: u32,
    sums: u32,
    biased: u32,
}

/// Longest row: a dot product is then exact as an f32 too, and the device's loops end in time.
const MAX_COLS: usize = 1 << 22;

/// Multiplies two matrices of signs, each row with its scale.
///
/// `y[m, n] = (K - 2 popcount(a[m] ^ w[n])) * (scale_a[m] * scale_w[n]) + bias[n]`
///
/// - `a`: `[M, K]`, `w`: `[N, K]`, K at most 2^22.
/// - `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// Agreement: `|err| <= 5 * 2^-24 (|product| + |bias|)` against f64, where the scales and their products are zero or normal
/// numbers: the dot product is exact, then there are two multiplications and a sum. Without a bias: exact, but for the sign of
/// a zero.
///
/// # Errors
///
/// [`Error::Shape`] if the matrices or the bias do not fit each other, or the rows are too long; [`Error::Gpu`] if the device
/// fails.
///
/// # Source
///
/// Rastegari et al. 2016, arXiv 1603.05279.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let a = kernels::binarize(&on, &Tensor::from_f32(&on, &[1.0, -1.0, 1.0, 1.0], 1)?)?;
/// let w = kernels::binarize(&on, &Tensor::from_f32(&on, &[2.0, -2.0, 2.0, -2.0], 1)?)?;
/// let y = kernels::matmul_binary(&on, &a, &w, None)?;
/// assert_eq!(y.read_f32(&on)?, [4.0]); // three signs agree, one does not: 3 - 1, times 1 and 2
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_binary(
    on: &Backend,
    a: &BinaryMatrix,
    w: &BinaryMatrix,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    expect_factors(a, w)?;
    let (m, n) = (a.bits.rows(), w.bits.rows());
    if let Some(bias) = bias
        && (bias.dtype(), bias.rows(), bias.cols()) != (DType::F32, 1, n)
    {
        return Err(Error::shape(KERNEL.name, "bias", shape_of(bias), format!("F32 [1, {n}]")));
    }
    match on {
        Backend::Cpu => {
            let (of_a, of_w) = (floats(&a.scales)?, floats(&w.scales)?);
            let bias = bias.map(floats).transpose()?;
            let out = reference(a, w, |m, n, dot| {
                let y = dot as f32 * (of_a[m] * of_w[n]);
                bias.map_or(y, |b| y + b[n]).to_bits()
            })?;
            Ok(Tensor::cpu(DType::F32, m, n, out))
        }
        Backend::Gpu(gpu) => Ok(Tensor::gpu(DType::F32, m, n, on_gpu(gpu, a, w, bias, false)?)),
    }
}

/// The dot products alone.
///
/// `dots[m, n] = K - 2 popcount(a[m] ^ w[n])`
///
/// - `a`: `[M, K]`, `w`: `[N, K]`, K at most 2^22; their scales take no part.
/// - returns I32 `[M, N]`.
///
/// Agreement: exact.
///
/// # Errors
///
/// As [`matmul_binary`].
pub fn xnor_dots(on: &Backend, a: &BinaryMatrix, w: &BinaryMatrix) -> Result<Tensor> {
    expect_factors(a, w)?;
    let (m, n) = (a.bits.rows(), w.bits.rows());
    match on {
        Backend::Cpu => Ok(Tensor::cpu(DType::I32, m, n, reference(a, w, |_, _, dot| dot as u32)?)),
        Backend::Gpu(gpu) => Ok(Tensor::gpu(DType::I32, m, n, on_gpu(gpu, a, w, None, true)?)),
    }
}

/// Refuses matrices whose parts do not fit each other, or that do not fit one another.
fn expect_factors(a: &BinaryMatrix, w: &BinaryMatrix) -> Result<()> {
    let fits = |name, t: &Tensor, dtype: DType, rows: usize, cols: usize| {
        if (t.dtype(), t.rows(), t.cols()) == (dtype, rows, cols) {
            return Ok(());
        }
        let expected = format!("{} [{rows}, {cols}]", dtype.name());
        Err(Error::shape(KERNEL.name, name, shape_of(t), expected))
    };
    fits("a.bits", &a.bits, DType::U32, a.bits.rows(), a.cols.div_ceil(32))?;
    fits("a.scales", &a.scales, DType::F32, a.bits.rows(), 1)?;
    fits("w.bits", &w.bits, DType::U32, w.bits.rows(), w.cols.div_ceil(32))?;
    fits("w.scales", &w.scales, DType::F32, w.bits.rows(), 1)?;
    if a.cols != w.cols {
        return Err(Error::shape(KERNEL.name, "w.cols", w.cols, a.cols));
    }
    if a.cols > MAX_COLS {
        return Err(Error::shape(KERNEL.name, "cols", a.cols, format!("at most {MAX_COLS}")));
    }
    Ok(())
}

fn floats(t: &Tensor) -> Result<&[f32]> {
    Ok(bytemuck::cast_slice(t.words()?))
}

fn shape_of(t: &Tensor) -> String {
    format!("{} [{}, {}]", t.dtype().name(), t.rows(), t.cols())
}

/// Rows of `w` that a task multiplies with one row of `a`.
const BLOCK: usize = 1024;

fn reference(
    a: &BinaryMatrix,
    w: &BinaryMatrix,
    value: impl Fn(usize, usize, i32) -> u32 + Sync,
) -> Result<Vec<u32>> {
    let (words, n) = (a.bits.cols(), w.bits.rows());
    let (of_a, of_w) = (a.bits.words()?, w.bits.words()?);
    let mut out = vec![0; a.bits.rows() * n];
    chunks(&mut out, n, &|m, out| {
        let row = &of_a[m * words..][..words];
        chunks(out, BLOCK, &|b, out| {
            let first = b * BLOCK;
            mismatches(row, &of_w[first * words..][..out.len() * words], out);
            for (n, out) in out.iter_mut().enumerate() {
                *out = value(m, first + n, a.cols as i32 - 2 * *out as i32);
            }
        });
    });
    Ok(out)
}

/// In how many bits a row of words differs from each of several.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512vpopcntdq+popcnt",
    "x86_64+avx2+popcnt",
    "x86_64+popcnt"
))]
fn mismatches(row: &[u32], others: &[u32], counts: &mut [u32]) {
    // Two words make one of 64 bits, which halves the instructions where they count in general registers.
    let wide = |pair: &[u32]| u64::from(pair[1]) << 32 | u64::from(pair[0]);
    for (other, count) in others.chunks_exact(row.len().max(1)).zip(counts) {
        let (a, b) = (row.chunks_exact(2), other.chunks_exact(2));
        let odd = a.remainder().iter().zip(b.remainder()).map(|(a, b)| (a ^ b).count_ones());
        let odd: u32 = odd.sum();
        *count = odd + a.zip(b).map(|(a, b)| (wide(a) ^ wide(b)).count_ones()).sum::<u32>();
    }
}

/// Rows of `a` up to which every word of `w` is read once and nothing is kept.
const FEW: usize = 8;

/// Rows and columns of a workgroup's outputs beyond that.
const SIDE: usize = 64;

fn on_gpu(
    gpu: &Gpu,
    a: &BinaryMatrix,
    w: &BinaryMatrix,
    bias: Option<&Tensor>,
    sums: bool,
) -> Result<Buffer> {
    let (m, n, words) = (a.bits.rows(), w.bits.rows(), a.bits.cols());
    let out = gpu.alloc(4 * m * n)?;
    if m * n == 0 {
        return Ok(out);
    }
    let params = Params {
        m: m as u32,
        n: n as u32,
        cols: a.cols as u32,
        words: words as u32,
        sums: sums.into(),
        biased: bias.is_some().into(),
    };
    let (rows, lanes, workgroups) = if m <= FEW {
        // Four words an invocation, or more.
        let lanes = (words / 4).next_power_of_two().clamp(1, 64);
        (m.next_power_of_two(), lanes, (n * lanes).div_ceil(KERNEL.workgroup as usize))
    } else {
        (0, 1, m.div_ceil(SIDE) * n.div_ceil(SIDE))
    };
    let constants = [("ROWS", rows as f64), ("LANES", lanes as f64)];
    let buffers = [
        a.bits.buffer()?,
        w.bits.buffer()?,
        a.scales.buffer()?,
        w.scales.buffer()?,
        // Something has to be bound.
        bias.unwrap_or(&w.scales).buffer()?,
        &out,
    ];
    // A word is 32 products, which take some three operations.
    let operations = (m * n * words * 3) as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups as u64), operations)?;
    Ok(out)
}
