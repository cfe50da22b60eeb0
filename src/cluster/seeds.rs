//! Where the search starts: k-means++ on a sample of the vectors, each drawn with the probability of its squared distance from those
//! that were drawn before. All in integers, from a counted generator.

use crate::{
    cluster::{Search, update::Clustered},
    kernels::Entries,
    parallel, random,
};
use multiversion::multiversion;

/// Vectors for each entry that the first ones are drawn from, and most of all: more change the error after the rounds by less than
/// a hundredth.
const SAMPLE: (usize, usize) = (16, 1 << 17);

/// The entries that the search starts from: of each codebook k, or as many as it has distinct vectors.
pub(super) fn seeds(of: &Clustered, search: Search) -> Entries {
    let books: Vec<usize> = (0..search.books).collect();
    let drawn = parallel::map(&books, &|book| {
        let own: Vec<usize> = (*book..of.len()).step_by(of.books).collect();
        let seed = random::number(search.seed, *book as u64);
        let most = (SAMPLE.0 * search.k).clamp(1 << 12, SAMPLE.1.max(2 * search.k));
        if own.len() > most {
            let sampled: Vec<usize> = own
                .iter()
                .copied()
                .filter(|v| random::number(seed, *v as u64) % (own.len() as u64) < most as u64)
                .collect();
            let found = draw(of, &sampled, search.k, seed);
            if found.len() == search.k {
                return found;
            }
        }
        // A sample of too few distinct vectors says nothing of the others.
        draw(of, &own, search.k, seed)
    });
    let k = drawn.iter().map(Vec::len).max().unwrap_or(1);
    let entries = drawn.iter().flat_map(|of_book| {
        let last = of_book[of_book.len() - 1];
        of_book.iter().copied().chain(std::iter::repeat_n(last, k - of_book.len()))
    });
    let values = entries.flat_map(|v| of.vector(v)).copied().collect();
    Entries { dim: of.dim, k, values }
}

/// Vectors of a sample side by side, number by number, with how often each counts and its squared distance from what was drawn.
struct Sample {
    numbers: Vec<Vec<i16>>,
    weights: Vec<u64>,
    distances: Vec<u32>,
}

/// Vectors that are looked through together.
const CHUNK: usize = 1024;

/// Draws up to `k` distinct vectors among some; at least one.
fn draw(of: &Clustered, among: &[usize], k: usize, seed: u64) -> Vec<usize> {
    let numbers = |i: usize| among.iter().map(|v| of.vector(*v)[i]).collect();
    let mut sample = Sample {
        numbers: (0..of.dim).map(numbers).collect(),
        weights: among.iter().map(|v| of.weight(*v)).collect(),
        // Before the first is drawn each vector has the same, so that only how often it counts matters.
        distances: vec![1; among.len()],
    };
    let mut totals = sample.totals();
    let mut drawn = Vec::with_capacity(k);
    while drawn.len() < k {
        let all: u128 = totals.iter().map(|t| u128::from(*t)).sum();
        if all == 0 {
            break;
        }
        let i = drawn.len() as u64;
        let wide = u128::from(random::number(!seed, 2 * i)) << 64
            | u128::from(random::number(!seed, 2 * i + 1));
        let at = sample.find(&totals, wide % all);
        if drawn.is_empty() {
            sample.distances.fill(u32::MAX);
        }
        totals = sample.draw(at);
        drawn.push(among[at]);
    }
    if drawn.is_empty() {
        drawn.push(among[0]);
    }
    drawn
}

impl Sample {
    /// Of every chunk, the sum of weights times distances.
    fn totals(&self) -> Vec<u64> {
        let chunks = self.weights.chunks(CHUNK).zip(self.distances.chunks(CHUNK));
        chunks.map(|(w, d)| w.iter().zip(d).map(|(w, d)| w * u64::from(*d)).sum()).collect()
    }

    /// The first vector up to which weights times distances exceed a number.
    fn find(&self, totals: &[u64], mut number: u128) -> usize {
        let mut chunk = 0;
        while number >= u128::from(totals[chunk]) {
            number -= u128::from(totals[chunk]);
            chunk += 1;
        }
        let mut at = chunk * CHUNK;
        loop {
            let share = u128::from(self.weights[at]) * u128::from(self.distances[at]);
            if number < share {
                return at;
            }
            number -= share;
            at += 1;
        }
    }

    /// Brings the distances closer by that of a vector, which is drawn, and returns their totals.
    fn draw(&mut self, at: usize) -> Vec<u64> {
        let entry: Vec<i16> = self.numbers.iter().map(|n| n[at]).collect();
        let (numbers, weights) = (&self.numbers, &self.weights);
        let mut totals = vec![0; self.distances.len().div_ceil(CHUNK)];
        // A distance and a total beside one another, so that tasks write disjoint parts.
        let per_task = 32;
        let parts: Vec<std::sync::Mutex<(&mut [u32], &mut [u64])>> = self
            .distances
            .chunks_mut(CHUNK * per_task)
            .zip(totals.chunks_mut(per_task))
            .map(std::sync::Mutex::new)
            .collect();
        let numbered: Vec<_> = parts.iter().enumerate().collect();
        let job = |(task, part): &(usize, &std::sync::Mutex<(&mut [u32], &mut [u64])>)| {
            let mut part = part.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (distances, totals) = &mut *part;
            for (i, (distances, total)) in
                distances.chunks_mut(CHUNK).zip(totals.iter_mut()).enumerate()
            {
                let start = (task * per_task + i) * CHUNK;
                let mut found = [0; CHUNK];
                let found = &mut found[..distances.len()];
                for (numbers, c) in numbers.iter().zip(&entry) {
                    add_squares(&numbers[start..][..found.len()], *c, found);
                }
                *total = closer(distances, found, &weights[start..][..found.len()]);
            }
        };
        parallel::map(&numbered, &job);
        drop(parts);
        totals
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
