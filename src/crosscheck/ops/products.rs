//! Products of matrices: floats with weights in every form, signs with signs.

use crate::{
    Backend, DType, Result, Tensor,
    codec::sparse,
    crosscheck::{
        case::{Data, Input, Outputs},
        compare::{Class, U, roundings},
        inputs::{Admits, Maker, Rng, Values, WEIGHTS, weights},
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
        self, Activation, AffineMatrix, BinaryMatrix, Entries, PaletteMatrix, SparseMatrix,
        VECTOR_LIMIT, VectorCodes, VectorMatrix, products::product::takes_tiles,
    },
};
use std::sync::Arc;

/// Rows of x, columns, outputs: on both sides of what a workgroup takes at a time, of units and of tiles.
pub(super) fn shapes(level: Level) -> Vec<(usize, usize, usize)> {
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

pub(super) fn stream(maker: &Maker, turn: usize, name: &str) -> Rng {
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

pub(super) fn activation(input: &Input) -> Result<Activation> {
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
