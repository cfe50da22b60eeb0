//! The hash of positions that retrieval structures draw their equations from.

/// A result that no structure gives: results have at most 15 bits.
pub(crate) const NONE: u16 = u16::MAX;

/// A permutation of the 32-bit numbers that looks random: Wellons 2018, "lowbias32".
#[inline(always)]
pub(crate) fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

/// What seeds are multiples of.
pub(crate) const STEP: u32 = 0x9e37_79b9;

/// `floor(a b / 2^32)`.
#[inline(always)]
pub(crate) fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}
