//! The unfinished output of a job that can be resumed: `OUT.partial` beside the target, with the folder in the making and the
//! journal of its finished files.
//!
//! The journal has a line of JSON for what the job was begun with, and one for every finished file: what that was made from,
//! and its digest; each line has its own digest before it. A line is appended and made durable only after the file it speaks of. Whoever resumes refuses a job that
//! was begun with anything else, and reuses a file only if it still has its digest: a torn one is made anew.
//!
//! A file of the model counts as unchanged if its name, length and header are, and, where its successor is finished, all of
//! its data; times do not count, so that a copy of the model will do. The data of files that are not finished is read anew
//! anyway; where it decides about finished files as well, through a threshold over the whole model, that threshold counts.

use crate::{
    Error, Result,
    digest::{Digest, digest, encode_digest},
    format::{
        checkpoint::{Checkpoint, read_exact_at},
        chunks::map_chunks,
        folder::list,
        output::{
            explain,
            rename::rename_new,
            temporary::{Temporary, delete, parent, sync_folder},
        },
    },
    progress::Cancel,
    quote::{quoted, shown},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

const JOURNAL: &str = "journal";
const OUTPUT: &str = "output";
/// The form of the journal.
const FORM: u32 = 1;

/// Where the unfinished output of a job that can be resumed lies.
pub fn partial(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    target.with_file_name(name)
}

/// What the files of an output are made from, beside the files of the model.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Digest of the recipe, importance included.
    pub recipe: Digest,
    /// Digest of what was found in the whole model: thresholds, and what a recipe with defaults makes of every tensor.
    pub thresholds: Digest,
}

/// What a job was begun with.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    journal: u32,
    version: String,
    recipe: String,
    thresholds: String,
    input: Vec<Input>,
}

/// A file of the model.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Input {
    name: String,
    bytes: u64,
    header: String,
}

/// A finished file of the output.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    name: String,
    /// Digest of the file of the model that it was made from.
    source: String,
    bytes: u64,
    digest: String,
    /// What the job has to say about it.
    notes: serde_json::Value,
}

/// An unfinished output. Dropped, it stays if a file of it is finished.
#[derive(Debug)]
pub(in crate::format) struct Partial {
    target: PathBuf,
    journal: File,
    /// What the job had to say about the finished files, by name.
    finished: BTreeMap<String, serde_json::Value>,
}

impl Partial {
    /// Begins one, or goes on with what an interrupted run has left, of which only finished and whole files stay. To be called
    /// under the lock of the target.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the job was begun with something else, or if what is there is none of ours; nothing of it is
    /// touched then. [`Error::Io`]; [`Error::Interrupted`].
    pub fn open(
        target: &Path,
        checkpoint: &Checkpoint,
        origin: Origin,
        cancel: &Cancel,
    ) -> Result<Self> {
        let head = Head::new(checkpoint, origin, cancel)?;
        let path = partial(target);
        match path.symlink_metadata() {
            Ok(_) => Self::resume(target, &path, &head, checkpoint, cancel),
            Err(e) if e.kind() == ErrorKind::NotFound => Self::begin(target, &path, &head),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Appears in one step, with its journal in it, so that what has this name always has one.
    fn begin(target: &Path, path: &Path, head: &Head) -> Result<Self> {
        let new = Temporary::beside(target);
        let make = || -> io::Result<File> {
            fs::create_dir(&new.0)?;
            fs::create_dir(new.0.join(OUTPUT))?;
            let mut journal =
                OpenOptions::new().append(true).create_new(true).open(new.0.join(JOURNAL))?;
            append(&mut journal, head)?;
            Ok(journal)
        };
        let journal = make().map_err(|e| explain(path, e))?;
        sync_folder(&new.0, path)?;
        rename_new(&new.0, path).map_err(|e| explain(path, e))?;
        let begun = Self { target: target.into(), journal, finished: BTreeMap::new() };
        sync_folder(parent(path), path)?;
        Ok(begun)
    }

    fn resume(
        target: &Path,
        path: &Path,
        head: &Head,
        checkpoint: &Checkpoint,
        cancel: &Cancel,
    ) -> Result<Self> {
        let refuse = |why: String| {
            let path = shown(path);
            Error::Usage(format!("{path} cannot be resumed: {why}, or delete {path} to begin anew"))
        };
        let foreign = |what: String| {
            let path = shown(path);
            Error::Usage(format!(
                "{path}: {what}; it is not what an interrupted run leaves, move it"
            ))
        };
        if !path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            return Err(foreign("this is no folder".into()));
        }
        let ours = |p: &PathBuf| {
            let kind = p.symlink_metadata().map(|m| m.file_type());
            p.ends_with(JOURNAL) && kind.as_ref().is_ok_and(|k| k.is_file())
                || p.ends_with(OUTPUT) && kind.is_ok_and(|k| k.is_dir())
        };
        if let Some(other) = list(path)?.into_iter().find(|p| !ours(p)) {
            let name = other.file_name().unwrap_or_default();
            return Err(foreign(format!("it holds {}", shown(Path::new(name)))));
        }
        let at = path.join(JOURNAL);
        let text = match fs::read(&at) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(foreign("it holds no journal".into()));
            }
            read => read.map_err(Error::io(&at))?,
        };
        let mut lines = text.split_inclusive(|b| *b == b'\n');
        let first = lines.next().unwrap_or_default();
        let Some(begun) = line::<Head>(first) else {
            return Err(foreign("its journal is none".into()));
        };
        begun.same_as(head).map_err(refuse)?;

        // What was being appended when the system failed is not there, or not whole.
        let mut whole = first.len();
        let mut records: BTreeMap<String, Finished> = BTreeMap::new();
        for record in lines {
            let Some(found) = line::<Finished>(record) else { break };
            whole += record.len();
            // A file that was made anew has a second one.
            records.insert(found.name.clone(), found);
        }
        let output = path.join(OUTPUT);
        let mut finished = BTreeMap::new();
        for (i, source) in checkpoint.files.iter().enumerate() {
            let Some(record) = records.remove(&source.name) else { continue };
            if record.source != encode_digest(digest_source(checkpoint, i, source.len, cancel)?) {
                let name = shown(&source.path);
                return Err(refuse(format!("the data of {name} has changed; bring it back")));
            }
            if record.describes(&output.join(&source.name), cancel)? {
                finished.insert(record.name, record.notes);
            }
        }
        // Refusals are over: from here on things are changed.
        match fs::create_dir(&output) {
            // A run that was killed when it had done.
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(explain(path, e)),
        }
        let whole_files = finished.keys().map(|name| output.join(name)).collect();
        delete_but(&output, &whole_files)?;
        let journal = OpenOptions::new().append(true).open(&at).map_err(Error::io(&at))?;
        if whole < text.len() {
            let cut = journal.set_len(whole as u64).and_then(|()| journal.sync_all());
            cut.map_err(Error::io(&at))?;
        }
        Ok(Self { target: target.into(), journal, finished })
    }

    /// The folder in the making.
    pub fn output(&self) -> PathBuf {
        partial(&self.target).join(OUTPUT)
    }

    /// Whether a file is finished.
    pub fn has(&self, name: &str) -> bool {
        self.finished.contains_key(name)
    }

    /// What the job had to say about a file, if that is finished.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if that is something else.
    pub fn notes<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let notes = self.finished.get(name).map(T::deserialize).transpose();
        let journal = partial(&self.target).join(JOURNAL);
        notes.map_err(|e| Error::format(journal, format!("{}: {e}", quoted(name))))
    }

    /// Notes that the successor of a file of the model is finished. It must be durable.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if that file has changed meanwhile; [`Error::Io`]; [`Error::Interrupted`].
    pub fn record(
        &mut self,
        checkpoint: &Checkpoint,
        file: usize,
        notes: serde_json::Value,
        cancel: &Cancel,
    ) -> Result<()> {
        let source = &checkpoint.files[file];
        let read = encode_digest(digest_source(checkpoint, file, source.len, cancel)?);
        // What has a digest now is what was read.
        checkpoint.unchanged()?;
        let output = self.output();
        let (bytes, digest) = digest_file(&output.join(&source.name), cancel)?;
        for folder in Path::new(&source.name).ancestors().skip(1) {
            sync_folder(&output.join(folder), &output)?;
        }
        let digest = encode_digest(digest);
        let record = Finished { name: source.name.clone(), source: read, bytes, digest, notes };
        let at = partial(&self.target).join(JOURNAL);
        append(&mut self.journal, &record).map_err(|e| explain(&at, e))?;
        self.finished.insert(record.name, record.notes);
        Ok(())
    }

    /// After an error: what the user can do, if anything is kept. Nothing is where the same command would fail again.
    pub fn stopped(&mut self, error: &Error, of: usize) -> Option<String> {
        if let Error::Format { .. } | Error::NonFinite { .. } | Error::Verify { .. } = error {
            self.discard();
        }
        let (path, n) = (shown(&partial(&self.target)), self.finished.len());
        (n > 0).then(|| {
            format!("{path} keeps {n} finished of {of} files; the same command goes on from there")
        })
    }

    /// Deletes it. Its name is gone in one step.
    pub fn discard(&mut self) {
        let last = Temporary::beside(&self.target);
        _ = fs::rename(partial(&self.target), &last.0);
        self.finished.clear();
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.finished.is_empty() {
            self.discard();
        }
    }
}

impl Head {
    fn new(checkpoint: &Checkpoint, origin: Origin, cancel: &Cancel) -> Result<Self> {
        let input = checkpoint.files.iter().enumerate().map(|(i, f)| {
            let header = encode_digest(digest_source(checkpoint, i, f.data_start, cancel)?);
            Ok(Input { name: f.name.clone(), bytes: f.len, header })
        });
        Ok(Self {
            journal: FORM,
            version: env!("CARGO_PKG_VERSION").into(),
            recipe: encode_digest(origin.recipe),
            thresholds: encode_digest(origin.thresholds),
            input: input.collect::<Result<_>>()?,
        })
    }

    /// Whether a job that was begun with this goes on with `now`; otherwise what has changed and what to do.
    fn same_as(&self, now: &Self) -> std::result::Result<(), String> {
        if (self.journal, &self.version) != (now.journal, &now.version) {
            let (then, now) = (&self.version, &now.version);
            return Err(format!(
                "it was begun by tersor {then:?}, this is {now}; use that version"
            ));
        }
        if self.recipe != now.recipe {
            return Err("it was begun with another recipe; use that one".into());
        }
        if let Some(file) = now.input.iter().find(|f| !self.input.contains(f)) {
            let what = match self.input.iter().find(|f| f.name == file.name) {
                Some(_) => "has changed",
                None => "was not in the model",
            };
            return Err(format!("{} {what}; use the same model", shown(Path::new(&file.name))));
        }
        if let Some(file) = self.input.iter().find(|f| !now.input.contains(f)) {
            let name = shown(Path::new(&file.name));
            return Err(format!("{name} is no longer in the model; use the same model"));
        }
        match self.thresholds == now.thresholds {
            true => Ok(()),
            false => {
                Err("the data of the model has changed, or its config.json; bring it back".into())
            }
        }
    }
}

impl Finished {
    /// Whether that file is there and whole.
    fn describes(&self, path: &Path, cancel: &Cancel) -> Result<bool> {
        let regular = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() == self.bytes);
        Ok(regular && encode_digest(digest_file(path, cancel)?.1) == self.digest)
    }
}

/// Deletes what is in a folder but for some files.
fn delete_but(folder: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for path in list(folder)? {
        match files.iter().any(|f| f.starts_with(&path)) {
            false => delete(&path),
            true if path.is_dir() => delete_but(&path, files)?,
            true => {}
        }
    }
    Ok(())
}

/// A whole line of the journal: a digest, and the JSON that has it.
fn line<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (own, json) = text.split_once(' ')?;
    (own == encode_digest(digest(json.as_bytes()))).then_some(())?;
    serde_json::from_str(json).ok()
}

fn append(journal: &mut File, record: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(record)?;
    let line = format!("{} {json}\n", encode_digest(digest(json.as_bytes())));
    journal.write_all(line.as_bytes())?;
    journal.sync_all()
}

/// The digest of the start of a file of the model: of the digests of its chunks.
fn digest_source(
    checkpoint: &Checkpoint,
    file: usize,
    len: u64,
    cancel: &Cancel,
) -> Result<Digest> {
    let read = |at, buf: &mut [u8]| {
        cancel.check()?;
        checkpoint.read_at(file, at, buf)
    };
    Ok(digest(&map_chunks(len, read, digest)?.concat()))
}

/// The length and the digest of a finished file, as they are on the disk or on their way to it.
fn digest_file(path: &Path, cancel: &Cancel) -> Result<(u64, Digest)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    let read = |at, buf: &mut [u8]| {
        cancel.check()?;
        read_exact_at(&file, buf, at).map_err(Error::io(path))
    };
    Ok((len, digest(&map_chunks(len, read, digest)?.concat())))
}
