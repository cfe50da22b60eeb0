//! Renaming in one step, where the file system can.

use crate::format::output::temporary::{beside, delete};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Renames to a name that is free, or fails with [`ErrorKind::AlreadyExists`].
pub(in crate::format) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat(from, to, Rename::New) {
        Err(e) if unsupported(&e) => {}
        done => return done,
    }
    if from.is_file() {
        match fs::hard_link(from, to) {
            Ok(()) => return fs::remove_file(from),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
            Err(_) => {}
        }
    }
    // File systems without hard links. A folder that is not empty is not replaced by this either.
    match to.symlink_metadata() {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Exchanges two folders, in one step where the file system can.
pub(in crate::format) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    match renameat(a, b, Rename::Exchange) {
        Err(e) if unsupported(&e) => {}
        done => return done,
    }
    let aside = aside(b);
    fs::rename(b, &aside)?;
    fs::rename(a, b).inspect_err(|_| _ = fs::rename(&aside, b))?;
    fs::rename(&aside, a)
}

/// Puts back what a run that was killed in the middle of such an exchange had moved aside, or deletes it if its successor was
/// there already. Only under the lock of the target.
pub(in crate::format) fn recover(target: &Path) -> io::Result<()> {
    let aside = aside(target);
    match (aside.symlink_metadata(), target.symlink_metadata()) {
        (Err(_), _) => Ok(()),
        (Ok(_), Err(_)) => rename_new(&aside, target),
        (Ok(_), Ok(_)) => {
            delete(&aside);
            Ok(())
        }
    }
}

/// Not a name of a leftover: the old folder must survive the next run.
fn aside(target: &Path) -> PathBuf {
    beside(target, "old")
}

#[derive(Clone, Copy)]
enum Rename {
    New,
    Exchange,
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn renameat(from: &Path, to: &Path, how: Rename) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = match how {
        Rename::New => RenameFlags::NOREPLACE,
        Rename::Exchange => RenameFlags::EXCHANGE,
    };
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn renameat(_: &Path, _: &Path, _: Rename) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether the system or the file system does not know such a way of renaming.
fn unsupported(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}
