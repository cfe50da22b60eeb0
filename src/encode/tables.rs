//! Scales and palettes: from a survey of the tensor where a group is longer than a unit, otherwise from the unit itself.

use super::{
    Job,
    masks::{Mask, is_narrow},
};
use crate::{
    Result,
    affine::{AffineCode, CLIP_COUNT, ClipGrid, Scale, best_clip},
    codec::sparse,
    dtype,
    engine::{Needs, Tile},
    format::{Checkpoint, Method, quoted},
    kernels::{Assigner, Groups, Range, best_clips, clip_errors, order_key, range, sort_rows},
    kmeans::{Bins, Palette, palette},
    plan::affine_code,
    recipe::Objective,
    restore::groups,
    stage::{Blocks, Source, Unit},
};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Entries of a table, padded to k with its last, and how weights are assigned to them.
pub type Table = (Vec<f32>, Assigner);

/// What a survey of the whole tensor has found.
#[derive(Debug)]
pub enum Tables {
    /// Units find their own.
    Own,
    /// A scale for every group of the tensor.
    Scales(Vec<Scale>),
    /// A palette for every group of the tensor.
    Palettes(Vec<Table>),
}

impl Tables {
    /// Goes through the tensor if a group does not fit into a unit.
    pub(super) fn survey(job: &Job, mask: &Mask) -> Result<Self> {
        let size = groups(&job.treat.manifest).size as u64;
        let inside = job.units.iter().all(|u| {
            u.start(&job.blocks).is_multiple_of(size) && (u.elements() as u64).is_multiple_of(size)
        });
        match job.treat.manifest.method {
            Method::Affine { .. } if !inside => job.survey_scales(mask).map(Self::Scales),
            Method::Palette { .. } if !inside || size == job.blocks.elements() => {
                job.survey_palettes(mask).map(Self::Palettes)
            }
            _ => Ok(Self::Own),
        }
    }
}

impl Job<'_> {
    fn code(&self) -> AffineCode {
        affine_code(self.treat.manifest.method).expect("only affine tensors have scales")
    }

    fn groups(&self) -> Groups {
        groups(&self.treat.manifest)
    }

    /// The ranges of the groups that a unit touches.
    fn ranges(&self, unit: &Unit, elements: &mut Vec<u32>) -> Result<Vec<Range>> {
        let groups = self.groups();
        let first = unit.start(&self.blocks) as usize / groups.size;
        let count = groups.from(unit.start(&self.blocks) as usize).count(unit.elements());
        let needs = Needs { table_bytes: 8, group: groups.size, multiple: 1 };
        let ranges = self.engine.run(&self.blocks, unit, elements, needs, |on, tiles| {
            let mut all: Vec<Option<Range>> = vec![None; count];
            for tile in tiles {
                let g = tile.start as usize / groups.size - first;
                for (i, r) in range(on, &tile.weights, groups.from(tile.start as usize))?
                    .into_iter()
                    .enumerate()
                {
                    let seen = &mut all[g + i];
                    *seen = Some(seen.map_or(r, |s| s.union(r)));
                }
            }
            Ok(all)
        })?;
        let ranges: Vec<Range> =
            ranges.into_iter().map(|r| r.unwrap_or(Range { min: 0.0, max: 0.0 })).collect();
        if ranges.iter().all(|r| r.is_finite()) { Ok(ranges) } else { Err(self.nonfinite()) }
    }

    /// The scales of a unit that consists of whole groups.
    pub(super) fn scales(&self, unit: &Unit, elements: &mut Vec<u32>) -> Result<Vec<Scale>> {
        let (code, groups) = (self.code(), self.groups());
        let ranges = self.ranges(unit, elements)?;
        if self.treat.objective == Objective::Range {
            return Ok(ranges.iter().map(|r| code.scale(*r, 64)).collect());
        }
        let grids: Vec<ClipGrid> = ranges.iter().map(|r| ClipGrid::new(code, *r)).collect();
        let first = unit.start(&self.blocks) as usize / groups.size;
        let needs = Needs { table_bytes: 16, group: groups.size, multiple: 1 };
        let clips = self.engine.run(&self.blocks, unit, elements, needs, |on, tiles| {
            let whole = |t: &Tile| {
                (t.start as usize).is_multiple_of(groups.size)
                    && t.weights.elements().is_multiple_of(groups.size)
            };
            let of = |t: &Tile| {
                let g = t.start as usize / groups.size - first;
                let groups = groups.from(t.start as usize);
                (g, groups, g..g + groups.count(t.weights.elements()))
            };
            if tiles.iter().all(whole) {
                let best = |t: &Tile| {
                    let (_, groups, span) = of(t);
                    best_clips(on, &t.weights, code, groups, &grids[span])
                };
                return Ok(tiles.iter().map(best).collect::<Result<Vec<_>>>()?.concat());
            }
            let mut errors = vec![[0u128; CLIP_COUNT]; grids.len()];
            for t in tiles {
                let (g, groups, span) = of(t);
                add(&mut errors[g..], &clip_errors(on, &t.weights, code, groups, &grids[span])?);
            }
            Ok(errors.iter().map(best_clip).collect())
        })?;
        Ok(ranges.iter().zip(clips).map(|(r, clip)| code.scale(*r, clip)).collect())
    }

    fn survey_scales(&self, mask: &Mask) -> Result<Vec<Scale>> {
        let (code, groups) = (self.code(), self.groups());
        let count = self.blocks.elements().div_ceil(groups.size as u64) as usize;
        let surveyed =
            self.units.par_iter().map(|unit| self.ranges(unit, &mut self.load(unit, mask)?.0));
        let mut ranges: Vec<Option<Range>> = vec![None; count];
        for (unit, found) in self.units.iter().zip(surveyed.collect::<Result<Vec<_>>>()?) {
            let g = unit.start(&self.blocks) as usize / groups.size;
            for (seen, r) in ranges[g..].iter_mut().zip(found) {
                *seen = Some(seen.map_or(r, |s| s.union(r)));
            }
        }
        let ranges: Vec<Range> =
            ranges.into_iter().map(|r| r.unwrap_or(Range { min: 0.0, max: 0.0 })).collect();
        if self.treat.objective == Objective::Range {
            return Ok(ranges.iter().map(|r| code.scale(*r, 64)).collect());
        }
        let grids: Vec<ClipGrid> = ranges.iter().map(|r| ClipGrid::new(code, *r)).collect();
        let needs = Needs { table_bytes: 16, group: groups.size, multiple: 1 };
        let surveyed = self.units.par_iter().map(|unit| {
            let mut elements = self.load(unit, mask)?.0;
            self.engine.run(&self.blocks, unit, &mut elements, needs, |on, tiles| {
                let of = |t: &Tile| {
                    let g = t.start as usize / groups.size;
                    let groups = groups.from(t.start as usize);
                    let span = g..g + groups.count(t.weights.elements());
                    Ok((g, clip_errors(on, &t.weights, code, groups, &grids[span])?))
                };
                tiles.iter().map(of).collect::<Result<Vec<_>>>()
            })
        });
        let mut errors = vec![[0u128; CLIP_COUNT]; count];
        for (g, found) in surveyed.collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            add(&mut errors[g..], &found);
        }
        Ok(ranges.iter().zip(&errors).map(|(r, e)| code.scale(*r, best_clip(e))).collect())
    }

    fn k(&self) -> usize {
        match self.treat.manifest.method {
            Method::Palette { k, .. } => k as usize,
            _ => unreachable!("only palettes have entries"),
        }
    }

    fn table(&self, bins: &Bins, weights: u64) -> Table {
        let k = self.k();
        let Palette { mut entries, thresholds } = palette(bins, k, self.blocks.dtype);
        let assigner = Assigner::new(
            &Palette { entries: entries.clone(), thresholds },
            self.blocks.dtype,
            weights,
        );
        let last = entries[entries.len() - 1];
        entries.resize(k, last);
        (entries, assigner)
    }

    /// The palettes of a tensor whose tables are longer than units: one after the other, each from a histogram.
    fn survey_palettes(&self, mask: &Mask) -> Result<Vec<Table>> {
        let size = self.groups().size as u64;
        let importance = Importance::open(self)?;
        let tables = (0..self.blocks.elements().div_ceil(size)).map(|g| {
            let units: Vec<&Unit> =
                self.units.iter().filter(|u| u.start(&self.blocks) / size == g).collect();
            let span = units[0].index..units[units.len() - 1].index + 1;
            let bins = match (mask, &importance) {
                (Mask::All, None) => self.histogram(span.clone())?.bins(),
                _ => self.selected_bins(span.clone(), mask, importance.as_ref())?,
            };
            let bins = match bins.values.len() <= self.k() && !is_narrow(self.blocks.dtype) {
                true => self.distinct(span, mask)?.unwrap_or(bins),
                false => bins,
            };
            Ok(self.table(&bins, size))
        });
        tables.collect()
    }

    /// Bins of only the survivors, or of weights of unequal importance.
    fn selected_bins(
        &self,
        units: std::ops::Range<usize>,
        mask: &Mask,
        importance: Option<&Importance>,
    ) -> Result<Bins> {
        // The range refuses what is not finite; a histogram would have.
        self.range()?;
        let per_thread = units.len().div_ceil(rayon::current_num_threads()).max(1);
        let counted = self.units[units].par_chunks(per_thread).map(|units| {
            let mut sums = vec![[0u64; 2]; 1 << 20];
            for unit in units {
                let (values, weights) = self.selected(unit, mask, importance)?;
                for (v, w) in values.iter().zip(weights) {
                    let key = order_key::of_f32(*v);
                    let bin = &mut sums[(key >> 12) as usize];
                    bin[0] += u64::from(w);
                    bin[1] += u64::from(w) * u64::from(key & 0xfff);
                }
            }
            Ok(sums)
        });
        let mut sums = vec![[0u64; 2]; 1 << 20];
        for found in counted.collect::<Result<Vec<_>>>()? {
            for (sum, n) in sums.iter_mut().zip(found) {
                sum[0] += n[0];
                sum[1] += n[1];
            }
        }
        let occupied = sums.iter().enumerate().filter(|(_, s)| s[0] > 0);
        Ok(Bins::of_sorted(occupied.map(|(b, [weight, low])| {
            let key = (b as u32) << 12;
            let (start, end) =
                (f64::from(order_key::to_f32(key)), f64::from(order_key::to_f32(key | 0xfff)));
            (start + (end - start) * (*low as f64 / *weight as f64) / 4095.0, *weight as f64)
        })))
    }

    /// The survivors of a unit and their importance.
    fn selected(
        &self,
        unit: &Unit,
        mask: &Mask,
        importance: Option<&Importance>,
    ) -> Result<(Vec<f32>, Vec<u32>)> {
        let (elements, bits) = self.load(unit, mask)?;
        let mut values = vec![0.0; unit.elements()];
        dtype::decode(self.blocks.dtype, &elements, 0, &mut values);
        let mut weights = match importance {
            Some(importance) => importance.of(self, unit)?,
            None => vec![1; values.len()],
        };
        if !bits.is_empty() {
            let cols = unit.shape().1;
            let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
            let kept = sparse::gather(crate::DType::F32, &words, cols, &bits);
            values = kept.into_iter().map(f32::from_bits).collect();
            weights = sparse::gather(crate::DType::U32, &weights, cols, &bits);
        }
        Ok((values, weights))
    }

    /// The distinct values of some units, if there are at most k: bins may have hidden that there are more.
    fn distinct(&self, units: std::ops::Range<usize>, mask: &Mask) -> Result<Option<Bins>> {
        let mut found = BTreeSet::new();
        for unit in &self.units[units] {
            for v in self.selected(unit, mask, None)?.0 {
                found.insert(order_key::of_f32(v + 0.0));
                if found.len() > self.k() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Bins::of_sorted(
            found.into_iter().map(|key| (f64::from(order_key::to_f32(key)), 1.0)),
        )))
    }

    /// The palettes of a unit that consists of whole tables, from its sorted rows.
    pub(super) fn palettes(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        mask: &[u32],
    ) -> Result<Vec<Table>> {
        let (rows, cols) = unit.shape();
        let per_table = self.groups().size / cols;
        self.ranges(unit, elements)?;
        let importance = Importance::open(self)?;
        if !mask.is_empty() || importance.is_some() {
            return self.weighted_palettes(unit, elements, mask, importance.as_ref());
        }
        let needs = Needs { table_bytes: 4, group: cols, multiple: 1 };
        let sorted = self.engine.run(&self.blocks, unit, elements, needs, |on, tiles| {
            let mut sorted = vec![0; rows * cols];
            for tile in tiles {
                // Rows that were cut cannot be merged without sorting again: sort_rows refuses them by their length.
                if tile.cols.len() < cols {
                    let message = format!("rows of {cols} do not fit its buffers");
                    return Err(crate::Error::Gpu { kernel: "sort_rows", message });
                }
                let keys = sort_rows(on, &tile.weights)?.into_words(on)?;
                sorted[tile.rows.start * cols..][..keys.len()].copy_from_slice(&keys);
            }
            Ok(sorted)
        })?;
        let table = |keys: &[u32]| {
            // Rows that share a table were sorted one by one.
            let mut merged;
            let keys = match per_table {
                1 => keys,
                _ => {
                    merged = keys.to_vec();
                    merged.sort_unstable();
                    &merged[..]
                }
            };
            self.table(&Bins::of_keys(keys), keys.len() as u64)
        };
        Ok(sorted.par_chunks(per_table * cols).map(table).collect())
    }

    fn weighted_palettes(
        &self,
        unit: &Unit,
        elements: &[u32],
        mask: &[u32],
        importance: Option<&Importance>,
    ) -> Result<Vec<Table>> {
        let (rows, cols) = unit.shape();
        let per_table = self.groups().size / cols;
        let mut values = vec![0.0; rows * cols];
        dtype::decode(self.blocks.dtype, elements, 0, &mut values);
        let mut weights = match importance {
            Some(importance) => importance.of(self, unit)?,
            None => vec![1; rows * cols],
        };
        if !mask.is_empty() {
            let row_words = cols.div_ceil(32);
            for (i, w) in weights.iter_mut().enumerate() {
                *w *= mask[i / cols * row_words + i % cols / 32] >> (i % cols % 32) & 1;
            }
        }
        let tables = values.par_chunks(per_table * cols).zip(weights.par_chunks(per_table * cols));
        Ok(tables
            .map(|(values, weights)| {
                let mut pairs: Vec<(u32, u32)> = values
                    .iter()
                    .zip(weights)
                    .filter(|(_, w)| **w > 0)
                    .map(|(v, w)| (order_key::of_f32(*v), *w))
                    .collect();
                pairs.sort_unstable();
                let bins = Bins::of_sorted(
                    pairs.iter().map(|(k, w)| (f64::from(order_key::to_f32(*k)), f64::from(*w))),
                );
                self.table(&bins, values.len() as u64)
            })
            .collect())
    }
}

fn add(sums: &mut [[u128; CLIP_COUNT]], more: &[[u64; CLIP_COUNT]]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        sum.iter_mut().zip(more).for_each(|(a, b)| *a += u128::from(*b));
    }
}

/// Weights for the squared errors of one tensor: one per element, or one per column. They are taken in whole 65,535ths of the
/// largest.
struct Importance {
    checkpoint: Checkpoint,
    tensor: usize,
    per_column: bool,
    inverse: f64,
}

impl Importance {
    fn open(job: &Job) -> Result<Option<Self>> {
        let Some(path) = &job.treat.treatment.importance else { return Ok(None) };
        let checkpoint = Checkpoint::open(path)?;
        let refuse = |why: String| {
            Err(crate::Error::format(
                path,
                format!("importance of tensor {}: {why}", quoted(job.name)),
            ))
        };
        let Some(tensor) = checkpoint.tensors.iter().position(|t| t.name == job.name) else {
            return refuse("it is missing".into());
        };
        let info = &checkpoint.tensors[tensor];
        let manifest = &job.treat.manifest;
        let per_column = info.shape != manifest.shape;
        if !info.dtype.is_weight() || per_column && info.elements() != job.blocks.cols {
            let found = format!("it is {} {:?}", info.dtype.name(), info.shape);
            return refuse(format!(
                "{found}, expected floats of shape {:?} or [{}]",
                manifest.shape, job.blocks.cols
            ));
        }
        let axis = if per_column { 0 } else { manifest.axis };
        let source = Source::open(&checkpoint, info, axis)?;
        let blocks = Blocks::new(
            info.dtype,
            if per_column { (1, info.elements()) } else { manifest.matrix() },
        );
        let mut largest = 0.0f32;
        for unit in blocks.units(0, 1) {
            let mut values = vec![0.0; unit.elements()];
            dtype::decode(info.dtype, &source.load(&blocks, &unit)?, 0, &mut values);
            if let Some(bad) = values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                return refuse(format!("it holds {bad}, expected finite numbers from 0 on"));
            }
            largest = values.iter().fold(largest, |a, b| a.max(*b));
        }
        if largest == 0.0 {
            return refuse("it is all zero".into());
        }
        let inverse = 65535.0 / f64::from(largest);
        Ok(Some(Self { checkpoint, tensor, per_column, inverse }))
    }

    /// The importance of every element of a unit.
    fn of(&self, job: &Job, unit: &Unit) -> Result<Vec<u32>> {
        let info = &self.checkpoint.tensors[self.tensor];
        let (rows, cols) = unit.shape();
        let take = |dtype, words: &[u32], first: usize, len: usize| {
            let mut values = vec![0.0; len];
            dtype::decode(dtype, words, first, &mut values);
            values
                .into_iter()
                .map(|v| (f64::from(v) * self.inverse).round_ties_even() as u32)
                .collect::<Vec<_>>()
        };
        if self.per_column {
            let blocks = Blocks::new(info.dtype, (1, info.elements()));
            let whole = Unit { index: 0, rows: 0..1, cols: unit.cols.clone() };
            let row = take(
                info.dtype,
                &Source::open(&self.checkpoint, info, 0)?.load(&blocks, &whole)?,
                0,
                cols,
            );
            return Ok(row.repeat(rows));
        }
        let source = Source::open(&self.checkpoint, info, job.treat.manifest.axis)?;
        let blocks = Blocks::new(info.dtype, job.treat.manifest.matrix());
        Ok(take(info.dtype, &source.load(&blocks, unit)?, 0, unit.elements()))
    }
}
