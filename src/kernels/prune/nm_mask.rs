use crate::{
    Backend, DType, Error, Result, Tensor, dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "nm_mask",
    wgsl: wgsl!("lib/grid", "lib/dtype", "prune/nm_mask"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    words: u32,
    n: u32,
    total: u32,
}

/// Marks the `n` largest of every `m` consecutive weights of a row.
///
/// `mask[r, c] = 1` where fewer than `n` weights of c's group are larger in magnitude, or equal and before it; a remainder of
/// less than `m` at the end of a row is kept whole
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `1 <= n < m <= 16`
/// - returns U32 `[rows, ceil(cols / 32)]`: a bit for every weight, first weight in the low bit, padding zero.
///
/// Agreement: exact (magnitudes are compared as integers).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights or n and m are out of bounds; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Zhou et al. 2021, arXiv 2102.04010; 2:4: Mishra et al. 2021, arXiv 2104.08378.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let weights = [1.0, -3.0, 2.0, 2.0, 0.5, 0.5, 0.5, 0.5, 9.0];
/// let mask = kernels::nm_mask(&on, &Tensor::from_f32(&on, &weights, 1)?, 2, 4)?;
/// // -3 and the first 2; of equal ones the first two; and the remainder, which is kept whole.
/// assert_eq!(mask.read(&on)?, [0b1_0011_0110]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn nm_mask(on: &Backend, weights: &Tensor, n: u32, m: u32) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    if !(1 <= n && n < m && m <= 16) {
        return Err(Error::shape(KERNEL.name, "n:m", format!("{n}:{m}"), "1 <= n < m <= 16"));
    }
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = cols.div_ceil(32);
    match on {
        Backend::Cpu => {
            let mask =
                reference(weights.dtype(), weights.words()?, (rows, cols), n as usize, m as usize);
            Ok(Tensor::cpu(DType::U32, rows, words, mask))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, n, m),
    }
}

fn reference(
    dtype: DType,
    weights: &[u32],
    (rows, cols): (usize, usize),
    n: usize,
    m: usize,
) -> Vec<u32> {
    let words = cols.div_ceil(32);
    let mut mask = vec![0; rows * words];
    let task = task_rows(rows, cols);
    chunks(&mut mask, task * words, &|t, mask| {
        let (mut values, mut kept) = (vec![0.0; cols], vec![0; cols]);
        for (r, mask) in mask.chunks_mut(words.max(1)).enumerate() {
            dtype::decode(dtype, weights, (t * task + r) * cols, &mut values);
            if (n, m) == (2, 4) {
                keep_two_of_four(&values, &mut kept);
            } else {
                keep(&values, n, m, &mut kept);
            }
            for (kept, word) in kept.chunks(32).zip(mask) {
                *word = kept.iter().enumerate().fold(0, |w, (i, k)| w | u32::from(*k) << i);
            }
        }
    });
    mask
}

fn magnitude(w: f32) -> u32 {
    w.to_bits() & 0x7fff_ffff
}

fn keep(weights: &[f32], n: usize, m: usize, kept: &mut [u8]) {
    for (group, kept) in weights.chunks(m).zip(kept.chunks_mut(m)) {
        for (k, kept) in kept.iter_mut().enumerate() {
            let larger = |(o, w): (usize, &f32)| {
                magnitude(*w) > magnitude(group[k]) || magnitude(*w) == magnitude(group[k]) && o < k
            };
            let ahead = group.iter().enumerate().filter(|w| larger(*w)).count();
            *kept = u8::from(group.len() < m || ahead < n);
        }
    }
}

/// [`keep`] for 2:4, whose six comparisons are written out.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn keep_two_of_four(weights: &[f32], kept: &mut [u8]) {
    for (w, kept) in weights.chunks_exact(4).zip(kept.chunks_exact_mut(4)) {
        let [a, b, c, d] = [w[0], w[1], w[2], w[3]].map(|w| w.to_bits() & 0x7fff_ffff);
        // Whether the first of each pair goes before the second; it does in a tie.
        let [ab, ac, ad] = [a >= b, a >= c, a >= d].map(u8::from);
        let [bc, bd, cd] = [b >= c, b >= d, c >= d].map(u8::from);
        kept[0] = u8::from(ab + ac + ad >= 2);
        kept[1] = u8::from((1 - ab) + bc + bd >= 2);
        kept[2] = u8::from((1 - ac) + (1 - bc) + cd >= 2);
        kept[3] = u8::from((1 - ad) + (1 - bd) + (1 - cd) >= 2);
    }
    kept.chunks_exact_mut(4).into_remainder().fill(1);
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, n: u32, m: u32) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = cols.div_ceil(32);
    let out = gpu.alloc(rows * words * 4)?;
    let total = (rows * words) as u32;
    let params = Params { cols: cols as u32, words: words as u32, n, total };
    let constants = [("DTYPE", dtype::code(weights.dtype())), ("M", m.into())];
    let (buffers, workgroups) = ([weights.buffer()?, &out], KERNEL.workgroups(total.into()));
    // Every weight meets all of its group.
    let operations = 4 * u64::from(m) * weights.elements() as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    Ok(Tensor::gpu(DType::U32, rows, words, out))
}
