use crate::{
    Backend, Error, Result, Tensor, dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::ITERATIONS,
    parallel::spans,
    recipe::Norm,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "magnitude_sums",
    wgsl: wgsl!("lib/grid", "lib/dtype", "prune/magnitude_sums"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    block_rows: u32,
    block_cols: u32,
    row0: u32,
    col0: u32,
    blocks_across: u32,
    blocks: u32,
    inverse_step: u32,
}

/// Blocks of a matrix, and where a tile of it starts in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockGrid {
    /// Rows of a block.
    pub rows: usize,
    /// Columns of a block.
    pub cols: usize,
    /// Rows of the tile's first block that lie before the tile.
    pub row0: usize,
    /// Columns of the tile's first block that lie before the tile.
    pub col0: usize,
}

impl BlockGrid {
    /// How many blocks a tile touches, down and across.
    pub fn count(self, rows: usize, cols: usize) -> (usize, usize) {
        ((self.row0 + rows).div_ceil(self.rows), (self.col0 + cols).div_ceil(self.cols))
    }
}

/// The norm of every block, as a sum of integers.
///
/// `sums[b] = Σ u` (L1) or `Σ u²` (L2) over the block's weights in the tile, `u = round_ties_even(|w| * inverse)`
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `inverses`: `f32(32767 / f64(absmax))`, 0 if all is zero: one for the whole tensor, or one for every row of blocks.
/// - returns one sum per block that the tile touches, row by row.
///
/// Agreement: exact: one multiply and one rounding, then integers.
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights, a block is empty, or the inverses do not fit the blocks; [`Error::Gpu`] if
/// the device fails, or does not round as IEEE, or a block is longer than it can sum.
///
/// # Source
///
/// Li et al. 2017, arXiv 1608.08710.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, BlockGrid}, recipe::Norm};
///
/// let on = Backend::Cpu;
/// // Two blocks side by side.
/// let weights = Tensor::from_f32(&on, &[1.0, 0.0, 1.0, 1.0, 0.0, 0.0, -1.0, 1.0], 2)?;
/// let grid = BlockGrid { rows: 2, cols: 2, row0: 0, col0: 0 };
/// let sums = kernels::magnitude_sums(&on, &weights, grid, Norm::L1, &[32767.0])?;
/// assert_eq!(sums, [32767, 4 * 32767]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn magnitude_sums(
    on: &Backend,
    weights: &Tensor,
    grid: BlockGrid,
    norm: Norm,
    inverses: &[f32],
) -> Result<Vec<u64>> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    if grid.rows == 0 || grid.cols == 0 || grid.row0 >= grid.rows || grid.col0 >= grid.cols {
        return Err(Error::shape(
            KERNEL.name,
            "grid",
            format!("{grid:?}"),
            "blocks of at least one weight",
        ));
    }
    let down = grid.count(weights.rows(), weights.cols()).0;
    if inverses.len() != 1 && inverses.len() != down {
        let expected = format!("1 or {down}, the rows of blocks");
        return Err(Error::shape(KERNEL.name, "inverses", inverses.len(), expected));
    }
    match on {
        Backend::Cpu => reference(weights, grid, norm, inverses),
        Backend::Gpu(gpu) => on_gpu(gpu, weights, grid, norm, inverses),
    }
}

/// How far the inverse of a row of blocks lies after the one before it.
fn inverse_step(inverses: &[f32]) -> usize {
    usize::from(inverses.len() > 1)
}

fn reference(weights: &Tensor, grid: BlockGrid, norm: Norm, inverses: &[f32]) -> Result<Vec<u64>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = weights.words()?;
    let (down, across) = grid.count(rows, cols);
    let mut sums = vec![0; down * across];
    spans(&mut sums, across, 1, &|first, sums| {
        let mut values = vec![0.0; cols];
        for (b, sums) in (first..).zip(sums.chunks_mut(across)) {
            let inverse = inverses[b * inverse_step(inverses)];
            let start = (b * grid.rows).max(grid.row0) - grid.row0;
            for r in start..((b + 1) * grid.rows - grid.row0).min(rows) {
                dtype::decode(weights.dtype(), words, r * cols, &mut values);
                for (b, sum) in sums.iter_mut().enumerate() {
                    let start = (b * grid.cols).max(grid.col0) - grid.col0;
                    let end = ((b + 1) * grid.cols - grid.col0).min(cols);
                    *sum += sum_of(&values[start..end], inverse, norm == Norm::L2);
                }
            }
        }
    });
    Ok(sums)
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn sum_of(weights: &[f32], inverse: f32, squared: bool) -> u64 {
    // Below 2^22, so that adding 2^23 rounds to an integer, ties to even.
    let u =
        |w: &f32| u64::from((w.abs() * inverse + 8_388_608.0).to_bits() - 8_388_608f32.to_bits());
    if squared { weights.iter().map(|w| u(w) * u(w)).sum() } else { weights.iter().map(u).sum() }
}

fn on_gpu(
    gpu: &Gpu,
    weights: &Tensor,
    grid: BlockGrid,
    norm: Norm,
    inverses: &[f32],
) -> Result<Vec<u64>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let refuse = |message: &str| Err(Error::beyond(KERNEL.name, message));
    if !gpu.numerics().rounds_exactly() {
        return refuse("it does not round as IEEE");
    }
    // The lanes of a workgroup share a block, then one of them adds their sums.
    let lanes = KERNEL.workgroup as usize;
    if (grid.rows.min(rows) * grid.cols.min(cols)).div_ceil(lanes) + lanes > ITERATIONS {
        return refuse("the block is too large");
    }
    let (down, across) = grid.count(rows, cols);
    let blocks = down * across;
    let out = gpu.alloc(8 * blocks)?;
    // A block may be larger than any tile: only its part in this one matters.
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        block_rows: grid.rows.min(rows + grid.row0) as u32,
        block_cols: grid.cols.min(cols + grid.col0) as u32,
        row0: grid.row0 as u32,
        col0: grid.col0 as u32,
        blocks_across: across as u32,
        blocks: blocks as u32,
        inverse_step: inverse_step(inverses) as u32,
    };
    let constants = [
        ("DTYPE", dtype::code(weights.dtype())),
        ("SQUARED", f64::from(u8::from(norm == Norm::L2))),
    ];
    let buffers = [weights.buffer()?, &gpu.upload(inverses)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, blocks as u64)?;
    let value = |w: &[u32]| u64::from(w[1]) << 32 | u64::from(w[0]);
    Ok(gpu.read(&out, 2 * blocks)?.chunks_exact(2).map(value).collect())
}
