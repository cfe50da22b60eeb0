//! Which weights of a tensor survive: the survey that a rule needs, and the mask of a unit.

use crate::{
    Backend, Error, Result,
    codec::{block::Element, sparse},
    decide::{
        affine::SMALLEST,
        groups::Groups,
        histogram::Histogram,
        range::Range,
        threshold::{Limit, kept, largest, limit},
    },
    engine::{
        Needs, Tile, assemble,
        count::{count, tail},
    },
    form::Packing,
    kernels::{BlockGrid, magnitude_mask, magnitude_sums, nm_mask, range, row_threshold},
    parallel,
    recipe::{Prune, Scope},
    stage::Unit,
    treat::{job::Job, model_limits::ModelLimit},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What decides the mask of every unit.
#[derive(Debug)]
pub enum Mask {
    /// Nothing is pruned.
    All,
    /// n of every m.
    NOfM(u32, u32),
    /// So many of every row.
    Rows(usize),
    /// Those above a threshold: one for the tensor, or one for each row. `ties_before` counts elements of the tensor.
    Limits(Vec<Limit>),
    /// Whole blocks of so many rows and columns, in rows of so many blocks; a bit for each, first in the low bit.
    Blocks { keep: Vec<u32>, rows: usize, cols: usize, across: usize },
}

impl Mask {
    /// Goes through the tensor as often as its rule needs.
    pub(super) fn survey(job: &Job, model: Option<ModelLimit>) -> Result<Self> {
        let n = job.blocks.elements();
        let all = || 0..job.units.len();
        Ok(match job.treat.prune {
            None => Self::All,
            Some(Prune::Magnitude { once: true, .. }) if model == Some(ModelLimit::NONZERO) => {
                Self::Limits(vec![Limit::ALL])
            }
            Some(Prune::NOfM { n, m }) => Self::NOfM(n, m),
            Some(Prune::Magnitude { scope: Scope::Model, .. }) => {
                // The survey of the model leaves out what is not finite, and nothing else.
                let limit = model.ok_or_else(|| job.nonfinite())?;
                Self::Limits(vec![job.cut_off(all(), limit.magnitude, limit.ties)?])
            }
            Some(Prune::Magnitude { density, scope: Scope::Tensor, .. }) => {
                Self::Limits(vec![job.limit(all(), kept(density, n))?])
            }
            Some(Prune::Magnitude { density, scope: Scope::Row, .. }) if job.blocks.cuts_rows() => {
                let per_row = job.units.len() / job.blocks.rows as usize;
                let keep = kept(density, job.blocks.cols);
                let row = |r: usize| job.limit(r * per_row..(r + 1) * per_row, keep);
                Self::Limits((0..job.blocks.rows as usize).map(row).collect::<Result<_>>()?)
            }
            Some(Prune::Magnitude { density, scope: Scope::Row, .. }) => {
                Self::Rows(kept(density, job.blocks.cols) as usize)
            }
            Some(Prune::Channel { density, norm }) => {
                job.largest_blocks(1, job.blocks.cols as usize, norm, density)?
            }
            Some(Prune::Block { density, norm, block: [r, c] }) => {
                let rows = (r as usize).min(job.blocks.rows as usize);
                job.largest_blocks(rows, (c as usize).min(job.blocks.cols as usize), norm, density)?
            }
        })
    }

    /// The mask of a unit; empty where nothing is pruned.
    pub(super) fn of(&self, job: &Job, unit: &Unit, elements: &mut Vec<u32>) -> Result<Vec<u32>> {
        let (rows, cols) = unit.shape();
        let empty = || vec![0; rows * cols.div_ceil(32)];
        let run =
            |elements: &mut Vec<u32>,
             name,
             needs,
             kernel: &(dyn Fn(&Backend, &Tile) -> Result<Vec<u32>> + Sync)| {
                let chain = job.chain(name, needs);
                job.engine.run(chain, &job.blocks, unit, elements, |on, tiles| {
                    assemble(unit, tiles, Packing::of_bits(1), |tile| kernel(on, tile))
                })
            };
        match self {
            Self::All => Ok(Vec::new()),
            Self::NOfM(n, m) => {
                let needs = Needs { multiple: *m as usize, ..Needs::default() };
                run(elements, "nm_mask", needs, &|on, tile| {
                    nm_mask(on, &tile.weights, *n, *m)?.into_words(on)
                })
            }
            Self::Rows(0) => Ok(empty()),
            Self::Rows(keep) => {
                // A row's threshold needs the whole of it; its tiles then see it as their own groups.
                let needs = Needs { table_bytes: 8, group: cols, ..Needs::default() };
                run(elements, "row_threshold", needs, &|on, tile| {
                    if tile.cols.len() < cols {
                        let message = format!("rows of {cols} do not fit its buffers");
                        return Err(Error::beyond("row_threshold", message));
                    }
                    let mut limits = row_threshold(on, &tile.weights, *keep)?;
                    for (r, limit) in limits.iter_mut().enumerate() {
                        *limit = limit.without_zeros();
                        limit.ties_before += (r * cols) as u64;
                    }
                    magnitude_mask(on, &tile.weights, Groups::of(cols), &limits)?.into_words(on)
                })
            }
            Self::Limits(limits) => {
                let limit = limits[if limits.len() == 1 { 0 } else { unit.rows.start as usize }];
                let limit = limit.without_zeros();
                run(elements, "magnitude_mask", Needs::default(), &|on, tile| {
                    let limit = Limit {
                        ties_before: limit.ties_before.saturating_sub(tile.start),
                        ..limit
                    };
                    magnitude_mask(
                        on,
                        &tile.weights,
                        Groups::of(tile.weights.elements()),
                        &[limit],
                    )?
                    .into_words(on)
                })
            }
            Self::Blocks { keep, rows: down, cols: wide, across } => {
                let mut mask = empty();
                let start = unit.cols.start as usize;
                for (r, row) in mask.chunks_mut(cols.div_ceil(32)).enumerate() {
                    let first = (unit.rows.start as usize + r) / down * across;
                    for b in start / wide..(start + cols).div_ceil(*wide) {
                        if keep[(first + b) / 32] >> ((first + b) % 32) & 1 == 0 {
                            continue;
                        }
                        let end = ((b + 1) * wide - start).min(cols);
                        for c in (b * wide).saturating_sub(start)..end {
                            row[c / 32] |= 1 << (c % 32);
                        }
                    }
                }
                Ok(mask)
            }
        }
    }
}

impl Job<'_> {
    /// A unit's elements, the pruned ones zero where they become codes, and its mask.
    pub(super) fn load(&self, unit: &Unit, mask: &Mask) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut elements = self.read(unit)?;
        let bits = self.pruned(unit, mask, &mut elements)?;
        Ok((elements, bits))
    }

    /// The mask of elements that were read, of which those are cleared that are pruned and would become codes.
    pub(super) fn pruned(
        &self,
        unit: &Unit,
        mask: &Mask,
        elements: &mut Vec<u32>,
    ) -> Result<Vec<u32>> {
        let bits = mask.of(self, unit, elements)?;
        if self.clears_pruned() {
            let (rows, cols) = unit.shape();
            sparse::clear_pruned(self.blocks.dtype, elements, rows, cols, &bits);
        }
        Ok(bits)
    }

    /// Whether elements are cleared that are pruned: those whose values are stored are left out later.
    pub(super) fn clears_pruned(&self) -> bool {
        self.manifest.pruned
            && matches!(self.manifest.element(), Element::Code(_) | Element::Path(..))
    }

    /// What keeps the `keep` largest magnitudes of some units.
    fn limit(&self, units: std::ops::Range<usize>, keep: u64) -> Result<Limit> {
        let histogram = self.histogram(&self.units[units.clone()])?;
        let tail = |prefix| {
            let units = &self.units[units.clone()];
            tail(self.engine, self.name, &self.blocks, &|u| self.read(u), units, prefix)
        };
        limit(&histogram, keep, tail, |magnitude, ties| {
            self.cut_off(units.clone(), magnitude, ties)
        })
    }

    /// Up to which element ties are kept, so that exactly `ties` of those in `units` are.
    fn cut_off(&self, units: std::ops::Range<usize>, magnitude: u32, ties: u64) -> Result<Limit> {
        if ties == 0 {
            return Ok(Limit { threshold: magnitude, ties_before: 0 });
        }
        let tied = |unit: &Unit| {
            let mut values = vec![0.0; unit.elements()];
            let elements = self.read(unit)?;
            crate::dtype::decode(self.blocks.dtype, &elements, 0, &mut values);
            Ok(values.into_iter().map(move |v| v.to_bits() & 0x7fff_ffff == magnitude))
        };
        let units = &self.units[units];
        let counts = parallel::try_map(units, &|u| Ok(tied(u)?.filter(|t| *t).count() as u64))?;
        let mut left = ties;
        for (unit, n) in units.iter().zip(counts) {
            if n >= left {
                let last = tied(unit)?.enumerate().filter(|(_, t)| *t).nth(left as usize - 1);
                let last = last.map_or(unit.elements(), |(i, _)| i + 1);
                return Ok(Limit {
                    threshold: magnitude,
                    ties_before: unit.start(&self.blocks) + last as u64,
                });
            }
            left -= n;
        }
        Ok(Limit { threshold: magnitude, ties_before: u64::MAX })
    }

    /// The histogram of some units.
    pub(super) fn histogram(&self, units: &[Unit]) -> Result<Histogram> {
        count(self.engine, self.name, &self.blocks, &|unit| self.read(unit), units)
    }

    /// The largest magnitude of the tensor.
    fn absmax(&self) -> Result<f32> {
        let largest = parallel::try_map(&self.units, &|unit| {
            let mut elements = self.read(unit)?;
            let chain = self.chain("absmax", Needs::default());
            self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                let of = |tile: &Tile| {
                    let ranges = range(on, &tile.weights, Groups::of(tile.weights.elements()))?;
                    Ok(ranges.into_iter().map(Range::absmax).fold(0.0, f32::max))
                };
                tiles.iter().map(of).try_fold(0.0, |a, b: Result<f32>| Ok(b?.max(a)))
            })
        })?;
        Ok(largest.into_iter().fold(0.0, f32::max))
    }

    fn largest_blocks(
        &self,
        rows: usize,
        cols: usize,
        norm: crate::recipe::Norm,
        density: f64,
    ) -> Result<Mask> {
        let absmax = self.absmax()?;
        let inverse = if absmax < SMALLEST { 0.0 } else { (32767.0 / f64::from(absmax)) as f32 };
        let across = (self.blocks.cols as usize).div_ceil(cols);
        let down = (self.blocks.rows as usize).div_ceil(rows);
        let grid =
            |row: usize, col: usize| BlockGrid { rows, cols, row0: row % rows, col0: col % cols };
        // Units may share blocks; sums of integers do not depend on who adds first.
        let norms: Vec<AtomicU64> = (0..down * across).map(|_| AtomicU64::new(0)).collect();
        parallel::try_each(&self.units, &|unit| {
            let mut elements = self.read(unit)?;
            let needs = Needs {
                table_bytes: 8,
                group: (rows * cols).min(self.blocks.cols as usize),
                ..Needs::default()
            };
            let chain = self.chain("magnitude_sums", needs);
            let sums = self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                let of = |tile: &Tile| {
                    let row = unit.rows.start as usize + tile.rows.start;
                    let col = unit.cols.start as usize + tile.cols.start;
                    let sums = magnitude_sums(on, &tile.weights, grid(row, col), norm, &[inverse])?;
                    let wide = grid(row, col).count(tile.rows.len(), tile.cols.len()).1;
                    Ok((row / rows * across + col / cols, (wide, sums)))
                };
                tiles.iter().map(of).collect::<Result<Vec<_>>>()
            })?;
            // Only now that the whole unit is done: a device that fails half way would have added some twice.
            for (first, (wide, sums)) in sums {
                for (i, sum) in sums.into_iter().enumerate() {
                    norms[first + i / wide * across + i % wide].fetch_add(sum, Relaxed);
                }
            }
            Ok(())
        })?;
        let norms: Vec<u64> = norms.into_iter().map(AtomicU64::into_inner).collect();
        let keep = largest(&norms, kept(density, norms.len() as u64));
        Ok(Mask::Blocks { keep, rows, cols, across })
    }
}
