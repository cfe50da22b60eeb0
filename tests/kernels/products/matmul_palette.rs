//! Products with weights of palette codes: worked example, agreement, refusal.

use crate::{
    products::product::{COLS, LONG, OUTPUTS, PATHS, ROWS, check, check_bits},
    support::{CPU, backends, noise},
};
use tersor::{
    DType, Error, Tensor,
    codec::bitpack,
    kernels::{Activation, PaletteMatrix, matmul_palette},
};

#[test]
fn worked_example() {
    for on in backends() {
        let x = Tensor::from_f32(on, &[1.0, 2.0, 3.0, -1.0, 0.5, 0.0], 2).unwrap();
        let bias = Tensor::from_f32(on, &[0.25, -0.5], 1).unwrap();
        // Codes 0 1 2 | 0 3 0: a table for each row; code 3 is beyond its table and takes the last entry.
        let codes = vec![0b10_01_00, 0b00_11_00];
        let entries = [-1.5, 0.0, 2.0, 8.0, 4.0, 4.0];
        let w = PaletteMatrix::new(on, codes.clone(), (2, 3), 2, 3, &entries).unwrap();
        assert_eq!(w.bytes(), 2 * 4 + 6 * 4);
        let y = matmul_palette(on, &x, &w, Some(&bias), Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [4.75, 39.5, 1.75, -6.5], "{}", on.name());
        let y = matmul_palette(on, &x, &w, Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [4.75, 39.5, 1.75, 0.0], "{}", on.name());
        // One table for the whole.
        let w = PaletteMatrix::new(on, codes, (2, 3), 2, 6, &entries[..4]).unwrap();
        let y = matmul_palette(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [4.5, 10.0, 1.5, 5.5], "{}", on.name());
        // A single element, and a table of one.
        let w = PaletteMatrix::new(on, vec![1], (1, 1), 1, 1, &[-3.0]).unwrap();
        let x = Tensor::from_f32(on, &[0.5], 1).unwrap();
        let y = matmul_palette(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [-1.5], "{}", on.name());
    }
}

/// Codes, their tables, and the weights they stand for. Some codes lie beyond their table.
fn weights(
    bits: u32,
    k: usize,
    (outputs, cols): (usize, usize),
    group: usize,
) -> (Vec<u32>, Vec<f32>, Vec<f32>) {
    let words = bitpack::words(cols, bits);
    let entries = noise(4, (outputs * cols).div_ceil(group) * k);
    let mut packed = vec![0; outputs * words];
    let mut restored = Vec::new();
    for n in 0..outputs {
        let draw = noise(5 + n as u64, cols).into_iter().map(|v| (v + 1.0) / 2.0);
        let row: Vec<u8> = draw.map(|u| (u * (1u32 << bits) as f32) as u8).collect();
        bitpack::pack(&row, bits, &mut packed[n * words..][..words]);
        let table = &entries[n * cols / group * k..][..k];
        restored.extend(row.iter().map(|c| table[usize::from(*c).min(k - 1)]));
    }
    (packed, entries, restored)
}

fn agrees(bits: u32, k: usize, (rows, cols, outputs): (usize, usize, usize), group: usize) {
    let (codes, entries, w) = weights(bits, k, (outputs, cols), group);
    let w: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
    check((bits, k, group), (rows, cols, outputs), &w, |on, x, bias, activation| {
        let w = PaletteMatrix::new(on, codes.clone(), (outputs, cols), bits, group, &entries)?;
        matmul_palette(on, x, &w, bias, activation)
    });
}

#[test]
fn agrees_with_f64_at_every_size() {
    for rows in ROWS {
        for cols in COLS {
            for outputs in OUTPUTS {
                agrees(4, 13, (rows, cols, outputs), cols * outputs);
            }
        }
    }
}

#[test]
fn agrees_with_f64_for_every_width_and_table() {
    for bits in 1..=8 {
        for k in [2, 13, 16, 256].into_iter().filter(|k| *k <= 1 << bits) {
            for (rows, cols) in PATHS {
                // 70 rows: more than a tile. Where each has its own table, long ones are not near by.
                for rows_of_table in [1, 3, 70] {
                    agrees(bits, k, (rows, cols, 70), rows_of_table * cols);
                }
            }
        }
        agrees(bits, 2, (1, LONG, 5), 2 * LONG);
        agrees(bits, 2, (2, LONG, 5), 2 * LONG);
    }
}

#[test]
fn nothing_to_do() {
    for on in backends() {
        let empty = |rows, cols| Tensor::new(on, DType::F32, rows, cols, Vec::new()).unwrap();
        let bias = Tensor::from_f32(on, &[-1.0, 2.0], 1).unwrap();
        let w = PaletteMatrix::new(on, Vec::new(), (2, 0), 4, 1, &[]).unwrap();
        let y = matmul_palette(on, &empty(2, 0), &w, Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [0.0, 2.0, 0.0, 2.0], "{}", on.name());
        let w = PaletteMatrix::new(on, Vec::new(), (0, 3), 4, 3, &[]).unwrap();
        let x = Tensor::from_f32(on, &[1.0; 6], 2).unwrap();
        let y = matmul_palette(on, &x, &w, None, Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols()), (2, 0));
        let w = PaletteMatrix::new(on, vec![0; 2], (2, 3), 4, 6, &[1.0; 16]).unwrap();
        let y = matmul_palette(on, &empty(0, 3), &w, Some(&bias), Activation::None).unwrap();
        assert_eq!((y.rows(), y.cols()), (0, 2));
    }
}

#[test]
fn bits_do_not_depend_on_machine_or_rows() {
    for (rows, cols, outputs) in [(1, 260, 65), (33, 260, 65)] {
        let (codes, entries, w) = weights(5, 30, (outputs, cols), 3 * cols);
        let matrix =
            PaletteMatrix::new(&CPU, codes, (outputs, cols), 5, 3 * cols, &entries).unwrap();
        check_bits((rows, cols, outputs), &w, |x| {
            matmul_palette(&CPU, x, &matrix, None, Activation::None)
        });
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |codes: usize, shape, bits, group, entries: usize| {
        let entries = vec![0.0; entries];
        match PaletteMatrix::new(&CPU, vec![0; codes], shape, bits, group, &entries).unwrap_err() {
            Error::Shape { kernel: "matmul_palette", what, .. } => what,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(2, (2, 3), 9, 3, 4), "bits");
    assert_eq!(refused(2, (2, 3), 0, 3, 4), "bits");
    assert_eq!(refused(3, (2, 3), 4, 3, 4), "codes");
    assert_eq!(refused(2, (2, 3), 4, 1, 6), "group");
    assert_eq!(refused(2, (2, 3), 4, 0, 6), "group");
    assert_eq!(refused(2, (2, 3), 4, 3, 5), "entries");
    assert_eq!(refused(2, (2, 3), 4, 3, 0), "entries of a table");
    assert_eq!(refused(2, (2, 3), 4, 6, 257), "entries of a table");
    let w = PaletteMatrix::new(&CPU, vec![0; 2], (2, 3), 4, 6, &[0.0; 16]).unwrap();
    let x = Tensor::from_f32(&CPU, &[1.0; 3], 1).unwrap();
    let error = matmul_palette(&CPU, &x, &PaletteMatrix { k: 17, ..w }, None, Activation::None);
    assert!(matches!(error.unwrap_err(), Error::Shape { what: "entries", .. }));
}
