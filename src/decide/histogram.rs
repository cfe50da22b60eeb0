//! Exact histograms of weights, and what follows from them.

use crate::{
    DType,
    decide::{kmeans::Bins, order_key},
    dtype,
};
use std::ops::{AddAssign, Mul};

/// Values that share a bin of the [histogram](crate::kernels::order::histogram::histogram()) of F32.
pub const TAIL: usize = 4096;

/// What a histogram adds up: how often a weight occurs, as `u64`, or how important it is, as `u128`.
pub trait Count: Copy + Default + PartialOrd + From<u32> + AddAssign + Mul<Output = Self> {
    /// Rounded to f64.
    fn to_f64(self) -> f64;
}

impl Count for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Count for u128 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

/// The exact histogram of a tensor's patterns, in the order of their values.
///
/// Types of 16 and 8 bits have a bin for every pattern. F32, and F64 rounded to it, have one for the top 20 bits of the order
/// key (sign, exponent, 11 bits of mantissa), and the integer sum of the 12 bits below: from it the mean of the bin is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<N = u64> {
    dtype: DType,
    /// How many weights fall into each bin.
    pub counts: Vec<N>,
    /// Sum of the low 12 bits of the keys in each bin; empty for the narrow types.
    pub lows: Vec<N>,
}

impl Histogram {
    /// One that has seen nothing.
    pub fn new(dtype: DType) -> Self {
        Self::of_nothing(dtype)
    }

    /// How many weights it has seen.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them were NaN or infinite.
    pub fn nonfinite(&self) -> u64 {
        // A wide bin that starts finite is finite: the largest finite keys end their bins.
        let start = |b: usize| {
            if self.lows.is_empty() { self.value(b) } else { order_key::to_f32((b as u32) << 12) }
        };
        (0..self.counts.len())
            .filter(|b| self.counts[*b] > 0 && !start(*b).is_finite())
            .map(|b| self.counts[b])
            .sum()
    }
}

impl<N: Count> Histogram<N> {
    /// One that has seen nothing.
    pub fn of_nothing(dtype: DType) -> Self {
        let wide = matches!(dtype, DType::F32 | DType::F64);
        let bins = if wide { 1 << 20 } else { 1 << dtype.bits() };
        let none = N::default();
        Self { dtype, counts: vec![none; bins], lows: vec![none; if wide { bins } else { 0 }] }
    }

    /// Adds what another has seen of the same type.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += *b);
        self.lows.iter_mut().zip(&other.lows).for_each(|(a, b)| *a += *b);
    }

    /// The type of the tensor.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The pattern of a bin of a narrow type.
    pub(crate) fn pattern(&self, bin: usize) -> u32 {
        let sign = 1 << (self.dtype.bits() - 1);
        (if bin & sign != 0 { bin & !sign } else { !bin & (2 * sign - 1) }) as u32
    }

    /// The value of a bin of a narrow type.
    pub(crate) fn value(&self, bin: usize) -> f32 {
        let mut value = [0.0];
        dtype::decode(self.dtype, &[self.pattern(bin)], 0, &mut value);
        value[0]
    }

    /// The occupied bins with their means; both zeros are one value.
    pub fn bins(&self) -> Bins {
        let occupied = (0..self.counts.len()).filter(|b| self.counts[*b] > N::default());
        if self.lows.is_empty() {
            return Bins::of_sorted(
                occupied.map(|b| (f64::from(self.value(b)), self.counts[b].to_f64())),
            );
        }
        Bins::of_sorted(
            occupied
                .map(|b| (Self::mean(b, self.counts[b], self.lows[b]), self.counts[b].to_f64())),
        )
    }

    /// The mean of `n` weights of a wide bin, from the sum of their low bits.
    pub(crate) fn mean(bin: usize, n: N, lows: N) -> f64 {
        // One bin has one exponent, so values are linear in their keys; -0 ends its bin and +0 starts the next.
        // Multiplied before it is divided, so that a bin of equal weights gives exactly their value.
        let (start, end) = ends(bin);
        start + (end - start) * (lows.to_f64() / n.to_f64()) / 4095.0
    }

    /// The most that Σ (w - mean)² can be in a wide bin: the variance of numbers from 0 to 4095 of mean m is at most
    /// `m (4095 - m)` (Bhatia and Davis 2000).
    pub(crate) fn hides(&self, bin: usize) -> f64 {
        let n = self.counts[bin].to_f64();
        if n <= 1.0 {
            return 0.0;
        }
        let (start, end) = ends(bin);
        let ulp = (end - start) / 4095.0;
        let mean = self.lows[bin].to_f64() / n;
        n * (mean * (4095.0 - mean)) * (ulp * ulp)
    }

    /// The wide bins that may hold different values, with that.
    pub(crate) fn hidden(&self) -> Vec<(u32, f64)> {
        let most = (0..self.lows.len()).map(|b| (b as u32, self.hides(b)));
        most.filter(|(_, hidden)| *hidden > 0.0).collect()
    }
}

/// The smallest and the largest value of a wide bin.
pub(crate) fn ends(bin: usize) -> (f64, f64) {
    let key = (bin as u32) << 12;
    (f64::from(order_key::to_f32(key)), f64::from(order_key::to_f32(key | 0xfff)))
}
