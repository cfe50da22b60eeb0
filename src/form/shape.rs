//! Arithmetic on types and shapes.

use crate::DType;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 32;

/// Bytes of a tensor, or `None` where they are no whole number below 2^64, or the product of its dimensions leaves that range
/// on the way, as the reference implementation has it.
pub fn described_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bits() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Rows and columns of the matrix view of a shape, its sides swapped for axis 1.
pub fn matrix(shape: &[u64], axis: u8) -> (u64, u64) {
    let (rows, rest) = match shape {
        [rows, rest @ ..] if !rest.is_empty() => (*rows, rest),
        one => (1, one),
    };
    // Where there are no rows the other dimensions may be too large to be multiplied.
    let cols = if rows == 0 { 0 } else { rest.iter().fold(1u64, |n, d| n.saturating_mul(*d)) };
    if axis == 0 { (rows, cols) } else { (cols, rows) }
}

/// 32-bit words that a row of codes takes.
pub fn words_per_row(cols: u64, bits: u8) -> u64 {
    (cols * u64::from(bits)).div_ceil(32)
}
