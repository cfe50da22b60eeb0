//! Products of codes: worked examples, agreement of every tile with plain 64-bit sums, the bounds of K, refusal.

use crate::support::{
    CPU, assert_same, assert_within, backends, cross_check, gpu, noise, tiny_gpu,
};
use tersor::{
    Backend, DType, Error, Result, Tensor,
    kernels::{
        Activation, Channels, Epilogue, Int8, Int8Weights, Tile, matmul_i8, matmul_i8_in_tiles,
        matmul_i8_with, multiplier, requantize,
    },
};

/// A matrix of codes, as numbers.
pub struct Codes {
    pub values: Vec<i32>,
    pub rows: usize,
    pub cols: usize,
    pub signed: bool,
}

impl Codes {
    pub fn new(values: &[i32], rows: usize, signed: bool) -> Self {
        Self { values: values.to_vec(), rows, cols: values.len() / rows.max(1), signed }
    }

    /// Codes from the whole range, -127 to 127 or 0 to 255, its ends included.
    pub fn random(seed: u64, rows: usize, cols: usize, signed: bool) -> Self {
        let values = noise(seed, rows * cols);
        let code = |x: &f32| match signed {
            true => (x * 150.0).clamp(-127.0, 127.0) as i32,
            false => (x * 150.0 + 127.5).clamp(0.0, 255.0) as i32,
        };
        Self { values: values.iter().map(code).collect(), rows, cols, signed }
    }

    pub fn on(&self, on: &Backend) -> Int8 {
        let mut bytes = vec![];
        for row in 0..self.rows {
            bytes.extend(self.values[row * self.cols..][..self.cols].iter().map(|v| *v as u8));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let words = bytemuck::pod_collect_to_vec(&bytes);
        let words = Tensor::new(on, DType::U32, self.rows, self.cols.div_ceil(4), words).unwrap();
        Int8 { words, cols: self.cols, signed: self.signed }
    }
}

/// What [`Epilogue::Sum`] is to give, in 64 bits.
fn plain_sums(a: &Codes, w: &Codes, channels: &[[u32; 4]]) -> Vec<i64> {
    let mut sums = Vec::new();
    for row in a.values.chunks(a.cols) {
        for (column, [offset, zero, ..]) in w.values.chunks(w.cols).zip(channels) {
            let product = |(a, w): (&i32, &i32)| i64::from(a * (w - *zero as i32));
            let sum: i64 = row.iter().zip(column).map(product).sum();
            sums.push(sum + i64::from(*offset as i32));
        }
    }
    sums
}

pub fn channel(offset: i32, zero: i32, scale: f32, bias: f32) -> [u32; 4] {
    [offset as u32, zero as u32, scale.to_bits(), bias.to_bits()]
}

pub fn fixed(offset: i32, real: f64) -> [u32; 4] {
    let (multiplier, shift) = multiplier(real);
    [offset as u32, 0, multiplier as u32, shift]
}

/// Offsets and, if asked for, zero points: those of the codes' ends among them, and another in every tile of a column.
pub fn some_channels(n: usize, zero_points: bool, signed: bool) -> Vec<[u32; 4]> {
    let zero = |i: usize| match (zero_points, signed) {
        (false, _) => 0,
        (true, true) => [0, -128, 127, 5, -1][i % 5],
        (true, false) => [255, 0, 128, 3, 1][i % 5],
    };
    (0..n).map(|i| channel(i as i32 * 1000 - 7, zero(i), 0.5, 0.0)).collect()
}

/// The bounds of K for these codes.
fn longest(a_signed: bool, w_signed: bool, zero_points: bool) -> usize {
    match (a_signed, w_signed && !zero_points) {
        (true, true) => 132_104,
        (false, true) => 66_311,
        (true, false) => 65_793,
        (false, false) => 33_025,
    }
}

pub const SIGNS: [(bool, bool); 4] = [(true, true), (false, true), (true, false), (false, false)];
const TILES: [Tile; 3] = [Tile::Few, Tile::Small, Tile::Large];

/// Runs a case on the CPU, and on the GPU in all `tiles`, and compares with plain sums.
fn check_sums(tiles: &[Tile], a: &Codes, w: &Codes, channels: &[[u32; 4]]) {
    let expected = plain_sums(a, w, channels);
    let compare = |case: &str, sums: Tensor, on: &Backend| {
        let got: Vec<i64> = sums.read(on).unwrap().iter().map(|s| i64::from(*s as i32)).collect();
        let case = (case, a.rows, w.rows, a.cols, a.signed, w.signed);
        assert_same(&case, &expected, &got);
    };
    let inputs = |on: &Backend| (a.on(on), w.on(on), Channels::new(on, channels).unwrap());
    let (x, y, c) = inputs(&CPU);
    compare("CPU", matmul_i8(&CPU, &x, &y, &c, Epilogue::Sum).unwrap(), &CPU);
    if let Some(on @ Backend::Gpu(device)) = gpu() {
        let (x, y, c) = inputs(on);
        for tile in tiles {
            let sums = matmul_i8_in_tiles(device, &x, &y, &c, Epilogue::Sum, *tile).unwrap();
            compare(&format!("{tile:?}"), sums, on);
        }
    }
}

#[test]
fn worked_example() {
    // Five columns: the second word of a row holds one code. By hand.
    let a = Codes::new(&[1, -2, 3, -4, 5, -128, 127, 0, 0, 1], 2, true);
    let w = Codes::new(&[1, 1, 1, 1, 1, 127, -127, 10, 0, -1, 0, 0, 0, 0, 2], 3, true);
    let table =
        [channel(0, 0, 0.5, 1.0), channel(-400, 0, 0.25, 0.0), channel(100, 3, 1.0, -200.0)];
    for on in backends() {
        let (a, w, channels) = (a.on(on), w.on(on), Channels::new(on, &table).unwrap());
        // 3, 127 + 254 + 30 - 5 - 400, 10 - 3 * 3 + 100; 0, -16256 - 16129 - 1 - 400, 2 - 3 * 0 + 100.
        let run = |epilogue| matmul_i8(on, &a, &w, &channels, epilogue).unwrap();
        let sums = run(Epilogue::Sum);
        assert_eq!((sums.dtype(), sums.rows(), sums.cols()), (DType::I32, 2, 3));
        let sums: Vec<i32> = bytemuck::cast_vec(sums.read(on).unwrap());
        assert_eq!(sums, [3, 6, 101, 0, -32786, 102], "{}", on.name());
        // Zero points 1 and 3 take so many offsets off: 3, 406 + 400, 1 - 100; 0, -32386 + 1200, 2 - 300. So 3 / 2 + 1, 806 / 4,
        // -99 - 200; the second row on a scale of 2: 0 + 1, -31186 / 2, -596 - 200.
        let scales = Tensor::from_f32(on, &[1.0, 1.0, 2.0, 3.0], 2).unwrap();
        let rows = Some(&scales);
        let none = run(Epilogue::Float { rows, activation: Activation::None });
        let values = none.read_f32(on).unwrap();
        assert_eq!(values, [2.5, 201.5, -299.0, 1.0, -15593.0, -796.0], "{}", on.name());
        let relu = run(Epilogue::Float { rows: None, activation: Activation::Relu });
        assert_eq!(relu.read_f32(on).unwrap(), [2.5, 1.5, 0.0, 1.0, 0.0, 0.0], "{}", on.name());
        // Halves: ties go up, also below zero. 127 and -128 are the ends, and the padding is zero.
        let table = [fixed(0, 0.5), fixed(-411, 0.5), fixed(0, 0.5)];
        let channels = Channels::new(on, &table).unwrap();
        let codes = |zero_point, lowest, highest| {
            let epilogue = Epilogue::Requantize { zero_point, lowest, highest };
            matmul_i8(on, &a, &w, &channels, epilogue).unwrap().read(on).unwrap()
        };
        // 1.5 up to 2, -2.5 up to -2, 5; 0, beyond the end, 1.
        assert_eq!(codes(0, -128, 127), [0x0005_fe02, 0x0001_8000], "{}", on.name());
        assert_eq!(codes(10, 10, 255), [0x000f_0a0c, 0x000b_0a0a], "{}", on.name());
    }
}

#[test]
fn a_single_element() {
    for on in backends() {
        let a = Codes::new(&[255], 1, false).on(on);
        let w = Codes::new(&[-127], 1, true).on(on);
        let channels = Channels::new(on, &[channel(5, 0, 1.0, 0.0)]).unwrap();
        let sums = matmul_i8(on, &a, &w, &channels, Epilogue::Sum).unwrap().read(on).unwrap();
        assert_eq!(sums, [(-127 * 255 + 5) as u32], "{}", on.name());
    }
}

#[test]
fn every_tile_and_sign_agrees_with_plain_sums() {
    // Both sides of the borders of words, quads, steps of K, tiles and few rows; aligned rows and others.
    for (a_signed, w_signed) in SIGNS {
        for zero_points in [false, true] {
            for (m, n, k) in [(1, 1, 1), (3, 5, 3), (9, 17, 64), (65, 63, 33), (130, 129, 20)] {
                let a = Codes::random(1, m, k, a_signed);
                let w = Codes::random(2, n, k, w_signed);
                check_sums(&TILES, &a, &w, &some_channels(n, zero_points, w_signed));
            }
        }
    }
}

#[test]
fn every_length_agrees_with_plain_sums() {
    for m in [1, 2, 7, 8, 9, 16, 17] {
        for (n, k) in [(3, 5), (4, 15), (15, 16), (16, 31), (17, 255), (33, 1025)] {
            let (a, w) = (Codes::random(3, m, k, false), Codes::random(4, n, k, true));
            check_sums(&[Tile::Few], &a, &w, &some_channels(n, false, true));
        }
    }
    for (m, n) in [(1, 65), (4, 64), (63, 1), (64, 128), (65, 3), (127, 66), (128, 4), (129, 127)] {
        for k in [4, 31, 32, 65, 128] {
            let (a, w) = (Codes::random(5, m, k, true), Codes::random(6, n, k, true));
            check_sums(&[Tile::Small, Tile::Large], &a, &w, &some_channels(n, true, true));
        }
    }
}

#[test]
fn panels_of_tiles_cover_every_output() {
    // Nine and eleven tiles of 64: a whole panel of eight and the rest of one.
    let (a, w) = (Codes::random(7, 9 * 64 - 1, 4, true), Codes::random(8, 11 * 64 - 1, 4, true));
    check_sums(&[Tile::Small], &a, &w, &some_channels(w.rows, false, true));
}

#[test]
fn longest_sums_do_not_overflow() {
    for (a_signed, w_signed) in SIGNS {
        for zero_points in [false, true] {
            let k = longest(a_signed, w_signed, zero_points);
            let a = Codes::new(&vec![if a_signed { -128 } else { 255 }; k], 1, a_signed);
            for w_code in if w_signed { [127, -127] } else { [255, 0] } {
                let w = Codes::new(&vec![w_code; k], 1, w_signed);
                // The zero point that makes the difference largest.
                let zero = match (zero_points, w_signed) {
                    (false, _) => 0,
                    (true, true) => {
                        if w_code > 0 {
                            -128
                        } else {
                            127
                        }
                    }
                    (true, false) => {
                        if w_code > 0 {
                            0
                        } else {
                            255
                        }
                    }
                };
                check_sums(&[Tile::Few, Tile::Small], &a, &w, &[channel(0, zero, 1.0, 0.0)]);
            }
        }
    }
}

#[test]
fn k_is_bounded_on_both_sides() {
    for (a_signed, w_signed) in SIGNS {
        for zero in [0, 1] {
            let longest = longest(a_signed, w_signed, zero != 0);
            let run = |k: usize| {
                let codes = |signed| Codes::new(&vec![0; k], 1, signed).on(&CPU);
                let channels = Channels::new(&CPU, &[channel(0, zero, 1.0, 0.0)]).unwrap();
                matmul_i8(&CPU, &codes(a_signed), &codes(w_signed), &channels, Epilogue::Sum)
            };
            assert_eq!(run(longest).unwrap().read(&CPU).unwrap(), [0]);
            let error = run(longest + 1).unwrap_err();
            assert!(matches!(error, Error::Shape { what: "cols", .. }), "{error}");
        }
    }
}

#[test]
fn floats_stay_within_their_bound() {
    let (m, n, k) = (37, 21, 300);
    let (a, w) = (Codes::random(9, m, k, true), Codes::random(10, n, k, true));
    let (scales, bias) = (noise(11, n), noise(12, n));
    let offset = |n: usize| 7 * n as i32 - 50;
    let table: Vec<_> =
        (0..n).map(|i| channel(offset(i), 0, scales[i] * 1e-3, bias[i] * 5.0)).collect();
    // Scale and zero point of each row.
    let zero = |m: usize| (m % 256) as i32;
    let rows: Vec<f32> =
        noise(13, m).iter().enumerate().flat_map(|(r, s)| [*s, zero(r) as f32]).collect();
    let sums = plain_sums(&a, &w, &table);
    let parts = |i: usize| {
        let scale = f64::from(rows[i / n * 2]) * f64::from(f32::from_bits(table[i % n][2]));
        let sum = sums[i] - i64::from(offset(i % n) * (1 + zero(i / n)));
        (sum as f64 * scale, f64::from(f32::from_bits(table[i % n][3])))
    };
    let linear: Vec<f64> = (0..m * n).map(|i| parts(i).0 + parts(i).1).collect();
    let relu: Vec<f64> = linear.iter().map(|x| x.max(0.0)).collect();
    let gelu: Vec<f64> = linear
        .iter()
        .map(|x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)))
        .collect();
    let bound = |i: usize| {
        let (product, bias) = parts(i);
        6.0 * 2f64.powi(-24) * (product.abs() + bias.abs())
    };
    for on in backends() {
        let rows = Tensor::from_f32(on, &rows, m).unwrap();
        let channels = Channels::new(on, &table).unwrap();
        let run = |activation| {
            let epilogue = Epilogue::Float { rows: Some(&rows), activation };
            let out = matmul_i8(on, &a.on(on), &w.on(on), &channels, epilogue).unwrap();
            out.read_f32(on).unwrap()
        };
        assert_within(&(on.name(), "none"), &linear, bound, &run(Activation::None));
        assert_within(&(on.name(), "relu"), &relu, bound, &run(Activation::Relu));
        // The slope of GELU is at most 1.13; the rest is its own.
        let wider = |i: usize| 1.13 * bound(i) + 4e-7 * (1.0 + linear[i].abs());
        assert_within(&(on.name(), "gelu"), &gelu, wider, &run(Activation::Gelu));
    }
}

#[test]
fn codes_are_the_requantized_sums() {
    for (m, n, k) in [(5, 3, 9), (33, 66, 40), (70, 131, 64)] {
        let (a, w) = (Codes::random(14, m, k, false), Codes::random(15, n, k, true));
        let table: Vec<_> =
            (0..n).map(|i| fixed(100 - i as i32, 1.0 / (k as f64 * (3.0 + i as f64)))).collect();
        let run = |on: &Backend| -> Result<(Vec<u32>, Vec<u32>)> {
            let (a, w, channels) = (a.on(on), w.on(on), Channels::new(on, &table)?);
            let epilogue = Epilogue::Requantize { zero_point: 128, lowest: 1, highest: 254 };
            let at_once = matmul_i8(on, &a, &w, &channels, epilogue)?.read(on)?;
            let sums = matmul_i8(on, &a, &w, &channels, Epilogue::Sum)?;
            Ok((at_once, requantize(on, &sums, &channels, 128, 1, 254)?.read(on)?))
        };
        let expected = run(&CPU).unwrap();
        assert_same(&"in two steps", &expected.0, &expected.1);
        cross_check((m, n, k), |on| run(on).map(|codes| codes.0));
        cross_check((m, n, k), |on| run(on).map(|codes| codes.1));
    }
}

#[test]
fn gpu_agrees_where_the_dispatch_folds() {
    // Seven workgroups per dimension: 50 tiles take three dimensions.
    let Some(on @ Backend::Gpu(device)) = tiny_gpu() else { return };
    let (a, w) = (Codes::random(16, 4, 4, true), Codes::random(17, 50 * 16, 4, true));
    let table = some_channels(w.rows, false, true);
    let channels = Channels::new(on, &table).unwrap();
    let (x, y) = (a.on(on), w.on(on));
    let sums = matmul_i8_in_tiles(device, &x, &y, &channels, Epilogue::Sum, Tile::Few).unwrap();
    let got: Vec<i64> = sums.read(on).unwrap().iter().map(|s| i64::from(*s as i32)).collect();
    assert_same(&"folded", &plain_sums(&a, &w, &table), &got);
}

#[test]
fn empty_inputs() {
    for on in backends() {
        for (m, n, k) in [(0, 3, 4), (2, 0, 4), (2, 3, 0)] {
            let codes =
                |rows, cols| Codes { values: vec![0; rows * cols], rows, cols, signed: true };
            let channels = Channels::new(on, &vec![channel(9, 0, 1.0, 0.0); n]).unwrap();
            let (a, w) = (codes(m, k).on(on), codes(n, k).on(on));
            let sums = matmul_i8(on, &a, &w, &channels, Epilogue::Sum).unwrap();
            assert_eq!((sums.rows(), sums.cols()), (m, n));
            assert_eq!(sums.read(on).unwrap(), vec![9; m * n], "{}", on.name());
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let a = Codes::random(1, 2, 5, true).on(&CPU);
    let w = Codes::random(2, 3, 5, true).on(&CPU);
    let three = Channels::new(&CPU, &[channel(0, 0, 1.0, 0.0); 3]).unwrap();
    let refused = |a: &Int8, w: &Int8, channels: &Channels, epilogue| {
        let Error::Shape { what, .. } = matmul_i8(&CPU, a, w, channels, epilogue).unwrap_err()
        else {
            panic!("another error")
        };
        what
    };
    let longer = Codes::random(1, 2, 8, true).on(&CPU);
    assert_eq!(refused(&longer, &w, &three, Epilogue::Sum), "cols of w");
    let nine = Int8 { cols: 9, ..a.clone() };
    assert_eq!(refused(&nine, &w, &three, Epilogue::Sum), "words of a");
    let floats = Int8 { words: Tensor::from_f32(&CPU, &[0.0; 6], 3).unwrap(), ..w.clone() };
    assert_eq!(refused(&a, &floats, &three, Epilogue::Sum), "words of w");
    let two = Channels::new(&CPU, &[channel(0, 0, 1.0, 0.0); 2]).unwrap();
    assert_eq!(refused(&a, &w, &two, Epilogue::Sum), "channels");
    for (w, zero) in [(&w, 128), (&w, -129), (&Int8 { signed: false, ..w.clone() }, -1)] {
        let zeros = Channels::new(&CPU, &[channel(0, zero, 1.0, 0.0); 3]).unwrap();
        assert_eq!(refused(&a, w, &zeros, Epilogue::Sum), "zero points of channels");
    }
    let rows = Tensor::from_f32(&CPU, &[1.0; 3], 3).unwrap();
    let epilogue = Epilogue::Float { rows: Some(&rows), activation: Activation::None };
    assert_eq!(refused(&a, &w, &three, epilogue), "rows");
    let codes = |zero_point, lowest, highest| Epilogue::Requantize { zero_point, lowest, highest };
    assert_eq!(refused(&a, &w, &three, codes(0, -128, 127)), "channels");
    let fixed = Channels::new(&CPU, &[fixed(0, 0.5); 3]).unwrap();
    for (zero_point, lowest, highest) in [(0, 1, 0), (0, -129, 0), (0, -1, 128), (256, 0, 255)] {
        assert_eq!(refused(&a, &w, &fixed, codes(zero_point, lowest, highest)), "codes");
    }
}

#[test]
fn weights_that_were_laid_out_give_the_same_sums() {
    for (a_signed, w_signed) in [(false, false), (false, true), (true, false), (true, true)] {
        for (m, n, k) in
            [(1, 1, 1), (3, 5, 7), (1, 10, 100), (17, 49, 64), (40, 300, 33), (0, 5, 8)]
        {
            let (a, w) = (Codes::random(1, m, k, a_signed), Codes::random(2, n, k, w_signed));
            let zero = if w_signed { -5i32 as u32 } else { 130 };
            let table: Vec<[u32; 4]> = (0..n as u32).map(|o| [o * 7, zero, 0, 0]).collect();
            let expected = plain_sums(&a, &w, &table);
            for on in backends() {
                let channels = Channels::new(on, &table).unwrap();
                let laid_out = Int8Weights::new(on, w.on(on), a_signed).unwrap();
                assert_eq!((laid_out.rows(), laid_out.cols()), (n, k));
                // Room for no more than a vector of columns beyond the last.
                let most = n.next_multiple_of(16) * k.next_multiple_of(4);
                assert!((n * k) as u64 <= laid_out.bytes() && laid_out.bytes() <= most as u64);
                let sums =
                    matmul_i8_with(on, &a.on(on), &laid_out, &channels, Epilogue::Sum).unwrap();
                let sums: Vec<i64> =
                    sums.read(on).unwrap().into_iter().map(|s| i64::from(s as i32)).collect();
                assert_eq!(sums, expected, "{m} x {n} x {k} on {}", on.name());
            }
        }
    }
    let (a, w) = (Codes::random(1, 2, 8, true), Codes::random(2, 3, 8, true));
    let channels = Channels::new(&CPU, &[[0; 4]; 3]).unwrap();
    let run = |a: &Codes, a_signed| {
        let w = Int8Weights::new(&CPU, w.on(&CPU), a_signed).unwrap();
        matmul_i8_with(&CPU, &a.on(&CPU), &w, &channels, Epilogue::Sum).map(|_| ())
    };
    let error = run(&a, false).unwrap_err().to_string();
    assert!(error.contains("a is signed, expected unsigned"), "{error}");
    let error = run(&Codes::random(1, 2, 7, true), true).unwrap_err().to_string();
    assert!(error.contains("cols of w is 8, expected 7"), "{error}");
    assert!(run(&a, true).is_ok());
}
