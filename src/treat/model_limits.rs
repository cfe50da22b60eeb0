//! Thresholds of rules that look at the whole model.

use crate::{
    Result,
    decide::{
        histogram::Histogram,
        order_key,
        threshold::{kept, refine},
    },
    engine::Engine,
    engine::count::{count, tail},
    form::View,
    format::Checkpoint,
    plan::{Action, Plan},
    recipe::{Prune, Recipe, Scope},
    stage::{Blocks, Source},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A threshold over several tensors, as it applies to one: it can be written down, and read where a part of the model is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelLimit {
    /// The magnitude's bits as f32.
    pub magnitude: u32,
    /// How many weights on it this tensor keeps.
    pub ties: u64,
}

impl ModelLimit {
    /// Keeps what is not zero.
    pub const NONZERO: Self = Self { magnitude: 0, ties: 0 };
}

/// The thresholds of rules that look at the whole model: one for each finite tensor that such a rule treats, none for a rule
/// that looks only whether it was pruned before, and it was not. A tensor that holds NaN or infinite values takes no part;
/// encoding it then refuses it.
///
/// # Errors
///
/// As [`Source::load`] and [`Engine::run`].
pub fn model_limits(
    engine: &Engine,
    checkpoint: &Checkpoint,
    plan: &Plan,
) -> Result<Vec<Option<ModelLimit>>> {
    let mut limits = vec![None; plan.steps.len()];
    let mut rules: Vec<(usize, f64, bool, bool)> = Vec::new();
    for step in &plan.steps {
        if let Action::Treat(treat) = &step.action
            && let Some(Prune::Magnitude { density, scope, once }) = treat.prune
            && (once || scope == Scope::Model)
            && rules.iter().all(|(rule, ..)| *rule != step.rule)
        {
            rules.push((step.rule, density, scope == Scope::Model, once));
        }
    }
    for (rule, density, over_model, once) in rules {
        // Ties go to the first tensor by name.
        let mut members: Vec<usize> = (0..plan.steps.len())
            .filter(|i| {
                plan.steps[*i].rule == rule && matches!(plan.steps[*i].action, Action::Treat(_))
            })
            .collect();
        members.sort_by_key(|i| &checkpoint.tensors[*i].name);
        // How many weights of all have each upper 19 bits of magnitude, whatever their type.
        let mut prefixes = vec![0u64; 1 << 19];
        let mut surveyed = Vec::new();
        for i in members {
            let t = &checkpoint.tensors[i];
            let blocks = Blocks::new(t.dtype, (t.rows(), t.cols()));
            let units = blocks.units(engine.unit_bytes);
            let source = Source::open(checkpoint, t, View::default());
            let histogram = count(engine, &t.name, &blocks, &|u| source.load(&blocks, u), &units)?;
            if histogram.nonfinite() == 0 {
                add_magnitudes(&histogram, &mut prefixes);
                surveyed.push((i, &t.name, blocks, units, source));
            }
        }
        let total = prefixes.iter().sum();
        let keep = kept(density, total);
        // Zeros and the smallest subnormals have one prefix; which they are takes another look.
        if once && total - prefixes[0] <= keep {
            let mut zeros = 0;
            for (_, name, blocks, units, source) in &surveyed {
                zeros += tail(engine, name, blocks, &|u| source.load(blocks, u), units, 0)?[0];
            }
            if total - zeros <= keep {
                surveyed.iter().for_each(|(i, ..)| limits[*i] = Some(ModelLimit::NONZERO));
                continue;
            }
        }
        if !over_model {
            continue;
        }
        if keep == 0 {
            for (i, ..) in surveyed {
                limits[i] = Some(ModelLimit { magnitude: u32::MAX - 1, ties: 0 });
            }
            continue;
        }
        let (mut left, mut prefix) = (keep, 0);
        for (p, n) in prefixes.iter().enumerate().rev() {
            if *n >= left {
                prefix = p as u32;
                break;
            }
            left -= n;
        }
        let mut tails = Vec::new();
        for (_, name, blocks, units, source) in &surveyed {
            tails.push(tail(engine, name, blocks, &|u| source.load(blocks, u), units, prefix)?);
        }
        let sum: Vec<u64> = (0..4096).map(|low| tails.iter().map(|t| t[low]).sum()).collect();
        let (magnitude, mut ties) = refine(prefix, left, &sum);
        for ((i, ..), tail) in surveyed.iter().zip(&tails) {
            let own = ties.min(tail[(magnitude & 0xfff) as usize]);
            ties -= own;
            limits[*i] = Some(ModelLimit { magnitude, ties: own });
        }
    }
    Ok(limits)
}

/// Whether the tensor of a number was treated.
type IsTreated<'a> = &'a dyn Fn(usize) -> bool;

/// What a user should know of a recipe with `defaults` that prunes a network unless it was pruned before: how much that loses. `done`
/// is the thresholds of [`model_limits`], by which it shows whether it was, and whether a tensor was kept after all; without, nothing
/// is done yet.
pub fn said_of_pruning(
    plan: &Plan,
    recipe: &Recipe,
    done: Option<(&[Option<ModelLimit>], IsTreated)>,
) -> Option<String> {
    // Of every rule its density, how many tensors it prunes, and whether they were pruned before.
    let mut rules: BTreeMap<usize, (f64, usize, bool)> = BTreeMap::new();
    for (i, step) in plan.steps.iter().enumerate() {
        if let Action::Treat(treat) = &step.action
            && let Some(Prune::Magnitude { density, once: true, .. }) = treat.prune
        {
            let (_, tensors, before) = rules.entry(step.rule).or_insert((density, 0, false));
            *tensors += usize::from(!done.is_some_and(|(_, kept)| kept(i)));
            *before |= done.is_some_and(|(limits, _)| limits[i] == Some(ModelLimit::NONZERO));
        }
    }
    rules.retain(|_, (density, tensors, before)| *tensors > 0 && !*before && *density < 1.0);
    let tensors: usize = rules.values().map(|r| r.1).sum();
    let least = rules.values().map(|r| r.0).reduce(f64::min).filter(|_| recipe.defaults)?;
    let percent = (100.0 * (1.0 - least)).round();
    let unless = if done.is_none() { ", unless the network was pruned before" } else { "" };
    let many = if tensors == 1 { "1 tensor loses" } else { &format!("{tensors} tensors lose") };
    Some(format!(
        "{many} up to {percent} % of the weights{unless}: a network that is not trained again with these at zero does much worse"
    ))
}

fn add_magnitudes(histogram: &Histogram, prefixes: &mut [u64]) {
    let value = |b: usize| match histogram.lows.is_empty() {
        true => histogram.value(b),
        false => order_key::to_f32((b as u32) << 12),
    };
    for (b, n) in histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        prefixes[(value(b).to_bits() as usize & 0x7fff_ffff) >> 12] += n;
    }
}
