//! k-means of weighted points: starts, rounds, and what gets out of a dead end.
//!
//! Everything is decided by integers, sums of weights and squared distances, so that it is the same on every machine and with any
//! number of threads.

use super::{
    nearest::{Points, Sum},
    spaces::Point,
};
use crate::{Backend, Cancel, Result, parallel};

/// Colours among which entries are searched for first, before all are asked. More are taken together in cells.
const FEW: usize = 1 << 15;
/// Rounds of a start before entries are exchanged, and between two exchanges.
const SETTLING: usize = 4;
const BETWEEN: usize = 3;
/// Exchanges at most.
const EXCHANGES: usize = 24;
/// Rounds over all points at the end.
const LAST: usize = 10;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub k: usize,
    pub seed: u64,
    pub starts: usize,
}

/// Points and how often each counts.
#[derive(Clone, Copy)]
pub(super) struct Weighted<'a> {
    pub points: &'a [Point],
    pub weights: &'a [u32],
}

/// Entries of little squared distance to the points; at most as many as asked for.
///
/// # Errors
///
/// Those of a device, and of an interrupt.
pub(super) fn solve(
    on: &Backend,
    all: &Points,
    weighted: Weighted,
    cells: &[u32],
    search: Search,
    cancel: &Cancel,
) -> Result<Vec<Point>> {
    let taken = weighted.points.len() > FEW;
    let (means, counts) = if taken { in_cells(weighted, cells) } else { Default::default() };
    let coarse = if taken { Weighted { points: &means, weights: &counts } } else { weighted };
    let coarse_points = Points::new(coarse.points, coarse.weights, all.with_alpha());
    let starts: Vec<u64> = (0..search.starts.max(1) as u64).collect();
    let found = parallel::try_map(&starts, &|start| {
        cancel.check()?;
        let first = match start {
            0 => cut(coarse, search.k),
            _ => seeded(coarse, search.k, search.seed.wrapping_add(*start)),
        };
        settled(on, &coarse_points, first, cancel)
    })?;
    let best = found.into_iter().min_by_key(|(error, _)| *error);
    let (_, mut entries) = best.expect("there is a start");
    for _ in 0..LAST {
        cancel.check()?;
        let before = entries.clone();
        round(on, all, &mut entries)?;
        if entries == before {
            break;
        }
    }
    Ok(entries)
}

/// The mean and weight of the points of each run of one cell.
fn in_cells(weighted: Weighted, cells: &[u32]) -> (Vec<Point>, Vec<u32>) {
    let mut at = 0;
    let cell = |run: &[u32]| {
        let mut sum = Sum::default();
        for i in at..at + run.len() {
            sum.count(weighted.points[i], weighted.weights[i]);
        }
        at += run.len();
        (sum.mean(), sum.weight as u32)
    };
    cells.chunk_by(|a, b| a == b).map(cell).unzip()
}

/// Moves every entry to the mean of its points; sums over them as they were before.
fn round(on: &Backend, points: &Points, entries: &mut [Point]) -> Result<Vec<Sum>> {
    let sums = points.sums(on, entries)?;
    for (entry, sum) in entries.iter_mut().zip(&sums).filter(|(_, sum)| sum.weight > 0) {
        *entry = sum.mean();
    }
    Ok(sums)
}

/// Rounds, and between them exchanges: the entries that are missed least go where they help most. The best that was found, and
/// its error.
fn settled(
    on: &Backend,
    points: &Points,
    mut entries: Vec<Point>,
    cancel: &Cancel,
) -> Result<(u64, Vec<Point>)> {
    for _ in 0..SETTLING {
        round(on, points, &mut entries)?;
    }
    let mut most = (entries.len() / 8).max(1);
    let mut best: Option<(u64, Vec<Point>, Vec<Sum>)> = None;
    for _ in 0..=EXCHANGES {
        cancel.check()?;
        let before = entries.clone();
        let sums = round(on, points, &mut entries)?;
        let error = sums.iter().map(|s| s.error).sum();
        match &best {
            Some((least, kept, _)) if *least <= error => {
                most /= 2;
                entries.clone_from(kept);
            }
            // Of the entries that were measured, not of those they became.
            _ => best = Some((error, before, sums)),
        }
        let Some((_, kept, sums)) = &best else { break };
        entries.clone_from(kept);
        for (entry, sum) in entries.iter_mut().zip(sums).filter(|(_, sum)| sum.weight > 0) {
            *entry = sum.mean();
        }
        if exchange(sums, &mut entries, most) == 0 {
            break;
        }
        for _ in 1..BETWEEN {
            round(on, points, &mut entries)?;
        }
    }
    let (error, entries, _) = best.expect("at least one round");
    Ok((error, entries))
}

/// Merges the pairs of entries that cost least to merge, and splits those entries that gain most by it: what a pair gives up, a
/// split takes. An entry is moved once at most. How many were exchanged.
fn exchange(sums: &[Sum], entries: &mut [Point], most: usize) -> usize {
    let k = entries.len();
    if k < 3 {
        return 0;
    }
    let mut merges: Vec<(u64, usize, usize)> = (0..k)
        .map(|i| {
            let others = (0..k).filter(|j| *j != i);
            let costs = others.map(|j| (sums[i].to_merge(&sums[j], entries[i], entries[j]), i, j));
            costs.min().expect("three entries")
        })
        .collect();
    merges.sort_unstable();
    let mut splits: Vec<(u64, usize, usize)> = (0..k)
        .map(|i| {
            let (spread, axis) = (0..4).map(|axis| (sums[i].spread(axis), axis)).max().expect("4 axes");
            (spread, i, axis)
        })
        .collect();
    splits.sort_unstable_by(|a, b| b.cmp(a));
    let (mut moved, mut splits, mut done) = (vec![false; k], splits.into_iter(), 0);
    for (cost, i, j) in merges {
        if done == most {
            break;
        }
        if moved[i] || moved[j] {
            continue;
        }
        let free = |s: &(u64, usize, usize)| !moved[s.1] && s.1 != i && s.1 != j;
        let Some((spread, split, axis)) = splits.by_ref().find(free) else { break };
        // Cutting an even spread in two takes three quarters of it away, and a merge costs less once its neighbours have helped,
        // by about a half.
        if spread.saturating_mul(2) <= cost || spread == 0 {
            break;
        }
        let mut sum = sums[i];
        sum.add(&sums[j]);
        if sum.weight > 0 {
            entries[i] = sum.mean();
        }
        let deviation = ((sums[split].spread(axis) / sums[split].weight).isqrt() as i16).max(1);
        entries[j] = entries[split];
        entries[j][axis] += deviation;
        entries[split][axis] -= deviation;
        for at in [i, j, split] {
            moved[at] = true;
        }
        done += 1;
    }
    done
}

/// Entries from cuts: the part whose points lie furthest apart is cut in two at its mean, across the axis where they do.
fn cut(weighted: Weighted, k: usize) -> Vec<Point> {
    struct Part {
        members: Vec<u32>,
        sum: Sum,
        axis: usize,
        spread: u64,
    }
    let part = |members: Vec<u32>| {
        let mut sum = Sum::default();
        for member in &members {
            sum.count(weighted.points[*member as usize], weighted.weights[*member as usize]);
        }
        let spreads = [0, 1, 2, 3].map(|axis| (sum.spread(axis), axis));
        let (_, axis) = spreads.into_iter().max().expect("4 axes");
        Part { members, sum, axis, spread: spreads.iter().map(|(spread, _)| spread).sum() }
    };
    let mut parts = vec![part((0..weighted.points.len() as u32).collect())];
    while parts.len() < k {
        let widest = (0..parts.len()).max_by_key(|i| (parts[*i].spread, usize::MAX - i));
        let widest = widest.expect("a part");
        if parts[widest].spread == 0 {
            break;
        }
        let Part { members, sum, axis, .. } = parts.swap_remove(widest);
        // Where all are one number but a few, the rounded mean is the greatest or the least of them.
        let at = |member: &u32| i64::from(weighted.points[*member as usize][axis]);
        let below = |member: &u32| at(member) * (sum.weight as i64) <= sum.at[axis];
        let (low, high) = members.into_iter().partition(below);
        parts.push(part(low));
        parts.push(part(high));
    }
    parts.iter().map(|part| part.sum.mean()).collect()
}

/// Entries by chance, each with a probability in proportion to the weight and the squared distance to those before it
/// (k-means++: D. Arthur, S. Vassilvitskii, 2007).
fn seeded(weighted: Weighted, k: usize, seed: u64) -> Vec<Point> {
    let Weighted { points, weights } = weighted;
    let mut distances = vec![1u64; points.len()];
    let mut entries: Vec<Point> = Vec::new();
    while entries.len() < k {
        let shares = distances.iter().zip(weights).map(|(d, w)| d * u64::from(*w));
        let total: u64 = shares.clone().sum();
        if total == 0 {
            break;
        }
        let mut left = (u128::from(number(seed, entries.len() as u64)) * u128::from(total) >> 64) as u64;
        let chosen = shares.into_iter().position(|share| {
            let here = left < share;
            left = left.saturating_sub(share);
            here
        });
        let entry = points[chosen.expect("less than all")];
        let first = entries.is_empty();
        for (distance, point) in distances.iter_mut().zip(points) {
            let new = apart(*point, entry);
            *distance = if first { new } else { new.min(*distance) };
        }
        entries.push(entry);
    }
    entries
}

/// The squared distance of two points.
pub(super) fn apart(a: Point, b: Point) -> u64 {
    a.iter().zip(b).map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2) as u64).sum()
}

/// Number `i` of splitmix64's stream that starts at a seed.
fn number(seed: u64, i: u64) -> u64 {
    let z = seed.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
