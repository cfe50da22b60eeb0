//! Whether a GPU computes what the CPU backend computes: every kernel, on cases that are chosen to find out.
//!
//! A case is plain data ([`Input`]); a kernel says how cases are made and run ([`ops::Op`]) and how closely results must agree
//! ([`Class`]). Every case runs twice on an audited device ([`crate::gpu::Gpu::audit`]) whose buffers start as one pattern and
//! then as another: results must be equal, guards whole, inputs unchanged. A failing case is repeated, shrunk, and written to
//! a file that replays it.

mod case;
mod check;
mod compare;
mod inputs;
pub mod ops;
mod report;
mod shrink;
mod tiles;

pub use case::{Case, Data, Input, Outputs, read, write};
pub use check::{Failure, Outcome, Pair, Verdict};
pub use compare::{Bounds, Class, Difference, Distance, exact, ulp_at, within};
pub use inputs::{Admits, Maker, Rng, Values, WEIGHTS, Weights, shapes, weights};
pub use report::{Adapter, CaseReport, Fingerprint, Report, Summary};
pub use shrink::{Shrunk, shrink};
pub use tiles::tiles;

use crate::{Cancel, Error, Result, kernels};
use ops::Op;
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// About a minute on a software device.
    Quick,
    /// Every type with every shape.
    Full,
}

/// What to check, and where to leave what failed.
pub struct Options<'a> {
    /// How many cases.
    pub level: Level,
    /// Where random numbers start.
    pub seed: u64,
    /// Names of ops, with `*` and `?`; all without.
    pub ops: Option<&'a str>,
    /// A checkpoint whose tensors are asked as well.
    pub model: Option<&'a Path>,
    /// The folder for files that replay a failure.
    pub folder: &'a Path,
    /// What a command line must name to open the same adapter.
    pub adapter: Option<&'a str>,
    /// Told before each op.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Ends the run.
    pub cancel: &'a Cancel,
}

/// Failures of one op that are shrunk and written.
const REPROS: usize = 3;

/// How often a failing case is repeated.
const REPEATS: usize = 10;

/// Cases that shrinking tries before it looks at values.
const TRIES: usize = 200;

/// Checks every op on every device of the pair.
///
/// # Errors
///
/// [`Error::Usage`] if no op has such a name, [`Error::Interrupted`], what opening the model fails with, and [`Error::Io`] if
/// a replay file cannot be written. What a device does wrong is in the report.
pub fn run(pair: &Pair, options: &Options) -> Result<Report> {
    let wanted = match options.ops {
        None => None,
        Some(glob) => Some(
            globset::Glob::new(glob).map_err(|e| Error::Usage(e.to_string()))?.compile_matcher(),
        ),
    };
    let chosen: Vec<&Op> = ops::ALL
        .iter()
        .filter(|op| wanted.as_ref().is_none_or(|glob| glob.is_match(op.name)))
        .copied()
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = ops::ALL.iter().map(|op| op.name).collect();
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
    let required: BTreeSet<&'static str> = match options.ops {
        None => kernels::ALL.iter().filter(|k| k.features().is_empty()).map(|k| k.name).collect(),
        Some(_) => chosen.iter().flat_map(|op| op.kernels).copied().collect(),
    };
    Ok(session.finish(&required))
}

/// Runs the case of a file again.
///
/// # Errors
///
/// As [`read`]; [`Error::Usage`] if no op has its name.
pub fn replay(pair: &Pair, path: &Path, options: &Options) -> Result<Report> {
    let (name, tiny, case) = read(path)?;
    let op = ops::ALL.iter().find(|op| op.name == name);
    let op = op.ok_or_else(|| Error::format(path, format!("there is no op {name:?}")))?;
    // A file that lacks what the op asks for is no case of it.
    if let Err(Error::Usage(why)) = check::attempt(op, &crate::Backend::Cpu, &case.input) {
        return Err(Error::format(path, why));
    }
    let mut session = Session::new(pair, options);
    session.replayed = Some(path);
    session.on(op, case, tiny)?;
    // A case that could not be run shows nothing.
    let report = session.finish(&op.kernels.iter().copied().collect());
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

    fn finish(self, required: &BTreeSet<&'static str>) -> Report {
        let missing = required.difference(&self.covered).copied().collect();
        let optional = kernels::ALL.iter().filter(|k| !k.features().is_empty()).map(|k| k.name);
        let unavailable = optional.filter(|k| !self.covered.contains(k)).collect();
        let coverage = (required.len(), missing, unavailable);
        let seconds = self.started.elapsed().as_secs_f64();
        Report::new(self.pair, self.options, self.cases, coverage, seconds)
    }
}
