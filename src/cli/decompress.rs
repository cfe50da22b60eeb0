use crate::cli::{
    Common, exit_codes,
    json::{Answer, Asked, given},
    summary, table,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{Result, format::Archive, pipeline};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor decompress small.safetensors -o restored.safetensors
  tersor decompress small -o restored      # a folder becomes a folder
  tersor decompress small -o restored --force --memory 1GiB")]
pub struct Decompress {
    /// An archive: a file, an index.json or a folder
    archive: PathBuf,
    /// The checkpoint: a file for a file, which may be put in a folder, and a folder for a folder
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Decompress {
    pub fn run(self) -> Result<u8> {
        let backend = self.common.backend_if(|| Ok(Archive::open(&self.archive)?.holds_codes()))?;
        let report = {
            let progress = self.common.progress();
            let options = self.common.options(backend, &progress, self.force);
            pipeline::decompress(&self.archive, &self.output, &options)?
        };
        let asked = Asked { output: Some(given(&self.output)), ..Asked::of(&self.archive) };
        self.common.print("decompress", &Answer { asked, report: &report }, || {
            let most = report.input_bytes.max(report.output_bytes);
            let mut rows = vec![
                vec!["in".into(), table::in_unit_of(report.input_bytes, most)],
                vec!["out".into(), table::in_unit_of(report.output_bytes, most)],
                vec!["tensors".into(), report.tensors.len().to_string()],
            ];
            rows.extend(summary::work(&report));
            format!("{}written to {}\n", table::table(&rows), tersor::format::shown(&self.output))
        })?;
        Ok(exit_codes::of_report(&report))
    }
}
