use crate::cli::{Common, exit_codes, table};
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
        self.common.print(&report, || {
            let mut rows = vec![
                vec!["in".into(), table::bytes(report.input_bytes)],
                vec!["out".into(), table::bytes(report.output_bytes)],
                vec!["tensors".into(), report.tensors.len().to_string()],
            ];
            rows.extend(table::work(&report));
            table::table(&rows)
        })?;
        Ok(exit_codes::of_report(&report))
    }
}
