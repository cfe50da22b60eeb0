use crate::cli::{
    Common, exit_codes,
    json::{Answer, Asked, given},
    recipe_args::RecipeArgs,
    summary,
};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Backend, Device, Result, Silent,
    format::Checkpoint,
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
    /// A .safetensors file, an index.json or a Hugging Face folder, a pipeline too
    model: PathBuf,
    /// The archive: a file for a file, which may be put in a folder, and a folder for a folder
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Of a folder with several precisions of its weights this one: fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
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
            let (variant, given) = (self.variant.as_deref(), self.recipe.given());
            return super::plan::print(&self.model, variant, &recipe, given, &self.common);
        }
        let backend = self.common.backend_if(|| {
            let options = self.common.options(&Backend::Cpu, &Silent, false);
            let checkpoint = Checkpoint::open_variant(&self.model, self.variant.as_deref())?;
            let plan = pipeline::plan_for(&checkpoint, &recipe, &options, Device::Cpu)?;
            Ok(plan.runs_kernels())
        })?;
        let report = {
            let progress = self.common.progress();
            let (resume, variant) = (self.resume, self.variant.as_deref());
            let common = self.common.options(backend, &progress, self.force);
            let options = Options { resume, variant, ..common };
            let output = tersor::format::in_folder(&self.output, &self.model);
            tersor::format::spare(&output, self.recipe.recipe.as_ref())?;
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
