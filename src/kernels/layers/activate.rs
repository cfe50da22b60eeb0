use crate::{
    Backend, DType, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{expect::expect_f32, layers::activation::Activation},
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "activate",
    wgsl: wgsl!("lib/grid", "lib/activation", "layers/activate"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
}

/// Applies an activation to every element, where no product does it on the way.
///
/// `y[r, c] = activation(x[r, c])`
///
/// - `x`: F32 `[rows, cols]`, finite.
/// - returns F32 `[rows, cols]`.
///
/// Agreement: that of the [`Activation`]: exact, or within its bound of f64.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if `x` is not F32; [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Source
///
/// That of the [`Activation`].
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Activation}};
///
/// let on = Backend::Cpu;
/// let x = Tensor::from_f32(&on, &[-1.0, 0.0, 2.0], 1)?;
/// assert_eq!(kernels::activate(&on, &x, Activation::Relu)?.read_f32(&on)?, [0.0, 0.0, 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn activate(on: &Backend, x: &Tensor, activation: Activation) -> Result<Tensor> {
    expect_f32(KERNEL.name, "x", x, (x.rows(), x.cols()))?;
    match on {
        Backend::Cpu => {
            let y = reference(bytemuck::cast_slice(x.words()?), activation);
            Ok(Tensor::cpu(DType::F32, x.rows(), x.cols(), y))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, activation),
    }
}

fn reference(x: &[f32], activation: Activation) -> Vec<u32> {
    let mut y = vec![0; x.len()];
    chunks(&mut y, CHUNK, &|n, y| {
        apply(&x[n * CHUNK..][..y.len()], activation, bytemuck::cast_slice_mut(y));
    });
    y
}

/// Elements of one task.
const CHUNK: usize = 1 << 14;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn apply(x: &[f32], activation: Activation, y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y = activation.apply(*x);
    }
}

fn on_gpu(gpu: &Gpu, x: &Tensor, activation: Activation) -> Result<Tensor> {
    let elements = x.elements();
    let y = gpu.alloc(4 * elements)?;
    let params = Params { elements: elements as u32 };
    let constants = [("ACTIVATION", activation.code())];
    let workgroups = KERNEL.workgroups(elements as u64);
    gpu.dispatch(&KERNEL, &constants, &params, &[x.buffer()?, &y], workgroups)?;
    Ok(Tensor::gpu(DType::F32, x.rows(), x.cols(), y))
}
