use crate::cli::{
    Common, complain, exit_codes,
    json::{Answer, Asked, FoundReport, given},
    page_args::{PageArgs, of_job},
    recipe_args::RecipeArgs,
    summary,
    target_args::Claimed,
};
use clap::Args;
use std::path::{Path, PathBuf};
use tersor::{
    Backend, Device, Result, Silent,
    format::{Checkpoint, Target as OutputTarget, TextFile},
    page,
    pipeline::{self, Options},
    recipe::Recipe,
    search::{Found, Target},
};

#[derive(Args)]
#[command(
    override_usage = "tersor compress [OPTIONS] MODEL -o OUT --preset NAME
       tersor compress [OPTIONS] MODEL -o OUT --recipe FILE
       tersor compress [OPTIONS] MODEL -o OUT --bits N
       tersor compress [OPTIONS] MODEL -o OUT --target-size SIZE",
    after_long_help = "Examples:
  tersor compress model.safetensors -o small.safetensors -p int8
  tersor compress folder -o small --bits 4 --group 64 --keep 'lm_head.*'
  tersor compress folder -o small -p int8 --set '*.mlp.*=int4' --report p.html
  tersor compress folder -o small --recipe mine.toml --resume
  tersor compress folder -o small --target-size 900MiB --write-recipe found.toml"
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
    #[command(flatten)]
    page: PageArgs,
    /// Only plan: print what would be done and write nothing
    #[arg(long, conflicts_with = "report")]
    dry_run: bool,
    /// Replace an existing output, and an existing page
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
        if self.dry_run {
            let variant = self.variant.as_deref();
            let written = Some((&*self.output, self.force));
            return super::plan::print(&self.model, variant, &self.recipe, written, &self.common);
        }
        let output = tersor::format::in_folder(&self.output, &self.model);
        let (recipe, found) = match self.recipe.aim()? {
            None => (self.recipe.read()?, None),
            Some(target) => {
                let (found, claimed) = self.search(target, &output)?;
                (found.recipe.clone(), Some((found, claimed)))
            }
        };
        let (found, claimed) = found.unzip();
        let page = self.claim_page(&recipe, found.as_ref(), &output)?;
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
            tersor::format::spare(&output, self.recipe.recipe.as_ref())?;
            let report = pipeline::compress(&self.model, &self.output, &recipe, &options)?;
            if let (Some(claimed), Some(found)) = (claimed, &found) {
                claimed.publish(found)?;
            }
            if let Some((page, asked)) = page {
                let source = Some(&*self.model);
                let read = (&*output, source);
                of_job(page, &asked, &report, read, &options).inspect_err(|_| {
                    let out = tersor::format::shown(&self.output);
                    complain(&format!("tersor: {out} is written and verified; its page is not:"));
                })?;
            }
            report
        };
        let asked = Asked {
            output: Some(given(&self.output)),
            report: self.page.given(),
            recipe: Some(self.recipe.given()),
            search: found.as_ref().map(FoundReport::new),
            ..Asked::of(&self.model)
        };
        self.common.print("compress", &Answer { asked, report: &report }, || {
            let out = tersor::format::shown(&self.output);
            let back = format!("tersor decompress {} -o RESTORED", in_a_shell(&out));
            let page = self.page.said();
            let found = found.as_ref().map_or_else(String::new, |f| self.recipe.target.said(f));
            format!(
                "{}\nwritten to {out}; to restore it:\n  {back}\n{found}{page}",
                summary::summary(&report)
            )
        })?;
        Ok(exit_codes::of_report(&report))
    }

    /// The best recipe for a target. What refuses the output refuses it before.
    fn search(&self, target: Target, output: &Path) -> Result<(Found, Claimed)> {
        let variant = self.variant.as_deref();
        let source = Checkpoint::open_variant(&self.model, variant)?;
        drop(OutputTarget::claim(output, &source, self.force)?);
        let claimed = self.recipe.target.claim(&self.model, variant, Some(output), self.force)?;
        let (backend, progress) = (self.common.backend()?, self.common.progress());
        let options = Options { variant, ..self.common.options(backend, &progress, self.force) };
        let additions = self.recipe.additions();
        let found = self.recipe.target.search(target, &self.model, &additions, &options)?;
        Ok((found, claimed))
    }

    /// The place of the page, if one is asked for, and what it says of what was asked.
    fn claim_page(
        &self,
        recipe: &Recipe,
        found: Option<&Found>,
        output: &Path,
    ) -> Result<Option<(TextFile, page::Asked)>> {
        let importance = recipe.rules.iter().filter_map(|r| r.treatment.importance.as_deref());
        let read: Vec<&Path> = importance.chain(self.recipe.recipe.as_deref()).collect();
        let variant = self.variant.as_deref();
        let sources = || Ok(vec![Checkpoint::open_variant(&self.model, variant)?]);
        let Some(page) = self.page.claim(sources, &read, Some(output), self.force)? else {
            return Ok(None);
        };
        let (mut flags, recipe) = self.recipe.shown()?;
        let recipe = recipe.or_else(|| found.map(|f| f.text.clone()));
        flags.insert(0, ("--output".into(), given(&self.output)));
        flags.extend(variant.map(|v| ("--variant".into(), v.into())));
        let model = given(&self.model);
        Ok(Some((page, page::Asked { command: "compress", model, flags, recipe })))
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
