//! What coders would make of a tensor, from its histogram alone.

use crate::{
    DType,
    codec::stream::{self, Coder},
    decide::{
        histogram::Histogram,
        kmeans::{Bins, palette},
        order_key,
    },
};
use serde::Serialize;

/// Bits per element that codes would take, by how they are coded; zeros as pruned weights, which an index tells. Headers, tables
/// of values and lists of block lengths are left out; where survivors are not spread evenly, the index takes less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CodeBits {
    /// Packed codes, and a bit for every element where there are zeros.
    pub raw: f64,
    /// Prefix codes, and the order-0 entropy of the index.
    pub huffman: f64,
    /// Asymmetric numeral systems, and the same.
    pub rans: f64,
}

impl CodeBits {
    /// The optimal palette of `bits` bits of what is not zero.
    pub(super) fn of_palette(histogram: &Histogram, bins: &Bins, bits: u32) -> Option<Self> {
        let survive = |(value, _): &(&f64, &f64)| **value != 0.0 && value.is_finite();
        let survivors = bins.values.iter().zip(&bins.weights).filter(survive);
        let survivors = Bins::of_sorted(survivors.map(|(value, n)| (*value, *n)));
        if survivors.values.is_empty() || histogram.nonfinite() > 0 {
            return None;
        }
        let palette = palette(&survivors, 1 << bits, histogram.dtype());
        let mut counts = [0u64; 256];
        for (value, n) in survivors.values.iter().zip(&survivors.weights) {
            let below = |threshold: &f32| f64::from(*threshold) < *value;
            counts[palette.thresholds.partition_point(below)] += *n as u64;
        }
        let all = histogram.total() as f64;
        let kept = counts.iter().sum::<u64>() as f64 / all;
        let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
        let index = part(kept) + part(1.0 - kept);
        let coded = |coder| index + 8.0 * stream::cost(&counts, bits, coder) as f64 / all;
        let mask = if kept < 1.0 { 1.0 } else { 0.0 };
        Some(Self {
            raw: mask + f64::from(bits) * kept,
            huffman: coded(Coder::Huffman),
            rans: coded(Coder::Rans),
        })
    }
}

/// The order-0 entropy of the exponents, and the bits beside them.
pub(super) fn lossless_bits(histogram: &Histogram) -> Option<f64> {
    let (sign_and_mantissa, pattern): (u32, fn(&Histogram, usize) -> u32) = match histogram.dtype()
    {
        DType::F32 => (24, |_, bin| order_key::to_f32((bin as u32) << 12).to_bits() >> 23),
        DType::BF16 => (8, |h, bin| h.pattern(bin) >> 7),
        DType::F16 => (11, |h, bin| h.pattern(bin) >> 10),
        DType::F8E4M3 => (4, |h, bin| h.pattern(bin) >> 3),
        DType::F8E5M2 => (3, |h, bin| h.pattern(bin) >> 2),
        _ => return None,
    };
    let exponents = histogram.dtype().bits() - sign_and_mantissa as usize;
    let mut counts = vec![0u64; 1 << exponents];
    for (bin, n) in histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        counts[pattern(histogram, bin) as usize & ((1 << exponents) - 1)] += n;
    }
    let n = histogram.total() as f64;
    let bits = |c: &u64| *c as f64 / n * (n / *c as f64).log2();
    let entropy: f64 = counts.iter().filter(|c| **c > 0).map(bits).sum();
    Some(entropy + f64::from(sign_and_mantissa))
}
