//! The components of a tensor in an archive, each as it is: every unit has its place before it is made.

use crate::{
    Result,
    codec::{block::Element, sparse},
    form::TensorManifest,
    parallel,
    pipeline::archive::Sink,
    restore::Parts,
    stage::{Blocks, Unit},
    treat::{Components, PartsWriter, Written, chains::Stretch},
};

/// Writes components from `start` of the data section on.
pub(super) struct Plain<'a> {
    manifest: &'a TensorManifest,
    blocks: Blocks,
    out: &'a dyn Sink,
    start: u64,
    /// Of a pruned tensor, where each unit's survivors start in their component, in bytes.
    starts: Vec<u64>,
    components: Components,
}

impl<'a> Plain<'a> {
    pub fn new(
        manifest: &'a TensorManifest,
        blocks: Blocks,
        out: &'a dyn Sink,
        start: u64,
    ) -> Self {
        Self { manifest, blocks, out, start, starts: Vec::new(), components: Vec::new() }
    }

    /// Where a component starts.
    fn at(&self, name: &str) -> u64 {
        let found = self.components.iter().find(|c| c.0 == name);
        found.expect("the manifest calls for it").3.start
    }
}

impl PartsWriter for Plain<'_> {
    type Laid = ();

    /// Lays out the components. For a pruned tensor this takes a pass that writes the mask and counts the survivors.
    fn begin(
        &mut self,
        units: &[Unit],
        mask: &(dyn Fn(&Unit) -> Result<Vec<u32>> + Sync),
    ) -> Result<()> {
        let manifest = self.manifest;
        let mut survivors = 0;
        if manifest.pruned {
            let row_words = self.blocks.cols.div_ceil(32);
            // Codes are counted in words, values in bytes.
            let unit_bytes = match manifest.element() {
                Element::Value(_) => 1,
                Element::Code(_) | Element::Path(..) => 4,
            };
            let lengths = parallel::try_map(units, &|unit| {
                let bits = mask(unit)?;
                let at = unit.rows.start * row_words + unit.cols.start / 32;
                self.out.write_at(self.start + at * 4, bytemuck::cast_slice(&bits))?;
                Ok(manifest.stored_length(&bits, unit.shape().1) * unit_bytes)
            })?;
            for length in lengths {
                self.starts.push(survivors);
                survivors += length;
            }
        }
        let mut at = self.start;
        let components = manifest.components().into_iter().map(|c| {
            let bytes = c.bytes().unwrap_or(survivors);
            let shape = c.shape.unwrap_or_else(|| vec![bytes * 8 / c.dtype.bits() as u64]);
            at += bytes;
            (c.name, c.dtype, shape, at - bytes..at)
        });
        self.components = components.collect();
        Ok(())
    }

    /// Everything is in its place as soon as it is there.
    fn asks_errors(&self) -> bool {
        self.out.asks_errors()
    }

    fn window(&self) -> usize {
        usize::MAX
    }

    fn unit(&self, unit: &Unit, parts: &mut Parts) -> Result<()> {
        let (rows, cols) = unit.shape();
        let stored: &[u8] = bytemuck::cast_slice(&parts.stored);
        let (plain, len) = match self.manifest.element() {
            Element::Value(dtype) => {
                let kept = match self.manifest.pruned {
                    true => sparse::row_counts(&parts.mask, cols).sum(),
                    false => rows * cols,
                };
                (dtype.bytes(1) as u64 * unit.start(&self.blocks), dtype.bytes(kept))
            }
            Element::Code(_) | Element::Path(..) => {
                let packing = self.manifest.method.packing().expect("they are codes");
                let row_words = packing.words_per_row(self.blocks.cols);
                let first = packing.words_per_row(unit.cols.start);
                ((unit.rows.start * row_words + first) * 4, stored.len())
            }
        };
        let offset = self.starts.get(unit.index).copied().unwrap_or(plain);
        self.out.write_at(self.at(self.manifest.stored()) + offset, &stored[..len])?;
        write_tables(self.manifest, &self.blocks, unit, parts, |name, offset, bytes| {
            self.out.write_at(self.at(name) + offset, bytes)
        })
    }

    fn append(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Written> {
        Ok(Written { components: std::mem::take(&mut self.components), retrieved: None })
    }
}

/// Writes the tables that a unit touches: `write` is given the name of each, where in it they lie, and their bytes. A group that
/// starts before the unit was written by the unit it starts in; writing it again changes nothing.
pub(super) fn write_tables(
    manifest: &TensorManifest,
    blocks: &Blocks,
    unit: &Unit,
    parts: &Parts,
    write: impl Fn(&'static str, u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let touched = Stretch::new(manifest.groups(), unit.start(blocks), unit.elements());
    for (name, bytes) in parts.tables(manifest) {
        let of_each = bytes.len() / touched.count.max(1);
        write(name, (touched.first * of_each) as u64, &bytes)?;
    }
    // Codebooks are of all units: the first one writes them.
    match unit.start(blocks) {
        0 => parts.books(manifest).map_or(Ok(()), |(name, bytes)| write(name, 0, &bytes)),
        _ => Ok(()),
    }
}
