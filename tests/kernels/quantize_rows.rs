//! Activations to codes, row by row: worked example, scales against f64, agreement, refusal.

use crate::support::{CPU, assert_same, backends, cross_check, edges, gpu, noise, tiny_gpu};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{Int8Rows, quantize_rows, quantize_rows_in_integers},
};

/// Bits of the scales, then the words of the codes.
fn words(on: &Backend, rows: &Int8Rows) -> Result<Vec<u32>> {
    Ok([rows.scales.read(on)?, rows.codes.words.read(on)?].concat())
}

#[test]
fn worked_example() {
    // Scales 1 and 0.5: ties go to even; nothing but zeros; too small; not finite. Five columns: two words a row. By hand.
    let rows = [
        [0.5, 1.5, -2.5, 127.0, -1.0],
        [-63.5, 0.25, 0.75, -0.25, 63.4],
        [0.0, -0.0, 0.0, 0.0, 0.0],
        [2f32.powi(-111), 0.0, -2f32.powi(-111), 0.0, 1e-45],
        [1.0, f32::NEG_INFINITY, 2.0, 3.0, 4.0],
        [1.0, 2.0, 3.0, 4.0, -f32::NAN],
    ];
    for on in backends() {
        let x = Tensor::from_f32(on, rows.as_flattened(), 6).unwrap();
        let got = quantize_rows(on, &x).unwrap();
        assert_eq!((got.codes.cols, got.codes.signed), (5, true));
        assert_eq!((got.scales.rows(), got.scales.cols()), (6, 1));
        let scales = got.scales.read(on).unwrap();
        let nan = f32::NAN.to_bits();
        assert_eq!(scales, [1f32.to_bits(), 0.5f32.to_bits(), 0, 0, nan, nan], "{}", on.name());
        let codes = got.codes.words.read(on).unwrap();
        let expected = [0x7ffe_0200, 0xff, 0x0002_0081, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(codes, expected, "{}", on.name());
        let one = quantize_rows(on, &Tensor::from_f32(on, &[-3.0], 1).unwrap()).unwrap();
        assert_eq!(words(on, &one).unwrap(), [(3f32 / 127.0).to_bits(), 0x81], "{}", on.name());
    }
}

#[test]
fn scales_and_codes_are_those_of_f64() {
    // One row for every magnitude: the ends of the range, every exponent, mantissas at the ends, near 127 * 2^17 and between.
    let mut magnitudes = vec![f32::MAX, 2f32.powi(-110), f32::from_bits((17 << 23) - 1)];
    let random = noise(1, 254 * 40);
    for exponent in 17..255u32 {
        let special = [0, 1, 0x7f_ffff, (127 << 17) - 0x80_0000, (127 << 17) - 0x7f_ffff];
        let random = random[40 * (exponent as usize - 1)..][..40].iter();
        let random = random.map(|x| x.to_bits() & 0x7f_ffff);
        magnitudes
            .extend(special.into_iter().chain(random).map(|m| f32::from_bits(exponent << 23 | m)));
    }
    let x: Vec<f32> =
        magnitudes.iter().flat_map(|m| [-m, m * 0.3, m / 127.0 * 0.5, m / 127.0 * 11.5]).collect();
    let run = |on: &Backend| quantize_rows(on, &Tensor::from_f32(on, &x, magnitudes.len())?);
    let expected: Vec<u32> = {
        let plain = |row: &[f32]| {
            let absmax = row[0].abs();
            let scale = (f64::from(absmax) / 127.0) as f32;
            if absmax < 2f32.powi(-110) {
                return (0, [0; 4]);
            }
            let inverse = (1.0 / f64::from(scale)) as f32;
            let code = |x: &f32| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
            (scale.to_bits(), [code(&row[0]), code(&row[1]), code(&row[2]), code(&row[3])])
        };
        let rows: Vec<_> = x.chunks(4).map(plain).collect();
        let scales = rows.iter().map(|r| r.0);
        scales.chain(rows.iter().map(|r| u32::from_le_bytes(r.1))).collect()
    };
    assert!(words(&CPU, &run(&CPU).unwrap()).unwrap() == expected);
    cross_check("magnitudes", |on| words(on, &run(on)?));
    if let Some(on @ Backend::Gpu(device)) = gpu() {
        let x = Tensor::from_f32(on, &x, magnitudes.len()).unwrap();
        let got = quantize_rows_in_integers(device, &x).unwrap();
        assert!(words(on, &got).unwrap() == expected, "in integers");
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for cols in edges(4).into_iter().chain(edges(256)).chain(edges(1024)) {
        for rows in [1, 3, 70] {
            let values = noise(cols as u64, rows * cols);
            cross_check((rows, cols), |on| {
                words(on, &quantize_rows(on, &Tensor::from_f32(on, &values, rows)?)?)
            });
        }
    }
}

#[test]
fn gpu_agrees_where_the_dispatch_folds() {
    // Seven workgroups per dimension, and four rows to a workgroup: the eighth takes a second dimension.
    let Some(on) = tiny_gpu() else { return };
    let values = noise(3, 31 * 132);
    let run = |on: &Backend| words(on, &quantize_rows(on, &Tensor::from_f32(on, &values, 31)?)?);
    assert_same(&"folded", &run(&CPU).unwrap(), &run(on).unwrap());
}

#[test]
fn empty_inputs() {
    for on in backends() {
        for (rows, cols) in [(0, 5), (2, 0)] {
            let x = Tensor::new(on, DType::F32, rows, cols, vec![]).unwrap();
            assert_eq!(words(on, &quantize_rows(on, &x).unwrap()).unwrap(), vec![0; rows]);
        }
    }
}

#[test]
fn refuses_other_types() {
    let x = Tensor::new(&CPU, DType::U32, 1, 1, vec![0]).unwrap();
    let error = quantize_rows(&CPU, &x).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "x", .. }));
}
