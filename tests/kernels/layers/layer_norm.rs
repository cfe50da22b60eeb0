//! Normalization of rows: worked example, agreement with f64, refusals.

use crate::support::{
    CPU, assert_all_within, assert_within, backends, edges, matrix_f32, noise, tiny_gpu,
};
use tersor::{Backend, DType, Error, Result, Tensor, kernels::layer_norm};

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

/// A case, its result by definition, and the bound of each element.
struct Case {
    cols: usize,
    x: Vec<f32>,
    residual: Option<Vec<f32>>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
    expected: Vec<f64>,
    bounds: Vec<f64>,
}

impl Case {
    fn new(x: Vec<f32>, cols: usize, residual: Option<Vec<f32>>, epsilon: f32) -> Self {
        let gamma: Vec<f32> = noise(101, cols).iter().map(|x| 1.0 + 0.5 * x).collect();
        let beta = noise(102, cols);
        let (mut expected, mut bounds) = (Vec::new(), Vec::new());
        for start in (0..x.len()).step_by(cols) {
            let z: Vec<f64> = (start..start + cols)
                .map(|i| f64::from(x[i]) + residual.as_ref().map_or(0.0, |r| f64::from(r[i])))
                .collect();
            let mean = z.iter().sum::<f64>() / cols as f64;
            let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / cols as f64;
            let s = (variance + f64::from(epsilon)).sqrt();
            let m = z.iter().fold(0.0, |m: f64, z| m.max(z.abs()));
            let u = 0.5f64.powi(24);
            let o = u * (cols as f64 / 256.0 + 12.0) * m / s;
            for (c, z) in z.iter().enumerate() {
                let (gamma, n) = (f64::from(gamma[c]), (z - mean) / s);
                let y = gamma * n + f64::from(beta[c]);
                let mut units = (cols as f64 / 256.0 + 32.0) * (1.0 + o + n.abs() * (1.0 + o * o));
                if residual.is_some() {
                    units += (2.0 + n.abs()) * m / s;
                }
                expected.push(y);
                bounds.push(u * (units * gamma.abs() + y.abs()));
            }
        }
        Self { cols, x, residual, gamma, beta, epsilon, expected, bounds }
    }

    fn run(&self, on: &Backend) -> Result<Tensor> {
        let all = |values: &[f32]| matrix_f32(on, values, (self.x.len() / self.cols, self.cols));
        let row = |values: &[f32]| matrix_f32(on, values, (1, self.cols));
        let residual = self.residual.as_ref().map(|residual| all(residual));
        let (gamma, beta) = (row(&self.gamma), row(&self.beta));
        layer_norm(on, &all(&self.x), residual.as_ref(), &gamma, &beta, self.epsilon)
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
                let more = noise(9, rows * cols).iter().map(|x| x * deviation).collect();
                for residual in [None, Some(more)] {
                    let case = Case::new(x.clone(), cols, residual, 1e-12);
                    let name = (rows, cols, deviation, offset, case.residual.is_some());
                    assert_all_within(&name, &case.expected, |i| case.bounds[i], |on| case.run(on));
                }
            }
        }
    }
}

#[test]
fn large_offsets_cost_next_to_nothing() {
    // What the bound of a row around 0 allows, at mean 1000, and a constant row whose sums are not exact.
    let centred: Vec<f32> = noise(4, 20 * 384);
    let x: Vec<f32> = centred.iter().map(|x| x + 1e3).collect();
    let case = Case::new(x, 384, None, 1e-12);
    let bound =
        |i: usize| 2.2e-6 * (1.0 + (case.expected[i] - f64::from(case.beta[i % 384])).abs());
    assert_all_within(&"mean 1000", &case.expected, bound, |on| case.run(on));
    let case = Case::new(vec![0.1; 384], 384, None, 1e-12);
    assert_all_within(
        &"constant",
        &case.expected,
        |i| 1e-6 * (1.0 + case.expected[i].abs()),
        |on| case.run(on),
    );
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    if let Some(tiny) = tiny_gpu() {
        // Eight workgroups of two rows, the last half empty, where one dimension has seven.
        let case = Case::new(noise(8, 15 * 257), 257, Some(noise(9, 15 * 257)), 1e-5);
        let got = case.run(tiny).unwrap().read_f32(tiny).unwrap();
        assert_within(&"folded", &case.expected, |i| case.bounds[i], &got);
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
