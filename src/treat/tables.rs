//! Tables of the groups of a tensor: from a survey of the tensor where a group is longer than a unit, otherwise from the unit itself.

use crate::{
    DType, Error, Result,
    codec::sparse,
    decide::{
        affine::Scale,
        histogram::Histogram,
        kmeans::{Bins, Goal, Palette, Tails, palette, palette_of_histogram, relative_error},
        order_key,
    },
    dtype,
    engine::Needs,
    form::{Method, Palette as Coding},
    kernels::{Assigner, histogram_tails, sort_rows},
    parallel,
    quote::quoted,
    recipe::Quantize,
    stage::{TableRows, Unit},
    treat::{job::Job, masks::Mask, trellis::Levels, vectors::Books},
};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Scales and codebooks of vectors.
    Vectors(Books),
    /// Gains of pyramids.
    Gains(Arc<[f32]>),
    /// Levels of codes along paths.
    Levels(Levels),
}

impl Tables {
    /// Goes through the tensor if a group does not fit into a unit.
    pub(super) fn survey(job: &Job, mask: &Mask) -> Result<Self> {
        let size = job.groups().size as u64;
        match job.manifest.method {
            Method::Affine(m) => match job.groups_lie_in_units() {
                true => Ok(Self::Own),
                false => job.survey_scales(mask, m).map(Self::Scales),
            },
            Method::Palette(Coding { trellis: Some(trellis), .. }) => {
                let Some(Quantize::Trellis { goal, .. }) = &job.treat.treatment.quantize else {
                    unreachable!("the plan has made it of one")
                };
                job.survey_levels(mask, trellis, *goal).map(Self::Levels)
            }
            Method::Palette(_) => match TableRows::of(&job.blocks, size) {
                TableRows::InBlocks => Ok(Self::Own),
                TableRows::Many if job.treat.is_binary() => {
                    Ok(Self::Palettes(job.tables_of_rows(job.survey_binary(mask)?)))
                }
                TableRows::AcrossBlocks => job.survey_tables(mask).map(Self::Palettes),
                TableRows::Many => job.survey_palettes(mask).map(Self::Palettes),
            },
            Method::Vector(m) => job.survey_vectors(mask, m).map(Self::Vectors),
            Method::Pyramid(m) => job.survey_gains(m).map(Self::Gains),
            Method::Values => Ok(Self::Own),
        }
    }
}

impl Job<'_> {
    fn k(&self) -> usize {
        match self.manifest.method {
            Method::Palette(m) => m.k as usize,
            Method::Values | Method::Affine(_) | Method::Vector(_) | Method::Pyramid(_) => {
                unreachable!("only palettes have entries")
            }
        }
    }

    /// A table of so many weights.
    fn table(&self, palette: Palette, weights: u64) -> Table {
        let assigner = Assigner::new(&palette, self.blocks.dtype, weights);
        let Palette { mut entries, .. } = palette;
        let last = entries[entries.len() - 1];
        entries.resize(self.k(), last);
        (entries, assigner)
    }

    /// The tables of single rows.
    fn tables_of_rows(&self, palettes: Vec<Palette>) -> Vec<Table> {
        palettes.into_iter().map(|p| self.table(p, self.blocks.cols)).collect()
    }

    /// The palettes of tables that are no longer than a block but may lie in two, from units that hold whole tables.
    fn survey_tables(&self, mask: &Mask) -> Result<Vec<Table>> {
        let rows = self.groups().size as u64 / self.blocks.cols;
        let step = self.blocks.rows_per_block() / rows * rows;
        let units = self.blocks.units_of(0..self.blocks.rows, step);
        let tables = parallel::try_map(&units, &|unit| {
            let (mut elements, bits) = self.load(unit, mask)?;
            self.palettes(unit, &mut elements, &bits)
        })?;
        Ok(tables.into_iter().flatten().collect())
    }

    /// The palettes of tables that are longer than a block: one after the other, each from a histogram.
    fn survey_palettes(&self, mask: &Mask) -> Result<Vec<Table>> {
        let size = self.groups().size as u64;
        let (rows, step) =
            (size / self.blocks.cols, self.blocks.rows_per_unit(self.engine.unit_bytes));
        let (dtype, goal) = (
            self.blocks.dtype,
            match self.treat.treatment.quantize.as_ref().and_then(Quantize::entropy_bits) {
                Some(bits) => Goal::Entropy(bits),
                None => Goal::Entries(self.k()),
            },
        );
        let tables = (0..self.blocks.rows / rows).map(|g| {
            let units = self.blocks.units_of(g * rows..(g + 1) * rows, step);
            let palette = match self.counts_all(mask) {
                true => palette_of_histogram(&self.histogram(&units)?, goal, dtype, |tails| {
                    self.tails(&units, tails)
                }),
                false => {
                    let (histogram, weigh) = self.important_histogram(&units, mask)?;
                    palette_of_histogram(&histogram, goal, dtype, |tails| {
                        self.selected_tails(&units, mask, weigh, tails)
                    })
                }
            };
            Ok(self.table(palette?, size))
        });
        tables.collect()
    }

    /// Whether every weight counts for a palette, and as one.
    fn counts_all(&self, mask: &Mask) -> bool {
        matches!(mask, Mask::All) && self.importance.is_none()
    }

    /// The survivors of the tensor, each counted as one.
    pub(super) fn survivors(&self, mask: &Mask) -> Result<Bins> {
        Ok(match mask {
            Mask::All => self.histogram(&self.units)?.bins(),
            _ => self.selected_histogram(&self.units, mask, false)?.bins(),
        })
    }

    /// The smallest palette of the tensor, of a power of two of entries, whose error relative to the survivors is within a
    /// limit.
    pub(super) fn fewest_bits(&self, mask: &Mask, limit: f64) -> Result<Method> {
        let dtype = self.blocks.dtype;
        let error: Box<dyn Fn(usize) -> f64> = match self.counts_all(mask) {
            true => {
                let histogram = self.histogram(&self.units)?;
                Box::new(move |k| relative_error(&histogram, k, dtype))
            }
            false => {
                let histogram = self.important_histogram(&self.units, mask)?.0;
                Box::new(move |k| relative_error(&histogram, k, dtype))
            }
        };
        let mut least = 0.0;
        for bits in 1..=8 {
            let k = 1 << bits;
            least = error(k);
            if least <= limit {
                return Ok(Method::Palette(Coding { k: k as u32, rows: 0, trellis: None }));
            }
        }
        let why =
            format!("a palette of 256 entries has an error of {least:.3e}, max_error is {limit}");
        Err(Error::Recipe(format!("tensor {}: {why}", quoted(self.name))))
    }

    /// Counts the values in some bins of the histogram of units.
    fn tails(&self, units: &[Unit], tails: Tails) -> Result<Tails> {
        let bins = tails.bins().to_vec();
        let tails = Mutex::new(tails);
        parallel::try_each(units, &|unit| {
            let mut elements = self.read(unit)?;
            let chain = self.chain("histogram_tails", Needs::default());
            let found = self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                tiles.iter().map(|t| histogram_tails(on, &t.weights, &bins)).collect()
            });
            let found: Vec<Vec<(u32, u32)>> = found?;
            let mut tails = tails.lock().unwrap_or_else(PoisonError::into_inner);
            tails.add(found.into_iter().flatten().map(|(key, n)| (key, n.into())));
            Ok(())
        })?;
        Ok(tails.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The histogram of survivors by their importance, and whether they have any; each counts as one if none has.
    fn important_histogram(&self, units: &[Unit], mask: &Mask) -> Result<(Histogram<u128>, bool)> {
        if self.importance.is_some() {
            let histogram = self.selected_histogram(units, mask, true)?;
            if histogram.counts.iter().any(|n| *n > 0) {
                return Ok((histogram, true));
            }
        }
        Ok((self.selected_histogram(units, mask, false)?, false))
    }

    /// The histogram of only the survivors, or of weights of unequal importance. It has the bins of F32 for every type:
    /// those of narrower ones hold a single value each.
    fn selected_histogram(
        &self,
        units: &[Unit],
        mask: &Mask,
        weigh: bool,
    ) -> Result<Histogram<u128>> {
        let per_thread = units.len().div_ceil(rayon::current_num_threads()).max(1);
        let parts: Vec<&[Unit]> = units.chunks(per_thread).collect();
        let counted = parallel::try_map(&parts, &|part| {
            let mut histogram = Histogram::of_nothing(DType::F32);
            for unit in *part {
                let (values, weights) = self.selected(unit, mask, weigh)?;
                for (v, w) in values.iter().zip(weights) {
                    let key = order_key::of_f32(*v);
                    histogram.counts[(key >> 12) as usize] += u128::from(w);
                    histogram.lows[(key >> 12) as usize] += u128::from(w) * u128::from(key & 0xfff);
                }
            }
            Ok(histogram)
        })?;
        let merge = |mut a: Histogram<u128>, b: Histogram<u128>| {
            a.merge(&b);
            a
        };
        let all = counted.into_iter().reduce(merge);
        Ok(all.unwrap_or_else(|| Histogram::of_nothing(DType::F32)))
    }

    /// Counts the values in some bins of that histogram.
    fn selected_tails(
        &self,
        units: &[Unit],
        mask: &Mask,
        weigh: bool,
        tails: Tails<u128>,
    ) -> Result<Tails<u128>> {
        let tails = Mutex::new(tails);
        parallel::try_each(units, &|unit| {
            let (values, weights) = self.selected(unit, mask, weigh)?;
            let keys = values.into_iter().map(order_key::of_f32);
            let mut tails = tails.lock().unwrap_or_else(PoisonError::into_inner);
            tails.add(keys.zip(weights.into_iter().map(u128::from)));
            Ok(())
        })?;
        Ok(tails.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The importance of the elements of a unit: one each if they are not to be weighed.
    fn importance_of(&self, unit: &Unit, weigh: bool) -> Result<Vec<u64>> {
        match &self.importance {
            Some(importance) if weigh => importance.of(unit),
            _ => Ok(vec![1; unit.elements()]),
        }
    }

    /// The survivors of a unit and their importance.
    fn selected(&self, unit: &Unit, mask: &Mask, weigh: bool) -> Result<(Vec<f32>, Vec<u64>)> {
        let (elements, bits) = self.load(unit, mask)?;
        let mut values = vec![0.0; unit.elements()];
        dtype::decode(self.blocks.dtype, &elements, 0, &mut values);
        let mut weights = self.importance_of(unit, weigh)?;
        if !bits.is_empty() {
            let cols = unit.shape().1;
            let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
            let kept = sparse::gather(DType::F32, &words, cols, &bits);
            values = kept.into_iter().map(f32::from_bits).collect();
            let words = bytemuck::cast_slice(&weights);
            let kept = sparse::gather(DType::U64, words, cols, &bits);
            weights = bytemuck::pod_collect_to_vec(&kept);
        }
        Ok((values, weights))
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
        if self.treat.is_binary() {
            return Ok(self.tables_of_rows(self.binary_palettes(unit, elements, mask)?));
        }
        if !mask.is_empty() || self.importance.is_some() {
            return self.weighted_palettes(unit, elements, mask);
        }
        let needs = Needs { table_bytes: 4, group: cols, result_bytes: 4, ..Needs::default() };
        let chain = self.chain("sort_rows", needs);
        let sorted = self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            let mut sorted = vec![0; rows * cols];
            for tile in tiles {
                // Rows that were cut would have to be merged across tiles.
                if tile.cols.len() < cols {
                    let message = format!("rows of {cols} do not fit its buffers");
                    return Err(crate::Error::beyond("sort_rows", message));
                }
                let keys = sort_rows(on, &tile.weights)?.into_words(on)?;
                sorted[tile.rows.start * cols..][..keys.len()].copy_from_slice(&keys);
            }
            Ok(sorted)
        })?;
        let table = |keys: &&[u32]| {
            // Rows that share a table were sorted one by one.
            let mut merged;
            let keys = match per_table {
                1 => *keys,
                _ => {
                    merged = keys.to_vec();
                    merged.sort_unstable();
                    &merged[..]
                }
            };
            self.table(
                palette(&Bins::of_keys(keys), self.k(), self.blocks.dtype),
                keys.len() as u64,
            )
        };
        let tables: Vec<&[u32]> = sorted.chunks(per_table * cols).collect();
        Ok(parallel::map(&tables, &table))
    }

    fn weighted_palettes(&self, unit: &Unit, elements: &[u32], mask: &[u32]) -> Result<Vec<Table>> {
        let (rows, cols) = unit.shape();
        let per_table = self.groups().size / cols;
        let mut values = vec![0.0; rows * cols];
        dtype::decode(self.blocks.dtype, elements, 0, &mut values);
        let mut survives = vec![1u64; rows * cols];
        if !mask.is_empty() {
            let row_words = cols.div_ceil(32);
            for (i, s) in survives.iter_mut().enumerate() {
                *s = u64::from(mask[i / cols * row_words + i % cols / 32] >> (i % cols % 32) & 1);
            }
        }
        let mut weights = self.importance_of(unit, true)?;
        weights.iter_mut().zip(&survives).for_each(|(w, s)| *w *= s);
        let len = per_table * cols;
        let tables = values.chunks(len).zip(weights.chunks(len)).zip(survives.chunks(len));
        let tables: Vec<_> = tables.collect();
        Ok(parallel::map(&tables, &|((values, weights), survives)| {
            let weights = if weights.iter().any(|w| *w > 0) { weights } else { survives };
            let mut pairs: Vec<(u32, u64)> = values
                .iter()
                .zip(*weights)
                .filter(|(_, w)| **w > 0)
                .map(|(v, w)| (order_key::of_f32(*v), *w))
                .collect();
            pairs.sort_unstable();
            let bins = Bins::of_sorted(
                pairs.iter().map(|(k, w)| (f64::from(order_key::to_f32(*k)), *w as f64)),
            );
            self.table(palette(&bins, self.k(), self.blocks.dtype), values.len() as u64)
        }))
    }
}
