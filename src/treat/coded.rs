//! The coded form of a tensor: its tables, the length of every block, and the blocks, one after the other.

use crate::{
    DType, Result,
    codec::{
        block::{self, Block, Coding},
        stream::Coder,
    },
    digest::{Digest, digest},
    format::{OutputFile, TensorManifest},
    recipe::Encode,
    restore::Parts,
    stage::Unit,
    treat::{Job, Mask, Stored, Tables},
};
use rayon::prelude::*;

/// Coded units that wait for those before them, for every thread.
const WINDOW: usize = 2;

/// Most bits of a result of a retrieval structure.
const RESULT_BITS: u32 = 15;

/// What a retrieval structure has made of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieved {
    /// Bits of a result.
    pub result_bits: u32,
    /// Pruned weights that come back as one of the survivors' values.
    pub false_positives: u64,
    /// Bytes of the same tensor as streams, without false positives.
    pub as_streams: u64,
}

impl Retrieved {
    fn new(result_bits: u32) -> Self {
        Self { result_bits, false_positives: 0, as_streams: 0 }
    }
}

/// Survivors of a mask.
fn ones(mask: &[u32]) -> u64 {
    mask.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// What one unit becomes.
struct CodedUnit {
    blocks: Vec<Vec<u8>>,
    digests: Vec<Digest>,
    flushed: u64,
    /// Pruned weights that come back as something.
    false_positives: u64,
    /// What the blocks of a retrieval structure would take as streams.
    as_streams: u64,
}

impl Job<'_> {
    /// Encodes the tensor and writes it from `start` of the data section on. How long a block is shows only when it is coded,
    /// so that a window of units is coded at once, and written in order.
    pub(super) fn coded(
        &self,
        mask: &Mask,
        tables: &Tables,
        out: &OutputFile,
        start: u64,
    ) -> Result<Stored> {
        let (coding, remark) = self.coding(mask, tables)?;
        let (table_bytes, starts) = self.manifest.table_starts();
        let at = |name: &str| starts.iter().find(|t| t.0 == name).map(|t| start + t.1);
        let lengths_at = start + table_bytes;
        let mut end = lengths_at + 4 * self.blocks.count();
        let (mut lengths, mut digests, mut flushed) = (Vec::<u32>::new(), Vec::new(), 0);
        let mut retrieved = coding.results().map(Retrieved::new);
        for window in self.units.chunks(WINDOW * rayon::current_num_threads()) {
            let coded =
                window.par_iter().map(|unit| self.code_unit(unit, coding, mask, tables, out, &at));
            for unit in coded.collect::<Result<Vec<_>>>()? {
                for block in unit.blocks {
                    out.write_at(end, &block)?;
                    end += block.len() as u64;
                    lengths.push(u32::try_from(block.len()).expect("a block is a few MiB"));
                }
                digests.extend(unit.digests.concat());
                flushed += unit.flushed;
                if let Some(retrieved) = &mut retrieved {
                    retrieved.false_positives += unit.false_positives;
                    retrieved.as_streams += unit.as_streams;
                }
            }
        }
        out.write_at(lengths_at, bytemuck::cast_slice(&lengths))?;
        let components = vec![("coded", DType::U8, vec![end - start], start..end)];
        let manifest = TensorManifest { digest: digest(&digests), ..self.manifest.clone() };
        // Beside the same tables and lengths.
        if let Some(retrieved) = &mut retrieved {
            retrieved.as_streams += lengths_at + 4 * self.blocks.count() - start;
        }
        Ok(Stored { components, manifest, flushed, retrieved, remark })
    }

    fn code_unit(
        &self,
        unit: &Unit,
        coding: Coding,
        mask: &Mask,
        tables: &Tables,
        out: &OutputFile,
        at: &(impl Fn(&str) -> Option<u64> + Sync),
    ) -> Result<CodedUnit> {
        let element = self.manifest.element();
        let mut elements = self.load(unit, mask)?;
        let (mut parts, flushed) = self.parts(unit, &mut elements.0, elements.1, tables)?;
        self.write_tables(unit, &parts, out, at)?;
        let Parts { mask, stored, .. } = &mut parts;
        let whole = Block { mask: std::mem::take(mask), stored: std::mem::take(stored) };
        let cols = unit.shape().1;
        let heights = self.blocks.heights(unit);
        let blocks = whole.rows(heights[0], unit.shape(), element);
        (parts.mask, parts.stored) = (whole.mask, whole.stored);
        let encode = |coding, (block, rows): (&Block, &usize)| {
            let mut bytes = Vec::new();
            block::encode(block, (*rows, cols), element, coding, &mut bytes);
            bytes
        };
        let all = || blocks.par_iter().zip(&heights);
        let coded: Vec<Vec<u8>> = all().map(|block| encode(coding, block)).collect();
        let (mut false_positives, mut as_streams) = (0, 0);
        if coding.results().is_some() {
            // What will come back is what the structures say.
            let decoded = coded.par_iter().zip(&heights).map(|(bytes, rows)| {
                let decoded = block::decode(bytes, (*rows, cols), true, element);
                (decoded.expect("it was just encoded").0, *rows)
            });
            let found = Block::join(decoded.collect(), cols, element);
            false_positives = ones(&found.mask) - ones(&parts.mask);
            (parts.mask, parts.stored) = (found.mask, found.stored);
            let streams = Coding::Streams(Coder::Auto);
            as_streams = all().map(|block| encode(streams, block).len() as u64).sum();
        }
        let restored = parts.restore(None, &self.manifest, &self.blocks, unit)?;
        let digests = self.blocks.digests(unit, &restored);
        let bytes = self.blocks.dtype.bytes(unit.elements()) as u64;
        self.engine.progress.advance(bytes);
        Ok(CodedUnit { blocks: coded, digests, flushed, false_positives, as_streams })
    }

    /// How blocks are coded: for a retrieval structure, with how many bits of results; or why there is none.
    fn coding(&self, mask: &Mask, tables: &Tables) -> Result<(Coding, Option<String>)> {
        let (structure, limit) = match self.treat.treatment.encode {
            Some(Encode::Retrieval { structure, max_error }) => (structure, max_error),
            Some(Encode::Streams(coder)) => return Ok((Coding::Streams(coder), None)),
            None => unreachable!("the tensor is coded"),
        };
        let Tables::Palettes(tables) = tables else { unreachable!("there is one palette") };
        let bins = self.survivors(mask)?;
        let survivors: f64 = bins.weights.iter().sum();
        let squares: f64 = bins.values.iter().zip(&bins.weights).map(|(v, n)| n * v * v).sum();
        let entries = tables[0].0.iter().map(|e| f64::from(*e) * f64::from(*e));
        let pruned = self.blocks.elements() as f64 - survivors;
        let r = u32::from(self.manifest.method.code_bits().unwrap_or(8));
        // A pruned weight reads as each of 2^r codes with probability 2^-t; codes beyond the table read as its last entry.
        let last = entries.clone().next_back().unwrap_or(0.0);
        let beyond = (1 << r) as f64 - tables[0].0.len() as f64;
        let each = pruned * (entries.sum::<f64>() + beyond * last);
        let norm = |t: u32| (each / f64::from(1u32 << t) / squares).sqrt();
        let t = (r..=RESULT_BITS).find(|t| squares == 0.0 || norm(*t) <= limit);
        Ok(match t {
            Some(t) => (Coding::Retrieval(structure, t), None),
            None => {
                let norm = norm(RESULT_BITS);
                let why = format!(
                    "stored as streams: with results of {RESULT_BITS} bits false positives would have {norm:.3} of the survivors' norm, more than max_error {limit}"
                );
                (Coding::Streams(Coder::Auto), Some(why))
            }
        })
    }
}
