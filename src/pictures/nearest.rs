//! The nearest entry of every point, and sums of the points of each entry: what k-means does again and again.
//!
//! Points that follow one another are alike (they come along a Z-curve), so a block of them lies in a small box. An entry whose
//! distance to the box is more than the greatest distance of another to it is the nearest of none of them; what is left is a
//! dozen entries, not 256. Distances are whole numbers below 2^24 in floats, which are exact: it is the same answer as that of
//! trying all entries.

use super::{kmeans::apart, spaces::Point};
use crate::{Backend, Result, Tensor, kernels, parallel};
use multiversion::multiversion;

/// Points that are searched together.
const BLOCK: usize = 64;
/// Entries in a row of registers.
const LANES: usize = 16;

/// Points by coordinates, in blocks, with weights.
pub(super) struct Points {
    blocks: Vec<Block>,
    len: usize,
    /// Coordinates that differ: alpha does not where nothing is transparent.
    dim: usize,
    /// On a device, for its kernel.
    there: Option<Tensor>,
}

/// Up to 64 points; the last one again fills up the last block, with weight 0.
#[derive(Clone)]
struct Block {
    at: [[f32; BLOCK]; 4],
    weights: [u32; BLOCK],
    low: [f32; 4],
    high: [f32; 4],
}

impl Points {
    /// Points in blocks, and on the device if it is one. Alpha counts where `with_alpha`.
    ///
    /// # Errors
    ///
    /// Those of a device.
    pub fn new(on: &Backend, points: &[Point], weights: &[u32], with_alpha: bool) -> Result<Self> {
        const RUN: usize = 64;
        let dim = if with_alpha { 4 } else { 3 };
        let mut blocks = vec![Block::EMPTY; points.len().div_ceil(BLOCK)];
        parallel::chunks(&mut blocks, RUN, &|run, blocks| {
            for (block, number) in blocks.iter_mut().zip(run * RUN..) {
                let range = number * BLOCK..points.len().min((number + 1) * BLOCK);
                block.fill(&points[range.clone()], &weights[range]);
            }
        });
        let there = match on {
            Backend::Cpu => None,
            Backend::Gpu(_) => Some(kernels::points_of(on, &side_by_side(points, dim), dim)?),
        };
        Ok(Self { blocks, len: points.len(), dim, there })
    }

    /// Whether alpha counts.
    pub fn with_alpha(&self) -> bool {
        self.dim == 4
    }

    /// The number of the nearest entry of every point, the first of several.
    ///
    /// # Errors
    ///
    /// Those of a device.
    pub fn nearest(&self, on: &Backend, entries: &[Point]) -> Result<Vec<u8>> {
        if let Some(there) = &self.there {
            return self.nearest_on(on, there, entries);
        }
        let entries = Entries::new(entries);
        let mut labels = vec![0; self.len];
        parallel::spans(&mut labels, BLOCK, 64, &|first, labels| {
            let mut found = Found::default();
            for (labels, block) in labels.chunks_mut(BLOCK).zip(&self.blocks[first..]) {
                block.nearest(self.dim, &entries, &mut found);
                for (label, found) in labels.iter_mut().zip(&found.label) {
                    *label = *found as u8;
                }
            }
        });
        Ok(labels)
    }

    /// Sums over the points that each entry is the nearest of, of their squares only where they are asked for.
    ///
    /// # Errors
    ///
    /// Those of a device.
    pub fn sums(&self, on: &Backend, entries: &[Point], squares: bool) -> Result<Vec<Sum>> {
        let there = self.there.as_ref();
        let labels = there.map(|there| self.nearest_on(on, there, entries)).transpose()?;
        let numbered = Entries::new(entries);
        // A thread's share, so that there are not too many sums to add up.
        let run = self.blocks.len().div_ceil(4 * rayon::current_num_threads()).max(8);
        let runs: Vec<(usize, &[Block])> = self.blocks.chunks(run).enumerate().collect();
        let parts = parallel::map(&runs, &|(number, blocks)| {
            let mut sums = vec![Sum::default(); entries.len()];
            let mut found = Found::default();
            for (i, block) in blocks.iter().enumerate() {
                match &labels {
                    None => block.nearest(self.dim, &numbered, &mut found),
                    Some(labels) => {
                        block.found(&labels[(number * run + i) * BLOCK..], entries, &mut found)
                    }
                }
                match squares {
                    true => block.add::<true>(&found, &mut sums),
                    false => block.add::<false>(&found, &mut sums),
                }
            }
            sums
        });
        let mut sums = vec![Sum::default(); entries.len()];
        for part in &parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| sum.add(part));
        }
        Ok(sums)
    }

    /// As [`Points::nearest`], by the kernel that tries every entry.
    fn nearest_on(&self, on: &Backend, there: &Tensor, entries: &[Point]) -> Result<Vec<u8>> {
        let (dim, k) = (self.dim, entries.len());
        let entries = kernels::Entries { dim, k, values: side_by_side(entries, dim) };
        let labels = kernels::nearest(on, there, &entries)?;
        Ok(labels.into_words(on)?.iter().map(|label| *label as u8).collect())
    }
}

/// The coordinates that differ, point by point.
fn side_by_side(points: &[Point], dim: usize) -> Vec<i16> {
    points.iter().flat_map(|point| &point[..dim]).copied().collect()
}

/// What there is of the points of an entry. Sums of whole numbers, so that their order is nothing to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub weight: u64,
    pub at: [i64; 4],
    /// Weighted squares of the coordinates.
    pub squares: [u64; 4],
    /// Weighted squared distances.
    pub error: u64,
}

impl Sum {
    pub fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.error += other.error;
        self.at.iter_mut().zip(other.at).for_each(|(sum, at)| *sum += at);
        self.squares.iter_mut().zip(other.squares).for_each(|(sum, squares)| *sum += squares);
    }

    /// Counts a point so often.
    pub fn count(&mut self, point: Point, weight: u32) {
        self.weight += u64::from(weight);
        for ((sum, squares), at) in self.at.iter_mut().zip(&mut self.squares).zip(point) {
            let (at, weight) = (i64::from(at), i64::from(weight));
            *sum += weight * at;
            *squares += (weight * at * at) as u64;
        }
    }

    /// Weighted squared distances to the mean along an axis.
    pub fn spread(&self, axis: usize) -> u64 {
        let (sum, weight) = (i128::from(self.at[axis]), i128::from(self.weight.max(1)));
        (i128::from(self.squares[axis]) - sum * sum / weight).max(0) as u64
    }

    /// What it costs to have one entry for the points of two.
    pub fn cost_of_merging(&self, other: &Self, entry: Point, others: Point) -> u64 {
        let (a, b) = (u128::from(self.weight), u128::from(other.weight));
        (a * b / (a + b).max(1)) as u64 * apart(entry, others)
    }

    /// Their mean, rounded.
    pub fn mean(&self) -> Point {
        let weight = self.weight.max(1) as i64;
        self.at.map(|sum| (2 * sum + weight).div_euclid(2 * weight) as i16)
    }
}

impl Block {
    const EMPTY: Self =
        Self { at: [[0.0; BLOCK]; 4], weights: [0; BLOCK], low: [0.0; 4], high: [0.0; 4] };

    fn fill(&mut self, points: &[Point], weights: &[u32]) {
        self.weights[..weights.len()].copy_from_slice(weights);
        let last = points.len() - 1;
        for (axis, at) in self.at.iter_mut().enumerate() {
            for (i, x) in at.iter_mut().enumerate() {
                *x = f32::from(points[i.min(last)][axis]);
            }
            self.low[axis] = at.iter().copied().fold(f32::MAX, f32::min);
            self.high[axis] = at.iter().copied().fold(f32::MIN, f32::max);
        }
    }

    fn nearest(&self, dim: usize, entries: &Entries, found: &mut Found) {
        match dim {
            3 => nearest::<3>(self, entries, found),
            _ => nearest::<4>(self, entries, found),
        }
    }

    /// What was found elsewhere: labels, and distances from them.
    fn found(&self, labels: &[u8], entries: &[Point], found: &mut Found) {
        for i in 0..BLOCK {
            // What fills up the last block weighs nothing.
            let label = labels.get(i).copied().unwrap_or(0);
            let entry = entries[usize::from(label)];
            found.label[i] = i32::from(label);
            found.distance[i] =
                (0..4).map(|axis| (self.at[axis][i] - f32::from(entry[axis])).powi(2)).sum();
        }
    }

    fn add<const SQUARES: bool>(&self, found: &Found, sums: &mut [Sum]) {
        for i in 0..BLOCK {
            let weight = i64::from(self.weights[i]);
            let sum = &mut sums[found.label[i] as usize];
            sum.weight += weight as u64;
            sum.error += weight as u64 * found.distance[i] as u64;
            for axis in 0..4 {
                let at = self.at[axis][i] as i64;
                sum.at[axis] += weight * at;
                if SQUARES {
                    sum.squares[axis] += (weight * at * at) as u64;
                }
            }
        }
    }
}

/// Entries by coordinates, filled up with some that are nowhere near.
struct Entries {
    at: [Vec<f32>; 4],
    len: usize,
}

impl Entries {
    fn new(entries: &[Point]) -> Self {
        let padded = entries.len().next_multiple_of(LANES);
        let axis = |axis: usize| {
            let mut at: Vec<f32> = entries.iter().map(|e| f32::from(e[axis])).collect();
            at.resize(padded, 1e9);
            at
        };
        Self { at: [axis(0), axis(1), axis(2), axis(3)], len: entries.len() }
    }
}

/// Of the points of a block: the nearest entry, and the squared distance to it.
struct Found {
    label: [i32; BLOCK],
    distance: [f32; BLOCK],
    near: Vec<f32>,
    candidates: Vec<u16>,
}

impl Default for Found {
    fn default() -> Self {
        Self { label: [0; BLOCK], distance: [0.0; BLOCK], near: vec![], candidates: vec![] }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn nearest<const D: usize>(block: &Block, entries: &Entries, found: &mut Found) {
    let mut farthest = [f32::MAX; LANES];
    found.near.clear();
    for first in (0..entries.at[0].len()).step_by(LANES) {
        let (mut near, mut far) = ([0f32; LANES], [0f32; LANES]);
        for axis in 0..D {
            let at: &[f32; LANES] =
                entries.at[axis][first..][..LANES].try_into().expect("16 lanes");
            let (low, high) = (block.low[axis], block.high[axis]);
            for i in 0..LANES {
                let (below, above) = (low - at[i], at[i] - high);
                let out = below.max(above).max(0.0);
                let across = (-below).max(-above);
                near[i] += out * out;
                far[i] += across * across;
            }
        }
        for i in 0..LANES {
            farthest[i] = farthest[i].min(far[i]);
        }
        found.near.extend_from_slice(&near);
    }
    let farthest = farthest.iter().copied().fold(f32::MAX, f32::min);
    found.candidates.clear();
    for (i, near) in found.near[..entries.len].iter().enumerate() {
        if *near <= farthest {
            found.candidates.push(i as u16);
        }
    }
    let (mut distance, mut label) = ([f32::MAX; BLOCK], [0i32; BLOCK]);
    for candidate in &found.candidates {
        let candidate = usize::from(*candidate);
        let entry: [f32; D] = std::array::from_fn(|axis| entries.at[axis][candidate]);
        for i in 0..BLOCK {
            let mut sum = 0f32;
            for (axis, at) in entry.iter().enumerate() {
                let apart = block.at[axis][i] - at;
                sum += apart * apart;
            }
            let nearer = sum < distance[i];
            distance[i] = if nearer { sum } else { distance[i] };
            label[i] = if nearer { candidate as i32 } else { label[i] };
        }
    }
    found.distance = distance;
    found.label = label;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trying every entry.
    fn tried(points: &[Point], entries: &[Point]) -> Vec<u8> {
        let nearest =
            |p: &Point| (0..entries.len()).min_by_key(|i| apart(*p, entries[*i])).unwrap();
        points.iter().map(|p| nearest(p) as u8).collect()
    }

    fn random(i: usize) -> u32 {
        (i as u32 ^ 0x51_7cc1).wrapping_mul(2_654_435_761).rotate_left(17).wrapping_mul(40_503)
    }

    /// Points of a walk, so that blocks are small as those of pictures, and the farthest there are.
    fn walk(n: usize, with_alpha: bool) -> Vec<Point> {
        let mut at = [1000i32; 4];
        let step = |i: usize| {
            for (axis, x) in at.iter_mut().enumerate() {
                *x = (*x + (random(4 * i + axis) % 41) as i32 - 20).clamp(0, 2040);
            }
            let corner = i.is_multiple_of(97).then_some([0, 2040, 0, 2040]);
            let mut point = corner.unwrap_or(at).map(|x| x as i16);
            if !with_alpha {
                point[3] = 2040;
            }
            point
        };
        (0..n).map(step).collect()
    }

    #[test]
    fn the_nearest_is_that_of_trying_all() {
        for n in [1, 2, 63, 64, 65, 1000, 20_000] {
            for (k, with_alpha) in [(1, false), (2, true), (17, false), (256, false), (256, true)] {
                let points = walk(n, with_alpha);
                let mut entries: Vec<Point> =
                    (0..k).map(|i| points[random(i) as usize % n]).collect();
                // Far off, alike, and on the other side of a point.
                entries[k / 2] = [-2040, 2040, -2040, 2040];
                entries[k - 1] = entries[0];
                let weights = vec![1; n];
                let found = Points::new(&Backend::Cpu, &points, &weights, with_alpha).unwrap();
                assert_eq!(
                    found.nearest(&Backend::Cpu, &entries).unwrap(),
                    tried(&points, &entries)
                );
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_labels() {
        let (points, k) = (walk(5000, true), 50);
        let weights: Vec<u32> = (0..points.len()).map(|i| random(i) >> (i % 32)).collect();
        let entries: Vec<Point> = (0..k).map(|i| points[i * 99]).collect();
        let mut expected = vec![Sum::default(); k];
        for ((point, weight), label) in points.iter().zip(&weights).zip(tried(&points, &entries)) {
            let sum = &mut expected[usize::from(label)];
            sum.count(*point, *weight);
            sum.error += u64::from(*weight) * apart(*point, entries[usize::from(label)]);
        }
        let found = Points::new(&Backend::Cpu, &points, &weights, true).unwrap();
        assert_eq!(found.sums(&Backend::Cpu, &entries, true).unwrap(), expected);
        expected.iter_mut().for_each(|sum| sum.squares = [0; 4]);
        assert_eq!(found.sums(&Backend::Cpu, &entries, false).unwrap(), expected);
    }

    #[test]
    fn means_are_rounded_and_spreads_are_those_of_the_mean() {
        let mut sum = Sum::default();
        sum.count([1, -1, 0, 5], 1);
        sum.count([2, -2, 1, 5], 1);
        assert_eq!(sum.mean(), [2, -1, 1, 5]);
        sum.count([9, 0, 0, 5], 2);
        assert_eq!(sum.mean(), [5, -1, 0, 5]); // 21/4, -3/4, 1/4
        // 1 + 4 + 162 - 21^2 / 4, rounded down with what is taken away
        assert_eq!([sum.spread(0), sum.spread(3)], [57, 0]);
    }
}
