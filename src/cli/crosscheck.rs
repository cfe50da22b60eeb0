use crate::cli::{CANCEL, parse_threads, say, table};
use clap::Args;
use std::{
    collections::BTreeMap,
    fmt::Write,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tersor::{
    Error, Result,
    crosscheck::{self, Level, Options, Pair, Report, ops},
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor crosscheck
  tersor crosscheck --full --report report.json
  tersor crosscheck --ops 'matmul_*' --seed 7 --adapter llvmpipe
  tersor crosscheck --replay crosscheck-nm_mask-1.safetensors    # what a failure has left")]
pub struct Crosscheck {
    /// Ask tensors of this checkpoint as well
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// About a minute on a software adapter; what is done if nothing else is said
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every type with every shape, 20,000 cases and more
    #[arg(long)]
    full: bool,
    /// Only ops of this name; * and ? stand for others
    #[arg(long, value_name = "GLOB")]
    ops: Option<String>,
    /// Where random numbers start, decimal or 0x...; one of its own for each run if nothing is said
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: Option<u64>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Run the case of one file that a failure has left
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "quick", "full", "ops", "seed"])]
    replay: Option<PathBuf>,
    /// Where files that replay failures go
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    repro: PathBuf,
    /// Part of the name of the GPU adapter to check
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Threads of the CPU backend; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_threads)]
    threads: usize,
    /// Print one JSON object on stdout and nothing else
    #[arg(short, long)]
    pub json: bool,
    /// Print nothing but warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

impl Crosscheck {
    pub fn run(self) -> Result<u8> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|e| Error::Usage(format!("threads: {e}")))?;
        // Before the work, not after it.
        for path in [&self.report, &self.junit].into_iter().flatten() {
            std::fs::File::create(path).map_err(Error::io(path))?;
        }
        let pair = Pair::open(self.adapter.as_deref())?;
        let loud = !self.quiet && !self.json && std::io::stderr().is_terminal();
        let progress = |op: &str| {
            if loud {
                eprint!("\r\x1b[K{op}");
            }
        };
        let options = Options {
            level: if self.full { Level::Full } else { Level::Quick },
            seed: self.seed.unwrap_or_else(clock),
            ops: self.ops.as_deref(),
            model: self.model.as_deref(),
            folder: &self.repro,
            adapter: self.adapter.as_deref(),
            progress: &progress,
            cancel: &CANCEL,
        };
        let report = pool.install(|| match &self.replay {
            Some(path) => crosscheck::replay(&pair, ops::ALL, path, &options),
            None => crosscheck::run(&pair, ops::ALL, &options),
        });
        if loud {
            eprint!("\r\x1b[K");
        }
        let report = report?;
        let json = || {
            serde_json::to_string(&report)
                .map_err(|e| Error::Io { path: "the report".into(), source: e.into() })
        };
        if let Some(path) = &self.report {
            write(path, &json()?)?;
        }
        if let Some(path) = &self.junit {
            write(path, &report.junit())?;
        }
        if self.json {
            say(&format!("{}\n", json()?))?;
        } else if !self.quiet || !report.ok {
            say(&text(&report))?;
        }
        Ok(report.exit_code())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))
}

/// A seed that differs from run to run; it is printed, and stored.
fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64
}

fn parse_seed(text: &str) -> std::result::Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is no number; try 1 or 0x1f"))
}

/// Failures that are printed in full.
const FAILURES: usize = 8;

/// One screen: what was checked, how it went by op, and what failed.
fn text(report: &Report) -> String {
    let n = &report.numerics;
    let mut text = format!(
        "{}\ncompared with {}, seed {}\n",
        report.adapter.title, report.reference, report.seed
    );
    let yes = |name: &str, b: bool| format!("{name} {}", if b { "yes" } else { "no" });
    let fingerprint = [
        yes("sums and products round to nearest even", n.rne_add && n.rne_multiply),
        yes("subnormals flushed", n.ftz),
        yes("a*b+c contracted", n.fma_contracts),
        yes("reassociates", n.reassociates),
        yes("NaN != NaN", n.nan_cmp),
        yes("barrier holds", n.barrier_ok),
        yes("f16 to nearest even", n.f16_rne),
    ];
    _ = writeln!(text, "{}; limits {}\n", fingerprint.join("; "), report.adapter.limits_sha);
    let head = ["op", "class", "cases", "failed", "unsupported", "elements", "worst", "ms"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (op, cases) in report.by_op() {
        let count = |of: &[&str]| cases.iter().filter(|c| of.contains(&c.outcome)).count();
        let worst = cases.iter().map(|c| c.max_share).fold(0.0, f64::max);
        rows.push(vec![
            op.to_owned(),
            cases[0].class.clone(),
            cases.len().to_string(),
            count(&["fail", "flaky", "lost"]).to_string(),
            count(&["unsupported"]).to_string(),
            cases.iter().map(|c| c.elements).sum::<usize>().to_string(),
            if worst == 0.0 { "equal".into() } else { format!("{worst:.2} of bound") },
            (cases.iter().map(|c| c.us).sum::<u64>() / 1000).to_string(),
        ]);
    }
    text += &table::table(&rows);
    let failed: Vec<_> =
        report.cases.iter().filter(|c| !matches!(c.outcome, "pass" | "unsupported")).collect();
    // One of each op first: they say more than many of one.
    let mut shown: Vec<&crosscheck::CaseReport> = Vec::new();
    for case in &failed {
        if shown.len() < FAILURES && shown.iter().all(|s| s.op != case.op) {
            shown.push(case);
        }
    }
    for case in &shown {
        _ = write!(text, "\n{}", case.text());
    }
    if failed.len() > shown.len() {
        _ = writeln!(
            text,
            "\nand {} more failures; --report FILE writes all",
            failed.len() - shown.len()
        );
    }
    let s = report.summary;
    _ = writeln!(
        text,
        "\n{} of {} cases agree, {} failed ({} only sometimes), {} unsupported, in {:.1} s",
        s.pass, s.run, s.fail, s.flaky, s.unsupported, report.seconds
    );
    let mut refused: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for case in report.cases.iter().filter(|c| c.outcome == "unsupported") {
        *refused.entry((&case.op, case.why.as_deref().unwrap_or(""))).or_default() += 1;
    }
    for ((op, why), n) in &refused {
        _ = writeln!(text, "unsupported: {op}, {n} cases: {why}");
    }
    if !report.unavailable.is_empty() {
        _ = writeln!(
            text,
            "not on this device, and not required: {}",
            report.unavailable.join(", ")
        );
    }
    if !report.missing.is_empty() {
        _ = writeln!(
            text,
            "required, but not run by any case that passed: {}",
            report.missing.join(", ")
        );
    }
    if report.lost {
        text += "the device was lost: what followed was not run\n";
    }
    text
}
