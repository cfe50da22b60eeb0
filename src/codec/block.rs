//! The coded form of a block of a tensor (see `Blocks` in `src/stage`): where its survivors are, if it is pruned, and their
//! codes or values, in a string of bytes of its own. Nothing outside it is needed to decode it but what the manifest says.
//!
//! - Of a block that is not pruned: the [`stream`] of its codes, which may be paths, or its values as [`floats`] codes them, or [`planes`] where they are
//!   no floats that kernels know.
//! - Of a pruned one: the index, then the same of its survivors, row by row. The index is a byte that names it, the number of
//!   its further bytes, and these: for a bitmap the stream of a bit for every weight, eight to a symbol; for a width of
//!   [`gaps`] the number of gaps and their stream.
//! - Of one that a retrieval structure holds: an index of the structure's name and bytes, and nothing after it. It gives back
//!   every survivor, and some weights that were pruned, as it happens.

use crate::{
    DType,
    codec::{
        Malformed, bitpack,
        bits::{put_number, take_number},
        floats, gaps, planes,
        retrieval::{Decode, Encode, bloomier, ribbon, take_bits},
        sparse,
        stream::{self, Coder},
        trellis::Trellis,
    },
    scratch::{self, Bytes},
    simd::histogram,
    tensor::slice,
    words,
};
use serde::{Deserialize, Serialize};

/// What a block's weights are before they are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Codes of so many bits.
    Code(u32),
    /// Codes of so many bits, at most 8, along paths through a trellis.
    Path(u32, Trellis),
    /// Values of a type.
    Value(DType),
}

impl Element {
    /// Bits of a code; none of values.
    pub fn code_bits(self) -> Option<u32> {
        match self {
            Self::Code(bits) | Self::Path(bits, _) => Some(bits),
            Self::Value(_) => None,
        }
    }
}

/// Names the index that has a bit for every weight; the names of gaps are their widths.
const BITMAP: u8 = 0;
/// Name the retrieval structures.
const RIBBON: u8 = 16;
const BLOOMIER: u8 = 17;

/// How a block is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Index and weights as streams.
    Streams(Coder),
    /// Both in a retrieval structure with results of so many bits, at least those of a code, at most 15.
    Retrieval(Structure, u32),
}

impl Coding {
    /// Bits of the results of a retrieval structure.
    pub fn results(self) -> Option<u32> {
        match self {
            Self::Streams(_) => None,
            Self::Retrieval(_, t) => Some(t),
        }
    }
}

/// A function from positions to codes that is right for survivors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Structure {
    /// [`ribbon`].
    Ribbon,
    /// [`bloomier`].
    Bloomier,
}

impl Structure {
    /// What asks for all positions.
    fn query(self) -> Decode {
        match self {
            Self::Ribbon => ribbon::decode,
            Self::Bloomier => bloomier::decode,
        }
    }
}

/// A block: `mask` as in [`sparse`], empty where it is not pruned; `stored` as the raw components hold it: codes packed row by
/// row, of the survivors only where it is pruned, or values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Which weights survive.
    pub mask: Vec<u32>,
    /// Their codes or values.
    pub stored: Vec<u32>,
}

/// How many bytes of a coded block are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The index.
    pub index: u64,
    /// Codes or values.
    pub stored: u64,
}

impl std::iter::Sum for Sizes {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| Self {
            index: a.index + b.index,
            stored: a.stored + b.stored,
        })
    }
}

/// Appends the coded form of a block of `rows` rows of `cols` weights; returns what its parts take.
///
/// # Panics
///
/// If a retrieval structure is to hold what is no code, or not pruned.
pub fn encode(
    block: &Block,
    (rows, cols): (usize, usize),
    element: Element,
    coding: Coding,
    out: &mut Vec<u8>,
) -> Sizes {
    let start = out.len();
    let coder = match coding {
        Coding::Streams(coder) => coder,
        Coding::Retrieval(structure, t) => {
            let Element::Code(r) = element else { panic!("only codes are retrieved") };
            assert!(!block.mask.is_empty(), "without a mask every weight is a survivor");
            let values = unpack(block, (rows, cols), r);
            let mut mask = vec![0u32; (rows * cols).div_ceil(32)];
            let bits = bitmap(&block.mask, (rows, cols));
            bytemuck::cast_slice_mut(&mut mask)[..bits.len()].copy_from_slice(&bits);
            let (kind, encode): (u8, Encode) = match structure {
                Structure::Ribbon => (RIBBON, ribbon::encode),
                Structure::Bloomier => (BLOOMIER, bloomier::encode),
            };
            let mut bytes = Vec::new();
            encode(rows * cols, &mask, &values, (r, t), &mut bytes);
            out.push(kind);
            put_number(bytes.len(), out);
            out.extend(bytes);
            return Sizes { index: 0, stored: (out.len() - start) as u64 };
        }
    };
    if !block.mask.is_empty() {
        encode_index(&block.mask, (rows, cols), coder, out);
    }
    let index = out.len() - start;
    match element {
        Element::Code(bits) => stream::encode(&unpack(block, (rows, cols), bits), bits, coder, out),
        Element::Path(bits, _) => stream::encode_paths(&unpack(block, (rows, cols), bits), out),
        Element::Value(dtype) => {
            let count = survivors(&block.mask, (rows, cols)).sum::<usize>();
            let bytes = bytemuck::cast_slice::<u32, u8>(&block.stored);
            let bytes = &bytes[..dtype.bytes(count)];
            match dtype.is_weight() {
                true => floats::encode(dtype, bytes, out),
                false => planes::encode(dtype.bytes(1), bytes, coder, out),
            }
        }
    }
    Sizes { index: index as u64, stored: (out.len() - start - index) as u64 }
}

/// Decodes the whole of `bytes`.
///
/// # Errors
///
/// What is wrong with them.
pub fn decode(
    bytes: &[u8],
    (rows, cols): (usize, usize),
    pruned: bool,
    element: Element,
) -> Result<(Block, Sizes), Malformed> {
    let (mask, stored) = match pruned.then(|| split(bytes, rows * cols)).transpose()? {
        None => (Vec::new(), bytes),
        Some(Pruned::Streams(index, stored)) => (index.mask((rows, cols))?, stored),
        Some(Pruned::Retrieval(structure, structured)) => {
            let Element::Code(bits) = element else {
                return Err(Malformed("a structure that holds values, or paths"));
            };
            let block = retrieve(structured, (rows, cols), bits, structure.query())?;
            return Ok((block, Sizes { index: 0, stored: bytes.len() as u64 }));
        }
    };
    let sizes = Sizes { index: (bytes.len() - stored.len()) as u64, stored: stored.len() as u64 };
    let bytes = stored;
    let counts = || survivors(&mask, (rows, cols));
    let count: usize = counts().sum();
    let stored = match element {
        Element::Code(bits) => {
            let mut symbols = Bytes::new(count);
            stream::decode(bytes, bits, &mut symbols)?;
            pack(&symbols, counts, bits)
        }
        Element::Path(bits, trellis) => {
            let mut symbols = Bytes::new(count);
            stream::decode_paths(trellis, bytes, bits, &mut symbols)?;
            pack(&symbols, counts, bits)
        }
        Element::Value(dtype) => {
            let mut stored = scratch::words(words(dtype, count));
            let values = &mut bytemuck::cast_slice_mut(&mut stored)[..dtype.bytes(count)];
            match dtype.is_weight() {
                true => floats::decode(dtype, bytes, values)?,
                false => planes::decode(dtype.bytes(1), bytes, values)?,
            }
            stored
        }
    };
    Ok((Block { mask, stored }, sizes))
}

impl Block {
    /// Some rows of a block of rows of `cols` weights, one after the other, `step` at a time.
    pub fn rows(&self, step: usize, (rows, cols): (usize, usize), element: Element) -> Vec<Self> {
        if step >= rows {
            return vec![self.clone()];
        }
        let counts: Vec<usize> = survivors(&self.mask, (rows, cols)).collect();
        let row_words = if self.mask.is_empty() { 0 } else { cols.div_ceil(32) };
        let mut at = 0;
        let part = |(i, counts): (usize, &[usize])| {
            let mask = i * step * row_words..(i * step + counts.len()) * row_words;
            let stored = match element {
                Element::Code(bits) | Element::Path(bits, _) => {
                    let len: usize = counts.iter().map(|n| bitpack::words(*n, bits)).sum();
                    at += len;
                    self.stored[at - len..at].to_vec()
                }
                Element::Value(dtype) => {
                    let count = counts.iter().sum();
                    at += count;
                    slice(dtype, &self.stored, at - count, count)
                }
            };
            Self { mask: self.mask[mask].to_vec(), stored }
        };
        counts.chunks(step).enumerate().map(part).collect()
    }

    /// Blocks of rows of `cols` weights that follow one another, with how many rows each has, as one.
    pub fn join(mut parts: Vec<(Self, usize)>, cols: usize, element: Element) -> Self {
        if parts.len() == 1 {
            return parts.swap_remove(0).0;
        }
        let mask = parts.iter().flat_map(|(part, _)| &part.mask).copied().collect();
        let Element::Value(dtype) = element else {
            let stored = parts.iter().flat_map(|(part, _)| &part.stored).copied().collect();
            return Self { mask, stored };
        };
        let mut bytes = Vec::new();
        for (part, rows) in &parts {
            let count: usize = survivors(&part.mask, (*rows, cols)).sum();
            let values = bytemuck::cast_slice::<u32, u8>(&part.stored);
            bytes.extend_from_slice(&values[..dtype.bytes(count)]);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Self { mask, stored: bytemuck::pod_collect_to_vec(&bytes) }
    }
}

/// How many weights of each row are stored.
fn survivors<'a>(
    mask: &'a [u32],
    (rows, cols): (usize, usize),
) -> Box<dyn Iterator<Item = usize> + 'a> {
    match mask.is_empty() {
        true => Box::new(std::iter::repeat_n(cols, rows)),
        false => Box::new(sparse::row_counts(mask, cols)),
    }
}

/// Codes one after the other, packed row by row.
fn pack<I: Iterator<Item = usize>>(symbols: &[u8], counts: impl Fn() -> I, bits: u32) -> Vec<u32> {
    let mut stored = scratch::words(counts().map(|n| bitpack::words(n, bits)).sum());
    let (mut rest, mut symbols) = (&mut stored[..], symbols);
    for n in counts() {
        let (row, after) = rest.split_at_mut(bitpack::words(n, bits));
        let (codes, left) = symbols.split_at(n);
        bitpack::pack(codes, bits, row);
        (rest, symbols) = (after, left);
    }
    stored
}

/// Refuses a structure whose values have not `bits` bits; one without survivors has none.
///
/// # Errors
///
/// If they have not.
pub fn check_values(mut bytes: &[u8], bits: u32) -> Result<(), Malformed> {
    match bytes.is_empty() || take_bits(&mut bytes)?.0 == bits {
        true => Ok(()),
        false => Err(Malformed("a structure of other codes")),
    }
}

/// The block that a retrieval structure holds.
fn retrieve(
    bytes: &[u8],
    (rows, cols): (usize, usize),
    bits: u32,
    query: Decode,
) -> Result<Block, Malformed> {
    check_values(bytes, bits)?;
    let n = rows * cols;
    let (mut flat, mut values) = (vec![0u32; n.div_ceil(32)], vec![0; n]);
    query(bytes, &mut flat, &mut values)?;
    let mut codes = Vec::new();
    sparse::survivors(&flat, n, |at| codes.push(values[at]));
    let mask = mask_of(&bytemuck::cast_slice(&flat)[..n.div_ceil(8)], (rows, cols));
    let stored = pack(&codes, || sparse::row_counts(&mask, cols), bits);
    Ok(Block { mask, stored })
}

/// The mask that [`bitmap`] gives.
fn mask_of(bitmap: &[u8], (rows, cols): (usize, usize)) -> Vec<u32> {
    let row_words = cols.div_ceil(32);
    let mut mask = vec![0; rows * row_words];
    for (i, byte) in bitmap.iter().enumerate() {
        let mut bits = *byte;
        while bits != 0 {
            let at = i * 8 + bits.trailing_zeros() as usize;
            mask[at / cols * row_words + at % cols / 32] |= 1 << (at % cols % 32);
            bits &= bits - 1;
        }
    }
    mask
}

/// The codes of a block, one after the other.
fn unpack(block: &Block, shape: (usize, usize), bits: u32) -> Bytes {
    let mut symbols = Bytes::new(survivors(&block.mask, shape).sum());
    let (mut rest, mut stored) = (&mut symbols[..], &block.stored[..]);
    for n in survivors(&block.mask, shape) {
        let (row, after) = std::mem::take(&mut rest).split_at_mut(n);
        let (packed, left) = stored.split_at(bitpack::words(n, bits));
        bitpack::unpack(packed, bits, row);
        (rest, stored) = (after, left);
    }
    symbols
}

/// A bit for every weight, first in the low bit of the first byte, whatever the rows.
fn bitmap(mask: &[u32], (rows, cols): (usize, usize)) -> Vec<u8> {
    let mut bytes = vec![0; (rows * cols).div_ceil(8)];
    sparse::survivors(mask, cols, |at| bytes[at / 8] |= 1 << (at % 8));
    bytes
}

fn encode_index(mask: &[u32], shape: (usize, usize), coder: Coder, out: &mut Vec<u8>) {
    let bitmap = bitmap(mask, shape);
    let mut best = (BITMAP, stream::cost(&histogram(&bitmap), 8, coder));
    for (width, counts) in gaps::counts(mask, shape.1) {
        let mut number = Vec::new();
        put_number(counts.iter().sum::<u64>() as usize, &mut number);
        let bytes = number.len() as u64 + stream::cost(&counts, width, coder);
        if bytes < best.1 {
            best = (width as u8, bytes);
        }
    }
    let mut index = Vec::new();
    match best.0 {
        BITMAP => stream::encode(&bitmap, 8, coder, &mut index),
        width => {
            let gaps = gaps::encode(mask, shape.1, width.into());
            put_number(gaps.len(), &mut index);
            stream::encode(&gaps, width.into(), coder, &mut index);
        }
    }
    out.push(best.0);
    put_number(index.len(), out);
    out.extend(index);
}

/// Where the survivors of a block are: a stream of so many symbols.
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    /// What a symbol says.
    pub kind: IndexKind,
    /// The [`stream`].
    pub stream: &'a [u8],
    /// How many symbols it has, each for at least one weight of the block.
    pub symbols: usize,
}

/// What a symbol of an index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Which of eight weights survive, first in the low bit.
    Bitmap,
    /// How many pruned weights lie before the next survivor, in so many bits: see [`gaps`].
    Gaps(u32),
}

impl IndexKind {
    /// Bits of a symbol.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bitmap => 8,
            Self::Gaps(width) => width,
        }
    }
}

/// A coded block of a pruned tensor, taken apart but not decoded.
#[derive(Clone, Copy, Debug)]
pub enum Pruned<'a> {
    /// The index, and the stream of the survivors' codes or values.
    Streams(Index<'a>, &'a [u8]),
    /// The bytes of a structure that gives back codes and index.
    Retrieval(Structure, &'a [u8]),
}

/// Takes the coded form of a block of `n` pruned weights apart.
///
/// # Errors
///
/// If its parts do not fit its length, or it has none that is known.
pub fn split(bytes: &[u8], n: usize) -> Result<Pruned<'_>, Malformed> {
    let (kind, mut rest) =
        bytes.split_first().ok_or(Malformed("a pruned block without an index"))?;
    let len = take_number(&mut rest)?;
    let structure = match *kind {
        RIBBON => Some(Structure::Ribbon),
        BLOOMIER => Some(Structure::Bloomier),
        _ => None,
    };
    if let Some(structure) = structure {
        return match len == rest.len() {
            true => Ok(Pruned::Retrieval(structure, rest)),
            false => Err(Malformed("a structure of another length")),
        };
    }
    let (mut stream, stored) =
        rest.split_at_checked(len).ok_or(Malformed("an index beyond the end"))?;
    let (kind, symbols) = match u32::from(*kind) {
        width if gaps::WIDTHS.contains(&width) => {
            // Fillers and survivors: each stands for one weight at least.
            let count = take_number(&mut stream)?;
            let count =
                Some(count).filter(|c| *c <= n).ok_or(Malformed("more gaps than weights"))?;
            (IndexKind::Gaps(width), count)
        }
        _ if *kind == BITMAP => (IndexKind::Bitmap, n.div_ceil(8)),
        _ => return Err(Malformed("an index that is not known")),
    };
    Ok(Pruned::Streams(Index { kind, stream, symbols }, stored))
}

impl Index<'_> {
    /// The mask of a block.
    fn mask(&self, (rows, cols): (usize, usize)) -> Result<Vec<u32>, Malformed> {
        let mut symbols = vec![0; self.symbols];
        stream::decode(self.stream, self.kind.bits(), &mut symbols)?;
        match self.kind {
            IndexKind::Gaps(width) => gaps::decode(&symbols, width, rows, cols),
            IndexKind::Bitmap => {
                let n = rows * cols;
                if n % 8 != 0 && symbols[n / 8] >> (n % 8) != 0 {
                    return Err(Malformed("bits beyond the last weight"));
                }
                Ok(mask_of(&symbols, (rows, cols)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(bits: u32, states: u8) -> Element {
        Element::Path(bits, Trellis::new(states).unwrap())
    }

    const ELEMENTS: [Element; 10] = [
        Element::Code(1),
        Element::Code(3),
        Element::Code(4),
        Element::Code(8),
        Element::Value(DType::F32),
        Element::Value(DType::BF16),
        Element::Value(DType::F8E4M3),
        Element::Value(DType::F64),
        Element::Value(DType::U8),
        Element::Value(DType::I32),
    ];

    /// A block whose weights survive where `keep` says so.
    fn block(
        (rows, cols): (usize, usize),
        element: Element,
        keep: Option<&dyn Fn(usize) -> bool>,
        random: impl Fn(usize) -> u32,
    ) -> Block {
        let row_words = cols.div_ceil(32);
        let mut mask = vec![0; if keep.is_some() { rows * row_words } else { 0 }];
        for at in (0..rows * cols).filter(|at| keep.is_some_and(|keep| keep(*at))) {
            mask[at / cols * row_words + at % cols / 32] |= 1 << (at % cols % 32);
        }
        let counts = survivors(&mask, (rows, cols));
        let mut stored = Vec::new();
        match element {
            Element::Code(bits) => {
                for n in counts {
                    let codes: Vec<u8> =
                        (0..n).map(|i| (random(i) & ((1 << bits) - 1)) as u8).collect();
                    let at = stored.len();
                    stored.resize(at + bitpack::words(n, bits), 0);
                    bitpack::pack(&codes, bits, &mut stored[at..]);
                }
            }
            Element::Path(bits, trellis) => {
                let counts: Vec<usize> = counts.collect();
                let code = |i: usize| (random(i) & ((1 << bits) - 1)) as u8;
                let mut codes: Vec<u8> = (0..counts.iter().sum()).map(code).collect();
                trellis.lead(&mut codes);
                let mut left = &codes[..];
                for n in counts {
                    let (row, after) = left.split_at(n);
                    let at = stored.len();
                    stored.resize(at + bitpack::words(n, bits), 0);
                    bitpack::pack(row, bits, &mut stored[at..]);
                    left = after;
                }
            }
            Element::Value(dtype) => {
                let n: usize = counts.sum();
                let mut bytes: Vec<u8> = (0..dtype.bytes(n)).map(|i| random(i) as u8).collect();
                bytes.resize(words(dtype, n) * 4, 0);
                stored = bytemuck::pod_collect_to_vec(&bytes);
            }
        }
        Block { mask, stored }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn blocks_come_back_whatever_their_density(
            rows in 1usize..12, cols in 1usize..400, one_in in 1u32..60, seed in any::<u32>(), dense in any::<bool>(),
        ) {
            let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).rotate_left(9) ^ (seed >> 7);
            let keep = |at: usize| random(at * 31) % one_in == 0;
            for element in ELEMENTS.into_iter().chain([path(4, 8), path(8, 64)]) {
                for coder in [Coder::Huffman, Coder::Rans, Coder::Auto].map(Coding::Streams) {
                    let block = block((rows, cols), element, (!dense).then_some(&keep), random);
                    let mut bytes = Vec::new();
                    let sizes = encode(&block, (rows, cols), element, coder, &mut bytes);
                    prop_assert_eq!(sizes.index + sizes.stored, bytes.len() as u64);
                    prop_assert_eq!(sizes.index == 0, dense);
                    prop_assert_eq!(&decode(&bytes, (rows, cols), !dense, element).unwrap(), &(block, sizes));
                }
            }
        }
    }

    #[test]
    fn parts_of_a_block_join_again() {
        let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 13;
        for element in ELEMENTS {
            for keep in [None, Some(&(|at: usize| at % 3 == 1) as &dyn Fn(usize) -> bool)] {
                let shape = (11, 37);
                let all = block(shape, element, keep, random);
                for step in [1, 2, 5, 11, 12] {
                    let parts = all.rows(step, shape, element);
                    assert_eq!(parts.len(), 11usize.div_ceil(step));
                    let rows = |i: usize| step.min(11 - i * step);
                    let parts = parts.into_iter().enumerate().map(|(i, p)| (p, rows(i)));
                    assert_eq!(Block::join(parts.collect(), 37, element), all);
                }
            }
        }
    }

    #[test]
    fn damage_is_refused_or_is_another_block() {
        let shape = (6, 50);
        let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 13;
        for element in [Element::Code(3), Element::Value(DType::BF16), path(4, 8)] {
            let block = block(shape, element, Some(&|at| at % 7 == 0), random);
            let mut bytes = Vec::new();
            encode(&block, shape, element, Coding::Streams(Coder::Auto), &mut bytes);
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len], shape, true, element).is_err(), "cut to {len}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if let Ok((found, _)) = decode(&damaged, shape, true, element) {
                    assert_ne!(found, block, "bit {bit} does not matter");
                }
            }
            bytes.push(0);
            assert!(decode(&bytes, shape, true, element).is_err(), "one byte more");
        }
    }

    #[test]
    fn structures_hold_every_survivor_and_few_others() {
        let shape = (100, 333);
        let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 13;
        let survives = |at: usize| random(at * 7).is_multiple_of(10);
        let block = block(shape, Element::Code(3), Some(&survives), random);
        let count = |b: &Block| sparse::row_counts(&b.mask, 333).sum::<usize>();
        // The codes of the survivors.
        let codes = |b: &Block| -> Vec<u8> {
            let (codes, mut next, mut list) = (unpack(b, shape, 3), 0, Vec::new());
            sparse::survivors(&b.mask, 333, |at| {
                if survives(at) {
                    list.push(codes[next]);
                }
                next += 1;
            });
            list
        };
        for structure in [Structure::Ribbon, Structure::Bloomier] {
            for t in [3, 8, 15] {
                let mut bytes = Vec::new();
                let coding = Coding::Retrieval(structure, t);
                let sizes = encode(&block, shape, Element::Code(3), coding, &mut bytes);
                let (found, again) = decode(&bytes, shape, true, Element::Code(3)).unwrap();
                assert_eq!((sizes.stored, again), (bytes.len() as u64, sizes));
                assert_eq!(codes(&found), codes(&block));
                let (kept, more) = (count(&block), count(&found) - count(&block));
                let expected = (100 * 333 - kept) as f64 * 0.5f64.powi(t as i32 - 3);
                let off = (more as f64 - expected).abs();
                assert!(off <= 5.0 * expected.sqrt() + 1.0, "{structure:?}: {more} of {expected}");
                assert!(decode(&bytes[..bytes.len() - 1], shape, true, Element::Code(3)).is_err());
                assert!(decode(&bytes, shape, true, Element::Code(2)).is_err());
            }
        }
    }

    #[test]
    fn sizes_that_lie_allocate_nothing() {
        let huge = [3, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode(&huge, (4, 4), true, Element::Code(4)).is_err());
        let mut gaps = vec![3, 8];
        put_number(1 << 34, &mut gaps);
        gaps.extend([0; 8]);
        assert!(decode(&gaps, (4, 4), true, Element::Code(4)).is_err());
    }
}
