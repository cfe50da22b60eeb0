//! Activations of a tensor: worked example, agreement with f64, refusal.

use crate::support::{CPU, assert_all_within, backends, edges, matrix_f32, noise, tiny_gpu};
use tersor::{
    DType, Error, Tensor,
    kernels::{Activation, activate},
};

fn gelu(x: f32) -> f64 {
    let x = f64::from(x);
    0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

#[test]
fn worked_example() {
    let x = [-3.0, -0.0, 0.0, 1.5, -1e-30, 3e38];
    for on in backends() {
        let run = |activation| {
            let x = Tensor::from_f32(on, &x, 2)?;
            activate(on, &x, activation)?.read_f32(on)
        };
        assert_eq!(run(Activation::None).unwrap(), x, "{}", on.name());
        assert_eq!(run(Activation::Relu).unwrap(), [0.0, 0.0, 0.0, 1.5, 0.0, 3e38]);
        // gelu(1) = 0.841345 from tables of the normal distribution; far out it is 0, or x.
        let x = Tensor::from_f32(on, &[1.0, -1.0, -40.0, 40.0, 0.0], 1).unwrap();
        let y = activate(on, &x, Activation::Gelu).unwrap().read_f32(on).unwrap();
        for (y, expected) in y.iter().zip([0.841_345, -0.158_655, 0.0, 40.0, 0.0]) {
            assert!((y - expected).abs() <= 1e-6, "{y} is not {expected} on {}", on.name());
        }
    }
}

#[test]
fn within_bounds_of_f64() {
    for len in edges(256) {
        for (scale, seed) in [(1.0, 1), (6.0, 2), (1e4, 3), (1e-4, 4)] {
            let x: Vec<f32> = noise(seed, len).iter().map(|x| x * scale).collect();
            let run = |activation| {
                move |on: &_, x: &[f32]| activate(on, &matrix_f32(on, x, (1, x.len())), activation)
            };
            let expected: Vec<f64> = x.iter().map(|x| gelu(*x)).collect();
            assert_all_within(
                &(len, scale),
                &expected,
                |i| 4e-7 * (1.0 + f64::from(x[i]).abs()),
                |on| run(Activation::Gelu)(on, &x),
            );
            let expected: Vec<f64> = x.iter().map(|x| f64::from(x.max(0.0))).collect();
            assert_all_within(&len, &expected, |_| 0.0, |on| run(Activation::Relu)(on, &x));
        }
    }
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    // Sixteen workgroups where one dimension has seven.
    let x = noise(5, 4096);
    if let Some(tiny) = tiny_gpu() {
        let y = activate(tiny, &matrix_f32(tiny, &x, (4, 1024)), Activation::Relu).unwrap();
        assert_eq!((y.rows(), y.cols()), (4, 1024));
        let expected: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
        assert_eq!(y.read_f32(tiny).unwrap(), expected);
    }
    for on in backends() {
        for shape in [(0, 3), (3, 0)] {
            let y = activate(on, &matrix_f32(on, &[], shape), Activation::Gelu).unwrap();
            assert_eq!(((y.rows(), y.cols()), y.read(on).unwrap()), (shape, vec![]));
        }
    }
}

#[test]
fn refuses_other_types() {
    let x = Tensor::new(&CPU, DType::F16, 1, 2, vec![0]).unwrap();
    let error = activate(&CPU, &x, Activation::Relu).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "x", .. }), "{error}");
}
