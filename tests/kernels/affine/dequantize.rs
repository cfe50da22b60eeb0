//! Restoring weights from codes, and the conversions between float types that end it.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    Backend, DType, Error, Tensor,
    affine::{AffineCode, Scale},
    dtype,
    kernels::{Groups, dequantize, quantize, range},
    words,
};

#[test]
fn worked_example() {
    for on in backends() {
        let code = AffineCode { bits: 3, symmetric: true };
        // 3, -1, -4 in the first row; 1, 0, 2 in the second.
        let codes = Tensor::new(on, DType::U32, 2, 1, vec![0b100_111_011, 0b010_000_001]).unwrap();
        let scales = [Scale { scale: 0.5, zero_point: 0 }, Scale { scale: 2.0, zero_point: 0 }];
        let w = dequantize(on, &codes, 3, code, Groups::of(3), &scales, DType::BF16).unwrap();
        assert_eq!(w.read_f32(on).unwrap(), [1.5, -0.5, -2.0, 2.0, 0.0, 4.0], "{}", on.name());
        let code = AffineCode { bits: 3, symmetric: false };
        let scales = [Scale { scale: 0.5, zero_point: 3 }];
        let w = dequantize(on, &codes, 3, code, Groups::of(6), &scales, DType::F64).unwrap();
        assert_eq!(w.read_f32(on).unwrap(), [0.0, 2.0, 0.5, -1.0, -1.5, -0.5], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for bits in 2..=8 {
            for symmetric in [true, false] {
                let code = AffineCode { bits, symmetric };
                for cols in edges(64) {
                    let groups = Groups { size: cols, before: 0 };
                    let w = matrix(&CPU, DType::F32, &noise(bits.into(), 3 * cols), 3);
                    let ranges = range(&CPU, &w, groups).unwrap();
                    let scales: Vec<_> = ranges.iter().map(|r| code.scale(*r, 64)).collect();
                    let codes = quantize(&CPU, &w, code, groups, &scales).unwrap();
                    let (wide, codes) = (codes.cols(), codes.read(&CPU).unwrap());
                    cross_check((dtype, code, cols), |on| {
                        let codes = Tensor::new(on, DType::U32, 3, wide, codes.clone())?;
                        dequantize(on, &codes, cols, code, groups, &scales, dtype)?.read(on)
                    });
                }
            }
        }
    }
}

#[test]
fn restored_weights_are_within_half_a_step() {
    for symmetric in [true, false] {
        let code = AffineCode { bits: 5, symmetric };
        let values: Vec<f32> = noise(5, 4000).iter().map(|x| x * 3.0 + 1.0).collect();
        let w = matrix(&CPU, DType::F32, &values, 8);
        let groups = Groups::of(100);
        let ranges = range(&CPU, &w, groups).unwrap();
        let scales: Vec<_> = ranges.iter().map(|r| code.scale(*r, 64)).collect();
        let codes = quantize(&CPU, &w, code, groups, &scales).unwrap();
        let back = dequantize(&CPU, &codes, 500, code, groups, &scales, DType::F32).unwrap();
        for (i, (a, b)) in values.iter().zip(back.read_f32(&CPU).unwrap()).enumerate() {
            let step = scales[i / 100].scale;
            // The zero point is a whole number: the ends of an asymmetric range may miss by half a step more.
            assert!(
                (a - b).abs() <= step * if symmetric { 0.501 } else { 1.001 },
                "{a} became {b}, step {step}"
            );
        }
    }
}

/// Restores `code 1 * scale` for every scale, which converts each scale to `dtype` on the device.
fn convert(on: &Backend, scales: &[f32], dtype: DType) -> Vec<u32> {
    let code = AffineCode { bits: 8, symmetric: true };
    let n = scales.len();
    let codes =
        Tensor::new(on, DType::U32, 1, n.div_ceil(4), vec![0x0101_0101; n.div_ceil(4)]).unwrap();
    let scales: Vec<_> = scales.iter().map(|s| Scale { scale: *s, zero_point: 0 }).collect();
    dequantize(on, &codes, n, code, Groups::of(1), &scales, dtype).unwrap().read(on).unwrap()
}

#[test]
fn conversions_match_the_half_crate_and_saturate() {
    // Every boundary between two halves, and its neighbours; then beyond the range.
    let mut values = Vec::new();
    for h in 0..0x7c00u16 {
        let (a, b) = (half::f16::from_bits(h).to_f32(), half::f16::from_bits(h + 1).to_f32());
        let middle = if b.is_finite() { a + (b - a) / 2.0 } else { 65520.0 };
        values.extend([-1, 0, 1].map(|n| f32::from_bits(middle.to_bits().wrapping_add_signed(n))));
        values.push(-a);
    }
    values.extend([1e6, -1e6, f32::MAX, f32::MIN, 1e-30, 0.0]);
    for on in backends() {
        let f16: Vec<u16> = bytemuck::cast_slice(&convert(on, &values, DType::F16)).to_vec();
        let bf16: Vec<u16> = bytemuck::cast_slice(&convert(on, &values, DType::BF16)).to_vec();
        for (i, v) in values.iter().enumerate() {
            let expected = half::f16::from_f32(v.clamp(-65504.0, 65504.0)).to_bits();
            assert_eq!(f16[i], expected, "{v:e} to F16 on {}", on.name());
            let expected = half::bf16::from_f32(v.clamp(-3.39e38, 3.39e38)).to_bits();
            assert_eq!(bf16[i], expected, "{v:e} to BF16 on {}", on.name());
        }
    }
}

#[test]
fn eight_bit_floats_round_to_the_nearest_even_pattern() {
    for (dtype, largest) in [(DType::F8E4M3, 0x7e), (DType::F8E5M2, 0x7b)] {
        let table = dtype::f8_table(dtype);
        let mut values = Vec::new();
        for b in 0..largest {
            let middle = f32::midpoint(table[b], table[b + 1]);
            values.extend(
                [-1, 0, 1].map(|n| f32::from_bits(middle.to_bits().wrapping_add_signed(n))),
            );
            values.push(-table[b]);
        }
        values.extend([table[largest] * 1.05, 1e9, -1e9, 1e-20]);
        let nearest = |v: f32| {
            let distance = |b: &usize| (f64::from(table[*b]) - f64::from(v.abs())).abs();
            let best = (0..=largest).min_by(|a, b| {
                distance(a).total_cmp(&distance(b)).then_with(|| (a & 1).cmp(&(b & 1)))
            });
            best.unwrap() as u8 | if v.is_sign_negative() { 0x80 } else { 0 }
        };
        for on in backends() {
            let got = convert(on, &values, dtype);
            for (v, b) in values.iter().zip(bytemuck::cast_slice::<u32, u8>(&got)) {
                assert_eq!(*b, nearest(*v), "{v:e} to {dtype:?} on {}", on.name());
            }
        }
    }
}

#[test]
fn f64_holds_every_restored_weight() {
    let values = [1.0, -0.1, 3e38, f32::MIN_POSITIVE, 123.456];
    for on in backends() {
        let got: Vec<f64> = convert(on, &values, DType::F64)
            .chunks_exact(2)
            .map(|w| f64::from_bits(u64::from(w[1]) << 32 | u64::from(w[0])))
            .collect();
        assert_eq!(got, values.map(f64::from), "{}", on.name());
    }
    assert_eq!(words(DType::F64, 3), 6);
}

#[test]
fn refuses_codes_of_another_width() {
    let codes = Tensor::new(&CPU, DType::U32, 1, 2, vec![0; 2]).unwrap();
    let code = AffineCode { bits: 4, symmetric: true };
    let scale = [Scale { scale: 1.0, zero_point: 0 }];
    let error = dequantize(&CPU, &codes, 5, code, Groups::of(5), &scale, DType::F32).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "words per row", .. }));
}
