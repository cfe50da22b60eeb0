//! A tensor's parts as an archive stores them: as they are, or coded.

mod coded;
mod plain;

use crate::{
    Result,
    codec::block::Coding,
    form::TensorManifest,
    format::OutputFile,
    stage::Blocks,
    treat::{PartsWriter, Writers},
};
use coded::Coded;
use plain::Plain;

/// Where the bytes of components go.
pub trait Sink: Sync {
    /// Takes bytes for a place in the data section, from any thread.
    ///
    /// # Errors
    ///
    /// Those of the output.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Whether weights are measured as they are written, whatever memory that takes.
    fn asks_errors(&self) -> bool {
        false
    }
}

impl Sink for OutputFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Self::write_at(self, offset, bytes)
    }
}

/// Keeps nothing: what components take, and what they are off by, is all that is asked.
pub struct Nowhere;

impl Sink for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn asks_errors(&self) -> bool {
        true
    }
}

/// The components of a tensor, from `start` of the data section on.
pub struct Components<'a> {
    pub out: &'a dyn Sink,
    pub start: u64,
}

impl Writers for Components<'_> {
    fn plain<'a>(
        &'a self,
        manifest: &'a TensorManifest,
        blocks: Blocks,
    ) -> Result<impl PartsWriter + 'a> {
        Ok(Plain::new(manifest, blocks, self.out, self.start))
    }

    fn coded<'a>(
        &'a self,
        manifest: &'a TensorManifest,
        blocks: Blocks,
        coding: Coding,
    ) -> Result<impl PartsWriter + 'a> {
        Ok(Coded::new(manifest, blocks, coding, self.out, self.start))
    }
}
