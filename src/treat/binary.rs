//! Tables of two values, plus and minus the mean magnitude of a row. A weight of either zero counts as positive; pruned weights
//! do not count.
//!
//! Source: Rastegari et al. 2016, arXiv 1603.05279.

use crate::{
    Result,
    codec::sparse,
    decide::{
        kmeans::{Palette, round_to},
        range::Range,
    },
    engine::Needs,
    kernels::{mean_magnitude, row_sums},
    parallel,
    stage::Unit,
    treat::{job::Job, masks::Mask},
};

impl Job<'_> {
    /// The palettes of a unit that consists of whole rows.
    pub(super) fn binary_palettes(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        mask: &[u32],
    ) -> Result<Vec<Palette>> {
        let largest: Vec<f32> =
            self.ranges(unit, elements)?.into_iter().map(Range::absmax).collect();
        let sums = self.row_sums(unit, elements, &largest)?;
        let counts = survivors(unit, mask);
        let rows = sums.iter().zip(&largest).zip(counts);
        Ok(rows.map(|((sum, largest), count)| self.binary_palette(*sum, *largest, count)).collect())
    }

    /// The palettes of rows that are longer than a block.
    pub(super) fn survey_binary(&self, mask: &Mask) -> Result<Vec<Palette>> {
        let ranges = self.survey_ranges(mask)?;
        let largest: Vec<f32> = ranges.into_iter().map(Range::absmax).collect();
        let surveyed = parallel::try_map(&self.units, &|unit| {
            let (mut elements, bits) = self.load(unit, mask)?;
            let largest = &largest[unit.rows.start as usize..][..unit.shape().0];
            Ok((self.row_sums(unit, &mut elements, largest)?, survivors(unit, &bits)))
        })?;
        let mut rows = vec![(0, 0); largest.len()];
        for (unit, (sums, counts)) in self.units.iter().zip(surveyed) {
            let rows = rows[unit.rows.start as usize..].iter_mut();
            for (row, (sum, count)) in rows.zip(sums.into_iter().zip(counts)) {
                *row = (row.0 + sum, row.1 + count);
            }
        }
        let rows = rows.into_iter().zip(largest);
        Ok(rows.map(|((sum, count), largest)| self.binary_palette(sum, largest, count)).collect())
    }

    /// The sum of the magnitudes of every row of a unit, in units of its largest / 32767.
    fn row_sums(&self, unit: &Unit, elements: &mut Vec<u32>, largest: &[f32]) -> Result<Vec<u64>> {
        let needs = Needs { table_bytes: 8, group: self.blocks.cols as usize, ..Needs::default() };
        let chain = self.chain("row_sums", needs);
        self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            let mut sums = vec![0; largest.len()];
            for tile in tiles {
                let col = unit.cols.start as usize + tile.cols.start;
                let of_tile = row_sums(on, &tile.weights, &largest[tile.rows.clone()], col)?;
                sums[tile.rows.clone()].iter_mut().zip(of_tile).for_each(|(sum, s)| *sum += s);
            }
            Ok(sums)
        })
    }

    /// Minus and plus the mean magnitude, rounded to nearest even in the type of the weights.
    fn binary_palette(&self, sum: u64, largest: f32, count: u64) -> Palette {
        let mean = mean_magnitude(sum, largest, count);
        let [mean] = round_to(self.blocks.dtype, &[mean.into()])[..] else {
            unreachable!("one value gives one")
        };
        // Above the largest negative number, so that both zeros are; nought minus nought is +0.
        Palette { entries: vec![0.0 - mean, mean], thresholds: vec![-f32::from_bits(1)] }
    }
}

/// How many weights of each row of a unit are not pruned.
fn survivors(unit: &Unit, mask: &[u32]) -> Vec<u64> {
    let (rows, cols) = unit.shape();
    match mask.is_empty() {
        true => vec![cols as u64; rows],
        false => sparse::row_counts(mask, cols).map(|n| n as u64).collect(),
    }
}
