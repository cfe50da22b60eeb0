//! Codes with scales beside them, decoded as they are read.

use crate::{
    DType, Result, Scaled,
    dtype::{decode, f8_table},
    format::Checkpoint,
};

/// Elements that are decoded at a time.
const AT_ONCE: u64 = 1 << 18;

/// The values of the codes of 4 bits: a sign, and one of eight magnitudes.
const F4: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Bytes of the elements, which are F32, from `offset` on.
///
/// # Errors
///
/// As [`Checkpoint::read_at`].
pub(super) fn read_at(
    checkpoint: &Checkpoint,
    scaled: &Scaled,
    offset: u64,
    bytes: &mut [u8],
) -> Result<()> {
    let first = offset / 4;
    for (at, part) in
        (first..).step_by(AT_ONCE as usize).zip(bytes.chunks_mut(4 * AT_ONCE as usize))
    {
        let mut values = codes(checkpoint, scaled, at, part.len() / 4)?;
        multiply(checkpoint, scaled, at, &mut values)?;
        for (bytes, x) in part.chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&x.to_le_bytes());
        }
    }
    Ok(())
}

/// The values of the codes of some elements.
fn codes(checkpoint: &Checkpoint, scaled: &Scaled, first: u64, len: usize) -> Result<Vec<f32>> {
    let stored = scaled.codes;
    if stored.dtype == DType::F4 {
        let end = first + len as u64;
        let mut bytes = vec![0; (end.div_ceil(2) - first / 2) as usize];
        checkpoint.read_at(stored.file, stored.offset + first / 2, &mut bytes)?;
        let halves = bytes.iter().flat_map(|b| [b & 15, b >> 4]);
        let wanted = halves.skip((first % 2) as usize).take(len);
        return Ok(wanted.map(|code| F4[usize::from(code)]).collect());
    }
    let mut bytes = vec![0; len];
    checkpoint.read_at(stored.file, stored.offset + first, &mut bytes)?;
    let table = f8_table(stored.dtype);
    Ok(bytes.iter().map(|code| table[usize::from(*code)]).collect())
}

/// Multiplies the codes of the elements from `first` on with their scales.
fn multiply(
    checkpoint: &Checkpoint,
    scaled: &Scaled,
    first: u64,
    values: &mut [f32],
) -> Result<()> {
    let Scaled { matrix: [rows, cols], tile: [tile_rows, tile_cols], .. } = *scaled;
    let across = cols.div_ceil(tile_cols);
    // The row of scales of a row: those of all matrices are one below the other.
    let of_row = |row: u64| row / rows * rows.div_ceil(tile_rows) + row % rows / tile_rows;
    let last = (first + values.len() as u64 - 1) / cols;
    let top = of_row(first / cols);
    let scales =
        scales(checkpoint, scaled, top * across, ((of_row(last) + 1 - top) * across) as usize)?;
    let (mut at, mut rest) = (first, values);
    while !rest.is_empty() {
        // Up to the end of the tile in this row.
        let (row, col) = (at / cols, at % cols);
        let end = ((col / tile_cols + 1) * tile_cols).min(cols);
        let len = ((end - col) as usize).min(rest.len());
        let scale = scales[((of_row(row) - top) * across + col / tile_cols) as usize];
        let (now, later) = rest.split_at_mut(len);
        now.iter_mut().for_each(|x| *x *= scale);
        (at, rest) = (at + len as u64, later);
    }
    Ok(())
}

/// Some of the scales.
fn scales(checkpoint: &Checkpoint, scaled: &Scaled, first: u64, len: usize) -> Result<Vec<f32>> {
    let stored = scaled.scales;
    let size = stored.dtype.bytes(1);
    let mut words = vec![0u32; crate::words(stored.dtype, len)];
    let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..len * size];
    checkpoint.read_at(stored.file, stored.offset + first * size as u64, bytes)?;
    if stored.dtype == DType::F8E8M0 {
        return Ok(bytes.iter().map(|e| power(*e)).collect());
    }
    let mut scales = vec![0.0; len];
    decode(stored.dtype, &words, 0, &mut scales);
    Ok(scales)
}

/// 2^(e - 127), the value of F8_E8M0; 255 is no number.
fn power(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        e => f32::from_bits(u32::from(e) << 23),
    }
}
