//! Products with weights of any float type: worked example, agreement, refusal.

use crate::{
    products::product::{COLS, LONG, OUTPUTS, PATHS, ROWS, check, check_bits, check_on},
    support::{CPU, WEIGHTS, backends, matrix, noise, tiny_gpu, words_of},
};
use tersor::{
    Backend, DType, Error, Tensor,
    kernels::{Activation, matmul_f32},
};

#[test]
fn worked_example() {
    // Small integers, exact in every type. By hand.
    let (x, w) = ([1.0, 2.0, 3.0, -1.0, 0.5, 0.0], [1.0, -1.0, 2.0, 4.0, 0.0, -2.0]);
    for on in backends() {
        for dtype in WEIGHTS {
            let (x, w) = (Tensor::from_f32(on, &x, 2).unwrap(), matrix(on, dtype, &w, 2));
            let bias = Tensor::from_f32(on, &[0.25, -0.5], 1).unwrap();
            let y = matmul_f32(on, &x, &w, Some(&bias), Activation::None).unwrap();
            assert_eq!(
                y.read_f32(on).unwrap(),
                [5.25, -2.5, -1.25, -4.5],
                "{dtype:?} {}",
                on.name()
            );
            let y = matmul_f32(on, &x, &w, Some(&bias), Activation::Relu).unwrap();
            assert_eq!(y.read_f32(on).unwrap(), [5.25, 0.0, 0.0, 0.0], "{dtype:?} {}", on.name());
        }
        // A single element; and an infinite weight is no business of its neighbours.
        let x = Tensor::from_f32(on, &[3.0], 1).unwrap();
        let w = Tensor::from_f32(on, &[-2.0], 1).unwrap();
        let y = matmul_f32(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [-6.0], "{}", on.name());
        let w = Tensor::new(on, DType::F32, 3, 1, vec![0x3f80_0000, 0x7f80_0000, 0x4000_0000]);
        let y = matmul_f32(on, &x, &w.unwrap(), None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [3.0, f32::INFINITY, 6.0], "{}", on.name());
    }
}

fn agrees(dtype: DType, (rows, cols, outputs): (usize, usize, usize), scale: f32) {
    let values: Vec<f32> = noise(5, outputs * cols).iter().map(|v| v * scale).collect();
    let words = words_of(dtype, &values);
    let w = |on: &Backend| Tensor::new(on, dtype, outputs, cols, words.clone());
    let decoded = w(&CPU).unwrap().read_f32(&CPU).unwrap();
    let decoded: Vec<f64> = decoded.iter().map(|v| f64::from(*v)).collect();
    check((dtype, scale), (rows, cols, outputs), &decoded, |on, x, bias, activation| {
        matmul_f32(on, x, &w(on)?, bias, activation)
    });
}

#[test]
fn agrees_with_f64_at_every_size() {
    for rows in ROWS {
        for cols in COLS {
            for outputs in OUTPUTS {
                agrees(DType::F32, (rows, cols, outputs), 1.0);
            }
        }
    }
}

#[test]
fn agrees_with_f64_for_every_type() {
    for dtype in WEIGHTS {
        for (rows, cols) in PATHS {
            agrees(dtype, (rows, cols, 65), 1.0);
            // Subnormal in the narrow types.
            agrees(dtype, (rows, cols, 5), 1e-5);
        }
        for rows in [1, 2] {
            agrees(dtype, (rows, LONG, 5), 1.0);
        }
    }
    for rows in [4, 8] {
        agrees(DType::F32, (rows, LONG, 5), 1.0);
        agrees(DType::F32, (rows, LONG + 1, 5), 1.0);
    }
}

#[test]
fn agrees_with_f64_at_the_longest_rows() {
    // The longest there are, and the longest of a tile, next to where a software device gives up.
    agrees(DType::F32, (8, (1 << 18) - 1, 1), 1.0);
    agrees(DType::F32, (32, (1 << 16) - 1, 1), 1.0);
}

#[test]
fn nothing_to_do() {
    for on in backends() {
        let empty = |rows, cols| Tensor::new(on, DType::F32, rows, cols, Vec::new()).unwrap();
        let bias = Tensor::from_f32(on, &[-1.0, 2.0], 1).unwrap();
        // No columns: the bias is left.
        let y = matmul_f32(on, &empty(3, 0), &empty(2, 0), Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [0.0, 2.0, 0.0, 2.0, 0.0, 2.0], "{}", on.name());
        let y = matmul_f32(on, &empty(40, 0), &empty(2, 0), None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [0.0; 80], "{}", on.name());
        let w = Tensor::from_f32(on, &[1.0; 6], 2).unwrap();
        let y = matmul_f32(on, &empty(0, 3), &w, Some(&bias), Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols(), y.read(on).unwrap().len()), (0, 2, 0));
        let x = Tensor::from_f32(on, &[1.0; 6], 2).unwrap();
        let y = matmul_f32(on, &x, &empty(0, 3), None, Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols(), y.read(on).unwrap().len()), (2, 0, 0));
    }
}

#[test]
fn bits_do_not_depend_on_machine_or_rows() {
    for (rows, cols, outputs) in [(1, 260, 65), (2, 16, 5), (33, 260, 65), (100, 15, 3)] {
        let values = noise(6, outputs * cols);
        let w = Tensor::from_f32(&CPU, &values, outputs).unwrap();
        check_bits((rows, cols, outputs), &values, |x| {
            matmul_f32(&CPU, x, &w, None, Activation::None)
        });
    }
}

#[test]
fn folds_its_workgroups() {
    // Seven workgroups fit a dimension of this device.
    let Some(on) = tiny_gpu() else { return };
    for (rows, cols, outputs) in [(31, 28, 130), (600, 3, 5), (100, 7, 33)] {
        let w = noise(2, outputs * cols);
        let w64: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
        let run = |on: &Backend, x: &Tensor, bias: Option<&Tensor>, activation| {
            matmul_f32(on, x, &Tensor::from_f32(on, &w, outputs)?, bias, activation)
        };
        check_on(on, "folded", (rows, cols, outputs), &w64, run);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let x = Tensor::from_f32(&CPU, &[1.0; 6], 2).unwrap();
    let w = Tensor::from_f32(&CPU, &[1.0; 6], 2).unwrap();
    let refused = |x: &Tensor, w: &Tensor, bias: Option<&Tensor>| match matmul_f32(
        &CPU,
        x,
        w,
        bias,
        Activation::None,
    )
    .unwrap_err()
    {
        Error::Shape { kernel: "matmul_f32", what, .. } => what,
        other => panic!("{other}"),
    };
    let narrow = Tensor::from_f32(&CPU, &[1.0; 4], 2).unwrap();
    assert_eq!(refused(&narrow, &w, None), "columns of x");
    assert_eq!(refused(&x, &w, Some(&Tensor::from_f32(&CPU, &[1.0; 3], 1).unwrap())), "bias");
    assert_eq!(refused(&x, &w, Some(&Tensor::from_f32(&CPU, &[1.0; 2], 2).unwrap())), "bias");
    let halves = matrix(&CPU, DType::F16, &[1.0; 6], 2);
    assert_eq!(refused(&halves, &w, None), "dtype of x");
    assert_eq!(refused(&x, &w, Some(&matrix(&CPU, DType::F16, &[1.0; 2], 1))), "dtype of bias");
    let integers = Tensor::new(&CPU, DType::U32, 2, 3, vec![0; 6]).unwrap();
    assert_eq!(refused(&x, &integers, None), "dtype");
    let long = Tensor::new(&CPU, DType::F32, 1, (1 << 18) + 1, vec![0; (1 << 18) + 1]).unwrap();
    assert_eq!(refused(&long, &long, None), "columns of w");
}
