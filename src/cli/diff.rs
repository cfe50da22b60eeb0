use crate::cli::{
    CANCEL, bars, json, parse_size, parse_threads, print,
    table::{self, Rows},
};
use clap::Args;
use std::{io::IsTerminal, path::PathBuf};
use tersor::{
    Backend, Result,
    diff::{self, TensorDiff, TensorSide},
    pipeline::Options,
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor diff model.safetensors restored.safetensors
  tersor diff small.safetensors model.safetensors   # an archive is decoded
  tersor diff f32 bf16 --json")]
pub struct Diff {
    /// A checkpoint or an archive: a file, an index.json or a folder
    a: PathBuf,
    /// The other: errors are those of its tensors against A's
    b: PathBuf,
    /// List every tensor that differs, not only those furthest apart
    #[arg(long)]
    all: bool,
    /// Threads; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_threads, hide_short_help = true)]
    threads: usize,
    /// Memory the job may take: 512MiB, 4GiB, ...
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_size, hide_short_help = true)]
    memory: u64,
    /// Print one JSON object on stdout and nothing else
    #[arg(short, long)]
    pub json: bool,
    /// Print nothing but warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    /// The job was done, whatever it has found.
    ok: bool,
    a: String,
    b: String,
    #[serde(flatten)]
    diff: &'a diff::Diff,
}

/// Tensors that are listed, if not all are asked for.
const LISTED: usize = 20;

impl Diff {
    pub fn run(self) -> Result<u8> {
        let found = {
            let draw = !self.quiet && !self.json && std::io::stderr().is_terminal();
            let progress = bars::Bars::new(draw);
            let (threads, memory) = (self.threads, self.memory);
            let options = Options::new(&Backend::Cpu, &progress, &CANCEL);
            diff::diff(&self.a, &self.b, &Options { threads, memory, ..options })?
        };
        let (a, b) = (json::given(&self.a), json::given(&self.b));
        let report = Report { ok: true, a, b, diff: &found };
        print((self.json, self.quiet), "diff", &report, || self.text(&found))?;
        Ok(if found.equal { 0 } else { 1 })
    }

    fn text(&self, found: &diff::Diff) -> String {
        let mut text = String::new();
        let mut differ: Vec<&TensorDiff> = found.tensors.iter().filter(|t| !t.equal).collect();
        // Shapes and types that could not be compared first, then by what is furthest apart.
        let far = |t: &TensorDiff| match t.differing {
            None => f64::INFINITY,
            Some(_) => t.error.rel_error.unwrap_or(f64::MAX),
        };
        differ.sort_by(|a, b| far(b).total_cmp(&far(a)));
        let shown = if self.all { differ.len() } else { differ.len().min(LISTED) };
        if shown > 0 {
            let titles = ["tensor", "type", "rel error", "max error", "cosine", "differ"];
            let mut rows: Rows = table::head(&titles);
            rows.extend(differ[..shown].iter().map(|t| row(t)));
            text += &table::narrow(&rows);
            if shown < differ.len() {
                text += &format!("and {} more, see --all\n", differ.len() - shown);
            }
            text.push('\n');
        }
        for (names, path) in [(&found.only_in_a, &self.a), (&found.only_in_b, &self.b)] {
            if !names.is_empty() {
                let some = if self.all { names.len() } else { names.len().min(3) };
                let listed: Vec<_> = names[..some].iter().map(|n| table::name(n)).collect();
                let more = names.len() - some;
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let path = tersor::format::shown(path);
                text += &format!("{} only in {path}: {}{more}\n", names.len(), listed.join(", "));
            }
        }
        let equal = found.tensors.len() - differ.len();
        text + &match found.equal {
            true => format!("equal: {equal} tensors, bit for bit\n"),
            false => format!(
                "they differ: {equal} of {} tensors in both are equal\n",
                found.tensors.len()
            ),
        }
    }
}

fn row(t: &TensorDiff) -> Vec<String> {
    let both = |a: String, b: String| if a == b { a } else { format!("{a}, {b}") };
    let of = |side: &TensorSide| match t.a.shape == t.b.shape {
        true => side.dtype.to_owned(),
        false => format!("{} {}", side.dtype, table::shape(&side.shape)),
    };
    let differ = match t.differing {
        None => "all".into(),
        Some(n) => share(n, t.a.shape.iter().product()),
    };
    vec![
        table::name(&t.name),
        both(of(&t.a), of(&t.b)),
        table::number(t.error.rel_error),
        table::number(t.error.max_abs_error),
        table::number(t.error.cosine),
        differ,
    ]
}

/// A share of elements, which is nought only where there are none.
fn share(n: u64, all: u64) -> String {
    match 100.0 * n as f64 / all.max(1) as f64 {
        0.0 => "0".into(),
        share if share < 0.01 => "<0.01 %".into(),
        share => format!("{share:.2} %"),
    }
}
