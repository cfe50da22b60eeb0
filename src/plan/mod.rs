//! What will be done to every tensor, from the recipe and the header alone: no data is read.

pub(crate) mod bounds;

use crate::{
    Error, Result, TensorInfo,
    decide::{affine::AffineCode, kmeans::entropy_entries, threshold::kept},
    format::{
        CHUNK, COMPONENTS, Checkpoint, Entry, MAX_HEADER, MAX_NAME, MAX_RANK, MAX_TENSORS, Method,
        TensorManifest, already_quantized, header_length,
    },
    quote::quoted,
    recipe::{Granularity, GroupSize, Objective, Prune, Quantize, Recipe, Rule, Treatment},
};
use serde::Serialize;
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

/// What will be done to one tensor.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which rule says so.
    pub rule: usize,
    /// What is done.
    pub action: Action,
    /// Upper bound of its stored bytes, headers aside.
    pub bytes: u64,
}

/// What is done to a tensor.
#[derive(Clone, Debug)]
pub enum Action {
    /// Copied bit for bit, and why.
    Keep(Arc<str>),
    /// Treated.
    Treat(Box<Treat>),
}

impl Step {
    /// Whether the tensor is copied bit for bit.
    pub fn keeps(&self) -> bool {
        matches!(self.action, Action::Keep(_))
    }
}

/// A treatment fitted to one tensor.
#[derive(Clone, Debug)]
pub struct Treat {
    /// Which weights survive.
    pub prune: Option<Prune>,
    /// How the scale of a group is chosen.
    pub objective: Objective,
    /// The recipe's own words.
    pub treatment: Arc<Treatment>,
    /// What the manifest will say; its digest is not known yet.
    pub manifest: TensorManifest,
    /// Where the weights of its squared errors are.
    pub importance: Option<ImportanceOf>,
}

/// The importance of one tensor.
#[derive(Clone, Debug)]
pub struct ImportanceOf {
    /// The file that the rule names, opened once for all tensors.
    pub file: Arc<Checkpoint>,
    /// The number of the tensor in it.
    pub tensor: usize,
}

impl Treat {
    /// How the tensor is stored, in words.
    pub fn method(&self) -> String {
        match self.treatment.quantize.as_ref().and_then(Quantize::max_error) {
            Some(limit) => {
                format!("{}, error at most {limit}", describe(&self.manifest, self.prune))
            }
            None => describe(&self.manifest, self.prune),
        }
    }

    /// Whether the tables hold plus and minus one magnitude.
    pub fn is_binary(&self) -> bool {
        self.treatment.quantize == Some(Quantize::Binary)
    }
}

/// A stored form in words: `int8 per channel`, `2:4, values`.
pub fn describe(manifest: &TensorManifest, prune: Option<Prune>) -> String {
    let (rows, cols) = manifest.matrix();
    let code = match manifest.method {
        Method::Values => "values".to_owned(),
        Method::Affine { bits, symmetric, group } => {
            let kind = if symmetric { "int" } else { "uint" };
            let of = match group {
                0 => "per tensor".to_owned(),
                g if g == cols => "per channel".to_owned(),
                g => format!("per {g}"),
            };
            format!("{kind}{bits} {of}")
        }
        Method::Palette { k, rows: per_table } => match per_table {
            0 => format!("palette {k} per tensor"),
            1 if rows > 1 => format!("palette {k} per channel"),
            n if n == rows => format!("palette {k} per tensor"),
            n => format!("palette {k} per {n} channels"),
        },
    };
    let code = if manifest.coded { format!("{code}, coded") } else { code };
    match prune {
        None if manifest.pruned => format!("pruned, {code}"),
        None => code,
        Some(Prune::NOfM { n, m }) => format!("{n}:{m}, {code}"),
        Some(Prune::Magnitude { density, .. }) => format!("density {density}, {code}"),
        Some(Prune::Channel { density, .. }) => format!("channels {density}, {code}"),
        Some(Prune::Block { density, block: [r, c], .. }) => {
            format!("blocks {r}x{c} {density}, {code}")
        }
    }
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
    /// The pattern of its rule.
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
        let treatments: Vec<_> =
            recipe.rules.iter().map(|r| Arc::new(r.treatment.clone())).collect();
        let mut reasons: HashSet<Arc<str>> = HashSet::new();
        let mut used = vec![false; recipe.rules.len()];
        let (mut steps, mut wrong) = (Vec::with_capacity(checkpoint.tensors.len()), Vec::new());
        let mut importance = HashMap::new();
        for (t, carried) in checkpoint.tensors.iter().zip(quantized.reasons) {
            let found = recipe.rules.iter().position(|r| r.matches(&t.name, t.dtype, &t.shape));
            let Some(rule) = found else {
                wrong.push(format!(
                    "no rule matches tensor {}; end the recipe with a rule that keeps \"*\"",
                    quoted(&t.name)
                ));
                continue;
            };
            used[rule] = true;
            let mut planned = match treatments[rule].keeps() {
                true => Ok(Action::Keep(why_kept(t, &recipe.rules, rule).into())),
                false => action(t, &treatments[rule], carried.as_deref()),
            };
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
        for (rule, used) in recipe.rules.iter().zip(used) {
            // The rule that ends a recipe by keeping the rest need not have a rest.
            let the_rest = rule.pattern == "*" && rule.treatment.keeps();
            if !used && !rule.optional && !the_rest {
                wrong.push(format!("rule {} matches no tensor", quoted(&rule.pattern)));
            }
        }
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
        let rules: Vec<Arc<str>> = recipe.rules.iter().map(|r| r.pattern.as_str().into()).collect();
        let planned = |(step, t): (&Step, &TensorInfo)| PlannedTensor {
            name: t.name.clone(),
            dtype: t.dtype.name(),
            shape: t.shape.clone(),
            rule: Arc::clone(&rules[step.rule]),
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

/// Upper bound of the header of one file of the archive.
fn header_bytes(checkpoint: &Checkpoint, steps: &[Step], file: usize) -> Result<u64> {
    let of_file = || checkpoint.tensors.iter().zip(steps).filter(|(t, _)| t.file == file);
    let most: u64 = of_file().map(|(t, s)| t.bytes.max(s.bytes)).sum();
    let mut count = 0;
    let entry = |name, dtype, shape| Entry { name, dtype, shape, bytes: most..most };
    let entries = of_file().flat_map(|(t, step)| match &step.action {
        Action::Keep(_) => vec![entry(t.name.as_str().into(), t.dtype, t.shape.as_slice().into())],
        Action::Treat(treat) => {
            let component = |c: crate::format::Component| {
                let shape = c.shape.unwrap_or_else(|| vec![most]);
                entry(format!("{}.{}", t.name, c.name).into(), c.dtype, shape.into())
            };
            treat.manifest.components().into_iter().map(component).collect()
        }
    });
    let mut described = of_file().filter_map(|(t, step)| match &step.action {
        Action::Keep(_) => None,
        Action::Treat(treat) => Some((t.name.as_str(), &treat.manifest)),
    });
    let chunks = vec![[0; 16]; most.div_ceil(CHUNK) as usize];
    let source = &checkpoint.files[file];
    let length = header_length(
        Some((&chunks, &mut described)),
        &source.metadata,
        entries.inspect(|_| count += 1),
    );
    let refuse = |what: String| {
        Err(Error::format(
            &source.path,
            format!("its archive would need {what}; keep more tensors"),
        ))
    };
    if count > MAX_TENSORS {
        return refuse(format!("{count} tensors in one file, the format allows {MAX_TENSORS}"));
    }
    if length.next_multiple_of(8) > MAX_HEADER {
        return refuse(format!("a header of {length} bytes, the format allows {MAX_HEADER}"));
    }
    Ok(8 + length)
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

/// Why a rule that keeps was the first to match: what the rules before it, which would have treated a tensor of this name, ask
/// for in vain; or the rule itself.
fn why_kept(t: &TensorInfo, rules: &[Rule], rule: usize) -> String {
    if !t.dtype.is_weight() {
        return format!("{} holds no weights", t.dtype.name());
    }
    let missed = rules[..rule].iter().filter(|r| !r.treatment.keeps());
    let missed = missed.filter_map(|r| r.unmet(&t.name, t.dtype, &t.shape)).next();
    missed.map_or_else(
        || format!("rule {}, {}, keeps it", rule + 1, rules[rule].pattern),
        |why| format!("it {why}"),
    )
}

fn action(
    t: &TensorInfo,
    treatment: &Arc<Treatment>,
    carried: Option<&str>,
) -> std::result::Result<Action, String> {
    let keep = |why: &str| Ok(Action::Keep(why.into()));
    if let Some(why) = carried {
        return keep(why);
    }
    if !t.dtype.is_weight() {
        return keep(&format!("{} holds no weights", t.dtype.name()));
    }
    if t.elements() == 0 {
        return keep("it is empty");
    }
    if treatment.axis == 1 && t.shape.len() < 2 {
        return Err("axis = 1 needs two dimensions".into());
    }
    let (rows, cols) = crate::format::matrix(&t.shape, treatment.axis);
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
            (Method::Affine { bits: *bits, symmetric: *symmetric, group }, *objective)
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
            (Method::Palette { k: *k, rows: per_table }, Objective::Range)
        }
        // A table of two values for every row.
        Some(Quantize::Binary) => (Method::Palette { k: 2, rows: 1 }, Objective::Range),
        Some(Quantize::Entropy { bits }) => {
            (Method::Palette { k: entropy_entries(*bits), rows: 0 }, Objective::Range)
        }
    };
    let manifest = TensorManifest {
        dtype: t.dtype,
        shape: t.shape.clone(),
        axis: treatment.axis,
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

/// The bytes of all components: an upper bound, or what to expect. They differ where other tensors decide how many weights
/// survive in this one.
fn stored_bytes(treat: &Treat, bound: bool) -> u64 {
    let m = &treat.manifest;
    let (rows, cols) = m.matrix();
    let components = m.components();
    let known: u64 = components.iter().filter_map(crate::format::Component::bytes).sum();
    if !m.pruned {
        return known;
    }
    let n = rows * cols;
    // Survivors: exact in number for magnitudes; rows differ, so every row may waste most of a word.
    let (survivors, uneven) = match treat.prune {
        Some(Prune::NOfM { n: of, m: per }) => {
            let (of, per) = (u64::from(of), u64::from(per));
            (rows * (cols / per * of + cols % per), false)
        }
        Some(Prune::Magnitude { density, scope: crate::recipe::Scope::Row, .. }) => {
            (rows * kept(density, cols), false)
        }
        Some(Prune::Magnitude { density, scope: crate::recipe::Scope::Tensor, .. }) => {
            (kept(density, n), true)
        }
        Some(Prune::Magnitude { density, scope: crate::recipe::Scope::Model, .. }) if !bound => {
            (kept(density, n), true)
        }
        Some(Prune::Magnitude { scope: crate::recipe::Scope::Model, .. }) | None => (n, true),
        Some(Prune::Channel { density, .. }) => (kept(density, rows) * cols, true),
        Some(Prune::Block { density, block: [r, c], .. }) => {
            let (r, c) = (u64::from(r).min(rows), u64::from(c).min(cols));
            ((kept(density, rows.div_ceil(r) * cols.div_ceil(c)) * r * c).min(n), true)
        }
    };
    let unknown = match m.method.code_bits() {
        None => survivors * m.dtype.bytes(1) as u64,
        Some(bits) => {
            let bits = u64::from(bits);
            let pieces = rows * cols.div_ceil(1_441_440);
            let wasted = if uneven { pieces * 4 } else { rows * 4 };
            (survivors * bits).div_ceil(8) + wasted
        }
    };
    known + unknown
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

/// The alphabet of an affine method.
pub fn affine_code(method: Method) -> Option<AffineCode> {
    match method {
        Method::Affine { bits, symmetric, .. } => Some(AffineCode { bits, symmetric }),
        _ => None,
    }
}
