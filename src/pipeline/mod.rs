//! The jobs, as sentences: open, plan, survey, stage, kernel, readback, encode, write, verify, report.

pub(crate) mod archive;
mod tied;
mod writer;

use crate::{
    Backend, Device, Error, Result,
    digest::digest,
    engine::Engine,
    form::View,
    format::{
        Archive, ArchivedTensor, Checkpoint, Entry, Manifest, Origin, Preface, Target,
        header_length, in_folder, partial, spare,
    },
    plan::{Action, Plan, Step, said_of_kept},
    progress::{Cancel, Progress},
    quote::shown,
    recipe::Recipe,
    report::{ComponentReport, Decoded, Made, Report, TensorReport, account, overhead},
    restore,
    stage::Source,
    treat::{ModelLimit, model_limits, said_of_pruning},
    verify,
};
use std::{path::Path, sync::Arc, time::Instant};
pub(crate) use tied::ties;
use writer::{FileWriter, Notes, Start, write};

/// How a job runs.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Cancel, Silent, pipeline::Options};
///
/// let (on, cancel) = (Backend::Cpu, Cancel::new());
/// let options = Options { threads: 2, memory: 1 << 30, ..Options::new(&on, &Silent, &cancel) };
/// assert!(!options.force && !options.resume);
/// ```
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
    /// The variant that `compress` takes of a folder, and that `verify` compares with, as in [`Checkpoint::open_variant`].
    pub variant: Option<&'a str>,
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
            variant: None,
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

    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    /// Threads of the pool: with a GPU one more, since one or another always waits for it. So the next unit is read and
    /// uploaded, and the last one written, while one is computed, even with a single thread.
    fn workers(&self, gpu: bool) -> usize {
        self.threads() + usize::from(gpu)
    }

    pub(crate) fn on_gpu(&self) -> bool {
        matches!(self.backend, Backend::Gpu(_))
    }

    /// Source bytes that are loaded and treated together by one thread.
    pub(crate) fn unit_bytes(&self) -> u64 {
        self.unit_bytes_on(self.on_gpu())
    }

    fn unit_bytes_on(&self, gpu: bool) -> u64 {
        match gpu {
            false => 0,
            true => GPU_UNIT.min(self.memory / (24 * self.workers(true) as u64)),
        }
    }

    /// Upper bound of the memory that a plan takes with these options on a GPU, or on the CPU: whichever GPU it is.
    pub fn memory_of(&self, plan: &Plan, gpu: bool) -> u64 {
        plan.memory(self.planned_unit(gpu), self.workers(gpu))
    }

    /// The units that a plan reckons with: never less than a block.
    fn planned_unit(&self, gpu: bool) -> u64 {
        self.unit_bytes_on(gpu).max(1 << 20)
    }

    /// Runs a job on a pool of its own threads, so that `threads` means what it says.
    pub(crate) fn run<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let workers = self.workers(self.on_gpu());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
        pool.map_err(|e| Error::Usage(format!("{workers} threads: {e}")))?.install(job)
    }
}

/// Fits a recipe to a checkpoint and to the memory.
///
/// # Errors
///
/// As [`Plan::new`]; [`Error::Usage`] if the memory does not suffice.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, format::Checkpoint, pipeline, recipe::Recipe};
///
/// // `path`: a checkpoint of one F32 matrix, 64 x 255.
/// let (checkpoint, recipe) = (Checkpoint::open(&path)?, Recipe::preset("int8")?);
/// let cancel = Cancel::new();
/// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
/// let plan = pipeline::plan(&checkpoint, &recipe, &options)?;
/// let table = plan.tensors(&checkpoint, &recipe);
/// assert_eq!((&*table[0].name, &*table[0].method), ("w", "int8 per channel"));
/// assert_eq!(table[0].expected_bytes, 64 * 256 + 64 * 4); // codes, and a scale for each row
/// assert_eq!(table[0].bytes, 64 * 255 * 4); // as it is: if it holds a NaN it is kept
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn plan(checkpoint: &Checkpoint, recipe: &Recipe, options: &Options) -> Result<Plan> {
    planned(checkpoint, recipe, options, options.on_gpu())
}

/// Fits a recipe to a checkpoint and to the memory of a job on a device that need not be open, whatever backend the options have. With
/// [`Device::Auto`] it is the CPU's memory: whether there is a GPU shows when it is opened, and [`Options::memory_of`] says what it
/// would take there.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_for(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    options: &Options,
    device: Device,
) -> Result<Plan> {
    planned(checkpoint, recipe, options, device == Device::Gpu)
}

fn planned(checkpoint: &Checkpoint, recipe: &Recipe, options: &Options, gpu: bool) -> Result<Plan> {
    let mut plan = fitted(checkpoint, recipe, options, gpu)?;
    plan.remarks.extend(said_of_pruning(&plan, recipe, None));
    let kept = said_of_kept(&plan, recipe, checkpoint, &|_| None);
    plan.remarks.extend(kept);
    Ok(plan)
}

/// The plan, without what reading data would tell better.
pub(crate) fn fitted(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    options: &Options,
    gpu: bool,
) -> Result<Plan> {
    let plan = Plan::new(checkpoint, recipe, options.planned_unit(gpu), options.workers(gpu))?;
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
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, pipeline, recipe::Recipe};
///
/// // `path`: a checkpoint of one F32 matrix, 64 x 255, whose rows are -127, -126, ... 127.
/// let output = path.with_extension("tersor.safetensors");
/// let cancel = Cancel::new();
/// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
/// let report = pipeline::compress(&path, &output, &Recipe::preset("int8")?, &options)?;
/// assert_eq!(report.tensors[0].method.as_str(), "int8 per channel");
/// assert_eq!(report.tensors[0].error.max_abs_error, Some(0.0)); // whole numbers at scale 1
/// assert_eq!(report.output_bytes, output.metadata().unwrap().len());
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn compress(input: &Path, output: &Path, recipe: &Recipe, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let checkpoint = Checkpoint::open_variant(input, options.variant)?;
    let output = &in_folder(output, &checkpoint.root);
    let left = partial(output);
    let importance = recipe.rules.iter().filter_map(|r| r.treatment.importance.as_ref());
    spare(output, importance)?;
    let target = Target::claim(output, &checkpoint, options.force)?;
    // Before the output takes its place: nothing may fail after that.
    let input_bytes = checkpoint.total_bytes()?;
    let plan = fitted(&checkpoint, recipe, options, options.on_gpu())?;
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
                // As JSON, which every build writes alike, unlike what `{:?}` prints.
                thresholds: digest(found(&plan, recipe, &limits).to_string().as_bytes()),
            }),
            false => None,
        };
        engine.begin("compressing", checkpoint.tensors.iter().map(|t| t.bytes).sum());
        let fill = |file: usize, start: Start| {
            let ties = ties(&engine, &checkpoint, &plan, &limits, file)?;
            let header = plan.header_bytes_tied(&checkpoint, file, &ties)?;
            let mut writer = FileWriter::new(start(header)?);
            let mut manifest = Manifest::default();
            let first = checkpoint.tensors.partition_point(|t| t.file < file);
            let end = checkpoint.tensors.partition_point(|t| t.file <= file);
            let mut at = first;
            while at < end {
                let t = &checkpoint.tensors[at];
                let mut next = at + 1;
                match (&plan.steps[at].action, ties.get(&at)) {
                    (_, Some(to)) => {
                        writer.tie(&engine, t, &checkpoint.tensors[*to], &mut manifest);
                    }
                    // Tensors that are kept and follow one another are copied as one.
                    (Action::Keep(_), None) => {
                        let copied = |i: &usize| plan.steps[*i].keeps() && !ties.contains_key(i);
                        next = (next..end).find(|i| !copied(i)).unwrap_or(end);
                        let run = checkpoint.tensors[at..next].iter();
                        let run = run.map(|t| (t.own_name(), t));
                        writer.copy(&engine, &Source::File(&checkpoint, t), run)?;
                    }
                    (Action::Treat(treat), None) => {
                        writer.treat(&engine, &checkpoint, t, treat, limits[at], &mut manifest)?;
                    }
                }
                at = next;
            }
            let (chunks, spans) = writer.out.digest_chunks(writer.at)?;
            manifest.chunks = chunks;
            writer.notes.spans.insert(checkpoint.files[file].name.clone(), spans);
            let metadata = &checkpoint.files[file].metadata;
            writer.seal(Preface { manifest: Some(&manifest), metadata })
        };
        let (sealed, of_files) = write(
            &engine,
            &checkpoint,
            target,
            plan.expected_bytes,
            origin,
            &checkpoint.places(),
            fill,
        )?;
        notes.absorb(of_files);
        let mut spans = std::mem::take(&mut notes.spans);
        let kept = |i: usize| notes.tensors.get(&checkpoint.tensors[i].name)?.reason.clone();
        let is_kept = |i: usize| kept(i).is_some();
        let mut said: Vec<String> =
            said_of_pruning(&plan, recipe, Some((&limits, &is_kept))).into_iter().collect();
        said.extend(said_of_kept(&plan, recipe, &checkpoint, &kept));
        said.into_iter().for_each(|said| notes.warn(&engine, said));
        // The archive stores the tensors in the order of the checkpoint.
        let made = |i: usize| {
            let mut made =
                notes.tensors.get(&checkpoint.tensors[i].name).cloned().unwrap_or_default();
            match &plan.steps[i].action {
                Action::Keep(why) => made.reason = Some(Arc::clone(why)),
                Action::Treat(treat) => made.method = made.method.or(Some(treat.method())),
            }
            made
        };
        sealed.finish(&engine, |path| {
            // A single file has another name until it takes its place.
            let mut of_file = |name: &str| match checkpoint.is_folder {
                true => spans.remove(name),
                false => spans.pop_first().map(|(_, of_file)| of_file),
            };
            let archive = Archive::open(path)?.made_by_this_run(&mut of_file);
            // On the CPU, whatever has compressed: what a device has done is checked by other code.
            let checker = Engine::new(&Backend::Cpu, options.progress, options.cancel, 0, 0.0);
            checker.begin("verifying", checkpoint.tensors.iter().map(|t| t.bytes).sum());
            let reports = verify::check(&checker, &archive, Some(&checkpoint), made)?;
            checkpoint.unchanged()?;
            Described::new(&archive, reports)
        })
    })?;
    let bytes = (input_bytes, described.bytes);
    Ok(finish(&engine, bytes, started, described, notes))
}

/// What the recipe has found in the model: thresholds, and with defaults which rule each tensor has and how it is seen, for which
/// config.json counts.
fn found(plan: &Plan, recipe: &Recipe, limits: &[Option<ModelLimit>]) -> serde_json::Value {
    let step = |step: &Step| {
        let view = match &step.action {
            Action::Keep(_) => View::default(),
            Action::Treat(treat) => treat.manifest.view,
        };
        (step.rule, view.axis, view.stack)
    };
    match recipe.defaults {
        true => serde_json::json!([limits, plan.steps.iter().map(step).collect::<Vec<_>>()]),
        false => serde_json::json!(limits),
    }
}

/// Restores a checkpoint from an archive, on the backend of the options.
///
/// # Errors
///
/// Everything that can go wrong, with nothing left at the output.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, pipeline, recipe::Recipe};
///
/// // `path`: a checkpoint of one F32 matrix.
/// let (archive, restored) = (path.with_file_name("small"), path.with_file_name("restored"));
/// let cancel = Cancel::new();
/// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
/// pipeline::compress(&path, &archive, &Recipe::preset("lossless")?, &options)?;
/// pipeline::decompress(&archive, &restored, &options)?;
/// let data = |path| std::fs::read(path).unwrap().into_iter().rev().take(64 * 255 * 4);
/// assert!(data(&path).eq(data(&restored))); // every bit is back
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn decompress(input: &Path, output: &Path, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let archive = Archive::open(input)?;
    let output = in_folder(output, &archive.stored.root);
    let target = Target::claim(&output, &archive.stored, options.force)?;
    let engine = options.engine();
    let mut notes = Notes::default();
    notes.remark(&engine, &archive.stored);
    let total: u64 = archive.tensors.iter().map(|t| archive.original_bytes(t)).sum();
    // Before the output takes its place: nothing may fail after that.
    let account = |t| account(&archive, t, Made::default(), Decoded::default());
    let tensors = archive.tensors.iter().map(account).collect();
    let described = Described::new(&archive, tensors)?;
    let written = options.run(|| {
        engine.begin("restoring", total);
        let fill = |file: usize, start: Start| {
            let tensors = || archive.tensors.iter().filter(|t| t.file == file);
            let mut at = 0;
            let entries = tensors().map(|t| {
                let (dtype, shape) = archive.original(t);
                let begin = at;
                at += archive.original_bytes(t);
                Entry { name: t.own_name().into(), dtype, shape: shape.into(), bytes: begin..at }
            });
            let metadata = &archive.stored.files[file].metadata;
            let mut writer = FileWriter::new(start(8 + header_length(None, metadata, entries))?);
            for t in tensors() {
                match &t.treated {
                    None => {
                        let kept = [(t.own_name(), archive.component(t, ""))].into_iter();
                        writer.copy(&engine, &restore::kept(&archive, t), kept)?;
                    }
                    Some(manifest) => writer.restore(&engine, &archive, t, manifest)?,
                }
            }
            writer.seal(Preface { manifest: None, metadata })
        };
        let (sealed, of_files) =
            write(&engine, &archive.stored, target, total, None, &archive.places(), fill)?;
        sealed.finish(&engine, |path| {
            let restored = Checkpoint::open(path)?;
            engine.begin("verifying", total);
            let known = |name: &str| Some(&*of_files.tensors.get(name)?.known.as_ref()?.blocks);
            verify::restored(&engine, &archive, &restored, known)?;
            restored.total_bytes()
        })
    })?;
    Ok(finish(&engine, (described.bytes, written), started, described, notes))
}

/// Checks an archive: digests, structure, a full decode on the backend of the options; and with `against`, the error of every
/// tensor, measured on the CPU.
///
/// # Errors
///
/// [`Error::Digest`] if it is damaged; [`Error::Unlike`], [`Error::Differs`] if it was made from something else;
/// [`Error::Verify`] if an error is beyond its limit; [`Error::Format`], [`Error::Io`].
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Error, Silent, pipeline, recipe::Recipe};
///
/// // `path`: a checkpoint of one F32 matrix.
/// let archive = path.with_file_name("small.safetensors");
/// let cancel = Cancel::new();
/// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
/// pipeline::compress(&path, &archive, &Recipe::preset("int8")?, &options)?;
/// assert!(pipeline::verify(&archive, Some(&path), &options)?.ok);
///
/// // A flipped bit is found.
/// let mut bytes = std::fs::read(&archive).unwrap();
/// *bytes.last_mut().unwrap() ^= 1;
/// std::fs::write(&archive, bytes).unwrap();
/// assert!(matches!(pipeline::verify(&archive, None, &options), Err(Error::Digest { .. })));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn verify(input: &Path, against: Option<&Path>, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let archive = Archive::open(input)?;
    let open = |path| Checkpoint::open_variant(path, options.variant);
    let source = against.map(open).transpose()?;
    let engine = options.engine();
    let total: u64 = archive.tensors.iter().map(|t| archive.original_bytes(t)).sum();
    let reports = options.run(|| {
        engine.begin("verifying", total);
        verify::check(&engine, &archive, source.as_ref(), |_| Made::default())
    })?;
    let original = match &source {
        // A single file is no folder, whatever lies beside what it is compared with.
        Some(source) if !archive.stored.is_folder => source.bytes(),
        Some(source) => source.total_bytes()?,
        None => total + archive.stored.carried_bytes()?,
    };
    let mut notes = Notes::default();
    let says_nothing = |t: &ArchivedTensor| {
        t.source.is_none() && t.treated.as_ref().is_some_and(|m| !m.lossless())
    };
    if source.is_some() && archive.tensors.iter().any(says_nothing) {
        let why = "the archive does not say what it was made from, as older ones do not: whether this is it, \
                   the errors alone tell";
        notes.warn(&engine, why.into());
    }
    let described = Described::new(&archive, reports)?;
    Ok(finish(&engine, (original, described.bytes), started, described, notes))
}

/// An archive's tensors and the rest of it: together every byte.
struct Described {
    bytes: u64,
    tensors: Vec<TensorReport>,
    overhead: Vec<ComponentReport>,
}

impl Described {
    fn new(archive: &Archive, tensors: Vec<TensorReport>) -> Result<Self> {
        let mut overhead = overhead(archive, &tensors, archive.stored.index_bytes()?)?;
        let carried = archive.stored.carried_bytes()?;
        if carried > 0 {
            overhead.push(ComponentReport { name: "carried", bytes: carried });
        }
        Ok(Self { bytes: archive.stored.total_bytes()?, tensors, overhead })
    }
}

fn finish(
    engine: &Engine,
    (input_bytes, output_bytes): (u64, u64),
    started: Instant,
    archive: Described,
    notes: Notes,
) -> Report {
    let mut counts = engine.counts();
    counts.reasons.extend(notes.reasons);
    Report {
        ok: true,
        backend: engine.name().into(),
        gpu_tiles: counts.gpu,
        cpu_tiles: counts.cpu,
        checked_tiles: counts.checked,
        repaired_tiles: counts.repaired + notes.repaired,
        cpu_reasons: counts.reasons,
        input_bytes,
        output_bytes,
        ratio: input_bytes as f64 / output_bytes as f64,
        seconds: started.elapsed().as_secs_f64(),
        warnings: notes.warnings,
        resumed_files: notes.resumed,
        overhead: archive.overhead,
        tensors: archive.tensors,
    }
}
