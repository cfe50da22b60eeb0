//! k-means of weighted points: starts, rounds, and what gets out of a dead end.
//!
//! Everything is decided by integers, sums of weights and squared distances, so that it is the same on every machine and with any
//! number of threads.

use super::{
    nearest::{Points, Sum},
    spaces::Point,
};
use crate::{Backend, Cancel, Result, parallel, random::number};

/// Colours among which entries are searched for first, before all are asked. More are taken together in cells.
const FEW: usize = 1 << 15;
/// Rounds of a start before entries are exchanged, and between two exchanges.
const SETTLING: usize = 4;
const BETWEEN: usize = 3;
/// Exchanges at most.
const EXCHANGES: usize = 24;
/// Rounds over all points at the end.
const LAST: usize = 6;

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
    let coarse_points = Points::new(on, coarse.points, coarse.weights, all.with_alpha())?;
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
        round(on, all, &mut entries, false)?;
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
fn round(on: &Backend, points: &Points, entries: &mut [Point], squares: bool) -> Result<Vec<Sum>> {
    let sums = points.sums(on, entries, squares)?;
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
        round(on, points, &mut entries, false)?;
    }
    let mut most = (entries.len() / 8).max(1);
    let mut best: Option<(u64, Vec<Point>, Vec<Sum>)> = None;
    for _ in 0..=EXCHANGES {
        cancel.check()?;
        let before = entries.clone();
        let sums = round(on, points, &mut entries, true)?;
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
            round(on, points, &mut entries, false)?;
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
            let costs =
                others.map(|j| (sums[i].cost_of_merging(&sums[j], entries[i], entries[j]), i, j));
            costs.min().expect("three entries")
        })
        .collect();
    merges.sort_unstable();
    let mut splits: Vec<(u64, usize, usize)> = (0..k)
        .map(|i| {
            let (spread, axis) =
                (0..4).map(|axis| (sums[i].spread(axis), axis)).max().expect("4 axes");
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
        let mut left =
            ((u128::from(number(seed, entries.len() as u64)) * u128::from(total)) >> 64) as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(points: &[Point], weights: &[u32], k: usize, starts: usize) -> Vec<Point> {
        let on = &Backend::Cpu;
        let all = Points::new(on, points, weights, false).unwrap();
        let search = Search { k, seed: 0, starts };
        let cells: Vec<u32> = (0..points.len() as u32).collect();
        let weighted = Weighted { points, weights };
        solve(on, &all, weighted, &cells, search, &Cancel::new()).unwrap()
    }

    fn error(points: &[Point], weights: &[u32], entries: &[Point]) -> u64 {
        let nearest = |p: &Point| entries.iter().map(|e| apart(*p, *e)).min().unwrap();
        points.iter().zip(weights).map(|(p, w)| u64::from(*w) * nearest(p)).sum()
    }

    /// The least error of all ways to put points in k clusters, from the means as they are.
    fn least(points: &[Point], weights: &[u32], k: usize) -> f64 {
        let mut best = f64::MAX;
        for code in 0..k.pow(points.len() as u32) {
            let label = |i: usize| code / k.pow(i as u32) % k;
            let mut error = 0.0;
            for cluster in 0..k {
                let mut sum = Sum::default();
                for i in (0..points.len()).filter(|i| label(*i) == cluster) {
                    sum.count(points[i], weights[i]);
                }
                for axis in 0..3 {
                    let (at, weight) = (sum.at[axis] as f64, sum.weight.max(1) as f64);
                    error += sum.squares[axis] as f64 - at * at / weight;
                }
            }
            best = best.min(error);
        }
        best
    }

    #[test]
    fn few_points_are_clustered_as_well_as_can_be() {
        let (mut good, mut all) = (0, 0);
        for seed in 0..40 {
            let at = |i: u64| (number(seed, i) % 2041) as i16;
            let points: Vec<Point> =
                (0..8).map(|i| [at(3 * i), at(3 * i + 1), at(3 * i + 2), 0]).collect();
            let weights: Vec<u32> =
                (0..8).map(|i| 1 + (number(seed, 100 + i) % 9) as u32).collect();
            for k in 1..=3 {
                let entries = solved(&points, &weights, k, 16);
                let (found, least) =
                    (error(&points, &weights, &entries) as f64, least(&points, &weights, k));
                // Entries are rounded: a quarter an axis at most for each of 72 weights.
                assert!(found >= least - 0.5, "{found} is less than the least, {least}");
                good += u32::from(found <= least + 72.0);
                all += 1;
            }
        }
        assert!(good * 100 >= all * 95, "{good} of {all}");
    }

    #[test]
    fn clusters_that_are_apart_are_found_and_weights_count() {
        let mut points: Vec<Point> = Vec::new();
        for center in 0..30i16 {
            points.extend(
                (0..40i16).map(|i| [center * 60 + i % 5, i / 10, (center % 7) * 250, 2040]),
            );
        }
        let mut weights = vec![1; points.len()];
        let entries = solved(&points, &weights, 30, 1);
        let mut found: Vec<i16> = entries.iter().map(|e| e[0]).collect();
        found.sort_unstable();
        assert_eq!(found, (0..30).map(|c| c * 60 + 2).collect::<Vec<_>>());
        // One point that outweighs its cluster is where the entry is.
        weights[0] = 1 << 30;
        assert!(solved(&points, &weights, 30, 1).contains(&points[0]));
    }

    #[test]
    fn more_entries_than_points_are_the_points() {
        let points: Vec<Point> = (0..5).map(|i| [i * 100, 0, 0, 2040]).collect();
        for starts in [1, 3] {
            let mut entries = solved(&points, &[1; 5], 5, starts);
            entries.sort_unstable();
            assert_eq!(entries, points);
        }
    }

    /// What an exchange is for: rounds alone stay where they begin.
    #[test]
    fn an_exchange_gets_out_of_a_dead_end() {
        let points: Vec<Point> =
            (0..300i16).map(|i| [(i % 3) * 900 + i / 3 % 7, i / 21, 0, 2040]).collect();
        let on = &Backend::Cpu;
        let all = Points::new(on, &points, &[1; 300], false).unwrap();
        // Two entries share the first cluster, and one has the two others.
        let bad = vec![[0, 5, 0, 2040], [6, 5, 0, 2040], [1350, 5, 0, 2040]];
        let mut stuck = bad.clone();
        for _ in 0..20 {
            round(on, &all, &mut stuck, false).unwrap();
        }
        let (error, entries) = settled(on, &all, bad, &Cancel::new()).unwrap();
        assert!(error * 100 < self::error(&points, &[1; 300], &stuck), "{entries:?}");
    }

    #[test]
    fn the_best_of_several_starts_counts_and_an_interrupt_stops_them() {
        let at = |i: u64| (number(7, i) % 2041) as i16;
        let points: Vec<Point> =
            (0..3000).map(|i| [at(3 * i), at(3 * i + 1), at(3 * i + 2), 2040]).collect();
        let weights = vec![1; points.len()];
        let errors = [1, 2, 6]
            .map(|starts| error(&points, &weights, &solved(&points, &weights, 40, starts)));
        assert!(errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
        let stopped = Cancel::new();
        stopped.raise(2);
        let all = Points::new(&Backend::Cpu, &points, &weights, false).unwrap();
        let search = Search { k: 4, seed: 0, starts: 1 };
        let weighted = Weighted { points: &points, weights: &weights };
        assert!(solve(&Backend::Cpu, &all, weighted, &[0; 3000], search, &stopped).is_err());
    }
}
