//! Matrices whose rows are the columns of storage, or stacks of such matrices: read and written a strip of columns at a time.

use crate::{
    DType, Result, TensorInfo,
    form::View,
    format::Checkpoint,
    stage::{Blocks, Unit, read_elements},
    words,
};
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes of a strip, unless a block has more: as wide as makes reading its part of every row of storage worth a call.
pub const STRIP_BYTES: u64 = 4 << 20;

/// Rows of storage that are shorter than this are read whole: that costs less than a call for a part of each.
const SHORT: usize = 4096;

/// Bytes of storage that are read before they are transposed.
const READ: usize = 1 << 20;

/// The transpose of a tensor, or of every matrix of a stack, of which a strip for every thread is held, and one more.
#[derive(Debug)]
pub struct Strips<'a> {
    checkpoint: &'a Checkpoint,
    info: &'a TensorInfo,
    /// Of the matrix view.
    blocks: Blocks,
    /// Rows of the matrix view that are the columns of one matrix.
    height: u64,
    /// Rows of the matrix view in a strip.
    rows: u64,
    /// Those that were used last, the latest at the end.
    held: Mutex<Vec<(u64, Strip)>>,
}

/// The elements of a strip once they are there; whoever comes meanwhile waits.
type Strip = Arc<Mutex<Option<Arc<Vec<u32>>>>>;

impl<'a> Strips<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, info: &'a TensorInfo, view: View) -> Self {
        let blocks = Blocks::new(info.dtype, view.matrix(&info.shape));
        let height = blocks.rows / view.matrices(&info.shape).max(1);
        let per_block = blocks.rows_per_block();
        let block_bytes = per_block * blocks.cols * info.dtype.bytes(1) as u64;
        let rows = per_block * (STRIP_BYTES / block_bytes.max(1)).max(1);
        Self { checkpoint, info, blocks, height, rows, held: Mutex::default() }
    }

    /// Bytes of the matrix view from `offset` on, whole elements.
    pub(super) fn read_at(&self, offset: u64, mut bytes: &mut [u8]) -> Result<()> {
        let size = self.info.dtype.bytes(1) as u64;
        let mut at = offset / size;
        while !bytes.is_empty() {
            let (row, col) = (at / self.blocks.cols, at % self.blocks.cols);
            let rest = bytes.len() as u64 / size;
            let (part, first, len) = match self.blocks.cuts_rows() {
                true => {
                    // A piece of a long row is wanted once: there is no use in holding it.
                    let len = rest.min(self.blocks.cols - col);
                    (Arc::new(self.read(row..row + 1, col..col + len)?), 0, len)
                }
                false => {
                    let start = row / self.rows * self.rows;
                    let first = at - start * self.blocks.cols;
                    let end = (start + self.rows).min(self.blocks.rows);
                    (self.strip(start..end)?, first, rest.min(end * self.blocks.cols - at))
                }
            };
            let (now, later) = bytes.split_at_mut((len * size) as usize);
            let from = (first * size) as usize;
            now.copy_from_slice(&bytemuck::cast_slice::<u32, u8>(&part)[from..from + now.len()]);
            bytes = later;
            at += len;
        }
        Ok(())
    }

    fn strip(&self, rows: Range<u64>) -> Result<Arc<Vec<u32>>> {
        let strip = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let found = held.iter().position(|(start, _)| *start == rows.start);
            let strip = found.map_or_else(Strip::default, |i| held.remove(i).1);
            held.push((rows.start, strip.clone()));
            if held.len() > rayon::current_num_threads() + 1 {
                held.remove(0);
            }
            strip
        };
        let mut strip = strip.lock().unwrap_or_else(PoisonError::into_inner);
        match &*strip {
            Some(elements) => Ok(elements.clone()),
            None => {
                let elements = Arc::new(self.read(rows, 0..self.blocks.cols)?);
                *strip = Some(elements.clone());
                Ok(elements)
            }
        }
    }

    /// Rows and columns of the matrix view, row by row: columns and rows of storage.
    fn read(&self, rows: Range<u64>, cols: Range<u64>) -> Result<Vec<u32>> {
        let dtype = self.info.dtype;
        let width = (cols.end - cols.start) as usize;
        let mut out = vec![0; words(dtype, (rows.end - rows.start) as usize * width)];
        let mut rest: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        for (matrix, of_matrix) in by_matrix(rows, self.height) {
            let len = dtype.bytes((of_matrix.end - of_matrix.start) as usize * width);
            let (here, after) = rest.split_at_mut(len);
            self.read_of(matrix, of_matrix, cols.clone(), here)?;
            rest = after;
        }
        Ok(out)
    }

    /// Those of one matrix, its rows counted from its first.
    fn read_of(
        &self,
        matrix: u64,
        rows: Range<u64>,
        cols: Range<u64>,
        out: &mut [u8],
    ) -> Result<()> {
        let dtype = self.info.dtype;
        let size = dtype.bytes(1);
        let (height, width) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        let stored = self.height as usize;
        // Whole rows of storage, or of each the part that becomes these rows.
        let whole = height == stored || stored * size <= SHORT;
        let (stride, first) = if whole { (stored, rows.start as usize) } else { (height, 0) };
        let at_once = (READ / (stride * size)).clamp(1, width.max(1));
        let mut buffer = vec![0; words(dtype, at_once * stride)];
        for from in (0..width).step_by(at_once) {
            let count = at_once.min(width - from);
            let bytes: &mut [u8] =
                &mut bytemuck::cast_slice_mut(&mut buffer)[..count * stride * size];
            let offset = |i: usize, skip: u64| {
                let row = matrix * self.blocks.cols + cols.start + (from + i) as u64;
                (row * self.height + skip) * size as u64
            };
            match whole {
                true => read_elements(self.checkpoint, self.info, offset(0, 0), bytes)?,
                false => {
                    for (i, part) in bytes.chunks_mut(stride * size).enumerate() {
                        read_elements(self.checkpoint, self.info, offset(i, rows.start), part)?;
                    }
                }
            }
            let from_rows = Part { bytes: &*bytes, first, stride };
            let to_columns = Part { bytes: &mut *out, first: from, stride: width };
            transpose(dtype, from_rows, to_columns, (count, height));
        }
        Ok(())
    }
}

/// Cuts rows of the view of a stack where a matrix of `height` rows ends: the number of each, and its rows, counted from its
/// first.
fn by_matrix(rows: Range<u64>, height: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let matrices = match rows.is_empty() {
        true => 0..0,
        false => rows.start / height..(rows.end - 1) / height + 1,
    };
    matrices.map(move |m| {
        let first = m * height;
        (m, rows.start.max(first) - first..rows.end.min(first + height) - first)
    })
}

/// How many of a tensor's units make a strip to be written.
pub fn units_per_strip(blocks: &Blocks, units: &[Unit]) -> usize {
    let bytes = units.first().map_or(1, |u| blocks.dtype.bytes(u.elements().max(1)));
    if blocks.cuts_rows() { 1 } else { (STRIP_BYTES as usize / bytes).max(1) }
}

/// Writes the elements of consecutive units, whole rows or one piece, to where they belong in storage, which has `matrices`
/// matrices one after the other: `write` is given the offset and the bytes of each part.
///
/// # Errors
///
/// Those of `write`.
pub fn write_transposed(
    blocks: &Blocks,
    matrices: u64,
    units: &[Unit],
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let (Some(first), Some(last)) = (units.first(), units.last()) else { return Ok(()) };
    let (size, width, height) =
        (blocks.dtype.bytes(1), first.shape().1, blocks.rows / matrices.max(1));
    let mut rest = bytes;
    for (matrix, rows) in by_matrix(first.rows.start..last.rows.end, height) {
        let of_matrix = (rows.end - rows.start) as usize;
        let (here, after) = rest.split_at(of_matrix * width * size);
        rest = after;
        let mut out = vec![0; here.len()];
        let from_rows = Part { bytes: here, first: 0, stride: width };
        let to_columns = Part { bytes: &mut out[..], first: 0, stride: of_matrix };
        transpose(blocks.dtype, from_rows, to_columns, (of_matrix, width));
        for (part, row) in out.chunks(of_matrix * size).zip(first.cols.clone()) {
            let row = matrix * blocks.cols + row;
            write((row * height + rows.start) * size as u64, part)?;
        }
    }
    Ok(())
}

/// A matrix within the bytes of a larger one: where it starts, and how far its rows are apart, in elements.
struct Part<B> {
    bytes: B,
    first: usize,
    stride: usize,
}

/// Writes the transpose of a matrix of `shape` rows and columns: `to[c, r] = from[r, c]`.
fn transpose(dtype: DType, from: Part<&[u8]>, to: Part<&mut [u8]>, shape: (usize, usize)) {
    match dtype.bits() {
        64 => transpose_of::<[u8; 8]>(from, to, shape),
        32 => transpose_of::<[u8; 4]>(from, to, shape),
        16 => transpose_of::<[u8; 2]>(from, to, shape),
        _ => transpose_of::<u8>(from, to, shape),
    }
}

fn transpose_of<T: bytemuck::Pod>(
    from: Part<&[u8]>,
    to: Part<&mut [u8]>,
    (rows, cols): (usize, usize),
) {
    let whole = to.bytes.len() / size_of::<T>() * size_of::<T>();
    let source: &[T] = bytemuck::cast_slice(from.bytes);
    let target: &mut [T] = bytemuck::cast_slice_mut(&mut to.bytes[..whole]);
    // Square tiles, so that both sides stay in the cache.
    const TILE: usize = 64;
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..cols).step_by(TILE) {
            for r in r0..rows.min(r0 + TILE) {
                for c in c0..cols.min(c0 + TILE) {
                    target[to.first + c * to.stride + r] = source[from.first + r * from.stride + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Source;

    #[test]
    fn transposing_twice_changes_nothing() {
        let transposed = |dtype, bytes: &[u8], rows, cols| {
            let mut out = vec![0; bytes.len()];
            let to = Part { bytes: &mut out[..], first: 0, stride: rows };
            transpose(dtype, Part { bytes, first: 0, stride: cols }, to, (rows, cols));
            out
        };
        for dtype in [DType::F64, DType::F32, DType::F16, DType::F8E4M3] {
            let data: Vec<u8> = (0..70 * dtype.bytes(130))
                .map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 20) as u8)
                .collect();
            let there = transposed(dtype, &data, 70, 130);
            assert_ne!(there, data);
            assert_eq!(transposed(dtype, &there, 130, 70), data);
        }
        let four = transposed(DType::F16, &[1, 0, 2, 0, 3, 0, 4, 0], 2, 2);
        assert_eq!(four, [1, 0, 3, 0, 2, 0, 4, 0]);
    }

    /// Several strips, short and long rows of storage, a view whose rows are cut, every width of elements, and stacks whose
    /// matrices end within strips, within units and with them.
    #[test]
    fn strips_are_the_transpose() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.safetensors");
        for (dtype, matrices, rows, cols) in [
            (DType::F32, 0, 3000, 1100),
            (DType::F64, 0, 1000, 1001),
            (DType::BF16, 0, 1_500_001, 3),
            (DType::F8E5M2, 0, 1_000_003, 9),
            (DType::F32, 0, 1, 7),
            (DType::F16, 0, 7, 1),
            (DType::F32, 1, 30, 1100),
            (DType::F32, 3, 1000, 1100),
            (DType::BF16, 40, 500, 77),
            (DType::F8E4M3, 2000, 3, 501),
            (DType::F64, 2, 1_450_000, 2),
        ] {
            // No matrices: of two dimensions.
            let (view, shape) = match matrices {
                0 => (View { axis: 1, stack: false }, vec![rows, cols]),
                n => (View { axis: 1, stack: true }, vec![n, rows, cols]),
            };
            let matrices = matrices.max(1);
            let size = dtype.bytes(1);
            let bytes: Vec<u8> = (0..matrices * rows * cols * size)
                .map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            let header = format!(
                r#"{{"w":{{"dtype":"{}","shape":{shape:?},"data_offsets":[0,{}]}}}}"#,
                dtype.name(),
                bytes.len()
            );
            let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
            let length = (header.len() as u64).to_le_bytes();
            std::fs::write(&path, [&length[..], header.as_bytes(), &bytes].concat()).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            let source = Source::open(&checkpoint, &checkpoint.tensors[0], view);
            let blocks = Blocks::new(dtype, ((matrices * cols) as u64, rows as u64));
            let units = blocks.units(0);
            let mut back = vec![0; bytes.len()];
            for strip in units.chunks(units_per_strip(&blocks, &units)) {
                let elements = strip.iter().flat_map(|unit| {
                    let words = source.load(&blocks, unit).unwrap();
                    bytemuck::cast_slice::<u32, u8>(&words)[..unit.elements() * size].to_vec()
                });
                let elements = elements.collect::<Vec<u8>>();
                write_transposed(&blocks, matrices as u64, strip, &elements, |at, part| {
                    back[at as usize..][..part.len()].copy_from_slice(part);
                    Ok(())
                })
                .unwrap();
            }
            assert!(back == bytes, "{dtype:?}: what was read is not what is written back");
            for unit in &units {
                let got = source.load(&blocks, unit).unwrap();
                let got = &bytemuck::cast_slice::<u32, u8>(&got)[..unit.elements() * size];
                let start = unit.start(&blocks) as usize;
                for (i, element) in got.chunks(size).enumerate().step_by(7) {
                    let (of_view, r) = ((start + i) / rows, (start + i) % rows);
                    let (m, c) = (of_view / cols, of_view % cols);
                    assert_eq!(
                        element,
                        &bytes[((m * rows + r) * cols + c) * size..][..size],
                        "{dtype:?} {r} {c}"
                    );
                }
            }
            assert!(units.len() > 1 || rows * cols < 100_000, "{dtype:?}");
        }
    }
}
