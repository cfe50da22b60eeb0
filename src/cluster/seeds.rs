//! Where the search starts: k-means++ on a sample of the vectors, each drawn with the probability of its squared distance from those
//! that were drawn before. All in integers, from a counted generator.

use crate::{
    Cancel, Result,
    cluster::{Search, update::Clustered},
    kernels::Entries,
    parallel, random,
};
use multiversion::multiversion;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Vectors for each entry that the first ones are drawn from, and most of all: more change the error after the rounds by less than
/// a hundredth.
const SAMPLE: (usize, usize) = (16, 1 << 17);

/// The entries that the search starts from: of each codebook k, or as many as it has distinct vectors.
pub(super) fn seeds(of: &Clustered, search: Search, cancel: &Cancel) -> Result<Entries> {
    let books: Vec<usize> = (0..search.books).collect();
    let drawn = parallel::try_map(&books, &|book| {
        let own: Vec<usize> = (*book..of.len()).step_by(of.books).collect();
        let seed = random::number(search.seed, *book as u64);
        let most = (SAMPLE.0 * search.k).clamp(1 << 12, SAMPLE.1.max(2 * search.k));
        if own.len() > most {
            let sampled: Vec<usize> = own
                .iter()
                .copied()
                .filter(|v| random::number(seed, *v as u64) % (own.len() as u64) < most as u64)
                .collect();
            let found = draw(of, &sampled, search.k, seed, cancel)?;
            if found.len() == search.k {
                return Ok(found);
            }
        }
        // A sample of too few distinct vectors says nothing of the others.
        draw(of, &own, search.k, seed, cancel)
    })?;
    let k = drawn.iter().map(Vec::len).max().unwrap_or(1);
    let entries = drawn.iter().flat_map(|of_book| {
        let last = of_book[of_book.len() - 1];
        of_book.iter().copied().chain(std::iter::repeat_n(last, k - of_book.len()))
    });
    let values = entries.flat_map(|v| of.vector(v)).copied().collect();
    Ok(Entries { dim: of.dim, k, values })
}

/// Some of a sample's vectors side by side, number by number, with how often each counts and its squared distance from what was
/// drawn.
struct Part {
    numbers: Vec<Vec<i16>>,
    weights: Vec<u64>,
    distances: Vec<u32>,
    /// Room for distances from one vector.
    found: Vec<u32>,
}

/// Vectors that are looked through together.
const PART: usize = 4096;

/// Draws up to `k` distinct vectors among some; at least one.
fn draw(
    of: &Clustered,
    among: &[usize],
    k: usize,
    seed: u64,
    cancel: &Cancel,
) -> Result<Vec<usize>> {
    let part = |among: &[usize]| {
        let numbers = |i: usize| among.iter().map(|v| of.vector(*v)[i]).collect();
        Mutex::new(Part {
            numbers: (0..of.dim).map(numbers).collect(),
            weights: among.iter().map(|v| of.weight(*v)).collect(),
            distances: vec![u32::MAX; among.len()],
            found: vec![0; among.len()],
        })
    };
    let parts: Vec<Mutex<Part>> = among.chunks(PART).map(part).collect();
    let locked = |part: &Mutex<Part>| -> u64 { lock(part).weights.iter().sum() };
    // Before the first is drawn only how often each counts matters.
    let mut totals: Vec<u64> = parts.iter().map(locked).collect();
    let mut drawn = Vec::with_capacity(k);
    while drawn.len() < k {
        cancel.check()?;
        let all: u128 = totals.iter().map(|t| u128::from(*t)).sum();
        if all == 0 {
            break;
        }
        let i = drawn.len() as u64;
        let wide = u128::from(random::number(!seed, 2 * i)) << 64
            | u128::from(random::number(!seed, 2 * i + 1));
        let (mut at, mut rest) = (0, wide % all);
        while rest >= u128::from(totals[at]) {
            rest -= u128::from(totals[at]);
            at += 1;
        }
        let number = at * PART + lock(&parts[at]).find(rest as u64, drawn.is_empty());
        let entry = of.vector(among[number]);
        totals = parallel::map(&parts, &|part| lock(part).draw(entry));
        drawn.push(among[number]);
    }
    if drawn.is_empty() {
        drawn.push(among[0]);
    }
    Ok(drawn)
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    /// The first vector up to which weights times distances, or weights alone where nothing is drawn yet, exceed a number.
    fn find(&self, mut number: u64, first: bool) -> usize {
        let shares = self.weights.iter().zip(&self.distances);
        for (at, (weight, distance)) in shares.enumerate() {
            let share = if first { *weight } else { weight * u64::from(*distance) };
            if number < share {
                return at;
            }
            number -= share;
        }
        unreachable!("the number is below their sum")
    }

    /// Brings the distances closer by that of a vector, which is drawn, and returns the sum of weights times distances.
    fn draw(&mut self, entry: &[i16]) -> u64 {
        let Self { numbers, weights, distances, found } = self;
        found.fill(0);
        for (numbers, c) in numbers.iter().zip(entry) {
            add_squares(numbers, *c, found);
        }
        closer(distances, found, weights)
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn add_squares(numbers: &[i16], c: i16, sums: &mut [u32]) {
    for (x, sum) in numbers.iter().zip(sums) {
        let d = i32::from(*x) - i32::from(c);
        *sum += (d * d) as u32;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn closer(distances: &mut [u32], found: &[u32], weights: &[u64]) -> u64 {
    let mut total = 0;
    for ((d, f), w) in distances.iter_mut().zip(found).zip(weights) {
        *d = (*d).min(*f);
        total += w * u64::from(*d);
    }
    total
}
