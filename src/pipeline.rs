//! The jobs, as sentences: open, plan, survey, stage, kernel, readback, encode, write, verify, report.

use crate::{
    Backend, Error, Result, TensorInfo,
    encode::{ModelLimit, encode, model_limits},
    engine::Engine,
    format::{
        Archive, ArchivedTensor, CHUNK, Checkpoint, Entry, Manifest, OutputFile, OutputFolder,
        TensorManifest, digest, header_text, quoted,
    },
    plan::{Action, Plan, Treat},
    progress::{Cancel, Progress},
    recipe::{NonFinite, Recipe},
    report::{Report, TensorReport},
    restore::{self, Restorer},
    stage::{Source, Unit, units_per_strip, write_transposed},
    verify,
};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
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
    /// What it says meanwhile.
    pub progress: &'a dyn Progress,
    /// What stops it.
    pub cancel: &'a Cancel,
}

/// Source bytes that a GPU is given at a time, if the memory allows.
const GPU_UNIT: u64 = 16 << 20;

impl Options<'_> {
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
            Backend::Gpu(_) => GPU_UNIT.min(self.memory / (16 * self.workers() as u64)),
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

/// Compresses a checkpoint into an archive, reopens and measures it, and only then puts it in its place.
///
/// # Errors
///
/// Everything that can go wrong, with nothing left at the output.
pub fn compress(input: &Path, output: &Path, recipe: &Recipe, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let checkpoint = Checkpoint::open(input)?;
    not_the_input(&checkpoint, output)?;
    let plan = plan(&checkpoint, recipe, options)?;
    let engine =
        Engine::new(options.backend, options.progress, options.cancel, options.unit_bytes());
    let mut notes = Notes::default();
    for left_out in &checkpoint.left_out {
        notes.warn(
            &engine,
            format!(
                "{} is not carried along: it holds weights in another format",
                left_out.display()
            ),
        );
    }
    let (reports, written) = options.run(|| {
        let limits = model_limits(&engine, &checkpoint, &plan)?;
        options.progress.begin("compressing", checkpoint.tensors.iter().map(|t| t.bytes).sum());
        write(
            &engine,
            &checkpoint,
            output,
            options.force,
            plan.output_bytes,
            |file, target, force, expected| {
                let metadata = checkpoint.files[file].metadata.clone();
                let reserve = plan.header_reserve(&checkpoint, file, &metadata);
                let out = OutputFile::create(target, reserve, expected, force)?;
                let mut writer = FileWriter { out, entries: Vec::new(), at: 0 };
                let mut manifest = Manifest::default();
                for (i, (t, step)) in checkpoint.tensors.iter().zip(&plan.steps).enumerate() {
                    match &step.action {
                        _ if t.file != file => {}
                        Action::Keep(_) => {
                            writer.copy(&engine, &Source::File(&checkpoint, t), t)?
                        }
                        Action::Treat(treat) => {
                            writer.treat(
                                &engine,
                                &checkpoint,
                                t,
                                treat,
                                limits[i],
                                &mut manifest,
                                &mut notes,
                            )?;
                        }
                    }
                }
                manifest.chunks = writer.out.digest_chunks(writer.at)?;
                writer.seal(metadata, Some(&manifest))
            },
        )?
        .finish(|path| {
            let archive = Archive::open(path)?;
            options.progress.begin("verifying", checkpoint.tensors.iter().map(|t| t.bytes).sum());
            let reports = verify::check(&engine, &archive, Some(&checkpoint))?;
            checkpoint.unchanged()?;
            Ok((reports, archive.stored.bytes() + index_bytes(path)))
        })
    })?;
    let mut report = finish(&engine, checkpoint.bytes(), written, started, notes.warnings, reports);
    let order: BTreeMap<&str, usize> =
        checkpoint.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    report.tensors.sort_by_key(|t| order.get(t.name.as_str()).copied());
    for t in &mut report.tensors {
        t.flushed = notes.flushed.get(&t.name).copied().unwrap_or(0);
        let step = order.get(t.name.as_str()).map(|i| &plan.steps[*i]);
        if let Some(Action::Keep(why)) = step.map(|s| &s.action) {
            t.reason = Some(why.clone());
        }
        if let Some(Action::Treat(treat)) = step.map(|s| &s.action)
            && t.method != "kept"
        {
            t.method = treat.method();
        }
        if let Some(why) = notes.kept.get(&t.name) {
            t.reason = Some(why.clone());
        }
    }
    Ok(report)
}

/// Restores a checkpoint from an archive.
///
/// # Errors
///
/// Everything that can go wrong, with nothing left at the output.
pub fn decompress(input: &Path, output: &Path, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let archive = Archive::open(input)?;
    not_the_input(&archive.stored, output)?;
    let engine = Engine::new(&Backend::Cpu, options.progress, options.cancel, 0);
    let bytes = |t: &ArchivedTensor| {
        let (dtype, shape) = verify::original(t);
        shape.iter().product::<u64>() * dtype.bits() as u64 / 8
    };
    let total: u64 = archive.tensors.iter().map(bytes).sum();
    let (reports, written) = options.run(|| {
        options.progress.begin("restoring", total);
        write(
            &engine,
            &archive.stored,
            output,
            options.force,
            total,
            |file, target, force, expected| {
                let mut metadata = archive.stored.files[file].metadata.clone();
                metadata.retain(|(key, _)| key != "tersor");
                let tensors: Vec<_> = archive.tensors.iter().filter(|t| t.file == file).collect();
                let mut at = 0;
                let entries = tensors.iter().map(|t| {
                    let (dtype, shape) = verify::original(t);
                    at += bytes(t);
                    (t.name.clone(), dtype, shape.to_vec(), at - bytes(t)..at)
                });
                let reserve = 8 + header_text(&entries.collect::<Vec<_>>(), &metadata).len() as u64;
                let out = OutputFile::create(target, reserve, expected, force)?;
                let mut writer = FileWriter { out, entries: Vec::new(), at: 0 };
                for t in tensors {
                    match &t.treated {
                        None => {
                            writer.copy(&engine, &restore::kept(&archive, t), &t.components[""])?
                        }
                        Some(manifest) => writer.restore(&engine, &archive, t, manifest)?,
                    }
                }
                writer.seal(metadata, None)
            },
        )?
        .finish(|path| {
            let restored = Checkpoint::open(path)?;
            let reports =
                archive.tensors.iter().map(|t| verify::blank(&archive, t)).collect::<Vec<_>>();
            Ok((reports, restored.bytes() + index_bytes(path)))
        })
    })?;
    Ok(finish(&engine, archive.stored.bytes(), written, started, Vec::new(), reports))
}

/// Checks an archive: digests, structure, a full decode; and with `against`, the error of every tensor.
///
/// # Errors
///
/// [`Error::Digest`], [`Error::Verify`] if it does not hold; [`Error::Format`], [`Error::Io`].
pub fn verify(input: &Path, against: Option<&Path>, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let archive = Archive::open(input)?;
    let source = against.map(Checkpoint::open).transpose()?;
    let engine = Engine::new(&Backend::Cpu, options.progress, options.cancel, 0);
    let bytes = |t: &ArchivedTensor| {
        let (dtype, shape) = verify::original(t);
        shape.iter().product::<u64>() * dtype.bits() as u64 / 8
    };
    let total: u64 = archive.tensors.iter().map(bytes).sum();
    let reports = options.run(|| {
        options.progress.begin("verifying", total);
        verify::check(&engine, &archive, source.as_ref())
    })?;
    let original = source.as_ref().map_or(total, Checkpoint::bytes);
    let stored = archive.stored.bytes() + index_bytes(input);
    let mut report = finish(&engine, original, stored, started, Vec::new(), reports);
    report.ratio = original as f64 / stored as f64;
    Ok(report)
}

/// What happened beside the plan.
#[derive(Default)]
struct Notes {
    warnings: Vec<String>,
    kept: BTreeMap<String, String>,
    flushed: BTreeMap<String, u64>,
}

impl Notes {
    fn warn(&mut self, engine: &Engine, message: String) {
        engine.progress.warn(&message);
        self.warnings.push(message);
    }
}

fn finish(
    engine: &Engine,
    input_bytes: u64,
    output_bytes: u64,
    started: Instant,
    warnings: Vec<String>,
    tensors: Vec<TensorReport>,
) -> Report {
    let counts = engine.counts();
    Report {
        ok: true,
        backend: engine.name().into(),
        gpu_tiles: counts.gpu,
        cpu_tiles: counts.cpu,
        repaired_tiles: counts.repaired,
        cpu_reasons: counts.reasons,
        input_bytes,
        output_bytes,
        ratio: input_bytes as f64 / output_bytes as f64,
        seconds: started.elapsed().as_secs_f64(),
        warnings,
        tensors,
    }
}

/// The file that lists a folder's shards, if there is one.
fn index_bytes(path: &Path) -> u64 {
    fs::metadata(path.join(INDEX)).map_or(0, |m| m.len())
}

const INDEX: &str = "model.safetensors.index.json";

/// Refuses an output that is one of the inputs, by whatever name.
fn not_the_input(checkpoint: &Checkpoint, output: &Path) -> Result<()> {
    let same = |a: &Path| matches!((fs::canonicalize(a), fs::canonicalize(output)), (Ok(a), Ok(b)) if a == b);
    if same(&checkpoint.root) || checkpoint.files.iter().any(|f| same(&f.path)) {
        return Err(Error::Usage(format!(
            "{} is the input itself; name another output",
            output.display()
        )));
    }
    Ok(())
}

/// An output that is complete but not yet in its place.
enum Sealed {
    File(OutputFile),
    Folder(OutputFolder),
}

impl Sealed {
    /// Makes it durable while `check` reads it again, and puts it in its place if that succeeds.
    fn finish<T: Send>(self, check: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
        match self {
            Self::File(file) => {
                // The disk works while the cores decode.
                let (synced, checked) = std::thread::scope(|scope| {
                    let sync = scope.spawn(|| file.sync());
                    let checked = check(file.path());
                    (sync.join(), checked)
                });
                let checked = checked.map_err(|e| renamed(e, file.path(), file.target()))?;
                synced.map_err(|_| Error::Usage("the disk could not be synced".into()))??;
                file.publish()?;
                Ok(checked)
            }
            Self::Folder(folder) => {
                let checked =
                    check(folder.path()).map_err(|e| renamed(e, folder.path(), folder.target()))?;
                folder.publish()?;
                Ok(checked)
            }
        }
    }
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
        Error::Io { path, source } => Error::Io { path: rename(path), source },
        other => other,
    }
}

/// Writes every file of a checkpoint's successor, a folder's index and what is carried along. `fill` is given the number of
/// the file, its target, whether to replace what is there, and how many bytes to expect.
fn write(
    engine: &Engine,
    checkpoint: &Checkpoint,
    output: &Path,
    force: bool,
    expected: u64,
    mut fill: impl FnMut(usize, &Path, bool, u64) -> Result<(OutputFile, Vec<Entry>)>,
) -> Result<Sealed> {
    if !checkpoint.is_folder {
        return Ok(Sealed::File(fill(0, output, force, expected)?.0));
    }
    let folder = OutputFolder::create(output, expected, force)?;
    let (mut index, mut total) = (BTreeMap::new(), 0);
    for (file, source) in checkpoint.files.iter().enumerate() {
        let (out, entries) = fill(file, &folder.path().join(&source.name), false, 0)?;
        out.sync()?;
        out.publish()?;
        for (name, _, _, bytes) in entries {
            total += bytes.end - bytes.start;
            index.insert(name, source.name.clone());
        }
    }
    if checkpoint.root.join(INDEX).is_file() || checkpoint.files.len() > 1 {
        let json = serde_json::json!({"metadata": {"total_size": total}, "weight_map": index});
        folder.write(INDEX, format!("{json:#}\n").as_bytes())?;
    }
    for relative in checkpoint.carried.iter().filter(|p| p.as_path() != Path::new(INDEX)) {
        engine.cancel.check()?;
        folder.carry(&checkpoint.root, relative)?;
    }
    Ok(Sealed::Folder(folder))
}

/// A file in the making, its tensors one after the other.
struct FileWriter {
    out: OutputFile,
    entries: Vec<Entry>,
    at: u64,
}

impl FileWriter {
    /// Copies a tensor bit for bit.
    fn copy(&mut self, engine: &Engine, source: &Source, info: &TensorInfo) -> Result<()> {
        let (start, end) = (self.at, self.at + info.bytes);
        (0..info.bytes.div_ceil(CHUNK)).into_par_iter().try_for_each(|chunk| {
            engine.cancel.check()?;
            let at = chunk * CHUNK;
            let mut bytes = vec![0; (info.bytes - at).min(CHUNK) as usize];
            source.read_at(at, &mut bytes)?;
            self.out.write_at(start + at, &bytes)?;
            engine.progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        self.entries.push((info.name.clone(), info.dtype, info.shape.clone(), start..end));
        self.at = end;
        Ok(())
    }

    /// Treats a tensor, or keeps it if it turns out to hold values that cannot be.
    #[allow(clippy::too_many_arguments, reason = "one call; a struct would only rename them")]
    fn treat(
        &mut self,
        engine: &Engine,
        checkpoint: &Checkpoint,
        info: &TensorInfo,
        treat: &Treat,
        limit: Option<ModelLimit>,
        manifest: &mut Manifest,
        notes: &mut Notes,
    ) -> Result<()> {
        let source = Source::open(checkpoint, info, treat.manifest.axis);
        match encode(engine, &info.name, &source, treat, limit, &self.out, self.at) {
            Ok(stored) => {
                for (component, dtype, shape, bytes) in stored.components {
                    self.at = bytes.end;
                    self.entries.push((format!("{}.{component}", info.name), dtype, shape, bytes));
                }
                if stored.flushed > 0 {
                    notes.flushed.insert(info.name.clone(), stored.flushed);
                }
                let entry = TensorManifest { digest: stored.digest, ..treat.manifest.clone() };
                manifest.tensors.insert(info.name.clone(), entry);
                Ok(())
            }
            Err(Error::NonFinite { count, .. }) if treat.treatment.nonfinite == NonFinite::Keep => {
                let why = format!("{count} of its values are NaN or infinite");
                notes.warn(
                    engine,
                    format!("tensor {} is kept bit for bit: {why}", quoted(&info.name)),
                );
                notes.kept.insert(info.name.clone(), why);
                self.copy(engine, &Source::File(checkpoint, info), info)
            }
            Err(e) => Err(e),
        }
    }

    /// Restores a treated tensor.
    fn restore(
        &mut self,
        engine: &Engine,
        archive: &Archive,
        t: &ArchivedTensor,
        manifest: &TensorManifest,
    ) -> Result<()> {
        let restorer = Restorer::new(archive, t, manifest)?;
        let (blocks, size) = (&restorer.blocks, manifest.dtype.bits() as u64 / 8);
        // Units that are rows of storage one by one; otherwise its columns, a strip at a time.
        let strips: Vec<&[Unit]> = match manifest.axis {
            0 => restorer.units.chunks(1).collect(),
            _ => restorer.units.chunks(units_per_strip(blocks, &restorer.units)).collect(),
        };
        let digests = strips.into_par_iter().map(|units| {
            let (mut strip, mut digests) = (Vec::new(), Vec::new());
            for unit in units {
                engine.cancel.check()?;
                let restored = restorer.parts(manifest, unit)?.restore(manifest, blocks, unit)?;
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
        });
        let digests = digests.collect::<Result<Vec<_>>>()?.concat();
        if digest(&digests) != manifest.digest {
            let path = archive.stored.files[t.file].path.clone();
            return Err(Error::Digest {
                path,
                what: format!("restored tensor {}", quoted(&t.name)),
            });
        }
        let bytes = blocks.elements() * size;
        self.entries.push((
            t.name.clone(),
            manifest.dtype,
            manifest.shape.clone(),
            self.at..self.at + bytes,
        ));
        self.at += bytes;
        Ok(())
    }

    fn seal(
        self,
        mut metadata: Vec<(String, String)>,
        manifest: Option<&Manifest>,
    ) -> Result<(OutputFile, Vec<Entry>)> {
        if let Some(manifest) = manifest {
            metadata.push(("tersor".into(), manifest.to_text()));
        }
        self.out.seal(&self.entries, &metadata, self.at)?;
        Ok((self.out, self.entries))
    }
}
