//! What will be done to every tensor, from the recipe and the header alone: no data is read.

mod bounds;
mod expected;
mod fit;
mod known;
mod said;
mod stacks;
mod step;

pub(crate) use fit::action;
pub use said::said_of_kept;
pub use step::{Action, ImportanceOf, Step, Treat};

use crate::{
    Error, Result, TensorInfo,
    form::{COMPONENTS, View},
    format::{Checkpoint, ModelConfig, Quantized, already_quantized},
    quote::quoted,
    recipe::{Recipe, Role, Rule, defaults},
    report::Form,
};
use bounds::{header_bytes, index_bytes, most_bytes};
use expected::expected_bytes;
use fit::{importance_of, why_kept};
use known::Known;
use said::Misfits;
use serde::Serialize;
use stacks::is_stack;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// A plan: a step for every tensor, in the order of the checkpoint.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for every tensor.
    pub steps: Vec<Step>,
    /// Upper bound of the header of every file of the archive, its 8 bytes of length included, and what it takes: as if every
    /// tensor were treated, every offset had the most digits, and every chunk a digest, it is filled up with spaces.
    pub header_bytes: Vec<u64>,
    /// Upper bound of the archive's size, whatever the weights are: also if those of every tensor are NaN, so that it is kept.
    pub output_bytes: u64,
    /// The size that is expected: see [`Step::expected_bytes`].
    pub expected_bytes: u64,
    /// Upper bound of the memory that the job takes beside the program itself.
    pub memory_bytes: u64,
    /// What a user should know of the checkpoint's tensors, a sentence each.
    pub remarks: Vec<String>,
}

/// One line of `tersor plan --json`.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// The pattern of its rule, or the flag that the rule is from; the name of the file of defaults where one of these keeps it.
    pub rule: Arc<str>,
    /// How it will be stored, in words.
    pub method: Cow<'static, str>,
    /// The same for programs.
    pub form: Arc<Form>,
    /// Why it is kept.
    pub reason: Option<Arc<str>>,
    /// Upper bound of its stored bytes: what it takes as it is, where a tensor with NaN or infinite values is kept.
    pub bytes: u64,
    /// Its stored bytes as they are expected: of a coded tensor an estimate, otherwise what its treated form takes, pruned to the
    /// density that the recipe gives.
    pub expected_bytes: u64,
}

impl Plan {
    /// Fits a recipe to a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] with everything that does not fit, a line for each rule: rules that match nothing, tensors that no rule
    /// matches, group sizes that do not divide, importance that is missing or has another shape. [`Error::Format`] if the
    /// checkpoint is an archive already, its names collide with those of components, or its archive would need a header or more
    /// tensors than the format allows; [`Error::Format`] or [`Error::Io`] if a file of importance cannot be opened.
    pub fn new(
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        unit_bytes: u64,
        threads: usize,
    ) -> Result<Self> {
        refuse_archives(checkpoint)?;
        // A recipe that changes no bit need not know.
        let changes = |r: &Rule| !r.treatment.keeps() && !r.treatment.is_lossless();
        let quantized = match recipe.rules.iter().any(changes) {
            true => already_quantized(checkpoint)?,
            false => Quantized::default(),
        };
        let configs = checkpoint.modules.iter().map(|m| ModelConfig::read(checkpoint, m));
        let configs = configs.collect::<Result<Vec<_>>>()?;
        // A recipe that asks nothing of roles is spared what it takes to know them.
        let asks = recipe.defaults || recipe.rules.iter().any(Rule::asks_role);
        let modules = checkpoint.modules.iter().zip(&configs).filter(|_| asks);
        let all_known: Vec<_> = modules
            .map(|(module, config)| Known::new(checkpoint.tensors_of(module), config))
            .collect();
        let treatments: Vec<_> =
            recipe.rules.iter().map(|r| Arc::new(r.treatment.clone())).collect();
        let mut reasons: HashSet<Arc<str>> = HashSet::new();
        let mut used = vec![false; recipe.rules.len()];
        let mut taken = Vec::new();
        let mut misfits = Misfits::default();
        let mut steps = Vec::with_capacity(checkpoint.tensors.len());
        let mut importance = HashMap::new();
        let mut still = 0;
        for (i, t) in checkpoint.tensors.iter().enumerate() {
            let carried = quantized.reasons.get(i).cloned().flatten();
            let module = checkpoint.module_of(t.file);
            let (known, config) = (all_known.get(module), &configs[module]);
            let role = known.map_or(Role::Other, |known| known.role(t));
            let fits = |r: &Rule| r.fits(t, role);
            // What somebody says of this job goes before what is known of models, and that before the recipe.
            let by_flag = recipe.rules.iter().take_while(|r| r.is_of_a_flag()).position(fits);
            let ask = recipe.defaults && by_flag.is_none();
            let default = ask.then(|| defaults().rule(t, role)).flatten();
            taken.extend(default.map(|_| t));
            let found = match default {
                Some(default) => Some(recipe.rules.len() + default),
                None => by_flag.or_else(|| recipe.rules.iter().position(fits)),
            };
            let Some(rule) = found else {
                misfits.unmatched(&t.name);
                continue;
            };
            let mut planned = match treatments.get(rule) {
                Some(treatment) if !treatment.keeps() => {
                    let rows_count = treatment.prune.is_some() || treatment.quantize.is_some();
                    let by_default = recipe.defaults && !recipe.rules[rule].sets_axis && rows_count;
                    let columns = known.filter(|_| by_default).and_then(|known| known.columns(t));
                    let axis = if columns.is_some() { 1 } else { treatment.axis };
                    let view = View { axis, stack: is_stack(t, &config.experts) };
                    action(t, treatment, carried.as_deref(), view, columns)
                }
                // That it is codes says more of it than its type or the rule.
                _ => Ok(Action::Keep(
                    carried.clone().unwrap_or_else(|| why_kept(t, role, &recipe.rules, rule)),
                )),
            };
            used.get_mut(rule).into_iter().for_each(|used| *used = true);
            if let Ok(Action::Keep(why)) = &mut planned {
                still += usize::from(carried.is_some());
                // A million tensors have few reasons.
                match reasons.get(why) {
                    Some(same) => *why = Arc::clone(same),
                    None => _ = reasons.insert(why.clone()),
                }
            }
            if let Ok(Action::Treat(treat)) = &mut planned
                && let Some(path) = treat.treatment.importance.clone()
            {
                match importance_of(t, treat, path, &mut importance)? {
                    Ok(found) => treat.importance = Some(found),
                    Err(why) => planned = Err(why),
                }
            }
            match planned {
                Ok(action) => {
                    let (bytes, expected_bytes) = match &action {
                        Action::Keep(_) => (t.bytes, t.bytes),
                        Action::Treat(treat) => (most_bytes(t, treat), expected_bytes(t, treat)),
                    };
                    steps.push(Step { rule, action, bytes, expected_bytes });
                }
                Err(why) => misfits.add(rule, &t.name, why),
            }
        }
        let mut wrong = misfits.lines(&recipe.rules);
        wrong.extend(recipe.idle(&used, &checkpoint.tensors, &taken));
        if !wrong.is_empty() {
            return Err(Error::Recipe(wrong.join("\n  ")));
        }
        refuse_collisions(checkpoint, &steps)?;
        let header = |file| header_bytes(checkpoint, &steps, file, &BTreeMap::new());
        let header_bytes = (0..checkpoint.files.len()).map(header).collect::<Result<Vec<u64>>>()?;
        let most: u64 = steps.iter().map(|s| s.bytes).sum();
        let expected: u64 = steps.iter().map(|s| s.expected_bytes).sum();
        let index = index_bytes(checkpoint, &steps, most, &|_| false);
        let beside = header_bytes.iter().sum::<u64>() + index;
        let mut plan = Self {
            steps,
            header_bytes,
            output_bytes: most + beside,
            expected_bytes: expected + beside,
            memory_bytes: 0,
            remarks: quantized.remark(still).into_iter().collect(),
        };
        plan.memory_bytes = plan.memory(unit_bytes, threads);
        Ok(plan)
    }

    /// What the header of a file takes once it is known which of its tensors are tied, and to which ones: their numbers.
    pub(crate) fn header_bytes_tied(
        &self,
        checkpoint: &Checkpoint,
        file: usize,
        ties: &BTreeMap<usize, usize>,
    ) -> Result<u64> {
        match ties.is_empty() {
            true => Ok(self.header_bytes[file]),
            false => header_bytes(checkpoint, &self.steps, file, ties),
        }
    }

    /// What the files that list the shards of modules take, where so many bytes of data are stored and it is known which tensors are tied.
    pub(crate) fn index_bytes(
        &self,
        checkpoint: &Checkpoint,
        data: u64,
        is_tied: &dyn Fn(usize) -> bool,
    ) -> u64 {
        index_bytes(checkpoint, &self.steps, data, is_tied)
    }

    /// Upper bound of the memory that the job takes with other units and threads.
    pub fn memory(&self, unit_bytes: u64, threads: usize) -> u64 {
        bounds::memory(&self.steps, unit_bytes, threads)
    }

    /// Whether kernels run, so that a GPU is of use: not where every tensor is kept or comes back bit for bit.
    pub fn runs_kernels(&self) -> bool {
        let runs = |s: &Step| match &s.action {
            Action::Keep(_) => false,
            Action::Treat(treat) => !treat.manifest.lossless(),
        };
        self.steps.iter().any(runs)
    }

    /// The plan as a table.
    pub fn tensors(&self, checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<PlannedTensor> {
        let rules: Vec<Arc<str>> = recipe.rules.iter().map(|r| r.title().into()).collect();
        let default: Arc<str> = "defaults.toml".into();
        let planned = |(step, t): (&Step, &TensorInfo)| PlannedTensor {
            name: t.name.clone(),
            dtype: t.dtype.name(),
            shape: t.shape.clone(),
            rule: Arc::clone(rules.get(step.rule).unwrap_or(&default)),
            method: match &step.action {
                Action::Keep(_) => "kept".into(),
                Action::Treat(treat) => treat.method().into(),
            },
            form: match &step.action {
                Action::Keep(_) => Form::shared(None),
                Action::Treat(treat) => Form::shared(Some(&treat.manifest)),
            },
            reason: match &step.action {
                Action::Keep(why) => Some(Arc::clone(why)),
                Action::Treat(_) => None,
            },
            bytes: step.bytes,
            expected_bytes: step.expected_bytes,
        };
        self.steps.iter().zip(&checkpoint.tensors).map(planned).collect()
    }
}

fn refuse_archives(checkpoint: &Checkpoint) -> Result<()> {
    for f in &checkpoint.files {
        if f.metadata.get("tersor").is_some() {
            return Err(Error::format(
                &f.path,
                "this is a tersor archive already; decompress it first",
            ));
        }
    }
    Ok(())
}

/// Refuses tensors that have the name of a component of a tensor that is treated.
fn refuse_collisions(checkpoint: &Checkpoint, steps: &[Step]) -> Result<()> {
    let tensors = || checkpoint.tensors.iter();
    let names: HashSet<&str> = tensors()
        .filter(|t| t.name.rsplit_once('.').is_some_and(|(_, end)| COMPONENTS.contains(&end)))
        .map(|t| t.name.as_str())
        .collect();
    for (t, step) in tensors().zip(steps).filter(|_| !names.is_empty()) {
        let Action::Treat(treat) = &step.action else { continue };
        for component in treat.manifest.components() {
            let name = format!("{}.{}", t.name, component.name);
            if names.contains(name.as_str()) {
                let why = format!(
                    "tensor {} has the name of a component of {}; keep one of them",
                    quoted(&name),
                    quoted(&t.name)
                );
                return Err(Error::format(&checkpoint.files[t.file].path, why));
            }
        }
    }
    Ok(())
}
