//! Rounding weights to codes: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, gpu, matrix, noise};
use tersor::{
    Backend, DType, Error, Tensor,
    affine::{AffineCode, Scale},
    kernels::{Groups, Range, quantize, quantize_in_integers, range},
};

const INT8: AffineCode = AffineCode { bits: 8, symmetric: true };

fn scale(scale: f32) -> Scale {
    Scale { scale, zero_point: 0 }
}

#[test]
fn worked_example() {
    // Ties go to even, 8 bits saturate at 127 on both sides, signed codes are two's complement. By hand.
    let weights = [0.5, 1.5, 2.5, -0.5, -1.5, 900.0, -900.0, 1.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 2).unwrap();
        let scales = [scale(1.0), scale(0.5)];
        let codes = quantize(on, &w, INT8, Groups::of(4), &scales).unwrap().read(on).unwrap();
        assert_eq!(codes, [0x00_02_02_00, 0x02_81_7f_fd], "{}", on.name());
        // Four bits: -8..=7, and the next row starts a word of its own.
        let code = AffineCode { bits: 4, symmetric: true };
        let codes = quantize(on, &w, code, Groups::of(8), &scales[..1]).unwrap().read(on).unwrap();
        assert_eq!(codes, [0x0220, 0x187e], "{}", on.name());
        // Asymmetric: zero is the zero point.
        let code = AffineCode { bits: 2, symmetric: false };
        let scales = [Scale { scale: 1.0, zero_point: 1 }];
        let codes = quantize(on, &w, code, Groups::of(8), &scales).unwrap().read(on).unwrap();
        assert_eq!(codes, [0b01_11_11_01, 0b10_00_11_00], "{}", on.name());
    }
}

fn scales(w: &Tensor, code: AffineCode, groups: Groups) -> Vec<Scale> {
    range(&CPU, w, groups).unwrap().iter().map(|r| code.scale(*r, 64)).collect()
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for bits in 2..=8 {
            for symmetric in [true, false] {
                let code = AffineCode { bits, symmetric };
                for cols in edges(64) {
                    let values = noise(bits.into(), 3 * cols);
                    for groups in [
                        Groups::of(1),
                        Groups::of(cols),
                        Groups { size: 9 * cols, before: 7 * cols },
                    ] {
                        let scales = scales(&matrix(&CPU, dtype, &values, 3), code, groups);
                        cross_check((dtype, code, cols, groups), |on| {
                            quantize(on, &matrix(on, dtype, &values, 3), code, groups, &scales)?
                                .read(on)
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn ties_and_their_neighbours_agree_also_in_integers() {
    // Every half step of the code and the two floats around it, at many scales, some beyond the normal numbers.
    let mut values = Vec::new();
    for half in -600..=600 {
        for nudge in [-1, 0, 1] {
            values.push(f32::from_bits((half as f32 / 2.0).to_bits().wrapping_add_signed(nudge)));
        }
    }
    values.extend(noise(9, 4096).iter().map(|x| x * 300.0));
    let steps = [1.0, 0.3, 7.0, 1.0 / 3.0, 1e-30, 1e-36, 3e36, 1.1e38];
    for step in steps {
        let scaled: Vec<f32> = values
            .iter()
            .map(|v| v * step)
            .map(|v| if v.is_finite() { v } else { f32::MAX })
            .collect();
        let scale = [scale(step)];
        let run = |on: &Backend| {
            quantize(on, &Tensor::from_f32(on, &scaled, 1)?, INT8, Groups::of(1 << 20), &scale)
        };
        let expected = run(&CPU).unwrap().read(&CPU).unwrap();
        let codes: &[i8] = bytemuck::cast_slice(&expected);
        for (code, w) in codes.iter().zip(&scaled) {
            let plain = (w * scale[0].inverse()).round_ties_even().clamp(-127.0, 127.0);
            assert_eq!(f32::from(*code), plain, "{w:e} / {step:e}");
        }
        if let Some(on @ Backend::Gpu(device)) = gpu() {
            assert_eq!(run(on).unwrap().read(on).unwrap(), expected, "step {step:e}");
            let w = Tensor::from_f32(on, &scaled, 1).unwrap();
            let codes =
                quantize_in_integers(device, &w, INT8, Groups::of(1 << 20), &scale).unwrap();
            assert_eq!(codes.read(on).unwrap(), expected, "in integers, step {step:e}");
        }
    }
}

#[test]
fn gpu_agrees_past_65535_workgroups() {
    let values = noise(3, 70_000 * 300);
    let scales = vec![scale(0.01); 70_000];
    cross_check("folded dispatch", |on| {
        let w = Tensor::from_f32(on, &values, 70_000)?;
        quantize(on, &w, AffineCode { bits: 7, symmetric: true }, Groups::of(300), &scales)?
            .read(on)
    });
}

#[test]
fn refuses_wrong_scales_and_widths() {
    let w = Tensor::from_f32(&CPU, &[1.0; 6], 2).unwrap();
    let error = quantize(&CPU, &w, INT8, Groups::of(3), &[scale(1.0); 3]).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "scales", .. }));
    let nine = AffineCode { bits: 9, symmetric: true };
    let error = quantize(&CPU, &w, nine, Groups::of(6), &[scale(1.0)]).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "bits", .. }));
}

#[test]
fn scale_rules() {
    let range = |min, max| Range { min, max };
    let uint4 = AffineCode { bits: 4, symmetric: false };
    // qmax is 127; a range on one side of zero is widened to hold it; below 2^-110 everything is zero.
    assert_eq!(INT8.scale(range(-127.0, 3.0), 64), scale(1.0));
    assert_eq!(INT8.scale(range(-127.0, 3.0), 32), scale(0.5));
    assert_eq!(uint4.scale(range(3.0, 15.0), 64), scale(1.0));
    assert_eq!(uint4.scale(range(-10.0, 5.0), 64), Scale { scale: 1.0, zero_point: 10 });
    assert_eq!(uint4.scale(range(-15.0, -2.0), 64), Scale { scale: 1.0, zero_point: 15 });
    assert_eq!(INT8.scale(range(-7e-34, 7e-34), 64), scale(0.0));
    assert_eq!(INT8.scale(range(0.0, 0.0), 64), scale(0.0));
    assert_eq!(INT8.scale(range(f32::MIN, f32::MAX), 64).scale, f32::MAX / 127.0);
    assert_eq!(DType::parse("F8_E4M3"), Some(DType::F8E4M3));
}
