//! What is in a checkpoint or an archive: tensors that repeat over layers as one line, or all of them.

mod groups;
mod lines;

use crate::cli::{
    Common,
    json::{Answer, Asked, given},
    page_args::PageArgs,
};
use clap::{Args, ValueEnum};
use globset::{Glob, GlobMatcher};
use groups::natural;
use std::{cmp::Ordering, path::PathBuf};
use tersor::{
    Backend, Error, Result,
    format::{Archive, Checkpoint, Opened, quoted},
    inspect::{self, ArchivedSummary, TensorSummary},
    page,
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor inspect model.safetensors --report page.html
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
    page: PageArgs,
    /// Replace an existing page
    #[arg(long, requires = "report")]
    force: bool,
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

impl Sort {
    /// Its name, where it is of what only reading the data tells.
    fn measured(self) -> Option<&'static str> {
        match self {
            Self::Name | Self::File | Self::Bytes => None,
            Self::Outliers => Some("outliers"),
            Self::Entropy => Some("entropy"),
            Self::Deviation => Some("deviation"),
        }
    }
}

impl Inspect {
    pub fn run(self) -> Result<u8> {
        let opened = Opened::open_variant(&self.model, self.variant.as_deref())?;
        let checkpoint = opened.stored();
        let archived = match &opened {
            Opened::Archive(archive) => Some((archive, inspect::archived(archive))),
            Opened::Checkpoint(_) => None,
        };
        // The text of an archive is of what it says of itself.
        let measures = !self.headers && (archived.is_none() || self.common.json);
        self.check_sort(measures)?;
        let mut tensors = inspect::headers(checkpoint);
        self.check_filters(&tensors, archived.as_ref().map(|(_, all)| &all[..]))?;
        let sources = || Ok(vec![Checkpoint::open_variant(&self.model, self.variant.as_deref())?]);
        let page = self.page.claim(sources, &[], None, self.force)?;
        let backend = match measures {
            true => Some(self.measure(checkpoint, &mut tensors)?),
            false => None,
        };
        let mut listed: Vec<(usize, &TensorSummary)> =
            tensors.iter().enumerate().filter(|(_, t)| self.wanted(&t.name)).collect();
        let mut of_archive: Option<Vec<(usize, &ArchivedSummary)>> = archived
            .as_ref()
            .map(|(_, all)| all.iter().enumerate().filter(|(_, t)| self.wanted(&t.name)).collect());
        // A program finds them in the order of the file, unless it asks for another.
        if !(self.common.json && self.sort == Sort::Name) {
            listed.sort_by(|(_, a), (_, b)| self.order(a, b));
            if let Some(of_archive) = &mut of_archive {
                of_archive.sort_by(|(_, a), (_, b)| match self.sort {
                    Sort::File => Ordering::Equal,
                    Sort::Bytes => b.bytes.cmp(&a.bytes),
                    _ => natural(&a.name, &b.name),
                });
            }
        }
        let (numbers, listed): (Vec<usize>, Vec<&TensorSummary>) = listed.into_iter().unzip();
        let (numbers, of_archive) = match of_archive {
            None => (numbers, None),
            Some(of_archive) => {
                let (numbers, of_archive): (Vec<_>, Vec<_>) = of_archive.into_iter().unzip();
                (numbers, Some(of_archive))
            }
        };
        if let Some(page) = page {
            let text = match (&archived, &of_archive) {
                (Some((archive, _)), Some(of_archive)) => {
                    self.page_of_archive(archive, of_archive, &numbers)?
                }
                _ => self.page_of_checkpoint(checkpoint, &listed, &numbers)?,
            };
            page.publish(&text)?;
        }
        let report = Report {
            ok: true,
            backend,
            bytes: checkpoint.bytes(),
            elements: listed.iter().map(|t| t.elements).sum(),
            tensors: listed,
            archived: of_archive,
        };
        let asked = Asked { report: self.page.given(), ..Asked::of(&self.model) };
        self.common.print("inspect", &Answer { asked, report: &report }, || {
            let text = match &report.archived {
                Some(archived) => lines::of_archive(archived, self.all, report.bytes),
                None => lines::of_checkpoint(&report.tensors, self.all, measures, report.bytes),
            };
            text + &self.page.said()
        })?;
        Ok(0)
    }

    /// Refuses an order by what is not measured.
    fn check_sort(&self, measures: bool) -> Result<()> {
        let Some(column) = self.sort.measured().filter(|_| !measures) else { return Ok(()) };
        Err(Error::Usage(match self.headers {
            true => format!(
                "--sort {column} goes by the data, which --headers does not read; leave one of them out"
            ),
            false => format!(
                "--sort {column} goes by the data, which is not read of an archive; leave it out"
            ),
        }))
    }

    /// Refuses a pattern that matches nothing that is there.
    fn check_filters(
        &self,
        tensors: &[TensorSummary],
        archived: Option<&[ArchivedSummary]>,
    ) -> Result<()> {
        // As text an archive is what it restores; the names of its components are there for programs alone.
        let stored = || tensors.iter().filter(|_| archived.is_none() || self.common.json);
        for glob in &self.filter {
            let of_archive = archived.unwrap_or_default().iter().any(|t| glob.is_match(&t.name));
            if !of_archive && !stored().any(|t| glob.is_match(&t.name)) {
                let glob = quoted(glob.glob().glob());
                return Err(Error::Usage(format!("--filter {glob} matches no tensor")));
            }
        }
        Ok(())
    }

    fn asked(&self) -> page::Asked {
        let flag = |name: &str, value: &str| (format!("--{name}"), value.to_owned());
        let mut flags = Vec::new();
        flags.extend(self.filter.iter().map(|glob| flag("filter", glob.glob().glob())));
        flags.extend(self.variant.iter().map(|v| flag("variant", v)));
        let model = given(&self.model);
        page::Asked { command: "inspect", model, flags, recipe: None }
    }

    fn page_of_checkpoint(
        &self,
        checkpoint: &Checkpoint,
        listed: &[&TensorSummary],
        numbers: &[usize],
    ) -> Result<String> {
        let progress = self.common.progress();
        let options = self.common.options(&Backend::Cpu, &progress, false);
        let chosen = page::of_summaries(listed);
        let of: Vec<usize> = chosen.iter().map(|i| numbers[*i]).collect();
        let weights = page::of_checkpoint(checkpoint, &of, &options)?;
        let weights: Vec<_> =
            chosen.iter().map(|i| listed[*i].name.as_str()).zip(weights).collect();
        Ok(page::checkpoint(&self.asked(), listed, &weights, checkpoint.bytes()))
    }

    fn page_of_archive(
        &self,
        archive: &Archive,
        listed: &[&ArchivedSummary],
        numbers: &[usize],
    ) -> Result<String> {
        let progress = self.common.progress();
        let options = self.common.options(&Backend::Cpu, &progress, false);
        let chosen = if self.headers { Vec::new() } else { page::of_archived(listed) };
        let of: Vec<_> = chosen.iter().map(|i| (numbers[*i], listed[*i].name.as_str())).collect();
        let weights = page::of_archive(archive, None, &of, &options)?;
        let weights: Vec<_> = of.iter().map(|(_, name)| *name).zip(weights).collect();
        Ok(page::archived(&self.asked(), listed, &weights, archive.stored.bytes()))
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
