//! Temporary files and folders beside a target.

use crate::{Error, Result, format::folder::list};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Longest file name of the usual file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// A temporary file or folder, deleted when it is dropped, if it has not become something else.
#[derive(Debug)]
pub(in crate::format) struct Temporary(pub PathBuf);

impl Temporary {
    /// Names one beside a target. The name is as good as new: it holds the number of the process, and what killed runs of
    /// the same number have left is gone.
    pub fn beside(target: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(beside(target, &format!("{process}-{count}.tmp")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        delete(&self.0);
    }
}

/// Deletes a file or a folder, as far as that can be done.
pub(in crate::format) fn delete(path: &Path) {
    _ = match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
}

/// `.NAME.tersor-ENDING` beside the target; a long name is cut, and told apart by its digest.
pub(in crate::format) fn beside(target: &Path, ending: &str) -> PathBuf {
    target.with_file_name(format!("{}{ending}", stem(target)))
}

fn stem(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default();
    let text = name.to_string_lossy();
    // Room for the dot, `.tersor-`, and an ending of two numbers.
    const ROOM: usize = MAX_FILE_NAME - 50;
    if text.len() <= ROOM && text.as_bytes() == name.as_encoded_bytes() {
        return format!(".{text}.tersor-");
    }
    let mut end = text.len().min(ROOM - 20);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let digest = blake3::hash(name.as_encoded_bytes()).to_hex();
    format!(".{}~{}.tersor-", &text[..end], &digest[..16])
}

/// Deletes the temporary files and folders of killed runs with this target; only under its lock.
pub(in crate::format) fn delete_leftovers(target: &Path) {
    let stem = stem(target);
    let numbered = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbers = name.strip_prefix(&stem).and_then(|n| n.strip_suffix(".tmp"));
        let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        numbers.and_then(|n| n.split_once('-')).is_some_and(|(a, b)| number(a) && number(b))
    };
    let found = list(parent(target)).unwrap_or_default();
    found.iter().filter(|p| numbered(p)).for_each(|p| delete(p));
}

/// Where a path lies.
pub(in crate::format) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the entries of a folder durable, which errors call `shown`.
#[cfg(unix)]
pub(in crate::format) fn sync_folder(folder: &Path, shown: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(shown))
}

#[cfg(not(unix))]
pub(in crate::format) fn sync_folder(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}
