use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    parallel::chunks,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "add",
    wgsl: wgsl!("lib/grid", "layers/add"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    repeat: u32,
}

/// Adds a matrix, or one that is repeated: position embeddings to every sequence, a bias to every row.
///
/// `sums[r, c] = x[r, c] + y[r mod rows of y, c]`
///
/// - `x`: F32 `[rows, cols]`.
/// - `y`: F32 `[rows of y, cols]`; its rows divide those of `x`.
/// - returns F32 `[rows, cols]`.
///
/// Agreement: 1 ulp against f64: one addition; a device may take subnormals for zeros.
///
/// # Errors
///
/// [`Error::Shape`] if a type is not F32 or the shapes do not fit; [`Error::Gpu`] if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0], 2)?;
/// let bias = Tensor::from_f32(&on, &[10.0, 20.0], 1)?;
/// assert_eq!(kernels::add(&on, &x, &bias)?.read_f32(&on)?, [11.0, 22.0, 13.0, 24.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn add(on: &Backend, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    for (what, t) in [("x", x), ("y", y)] {
        if t.dtype() != DType::F32 {
            return Err(Error::shape(KERNEL.name, what, t.dtype().name(), "F32"));
        }
    }
    if y.cols() != x.cols() || !(x.rows() == 0 || y.rows() > 0 && x.rows().is_multiple_of(y.rows()))
    {
        let expected = format!("a divisor of {} rows of {}", x.rows(), x.cols());
        return Err(Error::shape(
            KERNEL.name,
            "y",
            format!("{} x {}", y.rows(), y.cols()),
            expected,
        ));
    }
    match on {
        Backend::Cpu => {
            let sums =
                reference(bytemuck::cast_slice(x.words()?), bytemuck::cast_slice(y.words()?));
            Ok(Tensor::cpu(DType::F32, x.rows(), x.cols(), sums))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, x, y),
    }
}

fn reference(x: &[f32], y: &[f32]) -> Vec<u32> {
    let mut sums = vec![0; x.len()];
    chunks(&mut sums, y.len(), &|n, sums| {
        for ((sum, x), y) in sums.iter_mut().zip(&x[n * y.len()..]).zip(y) {
            *sum = (x + y).to_bits();
        }
    });
    sums
}

fn on_gpu(gpu: &Gpu, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let out = gpu.alloc(x.elements() * 4)?;
    let params = Params { elements: x.elements() as u32, repeat: y.elements() as u32 };
    let buffers = [x.buffer()?, y.buffer()?, &out];
    gpu.dispatch(&KERNEL, &[], &params, &buffers, KERNEL.workgroups(x.elements() as u64))?;
    Ok(Tensor::gpu(DType::F32, x.rows(), x.cols(), out))
}
