//! Integer codes: the range of a group, rounding, restoring.

use crate::{
    Backend, DType, Result, Tensor,
    codec::bitpack,
    crosscheck::{
        case::{Data, Input, Outputs},
        compare::Class,
        inputs::{Admits, Rng, WEIGHTS, shapes},
        op::Op,
        ops::grouping::Grouping,
        options::Level,
    },
    decide::{
        affine::{AffineCode, CLIP_COUNT, ClipGrid, Scale},
        range::Range,
    },
    kernels::{self, range},
};

/// Rounding weights to codes, on ties above all.
pub const QUANTIZE: Op = Op {
    name: "quantize",
    kernels: &[&kernels::affine::quantize::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let (code, grouping) = (code(maker.level, turn), Grouping::of(turn / 3, &w.data));
            let scales = scales_of(&w.data, code, grouping);
            let input = with_scales(Input::new().with("weights", w.data), grouping, &scales);
            maker.emit(w.source, with_code(input, code));
        }
        for (turn, step) in STEPS.into_iter().enumerate() {
            let code = code(maker.level, turn);
            let input = Input::new().with("weights", ties(step));
            let scales = [Scale { scale: step, zero_point: 0 }];
            maker.emit("tie", with_code(with_scales(input, Grouping::Whole, &scales), code));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let (code, groups) = (read_code(input)?, Grouping::read(input, weights.cols)?);
        let codes =
            kernels::quantize(on, &weights.upload(on)?, code, groups, &read_scales(input)?)?;
        packed_outputs(on, &codes, weights.cols, code.bits.into())
    },
};

/// Restoring weights from codes.
pub const DEQUANTIZE: Op = Op {
    name: "dequantize",
    kernels: &[&kernels::affine::dequantize::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, (rows, cols)) in shapes(maker.level).into_iter().enumerate() {
            let types = if maker.level == Level::Full { WEIGHTS.len() } else { 1 };
            for nth in 0..types {
                let dtype = WEIGHTS[(turn + nth) % WEIGHTS.len()];
                let rng = Rng::new(maker.rng.at(turn), dtype.name());
                let code = code(maker.level, turn + nth);
                let codes = symbols(rng, (rows, cols), code.bits.into());
                let grouping = Grouping::of(turn + nth, &codes);
                let count = grouping.groups(cols).count(rows * cols);
                let zero =
                    |i: usize| if code.symmetric { 0 } else { rng.below(i, 1 << code.bits) as u8 };
                // Those of a tile of finite weights: products with any code are normal or zero.
                let scale = |i: usize| match rng.at(i) % 9 {
                    0 => 0.0,
                    1 => 1.0 / 3.0,
                    2 => 2f32.powi(-116),
                    3 => 2f32.powi(119),
                    r => rng.unit(i).abs().max(1e-7) * 10f32.powi(5 - r as i32),
                };
                let scales: Vec<Scale> =
                    (0..count).map(|i| Scale { scale: scale(i), zero_point: zero(i) }).collect();
                let input = with_scales(Input::new().with("codes", codes), grouping, &scales);
                maker.emit("shape", with_dtype(with_code(input, code), dtype));
            }
        }
    },
    run: |on, input| {
        let (codes, code) = (input.tensor("codes")?, read_code(input)?);
        let groups = Grouping::read(input, codes.cols)?;
        let packed = upload_packed(on, codes, code.bits.into())?;
        let (scales, dtype) = (read_scales(input)?, read_dtype(input)?);
        let weights = kernels::dequantize(on, &packed, codes.cols, code, groups, &scales, dtype)?;
        Ok(vec![("weights", Data::read(on, &weights)?)])
    },
};

/// The smallest and the largest weight of every group.
pub const RANGE: Op = Op {
    name: "range",
    kernels: &[&kernels::affine::range::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::All).enumerate() {
            let grouping = Grouping::of(turn, &w.data);
            maker.emit(w.source, grouping.set(Input::new().with("weights", w.data)));
        }
    },
    run: |on, input| {
        let weights = input.tensor("weights")?;
        let groups = Grouping::read(input, weights.cols)?;
        let ranges = range(on, &weights.upload(on)?, groups)?;
        // That it is NaN, and its sign, are the contract; a device may have other payloads.
        let quiet = |x: f32| if x.is_nan() { f32::NAN.copysign(x) } else { x };
        let values: Vec<f32> = ranges.iter().flat_map(|r| [r.min, r.max].map(quiet)).collect();
        Ok(vec![("ranges", Data::f32((ranges.len(), 2), &values))])
    },
};

/// Squared errors of every clip of a group's range, and the clip of least error.
pub const CLIP_ERRORS: Op = Op {
    name: "clip_errors",
    kernels: &[&kernels::affine::clip_errors::KERNEL],
    class: Class::Exact,
    // 33 sums of 8 bytes for a group that may be one weight of a byte.
    expands: 300,
    make: |maker| {
        for (turn, w) in maker.weights(Admits::Finite).enumerate() {
            let (code, grouping) = (code(maker.level, turn), Grouping::of(turn / 3, &w.data));
            let ranges = ranges_of(&w.data, grouping);
            let values: Vec<f32> = ranges.iter().flat_map(|r| [r.min, r.max]).collect();
            let ranges = grouping.axes(Data::f32((ranges.len(), 2), &values));
            let input = grouping.set(Input::new().with("weights", w.data));
            maker.emit(w.source, with_code(input.with("ranges", ranges), code));
        }
    },
    run: |on, input| {
        let (weights, ranges) = (input.tensor("weights")?, input.tensor("ranges")?);
        let (code, groups) = (read_code(input)?, Grouping::read(input, weights.cols)?);
        let grid = |pair: &[f32]| ClipGrid::new(code, Range { min: pair[0], max: pair[1] });
        let grids: Vec<ClipGrid> = ranges.as_f32().chunks_exact(2).map(grid).collect();
        let weights = weights.upload(on)?;
        let errors = kernels::clip_errors(on, &weights, code, groups, &grids)?;
        let best = kernels::best_clips(on, &weights, code, groups, &grids)?;
        Ok(vec![
            ("errors", Data::u64((errors.len(), CLIP_COUNT), errors.as_flattened())),
            ("best", Data::u32((best.len(), 1), best)),
        ])
    },
};

/// Steps whose ties are asked for: plain ones, and those where inverse or products leave the normal numbers.
const STEPS: [f32; 10] = [1.0, 0.3, 7.0, 1.0 / 3.0, 0.1, 2e-5, 1e-30, 1e-36, 3e36, 1.1e38];

/// Every half step up to beyond the codes, each with the floats around it.
fn ties(step: f32) -> Data {
    let tie = |i: usize| (i as f32 / 3.0).floor() / 2.0 - 150.0;
    let values: Vec<f32> = (0..1800)
        .map(|i| (tie(i) * step).clamp(f32::MIN, f32::MAX))
        .enumerate()
        .map(|(i, x)| f32::from_bits(x.to_bits().wrapping_add_signed(i as i32 % 3 - 1)))
        .map(|x| if x.is_finite() { x } else { 0.0 })
        .collect();
    Data::f32((3, 600), &values).axes("rows", "cols")
}

/// An alphabet: all widths, signed and unsigned, in turn; in quick few, for each is a shader to compile.
pub(super) fn code(level: Level, turn: usize) -> AffineCode {
    match level {
        Level::Full => AffineCode { bits: 2 + (turn % 7) as u8, symmetric: turn % 14 < 7 },
        Level::Quick => {
            let (bits, symmetric) = [(8, true), (4, false), (3, true)][turn % 3];
            AffineCode { bits, symmetric }
        }
    }
}

pub(super) fn with_code(input: Input, code: AffineCode) -> Input {
    input.set("bits", code.bits).set("symmetric", code.symmetric)
}

pub(super) fn read_code(input: &Input) -> Result<AffineCode> {
    Ok(AffineCode { bits: input.number("bits")?, symmetric: input.number::<u8>("symmetric")? != 0 })
}

/// A type of weights, by its place among all.
pub(super) fn with_dtype(input: Input, dtype: DType) -> Input {
    input.set("dtype", WEIGHTS.iter().position(|d| *d == dtype).unwrap_or(0) as i64)
}

pub(super) fn read_dtype(input: &Input) -> Result<DType> {
    Ok(WEIGHTS[input.number::<usize>("dtype")?.min(WEIGHTS.len() - 1)])
}

fn ranges_of(weights: &Data, grouping: Grouping) -> Vec<Range> {
    let tensor = weights.upload(&Backend::Cpu);
    let groups = grouping.groups(weights.cols);
    tensor.and_then(|w| range(&Backend::Cpu, &w, groups)).unwrap_or_default()
}

/// The scales that the pipeline would choose.
fn scales_of(weights: &Data, code: AffineCode, grouping: Grouping) -> Vec<Scale> {
    ranges_of(weights, grouping).into_iter().map(|r| code.scale(r, 64)).collect()
}

fn with_scales(input: Input, grouping: Grouping, scales: &[Scale]) -> Input {
    let values: Vec<f32> = scales.iter().map(|s| s.scale).collect();
    let zeros: Vec<u8> = scales.iter().map(|s| s.zero_point).collect();
    grouping
        .set(input)
        .with("scales", grouping.axes(Data::f32((scales.len(), 1), &values)))
        .with("zero_points", grouping.axes(Data::u8((scales.len(), 1), &zeros)))
}

fn read_scales(input: &Input) -> Result<Vec<Scale>> {
    let (scales, zeros) = (input.tensor("scales")?, input.tensor("zero_points")?);
    let pairs = scales.as_f32().iter().zip(zeros.bytes());
    Ok(pairs.map(|(scale, zero_point)| Scale { scale: *scale, zero_point: *zero_point }).collect())
}

/// Random symbols of so many bits, with the smallest and the largest among them.
pub(super) fn symbols(rng: Rng, shape: (usize, usize), bits: u32) -> Data {
    let symbol = |i: usize| match rng.at(i) % 11 {
        0 => 0,
        1 => ((1u32 << bits) - 1) as u8,
        _ => rng.below(i ^ 1 << 40, 1 << bits) as u8,
    };
    let symbols: Vec<u8> = (0..shape.0 * shape.1).map(symbol).collect();
    Data::u8(shape, &symbols).axes("rows", "cols")
}

/// Symbols as packed rows.
pub(super) fn pack_rows(symbols: &Data, bits: u32) -> Vec<u32> {
    let words = bitpack::words(symbols.cols, bits);
    let mut packed = vec![0; symbols.rows * words];
    if words > 0 {
        let rows = symbols.bytes().chunks_exact(symbols.cols);
        for (row, packed) in rows.zip(packed.chunks_exact_mut(words)) {
            bitpack::pack(row, bits, packed);
        }
    }
    packed
}

/// Symbols as the packed rows that kernels take.
pub(super) fn upload_packed(on: &Backend, symbols: &Data, bits: u32) -> Result<Tensor> {
    let words = bitpack::words(symbols.cols, bits);
    Tensor::new(on, DType::U32, symbols.rows, words, pack_rows(symbols, bits))
}

/// Packed rows, one by one for the eye, and as they are: their padding counts too.
pub(super) fn packed_outputs(
    on: &Backend,
    codes: &Tensor,
    cols: usize,
    bits: u32,
) -> Result<Outputs> {
    let packed = Data::read(on, codes)?;
    let mut symbols = vec![0; packed.rows * cols];
    if cols > 0 {
        let rows = packed.words.chunks_exact(packed.cols.max(1));
        for (row, symbols) in rows.zip(symbols.chunks_exact_mut(cols)) {
            bitpack::unpack(row, bits, symbols);
        }
    }
    Ok(vec![("codes", Data::u8((packed.rows, cols), &symbols)), ("packed", packed)])
}
