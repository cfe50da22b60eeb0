//! How a tensor is cut into blocks and units, and where their elements come from.

mod scaled;
mod strips;

use crate::{
    DType, Result, Storage, TensorInfo,
    digest::{Digest, digest, mixed, mixed_and_twofold, twofold},
    form::View,
    format::{Archive, Checkpoint},
    scratch, words,
};
use std::ops::Range;

pub use crate::form::PIECE;
pub use strips::{STRIP_BYTES, Strips, units_per_strip, write_transposed};

/// Source bytes of a block, unless one row is longer.
const BLOCK_BYTES: u64 = 1 << 20;

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
    /// The type by which they are cut: that of the tensor, whatever its elements have become.
    cut: DType,
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
        Self { dtype, rows, cols, cut: dtype }
    }

    /// The same blocks of what elements have become, of another type.
    pub fn of_type(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// Elements of the tensor.
    pub fn elements(&self) -> u64 {
        self.rows * self.cols
    }

    /// Whether rows are cut into pieces.
    pub fn cuts_rows(&self) -> bool {
        self.cols > PIECE
    }

    /// Rows of a block; 1 where rows are cut.
    pub fn rows_per_block(&self) -> u64 {
        let row_bytes = words(self.cut, self.cols as usize).max(1) as u64 * 4;
        (BLOCK_BYTES / row_bytes).max(1)
    }

    /// Rows of a unit of about `bytes` source bytes, at least a block.
    pub fn rows_per_unit(&self, bytes: u64) -> u64 {
        self.rows_per_block() * (bytes / BLOCK_BYTES).max(1)
    }

    /// Elements of the largest of those units.
    pub fn unit_elements(&self, bytes: u64) -> u64 {
        match self.cuts_rows() {
            true => PIECE,
            false => self.rows_per_unit(bytes).min(self.rows) * self.cols,
        }
    }

    /// The tensor in units of about `bytes` source bytes, at least a block each.
    pub fn units(&self, bytes: u64) -> Vec<Unit> {
        self.units_of(0..self.rows, self.rows_per_unit(bytes))
    }

    /// Some rows in units of `step` rows, whatever the blocks, or in pieces: for looking at part of a tensor.
    pub fn units_of(&self, rows: Range<u64>, step: u64) -> Vec<Unit> {
        if self.elements() == 0 {
            return Vec::new();
        }
        if self.cuts_rows() {
            let pieces = self.cols.div_ceil(PIECE);
            let piece = |i: u64| {
                let (row, start) = (rows.start + i / pieces, i % pieces * PIECE);
                Unit {
                    index: i as usize,
                    rows: row..row + 1,
                    cols: start..(start + PIECE).min(self.cols),
                }
            };
            return (0..(rows.end - rows.start) * pieces).map(piece).collect();
        }
        let starts = rows.clone().step_by(step as usize);
        let unit = |(index, start): (usize, u64)| Unit {
            index,
            rows: start..(start + step).min(rows.end),
            cols: 0..self.cols,
        };
        starts.enumerate().map(unit).collect()
    }

    /// The digests of the blocks of a unit, given its elements.
    pub fn digests(&self, unit: &Unit, elements: &[u32]) -> Vec<Digest> {
        self.of_blocks(unit, elements, digest)
    }

    /// The same by [`mixed`], which costs next to nothing: for the fingerprint of a source.
    pub fn mixed(&self, unit: &Unit, elements: &[u32]) -> Vec<Digest> {
        self.of_blocks(unit, elements, mixed)
    }

    /// The same by [`twofold`], which costs half of that: to tell within one run whether blocks that come back from disk or from a
    /// decoder are those that were there before.
    pub fn twofold(&self, unit: &Unit, elements: &[u32]) -> Vec<Digest> {
        self.of_blocks(unit, elements, twofold)
    }

    /// Those of a source, and these of what was made of it.
    pub fn mixed_and_twofold(&self, unit: &Unit, source: &[u32], made: &[u32]) -> [Vec<Digest>; 2] {
        let both = self.bytes_of_blocks(unit, source).zip(self.bytes_of_blocks(unit, made));
        let both = both.map(|(source, made)| mixed_and_twofold(source, made).into());
        let (mixed, twofold): (Vec<Digest>, Vec<Digest>) = both.unzip();
        [mixed, twofold]
    }

    fn of_blocks(&self, unit: &Unit, elements: &[u32], of: fn(&[u8]) -> Digest) -> Vec<Digest> {
        self.bytes_of_blocks(unit, elements).map(of).collect()
    }

    fn bytes_of_blocks<'e>(
        &self,
        unit: &Unit,
        elements: &'e [u32],
    ) -> impl Iterator<Item = &'e [u8]> + use<'e> {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let size = self.dtype.bytes(1);
        let all = &bytes[..unit.elements() * size];
        let block = match self.cuts_rows() {
            true => all.len(),
            false => (self.rows_per_block() * self.cols) as usize * size,
        };
        all.chunks(block.max(1))
    }

    /// How many blocks the tensor has.
    pub fn count(&self) -> u64 {
        match self.cuts_rows() {
            true => self.rows * self.cols.div_ceil(PIECE),
            false => self.rows.div_ceil(self.rows_per_block()),
        }
    }

    /// How many rows each block of a unit has.
    pub fn heights(&self, unit: &Unit) -> Vec<usize> {
        let (rows, step) = (unit.shape().0, self.rows_per_block() as usize);
        (0..rows).step_by(step).map(|row| step.min(rows - row)).collect()
    }

    /// The numbers of a unit's blocks.
    pub fn of_unit(&self, unit: &Unit) -> Range<usize> {
        let first = match self.cuts_rows() {
            true => unit.index,
            false => (unit.rows.start / self.rows_per_block()) as usize,
        };
        first..first + self.heights(unit).len()
    }

    /// The parts of a unit of whole rows that are its blocks, as ranges of its elements.
    pub fn spans(&self, unit: &Unit) -> Vec<Range<usize>> {
        let all = unit.elements();
        let block =
            if self.cuts_rows() { all } else { (self.rows_per_block() * self.cols) as usize };
        (0..all).step_by(block.max(1)).map(|start| start..(start + block).min(all)).collect()
    }
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

/// How the rows that share a palette lie in the blocks of a tensor. Which way a palette is found depends on nothing else,
/// least of all on the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRows {
    /// Every block holds whole tables: their palettes are found, from sorted weights, as blocks are encoded.
    InBlocks,
    /// A table is no longer than a block, but may lie in two: all palettes are found, from sorted weights, before.
    AcrossBlocks,
    /// A table is the tensor, or longer than a block: its palette is found from a histogram.
    Many,
}

impl TableRows {
    /// For tables of `size` elements.
    pub fn of(blocks: &Blocks, size: u64) -> Self {
        let (rows, per_block) = (size / blocks.cols.max(1), blocks.rows_per_block());
        match size == blocks.elements() || blocks.cuts_rows() || rows > per_block {
            true => Self::Many,
            false if per_block.is_multiple_of(rows) => Self::InBlocks,
            false => Self::AcrossBlocks,
        }
    }
}

/// Where the elements of a tensor come from, in the order of its matrix view.
#[derive(Debug)]
pub enum Source<'a> {
    /// A tensor of a checkpoint, read by position.
    File(&'a Checkpoint, &'a TensorInfo),
    /// A kept tensor of an archive, read through its digests.
    Archive(&'a Archive, &'a TensorInfo),
    /// A tensor whose matrix view is the transpose of its storage.
    Transposed(Strips<'a>),
    /// Elements that are in memory.
    Memory(&'a [u32]),
}

impl<'a> Source<'a> {
    /// A tensor of a checkpoint, as it is seen; with axis 1, its transpose, or that of every matrix of a stack.
    pub fn open(checkpoint: &'a Checkpoint, info: &'a TensorInfo, view: View) -> Self {
        match view.axis {
            0 => Self::File(checkpoint, info),
            _ => Self::Transposed(Strips::new(checkpoint, info, view)),
        }
    }

    /// The elements of a unit, as little-endian words.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read_at`] or [`Archive::read_at`].
    pub fn load(&self, blocks: &Blocks, unit: &Unit) -> Result<Vec<u32>> {
        let (size, len) = (blocks.dtype.bytes(1), unit.elements());
        let mut out = scratch::words(words(blocks.dtype, len));
        let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut out)[..len * size];
        self.read_at(unit.start(blocks) * size as u64, bytes)?;
        Ok(out)
    }

    /// Bytes of the tensor from `offset` on, whole elements.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read_at`] or [`Archive::read_at`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::File(checkpoint, info) => read_elements(checkpoint, info, offset, bytes),
            Self::Archive(archive, info) => archive.read_at(info, offset, bytes),
            Self::Transposed(strips) => strips.read_at(offset, bytes),
            Self::Memory(words) => {
                let all: &[u8] = bytemuck::cast_slice(words);
                bytes.copy_from_slice(&all[offset as usize..][..bytes.len()]);
                Ok(())
            }
        }
    }
}

/// Bytes of a tensor's elements in the order of storage, from `offset` on, whole elements: the one place that knows how they are
/// stored.
fn read_elements(
    checkpoint: &Checkpoint,
    info: &TensorInfo,
    offset: u64,
    bytes: &mut [u8],
) -> Result<()> {
    match &info.storage {
        Storage::Plain { offset: start } => checkpoint.read_at(info.file, start + offset, bytes),
        Storage::Scaled(scaled) => scaled::read_at(checkpoint, scaled, offset, bytes),
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
                let few = blocks.units_of(0..rows, 3);
                for units in [blocks.units(0), blocks.units(16 << 20), few] {
                    let mut next = 0;
                    for (i, unit) in units.into_iter().enumerate() {
                        assert_eq!((unit.index, unit.start(&blocks)), (i, next));
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
            blocks.units(bytes).into_iter().flat_map(of).collect()
        };
        assert_eq!(all(0), all(16 << 20));
        assert_eq!(all(0).len(), 6);
    }
}
