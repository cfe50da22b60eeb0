//! Blocks of weights into coefficients.

use super::{factor, sign, step, transforms};
use crate::support::{CPU, WEIGHTS, assert_within, backends, cross_check, matrix, noise};
use tersor::{
    DType, Error, Tensor,
    form::{BlockTransform, TransformKind},
    kernels::transform,
};

#[test]
fn worked_example() {
    let of =
        BlockTransform { kind: TransformKind::Dct, block: 8, steps: vec![1, 1, 2, 1, 1, 1, 1, 1] };
    // The third basis vector, twice.
    let wave = |i: usize| (std::f64::consts::PI * (2 * i + 1) as f64 / 8.0).cos() as f32;
    let values: Vec<f32> = (0..8).map(wave).chain((0..8).map(|i| -2.0 * wave(i))).collect();
    for on in backends() {
        let c = transform(on, &Tensor::from_f32(on, &values, 2).unwrap(), &of).unwrap();
        assert_eq!((c.dtype(), c.rows(), c.cols()), (DType::F32, 2, 8));
        for (i, c) in c.read_f32(on).unwrap().into_iter().enumerate() {
            // √(8/2) of it, and half of that where the step is 2.
            let expected = if i == 2 {
                1.0
            } else if i == 10 {
                -2.0
            } else {
                0.0
            };
            assert!((c - expected).abs() < 1e-4, "{i}: {c} on {}", on.name());
        }
    }
}

#[test]
fn coefficients_are_products_with_the_matrix() {
    for of in transforms() {
        let block = of.block as usize;
        let values = noise(u64::from(of.block), 6 * block);
        let mut expected = vec![0.0; values.len()];
        for (at, expected) in expected.iter_mut().enumerate() {
            let (first, k) = (at / block * block, at % block);
            let part = |i: usize| factor(&of, i, k) * sign(&of, i) * f64::from(values[first + i]);
            *expected = (0..block).map(part).sum::<f64>() / step(&of, k);
        }
        for on in backends() {
            let got = transform(on, &matrix(on, DType::F32, &values, 3), &of).unwrap();
            let got = got.read_f32(on).unwrap();
            assert_within(&(&of, on.name()), &expected, |_| 2f64.powi(-13), &got);
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
                // Outliers, the smallest and the largest numbers, and blocks of zeros.
                values.iter_mut().step_by(97).for_each(|v| *v *= 300.0);
                values.iter_mut().skip(3).step_by(211).for_each(|v| *v *= 1e-39);
                values[..8].fill(if dtype == DType::F32 { f32::MAX } else { 400.0 });
                values[cols..cols + of.block as usize].fill(0.0);
                cross_check((&of, dtype, cols), |on| {
                    transform(on, &matrix(on, dtype, &values, 2), &of)?.read(on)
                });
            }
        }
    }
}

#[test]
fn what_does_not_divide_is_refused() {
    let of = |block| BlockTransform { kind: TransformKind::Dct, block, steps: vec![] };
    let rows_of = |cols| matrix(&CPU, DType::F32, &vec![1.0; cols], 1);
    for (cols, block) in [(12, 8), (8, 16), (64, 64), (64, 4), (24, 24)] {
        let error = transform(&CPU, &rows_of(cols), &of(block)).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "transform", .. }), "{error}");
    }
    let error = transform(&CPU, &Tensor::new(&CPU, DType::U32, 1, 8, vec![0; 8]).unwrap(), &of(8));
    assert!(matches!(error.unwrap_err(), Error::Shape { what: "dtype", .. }));
}
