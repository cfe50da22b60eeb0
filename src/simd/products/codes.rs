//! Matrices of 8-bit codes, four to a word.

/// A matrix of codes, and whether they are signed.
pub(super) type Codes<'a> = (&'a [u32], bool);
