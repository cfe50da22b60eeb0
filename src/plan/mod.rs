//! What will be done to every tensor, from the recipe and the header alone: no data is read.

mod bounds;
mod known;
mod stacks;
mod step;

pub use step::{Action, ImportanceOf, Step, Treat};

use crate::{
    Error, Result, TensorInfo,
    decide::kmeans::entropy_entries,
    form::{Affine, COMPONENTS, MAX_RANK, Method, Palette, TensorManifest, View},
    format::{Checkpoint, MAX_NAME, ModelConfig, already_quantized},
    quote::quoted,
    recipe::{
        Granularity, GroupSize, Objective, Prune, Quantize, Recipe, Role, Rule, Treatment, defaults,
    },
};
use bounds::{header_bytes, stored_bytes};
use known::Known;
use serde::Serialize;
use stacks::is_stack;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

/// A plan: a step for every tensor, in the order of the checkpoint.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for every tensor.
    pub steps: Vec<Step>,
    /// Upper bound of the header of every file of the archive, its 8 bytes of length included: as if every tensor were
    /// treated, every offset had the most digits, and every chunk a digest.
    pub header_bytes: Vec<u64>,
    /// Upper bound of the archive's size.
    pub output_bytes: u64,
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
    /// How it will be stored.
    pub method: Cow<'static, str>,
    /// Why it is kept.
    pub reason: Option<Arc<str>>,
    /// Upper bound of its stored bytes.
    pub bytes: u64,
}

impl Plan {
    /// Fits a recipe to a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] with everything that does not fit, all at once: rules that match nothing, tensors that no rule
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
        let quantized = already_quantized(checkpoint)?;
        let config = ModelConfig::read(checkpoint)?;
        // A recipe that asks nothing of roles is spared what it takes to know them.
        let asks = recipe.defaults || recipe.rules.iter().any(Rule::asks_role);
        let known = asks.then(|| Known::new(&checkpoint.tensors, &config));
        let treatments: Vec<_> =
            recipe.rules.iter().map(|r| Arc::new(r.treatment.clone())).collect();
        let mut reasons: HashSet<Arc<str>> = HashSet::new();
        let mut used = vec![false; recipe.rules.len()];
        let mut taken = Vec::new();
        let (mut steps, mut wrong) = (Vec::with_capacity(checkpoint.tensors.len()), Vec::new());
        let mut importance = HashMap::new();
        for (t, carried) in checkpoint.tensors.iter().zip(quantized.reasons) {
            let role = known.as_ref().map_or(Role::Other, |known| known.role(t));
            let fits = |r: &Rule| r.fits(&t.name, role, t.dtype, &t.shape);
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
                wrong.push(format!(
                    "no rule matches tensor {}; end the recipe with a rule that keeps \"*\"",
                    quoted(&t.name)
                ));
                continue;
            };
            let mut planned = match treatments.get(rule) {
                Some(treatment) if !treatment.keeps() => {
                    let rows_count = treatment.prune.is_some() || treatment.quantize.is_some();
                    let by_default = recipe.defaults && !recipe.rules[rule].sets_axis && rows_count;
                    let columns =
                        known.as_ref().filter(|_| by_default).and_then(|known| known.columns(t));
                    let axis = if columns.is_some() { 1 } else { treatment.axis };
                    let view = View { axis, stack: is_stack(t, &config.experts) };
                    action(t, treatment, carried.as_deref(), view, columns)
                }
                // That it is codes says more of it than its type or the rule.
                _ => Ok(Action::Keep(
                    carried.unwrap_or_else(|| why_kept(t, role, &recipe.rules, rule)),
                )),
            };
            used.get_mut(rule).into_iter().for_each(|used| *used = true);
            if let Ok(Action::Keep(why)) = &mut planned {
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
                    let bytes = match &action {
                        Action::Keep(_) => t.bytes,
                        // One that turns out larger is kept.
                        Action::Treat(treat) if treat.manifest.coded => t.bytes,
                        Action::Treat(treat) => stored_bytes(treat, true),
                    };
                    steps.push(Step { rule, action, bytes });
                }
                Err(why) => wrong.push(format!("tensor {}: {why}", quoted(&t.name))),
            }
        }
        wrong.extend(recipe.idle(&used, &checkpoint.tensors, &taken));
        if !wrong.is_empty() {
            return Err(Error::Recipe(wrong.join("\n  ")));
        }
        refuse_collisions(checkpoint, &steps)?;
        let headers =
            (0..checkpoint.files.len()).map(|file| header_bytes(checkpoint, &steps, file));
        let header_bytes = headers.collect::<Result<Vec<u64>>>()?;
        let headers: u64 = header_bytes.iter().sum();
        // An index names every stored tensor and its shard, as the headers do with more beside it.
        let index = if checkpoint.index.is_some() { headers } else { 0 };
        let output_bytes = steps.iter().map(|s| s.bytes).sum::<u64>() + headers + index;
        let memory_bytes = bounds::memory(&steps, unit_bytes, threads);
        let remarks = quantized.remark.into_iter().collect();
        Ok(Self { steps, header_bytes, output_bytes, memory_bytes, remarks })
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
            reason: match &step.action {
                Action::Keep(why) => Some(Arc::clone(why)),
                Action::Treat(_) => None,
            },
            bytes: step.bytes,
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

/// Why a rule that keeps was the first to match, a default where its number is none of the recipe's: its own words; else what the
/// rules before it, which would have treated a tensor of this name, ask for in vain; or the rule itself.
fn why_kept(t: &TensorInfo, role: Role, rules: &[Rule], rule: usize) -> Arc<str> {
    if let Some(why) = t.dtype.kept_because() {
        return why.into();
    }
    let by = rules.get(rule).unwrap_or_else(|| &defaults().rules[rule - rules.len()]);
    if let Some(why) = &by.why {
        return Arc::clone(why);
    }
    let missed = rules[..rule].iter().filter(|r| !r.treatment.keeps());
    let missed = missed.filter_map(|r| r.unmet(&t.name, role, t.dtype, &t.shape)).next();
    let why = missed.map_or_else(
        || match by.is_of_a_flag() {
            true => format!("{} keeps it", by.title()),
            // As it is numbered in its recipe, before which stand those of flags.
            false => {
                let number = rules[..=rule].iter().filter(|r| !r.is_of_a_flag()).count();
                format!("rule {number}, {}, keeps it", by.pattern)
            }
        },
        |why| format!("it {why}"),
    );
    why.into()
}

fn action(
    t: &TensorInfo,
    treatment: &Arc<Treatment>,
    carried: Option<&str>,
    view: View,
    columns: Option<&Arc<str>>,
) -> std::result::Result<Action, String> {
    let keep = |why: &str| Ok(Action::Keep(why.into()));
    if let Some(why) = carried {
        return keep(why);
    }
    if let Some(why) = t.dtype.kept_because() {
        return keep(&why);
    }
    if t.elements() == 0 {
        return keep("it is empty");
    }
    if view.axis == 1 && t.shape.len() < 2 {
        return Err("axis = 1 needs two dimensions".into());
    }
    let (rows, cols) = view.matrix(&t.shape);
    let (method, objective) = match &treatment.quantize {
        None => (Method::Values, Objective::Range),
        Some(Quantize::Affine { bits, symmetric, granularity, objective }) => {
            let group = match granularity {
                Granularity::Tensor => 0,
                Granularity::Channel => cols,
                Granularity::Group(sizes) => sizes
                    .iter()
                    .find_map(|size| match size {
                        GroupSize::Row => Some(cols),
                        GroupSize::Of(g) => cols.is_multiple_of(*g).then_some(*g),
                    })
                    .ok_or_else(|| {
                        format!("{} does not divide its rows of {cols}", sizes_text(sizes))
                    })?,
            };
            (Method::Affine(Affine { bits: *bits, symmetric: *symmetric, group }), *objective)
        }
        Some(Quantize::Palette { k, granularity, .. }) => {
            let per_table = match granularity {
                Granularity::Tensor => 0,
                Granularity::Channel => 1,
                Granularity::Group(sizes) => sizes
                    .iter()
                    .find_map(|size| match size {
                        GroupSize::Of(g) => rows.is_multiple_of(*g).then_some(*g),
                        GroupSize::Row => None,
                    })
                    .ok_or_else(|| {
                        format!("{} does not divide its {rows} rows", sizes_text(sizes))
                    })?,
            };
            (Method::Palette(Palette { k: *k, rows: per_table }), Objective::Range)
        }
        // A table of two values for every row.
        Some(Quantize::Binary) => (Method::Palette(Palette { k: 2, rows: 1 }), Objective::Range),
        Some(Quantize::Entropy { bits }) => {
            (Method::Palette(Palette { k: entropy_entries(*bits), rows: 0 }), Objective::Range)
        }
    };
    let manifest = TensorManifest {
        dtype: t.dtype,
        shape: t.shape.clone(),
        view,
        pruned: treatment.prune.is_some(),
        method,
        coded: treatment.encode.is_some(),
        digest: [0; 16],
        max_rel_error: treatment.max_rel_error,
    };
    let longest = manifest.components().iter().map(|c| t.name.len() + 1 + c.name.len()).max();
    if longest > Some(MAX_NAME) {
        return keep("its name is too long for the names of its components");
    }
    if t.shape.len() > MAX_RANK {
        return keep("it has more dimensions than a manifest describes");
    }
    if let Some(Prune::Block { block: [r, c], .. }) = treatment.prune
        && u64::from(r).min(rows) * u64::from(c).min(cols) >= 1 << 34
    {
        return Err(format!("its blocks of {r} x {c} weights are too large to sum"));
    }
    let treat = Treat {
        prune: treatment.prune,
        objective,
        treatment: treatment.clone(),
        columns: columns.cloned(),
        manifest,
        importance: None,
    };
    // How small a coded tensor is shows only when it is coded.
    if !treat.manifest.coded && stored_bytes(&treat, false) >= t.bytes {
        return keep("its treated form is not smaller");
    }
    Ok(Action::Treat(Box::new(treat)))
}

fn sizes_text(sizes: &[GroupSize]) -> String {
    let size = |s: &GroupSize| match s {
        GroupSize::Of(g) => format!("group {g}"),
        GroupSize::Row => "the row".into(),
    };
    sizes.iter().map(size).collect::<Vec<_>>().join(" or ")
}

/// Where the importance of a tensor is, among the files that are open already or as one more; or why it does not fit.
fn importance_of(
    t: &TensorInfo,
    treat: &Treat,
    path: PathBuf,
    open: &mut HashMap<PathBuf, Arc<Checkpoint>>,
) -> Result<std::result::Result<ImportanceOf, String>> {
    let file = match open.get(&path) {
        Some(file) => file.clone(),
        None => {
            let file = Arc::new(Checkpoint::open(&path)?);
            open.insert(path.clone(), file.clone());
            file
        }
    };
    let Some(tensor) = file.tensors.iter().position(|i| i.name == t.name) else {
        return Ok(Err(format!("{} holds no importance for it", path.display())));
    };
    let (info, (_, cols)) = (&file.tensors[tensor], treat.manifest.matrix());
    if !info.dtype.is_weight() || info.shape != t.shape && info.elements() != cols {
        return Ok(Err(format!(
            "its importance in {} is {} {:?}, expected floats of shape {:?} or [{cols}]",
            path.display(),
            info.dtype.name(),
            info.shape,
            t.shape
        )));
    }
    Ok(Ok(ImportanceOf { file, tensor }))
}
