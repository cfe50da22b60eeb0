//! Products of matrices: floats with weights in every form, codes with codes, signs with signs.

use crate::{
    Backend, DType, Result, Tensor,
    codec::{bitpack, sparse},
    crosscheck::{
        case::{Data, Input, Outputs},
        compare::{Class, U, roundings},
        inputs::{self, Admits, Maker, Rng, Values, WEIGHTS, weights},
        op::Op,
        ops::{
            affine::{code, pack_rows, read_code, symbols, upload_packed, with_code},
            layers::activated,
        },
        options::Level,
    },
    decide::{affine::Scale, groups::Groups},
    form::Packing,
    kernels::{
        self, Activation, AffineMatrix, BinaryMatrix, Channels, Entries, Epilogue, Int8,
        PaletteMatrix, SparseMatrix, Tile, VECTOR_LIMIT, VectorCodes, VectorMatrix,
        products::product::takes_tiles,
    },
};
use std::sync::Arc;

/// Rows of x, columns, outputs: on both sides of what a workgroup takes at a time, of units and of tiles.
fn shapes(level: Level) -> Vec<(usize, usize, usize)> {
    let mut all = vec![
        (1, 1, 1),
        (1, 260, 5),
        (2, 33, 65),
        (8, 129, 64),
        (9, 128, 3),
        (33, 31, 65),
        (3, 0, 2),
        (0, 5, 3),
        (5, 257, 1),
        (65, 32, 130),
    ];
    if level == Level::Full {
        for m in [1, 2, 3, 7, 8, 9, 33, 64, 65] {
            for k in [1, 3, 31, 32, 33, 127, 128, 129, 256, 260] {
                all.extend([1, 5, 64, 65].map(|n| (m, k, n)));
            }
        }
        all.extend([(1, 2176, 33), (9, 2176, 3), (130, 20, 129), (2, 4100, 7)]);
    }
    all
}

fn stream(maker: &Maker, turn: usize, name: &str) -> Rng {
    Rng::new(maker.rng.at(turn), name)
}

fn floats(rng: Rng, shape: (usize, usize), values: Values) -> Data {
    let scale = if values == Values::Outliers { 1e-3 } else { 1.0 };
    let all: Vec<f32> = (0..shape.0 * shape.1).map(|i| values.f32(rng, i) * scale).collect();
    Data::f32(shape, &all)
}

/// Kinds of values whose products neither overflow nor vanish.
const KINDS: [Values; 4] = [Values::Uniform, Values::Outliers, Values::Equal, Values::Zeros];

/// Activations, perhaps a bias, and what is applied last.
fn with_x(maker: &Maker, turn: usize, (m, k, n): (usize, usize, usize)) -> Input {
    let x = floats(stream(maker, turn, "x"), (m, k), KINDS[turn % 4]).axes("rows", "depth");
    let input = Input::new().with("x", x).set("activation", turn / 2 % 3);
    match turn % 2 {
        0 => input,
        _ => {
            let bias = floats(stream(maker, turn, "bias"), (1, n), Values::Uniform);
            input.with("bias", bias.axes("", "outputs"))
        }
    }
}

/// Runs a product on what [`with_x`] has made.
fn product(
    on: &Backend,
    input: &Input,
    run: impl FnOnce(&Tensor, Option<&Tensor>, Activation) -> Result<Tensor>,
) -> Result<Outputs> {
    let x = input.tensor("x")?.upload(on)?;
    let bias = input.tensor("bias").ok().map(|bias| bias.upload(on)).transpose()?;
    let y = run(&x, bias.as_ref(), activation(input)?)?;
    Ok(vec![("y", Data::read(on, &y)?)])
}

fn activation(input: &Input) -> Result<Activation> {
    Ok([Activation::None, Activation::Relu, Activation::Gelu]
        [input.number::<usize>("activation")? % 3])
}

/// How far a product of f32 activations `[rows, cols]` with weights may lie from the sum in real numbers, as a share of the sum
/// of the magnitudes of its terms, on a backend: what the roundings do that a term meets on its way into an output.
///
/// One makes the weight from a code, one the term, and one adds the bias. On the CPU sixteen sums take every sixteenth term, and
/// four steps add them up. A device that takes tiles, from 32 rows on, adds fours, each in three steps, one after the other. Else
/// it shares a row out to invocations, at least sixteen where there is work for them, whose sums a tree of up to six steps adds:
/// of units of up to 32 fours an invocation has one more than its share.
pub fn product_bound(on: &Backend, rows: usize, cols: usize) -> f64 {
    let sums = match on {
        Backend::Cpu => cols.div_ceil(16) + 4,
        Backend::Gpu(_) if takes_tiles(rows, cols) => cols.div_ceil(4) + 3,
        Backend::Gpu(_) => cols.div_ceil(64) + 34 + 3 + 6,
    };
    roundings((sums + 3) as f64)
}

/// The sums in f64 and how far from them results may lie: `w` are the weights, row by row.
fn bounds(on: &Backend, input: &Input, w: &[f64]) -> Result<Vec<(f64, f64)>> {
    let (x, activation) = (input.tensor("x")?, activation(input)?);
    let bias = input.tensor("bias").ok();
    let k = x.cols;
    let n = w.len().checked_div(k).unwrap_or(input.number("outputs")?);
    let mut all = Vec::with_capacity(x.rows * n);
    for m in 0..x.rows {
        let row: Vec<f64> = (0..k).map(|i| x.value(m * k + i)).collect();
        for o in 0..n {
            let start = bias.map_or(0.0, |bias| bias.value(o));
            let terms = row.iter().zip(&w[o * k..][..k]).map(|(x, w)| x * w);
            let (sum, size) = terms.fold((start, start.abs()), |(s, m), t| (s + t, m + t.abs()));
            // What is below the normal numbers may become zero, term by term.
            let vanishing = (k + 1) as f64 * f64::from(f32::MIN_POSITIVE);
            all.push(activated(activation, (sum, product_bound(on, x.rows, k) * size + vanishing)));
        }
    }
    Ok(all)
}

/// Weights as floats of any type.
pub const MATMUL_F32: Op = Op {
    name: "matmul_f32",
    kernels: &[&kernels::products::matmul_f32::KERNEL],
    class: Class::Bound(|on, input| {
        let w = input.tensor("weights")?;
        // F64 is taken as f32.
        bounds(
            on,
            input,
            &(0..w.elements()).map(|i| f64::from(w.value(i) as f32)).collect::<Vec<_>>(),
        )
    }),
    expands: 64,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let types = if maker.level == Level::Full { 6 } else { 3 };
            let rng = stream(maker, turn, "weights");
            let w =
                weights(WEIGHTS[turn % types], (n, k), KINDS[turn / 4 % 4], Admits::Finite, rng);
            let input = with_x(maker, turn, (m, k, n)).with("weights", w.axes("outputs", "depth"));
            maker.emit("shape", input.set("outputs", n));
        }
    },
    run: |on, input| {
        let w = input.tensor("weights")?.upload(on)?;
        product(on, input, |x, bias, activation| kernels::matmul_f32(on, x, &w, bias, activation))
    },
};

/// Consecutive weights that share a scale or a table: all, a row, or so many.
fn group(input: &Input, (n, k): (usize, usize)) -> Result<usize> {
    Ok(match input.number::<usize>("group")? {
        0 => (n * k).max(1),
        1 => k.max(1),
        size => size,
    })
}

/// Weights as integer codes.
pub const MATMUL_AFFINE: Op = Op {
    name: "matmul_affine",
    kernels: &[&kernels::products::matmul_affine::KERNEL],
    class: Class::Bound(|on, input| {
        let (codes, scales, zeros) =
            (input.tensor("codes")?, input.tensor("scales")?, input.tensor("zero_points")?);
        let (code, group) = (read_code(input)?, group(input, (codes.rows, codes.cols))?);
        let weight = |i: usize| {
            let raw = codes.bytes()[i];
            // The sign is the highest bit of the code.
            let signed = i32::from((raw << (8 - code.bits)) as i8 >> (8 - code.bits));
            let value = if code.symmetric { signed } else { i32::from(raw) };
            f64::from(value - i32::from(zeros.bytes()[i / group])) * scales.value(i / group)
        };
        bounds(on, input, &(0..codes.elements()).map(weight).collect::<Vec<_>>())
    }),
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let code = code(maker.level, turn);
            let codes = symbols(stream(maker, turn, "codes"), (n, k), code.bits.into());
            let size = [0, 1, 32, 4].into_iter().cycle().skip(turn);
            let size = size.take(4).find(|g| *g < 2 || k > 0 && k.is_multiple_of(*g)).unwrap_or(0);
            let input = with_x(maker, turn, (m, k, n))
                .with("codes", codes.axes("outputs", if size > 1 { "" } else { "depth" }))
                .set("outputs", n)
                .set("group", size);
            let groups = match size {
                0 => usize::from(n * k > 0),
                1 if k == 0 => 0,
                1 => n,
                size => n * k / size,
            };
            let rng = stream(maker, turn, "scales");
            let scales: Vec<f32> = (0..groups).map(|i| rng.unit(i).abs() * 0.1 + 1e-3).collect();
            let zero = |i: usize| {
                if code.symmetric { 0 } else { rng.below(i ^ 1 << 30, 1 << code.bits) as u8 }
            };
            let zeros: Vec<u8> = (0..groups).map(zero).collect();
            let axis = if size == 1 { "outputs" } else { "" };
            let input = input
                .with("scales", Data::f32((groups, 1), &scales).axes(axis, ""))
                .with("zero_points", Data::u8((groups, 1), &zeros).axes(axis, ""));
            // Groups that divide a row hold it in its length.
            let input = if size > 1 { fixed_depth(input) } else { input };
            maker.emit("shape", with_code(input, code));
        }
    },
    run: |on, input| {
        let (codes, code) = (input.tensor("codes")?, read_code(input)?);
        let shape = (codes.rows, codes.cols);
        let scales =
            input.tensor("scales")?.as_f32().iter().zip(input.tensor("zero_points")?.bytes());
        let scales: Vec<Scale> =
            scales.map(|(scale, zero)| Scale { scale: *scale, zero_point: *zero }).collect();
        let packed = pack_rows(codes, code.bits.into());
        let w = AffineMatrix::new(on, packed, shape, code, group(input, shape)?, &scales)?;
        product(on, input, |x, bias, activation| {
            kernels::matmul_affine(on, x, &w, bias, activation)
        })
    },
};

/// Takes `depth` from the dimensions that shrink, and `outputs` from those of groups that are no rows.
fn fixed_depth(mut input: Input) -> Input {
    for (_, data) in &mut input.tensors {
        data.axes.iter_mut().filter(|axis| *axis != "rows").for_each(String::clear);
    }
    input
}

/// Weights as codes of tables.
pub const MATMUL_PALETTE: Op = Op {
    name: "matmul_palette",
    kernels: &[&kernels::products::matmul_palette::KERNEL],
    class: Class::Bound(|on, input| {
        let (codes, entries) = (input.tensor("codes")?, input.tensor("entries")?);
        let group = group(input, (codes.rows, codes.cols))?;
        let k = entries.cols;
        // A code beyond the table takes its last entry.
        let weight =
            |i: usize| entries.value(i / group * k + usize::from(codes.bytes()[i]).min(k - 1));
        bounds(on, input, &(0..codes.elements()).map(weight).collect::<Vec<_>>())
    }),
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let bits = match maker.level {
                Level::Full => 1 + turn as u32 % 8,
                Level::Quick => [4, 8, 1][turn % 3],
            };
            let codes =
                symbols(stream(maker, turn, "codes"), (n, k), bits).axes("outputs", "depth");
            let rows = turn / 3 % 2;
            let tables = if rows == 1 { n } else { 1 } * usize::from(n * k > 0);
            let entries = [1 << bits, 1usize << bits >> 1, (1 << bits) - 1][turn % 3].max(1);
            let kind = [Values::Uniform, Values::Equal][turn % 2];
            let table = floats(stream(maker, turn, "entries"), (tables, entries), kind);
            let input = with_x(maker, turn, (m, k, n))
                .with("codes", codes)
                .with("entries", table.axes(if rows == 1 { "outputs" } else { "" }, ""))
                .set("outputs", n)
                .set("bits", bits)
                .set("group", rows);
            maker.emit("shape", input);
        }
    },
    run: |on, input| {
        let (codes, entries) = (input.tensor("codes")?, input.tensor("entries")?);
        let (shape, bits) = ((codes.rows, codes.cols), input.number("bits")?);
        let packed = pack_rows(codes, bits);
        let w =
            PaletteMatrix::new(on, packed, shape, bits, group(input, shape)?, entries.as_f32())?;
        product(on, input, |x, bias, activation| {
            kernels::matmul_palette(on, x, &w, bias, activation)
        })
    },
};

/// Weights of which a mask keeps some.
pub const MATMUL_SPARSE: Op = Op {
    name: "matmul_sparse",
    kernels: &[&kernels::products::matmul_sparse::KERNEL],
    class: Class::Bound(|on, input| {
        let (w, mask) = (input.tensor("weights")?, input.tensor("mask")?);
        let weight = |i: usize| f64::from(w.value(i) as f32) * f64::from(mask.bytes()[i]);
        bounds(on, input, &(0..w.elements()).map(weight).collect::<Vec<_>>())
    }),
    expands: 64,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let types = if maker.level == Level::Full { 6 } else { 2 };
            let rng = stream(maker, turn, "weights");
            let w =
                weights(WEIGHTS[turn % types], (n, k), KINDS[turn / 4 % 4], Admits::Finite, rng);
            let keep = |i: usize| match turn % 5 {
                0 => true,
                1 => false,
                2 => i % 4 < 2,
                3 => rng.below(i, 10) == 0,
                _ => rng.below(i, 2) == 0,
            };
            let mask: Vec<u8> = (0..n * k).map(|i| keep(i).into()).collect();
            let input = with_x(maker, turn, (m, k, n))
                .with("weights", w.axes("outputs", "depth"))
                .with("mask", Data::u8((n, k), &mask).axes("outputs", "depth"));
            maker.emit("shape", input.set("outputs", n));
        }
    },
    run: |on, input| {
        let (w, bytes) = (input.tensor("weights")?, input.tensor("mask")?);
        let mask = pack_rows(bytes, 1);
        let values = sparse::gather(w.dtype, &w.words, w.cols, &mask);
        let w = SparseMatrix::new(on, mask, values, w.dtype, (w.rows, w.cols))?;
        product(on, input, |x, bias, activation| {
            kernels::matmul_sparse(on, x, &w, bias, activation)
        })
    },
};

/// Codebooks, codes, weights of a vector, stages, and rows of a case.
fn vector_matrix(on: &Backend, input: &Input) -> Result<VectorMatrix> {
    let (codes, values) = (input.tensor("codes")?, input.tensor("entries")?);
    let limit = f32::from(VECTOR_LIMIT);
    let number = |v: &f32| v.clamp(-limit, limit) as i16;
    let values = values.as_f32().iter().map(number).collect();
    let (dim, k) = (input.number("dim")?, input.number("k")?);
    let entries = Arc::new(Entries { dim, k, values });
    let (stages, cols) = (input.number("stages")?, input.number::<usize>("cols")?);
    let book = VectorCodes { entries: &entries, stages };
    let packed = upload_packed(on, codes, book.packing().bits.into())?;
    let scales = input.tensor("scales")?.as_f32();
    let scales: Vec<_> = scales.iter().map(|s| Scale { scale: *s, zero_point: 0 }).collect();
    // One for the tensor, or one for each row.
    let group = if scales.len() == 1 { codes.rows * cols } else { cols };
    VectorMatrix::of_codes(on, packed, cols, (entries, stages), group.max(1), &scales)
}

/// Weights as codes of vectors.
pub const MATMUL_VECTORS: Op = Op {
    name: "matmul_vectors",
    kernels: &[&kernels::products::matmul_vectors::KERNEL],
    class: Class::Bound(|on, input| {
        let w = vector_matrix(&Backend::Cpu, input)?;
        let groups = Groups::of(w.group);
        let scales: Vec<_> = w.scales.read_f32(&Backend::Cpu)?;
        let scales: Vec<_> = scales.iter().map(|s| Scale { scale: *s, zero_point: 0 }).collect();
        let weights = kernels::dequantize_vectors(
            &Backend::Cpu,
            &w.codes,
            w.cols,
            w.book(),
            groups,
            &scales,
            DType::F32,
        )?;
        let weights = weights.read_f32(&Backend::Cpu)?;
        bounds(on, input, &weights.into_iter().map(f64::from).collect::<Vec<_>>())
    }),
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let (dim, entries, stages) =
                [(4, 256, 1), (1, 16, 1), (8, 300, 2), (3, 5, 1)][turn % 4];
            let spaces = 1 + turn / 4 % 2;
            let cols = k.next_multiple_of(dim * spaces);
            let codes_of = Packing::of_vectors(dim as u8, entries as u32, stages as u8);
            let shape = (n, codes_of.count(cols));
            let codes = symbols(stream(maker, turn, "codes"), shape, codes_of.bits.into());
            let rng = stream(maker, turn, "entries");
            let number = |i: usize| rng.below(i, 4095) as f32 - 2047.0;
            let values = (0..spaces * stages * entries * dim).map(number).collect::<Vec<_>>();
            let rows = turn / 3 % 2 == 1;
            let scales = if rows { n } else { 1 } * usize::from(n * cols > 0);
            let scales = vec![1.0 / 2047.0; scales];
            let scales = Data::f32((scales.len(), 1), &scales);
            let input = with_x(maker, turn, (m, cols, n))
                .with("codes", codes.axes("outputs", ""))
                .with("entries", Data::f32((values.len() / dim, dim), &values))
                .with("scales", scales.axes(if rows { "outputs" } else { "" }, ""))
                .set("outputs", n)
                .set("dim", dim as i64)
                .set("k", entries as i64)
                .set("stages", stages as i64)
                .set("cols", cols as i64);
            maker.emit("shape", fixed_depth(input));
        }
    },
    run: |on, input| {
        let w = vector_matrix(on, input)?;
        product(on, input, |x, bias, activation| {
            kernels::matmul_vectors(on, x, &w, bias, activation)
        })
    },
};

/// Signs and scales of a matrix.
fn with_signs(
    maker: &Maker,
    turn: usize,
    input: Input,
    name: &str,
    shape: (usize, usize),
    axis: &str,
) -> Input {
    let rng = stream(maker, turn, name);
    let signs: Vec<u8> = (0..shape.0 * shape.1).map(|i| rng.below(i, 2) as u8).collect();
    let scales: Vec<f32> = (0..shape.0)
        .map(|i| if i % 7 == 6 { 0.0 } else { rng.unit(i ^ 1 << 40).abs() + 0.01 })
        .collect();
    input
        .with(name, Data::u8(shape, &signs).axes(axis, "depth"))
        .with(&format!("{name}_scales"), Data::f32((shape.0, 1), &scales).axes(axis, ""))
}

fn signs(on: &Backend, input: &Input, name: &str) -> Result<BinaryMatrix> {
    let (signs, scales) = (input.tensor(name)?, input.tensor(&format!("{name}_scales"))?);
    let words = signs.cols.div_ceil(32);
    let bits = Tensor::new(on, DType::U32, signs.rows, words, pack_rows(signs, 1))?;
    Ok(BinaryMatrix { bits, scales: scales.upload(on)?, cols: signs.cols })
}

/// Signs times signs, with scales and a bias; and the sums alone.
pub const MATMUL_BINARY: Op = Op {
    name: "matmul_binary",
    kernels: &[&kernels::products::matmul_binary::KERNEL],
    class: Class::Bound(|_, input| {
        let [a, w] = ["a", "w"].map(|name| input.tensor(name));
        let (a, w) = (a?, w?);
        let [of_a, of_w] = ["a_scales", "w_scales"].map(|name| input.tensor(name));
        let (of_a, of_w, bias) = (of_a?, of_w?, input.tensor("bias")?);
        let sign = |d: &Data, i: usize| 1 - 2 * i32::from(d.bytes()[i]);
        let mut all = Vec::new();
        for m in 0..a.rows {
            for n in 0..w.rows {
                let k = a.cols;
                let dot: i32 = (0..k).map(|c| sign(a, m * k + c) * sign(w, n * k + c)).sum();
                let product = f64::from(dot) * of_a.value(m) * of_w.value(n);
                all.push((
                    product + bias.value(n),
                    5.0 * U * (product.abs() + bias.value(n).abs()),
                ));
            }
        }
        Ok(all)
    }),
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let input = with_signs(maker, turn, Input::new(), "a", (m, k), "rows");
            let input = with_signs(maker, turn, input, "w", (n, k), "outputs");
            let bias = floats(stream(maker, turn, "bias"), (1, n), Values::Uniform);
            maker.emit("shape", input.with("bias", bias.axes("", "outputs")));
        }
    },
    run: |on, input| {
        let (a, w) = (signs(on, input, "a")?, signs(on, input, "w")?);
        let bias = input.tensor("bias")?.upload(on)?;
        let y = Data::read(on, &kernels::matmul_binary(on, &a, &w, Some(&bias))?)?;
        let dots = Data::read(on, &kernels::xnor_dots(on, &a, &w)?)?;
        Ok(vec![("y", y), ("dots", dots)])
    },
};

/// The codes of a case, a row from a fresh word.
fn int8(on: &Backend, input: &Input, name: &str) -> Result<Int8> {
    let codes = input.tensor(name)?;
    let words =
        Tensor::new(on, DType::U32, codes.rows, codes.cols.div_ceil(4), pack_rows(codes, 8))?;
    let signed = input.number::<u8>(&format!("{name}_signed"))? != 0;
    Ok(Int8 { words, cols: codes.cols, signed })
}

fn channels(on: &Backend, input: &Input) -> Result<Channels> {
    let table: Vec<[u32; 4]> =
        input.tensor("channels")?.words.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
    Channels::new(on, &table)
}

/// Codes of both sides, signed and not.
fn with_codes(maker: &Maker, turn: usize, (m, k, n): (usize, usize, usize)) -> Input {
    let (a_signed, w_signed) = (turn % 2, turn / 2 % 2);
    let code = |rng: Rng, i: usize, signed: usize, weight: bool| match (rng.at(i) % 7, signed) {
        (0, 0) => 255,
        (0, _) => 127,
        (1, 0) => 0,
        (1, _) => {
            if weight {
                -127i8 as u8
            } else {
                -128i8 as u8
            }
        }
        (_, 0) => rng.at(i) as u8,
        // Weights have no -128.
        _ => (rng.below(i, 255) as i32 - 127) as u8,
    };
    let matrix = |name, shape: (usize, usize), signed, axis| {
        let rng = stream(maker, turn, name);
        let codes: Vec<u8> =
            (0..shape.0 * shape.1).map(|i| code(rng, i, signed, name == "w")).collect();
        Data::u8(shape, &codes).axes(axis, "depth")
    };
    Input::new()
        .with("a", matrix("a", (m, k), a_signed, "rows"))
        .with("w", matrix("w", (n, k), w_signed, "outputs"))
        .set("a_signed", a_signed)
        .set("w_signed", w_signed)
}

/// Offset, zero point, and two words of each output.
fn with_channels(input: Input, turn: usize, n: usize, last: impl Fn(usize) -> [u32; 2]) -> Input {
    let signed = input.number::<u8>("w_signed").unwrap_or(1) != 0;
    let zero = |i: usize| match (turn / 4 % 2, signed) {
        (0, _) => 0,
        (_, true) => [0, -128, 127, 5, -1][i % 5],
        (_, false) => [255, 0, 128, 3, 1][i % 5],
    };
    let row = |i: usize| {
        let [scale, bias] = last(i);
        [(i as i32 * 1000 - 7) as u32, zero(i) as u32, scale, bias]
    };
    let table: Vec<u32> = (0..n).flat_map(row).collect();
    input.with("channels", Data::u32((n, 4), table).axes("outputs", ""))
}

/// The tile that a case asks for; the CPU has none.
fn tile(input: &Input) -> Result<Option<Tile>> {
    Ok([None, Some(Tile::Few), Some(Tile::Small), Some(Tile::Large)]
        [input.number::<usize>("tile")? % 4])
}

fn matmul_i8(
    on: &Backend,
    input: &Input,
    channels: &Channels,
    epilogue: Epilogue,
) -> Result<Tensor> {
    let (a, w) = (int8(on, input, "a")?, int8(on, input, "w")?);
    match (on, tile(input)?) {
        (Backend::Gpu(gpu), Some(tile)) => {
            kernels::matmul_i8_in_tiles(gpu, &a, &w, channels, epilogue, tile)
        }
        _ => kernels::matmul_i8(on, &a, &w, channels, epilogue),
    }
}

/// Codes times codes: the integer sums, and the codes that they become.
pub const MATMUL_I8: Op = Op {
    name: "matmul_i8",
    kernels: &[&kernels::products::matmul_i8::KERNEL, &kernels::products::matmul_i8_coop::KERNEL],
    class: Class::Exact,
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let fixed = |i: usize| {
                let (multiplier, shift) = kernels::multiplier([0.5, 1e-3, 0.03, 1.7e-5][i % 4]);
                [multiplier as u32, shift]
            };
            let tiles: &[usize] =
                if maker.level == Level::Full { &[0, 1, 2, 3] } else { &[turn % 4] };
            for tile in tiles {
                // The tile of few rows takes no more.
                if *tile == 1 && m > 16 {
                    continue;
                }
                let input = with_channels(with_codes(maker, turn, (m, k, n)), turn, n, fixed);
                let (zero, lowest, highest) =
                    [(0, -128, 127), (3, 3, 255), (128, 0, 255)][turn % 3];
                let input =
                    input.set("zero_point", zero).set("lowest", lowest).set("highest", highest);
                maker.emit("shape", input.set("tile", *tile));
            }
        }
    },
    run: |on, input| {
        let channels = channels(on, input)?;
        let sums = matmul_i8(on, input, &channels, Epilogue::Sum)?;
        let [zero_point, lowest, highest] =
            ["zero_point", "lowest", "highest"].map(|name| input.number::<i32>(name));
        let (zero_point, lowest, highest) = (zero_point?, lowest?, highest?);
        let epilogue = Epilogue::Requantize { zero_point, lowest, highest };
        let codes = matmul_i8(on, input, &channels, epilogue)?;
        Ok(vec![("sums", Data::read(on, &sums)?), ("codes", Data::read(on, &codes)?)])
    },
};

/// Codes times codes, as floats.
pub const MATMUL_I8_FLOAT: Op = Op {
    name: "matmul_i8.float",
    kernels: &[&kernels::products::matmul_i8::KERNEL],
    class: Class::Bound(|_, input| {
        let [a, w] = ["a", "w"].map(|name| input.tensor(name));
        let (a, w, channels) = (a?, w?, input.tensor("channels")?);
        let rows = input.tensor("row_scales").ok();
        let activation = activation(input)?;
        let value = |d: &Data, i: usize, signed: i64| match signed {
            0 => i64::from(d.bytes()[i]),
            _ => i64::from(d.bytes()[i] as i8),
        };
        let (a_signed, w_signed): (i64, i64) =
            (input.number("a_signed")?, input.number("w_signed")?);
        let (k, mut all) = (a.cols, Vec::new());
        for m in 0..a.rows {
            for n in 0..w.rows {
                let [offset, zero, scale, bias] = [0, 1, 2, 3].map(|i| channels.words[4 * n + i]);
                let product = |c: usize| {
                    value(a, m * k + c, a_signed)
                        * (value(w, n * k + c, w_signed) - i64::from(zero as i32))
                };
                let (row, factor) = match rows {
                    None => (1.0, 1),
                    Some(rows) => (rows.value(2 * m), -(rows.value(2 * m + 1) as i64)),
                };
                let sum = (0..k).map(product).sum::<i64>() + factor * i64::from(offset as i32);
                let scaled = sum as f64 * row * f64::from(f32::from_bits(scale));
                let bias = f64::from(f32::from_bits(bias));
                let bound = 6.0 * U * (scaled.abs() + bias.abs());
                all.push(activated(activation, (scaled + bias, bound)));
            }
        }
        Ok(all)
    }),
    expands: 256,
    make: |maker| {
        for (turn, (m, k, n)) in shapes(maker.level).into_iter().enumerate() {
            let rng = stream(maker, turn, "floats");
            let float = |i: usize| {
                [rng.unit(i).abs() * 0.01 + 1e-5, rng.unit(i ^ 1 << 40)].map(f32::to_bits)
            };
            let input = with_channels(with_codes(maker, turn, (m, k, n)), turn, n, float);
            let input = input.set("tile", 0).set("activation", turn % 3);
            maker.emit(
                "shape",
                match turn / 3 % 2 {
                    0 => input,
                    _ => {
                        let rows: Vec<f32> = (0..2 * m)
                            .map(|i| {
                                if i % 2 == 0 { rng.unit(i).abs() + 0.1 } else { (i % 256) as f32 }
                            })
                            .collect();
                        input.with("row_scales", Data::f32((m, 2), &rows).axes("rows", ""))
                    }
                },
            );
        }
    },
    run: |on, input| {
        let rows = input.tensor("row_scales").ok().map(|rows| rows.upload(on)).transpose()?;
        let epilogue = Epilogue::Float { rows: rows.as_ref(), activation: activation(input)? };
        let y = matmul_i8(on, input, &channels(on, input)?, epilogue)?;
        Ok(vec![("y", Data::read(on, &y)?)])
    },
};

/// Sums to codes without floats, on ties above all.
pub const REQUANTIZE: Op = Op {
    name: "requantize",
    kernels: &[&kernels::products::requantize::KERNEL],
    class: Class::Exact,
    expands: 1,
    make: |maker| {
        for (turn, (m, n)) in inputs::shapes(maker.level).into_iter().enumerate() {
            let rng = stream(maker, turn, "sums");
            let sum = |i: usize| match rng.at(i) % 9 {
                0 => i32::MAX,
                1 => i32::MIN,
                2 => 0,
                // Halves, and one beside them.
                3..6 => {
                    (2 * rng.below(i, 300) as i32 - 299) * 512 + (rng.at(i) >> 60) as i32 % 3 - 1
                }
                6 => rng.at(i) as i32,
                _ => rng.below(i, 70_000) as i32 - 35_000,
            };
            let sums: Vec<u32> = (0..m * n).map(|i| sum(i) as u32).collect();
            let sums = Data::new(DType::I32, (m, n), sums).axes("rows", "outputs");
            let channel = |i: usize| {
                let real = [1.0 / 1024.0, 0.5, 1e-3, 3e-8, 1.0, 0.999, 2f64.powi(-40), 1e9]
                    [(i + turn) % 8];
                let (multiplier, shift) = kernels::multiplier(real);
                [0, 0, multiplier as u32, shift]
            };
            let table: Vec<u32> = (0..n).flat_map(channel).collect();
            let (zero, lowest, highest) =
                [(0, -128, 127), (3, 3, 255), (128, 0, 255), (-5, -100, 7)][turn % 4];
            let input = Input::new()
                .with("sums", sums)
                .with("channels", Data::u32((n, 4), table).axes("outputs", ""));
            let input = input.set("zero_point", zero).set("lowest", lowest).set("highest", highest);
            maker.emit("tie", input);
        }
    },
    run: |on, input| {
        let [zero_point, lowest, highest] =
            ["zero_point", "lowest", "highest"].map(|name| input.number::<i32>(name));
        let (sums, channels) = (input.tensor("sums")?.upload(on)?, channels(on, input)?);
        let codes = kernels::requantize(on, &sums, &channels, zero_point?, lowest?, highest?)?;
        Ok(vec![("codes", Data::read(on, &codes)?)])
    },
};

/// Activations to codes, each row on its own scale.
pub const QUANTIZE_ROWS: Op = Op {
    name: "quantize_rows",
    kernels: &[&kernels::products::quantize_rows::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for w in maker.weights(Admits::All) {
            let values: Vec<f32> = (0..w.data.elements()).map(|i| w.data.value(i) as f32).collect();
            let x = Data::f32((w.data.rows, w.data.cols), &values).axes("rows", "cols");
            maker.emit(w.source, Input::new().with("x", x));
        }
    },
    run: |on, input| {
        let x = input.tensor("x")?;
        let rows = kernels::quantize_rows(on, &x.upload(on)?)?;
        let codes = Data::read(on, &rows.codes.words)?;
        // That a scale is NaN is the contract; a device may have another payload.
        let scales: Vec<f32> = rows.scales.read_f32(on)?;
        let scales: Vec<f32> =
            scales.into_iter().map(|s| if s.is_nan() { f32::NAN } else { s }).collect();
        let mut bytes = vec![0; x.elements()];
        let width = bitpack::words(x.cols, 8);
        if x.cols > 0 {
            let packed = codes.words.chunks_exact(width).zip(bytes.chunks_exact_mut(x.cols));
            packed.for_each(|(row, bytes)| bitpack::unpack(row, 8, bytes));
        }
        Ok(vec![
            ("codes", Data::u8((x.rows, x.cols), &bytes)),
            ("scales", Data::f32((x.rows, 2), &scales)),
            ("packed", codes),
        ])
    },
};
