use crate::{
    Backend, Error, Result, Tensor,
    decide::threshold::Limit,
    dtype,
    gpu::{Gpu, Kernel},
    parallel::spans,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "row_threshold",
    wgsl: wgsl!("lib/grid", "lib/dtype", "prune/row_threshold"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    keep: u32,
}

/// For every row, what keeps exactly its `keep` largest magnitudes: larger first, then lower column.
///
/// - `weights`: `[rows, cols]`; F64 is taken as f32, rounded to nearest even.
/// - `keep`: 1 to `cols`.
/// - returns one [`Limit`] per row, its column counted from the start of the row.
///
/// Agreement: exact (magnitudes are compared as integers).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights or `keep` is out of bounds; [`Error::Gpu`] if the device fails, or a row
/// is too long for its loops: more than 2.7 million columns.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels, prune::Limit};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -3.0, 2.0, 2.0, 0.5, 0.5, -0.5, 0.5], 2)?;
/// let limits = kernels::row_threshold(&on, &weights, 2)?;
/// // -3, and a 2 among the first three; two of the halves.
/// assert_eq!(limits[0], Limit { threshold: 2f32.to_bits(), ties_before: 3 });
/// assert_eq!(limits[1], Limit { threshold: 0.5f32.to_bits(), ties_before: 2 });
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn row_threshold(on: &Backend, weights: &Tensor, keep: usize) -> Result<Vec<Limit>> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    if keep == 0 || keep > weights.cols() {
        return Err(Error::shape(KERNEL.name, "keep", keep, format!("1 to {}", weights.cols())));
    }
    match on {
        Backend::Cpu => reference(weights, keep),
        Backend::Gpu(gpu) => on_gpu(gpu, weights, keep),
    }
}

fn reference(weights: &Tensor, keep: usize) -> Result<Vec<Limit>> {
    let (words, cols, dtype) = (weights.words()?, weights.cols(), weights.dtype());
    let mut limits = vec![Limit { threshold: 0, ties_before: 0 }; weights.rows()];
    spans(&mut limits, 1, (1 << 20) / cols + 1, &|first, limits| {
        let (mut values, mut sorted) = (vec![0.0; cols], Vec::with_capacity(cols));
        for (r, limit) in (first..).zip(limits) {
            dtype::decode(dtype, words, r * cols, &mut values);
            let magnitude = |w: &f32| w.to_bits() & 0x7fff_ffff;
            sorted.clear();
            sorted.extend(values.iter().map(magnitude));
            let (larger, threshold, _) = sorted.select_nth_unstable_by(keep - 1, |a, b| b.cmp(a));
            let threshold = *threshold;
            let ties = keep - larger.iter().filter(|m| **m > threshold).count();
            let tied = values.iter().enumerate().filter(|(_, w)| magnitude(w) == threshold);
            let last = tied.map(|(c, _)| c).nth(ties - 1).unwrap_or(cols - 1);
            *limit = Limit { threshold, ties_before: last as u64 + 1 };
        }
    });
    Ok(limits)
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, keep: usize) -> Result<Vec<Limit>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    // Six passes over the columns by all lanes, and five over as many digits or lanes.
    if 6 * cols.div_ceil(256) + 5 * 256 > crate::kernels::tasks::ITERATIONS {
        return Err(Error::beyond(KERNEL.name, format!("rows of {cols} are too long")));
    }
    let out = gpu.alloc(8 * rows)?;
    let params = Params { rows: rows as u32, cols: cols as u32, keep: keep as u32 };
    let constants = [("DTYPE", dtype::code(weights.dtype()))];
    let buffers = [weights.buffer()?, &out];
    // Four looks at every weight, and a count for each.
    let operations = 32 * weights.elements() as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, rows as u64), operations)?;
    let limit = |pair: &[u32]| Limit { threshold: pair[0], ties_before: pair[1].into() };
    Ok(gpu.read(&out, 2 * rows)?.chunks_exact(2).map(limit).collect())
}
