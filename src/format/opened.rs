//! A checkpoint or an archive, whichever lies at a path.

use crate::{
    Result,
    format::{Archive, Checkpoint},
};
use std::path::Path;

/// What was found at a path.
#[derive(Debug)]
pub enum Opened {
    /// Tensors as they are.
    Checkpoint(Checkpoint),
    /// Tensors that tersor has treated.
    Archive(Archive),
}

impl Opened {
    /// Opens a file, an index.json or a folder.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`] and [`Archive::open`].
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::format::Opened;
    ///
    /// let lenet = Opened::open("assets/lenet-300-100.safetensors".as_ref())?;
    /// assert!(matches!(lenet, Opened::Checkpoint(_)));
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_variant(path, None)
    }

    /// The same, of several precisions of the weights of a folder one by its name.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open_variant`] and [`Archive::open`].
    pub fn open_variant(path: &Path, variant: Option<&str>) -> Result<Self> {
        let checkpoint = Checkpoint::open_variant(path, variant)?;
        match checkpoint.files.iter().any(|f| f.metadata.get("tersor").is_some()) {
            true => Ok(Self::Archive(Archive::open(path)?)),
            false => Ok(Self::Checkpoint(checkpoint)),
        }
    }

    /// What lies on the disk: of an archive its components.
    pub fn stored(&self) -> &Checkpoint {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint,
            Self::Archive(archive) => &archive.stored,
        }
    }
}
