//! Symbols: packing them, decoding their streams, and putting what they stand for in its place.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        block::IndexKind,
        gaps, huffman, rans,
        trellis::{self, Trellis},
    },
    crosscheck::{
        case::{Data, Input, Outputs},
        compare::Class,
        inputs::{Maker, Rng, WEIGHTS, shapes},
        op::Op,
        ops::affine::{packed_outputs, read_dtype, symbols, with_dtype},
        options::Level,
    },
    kernels::{self, Order, Survivors},
    random::number,
    trellis::{Grid, Positions},
};

/// Symbols packed into the rows of a matrix, from two parts.
pub const PACK_CODES: Op = Op {
    name: "pack_codes",
    kernels: &[&kernels::codes::pack_codes::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| {
        let full = maker.level == Level::Full;
        for (turn, (rows, cols)) in shapes(maker.level).into_iter().enumerate() {
            for bits in if full { 1..9 } else { 1 + turn as u32 % 8..2 + turn as u32 % 8 } {
                if cols > 0 {
                    let rng = Rng::new(maker.rng.at(turn), "symbols");
                    // A part starts a word, so its rows before must fill words.
                    let part = rows.div_ceil(2);
                    let symbols = symbols(rng, (rows, cols), bits);
                    let input = Input::new().with("symbols", symbols).set("bits", bits);
                    maker.emit("shape", input.set("part", part as i64));
                }
            }
        }
    },
    run: |on, input| {
        let symbols = input.tensor("symbols")?;
        let (bits, part) = (input.number("bits")?, input.number::<usize>("part")?);
        let (first, second) = symbols.bytes().split_at(part.min(symbols.rows) * symbols.cols);
        let parts = [first, second].map(|s| {
            let data = Data::u8((1, s.len()), s);
            Tensor::new(on, DType::U8, 1, s.len(), data.words)
        });
        let [first, second] = parts;
        let codes = kernels::pack_codes(on, &[first?, second?], symbols.cols, bits)?;
        packed_outputs(on, &codes, symbols.cols, bits)
    },
};

/// Huffman streams, of symbols from all alike to all equally often.
pub const HUFFMAN_DECODE: Op = Op {
    name: "huffman_decode",
    kernels: &[&kernels::codes::huffman_decode::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| streams(maker, huffman::BLOCK, &[]),
    run: |on, input| {
        let encode = |symbols: &[u8]| {
            let mut bytes = Vec::new();
            let coded = huffman::encode(symbols, &mut bytes);
            coded.then_some(bytes).ok_or_else(|| {
                Error::shape("huffman_decode", "symbols", "too many kinds", "what has a code")
            })
        };
        decode(on, input, encode, kernels::huffman_decode)
    },
};

/// rANS streams, likewise.
pub const RANS_DECODE: Op = Op {
    name: "rans_decode",
    kernels: &[&kernels::codes::rans_decode::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| streams(maker, rans::BLOCK, &[]),
    run: |on, input| {
        let encode = |symbols: &[u8]| {
            let mut bytes = Vec::new();
            rans::encode(symbols, &mut bytes);
            Ok(bytes)
        };
        decode(on, input, encode, kernels::rans_decode)
    },
};

/// States of the trellises, and of cases in turn.
const TRELLISES: [u8; 5] = [8, 64, 4, 16, 32];

fn trellis(input: &Input) -> Result<Trellis> {
    let states = input.number::<u8>("states")?;
    Trellis::new(states).ok_or_else(|| Error::shape("trellis", "states", states, "4 to 64"))
}

/// Streams of paths through trellises, as the symbols lead.
pub const TRELLIS_DECODE: Op = Op {
    name: "trellis_decode",
    kernels: &[&kernels::codes::trellis_decode::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| streams(maker, trellis::BLOCK, &TRELLISES),
    run: |on, input| {
        let trellis = trellis(input)?;
        let encode = |symbols: &[u8]| {
            let (mut codes, mut bytes) = (symbols.to_vec(), Vec::new());
            trellis.lead(&mut codes);
            trellis::encode(&codes, &mut bytes);
            Ok(bytes)
        };
        decode(on, input, encode, |on, streams| kernels::trellis_decode(on, trellis, streams))
    },
};

/// Paths through trellises, for weights that are at positions of any costs.
pub const TRELLIS_SEARCH: Op = Op {
    name: "trellis_search",
    kernels: &[&kernels::codes::trellis_search::KERNEL],
    class: Class::Exact,
    expands: 4,
    make: |maker| streams(maker, trellis::BLOCK, &TRELLISES),
    run: |on, input| {
        let (symbols, parts) = (input.tensor("symbols")?.bytes(), input.number::<usize>("parts")?);
        // Costs of few bits, so that many paths cost the same.
        let cost =
            |p: usize, subset: usize| (number(p as u64, subset as u64) & 4095) as u16 >> (p % 12);
        let positions = Positions { per_weight: 1.0, middle: 0, core: 128, far: 0 };
        let grid = Grid {
            trellis: trellis(input)?,
            positions,
            costs: (0..256).map(|p| std::array::from_fn(|s| cost(p, s))).collect(),
            codes: (0..256).map(|p| std::array::from_fn(|s| (4 * p + s) as u8)).collect(),
        };
        let n = symbols.len();
        let mut words = vec![0; crate::words(DType::U16, n)];
        let of = bytemuck::cast_slice_mut::<u32, u16>(&mut words).iter_mut();
        of.zip(symbols).for_each(|(position, symbol)| *position = u16::from(*symbol));
        let positions = Tensor::new(on, DType::U16, 1, n, words)?;
        let part = n.div_ceil(parts.max(1)).max(1);
        let streams: Vec<usize> = symbols.chunks(part).map(<[u8]>::len).collect();
        let codes = kernels::trellis_search(on, &positions, &streams, &grid)?;
        Ok(vec![("codes", Data::read(on, &codes)?)])
    },
};

/// Survivors to their places: a block for every row of a mask, with an index of any kind.
pub const SCATTER: Op = Op {
    name: "scatter",
    kernels: &[&kernels::codes::scatter::KERNEL],
    class: Class::Exact,
    expands: 16,
    make: |maker| {
        let quick = maker.level == Level::Quick;
        for (turn, (blocks, weights)) in shapes(maker.level).into_iter().enumerate() {
            // 0 for a bitmap, otherwise the bits of a gap.
            for (nth, kind) in [0, 2, 4, 8].into_iter().enumerate() {
                if quick && nth != turn % 4 {
                    continue;
                }
                let rng = Rng::new(maker.rng.at(4 * turn + nth), "mask");
                let kept = |i: usize| match (turn + nth) % 5 {
                    0 => true,
                    1 => false,
                    2 => i % 700 > 690,
                    odds => rng.below(i, 4 * odds * odds) == 0,
                };
                let mask: Vec<u8> = (0..blocks * weights).map(|i| kept(i).into()).collect();
                let mask = Data::u8((blocks, weights), &mask).axes("blocks", "weights");
                let codes = symbols(rng, (blocks, weights), 4).axes("blocks", "weights");
                let table: Vec<f32> = (0..13).map(|i| rng.unit(i)).collect();
                let input = Input::new()
                    .with("mask", mask)
                    .with("codes", codes)
                    .with("table", Data::f32((1, 13), &table))
                    .set("index", kind)
                    .set("by_weight", (turn / 2) % 2);
                let types = if quick { 2 } else { WEIGHTS.len() };
                maker.emit("shape", with_dtype(input, WEIGHTS[(turn + nth) % types]));
            }
        }
    },
    run: |on, input| {
        let (mask, codes) = (input.tensor("mask")?, input.tensor("codes")?);
        let (kind, order) = match (input.number::<u32>("index")?, input.number::<u8>("by_weight")?)
        {
            (0, order) => (IndexKind::Bitmap, order),
            (width, order) => (IndexKind::Gaps(width.clamp(2, 8)), order),
        };
        let order = if order == 0 { Order::Survivors } else { Order::Weights };
        let (mut index, mut listed, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let n = mask.cols;
        for b in 0..mask.rows {
            let [kept, codes] = [mask, codes].map(|data| &data.bytes()[b * n..][..n]);
            let mut bits = vec![0; n.div_ceil(32)];
            (0..n).filter(|i| kept[*i] == 1).for_each(|i| bits[i / 32] |= 1 << (i % 32));
            let (first, code) = (index.len(), listed.len());
            match kind {
                IndexKind::Gaps(width) => index.extend(gaps::encode(&bits, n, width)),
                IndexKind::Bitmap => index.extend(&bytemuck::cast_slice(&bits)[..n.div_ceil(8)]),
            }
            let counts = |i: &usize| order == Order::Weights || kept[*i] == 1;
            listed.extend((0..n).filter(counts).map(|i| codes[i]));
            all.push(Survivors {
                kind,
                symbols: first..index.len(),
                weights: b * n..(b + 1) * n,
                codes: code..listed.len(),
            });
        }
        let [index, listed] = [index, listed].map(|bytes| Data::u8((1, bytes.len()), &bytes));
        let (index, listed) = (index.upload(on)?, listed.upload(on)?);
        let counts = kernels::count_survivors(on, &index, &all)?;
        let counts = counts.into_iter().map(|n| n as u32).collect();
        let table = input.tensor("table")?.as_f32();
        let codes = (&listed, order);
        let weights = kernels::scatter(on, &index, &all, codes, table, read_dtype(input)?)?;
        Ok(vec![
            ("weights", Data::read(on, &weights)?),
            ("counts", Data::u32((all.len(), 1), counts)),
        ])
    },
};

/// How many kinds of sources of symbols there are.
const SOURCES: usize = 7;

/// Symbol of 64 random bits.
fn symbol(source: usize, r: u64) -> u8 {
    match source {
        0 => 200,
        1 => (r >> 63) as u8 * 255,
        2 => u8::from(r.is_multiple_of(997)) + 8,
        3 => (r | 1 << 40).trailing_zeros() as u8,
        4 => ((r & 15) * (r >> 4 & 15) / 15) as u8,
        5 => (r & 127) as u8,
        _ => 3 - u8::from(r.is_multiple_of(65_536)),
    }
}

/// Symbols of every source, in numbers on either side of every boundary of words, lanes and blocks, with trellises in turn.
fn streams(maker: &mut Maker, block: usize, trellises: &[u8]) {
    let quick = [1, 2, 3, 4, 5, 31, 63, 64, 65, 511, 2047, 2048, 2049, 4096, 5001, 16_385];
    let around = [block - 1, block, block + 1, 2 * block + 2051];
    let more =
        [6, 7, 8, 9, 100, 127, 128, 129, 1000, 4099, 8192, 16_383, 16_384, 40_000, 65_535, 65_537];
    let mut lengths: Vec<usize> = quick.into_iter().chain(around).collect();
    if maker.level == Level::Full {
        lengths.extend(more);
    }
    for (l, length) in lengths.into_iter().enumerate() {
        for source in 0..SOURCES {
            if maker.level == Level::Quick && (l + source) % 3 > 0 {
                continue;
            }
            let rng = Rng::new(maker.rng.at(source), "symbols");
            for parts in [1, 3] {
                if parts == 1 || length > 12 && (l + source) % 2 == 0 {
                    let symbols: Vec<u8> = (0..length).map(|i| symbol(source, rng.at(i))).collect();
                    let symbols = Data::u8((1, length), &symbols).axes("", "symbols");
                    let mut input = Input::new().with("symbols", symbols).set("parts", parts);
                    if !trellises.is_empty() {
                        input = input.set("states", trellises[(l + source) % trellises.len()]);
                    }
                    // The table of one stream is as long as the longest binding of a tiny device.
                    match parts {
                        1 => maker.emit("shape", input),
                        _ => maker.emit_ordinary("shape", input),
                    }
                }
            }
        }
    }
}

/// Encodes the symbols of a case in so many streams, and has them decoded.
fn decode(
    on: &Backend,
    input: &Input,
    encode: impl Fn(&[u8]) -> Result<Vec<u8>>,
    kernel: impl Fn(&Backend, &[(&[u8], usize)]) -> Result<Tensor>,
) -> Result<Outputs> {
    let (symbols, parts) = (input.tensor("symbols")?.bytes(), input.number::<usize>("parts")?);
    let part = symbols.len().div_ceil(parts.max(1));
    let pieces: Vec<&[u8]> = symbols.chunks(part.max(1)).collect();
    let coded = pieces.iter().map(|p| encode(p)).collect::<Result<Vec<_>>>()?;
    let streams: Vec<(&[u8], usize)> =
        coded.iter().map(Vec::as_slice).zip(pieces.iter().map(|p| p.len())).collect();
    Ok(vec![("symbols", Data::read(on, &kernel(on, &streams)?)?)])
}
