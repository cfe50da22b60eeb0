//! Products of signs: worked example, against plain arithmetic on both sides of every boundary, refusal.

use crate::support::{
    CPU, assert_same, assert_within, backends, cross_check, gpu, noise, tiny_gpu,
};
use tersor::{
    Backend, DType, Error, Tensor,
    kernels::{BinaryMatrix, binarize, matmul_binary, xnor_dots},
};

/// A matrix of the signs of `values`, with given scales.
fn signs(on: &Backend, values: &[f32], scales: &[f32]) -> BinaryMatrix {
    let (rows, cols) = (scales.len(), values.len() / scales.len());
    let words = cols.div_ceil(32);
    let mut bits = vec![0; rows * words];
    for (i, v) in values.iter().enumerate() {
        bits[i / cols * words + i % cols / 32] |= u32::from(*v < 0.0) << (i % cols % 32);
    }
    BinaryMatrix {
        bits: Tensor::new(on, DType::U32, rows, words, bits).unwrap(),
        scales: Tensor::from_f32(on, scales, rows).unwrap(),
        cols,
    }
}

/// The dot products, sign by sign.
fn dots(a: &[f32], w: &[f32], cols: usize) -> Vec<i32> {
    let sign = |v: &f32| if *v < 0.0 { -1 } else { 1 };
    let dot = |a: &[f32], w: &[f32]| a.iter().zip(w).map(|(a, w)| sign(a) * sign(w)).sum();
    let row = |a| w.chunks(cols).map(move |w| dot(a, w));
    a.chunks(cols).flat_map(row).collect()
}

fn read_i32(on: &Backend, t: &Tensor) -> Vec<i32> {
    t.read(on).unwrap().into_iter().map(|w| w as i32).collect()
}

#[test]
fn worked_example() {
    // (+ + - -) times (+ - - +), (- - + +) and itself: 0, -4 and 4. By hand.
    let a = [1.0, 2.0, -3.0, -4.0];
    let w = [1.0, -1.0, -1.0, 1.0, -1.0, -2.0, 3.0, 4.0, 1.0, 2.0, -3.0, -4.0];
    for on in backends() {
        let (x, y) = (signs(on, &a, &[0.5]), signs(on, &w, &[3.0, 2.0, 8.0]));
        assert_eq!(read_i32(on, &xnor_dots(on, &x, &y).unwrap()), [0, -4, 4], "{}", on.name());
        let product = matmul_binary(on, &x, &y, None).unwrap();
        assert_eq!(product.read_f32(on).unwrap(), [0.0, -4.0, 16.0], "{}", on.name());
        let bias = Tensor::from_f32(on, &[10.0, 20.0, -20.0], 1).unwrap();
        let product = matmul_binary(on, &x, &y, Some(&bias)).unwrap();
        assert_eq!(product.read_f32(on).unwrap(), [10.0, 16.0, -4.0], "{}", on.name());
        assert_eq!((product.dtype(), product.rows(), product.cols()), (DType::F32, 1, 3));
        // A row of zeros has no scale, whatever its signs.
        let none = signs(on, &a, &[0.0]);
        let product = matmul_binary(on, &none, &y, Some(&bias)).unwrap();
        assert_eq!(product.read_f32(on).unwrap(), [10.0, 20.0, -20.0], "{}", on.name());
        // A single element.
        let (x, y) = (signs(on, &[-1.0], &[0.25]), signs(on, &[1.0], &[4.0]));
        assert_eq!(read_i32(on, &xnor_dots(on, &x, &y).unwrap()), [-1], "{}", on.name());
        assert_eq!(matmul_binary(on, &x, &y, None).unwrap().read_f32(on).unwrap(), [-1.0]);
    }
}

/// Every backend against plain arithmetic.
fn check(on: &Backend, (m, n, cols): (usize, usize, usize)) {
    let case = (m, n, cols, on.name());
    let (a, w) = (noise(1, m * cols), noise(2, n * cols));
    let scales = |seed, len| noise(seed, len).iter().map(|s| s.abs() + 0.01).collect::<Vec<_>>();
    let (of_a, of_w, b) = (scales(3, m), scales(4, n), noise(5, n));
    let (x, y) = (signs(on, &a, &of_a), signs(on, &w, &of_w));
    let expected = dots(&a, &w, cols);
    assert_same(&case, &expected, &read_i32(on, &xnor_dots(on, &x, &y).unwrap()));

    let products: Vec<f64> = (0..m * n)
        .map(|i| f64::from(expected[i]) * f64::from(of_a[i / n]) * f64::from(of_w[i % n]))
        .collect();
    let with_bias: Vec<f64> = (0..m * n).map(|i| products[i] + f64::from(b[i % n])).collect();
    let eps = 5.0 / (1 << 24) as f64;
    let bias = Tensor::from_f32(on, &b, 1).unwrap();
    let got = matmul_binary(on, &x, &y, Some(&bias)).unwrap().read_f32(on).unwrap();
    let bound = |i: usize| eps * (products[i].abs() + f64::from(b[i % n].abs()));
    assert_within(&case, &with_bias, bound, &got);
    // Two roundings, which are the same everywhere.
    let got = matmul_binary(on, &x, &y, None).unwrap().read_f32(on).unwrap();
    let exact = |i: usize| (expected[i] as f32 * (of_a[i / n] * of_w[i % n])).to_bits();
    let exact: Vec<u32> = (0..m * n).map(exact).collect();
    let got: Vec<u32> = got.iter().map(|y| y.to_bits()).collect();
    assert_same(&case, &exact, &got);
}

#[test]
fn few_rows_against_plain_arithmetic() {
    for on in backends() {
        for m in 1..=8 {
            // Words: below and beyond a workgroup's share of lanes, and of four words each.
            for cols in [1, 31, 32, 33, 127, 129, 300, 1025, 8191, 8200] {
                check(on, (m, [1, 3, 17][m % 3], cols));
            }
        }
        for n in [63, 64, 65, 255, 256, 257] {
            check(on, (2, n, 40));
        }
    }
}

#[test]
fn tiles_against_plain_arithmetic() {
    for on in backends() {
        for (m, n) in [(9, 1), (16, 17), (63, 64), (64, 65), (65, 63), (130, 7), (10, 200)] {
            for cols in [1, 33, 511, 512, 513, 1100] {
                check(on, (m, n, cols));
            }
        }
    }
}

#[test]
fn dispatches_may_be_folded() {
    // 7 workgroups per dimension: eight of few rows, and a tile of 9 rows, eight times across.
    if let Some(tiny) = tiny_gpu() {
        check(tiny, (2, 1793, 33));
        check(tiny, (9, 449, 33));
    }
}

#[test]
fn the_longest_rows_end() {
    // Loops over them stay below the 65,535 turns after which some drivers stop.
    let cols = 1 << 22;
    let (a, w) = (noise(8, 9 * cols), noise(9, cols));
    let on = gpu().unwrap_or(&CPU);
    for m in [1, 9] {
        let (x, y) = (signs(on, &a[..m * cols], &vec![1.0; m]), signs(on, &w, &[1.0]));
        let got = read_i32(on, &xnor_dots(on, &x, &y).unwrap());
        assert_same(&(m, on.name()), &dots(&a[..m * cols], &w, cols), &got);
    }
}

#[test]
fn a_product_of_binarized_weights() {
    let (a, w) = (noise(10, 4 * 100), noise(11, 6 * 100));
    cross_check("binarized", |on| {
        let x = binarize(on, &Tensor::from_f32(on, &a, 4)?)?;
        let y = binarize(on, &Tensor::from_f32(on, &w, 6)?)?;
        matmul_binary(on, &x, &y, None)?.read(on)
    });
}

#[test]
fn nothing_gives_nothing() {
    for on in backends() {
        let empty = |rows, cols: usize| BinaryMatrix {
            bits: Tensor::new(on, DType::U32, rows, cols.div_ceil(32), vec![]).unwrap(),
            scales: Tensor::new(on, DType::F32, rows, 1, vec![0; rows]).unwrap(),
            cols,
        };
        let some = signs(on, &[1.0; 40], &[1.0; 1]);
        assert!(xnor_dots(on, &empty(0, 40), &some).unwrap().read(on).unwrap().is_empty());
        assert!(xnor_dots(on, &some, &empty(0, 40)).unwrap().read(on).unwrap().is_empty());
        // Sums over no element.
        for m in [2, 9] {
            let sums = xnor_dots(on, &empty(m, 0), &empty(3, 0)).unwrap().read(on).unwrap();
            assert_eq!(sums, vec![0; 3 * m], "{}", on.name());
        }
    }
}

#[test]
fn refuses_factors_that_do_not_fit() {
    let a = signs(&CPU, &[1.0; 80], &[1.0; 2]);
    let refused = |a: &BinaryMatrix, w: &BinaryMatrix, bias: Option<&Tensor>| match matmul_binary(
        &CPU, a, w, bias,
    ) {
        Err(Error::Shape { kernel: "matmul_binary", what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&a, &signs(&CPU, &[1.0; 41], &[1.0]), None), "w.cols");
    assert_eq!(refused(&BinaryMatrix { cols: 65, ..a.clone() }, &a, None), "a.bits");
    assert_eq!(refused(&a, &BinaryMatrix { cols: 32, ..a.clone() }, None), "w.bits");
    let one = Tensor::from_f32(&CPU, &[1.0], 1).unwrap();
    assert_eq!(refused(&BinaryMatrix { scales: one.clone(), ..a.clone() }, &a, None), "a.scales");
    assert_eq!(refused(&a, &BinaryMatrix { bits: one.clone(), ..a.clone() }, None), "w.bits");
    assert_eq!(refused(&a, &a, Some(&one)), "bias");
    let integers = Tensor::new(&CPU, DType::I32, 1, 2, vec![0; 2]).unwrap();
    assert_eq!(refused(&a, &a, Some(&integers)), "bias");
    let cols = (1 << 22) + 1;
    let long = signs(&CPU, &vec![1.0; cols], &[1.0]);
    assert_eq!(refused(&long, &long, None), "cols");
    assert!(matches!(xnor_dots(&CPU, &long, &long), Err(Error::Shape { what: "cols", .. })));
}
