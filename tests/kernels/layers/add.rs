//! Adding: worked example, agreement, refusal.

use crate::support::{CPU, assert_within, backends, edges, gpu, noise};
use tersor::{Error, Tensor, kernels::add};

#[test]
fn worked_example() {
    for on in backends() {
        let x = Tensor::from_f32(on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 4).unwrap();
        let y = Tensor::from_f32(on, &[0.5, -2.0, 10.0, 0.0], 2).unwrap();
        let sums = add(on, &x, &y).unwrap().read_f32(on).unwrap();
        assert_eq!(sums, [1.5, 0.0, 13.0, 4.0, 5.5, 4.0, 17.0, 8.0], "{}", on.name());
    }
}

#[test]
fn both_backends_keep_the_bound() {
    for cols in edges(256) {
        for (rows, repeat) in [(1, 1), (6, 3), (6, 1), (6, 6)] {
            let (x, y) = (noise(1, rows * cols), noise(2, repeat * cols));
            let expected: Vec<f64> =
                (0..x.len()).map(|i| f64::from(x[i]) + f64::from(y[i % y.len()])).collect();
            for on in [&CPU].into_iter().chain(gpu()) {
                let (x, y) = (Tensor::from_f32(on, &x, rows), Tensor::from_f32(on, &y, repeat));
                let sums = add(on, &x.unwrap(), &y.unwrap()).unwrap().read_f32(on).unwrap();
                let bound = |i: usize| expected[i].abs() * 2f64.powi(-23) + 1e-38;
                assert_within(&(on.name(), rows, repeat, cols), &expected, bound, &sums);
            }
        }
    }
}

#[test]
fn refuses_what_does_not_repeat() {
    let matrix = |n: usize, rows| Tensor::from_f32(&CPU, &vec![1.0; n], rows).unwrap();
    for y in [matrix(8, 4), matrix(9, 3)] {
        let error = add(&CPU, &matrix(12, 6), &y).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "y", .. }), "{error}");
    }
}
