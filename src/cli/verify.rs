use crate::cli::{
    Common, exit_codes,
    json::{Answer, Asked, given},
    summary,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Result,
    pipeline::{self, Options},
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor verify small.safetensors
  tersor verify small.safetensors --against model.safetensors
  tersor verify small --against folder --json")]
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
    pub common: Common,
}

impl Verify {
    pub fn run(self) -> Result<u8> {
        let backend = self.common.backend()?;
        let report = {
            let progress = self.common.progress();
            let variant = self.variant.as_deref();
            let options = Options { variant, ..self.common.options(backend, &progress, false) };
            pipeline::verify(&self.archive, self.against.as_deref(), &options)?
        };
        let asked =
            Asked { against: self.against.as_deref().map(given), ..Asked::of(&self.archive) };
        self.common.print("verify", &Answer { asked, report: &report }, || {
            format!("every digest holds\n\n{}", summary::summary(&report))
        })?;
        Ok(exit_codes::of_report(&report))
    }
}
