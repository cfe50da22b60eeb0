//! What the treatment of a matrix in memory and that of a tensor, unit by unit, have in common: chains of kernels on the parts
//! of a matrix, with what the host decides between them.

use crate::{
    Backend, Result, Tensor,
    decide::{
        affine::{AffineCode, CLIP_COUNT, ClipErrors, ClipGrid, Scale, ScaleType, best_clip},
        groups::Groups,
        range::Range,
    },
    engine::Tile,
    kernels::{self, Assigner},
    recipe::Objective,
};
use std::borrow::Borrow;

/// Part of a matrix on the backend that runs it, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its elements.
    pub weights: &'a Tensor,
    /// The number of its first element in the matrix.
    pub start: u64,
}

impl<'a> From<&'a Tile> for Part<'a> {
    fn from(tile: &'a Tile) -> Self {
        Self { weights: &tile.weights, start: tile.start }
    }
}

impl<'a> From<&'a Tensor> for Part<'a> {
    /// The whole of a matrix.
    fn from(weights: &'a Tensor) -> Self {
        Self { weights, start: 0 }
    }
}

/// The groups of a matrix that a stretch of its elements touches.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Those of the matrix.
    pub groups: Groups,
    /// The number of the first.
    pub first: usize,
    /// How many they are.
    pub count: usize,
}

impl Stretch {
    /// Those that `elements` elements from `start` on touch.
    pub fn new(groups: Groups, start: u64, elements: usize) -> Self {
        let start = start as usize;
        Self { groups, first: start / groups.size, count: groups.from(start).count(elements) }
    }

    /// How a part of the stretch sees them, and which of them it touches.
    pub fn of(self, part: Part) -> (Groups, std::ops::Range<usize>) {
        let groups = self.groups.from(part.start as usize);
        let first = part.start as usize / self.groups.size - self.first;
        (groups, first..first + groups.count(part.weights.elements()))
    }

    /// Whether a part consists of whole groups.
    fn is_whole(self, part: Part) -> bool {
        let size = self.groups.size;
        (part.start as usize).is_multiple_of(size) && part.weights.elements().is_multiple_of(size)
    }
}

/// Widens the ranges of groups by those of a part of them.
pub fn widen(ranges: &mut [Option<Range>], more: impl IntoIterator<Item = Range>) {
    for (seen, r) in ranges.iter_mut().zip(more) {
        *seen = Some(seen.map_or(r, |s| s.union(r)));
    }
}

/// The ranges of groups, none of which is empty.
pub fn complete(ranges: Vec<Option<Range>>) -> Vec<Range> {
    ranges.into_iter().map(|r| r.unwrap_or(Range { min: 0.0, max: 0.0 })).collect()
}

/// The ranges of the groups of a stretch, from its parts.
pub fn ranges<'a, P: Into<Part<'a>>>(
    on: &Backend,
    parts: impl IntoIterator<Item = P>,
    stretch: Stretch,
) -> Result<Vec<Range>> {
    let mut all = vec![None; stretch.count];
    for part in parts {
        let part = part.into();
        let (groups, touched) = stretch.of(part);
        widen(&mut all[touched], kernels::range(on, part.weights, groups)?);
    }
    Ok(complete(all))
}

/// The scales that an objective chooses for groups of these ranges, as they are stored; `clips` finds the clips of least error, given their grids.
pub fn scales(
    (code, stored): (AffineCode, ScaleType),
    objective: Objective,
    ranges: &[Range],
    clips: impl FnOnce(&[ClipGrid]) -> Result<Vec<u32>>,
) -> Result<Vec<Scale>> {
    let clips = match objective {
        Objective::Range => vec![64; ranges.len()],
        Objective::Mse => {
            let grids: Vec<_> = ranges.iter().map(|r| ClipGrid::new(code, *r)).collect();
            clips(&grids)?
        }
    };
    Ok(ranges.iter().zip(clips).map(|(r, clip)| code.scale_in(stored, *r, clip)).collect())
}

/// The clips of least error of the groups of a stretch, from all of its parts.
pub fn best_clips(
    on: &Backend,
    parts: &[Part],
    code: AffineCode,
    stretch: Stretch,
    grids: &[ClipGrid],
) -> Result<Vec<u32>> {
    if parts.iter().all(|part| stretch.is_whole(*part)) {
        let best = |part: &Part| {
            let (groups, touched) = stretch.of(*part);
            kernels::best_clips(on, part.weights, code, groups, &grids[touched])
        };
        return Ok(parts.iter().map(best).collect::<Result<Vec<_>>>()?.concat());
    }
    let mut errors = vec![[0u128; CLIP_COUNT]; grids.len()];
    for (first, found) in clip_errors(on, parts, code, stretch, grids)? {
        add_errors(&mut errors[first..], &found);
    }
    Ok(errors.iter().map(best_clip).collect())
}

/// The errors of all clips in each of some parts, and which of the groups of the stretch is the first of each.
pub fn clip_errors(
    on: &Backend,
    parts: &[Part],
    code: AffineCode,
    stretch: Stretch,
    grids: &[ClipGrid],
) -> Result<Vec<(usize, Vec<ClipErrors>)>> {
    let of = |part: &Part| {
        let (groups, touched) = stretch.of(*part);
        let first = touched.start;
        let errors = kernels::clip_errors(on, part.weights, code, groups, &grids[touched])?;
        Ok((first, errors))
    };
    parts.iter().map(of).collect()
}

/// Adds the errors of a part of some groups.
pub fn add_errors(sums: &mut [[u128; CLIP_COUNT]], more: &[ClipErrors]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        sum.iter_mut().zip(more).for_each(|(a, b)| *a += u128::from(*b));
    }
}

/// The codes of a part, given the scales of its stretch.
pub fn quantize<'a>(
    on: &Backend,
    part: impl Into<Part<'a>>,
    code: AffineCode,
    stretch: Stretch,
    scales: &[Scale],
) -> Result<Tensor> {
    let part = part.into();
    let (groups, touched) = stretch.of(part);
    kernels::quantize(on, part.weights, code, groups, &scales[touched])
}

/// The codes of a part, of `bits` bits, given the palettes of its stretch.
pub fn palettize<'a>(
    on: &Backend,
    part: impl Into<Part<'a>>,
    palettes: &[impl Borrow<Assigner> + Sync],
    stretch: Stretch,
    bits: u32,
) -> Result<Tensor> {
    let part = part.into();
    let (groups, touched) = stretch.of(part);
    kernels::palettize(on, part.weights, &palettes[touched], groups, bits)
}
