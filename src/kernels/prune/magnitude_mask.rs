use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::{groups::Groups, threshold::Limit},
    dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "magnitude_mask",
    wgsl: wgsl!("lib/grid", "lib/dtype", "prune/magnitude_mask"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    words: u32,
    group: u32,
    first: u32,
    total: u32,
}

/// Marks the weights above a threshold, and the first of those on it.
///
/// `mask[r, c] = 1` where `|w| > threshold`, or `|w| = threshold` and the weight is one of the tile's first `ties_before`
/// elements
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `limits`: one for every group that the tile touches; `ties_before` counts from the start of the tile.
/// - returns U32 `[rows, ceil(cols / 32)]`: a bit for every weight, first weight in the low bit, padding zero.
///
/// Agreement: exact (magnitudes are compared as integers).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights or the limits do not fit the groups; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Han, Pool, Tran, Dally 2015, arXiv 1506.02626.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Groups}, prune::Limit};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -2.0, 3.0, 2.0], 1)?;
/// let limit = Limit { threshold: 2f32.to_bits(), ties_before: 2 };
/// let mask = kernels::magnitude_mask(&on, &weights, Groups::of(4), &[limit])?;
/// assert_eq!(mask.read(&on)?, [0b0110]); // 3, and of the ties what is among the first two
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn magnitude_mask(
    on: &Backend,
    weights: &Tensor,
    groups: Groups,
    limits: &[Limit],
) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    let expected = groups.count(weights.elements());
    if limits.len() != expected {
        return Err(Error::shape(KERNEL.name, "limits", limits.len(), expected));
    }
    let (rows, cols) = (weights.rows(), weights.cols());
    match on {
        Backend::Cpu => {
            let mask = reference(weights.dtype(), weights.words()?, (rows, cols), groups, limits);
            Ok(Tensor::cpu(DType::U32, rows, cols.div_ceil(32), mask))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, groups, limits),
    }
}

fn reference(
    dtype: DType,
    weights: &[u32],
    (rows, cols): (usize, usize),
    groups: Groups,
    limits: &[Limit],
) -> Vec<u32> {
    let words = cols.div_ceil(32);
    let mut mask = vec![0; rows * words];
    let task = task_rows(rows, cols);
    chunks(&mut mask, task * words, &|t, mask| {
        let (mut values, mut kept) = (vec![0.0; cols], vec![0; cols]);
        for (r, mask) in mask.chunks_mut(words.max(1)).enumerate() {
            let start = (t * task + r) * cols;
            dtype::decode(dtype, weights, start, &mut values);
            for (span, limit) in groups.spans(start..start + cols, limits) {
                // Before the cut-off a tie is kept: its threshold is one lower there.
                let cut = (limit.ties_before.min(span.end as u64) as usize).max(span.start) - start;
                let (from, to) = (span.start - start, span.end - start);
                at_least(&values[from..cut], limit.threshold, &mut kept[from..cut]);
                at_least(&values[cut..to], limit.threshold + 1, &mut kept[cut..to]);
            }
            for (kept, word) in kept.chunks(32).zip(mask) {
                *word = kept.iter().enumerate().fold(0, |w, (i, k)| w | u32::from(*k) << i);
            }
        }
    });
    mask
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn at_least(weights: &[f32], threshold: u32, kept: &mut [u8]) {
    for (w, kept) in weights.iter().zip(kept) {
        *kept = u8::from(w.to_bits() & 0x7fff_ffff >= threshold);
    }
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, groups: Groups, limits: &[Limit]) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = cols.div_ceil(32);
    let out = gpu.alloc(rows * words * 4)?;
    let pairs: Vec<[u32; 2]> =
        limits.iter().map(|l| [l.threshold, l.ties_before.min(u32::MAX.into()) as u32]).collect();
    let (group, first) = groups.for_device(weights.elements());
    let total = (rows * words) as u32;
    let params = Params { cols: cols as u32, words: words as u32, group, first, total };
    let constants = [("DTYPE", dtype::code(weights.dtype()))];
    let buffers = [weights.buffer()?, &gpu.upload(&pairs)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total.into()))?;
    Ok(Tensor::gpu(DType::U32, rows, words, out))
}
