//! Vectors: scales of groups and codebooks from a survey of the tensor, and the codes of a unit from both.

use crate::{
    Backend, DType, Result, Tensor,
    cluster::{Search, cluster},
    codec::bitpack,
    decide::{
        affine::{SMALLEST, Scale},
        range::Range,
    },
    engine::{Needs, Tile, assemble},
    form::{Affine, Vector, sample_of},
    kernels::{
        BlockGrid, Entries, VECTOR_LIMIT, magnitude_sums, nearest, nearest_and_rest, vector_points,
    },
    parallel, random,
    recipe::{Norm, Quantize},
    restore::Parts,
    stage::Unit,
    treat::{
        chains::{Part, Stretch},
        job::Job,
        masks::Mask,
    },
};
use std::sync::Arc;

/// What a survey has found for vectors.
#[derive(Debug)]
pub struct Books {
    /// A scale for every group of the tensor.
    pub scales: Vec<Scale>,
    /// `[spaces, stages, k, dim]`.
    pub entries: Arc<Entries>,
    /// What they were made from.
    from: From,
}

/// The vectors that codebooks are made from, as far as it explains why there are too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct From {
    /// How many were drawn; none where all were taken.
    drawn: Option<usize>,
    /// Whether some have an importance of zero, and so are no seeds.
    weightless: bool,
}

impl Books {
    /// What was done otherwise than a recipe that asks for `k` entries says.
    pub fn remark(&self, k: u32) -> Option<String> {
        let found = self.entries.k;
        if found >= k as usize {
            return None;
        }
        let among = self.from.drawn.map(|n| format!(" among the {n} that were drawn"));
        let none = match self.from.weightless {
            true => "have an importance above zero",
            false => "are there",
        };
        let of = format!("vectors of integers up to {VECTOR_LIMIT}");
        let among = among.unwrap_or_default();
        Some(format!("has codebooks of {found} entries, as no more distinct {of} {none}{among}"))
    }

    /// The codebooks of one stage, a sub-space each.
    fn stage(&self, stage: usize, stages: usize) -> Entries {
        let Entries { dim, k, .. } = *self.entries;
        let own = (stage..self.entries.books()).step_by(stages);
        Entries { dim, k, values: own.flat_map(|b| self.entries.book(b)).copied().collect() }
    }
}

/// Rounds of the search for a codebook, at most.
const ROUNDS: usize = 25;

/// Vectors that codebooks are made from.
struct Sample {
    /// As [`cluster`] takes them.
    points: Vec<u32>,
    /// How often each counts; empty where each counts once.
    weights: Vec<u32>,
    from: From,
}

impl Job<'_> {
    /// Scales and codebooks of the tensor.
    pub(super) fn survey_vectors(&self, mask: &Mask, vector: Vector) -> Result<Books> {
        let seed = match self.treat.treatment.quantize {
            Some(Quantize::Vector { seed, .. }) => seed,
            _ => unreachable!("only a recipe that asks for vectors has them"),
        };
        let scales = self.vector_scales(mask, vector)?;
        let Sample { mut points, weights, from } = self.sample(vector, &scales, seed)?;
        let (dim, books) = (usize::from(vector.dim), vector.spaces as usize);
        let pairs = dim.div_ceil(2);
        let mut stages: Vec<Entries> = Vec::new();
        for stage in 0..vector.stages {
            self.engine.cancel.check()?;
            let seed = random::number(seed, stage.into());
            let search = Search { dim, books, k: vector.k as usize, rounds: ROUNDS, seed };
            let chain = self.chain("cluster", Needs::default());
            let unit = &self.units[0];
            let (values, (k, rest)) = self.engine.survey(chain, &self.blocks, unit, |on| {
                let points =
                    Tensor::new(on, DType::U32, points.len() / pairs, pairs, points.clone())?;
                let found = cluster(on, &points, &weights, search, self.engine.cancel)?;
                let values: Vec<u32> =
                    found.entries.values.iter().map(|v| *v as u16 as u32).collect();
                let rest = match stage + 1 < vector.stages {
                    true => nearest_and_rest(on, &points, &found.entries)?.1.into_words(on)?,
                    false => Vec::new(),
                };
                Ok((values, (found.entries.k, rest)))
            })?;
            let values = values.into_iter().map(|v| v as u16 as i16).collect();
            stages.push(Entries { dim, k, values });
            points = rest;
        }
        let k = stages.iter().map(|s| s.k).max().unwrap_or(1).max(2);
        let mut values = Vec::with_capacity(vector.numbers() as usize);
        for space in 0..books {
            for stage in &stages {
                let book = stage.book(space);
                values.extend_from_slice(book);
                for _ in stage.k..k {
                    values.extend_from_slice(&book[book.len() - dim..]);
                }
            }
        }
        Ok(Books { scales, entries: Arc::new(Entries { dim, k, values }), from })
    }

    /// A scale for every group, so that all groups have one root mean square, and the largest magnitude of all is [`VECTOR_LIMIT`]
    /// or less.
    ///
    /// `scale = f32(rms * max over groups (absmax / rms) / 2047)`, zero if the largest magnitude is below 2^-110, from sums of
    /// integers; where the tensor is one group, `f32(absmax / 2047)`.
    fn vector_scales(&self, mask: &Mask, vector: Vector) -> Result<Vec<Scale>> {
        let largest: Vec<f64> =
            self.survey_ranges(mask)?.into_iter().map(Range::absmax).map(f64::from).collect();
        let norms = match vector.group {
            0 => largest.clone(),
            group => self.norms(group as usize, &largest)?,
        };
        let small = |absmax: f64| absmax < f64::from(SMALLEST);
        let crests = largest.iter().zip(&norms).filter(|(absmax, _)| !small(**absmax));
        let crest = crests.map(|(absmax, rms)| absmax / rms).fold(1.0, f64::max);
        let scale = |(absmax, rms): (&f64, &f64)| match small(*absmax) {
            true => Scale::default(),
            false => {
                let scale = (rms * crest / f64::from(VECTOR_LIMIT)) as f32;
                Scale { scale: vector.scales.round(scale), zero_point: 0 }
            }
        };
        Ok(largest.iter().zip(&norms).map(scale).collect())
    }

    /// The root mean square of every group of consecutive elements of a row, given their largest magnitudes.
    fn norms(&self, group: usize, largest: &[f64]) -> Result<Vec<f64>> {
        let of_row = self.blocks.cols as usize / group;
        let rows = self.blocks.rows as usize;
        let inverses: Vec<f32> = (0..rows)
            .map(|row| {
                let absmax = largest[row * of_row..][..of_row].iter().copied().fold(0.0, f64::max);
                if absmax < f64::from(SMALLEST) { 0.0 } else { (32767.0 / absmax) as f32 }
            })
            .collect();
        let sums = parallel::try_map(&self.units, &|unit| {
            let mut elements = self.read(unit)?;
            let needs = Needs { table_bytes: 8, group, ..Needs::default() };
            let chain = self.chain("magnitude_sums", needs);
            let found =
                self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                    let of = |tile: &Tile| {
                        let row = unit.rows.start as usize + tile.rows.start;
                        let (col0, inverses) =
                            (tile.cols.start % group, &inverses[row..][..tile.rows.len()]);
                        let grid = BlockGrid { rows: 1, cols: group, row0: 0, col0 };
                        let wide = grid.count(tile.rows.len(), tile.cols.len()).1;
                        let sums = magnitude_sums(on, &tile.weights, grid, Norm::L2, inverses)?;
                        Ok((row * of_row + tile.cols.start / group, (wide, sums)))
                    };
                    tiles.iter().map(of).collect::<Result<Vec<_>>>()
                })?;
            Ok(found)
        })?;
        let mut squares = vec![0u64; rows * of_row];
        for (first, (wide, sums)) in sums.into_iter().flatten() {
            for (i, sum) in sums.into_iter().enumerate() {
                squares[first + i / wide * of_row + i % wide] += sum;
            }
        }
        let norm = |(g, sum): (usize, &u64)| {
            let unit = f64::from(inverses[g / of_row]);
            if unit == 0.0 { 0.0 } else { (*sum as f64 / group as f64).sqrt() / unit }
        };
        let norms = squares.iter().enumerate().map(norm);
        // A group whose squares all round to zero beside its row counts as flat.
        Ok(norms.zip(largest).map(|(rms, absmax)| if rms > 0.0 { rms } else { *absmax }).collect())
    }

    /// The vectors that codebooks are made from: all, or as many as are enough, drawn by their numbers alone.
    fn sample(&self, vector: Vector, scales: &[Scale], seed: u64) -> Result<Sample> {
        let (dim, spaces) = (usize::from(vector.dim), u64::from(vector.spaces));
        let pairs = dim.div_ceil(2);
        let periods = self.blocks.elements() / vector.period();
        let wanted = sample_of(vector.k);
        let seed = random::number(seed, u64::MAX >> 1);
        let is_drawn =
            |v: u64| wanted >= periods || random::number(seed, v / spaces) % periods < wanted;
        let sampled = parallel::try_map(&self.units, &|unit| {
            let mut elements = self.read(unit)?;
            let importance = match &self.importance {
                Some(importance) => importance.of(unit)?,
                None => Vec::new(),
            };
            let touched = self.touched(unit);
            let first = unit.start(&self.blocks) / u64::from(vector.dim);
            let chain = self.chain("vector_points", self.needs(vector, touched));
            let drawn =
                self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                    let mut drawn = Vec::new();
                    for tile in tiles {
                        let points = points(on, tile, dim, touched, scales)?.into_words(on)?;
                        let of_row = tile.cols.len() / dim;
                        for (i, point) in points.chunks_exact(pairs).enumerate() {
                            let row = tile.rows.start + i / of_row;
                            let at = (row * unit.shape().1 + tile.cols.start) / dim + i % of_row;
                            if is_drawn(first + at as u64) {
                                drawn.push((at, point.to_vec()));
                            }
                        }
                    }
                    Ok(drawn)
                })?;
            let weight = |at: usize| -> u128 {
                importance[at * dim..][..dim].iter().map(|w| u128::from(*w)).sum()
            };
            let weighs = !importance.is_empty();
            let weights: Vec<u128> = match weighs {
                true => drawn.iter().map(|(at, _)| weight(*at)).collect(),
                false => Vec::new(),
            };
            Ok((drawn.into_iter().flat_map(|(_, p)| p).collect::<Vec<u32>>(), weights))
        })?;
        let (points, weights): (Vec<_>, Vec<_>) = sampled.into_iter().unzip();
        let (points, weights) = (points.concat(), counted(&weights.concat(), spaces as usize));
        let drawn = (wanted < periods).then_some(points.len() / pairs);
        let from = From { drawn, weightless: weights.contains(&0) };
        Ok(Sample { points, weights, from })
    }

    /// What the kernels of vectors need of a device.
    fn needs(&self, vector: Vector, touched: Stretch) -> Needs {
        Needs {
            table_bytes: Affine::TABLE_BYTES,
            group: touched.groups.size,
            multiple: vector.period() as usize,
            // A word of a point for every weight, where vectors are of one.
            result_bytes: 4,
        }
    }

    /// Codes of all vectors of a unit.
    pub(super) fn vectorized(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        books: &Books,
        vector: Vector,
    ) -> Result<(Parts, u64)> {
        let touched = self.touched(unit);
        let scales = books.scales[touched.first..][..touched.count].to_vec();
        let flushed = self.flushed(unit, elements, &scales);
        let (dim, packing) = (usize::from(vector.dim), vector.packing());
        let count = usize::from(vector.stages);
        let stages: Vec<Entries> = (0..count).map(|s| books.stage(s, count)).collect();
        let of_code = packing.codes as usize / count;
        let chain = self.chain("nearest", self.needs(vector, touched));
        let stored = self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            assemble(unit, tiles, packing, |tile| {
                let mut points = points(on, tile, dim, touched, &books.scales)?;
                let vectors = points.rows();
                let mut symbols = vec![0u8; vectors * packing.codes as usize];
                for (s, entries) in stages.iter().enumerate() {
                    let labels = match s + 1 < stages.len() {
                        true => {
                            let (labels, rest) = nearest_and_rest(on, &points, entries)?;
                            points = rest;
                            labels
                        }
                        false => nearest(on, &points, entries)?,
                    };
                    let labels = labels.into_words(on)?;
                    for (label, of) in
                        labels.iter().zip(symbols.chunks_exact_mut(packing.codes as usize))
                    {
                        let halves = &mut of[s * of_code..][..of_code];
                        let mask = (1u32 << packing.bits) - 1;
                        for (i, half) in halves.iter_mut().enumerate() {
                            *half = (label >> (i as u32 * u32::from(packing.bits)) & mask) as u8;
                        }
                    }
                }
                let (cols, width) = (tile.cols.len(), packing.words(tile.cols.len()));
                let mut packed = vec![0; tile.rows.len() * width];
                let rows = symbols.chunks(packing.count(cols)).zip(packed.chunks_mut(width));
                rows.for_each(|(codes, to)| bitpack::pack(codes, packing.bits.into(), to));
                Ok(packed)
            })
        })?;
        let books = Some(books.entries.clone());
        Ok((Parts { stored, scales, books, ..Parts::default() }, flushed))
    }
}

/// The integers of a tile, given the scales of the tensor.
fn points(
    on: &Backend,
    tile: &Tile,
    dim: usize,
    touched: Stretch,
    scales: &[Scale],
) -> Result<Tensor> {
    let (groups, own) = touched.of(Part::from(tile));
    let own = touched.first + own.start..touched.first + own.end;
    vector_points(on, &tile.weights, dim, groups, &scales[own])
}

/// Weights as numbers of at most 16 bits, so that sums of them are exact: none that is above zero becomes zero. Those of a sub-space
/// that are all zero count as one each.
fn counted(weights: &[u128], spaces: usize) -> Vec<u32> {
    let most = weights.iter().copied().max().unwrap_or(0);
    let shift = (128 - most.leading_zeros()).saturating_sub(16);
    let of = |w: &u128| ((w >> shift) as u32).max(u32::from(*w > 0));
    let mut counts: Vec<u32> = weights.iter().map(of).collect();
    for space in 0..spaces.min(counts.len()) {
        if counts[space..].iter().step_by(spaces).all(|w| *w == 0) {
            counts[space..].iter_mut().step_by(spaces).for_each(|w| *w = 1);
        }
    }
    counts
}
