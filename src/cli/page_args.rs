//! `--report`: what a job says, as a page too.

use crate::cli::json::given;
use clap::Args;
use std::path::{Path, PathBuf};
use tersor::{
    Result,
    format::{Archive, Checkpoint, TextFile, TextKind, shown},
    page::{self, Asked},
    pipeline::Options,
    report::Report,
};

/// What a page is.
const PAGE: TextKind = TextKind { flag: "--report", is: "page", endings: &["html", "htm"] };

/// The page of a job.
#[derive(Args)]
pub struct PageArgs {
    /// Write the report as a page too: one file of HTML, with pictures, that loads nothing
    #[arg(long, value_name = "PAGE.html")]
    report: Option<PathBuf>,
}

impl PageArgs {
    /// Its name, as it was given.
    pub fn given(&self) -> Option<String> {
        self.report.as_deref().map(given)
    }

    /// Where it will be, before the job whose report it is: what refuses it, refuses the job. `sources` opens the checkpoints that the
    /// job reads; `read` are other files, and `output` is what it writes.
    pub fn claim(
        &self,
        sources: impl FnOnce() -> Result<Vec<Checkpoint>>,
        read: &[&Path],
        output: Option<&Path>,
        force: bool,
    ) -> Result<Option<TextFile>> {
        let Some(path) = &self.report else { return Ok(None) };
        let sources = sources()?;
        TextFile::claim(PAGE, path, &sources.iter().collect::<Vec<_>>(), read, output, force)
            .map(Some)
    }

    /// What is said of it at the end.
    pub fn said(&self) -> String {
        self.report.as_deref().map_or(String::new(), |p| format!("\nthe page is {}\n", shown(p)))
    }
}

/// Writes the page of a job on an archive, which is compared with a source or with nothing.
pub fn of_job(
    page: TextFile,
    asked: &Asked,
    report: &Report,
    (archive, source): (&Path, Option<&Path>),
    options: &Options,
) -> Result<()> {
    let archive = Archive::open(archive)?;
    let open = |path| Checkpoint::open_variant(path, options.variant);
    let source = source.map(open).transpose()?;
    let chosen = page::of_report(report).into_iter();
    let chosen: Vec<_> = chosen.map(|i| (i, report.tensors[i].name.as_str())).collect();
    let weights = page::of_archive(&archive, source.as_ref(), &chosen, options)?;
    page.publish(&page::job(asked, report, source.is_some(), &weights))
}
