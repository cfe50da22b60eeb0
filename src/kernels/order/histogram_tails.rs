use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::histogram::TAIL,
    decide::order_key,
    dtype,
    gpu::{Gpu, Kernel},
    kernels::order::sort_rows::radix_sort,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "histogram_tails",
    wgsl: wgsl!("lib/grid", "lib/dtype", "order/histogram_tails"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    slots: u32,
    invocations: u32,
}

/// The values in some bins of a histogram: the second step to an exact palette.
///
/// `(key, #{w : key of w = key})` for every key that occurs and has one of `bins` as its upper 20 bits
///
/// - `weights`: a weight type, finite; F64 is taken as f32, rounded to nearest even.
/// - `bins`: strictly ascending numbers of bins, below 2^20.
/// - returns [order keys](order_key), ascending, with their counts.
///
/// Agreement: exact (integer sums).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights or the bins are not ascending; [`Error::Gpu`] if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, 2.0, 1.0f32.next_up(), 1.0], 1)?;
/// // The key of a positive number is its pattern with the highest bit set: 0xbf800000 that of 1.
/// let tails = kernels::histogram_tails(&on, &weights, &[0xbf800])?;
/// assert_eq!(tails, [(0xbf80_0000, 2), (0xbf80_0001, 1)]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn histogram_tails(on: &Backend, weights: &Tensor, bins: &[u32]) -> Result<Vec<(u32, u32)>> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    if !bins.is_sorted_by(|a, b| a < b) || bins.last().is_some_and(|b| *b >= 1 << 20) {
        return Err(Error::shape(KERNEL.name, "bins", bins.len(), "bins below 2^20, ascending"));
    }
    match on {
        Backend::Cpu => Ok(reference(weights.dtype(), weights.words()?, weights.elements(), bins)),
        Backend::Gpu(gpu) => on_gpu(gpu, weights, bins),
    }
}

fn reference(dtype: DType, words: &[u32], elements: usize, bins: &[u32]) -> Vec<(u32, u32)> {
    let mut wanted = vec![false; 1 << 20];
    bins.iter().for_each(|b| wanted[*b as usize] = true);
    let (mut keys, mut chunk) = (Vec::new(), [0.0; 1024]);
    for at in (0..elements).step_by(1024) {
        let chunk = &mut chunk[..(elements - at).min(1024)];
        dtype::decode(dtype, words, at, chunk);
        let found = chunk.iter().map(|w| order_key::of_f32(*w));
        keys.extend(found.filter(|key| wanted[(key >> 12) as usize]));
    }
    let mut scratch = vec![0; keys.len()];
    radix_sort(&mut keys, &mut scratch, 0);
    keys.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, bins: &[u32]) -> Result<Vec<(u32, u32)>> {
    let elements = weights.elements() as u64;
    let workgroups = KERNEL.workgroups(elements.div_ceil(8)).min(gpu.max_workgroups());
    let fits = (gpu.max_bytes() as usize / 4 / TAIL).max(1);
    let mut found = Vec::new();
    // Windows of bins, each small enough for a binding.
    for bins in bins.chunks(fits) {
        let counts = gpu.zeros(bins.len() * TAIL * 4)?;
        let params = Params {
            elements: elements as u32,
            slots: bins.len() as u32,
            invocations: workgroups as u32 * KERNEL.workgroup,
        };
        let constants = [("DTYPE", dtype::code(weights.dtype()))];
        let buffers = [weights.buffer()?, &gpu.upload(bins)?, &counts];
        gpu.dispatch(&KERNEL, &constants, &params, &buffers, workgroups)?;
        let counts = gpu.read(&counts, bins.len() * TAIL)?;
        for (bin, counts) in bins.iter().zip(counts.chunks_exact(TAIL)) {
            let occurring = (bin << 12..).zip(counts).filter(|(_, n)| **n > 0);
            found.extend(occurring.map(|(key, n)| (key, *n)));
        }
    }
    Ok(found)
}
