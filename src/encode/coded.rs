//! The coded form of a tensor: its tables, the length of every block, and the blocks, one after the other.

use super::{Job, Mask, Stored, Tables};
use crate::{
    DType, Result,
    codec::{
        block::{self, Block},
        stream::Coder,
    },
    format::{Digest, OutputFile, TensorManifest, digest},
    stage::Unit,
};
use rayon::prelude::*;

/// Coded units that wait for those before them, for every thread.
const WINDOW: usize = 2;

/// What one unit becomes.
struct CodedUnit {
    blocks: Vec<Vec<u8>>,
    digests: Vec<Digest>,
    flushed: u64,
}

impl Job<'_> {
    /// Encodes the tensor and writes it from `start` of the data section on. How long a block is shows only when it is coded,
    /// so that a window of units is coded at once, and written in order.
    pub(super) fn coded(
        &self,
        coder: Coder,
        mask: &Mask,
        tables: &Tables,
        out: &OutputFile,
        start: u64,
    ) -> Result<Stored> {
        let (table_bytes, starts) = self.manifest.table_starts();
        let at = |name: &str| starts.iter().find(|t| t.0 == name).map(|t| start + t.1);
        let lengths_at = start + table_bytes;
        let mut end = lengths_at + 4 * self.blocks.count();
        let (mut lengths, mut digests, mut flushed) = (Vec::<u32>::new(), Vec::new(), 0);
        for window in self.units.chunks(WINDOW * rayon::current_num_threads()) {
            let coded =
                window.par_iter().map(|unit| self.code_unit(unit, coder, mask, tables, out, &at));
            for unit in coded.collect::<Result<Vec<_>>>()? {
                for block in unit.blocks {
                    out.write_at(end, &block)?;
                    end += block.len() as u64;
                    lengths.push(u32::try_from(block.len()).expect("a block is a few MiB"));
                }
                digests.extend(unit.digests.concat());
                flushed += unit.flushed;
            }
        }
        out.write_at(lengths_at, bytemuck::cast_slice(&lengths))?;
        let components = vec![("coded", DType::U8, vec![end - start], start..end)];
        let manifest = TensorManifest { digest: digest(&digests), ..self.manifest.clone() };
        Ok(Stored { components, manifest, flushed })
    }

    fn code_unit(
        &self,
        unit: &Unit,
        coder: Coder,
        mask: &Mask,
        tables: &Tables,
        out: &OutputFile,
        at: &(impl Fn(&str) -> Option<u64> + Sync),
    ) -> Result<CodedUnit> {
        let element = self.manifest.element();
        let mut elements = self.load(unit, mask)?;
        let (parts, flushed) = self.parts(unit, &mut elements.0, elements.1, tables)?;
        self.write_tables(unit, &parts, out, at)?;
        let whole = Block { mask: parts.mask.clone(), stored: parts.stored.clone() };
        let cols = unit.shape().1;
        let heights = self.blocks.heights(unit);
        let blocks = whole.rows(heights[0], unit.shape(), element).into_par_iter().zip(heights);
        let blocks = blocks.map(|(block, rows)| {
            let mut bytes = Vec::new();
            block::encode(&block, (rows, cols), element, coder, &mut bytes);
            bytes
        });
        let blocks = blocks.collect();
        let restored = parts.restore(None, &self.manifest, &self.blocks, unit)?;
        let digests = self.blocks.digests(unit, &restored);
        let bytes = unit.elements() as u64 * self.blocks.dtype.bits() as u64 / 8;
        self.engine.progress.advance(bytes);
        Ok(CodedUnit { blocks, digests, flushed })
    }
}
