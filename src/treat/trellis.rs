//! Codes along paths through a trellis: the levels of a tensor from a survey, and the codes of a unit from these.

use crate::{
    DType, Error, Result, Tensor,
    codec::{bitpack, sparse, stream, trellis::Trellis},
    dtype,
    engine::Needs,
    form::Palette,
    kernels::trellis_search,
    parallel,
    quote::quoted,
    recipe::TrellisGoal,
    restore::Parts,
    scratch,
    stage::Unit,
    treat::{job::Job, masks::Mask},
    trellis::{Fit, Goal, Grid, Part, Tally, class},
};

/// Weights that the levels are found from, in so many parts at most, each long enough to be coded as the tensor will be. What they
/// are off by shows when the whole tensor is gone through, which costs less than more of them.
const SAMPLE: usize = 1 << 17;
const PARTS: usize = 8;

/// How often the whole tensor is gone through until what it takes is what was asked for.
const PASSES: usize = 8;

/// Of the bits that were asked for, how many it may take more, and how many less before another step is tried.
const ABOVE: f64 = 0.0005;
const BELOW: f64 = 0.002;

/// The levels of a tensor, and how they are taken.
#[derive(Debug)]
pub struct Levels {
    /// How codes are found.
    pub grid: Grid,
    /// The mean importance of what survives, where there is one.
    mean: Option<u64>,
    /// The entries of the codes.
    pub entries: Vec<f32>,
}

/// The survivors of a unit one after the other, and how many each of its blocks has. Where there is importance, so much of each.
struct Streams {
    weights: Vec<f32>,
    importance: Vec<u64>,
    lengths: Vec<usize>,
}

impl Streams {
    /// Each stream: its weights, and its importance, or nothing.
    fn each(&self) -> impl Iterator<Item = (&[f32], &[u64])> {
        self.lengths.iter().scan((&self.weights[..], &self.importance[..]), |left, n| {
            let (weights, importance) =
                (left.0.split_at(*n), left.1.split_at(left.1.len().min(*n)));
            *left = (weights.1, importance.1);
            Some((weights.0, importance.0))
        })
    }

    /// The classes of all, beside a mean.
    fn classes(&self, mean: Option<u64>) -> Vec<u8> {
        mean.map_or_else(Vec::new, |mean| classes(&self.importance, mean))
    }
}

fn classes(importance: &[u64], mean: u64) -> Vec<u8> {
    importance.iter().map(|i| class(*i, mean)).collect()
}

/// What a first look at a tensor tells.
#[derive(Default)]
struct Look {
    least: f32,
    most: f32,
    squares: f64,
    survivors: u64,
    importance: u128,
    sample: Vec<(Vec<f32>, Vec<u64>)>,
}

impl Look {
    /// The mean importance; none where nothing counts, so that all count alike.
    fn mean(&self) -> Option<u64> {
        let mean = self.importance.checked_div(self.survivors.into())?;
        (self.importance > 0).then_some(mean.max(1) as u64)
    }
}

/// The sum of what is made of each weight, by 16 sums side by side: fast, and in one order everywhere.
fn sum(weights: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 16];
    for weights in weights.chunks(16) {
        sums.iter_mut().zip(weights).for_each(|(sum, w)| *sum += of(f64::from(*w)));
    }
    sums.iter().sum()
}

impl Job<'_> {
    fn streams(&self, unit: &Unit, elements: &[u32], mask: &[u32]) -> Result<Streams> {
        let mut weights = vec![0.0; unit.elements()];
        dtype::decode(self.blocks.dtype, elements, 0, &mut weights);
        let all = self.importance.as_ref().map(|i| i.of(unit)).transpose()?.unwrap_or_default();
        if mask.is_empty() {
            let lengths = self.blocks.spans(unit).iter().map(|span| span.len()).collect();
            return Ok(Streams { weights, importance: all, lengths });
        }
        let (_, cols) = unit.shape();
        let kept = sparse::gather(DType::F32, bytemuck::cast_slice(&weights), cols, mask);
        let weights = kept.into_iter().map(f32::from_bits).collect();
        let rows = mask.chunks(cols.div_ceil(32) * self.blocks.heights(unit)[0]);
        let ones = |mask: &[u32]| mask.iter().map(|word| word.count_ones() as usize).sum();
        let mut importance = Vec::new();
        if !all.is_empty() {
            sparse::survivors(mask, cols, |at| importance.push(all[at]));
        }
        Ok(Streams { weights, importance, lengths: rows.map(ones).collect() })
    }

    /// The levels with which the tensor takes what was asked for.
    pub(super) fn survey_levels(
        &self,
        mask: &Mask,
        trellis: Trellis,
        goal: TrellisGoal,
    ) -> Result<Levels> {
        let mut look = self.look(mask)?;
        let n = look.survivors as f64;
        let importance = look.mean();
        let part = |(weights, own): (Vec<f32>, Vec<u64>)| Part {
            weights,
            classes: importance.map_or_else(Vec::new, |mean| classes(&own, mean)),
        };
        let sample: Vec<Part> = std::mem::take(&mut look.sample).into_iter().map(part).collect();
        let weights = || sample.iter().map(|part| &part.weights[..]);
        let sampled = weights().map(<[f32]>::len).sum::<usize>().max(1) as f64;
        let mean = weights().map(|w| sum(w, |w| w)).sum::<f64>() / sampled;
        let variance = |w: &[f32]| sum(w, |w| (w - mean) * (w - mean));
        let variance = weights().map(variance).sum::<f64>() / sampled;
        let furthest = (f64::from(look.most) - mean).max(mean - f64::from(look.least));
        let blocks = self.blocks.count() as f64;
        let mut aim = match goal {
            // Of every block two tables and the little that its lanes cost, about.
            TrellisGoal::Bits(bits) => {
                Goal::Bits(bits - ABOVE * bits - (800.0 * blocks / n).min(bits / 2.0) - 0.0025)
            }
            TrellisGoal::Error(error) => Goal::Error(error * error * look.squares / n * 0.995),
        };
        let mut fit = Fit::new(aim, (mean, variance, furthest), &sample);
        if importance.is_some() {
            fit = fit.weighed();
        }
        fit.settle(trellis, aim, &sample);
        // Of those that keep to what was asked for the one with the least error, or the fewest bits; and what was least beyond it.
        let (mut best, mut beyond): (Option<(f64, Levels)>, f64) = (None, f64::MAX);
        let (mut coarser, mut least) = (false, f64::MAX);
        for _ in 0..PASSES {
            let grid = fit.grid(trellis);
            let (tally, coded) = self.take(mask, &grid, importance)?;
            let (entries, codes) = fit.entries(&tally, self.blocks.dtype);
            if look.survivors == 0 {
                return Ok(Levels { grid, mean: importance, entries });
            }
            let tables = 8.0 * (entries.len() * self.blocks.dtype.bytes(1)) as f64 + 32.0 * blocks;
            let found = fit.error(&tally, (&entries, &codes));
            // In bits too many, or too few for the error; and how many may be missing.
            let (off, above, below) = match goal {
                TrellisGoal::Bits(bits) => {
                    let off = (coded as f64 + tables) / n - bits;
                    (off, ABOVE * bits, BELOW * bits + 64.0 / n)
                }
                TrellisGoal::Error(error) => {
                    // Tallies are of rounded weights, which may be off by so much.
                    let limit = (0.999 * error * error * look.squares / n).max(1e-300);
                    (0.5 * libm::log2(found.max(1e-300) / limit), 0.0, 0.01)
                }
            };
            beyond = beyond.min(off);
            let (cost, wants_less) = match goal {
                TrellisGoal::Bits(_) => (found, off < -below),
                TrellisGoal::Error(_) => (coded as f64, off > above),
            };
            if off <= above && best.as_ref().is_none_or(|(of_best, _)| cost < *of_best) {
                let grid = grid.with_codes(&codes);
                best = Some((cost, Levels { grid, mean: importance, entries }));
            }
            let led_by_tails = fit.is_led_by_tails(&tally) && off <= above;
            let met = (-below..=above).contains(&off) || coarser && !wants_less;
            if met && !led_by_tails {
                break;
            }
            // What has no more to tell apart takes fewer bits. Where the smallest step is, is an estimate: a larger one may have less error.
            if led_by_tails || wants_less && (coarser || fit.is_finest()) {
                if found >= least || matches!(goal, TrellisGoal::Error(_)) && off <= above {
                    break;
                }
                (coarser, least) = (true, found);
                fit.coarsen(&tally);
                continue;
            }
            aim = match aim {
                Goal::Bits(bits) => Goal::Bits((bits - off - below / 4.0).max(bits / 4.0)),
                Goal::Error(error) => Goal::Error(error * libm::exp2(-2.0 * off - below / 2.0)),
            };
            match off.abs() < 0.05 {
                true => _ = fit.towards(aim, &tally),
                false => fit.settle(trellis, aim, &sample),
            }
        }
        best.map(|(_, levels)| levels).ok_or_else(|| self.beyond(goal, beyond))
    }

    fn beyond(&self, goal: TrellisGoal, off: f64) -> Error {
        let why = match goal {
            TrellisGoal::Bits(bits) => format!(
                "bits is {bits}, fewer than its tables and paths take; {:.3} were the fewest",
                bits + off
            ),
            TrellisGoal::Error(error) => format!(
                "max_error is {error}, which 256 levels do not reach; their error is {:.3e}",
                error * libm::exp2(off)
            ),
        };
        Error::Recipe(format!("tensor {}: {why}", quoted(self.name)))
    }

    /// Range, squares and a sample of the survivors.
    fn look(&self, mask: &Mask) -> Result<Look> {
        let blocks = self.blocks.count() as usize;
        // Every so many blocks one part, or of few blocks longer ones.
        let step = blocks.div_ceil(PARTS);
        let length = SAMPLE / blocks.div_ceil(step).max(1);
        let looks = parallel::try_map(&self.units, &|unit| {
            self.engine.cancel.check()?;
            let (elements, bits) = self.load(unit, mask)?;
            let streams = self.streams(unit, &elements, &bits)?;
            let importance = streams.importance.iter().map(|i| u128::from(*i)).sum();
            let mut look = Look { importance, ..Look::default() };
            for (i, (weights, importance)) in self.blocks.of_unit(unit).zip(streams.each()) {
                look.survivors += weights.len() as u64;
                look.squares += sum(weights, |w| w * w);
                look.least = weights.iter().fold(look.least, |least, w| least.min(*w));
                look.most = weights.iter().fold(look.most, |most, w| most.max(*w));
                if i % step == 0 {
                    let few = |n: usize| ..length.min(n);
                    let importance = importance[few(importance.len())].to_vec();
                    look.sample.push((weights[few(weights.len())].to_vec(), importance));
                }
            }
            Ok(look)
        })?;
        let mut all = Look::default();
        for look in looks {
            all.least = all.least.min(look.least);
            all.most = all.most.max(look.most);
            all.survivors += look.survivors;
            all.importance += look.importance;
            all.sample.extend(look.sample);
            all.squares += look.squares;
        }
        Ok(all)
    }

    /// What the tensor takes of the levels of a grid, and the bits of its streams.
    fn take(&self, mask: &Mask, grid: &Grid, mean: Option<u64>) -> Result<(Tally, u64)> {
        let of_units = parallel::try_map(&self.units, &|unit| {
            self.engine.cancel.check()?;
            let (elements, bits) = self.load(unit, mask)?;
            let streams = self.streams(unit, &elements, &bits)?;
            let classes = streams.classes(mean);
            let mut classes = &classes[..];
            let codes = self.search(unit, &streams, (grid, classes))?;
            let (mut all, mut coded, mut codes) = (Tally::default(), 0, &codes[..]);
            let mut bytes = Vec::new();
            for (weights, _) in streams.each() {
                let (own, after) = codes.split_at(weights.len());
                bytes.clear();
                stream::encode_paths(own, &mut bytes);
                coded += 8 * bytes.len() as u64;
                let (of_own, left) = classes.split_at(classes.len().min(weights.len()));
                classes = left;
                all.add(&Tally::of(grid, (weights, of_own), own));
                codes = after;
            }
            Ok((all, coded))
        })?;
        let (mut all, mut coded) = (Tally::default(), 0);
        for (tally, of_unit) in &of_units {
            all.add(tally);
            coded += of_unit;
        }
        Ok((all, coded))
    }

    /// The codes of a unit's survivors, one after the other.
    fn search(
        &self,
        unit: &Unit,
        streams: &Streams,
        (grid, classes): (&Grid, &[u8]),
    ) -> Result<Vec<u8>> {
        let n = streams.weights.len();
        let places = grid.places(&streams.weights, classes);
        let chain = self.chain("trellis_search", Needs::default());
        let codes = self.engine.survey(chain, &self.blocks, unit, |on| {
            let mut words = scratch::words(crate::words(DType::U16, n));
            bytemuck::cast_slice_mut(&mut words)[..n].copy_from_slice(&places);
            let positions = Tensor::new(on, DType::U16, 1, n, words)?;
            trellis_search(on, &positions, &streams.lengths, grid)?.into_words(on)
        })?;
        Ok(bytemuck::cast_slice(&codes)[..n].to_vec())
    }

    /// Codes of all weights of a unit, those of pruned ones zero.
    pub(super) fn paths(
        &self,
        unit: &Unit,
        elements: &[u32],
        mask: &[u32],
        levels: &Levels,
        palette: Palette,
    ) -> Result<(Parts, u64)> {
        let streams = self.streams(unit, elements, mask)?;
        let classes = streams.classes(levels.mean);
        let codes = self.search(unit, &streams, (&levels.grid, &classes))?;
        let (rows, cols) = unit.shape();
        let codes = match mask.is_empty() {
            true => codes,
            false => {
                let mut all = vec![0; rows * cols];
                let mut left = codes.into_iter();
                sparse::survivors(mask, cols, |at| all[at] = left.next().unwrap_or(0));
                all
            }
        };
        let bits = palette.code_bits().into();
        let width = bitpack::words(cols, bits);
        let mut stored = scratch::words(rows * width);
        for (codes, stored) in codes.chunks(cols).zip(stored.chunks_mut(width)) {
            bitpack::pack(codes, bits, stored);
        }
        Ok((Parts { stored, entries: levels.entries.clone(), ..Parts::default() }, 0))
    }
}
