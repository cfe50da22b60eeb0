//! Pyramids: the gains of a tensor from a survey, and the codes of a unit from these.

use crate::{
    Result,
    decide::{
        affine::{AffineCode, SMALLEST, Scale},
        groups::Groups,
    },
    dtype,
    engine::{Needs, assemble},
    form::{Affine, Packing, Pyramid},
    kernels::{pyramid_search, quantize, range},
    parallel,
    restore::Parts,
    stage::Unit,
    treat::job::Job,
};
use std::sync::Arc;

/// Where vectors point: in steps of a 127th of the largest weight of each, which is a hundredth of what they will be wrong by.
const SHAPE: AffineCode = AffineCode { bits: 8, symmetric: true };

/// The smallest gain beside the largest: smaller ones become it, or zero.
const SPAN: f64 = 1.0 / 65_536.0;

impl Job<'_> {
    /// The gains of the tensor: zero, and from the largest one that a group asks for down to the smallest in equal steps of the
    /// logarithm.
    pub(super) fn survey_gains(&self, form: Pyramid) -> Result<Arc<[f32]>> {
        let found = parallel::try_map(&self.units, &|unit| {
            let mut elements = self.read(unit)?;
            let points = self.pyramid_points(unit, &mut elements, form)?;
            let gains = self.best_gains(unit, &elements, &points, form);
            let positive = gains.iter().copied().filter(|g| *g > 0.0);
            Ok((positive.clone().fold(0.0, f64::max), positive.fold(f64::MAX, f64::min)))
        })?;
        let largest = found.iter().map(|f| f.0).fold(0.0, f64::max);
        let smallest = found.iter().map(|f| f.1).fold(f64::MAX, f64::min);
        let smallest = smallest.max(largest * SPAN);
        let steps = form.gains() - 1;
        let step = match steps > 1 && smallest < largest {
            true => libm::log2(largest / smallest) / (steps - 1) as f64,
            false => 0.0,
        };
        let gain = |i: usize| (largest * libm::exp2(-step * i as f64)) as f32;
        Ok(std::iter::once(0.0).chain((0..steps).map(gain)).collect())
    }

    /// Integers of every group of a unit, row by row.
    fn pyramid_points(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        form: Pyramid,
    ) -> Result<Vec<i8>> {
        let n = usize::from(form.n);
        let needs =
            Needs { table_bytes: Affine::TABLE_BYTES, group: n, multiple: n, ..Needs::default() };
        let chain = self.chain("pyramid_search", needs);
        let words = self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            assemble(unit, tiles, Packing::of_bits(8), |tile| {
                // Tiles are whole groups.
                let groups = Groups::of(n);
                let ranges = range(on, &tile.weights, groups)?;
                let scales: Vec<Scale> = ranges.iter().map(|r| SHAPE.scale(*r, 64)).collect();
                let codes = quantize(on, &tile.weights, SHAPE, groups, &scales)?;
                pyramid_search(on, &codes, n, form.k.into())?.into_words(on)
            })
        })?;
        Ok(bytemuck::pod_collect_to_vec(&words))
    }

    /// The gain of least squared error of every group: `sum w y / sum y²`, in f64, one after the other; 0 where it is below 0, and
    /// where the largest magnitude is below 2^-110.
    fn best_gains(&self, unit: &Unit, elements: &[u32], points: &[i8], form: Pyramid) -> Vec<f64> {
        let mut weights = vec![0.0; unit.elements()];
        dtype::decode(self.blocks.dtype, elements, 0, &mut weights);
        let n = usize::from(form.n);
        let gain = |(w, y): (&[f32], &[i8])| {
            if w.iter().all(|w| w.abs() < SMALLEST) {
                return 0.0;
            }
            let (mut wy, mut yy) = (0.0, 0);
            for (w, y) in w.iter().zip(y) {
                wy += f64::from(*w) * f64::from(*y);
                yy += i32::from(*y) * i32::from(*y);
            }
            (wy / f64::from(yy)).max(0.0)
        };
        weights.chunks_exact(n).zip(points.chunks_exact(n)).map(gain).collect()
    }

    /// Codes of all groups of a unit, and how many of its weights become zero with their groups.
    pub(super) fn pyramids(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        gains: &Arc<[f32]>,
        form: Pyramid,
    ) -> Result<(Parts, u64)> {
        let points = self.pyramid_points(unit, elements, form)?;
        let best = self.best_gains(unit, elements, &points, form);
        let vectors = form.vectors().expect("the plan has looked");
        let (n, gain_bits) = (usize::from(form.n), u32::from(form.gain_bits));
        let bits = (gain_bits + vectors.bits()) as usize;
        let (rows, cols) = unit.shape();
        let (of_row, width) = (cols / n, form.packing().words(cols));
        let mut stored = vec![0u32; rows * width];
        let numbers: Vec<usize> = best.iter().map(|gain| nearest_gain(gains, *gain)).collect();
        let scale = |number: &usize| Scale { scale: gains[*number], zero_point: 0 };
        let flushed = self.flushed(unit, elements, &numbers.iter().map(scale).collect::<Vec<_>>());
        for (g, (point, number)) in points.chunks_exact(n).zip(numbers).enumerate() {
            let code = number as u128 | vectors.number(point) << gain_bits;
            put(&mut stored[g / of_row * width..][..width], g % of_row * bits, code, bits);
        }
        let gains = Some(gains.clone());
        Ok((Parts { stored, gains, ..Parts::default() }, flushed))
    }
}

/// The number of the gain nearest to one, the first of equals. Those after the first, which is zero, fall.
fn nearest_gain(gains: &[f32], gain: f64) -> usize {
    let at = 1 + gains[1..].partition_point(|g| f64::from(*g) > gain);
    let around = [0, at - 1, at].into_iter().filter(|i| *i < gains.len());
    let distance = |i: &usize| (f64::from(gains[*i]) - gain).abs();
    around.min_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b))).unwrap_or(0)
}

/// Writes a field of at most 128 bits into words that are zero there.
fn put(words: &mut [u32], at: usize, mut field: u128, bits: usize) {
    let (mut word, mut shift, mut left) = (at / 32, at % 32, bits);
    while left > 0 {
        words[word] |= (field as u32) << shift;
        let taken = (32 - shift).min(left);
        field >>= taken;
        left -= taken;
        (word, shift) = (word + 1, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{nearest_gain, put};
    use crate::kernels::field;

    #[test]
    fn fields_come_back_wherever_they_lie() {
        for at in [0, 1, 31, 32, 33, 64, 95] {
            for bits in [1, 7, 31, 32, 33, 64, 100, 120, 128] {
                let code = (0x0123_4567_89ab_cdef_u128 << 64 | 0xfedc_ba98_7654_3211)
                    & (u128::MAX >> (128 - bits));
                let mut words = vec![0; 8];
                put(&mut words, at, code, bits);
                assert_eq!(field(&words, at, bits as u32), code, "{at} {bits}");
                let ones: u32 = words.iter().map(|w| w.count_ones()).sum();
                assert_eq!(ones, code.count_ones());
            }
        }
    }

    #[test]
    fn the_nearest_gain_is_found() {
        let gains = [0.0, 4.0, 2.0, 1.0];
        let found = [9.0, 3.1, 3.0, 2.9, 1.2, 0.6, 0.5, 0.4, 0.0].map(|g| nearest_gain(&gains, g));
        assert_eq!(found, [1, 1, 1, 2, 3, 3, 0, 0, 0]);
    }
}
