//! Products of codes with codes, and the integers that go into them and come out.

use crate::{
    Backend, DType, Result, Tensor,
    codec::bitpack,
    crosscheck::{
        case::{Data, Input},
        compare::{Class, U},
        inputs::{self, Admits, Maker, Rng},
        op::Op,
        ops::{
            affine::pack_rows,
            layers::activated,
            products::{activation, shapes, stream},
        },
        options::Level,
    },
    kernels::{self, Channels, Epilogue, Int8, Tile},
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
