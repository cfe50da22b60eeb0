use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "merge_runs",
    wgsl: wgsl!("lib/grid", "order/merge_runs"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    run: u32,
    per_row: u32,
    total: u32,
}

/// Keys that one invocation merges.
const STEP: usize = 16;

/// Merges every two neighbouring sorted runs of a row into one: a step of sorting rows that are too long for a workgroup.
///
/// - `keys`: U32 `[rows, cols]`, each row a sequence of ascending runs of `run` keys, the last as long as is left.
/// - `run`: a positive multiple of 16.
/// - returns U32 `[rows, cols]`: the same keys in ascending runs of `2 * run`.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if the elements are not U32 or the length of a run is none; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Green, McColl, Bader 2012, "GPU merge path".
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let (even, odd) = ((0..32).step_by(2), (0..32).skip(1).step_by(2));
/// let keys = Tensor::new(&on, DType::U32, 1, 32, odd.chain(even).collect())?;
/// assert!(kernels::merge_runs(&on, &keys, 16)?.read(&on)?.into_iter().eq(0..32));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn merge_runs(on: &Backend, keys: &Tensor, run: usize) -> Result<Tensor> {
    if keys.dtype() != DType::U32 {
        return Err(Error::shape(KERNEL.name, "dtype", keys.dtype().name(), "U32"));
    }
    if run == 0 || !run.is_multiple_of(STEP) {
        return Err(Error::shape(KERNEL.name, "run", run, format!("a multiple of {STEP}")));
    }
    match on {
        Backend::Cpu => {
            let merged = reference(keys.words()?, keys.cols(), run);
            Ok(Tensor::cpu(DType::U32, keys.rows(), keys.cols(), merged))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, keys, run),
    }
}

fn reference(keys: &[u32], cols: usize, run: usize) -> Vec<u32> {
    let mut merged = Vec::with_capacity(keys.len());
    for pair in keys.chunks(cols.max(1)).flat_map(|row| row.chunks(2 * run)) {
        let (mut a, mut b) = pair.split_at(run.min(pair.len()));
        while let (Some(x), Some(y)) = (a.first(), b.first()) {
            let from = if x <= y { &mut a } else { &mut b };
            merged.push(from[0]);
            *from = &from[1..];
        }
        merged.extend([a, b].concat());
    }
    merged
}

pub(crate) fn on_gpu(gpu: &Gpu, keys: &Tensor, run: usize) -> Result<Tensor> {
    let (rows, cols) = (keys.rows(), keys.cols());
    let out = gpu.alloc(4 * rows * cols)?;
    let per_row = cols.div_ceil(STEP);
    let total = rows * per_row;
    // A run longer than the row is the row: twice its length must fit 32 bits.
    let run = run.min(cols.next_multiple_of(STEP)) as u32;
    let params = Params { cols: cols as u32, run, per_row: per_row as u32, total: total as u32 };
    let constants = [("STEP", STEP as f64)];
    let workgroups = KERNEL.workgroups(total as u64);
    gpu.dispatch(&KERNEL, &constants, &params, &[keys.buffer()?, &out], workgroups)?;
    Ok(Tensor::gpu(DType::U32, rows, cols, out))
}
