//! Files and folders in the making.

mod lock;
mod parents;
pub(in crate::format) mod partial;
pub(in crate::format) mod place;
mod rename;
pub(in crate::format) mod target;
mod temporary;
pub(in crate::format) mod text_file;
mod writes;

use crate::{
    Error, Result,
    digest::{Digest, encode_digest, short, twofold},
    format::{
        checkpoint::{Checkpoint, SourceFile, read_exact_at},
        chunks::{CHUNK, SPAN, chunk_starts},
        output::{
            partial::{Origin, Partial},
            target::Target,
            temporary::{Temporary, parent, sync_folder},
            writes::Writes,
        },
        safetensors::{
            header::MAX_HEADER,
            header_text::{Count, Entry, NO_DIGEST, Preface, write_header},
        },
    },
    parallel,
    progress::Cancel,
    scratch::Bytes,
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// A safetensors file in the making.
#[derive(Debug)]
pub struct OutputFile {
    data: Writes,
    path: PathBuf,
    shown: PathBuf,
    reserve: u64,
    /// Until it takes its place, where it is not part of a folder.
    temporary: Option<Temporary>,
}

impl OutputFile {
    /// Starts a file beside its target, whose header will take at most `reserve` bytes, its 8 bytes of length included, and
    /// which will take about `expected` bytes. Dropped before it is published, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also where the disk is too full; [`Error::Format`] for a header too long for the format.
    pub fn create(target: &Target, reserve: u64, expected: u64) -> Result<Self> {
        enough_space(target.path(), expected)?;
        let temporary = Temporary::beside(target.path());
        let file = Self::start(&temporary.0, target.path(), reserve)?;
        Ok(Self { temporary: Some(temporary), ..file })
    }

    /// Starts a file at `path`, which errors call `shown`.
    fn start(path: &Path, shown: &Path, reserve: u64) -> Result<Self> {
        let reserve = reserve.next_multiple_of(8);
        if reserve > MAX_HEADER + 8 {
            let why = format!(
                "its header would take up to {} bytes, the format allows {MAX_HEADER}; keep more tensors",
                reserve - 8
            );
            return Err(Error::format(shown, why));
        }
        let open = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = open.map_err(Error::io(shown))?;
        let data = Writes::new(file);
        Ok(Self { data, path: path.into(), shown: shown.into(), reserve, temporary: None })
    }

    /// Writes bytes at a position of the data section; from any thread. When all threads have come back, they are there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], which names the target and, on a full disk, what is free.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.data.write_at(self.reserve + offset, bytes).map_err(|e| self.explain(e))
    }

    /// Digests of the chunks of the first `len` bytes of the data section, as they can be read back, and the twofold digests of every
    /// [`SPAN`] of them, by which whoever reads these again in this run can tell that they are the same.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn digest_chunks(&self, len: u64) -> Result<(Vec<Digest>, Vec<Digest>)> {
        self.data.flush().map_err(|e| self.explain(e))?;
        // A span at a time, which stays in the cache until it is hashed.
        let both = |start: &u64| {
            let end = (start + CHUNK).min(len);
            let mut buffer = Bytes::new(SPAN as usize);
            let (mut hash, mut seen) = (blake3::Hasher::new(), Vec::new());
            for at in (*start..end).step_by(SPAN as usize) {
                let span = &mut buffer[..(end - at).min(SPAN) as usize];
                read_exact_at(self.data.file(), span, self.reserve + at)
                    .map_err(|e| self.explain(e))?;
                hash.update(span);
                seen.push(twofold(span));
            }
            Ok((short(hash.finalize()), seen))
        };
        let (chunks, seen): (Vec<_>, Vec<_>) =
            parallel::try_map(&chunk_starts(len), &both)?.into_iter().unzip();
        Ok((chunks, seen.concat()))
    }

    /// Writes the header (see [`write_header`]), filled up with spaces; a manifest is given the digest of all of it. The
    /// file then ends after `data_len` bytes of data.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. Panics if the entries do not cover the data section once, or the header is longer than its reserve:
    /// both are bugs of the caller that must never reach a disk.
    pub fn seal(&self, entries: &[Entry], preface: Preface, data_len: u64) -> Result<()> {
        let mut expected = 0;
        for Entry { name, bytes, .. } in entries {
            assert_eq!(bytes.start, expected, "{name} does not start where the last tensor ends");
            expected = bytes.end;
        }
        assert_eq!(expected, data_len, "the tensors do not cover the data");
        let whole = |out: &mut dyn Write, digest: &str, padding: u64| {
            let mut out = out;
            write_header(&mut out, preface, digest, entries.iter().map(Entry::borrowed))?;
            io::copy(&mut io::repeat(b' ').take(padding), &mut out).map(|_| ())
        };
        let mut length = Count(8);
        let infallible = "counting and hashing cannot fail";
        whole(&mut length, NO_DIGEST, 0).expect(infallible);
        let (length, reserve) = (length.0, self.reserve);
        assert!(length <= reserve, "header of {length} bytes, reserve {reserve}");
        let mut hash = blake3::Hasher::new();
        whole(&mut hash, NO_DIGEST, reserve - length).expect(infallible);
        let digest = encode_digest(short(hash.finalize()));
        let write = || -> io::Result<()> {
            self.data.flush()?;
            let mut out = BufWriter::with_capacity(1 << 20, At { data: &self.data, offset: 0 });
            out.write_all(&(reserve - 8).to_le_bytes())?;
            whole(&mut out, &digest, reserve - length)?;
            out.flush()?;
            self.data.file().set_len(reserve + data_len)
        };
        write().map_err(|e| self.explain(e))
    }

    /// Where the file is until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything durable. A failed fsync has lost data that the kernel no longer counts as dirty: it is never tried
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.data.file().sync_all().map_err(|e| self.explain(e))
    }

    /// Puts a complete file, which is durable, in its place; one of a folder has it already.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`] for what has appeared at the target meanwhile; [`Error::Io`].
    pub fn publish(self, target: Target) -> Result<()> {
        match self.temporary {
            None => Ok(()),
            Some(temporary) => target.place(&temporary.0).and_then(|()| target.settle()),
        }
    }

    fn explain(&self, source: io::Error) -> Error {
        explain(&self.shown, source)
    }
}

/// A folder in the making, beside its target. Dropped before it is published, it leaves nothing, or, if it can be resumed,
/// what is finished of it.
#[derive(Debug)]
pub struct OutputFolder {
    making: Making,
    /// Folders within it, whose entries must be made durable.
    folders: BTreeSet<PathBuf>,
    /// Last, so that its lock is held until the rest is gone.
    target: Target,
}

/// Where a folder is made.
#[derive(Debug)]
enum Making {
    Once(Temporary),
    Resumable(Partial),
}

impl OutputFolder {
    /// Starts a folder that will take about `expected` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also where the disk is too full.
    pub fn create(target: Target, expected: u64) -> Result<Self> {
        enough_space(target.path(), expected)?;
        let temporary = Temporary::beside(target.path());
        fs::create_dir(&temporary.0).map_err(|e| explain(target.path(), e))?;
        Ok(Self { target, making: Making::Once(temporary), folders: BTreeSet::new() })
    }

    /// Starts the folder of the successor of `checkpoint`, or goes on with what an interrupted run with the same origin has
    /// left.
    ///
    /// # Errors
    ///
    /// As [`OutputFolder::create`]; [`Error::Usage`] if what is left has another origin; [`Error::Interrupted`].
    pub fn resume(
        target: Target,
        expected: u64,
        checkpoint: &Checkpoint,
        origin: Origin,
        cancel: &Cancel,
    ) -> Result<Self> {
        let partial = Partial::open(target.path(), checkpoint, origin, cancel)?;
        let there = |f: &&SourceFile| partial.has(&f.name);
        let len =
            |f: &SourceFile| fs::metadata(partial.output().join(&f.name)).map_or(0, |m| m.len());
        let finished: u64 = checkpoint.files.iter().filter(there).map(len).sum();
        enough_space(target.path(), expected.saturating_sub(finished))?;
        Ok(Self { target, making: Making::Resumable(partial), folders: BTreeSet::new() })
    }

    /// What an interrupted run had to say about a file, if it has finished that.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it said something else.
    pub fn finished<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match &self.making {
            Making::Once(_) => Ok(None),
            Making::Resumable(partial) => partial.notes(name),
        }
    }

    /// Notes that the successor of a file, which is durable, is finished, and what there is to say about it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if the file has changed meanwhile; [`Error::Io`]; [`Error::Interrupted`].
    pub fn record(
        &mut self,
        checkpoint: &Checkpoint,
        file: usize,
        notes: impl FnOnce() -> serde_json::Value,
        cancel: &Cancel,
    ) -> Result<()> {
        match &mut self.making {
            Making::Once(_) => Ok(()),
            Making::Resumable(partial) => partial.record(checkpoint, file, notes(), cancel),
        }
    }

    /// After an error of a job with so many files: how to go on, if something is kept.
    pub fn stopped(&mut self, error: &Error, files: usize) -> Option<String> {
        match &mut self.making {
            Making::Once(_) => None,
            Making::Resumable(partial) => partial.stopped(error, files),
        }
    }

    /// Where it is until it is published.
    pub fn path(&self) -> PathBuf {
        match &self.making {
            Making::Once(temporary) => temporary.0.clone(),
            Making::Resumable(partial) => partial.output(),
        }
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        self.target.path()
    }

    /// Starts a safetensors file in it, whose header will take at most `reserve` bytes.
    ///
    /// # Errors
    ///
    /// As [`OutputFile::create`].
    pub fn file(&self, name: &str, reserve: u64) -> Result<OutputFile> {
        OutputFile::start(&self.path().join(name), &self.target.path().join(name), reserve)
    }

    /// Makes the folders within it that a file in it needs.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn make_folders(&mut self, relative: &Path) -> Result<()> {
        let above: Vec<_> = relative.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|a| !a.as_os_str().is_empty()) {
            if self.folders.insert(folder.into()) {
                match fs::create_dir(self.path().join(folder)) {
                    // Of an interrupted run.
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(explain(&self.target().join(relative), e));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Copies a file into the folder, byte for byte, and makes it durable. `check` is called between pieces.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and those of `check`.
    pub fn carry(
        &mut self,
        root: &Path,
        relative: &Path,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let (from, shown) = (root.join(relative), self.target.path().join(relative));
        let to = self.path().join(relative);
        self.make_folders(relative)?;
        let mut source = File::open(&from).map_err(Error::io(&from))?;
        let mut copy = File::create_new(&to).map_err(|e| explain(&shown, e))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            check()?;
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Io { path: from, source }),
            };
            copy.write_all(&buffer[..read]).map_err(|e| explain(&shown, e))?;
        }
        copy.sync_all().map_err(|e| explain(&shown, e))
    }

    /// Writes a small file into the folder and makes it durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
        let shown = self.target.path().join(name);
        File::create_new(self.path().join(name)).and_then(write).map_err(|e| explain(&shown, e))
    }

    /// Makes the entries of the folder and of those within it durable, the innermost first, and puts it in its place; what
    /// was there is deleted.
    ///
    /// # Errors
    ///
    /// As [`Target::claim`] for what has appeared at the target meanwhile; [`Error::Io`].
    pub fn publish(&mut self) -> Result<()> {
        let path = self.path();
        for folder in self.folders.iter().rev() {
            sync_folder(&path.join(folder), &self.target().join(folder))?;
        }
        sync_folder(&path, self.target())?;
        self.target.place(&path)?;
        let settled = self.target.settle();
        if let Making::Resumable(partial) = &mut self.making {
            partial.discard();
        }
        settled
    }
}

/// Writes to a file from a position on, wherever others write meanwhile.
struct At<'a> {
    data: &'a Writes,
    offset: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.data.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(parent(path)).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn enough_space(path: &Path, expected: u64) -> Result<()> {
    match free_bytes(path) {
        Some(free) if free < expected => {
            let why = format!("the disk is too full: {expected} bytes are needed, {free} are free");
            Err(Error::Io {
                path: path.into(),
                source: io::Error::new(io::ErrorKind::StorageFull, why),
            })
        }
        _ => Ok(()),
    }
}

/// Ties an error of writing to its path, and says what is free on a full disk.
pub(in crate::format) fn explain(path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::StorageFull {
        let free = free_bytes(path).map_or("unknown".into(), |f| f.to_string());
        let why = format!("the disk is full ({free} bytes free)");
        let source = io::Error::new(io::ErrorKind::StorageFull, why);
        return Error::Io { path: path.into(), source };
    }
    Error::Io { path: path.into(), source }
}
