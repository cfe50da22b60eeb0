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
    // Zero at 51 on a scale of 1, ties to even; nothing below zero, on a scale of 0.5; nothing but zeros; too small; not finite.
    // Five columns: two words a row, padding zero also where the code of zero is not. By hand.
    let rows = [
        [0.5, 1.5, -51.0, 204.0, -1.0],
        [127.5, 0.25, 0.75, 0.0, 63.4],
        [0.0, -0.0, 0.0, 0.0, 0.0],
        [2f32.powi(-111), 0.0, -2f32.powi(-111), 0.0, 1e-45],
        [1.0, f32::NEG_INFINITY, 2.0, 3.0, 4.0],
        [1.0, 2.0, 3.0, 4.0, -f32::NAN],
    ];
    for on in backends() {
        let x = Tensor::from_f32(on, rows.as_flattened(), 6).unwrap();
        let got = quantize_rows(on, &x).unwrap();
        assert_eq!((got.codes.cols, got.codes.signed), (5, false));
        assert_eq!((got.scales.rows(), got.scales.cols()), (6, 2));
        let scales = got.scales.read(on).unwrap();
        let (nan, bits) = (f32::NAN.to_bits(), |x: f32| x.to_bits());
        let expected = [bits(1.0), bits(51.0), bits(0.5), 0, 0, 0, 0, 0, nan, 0, nan, 0];
        assert_eq!(scales, expected, "{}", on.name());
        let codes = got.codes.words.read(on).unwrap();
        let expected = [0xff00_3533, 0x32, 0x0002_00ff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(codes, expected, "{}", on.name());
        // Nothing above zero: it is the last code.
        let one = quantize_rows(on, &Tensor::from_f32(on, &[-3.0], 1).unwrap()).unwrap();
        let expected = [bits(3.0 / 255.0), bits(255.0), 0];
        assert_eq!(words(on, &one).unwrap(), expected, "{}", on.name());
    }
}

#[test]
fn scales_and_codes_are_those_of_f64() {
    // Rows for every magnitude: the ends of the range, every exponent, mantissas at the ends and between; of every proportion
    // between the sides.
    let mut magnitudes = vec![f32::MAX, 2f32.powi(-110), f32::from_bits((17 << 23) - 1)];
    let random = noise(1, 254 * 40);
    for exponent in 17..255u32 {
        let random = random[40 * (exponent as usize - 1)..][..40].iter();
        let random = random.map(|x| x.to_bits() & 0x7f_ffff);
        magnitudes.extend(
            [0, 1, 0x7f_ffff].into_iter().chain(random).map(|m| f32::from_bits(exponent << 23 | m)),
        );
    }
    let shares = noise(2, magnitudes.len());
    let x: Vec<f32> = magnitudes
        .iter()
        .zip(&shares)
        .enumerate()
        .flat_map(|(i, (m, share))| {
            let other = match i % 4 {
                0 => *share,
                1 => share * share * share / 300.0,
                2 => 1.0,
                _ => 2f32.powi(-(i as i32 % 31)),
            };
            let sign = if i % 2 == 0 { -1.0 } else { 1.0 };
            [sign * m, -sign * m * other, m / 127.0 * 0.5, m / 127.0 * 11.5]
        })
        .collect();
    let run = |on: &Backend| quantize_rows(on, &Tensor::from_f32(on, &x, magnitudes.len())?);
    let expected: Vec<u32> = {
        let plain = |row: &[f32]| {
            let reach = |sign: f32| row.iter().fold(0.0, |m: f32, x| m.max(sign * x));
            let (low, high) = (reach(-1.0), reach(1.0));
            let most = low.max(high);
            if most < 2f32.powi(-110) {
                return ([0, 0], [0; 4]);
            }
            // Units of the last place of the larger side.
            let unit = 2f64.powi((most.to_bits() >> 23) as i32 - 150);
            let units = |x: f32| if x.is_normal() { (f64::from(x) / unit).floor() } else { 0.0 };
            let all = units(low) + units(high);
            let zero = ((255.0 * units(low) + (all / 2.0).floor()) / all).floor();
            let quotient = |x: f32, n: f64| if n == 0.0 { 0.0 } else { (f64::from(x) / n) as f32 };
            let scale = quotient(low, zero).max(quotient(high, 255.0 - zero));
            let inverse = (1.0 / f64::from(scale)) as f32;
            let code = |x: &f32| ((x * inverse).round_ties_even() + zero as f32).clamp(0.0, 255.0);
            let codes = [&row[0], &row[1], &row[2], &row[3]].map(|x| code(x) as u8);
            ([scale.to_bits(), (zero as f32).to_bits()], codes)
        };
        let rows: Vec<_> = x.chunks(4).map(plain).collect();
        let scales = rows.iter().flat_map(|r| r.0);
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
            assert_eq!(words(on, &quantize_rows(on, &x).unwrap()).unwrap(), vec![0; 2 * rows]);
        }
    }
}

#[test]
fn refuses_other_types() {
    let x = Tensor::new(&CPU, DType::U32, 1, 1, vec![0]).unwrap();
    let error = quantize_rows(&CPU, &x).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "x", .. }));
}
