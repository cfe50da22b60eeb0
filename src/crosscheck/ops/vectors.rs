//! Vectors: integers of weights, the nearest entry, and weights from codes.

use crate::{
    DType, Tensor,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::{Admits, Rng, Values, WEIGHTS},
        op::Op,
        ops::{
            affine::{read_dtype, symbols, upload_packed, with_dtype},
            grouping::Grouping,
        },
    },
    decide::affine::Scale,
    kernels::{self, Entries, VECTOR_LIMIT, VectorCodes},
};

/// Weights, vectors of them, entries, sub-spaces: every path of the kernels.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 1),
    (4, 7, 16, 1),
    (2, 300, 2, 1),
    (3, 65, 5, 2),
    (8, 64, 256, 1),
    (5, 33, 17, 3),
    (16, 40, 3, 1),
    (12, 9, 300, 1),
    (7, 257, 2, 1),
];

/// Numbers of vectors: all of the range, or so few that distances tie.
fn numbers(rng: Rng, shape: (usize, usize), turn: usize) -> Data {
    let reach = if turn.is_multiple_of(2) { VECTOR_LIMIT as usize } else { 2 };
    let number = |i: usize| (rng.below(i, 2 * reach + 1) as f32) - reach as f32;
    let values: Vec<f32> = (0..shape.0 * shape.1).map(number).collect();
    Data::f32(shape, &values)
}

/// Numbers as they are stored. What a case that shrinks or is edited holds beyond the range is taken to its end.
fn stored(data: &Data) -> Vec<i16> {
    let limit = f32::from(VECTOR_LIMIT);
    data.as_f32().iter().map(|v| v.clamp(-limit, limit) as i16).collect()
}

fn scales(rng: Rng, count: usize) -> Data {
    let scale = |i: usize| 0.25 + Values::Uniform.f32(rng, i).abs() / 64.0;
    Data::f32((count, 1), &(0..count).map(scale).collect::<Vec<_>>())
}

fn read_scales(input: &Input) -> crate::Result<Vec<Scale>> {
    let scales = input.tensor("scales")?.as_f32();
    Ok(scales.iter().map(|scale| Scale { scale: *scale, zero_point: 0 }).collect())
}

/// Words of points as numbers, for the eye.
fn points(on: &crate::Backend, words: &Tensor) -> crate::Result<Data> {
    let read = Data::read(on, words)?;
    let halves: Vec<f32> =
        read.words.iter().flat_map(|w| [*w as i16, (*w >> 16) as i16]).map(f32::from).collect();
    Ok(Data::f32((read.rows, 2 * read.cols), &halves))
}

/// Weights to integers, ties above all.
pub const VECTOR_POINTS: Op = Op {
    name: "vector_points",
    kernels: &[&kernels::vectors::vector_points::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let cols = w.data.cols;
            let dim = [4, 3, 2, 16, 1].into_iter().find(|d| cols.is_multiple_of(*d)).unwrap_or(1);
            let grouping = Grouping::of(turn, &w.data);
            let count = grouping.groups(cols).count(w.data.elements());
            let largest = (0..w.data.elements()).map(|i| w.data.value(i).abs());
            let largest = largest.fold(0.0, f64::max).max(1e-30);
            // Now and then so small that most are at the ends.
            let of = |g: usize| (largest / [2047.0, 200.0, 9000.0][g % 3]) as f32;
            let scales: Vec<f32> = (0..count).map(of).collect();
            let scales = grouping.axes(Data::f32((count, 1), &scales));
            let input = grouping.set(Input::new().with("weights", w.data)).with("scales", scales);
            maker.emit(w.source, input.set("dim", dim as i64));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let groups = Grouping::read(input, weights.cols)?;
        let (dim, scales) = (input.number("dim")?, read_scales(input)?);
        let found = kernels::vector_points(on, &weights.upload(on)?, dim, groups, &scales)?;
        Ok(vec![("points", points(on, &found)?)])
    },
};

/// The nearest entries, ties among them.
pub const NEAREST: Op = Op {
    name: "nearest",
    kernels: &[&kernels::vectors::nearest::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, (dim, vectors, k, books)) in maker.level.some(&SHAPES, 6) {
            for reach in 0..2 {
                let seed = maker.rng.at(2 * turn + reach);
                let of = |name, rows| numbers(Rng::new(seed, name), (rows, dim), reach);
                let input = Input::new()
                    .with("points", of("points", vectors * books).axes("vectors", ""))
                    .with("entries", of("entries", books * k))
                    .set("k", k as i64);
                maker.emit(if reach == 1 { "tie" } else { "shape" }, input);
            }
        }
    },
    run: |on, input| {
        let (x, entries) = (input.tensor("points")?, input.tensor("entries")?);
        let of = kernels::points_of(on, &stored(x), x.cols)?;
        let entries = Entries { dim: x.cols, k: input.number("k")?, values: stored(entries) };
        let labels = kernels::nearest(on, &of, &entries)?;
        let (again, rest) = kernels::nearest_and_rest(on, &of, &entries)?;
        Ok(vec![
            ("labels", Data::read(on, &labels)?),
            ("labels beside the rest", Data::read(on, &again)?),
            ("rest", points(on, &rest)?),
        ])
    },
};

/// Weights from the codes of vectors, codes beyond their codebook among them.
pub const DEQUANTIZE_VECTORS: Op = Op {
    name: "dequantize_vectors",
    kernels: &[&kernels::vectors::dequantize_vectors::KERNEL],
    class: Class::Exact,
    expands: 16,
    make: |maker| {
        for (turn, (dim, vectors, k, spaces)) in maker.level.some(&SHAPES, 6) {
            let (rng, stages) = (maker.rng.at(turn), 1 + turn % 3);
            let values =
                numbers(Rng::new(rng, "entries"), (spaces * stages * k, dim), turn + turn / 2);
            let entries = Entries { dim, k, values: stored(&values) };
            let packing = VectorCodes { entries: &entries, stages }.packing();
            let (rows, of_row) = (1 + turn % 4, vectors / spaces.max(1) * spaces);
            let cols = (of_row * dim).max(spaces * dim);
            let codes =
                symbols(Rng::new(rng, "codes"), (rows, packing.count(cols)), packing.bits.into());
            let grouping = [Grouping::Whole, Grouping::Rows, Grouping::Pairs][turn % 3];
            let count = grouping.groups(cols).count(rows * cols);
            let scales = grouping.axes(scales(Rng::new(rng, "scales"), count));
            let input = grouping.set(Input::new().with("codes", codes.axes("rows", "")));
            let input = input.with("entries", values).with("scales", scales);
            let input = input.set("k", k as i64).set("stages", stages as i64);
            let input = input.set("cols", cols as i64);
            maker.emit("shape", with_dtype(input, WEIGHTS[turn % WEIGHTS.len()]));
        }
    },
    run: |on, input| {
        let (codes, values) = (input.tensor("codes")?, input.tensor("entries")?);
        let cols = input.number("cols")?;
        let groups = Grouping::read(input, cols)?;
        let entries = Entries { dim: values.cols, k: input.number("k")?, values: stored(values) };
        let book = VectorCodes { entries: &entries, stages: input.number("stages")? };
        let packed = upload_packed(on, codes, book.packing().bits.into())?;
        let (scales, dtype): (_, DType) = (read_scales(input)?, read_dtype(input)?);
        let weights = kernels::dequantize_vectors(on, &packed, cols, book, groups, &scales, dtype)?;
        Ok(vec![("weights", Data::read(on, &weights)?)])
    },
};
