use crate::{
    Backend, DType, Error, Result, Tensor, dtype,
    form::BlockTransform,
    gpu::{Gpu, Kernel},
    kernels::transforms::{
        mixing::{Mixing, SPAN, Way, expect},
        transform::apply,
    },
    parallel::chunks,
    scratch, wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "untransform",
    wgsl: wgsl!(
        "lib/grid",
        "lib/dtype",
        "lib/fixed_point",
        "lib/block_float",
        "transforms/mixing",
        "transforms/untransform"
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
    down: u32,
}

/// Restores weights from the coefficients of a transform.
///
/// `weights[b, i] = sign[i] Σ_k M[k, i] coefficients[b, k] (q[k] / min q)`, rounded to `dtype`; beyond its range: its largest
/// finite value. M, the signs and q are those of [`transform`](crate::kernels::transform()).
///
/// - `coefficients`: F32 `[rows, cols]`, finite.
/// - `transform`: its blocks divide the rows.
/// - returns `dtype` `[rows, cols]`: within 2^-13 of the largest coefficient of the block times its step, and half an ulp. Weights
///   below the normal numbers of f32 are 0.
///
/// Agreement: exact: a block has one exponent, and all arithmetic is of integers.
///
/// # Errors
///
/// [`Error::Shape`] if `dtype` holds no weights, the coefficients are not F32, or blocks do not divide rows; [`Error::Gpu`] if the
/// device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, form::{BlockTransform, TransformKind}, kernels};
///
/// let on = Backend::Cpu;
/// let hadamard = BlockTransform { kind: TransformKind::Hadamard { seed: 1 }, block: 16, steps: vec![] };
/// // One outlier is a sixteenth of its energy in every coefficient.
/// let mut w = [0.0; 16];
/// w[3] = 8.0;
/// let c = kernels::transform(&on, &Tensor::from_f32(&on, &w, 1)?, &hadamard)?;
/// assert!(c.read_f32(&on)?.iter().all(|c| c.abs() == 2.0));
/// assert_eq!(kernels::untransform(&on, &c, &hadamard, DType::F32)?.read_f32(&on)?, w);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn untransform(
    on: &Backend,
    coefficients: &Tensor,
    transform: &BlockTransform,
    dtype: DType,
) -> Result<Tensor> {
    if coefficients.dtype() != DType::F32 {
        return Err(Error::shape(KERNEL.name, "coefficients", coefficients.dtype().name(), "F32"));
    }
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    expect(KERNEL.name, transform, coefficients.cols())?;
    let mixing = Mixing::new(transform, Way::Back);
    match on {
        Backend::Cpu => {
            let weights = reference(coefficients.words()?, &mixing, dtype);
            Ok(Tensor::cpu(dtype, coefficients.rows(), coefficients.cols(), weights))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, coefficients, &mixing, dtype),
    }
}

fn reference(coefficients: &[u32], mixing: &Mixing, dtype: DType) -> Vec<u32> {
    let mut weights = scratch::words(words(dtype, coefficients.len()));
    chunks(&mut weights, words(dtype, SPAN), &|i, weights| {
        let mut values = [0f32; SPAN];
        let of = &coefficients[i * SPAN..coefficients.len().min((i + 1) * SPAN)];
        let values = &mut values[..of.len()];
        values.copy_from_slice(bytemuck::cast_slice(of));
        apply(mixing, values);
        dtype::encode(dtype, values, weights, 0);
    });
    weights
}

fn on_gpu(gpu: &Gpu, coefficients: &Tensor, mixing: &Mixing, dtype: DType) -> Result<Tensor> {
    let elements = coefficients.elements();
    let out = gpu.alloc(4 * words(dtype, elements))?;
    let (hadamard, down, unit) = mixing.numbers();
    let params = Params { elements: elements as u32, block: mixing.block as u32, unit, down };
    let constants = [("DTYPE", dtype::code(dtype)), ("HADAMARD", f64::from(u8::from(hadamard)))];
    let buffers = [coefficients.buffer()?, &gpu.upload(&mixing.table())?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(elements as u64))?;
    Ok(Tensor::gpu(dtype, coefficients.rows(), coefficients.cols(), out))
}
