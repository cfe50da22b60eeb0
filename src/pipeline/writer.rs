//! The files that a job makes, one tensor after the other, and how they come to their place.

use crate::{
    DType, Error, Result, TensorInfo,
    digest::{Digest, digest},
    engine::Engine,
    form::{Component, TensorManifest},
    format::{
        Archive, ArchivedTensor, CHUNK, Checkpoint, Entry, Manifest, Origin, OutputFile,
        OutputFolder, Preface, Target, chunk_starts, index_text,
    },
    parallel,
    pipeline::archive::Components,
    plan::Treat,
    quote::quoted,
    recipe::NonFinite,
    report::{Known, Made, RetrievalReport},
    restore::Restorer,
    stage::{Source, Unit, units_per_strip, write_transposed},
    treat::{ModelLimit, encode},
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What happened beside the plan.
#[derive(Default, Serialize, Deserialize)]
pub struct Notes {
    /// What was said to the user.
    pub warnings: Vec<String>,
    /// Those tensors of which there is anything to say, by name.
    pub tensors: BTreeMap<String, Made>,
    /// Tiles that were redone on the CPU, and why, in files that an interrupted run had finished: what this run does itself, its
    /// engine counts.
    pub repaired: u64,
    /// See `repaired`.
    pub reasons: Vec<String>,
    /// Files that an interrupted run had finished.
    #[serde(skip)]
    pub resumed: u64,
    /// The twofold digests of the spans of the files that this run has made, by their names.
    #[serde(skip)]
    pub spans: BTreeMap<String, Vec<Digest>>,
}

impl Notes {
    /// What lies beside the weights and is not as one might expect.
    pub fn remark(&mut self, engine: &Engine, checkpoint: &Checkpoint) {
        checkpoint.remarks().into_iter().for_each(|remark| self.warn(engine, remark));
    }

    /// Says something, and notes it.
    pub fn warn(&mut self, engine: &Engine, message: String) {
        engine.progress.warn(&message);
        self.warnings.push(message);
    }

    /// Adds those of a file.
    pub fn absorb(&mut self, file: Self) {
        self.warnings.extend(file.warnings);
        self.tensors.extend(file.tensors);
        self.repaired += file.repaired;
        self.reasons.extend(file.reasons);
        self.resumed += file.resumed;
        self.spans.extend(file.spans);
    }

    /// What is noted of a tensor.
    fn of(&mut self, name: &str) -> &mut Made {
        self.tensors.entry(name.into()).or_default()
    }
}

/// An output that is complete but not yet in its place.
pub enum Sealed {
    File(OutputFile, Target),
    /// And of how many files.
    Folder(OutputFolder, usize),
}

impl Sealed {
    /// Makes it durable while `check` reads it again, and puts it in its place if that succeeds.
    pub fn finish<T: Send>(
        self,
        engine: &Engine,
        check: impl FnOnce(&Path) -> Result<T> + Send,
    ) -> Result<T> {
        match self {
            // Dropped in this order where something fails: the file before the folders that were made for it.
            Self::File(file, target) => {
                let (target, file) = (target, file);
                // The disk works while the cores decode.
                let (synced, checked) = std::thread::scope(|scope| {
                    let sync = scope.spawn(|| file.sync());
                    let checked = check(file.path());
                    let synced = sync.join();
                    (synced.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), checked)
                });
                let checked = checked.map_err(|e| renamed(e, file.path(), target.path()))?;
                synced?;
                file.publish(target)?;
                Ok(checked)
            }
            Self::Folder(mut folder, files) => {
                let path = folder.path();
                let checked = check(&path).map_err(|e| renamed(e, &path, folder.target()));
                let published = checked.and_then(|checked| folder.publish().map(|()| checked));
                say_how_to_go_on(&mut folder, files, published, engine)
            }
        }
    }
}

/// After an error, says what is kept of a folder.
fn say_how_to_go_on<T>(
    folder: &mut OutputFolder,
    files: usize,
    done: Result<T>,
    engine: &Engine,
) -> Result<T> {
    done.inspect_err(|e| {
        folder.stopped(e, files).iter().for_each(|remark| engine.progress.warn(remark));
    })
}

/// Names the target where an error names the temporary file, which will be gone.
fn renamed(error: Error, temporary: &Path, target: &Path) -> Error {
    let rename = |path: PathBuf| match path.strip_prefix(temporary) {
        Ok(rest) if rest.as_os_str().is_empty() => target.to_path_buf(),
        Ok(rest) => target.join(rest),
        Err(_) => path,
    };
    match error {
        Error::Format { path, why } => Error::Format { path: rename(path), why },
        Error::Digest { path, what } => Error::Digest { path: rename(path), what },
        Error::Differs { path, what, from } => Error::Differs { path: rename(path), what, from },
        Error::Unlike { path, from, why } => Error::Unlike { path: rename(path), from, why },
        Error::Io { path, source } => Error::Io { path: rename(path), source },
        other => other,
    }
}

/// Starts an output file, given the bytes to reserve for its header.
pub type Start<'a> = &'a dyn Fn(u64) -> Result<OutputFile>;

/// Writes every file of a checkpoint's successor, which takes about `expected` bytes, a folder's index and what is carried
/// along. `places` are those of the tensors in the index, in the order in which they are written. `fill` is given the number of a
/// file and what starts it. With an origin, a folder can be resumed.
pub fn write<'a>(
    engine: &Engine,
    checkpoint: &Checkpoint,
    target: Target,
    expected: u64,
    origin: Option<Origin>,
    places: &[u32],
    mut fill: impl FnMut(usize, Start) -> Result<FileWriter<'a>>,
) -> Result<(Sealed, Notes)> {
    if !checkpoint.is_folder {
        let filled = fill(0, &|reserve| OutputFile::create(&target, reserve, expected))?;
        return Ok((Sealed::File(filled.out, target), filled.notes));
    }
    let (expected, cancel) = (expected + checkpoint.carried_bytes()?, engine.cancel);
    let mut folder = match origin {
        None => OutputFolder::create(target, expected)?,
        Some(origin) => OutputFolder::resume(target, expected, checkpoint, origin, cancel)?,
    };
    let written = write_folder(engine, checkpoint, &mut folder, places, &mut fill);
    let files = checkpoint.files.len();
    let notes = say_how_to_go_on(&mut folder, files, written, engine)?;
    Ok((Sealed::Folder(folder, files), notes))
}

/// A stored tensor, for an index.
struct Stored<'a> {
    file: usize,
    /// Where the tensor that it is of is listed.
    place: u32,
    name: Cow<'a, str>,
    bytes: u64,
}

fn write_folder<'a>(
    engine: &Engine,
    checkpoint: &Checkpoint,
    folder: &mut OutputFolder,
    places: &[u32],
    fill: &mut impl FnMut(usize, Start) -> Result<FileWriter<'a>>,
) -> Result<Notes> {
    let mut notes = Notes::default();
    let mut stored: Vec<Stored> = Vec::new();
    // Of the tensors that are written, the number of the next.
    let mut next = 0;
    for (file, source) in checkpoint.files.iter().enumerate() {
        let of_file = match folder.finished::<Notes>(&source.name)? {
            Some(of_file) => {
                engine.advance(source.len - source.data_start);
                of_file.warnings.iter().for_each(|w| engine.progress.warn(w));
                let made = Archive::open(&folder.path().join(&source.name))?;
                for t in &made.tensors {
                    let place = places[next];
                    next += 1;
                    for (_, info) in made.stored_as(t) {
                        let (name, bytes) = (info.name.clone().into(), info.bytes);
                        stored.push(Stored { file, place, name, bytes });
                    }
                }
                Notes { resumed: 1, ..of_file }
            }
            None => {
                let before = engine.counts().repaired;
                folder.make_folders(Path::new(&source.name))?;
                let mut filled = fill(file, &|reserve| folder.file(&source.name, reserve))?;
                filled.out.sync()?;
                let counts = engine.counts();
                filled.notes.repaired = counts.repaired - before;
                if filled.notes.repaired > 0 {
                    filled.notes.reasons = counts.reasons;
                }
                let said = || serde_json::json!(filled.notes);
                folder.record(checkpoint, file, said, engine.cancel)?;
                (filled.notes.repaired, filled.notes.reasons) = (0, Vec::new());
                for (Entry { name, bytes, .. }, tensor) in filled.entries.into_iter().zip(filled.of)
                {
                    let (place, bytes) = (places[next + tensor], bytes.end - bytes.start);
                    stored.push(Stored { file, place, name, bytes });
                }
                next += filled.tensors;
                filled.notes
            }
        };
        notes.absorb(of_file);
    }
    for module in &checkpoint.modules {
        let Some(index) = &module.index else { continue };
        let mut own: Vec<_> = stored.iter().filter(|s| module.files.contains(&s.file)).collect();
        own.sort_by_key(|s| s.place);
        let shard = |s: &Stored| module.own(&checkpoint.files[s.file].name);
        let shards: Vec<_> = own.iter().map(|s| (&*s.name, shard(s))).collect();
        let total = own.iter().map(|s| s.bytes).sum();
        folder.write(&index.name, &index_text(total, &shards))?;
    }
    for relative in checkpoint.carried() {
        folder.carry(&checkpoint.root, relative, || engine.cancel.check())?;
    }
    Ok(notes)
}

/// A file in the making, its tensors one after the other.
pub struct FileWriter<'a> {
    /// The file.
    pub out: OutputFile,
    entries: Vec<Entry<'a>>,
    /// Of every entry the number of its tensor, among those of the file.
    of: Vec<usize>,
    /// Tensors that are written.
    tensors: usize,
    /// Bytes of the data section that are written.
    pub at: u64,
    /// What there is to say of it.
    pub notes: Notes,
}

impl<'a> FileWriter<'a> {
    /// One without a tensor.
    pub fn new(out: OutputFile) -> Self {
        Self {
            out,
            entries: Vec::new(),
            of: Vec::new(),
            tensors: 0,
            at: 0,
            notes: Notes::default(),
        }
    }

    /// Copies tensors bit for bit that follow one another in their file, each under a name; the source is that of the first.
    pub fn copy(
        &mut self,
        engine: &Engine,
        source: &Source,
        tensors: impl ExactSizeIterator<Item = (&'a str, &'a TensorInfo)> + Clone,
    ) -> Result<()> {
        let (start, bytes) = (self.at, tensors.clone().map(|(_, t)| t.bytes).sum::<u64>());
        parallel::try_each(&chunk_starts(bytes), &|&at| {
            engine.cancel.check()?;
            let mut piece = vec![0; (bytes - at).min(CHUNK) as usize];
            source.read_at(at, &mut piece)?;
            self.out.write_at(start + at, &piece)?;
            engine.advance(piece.len() as u64);
            Ok(())
        })?;
        self.entries.reserve(tensors.len());
        for (name, t) in tensors {
            self.push(name.into(), t.dtype, t.shape.as_slice().into(), t.bytes);
            self.tensors += 1;
        }
        Ok(())
    }

    /// Marks the place of a tensor that is equal to one before it, whose bytes stand for it.
    pub fn tie(
        &mut self,
        engine: &Engine,
        info: &TensorInfo,
        to: &TensorInfo,
        manifest: &mut Manifest,
    ) {
        let Component { name, dtype, .. } = Component::tied();
        self.push(format!("{}.{name}", info.own_name()).into(), dtype, vec![0].into(), 0);
        self.tensors += 1;
        if let Some(made) = self.notes.tensors.get(&to.name) {
            // Its structure is that of the other, and counted there.
            let made = Made { retrieval: None, ..made.clone() };
            self.notes.tensors.insert(info.name.clone(), made);
        }
        manifest.tied.insert(info.own_name().into(), to.own_name().into());
        engine.advance(info.bytes);
    }

    /// Notes a tensor whose bytes have been written at the end.
    fn push(&mut self, name: Cow<'a, str>, dtype: DType, shape: Cow<'a, [u64]>, bytes: u64) {
        let start = self.at;
        self.at += bytes;
        self.of.push(self.tensors);
        self.entries.push(Entry { name, dtype, shape, bytes: start..self.at });
    }

    /// Treats a tensor, or keeps it if it turns out to hold values that cannot be.
    pub fn treat(
        &mut self,
        engine: &Engine,
        checkpoint: &Checkpoint,
        info: &'a TensorInfo,
        treat: &Treat,
        limit: Option<ModelLimit>,
        manifest: &mut Manifest,
    ) -> Result<()> {
        let source = Source::open(checkpoint, info, treat.manifest.view);
        let (to, begun) = (Components { out: &self.out, start: self.at }, engine.mark());
        match engine.again(&info.name, || encode(engine, &info.name, &source, treat, limit, &to)) {
            Ok(stored) if treat.manifest.coded && stored.bytes() >= info.bytes => {
                let why = format!(
                    "coded, it would take {} bytes, as it is {}",
                    stored.bytes(),
                    info.bytes
                );
                self.notes.of(&info.name).reason = Some(why.into());
                engine.rewind(begun);
                self.keep(engine, checkpoint, info)
            }
            Ok(stored) => {
                let stored_bytes = stored.bytes();
                for (component, dtype, shape, bytes) in stored.components {
                    let name = format!("{}.{component}", info.own_name());
                    self.push(name.into(), dtype, shape.into(), bytes.end - bytes.start);
                }
                self.notes.of(&info.name).known = Some(stored.known.into());
                if let Some(remark) = &stored.remark {
                    self.notes.warn(engine, format!("tensor {} {remark}", quoted(&info.name)));
                }
                if let Some(r) = stored.retrieved {
                    let report = RetrievalReport::new(r, stored_bytes);
                    self.notes.of(&info.name).retrieval = Some(report);
                }
                if stored.flushed > 0 {
                    self.notes.of(&info.name).flushed = stored.flushed;
                }
                if stored.manifest.method != treat.manifest.method {
                    let method = treat.describe(&stored.manifest);
                    self.notes.of(&info.name).method = Some(method);
                }
                self.tensors += 1;
                if !stored.manifest.lossless() {
                    manifest.sources.insert(info.own_name().into(), stored.source);
                }
                manifest.tensors.insert(info.own_name().into(), stored.manifest);
                Ok(())
            }
            Err(Error::NonFinite { count, .. }) if treat.treatment.nonfinite == NonFinite::Keep => {
                let why = format!("{count} of its values are NaN or infinite");
                self.notes.warn(
                    engine,
                    format!("tensor {} is kept bit for bit: {why}", quoted(&info.name)),
                );
                self.notes.of(&info.name).reason = Some(why.into());
                engine.rewind(begun);
                self.keep(engine, checkpoint, info)
            }
            Err(e) => Err(e),
        }
    }

    /// Copies a tensor that was to be treated.
    fn keep(
        &mut self,
        engine: &Engine,
        checkpoint: &Checkpoint,
        info: &'a TensorInfo,
    ) -> Result<()> {
        let source = Source::File(checkpoint, info);
        self.copy(engine, &source, [(info.own_name(), info)].into_iter())
    }

    /// Restores a treated tensor.
    pub fn restore(
        &mut self,
        engine: &Engine,
        archive: &Archive,
        t: &'a ArchivedTensor,
        manifest: &'a TensorManifest,
    ) -> Result<()> {
        let restorer = Restorer::new(archive, t, manifest, engine.unit_bytes)?;
        let (blocks, size) = (&restorer.blocks, manifest.dtype.bytes(1) as u64);
        let matrices = manifest.view.matrices(&manifest.shape);
        // Units that are rows of storage one by one; otherwise its columns, a strip at a time.
        let strips: Vec<&[Unit]> = match manifest.view.axis {
            0 => restorer.units.chunks(1).collect(),
            _ => restorer.units.chunks(units_per_strip(blocks, &restorer.units)).collect(),
        };
        let of_strip = |units: &[Unit]| {
            let (mut strip, mut digests, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            for unit in units {
                engine.cancel.check()?;
                let restored = restorer.restore(engine, unit)?;
                digests.extend(blocks.digests(unit, &restored).concat());
                seen.extend(blocks.twofold(unit, &restored));
                let bytes = bytemuck::cast_slice::<u32, u8>(&restored);
                strip.extend_from_slice(&bytes[..unit.elements() * size as usize]);
                engine.advance(unit.elements() as u64 * size);
            }
            match manifest.view.axis {
                0 => self.out.write_at(self.at + units[0].start(blocks) * size, &strip)?,
                _ => write_transposed(blocks, matrices, units, &strip, |offset, part| {
                    self.out.write_at(self.at + offset, part)
                })?,
            }
            Ok((digests, seen))
        };
        let restored = engine.again(&t.name, || {
            let restored = parallel::try_map(&strips, &|units| of_strip(units))?;
            let (digests, seen): (Vec<_>, Vec<_>) = restored.into_iter().unzip();
            if digest(&digests.concat()) == manifest.digest {
                return Ok(seen.concat());
            }
            let path = archive.stored.files[t.file].path.clone();
            Err(Error::Digest { path, what: format!("restored tensor {}", quoted(&t.name)) })
        })?;
        let known = Known { blocks: restored, measured: None };
        self.notes.of(&t.name).known = Some(known.into());
        let bytes = blocks.elements() * size;
        self.push(t.own_name().into(), manifest.dtype, manifest.shape.as_slice().into(), bytes);
        self.tensors += 1;
        Ok(())
    }

    /// Writes the header before the tensors.
    pub fn seal(self, preface: Preface) -> Result<Self> {
        self.out.seal(&self.entries, preface, self.at)?;
        Ok(self)
    }
}
