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

/// The components of a tensor, from `start` of the data section on.
pub(super) struct Components<'a> {
    pub out: &'a OutputFile,
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
