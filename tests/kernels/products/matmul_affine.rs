//! Products with weights of integer codes: worked example, agreement, refusal.

use crate::{
    products::product::{COLS, LONG, OUTPUTS, PATHS, ROWS, check, check_bits},
    support::{CPU, backends, noise, tiny_gpu},
};
use tersor::{
    Backend, Error, Tensor,
    affine::{AffineCode, Scale},
    codec::bitpack,
    kernels::{Activation, AffineMatrix, matmul_affine},
};

fn scale(scale: f32, zero_point: u8) -> Scale {
    Scale { scale, zero_point }
}

#[test]
fn worked_example() {
    let x = [1.0, 2.0, 3.0, -1.0, 0.5, 0.0];
    for on in backends() {
        let x = Tensor::from_f32(on, &x, 2).unwrap();
        let bias = Tensor::from_f32(on, &[0.25, -0.5], 1).unwrap();
        // Codes 7 -8 1 | -1 0 3, the ends of four bits among them; steps of 0.5 and 2.
        let code = AffineCode { bits: 4, symmetric: true };
        let (codes, scales) = (vec![0x187, 0x30f], [scale(0.5, 0), scale(2.0, 0)]);
        let w = AffineMatrix::new(on, codes.clone(), (2, 3), code, 3, &scales).unwrap();
        assert_eq!(w.bytes(), 2 * 4 + 2 * 8);
        let y = matmul_affine(on, &x, &w, Some(&bias), Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [-2.75, 15.5, -5.25, 1.5], "{}", on.name());
        let y = matmul_affine(on, &x, &w, Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [0.0, 15.5, 0.0, 1.5], "{}", on.name());
        // The same words as asymmetric codes 7 8 1 | 15 0 3, zero at 7, a scale for the whole.
        let code = AffineCode { bits: 4, symmetric: false };
        let w = AffineMatrix::new(on, codes, (2, 3), code, 6, &[scale(0.5, 7)]).unwrap();
        let y = matmul_affine(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [-8.0, -9.0, 0.25, -5.75], "{}", on.name());
        // A single element, 8 bits: the lowest code there is.
        let code = AffineCode { bits: 8, symmetric: true };
        let w = AffineMatrix::new(on, vec![0x81], (1, 1), code, 1, &[scale(2.0, 0)]).unwrap();
        let x = Tensor::from_f32(on, &[0.5], 1).unwrap();
        let y = matmul_affine(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [-127.0], "{}", on.name());
    }
}

/// Codes, their scales, and the weights they stand for.
fn weights(
    code: AffineCode,
    (outputs, cols): (usize, usize),
    group: usize,
) -> (Vec<u32>, Vec<Scale>, Vec<f64>) {
    let (bits, (lowest, highest)) = (u32::from(code.bits), code.limits());
    let words = bitpack::words(cols, bits);
    let steps = f64::from(highest - lowest + 1);
    let draw = |seed, len| noise(seed, len).into_iter().map(|v| (f64::from(v) + 1.0) / 2.0);
    let codes: Vec<i32> = draw(1, outputs * cols).map(|u| lowest + (u * steps) as i32).collect();
    let scales: Vec<Scale> = draw(2, (outputs * cols).div_ceil(group.max(1)))
        .zip(draw(3, outputs * cols))
        .map(|(s, z)| scale(0.01 + s as f32, if code.symmetric { 0 } else { (z * steps) as u8 }))
        .collect();
    let mut packed = vec![0; outputs * words];
    for n in 0..outputs {
        let row: Vec<u8> = codes[n * cols..][..cols].iter().map(|c| *c as u8).collect();
        bitpack::pack(&row, bits, &mut packed[n * words..][..words]);
    }
    let restored = codes.iter().enumerate().map(|(i, c)| {
        let s = scales[i / group];
        f64::from(c - i32::from(s.zero_point)) * f64::from(s.scale)
    });
    let restored = restored.collect();
    (packed, scales, restored)
}

fn agrees(code: AffineCode, (rows, cols, outputs): (usize, usize, usize), group: usize) {
    let (codes, scales, w) = weights(code, (outputs, cols), group);
    check((code, group), (rows, cols, outputs), &w, |on, x, bias, activation| {
        let w = AffineMatrix::new(on, codes.clone(), (outputs, cols), code, group, &scales)?;
        matmul_affine(on, x, &w, bias, activation)
    });
}

#[test]
fn agrees_with_f64_at_every_size() {
    for rows in ROWS {
        for cols in COLS {
            for outputs in OUTPUTS {
                let code = AffineCode { bits: 4, symmetric: outputs % 2 == 1 };
                agrees(code, (rows, cols, outputs), cols);
            }
        }
    }
}

#[test]
fn agrees_with_f64_for_every_code_and_group() {
    for bits in 2..=8 {
        for symmetric in [true, false] {
            let code = AffineCode { bits, symmetric };
            for (rows, cols) in PATHS {
                // Single elements, less than a quad, a quad and a half, half a row, rows, several of them, the whole.
                for group in [1, 2, 3, 6, 32, cols / 2, cols, 2 * cols, 5 * cols, 13 * cols] {
                    if cols % group == 0 || group % cols == 0 {
                        agrees(code, (rows, cols, 13), group);
                    }
                }
            }
            for rows in [1, 2] {
                agrees(code, (rows, LONG, 5), 64);
            }
        }
    }
    for rows in [4, 8] {
        agrees(AffineCode { bits: 8, symmetric: true }, (rows, LONG, 5), 64);
    }
}

#[test]
fn nothing_to_do() {
    let code = AffineCode { bits: 3, symmetric: false };
    for on in backends() {
        let empty = |rows, cols| Tensor::new(on, tersor::DType::F32, rows, cols, Vec::new());
        let bias = Tensor::from_f32(on, &[-1.0, 2.0], 1).unwrap();
        let w = AffineMatrix::new(on, Vec::new(), (2, 0), code, 1, &[]).unwrap();
        let y = matmul_affine(on, &empty(2, 0).unwrap(), &w, Some(&bias), Activation::Relu);
        assert_eq!(y.unwrap().read_f32(on).unwrap(), [0.0, 2.0, 0.0, 2.0], "{}", on.name());
        let w = AffineMatrix::new(on, Vec::new(), (0, 3), code, 3, &[]).unwrap();
        let x = Tensor::from_f32(on, &[1.0; 6], 2).unwrap();
        let y = matmul_affine(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols()), (2, 0));
        let w = AffineMatrix::new(on, vec![0; 2], (2, 3), code, 6, &[scale(1.0, 0)]).unwrap();
        let y = matmul_affine(on, &empty(0, 3).unwrap(), &w, Some(&bias), Activation::None);
        assert_eq!(y.unwrap().rows(), 0);
    }
}

#[test]
fn bits_do_not_depend_on_machine_or_rows() {
    for (rows, cols, outputs) in [(1, 260, 65), (33, 260, 65)] {
        for symmetric in [true, false] {
            let code = AffineCode { bits: 5, symmetric };
            let (codes, scales, w) = weights(code, (outputs, cols), 20);
            // A product of a small integer and an f32, rounded once, is what f64 gives rounded.
            let w: Vec<f32> = w.iter().map(|w| *w as f32).collect();
            let matrix =
                AffineMatrix::new(&CPU, codes, (outputs, cols), code, 20, &scales).unwrap();
            check_bits((rows, cols, outputs), &w, |x| {
                matmul_affine(&CPU, x, &matrix, None, Activation::None)
            });
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |on: &Backend, codes: usize, shape, bits, group, scales: usize| {
        let code = AffineCode { bits, symmetric: true };
        let scales = vec![scale(1.0, 0); scales];
        match AffineMatrix::new(on, vec![0; codes], shape, code, group, &scales).unwrap_err() {
            Error::Shape { kernel: "matmul_affine", what, .. } => what,
            Error::Gpu { .. } => "memory",
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(&CPU, 2, (2, 3), 9, 3, 2), "bits");
    assert_eq!(refused(&CPU, 3, (2, 3), 4, 3, 2), "codes");
    assert_eq!(refused(&CPU, 2, (2, 3), 4, 2, 3), "group");
    assert_eq!(refused(&CPU, 2, (2, 3), 4, 0, 3), "group");
    assert_eq!(refused(&CPU, 2, (2, 3), 4, 3, 3), "scales");
    if let Some(on) = tiny_gpu() {
        // 16 KiB fit a binding of this device.
        assert_eq!(refused(on, 4160, (65, 512), 4, 512, 65), "memory");
    }
    let code = AffineCode { bits: 4, symmetric: true };
    let w = AffineMatrix::new(&CPU, vec![0; 2], (2, 3), code, 3, &[scale(1.0, 0); 2]).unwrap();
    let x = Tensor::from_f32(&CPU, &[1.0; 4], 1).unwrap();
    let error = matmul_affine(&CPU, &x, &w, None, Activation::None).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "columns of x", .. }));
    // A matrix put together by hand is looked at again.
    let x = Tensor::from_f32(&CPU, &[1.0; 3], 1).unwrap();
    let error = matmul_affine(&CPU, &x, &AffineMatrix { group: 6, ..w }, None, Activation::None);
    assert!(matches!(error.unwrap_err(), Error::Shape { what: "scales", .. }));
}
