//! What is found in the units of a tensor, and how it is added up: in one order, whatever the threads.

mod codes;
mod errors;

pub(crate) use codes::CodeCounts;
pub(crate) use errors::Sums;

use crate::{
    DType, Result,
    codec::block::Sizes,
    digest::Digest,
    dtype,
    measure::errors::{Bf16, Loaded, Slices},
    parallel,
    stage::{Blocks, Unit},
};
use multiversion::multiversion;
use std::ops::Range;

/// How many blocks are measured before their column sums are added up, at most: enough for every thread.
const BATCH: usize = 64;
/// What those column sums may take.
pub const BATCH_BYTES: u64 = 64 << 20;

/// What was found in some units.
#[derive(Default)]
pub struct Measured {
    /// The digests of their restored blocks.
    pub digests: Vec<Digest>,
    /// The mixed digests of the blocks of their source.
    pub source: Vec<Digest>,
    /// Sums for each block, or for all of them.
    pub sums: Vec<Sums>,
    /// How often each code is there.
    pub codes: CodeCounts,
    /// What the coded blocks take.
    pub sizes: Sizes,
    /// Elements that differ.
    pub differing: u64,
}

impl Measured {
    /// Adds all but the sums of what follows, and returns those.
    fn take(&mut self, next: Self) -> Vec<Sums> {
        self.digests.extend(next.digests);
        self.source.extend(next.source);
        self.codes.add(&next.codes);
        self.sizes = [self.sizes, next.sizes].into_iter().sum();
        self.differing += next.differing;
        next.sums
    }
}

/// How many units of whole rows are measured before their column sums are added up.
pub fn batch(blocks: &Blocks, units: &[Unit]) -> usize {
    let per_unit = units.first().map_or(1, |u| blocks.spans(u).len().max(1));
    let fit = BATCH_BYTES / (16 * blocks.cols.max(1) * per_unit as u64);
    (fit as usize).min(BATCH / per_unit).max(rayon::current_num_threads())
}

/// Units of whole rows, a batch at a time; sums are added block by block, so that they depend on nothing else.
pub fn by_rows(
    blocks: &Blocks,
    units: &[Unit],
    measure: impl Fn(&Unit) -> Result<Measured> + Sync,
) -> Result<Measured> {
    let (mut all, mut sums) = (Measured::default(), Sums::default());
    for batch in units.chunks(batch(blocks, units)) {
        for measured in parallel::try_map(batch, &measure)? {
            all.take(measured).iter().for_each(|s| sums.add(s));
        }
    }
    Ok(Measured { sums: vec![sums], ..all })
}

/// Pieces of long rows: one after the other down a column of pieces, so that no table of all columns is needed.
pub fn by_columns(
    blocks: &Blocks,
    units: &[Unit],
    measure: impl Fn(&Unit) -> Result<Measured> + Sync,
) -> Result<Measured> {
    let pieces = units.len() / blocks.rows as usize;
    let columns = parallel::try_map(&(0..pieces).collect::<Vec<_>>(), &|piece| {
        let (mut of_column, mut digests, mut sums) =
            (Measured::default(), Vec::new(), Sums::default());
        for unit in units.iter().skip(*piece).step_by(pieces) {
            let mut measured = measure(unit)?;
            let of_unit = [&mut measured.digests, &mut measured.source].map(std::mem::take);
            digests.push((unit.index, of_unit));
            of_column.take(measured).iter().for_each(|s| sums.add(s));
        }
        sums.finish_columns();
        Ok((of_column, digests, sums))
    })?;
    let (mut all, mut digests, mut sums) = (Measured::default(), Vec::new(), Sums::default());
    for (of_column, d, s) in columns {
        all.take(of_column);
        digests.extend(d);
        sums.add_columns(&s);
    }
    digests.sort_by_key(|(index, _)| *index);
    for (_, [of_restored, of_source]) in digests {
        all.digests.extend(of_restored);
        all.source.extend(of_source);
    }
    Ok(Measured { sums: vec![sums], ..all })
}

/// The sums over the blocks of a unit of a source and of what was restored.
pub fn between(blocks: &Blocks, unit: &Unit, [source, restored]: [&[u32]; 2]) -> Vec<Sums> {
    let cols = unit.shape().1;
    let of_span = |span| sums((blocks.dtype, source), (blocks.dtype, restored), span, cols);
    blocks.spans(unit).into_iter().map(of_span).collect()
}

/// Those of a unit that came back bit for bit.
pub fn exact(blocks: &Blocks, unit: &Unit, restored: &[u32]) -> Sums {
    let bytes = &bytemuck::cast_slice(restored)[..blocks.dtype.bytes(unit.elements())];
    Sums::exact(unit.elements() as u64, nonzero(blocks.dtype, bytes))
}

/// The sums over the elements `span`, which are whole rows of `cols` elements or a piece of one, of a source and of what was
/// restored, each of its type.
pub fn sums(
    (of_source, source): (DType, &[u32]),
    (of_restored, restored): (DType, &[u32]),
    span: Range<usize>,
    cols: usize,
) -> Sums {
    let rows = span.len() / cols;
    let range = of_restored.bytes(span.start)..of_restored.bytes(span.end);
    let nonzero = nonzero(of_restored, &bytemuck::cast_slice(restored)[range]);
    let sums = match (of_source, of_restored) {
        (DType::F32, DType::F32) => {
            let of = |words| &bytemuck::cast_slice::<u32, f32>(words)[span.clone()];
            Sums::of(rows, cols, Slices(of(source), of(restored)))
        }
        (DType::BF16, DType::BF16) => {
            let of = |words| &bytemuck::cast_slice::<u32, Bf16>(words)[span.clone()];
            let (source, restored) = (of(source), of(restored));
            Sums::of_halves(rows, cols, source, restored)
                .unwrap_or_else(|| Sums::of(rows, cols, Slices(source, restored)))
        }
        (DType::F64, _) | (_, DType::F64) => {
            let load = |first, w: &mut [f64], q: &mut [f64]| {
                dtype::decode_f64(of_source, source, span.start + first, w);
                dtype::decode_f64(of_restored, restored, span.start + first, q);
            };
            Sums::of(rows, cols, Loaded::new(load))
        }
        _ => {
            let load = |first, w: &mut [f32], q: &mut [f32]| {
                dtype::decode(of_source, source, span.start + first, w);
                dtype::decode(of_restored, restored, span.start + first, q);
            };
            Sums::of(rows, cols, Loaded::new(load))
        }
    };
    sums.with_nonzero(nonzero)
}

/// Elements that are not zero of either sign.
pub fn nonzero(dtype: DType, bytes: &[u8]) -> u64 {
    let size = dtype.bytes(1);
    if !dtype.is_weight() {
        return 0;
    }
    // Nothing is left of a zero without its sign.
    match size {
        1 => bytes.iter().filter(|x| **x << 1 != 0).count() as u64,
        2 => nonzero_halves(bytes.as_chunks().0),
        4 => nonzero_words(bytes.as_chunks().0),
        _ => {
            bytes.as_chunks().0.iter().filter(|x| u64::from_le_bytes(**x) << 1 != 0).count() as u64
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn nonzero_halves(patterns: &[[u8; 2]]) -> u64 {
    let mut total = 0;
    // As many at a time as a count of two bytes holds, of which a vector has many.
    for some in patterns.chunks(1 << 15) {
        let mut here = 0u16;
        for x in some {
            here += u16::from(u16::from_le_bytes(*x) << 1 != 0);
        }
        total += u64::from(here);
    }
    total
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn nonzero_words(patterns: &[[u8; 4]]) -> u64 {
    let mut total = 0;
    for some in patterns.chunks(1 << 30) {
        let mut here = 0u32;
        for x in some {
            here += u32::from(u32::from_le_bytes(*x) << 1 != 0);
        }
        total += u64::from(here);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_either_sign_are_told_from_the_least_values() {
        for dtype in [DType::F8E4M3, DType::BF16, DType::F32, DType::F64] {
            let size = dtype.bytes(1);
            let mut bytes = vec![0; 70 * size];
            // -0, the least bit, the highest but the sign, and both.
            bytes[2 * size - 1] = 0x80;
            bytes[2 * size] = 1;
            bytes[4 * size - 1] = 0x40;
            bytes[70 * size - 1] = 0xc0;
            assert_eq!(nonzero(dtype, &bytes), 3, "{}", dtype.name());
        }
    }
}
