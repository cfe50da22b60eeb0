//! Normalization of rows: worked example, agreement with f64, refusals.

use crate::support::{CPU, backends, check_op, check_op_on, edges, matrix_f32, noise, tiny_gpu};
use tersor::{
    DType, Error, Tensor,
    crosscheck::{Data, Input},
    kernels::layer_norm,
};

#[test]
fn worked_example() {
    // By hand: (1, 3) has mean 2 and variance 1; a constant row and a single column give beta.
    for on in backends() {
        let row = |values: &[f32]| matrix_f32(on, values, (1, values.len()));
        let run = |x: &Tensor, residual: Option<&Tensor>, gamma: &[f32], beta: &[f32], epsilon| {
            layer_norm(on, x, residual, &row(gamma), &row(beta), epsilon)?.read_f32(on)
        };
        let close = |got: Vec<f32>, expected: &[f32]| {
            let near = |(g, e): (&f32, &f32)| (g - e).abs() <= 1e-6 * (1.0 + e.abs());
            assert!(got.iter().zip(expected).all(near), "{got:?} on {}", on.name());
        };
        let x = Tensor::from_f32(on, &[1.0, 3.0, -5.0, -5.0], 2).unwrap();
        close(run(&x, None, &[1.0, 10.0], &[0.5, 0.0], 1e-12).unwrap(), &[-0.5, 10.0, 0.5, 0.0]);
        // Variance 1 and epsilon 1.
        let r = std::f32::consts::FRAC_1_SQRT_2;
        close(run(&x, None, &[1.0, 1.0], &[0.0, 0.0], 1.0).unwrap(), &[-r, r, 0.0, 0.0]);
        // Of the sum (2, 2), (-6, -4).
        let other = Tensor::from_f32(on, &[1.0, -1.0, -1.0, 1.0], 2).unwrap();
        let y = run(&x, Some(&other), &[1.0, 2.0], &[0.0, 0.5], 1e-12).unwrap();
        close(y, &[0.0, 0.5, -1.0, 2.5]);
        let x = Tensor::from_f32(on, &[1e5, -3.0], 2).unwrap();
        assert_eq!(run(&x, None, &[4.0], &[7.0], 1e-5).unwrap(), [7.0, 7.0]);
    }
}

/// A case with gamma and beta of noise and epsilon 1e-12.
fn case(x: &[f32], cols: usize, residual: Option<&[f32]>) -> Input {
    let all = |values: &[f32]| Data::f32((x.len() / cols, cols), values);
    let row = |values: &[f32]| Data::f32((1, cols), values);
    let gamma: Vec<f32> = noise(101, cols).iter().map(|x| 1.0 + 0.5 * x).collect();
    let input = Input::new()
        .with("x", all(x))
        .with("gamma", row(&gamma))
        .with("beta", row(&noise(102, cols)))
        .set("epsilon", 0);
    match residual {
        None => input,
        Some(residual) => input.with("residual", all(residual)),
    }
}

#[test]
fn within_bounds_of_f64() {
    let mut widths = edges(256).to_vec();
    widths.extend([3, 4, 5, 8, 9, 128, 129, 384, 512, 513, 1023, 1024, 1025, 5000]);
    for cols in widths {
        for rows in [1, 3, 2000 / cols + 2] {
            // Deviations and offsets: an offset is lost with the mean, whatever it is.
            for (deviation, offset) in
                [(1.0, 0.0), (1.0, 1e3), (1.0, -1e5), (1e-3, 0.01), (1e6, 1e4)]
            {
                let x: Vec<f32> = noise(cols as u64, rows * cols)
                    .iter()
                    .map(|x| x * deviation + offset)
                    .collect();
                let more: Vec<f32> = noise(9, rows * cols).iter().map(|x| x * deviation).collect();
                for residual in [None, Some(&more[..])] {
                    let name = (rows, cols, deviation, offset, residual.is_some());
                    check_op(name, "layer_norm", &case(&x, cols, residual));
                }
            }
        }
    }
}

#[test]
fn large_offsets_cost_next_to_nothing() {
    // What the bound of a row around 0 allows, at mean 1000, and a constant row whose sums are not exact.
    let x: Vec<f32> = noise(4, 20 * 384).iter().map(|x| x + 1e3).collect();
    check_op("mean 1000", "layer_norm", &case(&x, 384, None));
    check_op("constant", "layer_norm", &case(&[0.1; 384], 384, None));
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    if let Some(tiny) = tiny_gpu() {
        // Eight workgroups of two rows, the last half empty, where one dimension has seven.
        let case = case(&noise(8, 15 * 257), 257, Some(&noise(9, 15 * 257)));
        check_op_on(tiny, "folded", ("layer_norm", 1.0), &case.set("epsilon", 1));
    }
    for on in backends() {
        for (rows, cols) in [(0, 3), (3, 0)] {
            let x = matrix_f32(on, &[], (rows, cols));
            let row = matrix_f32(on, &vec![1.0; cols], (1, cols));
            let y = layer_norm(on, &x, Some(&x), &row, &row, 1e-5).unwrap();
            assert_eq!((y.rows(), y.cols(), y.read(on).unwrap()), (rows, cols, vec![]));
        }
    }
}

#[test]
fn refuses_other_shapes() {
    let x = Tensor::from_f32(&CPU, &[1.0; 6], 2).unwrap();
    let (row, short) = (
        Tensor::from_f32(&CPU, &[1.0; 3], 1).unwrap(),
        Tensor::from_f32(&CPU, &[1.0; 2], 1).unwrap(),
    );
    let halves = Tensor::new(&CPU, DType::F16, 2, 3, vec![0; 3]).unwrap();
    let refused = |x, residual, gamma, beta, epsilon| match layer_norm(
        &CPU, x, residual, gamma, beta, epsilon,
    ) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&halves, None, &row, &row, 1e-5), "x");
    assert_eq!(refused(&x, Some(&row), &row, &row, 1e-5), "residual");
    assert_eq!(refused(&x, None, &short, &row, 1e-5), "gamma");
    assert_eq!(refused(&x, None, &row, &short, 1e-5), "beta");
    for epsilon in [0.0, -1e-5, 1e-38, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(&x, None, &row, &row, epsilon), "epsilon");
    }
}
