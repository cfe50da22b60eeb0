use super::{CHUNK, Digest, manifest::encode_digest, short};
use crate::{DType, Error, Result};
use rayon::prelude::*;
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A safetensors file in the making: a temporary file beside the target that takes its place when it is complete. Dropped
/// before that, it leaves nothing.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    reserve: u64,
    finished: bool,
}

/// A tensor of a file to be written: name, type, shape, and its bytes in the data section.
pub type Entry = (String, DType, Vec<u64>, std::ops::Range<u64>);

impl OutputFile {
    /// Starts a file whose header will take at most `reserve` bytes, its 8 bytes of length included.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the target exists and `force` is not given, or is no regular file; [`Error::Io`].
    pub fn create(target: &Path, reserve: u64, expected: u64, force: bool) -> Result<Self> {
        refuse_existing(target, force, false)?;
        let temporary = temporary_beside(target);
        enough_space(target, expected)?;
        let open = OpenOptions::new().read(true).write(true).create_new(true).open(&temporary);
        let file = open.map_err(Error::io(&temporary))?;
        Ok(Self {
            target: target.into(),
            temporary,
            file,
            reserve: reserve.next_multiple_of(8),
            finished: false,
        })
    }

    /// Writes bytes at a position of the data section; from any thread.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], which names the target and, on a full disk, what is free.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&self.file, bytes, self.reserve + offset).map_err(|e| self.explain(e))
    }

    /// Digests of the first `len` bytes of the data section, as they can be read back.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn digest_chunks(&self, len: u64) -> Result<Vec<Digest>> {
        let digest = |buffer: &mut Vec<u8>, chunk: u64| {
            let start = chunk * CHUNK;
            buffer.resize((len - start).min(CHUNK) as usize, 0);
            super::checkpoint::read_exact_at(&self.file, buffer, self.reserve + start)
                .map_err(|e| self.explain(e))?;
            Ok(short(blake3::hash(buffer)))
        };
        (0..len.div_ceil(CHUNK)).into_par_iter().map_init(Vec::new, digest).collect()
    }

    /// Writes the header (see [`header_text`]). With a manifest, its placeholder becomes the header's digest. Returns the
    /// length of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. Panics if the entries do not cover the data section once, or the header is longer than its reserve:
    /// both are bugs of the caller that must never reach a disk.
    pub fn seal(
        &self,
        entries: &[Entry],
        metadata: &[(String, String)],
        data_len: u64,
    ) -> Result<u64> {
        let mut expected = 0;
        for (name, _, _, bytes) in entries {
            assert_eq!(bytes.start, expected, "{name} does not start where the last tensor ends");
            expected = bytes.end;
        }
        assert_eq!(expected, data_len, "the tensors do not cover the data");
        let mut text = header_text(entries, metadata);
        assert!(
            text.len() as u64 + 8 <= self.reserve,
            "header of {} bytes, reserve {}",
            text.len(),
            self.reserve
        );
        text.extend(std::iter::repeat_n(' ', self.reserve as usize - 8 - text.len()));
        if let Some(at) = digest_position(text.as_bytes()) {
            text.replace_range(at..at + 22, &encode_digest(super::digest(text.as_bytes())));
        }
        let mut head = (text.len() as u64).to_le_bytes().to_vec();
        head.extend(text.as_bytes());
        write_all_at(&self.file, &head, 0).map_err(|e| self.explain(e))?;
        self.file.set_len(self.reserve + data_len).map_err(|e| self.explain(e))?;
        Ok(self.reserve + data_len)
    }

    /// Where the file is until it is published.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Makes everything durable. A failed fsync has lost data that the kernel no longer counts as dirty: it is never tried
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.explain(e))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn publish(mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(Error::io(&self.target))?;
        self.finished = true;
        sync_folder_of(&self.target)
    }

    fn explain(&self, source: std::io::Error) -> Error {
        explain(&self.target, source)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.finished {
            _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A folder in the making, beside its target, which it replaces in one step when it is complete.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    temporary: PathBuf,
    finished: bool,
}

impl OutputFolder {
    /// Starts a folder.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the target exists and `force` is not given, or is no folder; [`Error::Io`].
    pub fn create(target: &Path, expected: u64, force: bool) -> Result<Self> {
        refuse_existing(target, force, true)?;
        let temporary = temporary_beside(target);
        enough_space(target, expected)?;
        fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
        Ok(Self { target: target.into(), temporary, finished: false })
    }

    /// Where to write its files.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Copies a file into the folder, byte for byte, and makes it durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn carry(&self, root: &Path, relative: &Path) -> Result<()> {
        let (from, to) = (root.join(relative), self.temporary.join(relative));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        let mut source = File::open(&from).map_err(Error::io(&from))?;
        let mut copy = File::create(&to).map_err(Error::io(&to))?;
        std::io::copy(&mut source, &mut copy).map_err(|e| explain(&to, e))?;
        copy.sync_all().map_err(|e| explain(&to, e))
    }

    /// Writes a small file into the folder and makes it durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.temporary.join(name);
        let file = File::create(&path).map_err(Error::io(&path))?;
        write_all_at(&file, bytes, 0).and_then(|()| file.sync_all()).map_err(|e| explain(&path, e))
    }

    /// Puts the folder in its place; what was there is exchanged with it in one step, then deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn publish(mut self) -> Result<()> {
        sync_folder(&self.temporary)?;
        if self.target.symlink_metadata().is_ok() {
            exchange(&self.temporary, &self.target).map_err(Error::io(&self.target))?;
        } else {
            fs::rename(&self.temporary, &self.target).map_err(Error::io(&self.target))?;
            self.finished = true;
        }
        sync_folder_of(&self.target)
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if !self.finished {
            _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// The text of a header: metadata first, its keys sorted but `tersor` first of all, then the tensors by position.
pub fn header_text(entries: &[Entry], metadata: &[(String, String)]) -> String {
    let quote = |s: &str| serde_json::Value::from(s).to_string();
    let mut metadata: Vec<_> = metadata.iter().collect();
    metadata.sort_by_key(|(k, _)| (k != "tersor", k));
    let mut parts: Vec<String> = Vec::with_capacity(entries.len() + 1);
    if !metadata.is_empty() {
        let pairs: Vec<_> =
            metadata.iter().map(|(k, v)| format!("{}:{}", quote(k), quote(v))).collect();
        parts.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    for (name, dtype, shape, bytes) in entries {
        let shape: Vec<_> = shape.iter().map(u64::to_string).collect();
        parts.push(format!(
            "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
            quote(name),
            dtype.name(),
            shape.join(","),
            bytes.start,
            bytes.end
        ));
    }
    format!("{{{}}}", parts.join(","))
}

/// Where the 22 characters of the header's own digest stand. The manifest is the first metadata value, and nothing that a
/// file name could influence stands before it.
pub(super) fn digest_position(header: &[u8]) -> Option<usize> {
    let (start, mark) = (br#"{"__metadata__":{"tersor":"{\"chunks\":"#, br#"\",\"header\":\""#);
    let after = header.strip_prefix(start)?;
    let at = start.len() + after.windows(mark.len()).position(|w| w == mark)? + mark.len();
    (header.len() >= at + 22).then_some(at)
}

fn refuse_existing(target: &Path, force: bool, folder: bool) -> Result<()> {
    let Ok(meta) = target.symlink_metadata() else { return Ok(()) };
    let shown = target.display();
    if !force {
        return Err(Error::Usage(format!("{shown} exists already; use --force to replace it")));
    }
    let replaceable = if folder { meta.is_dir() } else { meta.is_file() };
    if !replaceable {
        let kind = if folder { "a folder" } else { "a regular file" };
        return Err(Error::Usage(format!("{shown} exists and is not {kind}; remove it first")));
    }
    Ok(())
}

fn temporary_beside(target: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    target.with_file_name(format!(".{name}.tersor-{process}-{count}.tmp"))
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(folder).ok()?;
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
                source: std::io::Error::new(std::io::ErrorKind::StorageFull, why),
            })
        }
        _ => Ok(()),
    }
}

fn explain(path: &Path, source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::StorageFull {
        let free = free_bytes(path).map_or("unknown".into(), |f| f.to_string());
        let why = format!("the disk is full ({free} bytes free)");
        let source = std::io::Error::new(std::io::ErrorKind::StorageFull, why);
        return Error::Io { path: path.into(), source };
    }
    Error::Io { path: path.into(), source }
}

fn sync_folder_of(path: &Path) -> Result<()> {
    sync_folder(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).or_else(|_| exchange_by_steps(a, b))
}

#[cfg(not(target_os = "linux"))]
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    exchange_by_steps(a, b)
}

/// Where the file system cannot exchange two folders in one step.
fn exchange_by_steps(a: &Path, b: &Path) -> std::io::Result<()> {
    let aside = temporary_beside(b);
    fs::rename(b, &aside)?;
    fs::rename(a, b).inspect_err(|_| _ = fs::rename(&aside, b))?;
    fs::rename(&aside, a)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}
