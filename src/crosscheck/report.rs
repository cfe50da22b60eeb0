//! What a run found, as one object of JSON and as JUnit XML.

use crate::{
    crosscheck::{
        case::Case,
        check::{Outcome, Pair, Verdict},
        compare::{Class, shown},
        op::Op,
        options::{Level, Options},
    },
    gpu::{Gpu, Numerics},
};
use serde::Serialize;
use std::{fmt::Write, path::Path};

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `crosscheck/1`.
    pub schema: &'static str,
    /// Version of this program.
    pub tersor: &'static str,
    /// The same.
    pub tool: &'static str,
    /// Where random numbers started, in hexadecimal.
    pub seed: String,
    /// Whether all agreed and nothing required was missing.
    pub ok: bool,
    /// `quick`, `full` or `replay`.
    pub level: &'static str,
    /// What the adapter was compared with.
    pub reference: String,
    /// The adapter.
    pub adapter: Adapter,
    /// What its arithmetic does.
    pub numerics: Fingerprint,
    /// Counts.
    pub summary: Summary,
    /// Required kernels that no passing case has run.
    pub missing: Vec<&'static str>,
    /// Kernels that are not required, because they need more than plain WGSL, and did not run here.
    pub unavailable: Vec<&'static str>,
    /// Whether the device was lost before the end.
    pub lost: bool,
    /// Time of all.
    pub seconds: f64,
    /// Every case, in order.
    pub cases: Vec<CaseReport>,
}

/// The adapter of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "names say it")]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub vendor: u32,
    /// The first half of a blake3 digest of the limits that the device was opened with.
    pub limits_sha: String,
    pub software: bool,
    /// All of it in one line.
    pub title: String,
}

/// What WGSL leaves open, and the device does.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Fingerprint {
    /// Sums are rounded to nearest even.
    pub rne_add: bool,
    /// Subnormal results become zero.
    pub ftz: bool,
    /// `a * b + c` is rounded once.
    pub fma_contracts: bool,
    /// `(a + b) - a` is simplified to `b`.
    pub reassociates: bool,
    /// `x != x` holds for NaN.
    pub nan_cmp: bool,
    /// A zero that the compiler does not know keeps it from simplifying.
    pub barrier_ok: bool,
    /// Conversion to f16 rounds to nearest even.
    pub f16_rne: bool,
    /// Products are rounded to nearest even.
    pub rne_multiply: bool,
    /// `round` takes ties to even.
    pub round_ties_even: bool,
}

impl From<Numerics> for Fingerprint {
    fn from(n: Numerics) -> Self {
        Self {
            rne_add: n.add_exact,
            ftz: n.flushes_subnormals,
            fma_contracts: n.contracts,
            reassociates: n.reassociates,
            nan_cmp: n.nan_unequal,
            barrier_ok: n.barrier_holds,
            f16_rne: n.f16_ties_even,
            rne_multiply: n.multiply_exact,
            round_ties_even: n.round_ties_even,
        }
    }
}

/// Counts of a run: kernels that had to be covered, and cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "names say it")]
pub struct Summary {
    pub required: usize,
    pub run: usize,
    pub pass: usize,
    pub fail: usize,
    pub unsupported: usize,
    /// Of those that failed: which did not always fail.
    pub flaky: usize,
}

/// A case.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CaseReport {
    /// The op.
    pub op: String,
    /// `E0` exact, `E1` in ulps, `E2` within a bound of its own, or the name of a property.
    pub class: String,
    /// Of its first tensor.
    pub shape: [usize; 2],
    /// Of its first tensor.
    pub dtype: String,
    /// Where its values come from.
    pub source: String,
    /// `ordinary`, or `tiny` for the device of tiny limits.
    pub device: &'static str,
    /// `pass`, `fail`, `flaky`, `unsupported` or `lost`.
    pub outcome: &'static str,
    /// Elements compared.
    pub elements: usize,
    /// Of the element furthest from what was expected; none where either is no number.
    pub max_ulp: f64,
    /// Ulps that are allowed; none where every element has a bound of its own.
    pub bound_ulp: Option<f64>,
    /// Largest absolute difference; none where either is no number.
    pub max_abs: f64,
    /// Largest difference as a share of what its element is allowed: 0 where results are equal.
    pub max_share: f64,
    /// Row and column of the worst element.
    pub worst_index: Vec<usize>,
    /// Patterns of the inputs at this index.
    pub in_bits: Vec<String>,
    /// What was expected there.
    pub want: String,
    /// What came.
    pub got: String,
    /// Share of elements that are wrong.
    pub bad_share: f64,
    /// How often it ran.
    pub runs: usize,
    /// Whether it did not fail every time.
    pub flaky: bool,
    /// `ok`, `overrun` or `changed`.
    pub guards: &'static str,
    /// Elements that no one wrote.
    pub unwritten: usize,
    /// Microseconds of the first run, transfers included.
    pub us: u64,
    /// What is wrong, in words.
    pub why: Option<String>,
    /// What the wrong elements have in common.
    pub pattern: Option<String>,
    /// The smallest case found that fails in the same way.
    pub shrunk: Option<Box<CaseReport>>,
    /// The file that replays it.
    pub repro: Option<String>,
    /// The command that replays it.
    pub replay: Option<String>,
}

/// How many kernels are required, which of them were not covered, and which of the others.
pub(super) type Coverage = (usize, Vec<&'static str>, Vec<&'static str>);

impl CaseReport {
    pub(super) fn new(op: &Op, case: &Case, tiny: bool, verdict: &Verdict) -> Self {
        let first = case.input.tensors.first().map(|t| &t.1);
        let mut report = Self {
            op: op.name.into(),
            class: op.class.name(),
            shape: first.map_or([0, 0], |d| [d.rows, d.cols]),
            dtype: first.map_or("", |d| d.dtype.name()).into(),
            source: case.source.clone(),
            device: if tiny { "tiny" } else { "ordinary" },
            elements: verdict.distance.elements,
            max_ulp: verdict.distance.max_ulp,
            max_abs: verdict.distance.max_abs,
            max_share: verdict.distance.max_share,
            bound_ulp: match op.class {
                Class::Exact => Some(0.0),
                Class::Ulps(ulps, ..) => Some(ulps),
                Class::Bound(_) | Class::Invariant(..) => None,
            },
            runs: 2,
            guards: match (verdict.audited.overrun, verdict.audited.changed) {
                (0, 0) => "ok",
                (0, _) => "changed",
                _ => "overrun",
            },
            unwritten: verdict.unwritten,
            us: verdict.took.as_micros() as u64,
            ..Self::default()
        };
        report.outcome = match &verdict.outcome {
            Outcome::Pass => "pass",
            Outcome::Unsupported(why) => {
                report.why = Some(why.clone());
                "unsupported"
            }
            Outcome::Lost(why) => {
                report.why = Some(why.clone());
                "lost"
            }
            Outcome::Failed(failure) => {
                report.why = Some(failure.text());
                if let Some(d) = failure.difference() {
                    report.worst_index = d.index.to_vec();
                    (report.want, report.got) = (d.want.clone(), d.got.clone());
                    report.bad_share = d.wrong as f64 / d.elements.max(1) as f64;
                    (report.max_ulp, report.max_abs) = (d.ulp, d.abs);
                    (report.elements, report.pattern) = (d.elements, Some(d.pattern.clone()));
                    // The inputs that are of the output's form have an element there.
                    for (name, data) in &case.input.tensors {
                        let at = d.index[0] * data.cols + d.index[1];
                        if data.rows * data.cols == d.elements && at < data.elements() {
                            let element = shown(data.value(at), data.bits(at), data.width());
                            report.in_bits.push(format!("{name} {element}"));
                        }
                    }
                }
                "fail"
            }
        };
        report
    }

    pub(super) fn repeated(&mut self, times: usize, failures: usize) {
        self.runs += 2 * times;
        if failures < times {
            (self.flaky, self.outcome) = (true, "flaky");
            let why = self.why.take().unwrap_or_default();
            self.why = Some(format!("{why}; {failures} of {times} repetitions fail"));
        }
    }

    pub(super) fn smallest(&mut self, smallest: &Self) {
        self.shrunk = Some(Box::new(smallest.clone()));
    }

    pub(super) fn written(&mut self, path: &Path, adapter: &str) {
        self.repro = Some(path.display().to_string());
        self.replay = Some(format!("tersor crosscheck --replay '{}'{adapter}", path.display()));
    }

    /// What identifies it among the cases of its op.
    pub fn title(&self) -> String {
        let [rows, cols] = self.shape;
        format!("{} {} [{rows}, {cols}] on the {} device", self.source, self.dtype, self.device)
    }

    /// A failure in a few lines.
    pub fn text(&self) -> String {
        let mut text =
            format!("{}: {}: {}\n", self.op, self.title(), self.why.as_deref().unwrap_or(""));
        let shown = self.shrunk.as_deref().unwrap_or(self);
        if self.shrunk.is_some() {
            _ = writeln!(text, "  smallest: {}", shown.title());
        }
        if !shown.worst_index.is_empty() {
            _ = writeln!(text, "  at {:?}", shown.worst_index);
            _ = writeln!(text, "  expected {}", shown.want);
            _ = writeln!(text, "  got {}, {} ulp away", shown.got, shown.max_ulp);
            for bits in &shown.in_bits {
                _ = writeln!(text, "  from {bits}");
            }
        }
        if let Some(pattern) = &self.pattern {
            let share = 100.0 * self.bad_share;
            _ = writeln!(text, "  wrong: {share:.3} % of {} elements, {pattern}", self.elements);
        }
        if let Some(replay) = &self.replay {
            _ = writeln!(text, "  {replay}");
        }
        text
    }
}

impl Report {
    pub(super) fn new(
        pair: &Pair,
        options: &Options,
        cases: Vec<CaseReport>,
        (required, missing, unavailable): Coverage,
        seconds: f64,
    ) -> Self {
        let count = |outcome: &str| cases.iter().filter(|c| c.outcome == outcome).count();
        let summary = Summary {
            required,
            run: cases.len(),
            pass: count("pass"),
            fail: count("fail") + count("flaky"),
            unsupported: count("unsupported"),
            flaky: count("flaky"),
        };
        let lost = count("lost") > 0;
        Self {
            schema: "crosscheck/1",
            tersor: env!("CARGO_PKG_VERSION"),
            tool: env!("CARGO_PKG_VERSION"),
            seed: format!("0x{:016x}", options.seed),
            ok: summary.fail == 0 && missing.is_empty() && !lost && summary.run > 0,
            level: match options.level {
                Level::Quick => "quick",
                Level::Full => "full",
            },
            reference: pair.names()[0].to_owned(),
            adapter: pair.gpu().map(adapter).unwrap_or_default(),
            numerics: pair.gpu().map(|gpu| gpu.numerics().into()).unwrap_or_default(),
            summary,
            missing,
            unavailable,
            lost,
            seconds,
            cases,
        }
    }

    /// What a run ends with: 5 the device was lost, 1 results differ, 3 they do only sometimes, 4 a required kernel was not
    /// run, 0 all is well.
    pub fn exit_code(&self) -> u8 {
        match self.summary {
            _ if self.lost => 5,
            s if s.fail > s.flaky => 1,
            s if s.flaky > 0 => 3,
            s if !self.missing.is_empty() || s.run == 0 => 4,
            _ => 0,
        }
    }

    /// Cases of each op, in the order that they ran.
    pub fn by_op(&self) -> Vec<(&str, Vec<&CaseReport>)> {
        let mut all: Vec<(&str, Vec<&CaseReport>)> = Vec::new();
        for case in &self.cases {
            match all.last_mut() {
                Some((op, cases)) if *op == case.op => cases.push(case),
                _ => all.push((&case.op, vec![case])),
            }
        }
        all
    }

    /// The run as JUnit XML, a suite for each op.
    pub fn junit(&self) -> String {
        let Summary { run, fail, unsupported, required, .. } = self.summary;
        let missing = self.missing.len();
        let kernels = missing + usize::from(required > missing);
        let (tests, failures) = (run + kernels, fail + missing);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let (title, seconds) = (escaped(&self.adapter.title), self.seconds);
        _ = writeln!(
            xml,
            "<testsuites name=\"tersor crosscheck on {title}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{unsupported}\" time=\"{seconds:.3}\">"
        );
        for (op, cases) in self.by_op() {
            let count = |of: &[&str]| cases.iter().filter(|c| of.contains(&c.outcome)).count();
            let seconds = cases.iter().map(|c| c.us).sum::<u64>() as f64 / 1e6;
            _ = writeln!(
                xml,
                "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.6}\">",
                escaped(op),
                cases.len(),
                count(&["fail", "flaky"]),
                count(&["lost"]),
                count(&["unsupported"]),
            );
            for (n, case) in cases.iter().enumerate() {
                let name = escaped(&format!("{n} {}", case.title()));
                let seconds = case.us as f64 / 1e6;
                let head = format!(
                    "<testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.6}\"",
                    escaped(op)
                );
                let why = escaped(case.why.as_deref().unwrap_or(""));
                _ = match case.outcome {
                    "pass" => writeln!(xml, "{head}/>"),
                    "unsupported" => {
                        writeln!(xml, "{head}><skipped message=\"{why}\"/></testcase>")
                    }
                    "lost" => writeln!(xml, "{head}><error message=\"{why}\"/></testcase>"),
                    _ => writeln!(
                        xml,
                        "{head}><failure message=\"{why}\">{}</failure></testcase>",
                        escaped(&case.text())
                    ),
                };
            }
            xml.push_str("</testsuite>\n");
        }
        // That a kernel ran at all is a test of its own.
        _ = writeln!(
            xml,
            "<testsuite name=\"required kernels\" tests=\"{kernels}\" failures=\"{missing}\">"
        );
        for kernel in &self.missing {
            let kernel = escaped(kernel);
            _ = writeln!(
                xml,
                "<testcase classname=\"required kernels\" name=\"{kernel}\"><failure message=\"no case that passed has run it\"/></testcase>"
            );
        }
        if required > missing {
            let covered = required - missing;
            _ = writeln!(
                xml,
                "<testcase classname=\"required kernels\" name=\"{covered} that ran\"/>"
            );
        }
        xml.push_str("</testsuite>\n</testsuites>\n");
        xml
    }
}

fn adapter(gpu: &Gpu) -> Adapter {
    let a = gpu.adapter();
    Adapter {
        name: a.name.clone(),
        backend: a.backend.clone(),
        driver: a.driver.clone(),
        vendor: a.vendor,
        limits_sha: gpu.limits_digest(),
        software: a.software,
        title: a.title.clone(),
    }
}

/// Text in XML: what has a meaning there as entities, what may not stand there as a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
