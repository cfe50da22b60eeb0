//! The place of an output: claimed for a whole job, and filled at its end in one step.
//!
//! A job works in a temporary file or folder beside its target, under a lock that other runs with the same target respect.
//! Whoever finds the lock free may therefore delete what killed runs have left.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint,
        folder::list,
        output::{
            explain,
            lock::Lock,
            parents::Parents,
            place::suits,
            rename::{exchange, recover, rename_new},
            temporary::{Temporary, delete_leftovers, parent, sync_folder},
        },
        real::real,
        variant::is_index,
    },
    quote::shown,
};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// What repositories of models hold beside the weights.
const SIDE_FILES: [&str; 35] = [
    ".gitattributes",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "configuration.json",
    "generation_config.json",
    "hf_quant_config.json",
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
    /// After the lock, which lies in the innermost of them.
    _parents: Parents,
}

impl Target {
    /// Claims the place of the successor of `source`: a file for a file, a folder for a folder. Leftovers of killed runs
    /// with the same target are deleted. Missing folders above it are made; dropped, it leaves none of them empty.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the target holds what is read or lies in it, exists and `force` is not given, or is nothing that an
    /// output like this may replace; [`Error::Locked`] if another run has claimed it; [`Error::Io`].
    pub fn claim(path: &Path, source: &Checkpoint, force: bool) -> Result<Self> {
        let files = source.files.iter().map(|f| f.path.clone());
        let carried = source.carried().iter().map(|p| source.root.join(p));
        spare(path, [source.root.clone()].into_iter().chain(files).chain(carried))?;
        no_pipe(path)?;
        suits(path, source)?;
        let outputs = source.is_folder.then(|| source.outputs().map(Path::to_path_buf).collect());
        Self::locked(path, outputs, force)
    }

    /// Claims the place of a file that is made of others, which are no checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`].
    pub fn claim_file(path: &Path, read: &[&Path], force: bool) -> Result<Self> {
        spare(path, read)?;
        no_pipe(path)?;
        Self::locked(path, None, force)
    }

    /// Claims the place of a regular file, whatever is in it, or of a folder with such files.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`], but for what is read.
    pub(in crate::format) fn locked(
        path: &Path,
        outputs: Option<BTreeSet<PathBuf>>,
        force: bool,
    ) -> Result<Self> {
        if path.file_name().is_none() {
            let why = format!("{} is no name for an output", shown(path));
            return Err(Error::Usage(why));
        }
        let parents = Parents::make(path)?;
        let lock = Lock::take(path)?;
        if lock.is_some() {
            delete_leftovers(path);
            recover(path).map_err(Error::io(path))?;
        }
        let target = Self { path: path.into(), force, outputs, _lock: lock, _parents: parents };
        target.replaceable()?;
        Ok(target)
    }

    /// Puts a file of these bytes in its place, whole and durable.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`] for what has appeared meanwhile; [`Error::Io`].
    pub fn fill(self, bytes: &[u8]) -> Result<()> {
        let temporary = Temporary::beside(&self.path);
        let write = |mut file: fs::File| file.write_all(bytes).and_then(|()| file.sync_all());
        let written = fs::File::create_new(&temporary.0).and_then(write);
        written.map_err(|e| explain(&self.path, e))?;
        self.place(&temporary.0)?;
        self.settle()
    }

    /// Where the output will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses whatever is at the target unless it may be replaced.
    fn replaceable(&self) -> Result<()> {
        let meta = match self.path.symlink_metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(Error::io(&self.path))?,
        };
        let path = shown(&self.path);
        // Nothing that --force would help with.
        let (fits, kind) = match self.outputs {
            None => (meta.is_file(), "regular file"),
            Some(_) => (meta.is_dir(), "folder"),
        };
        if !fits {
            let why = format!("{path} exists and is not a {kind}; remove it first");
            return Err(Error::Usage(why));
        }
        if !self.force {
            return Err(self.exists());
        }
        let Some(outputs) = &self.outputs else { return Ok(()) };
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
    /// system cannot exchange two: then the old one is moved aside first, and nothing is at the target for a moment; a run
    /// that is killed in it has the next one put the old folder back. What was there, if it is a folder, takes the name of
    /// the new one, under which it is to be deleted once this is [durable](Target::settle).
    ///
    /// # Errors
    ///
    /// As [`Target::claim`] for what has appeared meanwhile; [`Error::Io`].
    pub(in crate::format) fn place(&self, complete: &Path) -> Result<()> {
        let placed = match rename_new(complete, &self.path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                self.replaceable()?;
                match self.outputs {
                    Some(_) => exchange(complete, &self.path),
                    None => fs::rename(complete, &self.path),
                }
            }
            renamed => renamed,
        };
        placed.map_err(Error::io(&self.path))
    }

    /// Makes durable that the output is in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(in crate::format) fn settle(&self) -> Result<()> {
        sync_folder(parent(&self.path), &self.path).map_err(|e| match e {
            Error::Io { source, .. } => {
                let why = format!(
                    "complete and in its place, but perhaps not after a power failure: {source}"
                );
                Error::Io { path: self.path.clone(), source: io::Error::new(source.kind(), why) }
            }
            other => other,
        })
    }
}

/// Refuses what is no file.
///
/// # Errors
///
/// [`Error::Usage`].
fn no_pipe(output: &Path) -> Result<()> {
    if output == Path::new("-") {
        let why = "-o -: an output is written, read again and only then put in its place, which a pipe is not; name a file";
        return Err(Error::Usage(why.into()));
    }
    Ok(())
}

/// Refuses an output that is one of the files or folders that a job reads, or that holds one of them.
///
/// # Errors
///
/// [`Error::Usage`]; [`Error::Io`] if that cannot be told.
pub fn spare(output: &Path, read: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    // What does not exist holds nothing.
    let Some(target) = real(output)? else { return Ok(()) };
    for path in read {
        let path = path.as_ref();
        let Some(real) = real(path)? else { continue };
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
    let known = |p: &Path| weights(p) || is_index(p) || SIDE_FILES.contains(&&*name(p));
    // At the root, and in the folders of modules.
    let of_module = |relative: &Path| {
        let parent = relative.parent().filter(|p| !p.as_os_str().is_empty());
        parent.is_none_or(|p| outputs.iter().any(|o| o.parent() == Some(p) && weights(o)))
    };
    let mut left: Vec<PathBuf> = at_root.iter().rev().cloned().collect();
    while let Some(path) = left.pop() {
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let is_folder = path.symlink_metadata().map_err(Error::io(&path))?.is_dir();
        let of_output = match is_folder {
            true => outputs.iter().any(|o| o.starts_with(relative) && o != relative),
            false => outputs.contains(relative) || of_module(relative) && known(&path),
        };
        if !of_output {
            return Ok(Some(format!("{} in it is no part of an output", shown(relative))));
        }
        if is_folder {
            left.extend(list(&path)?.into_iter().rev());
        }
    }
    let within = outputs.iter().any(|o| weights(o) && folder.join(o).is_file());
    let some = within || at_root.is_empty() || at_root.iter().any(|p| weights(p));
    Ok((!some).then(|| "there are no weights in it".into()))
}
