//! The weights of a few tensors as bars, with what their codes stand for: read once more after the job, and of large tensors only
//! a part, so that a page costs little and a job without one nothing.

use crate::{
    DType, Error, Result, TensorInfo,
    decide::order_key,
    dtype,
    form::{Affine, Method, TensorManifest, View},
    format::{Archive, ArchivedTensor, Checkpoint},
    parallel,
    pipeline::Options,
    restore::{Parts, Restorer},
    scratch::Words,
    stage::{Blocks, Source, Unit},
    verify::partners,
};

/// Bars of a picture.
pub const BARS: usize = 96;
/// Weights of a tensor that are looked at, about: of a larger one, every so many blocks.
const MOST: u64 = 1 << 24;
/// Units whose counts are held at a time.
const BATCH: usize = 16;
/// Bits of the order key that tell fine bins apart: sign, exponent, and 7 bits of mantissa.
const FINE: u32 = 16;
/// The bins of -0 and +0, and of numbers that no picture tells from them.
const ZEROS: [usize; 2] = [(1 << (FINE - 1)) - 1, 1 << (FINE - 1)];
/// How many deviations from the mean a picture goes at most.
const WIDTH: f64 = 8.0;
/// How often these are taken, at most.
const ROUNDS: usize = 16;

/// Some weights of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The number of the tensor.
    pub tensor: usize,
    /// Whether they are those of the source; else those that are stored.
    pub of_source: bool,
    /// How many were looked at.
    pub seen: u64,
    /// How many there are.
    pub of: u64,
    /// Zeros of either sign and what is below 2^-133, which no bar has.
    pub zeros: u64,
    /// NaN and infinite values, which no bar has.
    pub nonfinite: u64,
    /// The bars, where there is any weight to show.
    pub bars: Option<Bars>,
    /// What codes stand for, where that is single weights.
    pub grid: Option<Grid>,
    /// The entries of the first codebook, where they are pairs of weights.
    pub pairs: Option<Pairs>,
}

/// How many weights lie where, in steps of one width.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Where the first begins.
    pub low: f64,
    /// Where the last ends.
    pub high: f64,
    /// How many each has. What lies beyond is in the outermost.
    pub counts: Vec<u64>,
    /// How many of each have survived pruning, where the source of a pruned tensor is there.
    pub survivors: Option<Vec<u64>>,
    /// How many weights each has as they come back, where codes stand for no single weights and the source is there.
    pub after: Option<After>,
    /// How many lie beyond.
    pub beyond: u64,
}

/// Weights as they come back.
#[derive(Clone, Debug, PartialEq)]
pub struct After {
    /// How many each bar has.
    pub counts: Vec<u64>,
    /// Those that no bar has.
    pub zeros: u64,
}

/// The entries of a codebook of pairs of weights, in the integers of the codebook.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// All of them.
    pub entries: Vec<[i16; 2]>,
    /// How many codebooks there are.
    pub books: usize,
}

/// The values that the codes of the first group of a tensor stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Ascending.
    pub values: Vec<f32>,
    /// Whether they are a palette; else equal steps.
    pub palette: bool,
    /// How many groups there are.
    pub groups: u64,
}

/// Those of some tensors of an archive, by their numbers and names: of the source if it is there, else of what is stored.
///
/// # Errors
///
/// As [`crate::pipeline::verify`]; [`Error::Format`] if the archive is no longer the one that was verified.
pub fn of_archive(
    archive: &Archive,
    source: Option<&Checkpoint>,
    tensors: &[(usize, &str)],
    options: &Options,
) -> Result<Vec<Weights>> {
    let same = |(i, name): &(usize, &str)| archive.tensors.get(*i).is_some_and(|t| t.name == *name);
    if !tensors.iter().all(same) {
        return Err(Error::format(&archive.stored.root, "it has changed since it was verified"));
    }
    options.run(|| {
        let partners = source.map(|source| partners(archive, source)).transpose()?;
        let bytes = tensors.iter().map(|(i, _)| archive.original_bytes(&archive.tensors[*i])).sum();
        options.progress.begin("drawing", bytes);
        let one = |(i, _): &(usize, &str)| {
            let t = &archive.tensors[*i];
            let origin = source.zip(partners.as_ref().map(|p| p[*i]));
            let found = match &t.treated {
                Some(manifest) => treated(archive, t, manifest, origin, *i, options)?,
                None => kept(archive, t, origin, *i, options)?,
            };
            options.progress.advance(archive.original_bytes(t));
            Ok(found)
        };
        tensors.iter().map(one).collect()
    })
}

/// Those of some tensors of a checkpoint.
///
/// # Errors
///
/// As [`Checkpoint::read_at`]; [`crate::Error::Interrupted`].
pub fn of_checkpoint(
    checkpoint: &Checkpoint,
    tensors: &[usize],
    options: &Options,
) -> Result<Vec<Weights>> {
    options.run(|| {
        let bytes = tensors.iter().map(|i| checkpoint.tensors[*i].bytes).sum();
        options.progress.begin("drawing", bytes);
        let one = |i: &usize| {
            let t = &checkpoint.tensors[*i];
            let source = Source::open(checkpoint, t, View::default());
            let found = plain(&source, Blocks::new(t.dtype, (t.rows(), t.cols())), *i, options)?;
            options.progress.advance(t.bytes);
            Ok(Weights { of_source: true, ..found })
        };
        tensors.iter().map(one).collect()
    })
}

fn treated(
    archive: &Archive,
    t: &ArchivedTensor,
    manifest: &TensorManifest,
    origin: Option<(&Checkpoint, &TensorInfo)>,
    tensor: usize,
    options: &Options,
) -> Result<Weights> {
    let restorer = Restorer::new(archive, t, manifest, 0)?;
    let source = origin.map(|(c, info)| Source::open(c, info, manifest.view));
    let blocks = &restorer.blocks;
    let tables = match restorer.units.first() {
        Some(unit) => {
            let mut parts = Parts::default();
            restorer.tables(unit, &mut parts)?;
            parts
        }
        None => Parts::default(),
    };
    let grid = grid(&tables, manifest, blocks.elements());
    let second = match &source {
        Some(_) if manifest.pruned => Second::Survivors,
        Some(_) if grid.is_none() && manifest.method != Method::Values => Second::After,
        _ => Second::None,
    };
    let count = |unit: &Unit| {
        options.cancel.check()?;
        let original =
            source.as_ref().map(|s| s.load(blocks, unit).map(Words::from)).transpose()?;
        // Decoding is what takes time: only where what comes back is looked at.
        let restored = match original.is_none() || second != Second::None {
            true => Some(Words::from(restorer.weights(None, restorer.parts(unit)?, unit)?)),
            false => None,
        };
        let (all, n) = (original.as_ref().or(restored.as_ref()), unit.elements());
        let all = all.map_or_else(Fine::default, |w| Fine::of(blocks.dtype, w, None, n));
        let others = original.as_ref().zip(restored.as_ref()).and_then(|(w, q)| match second {
            Second::None => None,
            Second::Survivors => Some(Fine::of(blocks.dtype, w, Some(q), n)),
            Second::After => Some(Fine::of(blocks.dtype, q, None, n)),
        });
        Ok((all, others))
    };
    let (all, others) = counted(&sampled(&restorer.units, blocks.elements()), &count)?;
    let found = all.shown(blocks.dtype, second, &others);
    let (of_source, pairs) = (source.is_some(), pairs(&tables));
    Ok(Weights { tensor, of_source, of: blocks.elements(), grid, pairs, ..found })
}

fn kept(
    archive: &Archive,
    t: &ArchivedTensor,
    origin: Option<(&Checkpoint, &TensorInfo)>,
    tensor: usize,
    options: &Options,
) -> Result<Weights> {
    let stored = archive.component(t, "");
    let source = match origin {
        Some((checkpoint, info)) => Source::open(checkpoint, info, View::default()),
        None => Source::Archive(archive, stored),
    };
    let blocks = Blocks::new(stored.dtype, (stored.rows(), stored.cols()));
    let found = plain(&source, blocks, tensor, options)?;
    Ok(Weights { of_source: origin.is_some(), ..found })
}

/// Weights as they are.
fn plain(source: &Source, blocks: Blocks, tensor: usize, options: &Options) -> Result<Weights> {
    let count = |unit: &Unit| {
        options.cancel.check()?;
        let words = Words::from(source.load(&blocks, unit)?);
        Ok((Fine::of(blocks.dtype, &words, None, unit.elements()), None))
    };
    let (all, _) = counted(&sampled(&blocks.units(0), blocks.elements()), &count)?;
    let found = all.shown(blocks.dtype, Second::None, &Fine::default());
    Ok(Weights { tensor, of: blocks.elements(), ..found })
}

/// Every so many units of a large tensor.
fn sampled(units: &[Unit], elements: u64) -> Vec<Unit> {
    units.iter().step_by(elements.div_ceil(MOST).max(1) as usize).cloned().collect()
}

/// What is drawn over all weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    None,
    /// Those that have survived pruning.
    Survivors,
    /// All of them as they come back.
    After,
}

/// What a unit has: all of its weights, and perhaps what is drawn over them.
type Count<'a> = &'a (dyn Fn(&Unit) -> Result<(Fine, Option<Fine>)> + Sync);

fn counted(units: &[Unit], count: Count) -> Result<(Fine, Fine)> {
    let (mut all, mut others) = (Fine::default(), Fine::default());
    for batch in units.chunks(BATCH) {
        for (of_unit, over) in parallel::try_map(batch, count)? {
            all.add(&of_unit);
            over.iter().for_each(|o| others.add(o));
        }
    }
    Ok((all, others))
}

/// What the codes of the first group stand for, given the tables of the first unit.
fn grid(tables: &Parts, manifest: &TensorManifest, elements: u64) -> Option<Grid> {
    if manifest.transform.is_some() {
        // Its grid is of coefficients, not of weights.
        return None;
    }
    let groups = elements.div_ceil(manifest.groups().size.max(1) as u64);
    let mut values = match manifest.method {
        // A vector's weights are any sums, an integer's any product.
        Method::Values | Method::Vector(_) | Method::Pyramid(_) => return None,
        Method::Affine(m) => {
            let scale = tables.scales.first()?;
            steps(m, scale.scale, scale.zero_point)
        }
        Method::Palette(m) => tables.entries.iter().take(m.k as usize).copied().collect(),
    };
    // Shorter palettes repeat their last entry, and a group that is all zero has no steps.
    values.sort_by(f32::total_cmp);
    values.dedup();
    let palette = matches!(manifest.method, Method::Palette(_));
    Some(Grid { values, palette, groups })
}

/// The first codebook, where it is one of pairs.
fn pairs(tables: &Parts) -> Option<Pairs> {
    let books = tables.books.as_ref().filter(|b| b.dim == 2)?;
    let entries = books.book(0).as_chunks().0.to_vec();
    Some(Pairs { entries, books: books.books() })
}

fn steps(m: Affine, scale: f32, zero_point: u8) -> Vec<f32> {
    let (least, most) = m.code().limits();
    let step = |code: i32| (code - i32::from(zero_point)) as f32 * scale;
    // Adding +0 makes +0 of -0.
    (least..=most).map(|code| step(code) + 0.0).collect()
}

/// What stands for the weights of a bin, where it begins and ends, and how many there are.
type Bin = (f64, [f64; 2], u64);

/// Counts of bins that are fine wherever weights lie, so that one pass suffices. They are integers: the order of adding decides
/// nothing.
#[derive(Clone, Debug, Default)]
struct Fine {
    /// By the upper bits of the order key; empty where there is nothing.
    counts: Vec<u64>,
    seen: u64,
    zeros: u64,
    nonfinite: u64,
}

impl Fine {
    /// Those of `len` elements; where `mask` is given, of those that are not zero in it.
    fn of(dtype: DType, words: &[u32], mask: Option<&[u32]>, len: usize) -> Self {
        let mut counts = vec![0u32; 1 << FINE];
        let mut seen = 0;
        let (mut values, mut kept) = ([0.0f32; 512], [1.0f32; 512]);
        for first in (0..len).step_by(values.len()) {
            let n = values.len().min(len - first);
            dtype::decode(dtype, words, first, &mut values[..n]);
            if let Some(mask) = mask {
                dtype::decode(dtype, mask, first, &mut kept[..n]);
            }
            for (value, kept) in values[..n].iter().zip(&kept) {
                let one = u32::from(*kept != 0.0);
                seen += u64::from(one);
                counts[(order_key::of_f32(*value) >> FINE) as usize] += one;
            }
        }
        let not_finite = |bin: &usize| !order_key::to_f32((*bin as u32) << FINE).is_finite();
        // An infinity ends a bin of negative keys and starts one of positive ones: such a bin has nothing finite.
        let nonfinite =
            (0..counts.len()).filter(not_finite).map(|bin| u64::from(counts[bin])).sum();
        let zeros = ZEROS.iter().map(|bin| u64::from(counts[*bin])).sum();
        Self { counts: counts.into_iter().map(u64::from).collect(), seen, zeros, nonfinite }
    }

    fn add(&mut self, next: &Self) {
        self.counts.resize(self.counts.len().max(next.counts.len()), 0);
        self.counts.iter_mut().zip(&next.counts).for_each(|(a, b)| *a += b);
        self.seen += next.seen;
        self.zeros += next.zeros;
        self.nonfinite += next.nonfinite;
    }

    /// The bins of finite weights, zeros aside.
    fn bins(&self, dtype: DType) -> Vec<Bin> {
        // Of these types every value is the end of its bin that is nearer to zero.
        let exact = matches!(dtype, DType::BF16 | DType::F8E4M3 | DType::F8E5M2);
        let mut found = Vec::new();
        for (bin, n) in self.counts.iter().enumerate() {
            let key = (bin as u32) << FINE;
            let ends = [key, key | ((1 << FINE) - 1)].map(order_key::to_f32).map(f64::from);
            let [low, high] = ends;
            if *n == 0 || ZEROS.contains(&bin) || !low.is_finite() || !high.is_finite() {
                continue;
            }
            let value = match exact {
                true => low.abs().min(high.abs()).copysign(low),
                false => (low + high) / 2.0,
            };
            found.push((value, if exact { [value; 2] } else { ends }, *n));
        }
        found
    }

    fn shown(&self, dtype: DType, second: Second, others: &Self) -> Weights {
        let (bins, others_bins) = (self.bins(dtype), others.bins(dtype));
        let bars = match (bins.first(), bins.last()) {
            (Some((_, [least, _], _)), Some((_, [_, most], _))) => {
                let (mut bars, over) = Bars::new((*least, *most), &bins, &others_bins);
                match second {
                    Second::None => {}
                    Second::Survivors => bars.survivors = Some(over),
                    Second::After => {
                        bars.after = Some(After { counts: over, zeros: others.zeros });
                    }
                }
                Some(bars)
            }
            _ => None,
        };
        let Self { seen, zeros, nonfinite, .. } = *self;
        let (tensor, of_source, of) = (0, false, seen);
        Weights { tensor, of_source, seen, of, zeros, nonfinite, bars, grid: None, pairs: None }
    }
}

impl Bars {
    /// Bars for some weights, and how many of others each of them has.
    fn new((least, most): (f64, f64), bins: &[Bin], others: &[Bin]) -> (Self, Vec<u64>) {
        let (mut low, mut high) = (least, most);
        // A few that are far out would move mean and deviation: once more without them, until none is.
        for _ in 0..ROUNDS {
            let inside = || bins.iter().filter(|(v, _, _)| (low..=high).contains(v));
            let all: f64 = inside().map(|(_, _, n)| *n as f64).sum();
            let mean: f64 = inside().map(|(v, _, n)| v * (*n as f64 / all)).sum();
            let squares = inside().map(|(v, _, n)| (v - mean) * (v - mean) * (*n as f64 / all));
            let reach = WIDTH * squares.sum::<f64>().sqrt();
            let next = (low.max(mean - reach), high.min(mean + reach));
            if next == (low, high) {
                break;
            }
            (low, high) = next;
        }
        if high - low <= f64::EPSILON * low.abs().max(high.abs()) {
            // One value stands in the middle.
            let half = low.abs() / 2.0;
            (low, high) = (low - half, high + half);
        }
        let bar = |v: f64| {
            ((v - low) / (high - low) * BARS as f64).clamp(0.0, (BARS - 1) as f64) as usize
        };
        let into_bars = |bins: &[Bin]| {
            let mut counts = vec![0; BARS];
            bins.iter().for_each(|(v, _, n)| counts[bar(*v)] += n);
            counts
        };
        let beyond = bins.iter().filter(|(v, _, _)| *v < low || *v > high).map(|(_, _, n)| n).sum();
        let bars =
            Self { low, high, counts: into_bars(bins), survivors: None, after: None, beyond };
        (bars, into_bars(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[f32]) -> Weights {
        let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        let all = Fine::of(DType::F32, &words, None, words.len());
        all.shown(DType::F32, Second::None, &Fine::default())
    }

    #[test]
    fn bars_hold_every_finite_weight_but_zeros() {
        let values: Vec<f32> = (-500..=500).map(|i| i as f32 / 500.0).collect();
        let found = shown(&values);
        let bars = found.bars.unwrap();
        assert_eq!((found.seen, found.zeros, found.nonfinite), (1001, 1, 0));
        assert_eq!(bars.counts.iter().sum::<u64>(), 1000);
        // An even spread: 1000 over 96 bars, the fine bins at the ends being a third of a bar wide.
        assert!(bars.counts.iter().all(|n| (5..=16).contains(n)), "{:?}", bars.counts);
        assert!(bars.low <= -1.0 && bars.high >= 1.0 && bars.high < 1.01 && bars.beyond == 0);
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let found = shown(&[f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0]);
        assert_eq!((found.zeros, found.nonfinite, found.bars), (2, 4, None));
        let found = shown(&[]);
        assert_eq!((found.seen, found.bars), (0, None));
    }

    #[test]
    fn the_largest_numbers_and_one_value_have_finite_bars() {
        for values in [&[f32::MAX, f32::MIN][..], &[3.5], &[-1e-38], &[1e-45], &[f32::MAX]] {
            let found = shown(values);
            let Some(bars) = found.bars else { continue };
            assert!(bars.low.is_finite() && bars.high.is_finite() && bars.low < bars.high);
            assert_eq!(bars.counts.iter().sum::<u64>(), values.len() as u64);
        }
        assert_eq!(shown(&[3.5; 7]).bars.unwrap().counts[BARS / 2], 7);
    }

    #[test]
    fn what_lies_far_out_is_in_the_outermost_bar_and_said() {
        let mut values: Vec<f32> = (0..10_000).map(|i| (i % 200) as f32 / 100.0 - 0.995).collect();
        values.push(1000.0);
        let bars = shown(&values).bars.unwrap();
        assert!(bars.high < 8.0, "{}", bars.high);
        assert_eq!((bars.beyond, bars.counts[BARS - 1]), (1, 1));
    }

    #[test]
    fn survivors_are_those_that_come_back() {
        let (w, q) = ([1.0f32, 2.0, 3.0, 4.0], [0.0f32, 2.5, -0.0, 4.5]);
        let [w, q] = [w, q].map(|all| all.map(f32::to_bits));
        let survivors = Fine::of(DType::F32, &w, Some(&q), 4);
        assert_eq!(survivors.seen, 2);
        let all = Fine::of(DType::F32, &w, None, 4);
        let bars = all.shown(DType::F32, Second::Survivors, &survivors).bars.unwrap();
        let survived = bars.survivors.unwrap();
        assert_eq!(survived.iter().sum::<u64>(), 2);
        assert!(survived.iter().zip(&bars.counts).all(|(s, n)| s <= n));
        // All of them as they come back: two zeros, and the last beyond what there was before.
        let after = Fine::of(DType::F32, &q, None, 4);
        let bars = all.shown(DType::F32, Second::After, &after).bars.unwrap();
        let after = bars.after.unwrap();
        assert_eq!((after.counts.iter().sum::<u64>(), after.zeros), (2, 2));
        assert_eq!((after.counts[BARS - 1], bars.survivors), (1, None));
    }

    #[test]
    fn steps_are_codes_times_the_scale() {
        let scales = crate::decide::affine::ScaleType::F32;
        let m = |bits, symmetric| Affine { bits, symmetric, group: 0, scales };
        assert_eq!(steps(m(2, false), 0.5, 1), [-0.5, 0.0, 0.5, 1.0]);
        assert_eq!(steps(m(8, true), 1.0, 0).len(), 255);
    }
}
