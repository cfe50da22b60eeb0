//! From the components of a tensor back to its weights, a unit at a time.

mod device;
mod parts;
mod restorer;

pub use parts::Parts;
pub use restorer::Restorer;

use crate::{
    Backend, Result,
    engine::{Chain, Engine},
    format::{Archive, ArchivedTensor},
    stage::{Source, Unit},
};
use parts::{chain, tables_of};

impl Restorer<'_> {
    /// The weights of a unit, decoded and restored on an engine's device as far as it can.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`] and [`Parts::restore`].
    pub fn restore(&self, engine: &Engine, unit: &Unit) -> Result<Vec<u32>> {
        let (manifest, blocks) = (self.manifest, &self.blocks);
        // Coefficients may take more than the weights.
        let weights = manifest.dtype.bytes(1).max(manifest.quantized_dtype().bytes(1));
        let weights = weights * unit.elements();
        let tables = manifest.method.table_bytes() * tables_of(manifest, blocks, unit);
        let chain = Chain { kernel: "decode", ..chain(manifest, &self.tensor.name) };
        let longest = weights.max(tables) as u64;
        let expected = || self.weights(None, self.parts(unit)?, unit);
        let decoded = match self.bits_on_device() {
            None => None,
            Some(bits) => {
                let device = |on: &Backend| self.unit_on(on, unit, bits);
                engine.decode(chain, blocks, unit, longest, device, expected)?
            }
        };
        match decoded {
            Some(weights) => Ok(weights),
            None => self.weights(Some(engine), self.parts(unit)?, unit),
        }
    }

    /// The weights of a unit from its components: from an engine's device, or uncounted from the CPU.
    ///
    /// # Errors
    ///
    /// As [`Parts::restore`].
    pub fn weights(&self, engine: Option<&Engine>, parts: Parts, unit: &Unit) -> Result<Vec<u32>> {
        let engine = engine.map(|engine| (engine, self.tensor.name.as_str()));
        parts.restore(engine, self.manifest, &self.blocks, unit)
    }
}

/// Where a kept tensor's bytes come from.
pub fn kept<'a>(archive: &'a Archive, tensor: &'a ArchivedTensor) -> Source<'a> {
    Source::Archive(archive, archive.component(tensor, ""))
}
