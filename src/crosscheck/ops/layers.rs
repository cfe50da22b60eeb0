//! Layers of networks: activations, sums, norms, attention, windows over images.

use crate::{
    Backend, Result,
    crosscheck::{
        case::{Data, Input},
        compare::{Class, U, roundings},
        inputs::{Admits, Maker, Rng, Values, shapes},
        op::Op,
        options::Level,
    },
    kernels::{self, Activation, Image, Window},
};

/// Half an ulp of 1 in f64.
const U64: f64 = f64::EPSILON / 2.0;

/// What the CPU's exponential is off by, in roundings: 2e-7.
const EXP: f64 = 3.4;

/// F32 of every kind and shape: the weights of all types, as values, up to `limit` in magnitude.
fn floats(
    maker: &Maker,
    admits: Admits,
    limit: f32,
) -> impl Iterator<Item = (String, Data)> + use<> {
    maker.weights(admits).map(move |w| {
        let value = |i: usize| {
            let x = w.data.value(i) as f32;
            if x.is_nan() { x } else { x.clamp(-limit, limit) }
        };
        let values: Vec<f32> = (0..w.data.elements()).map(value).collect();
        let data = Data::f32((w.data.rows, w.data.cols), &values).axes("rows", "cols");
        (w.source, data)
    })
}

/// A matrix of values of a kind.
fn some(rng: Rng, shape: (usize, usize), values: Values, scale: f32) -> Data {
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| values.f32(rng, i) * scale).collect();
    Data::f32(shape, &values)
}

/// A stream of its own for each case and each of its matrices.
fn stream(maker: &Maker, turn: usize, name: &str) -> Rng {
    Rng::new(maker.rng.at(turn), name)
}

fn activation(input: &Input) -> Result<Activation> {
    Ok([Activation::None, Activation::Relu, Activation::Gelu]
        [input.number::<usize>("activation")? % 3])
}

/// An activation of a value that lies within a bound: value and bound.
pub(super) fn activated(activation: Activation, (x, bound): (f64, f64)) -> (f64, f64) {
    match activation {
        Activation::None => (x, bound),
        // A device may take subnormals for zeros.
        Activation::Relu => (x.max(0.0), bound + f64::from(f32::MIN_POSITIVE)),
        // Nowhere steeper than 1.13, and its own error.
        Activation::Gelu => {
            let value = 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
            (value, 1.13 * bound + 4e-7 * (1.0 + x.abs()))
        }
    }
}

/// Activations of a tensor.
pub const ACTIVATE: Op = Op {
    name: "activate",
    kernels: &[&kernels::layers::activate::KERNEL],
    class: Class::Bound(|_, input| {
        let (x, activation) = (input.tensor("x")?, activation(input)?);
        Ok((0..x.elements()).map(|i| activated(activation, (x.value(i), 0.0))).collect())
    }),
    expands: 1,
    make: |maker| {
        for (turn, (source, x)) in floats(maker, Admits::Finite, f32::MAX).enumerate() {
            let kinds: &[usize] =
                if maker.level == Level::Full { &[1, 2] } else { &[2 - turn % 2] };
            for kind in kinds {
                maker.emit(
                    source.clone(),
                    Input::new().with("x", x.clone()).set("activation", *kind),
                );
            }
        }
    },
    run: |on, input| {
        let y = kernels::activate(on, &input.tensor("x")?.upload(on)?, activation(input)?)?;
        Ok(vec![("y", Data::read(on, &y)?)])
    },
};

/// Sums of matrices, the second of them repeated.
pub const ADD: Op = Op {
    name: "add",
    kernels: &[&kernels::layers::add::KERNEL],
    // A device may take either of two subnormals for zero.
    class: Class::Ulps(1.0, 2.0 * f32::MIN_POSITIVE as f64, |input| {
        let (x, y) = (input.tensor("x")?, input.tensor("y")?);
        Ok((0..x.elements()).map(|i| x.value(i) + y.value(i % y.elements())).collect())
    }),
    expands: 1,
    make: |maker| {
        for (turn, (source, x)) in floats(maker, Admits::Finite, 1e38).enumerate() {
            let rng = stream(maker, turn, "y");
            // As many rows, one, or a third.
            let repeats = [1, x.rows.max(1), if x.rows % 3 == 0 { 3 } else { 1 }][turn % 3];
            let rows = x.rows / repeats;
            if rows == 0 && x.rows > 0 {
                continue;
            }
            let kind = [Values::Magnitudes, Values::Uniform, Values::Zeros][turn / 3 % 3];
            let y = some(rng, (rows, x.cols), kind, 1.0);
            let name = if repeats == 1 { "rows" } else { "" };
            let x = x.axes(name, "cols");
            maker.emit(source, Input::new().with("x", x).with("y", y.axes(name, "cols")));
        }
    },
    run: |on, input| {
        let [x, y] = ["x", "y"].map(|name| input.tensor(name).and_then(|t| t.upload(on)));
        Ok(vec![("sums", Data::read(on, &kernels::add(on, &x?, &y?)?)?)])
    },
};

/// Rows of a table.
pub const GATHER_ROWS: Op = Op {
    name: "gather_rows",
    kernels: &[&kernels::layers::gather_rows::KERNEL],
    class: Class::Exact,
    expands: 8,
    make: |maker| {
        for (turn, (rows, cols)) in shapes(maker.level).into_iter().enumerate() {
            let rng = stream(maker, turn, "rows");
            let kind = Values::ALL[turn % Values::ALL.len()];
            let table =
                some(stream(maker, turn, "table"), (rows, cols), kind, 1.0).axes("", "cols");
            let count = if rows == 0 { 0 } else { [1, rows, 2 * rows + 1][turn % 3] };
            let numbers = (0..count).map(|i| rng.below(i, rows) as u32).collect();
            let numbers = Data::u32((count, 1), numbers).axes("rows", "");
            maker.emit("shape", Input::new().with("table", table).with("rows", numbers));
        }
    },
    run: |on, input| {
        let table = input.tensor("table")?.upload(on)?;
        let gathered = kernels::gather_rows(on, &table, &input.tensor("rows")?.words)?;
        Ok(vec![("gathered", Data::read(on, &gathered)?)])
    },
};

/// The lengths of the sequences of a case.
fn lengths(rng: Rng, sequences: usize, rows: usize) -> Data {
    let length = |i: usize| {
        [rows, 0, 1.min(rows), rng.below(i, rows + 1)][(i + rng.below(99, 4)) % 4] as u32
    };
    Data::u32((sequences, 1), (0..sequences).map(length).collect())
}

/// Sequences, rows of each, columns.
fn sequences(level: Level) -> Vec<(usize, usize, usize)> {
    let mut all = vec![(1, 1, 1), (2, 3, 5), (3, 16, 64), (1, 17, 255), (2, 33, 257), (5, 31, 33)];
    if level == Level::Full {
        for count in [1, 2, 7] {
            for rows in [1, 2, 15, 16, 17, 64, 65, 129] {
                all.extend([3, 32, 63, 256, 384].map(|cols| (count, rows, cols)));
            }
        }
    }
    all
}

/// Means over the rows that count.
pub const MASKED_MEAN: Op = Op {
    name: "masked_mean",
    kernels: &[&kernels::layers::masked_mean::KERNEL],
    class: Class::Bound(|on, input| {
        let (x, lengths) = (input.tensor("x")?, input.tensor("lengths")?);
        let rows = x.rows / lengths.rows.max(1);
        let mut all = Vec::new();
        for (b, length) in lengths.words.iter().enumerate() {
            let length = *length as usize;
            for c in 0..x.cols {
                let column = (0..length).map(|s| x.value((b * rows + s) * x.cols + c));
                let n = length.max(1) as f64;
                let (sum, magnitude) = column.fold((0.0, 0.0), |(a, m), v| (a + v, m + v.abs()));
                let bound = match on {
                    // In f64, rounded once; the other half is this sum's own.
                    Backend::Cpu => U * (sum / n).abs() + 2.0 * U64 * (n + 2.0) * magnitude / n,
                    // Sixteen sums, a tree of four steps, and a quotient, which WGSL lets be off by 2.5 ulps.
                    Backend::Gpu(_) => roundings(n / 16.0 + 10.0) * magnitude / n,
                };
                all.push((sum / n, bound + f64::from(f32::MIN_POSITIVE)));
            }
        }
        Ok(all)
    }),
    expands: 1,
    make: |maker| {
        for (turn, (count, rows, cols)) in sequences(maker.level).into_iter().enumerate() {
            for kind in [Values::Uniform, Values::Outliers, Values::Equal] {
                let x = some(stream(maker, turn, "x"), (count * rows, cols), kind, 1.0);
                let lengths = lengths(stream(maker, turn, "lengths"), count, rows);
                let input = Input::new().with("x", x.axes("", "cols"));
                maker.emit(kind.source(), input.with("lengths", lengths));
            }
        }
    },
    run: |on, input| {
        let x = input.tensor("x")?.upload(on)?;
        let means = kernels::masked_mean(on, &x, &input.tensor("lengths")?.words)?;
        Ok(vec![("means", Data::read(on, &means)?)])
    },
};

/// How far a normalized value of magnitude `normal` may be off where all is done in f64: `n` columns, up to `m` deviations from
/// zero. As much again is the oracle's own.
fn in_f64(n: f64, m: f64, normal: f64) -> f64 {
    2.0 * U64 * (n / 16.0 + 20.0) * (1.0 + m) * (1.0 + normal)
}

/// The same in f32 as the shader does it: sums of every 256th column and a tree of 8 steps.
fn in_f32(n: f64, m: f64, normal: f64, residual: bool) -> f64 {
    let sums = n / 256.0 + 9.0;
    // The first mean, by which all are moved: its sum, and a quotient that WGSL lets be off by 2.5 ulps; in deviations.
    let o = roundings(sums + 5.0) * m;
    // What is left of the mean has the same, and the differences that it is of.
    let rest = (sums + 6.0) * (1.0 + o);
    // So has the variance, whose differences count twice, and which is squared, lessened by the square of the rest, and added
    // to: of all that the root takes half. An inverse root is off by 2 ulps.
    let scale = (sums + 8.0) / 2.0 * (1.0 + o * o) + o * rest + 1.0 + 4.0;
    // Two differences and two products.
    let units = rest + o + normal * (scale + 4.0);
    // A residual is added in f32, to the value, to the mean and to what deviates.
    let added = if residual { (2.0 + normal) * m } else { 0.0 };
    roundings(units + added)
}

/// Normalization of rows.
pub const LAYER_NORM: Op = Op {
    name: "layer_norm",
    kernels: &[&kernels::layers::layer_norm::KERNEL],
    class: Class::Bound(|on, input| {
        let x = input.tensor("x")?;
        let residual = input.tensor("residual").ok();
        let [gamma, beta] = ["gamma", "beta"].map(|name| input.tensor(name));
        let (gamma, beta, epsilon) = (gamma?, beta?, f64::from(epsilon(input)?));
        let (cols, mut all) = (x.cols, Vec::new());
        for r in 0..if cols == 0 { 0 } else { x.rows } {
            let z = |c: usize| {
                let i = r * cols + c;
                x.value(i) + residual.map_or(0.0, |residual| residual.value(i))
            };
            let n = cols as f64;
            let about = (0..cols).map(z).sum::<f64>() / n;
            let mean = about + (0..cols).map(|c| z(c) - about).sum::<f64>() / n;
            let variance = (0..cols).map(|c| (z(c) - mean).powi(2)).sum::<f64>() / n;
            let s = (variance + epsilon).sqrt();
            let m = (0..cols).fold(0.0, |m: f64, c| m.max(z(c).abs()));
            for c in 0..cols {
                let normal = (z(c) - mean) / s;
                let y = gamma.value(c) * normal + beta.value(c);
                let share = match on {
                    Backend::Cpu => in_f64(n, m / s, normal.abs()),
                    Backend::Gpu(_) => in_f32(n, m / s, normal.abs(), residual.is_some()),
                };
                let floor = f64::from(f32::MIN_POSITIVE);
                all.push((y, share * gamma.value(c).abs() + U * y.abs() + floor));
            }
        }
        Ok(all)
    }),
    expands: 1,
    make: |maker| {
        for (turn, (rows, cols)) in shapes(maker.level).into_iter().enumerate() {
            let deviations: &[(f32, f32)] = match maker.level {
                Level::Full => &[(1.0, 0.0), (1.0, 1e3), (1.0, -1e5), (1e-3, 0.01), (1e6, 1e4)],
                Level::Quick => &[[(1.0, 0.0), (1.0, 1e3), (1e-3, 0.01)][turn % 3]],
            };
            for (nth, (deviation, offset)) in deviations.iter().enumerate() {
                let rng = |name| stream(maker, 8 * turn + nth, name);
                let kind = [Values::Uniform, Values::Outliers, Values::Equal][(turn + nth) % 3];
                let scale = if kind == Values::Outliers { 1e-4 } else { 1.0 } * deviation;
                let mut x = some(rng("x"), (rows, cols), kind, scale);
                let moved: Vec<f32> = x.as_f32().iter().map(|x| x + offset).collect();
                x = Data::f32((rows, cols), &moved).axes("rows", "cols");
                let mut input = Input::new().with("x", x).set("epsilon", (turn + nth) % 3);
                if turn % 2 == 0 {
                    let more = some(rng("residual"), (rows, cols), Values::Uniform, *deviation);
                    input = input.with("residual", more.axes("rows", "cols"));
                }
                let row = |name| some(rng(name), (1, cols), Values::Uniform, 1.0).axes("", "cols");
                maker.emit(
                    kind.source(),
                    input.with("gamma", row("gamma")).with("beta", row("beta")),
                );
            }
        }
    },
    run: |on, input| {
        let tensor = |name| input.tensor(name).and_then(|t| t.upload(on));
        let residual = input.tensor("residual").ok().map(|t| t.upload(on)).transpose()?;
        let (x, gamma, beta) = (tensor("x")?, tensor("gamma")?, tensor("beta")?);
        let y = kernels::layer_norm(on, &x, residual.as_ref(), &gamma, &beta, epsilon(input)?)?;
        Ok(vec![("y", Data::read(on, &y)?)])
    },
};

fn epsilon(input: &Input) -> Result<f32> {
    Ok([1e-12, 1e-5, 1.0][input.number::<usize>("epsilon")? % 3])
}

/// Exponentials of rows over their sums.
pub const SOFTMAX: Op = Op {
    name: "softmax",
    kernels: &[&kernels::layers::softmax::KERNEL],
    class: Class::Bound(|on, input| {
        let x = input.tensor("x")?;
        let (cols, mut all) = (x.cols, Vec::new());
        for r in 0..if cols == 0 { 0 } else { x.rows } {
            let z = |c: usize| x.value(r * cols + c).clamp(-1e38, 1e38);
            let highest = (0..cols).map(z).fold(f64::MIN, f64::max);
            let sum: f64 = (0..cols).map(|c| libm::exp(z(c) - highest)).sum();
            for c in 0..cols {
                let below = highest - z(c);
                let y = libm::exp(-below) / sum;
                let (n, below_87) = (cols as f64, below.min(87.0));
                // The mean of the distances that the sum is of is at most the logarithm of their number.
                let units = match on {
                    // A difference, an exponential and their means in the sum; the sum's quotient, and a product.
                    Backend::Cpu => below_87 + n.ln() + 2.0 * EXP + 2.0,
                    // The same, with exponentials that WGSL lets be off by 3 + 2 below ulps, and a quotient by 2.5; sums of every
                    // 256th column and a tree of 8 steps.
                    Backend::Gpu(_) => {
                        5.0 * (below_87 + n.ln()) + 2.0 * 6.0 + 5.0 + 1.0 + n / 256.0 + 9.0
                    }
                };
                // Far below the highest a result may be 0.
                let floor = if below >= 87.0 { y } else { 0.0 };
                all.push((y, roundings(units) * y + 2f64.powi(-124) + floor));
            }
        }
        Ok(all)
    }),
    expands: 1,
    make: |maker| {
        let kinds = [
            (Values::Uniform, 1.0),
            (Values::Uniform, 30.0),
            (Values::Outliers, 1.0),
            (Values::Equal, 5.0),
            (Values::Magnitudes, 1.0),
            (Values::Zeros, 1.0),
        ];
        for (turn, (rows, cols)) in shapes(maker.level).into_iter().enumerate() {
            let all: Vec<_> = match maker.level {
                Level::Full => kinds.to_vec(),
                Level::Quick => vec![kinds[turn % 6]],
            };
            for (nth, (kind, scale)) in all.into_iter().enumerate() {
                let mut x = some(stream(maker, 8 * turn + nth, "x"), (rows, cols), kind, scale);
                if turn % 5 == 4 && x.elements() > 2 {
                    // Masks are infinities.
                    let infinite = f32::NEG_INFINITY.to_bits();
                    (0..x.elements()).step_by(3).for_each(|i| x.words[i] = infinite);
                }
                maker.emit(kind.source(), Input::new().with("x", x.axes("rows", "cols")));
            }
        }
    },
    run: |on, input| {
        let y = kernels::softmax(on, &input.tensor("x")?.upload(on)?)?;
        Ok(vec![("y", Data::read(on, &y)?)])
    },
};

/// Attention, head by head, with padding that holds no numbers.
pub const ATTENTION: Op = Op {
    name: "attention",
    kernels: &[&kernels::layers::attention::KERNEL],
    class: Class::Bound(|on, input| {
        let [q, k, v] = ["q", "k", "v"].map(|name| input.tensor(name));
        let (q, k, v, lengths) = (q?, k?, v?, input.tensor("lengths")?);
        let heads = input.number::<usize>("heads")?.max(1);
        let (cols, width, rows) = (q.cols, q.cols / heads, q.rows / lengths.rows.max(1));
        let mut all = vec![(0.0, 0.0); q.elements()];
        let scale = 1.0 / (width as f64).sqrt();
        for (b, length) in lengths.words.iter().map(|n| *n as usize).enumerate() {
            let at = |row: usize, head: usize| (b * rows + row) * cols + head * width;
            let dot = |a: &Data, i: usize, b: &Data, j: usize| -> f64 {
                (0..width).map(|c| a.value(i + c) * b.value(j + c)).sum()
            };
            for head in 0..heads {
                let norm = |m: &Data, i: usize| dot(m, i, m, i).sqrt();
                let longest = (0..length).map(|j| norm(k, at(j, head))).fold(0.0, f64::max);
                for i in 0..length {
                    let query = at(i, head);
                    let scores: Vec<f64> =
                        (0..length).map(|j| dot(q, query, k, at(j, head)) * scale).collect();
                    let reach = norm(q, query) * longest * scale;
                    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                    let p: Vec<f64> = scores.iter().map(|s| libm::exp(s - highest)).collect();
                    let sum: f64 = p.iter().sum();
                    let (d, keys) = (width as f64, length as f64);
                    // Of a result two exponentials of scores, each with the error of its score, which counts by the bound of
                    // all scores, and of its distance from the highest, which is at most twice as far; and the sums.
                    let units = match on {
                        // The query is scaled by a rounded factor, then d products are added; a sum of all keys.
                        Backend::Cpu => 2.0 * ((d + 4.0) * reach + EXP) + keys + 3.0,
                        // Fours are added, then scaled. WGSL lets a power of 2 be off by 3 + 2 |t| ulps, t in powers of 2; every
                        // block of 32 keys scales what was there by one more.
                        Backend::Gpu(_) => {
                            let blocks = (keys / 32.0).ceil();
                            2.0 * ((d / 4.0 + 20.0) * reach + 6.0 + 8.0 * blocks)
                                + (33.0 + 2.0 * blocks)
                                + (10.0 + 2.0 * blocks)
                                + 6.0
                        }
                    };
                    for c in 0..width {
                        let shares = (0..length).map(|j| p[j] / sum * v.value(at(j, head) + c));
                        let (y, m) = shares.fold((0.0, 0.0), |(y, m), s| (y + s, m + s.abs()));
                        all[query + c] = (y, roundings(units) * m + f64::from(f32::MIN_POSITIVE));
                    }
                }
            }
        }
        Ok(all)
    }),
    expands: 1,
    make: |maker| {
        let mut all = vec![(1, 1, 1, 4), (2, 5, 3, 8), (1, 33, 2, 32), (3, 31, 1, 12)];
        if maker.level == Level::Full {
            for (count, heads) in [(1, 1), (2, 3), (5, 2)] {
                for rows in [2, 16, 31, 32, 33, 64, 65] {
                    all.extend([4, 16, 32, 60, 64, 128].map(|width| (count, rows, heads, width)));
                }
            }
        }
        for (turn, (count, rows, heads, width)) in all.into_iter().enumerate() {
            let shape = (count * rows, heads * width);
            let lengths = lengths(stream(maker, turn, "lengths"), count, rows);
            let mut input = Input::new();
            for name in ["q", "k", "v"] {
                let scale = if name == "v" { 1.0 } else { [0.3, 1.0, 4.0][turn % 3] };
                let kind = if turn % 4 == 3 { Values::Equal } else { Values::Uniform };
                let mut data = some(stream(maker, turn, name), shape, kind, scale);
                for (b, length) in lengths.words.iter().enumerate() {
                    let padding = (b * rows + *length as usize) * shape.1..(b + 1) * rows * shape.1;
                    data.words[padding].fill(f32::NAN.to_bits());
                }
                input = input.with(name, data);
            }
            maker.emit("shape", input.with("lengths", lengths).set("heads", heads));
        }
    },
    run: |on, input| {
        let [q, k, v] = ["q", "k", "v"].map(|name| input.tensor(name).and_then(|t| t.upload(on)));
        let lengths = &input.tensor("lengths")?.words;
        let heads = input.number("heads")?;
        let y = kernels::attention(on, &q?, &k?, &v?, heads, lengths)?;
        Ok(vec![("y", Data::read(on, &y)?)])
    },
};

/// Images and windows: count, height, width, channels; height, width, stride, padding.
fn windows(level: Level) -> Vec<([usize; 4], [usize; 4])> {
    let mut all = vec![
        ([1, 1, 1, 1], [1, 1, 1, 0]),
        ([2, 5, 7, 3], [3, 3, 1, 1]),
        ([1, 28, 28, 1], [5, 5, 1, 0]),
        ([3, 12, 12, 20], [2, 2, 2, 0]),
        ([2, 9, 4, 5], [3, 2, 2, 1]),
    ];
    if level == Level::Full {
        for image in [[1, 3, 3, 4], [2, 8, 8, 7], [1, 17, 5, 33], [4, 6, 31, 2], [1, 64, 3, 1]] {
            for window in
                [[1, 1, 1, 0], [2, 2, 2, 0], [3, 3, 1, 1], [3, 1, 2, 0], [2, 3, 3, 1], [3, 3, 2, 1]]
            {
                all.push((image, window));
            }
        }
    }
    all
}

fn set_window(input: Input, image: [usize; 4], window: [usize; 4]) -> Input {
    let names = ["count", "height", "width", "channels"];
    let input = names.iter().zip(image).fold(input, |input, (name, n)| input.set(name, n));
    let names = ["window_height", "window_width", "stride", "padding"];
    names.iter().zip(window).fold(input, |input, (name, n)| input.set(name, n))
}

fn read_window(input: &Input) -> Result<(Image, Window)> {
    let n = |name| input.number::<usize>(name);
    let image = Image {
        count: n("count")?,
        height: n("height")?,
        width: n("width")?,
        channels: n("channels")?,
    };
    let window = Window {
        height: n("window_height")?,
        width: n("window_width")?,
        stride: n("stride")?,
        padding: n("padding")?,
    };
    Ok((image, window))
}

/// The pixels of images, as floats of any pattern or as codes, four to a word.
fn pixels(rng: Rng, [count, height, width, channels]: [usize; 4], codes: bool) -> Data {
    let pixels = count * height * width;
    if !codes {
        return some(rng, (pixels, channels), Values::Edges, 1.0);
    }
    let words = channels.div_ceil(4);
    let mut data = Data::u32((pixels, words), vec![0; pixels * words]);
    for (i, byte) in data.bytes_mut().iter_mut().enumerate() {
        let channel = i % (4 * words);
        *byte = if channel < channels { rng.at(i) as u8 } else { 0 };
    }
    data
}

/// Windows as rows of a matrix.
pub const IM2COL: Op = Op {
    name: "im2col",
    kernels: &[&kernels::layers::im2col::KERNEL],
    class: Class::Exact,
    expands: 16,
    make: |maker| {
        for (turn, (image, window)) in windows(maker.level).into_iter().enumerate() {
            for codes in [false, true] {
                let x = pixels(stream(maker, turn, "x"), image, codes);
                let fill = if codes { [0, 128, 255][turn % 3] } else { 0 };
                let input = Input::new().with("x", x).set("fill", fill);
                maker.emit("shape", set_window(input, image, window));
            }
        }
    },
    run: |on, input| {
        let (image, window) = read_window(input)?;
        let x = input.tensor("x")?.upload(on)?;
        let columns = kernels::im2col(on, &x, image, window, input.number("fill")?)?;
        Ok(vec![("columns", Data::read(on, &columns)?)])
    },
};

/// The largest value under a window.
pub const MAX_POOL: Op = Op {
    name: "max_pool",
    kernels: &[&kernels::layers::max_pool::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| {
        for (turn, (image, window)) in windows(maker.level).into_iter().enumerate() {
            if window[3] >= window[0].min(window[1]) {
                continue;
            }
            for (codes, signed) in [(false, 0), (true, 0), (true, 1)] {
                let x = pixels(stream(maker, turn, "x"), image, codes);
                let input = Input::new().with("x", x).set("signed", signed);
                maker.emit("shape", set_window(input, image, window));
            }
        }
    },
    run: |on, input| {
        let (image, window) = read_window(input)?;
        let x = input.tensor("x")?.upload(on)?;
        let signed = input.number::<u8>("signed")? != 0;
        let largest = kernels::max_pool(on, &x, image, window, signed)?;
        Ok(vec![("largest", Data::read(on, &largest)?)])
    },
};
