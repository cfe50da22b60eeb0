use crate::cli::{
    Common,
    json::{Answer, Asked, RecipeGiven},
    recipe_args::RecipeArgs,
    table,
};
use clap::Args;
use std::path::{Path, PathBuf};
use tersor::{
    Progress, Result, Silent, format::Checkpoint, pipeline, plan::PlannedTensor, recipe::Recipe,
};

#[derive(Args)]
#[command(
    override_usage = "tersor plan [OPTIONS] MODEL --preset NAME
       tersor plan [OPTIONS] MODEL --recipe FILE
       tersor plan [OPTIONS] MODEL --bits N",
    after_long_help = "Examples:
  tersor plan model.safetensors -p int4
  tersor plan folder --bits 4 --kind palette --keep 'lm_head.*'
  tersor plan folder --recipe mine.toml --json"
)]
pub struct Plan {
    /// A .safetensors file, an index.json or a Hugging Face folder
    model: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    pub common: Common,
}

impl Plan {
    pub fn run(self) -> Result<u8> {
        print(&self.model, &self.recipe.read()?, self.recipe.given(), &self.common)
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    ok: bool,
    input_bytes: u64,
    output_bytes: u64,
    memory_bytes: u64,
    tensors: &'a [PlannedTensor],
}

/// Prints the plan; reads headers only, but opens the device, by which it is decided how much is treated at a time.
pub fn print(model: &Path, recipe: &Recipe, given: RecipeGiven, common: &Common) -> Result<u8> {
    common.device()?;
    let checkpoint = Checkpoint::open(model)?;
    let backend = common.backend()?;
    let options = common.options(backend, &Silent, false);
    let plan = pipeline::plan(&checkpoint, recipe, &options)?;
    let progress = common.progress();
    plan.remarks.iter().for_each(|remark| progress.warn(remark));
    let tensors = plan.tensors(&checkpoint, recipe);
    let report = Report {
        ok: true,
        input_bytes: checkpoint.total_bytes()?,
        output_bytes: plan.output_bytes + checkpoint.carried_bytes()?,
        memory_bytes: plan.memory_bytes,
        tensors: &tensors,
    };
    let asked = Asked { recipe: Some(given), ..Asked::of(model) };
    common.print("plan", &Answer { asked, report: &report }, || {
        let mut rows =
            vec![["tensor", "type", "shape", "becomes", "bytes", "why"].map(String::from).to_vec()];
        rows.extend(tensors.iter().zip(&plan.steps).map(|(t, step)| {
            let why = match &t.reason {
                Some(reason) => reason.to_string(),
                None if recipe.rules[step.rule].is_of_a_flag() => t.rule.to_string(),
                None => format!("rule {}", t.rule),
            };
            let shape = format!("{:?}", t.shape);
            vec![
                table::name(&t.name),
                t.dtype.into(),
                shape,
                t.method.to_string(),
                table::bytes(t.bytes),
                why,
            ]
        }));
        let (from, to) = (report.input_bytes, report.output_bytes);
        let ratio = from as f64 / to as f64;
        format!(
            "{}\n{} become at most {} ({ratio:.2}x), with at most {} of memory\n",
            table::table(&rows),
            table::bytes(from),
            table::bytes(to),
            table::bytes(report.memory_bytes),
        )
    })?;
    Ok(0)
}
