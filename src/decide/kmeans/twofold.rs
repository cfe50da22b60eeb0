//! Numbers of twice the precision of f64, as unevaluated sums of two: 106 bits, so that what a difference leaves of two sums is
//! still exact to an f64 where one is 10^15 times what is left.
//!
//! Only `+ - * /` of f64, none of them fused, so that every machine computes the same.
//!
//! Sources: Dekker 1971, "A floating-point technique for extending the available precision"; Hida, Li, Bailey 2001.

use std::ops::{Add, Mul, Sub};

/// `high + low`, where `high` is the sum rounded to f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(super) struct Twofold {
    high: f64,
    low: f64,
}

/// The sum of two, and what its rounding has lost.
#[inline(always)]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// The same where `a` is zero or not below `b` in magnitude.
#[inline(always)]
fn fast_two_sum(a: f64, b: f64) -> Twofold {
    let high = a + b;
    Twofold { high, low: b - (high - a) }
}

/// Halves of 26 bits, whose products are exact.
#[inline(always)]
fn split(a: f64) -> (f64, f64) {
    let shifted = 134_217_729.0 * a;
    let high = shifted - (shifted - a);
    (high, a - high)
}

impl Twofold {
    pub(super) const ZERO: Self = Self { high: 0.0, low: 0.0 };
    pub(super) const INFINITY: Self = Self { high: f64::INFINITY, low: 0.0 };

    pub(super) const fn new(value: f64) -> Self {
        Self { high: value, low: 0.0 }
    }

    /// `a b`, exactly, where it neither overflows nor underflows.
    #[inline(always)]
    pub(super) fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        let ((a1, a2), (b1, b2)) = (split(a), split(b));
        Self { high, low: ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2 }
    }

    /// Rounded to f64.
    #[inline(always)]
    pub(super) fn value(self) -> f64 {
        self.high
    }
}

/// To within 2^-104 of the larger magnitude.
impl Add for Twofold {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (high, lost) = two_sum(self.high, other.high);
        fast_two_sum(high, lost + (self.low + other.low))
    }
}

impl Sub for Twofold {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self + Self { high: -other.high, low: -other.low }
    }
}

/// To within 2^-104 of the product.
impl Mul<f64> for Twofold {
    type Output = Self;

    #[inline(always)]
    fn mul(self, factor: f64) -> Self {
        let product = Self::product(self.high, factor);
        fast_two_sum(product.high, product.low + self.low * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_keep_what_a_single_f64_has_lost() {
        let new = Twofold::new;
        let sum = new(1e20) + new(1.0) + new(1e-10);
        assert_eq!((sum - new(1e20)).value(), 1.0 + 1e-10);
        let square = Twofold::product(1e16 + 2.0, 1e16 + 2.0);
        assert_eq!((square - Twofold::product(1e16, 1e16) - new(4e16)).value(), 4.0);
        // (1 - 2^-54) / 3 is the f64 next to a third.
        let third = 1.0 / 3.0;
        assert_eq!((Twofold::product(third, third) * 9.0 - new(1.0)).value(), -0.5 * f64::EPSILON);
        assert!(new(1.0) < new(1.0) + new(1e-30) && Twofold::ZERO < Twofold::INFINITY);
        // Halves are split exactly at both ends of what squares of f32 values reach.
        for v in [f32::MAX, f32::from_bits(1), 1.0 + f32::EPSILON] {
            let square = Twofold::product(f64::from(v), f64::from(v));
            assert_eq!((square.high, square.low), (f64::from(v) * f64::from(v), 0.0));
        }
    }
}
