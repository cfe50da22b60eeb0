//! Where paths lead, over links and `..`.

use crate::{Error, Result};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Where a path leads; `None` where to nothing.
///
/// # Errors
///
/// [`Error::Io`] if that cannot be told.
pub(super) fn real(path: &Path) -> Result<Option<PathBuf>> {
    use ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    match fs::canonicalize(path) {
        Ok(real) => Ok(Some(real)),
        // What is below a file, or has a name too long to exist, does not.
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | InvalidFilename) => Ok(None),
        Err(e) => Err(Error::Io { path: path.into(), source: e }),
    }
}
