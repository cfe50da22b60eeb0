use super::{Common, RecipeArgs, table};
use clap::Args;
use std::path::{Path, PathBuf};
use tersor::{Result, Silent, format::Checkpoint, pipeline, recipe::Recipe};

#[derive(Args)]
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
        print(&self.model, &self.recipe.read()?, &self.common)
    }
}

/// Prints the plan; reads headers only, but opens the device, by which it is decided how much is treated at a time.
pub fn print(model: &Path, recipe: &Recipe, common: &Common) -> Result<u8> {
    let checkpoint = Checkpoint::open(model)?;
    let backend = common.backend()?;
    let options = common.options(&backend, &Silent, false);
    let plan = pipeline::plan(&checkpoint, recipe, &options)?;
    let tensors = plan.tensors(&checkpoint, recipe);
    let json = serde_json::json!({
        "ok": true,
        "input_bytes": checkpoint.bytes(),
        "output_bytes": plan.output_bytes,
        "memory_bytes": plan.memory_bytes,
        "tensors": tensors,
    });
    common.print(&json, || {
        let mut rows =
            vec![["tensor", "type", "shape", "becomes", "bytes", "why"].map(String::from).to_vec()];
        rows.extend(tensors.iter().map(|t| {
            let why = t.reason.clone().unwrap_or_else(|| format!("rule {}", t.rule));
            let shape = format!("{:?}", t.shape);
            vec![
                table::name(&t.name),
                t.dtype.clone(),
                shape,
                t.method.clone(),
                table::bytes(t.bytes),
                why,
            ]
        }));
        let (from, to) = (checkpoint.bytes(), plan.output_bytes);
        let ratio = from as f64 / to as f64;
        format!(
            "{}\n{} become at most {} ({ratio:.2}x), with at most {} of memory\n",
            table::table(&rows),
            table::bytes(from),
            table::bytes(to),
            table::bytes(plan.memory_bytes),
        )
    })?;
    Ok(0)
}
