use crate::{
    Backend, DType, Result, Tensor, dtype,
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "magnitude_tail",
    wgsl: wgsl!("lib/grid", "lib/dtype", "prune/magnitude_tail"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    prefix: u32,
    invocations: u32,
}

/// The low bits of the magnitudes that share the high ones: the second step to an exact threshold.
///
/// `counts[b] = #{w : bits(|w|) = prefix << 12 | b}`
///
/// - `weights`: a weight type; F64 is taken as f32, rounded to nearest even.
/// - `prefix`: the upper 19 bits of a magnitude.
/// - returns 4,096 counts.
///
/// Agreement: exact (integer sums).
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the elements are no weights; [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -1.0, 2.0, 1.0f32.next_up()], 1)?;
/// let counts = kernels::magnitude_tail(&on, &weights, 1f32.to_bits() >> 12)?;
/// assert_eq!(counts[..3], [2, 1, 0]);
/// assert_eq!(counts.iter().sum::<u64>(), 3);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn magnitude_tail(on: &Backend, weights: &Tensor, prefix: u32) -> Result<Vec<u64>> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    match on {
        Backend::Cpu => {
            Ok(reference(weights.dtype(), weights.words()?, weights.elements(), prefix))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, prefix),
    }
}

fn reference(dtype: DType, words: &[u32], elements: usize, prefix: u32) -> Vec<u64> {
    let mut counts = vec![0; 4096];
    let mut chunk = [0.0; 1024];
    for at in (0..elements).step_by(1024) {
        let chunk = &mut chunk[..(elements - at).min(1024)];
        dtype::decode(dtype, words, at, chunk);
        if contains(chunk, prefix) {
            let magnitudes = chunk.iter().map(|w| w.to_bits() & 0x7fff_ffff);
            magnitudes
                .filter(|m| m >> 12 == prefix)
                .for_each(|m| counts[(m & 0xfff) as usize] += 1);
        }
    }
    counts
}

/// Most chunks hold none: this is all that is done for them.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn contains(weights: &[f32], prefix: u32) -> bool {
    weights.iter().fold(false, |found, w| found | ((w.to_bits() & 0x7fff_ffff) >> 12 == prefix))
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, prefix: u32) -> Result<Vec<u64>> {
    let counts = gpu.zeros(4096 * 4)?;
    let elements = weights.elements() as u64;
    let workgroups = KERNEL.workgroups(elements.div_ceil(8)).min(gpu.max_workgroups());
    let invocations = workgroups as u32 * KERNEL.workgroup;
    let params = Params { elements: elements as u32, prefix, invocations };
    let constants = [("DTYPE", dtype::code(weights.dtype()))];
    gpu.dispatch(&KERNEL, &constants, &params, &[weights.buffer()?, &counts], workgroups)?;
    Ok(gpu.read(&counts, 4096)?.into_iter().map(u64::from).collect())
}
