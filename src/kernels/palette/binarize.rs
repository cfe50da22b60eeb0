use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::{affine::SMALLEST, groups::Groups, range::Range},
    dtype,
    gpu::{Gpu, Kernel},
    kernels::{
        affine::range::range,
        prune::magnitude_sums::{BlockGrid, magnitude_sums},
        tasks::task_rows,
    },
    parallel::chunks,
    recipe::Norm,
    wgsl,
};
use multiversion::multiversion;

/// The shader: the signs. The scales are those of [`range()`](crate::kernels::affine::range::range()) and [`magnitude_sums()`](crate::kernels::prune::magnitude_sums::magnitude_sums()).
pub static KERNEL: Kernel = Kernel {
    name: "binarize",
    wgsl: wgsl!("lib/grid", "lib/dtype", "palette/binarize"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    words: u32,
    total: u32,
}

/// A matrix of plus and minus one, with a scale for every row: what [`binarize`] makes of weights.
#[derive(Clone, Debug)]
pub struct BinaryMatrix {
    /// U32 `[rows, ceil(cols / 32)]`: 1 stands for -1, 0 for +1; first element in the low bit, padding zero.
    pub bits: Tensor,
    /// F32 `[rows, 1]`.
    pub scales: Tensor,
    /// Elements of a row.
    pub cols: usize,
}

/// Columns whose magnitudes are added in one go: enough for all but the longest rows.
const SPAN: usize = 1 << 16;

/// Reduces weights to their signs, and every row to one magnitude.
///
/// `bits[r, c] = weights[r, c] < 0`; `scales[r] = f32(f64(Σ u) * f64(absmax) / 32767 / cols)`, the row's mean magnitude, with
/// `u = round_ties_even(|w| * f32(32767 / f64(absmax)))` and absmax that of the row; 0 if absmax is below 2^-110
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - returns the signs, -0 counting as positive, and the scales.
///
/// Agreement: exact: signs are bits, the sums are integers, the scale is one f64 expression on the host.
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights, or not finite; [`Error::Gpu`] if the device fails, or does not round as
/// IEEE.
///
/// # Source
///
/// Rastegari et al. 2016, arXiv 1603.05279: the scale of least squared error is the mean magnitude.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let signs = kernels::binarize(&on, &Tensor::from_f32(&on, &[-0.0, -4.0, 4.0, 0.0], 1)?)?;
/// assert_eq!(signs.bits.read(&on)?, [0b0010]);
/// assert_eq!(signs.scales.read_f32(&on)?, [2.0]); // (0 + 4 + 4 + 0) / 4
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn binarize(on: &Backend, weights: &Tensor) -> Result<BinaryMatrix> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    let scales = row_scales(on, weights)?;
    let (rows, cols) = (weights.rows(), weights.cols());
    let bits = match on {
        Backend::Cpu => {
            let bits = reference(weights.dtype(), weights.words()?, (rows, cols));
            Tensor::cpu(DType::U32, rows, cols.div_ceil(32), bits)
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights)?,
    };
    Ok(BinaryMatrix { bits, scales, cols })
}

/// The mean magnitude of every row.
fn row_scales(on: &Backend, weights: &Tensor) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    if weights.elements() == 0 {
        return Tensor::new(on, DType::F32, rows, 1, vec![0; rows]);
    }
    let ranges = range(on, weights, Groups::of(cols))?;
    if let Some(row) = ranges.iter().position(|r| !r.is_finite()) {
        let got = format!("NaN or infinite in row {row}");
        return Err(Error::shape(KERNEL.name, "weights", got, "finite"));
    }
    let largest: Vec<f32> = ranges.into_iter().map(Range::absmax).collect();
    let sums = row_sums(on, weights, &largest, 0)?;
    let scales =
        sums.iter().zip(&largest).map(|(s, l)| mean_magnitude(*s, *l, cols as u64).to_bits());
    Tensor::new(on, DType::F32, rows, 1, scales.collect())
}

/// The sum of the magnitudes of every row in units of its absmax / 32767, of a tile that starts at column `col0` of its matrix:
/// sums of pieces of a row add up to that of the row.
pub(crate) fn row_sums(
    on: &Backend,
    weights: &Tensor,
    largest: &[f32],
    col0: usize,
) -> Result<Vec<u64>> {
    let inverse = |absmax: &f32| match *absmax < SMALLEST {
        true => 0.0,
        false => (32767.0 / f64::from(*absmax)) as f32,
    };
    let inverses: Vec<f32> = largest.iter().map(inverse).collect();
    let grid = BlockGrid { rows: 1, cols: SPAN, row0: 0, col0: col0 % SPAN };
    let across = grid.count(1, weights.cols()).1;
    let sums = magnitude_sums(on, weights, grid, Norm::L1, &inverses)?;
    Ok(sums.chunks(across.max(1)).map(|sums| sums.iter().sum()).collect())
}

/// The mean magnitude of `count` weights, the largest of them `absmax`, from their [`row_sums`].
pub(crate) fn mean_magnitude(sum: u64, absmax: f32, count: u64) -> f32 {
    (sum as f64 * f64::from(absmax) / 32767.0 / count.max(1) as f64) as f32
}

fn reference(dtype: DType, weights: &[u32], (rows, cols): (usize, usize)) -> Vec<u32> {
    let words = cols.div_ceil(32);
    let mut bits = vec![0; rows * words];
    let task = task_rows(rows, cols);
    chunks(&mut bits, task * words, &|t, bits| {
        let mut values = vec![0.0; cols];
        for (r, bits) in bits.chunks_mut(words.max(1)).enumerate() {
            dtype::decode(dtype, weights, (t * task + r) * cols, &mut values);
            signs(&values, bits);
        }
    });
    bits
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn signs(values: &[f32], bits: &mut [u32]) {
    for (values, word) in values.chunks(32).zip(bits) {
        *word = values.iter().zip(0..).fold(0, |w, (v, i)| w | u32::from(*v < 0.0) << i);
    }
}

fn on_gpu(gpu: &Gpu, weights: &Tensor) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = cols.div_ceil(32);
    let total = rows * words;
    let out = gpu.alloc(4 * total)?;
    let params = Params { cols: cols as u32, words: words as u32, total: total as u32 };
    let constants = [("DTYPE", dtype::code(weights.dtype()))];
    let buffers = [weights.buffer()?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(8 * total as u64))?;
    Ok(Tensor::gpu(DType::U32, rows, words, out))
}
