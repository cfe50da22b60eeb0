//! Integer requantization: worked example, multipliers, agreement with 128-bit arithmetic, refusal.

use crate::support::{CPU, backends, cross_check, edges, noise};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{Channels, multiplier, requantize},
};

fn channels(on: &Backend, pairs: &[(i32, u32)]) -> Channels {
    // Offset and zero point are not looked at.
    let rows: Vec<_> = pairs.iter().map(|(m, shift)| [77, 88, *m as u32, *shift]).collect();
    Channels::new(on, &rows).unwrap()
}

fn sums(on: &Backend, sums: &[i32], rows: usize) -> Tensor {
    let words = bytemuck::cast_slice(sums).to_vec();
    Tensor::new(on, DType::I32, rows, sums.len() / rows, words).unwrap()
}

#[test]
fn worked_example() {
    // Halves, whose ties go up; a third; one that is too small for any sum. Five columns: two words a row. By hand.
    let reals = [0.5, 0.5, 1.0 / 3.0, 1e-10, 0.75].map(multiplier);
    assert_eq!(reals[0], (1 << 30, 31));
    let values = [3, -3, 100, i32::MAX, 2, -1, 1, -100, i32::MIN, -2];
    for on in backends() {
        let (x, c) = (sums(on, &values, 2), channels(on, &reals));
        let codes = |zero_point, lowest, highest| {
            requantize(on, &x, &c, zero_point, lowest, highest).unwrap().read(on).unwrap()
        };
        // 1.5 -> 2, -1.5 -> -1, 33, 0, 1.5 -> 2; -0.5 -> 0, 0.5 -> 1, -33, 0, -1.5 -> -1.
        let expected = [0x0021_ff02, 0x02, 0x00df_0100, 0xff];
        assert_eq!(codes(0, -128, 127), expected, "{}", on.name());
        // A zero point of 100, saturated at 101, a ReLU.
        let expected = [0x6465_6465, 0x65, 0x6464_6564, 0x64];
        assert_eq!(codes(100, 100, 101), expected, "{}", on.name());
        let (x, c) = (sums(on, &[i32::MIN], 1), channels(on, &[(i32::MAX, 1)]));
        assert_eq!(requantize(on, &x, &c, 3, -128, 127).unwrap().read(on).unwrap(), [0x80]);
    }
}

#[test]
fn multipliers_are_within_2_to_the_minus_31() {
    let mut checked = 0;
    for exponent in -32..30 {
        let edge = [1.0, 1.0 + f64::EPSILON, 2.0 - f64::EPSILON, 1.0 + 2f64.powi(-31), 1.5];
        let random =
            noise((exponent + 40) as u64, 50).into_iter().map(|x| f64::from(x) / 2.0 + 1.5);
        for mantissa in edge.into_iter().chain(random) {
            let real = mantissa * 2f64.powi(exponent);
            let (multiplier, shift) = multiplier(real);
            assert!(multiplier >= 1 << 30 && (1..=62).contains(&shift), "{real:e}: {multiplier}");
            let error = f64::from(multiplier) * 2f64.powi(-(shift as i32)) / real - 1.0;
            assert!(error.abs() <= 2f64.powi(-31), "{real:e} is off by a factor of 1 + {error:e}");
            checked += 1;
        }
    }
    assert_eq!(checked, 62 * 55);
    for nothing in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, 2f64.powi(-33)] {
        assert_eq!(multiplier(nothing).0, 0);
        assert!((1..=62).contains(&multiplier(nothing).1));
    }
    for much in [2f64.powi(30), 1e30, f64::INFINITY] {
        assert_eq!(multiplier(much), (i32::MAX, 1));
    }
}

/// The formula in 128 bits.
fn code(sum: i32, (multiplier, shift): (i32, u32), zero_point: i32, range: (i32, i32)) -> u8 {
    let scaled = (i128::from(sum) * i128::from(multiplier) + (1 << (shift - 1))) >> shift;
    (scaled + i128::from(zero_point)).clamp(range.0.into(), range.1.into()) as u8
}

#[test]
fn agrees_with_128_bits_at_every_shift() {
    // Every shift with multipliers at the ends and between, every sum near a step or a tie of the result, and the ends.
    let factors = [0, 1, 3, 1 << 30, (1 << 30) + 1, 0x5555_5555, 0x6789_abcd, i32::MAX];
    let pairs: Vec<_> = (1..=62).flat_map(|s| factors.map(|m| (m, s))).collect();
    let mut values = vec![];
    for (m, shift) in &pairs {
        let mut row = vec![i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX];
        for half in -260i64..=260 {
            // The sum at which the result is half / 2.
            let middle = ((i128::from(half) << shift) / 2) / i128::from((*m).max(1));
            for nudge in -1..=1 {
                row.push((middle + nudge).clamp(i32::MIN.into(), i32::MAX.into()) as i32);
            }
        }
        values.push(row);
    }
    let rows = values[0].len();
    let flat: Vec<i32> = (0..rows).flat_map(|r| values.iter().map(move |v| v[r])).collect();
    for (zero_point, lowest, highest) in
        [(0, -128, 127), (-128, -128, 127), (255, 0, 255), (7, 7, 9)]
    {
        let run = |on: &Backend| -> Result<Vec<u8>> {
            let (x, c) = (sums(on, &flat, rows), channels(on, &pairs));
            let words = requantize(on, &x, &c, zero_point, lowest, highest)?.read(on)?;
            Ok(bytemuck::cast_slice(&words).to_vec())
        };
        // 8 * 62 columns: a whole number of words, so codes stand as sums do.
        let expected: Vec<u8> = flat
            .iter()
            .zip(pairs.iter().cycle())
            .map(|(s, pair)| code(*s, *pair, zero_point, (lowest, highest)))
            .collect();
        assert!(run(&CPU).unwrap() == expected, "CPU, zero point {zero_point}");
        cross_check(zero_point, run);
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for n in edges(16).into_iter().chain(edges(1024)) {
        let reals: Vec<_> = noise(1, n).iter().map(|x| multiplier(f64::from(x.abs()))).collect();
        let values: Vec<i32> = noise(2, 3 * n).iter().map(|x| (x * 1000.0) as i32).collect();
        cross_check(n, |on| {
            requantize(on, &sums(on, &values, 3), &channels(on, &reals), 3, -127, 127)?.read(on)
        });
    }
}

#[test]
fn empty_inputs() {
    for on in backends() {
        let none = Tensor::new(on, DType::I32, 0, 1, vec![]).unwrap();
        let codes = requantize(on, &none, &channels(on, &[(0, 1)]), 0, 0, 1).unwrap();
        assert_eq!((codes.rows(), codes.cols()), (0, 1));
        let none = Tensor::new(on, DType::I32, 2, 0, vec![]).unwrap();
        let codes = requantize(on, &none, &channels(on, &[]), 0, 0, 1).unwrap();
        assert_eq!((codes.rows(), codes.cols()), (2, 0));
    }
}

#[test]
fn refuses_other_types_and_channels() {
    let x = sums(&CPU, &[1, 2], 1);
    let refused = |x: &Tensor, pairs: &[(i32, u32)], lowest, highest| {
        let error = requantize(&CPU, x, &channels(&CPU, pairs), 0, lowest, highest).unwrap_err();
        let Error::Shape { what, .. } = error else { panic!("{error}") };
        what
    };
    let good = (1 << 30, 31);
    let floats = Tensor::from_f32(&CPU, &[1.0; 2], 1).unwrap();
    assert_eq!(refused(&floats, &[good; 2], 0, 1), "sums");
    assert_eq!(refused(&x, &[good; 3], 0, 1), "channels");
    for bad in [(-1, 31), (1, 0), (1, 63)] {
        assert_eq!(refused(&x, &[good, bad], 0, 1), "channels");
    }
    assert_eq!(refused(&x, &[good; 2], -5, 128), "codes");
}
