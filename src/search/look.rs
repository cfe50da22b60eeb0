//! What a part takes, and is off by, in the ways that it may become: of samples, and as a whole.

use crate::{
    Error, Result, TensorInfo, dtype,
    engine::Engine,
    form::View,
    format::Checkpoint,
    parallel,
    pipeline::archive::{Components, Nowhere},
    plan::{Action, Treat, action},
    search::{
        allocate::{Point, hull},
        parts::{Member, Part, SMALL},
        sample::Sample,
        ways::{Family, STATES, STATES_OF_A_LOOK, Way},
    },
    stage::{Blocks, Source},
    treat::{ModelLimit, encode},
};

/// What a part would be in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    pub way: Way,
    /// Of all its members, each once.
    pub bytes: f64,
    /// The sum over members and their copies of elements times squared relative error.
    pub error: f64,
    /// The largest relative error of a member.
    pub worst: f64,
}

/// What a tensor is in one way.
#[derive(Clone, Copy, Debug)]
pub struct Weighed {
    pub bytes: u64,
    /// Of these, tables that are as large whatever the rows, as far as they are known.
    tables: u64,
    /// ‖W-Q‖ / ‖W‖.
    pub rel_error: f64,
}

/// Whether all values of a tensor are finite.
pub fn is_finite(engine: &Engine, checkpoint: &Checkpoint, info: &TensorInfo) -> Result<bool> {
    let blocks = Blocks::new(info.dtype, View::default().matrix(&info.shape));
    let source = Source::open(checkpoint, info, View::default());
    let all = parallel::try_map(&blocks.units(0), &|unit| {
        engine.cancel.check()?;
        Ok(dtype::all_finite(info.dtype, &source.load(&blocks, unit)?))
    })?;
    Ok(all.into_iter().all(|finite| finite))
}

/// How much better, as a share of the error at the same bytes, a probe must be.
const BETTER: f64 = 0.98;

/// Bytes that a look goes through, about.
pub fn looked_at(checkpoint: &Checkpoint, part: &Part) -> u64 {
    let ways = Way::fixed().len()
        + [Family::Trellis, Family::Entropy].map(|f| f.rates().len()).iter().sum::<usize>()
        + 8;
    let bytes = |m: &Member| {
        let t = &checkpoint.tensors[m.tensor];
        t.bytes.min(Sample::WEIGHTS * t.dtype.bytes(1) as u64)
    };
    ways as u64 * part.members.iter().take(MEMBERS).map(bytes).sum::<u64>()
}

/// Treats a tensor as a plan says, and keeps nothing of it. `None` where it holds what cannot be treated, or what was asked for cannot
/// be had of it.
pub fn encoded(
    engine: &Engine,
    checkpoint: &Checkpoint,
    info: &TensorInfo,
    treat: &Treat,
    limit: Option<ModelLimit>,
) -> Result<Option<Weighed>> {
    let source = Source::open(checkpoint, info, treat.manifest.view);
    treated(engine, info, &source, treat, limit)
}

fn treated(
    engine: &Engine,
    info: &TensorInfo,
    source: &Source,
    treat: &Treat,
    limit: Option<ModelLimit>,
) -> Result<Option<Weighed>> {
    let to = Components { out: &Nowhere, start: 0 };
    match engine.again(&info.name, || encode(engine, &info.name, source, treat, limit, &to)) {
        Ok(stored) if treat.manifest.coded && stored.bytes() >= info.bytes => Ok(None),
        Ok(stored) => {
            let measured = stored.known.measured.expect("errors were asked for");
            // Of nothing but zeros nothing is lost.
            let rel_error = measured.error.rel_error.unwrap_or(0.0);
            let tables = stored.manifest.table_starts().0;
            Ok(rel_error.is_finite().then_some(Weighed {
                bytes: stored.bytes(),
                tables,
                rel_error,
            }))
        }
        Err(Error::NonFinite { .. } | Error::Recipe(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Treats a whole tensor in one way.
pub fn weigh(
    engine: &Engine,
    checkpoint: &Checkpoint,
    info: &TensorInfo,
    view: View,
    way: &Way,
) -> Result<Option<Weighed>> {
    match action(info, &way.treatment(STATES)?, None, view, None) {
        Ok(Action::Treat(treat)) => encoded(engine, checkpoint, info, &treat, None),
        _ => Ok(None),
    }
}

/// A part in one way, as a whole.
pub fn whole(
    engine: &Engine,
    checkpoint: &Checkpoint,
    part: &Part,
    way: &Way,
) -> Result<Option<Estimate>> {
    let weighed =
        |m: &Member| weigh(engine, checkpoint, &checkpoint.tensors[m.tensor], m.view, way);
    sum(checkpoint, part, way, |_, m| match way {
        Way::Keep => Ok(Some((checkpoint.tensors[m.tensor].bytes as f64, 0.0))),
        _ => Ok(weighed(m)?.map(|w| (w.bytes as f64, w.rel_error))),
    })
}

/// Bytes and errors of all members, if every one has them.
fn sum(
    checkpoint: &Checkpoint,
    part: &Part,
    way: &Way,
    of: impl Fn(usize, &Member) -> Result<Option<(f64, f64)>>,
) -> Result<Option<Estimate>> {
    let mut all = Estimate { way: way.clone(), bytes: 0.0, error: 0.0, worst: 0.0 };
    for (i, member) in part.members.iter().enumerate() {
        let Some((bytes, rel_error)) = of(i, member)? else { return Ok(None) };
        let elements = member.copies * checkpoint.tensors[member.tensor].elements();
        all.bytes += bytes;
        all.error += elements as f64 * rel_error * rel_error;
        all.worst = all.worst.max(rel_error);
    }
    Ok(Some(all))
}

/// A member and what is looked at of it.
struct Looked<'a> {
    info: &'a TensorInfo,
    view: View,
    sample: Option<Sample>,
}

impl Looked<'_> {
    /// Bytes of the whole, and the relative error.
    fn weigh(
        &self,
        engine: &Engine,
        checkpoint: &Checkpoint,
        way: &Way,
    ) -> Result<Option<(f64, f64)>> {
        let treatment = way.treatment(STATES_OF_A_LOOK)?;
        let (info, view) = match &self.sample {
            Some(sample) => (&sample.info, View::default()),
            None => (self.info, self.view),
        };
        let Ok(Action::Treat(treat)) = action(info, &treatment, None, view, None) else {
            return Ok(None);
        };
        let source = match &self.sample {
            Some(sample) => Source::Memory(&sample.words),
            None => Source::open(checkpoint, info, view),
        };
        let Some(weighed) = treated(engine, info, &source, &treat, None)? else { return Ok(None) };
        let Weighed { bytes, tables, rel_error } = weighed;
        let Some(sample) = &self.sample else { return Ok(Some((bytes as f64, rel_error))) };
        // Tables are of all rows together, or as many more as there are more rows.
        let whole = match action(self.info, &treatment, None, self.view, None) {
            Ok(Action::Treat(whole)) => whole.manifest.table_starts().0,
            _ => return Ok(None),
        };
        let tables_of_all = match whole == treat.manifest.table_starts().0 {
            true => tables,
            false => whole,
        };
        Ok(Some(((bytes - tables) as f64 * sample.times + tables_of_all as f64, rel_error)))
    }
}

/// Members of a part that are looked at, at most: what they are stands for the others.
const MEMBERS: usize = 6;

/// What a part would be in all ways that are known, and in those of `also`.
pub fn look(
    engine: &Engine,
    checkpoint: &Checkpoint,
    part: &Part,
    also: &[Way],
) -> Result<Vec<Estimate>> {
    let looked = |m: &Member| {
        let info = &checkpoint.tensors[m.tensor];
        Ok(Looked { info, view: m.view, sample: Sample::of(checkpoint, info, m.view)? })
    };
    let all = part.members.len();
    let every = all.div_ceil(MEMBERS);
    let few = Part { members: part.members.iter().step_by(every).copied().collect() };
    let members = few.members.iter().map(looked).collect::<Result<Vec<_>>>()?;
    let elements: u64 = members.iter().map(|m| m.info.elements()).sum();
    let small = members.iter().all(|m| m.info.elements() < SMALL);
    let times = all as f64 / few.members.len() as f64;
    let estimate = |way: &Way| {
        engine.cancel.check()?;
        let found = sum(checkpoint, &few, way, |i, _| members[i].weigh(engine, checkpoint, way))?;
        Ok::<_, Error>(
            found
                .map(|found| match way {
                    Way::Of(Family::Entropy, _) => found,
                    // Tables are a smaller part of the bits of a whole than of those of a sample.
                    Way::Of(family, _) if members.iter().any(|m| m.sample.is_some()) => {
                        let bits = (8.0 * found.bytes / elements as f64).clamp(0.25, 6.0);
                        Estimate { way: Way::Of(*family, round(bits)), ..found }
                    }
                    _ => found,
                })
                .map(|e| Estimate { bytes: times * e.bytes, error: times * e.error, ..e }),
        )
    };
    let keep = part.bytes(checkpoint) as f64;
    let mut all = vec![Estimate { way: Way::Keep, bytes: keep, error: 0.0, worst: 0.0 }];
    for family in Family::ALL {
        let worth = match family.probe() {
            Some(bits) => estimate(&Way::Of(family, bits))?
                .is_some_and(|probe| probe.error < BETTER * error_at(&all, probe.bytes)),
            None => true,
        };
        if worth {
            let rates = family.rates().iter().enumerate();
            // Of few weights fewer will do.
            for (_, bits) in rates.filter(|(i, _)| !small || i % 2 == 0) {
                all.extend(estimate(&Way::Of(family, *bits))?);
            }
        }
    }
    let mut known: Vec<&Way> = Vec::new();
    let fixed = Way::fixed();
    // What needs many weights to be worth its tables is left out of few.
    let many = |way: &&Way| !small || !matches!(way, Way::Fixed(text) if text.contains("vector"));
    let fixed = fixed.iter().filter(many);
    for way in fixed.chain(also).filter(|way| **way != Way::Keep) {
        if !known.contains(&way) {
            known.push(way);
            all.extend(estimate(way)?);
        }
    }
    Ok(all)
}

/// The error that what is known has at so many bytes, between its points as if every bit were worth the same factor.
fn error_at(all: &[Estimate], bytes: f64) -> f64 {
    let of = |e: &Estimate| Point { choice: 0, bytes: e.bytes, error: e.error };
    let hull = hull(&all.iter().map(of).collect::<Vec<_>>());
    let after = hull.iter().position(|p| p.bytes >= bytes);
    match after {
        Some(0) | None => f64::MAX,
        Some(i) => between(&hull[i - 1], &hull[i], bytes),
    }
}

fn between(a: &Point, b: &Point, bytes: f64) -> f64 {
    let part = (bytes - a.bytes) / (b.bytes - a.bytes);
    match b.error > 0.0 {
        true => a.error * libm::pow(b.error / a.error, part),
        false => a.error * (1.0 - part),
    }
}

/// Bits as recipes write them.
fn round(bits: f64) -> f64 {
    (bits * 1e4).floor() / 1e4
}

/// Steps of a bit between points of a family, and the largest as a share of the bits.
const STEPS: f64 = 96.0;
const FINE: f64 = 0.002;

/// All estimates, and between those of a family what lies there.
pub fn dense(look: &[Estimate]) -> Vec<Estimate> {
    let mut all = look.to_vec();
    for family in Family::ALL {
        let own = |e: &&Estimate| matches!(e.way, Way::Of(f, _) if f == family);
        let mut own: Vec<&Estimate> = look.iter().filter(own).collect();
        own.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
        for pair in own.windows(2) {
            let ([a, b], Way::Of(_, from), Way::Of(_, to)) =
                ([pair[0], pair[1]], &pair[0].way, &pair[1].way)
            else {
                continue;
            };
            let point = |e: &Estimate| Point { choice: 0, bytes: e.bytes, error: e.error };
            // Equal bytes, as of constants, leave nothing between; nor do errors that are none.
            if b.bytes <= a.bytes || a.error.is_nan() || a.error <= 0.0 {
                continue;
            }
            let steps = ((to - from) * STEPS).max(libm::log(to / from) / FINE) as usize;
            for step in 1..steps {
                let part = step as f64 / steps as f64;
                let bytes = a.bytes + part * (b.bytes - a.bytes);
                all.push(Estimate {
                    way: Way::Of(family, round(from + part * (to - from))),
                    bytes,
                    error: between(&point(a), &point(b), bytes),
                    worst: a.worst * libm::pow(b.worst.max(1e-12) / a.worst.max(1e-12), part),
                });
            }
        }
    }
    all
}

/// Has estimates say what was found of one of them as a whole: those of its family are off by as much.
pub fn correct(look: &mut Vec<Estimate>, estimate: &Estimate, found: &Estimate) {
    let ratio = |found: f64, said: f64| if said > 0.0 && found > 0.0 { found / said } else { 1.0 };
    let (bytes, error) = (ratio(found.bytes, estimate.bytes), ratio(found.error, estimate.error));
    match &estimate.way {
        Way::Of(family, _) => {
            for e in look.iter_mut().filter(|e| matches!(e.way, Way::Of(f, _) if f == *family)) {
                e.bytes *= bytes;
                e.error *= error;
                e.worst *= error.sqrt();
            }
        }
        way => {
            look.retain(|e| e.way != *way);
            look.push(found.clone());
        }
    }
}

/// Leaves out what a part cannot become as a whole.
pub fn forget(look: &mut Vec<Estimate>, way: &Way) {
    match way {
        // Its neighbours will do: where one number of bits is too small, all below are.
        Way::Of(family, bits) => {
            look.retain(|e| !matches!(&e.way, Way::Of(f, b) if f == family && *b <= bits + 0.02))
        }
        way => look.retain(|e| e.way != *way),
    }
}
