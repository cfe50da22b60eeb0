use crate::cli::{
    Common, exit_codes,
    json::{Answer, Asked, given},
    page_args::{PageArgs, of_job},
    summary,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Result,
    format::{Checkpoint, TextFile},
    page,
    pipeline::{self, Options},
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor verify small.safetensors
  tersor verify small.safetensors --against model.safetensors
  tersor verify small --against folder --json
  tersor verify small --against folder --report small.html")]
pub struct Verify {
    /// An archive: a file, an index.json or a folder
    archive: PathBuf,
    /// The checkpoint it was made from: measures the error of every tensor
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Of the folder that it is compared with this variant: fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME", requires = "against")]
    variant: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    /// Replace an existing page
    #[arg(long, requires = "report")]
    force: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Verify {
    pub fn run(self) -> Result<u8> {
        let page = self.claim_page()?;
        let backend = self.common.backend()?;
        let report = {
            let progress = self.common.progress();
            let variant = self.variant.as_deref();
            let options = Options { variant, ..self.common.options(backend, &progress, false) };
            let against = self.against.as_deref();
            let report = pipeline::verify(&self.archive, against, &options)?;
            if let Some((page, asked)) = page {
                of_job(page, &asked, &report, (&self.archive, against), &options)?;
            }
            report
        };
        let asked = Asked {
            against: self.against.as_deref().map(given),
            report: self.page.given(),
            ..Asked::of(&self.archive)
        };
        self.common.print("verify", &Answer { asked, report: &report }, || {
            let page = self.page.said();
            format!("every digest holds\n\n{}{page}", summary::summary(&report))
        })?;
        Ok(exit_codes::of_report(&report))
    }

    /// The place of the page, if one is asked for, and what it says of what was asked.
    fn claim_page(&self) -> Result<Option<(TextFile, page::Asked)>> {
        let variant = self.variant.as_deref();
        let sources = || {
            let open = |path| Checkpoint::open_variant(path, variant);
            let against = self.against.as_deref().map(open).transpose()?;
            Ok([Checkpoint::open(&self.archive)?].into_iter().chain(against).collect())
        };
        let Some(page) = self.page.claim(sources, &[], None, self.force)? else { return Ok(None) };
        let mut flags = Vec::new();
        flags.extend(self.against.as_deref().map(|a| ("--against".into(), given(a))));
        flags.extend(variant.map(|v| ("--variant".into(), v.into())));
        let model = given(&self.archive);
        Ok(Some((page, page::Asked { command: "verify", model, flags, recipe: None })))
    }
}
