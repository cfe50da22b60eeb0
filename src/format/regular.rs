//! Files that are read to their end.

use crate::{Error, Result};
use std::{
    fs::{self, Metadata},
    path::Path,
};

/// What is known of a regular file. Nothing else is opened: a pipe would be waited for, and a device may have no end.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Format`] for everything else.
pub fn regular(path: &Path) -> Result<Metadata> {
    let meta = fs::metadata(path).map_err(Error::io(path))?;
    match meta.is_file() {
        true => Ok(meta),
        false if meta.is_dir() => Err(Error::format(path, "this is a folder, expected a file")),
        false => Err(Error::format(path, "this is neither a regular file nor a folder")),
    }
}
