//! Palettes: which entry a weight takes, and back.

use crate::{
    DType, Error,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        inputs::{Admits, Rng, Values, WEIGHTS, shapes},
        op::Op,
        ops::{
            affine::{packed_outputs, read_dtype, symbols, upload_packed, with_dtype},
            grouping::Grouping,
        },
        options::Level,
    },
    decide::{kmeans::Palette, order_key},
    kernels::{self, Assigner, Codebook},
};

/// Codes of a palette, on its thresholds above all.
pub const PALETTIZE: Op = Op {
    name: "palettize",
    kernels: &[&kernels::palette::palettize::KERNEL],
    class: Class::Exact,
    // Tables are padded to powers of two.
    expands: 2,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let bits = bits(maker.level, turn);
            let (grouping, n) = (Grouping::of(turn, &w.data), w.data.elements());
            let (groups, rng) = (grouping.groups(w.data.cols), maker.rng);
            let count = groups.count(n);
            // Of groups that are single weights, few thresholds.
            let most = (1usize << bits) - 1;
            let k = if count > 64 { most.min(3) } else { most - turn % 2 * (most / 3) };
            let mut thresholds = Vec::new();
            for g in 0..count {
                let span = groups.span(g, n);
                let one = |i: usize| {
                    let r = rng.at(turn << 24 | g << 8 | i);
                    let at = span.start + (r >> 8) as usize % span.len().max(1);
                    let weight = w.data.value(at) as f32;
                    // On a weight, beside it, or anywhere.
                    let key = order_key::of_f32(weight);
                    let value = match r % 4 {
                        0 => order_key::to_f32(key.saturating_add(1)),
                        1 => Values::Uniform.f32(rng, turn << 24 | g << 8 | i),
                        _ => weight,
                    };
                    if value.is_finite() { value } else { weight }
                };
                let mut row: Vec<f32> = (0..k).map(one).collect();
                row.sort_by(f32::total_cmp);
                thresholds.extend(row);
            }
            let thresholds = grouping.axes(Data::f32((count, k), &thresholds));
            let input = grouping.set(Input::new().with("weights", w.data));
            maker.emit(w.source, input.with("thresholds", thresholds).set("bits", bits));
        }
    },
    run: |on, input| {
        let (weights, thresholds) = (input.tensor("weights")?, input.tensor("thresholds")?);
        let (groups, bits) = (Grouping::read(input, weights.cols)?, input.number("bits")?);
        if thresholds.cols > 255 {
            return Err(Error::shape("palettize", "thresholds", thresholds.cols, "at most 255"));
        }
        let assigner = |row: &[f32]| {
            let entries = (0..=row.len()).map(|i| i as f32).collect();
            Assigner::new(&Palette { entries, thresholds: row.to_vec() }, weights.dtype, 0)
        };
        let rows = thresholds.as_f32().chunks_exact(thresholds.cols.max(1));
        let palettes: Vec<Assigner> = rows.map(assigner).collect();
        let codes = kernels::palettize(on, &weights.upload(on)?, &palettes, groups, bits)?;
        packed_outputs(on, &codes, weights.cols, bits)
    },
};

/// Weights from the codes of a palette, codes beyond its end among them.
pub const DEPALETTIZE: Op = Op {
    name: "depalettize",
    kernels: &[&kernels::palette::depalettize::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        let full = maker.level == Level::Full;
        for (turn, shape) in shapes(maker.level).into_iter().enumerate() {
            for nth in 0..if full { WEIGHTS.len() } else { 1 } {
                let (dtype, rng) =
                    (WEIGHTS[(turn + nth) % WEIGHTS.len()], Rng::new(maker.rng.at(turn), "codes"));
                let bits = bits(maker.level, turn + nth);
                let codes = symbols(rng, shape, bits);
                let grouping = Grouping::of(turn + nth, &codes);
                let count = grouping.groups(shape.1).count(codes.elements());
                let k = (1usize << bits) - turn % 3;
                let k = if count > 64 { k.min(3) } else { k }.max(1);
                let entry = |i: usize| finite(Values::ALL[turn % 7].f32(rng, i));
                let entries: Vec<f32> = (0..count * k).map(entry).collect();
                let input = grouping.set(Input::new().with("codes", codes));
                let entries = grouping.axes(Data::f32((count, k), &entries));
                let input = with_dtype(input.with("entries", entries).set("bits", bits), dtype);
                maker.emit("shape", input);
            }
        }
        // Every pattern of the narrow types as an entry: what encodes it must give it back.
        for dtype in [DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2] {
            let lattice = crate::crosscheck::inputs::weights(
                dtype,
                (1 << (dtype.bits() - 8), 256),
                Values::Edges,
                Admits::Finite,
                maker.rng,
            );
            let entries: Vec<f32> =
                (0..lattice.elements()).map(|i| lattice.value(i) as f32).collect();
            let rows = lattice.rows;
            let codes: Vec<u8> = (0..rows * 256).map(|i| i as u8).collect();
            let codes = Data::u8((rows, 256), &codes).axes("rows", "cols");
            let input = Grouping::Rows.set(Input::new().with("codes", codes));
            let entries = Grouping::Rows.axes(Data::f32((rows, 256), &entries));
            let input = input.with("entries", entries).set("bits", 8);
            maker.emit("edge", with_dtype(input, dtype));
        }
    },
    run: |on, input| {
        let (codes, entries) = (input.tensor("codes")?, input.tensor("entries")?);
        let (groups, bits) = (Grouping::read(input, codes.cols)?, input.number("bits")?);
        let codebook = Codebook { entries: entries.as_f32(), k: entries.cols, bits };
        let packed = upload_packed(on, codes, bits)?;
        let dtype = read_dtype(input)?;
        let weights = kernels::depalettize(on, &packed, codes.cols, codebook, groups, dtype)?;
        Ok(vec![("weights", Data::read(on, &weights)?)])
    },
};

/// Widths of codes: all of them, or few.
fn bits(level: Level, turn: usize) -> u32 {
    match level {
        Level::Full => 1 + (turn % 8) as u32,
        Level::Quick => [4, 8, 1][turn % 3],
    }
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}
