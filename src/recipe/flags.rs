//! Recipes without TOML: what a few flags of the command line say.

use crate::{
    Error, Result, TensorInfo,
    quote::{printable, quoted},
    recipe::{
        Granularity, GroupSize, Matcher, Quantize, Recipe, Rule, Treatment, TrellisGoal, defaults,
    },
};
use globset::{Glob, GlobMatcher};
use std::sync::Arc;

/// How [`Recipe::of_bits`] quantizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Equal steps, as the presets int8 and int4.
    Affine,
    /// A table of the best values, as palette8 and palette4.
    Palette,
    /// The best table for so many bits after coding.
    Entropy,
    /// Along paths through a trellis, for so many bits of all that is stored, as coded4.
    Trellis,
}

/// What stands before the rules of a recipe, and a limit for all of them.
///
/// # Example
///
/// ```
/// use tersor::{DType, recipe::{Additions, Recipe}};
///
/// let additions = Additions {
///     keep: vec!["head.*".into()],
///     set: vec![("*.mlp.*".into(), "int4".into())],
///     max_error: Some(0.2),
/// };
/// let recipe = additions.before(Recipe::preset("int8")?)?;
/// let first = |name| recipe.rules.iter().find(|r| r.matches(name, DType::F32, &[64, 64])).unwrap();
/// assert!(first("head.mlp.weight").treatment.keeps());
/// assert_eq!(first("layers.0.mlp.weight").title(), "--set *.mlp.*=int4");
/// assert_eq!(first("layers.0.attn.weight").title(), "*");
/// assert_eq!(first("layers.0.attn.weight").treatment.max_rel_error, Some(0.2));
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Globs of names: such tensors are kept.
    pub keep: Vec<String>,
    /// Globs of names, each with a preset whose treating rules such tensors have. What it or a default keeps by its name is not kept.
    pub set: Vec<(String, String)>,
    /// The `max_rel_error` of every rule that treats, whatever the rule says itself.
    pub max_error: Option<f64>,
}

/// The flag that a rule is from, by which it is called in messages.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    glob: GlobMatcher,
    preset: Option<String>,
}

impl Additions {
    /// A recipe with these before it.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for what is no glob, no preset or no limit.
    pub fn before(&self, recipe: Recipe) -> Result<Recipe> {
        let mut rules = Vec::new();
        for text in &self.keep {
            let glob = glob("--keep", text)?;
            rules.push(Rule {
                pattern: text.clone(),
                matcher: Matcher::Glob(glob.clone()),
                only: None,
                flag: Some(Arc::new(Flag { glob, preset: None })),
                role: None,
                why: None,
                sets_axis: false,
                min_dims: 0,
                min_elements: 0,
                dtypes: Vec::new(),
                optional: false,
                treatment: Treatment::default(),
            });
        }
        for (text, preset) in &self.set {
            let glob = glob("--set", text)?;
            let flag = Arc::new(Flag { glob: glob.clone(), preset: Some(preset.clone()) });
            let treats = |rule: &Rule| !rule.treatment.keeps();
            rules.extend(Recipe::preset(preset)?.rules.into_iter().filter(treats).map(|rule| {
                Rule { only: Some(glob.clone()), flag: Some(Arc::clone(&flag)), ..rule }
            }));
        }
        rules.extend(recipe.rules);
        if let Some(limit) = self.max_error {
            if !limit.is_finite() || limit < 0.0 {
                let why = format!("--max-error is {limit}, expected a finite number from 0 on");
                return Err(Error::Usage(why));
            }
            for rule in rules.iter_mut().filter(|rule| !rule.treatment.keeps()) {
                rule.treatment.max_rel_error = Some(limit);
            }
        }
        Ok(Recipe { rules, defaults: recipe.defaults })
    }
}

fn glob(flag: &str, text: &str) -> Result<GlobMatcher> {
    let glob = Glob::new(text);
    let glob = glob.map_err(|e| Error::Usage(format!("{flag}: {}", printable(&e.to_string()))))?;
    Ok(glob.compile_matcher())
}

/// Weights of the smallest tensor that presets treat.
const LEAST: u64 = 1024;

impl Recipe {
    /// The recipe that treats what presets treat, with so many bits a weight. It is the preset of that kind with other bits:
    /// int8 or int4, palette8 or palette4, coded4; of `Entropy` it is coded4 without trellises. What these give more bits, embeddings, has as many as there; coded, one more.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for bits or a granularity that the kind does not have.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::recipe::{Kind, Recipe};
    ///
    /// let rules = |recipe: Recipe| recipe.rules.into_iter().map(|rule| rule.treatment).collect::<Vec<_>>();
    /// let same = |bits, kind, preset: &str| {
    ///     rules(Recipe::of_bits(bits, kind, None).unwrap()) == rules(Recipe::preset(preset).unwrap())
    /// };
    /// assert!(same(8.0, Kind::Affine, "int8") && same(4.0, Kind::Affine, "int4"));
    /// assert!(same(4.0, Kind::Palette, "palette4") && same(8.0, Kind::Palette, "palette8"));
    /// assert!(Recipe::of_bits(2.5, Kind::Affine, None).is_err());
    /// ```
    pub fn of_bits(bits: f64, kind: Kind, granularity: Option<Granularity>) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Usage(why.into()));
        let whole = bits.fract() == 0.0;
        match kind {
            Kind::Affine if !(whole && (2.0..=8.0).contains(&bits)) => {
                return refuse(&format!(
                    "--bits is {bits}, expected 2 to 8, whole; --kind entropy takes any above 0"
                ));
            }
            Kind::Palette if !(whole && (1.0..=8.0).contains(&bits)) => {
                return refuse(&format!(
                    "--bits is {bits}, expected 1 to 8, whole; --kind entropy takes any above 0"
                ));
            }
            Kind::Entropy if !(bits > 0.0 && bits <= 8.0) => {
                return refuse(&format!("--bits is {bits}, expected above 0, up to 8"));
            }
            Kind::Trellis if !(0.25..=6.0).contains(&bits) => {
                return refuse(&format!("--bits is {bits}, expected 0.25 to 6 for --kind trellis"));
            }
            Kind::Entropy | Kind::Trellis
                if granularity.as_ref().is_some_and(|g| *g != Granularity::Tensor) =>
            {
                let kind = if kind == Kind::Entropy { "entropy" } else { "trellis" };
                return refuse(&format!(
                    "--kind {kind} has one table for a tensor; leave --group out, or say --group tensor",
                ));
            }
            Kind::Affine | Kind::Palette | Kind::Entropy | Kind::Trellis => {}
        }
        if granularity == Some(Granularity::Group(vec![GroupSize::Of(0)])) {
            return refuse("--group is 0, expected at least 1");
        }
        let (preset, own) = match (kind, bits == 8.0) {
            (Kind::Affine, true) => ("int8", 8.0),
            (Kind::Affine, false) => ("int4", 4.0),
            (Kind::Palette, true) => ("palette8", 8.0),
            (Kind::Palette, false) => ("palette4", 4.0),
            (Kind::Entropy | Kind::Trellis, _) => ("coded4", 4.0),
        };
        let mut recipe = Self::preset(preset)?;
        for rule in &mut recipe.rules {
            let Some(quantize) = &mut rule.treatment.quantize else { continue };
            match quantize {
                Quantize::Affine { bits: b, granularity: g, .. } if f64::from(*b) == own => {
                    *b = bits as u8;
                    *g = granularity.clone().unwrap_or(g.clone());
                }
                Quantize::Palette { k, granularity: g, .. } if f64::from(*k).log2() == own => {
                    *k = 1 << bits as u32;
                    *g = granularity.clone().unwrap_or(g.clone());
                }
                // Embeddings have one bit more, of whatever kind.
                Quantize::Trellis { goal: TrellisGoal::Bits(b), .. } if kind == Kind::Trellis => {
                    *b = if *b > own { (bits + 1.0).min(6.0) } else { bits };
                }
                Quantize::Trellis { goal: TrellisGoal::Bits(b), .. } => {
                    let bits = if *b > own { (bits + 1.0).min(8.0) } else { bits };
                    *quantize = Quantize::Entropy { bits };
                    // Palettes are worth having of fewer weights than trellises.
                    rule.min_elements = LEAST;
                }
                Quantize::Entropy { bits: b } => *b = bits,
                // What has more bits there has them here.
                Quantize::Affine { .. }
                | Quantize::Palette { .. }
                | Quantize::Vector { .. }
                | Quantize::Pyramid { .. }
                | Quantize::Trellis { .. }
                | Quantize::Binary => {}
            }
        }
        Ok(recipe)
    }

    /// What is to be said of rules that have decided no tensor though they should have, of which it is told whether each has.
    /// `taken` are the tensors that a default decided.
    pub(crate) fn idle(
        &self,
        used: &[bool],
        tensors: &[TensorInfo],
        taken: &[&TensorInfo],
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let of_flag = |a: &Rule, b: &Rule| match (&a.flag, &b.flag) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let mut at = 0;
        for rules in self.rules.chunk_by(of_flag) {
            let decided = used[at..at + rules.len()].contains(&true);
            at += rules.len();
            let rule = &rules[0];
            match &rule.flag {
                Some(flag) => wrong.extend(flag.idle(decided, rules, tensors)),
                // The rule that ends a recipe by keeping the rest need not have a rest.
                None if rule.pattern == "*" && rule.treatment.keeps() => {}
                None if !decided && !rule.optional => {
                    let by_default = taken
                        .iter()
                        .any(|t| rule.fits(t, defaults().embeddings.role(t.own_name())));
                    let but = if by_default { " that the defaults do not keep" } else { "" };
                    wrong.push(format!("rule {} matches no tensor{but}", quoted(&rule.pattern)));
                }
                None => {}
            }
        }
        wrong
    }
}

impl Flag {
    /// As it was written.
    pub(super) fn words(&self) -> String {
        let glob = self.glob.glob();
        match &self.preset {
            None => format!("--keep {glob}"),
            Some(preset) => format!("--set {glob}={preset}"),
        }
    }

    /// What is wrong if its glob matches nothing, or if its preset treats nothing of it. One that keeps what another flag keeps
    /// already is right all the same.
    fn idle(&self, decided: bool, rules: &[Rule], tensors: &[TensorInfo]) -> Option<String> {
        let named =
            |t: &&TensorInfo| self.glob.is_match(t.own_name()) || self.glob.is_match(&t.name);
        let mut matched = tensors.iter().filter(named).peekable();
        let words = printable(&self.words());
        let Some(t) = matched.peek().copied() else {
            return Some(format!("{words} matches no tensor"));
        };
        if decided || self.preset.is_none() {
            return None;
        }
        let role = defaults().embeddings.role(t.own_name());
        let unmet = rules.iter().find_map(|rule| rule.unmet(t, role));
        let why = unmet.map_or("a flag before it decides".into(), |why| format!("it {why}"));
        let (name, count) = (quoted(&t.name), matched.count());
        Some(format!(
            "{words} treats no tensor; of {count} that it matches the first is {name}: {why}"
        ))
    }
}
