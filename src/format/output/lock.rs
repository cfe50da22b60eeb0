//! Two jobs with one output: the second must stop before it writes.

use crate::{Error, Result, format::output::temporary::beside};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// A lock on a target, held until it is dropped: a file beside it that is locked as long as the process lives.
#[derive(Debug)]
pub(in crate::format) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock; `None` where the file system has none, and only the final step protects the target.
    #[cfg(unix)]
    pub fn take(target: &Path) -> Result<Option<Self>> {
        use rustix::{
            fs::{FlockOperation, flock},
            io::Errno,
        };
        use std::os::unix::fs::MetadataExt;
        let path = beside(target, "lock");
        loop {
            let mut open = fs::OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false);
            let file = open.open(&path).map_err(Error::io(target))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: target.into() }),
                Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    _ = fs::remove_file(&path);
                    return Ok(None);
                }
                Err(e) => return Err(Error::Io { path: target.into(), source: e.into() }),
            }
            // Whoever held it before may have deleted it between our opening and our locking.
            let (held, there) = (file.metadata(), fs::symlink_metadata(&path));
            let same =
                |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            if let (Ok(held), Ok(there)) = (&held, &there)
                && same(held, there)
            {
                return Ok(Some(Self { path, _file: file }));
            }
            if there.as_ref().is_ok_and(|t| !t.is_file()) {
                let source = std::io::Error::other("its lock is no regular file");
                return Err(Error::Io { path, source });
            }
        }
    }

    #[cfg(not(unix))]
    pub fn take(_: &Path) -> Result<Option<Self>> {
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so that nobody else's is deleted.
        _ = fs::remove_file(&self.path);
    }
}
