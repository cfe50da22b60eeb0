//! Affine codes: how the scale of a group follows from its weights. On the host, in f64, exact.
//!
//! Source: Jacob et al. 2018, arXiv 1712.05877; symmetric weights: Krishnamoorthi 2018, arXiv 1806.08342.

use crate::{DType, decide::range::Range, dtype};
use serde::{Deserialize, Serialize};

/// Magnitudes below this cannot be scaled without leaving the normal numbers: such a group becomes all zero.
pub(crate) const SMALLEST: f32 = f32::from_bits((127 - 110) << 23);

/// The alphabet of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffineCode {
    /// Bits per code, 2 to 8.
    pub bits: u8,
    /// Codes are signed and zero is code 0; otherwise they start at 0 and zero is the zero point.
    pub symmetric: bool,
}

/// Scale and zero point of a group: a code stands for `(code - zero_point) * scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// Weight per step; 0 for a group that is all zero.
    pub scale: f32,
    /// The code of zero; 0 for symmetric codes.
    pub zero_point: u8,
}

/// The type that scales are stored in. A scale is rounded to it before weights become codes, so that these are the best for what is
/// stored; products and restoring take it as the f32 that it is.
///
/// BF16, not F16, is the one of two bytes: it has the exponents of F32, so that every scale has one that is off by at most one part
/// in 512, whatever the weights are. That moves the outermost code of b bits by `2^(b - 1) / 512` of a step, which is nothing beside the
/// rounding of weights to whole steps but for 8 bits, which it costs 2 to 3 % of their squared error in groups of 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleType {
    /// Four bytes: as they are.
    #[default]
    F32,
    /// Two bytes.
    Bf16,
}

impl ScaleType {
    /// What a component of them has.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// That of a component.
    pub(crate) fn of_dtype(dtype: DType) -> Option<Self> {
        [Self::F32, Self::Bf16].into_iter().find(|t| t.dtype() == dtype)
    }

    /// The nearest scale of this type, of two the even one; beyond the largest, that.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::affine::ScaleType;
    ///
    /// assert_eq!(ScaleType::F32.round(0.1), 0.1);
    /// assert_eq!(ScaleType::Bf16.round(0.1), 205.0 / 2048.0);
    /// assert_eq!(ScaleType::Bf16.round(1e-33), f32::from_bits(0x08a6_0000)); // Where F16 has only 0.
    /// ```
    pub fn round(self, scale: f32) -> f32 {
        let (mut word, mut rounded) = ([0], [0.0]);
        dtype::encode(self.dtype(), &[scale], &mut word, 0);
        dtype::decode(self.dtype(), &word, 0, &mut rounded);
        rounded[0]
    }
}

impl AffineCode {
    /// Smallest and largest code: -127 to 127 for 8 bits, so that integer products are safe everywhere.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::affine::AffineCode;
    ///
    /// let limits = |bits, symmetric| AffineCode { bits, symmetric }.limits();
    /// assert_eq!([limits(8, true), limits(4, true)], [(-127, 127), (-8, 7)]);
    /// assert_eq!(limits(4, false), (0, 15));
    /// ```
    pub fn limits(self) -> (i32, i32) {
        let half = 1 << (self.bits - 1);
        match (self.symmetric, self.bits) {
            (true, 8) => (-127, 127),
            (true, _) => (-half, half - 1),
            (false, _) => (0, 2 * half - 1),
        }
    }

    /// Steps that the range is divided into: qmax, or the largest code of asymmetric ones.
    fn steps(self) -> f64 {
        f64::from(self.limits().1)
    }

    /// What the steps divide: the largest magnitude, or the range widened to hold zero.
    fn extent(self, range: Range) -> (f64, f64) {
        if self.symmetric {
            return (0.0, f64::from(range.absmax()));
        }
        (f64::from(range.min).min(0.0), f64::from(range.max).max(0.0))
    }

    /// The scale of a group whose range is clipped at `clip` 64ths; 64 for no clipping.
    ///
    /// `scale = f32(f64(high - low) * clip / 64 / steps)`, zero if the largest magnitude is below 2^-110;
    /// `zero_point = rne(-low * clip / 64 / scale)`, clamped to the codes.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::{affine::{AffineCode, Scale}, kernels::Range};
    ///
    /// let range = Range { min: -2.0, max: 13.0 };
    /// // 15 steps of 1 from -2 on; or 7 steps up to 13.
    /// let uint4 = AffineCode { bits: 4, symmetric: false };
    /// assert_eq!(uint4.scale(range, 64), Scale { scale: 1.0, zero_point: 2 });
    /// let int4 = AffineCode { bits: 4, symmetric: true };
    /// assert_eq!(int4.scale(range, 64), Scale { scale: 13.0 / 7.0, zero_point: 0 });
    /// // Clipped at half of the range.
    /// assert_eq!(uint4.scale(range, 32), Scale { scale: 0.5, zero_point: 2 });
    /// ```
    pub fn scale(self, range: Range, clip: u32) -> Scale {
        self.scale_in(ScaleType::F32, range, clip)
    }

    /// The same, stored as another type: `scale` is rounded to it, and then `zero_point` follows.
    pub fn scale_in(self, stored: ScaleType, range: Range, clip: u32) -> Scale {
        if range.absmax() < SMALLEST {
            return Scale::default();
        }
        let (low, high) = self.extent(range);
        let fraction = f64::from(clip) / 64.0;
        let scale = stored.round(((high - low) * fraction / self.steps()) as f32);
        let zero_point =
            (-low * fraction / f64::from(scale)).round_ties_even().clamp(0.0, self.steps());
        Scale { scale, zero_point: if self.symmetric { 0 } else { zero_point as u8 } }
    }
}

impl Scale {
    /// Codes per weight: `f32(1 / f64(scale))`, 0 for a scale of 0.
    pub fn inverse(self) -> f32 {
        if self.scale == 0.0 { 0.0 } else { (1.0 / f64::from(self.scale)) as f32 }
    }
}

/// The clips that the search for the least squared error tries, in 64ths of the range.
pub const CLIPS: std::ops::RangeInclusive<u32> = 32..=64;

/// How many they are.
pub const CLIP_COUNT: usize = 33;

/// Sums of squared errors of one group, one for each of [`CLIPS`].
pub type ClipErrors = [u64; CLIP_COUNT];

/// The clip of least error, in 64ths; ties to the larger.
///
/// # Example
///
/// ```
/// use tersor::affine::{CLIP_COUNT, best_clip};
///
/// let mut errors = [5; CLIP_COUNT];
/// (errors[4], errors[9]) = (1, 1);
/// assert_eq!(best_clip(&errors), 32 + 9);
/// ```
pub fn best_clip<T: Ord>(errors: &[T; CLIP_COUNT]) -> u32 {
    let best = errors.iter().enumerate().rev().min_by(|a, b| a.1.cmp(b.1));
    CLIPS.start() + best.map_or(CLIP_COUNT - 1, |(i, _)| i) as u32
}

/// The grid of one group in integers, for the search: magnitudes are taken as `u = rne(|w| * inverse)`, in units of 1/32767
/// of the largest.
///
/// At clip i, with `K = 31 - bits`:
/// `step = steps_per_64th * i` is the grid's step in u, times 2^15;
/// `m = (codes_per_u * RECIPROCALS[i - 32] + 2^14) >> 15` is its inverse, times 2^K;
/// `code = min((u * m + 2^(K-1)) >> K, limit of the sign)`; `restored = (code * step + 2^14) >> 15`;
/// `error = (u - restored)²`.
///
/// Every term fits 32 bits. The grid's step is off by at most one part in 2^15, so an error differs from that of real
/// arithmetic by at most 2 units of u.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ClipGrid {
    /// u per weight; 0 for a group that is all zero.
    pub inverse: f32,
    /// u per code and 64th of the range, times 2^15.
    pub steps_per_64th: u32,
    /// Codes per u at clip 32, times 2^K.
    pub codes_per_u: u32,
    /// Largest code above zero, and 65536 times that below.
    pub limits: u32,
}

/// `rne(2^15 * 32 / i)` for every clip i.
pub fn reciprocals() -> [u32; CLIP_COUNT] {
    std::array::from_fn(|i| (f64::from(1u32 << 20) / (i as f64 + 32.0)).round_ties_even() as u32)
}

impl ClipGrid {
    /// The grid of a group.
    pub fn new(code: AffineCode, range: Range) -> Self {
        let absmax = f64::from(range.absmax());
        if range.absmax() < SMALLEST {
            return Self { inverse: 0.0, steps_per_64th: 0, codes_per_u: 0, limits: 0 };
        }
        let (low, high) = code.extent(range);
        let step = (high - low) / absmax * 32767.0 / code.steps();
        let (lowest, highest) = code.limits();
        let zero = i32::from(code.scale(range, 64).zero_point);
        Self {
            inverse: (32767.0 / absmax) as f32,
            steps_per_64th: (step * 32768.0 / 64.0).round_ties_even() as u32,
            codes_per_u: (f64::from(1u32 << Self::shift(code)) * 2.0 / step).round_ties_even()
                as u32,
            limits: (highest - zero) as u32 | ((zero - lowest) as u32) << 16,
        }
    }

    /// K of the formula.
    pub fn shift(code: AffineCode) -> u32 {
        31 - u32::from(code.bits)
    }
}
