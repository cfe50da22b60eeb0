//! Pyramids: integers of a fixed sum of magnitudes, and weights from their numbers.

use crate::{
    DType, Tensor,
    codec::{bitpack, pyramid::Pyramid},
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::{Rng, WEIGHTS},
        op::Op,
        ops::affine::{read_dtype, upload_packed, with_dtype},
    },
    kernels::{self, PyramidCodes},
};

/// Numbers of a vector, sums of magnitudes, vectors of a row, bits of a gain.
const SHAPES: [(usize, usize, usize, u32); 7] = [
    (4, 1, 1, 1),
    (32, 64, 3, 6),
    (8, 9, 65, 3),
    (64, 20, 5, 8),
    (4, 127, 33, 10),
    (16, 40, 7, 5),
    (12, 2, 129, 2),
];

/// The points nearest to where codes point, ties above all.
pub const PYRAMID_SEARCH: Op = Op {
    name: "pyramid_search",
    kernels: &[&kernels::pyramid::pyramid_search::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, (n, k, groups, _)) in maker.level.some(&SHAPES, 4) {
            for reach in [1, 127] {
                let rng = Rng::new(maker.rng.at(turn), "codes");
                let code =
                    |i: usize| (rng.below(i, 2 * reach + 1) as i32 - reach as i32) as i8 as u8;
                let codes: Vec<u8> = (0..3 * groups * n).map(code).collect();
                let codes = Data::u8((3 * groups, n), &codes).axes("groups", "");
                let input = Input::new().with("codes", codes).set("k", k as i64);
                maker.emit(if reach == 1 { "tie" } else { "shape" }, input);
            }
        }
    },
    run: |on, input| {
        let codes = input.tensor("codes")?;
        let (words, n) = (codes.words.clone(), codes.cols);
        let of = Tensor::new(on, DType::U32, codes.rows, n.div_ceil(4), words)?;
        let pulses = kernels::pyramid_search(on, &of, n, input.number("k")?)?.read(on)?;
        Ok(vec![("pulses", Data::u8((codes.rows, n), bytemuck::cast_slice(&pulses)))])
    },
};

/// Weights from numbers of vectors and of gains.
pub const DEQUANTIZE_PYRAMID: Op = Op {
    name: "dequantize_pyramid",
    kernels: &[&kernels::pyramid::dequantize_pyramid::KERNEL],
    class: Class::Exact,
    expands: 32,
    make: |maker| {
        for (turn, (n, k, groups, gain_bits)) in maker.level.some(&SHAPES, 4) {
            let rng = Rng::new(maker.rng.at(turn), "bits");
            let bits = Pyramid::new(n, k).map_or(0, |p| p.bits()) + gain_bits;
            // Any bits: numbers of vectors, and a few of none.
            let rows = 1 + turn % 3;
            let all: Vec<u8> =
                (0..rows * groups * bits as usize).map(|i| (rng.at(i) & 1) as u8).collect();
            let codes = Data::u8((rows, groups * bits as usize), &all).axes("rows", "");
            let gains: Vec<f32> = (0..1 << gain_bits).map(|i| i as f32 / 37.0).collect();
            let input = Input::new().with("codes", codes);
            let input = input.with("gains", Data::f32((1, gains.len()), &gains));
            let input = input.set("n", n as i64).set("k", k as i64).set("groups", groups as i64);
            maker.emit("shape", with_dtype(input, WEIGHTS[turn % WEIGHTS.len()]));
        }
    },
    run: |on, input| {
        let (codes, gains) = (input.tensor("codes")?, input.tensor("gains")?);
        let (n, k) = (input.number("n")?, input.number("k")?);
        let pyramid = Pyramid::new(n, k)
            .ok_or_else(|| crate::Error::shape("dequantize_pyramid", "k", k, "a small pyramid"))?;
        let book = PyramidCodes { pyramid, gains: gains.as_f32() };
        let packed = upload_packed(on, codes, 1)?;
        debug_assert_eq!(packed.cols(), bitpack::words(codes.cols, 1));
        let cols = n * input.number::<usize>("groups")?;
        let weights = kernels::dequantize_pyramid(on, &packed, cols, book, read_dtype(input)?)?;
        Ok(vec![("weights", Data::read(on, &weights)?)])
    },
};
