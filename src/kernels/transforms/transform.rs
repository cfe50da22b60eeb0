use crate::{
    Backend, DType, Result, Tensor, dtype,
    form::BlockTransform,
    gpu::{Gpu, Kernel},
    kernels::{
        expect::expect_weights,
        transforms::mixing::{Mixing, SPAN, Way, expect},
    },
    parallel::chunks,
    scratch, wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "transform",
    wgsl: wgsl!(
        "lib/grid",
        "lib/dtype",
        "lib/fixed_point",
        "lib/block_float",
        "transforms/mixing",
        "transforms/transform"
    ),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    block: u32,
    unit: i32,
}

/// Transforms blocks of consecutive weights of a row.
///
/// `coefficients[b, k] = Σ_i M[k, i] sign[i] w[b, i] (min q / q[k])`, M orthonormal: `(-1)^popcount(i & k) / √B` of a Hadamard
/// transform, whose signs are random; `√(2/B) cos(π (2i + 1) k / 2B)`, for k = 0 `√(1/B)`, of a cosine transform, whose signs are
/// all +; q are its [steps](BlockTransform::steps).
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `transform`: its blocks divide the rows.
/// - returns F32 `[rows, cols]`: within 2^-13 of the largest weight of the block. Coefficients below the normal numbers are 0, and
///   those beyond the range of f32 its largest.
///
/// Agreement: exact: a block has one exponent, and all arithmetic is of integers.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the elements are no weights, or blocks do not divide rows;
/// [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, form::{BlockTransform, TransformKind}, kernels};
///
/// let on = Backend::Cpu;
/// let dct = BlockTransform { kind: TransformKind::Dct, block: 8, steps: vec![] };
/// // What is the same everywhere has one coefficient: √8 times as much.
/// let w = Tensor::from_f32(&on, &[0.5; 8], 1)?;
/// let c = kernels::transform(&on, &w, &dct)?.read_f32(&on)?;
/// assert!((c[0] - 0.5 * 8f32.sqrt()).abs() < 1e-4 && c[1..].iter().all(|c| c.abs() < 1e-4));
/// let back = kernels::untransform(&on, &Tensor::from_f32(&on, &c, 1)?, &dct, DType::F32)?;
/// assert!(back.read_f32(&on)?.iter().all(|w| (w - 0.5).abs() < 1e-4));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn transform(on: &Backend, weights: &Tensor, transform: &BlockTransform) -> Result<Tensor> {
    expect_weights(KERNEL.name, weights)?;
    expect(KERNEL.name, transform, weights.cols())?;
    let mixing = Mixing::new(transform, Way::There);
    match on {
        Backend::Cpu => {
            let (rows, cols) = (weights.rows(), weights.cols());
            let coefficients = reference(weights.dtype(), weights.words()?, rows * cols, &mixing);
            Ok(Tensor::cpu(DType::F32, rows, cols, coefficients))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, &mixing),
    }
}

fn reference(dtype: DType, words: &[u32], elements: usize, mixing: &Mixing) -> Vec<u32> {
    let mut coefficients = scratch::words(elements);
    chunks(&mut coefficients, SPAN, &|i, span| {
        let values = bytemuck::cast_slice_mut(span);
        dtype::decode(dtype, words, i * SPAN, values);
        apply(mixing, values);
    });
    coefficients
}

/// Transforms whole blocks, at most [`SPAN`] numbers.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn apply(mixing: &Mixing, values: &mut [f32]) {
    let mut integers = [0; SPAN];
    mixing.apply(values, &mut integers[..values.len()]);
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, mixing: &Mixing) -> Result<Tensor> {
    let elements = weights.elements();
    let out = gpu.alloc(4 * elements)?;
    let (hadamard, _, unit) = mixing.numbers();
    let params = Params { elements: elements as u32, block: mixing.block as u32, unit };
    let constants =
        [("DTYPE", dtype::code(weights.dtype())), ("HADAMARD", f64::from(u8::from(hadamard)))];
    let buffers = [weights.buffer()?, &gpu.upload(&mixing.table())?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(elements as u64))?;
    Ok(Tensor::gpu(DType::F32, weights.rows(), weights.cols(), out))
}
