//! The tensors of a model: which are searched, which are one choice together, and which others decide.

use crate::{
    Error, Result, TensorInfo,
    engine::Engine,
    form::View,
    format::Checkpoint,
    pipeline::{Options, fitted, ties},
    plan::{Action, Plan, Step},
    recipe::{Additions, NonFinite, Preset, Recipe},
    search::{
        Ask, PRESETS_LOOKED_AT, look,
        ways::{Way, of_rules},
    },
    treat::model_limits,
};
use std::collections::{BTreeMap, HashMap};

/// A tensor of a part, and how many of the model are equal to it and stored with it, itself counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    pub tensor: usize,
    pub copies: u64,
    pub view: View,
}

/// Tensors that are treated alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub members: Vec<Member>,
}

impl Part {
    /// What it takes as it is, a copy once.
    pub fn bytes(&self, checkpoint: &Checkpoint) -> u64 {
        self.members.iter().map(|m| checkpoint.tensors[m.tensor].bytes).sum()
    }

    /// Elements, copies counted.
    pub fn elements(&self, checkpoint: &Checkpoint) -> u64 {
        self.members.iter().map(|m| m.copies * checkpoint.tensors[m.tensor].elements()).sum()
    }
}

/// What this preset treats is searched, as all do that prune nothing; most of it will be along trellises, as by this one.
const TREATS: &str = "coded4";

/// What is kept and as large as this is stored without loss in fewer bytes, where it can be.
const WORTH_CODING: u64 = 16 << 10;

/// A model before a search.
pub struct Model {
    /// What is searched.
    pub parts: Vec<Part>,
    /// By the number of a tensor, the part that it is of.
    pub part_of: HashMap<usize, usize>,
    /// Tensors that are kept but for their bytes: how they are seen.
    pub coded: BTreeMap<usize, View>,
    /// What flags say of the tensors that they decide.
    pub by_flags: BTreeMap<usize, (Way, View)>,
    /// Of every file which of its tensors are equal to one before, and to which.
    pub ties: Vec<BTreeMap<usize, usize>>,
    /// Bytes of all tensors that are not searched, and how many more these are as they are.
    pub others: u64,
    pub saved: u64,
}

impl Model {
    /// # Errors
    ///
    /// As [`Plan::new`], and of reading what is not searched.
    pub fn new(
        engine: &Engine,
        checkpoint: &Checkpoint,
        ask: &Ask,
        options: &Options,
    ) -> Result<Self> {
        let recipe = ask.additions.before(Recipe::preset(TREATS)?)?;
        // What trellises take of memory, all that is searched takes.
        let plan = fitted(checkpoint, &recipe, options, options.on_gpu())?;
        plan.remarks.iter().for_each(|remark| engine.progress.warn(remark));
        let limits = model_limits(engine, checkpoint, &plan)?;
        let files = 0..checkpoint.files.len();
        let of_file = |file| ties(engine, checkpoint, &plan, &limits, file);
        let ties = files.map(of_file).collect::<Result<Vec<_>>>()?;
        let tied: BTreeMap<usize, usize> = ties.iter().flatten().map(|(i, to)| (*i, *to)).collect();
        let mut model = Self {
            parts: Vec::new(),
            part_of: HashMap::new(),
            coded: BTreeMap::new(),
            by_flags: BTreeMap::new(),
            ties,
            others: 0,
            saved: 0,
        };
        let mut groups: HashMap<String, usize> = HashMap::new();
        let flags = of_flags(ask.additions)?;
        let searched = |step: &Step| !step.keeps() && step.rule >= flags.len();
        let many = plan.steps.iter().filter(|step| searched(step)).count() > MANY;
        for (i, (t, step)) in checkpoint.tensors.iter().zip(&plan.steps).enumerate() {
            let by_flag = flags.get(step.rule);
            let (first, stored) = (tied.get(&i).copied(), !tied.contains_key(&i));
            match &step.action {
                Action::Keep(_) => {
                    let way = Way::lossless();
                    let view = View::default();
                    let coded = match stored && by_flag.is_none() && t.bytes >= WORTH_CODING {
                        true => look::weigh(engine, checkpoint, t, view, &way)?,
                        false => None,
                    };
                    if by_flag.is_some() {
                        model.by_flags.insert(i, (Way::Keep, view));
                    }
                    match coded {
                        Some(coded) => {
                            model.coded.insert(i, view);
                            model.others += coded.bytes;
                            model.saved += t.bytes - coded.bytes;
                        }
                        // With the one that it is tied to it is coded, or kept.
                        None if !stored => {
                            let view = first.and_then(|first| model.coded.get(&first)).copied();
                            view.map(|view| model.coded.insert(i, view));
                        }
                        None => model.others += t.bytes,
                    }
                }
                Action::Treat(treat) if by_flag.is_some() => {
                    let way = by_flag.cloned().unwrap_or(Way::Keep);
                    model.by_flags.insert(i, (way, treat.manifest.view));
                    if stored {
                        let found = look::encoded(engine, checkpoint, t, treat, limits[i])?;
                        model.others += found.map_or(t.bytes, |found| found.bytes);
                        let may_be_kept = treat.treatment.nonfinite == NonFinite::Keep;
                        if found.is_none() && !may_be_kept {
                            return Err(Error::Usage(format!(
                                "tensor {} holds NaN or infinite values",
                                crate::quote::quoted(&t.name)
                            )));
                        }
                    }
                }
                Action::Treat(treat) => {
                    if let Some(part) = first.and_then(|first| model.part_of.get(&first)).copied() {
                        let of = |m: &&mut Member| Some(m.tensor) == first;
                        model.parts[part]
                            .members
                            .iter_mut()
                            .find(of)
                            .into_iter()
                            .for_each(|m| m.copies += 1);
                        model.part_of.insert(i, part);
                        continue;
                    }
                    if !stored {
                        // That other one holds what is not finite, and counts: it is coded, or kept.
                        let view = first.and_then(|first| model.coded.get(&first)).copied();
                        view.map(|view| model.coded.insert(i, view));
                        continue;
                    }
                    if !look::is_finite(engine, checkpoint, t)? {
                        // Whatever it is, its bits come back.
                        let (way, view) = (Way::lossless(), View::default());
                        let coded = look::weigh(engine, checkpoint, t, view, &way)?;
                        model.others += coded.map_or(t.bytes, |coded| coded.bytes);
                        coded.map(|coded| {
                            model.saved += t.bytes - coded.bytes;
                            model.coded.insert(i, view)
                        });
                        continue;
                    }
                    let member = Member { tensor: i, copies: 1, view: treat.manifest.view };
                    let small = t.elements() < SMALL;
                    let key = match ask.together.then(|| together(&t.name)).flatten() {
                        Some(key) => Some(key),
                        None if small || many => Some(alike(t, small)),
                        None => None,
                    };
                    let known = key.as_ref().and_then(|key| groups.get(key)).copied();
                    let part = known.unwrap_or(model.parts.len());
                    match known {
                        Some(part) => model.parts[part].members.push(member),
                        None => model.parts.push(Part { members: vec![member] }),
                    }
                    key.map(|key| groups.insert(key, part));
                    model.part_of.insert(i, part);
                }
            }
        }
        Ok(model)
    }

    /// How every preset that is looked at treats every part: with nothing where it does not fit, or does not treat its members alike.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`], but for recipes that do not fit.
    pub fn of_presets(
        &self,
        checkpoint: &Checkpoint,
        ask: &Ask,
        options: &Options,
    ) -> Result<Vec<Vec<Option<Way>>>> {
        let of = |name: &&str| {
            let preset = Preset::named(name)?;
            let ways = of_rules(preset.text)?;
            let recipe = ask.additions.before(Recipe::parse(preset.text)?)?;
            let flags = recipe.rules.len() - ways.len();
            let plan = match Plan::new(checkpoint, &recipe, options.unit_bytes().max(1 << 20), 1) {
                Ok(plan) => plan,
                Err(Error::Recipe(_)) => return Ok(vec![None; self.parts.len()]),
                Err(e) => return Err(e),
            };
            let way = |tensor: usize| match &plan.steps[tensor] {
                step if step.keeps() => Some(Way::Keep),
                step => step.rule.checked_sub(flags).and_then(|rule| ways.get(rule)).cloned(),
            };
            let of_part = |part: &Part| {
                let first = way(part.members[0].tensor)?;
                part.members.iter().all(|m| way(m.tensor).as_ref() == Some(&first)).then_some(first)
            };
            Ok(self.parts.iter().map(of_part).collect())
        };
        PRESETS_LOOKED_AT.iter().map(of).collect()
    }

    /// Elements that are searched.
    pub fn searched(&self, checkpoint: &Checkpoint) -> u64 {
        self.parts.iter().map(|part| part.elements(checkpoint)).sum()
    }

    /// Bytes that all looks go through, about.
    pub fn looked_at(&self, checkpoint: &Checkpoint) -> u64 {
        self.parts.iter().map(|part| look::looked_at(checkpoint, part)).sum()
    }
}

/// Tensors of fewer weights are one choice with all of their type and shape: their tables are most of what they take.
pub const SMALL: u64 = 1 << 14;

/// Where more are searched than this, so are those of one shape whose names differ in numbers alone.
const MANY: usize = 1000;

/// What small tensors, or all of very many, have in common with those that are treated as they are.
fn alike(t: &TensorInfo, small: bool) -> String {
    let named = match small {
        true => String::new(),
        false => t.name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect(),
    };
    format!("{} {:?} {named}", t.dtype.name(), t.shape)
}

/// What each rule that flags make says, in their order.
fn of_flags(additions: &Additions) -> Result<Vec<Way>> {
    let mut ways = vec![Way::Keep; additions.keep.len()];
    for (_, preset) in &additions.set {
        let own = of_rules(Preset::named(preset)?.text)?;
        ways.extend(own.into_iter().filter(|way| *way != Way::Keep));
    }
    Ok(ways)
}

/// What tensors that are used together have in common: their names but for one word.
fn together(name: &str) -> Option<String> {
    const ALIKE: [&[&str]; 12] = [
        &["q_proj", "k_proj", "v_proj"],
        &["query", "key", "value"],
        &["wq", "wk", "wv"],
        &["to_q", "to_k", "to_v"],
        &["query_proj", "key_proj", "value_proj"],
        &["add_q_proj", "add_k_proj", "add_v_proj"],
        &["q_lin", "k_lin", "v_lin"],
        &["q", "k", "v"],
        &["gate_proj", "up_proj"],
        &["wi_0", "wi_1"],
        &["ffn_gate", "ffn_up"],
        &["w1", "w3"],
    ];
    let words: Vec<&str> = name.split('.').collect();
    let group = |word: &str| ALIKE.iter().position(|alike| alike.contains(&word));
    let (at, group) = words.iter().enumerate().rev().find_map(|(i, w)| Some((i, group(w)?)))?;
    let (before, after) = (words[..at].join("."), words[at + 1..].join("."));
    Some(format!("{before}.{group}.{after}"))
}

#[cfg(test)]
mod tests {
    use super::together;

    #[test]
    fn what_is_used_together_has_one_key() {
        let same = |a, b| together(a).is_some() && together(a) == together(b);
        assert!(same(
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.v_proj.weight"
        ));
        assert!(same("layers.3.mlp.gate_proj.weight", "layers.3.mlp.up_proj.weight"));
        assert!(same("layers.3.feed_forward.w1.weight", "layers.3.feed_forward.w3.weight"));
        assert!(!same("layers.3.feed_forward.w1.weight", "layers.3.feed_forward.w2.weight"));
        assert!(!same("layers.0.self_attn.q_proj.weight", "layers.1.self_attn.k_proj.weight"));
        assert!(!same("layers.0.self_attn.q_proj.weight", "layers.0.mlp.up_proj.weight"));
        assert_eq!(together("embeddings.word_embeddings.weight"), None);
    }
}
