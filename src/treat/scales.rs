//! Ranges and scales: from a survey of the tensor where a group is longer than a unit, otherwise from the unit itself.

use crate::{
    Result,
    decide::{
        affine::{CLIP_COUNT, Scale, best_clip},
        range::Range,
    },
    engine::Needs,
    form::Affine,
    parallel,
    stage::Unit,
    treat::{
        chains::{self, Part, Stretch, add_errors, complete, widen},
        job::Job,
        masks::Mask,
    },
};

impl Job<'_> {
    /// Whether every unit consists of whole groups.
    pub(super) fn groups_lie_in_units(&self) -> bool {
        let size = self.groups().size as u64;
        self.units.iter().all(|u| {
            u.start(&self.blocks).is_multiple_of(size) && (u.elements() as u64).is_multiple_of(size)
        })
    }

    /// The ranges of the groups that a unit touches.
    pub(super) fn ranges(&self, unit: &Unit, elements: &mut Vec<u32>) -> Result<Vec<Range>> {
        let touched = self.touched(unit);
        let needs = Needs { table_bytes: 8, group: touched.groups.size, ..Needs::default() };
        let chain = self.chain("range", needs);
        self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            chains::ranges(on, tiles, touched)
        })
    }

    /// The scales of a unit that consists of whole groups.
    pub(super) fn scales(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        affine: Affine,
    ) -> Result<Vec<Scale>> {
        let (code, touched) = (affine.code(), self.touched(unit));
        let ranges = self.ranges(unit, elements)?;
        chains::scales((code, affine.scales), self.treat.objective, &ranges, |grids| {
            let needs = Needs { table_bytes: 16, group: touched.groups.size, ..Needs::default() };
            let chain = self.chain("best_clips", needs);
            self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
                let parts: Vec<Part> = tiles.iter().map(Part::from).collect();
                chains::best_clips(on, &parts, code, touched, grids)
            })
        })
    }

    /// The groups of the tensor.
    fn all(&self) -> Stretch {
        Stretch::new(self.groups(), 0, self.blocks.elements() as usize)
    }

    /// The ranges of all groups of the tensor.
    pub(super) fn survey_ranges(&self, mask: &Mask) -> Result<Vec<Range>> {
        let ranges_of = |unit: &Unit| self.ranges(unit, &mut self.load(unit, mask)?.0);
        let surveyed = parallel::try_map(&self.units, &ranges_of)?;
        let mut ranges: Vec<Option<Range>> = vec![None; self.all().count];
        for (unit, found) in self.units.iter().zip(surveyed) {
            widen(&mut ranges[self.touched(unit).first..], found);
        }
        Ok(complete(ranges))
    }

    /// The scales of all groups of the tensor.
    pub(super) fn survey_scales(&self, mask: &Mask, affine: Affine) -> Result<Vec<Scale>> {
        let (code, all) = (affine.code(), self.all());
        let ranges = self.survey_ranges(mask)?;
        chains::scales((code, affine.scales), self.treat.objective, &ranges, |grids| {
            let needs = Needs { table_bytes: 16, group: all.groups.size, ..Needs::default() };
            let surveyed = parallel::try_map(&self.units, &|unit| {
                let mut elements = self.load(unit, mask)?.0;
                let chain = self.chain("clip_errors", needs);
                self.engine.run(chain, &self.blocks, unit, &mut elements, |on, tiles| {
                    let parts: Vec<Part> = tiles.iter().map(Part::from).collect();
                    chains::clip_errors(on, &parts, code, all, grids)
                })
            })?;
            let mut errors = vec![[0u128; CLIP_COUNT]; all.count];
            for (g, found) in surveyed.into_iter().flatten() {
                add_errors(&mut errors[g..], &found);
            }
            Ok(errors.iter().map(best_clip).collect())
        })
    }
}
