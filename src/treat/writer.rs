//! Where the parts of a tensor go. Treating ends with [`Parts`], a unit at a time; a writer lays them out as its format wants
//! them, and knows nothing of how they came about.

use crate::{
    DType, Result,
    codec::block::Coding,
    form::TensorManifest,
    report::Retrieved,
    restore::Parts,
    stage::{Blocks, Unit},
};
use std::ops::Range;

/// Name, type, shape, and bytes in the data section of every stored tensor, in order and without gaps.
pub type Components = Vec<(&'static str, DType, Vec<u64>, Range<u64>)>;

/// What a writer has stored.
#[derive(Debug)]
pub struct Written {
    /// Where, and what it is there.
    pub components: Components,
    /// What a retrieval structure has made of it.
    pub retrieved: Option<Retrieved>,
}

/// Makes the writers of a format, each for one tensor with this manifest.
pub trait Writers {
    /// Of parts that are stored as they are.
    ///
    /// # Errors
    ///
    /// If the format has no place for what the manifest says.
    fn plain<'a>(
        &'a self,
        manifest: &'a TensorManifest,
        blocks: Blocks,
    ) -> Result<impl PartsWriter + 'a>;

    /// Of parts whose blocks are coded.
    ///
    /// # Errors
    ///
    /// If the format has no place for what the manifest says, or no such coding.
    fn coded<'a>(
        &'a self,
        manifest: &'a TensorManifest,
        blocks: Blocks,
        coding: Coding,
    ) -> Result<impl PartsWriter + 'a>;
}

/// Lays out the parts of one tensor: once `begin`, `unit` for every unit, `append` for each in their order, once `finish`.
pub trait PartsWriter: Sync {
    /// What a unit has become when its turn comes; nothing where it is in its place already.
    type Laid: Send;

    /// Before all units. A format that must know first how many weights of each survive asks for their masks: that takes a pass
    /// through the tensor.
    ///
    /// # Errors
    ///
    /// Those of `mask`, and of the output.
    fn begin(
        &mut self,
        units: &[Unit],
        mask: &(dyn Fn(&Unit) -> Result<Vec<u32>> + Sync),
    ) -> Result<()>;

    /// Whether weights are measured as they are laid out, whatever memory that takes.
    fn asks_errors(&self) -> bool {
        false
    }

    /// How many units may wait for those before them.
    fn window(&self) -> usize;

    /// Lays out a unit, from any thread and in any order. Where its format gives back anything else, that takes the place of the
    /// parts.
    ///
    /// # Errors
    ///
    /// Those of the output.
    fn unit(&self, unit: &Unit, parts: &mut Parts) -> Result<Self::Laid>;

    /// Takes the units in their order.
    ///
    /// # Errors
    ///
    /// Those of the output.
    fn append(&mut self, laid: Self::Laid) -> Result<()>;

    /// After all units: what has been stored.
    ///
    /// # Errors
    ///
    /// Those of the output.
    fn finish(&mut self) -> Result<Written>;
}
