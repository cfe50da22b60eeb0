//! A search: looks at samples, what is chosen by them, and what that is as a whole.

use crate::{
    Error, Result,
    engine::Engine,
    format::Checkpoint,
    parallel,
    pipeline::{Options, fitted},
    recipe::Recipe,
    search::{
        Ask, Curve, Found, PRESETS_LOOKED_AT, Target,
        allocate::{self, Point, allocate, hull},
        look::{self, Estimate, dense},
        parts::{Model, Part},
        ways::{self, Way},
        written,
    },
};
use std::collections::HashMap;

/// The share of a budget that may be left over.
const LEFT: f64 = 0.004;

/// What a look at a part takes of memory, at most: a sample, and what treating it takes.
const OF_A_LOOK: u64 = 48 << 20;

/// How often a choice is measured, and made again where samples misled.
const ROUNDS: usize = 5;

/// A search under way.
pub struct Search<'a> {
    pub engine: &'a Engine<'a>,
    pub checkpoint: &'a Checkpoint,
    pub ask: &'a Ask<'a>,
    pub options: &'a Options<'a>,
    pub model: Model,
}

/// What was chosen for every part, and what that makes together.
struct Made {
    text: String,
    recipe: Recipe,
    output_bytes: u64,
    error: f64,
}

impl Search<'_> {
    /// What is found.
    ///
    /// # Errors
    ///
    /// As [`search`](super::search).
    pub fn run(self) -> Result<Found> {
        let presets = self.model.of_presets(self.checkpoint, self.ask, self.options)?;
        let ask = match self.ask.target {
            Target::Error(error) if error >= TRELLIS_ERRORS.start => {
                Some(Way::Within(error.min(TRELLIS_ERRORS.end)))
            }
            Target::Error(_) | Target::Size(_) | Target::BitsPerWeight(_) => None,
        };
        let mut looks = self.look(&presets, ask.as_ref())?;
        let beside = self.beside(&looks)?;
        let elements = self.checkpoint.tensors.iter().map(|t| t.elements()).sum();
        let mut exact = Exact::default();
        let (made, remarks) = match self.ask.target.budget(elements) {
            Some(budget) => self.fit(&mut looks, &mut exact, budget, beside)?,
            None => (self.within(&looks, &mut exact)?, Vec::new()),
        };
        let curve = self.curve(&looks, &presets, (beside, elements));
        Ok(Found {
            rel_error: self.mean(made.error),
            text: made.text,
            recipe: made.recipe,
            output_bytes: made.output_bytes,
            searched: self.model.searched(self.checkpoint),
            curve,
            remarks,
        })
    }

    /// The root of a mean over all that is searched.
    fn mean(&self, error: f64) -> f64 {
        (error.max(0.0) / self.model.searched(self.checkpoint).max(1) as f64).sqrt()
    }

    /// What other sizes would have, and presets, beside which so many bytes are taken.
    fn curve(
        &self,
        looks: &[Vec<Estimate>],
        presets: &[Vec<Option<Way>>],
        (beside, elements): (u64, u64),
    ) -> Curve {
        let mut curve = Curve::new(elements);
        let hulls: Vec<_> = looks.iter().map(|look| corners(&dense(look))).collect();
        for (bytes, error) in allocate::curve(&hulls) {
            curve.push(None, bytes + beside as f64, self.mean(error));
        }
        for (name, ways) in PRESETS_LOOKED_AT.iter().zip(presets) {
            let own = |(look, way): (&Vec<Estimate>, &Option<Way>)| {
                let way = way.as_ref()?;
                look.iter().find(|e| e.way == *way).map(|e| (e.bytes, e.error))
            };
            let sums: Option<Vec<(f64, f64)>> = looks.iter().zip(ways).map(own).collect();
            if let Some(sums) = sums.filter(|sums| !sums.is_empty()) {
                // What they keep is as it was.
                let beside = (beside + self.model.saved) as f64;
                let bytes: f64 = sums.iter().map(|s| s.0).sum();
                curve.push(Some(name), bytes + beside, self.mean(sums.iter().map(|s| s.1).sum()));
            }
        }
        curve.thin();
        curve
    }

    /// What every part may become, from samples.
    fn look(&self, presets: &[Vec<Option<Way>>], ask: Option<&Way>) -> Result<Vec<Vec<Estimate>>> {
        let parts: Vec<(usize, &Part)> = self.model.parts.iter().enumerate().collect();
        let ways = |part: usize| {
            presets.iter().filter_map(move |ways| ways[part].clone()).chain(ask.cloned())
        };
        self.engine.begin("looking", self.model.looked_at(self.checkpoint));
        let mut looks = Vec::with_capacity(parts.len());
        for some in parts.chunks(self.at_once()) {
            looks.extend(parallel::try_map(some, &|(i, part)| {
                look::look(self.engine, self.checkpoint, part, &ways(*i).collect::<Vec<_>>())
            })?);
        }
        Ok(looks)
    }

    /// How many parts may be looked at, or small ones measured, side by side.
    fn at_once(&self) -> usize {
        match self.options.memory / OF_A_LOOK {
            0 | 1 => 1,
            // Whoever is done with one takes another.
            n if n >= self.options.threads() as u64 => 256,
            n => n as usize,
        }
    }

    /// What the output takes beside the parts: headers, what is kept, what flags treat, and what is carried along.
    fn beside(&self, looks: &[Vec<Estimate>]) -> Result<u64> {
        // Headers depend little on what is chosen.
        let first =
            |look: &Vec<Estimate>| corners(look).first().map(|p| look[p.choice].way.clone());
        let ways: Vec<Way> = looks.iter().map(|look| first(look).unwrap_or(Way::Keep)).collect();
        let (_, _, overhead) = self.planned(&ways, None)?;
        Ok(overhead + self.model.others)
    }

    /// The recipe of these ways, and the bytes of its headers, of its index, which says how many bytes of data there are, and of what is
    /// carried along.
    fn planned(&self, ways: &[Way], data: Option<u64>) -> Result<(String, Recipe, u64)> {
        let text = written::written(self.checkpoint, &self.model, ways, self.ask);
        let recipe = Recipe::parse(&text)?;
        let plan = fitted(self.checkpoint, &recipe, self.options, self.options.on_gpu())?;
        let most: u64 = plan.steps.iter().map(|s| s.bytes).sum();
        let is_tied = |i: usize| self.model.ties.iter().any(|ties| ties.contains_key(&i));
        let index = plan.index_bytes(self.checkpoint, data.unwrap_or(most), &is_tied);
        let mut overhead = plan.header_bytes.iter().sum::<u64>() + index;
        for (file, ties) in self.model.ties.iter().enumerate() {
            // Of tensors that are tied a header has the marks alone.
            let tied = plan.header_bytes_tied(self.checkpoint, file, ties)?;
            overhead = overhead + tied - plan.header_bytes[file];
        }
        let carried = if self.checkpoint.is_folder { self.checkpoint.carried_bytes()? } else { 0 };
        Ok((text, recipe, overhead + carried))
    }

    /// Adds up what was measured of all parts.
    fn make(&self, ways: Vec<Way>, exact: &Exact) -> Result<Made> {
        let (mut data, mut error) = (self.model.others, 0.0);
        for (part, way) in ways.iter().enumerate() {
            let found = exact.of(part, way).expect("it was measured");
            data += found.bytes as u64;
            error += found.error;
        }
        let (text, recipe, overhead) = self.planned(&ways, Some(data))?;
        Ok(Made { text, recipe, output_bytes: data + overhead, error })
    }

    /// Treats parts as a whole, where that is not known yet. What does not fit the whole is known as that.
    fn measure(&self, asked: &[(usize, Way)], exact: &mut Exact) -> Result<()> {
        let new: Vec<&(usize, Way)> =
            asked.iter().filter(|(part, way)| !exact.knows(*part, way)).collect();
        let bytes = |part: usize| self.model.parts[part].bytes(self.checkpoint);
        self.engine.begin("measuring", new.iter().map(|(part, _)| bytes(*part)).sum());
        let whole = |(part, way): &&(usize, Way)| {
            look::whole(self.engine, self.checkpoint, &self.model.parts[*part], way)
        };
        // Small ones side by side; large ones have threads enough by themselves.
        let (small, large): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|(part, _)| bytes(*part) <= 8 << 20);
        let mut found = Vec::with_capacity(small.len() + large.len());
        for some in small.chunks(self.at_once()) {
            found.extend(parallel::try_map(some, &whole)?);
        }
        for one in &large {
            found.push(whole(one)?);
        }
        for ((part, way), estimate) in small.into_iter().chain(large).zip(found) {
            exact.0.insert((*part, way.text(ways::STATES)), estimate);
        }
        Ok(())
    }

    /// The least error within a budget. Looks then say what was measured.
    fn fit(
        &self,
        looks: &mut [Vec<Estimate>],
        exact: &mut Exact,
        budget: u64,
        beside: u64,
    ) -> Result<(Made, Vec<String>)> {
        if let Some(limit) = self.ask.additions.max_error {
            looks.iter_mut().for_each(|look| look.retain(|e| e.worst <= limit));
        }
        let (mut aim, mut rounds) = (budget as f64 - beside as f64, 0);
        let (mut best, mut least): (Option<Made>, Option<u64>) = (None, None);
        // A part may fail once in every way; that is no round.
        let mut failures = 0;
        while rounds < ROUNDS && failures < FAILURES {
            let all: Vec<Vec<Estimate>> = looks.iter().map(|look| dense(look)).collect();
            let hulls: Vec<Vec<Point>> = all.iter().map(|look| corners(look)).collect();
            let Some(at) = allocate(&hulls, aim) else {
                let fewest: f64 = hulls.iter().map(|hull| hull[0].bytes).sum();
                least = Some((fewest + beside as f64) as u64);
                break;
            };
            let mut chosen: Vec<Point> =
                at.iter().zip(&hulls).map(|(at, hull)| hull[*at]).collect();
            let left = aim - chosen.iter().map(|p| p.bytes).sum::<f64>();
            let points: Vec<Vec<Point>> = all.iter().map(|look| points(look)).collect();
            allocate::fill(&points, &mut chosen, left);
            let chosen: Vec<Estimate> =
                chosen.iter().zip(&all).map(|(p, look)| look[p.choice].clone()).collect();
            let asked: Vec<(usize, Way)> =
                chosen.iter().map(|e| e.way.clone()).enumerate().collect();
            self.measure(&asked, exact)?;
            // What samples were wrong about.
            let mut failed = false;
            for (part, estimate) in chosen.iter().enumerate() {
                let limit = self.ask.additions.max_error.unwrap_or(f64::MAX);
                match exact.of(part, &estimate.way).filter(|found| found.worst <= limit) {
                    Some(found) => look::correct(&mut looks[part], estimate, found),
                    None => {
                        failed = true;
                        look::forget(&mut looks[part], &estimate.way);
                    }
                }
            }
            if failed {
                failures += 1;
                continue;
            }
            rounds += 1;
            let made = self.make(chosen.into_iter().map(|e| e.way).collect(), exact)?;
            let off = budget as f64 - made.output_bytes as f64;
            let done = off >= 0.0 && (off <= LEFT * budget as f64 || at_end(&at, &hulls));
            // Looks say now what parts take; headers, what they are off by.
            let data: f64 = exact.bytes_of(&asked);
            aim = budget as f64 - (made.output_bytes as f64 - data) - rounds as f64;
            if off >= 0.0 && best.as_ref().is_none_or(|b| made.error < b.error) {
                best = Some(made);
            }
            if done {
                break;
            }
        }
        let Some(made) = best else {
            let why = match least {
                None => "no choice that was measured was as small".into(),
                Some(least) => format!(
                    "the least is about {least} bytes, {beside} of them of headers and what is not searched"
                ),
            };
            return Err(Error::Usage(format!("{} cannot be met; {why}", self.ask.target.flag())));
        };
        let mut remarks = Vec::new();
        let off = budget - made.output_bytes;
        if off as f64 > 0.005 * budget as f64 {
            let lossless = made.error == 0.0;
            remarks.push(match lossless {
                true => format!(
                    "{} bytes are all that the checkpoint takes without any loss; {off} are left over",
                    made.output_bytes
                ),
                false => format!(
                    "{off} bytes of {budget} are left over: what there is between takes more, or gains nothing"
                ),
            });
        }
        Ok((made, remarks))
    }

    /// The fewest bytes of which no tensor is further off than the target says.
    fn within(&self, looks: &[Vec<Estimate>], exact: &mut Exact) -> Result<Made> {
        let Target::Error(limit) = self.ask.target else {
            unreachable!("a budget has its own way")
        };
        let mut left: Vec<Vec<Estimate>> = looks.to_vec();
        left.iter_mut().for_each(|look| {
            look.retain(|e| e.worst <= limit && e.way.may_be_chosen());
            look.sort_by(|a, b| b.bytes.total_cmp(&a.bytes));
        });
        let mut chosen: Vec<Option<Way>> = vec![None; left.len()];
        // As it is every tensor is exact: the last to be tried.
        loop {
            let asked: Vec<(usize, Way)> = left
                .iter_mut()
                .enumerate()
                .filter(|(part, _)| chosen[*part].is_none())
                .map(|(part, look)| (part, look.pop().map_or(Way::Keep, |e| e.way)))
                .collect();
            if asked.is_empty() {
                break;
            }
            self.measure(&asked, exact)?;
            for (part, way) in asked {
                if exact.of(part, &way).is_some_and(|found| found.worst <= limit) {
                    chosen[part] = Some(way);
                }
            }
        }
        self.make(chosen.into_iter().map(|way| way.unwrap_or(Way::Keep)).collect(), exact)
    }
}

/// Errors that a trellis can be asked for.
const TRELLIS_ERRORS: std::ops::Range<f64> = 0.005..0.9;

/// How often a choice may turn out to be none.
const FAILURES: usize = 64;

/// Whether every part has the best that it may become.
fn at_end(at: &[usize], hulls: &[Vec<Point>]) -> bool {
    at.iter().zip(hulls).all(|(at, hull)| at + 1 == hull.len())
}

/// The corners of what a part may become.
fn corners(look: &[Estimate]) -> Vec<Point> {
    hull(&points(look))
}

/// All that a part may become.
fn points(look: &[Estimate]) -> Vec<Point> {
    let point = |(choice, e): (usize, &Estimate)| Point { choice, bytes: e.bytes, error: e.error };
    let all = look.iter().enumerate().filter(|(_, e)| e.way.may_be_chosen());
    all.map(point).collect()
}

/// What parts have become as a whole, by the text of how; nothing where they cannot.
#[derive(Default)]
struct Exact(HashMap<(usize, String), Option<Estimate>>);

impl Exact {
    fn knows(&self, part: usize, way: &Way) -> bool {
        self.0.contains_key(&(part, way.text(ways::STATES)))
    }

    /// What these take together.
    fn bytes_of(&self, ways: &[(usize, Way)]) -> f64 {
        ways.iter().filter_map(|(part, way)| Some(self.of(*part, way)?.bytes)).sum()
    }

    fn of(&self, part: usize, way: &Way) -> Option<&Estimate> {
        self.0.get(&(part, way.text(ways::STATES)))?.as_ref()
    }
}
