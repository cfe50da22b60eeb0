//! What is said of many tensors: a line for each rule, with three of them and how many there are.

use crate::{
    format::Checkpoint,
    plan::{Action, Plan},
    quote::{NAMED, examples, printable, quoted},
    recipe::{Recipe, Rule},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Some tensors, the first of them with what there is to say of each.
#[derive(Debug, Default)]
struct Several {
    first: Vec<(String, Arc<str>)>,
    count: usize,
    /// Whether the same holds for all.
    one_reason: bool,
}

impl Several {
    fn add(&mut self, name: &str, why: &Arc<str>) {
        self.one_reason = self.count == 0 || self.one_reason && self.first[0].1 == *why;
        if self.count < NAMED {
            self.first.push((quoted(name), Arc::clone(why)));
        }
        self.count += 1;
    }

    /// `"a", "b", "c" and 4 more`.
    fn names(&self) -> String {
        examples(self.first.iter().map(|(name, _)| name.as_str()), self.count)
    }

    /// What holds for all and their names, or what holds for each.
    fn reasons(&self) -> String {
        if self.one_reason {
            return format!("{} ({})", self.first[0].1, self.names());
        }
        let each = self.first.iter().map(|(name, why)| format!("{name}: {why}"));
        let mut each: Vec<String> = each.collect();
        if self.count > self.first.len() {
            each.push(format!("and {} more", self.count - self.first.len()));
        }
        each.join("; ")
    }
}

/// What does not fit.
#[derive(Debug, Default)]
pub(super) struct Misfits {
    by_rule: BTreeMap<usize, Several>,
    unmatched: Several,
}

impl Misfits {
    /// A tensor that a rule cannot be fitted to.
    pub fn add(&mut self, rule: usize, name: &str, why: String) {
        self.by_rule.entry(rule).or_default().add(name, &why.into());
    }

    /// A tensor that no rule matches.
    pub fn unmatched(&mut self, name: &str) {
        self.unmatched.add(name, &"".into());
    }

    /// A line for each rule.
    pub fn lines(&self, rules: &[Rule]) -> Vec<String> {
        let of_rule = |(rule, tensors): (&usize, &Several)| match tensors.count {
            1 => format!("tensor {}: {}", tensors.first[0].0, tensors.first[0].1),
            n => {
                format!("{} does not fit {n} tensors: {}", called(&rules[*rule]), tensors.reasons())
            }
        };
        let mut lines: Vec<String> = self.by_rule.iter().map(of_rule).collect();
        let which = match self.unmatched.count {
            0 => return lines,
            1 => format!("tensor {}", self.unmatched.names()),
            n => format!("{n} tensors ({})", self.unmatched.names()),
        };
        lines.push(format!("no rule matches {which}; end the recipe with a rule that keeps \"*\""));
        lines
    }
}

/// A rule in a message.
fn called(rule: &Rule) -> String {
    match rule.is_of_a_flag() {
        true => printable(&rule.title()),
        false => format!("rule {}", quoted(&rule.pattern)),
    }
}

/// What a user should know of a recipe that changes less than it says: of each flag and each rule that may not match nothing whether
/// all of its tensors are kept, and of all of them whether nothing is changed. `kept` says why the tensor of a number was kept after
/// all, though the plan would have treated it.
pub fn said_of_kept(
    plan: &Plan,
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    kept: &dyn Fn(usize) -> Option<Arc<str>>,
) -> Vec<String> {
    // Rules of one flag are one.
    let titles: Vec<String> = recipe.rules.iter().map(Rule::title).collect();
    let same = |a: usize, b: usize| titles[a] == titles[b] && recipe.rules[a].is_of_a_flag();
    let first = |rule: usize| (0..rule).find(|other| same(*other, rule)).unwrap_or(rule);
    let first: Vec<usize> = (0..recipe.rules.len()).map(first).collect();
    // Of each rule that treats its tensors that are kept, and whether any was treated.
    let mut rules: BTreeMap<usize, (Several, bool)> = BTreeMap::new();
    // How many tensors have a reason, whatever its numbers.
    let mut reasons: HashMap<String, (usize, Arc<str>)> = HashMap::new();
    let mut changed = false;
    for (i, (step, t)) in plan.steps.iter().zip(&checkpoint.tensors).enumerate() {
        let why = match &step.action {
            Action::Keep(why) => Some(Arc::clone(why)),
            Action::Treat(_) => kept(i),
        };
        changed |= why.is_none();
        if recipe.rules.get(step.rule).is_some_and(|rule| !rule.treatment.keeps()) {
            let (tensors, treats) = rules.entry(first[step.rule]).or_default();
            match &why {
                Some(why) => tensors.add(&t.name, why),
                None => *treats = true,
            }
        }
        if let Some(why) = why.filter(|_| !changed) {
            let kind: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
            reasons.entry(kind).or_insert((0, why)).0 += 1;
        }
    }
    // Where nothing is changed, that says it of every rule of the recipe.
    let asked = |rule: &Rule| rule.is_of_a_flag() || !rule.optional && changed;
    let idle = rules.iter().filter(|(rule, (_, treats))| !treats && asked(&recipe.rules[**rule]));
    let mut said: Vec<String> = idle
        .map(|(rule, (tensors, _))| {
            let (called, n) = (called(&recipe.rules[*rule]), tensors.count);
            let of = if n == 1 { "its tensor".into() } else { format!("any of its {n} tensors") };
            format!("{called} does not change {of}: {}", tensors.reasons())
        })
        .collect();
    let all = checkpoint.tensors.len();
    if !changed && all > 0 {
        // Of equals the first by its words, so that it is always the same.
        let most = reasons.values().max_by_key(|(n, why)| (*n, std::cmp::Reverse(why.clone())));
        let (n, why) = most.expect("every tensor has a reason");
        let which = match (all, *n) {
            (1, _) => "the only tensor is kept".into(),
            (_, n) if n == all => format!("all {all} tensors are kept"),
            (_, n) => format!("all {all} tensors are kept, {n} of them for this"),
        };
        said.push(format!(
            "nothing is changed: {which}: {why}; `tersor plan MODEL` shows what each preset would do"
        ));
    }
    said
}
