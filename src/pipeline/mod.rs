//! The jobs, as sentences: open, plan, survey, stage, kernel, readback, encode, write, verify, report.

use crate::{
    Backend, DType, Error, Result, TensorInfo,
    digest::digest,
    engine::Engine,
    format::{
        Archive, ArchivedTensor, CHUNK, Checkpoint, Entry, Manifest, Origin, OutputFile,
        OutputFolder, Preface, Target, TensorManifest, header_length, index_text, partial, spare,
    },
    plan::{Action, Plan, Treat, describe},
    progress::{Cancel, Progress},
    quote::{quoted, shown},
    recipe::{NonFinite, Recipe},
    report::{ComponentReport, Report, RetrievalReport, TensorReport},
    restore::{self, Restorer},
    stage::{Source, Unit, units_per_strip, write_transposed},
    treat::{ModelLimit, encode, model_limits},
    verify,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// How a job runs.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Where kernels run.
    pub backend: &'a Backend,
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Memory the job may take, in bytes.
    pub memory: u64,
    /// Replace an existing output.
    pub force: bool,
    /// Have `compress` keep the finished files of a folder when it is interrupted, and go on with what it has kept.
    pub resume: bool,
    /// What it says meanwhile.
    pub progress: &'a dyn Progress,
    /// What stops it.
    pub cancel: &'a Cancel,
    /// Share of the tiles of a GPU, from 0 to 1, that are done on the CPU as well and compared, beside the first of each kind:
    /// [`PARANOID`] by default.
    pub paranoid: f64,
}

/// The usual share of tiles that are done twice: 1 in 256.
pub const PARANOID: f64 = 1.0 / 256.0;

/// Source bytes that a GPU is given at a time, if the memory allows.
const GPU_UNIT: u64 = 16 << 20;

impl<'a> Options<'a> {
    /// The usual: a thread for every core, 4 GiB of memory, no output replaced, none resumed, 1 tile in 256 done twice.
    pub const fn new(backend: &'a Backend, progress: &'a dyn Progress, cancel: &'a Cancel) -> Self {
        Self {
            backend,
            threads: 0,
            memory: 4 << 30,
            force: false,
            resume: false,
            progress,
            cancel,
            paranoid: PARANOID,
        }
    }
}

impl Options<'_> {
    pub(crate) fn engine(&self) -> Engine<'_> {
        let unit_bytes = self.unit_bytes();
        Engine::new(self.backend, self.progress, self.cancel, unit_bytes, self.paranoid)
    }

    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    /// Threads of the pool: with a GPU one more, since one or another always waits for it. So the next unit is read and
    /// uploaded, and the last one written, while one is computed, even with a single thread.
    fn workers(&self) -> usize {
        self.threads() + usize::from(matches!(self.backend, Backend::Gpu(_)))
    }

    /// Source bytes that are loaded and treated together by one thread.
    pub(crate) fn unit_bytes(&self) -> u64 {
        match self.backend {
            Backend::Cpu => 0,
            Backend::Gpu(_) => GPU_UNIT.min(self.memory / (24 * self.workers() as u64)),
        }
    }

    /// Runs a job on a pool of its own threads, so that `threads` means what it says.
    pub(crate) fn run<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.workers()).build();
        pool.map_err(|e| Error::Usage(format!("{} threads: {e}", self.workers())))?.install(job)
    }
}

/// Fits a recipe to a checkpoint and to the memory.
///
/// # Errors
///
/// As [`Plan::new`]; [`Error::Usage`] if the memory does not suffice.
pub fn plan(checkpoint: &Checkpoint, recipe: &Recipe, options: &Options) -> Result<Plan> {
    let unit = options.unit_bytes().max(1 << 20);
    let plan = Plan::new(checkpoint, recipe, unit, options.workers())?;
    if plan.memory_bytes > options.memory {
        return Err(Error::Usage(format!(
            "the job needs {} MiB of memory with {} threads, --memory allows {} MiB",
            plan.memory_bytes.div_ceil(1 << 20),
            options.threads(),
            options.memory >> 20
        )));
    }
    Ok(plan)
}

/// Compresses a checkpoint into an archive, reopens and measures it on the CPU, and only then puts it in its place.
///
/// With [`Options::resume`], a folder is made in `OUTPUT.partial`. An error that may pass leaves that with the files that are
/// finished; the next such call has them made from the same data by the same recipe and version, and checks their digests,
/// or refuses to go on. A single file is always made anew.
///
/// # Errors
///
/// Everything that can go wrong, with nothing left at the output.
pub fn compress(input: &Path, output: &Path, recipe: &Recipe, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let mut checkpoint = Checkpoint::open(input)?;
    let left = partial(output);
    checkpoint.without(output)?;
    checkpoint.without(&left)?;
    let importance = recipe.rules.iter().filter_map(|r| r.treatment.importance.as_ref());
    spare(output, importance)?;
    let target = Target::claim(output, &checkpoint, options.force)?;
    let plan = plan(&checkpoint, recipe, options)?;
    let engine = options.engine();
    let mut notes = Notes::default();
    notes.remark(&engine, &checkpoint);
    plan.remarks.iter().for_each(|remark| notes.warn(&engine, remark.clone()));
    if options.resume && !checkpoint.is_folder {
        notes.warn(&engine, "a single file is not resumed, it is always made anew".into());
    } else if !options.resume && left.symlink_metadata().is_ok() {
        let left = shown(&left);
        let hint = format!("{left} is there, of an interrupted run: --resume goes on with it");
        notes.warn(&engine, format!("{hint}; delete it if you do not want that"));
    }
    let described = options.run(|| {
        let limits = engine.again("", || model_limits(&engine, &checkpoint, &plan))?;
        let origin = match options.resume {
            true => Some(Origin {
                recipe: recipe.digest()?,
                thresholds: digest(format!("{limits:?}").as_bytes()),
            }),
            false => None,
        };
        options.progress.begin("compressing", checkpoint.tensors.iter().map(|t| t.bytes).sum());
        let fill = |file: usize, start: Start| {
            let mut writer = FileWriter::new(start(plan.header_bytes[file])?);
            let mut manifest = Manifest::default();
            let first = checkpoint.tensors.partition_point(|t| t.file < file);
            let end = checkpoint.tensors.partition_point(|t| t.file <= file);
            let mut at = first;
            // Tensors that are kept and follow one another are copied as one.
            for run in plan.steps[first..end].chunk_by(|a, b| a.keeps() && b.keeps()) {
                let tensors = &checkpoint.tensors[at..at + run.len()];
                let t = &tensors[0];
                match &run[0].action {
                    Action::Keep(_) => {
                        writer.copy(&engine, &Source::File(&checkpoint, t), tensors)?;
                    }
                    Action::Treat(treat) => {
                        writer.treat(&engine, &checkpoint, t, treat, limits[at], &mut manifest)?;
                    }
                }
                at += run.len();
            }
            manifest.chunks = writer.out.digest_chunks(writer.at)?;
            let metadata = &checkpoint.files[file].metadata;
            writer.seal(Preface { manifest: Some(&manifest), metadata })
        };
        let (sealed, of_files) =
            write(&engine, &checkpoint, target, plan.output_bytes, origin, fill)?;
        notes.absorb(of_files);
        sealed.finish(&engine, |path| {
            let archive = Archive::open(path)?;
            options.progress.begin("verifying", checkpoint.tensors.iter().map(|t| t.bytes).sum());
            // On the CPU, whatever has compressed: what a device has done is checked by other code.
            let checker = Engine::new(&Backend::Cpu, options.progress, options.cancel, 0, 0.0);
            let reports = verify::check(&checker, &archive, Some(&checkpoint))?;
            checkpoint.unchanged()?;
            Described::new(&archive, reports)
        })
    })?;
    let mut report = finish(&engine, checkpoint.total_bytes(), described.bytes, started, described);
    report.warnings = notes.warnings;
    report.resumed_files = notes.resumed;
    report.repaired_tiles += notes.repaired;
    report.cpu_reasons.extend(notes.reasons);
    // The archive stores the tensors in the order of the checkpoint.
    for (t, step) in report.tensors.iter_mut().zip(&plan.steps) {
        t.flushed = notes.flushed.get(&t.name).copied().unwrap_or(0);
        t.retrieval = notes.retrieved.get(&t.name).copied();
        match &step.action {
            Action::Keep(why) => t.reason = Some(Arc::clone(why)),
            Action::Treat(treat) if t.method != "kept" => {
                t.method = notes.chosen.get(&t.name).cloned().unwrap_or(treat.method()).into();
            }
            Action::Treat(_) => t.reason = notes.kept.get(&t.name).map(|why| why.as_str().into()),
        }
    }
    Ok(report)
}

/// Restores a checkpoint from an archive, on the backend of the options.
///
/// # Errors
///
/// Everything that can go wrong, with nothing left at the output.
pub fn decompress(input: &Path, output: &Path, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let mut archive = Archive::open(input)?;
    archive.stored.without(output)?;
    let target = Target::claim(output, &archive.stored, options.force)?;
    let engine = options.engine();
    let mut notes = Notes::default();
    notes.remark(&engine, &archive.stored);
    let total: u64 = archive.tensors.iter().map(|t| archive.original_bytes(t)).sum();
    // Before the output takes its place: nothing may fail after that.
    let tensors = archive.tensors.iter().map(|t| verify::blank(&archive, t)).collect();
    let described = Described::new(&archive, tensors)?;
    let written = options.run(|| {
        options.progress.begin("restoring", total);
        let fill = |file: usize, start: Start| {
            let tensors = || archive.tensors.iter().filter(|t| t.file == file);
            let mut at = 0;
            let entries = tensors().map(|t| {
                let (dtype, shape) = archive.original(t);
                let begin = at;
                at += archive.original_bytes(t);
                Entry { name: t.name.as_str().into(), dtype, shape: shape.into(), bytes: begin..at }
            });
            let metadata = &archive.stored.files[file].metadata;
            let mut writer = FileWriter::new(start(8 + header_length(None, metadata, entries))?);
            for t in tensors() {
                match &t.treated {
                    None => {
                        let kept = std::slice::from_ref(archive.component(t, ""));
                        writer.copy(&engine, &restore::kept(&archive, t), kept)?;
                    }
                    Some(manifest) => writer.restore(&engine, &archive, t, manifest)?,
                }
            }
            writer.seal(Preface { manifest: None, metadata })
        };
        let (sealed, _) = write(&engine, &archive.stored, target, total, None, fill)?;
        sealed.finish(&engine, |path| {
            let restored = Checkpoint::open(path)?;
            options.progress.begin("verifying", total);
            verify::restored(&engine, &archive, &restored)?;
            Ok(restored.total_bytes())
        })
    })?;
    let mut report = finish(&engine, described.bytes, written, started, described);
    report.warnings = notes.warnings;
    Ok(report)
}

/// Checks an archive: digests, structure, a full decode on the backend of the options; and with `against`, the error of every
/// tensor, measured on the CPU.
///
/// # Errors
///
/// [`Error::Digest`], [`Error::Verify`] if it does not hold; [`Error::Format`], [`Error::Io`].
pub fn verify(input: &Path, against: Option<&Path>, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let archive = Archive::open(input)?;
    let source = against.map(Checkpoint::open).transpose()?;
    let engine = options.engine();
    let total: u64 = archive.tensors.iter().map(|t| archive.original_bytes(t)).sum();
    let reports = options.run(|| {
        options.progress.begin("verifying", total);
        verify::check(&engine, &archive, source.as_ref())
    })?;
    let alone = total + archive.stored.carried_bytes();
    let original = source.as_ref().map_or(alone, Checkpoint::total_bytes);
    let described = Described::new(&archive, reports)?;
    Ok(finish(&engine, original, described.bytes, started, described))
}

/// An archive's tensors and the rest of it: together every byte.
struct Described {
    bytes: u64,
    tensors: Vec<TensorReport>,
    overhead: Vec<ComponentReport>,
}

impl Described {
    fn new(archive: &Archive, tensors: Vec<TensorReport>) -> Result<Self> {
        let mut overhead = verify::overhead(archive, &tensors, archive.stored.index_bytes())?;
        let carried = archive.stored.carried_bytes();
        if carried > 0 {
            overhead.push(ComponentReport { name: "carried", bytes: carried });
        }
        Ok(Self { bytes: archive.stored.total_bytes(), tensors, overhead })
    }
}

/// What happened beside the plan.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    warnings: Vec<String>,
    kept: BTreeMap<String, String>,
    flushed: BTreeMap<String, u64>,
    retrieved: BTreeMap<String, RetrievalReport>,
    /// How tensors are stored where that was chosen from their weights.
    chosen: BTreeMap<String, String>,
    /// Tiles that were redone on the CPU, and why, in files that an interrupted run had finished: what this run does itself, its
    /// engine counts.
    repaired: u64,
    reasons: Vec<String>,
    /// Files that an interrupted run had finished.
    #[serde(skip)]
    resumed: u64,
}

impl Notes {
    /// What lies beside the weights and is not as one might expect.
    fn remark(&mut self, engine: &Engine, checkpoint: &Checkpoint) {
        checkpoint.remarks().into_iter().for_each(|remark| self.warn(engine, remark));
    }

    fn warn(&mut self, engine: &Engine, message: String) {
        engine.progress.warn(&message);
        self.warnings.push(message);
    }

    /// Adds those of a file.
    fn absorb(&mut self, file: Self) {
        self.warnings.extend(file.warnings);
        self.kept.extend(file.kept);
        self.flushed.extend(file.flushed);
        self.retrieved.extend(file.retrieved);
        self.chosen.extend(file.chosen);
        self.repaired += file.repaired;
        self.reasons.extend(file.reasons);
        self.resumed += file.resumed;
    }
}

fn finish(
    engine: &Engine,
    input_bytes: u64,
    output_bytes: u64,
    started: Instant,
    archive: Described,
) -> Report {
    let counts = engine.counts();
    Report {
        ok: true,
        backend: engine.name().into(),
        gpu_tiles: counts.gpu,
        cpu_tiles: counts.cpu,
        checked_tiles: counts.checked,
        repaired_tiles: counts.repaired,
        cpu_reasons: counts.reasons,
        input_bytes,
        output_bytes,
        ratio: input_bytes as f64 / output_bytes as f64,
        seconds: started.elapsed().as_secs_f64(),
        warnings: Vec::new(),
        resumed_files: 0,
        overhead: archive.overhead,
        tensors: archive.tensors,
    }
}

/// An output that is complete but not yet in its place.
enum Sealed {
    File(OutputFile, Target),
    /// And of how many files.
    Folder(OutputFolder, usize),
}

impl Sealed {
    /// Makes it durable while `check` reads it again, and puts it in its place if that succeeds.
    fn finish<T: Send>(
        self,
        engine: &Engine,
        check: impl FnOnce(&Path) -> Result<T> + Send,
    ) -> Result<T> {
        match self {
            Self::File(file, target) => {
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
        Error::Io { path, source } => Error::Io { path: rename(path), source },
        other => other,
    }
}

/// Starts an output file, given the bytes to reserve for its header.
type Start<'a> = &'a dyn Fn(u64) -> Result<OutputFile>;

/// Writes every file of a checkpoint's successor, which takes about `expected` bytes, a folder's index and what is carried
/// along. `fill` is given the number of a file and what starts it. With an origin, a folder can be resumed.
fn write<'a>(
    engine: &Engine,
    checkpoint: &Checkpoint,
    target: Target,
    expected: u64,
    origin: Option<Origin>,
    mut fill: impl FnMut(usize, Start) -> Result<FileWriter<'a>>,
) -> Result<(Sealed, Notes)> {
    if !checkpoint.is_folder {
        let filled = fill(0, &|reserve| OutputFile::create(&target, reserve, expected))?;
        return Ok((Sealed::File(filled.out, target), filled.notes));
    }
    let (expected, cancel) = (expected + checkpoint.carried_bytes(), engine.cancel);
    let mut folder = match origin {
        None => OutputFolder::create(target, expected)?,
        Some(origin) => OutputFolder::resume(target, expected, checkpoint, origin, cancel)?,
    };
    let written = write_folder(engine, checkpoint, &mut folder, &mut fill);
    let files = checkpoint.files.len();
    let notes = say_how_to_go_on(&mut folder, files, written, engine)?;
    Ok((Sealed::Folder(folder, files), notes))
}

fn write_folder<'a>(
    engine: &Engine,
    checkpoint: &Checkpoint,
    folder: &mut OutputFolder,
    fill: &mut impl FnMut(usize, Start) -> Result<FileWriter<'a>>,
) -> Result<Notes> {
    let mut notes = Notes::default();
    let (mut index, mut total) = (BTreeMap::new(), 0);
    for (file, source) in checkpoint.files.iter().enumerate() {
        let of_file = match folder.finished::<Notes>(&source.name)? {
            Some(of_file) => {
                engine.progress.advance(source.len - source.data_start);
                of_file.warnings.iter().for_each(|w| engine.progress.warn(w));
                let made = Checkpoint::open(&folder.path().join(&source.name))?;
                for t in made.tensors {
                    total += t.bytes;
                    index.insert(Cow::Owned(t.name), &source.name);
                }
                Notes { resumed: 1, ..of_file }
            }
            None => {
                let before = engine.counts().repaired;
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
                for Entry { name, bytes, .. } in filled.entries {
                    total += bytes.end - bytes.start;
                    index.insert(name, &source.name);
                }
                filled.notes
            }
        };
        notes.absorb(of_file);
    }
    if let Some(name) = &checkpoint.index {
        folder.write(name, &index_text(total, &index))?;
    }
    for relative in checkpoint.carried() {
        folder.carry(&checkpoint.root, relative, || engine.cancel.check())?;
    }
    Ok(notes)
}

/// A file in the making, its tensors one after the other.
struct FileWriter<'a> {
    out: OutputFile,
    entries: Vec<Entry<'a>>,
    at: u64,
    notes: Notes,
}

impl<'a> FileWriter<'a> {
    fn new(out: OutputFile) -> Self {
        Self { out, entries: Vec::new(), at: 0, notes: Notes::default() }
    }

    /// Copies tensors bit for bit that follow one another in their file; the source is that of the first.
    fn copy(&mut self, engine: &Engine, source: &Source, tensors: &'a [TensorInfo]) -> Result<()> {
        let (start, bytes) = (self.at, tensors.iter().map(|t| t.bytes).sum::<u64>());
        (0..bytes.div_ceil(CHUNK)).into_par_iter().try_for_each(|chunk| {
            engine.cancel.check()?;
            let at = chunk * CHUNK;
            let mut piece = vec![0; (bytes - at).min(CHUNK) as usize];
            source.read_at(at, &mut piece)?;
            self.out.write_at(start + at, &piece)?;
            engine.progress.advance(piece.len() as u64);
            Ok(())
        })?;
        self.entries.reserve(tensors.len());
        for t in tensors {
            self.push(t.name.as_str().into(), t.dtype, t.shape.as_slice().into(), t.bytes);
        }
        Ok(())
    }

    /// Notes a tensor whose bytes have been written at the end.
    fn push(&mut self, name: Cow<'a, str>, dtype: DType, shape: Cow<'a, [u64]>, bytes: u64) {
        let start = self.at;
        self.at += bytes;
        self.entries.push(Entry { name, dtype, shape, bytes: start..self.at });
    }

    /// Treats a tensor, or keeps it if it turns out to hold values that cannot be.
    fn treat(
        &mut self,
        engine: &Engine,
        checkpoint: &Checkpoint,
        info: &'a TensorInfo,
        treat: &Treat,
        limit: Option<ModelLimit>,
        manifest: &mut Manifest,
    ) -> Result<()> {
        let source = Source::open(checkpoint, info, treat.manifest.axis);
        let (out, at) = (&self.out, self.at);
        match engine
            .again(&info.name, || encode(engine, &info.name, &source, treat, limit, out, at))
        {
            Ok(stored) if treat.manifest.coded && stored.bytes() >= info.bytes => {
                let why = format!(
                    "coded, it would take {} bytes, as it is {}",
                    stored.bytes(),
                    info.bytes
                );
                self.notes.kept.insert(info.name.clone(), why);
                self.copy(engine, &Source::File(checkpoint, info), std::slice::from_ref(info))
            }
            Ok(stored) => {
                let stored_bytes = stored.bytes();
                for (component, dtype, shape, bytes) in stored.components {
                    let name = format!("{}.{component}", info.name);
                    self.push(name.into(), dtype, shape.into(), bytes.end - bytes.start);
                }
                if let Some(remark) = &stored.remark {
                    self.notes.warn(engine, format!("tensor {} is {remark}", quoted(&info.name)));
                }
                if let Some(r) = stored.retrieved {
                    let report = RetrievalReport::new(r, stored_bytes);
                    self.notes.retrieved.insert(info.name.clone(), report);
                }
                if stored.flushed > 0 {
                    self.notes.flushed.insert(info.name.clone(), stored.flushed);
                }
                if stored.manifest.method != treat.manifest.method {
                    let method = describe(&stored.manifest, treat.prune);
                    self.notes.chosen.insert(info.name.clone(), method);
                }
                manifest.tensors.insert(info.name.clone(), stored.manifest);
                Ok(())
            }
            Err(Error::NonFinite { count, .. }) if treat.treatment.nonfinite == NonFinite::Keep => {
                let why = format!("{count} of its values are NaN or infinite");
                self.notes.warn(
                    engine,
                    format!("tensor {} is kept bit for bit: {why}", quoted(&info.name)),
                );
                self.notes.kept.insert(info.name.clone(), why);
                self.copy(engine, &Source::File(checkpoint, info), std::slice::from_ref(info))
            }
            Err(e) => Err(e),
        }
    }

    /// Restores a treated tensor.
    fn restore(
        &mut self,
        engine: &Engine,
        archive: &Archive,
        t: &'a ArchivedTensor,
        manifest: &'a TensorManifest,
    ) -> Result<()> {
        let restorer = Restorer::new(archive, t, manifest, engine.unit_bytes)?;
        let (blocks, size) = (&restorer.blocks, manifest.dtype.bytes(1) as u64);
        // Units that are rows of storage one by one; otherwise its columns, a strip at a time.
        let strips: Vec<&[Unit]> = match manifest.axis {
            0 => restorer.units.chunks(1).collect(),
            _ => restorer.units.chunks(units_per_strip(blocks, &restorer.units)).collect(),
        };
        let of_strip = |units: &[Unit]| {
            let (mut strip, mut digests) = (Vec::new(), Vec::new());
            for unit in units {
                engine.cancel.check()?;
                let restored = restorer.restore(engine, manifest, unit)?;
                digests.extend(blocks.digests(unit, &restored).concat());
                let bytes = bytemuck::cast_slice::<u32, u8>(&restored);
                strip.extend_from_slice(&bytes[..unit.elements() * size as usize]);
                engine.progress.advance(unit.elements() as u64 * size);
            }
            match manifest.axis {
                0 => self.out.write_at(self.at + units[0].start(blocks) * size, &strip)?,
                _ => write_transposed(blocks, units, &strip, |offset, part| {
                    self.out.write_at(self.at + offset, part)
                })?,
            }
            Ok(digests)
        };
        engine.again(&t.name, || {
            let digests = strips.par_iter().map(|units| of_strip(units));
            if digest(&digests.collect::<Result<Vec<_>>>()?.concat()) == manifest.digest {
                return Ok(());
            }
            let path = archive.stored.files[t.file].path.clone();
            Err(Error::Digest { path, what: format!("restored tensor {}", quoted(&t.name)) })
        })?;
        let bytes = blocks.elements() * size;
        self.push(t.name.as_str().into(), manifest.dtype, manifest.shape.as_slice().into(), bytes);
        Ok(())
    }

    fn seal(self, preface: Preface) -> Result<Self> {
        self.out.seal(&self.entries, preface, self.at)?;
        Ok(self)
    }
}
