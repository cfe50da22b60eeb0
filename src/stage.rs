//! How a tensor is cut into blocks and units, and where their elements come from.

use crate::{
    DType, Result, TensorInfo,
    format::{Archive, Checkpoint, Digest, digest},
    words,
};
use std::ops::Range;

/// Source bytes of a block, unless one row is longer.
const BLOCK_BYTES: u64 = 1 << 20;
/// A longer row is cut into pieces of this many elements: a multiple of 32, so that pieces of codes start on word
/// boundaries, and of every number to 16, so that no N:M group straddles two.
const PIECE: u64 = 1_441_440;

/// A tensor's matrix view, and how it falls into blocks: whole rows, as many as fit 1 MiB, or pieces of one long row. Blocks
/// depend on nothing but type and shape: they are the unit of the digest of a restored tensor and of the order in which
/// metrics are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Element type.
    pub dtype: DType,
    /// Rows.
    pub rows: u64,
    /// Elements per row.
    pub cols: u64,
}

/// Consecutive blocks that are loaded and treated together: a range of rows, and a range of columns that is all of them
/// unless the rows are cut into pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its number among the units of the tensor.
    pub index: usize,
    /// Its rows; one where it is a piece.
    pub rows: Range<u64>,
    /// Its columns.
    pub cols: Range<u64>,
}

impl Blocks {
    /// The blocks of a matrix.
    pub fn new(dtype: DType, (rows, cols): (u64, u64)) -> Self {
        Self { dtype, rows, cols }
    }

    /// Elements of the tensor.
    pub fn elements(&self) -> u64 {
        self.rows * self.cols
    }

    /// Whether rows are cut into pieces.
    pub fn cuts_rows(&self) -> bool {
        self.cols > PIECE
    }

    fn rows_per_block(&self) -> u64 {
        let row_bytes = words(self.dtype, self.cols as usize).max(1) as u64 * 4;
        (BLOCK_BYTES / row_bytes).max(1)
    }

    /// The tensor in units of about `bytes` source bytes, at least a block each. With `whole` above 1, units start at
    /// multiples of so many rows (tables that rows share, blocks that are pruned together).
    pub fn units(&self, bytes: u64, whole: u64) -> Vec<Unit> {
        if self.elements() == 0 {
            return Vec::new();
        }
        if self.cuts_rows() {
            let pieces = self.cols.div_ceil(PIECE);
            let piece = |i: u64| {
                let (row, start) = (i / pieces, i % pieces * PIECE);
                Unit {
                    index: i as usize,
                    rows: row..row + 1,
                    cols: start..(start + PIECE).min(self.cols),
                }
            };
            return (0..self.rows * pieces).map(piece).collect();
        }
        let per_block = self.rows_per_block();
        let step =
            (per_block * (bytes / BLOCK_BYTES).max(1)).next_multiple_of(lcm(per_block, whole));
        let unit = |i: u64| Unit {
            index: i as usize,
            rows: i * step..((i + 1) * step).min(self.rows),
            cols: 0..self.cols,
        };
        (0..self.rows.div_ceil(step)).map(unit).collect()
    }

    /// The digests of the blocks of a unit, given its elements.
    pub fn digests(&self, unit: &Unit, elements: &[u32]) -> Vec<Digest> {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let size = self.dtype.bits() / 8;
        let all = &bytes[..unit.elements() * size];
        let block = match self.cuts_rows() {
            true => all.len(),
            false => (self.rows_per_block() * self.cols) as usize * size,
        };
        all.chunks(block.max(1)).map(digest).collect()
    }

    /// The parts of a unit of whole rows that are its blocks, as ranges of its elements.
    pub fn spans(&self, unit: &Unit) -> Vec<Range<usize>> {
        let all = unit.elements();
        let block =
            if self.cuts_rows() { all } else { (self.rows_per_block() * self.cols) as usize };
        (0..all).step_by(block.max(1)).map(|start| start..(start + block).min(all)).collect()
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b.max(1)
}

impl Unit {
    /// Its rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        ((self.rows.end - self.rows.start) as usize, (self.cols.end - self.cols.start) as usize)
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        let (rows, cols) = self.shape();
        rows * cols
    }

    /// The number of its first element in the tensor.
    pub fn start(&self, blocks: &Blocks) -> u64 {
        self.rows.start * blocks.cols + self.cols.start
    }
}

/// Where the elements of a tensor come from, in the order of its matrix view.
#[derive(Debug)]
pub enum Source<'a> {
    /// A tensor of a checkpoint, read by position.
    File(&'a Checkpoint, &'a TensorInfo),
    /// A kept tensor of an archive, read through its digests.
    Archive(&'a Archive, &'a TensorInfo),
    /// A tensor in memory: one whose matrix view is the transpose of its storage.
    Memory(Vec<u32>),
}

impl<'a> Source<'a> {
    /// A tensor of a checkpoint; with `axis` 1 it is read whole, and transposed.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read_at`].
    pub fn open(checkpoint: &'a Checkpoint, info: &'a TensorInfo, axis: u8) -> Result<Self> {
        let source = Self::File(checkpoint, info);
        if axis == 0 {
            return Ok(source);
        }
        let all = source.load_range(info.dtype, 0..info.elements())?;
        Ok(Self::Memory(transpose(info.dtype, &all, info.rows() as usize, info.cols() as usize)))
    }

    /// The elements of a unit, as little-endian words.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read_at`] or [`Archive::read_at`].
    pub fn load(&self, blocks: &Blocks, unit: &Unit) -> Result<Vec<u32>> {
        let start = unit.start(blocks);
        self.load_range(blocks.dtype, start..start + unit.elements() as u64)
    }

    fn load_range(&self, dtype: DType, elements: Range<u64>) -> Result<Vec<u32>> {
        let (size, len) = (dtype.bits() as u64 / 8, (elements.end - elements.start) as usize);
        let mut out = vec![0; words(dtype, len)];
        let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut out)[..len * size as usize];
        self.read_at(elements.start * size, bytes)?;
        Ok(out)
    }

    /// Bytes of the tensor from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read_at`] or [`Archive::read_at`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::File(checkpoint, info) => {
                checkpoint.read_at(info.file, info.offset + offset, bytes)
            }
            Self::Archive(archive, info) => archive.read_at(info, offset, bytes),
            Self::Memory(all) => {
                bytes.copy_from_slice(
                    &bytemuck::cast_slice::<u32, u8>(all)[offset as usize..][..bytes.len()],
                );
                Ok(())
            }
        }
    }
}

/// The transpose of a `rows x cols` matrix.
pub fn transpose(dtype: DType, elements: &[u32], rows: usize, cols: usize) -> Vec<u32> {
    let mut out = vec![0; elements.len()];
    match dtype.bits() {
        64 => transpose_of::<u64>(&pairs(elements), &mut [], rows, cols, Some(&mut out)),
        32 => transpose_of::<u32>(elements, &mut out, rows, cols, None),
        16 => transpose_of::<u16>(
            bytemuck::cast_slice(elements),
            bytemuck::cast_slice_mut(&mut out),
            rows,
            cols,
            None,
        ),
        _ => transpose_of::<u8>(
            bytemuck::cast_slice(elements),
            bytemuck::cast_slice_mut(&mut out),
            rows,
            cols,
            None,
        ),
    }
    out
}

fn pairs(words: &[u32]) -> Vec<u64> {
    words.chunks_exact(2).map(|w| u64::from(w[1]) << 32 | u64::from(w[0])).collect()
}

fn transpose_of<T: bytemuck::Pod>(
    from: &[T],
    to: &mut [T],
    rows: usize,
    cols: usize,
    wide: Option<&mut [u32]>,
) {
    let mut buffer;
    let (to, wide) = match wide {
        Some(wide) => {
            buffer = vec![T::zeroed(); rows * cols];
            (&mut buffer[..], Some(wide))
        }
        None => (to, None),
    };
    // Square tiles, so that both sides stay in the cache.
    const TILE: usize = 64;
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..cols).step_by(TILE) {
            for r in r0..rows.min(r0 + TILE) {
                for c in c0..cols.min(c0 + TILE) {
                    to[c * rows + r] = from[r * cols + c];
                }
            }
        }
    }
    if let Some(wide) = wide {
        bytemuck::cast_slice_mut::<u32, u8>(wide).copy_from_slice(bytemuck::cast_slice(to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_element_once_whatever_their_size() {
        for (rows, cols) in
            [(1, 1), (3, 7), (5000, 100), (10, 400_000), (2, 3_000_000), (0, 5), (7, 0)]
        {
            for dtype in [DType::F32, DType::BF16, DType::F64] {
                let blocks = Blocks::new(dtype, (rows, cols));
                for (bytes, whole) in [(0, 1), (1 << 20, 3), (16 << 20, 1)] {
                    let mut next = 0;
                    for unit in blocks.units(bytes, whole) {
                        assert_eq!(unit.start(&blocks), next);
                        assert!(blocks.cuts_rows() || unit.rows.start % whole == 0);
                        next += unit.elements() as u64;
                    }
                    assert_eq!(next, rows * cols);
                }
            }
        }
    }

    #[test]
    fn digests_do_not_depend_on_the_unit() {
        let blocks = Blocks::new(DType::F32, (300, 5000));
        let data: Vec<u32> = (0..1_500_000).map(|i| i * 77).collect();
        let all = |bytes| -> Vec<Digest> {
            let of = |u: Unit| {
                let start = u.start(&blocks) as usize;
                blocks.digests(&u, &data[start..start + u.elements()])
            };
            blocks.units(bytes, 1).into_iter().flat_map(of).collect()
        };
        assert_eq!(all(0), all(16 << 20));
        assert_eq!(all(0).len(), 6);
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::F8E4M3] {
            let data: Vec<u32> =
                (0..words(dtype, 70 * 130) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
            let there = transpose(dtype, &data, 70, 130);
            assert_ne!(there, data);
            assert_eq!(transpose(dtype, &there, 130, 70), data);
        }
        assert_eq!(
            transpose(DType::F16, &[0x0002_0001, 0x0004_0003], 2, 2),
            [0x0003_0001, 0x0004_0002]
        );
    }
}
