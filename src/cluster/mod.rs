//! k-means over vectors of integers, on any backend, with the same codebooks everywhere: what vector quantizers of weights and
//! palettes of pictures are made by.
//!
//! Lloyd's rounds from the seeds of k-means++. The nearest entries are found by the kernel [`nearest`]; what follows from them is
//! decided on the host in integers, whose sums do not depend on their order: entries go half as far again as to the mean of their
//! vectors, which finds in 25 rounds what takes 40 otherwise, and in the last ones to the mean, rounded to the nearest integer,
//! which is the best one there is: the error never rises; an entry that no vector has takes the vector that is worst off in the
//! cluster that has the largest error.

mod seeds;
mod update;

use crate::{
    Backend, Cancel, Error, Result, Tensor,
    kernels::{Entries, nearest},
};
use update::Clustered;

/// The share of the error that a round must win for another to be worth it.
const SETTLED: u128 = 100_000;

/// Last rounds, in which entries do not go beyond their means.
const LAST: usize = 3;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Numbers of a vector, 1 to 16.
    pub dim: usize,
    /// Problems side by side: vector v is of problem `v mod books`.
    pub books: usize,
    /// Entries of each codebook, 1 to 65,536.
    pub k: usize,
    /// Rounds at most; fewer where one wins less than a hundred-thousandth of the error.
    pub rounds: usize,
    /// Of the vectors that the search starts from.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// Codebooks. They have fewer entries than asked for where there are no more distinct vectors; where books differ in that, the
    /// shorter ones repeat their last entry.
    pub entries: Entries,
    /// The number of each vector's entry.
    pub labels: Vec<u32>,
    /// The sum of the squared distances, each as often as its vector counts.
    pub error: u128,
    /// That of every round.
    pub errors: Vec<u128>,
}

/// Codebooks of little squared error.
///
/// - `points`: U32 `[vectors, pairs]`, as [`points_of`](crate::kernels::points_of) and
///   [`vector_points`](crate::kernels::vector_points()) give them; at least one of each problem.
/// - `weights`: how often each vector counts, at most 2^23 times each or 2^35 times together; empty where each counts once. Those of a problem may not all be 0.
///
/// The result depends on nothing but these and the search: not on the backend, nor on threads.
///
/// # Errors
///
/// [`Error::Shape`] if they do not fit together; [`Error::Gpu`] if the device fails; [`Error::Interrupted`] soon after `cancel` was
/// asked to stop.
///
/// # Source
///
/// Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++".
///
/// # Example
///
/// ```
/// use tersor::{Backend, Cancel, cluster::{Search, cluster}, kernels::points_of};
///
/// let on = Backend::Cpu;
/// let points = points_of(&on, &[0, 1, 2, 100, 101, 104], 1)?;
/// let search = Search { dim: 1, books: 1, k: 2, rounds: 10, seed: 0 };
/// let found = cluster(&on, &points, &[], search, &Cancel::new())?;
/// let mut entries = found.entries.values.clone();
/// entries.sort();
/// assert_eq!(entries, [1, 102]); // the mean of the upper three is 101.67
/// assert_eq!(found.error, 1 + 0 + 1 + 4 + 1 + 4);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn cluster(
    on: &Backend,
    points: &Tensor,
    weights: &[u32],
    search: Search,
    cancel: &Cancel,
) -> Result<Clusters> {
    let Search { dim, books, k, rounds, .. } = search;
    let vectors = points.rows();
    let refuse =
        |what, got: usize, expected: String| Err(Error::shape("cluster", what, got, expected));
    if !(1..=16).contains(&dim) || points.cols() != dim.div_ceil(2) {
        return refuse("dim", dim, format!("1 to 16, for points of {} pairs", points.cols()));
    }
    if !(1..=1 << 16).contains(&k) {
        return refuse("k", k, "1 to 65536".into());
    }
    if books == 0 || vectors < books {
        return refuse("vectors", vectors, format!("at least one for each of {books} problems"));
    }
    if !weights.is_empty() && weights.len() != vectors {
        return refuse(
            "weights",
            weights.len(),
            format!("none, or one for each of {vectors} vectors"),
        );
    }
    // Squared distances of 2^28 times these are sums of 64 bits.
    let (most, all) = weights.iter().fold((0, 0u64), |(m, s), w| (m.max(*w), s + u64::from(*w)));
    if most > 1 << 23 && all > 1 << 35 {
        let expected = "at most 2^23 each, or 2^35 together";
        return refuse("weights", most as usize, expected.into());
    }
    for b in 0..books {
        if !weights.is_empty() && weights[b..].iter().step_by(books).all(|w| *w == 0) {
            return refuse("weights", 0, format!("some above 0 for problem {b}"));
        }
    }
    let host = points.read(on)?;
    let clustered = Clustered { points: &host, weights, dim, books };
    let mut entries = seeds::seeds(&clustered, search, cancel)?;
    let (mut errors, mut beyond) = (Vec::new(), true);
    loop {
        cancel.check()?;
        let labels = nearest(on, points, &entries)?.into_words(on)?;
        let found = clustered.measure(&labels, &entries);
        let error = found.error();
        let before = errors.last().copied().unwrap_or(u128::MAX);
        errors.push(error);
        // In integers.
        let settled = before - error.min(before) <= before / SETTLED;
        if (settled && !beyond) || errors.len() >= rounds.max(1) {
            return Ok(Clusters { entries, labels, error, errors });
        }
        beyond = beyond && !settled && errors.len() + LAST < rounds;
        entries = clustered.better(&found, &entries, beyond);
    }
}
