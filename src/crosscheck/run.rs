//! Every case of the ops that are asked for, and what becomes of those that fail.

use crate::{
    Backend, Error, Result,
    crosscheck::{
        case::{Case, Input, read, write},
        check::{self, Failure, Outcome, Pair},
        inputs::{Maker, Rng},
        op::Op,
        options::Options,
        report::{CaseReport, Report},
        shrink::shrink,
        tiles::tiles,
    },
    gpu::Kernel,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

/// Failures of one op that are shrunk and written.
const REPROS: usize = 3;

/// How often a failing case is repeated.
const REPEATS: usize = 10;

/// Cases that shrinking tries before it looks at values.
const TRIES: usize = 200;

/// Checks ops on every device of the pair: those of `ops`, which are this crate's ([`ALL`](crate::crosscheck::ops::ALL)) or
/// anyone's, that the options name.
///
/// # Errors
///
/// [`Error::Usage`] if no op has such a name, [`Error::Interrupted`], what opening the model fails with, and [`Error::Io`] if
/// a replay file cannot be written. What a device does wrong is in the report.
///
/// # Example
///
/// ```no_run
/// use std::path::Path;
/// use tersor::{Cancel, crosscheck};
/// use tersor::crosscheck::{Admits, Class, Data, Input, Level, Op, Options, Pair};
/// use tersor::kernels::{self, Groups};
///
/// /// What matters of the range of a matrix: its largest magnitude.
/// const ABSMAX: Op = Op {
///     name: "absmax",
///     kernels: &[],
///     class: Class::Exact,
///     expands: 4,
///     make: |maker| {
///         for w in maker.weights(Admits::Finite) {
///             maker.emit(w.source, Input::new().with("weights", w.data));
///         }
///     },
///     run: |on, input| {
///         let weights = input.tensor("weights")?.upload(on)?;
///         let ranges = kernels::range(on, &weights, Groups::of(weights.elements()))?;
///         let absmax = ranges.first().map_or(0.0, |range| range.absmax());
///         Ok(vec![("absmax", Data::f32((1, 1), &[absmax]))])
///     },
/// };
///
/// let options = Options {
///     level: Level::Quick,
///     seed: 0,
///     ops: None,
///     model: None,
///     folder: Path::new("failures"),
///     adapter: None,
///     progress: &|_op| {},
///     cancel: &Cancel::new(),
/// };
/// let pair = Pair::open(None)?;
/// let report = crosscheck::run(&pair, &[&ABSMAX], &options)?;
/// assert!(report.ok);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn run(pair: &Pair, ops: &[&Op], options: &Options) -> Result<Report> {
    let wanted = match options.ops {
        None => None,
        Some(glob) => Some(
            globset::Glob::new(glob).map_err(|e| Error::Usage(e.to_string()))?.compile_matcher(),
        ),
    };
    let named = |op: &&&Op| wanted.as_ref().is_none_or(|glob| glob.is_match(op.name));
    let chosen: Vec<&Op> = ops.iter().filter(named).copied().collect();
    if chosen.is_empty() {
        let names: Vec<_> = ops.iter().map(|op| op.name).collect();
        let glob = options.ops.unwrap_or("");
        return Err(Error::Usage(format!(
            "no op is called {glob:?}; there are: {}",
            names.join(", ")
        )));
    }
    let user = match options.model {
        Some(model) => tiles(model, options.level, Rng::new(options.seed, "tiles"))?,
        None => Vec::new(),
    };
    let mut session = Session::new(pair, options);
    for op in &chosen {
        (options.progress)(op.name);
        let rng = Rng::new(options.seed, op.name);
        let mut failed = Ok(());
        let mut take = |case: Case| {
            if failed.is_ok() && !session.lost {
                failed = options.cancel.check().and_then(|()| session.case(op, case));
            }
        };
        (op.make)(&mut Maker { level: options.level, rng, user: &user, take: &mut take });
        failed?;
    }
    Ok(session.finish(&chosen))
}

/// Runs the case of a file, which one of `ops` wrote, again.
///
/// # Errors
///
/// As [`read`]; [`Error::Format`] if no op has its name, or the file lacks what the op asks for.
pub fn replay(pair: &Pair, ops: &[&Op], path: &Path, options: &Options) -> Result<Report> {
    let (name, tiny, case) = read(path)?;
    let op = ops.iter().find(|op| op.name == name);
    let op = op.ok_or_else(|| Error::format(path, format!("there is no op {name:?}")))?;
    // A file that lacks what the op asks for is no case of it.
    if let Err(Error::Usage(why)) = check::attempt(op, &Backend::Cpu, &case.input) {
        return Err(Error::format(path, why));
    }
    let mut session = Session::new(pair, options);
    session.replayed = Some(path);
    session.on(op, case, tiny)?;
    // A case that could not be run shows nothing.
    let report = session.finish(&[op]);
    Ok(Report { level: "replay", ..report })
}

/// A run under way.
struct Session<'a> {
    pair: &'a Pair,
    options: &'a Options<'a>,
    started: Instant,
    cases: Vec<CaseReport>,
    /// Kernels that were started in a case that passed.
    covered: BTreeSet<&'static str>,
    /// Files written for each op.
    repros: BTreeMap<&'static str, usize>,
    replayed: Option<&'a Path>,
    lost: bool,
}

impl<'a> Session<'a> {
    fn new(pair: &'a Pair, options: &'a Options<'a>) -> Self {
        Self {
            pair,
            options,
            started: Instant::now(),
            cases: Vec::new(),
            covered: BTreeSet::new(),
            repros: BTreeMap::new(),
            replayed: None,
            lost: false,
        }
    }

    /// A case on the ordinary device, and on that of tiny limits if it may fit.
    fn case(&mut self, op: &Op, case: Case) -> Result<()> {
        let small = !case.ordinary && case.input.longest() * op.expands <= Pair::TINY_BYTES;
        if small && self.pair.has_tiny() {
            self.on(op, case.clone(), true)?;
        }
        self.on(op, case, false)
    }

    fn on(&mut self, op: &Op, case: Case, tiny: bool) -> Result<()> {
        if self.lost {
            return Ok(());
        }
        let verdict = self.pair.check(op, &case.input, tiny);
        let mut report = CaseReport::new(op, &case, tiny, &verdict);
        match &verdict.outcome {
            Outcome::Pass => self.covered.extend(&verdict.audited.kernels),
            Outcome::Unsupported(_) => {}
            Outcome::Lost(_) => self.lost = true,
            Outcome::Failed(failure) => self.failed(op, &case, tiny, failure, &mut report)?,
        }
        self.cases.push(report);
        Ok(())
    }

    /// Repeats, shrinks and writes what failed.
    fn failed(
        &mut self,
        op: &Op,
        case: &Case,
        tiny: bool,
        failure: &Failure,
        report: &mut CaseReport,
    ) -> Result<()> {
        let (cancel, lost) = (self.options.cancel, Cell::new(false));
        let fails = |input: &Input| match cancel.check() {
            // What is interrupted is soon over.
            Err(_) => false,
            Ok(()) => match self.pair.check(op, input, tiny).outcome {
                Outcome::Failed(f) => f.kind() == failure.kind(),
                Outcome::Lost(_) => {
                    lost.set(true);
                    false
                }
                _ => false,
            },
        };
        let failures = (0..REPEATS).filter(|_| fails(&case.input)).count();
        cancel.check()?;
        if lost.get() {
            self.lost = true;
            report.outcome = "lost";
            return Ok(());
        }
        report.repeated(REPEATS, failures);
        let adapter =
            self.options.adapter.map_or(String::new(), |name| format!(" --adapter '{name}'"));
        if let Some(path) = self.replayed {
            report.written(path, &adapter);
            return Ok(());
        }
        let written = self.repros.entry(op.name).or_default();
        if *written == REPROS {
            return Ok(());
        }
        *written += 1;
        let path =
            self.options.folder.join(format!("crosscheck-{}-{written}.safetensors", op.name));
        let mut smallest = case.clone();
        if failures == REPEATS {
            smallest.input = shrink(&case.input, TRIES, fails).input;
            let verdict = self.pair.check(op, &smallest.input, tiny);
            report.smallest(&CaseReport::new(op, &smallest, tiny, &verdict));
        }
        std::fs::create_dir_all(self.options.folder).map_err(Error::io(self.options.folder))?;
        write(&path, op.name, tiny, &smallest)?;
        report.written(&path, &adapter);
        Ok(())
    }

    /// Required are the kernels of the ops, but for those that need more than plain WGSL.
    fn finish(self, ops: &[&Op]) -> Report {
        let kernels = ops.iter().flat_map(|op| op.kernels);
        let (required, optional): (Vec<&Kernel>, Vec<&Kernel>) =
            kernels.partition(|kernel| kernel.features().is_empty());
        let names = |kernels: Vec<&Kernel>| kernels.iter().map(|k| k.name).collect::<BTreeSet<_>>();
        let (required, optional) = (names(required), names(optional));
        let missing = required.difference(&self.covered).copied().collect();
        let unavailable = optional.difference(&self.covered).copied().collect();
        let coverage = (required.len(), missing, unavailable);
        let seconds = self.started.elapsed().as_secs_f64();
        Report::new(self.pair, self.options, self.cases, coverage, seconds)
    }
}
