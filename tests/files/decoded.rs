//! Codes with scales, read as the weights that they stand for.

use super::quantized::{Kind, carried, write};
use crate::support::write_checkpoint;
use tersor::{
    DType::{self, BF16, F4, F8E4M3, F8E8M0, F16, F32, I32, U8},
    form::View,
    format::Checkpoint,
    stage::{Blocks, Source},
};

/// The value of an 8-bit float of a sign, an exponent and `mantissa` bits, by its definition.
fn float8(code: u8, mantissa: i32, bias: i32) -> f64 {
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, rest) =
        (i32::from(code & 0x7f) >> mantissa, i32::from(code) & ((1 << mantissa) - 1));
    let fraction = f64::from(rest) / f64::from(1 << mantissa);
    sign * match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        e => (1.0 + fraction) * 2f64.powi(e - bias),
    }
}

/// Every kind of scales, read through `Source` in units and in pieces, upright and transposed, against the formula in f64.
#[test]
fn codes_with_scales_are_read_as_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scaled.safetensors");
    let bytes = |n: usize, most: u32| -> Vec<u8> {
        (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 11) % most) as u8).collect()
    };
    // Weight, its type, its shape; the name, type and shape of its scales; rows and columns of a tile.
    type Case<'a> = (&'a str, DType, &'a [usize], &'a str, DType, &'a [usize], [usize; 2]);
    let cases: &[Case] = &[
        ("l.weight", F8E4M3, &[300, 257], "l.weight_scale_inv", F32, &[3, 3], [128, 128]),
        ("l.weight", F8E4M3, &[2, 300, 257], "l.weight_scale_inv", BF16, &[2, 3, 3], [128, 128]),
        ("l.weight", DType::F8E5M2, &[30, 64], "l.weight_scale", F32, &[30, 1], [1, 64]),
        ("l.weight", F8E4M3, &[30, 64], "l.weight_scale", F16, &[30], [1, 64]),
        ("l.weight", F8E4M3, &[30, 64], "l.weight_scale", F32, &[], [30, 64]),
        ("l.weight", F8E4M3, &[2, 30, 64], "l.weight_scale", F32, &[1], [30, 64]),
        ("l.weight", F8E4M3, &[30, 64], "l.scale_weight", F32, &[1], [30, 64]),
        ("l.weight", F8E4M3, &[30, 192], "l.weight_scale", U8, &[30, 6], [1, 32]),
        ("l.weight", F8E4M3, &[30, 192], "l.weight.scale", F8E8M0, &[5, 2], [6, 96]),
        ("l.weight", F8E4M3, &[1, 3_000_000], "l.weight_scale", F32, &[1, 3000], [1, 1000]),
        ("w", F8E4M3, &[64], "w_scale", F32, &[1], [1, 64]),
        ("x.gate_up_proj", F4, &[2, 50, 96], "x.gate_up_proj_scales", U8, &[2, 50, 3], [1, 32]),
    ];
    for (i, &(name, dtype, shape, scale_name, scale_type, scale_shape, tile)) in
        cases.iter().enumerate()
    {
        let (n, count) = (shape.iter().product::<usize>(), scale_shape.iter().product::<usize>());
        // No code that is no number; exponents around the bias, and the smallest.
        let mut stored = bytes(dtype.bytes(n), if dtype == F4 { 256 } else { 0x78 });
        if dtype != F4 {
            stored.iter_mut().step_by(3).for_each(|code| *code |= 0x80);
        }
        let exponents = bytes(count, 200);
        let scales = crate::support::words_of(
            if scale_type.is_weight() { scale_type } else { F32 },
            &crate::support::noise(7, count),
        );
        let words = |b: &[u8]| {
            let mut words = vec![0u32; b.len().div_ceil(4)];
            bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..b.len()].copy_from_slice(b);
            words
        };
        let kept = if scale_type.is_weight() { scales.clone() } else { words(&exponents) };
        let (stored_name, stored_type, stored_shape) = match dtype {
            F4 => (format!("{name}_blocks"), U8, [scale_shape, &[16]].concat()),
            _ => (name.to_owned(), dtype, shape.to_vec()),
        };
        // Something before them, so that offsets are not zero.
        write_checkpoint(
            &path,
            &[
                ("before", F32, vec![3], vec![0; 3]),
                (&stored_name, stored_type, stored_shape, words(&stored)),
                (scale_name, scale_type, scale_shape.to_vec(), kept),
            ],
        );
        let c = Checkpoint::open(&path).unwrap();
        let info = c.decoded(name).unwrap().unwrap();
        assert_eq!((info.dtype, info.elements(), info.bytes), (F32, n as u64, 4 * n as u64), "{i}");
        let [rows, cols] = match shape {
            [.., r, c] => [*r, *c],
            _ => [1, n],
        };
        let mut factors = vec![0.0; count];
        if scale_type.is_weight() {
            tersor::dtype::decode(scale_type, &scales, 0, &mut factors);
        } else {
            factors = exponents.iter().map(|e| 2f64.powi(i32::from(*e) - 127) as f32).collect();
        }
        let expected: Vec<f32> = (0..n)
            .map(|at| {
                let (m, r, col) = (at / cols / rows, at / cols % rows, at % cols);
                let across = cols.div_ceil(tile[1]);
                let tiles = if count == 1 { 0 } else { rows.div_ceil(tile[0]) * across };
                let scale = factors[m * tiles + r / tile[0] * across + col / tile[1]];
                let code = match dtype {
                    F4 => {
                        let code = stored[at / 2] >> (at % 2 * 4) & 15;
                        let magnitude = match code & 7 {
                            0 => 0.0,
                            1 => 0.5,
                            c => f64::from(2 + (c & 1)) / 2.0 * 2f64.powi(i32::from(c >> 1) - 1),
                        };
                        if code & 8 == 0 { magnitude } else { -magnitude }
                    }
                    F8E4M3 => float8(stored[at], 3, 7),
                    _ => float8(stored[at], 2, 15),
                };
                (code * f64::from(scale)) as f32
            })
            .collect();
        assert!(expected.iter().any(|x| *x != 0.0) && expected.iter().all(|x| x.is_finite()));
        for axis in [0, 1] {
            let (first, rest) = (info.rows() as usize, info.cols() as usize);
            let view = if axis == 0 { (first, rest) } else { (rest, first) };
            let blocks = Blocks::new(F32, (view.0 as u64, view.1 as u64));
            let source = Source::open(&c, &info, View { axis, stack: false });
            for unit in blocks.units(0).iter().chain(&blocks.units_of(0..blocks.rows.min(3), 1)) {
                let got = source.load(&blocks, unit).unwrap();
                let start = unit.start(&blocks) as usize;
                for (k, bits) in got.iter().enumerate() {
                    let (r, col) = ((start + k) / view.1, (start + k) % view.1);
                    let at = if axis == 0 { start + k } else { col * rest + r };
                    assert_eq!(*bits, expected[at].to_bits(), "{i}, axis {axis}: {r} {col}");
                }
            }
        }
        // What is stored is carried all the same.
        assert!(carried(&path).0.contains(&stored_name), "{i}");
    }
    // Scales of another shape or type, and weights without any.
    let open = |tensors: &[(&str, Kind)], name: &str| {
        write(&path, tensors);
        Checkpoint::open(&path).unwrap().decoded(name).map_err(|e| e.to_string())
    };
    let f8: (&str, Kind) = ("l.weight", (F8E4M3, &[300, 257]));
    let error = open(&[f8, ("l.weight_scale", (F32, &[7, 3]))], "l.weight").unwrap_err();
    assert!(error.contains("expected one for every tile of [300, 257]"), "{error}");
    let error = open(&[f8, ("l.weight_scale", (I32, &[300, 1]))], "l.weight").unwrap_err();
    assert!(error.contains("expected floats or exponents"), "{error}");
    let blocks: (&str, Kind) = ("x_blocks", (U8, &[4, 2, 16]));
    let error = open(&[blocks, ("x_scales", (U8, &[4, 3]))], "x").unwrap_err();
    assert!(error.contains("an exponent for every block"), "{error}");
    for name in ["l.weight", "m.weight", "gone"] {
        assert_eq!(open(&[f8, ("m.weight", (BF16, &[4, 4]))], name), Ok(None), "{name}");
    }
}
