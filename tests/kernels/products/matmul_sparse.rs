//! Products with sparse weights: worked example, agreement, refusal.

use crate::{
    products::product::{COLS, LONG, OUTPUTS, PATHS, ROWS, check, check_bits},
    support::{CPU, WEIGHTS, backends, matrix, noise, words_of},
};
use tersor::{
    DType, Error, Tensor,
    codec::sparse,
    kernels::{Activation, SparseMatrix, matmul_sparse, nm_mask},
};

#[test]
fn worked_example() {
    for on in backends() {
        for dtype in WEIGHTS {
            // 0 -1 2 | 4 0 0, of which three survive; and a row of none.
            let (mask, values) = (vec![0b110, 0b001, 0], words_of(dtype, &[-1.0, 2.0, 4.0]));
            let w = SparseMatrix::new(on, mask, values, dtype, (3, 3)).unwrap();
            assert_eq!(w.bytes(), 24 + 4 * tersor::words(dtype, 3) as u64);
            let x = Tensor::from_f32(on, &[1.0, 2.0, 3.0, -1.0, 0.5, 0.0], 2).unwrap();
            let bias = Tensor::from_f32(on, &[0.25, -0.5, 1.0], 1).unwrap();
            let y = matmul_sparse(on, &x, &w, Some(&bias), Activation::None).unwrap();
            let expected = [4.25, 3.5, 1.0, -0.25, -4.5, 1.0];
            assert_eq!(y.read_f32(on).unwrap(), expected, "{dtype:?} {}", on.name());
            let y = matmul_sparse(on, &x, &w, Some(&bias), Activation::Relu).unwrap();
            let expected = [4.25, 3.5, 1.0, 0.0, 0.0, 1.0];
            assert_eq!(y.read_f32(on).unwrap(), expected, "{dtype:?} {}", on.name());
        }
        // A single element.
        let w = SparseMatrix::new(on, vec![1], vec![0x4000_0000], DType::F32, (1, 1)).unwrap();
        let x = Tensor::from_f32(on, &[1.5], 1).unwrap();
        let y = matmul_sparse(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [3.0], "{}", on.name());
    }
}

/// A mask that keeps about a share `density` of the elements.
fn random_mask((outputs, cols): (usize, usize), density: f32) -> Vec<u32> {
    let mut mask = vec![0; outputs * cols.div_ceil(32)];
    for (n, row) in mask.chunks_mut(cols.div_ceil(32)).enumerate() {
        for (k, v) in noise(100 + n as u64, cols).iter().enumerate() {
            row[k / 32] |= u32::from((v + 1.0) / 2.0 < density) << (k % 32);
        }
    }
    mask
}

/// Survivors of a mask as words of `dtype`, and all weights as f32.
fn weights(dtype: DType, (outputs, cols): (usize, usize), mask: &[u32]) -> (Vec<u32>, Vec<f32>) {
    let all = words_of(dtype, &noise(8, outputs * cols));
    let kept = sparse::gather(dtype, &all, cols, mask);
    let dense = sparse::scatter(dtype, &kept, outputs, cols, mask);
    let dense = Tensor::new(&CPU, dtype, outputs, cols, dense).unwrap();
    (kept, dense.read_f32(&CPU).unwrap())
}

fn agrees(dtype: DType, (rows, cols, outputs): (usize, usize, usize), mask: &[u32], case: &str) {
    let (values, w) = weights(dtype, (outputs, cols), mask);
    let w: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
    check((dtype, case), (rows, cols, outputs), &w, |on, x, bias, activation| {
        let (mask, values) = (mask.to_vec(), values.clone());
        let w = SparseMatrix::new(on, mask, values, dtype, (outputs, cols))?;
        matmul_sparse(on, x, &w, bias, activation)
    });
}

#[test]
fn agrees_with_f64_at_every_size() {
    for rows in ROWS {
        for cols in COLS {
            for outputs in OUTPUTS {
                let mask = random_mask((outputs, cols), 0.3);
                agrees(DType::F32, (rows, cols, outputs), &mask, "0.3");
            }
        }
    }
}

#[test]
fn agrees_with_f64_for_every_type_and_density() {
    for dtype in WEIGHTS {
        for (rows, cols) in PATHS {
            for density in [0.0, 0.3, 1.0] {
                let mask = random_mask((9, cols), density);
                agrees(dtype, (rows, cols, 9), &mask, &density.to_string());
            }
            let dense = matrix(&CPU, DType::F32, &noise(8, 9 * cols), 9);
            let mask = nm_mask(&CPU, &dense, 2, 4).unwrap().read(&CPU).unwrap();
            agrees(dtype, (rows, cols, 9), &mask, "2:4");
        }
        agrees(dtype, (1, LONG, 5), &random_mask((5, LONG), 0.3), "0.3");
    }
    for rows in [2, 4, 8] {
        agrees(DType::F32, (rows, LONG, 5), &random_mask((5, LONG), 0.3), "0.3");
    }
}

#[test]
fn nothing_to_do() {
    for on in backends() {
        let empty = |rows, cols| Tensor::new(on, DType::F32, rows, cols, Vec::new()).unwrap();
        let bias = Tensor::from_f32(on, &[-1.0, 2.0], 1).unwrap();
        let none =
            |mask, shape| SparseMatrix::new(on, mask, Vec::new(), DType::F16, shape).unwrap();
        let w = none(Vec::new(), (2, 0));
        let y = matmul_sparse(on, &empty(2, 0), &w, Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [0.0, 2.0, 0.0, 2.0], "{}", on.name());
        let x = Tensor::from_f32(on, &[1.0; 6], 2).unwrap();
        let y = matmul_sparse(on, &x, &none(Vec::new(), (0, 3)), None, Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols()), (2, 0));
        let w = none(vec![0; 2], (2, 3));
        let y = matmul_sparse(on, &empty(0, 3), &w, Some(&bias), Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols()), (0, 2));
    }
}

#[test]
fn survivors_that_are_not_there_are_zero() {
    for on in backends() {
        // Four are expected, three are there, and what pads them is no value.
        let ones = vec![0x3c00_3c00; 2];
        let w = SparseMatrix::new(on, vec![0b1111], ones.clone(), DType::F16, (1, 4)).unwrap();
        let w = SparseMatrix { values: Tensor::new(on, DType::F16, 1, 3, ones).unwrap(), ..w };
        let x = Tensor::from_f32(on, &[1.0, 2.0, 4.0, 8.0], 1).unwrap();
        let y = matmul_sparse(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [7.0], "{}", on.name());
    }
}

#[test]
fn bits_do_not_depend_on_machine_or_rows() {
    for (rows, cols, outputs) in [(1, 260, 65), (33, 260, 65)] {
        let mask = random_mask((outputs, cols), 0.4);
        let (values, w) = weights(DType::F16, (outputs, cols), &mask);
        let matrix = SparseMatrix::new(&CPU, mask, values, DType::F16, (outputs, cols)).unwrap();
        check_bits((rows, cols, outputs), &w, |x| {
            matmul_sparse(&CPU, x, &matrix, None, Activation::None)
        });
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |mask: &[u32], values: usize, dtype, shape| {
        let values = vec![0; values];
        match SparseMatrix::new(&CPU, mask.to_vec(), values, dtype, shape).unwrap_err() {
            Error::Shape { kernel: "matmul_sparse", what, .. } => what,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(&[0b101], 2, DType::F32, (2, 3)), "mask");
    assert_eq!(refused(&[0b101, 0b1000], 3, DType::F32, (2, 3)), "mask");
    assert_eq!(refused(&[0b101, 0b1], 2, DType::F32, (2, 3)), "values");
    assert_eq!(refused(&[0b101, 0b1], 4, DType::F32, (2, 3)), "values");
    assert_eq!(refused(&[0b101, 0b1], 3, DType::U32, (2, 3)), "dtype");
    let w = SparseMatrix::new(&CPU, vec![0b101], vec![0; 2], DType::F32, (1, 3)).unwrap();
    let x = Tensor::from_f32(&CPU, &[1.0; 3], 1).unwrap();
    let w = SparseMatrix { cols: 33, ..w };
    let error = matmul_sparse(&CPU, &x, &w, None, Activation::None).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "mask", .. }));
}
