//! Parts of a unit that fit a device: how it is cut, how they get there, and how what they become is put together.

use crate::{
    Backend, DType, Error, Result, Tensor,
    form::Packing,
    gpu::Gpu,
    stage::{Blocks, Unit},
    tensor::slice,
};
use std::ops::Range;

/// Rows and columns of a tile within its unit.
pub type Span = (Range<usize>, Range<usize>);

/// Part of a unit that fits the device.
#[derive(Debug)]
pub struct Tile {
    /// Its elements, on the backend that runs it.
    pub weights: Tensor,
    /// Its rows within the unit.
    pub rows: Range<usize>,
    /// Its columns within the unit: all, or a piece that starts at a multiple of 32.
    pub cols: Range<usize>,
    /// The number of its first element in the tensor.
    pub start: u64,
}

/// Where a part of a unit lies that is restored at once: whole rows, or a piece of one row.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its rows and columns.
    pub shape: (usize, usize),
    /// The number of its first element in the tensor.
    pub start: u64,
}

/// What a kernel needs of the device besides the weights.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Bytes of tables for every `group` elements.
    pub table_bytes: usize,
    /// Elements that share a table.
    pub group: usize,
    /// Column pieces start at multiples of this as well as of 32.
    pub multiple: usize,
    /// Bytes of results for every element, where they may be more than its own.
    pub result_bytes: usize,
}

impl Default for Needs {
    fn default() -> Self {
        Self { table_bytes: 0, group: 1, multiple: 1, result_bytes: 0 }
    }
}

/// The tiles of a unit, on a backend.
pub fn load(
    on: &Backend,
    blocks: &Blocks,
    unit: &Unit,
    elements: &[u32],
    cut: &[Span],
) -> Result<Vec<Tile>> {
    let tile = |(rows, cols): &Span| {
        let first = rows.start * unit.shape().1 + cols.start;
        let part = slice(blocks.dtype, elements, first, rows.len() * cols.len());
        Ok(Tile {
            weights: Tensor::new(on, blocks.dtype, rows.len(), cols.len(), part)?,
            start: unit.start(blocks) + first as u64,
            rows: rows.clone(),
            cols: cols.clone(),
        })
    };
    cut.iter().map(tile).collect()
}

/// Rows and columns of tiles that fit the device's buffers, covering the unit row by row.
pub fn cut(
    gpu: &Gpu,
    dtype: DType,
    (rows, cols): (usize, usize),
    needs: Needs,
) -> Result<Vec<Span>> {
    let max = gpu.max_bytes() as usize;
    let by_data = max / dtype.bytes(1).max(needs.result_bytes).max(1);
    let by_tables = match needs.table_bytes {
        0 => usize::MAX,
        // A tile may start and end inside a group,
        // and kernels with tables may want a workgroup for each group.
        bytes => (max / bytes)
            .min(gpu.max_workgroups() as usize)
            .saturating_sub(2)
            .saturating_mul(needs.group),
    };
    // Masks have a word for up to 32 columns of every row, codes one for every row at least.
    let by_rows = max / 4 / cols.div_ceil(4).max(1);
    let fits = by_data.min(by_tables).min(gpu.max_workgroups() as usize * 64);
    if cols <= fits && by_rows > 0 {
        let step = (fits / cols.max(1)).min(by_rows).max(1);
        return Ok((0..rows).step_by(step).map(|r| (r..(r + step).min(rows), 0..cols)).collect());
    }
    let multiple = 32 * needs.multiple.max(1);
    let step = fits.min(max / 2) / multiple * multiple;
    if step == 0 {
        let message = format!("{multiple} columns do not fit its buffers of {max} bytes");
        return Err(Error::beyond("stage", message));
    }
    let piece =
        |r: usize| (0..cols).step_by(step).map(move |c| (r..r + 1, c..(c + step).min(cols)));
    Ok((0..rows).flat_map(piece).collect())
}

/// The codes of a unit, packed row by row, from those of its tiles.
pub fn assemble(
    unit: &Unit,
    tiles: &[Tile],
    packing: Packing,
    mut codes: impl FnMut(&Tile) -> Result<Vec<u32>>,
) -> Result<Vec<u32>> {
    let (rows, cols) = unit.shape();
    if let [whole] = tiles {
        return codes(whole);
    }
    let row_words = packing.words(cols);
    let mut out = vec![0; rows * row_words];
    for tile in tiles {
        let part = codes(tile)?;
        let (width, offset) = (packing.words(tile.cols.len()), packing.words(tile.cols.start));
        for (row, part) in tile.rows.clone().zip(part.chunks_exact(width)) {
            out[row * row_words + offset..][..width].copy_from_slice(part);
        }
    }
    Ok(out)
}
