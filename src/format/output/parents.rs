//! Folders above an output that are not there yet.

use crate::{
    Error, Result,
    format::output::temporary::{parent, sync_folder},
};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The folders that were made for an output, the outermost first. Dropped, those that have stayed empty go away again.
#[derive(Debug, Default)]
pub(in crate::format) struct Parents(Vec<PathBuf>);

impl Parents {
    /// Makes those that are missing above an output, and makes their entries durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn make(output: &Path) -> Result<Self> {
        let mut made = Self::default();
        let above = output.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
        let missing: Vec<_> = above.take_while(|p| p.symlink_metadata().is_err()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => made.0.push(folder.into()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::Io { path: output.into(), source: e }),
            }
            sync_folder(parent(folder), folder)?;
        }
        Ok(made)
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // Fails where anything is in it.
            _ = fs::remove_dir(folder);
        }
    }
}
