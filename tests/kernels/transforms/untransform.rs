//! Coefficients back into weights.

use super::{factor, sign, step, transforms};
use crate::support::{CPU, WEIGHTS, assert_within, backends, cross_check, matrix, noise};
use tersor::{
    DType, Error, Tensor,
    form::{BlockTransform, TransformKind},
    kernels::{transform, untransform},
};

#[test]
fn worked_example() {
    let of = BlockTransform {
        kind: TransformKind::Hadamard { seed: 1_234_567 },
        block: 8,
        steps: vec![],
    };
    // The low byte of 6,457,827,717,110,365,317 is 0x85: the signs of weights 0, 2 and 7 are turned.
    let mut c = [0.0; 16];
    (c[0], c[9]) = (8f32.sqrt(), 2.0 * 8f32.sqrt());
    let expected = [-1, 1, -1, 1, 1, 1, 1, -1, -2, -2, -2, -2, 2, -2, 2, 2].map(|w| w as f32);
    for on in backends() {
        let w = untransform(on, &Tensor::from_f32(on, &c, 1).unwrap(), &of, DType::BF16).unwrap();
        assert_eq!(w.read_f32(on).unwrap(), expected, "{}", on.name());
    }
}

#[test]
fn weights_are_products_with_the_transposed_matrix() {
    for of in transforms() {
        let block = of.block as usize;
        let values = noise(u64::from(of.block), 6 * block);
        let mut expected = vec![0.0; values.len()];
        for (at, expected) in expected.iter_mut().enumerate() {
            let (first, i) = (at / block * block, at % block);
            let part = |k: usize| factor(&of, i, k) * step(&of, k) * f64::from(values[first + k]);
            *expected = sign(&of, i) * (0..block).map(part).sum::<f64>();
        }
        let largest = expected.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        for on in backends() {
            let c = matrix(on, DType::F32, &values, 3);
            let got = untransform(on, &c, &of, DType::F32).unwrap().read_f32(on).unwrap();
            assert_within(&(&of, on.name()), &expected, |_| largest * 2f64.powi(-13), &got);
        }
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for of in transforms() {
        for dtype in WEIGHTS {
            for blocks in [1, 3, 33, 300] {
                let cols = blocks * of.block as usize;
                let mut values = noise(cols as u64, 2 * cols);
                values.iter_mut().step_by(97).for_each(|v| *v *= 3e4);
                values.iter_mut().skip(3).step_by(211).for_each(|v| *v *= 1e-39);
                values[..8].fill(f32::MIN);
                values[cols..cols + of.block as usize].fill(0.0);
                cross_check((&of, dtype, cols), |on| {
                    untransform(on, &matrix(on, DType::F32, &values, 2), &of, dtype)?.read(on)
                });
            }
        }
    }
}

#[test]
fn there_and_back_is_within_the_last_bits() {
    for of in transforms() {
        let values = noise(9, 4096);
        let w = matrix(&CPU, DType::F32, &values, 4);
        let c = transform(&CPU, &w, &of).unwrap();
        let back = untransform(&CPU, &c, &of, DType::F32).unwrap().read_f32(&CPU).unwrap();
        let expected: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let bound = if of.steps.is_empty() { 2f64.powi(-12) } else { 2f64.powi(-9) };
        assert_within(&of, &expected, |_| bound, &back);
    }
}

#[test]
fn what_is_no_coefficient_is_refused() {
    let of = BlockTransform { kind: TransformKind::Dct, block: 8, steps: vec![] };
    let of_type = |dtype, cols| matrix(&CPU, dtype, &vec![1.0; cols], 1);
    let refused = |c: &Tensor, dtype| match untransform(&CPU, c, &of, dtype) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&of_type(DType::BF16, 8), DType::F32), "coefficients");
    assert_eq!(refused(&of_type(DType::F32, 8), DType::U8), "dtype");
    assert_eq!(refused(&of_type(DType::F32, 12), DType::F32), "transform");
}
