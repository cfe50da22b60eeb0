//! Floats without loss: exponents, of which a few are common, and the two highest bits of the mantissa, which depend on them a little,
//! as Huffman codes; signs and the other digits, which mostly look like noise, as they are or, a plane of bytes at a time, coded.
//!
//! The bytes of `n` floats are either
//! - 0 and the floats themselves: where coding gains nothing, and for types that are no floats; or
//! - 128 and how many exponents are common, 1 to 16; these, most common first, those of a count in ascending order;
//! - a byte with a bit for each of the planes that follow: whether it is coded;
//! - of every float its sign before the rest of its mantissa, as a number of `8 p + q` bits: its `p` low bytes, all floats' lowest
//!   first, each of these planes as it is or as its length (u32) and a [stream](super::stream); and its `q` high bits
//!   [packed](super::bitpack);
//! - the length (u32) of a [Huffman stream](super::huffman), and that stream: of four times the exponents' ranks among the
//!   common ones, more by the two highest bits of the mantissa; the others have the rank after the last;
//! - the other exponents, in order, as they are or, where that is shorter, as a Huffman stream.
//!
//! In the first form, which is read and no longer written, there is no 128 and no byte for the planes, none of which is coded, and
//! the whole of the mantissa stands beside the sign, none of it with the exponent.
//!
//! Numbers are little-endian, exponents one byte each, those of F64 two. Every pattern comes back bit for bit: nothing looks at
//! what it means. Which planes are coded, and by which coder, is the writer's choice; otherwise every sequence of floats has one form of each
//! kind at most, and decoding refuses every other.

mod digits;

use crate::{
    DType,
    codec::{Malformed, bitpack, huffman},
    scratch::Bytes,
    simd::{histogram, positions, translate},
};
use multiversion::multiversion;

/// Appends the bytes of elements of `dtype`, which are never longer than these by more than one byte.
///
/// # Panics
///
/// If the bytes are not whole elements.
pub fn encode(dtype: DType, bytes: &[u8], out: &mut Vec<u8>) {
    assert!((8 * bytes.len()).is_multiple_of(dtype.bits()), "whole elements");
    match dtype {
        DType::BF16 => Float::<2, 7, JOINT>::encode(bytes, out),
        DType::F16 => Float::<2, 10, JOINT>::encode(bytes, out),
        DType::F32 => Float::<4, 23, JOINT>::encode(bytes, out),
        DType::F64 => Float::<8, 52, JOINT>::encode(bytes, out),
        DType::F8E4M3 => Float::<1, 3, JOINT>::encode(bytes, out),
        DType::F8E5M2 => Float::<1, 2, JOINT>::encode(bytes, out),
        _ => raw(bytes, out),
    }
}

/// Decodes elements of `dtype` that take as many bytes as `out` has, from exactly these bytes.
///
/// # Errors
///
/// [`Malformed`] if [`encode`] does not write these bytes for any elements; `out` then holds anything.
///
/// # Panics
///
/// If `out` does not hold whole elements.
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    assert!((8 * out.len()).is_multiple_of(dtype.bits()), "whole elements");
    match dtype {
        DType::BF16 => decode_either::<2, 7>(bytes, out),
        DType::F16 => decode_either::<2, 10>(bytes, out),
        DType::F32 => decode_either::<4, 23>(bytes, out),
        DType::F64 => decode_either::<8, 52>(bytes, out),
        DType::F8E4M3 => decode_either::<1, 3>(bytes, out),
        DType::F8E5M2 => decode_either::<1, 2>(bytes, out),
        _ => copy(bytes, out),
    }
}

fn raw(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(bytes);
}

/// Floats of either form: the first byte tells which.
fn decode_either<const BYTES: usize, const MANTISSA: u32>(
    bytes: &[u8],
    out: &mut [u8],
) -> Result<(), Malformed> {
    match bytes.first() {
        Some(0) => {
            copy(bytes, out)?;
            let shorter = Float::<BYTES, MANTISSA, JOINT>::plan(out).is_some()
                && Float::<BYTES, MANTISSA, 0>::plan(out).is_some();
            match shorter {
                true => Err(Malformed("plain floats that either form makes shorter")),
                false => Ok(()),
            }
        }
        Some(tag) if *tag >= JOINED => Float::<BYTES, MANTISSA, JOINT>::decode(bytes, out),
        _ => Float::<BYTES, MANTISSA, 0>::decode(bytes, out),
    }
}

fn copy(bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    match bytes {
        [0, bytes @ ..] if bytes.len() == out.len() => {
            out.copy_from_slice(bytes);
            Ok(())
        }
        _ => Err(Malformed("not as many plain bytes as there should be")),
    }
}

/// The most exponents that have ranks.
const RANKS: usize = 16;
/// So many have ranks all of them.
const FEW: usize = 8;

/// Marks the first byte of floats whose highest bits of mantissa are coded with their exponent.
const JOINED: u8 = 128;
/// How many bits these are.
const JOINT: u32 = 2;

/// Floats of so many bytes with so many bits of mantissa, the highest `HEAD` of which are coded with the exponent.
struct Float<const BYTES: usize, const MANTISSA: u32, const HEAD: u32>;

/// How floats are coded.
struct Plan {
    /// The exponents that have ranks.
    common: Vec<u16>,
    /// Of every float its symbol.
    symbols: Bytes,
    /// How often each occurs.
    counts: [u64; 256],
}

impl<const BYTES: usize, const MANTISSA: u32, const HEAD: u32> Float<BYTES, MANTISSA, HEAD> {
    /// Different exponents.
    const EXPONENTS: usize = 1 << (8 * BYTES as u32 - 1 - MANTISSA);
    /// Bytes of an exponent.
    const WIDTH: usize = if Self::EXPONENTS > 256 { 2 } else { 1 };
    /// Bits of the mantissa that are not coded with the exponent.
    const DIGITS: u32 = MANTISSA - HEAD;
    /// Whole bytes of these and the sign.
    const LOW: usize = (Self::DIGITS as usize + 1) / 8;
    /// The bits above them.
    const HIGH: u32 = (Self::DIGITS + 1) % 8;
    /// What the first byte says beside the number of ranks.
    const TAG: u8 = if HEAD == 0 { 0 } else { JOINED };

    fn encode(bytes: &[u8], out: &mut Vec<u8>) {
        let count = bytes.len() / BYTES;
        let Some(Plan { common, symbols, counts }) = Self::plan(bytes) else {
            return raw(bytes, out);
        };
        out.push(Self::TAG + common.len() as u8);
        Self::write_exponents(&common, out);

        let flags = out.len();
        if HEAD > 0 {
            out.push(0);
        }
        let at = out.len();
        out.resize(at + Self::LOW * count, 0);
        let mut high = Bytes::new(if Self::HIGH > 0 { count } else { 0 });
        split::<BYTES, MANTISSA, HEAD>(bytes, &mut out[at..], &mut high);
        if HEAD > 0 {
            out[flags] = digits::encode(out, at, count);
        }
        if Self::HIGH > 0 {
            let at = out.len();
            out.resize(at + 4 * bitpack::words(count, Self::HIGH), 0);
            bitpack::pack_bytes(&high, Self::HIGH, &mut out[at..]);
        }

        let at = out.len();
        out.extend([0; 4]);
        let mut encoder = huffman::Encoder::start(&counts, out).expect("at most 68 symbols");
        symbols.chunks(huffman::BLOCK).for_each(|block| encoder.block(block, out));
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());

        let others = positions(&symbols, (common.len() << HEAD) as u8).into_iter();
        let exponent = |i| exponent::<BYTES, MANTISSA>(float::<BYTES>(&bytes[i * BYTES..])) as u16;
        let others: Vec<u16> = others.map(exponent).collect();
        if Self::others(&Self::counted(&others)).1 {
            let others: Vec<u8> = others.iter().map(|e| *e as u8).collect();
            huffman::encode(&others, out);
        } else {
            Self::write_exponents(&others, out);
        }
    }

    /// How floats are coded; none if that gains nothing.
    fn plan(bytes: &[u8]) -> Option<Plan> {
        let exponents = Self::count(bytes);
        let common = Self::common(&exponents)?;
        let symbols = Self::symbols(bytes, &common);
        let counts = histogram(&symbols);
        Self::gains(&exponents, &common, &counts).then_some(Plan { common, symbols, counts })
    }

    /// Of every float the rank of its exponent, or the one after the last, and the highest bits of its mantissa below it.
    fn symbols(bytes: &[u8], common: &[u16]) -> Bytes {
        let mut rank_of = vec![common.len() as u8; Self::EXPONENTS.max(256)];
        for (exponent, rank) in common.iter().zip(0..) {
            rank_of[usize::from(*exponent)] = rank;
        }
        let mut symbols = Bytes::new(bytes.len() / BYTES);
        if Self::WIDTH == 1 {
            narrow_exponents::<BYTES, MANTISSA>(bytes, &mut symbols);
            translate(rank_of.first_chunk().expect("at least 256 entries"), &mut symbols);
        } else {
            let exponents = floats::<BYTES>(bytes).map(exponent::<BYTES, MANTISSA>);
            symbols.iter_mut().zip(exponents).for_each(|(rank, e)| *rank = rank_of[e]);
        }
        if HEAD > 0 {
            add_highest::<BYTES, MANTISSA, HEAD>(bytes, &mut symbols);
        }
        symbols
    }

    fn decode(bytes: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
        let short = Malformed("the bytes end before the floats");
        let count = out.len() / BYTES;
        let (tag, rest) = bytes.split_first().ok_or(short)?;
        let kinds = usize::from(*tag - Self::TAG);
        let known = Malformed("exponents that do not have the ranks that they should");
        let (common, rest) = Self::read_exponents(rest, kinds).ok_or(short)?;
        if kinds == 0 || kinds > RANKS {
            return Err(known);
        }
        let (flags, rest) = match HEAD {
            0 => (0, rest),
            _ => rest.split_first().map(|(flags, rest)| (*flags, rest)).ok_or(short)?,
        };
        let coded: Vec<u8>;
        let (low, rest) = match flags {
            0 => {
                let (low, rest) = rest.split_at_checked(Self::LOW * count).ok_or(short)?;
                (low, rest)
            }
            _ => {
                let (planes, rest) = digits::decode(flags, rest, Self::LOW, count)?;
                coded = planes;
                (&coded[..], rest)
            }
        };
        let words = if Self::HIGH > 0 { bitpack::words(count, Self::HIGH) } else { 0 };
        let (packed, rest) = rest.split_at_checked(4 * words).ok_or(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (coded, tail) = rest.split_at_checked(length).ok_or(short)?;
        let mut high = Bytes::new(if Self::HIGH > 0 { count } else { 0 });
        if Self::HIGH > 0 {
            if !bitpack::is_zero_from(packed, count * Self::HIGH as usize) {
                return Err(Malformed("padding that is not zero"));
            }
            bitpack::unpack_bytes(packed, Self::HIGH, &mut high);
        }

        // By symbol; exponents without a rank are zeros until all ranks are known.
        let tables = [0, 1].map(|byte| {
            let mut table = [0; 256];
            let entries = common.iter().map(|e| e.to_le_bytes()[byte]);
            let entries = entries.flat_map(|e| std::iter::repeat_n(e, 1 << HEAD));
            table.iter_mut().zip(entries).for_each(|(to, e)| *to = e);
            table
        });
        let stream = huffman::Stream::read(coded, count)?;
        let (mut counts, mut places) = ([0; 256], Vec::new());
        let mut space = [0; 3].map(|_| Bytes::new(count.min(huffman::BLOCK)));
        for (i, (block, out)) in
            stream.blocks.iter().zip(out.chunks_mut(huffman::BLOCK * BYTES)).enumerate()
        {
            let first = i * huffman::BLOCK;
            let [exponents, upper, symbols] = space.each_mut().map(|s| &mut s[..out.len() / BYTES]);
            stream.decode(coded, block, symbols)?;
            counts.iter_mut().zip(histogram(symbols)).for_each(|(n, m)| *n += m);
            let others = positions(symbols, (kinds << HEAD) as u8);
            places.extend(others.into_iter().map(|i| first + i));
            if Self::WIDTH == 2 {
                upper.copy_from_slice(symbols);
                translate(&tables[1], upper);
            }
            exponents.copy_from_slice(symbols);
            translate(&tables[0], exponents);
            let span = first..first + exponents.len();
            let low = std::array::from_fn(|p| match p < Self::LOW {
                true => &low[p * count..][span.clone()],
                false => &[],
            });
            let high = high.get(span).unwrap_or_default();
            join::<BYTES, MANTISSA, HEAD>([exponents, upper, symbols], low, high, out);
        }
        stream.check(coded, &counts)?;
        if counts[(kinds + 1) << HEAD..].iter().any(|n| *n > 0) {
            return Err(known);
        }

        let others = Self::read_others(tail, places.len())?;
        let mut exponents = vec![0; Self::EXPONENTS];
        for (exponent, of_rank) in common.iter().zip(counts.chunks(1 << HEAD)) {
            exponents[usize::from(*exponent)] += of_rank.iter().sum::<u64>();
        }
        let mut ranked = vec![false; Self::EXPONENTS];
        common.iter().for_each(|exponent| ranked[usize::from(*exponent)] = true);
        for (i, exponent) in places.into_iter().zip(others) {
            if ranked[usize::from(exponent)] {
                return Err(known);
            }
            exponents[usize::from(exponent)] += 1;
            let at = &mut out[i * BYTES..];
            let pattern = float::<BYTES>(at) | u64::from(exponent) << MANTISSA;
            at[..BYTES].copy_from_slice(&pattern.to_le_bytes()[..BYTES]);
        }
        let same = Self::common(&exponents).is_some_and(|ranks| ranks == common);
        match same && Self::gains(&exponents, &common, &counts) {
            true => Ok(()),
            false => Err(known),
        }
    }

    /// How often every exponent occurs.
    fn count(bytes: &[u8]) -> Vec<u64> {
        let mut counts = vec![0; Self::EXPONENTS];
        if Self::WIDTH == 2 {
            floats::<BYTES>(bytes).for_each(|x| counts[exponent::<BYTES, MANTISSA>(x)] += 1);
            return counts;
        }
        let mut exponents = [0; 1 << 15];
        for bytes in bytes.chunks(BYTES * exponents.len()) {
            let exponents = &mut exponents[..bytes.len() / BYTES];
            narrow_exponents::<BYTES, MANTISSA>(bytes, exponents);
            counts.iter_mut().zip(histogram(exponents)).for_each(|(n, m)| *n += m);
        }
        counts
    }

    /// The exponents that are worth a rank, most common first; none if there are no floats. A function of the counts alone, so
    /// that a decoder can tell.
    fn common(counts: &[u64]) -> Option<Vec<u16>> {
        let count: u64 = counts.iter().sum();
        let kinds = Self::kinds(counts);
        // An exponent as rare as 2^-8 takes more of the short codes than it is worth; how rare depends on the others.
        let rarer = |shift| kinds.iter().take_while(|(n, _)| *n > count >> shift).count();
        if HEAD > 0 {
            // Every rank has several symbols, of which the rarest must still be worth the longest code.
            let size = if kinds.len() <= FEW { kinds.len() } else { rarer(7).clamp(1, RANKS - 1) };
            return (size > 0).then(|| kinds[..size].iter().map(|(_, e)| *e).collect());
        }
        let mut sizes: Vec<usize> = (7..10).map(rarer).collect();
        sizes.push(kinds.len());
        sizes.retain(|n| (1..=RANKS - usize::from(*n < kinds.len())).contains(n));
        sizes.dedup();
        let cost = |size: usize| {
            let mut ranks = [0; 256];
            ranks.iter_mut().zip(&kinds[..size]).for_each(|(n, (m, _))| *n = *m);
            ranks[size] = kinds[size..].iter().map(|(n, _)| n).sum();
            Some(Self::beside(&kinds, size) + huffman::cost(&ranks)?)
        };
        let (_, size) = sizes.into_iter().filter_map(|n| Some((cost(n)?, n))).min()?;
        Some(kinds[..size].iter().map(|(_, e)| *e).collect())
    }

    /// Exponents that occur, and how often: the most common first, those of a count in ascending order.
    fn kinds(counts: &[u64]) -> Vec<(u64, u16)> {
        let mut kinds: Vec<(u64, u16)> =
            counts.iter().copied().zip(0..).filter(|(n, _)| *n > 0).collect();
        kinds.sort_unstable_by_key(|(n, e)| (std::cmp::Reverse(*n), *e));
        kinds
    }

    /// Bytes of exponents that are listed, where the first `size` kinds have ranks: once each of these, and all others.
    fn beside(kinds: &[(u64, u16)], size: usize) -> u64 {
        let others: Vec<_> = kinds[size..].iter().map(|(n, e)| (*e, *n)).collect();
        (size * Self::WIDTH) as u64 + Self::others(&others).0
    }

    /// Whether coding gains anything: what it leaves of the floats, the tag and the number of other exponents, against the floats.
    /// Planes of bytes count as they are, which is the most that they take.
    fn gains(exponents: &[u64], common: &[u16], symbols: &[u64; 256]) -> bool {
        let count: u64 = exponents.iter().sum();
        let packed = 4 * (count * u64::from(Self::HIGH)).div_ceil(32);
        let Some(symbols) = huffman::cost(symbols) else { return false };
        let listed = Self::beside(&Self::kinds(exponents), common.len()) + symbols;
        let coded = 5 + u64::from(HEAD > 0) + Self::LOW as u64 * count + packed + listed;
        coded < 1 + BYTES as u64 * count && u32::try_from(Self::WIDTH as u64 * count).is_ok()
    }

    /// Exponents that occur, and how often.
    fn counted(exponents: &[u16]) -> Vec<(u16, u64)> {
        let mut counts = vec![0; Self::EXPONENTS];
        exponents.iter().for_each(|e| counts[usize::from(*e)] += 1);
        (0..).zip(counts).filter(|(_, n)| *n > 0).collect()
    }

    /// Bytes at most of exponents that have no rank, which occur so often, and whether they are a Huffman stream.
    fn others(counts: &[(u16, u64)]) -> (u64, bool) {
        let plain = counts.iter().map(|(_, n)| n).sum::<u64>() * Self::WIDTH as u64;
        if Self::WIDTH > 1 {
            return (plain, false);
        }
        let mut all = [0; 256];
        counts.iter().for_each(|(e, n)| all[usize::from(*e)] = *n);
        let coded = huffman::cost(&all).filter(|coded| *coded < plain);
        (coded.unwrap_or(plain), coded.is_some())
    }

    fn write_exponents(exponents: &[u16], out: &mut Vec<u8>) {
        exponents.iter().for_each(|e| out.extend_from_slice(&e.to_le_bytes()[..Self::WIDTH]));
    }

    /// So many exponents without a rank, from exactly these bytes.
    fn read_others(bytes: &[u8], count: usize) -> Result<Vec<u16>, Malformed> {
        let wrong = Malformed("exponents without a rank that are not in their shortest form");
        let plain = bytes.len() == count * Self::WIDTH;
        let exponents = if plain {
            Self::read_exponents(bytes, count).ok_or(wrong)?.0
        } else {
            let mut exponents = vec![0; count];
            huffman::decode(bytes, &mut exponents)?;
            exponents.into_iter().map(u16::from).collect()
        };
        if exponents.iter().any(|e| usize::from(*e) >= Self::EXPONENTS) {
            return Err(wrong);
        }
        match Self::others(&Self::counted(&exponents)).1 != plain {
            true => Ok(exponents),
            false => Err(wrong),
        }
    }

    /// So many exponents, all in range, and the bytes after them.
    fn read_exponents(bytes: &[u8], count: usize) -> Option<(Vec<u16>, &[u8])> {
        let (exponents, rest) = bytes.split_at_checked(count.checked_mul(Self::WIDTH)?)?;
        let exponents = exponents.chunks_exact(Self::WIDTH).map(|e| {
            let exponent = u16::from_le_bytes([e[0], if Self::WIDTH == 2 { e[1] } else { 0 }]);
            (usize::from(exponent) < Self::EXPONENTS).then_some(exponent)
        });
        Some((exponents.collect::<Option<_>>()?, rest))
    }
}

/// The first float's pattern.
#[inline(always)]
fn float<const BYTES: usize>(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..BYTES].copy_from_slice(&bytes[..BYTES]);
    u64::from_le_bytes(word)
}

fn floats<const BYTES: usize>(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(BYTES).map(float::<BYTES>)
}

#[inline(always)]
fn exponent<const BYTES: usize, const MANTISSA: u32>(pattern: u64) -> usize {
    (pattern >> MANTISSA) as usize & ((1 << (8 * BYTES as u32 - 1 - MANTISSA)) - 1)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn narrow_exponents<const BYTES: usize, const MANTISSA: u32>(bytes: &[u8], exponents: &mut [u8]) {
    for (x, e) in bytes.as_chunks::<BYTES>().0.iter().zip(exponents) {
        *e = exponent::<BYTES, MANTISSA>(float::<BYTES>(x)) as u8;
    }
}

/// Moves every symbol up, and puts the highest bits of the mantissa below it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn add_highest<const BYTES: usize, const MANTISSA: u32, const HEAD: u32>(
    bytes: &[u8],
    symbols: &mut [u8],
) {
    for (x, symbol) in bytes.as_chunks::<BYTES>().0.iter().zip(symbols) {
        let highest = (float::<BYTES>(x) >> (MANTISSA - HEAD)) as u8 & ((1 << HEAD) - 1);
        *symbol = *symbol << HEAD | highest;
    }
}

/// Signs and mantissas without the latter's highest bits: their low bytes, all lowest bytes first, and their high bits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn split<const BYTES: usize, const MANTISSA: u32, const HEAD: u32>(
    bytes: &[u8],
    low: &mut [u8],
    high: &mut [u8],
) {
    let floats = bytes.as_chunks::<BYTES>().0;
    let digits = MANTISSA - HEAD;
    let rest = |x: &[u8; BYTES]| {
        let pattern = float::<BYTES>(x);
        (pattern & ((1 << digits) - 1)) | pattern >> (8 * BYTES - 1) << digits
    };
    for (p, plane) in low.chunks_exact_mut(floats.len().max(1)).enumerate() {
        for (x, byte) in floats.iter().zip(plane) {
            *byte = (rest(x) >> (8 * p)) as u8;
        }
    }
    for (x, bits) in floats.iter().zip(high) {
        *bits = (rest(x) >> ((digits + 1) / 8 * 8)) as u8;
    }
}

/// Puts floats together again: their exponents' lower and upper bytes and their symbols, the low bytes and the high bits of signs
/// and mantissas.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn join<const BYTES: usize, const MANTISSA: u32, const HEAD: u32>(
    [exponents, upper, symbols]: [&[u8]; 3],
    low: [&[u8]; 6],
    high: &[u8],
    out: &mut [u8],
) {
    let floats = out.as_chunks_mut::<BYTES>().0;
    // Slices of one length, used or not, so that the loop needs no checks.
    let count = floats.len();
    let (exponents, upper, symbols) = (&exponents[..count], &upper[..count], &symbols[..count]);
    let digits = MANTISSA - HEAD;
    let planes = (digits + 1) / 8;
    let low = low.map(|plane| if plane.is_empty() { exponents } else { &plane[..count] });
    let high = if high.is_empty() { exponents } else { &high[..count] };
    for (i, x) in floats.iter_mut().enumerate() {
        let mut rest = 0;
        for (plane, p) in low.iter().zip(0..planes) {
            rest |= u64::from(plane[i]) << (8 * p);
        }
        if !(digits + 1).is_multiple_of(8) {
            rest |= u64::from(high[i]) << (8 * planes);
        }
        let mut exponent = u64::from(exponents[i]);
        if 8 * BYTES as u32 - MANTISSA > 9 {
            exponent |= u64::from(upper[i]) << 8;
        }
        let highest = u64::from(symbols[i]) & ((1 << HEAD) - 1);
        let sign = rest >> digits << (8 * BYTES - 1);
        let mantissa = (rest & ((1 << digits) - 1)) | highest << digits;
        let pattern = mantissa | exponent << MANTISSA | sign;
        x.copy_from_slice(&pattern.to_le_bytes()[..BYTES]);
    }
}

#[cfg(test)]
mod tests;
