//! The coded form of a tensor in an archive: its tables, the length of every block, and the blocks, one after the other. How long
//! a block is shows only when it is coded, so that a window of units is coded at once, and written in order.

use crate::{
    DType, Result,
    codec::{
        block::{self, Block, Coding},
        stream::Coder,
    },
    form::TensorManifest,
    parallel,
    pipeline::archive::{Sink, plain::write_tables},
    report::Retrieved,
    restore::Parts,
    stage::{Blocks, Unit},
    treat::{PartsWriter, Written},
};

/// Coded units that wait for those before them, for every thread.
const WINDOW: usize = 2;

/// Survivors of a mask.
fn ones(mask: &[u32]) -> u64 {
    mask.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// What one unit becomes.
pub(super) struct CodedUnit {
    blocks: Vec<Vec<u8>>,
    /// Pruned weights that come back as something.
    false_positives: u64,
    /// What the blocks of a retrieval structure would take as streams.
    as_streams: u64,
}

/// Writes the coded component from `start` of the data section on.
pub(super) struct Coded<'a> {
    manifest: &'a TensorManifest,
    blocks: Blocks,
    coding: Coding,
    out: &'a dyn Sink,
    start: u64,
    /// Where each table starts in the component, and where they end.
    tables: (u64, Vec<(&'static str, u64)>),
    /// Where the next block goes.
    end: u64,
    lengths: Vec<u32>,
    /// What a retrieval structure has made of it so far.
    retrieved: Option<Retrieved>,
}

impl<'a> Coded<'a> {
    pub fn new(
        manifest: &'a TensorManifest,
        blocks: Blocks,
        coding: Coding,
        out: &'a dyn Sink,
        start: u64,
    ) -> Self {
        let tables = manifest.table_starts();
        let end = start + tables.0 + 4 * blocks.count();
        let retrieved = coding.results().map(Retrieved::new);
        let lengths = Vec::new();
        Self { manifest, blocks, coding, out, start, tables, end, lengths, retrieved }
    }
}

impl PartsWriter for Coded<'_> {
    type Laid = CodedUnit;

    /// The masks are coded with their blocks; beside these lie the same tables and lengths, whatever they are coded as.
    fn begin(&mut self, _: &[Unit], _: &(dyn Fn(&Unit) -> Result<Vec<u32>> + Sync)) -> Result<()> {
        if let Some(retrieved) = &mut self.retrieved {
            retrieved.as_streams = self.end - self.start;
        }
        Ok(())
    }

    fn asks_errors(&self) -> bool {
        self.out.asks_errors()
    }

    fn window(&self) -> usize {
        WINDOW * rayon::current_num_threads()
    }

    fn unit(&self, unit: &Unit, parts: &mut Parts) -> Result<CodedUnit> {
        let (manifest, element) = (self.manifest, self.manifest.element());
        write_tables(manifest, &self.blocks, unit, parts, |name, offset, bytes| {
            let start = self.tables.1.iter().find(|t| t.0 == name).expect("it is a table").1;
            self.out.write_at(self.start + start + offset, bytes)
        })?;
        let Parts { mask, stored, .. } = &mut *parts;
        let whole = Block { mask: std::mem::take(mask), stored: std::mem::take(stored) };
        let (rows, cols) = unit.shape();
        let cols = manifest.stored_cols(cols);
        let heights = self.blocks.heights(unit);
        let cut = (heights.len() > 1).then(|| whole.rows(heights[0], (rows, cols), element));
        let blocks = cut.as_deref().unwrap_or(std::slice::from_ref(&whole)).iter();
        let blocks: Vec<(&Block, usize)> = blocks.zip(heights.iter().copied()).collect();
        let encode = |coding, block: &Block, rows: usize| {
            // Hardly ever more than what is coded.
            let mut bytes = Vec::with_capacity(4 * block.stored.len() + 64);
            block::encode(block, (rows, cols), element, coding, &mut bytes);
            bytes
        };
        let coded = parallel::map(&blocks, &|(block, rows)| encode(self.coding, block, *rows));
        let (mut false_positives, mut as_streams) = (0, 0);
        let mut found = None;
        if self.coding.results().is_some() {
            // What will come back is what the structures say.
            let coded: Vec<(&Vec<u8>, usize)> = coded.iter().zip(heights).collect();
            let decoded = parallel::map(&coded, &|(bytes, rows)| {
                let decoded = block::decode(bytes, (*rows, cols), true, element);
                (decoded.expect("it was just encoded").0, *rows)
            });
            let back = Block::join(decoded, cols, element);
            false_positives = ones(&back.mask) - ones(&whole.mask);
            found = Some(back);
            let streams = Coding::Streams(Coder::Auto);
            let lengths =
                parallel::map(&blocks, &|(block, rows)| encode(streams, block, *rows).len() as u64);
            as_streams = lengths.iter().sum();
        }
        let back = found.unwrap_or(whole);
        (parts.mask, parts.stored) = (back.mask, back.stored);
        Ok(CodedUnit { blocks: coded, false_positives, as_streams })
    }

    fn append(&mut self, unit: CodedUnit) -> Result<()> {
        for block in unit.blocks {
            self.out.write_at(self.end, &block)?;
            self.end += block.len() as u64;
            self.lengths.push(u32::try_from(block.len()).expect("a block is a few MiB"));
        }
        if let Some(retrieved) = &mut self.retrieved {
            retrieved.false_positives += unit.false_positives;
            retrieved.as_streams += unit.as_streams;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Written> {
        self.out.write_at(self.start + self.tables.0, bytemuck::cast_slice(&self.lengths))?;
        let bytes = self.start..self.end;
        let components = vec![("coded", DType::U8, vec![bytes.end - bytes.start], bytes)];
        Ok(Written { components, retrieved: self.retrieved })
    }
}
