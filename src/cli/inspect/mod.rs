//! What is in a checkpoint or an archive: tensors that repeat over layers as one line, or all of them.

mod groups;
mod lines;

use crate::cli::{
    Common,
    json::{Answer, Asked},
};
use clap::{Args, ValueEnum};
use globset::{Glob, GlobMatcher};
use groups::natural;
use std::{cmp::Ordering, path::PathBuf};
use tersor::{
    Error, Result,
    format::{Checkpoint, Opened},
    inspect::{self, ArchivedSummary, TensorSummary},
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor inspect model.safetensors
  tersor inspect folder --headers          # no data is read
  tersor inspect folder --all --sort outliers --filter '*.mlp.*'
  tersor inspect small.safetensors         # an archive: how each is stored")]
pub struct Inspect {
    /// A checkpoint or an archive: a .safetensors file, an index.json or a Hugging Face folder
    model: PathBuf,
    /// Read headers only: names, types, shapes and bytes
    #[arg(long)]
    headers: bool,
    /// Every tensor on a line of its own, with all columns, however wide
    #[arg(long)]
    all: bool,
    /// What comes first: names in their natural order, as stored, or the most
    #[arg(long, value_enum, default_value = "name")]
    sort: Sort,
    /// Only tensors of such names; may be repeated
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    filter: Vec<GlobMatcher>,
    /// Of a folder with several precisions of its weights this one: fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Name,
    File,
    Bytes,
    Outliers,
    Entropy,
    Deviation,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    ok: bool,
    /// Null where only headers were read.
    backend: Option<&'a str>,
    bytes: u64,
    elements: u64,
    tensors: Vec<&'a TensorSummary>,
    /// Null where it is no archive.
    archived: Option<Vec<&'a ArchivedSummary>>,
}

impl Inspect {
    pub fn run(self) -> Result<u8> {
        let opened = Opened::open_variant(&self.model, self.variant.as_deref())?;
        let checkpoint = opened.stored();
        let archived = match &opened {
            Opened::Archive(archive) => Some(inspect::archived(archive)),
            Opened::Checkpoint(_) => None,
        };
        let mut tensors = inspect::headers(checkpoint);
        // The text of an archive is of what it says of itself.
        let measures = !self.headers && (archived.is_none() || self.common.json);
        let backend = match measures {
            true => Some(self.measure(checkpoint, &mut tensors)?),
            false => None,
        };
        let mut listed: Vec<&TensorSummary> =
            tensors.iter().filter(|t| self.wanted(&t.name)).collect();
        let mut of_archive: Option<Vec<&ArchivedSummary>> =
            archived.as_ref().map(|all| all.iter().filter(|t| self.wanted(&t.name)).collect());
        // A program finds them in the order of the file, unless it asks for another.
        if !(self.common.json && self.sort == Sort::Name) {
            listed.sort_by(|a, b| self.order(a, b));
            if let Some(of_archive) = &mut of_archive {
                of_archive.sort_by(|a, b| match self.sort {
                    Sort::File => Ordering::Equal,
                    Sort::Bytes => b.bytes.cmp(&a.bytes),
                    _ => natural(&a.name, &b.name),
                });
            }
        }
        let report = Report {
            ok: true,
            backend,
            bytes: checkpoint.bytes(),
            elements: listed.iter().map(|t| t.elements).sum(),
            tensors: listed,
            archived: of_archive,
        };
        let answer = Answer { asked: Asked::of(&self.model), report: &report };
        self.common.print("inspect", &answer, || match &report.archived {
            Some(archived) => lines::of_archive(archived, self.all, report.bytes),
            None => lines::of_checkpoint(&report.tensors, self.all, measures, report.bytes),
        })?;
        Ok(0)
    }

    fn wanted(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|glob| glob.is_match(name))
    }

    /// Reads what is wanted; returns the name of the device that did.
    fn measure(
        &self,
        checkpoint: &Checkpoint,
        tensors: &mut [TensorSummary],
    ) -> Result<&'static str> {
        let backend = self.common.backend()?;
        let progress = self.common.progress();
        let wanted = |i: &usize| self.wanted(&checkpoint.tensors[*i].name);
        let numbers: Vec<usize> = (0..tensors.len()).filter(wanted).collect();
        let options = self.common.options(backend, &progress, false);
        inspect::measure(checkpoint, &numbers, tensors, &options)?;
        Ok(backend.name())
    }

    fn order(&self, a: &TensorSummary, b: &TensorSummary) -> Ordering {
        let most = |of: fn(&inspect::WeightSummary) -> f64| {
            let of = |t: &TensorSummary| t.weights.as_ref().map_or(-1.0, |w| of(w));
            of(b).total_cmp(&of(a))
        };
        let first = match self.sort {
            Sort::File => return Ordering::Equal,
            Sort::Name => Ordering::Equal,
            Sort::Bytes => b.bytes.cmp(&a.bytes),
            Sort::Outliers => most(|w| w.outliers as f64),
            Sort::Entropy => most(|w| w.entropy_bits),
            Sort::Deviation => most(|w| w.deviation.unwrap_or(-1.0)),
        };
        first.then_with(|| natural(&a.name, &b.name))
    }
}

fn parse_glob(text: &str) -> std::result::Result<GlobMatcher, String> {
    Glob::new(text)
        .map(|glob| glob.compile_matcher())
        .map_err(|e| Error::Usage(e.to_string()).to_string())
}
