//! The place of an output: claimed for a whole job, and filled at its end in one step.
//!
//! A job works in a temporary file or folder beside its target, under a lock that other runs with the same target respect.
//! Whoever finds the lock free may therefore delete what killed runs have left.

use super::{Checkpoint, folder::list, quote::shown};
use crate::{Error, Result};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Longest file name of the usual file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// What repositories of models hold beside the weights.
const SIDE_FILES: [&str; 33] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "configuration.json",
    "generation_config.json",
    "image_processor_config.json",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "merges.txt",
    "model_index.json",
    "modules.json",
    "normalizer.json",
    "NOTICE",
    "params.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
    "README.md",
    "scheduler_config.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "USE_POLICY.md",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
];

/// An output that one job has claimed.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    force: bool,
    /// Where it is a folder, what will be in it.
    outputs: Option<BTreeSet<PathBuf>>,
    _lock: Option<Lock>,
}

impl Target {
    /// Claims the place of the successor of `source`: a file for a file, a folder for a folder. Leftovers of killed runs
    /// with the same target are deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the target holds what is read, exists and `force` is not given, or is nothing that an output
    /// like this may replace; [`Error::Locked`] if another run has claimed it; [`Error::Io`].
    pub fn claim(path: &Path, source: &Checkpoint, force: bool) -> Result<Self> {
        let files = source.files.iter().map(|f| f.path.clone());
        let carried = source.carried().iter().map(|p| source.root.join(p));
        spare(path, [source.root.clone()].into_iter().chain(files).chain(carried))?;
        if path.file_name().is_none() {
            let why = format!("{} is no name for an output", shown(path));
            return Err(Error::Usage(why));
        }
        let lock = Lock::take(path)?;
        if lock.is_some() {
            delete_leftovers(path);
        }
        let outputs = source.is_folder.then(|| source.outputs().map(Path::to_path_buf).collect());
        let target = Self { path: path.into(), force, outputs, _lock: lock };
        target.replaceable()?;
        Ok(target)
    }

    /// Where the output will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses whatever is at the target unless it may be replaced.
    fn replaceable(&self) -> Result<()> {
        let Ok(meta) = self.path.symlink_metadata() else { return Ok(()) };
        let path = shown(&self.path);
        if !self.force {
            return Err(self.exists());
        }
        let Some(outputs) = &self.outputs else {
            return match meta.is_file() {
                true => Ok(()),
                false => Err(Error::Usage(format!(
                    "{path} exists and is not a regular file; remove it first"
                ))),
            };
        };
        if !meta.is_dir() {
            let why = format!("{path} exists and is not a folder; remove it first");
            return Err(Error::Usage(why));
        }
        match foreign(&self.path, outputs)? {
            None => Ok(()),
            Some(why) => Err(Error::Usage(format!(
                "{path} is not replaced: {why}; name another output, or remove the folder first"
            ))),
        }
    }

    fn exists(&self) -> Error {
        Error::Usage(format!("{} exists already; use --force to replace it", shown(&self.path)))
    }

    /// Puts a complete file or folder in its place. A file replaces another in one step; so does a folder, unless the file
    /// system cannot exchange two: then the old one is moved aside first, and nothing is at the target for a moment.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`] for what has appeared meanwhile; [`Error::Io`].
    pub(super) fn publish(self, complete: Temporary) -> Result<()> {
        match rename_new(&complete.0, &self.path) {
            Ok(()) => complete.moved(),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                self.replaceable()?;
                match self.outputs {
                    // What was there now has the temporary name, under which it is deleted.
                    Some(_) => exchange(&complete.0, &self.path).map_err(Error::io(&self.path))?,
                    None => {
                        fs::rename(&complete.0, &self.path).map_err(Error::io(&self.path))?;
                        complete.moved();
                    }
                }
            }
            Err(e) => return Err(Error::Io { path: self.path.clone(), source: e }),
        }
        sync_folder(parent(&self.path))
    }
}

/// Refuses an output that is one of the files or folders that a job reads, or that holds one of them.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn spare(output: &Path, read: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    // What does not exist holds nothing.
    let Ok(target) = fs::canonicalize(output) else { return Ok(()) };
    for path in read {
        let path = path.as_ref();
        let Ok(real) = fs::canonicalize(path) else { continue };
        let output = shown(output);
        if real == target {
            let why = format!("{output} is the input itself; name another output");
            return Err(Error::Usage(why));
        }
        if real.starts_with(&target) {
            let why = format!("{output} holds the input {}; name another output", shown(path));
            return Err(Error::Usage(why));
        }
    }
    Ok(())
}

/// Why a folder is nothing that an output could have been, if so: what it holds and no output would, or that it holds
/// files but no weights.
fn foreign(folder: &Path, outputs: &BTreeSet<PathBuf>) -> Result<Option<String>> {
    let at_root = list(folder)?;
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let weights = |p: &Path| name(p).ends_with(".safetensors");
    let known = |p: &Path| {
        let name = name(p);
        weights(p) || name.ends_with(".safetensors.index.json") || SIDE_FILES.contains(&&*name)
    };
    let mut left: Vec<PathBuf> = at_root.iter().rev().cloned().collect();
    while let Some(path) = left.pop() {
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let is_folder = path.symlink_metadata().is_ok_and(|m| m.is_dir());
        let of_output = match is_folder {
            true => outputs.iter().any(|o| o.starts_with(relative) && o != relative),
            false => outputs.contains(relative) || path.parent() == Some(folder) && known(&path),
        };
        if !of_output {
            return Ok(Some(format!("{} in it is no part of an output", shown(relative))));
        }
        if is_folder {
            left.extend(list(&path)?.into_iter().rev());
        }
    }
    let some = at_root.is_empty() || at_root.iter().any(|p| weights(p));
    Ok((!some).then(|| "there are no weights in it".into()))
}

/// A temporary file or folder, deleted when it is dropped.
#[derive(Debug)]
pub(super) struct Temporary(pub PathBuf);

impl Temporary {
    /// Names one beside a target. The name is as good as new: it holds the number of the process, and what killed runs of
    /// the same number have left is gone.
    pub fn beside(target: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(beside(target, &format!("{process}-{count}.tmp")))
    }

    /// It is not there any more, since it became the output.
    fn moved(mut self) {
        self.0.clear();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            delete(&self.0);
        }
    }
}

fn delete(path: &Path) {
    if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        _ = fs::remove_dir_all(path);
    } else {
        _ = fs::remove_file(path);
    }
}

/// `.NAME.tersor-ENDING` beside the target; a long name is cut, and told apart by its digest.
fn beside(target: &Path, ending: &str) -> PathBuf {
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
fn delete_leftovers(target: &Path) {
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

/// A lock on a target, held until it is dropped: a file beside it that is locked as long as the process lives.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock; `None` where the file system has none, and only the final step protects the target.
    #[cfg(unix)]
    fn take(target: &Path) -> Result<Option<Self>> {
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
                Err(_) => {
                    _ = fs::remove_file(&path);
                    return Ok(None);
                }
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
                let source = io::Error::other("its lock is no regular file");
                return Err(Error::Io { path, source });
            }
        }
    }

    #[cfg(not(unix))]
    fn take(_: &Path) -> Result<Option<Self>> {
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so that nobody else's is deleted.
        _ = fs::remove_file(&self.path);
    }
}

/// Renames to a name that is free, or fails with [`ErrorKind::AlreadyExists`].
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
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
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    match renameat(a, b, Rename::Exchange) {
        Err(e) if unsupported(&e) => {}
        done => return done,
    }
    // Not a name of a leftover: killed here, the old folder must survive the next run.
    let aside = beside(b, "old");
    fs::rename(b, &aside)?;
    fs::rename(a, b).inspect_err(|_| _ = fs::rename(&aside, b))?;
    fs::rename(&aside, a)
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

/// Where a path lies.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the entries of a folder durable.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}
