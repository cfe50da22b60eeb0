//! Element types: their widths and spellings, and the conversions between weights and f32.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::sync::LazyLock;

/// Element types of a checkpoint. Widths are in bits, because some are narrower than a byte.
///
/// # Example
///
/// ```
/// use tersor::DType;
///
/// assert_eq!(DType::parse("F8_E4M3"), Some(DType::F8E4M3));
/// assert_eq!(DType::BF16.name(), "BF16");
/// assert_eq!((DType::F4.bits(), DType::F4.bytes(3)), (4, 2)); // 12 bits are two bytes
/// assert!(DType::F16.is_weight() && !DType::I8.is_weight());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E4M3FNUZ,
    F8E5M2FNUZ,
    F8E8M0,
    F6E2M3,
    F6E3M2,
    F4,
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Every type with its spelling in a safetensors header.
    pub const ALL: [(Self, &str); 22] = [
        (Self::F64, "F64"),
        (Self::F32, "F32"),
        (Self::F16, "F16"),
        (Self::BF16, "BF16"),
        (Self::F8E4M3, "F8_E4M3"),
        (Self::F8E5M2, "F8_E5M2"),
        (Self::F8E4M3FNUZ, "F8_E4M3FNUZ"),
        (Self::F8E5M2FNUZ, "F8_E5M2FNUZ"),
        (Self::F8E8M0, "F8_E8M0"),
        (Self::F6E2M3, "F6_E2M3"),
        (Self::F6E3M2, "F6_E3M2"),
        (Self::F4, "F4"),
        (Self::C64, "C64"),
        (Self::I64, "I64"),
        (Self::I32, "I32"),
        (Self::I16, "I16"),
        (Self::I8, "I8"),
        (Self::U64, "U64"),
        (Self::U32, "U32"),
        (Self::U16, "U16"),
        (Self::U8, "U8"),
        (Self::Bool, "BOOL"),
    ];

    /// Bits per element.
    pub const fn bits(self) -> usize {
        match self {
            Self::F64 | Self::C64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E4M3FNUZ | Self::F8E5M2FNUZ | Self::F8E8M0 => 8,
            Self::I8 | Self::U8 | Self::Bool => 8,
            Self::F6E2M3 | Self::F6E3M2 => 6,
            Self::F4 => 4,
        }
    }

    /// Bytes that `elements` elements take one after the other, in bits; the last byte is filled up.
    pub const fn bytes(self, elements: usize) -> usize {
        (elements * self.bits()).div_ceil(8)
    }

    /// Whether the kernels read this type as weights; every other type is carried bit for bit.
    pub const fn is_weight(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2)
    }

    /// Why a tensor of a type that the kernels do not read as weights is kept: numbers that are none, or floats of a quantized model.
    pub fn kept_because(self) -> Option<String> {
        use DType::*;
        let name = self.name();
        match self {
            I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8 | Bool => {
                Some(format!("{name} holds no weights"))
            }
            _ if self.is_weight() => None,
            _ => Some(format!("{name} is not treated")),
        }
    }

    /// The spelling in a safetensors header.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(d, _)| *d == self).map_or("?", |(_, n)| n)
    }

    /// The type spelled `name` in a safetensors header.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
    }
}

/// The number of a weight type in `shaders/lib/dtype.wgsl`.
pub(crate) fn code(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 0.0,
        DType::F16 => 2.0,
        DType::BF16 => 3.0,
        DType::F8E4M3 => 4.0,
        DType::F8E5M2 => 5.0,
        _ => 1.0,
    }
}

/// Decodes `out.len()` weights, from element `first` on, to f32. F64 is rounded to nearest even; what f32 cannot hold
/// becomes infinite. Every other conversion is exact.
///
/// `words` holds the elements as little-endian bytes, `dtype` a weight type.
///
/// # Panics
///
/// If the elements lie outside `words`.
pub fn decode(dtype: DType, words: &[u32], first: usize, out: &mut [f32]) {
    let span = first..first + out.len();
    match dtype {
        DType::F64 => {
            for (pair, x) in words[2 * span.start..2 * span.end].chunks_exact(2).zip(out) {
                *x = f64::from_bits(u64::from(pair[1]) << 32 | u64::from(pair[0])) as f32;
            }
        }
        DType::F16 => {
            let halves: &[half::f16] =
                bytemuck::cast_slice::<u32, u16>(words)[..].reinterpret_cast();
            halves[span].convert_to_f32_slice(out);
        }
        DType::BF16 => widen_bf16(&bytemuck::cast_slice(words)[span], out),
        DType::F8E4M3 | DType::F8E5M2 => {
            let table = f8_table(dtype);
            for (b, x) in bytemuck::cast_slice::<u32, u8>(words)[span].iter().zip(out) {
                *x = table[usize::from(*b)];
            }
        }
        _ => out.copy_from_slice(&bytemuck::cast_slice(words)[span]),
    }
}

/// Decodes `out.len()` weights, from element `first` on, exactly.
///
/// # Panics
///
/// As [`decode`].
pub fn decode_f64(dtype: DType, words: &[u32], first: usize, out: &mut [f64]) {
    if dtype == DType::F64 {
        let pairs = words[2 * first..2 * (first + out.len())].chunks_exact(2);
        for (pair, x) in pairs.zip(out) {
            *x = f64::from_bits(u64::from(pair[1]) << 32 | u64::from(pair[0]));
        }
        return;
    }
    let mut narrow = [0.0; 512];
    for (i, out) in out.chunks_mut(narrow.len()).enumerate() {
        let narrow = &mut narrow[..out.len()];
        decode(dtype, words, first + i * 512, narrow);
        out.iter_mut().zip(narrow).for_each(|(x, n)| *x = f64::from(*n));
    }
}

/// Encodes f32 values as elements of `dtype` from element `first` on: rounded to nearest even, and to the largest
/// finite value where they lie beyond the type's range. Values must not be NaN.
///
/// # Panics
///
/// If the elements lie outside `words`.
pub fn encode(dtype: DType, values: &[f32], words: &mut [u32], first: usize) {
    let span = first..first + values.len();
    match dtype {
        DType::F64 => {
            for (x, pair) in
                values.iter().zip(words[2 * span.start..2 * span.end].chunks_exact_mut(2))
            {
                let bits = f64::from(x.clamp(f32::MIN, f32::MAX)).to_bits();
                (pair[0], pair[1]) = (bits as u32, (bits >> 32) as u32);
            }
        }
        DType::F16 => {
            for (x, h) in values.iter().zip(&mut bytemuck::cast_slice_mut::<u32, u16>(words)[span])
            {
                *h = half::f16::from_f32(x.clamp(-65504.0, 65504.0)).to_bits();
            }
        }
        DType::BF16 => narrow_bf16(values, &mut bytemuck::cast_slice_mut(words)[span]),
        DType::F8E4M3 | DType::F8E5M2 => {
            let largest = if dtype == DType::F8E4M3 { 0x7e } else { 0x7b };
            let (mantissa, bias) = if dtype == DType::F8E4M3 { (3, 7) } else { (2, 15) };
            for (x, b) in values.iter().zip(&mut bytemuck::cast_slice_mut::<u32, u8>(words)[span]) {
                *b = narrow(x.to_bits(), mantissa, bias).min(largest) as u8
                    | (x.to_bits() >> 24 & 0x80) as u8;
            }
        }
        _ => {
            for (x, w) in values.iter().zip(&mut words[span]) {
                *w = x.clamp(f32::MIN, f32::MAX).to_bits();
            }
        }
    }
}

/// Whether every weight is finite; F64 as f32, so what f32 cannot hold is not. Looks at patterns only.
///
/// `words` holds nothing but the elements of `dtype`, a weight type, as little-endian bytes, and zeros.
pub fn all_finite(dtype: DType, words: &[u32]) -> bool {
    match dtype {
        DType::F64 => words.chunks_exact(2).all(|pair| {
            // From half an ulp beyond the largest f32 on, rounding gives infinity.
            (u64::from(pair[1]) << 32 | u64::from(pair[0])) & !(1 << 63) < 0x47ef_ffff_f000_0000
        }),
        DType::F16 => largest(bytemuck::cast_slice(words), 0x7fffu16) < 0x7c00,
        DType::BF16 => largest(bytemuck::cast_slice(words), 0x7fffu16) < 0x7f80,
        DType::F8E4M3 => largest(bytemuck::cast_slice(words), 0x7fu8) < 0x7f,
        DType::F8E5M2 => largest(bytemuck::cast_slice(words), 0x7fu8) < 0x7c,
        _ => largest(words, 0x7fff_ffffu32) < 0x7f80_0000,
    }
}

/// The largest magnitude, as a pattern.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn largest<T: Copy + Ord + Default + std::ops::BitAnd<Output = T>>(
    patterns: &[T],
    magnitude: T,
) -> T {
    patterns.iter().fold(T::default(), |most, p| most.max(*p & magnitude))
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn widen_bf16(halves: &[u16], out: &mut [f32]) {
    for (h, x) in halves.iter().zip(out) {
        *x = f32::from_bits(u32::from(*h) << 16);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn narrow_bf16(values: &[f32], out: &mut [u16]) {
    for (x, h) in values.iter().zip(out) {
        let bits = x.to_bits();
        let magnitude = ((bits & 0x7fff_ffff) + 0x7fff + (bits >> 16 & 1)) >> 16;
        *h = (bits >> 16 & 0x8000) as u16 | magnitude.min(0x7f7f) as u16;
    }
}

/// All 256 values of an 8-bit float.
pub fn f8_table(dtype: DType) -> &'static [f32; 256] {
    static TABLES: LazyLock<[[f32; 256]; 2]> =
        LazyLock::new(|| [DType::F8E4M3, DType::F8E5M2].map(f8_values));
    &TABLES[usize::from(dtype == DType::F8E5M2)]
}

fn f8_values(dtype: DType) -> [f32; 256] {
    std::array::from_fn(|b| {
        let (sign, b) = (if b & 0x80 == 0 { 1.0 } else { -1.0 }, b & 0x7f);
        let (mantissa_bits, bias, special) =
            if dtype == DType::F8E4M3 { (3, 7, b == 0x7f) } else { (2, 15, b >= 0x7c) };
        let (exponent, mantissa) =
            ((b >> mantissa_bits) as i32, (b & ((1 << mantissa_bits) - 1)) as f32);
        let ulp = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
        sign * match exponent {
            _ if special && dtype == DType::F8E5M2 && b == 0x7c => f32::INFINITY,
            _ if special => f32::NAN,
            0 => mantissa * ulp(1 - bias - mantissa_bits),
            e => (mantissa + (1 << mantissa_bits) as f32) * ulp(e - bias - mantissa_bits),
        }
    })
}

/// The magnitude of f32 bits as a float of `mantissa_bits` and exponent `bias`, rounded to nearest even, unlimited
/// above.
fn narrow(bits: u32, mantissa_bits: u32, bias: i32) -> u32 {
    let value = f32::from_bits(bits & 0x7fff_ffff);
    // The spacing of the target around this value, a power of two; adding and counting in its units rounds once.
    let exponent = ((bits >> 23 & 255) as i32 - 127).max(1 - bias);
    let ulp = f64::from_bits(((exponent - mantissa_bits as i32 + 1023) as u64) << 52);
    let units = (f64::from(value) / ulp).round_ties_even() as u32;
    units + (((exponent + bias - 1) as u32) << mantissa_bits)
}
