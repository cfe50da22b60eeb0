//! Arithmetic on types and shapes.

use crate::DType;

/// A row that is longer than a block is cut into pieces of this many elements: a multiple of 32, so that pieces of codes start on word
/// boundaries, and of every number to 16, so that no N:M group straddles two.
pub const PIECE: u64 = 1_441_440;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 32;

/// Bytes of a tensor, or `None` where they are no whole number below 2^64, or the product of its dimensions leaves that range
/// on the way, as the reference implementation has it.
///
/// # Example
///
/// ```
/// use tersor::{DType, form::described_bytes};
///
/// assert_eq!(described_bytes(DType::F4, &[2, 3]), Some(3));
/// assert_eq!(described_bytes(DType::F4, &[3]), None); // 12 bits are no whole bytes
/// ```
pub fn described_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bits() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// How a tensor is seen as a matrix, whose rows are channels: `[d0, d1, ...]` as d0 rows of all the rest, one dimension as one
/// row. A stack of matrices `[experts, out, in]` is `experts x out` rows, one matrix below the other, so that a channel of an
/// expert is a channel.
///
/// # Example
///
/// ```
/// use tersor::form::View;
///
/// let view = |axis, stack| View { axis, stack };
/// assert_eq!(view(0, false).matrix(&[64, 3, 5, 5]), (64, 75));
/// assert_eq!(view(1, false).matrix(&[3, 4]), (4, 3)); // stored [in, out]
/// assert_eq!(view(0, true).matrix(&[8, 2, 3]), (16, 3)); // eight experts, one below the other
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// 1 where rows are the columns of storage: of the tensor, or of every matrix of a stack.
    pub axis: u8,
    /// Whether the first of three dimensions numbers matrices.
    pub stack: bool,
}

impl View {
    /// How many matrices lie one below the other.
    pub fn matrices(self, shape: &[u64]) -> u64 {
        if self.stack { shape.first().copied().unwrap_or(1) } else { 1 }
    }

    /// Rows and columns.
    pub fn matrix(self, shape: &[u64]) -> (u64, u64) {
        let matrices = self.matrices(shape);
        let of_one = if self.stack { shape.get(1..).unwrap_or(&[]) } else { shape };
        let (rows, rest) = match of_one {
            [rows, rest @ ..] if !rest.is_empty() => (*rows, rest),
            one => (1, one),
        };
        // Where there are no rows the other dimensions may be too large to be multiplied.
        let cols = if rows == 0 { 0 } else { rest.iter().fold(1u64, |n, d| n.saturating_mul(*d)) };
        match self.axis {
            0 => (matrices.saturating_mul(rows), cols),
            _ => (matrices.saturating_mul(cols), rows),
        }
    }
}
