use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::{affine::Scale, groups::Groups},
    dtype,
    gpu::{Gpu, Kernel},
    kernels::{expect::expect_weights, tasks::task_rows},
    parallel::chunks,
    scratch,
    simd::nearest::LIMIT,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "vector_points",
    wgsl: wgsl!("lib/grid", "lib/dtype", "lib/rounding", "vectors/vector_points"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    pairs: u32,
    dim: u32,
    group: u32,
    first: u32,
    total: u32,
}

/// Rounds weights to the integers of vectors.
///
/// `points[v, j] = clamp(round_ties_even(weights[v * dim + j] * inverse(scale)), -2047, 2047)`, the weights row by row
///
/// - `weights`: `[rows, cols]`, finite, cols a multiple of `dim`, which is 1 to 16; F64 is taken as f32, rounded to nearest even.
/// - `groups`, `scales`: which elements share a scale, and the scale of every group that the tile touches; zero points are not used.
/// - returns U32 `[vectors, pairs]`: two numbers to a word, the first in the low half, as two's complement; of an odd `dim` the
///   last upper half is zero.
///
/// Agreement: exact: one multiply, one rounding, one clamp, as [`quantize`](crate::kernels::quantize()).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights, `dim` does not fit them, or the scales do not fit the groups; [`Error::Gpu`]
/// if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::Scale, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -2.0, 0.25, 9999.0], 1)?;
/// let half = Scale { scale: 0.5, zero_point: 0 };
/// let points = kernels::vector_points(&on, &weights, 2, Groups::of(4), &[half])?;
/// // (2, -4) and (0.5, which goes to the even 0; the largest).
/// assert_eq!(points.read(&on)?, [0xfffc_0002, 0x07ff_0000]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn vector_points(
    on: &Backend,
    weights: &Tensor,
    dim: usize,
    groups: Groups,
    scales: &[Scale],
) -> Result<Tensor> {
    expect_weights(KERNEL.name, weights)?;
    if !(1..=16).contains(&dim) || !weights.cols().is_multiple_of(dim) {
        let expected = format!("1 to 16, dividing rows of {}", weights.cols());
        return Err(Error::shape(KERNEL.name, "dim", dim, expected));
    }
    let expected = groups.count(weights.elements());
    if scales.len() != expected {
        return Err(Error::shape(KERNEL.name, "scales", scales.len(), expected));
    }
    match on {
        Backend::Cpu => reference(weights, dim, groups, scales),
        Backend::Gpu(gpu) => {
            let integer = !gpu.numerics().rounds_exactly()
                || scales.iter().any(|s| s.inverse().is_subnormal());
            on_gpu(gpu, weights, dim, groups, scales, integer)
        }
    }
}

/// Weights that are decoded at a time: they stay in the first cache.
const CHUNK: usize = 2048;

fn reference(weights: &Tensor, dim: usize, groups: Groups, scales: &[Scale]) -> Result<Tensor> {
    let (words, dtype, cols) = (weights.words()?, weights.dtype(), weights.cols());
    let (pairs, of_row) = (dim.div_ceil(2), cols / dim);
    let rows = weights.rows();
    let task = task_rows(rows, cols);
    let row_words = of_row * pairs;
    let mut points = scratch::words(rows * row_words);
    chunks(&mut points, task * row_words, &|t, points| {
        let (mut values, mut row) = (vec![0.0; cols.min(CHUNK)], vec![0i16; cols]);
        for (r, out) in points.chunks_mut(row_words.max(1)).enumerate() {
            let start = (t * task + r) * cols;
            for (span, scale) in groups.spans(start..start + cols, scales) {
                for at in span.clone().step_by(CHUNK) {
                    let values = &mut values[..(span.end - at).min(CHUNK)];
                    dtype::decode(dtype, words, at, values);
                    round(values, scale.inverse(), &mut row[at - start..][..values.len()]);
                }
            }
            let halves: &mut [i16] = bytemuck::cast_slice_mut(out);
            match dim % 2 {
                0 => halves.copy_from_slice(&row),
                _ => {
                    for (v, out) in row.chunks_exact(dim).zip(halves.chunks_exact_mut(dim + 1)) {
                        out[..dim].copy_from_slice(v);
                        out[dim] = 0;
                    }
                }
            }
        }
    });
    Ok(Tensor::cpu(DType::U32, rows * of_row, pairs, points))
}

/// Adding this to a float below 2^22 in magnitude rounds it to an integer, ties to even, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn round(weights: &[f32], inverse: f32, points: &mut [i16]) {
    for (w, point) in weights.iter().zip(points) {
        let rounded = ((w * inverse).clamp(-4000.0, 4000.0) + MAGIC).to_bits() as i32
            - MAGIC.to_bits() as i32;
        *point = rounded.clamp(-i32::from(LIMIT), i32::from(LIMIT)) as i16;
    }
}

fn on_gpu(
    gpu: &Gpu,
    weights: &Tensor,
    dim: usize,
    groups: Groups,
    scales: &[Scale],
    integer: bool,
) -> Result<Tensor> {
    let (elements, pairs) = (weights.elements(), dim.div_ceil(2));
    let vectors = elements / dim;
    let total = vectors * pairs;
    let out = gpu.alloc(total * 4)?;
    let inverses: Vec<u32> = scales.iter().map(|s| s.inverse().to_bits()).collect();
    let (group, first) = groups.for_device(elements);
    let params = Params { pairs: pairs as u32, dim: dim as u32, group, first, total: total as u32 };
    let constants =
        [("DTYPE", dtype::code(weights.dtype())), ("INTEGER", f64::from(u8::from(integer)))];
    let buffers = [weights.buffer()?, &gpu.upload(&inverses)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(DType::U32, vectors, pairs, out))
}

/// [`vector_points`] on a GPU by its integer path, for the tests: devices that need it are rare.
///
/// # Errors
///
/// As [`vector_points`].
#[doc(hidden)]
pub fn vector_points_in_integers(
    gpu: &Gpu,
    weights: &Tensor,
    dim: usize,
    groups: Groups,
    scales: &[Scale],
) -> Result<Tensor> {
    on_gpu(gpu, weights, dim, groups, scales, true)
}
