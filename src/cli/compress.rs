use crate::cli::{
    Common, exit_codes,
    json::{Answer, Asked, given},
    recipe_args::RecipeArgs,
    summary,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Result,
    pipeline::{self, Options},
};

#[derive(Args)]
#[command(
    override_usage = "tersor compress [OPTIONS] MODEL -o OUT --preset NAME
       tersor compress [OPTIONS] MODEL -o OUT --recipe FILE
       tersor compress [OPTIONS] MODEL -o OUT --bits N",
    after_long_help = "Examples:
  tersor compress model.safetensors -o small.safetensors -p int8
  tersor compress folder -o small --bits 4 --group 64 --keep 'lm_head.*'
  tersor compress folder -o small -p int8 --set '*.mlp.*=int4' --max-error 0.15
  tersor compress folder -o small --recipe mine.toml --resume"
)]
pub struct Compress {
    /// A .safetensors file, an index.json or a Hugging Face folder
    model: PathBuf,
    /// The archive: a file for a file, a folder for a folder
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Only plan: print what would be done and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Make a folder in OUT.partial; if interrupted, keep its finished files, and go on with them next time
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Compress {
    pub fn run(self) -> Result<u8> {
        let recipe = self.recipe.read()?;
        if self.dry_run {
            return super::plan::print(&self.model, &recipe, self.recipe.given(), &self.common);
        }
        let backend = self.common.backend()?;
        let report = {
            let progress = self.common.progress();
            let resume = self.resume;
            let options = Options { resume, ..self.common.options(backend, &progress, self.force) };
            tersor::format::spare(&self.output, self.recipe.recipe.as_ref())?;
            pipeline::compress(&self.model, &self.output, &recipe, &options)?
        };
        let asked = Asked {
            output: Some(given(&self.output)),
            recipe: Some(self.recipe.given()),
            ..Asked::of(&self.model)
        };
        self.common.print("compress", &Answer { asked, report: &report }, || {
            let out = tersor::format::shown(&self.output);
            let back = format!("tersor decompress {} -o RESTORED", in_a_shell(&out));
            format!("{}\nwritten to {out}; to restore it:\n  {back}\n", summary::summary(&report))
        })?;
        Ok(exit_codes::of_report(&report))
    }
}

/// A path as a shell takes it for one word.
fn in_a_shell(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%".contains(c);
    match !path.is_empty() && path.chars().all(plain) {
        true => path.into(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
