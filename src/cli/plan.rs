use crate::cli::{
    Common,
    json::{Answer, Asked, FoundReport},
    recipe_args::RecipeArgs,
    table,
};
use clap::Args;
use std::path::{Path, PathBuf};
use tersor::{
    Backend, Device, Error, Progress, Result, Silent,
    format::{Checkpoint, already_quantized},
    pipeline::{self, Options},
    plan::{Plan as Planned, PlannedTensor},
    recipe::{Preset, Recipe, SHIPPED},
};

#[derive(Args)]
#[command(
    override_usage = "tersor plan [OPTIONS] MODEL
       tersor plan [OPTIONS] MODEL --preset NAME
       tersor plan [OPTIONS] MODEL --recipe FILE
       tersor plan [OPTIONS] MODEL --bits N",
    after_long_help = "Examples:
  tersor plan model.safetensors            # what every preset would make of it
  tersor plan model.safetensors -p int4
  tersor plan folder --bits 4 --kind palette --keep 'lm_head.*'
  tersor plan folder --recipe mine.toml --json"
)]
pub struct Plan {
    /// A .safetensors file, an index.json or a Hugging Face folder, a pipeline too
    model: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Of a folder with several precisions of its weights this one: fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

impl Plan {
    pub fn run(self) -> Result<u8> {
        let variant = self.variant.as_deref();
        match self.recipe.says_what()? {
            true => print(&self.model, variant, &self.recipe, None, &self.common),
            false => self.print_presets(),
        }
    }
}

/// What a job of this plan takes of memory: on the CPU, and on a GPU, where either may be what it runs on. Which it will be shows
/// when the device is opened, which a plan does not do.
#[derive(serde::Serialize)]
struct Memory {
    cpu: Option<u64>,
    gpu: Option<u64>,
}

impl Memory {
    fn of(plan: &Planned, options: &Options, device: Device) -> Self {
        let of = |gpu, other| (device != other).then(|| options.memory_of(plan, gpu));
        Self { cpu: of(false, Device::Gpu), gpu: of(true, Device::Cpu) }
    }

    fn most(&self) -> u64 {
        self.cpu.max(self.gpu).unwrap_or(0)
    }

    fn words(&self) -> String {
        match (self.cpu, self.gpu) {
            (Some(cpu), Some(gpu)) => {
                let (cpu, gpu) = (table::bytes(cpu), table::bytes(gpu));
                format!("at most {cpu} of memory, or {gpu} if a GPU is found")
            }
            _ => format!("at most {} of memory", table::bytes(self.most())),
        }
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    ok: bool,
    input_bytes: u64,
    output_bytes: u64,
    expected_bytes: u64,
    memory_bytes: u64,
    memory: Memory,
    tensors: &'a [PlannedTensor],
}

/// The options of a plan and the device that it is for, a GPU also where an adapter is named: none is opened.
fn unopened<'a>(common: &Common) -> Result<(Options<'a>, Device)> {
    let device = match common.device()? {
        Device::Auto if common.adapter.is_some() => Device::Gpu,
        device => device,
    };
    Ok((common.options(&Backend::Cpu, &Silent, false), device))
}

/// Prints the plan; reads headers only, but for a target, which takes a search. `written`: what a job would write,
/// and whether it may replace a file.
pub fn print(
    model: &Path,
    variant: Option<&str>,
    args: &RecipeArgs,
    written: Option<(&Path, bool)>,
    common: &Common,
) -> Result<u8> {
    let found = match args.aim()? {
        None => None,
        Some(target) => {
            let (output, force) = written.unzip();
            let claimed = args.target.claim(model, variant, output, force.unwrap_or(false))?;
            let (backend, progress) = (common.backend()?, common.progress());
            let options = Options { variant, ..common.options(backend, &progress, false) };
            let found = args.target.search(target, model, &args.additions(), &options)?;
            claimed.publish(&found)?;
            Some(found)
        }
    };
    let recipe = &match &found {
        Some(found) => found.recipe.clone(),
        None => args.read()?,
    };
    let (options, device) = unopened(common)?;
    let checkpoint = Checkpoint::open_variant(model, variant)?;
    let plan = pipeline::plan_for(&checkpoint, recipe, &options, device)?;
    let progress = common.progress();
    let remarks = checkpoint.remarks();
    remarks.iter().chain(&plan.remarks).for_each(|remark| progress.warn(remark));
    let tensors = plan.tensors(&checkpoint, recipe);
    let (carried, memory) = (checkpoint.carried_bytes()?, Memory::of(&plan, &options, device));
    let report = Report {
        ok: true,
        input_bytes: checkpoint.total_bytes()?,
        output_bytes: plan.output_bytes + carried,
        expected_bytes: found.as_ref().map_or(plan.expected_bytes + carried, |f| f.output_bytes),
        memory_bytes: memory.most(),
        memory,
        tensors: &tensors,
    };
    let search = found.as_ref().map(FoundReport::new);
    let asked = Asked { recipe: Some(args.given()), search, ..Asked::of(model) };
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
                table::bytes(t.expected_bytes),
                why,
            ]
        }));
        let (from, to, most) = (report.input_bytes, report.expected_bytes, report.output_bytes);
        let ratio = from as f64 / to as f64;
        let most = match most > to {
            true => format!(", at most {} {}", table::bytes(most), why_more(&plan)),
            false => String::new(),
        };
        format!(
            "{}\n{} become about {} ({ratio:.2}x){most}\nwith {}\n{}",
            table::table(&rows),
            table::bytes(from),
            table::bytes(to),
            report.memory.words(),
            found.as_ref().map_or_else(String::new, |f| args.target.said(f)),
        )
    })?;
    Ok(0)
}

/// When a plan takes more than is expected.
fn why_more(plan: &Planned) -> &'static str {
    match plan.runs_kernels() {
        true => "if tensors hold NaN or infinite values, which are kept, or codes gain nothing",
        false => "if codes gain nothing",
    }
}

/// What a preset would make of a checkpoint, or why it does not fit it.
#[derive(serde::Serialize)]
struct OfPreset {
    name: &'static str,
    purpose: &'static str,
    #[serde(flatten)]
    sizes: Option<Sizes>,
    error: Option<String>,
}

#[derive(serde::Serialize)]
struct Sizes {
    output_bytes: u64,
    expected_bytes: u64,
    ratio: f64,
    /// Of the treated tensors, as expected; none where nothing is treated.
    bits_per_weight: Option<f64>,
    treated: usize,
    kept: usize,
    memory_bytes: u64,
}

#[derive(serde::Serialize)]
struct Presets {
    ok: bool,
    input_bytes: u64,
    presets: Vec<OfPreset>,
}

impl Plan {
    fn print_presets(&self) -> Result<u8> {
        let common = &self.common;
        let (options, device) = unopened(common)?;
        let checkpoint = Checkpoint::open_variant(&self.model, self.variant.as_deref())?;
        checkpoint.remarks().iter().for_each(|remark| common.progress().warn(remark));
        let (from, carried) = (checkpoint.total_bytes()?, checkpoint.carried_bytes()?);
        let sizes = |plan: &Planned| {
            let expected_bytes = plan.expected_bytes + carried;
            let treated = || plan.steps.iter().zip(&checkpoint.tensors).filter(|(s, _)| !s.keeps());
            let weights: u64 = treated().map(|(_, t)| t.elements()).sum();
            let stored: u64 = treated().map(|(s, _)| s.expected_bytes).sum();
            let count = treated().count();
            Sizes {
                output_bytes: plan.output_bytes + carried,
                expected_bytes,
                ratio: from as f64 / expected_bytes as f64,
                bits_per_weight: (weights > 0).then(|| 8.0 * stored as f64 / weights as f64),
                treated: count,
                kept: plan.steps.len() - count,
                memory_bytes: Memory::of(plan, &options, device).most(),
            }
        };
        let of = |preset: Preset| {
            let recipe = self.recipe.before(Recipe::preset(preset.name)?)?;
            let (sizes, error) = match pipeline::plan_for(&checkpoint, &recipe, &options, device) {
                Ok(plan) => (Some(sizes(&plan)), None),
                // One does not fit; another may.
                Err(e @ (Error::Recipe(_) | Error::Usage(_))) => (None, Some(e.to_string())),
                Err(e) => return Err(e),
            };
            Ok(OfPreset { name: preset.name, purpose: preset.purpose, sizes, error })
        };
        let presets = SHIPPED.into_iter().map(of).collect::<Result<Vec<_>>>()?;
        // What is wrong with all is wrong with the checkpoint or the flags.
        if presets.iter().all(|p| p.sizes.is_none()) {
            return Err(Error::Usage(presets[0].error.clone().unwrap_or_default()));
        }
        let quantized = already_quantized(&checkpoint)?;
        let carried = quantized.reasons.iter().flatten().count();
        quantized.remark(carried).iter().for_each(|remark| common.progress().warn(remark));
        let report = Presets { ok: true, input_bytes: from, presets };
        let asked = Asked::of(&self.model);
        common.print("plans", &Answer { asked, report: &report }, || listed(&report))?;
        Ok(0)
    }
}

fn listed(report: &Presets) -> String {
    let head = ["preset", "about", "ratio", "bits/weight", "treated", "for"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(report.presets.iter().map(|p| {
        let mut row = vec![p.name.to_owned()];
        match &p.sizes {
            Some(s) => row.extend([
                table::bytes(s.expected_bytes),
                format!("{:.2}x", s.ratio),
                s.bits_per_weight.map_or("-".into(), |bits| format!("{bits:.2}")),
                format!("{} of {}", s.treated, s.treated + s.kept),
                p.purpose.to_owned(),
            ]),
            None => {
                row.extend(["-"; 4].map(String::from));
                row.push(p.error.clone().unwrap_or_default().replace('\n', " "));
            }
        }
        row
    }));
    format!(
        "{}
{} of checkpoint; about: as expected, coded ones if weights are about normally
distributed; bits/weight: of the tensors that are treated

`tersor plan MODEL --preset NAME` shows every tensor, and the size at most.
",
        table::table(&rows),
        table::bytes(report.input_bytes)
    )
}
