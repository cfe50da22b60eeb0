//! What the tests of every product of f32 activations with weights share.

use crate::support::{assert_same, assert_within, backends, matrix, noise};
use tersor::{Backend, DType, Result, Tensor, crosscheck::ops::product_bound, kernels::Activation};

/// Rows of x on both sides of what a workgroup takes at a time.
pub const ROWS: [usize; 7] = [1, 2, 3, 7, 8, 9, 33];

/// Lengths of rows on both sides of a unit and of a tile.
pub const COLS: [usize; 10] = [1, 3, 31, 32, 33, 127, 128, 129, 256, 260];

/// Outputs on both sides of a block and of a tile.
pub const OUTPUTS: [usize; 4] = [1, 5, 64, 65];

/// Rows of x and columns that take every path of a kernel, where its codes or types are what varies: each is compiled anew.
pub const PATHS: [(usize, usize); 4] = [(1, 260), (2, 256), (33, 31), (34, 128)];

/// Columns of a row longer than a tile of any layout.
pub const LONG: usize = 2176;

/// Demands every output of a product, on every backend, within its bound of the f64 sum. `w` are the weights, row by row.
pub fn check(
    case: impl std::fmt::Debug,
    (rows, cols, outputs): (usize, usize, usize),
    w: &[f64],
    run: impl Fn(&Backend, &Tensor, Option<&Tensor>, Activation) -> Result<Tensor>,
) {
    for on in backends() {
        check_on(on, &case, (rows, cols, outputs), w, &run);
    }
}

/// The same on one backend.
pub fn check_on(
    on: &Backend,
    case: impl std::fmt::Debug,
    (rows, cols, outputs): (usize, usize, usize),
    w: &[f64],
    run: impl Fn(&Backend, &Tensor, Option<&Tensor>, Activation) -> Result<Tensor>,
) {
    let x = noise(77, rows * cols);
    // Every case takes another activation, every second one a bias.
    let kinds = [Activation::None, Activation::Relu, Activation::Gelu];
    let activation = kinds[(rows + cols + outputs) % 3];
    let bias = ((rows + cols) % 2 == 0).then(|| noise(78, outputs));
    let mut sums = Vec::new();
    for m in 0..rows {
        for n in 0..outputs {
            let start = bias.as_ref().map_or(0.0, |b| f64::from(b[n]));
            let (mut sum, mut magnitude) = (start, start.abs());
            for k in 0..cols {
                let term = f64::from(x[m * cols + k]) * w[n * cols + k];
                sum += term;
                magnitude += term.abs();
            }
            sums.push((sum, magnitude));
        }
    }
    let (expected, steepest, own): (fn(f64) -> f64, _, _) = match activation {
        Activation::None => (|sum| sum, 1.0, 0.0),
        Activation::Relu => (|sum| sum.max(0.0), 1.0, 0.0),
        // Nowhere steeper than 1.13, and its own error.
        Activation::Gelu => {
            (|sum| 0.5 * sum * (1.0 + libm::erf(sum * std::f64::consts::FRAC_1_SQRT_2)), 1.13, 4e-7)
        }
    };
    let expected: Vec<f64> = sums.iter().map(|(sum, _)| expected(*sum)).collect();
    let x = Tensor::new(on, DType::F32, rows, cols, bytemuck::cast_slice(&x).to_vec()).unwrap();
    let bias = bias.as_ref().map(|b| matrix(on, DType::F32, b, 1));
    let y = run(on, &x, bias.as_ref(), activation).unwrap();
    assert_eq!((y.rows(), y.cols(), y.dtype()), (rows, outputs, DType::F32));
    let case = (&case, (rows, cols, outputs), activation, on.name());
    let share = product_bound(on, rows, cols);
    let bound = |i: usize| {
        let (sum, magnitude) = sums[i];
        steepest * share * magnitude + own * (1.0 + sum.abs())
    };
    // A bound that lets zeros pass shows nothing.
    if activation == Activation::None && expected.iter().any(|e| *e != 0.0) {
        let told = (0..expected.len()).any(|i| expected[i].abs() > bound(i));
        assert!(told, "{case:?}: zeros would pass");
    }
    assert_within(&case, &expected, bound, &y.read_f32(on).unwrap());
}

/// Demands that a product on the CPU is, bit for bit, what the plainest loop in the order that it states gives: whatever the
/// machine, the threads and the number of rows of x. `w` are the weights, row by row.
pub fn check_bits(
    (rows, cols, outputs): (usize, usize, usize),
    w: &[f32],
    run: impl Fn(&Tensor) -> Result<Tensor>,
) {
    let x = noise(79, rows * cols);
    let mut expected = Vec::new();
    for m in 0..rows {
        for n in 0..outputs {
            let mut sums = [0f32; 16];
            for k in 0..cols {
                sums[k % 16] += x[m * cols + k] * w[n * cols + k];
            }
            let fourth =
                |q: usize| (sums[4 * q] + sums[4 * q + 2]) + (sums[4 * q + 1] + sums[4 * q + 3]);
            expected.push((fourth(0) + fourth(2)) + (fourth(1) + fourth(3)));
        }
    }
    let on = &Backend::Cpu;
    let y = run(&Tensor::from_f32(on, &x, rows).unwrap()).unwrap();
    assert_same(&(rows, cols, outputs), &expected, &y.read_f32(on).unwrap());
}
