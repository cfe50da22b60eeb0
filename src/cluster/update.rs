//! From the labels of a round to the entries of the next.

use crate::{
    kernels::{Entries, VECTOR_LIMIT},
    parallel,
};

/// Vectors to be clustered, two numbers to a word, and how often each counts.
pub(super) struct Clustered<'a> {
    pub points: &'a [u32],
    /// Empty where each counts once.
    pub weights: &'a [u32],
    pub dim: usize,
    pub books: usize,
}

/// What the vectors of each entry come to.
pub(super) struct Measured {
    /// How often they count.
    counts: Vec<u64>,
    /// Their sums, `dim` for each entry.
    sums: Vec<i64>,
    /// Their squared distances.
    errors: Vec<u128>,
    /// Of the vector that is worst off: how badly, and its number.
    worst: Vec<(u64, usize)>,
}

impl Measured {
    fn new(entries: &Entries) -> Self {
        let n = entries.values.len() / entries.dim;
        Self {
            counts: vec![0; n],
            sums: vec![0; entries.values.len()],
            errors: vec![0; n],
            worst: vec![(0, 0); n],
        }
    }

    /// Of all vectors.
    pub fn error(&self) -> u128 {
        self.errors.iter().sum()
    }

    /// Adds what later vectors come to.
    fn add(&mut self, later: &Self) {
        self.counts.iter_mut().zip(&later.counts).for_each(|(a, b)| *a += b);
        self.sums.iter_mut().zip(&later.sums).for_each(|(a, b)| *a += b);
        self.errors.iter_mut().zip(&later.errors).for_each(|(a, b)| *a += b);
        for (a, b) in self.worst.iter_mut().zip(&later.worst) {
            if b.0 > a.0 {
                *a = *b;
            }
        }
    }
}

impl Clustered<'_> {
    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.points.len() / self.dim.div_ceil(2)
    }

    /// How often a vector counts.
    pub fn weight(&self, v: usize) -> u64 {
        self.weights.get(v).map_or(1, |w| u64::from(*w))
    }

    /// The numbers of a vector.
    pub fn vector(&self, v: usize) -> &[i16] {
        let stride = self.dim.next_multiple_of(2);
        &bytemuck::cast_slice(self.points)[v * stride..][..self.dim]
    }

    /// What the vectors of each entry come to, given the entry of each.
    pub fn measure(&self, labels: &[u32], entries: &Entries) -> Measured {
        let parts = rayon::current_num_threads().min(self.len().div_ceil(1 << 12)).max(1);
        let each = self.len().div_ceil(parts);
        let starts: Vec<usize> = (0..self.len()).step_by(each.max(1)).collect();
        let parts = parallel::map(&starts, &|start| {
            let mut found = Measured::new(entries);
            for (v, label) in labels.iter().enumerate().skip(*start).take(each) {
                let at = v % self.books * entries.k + *label as usize;
                let entry = &entries.values[at * self.dim..][..self.dim];
                let (weight, mut distance) = (self.weight(v), 0u64);
                let sums = &mut found.sums[at * self.dim..][..self.dim];
                for ((x, c), sum) in self.vector(v).iter().zip(entry).zip(sums) {
                    let d = i64::from(*x) - i64::from(*c);
                    distance += (d * d) as u64;
                    *sum += i64::from(*x) * weight as i64;
                }
                let error = distance * weight;
                found.counts[at] += weight;
                found.errors[at] += u128::from(error);
                if error > found.worst[at].0 {
                    found.worst[at] = (error, v);
                }
            }
            found
        });
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_else(|| Measured::new(entries));
        parts.for_each(|part| all.add(&part));
        all
    }

    /// Entries that are the means of their vectors, rounded to the nearest, or, where `beyond` is asked for, half as far again
    /// from where they were; of those without vectors each takes the one that is worst off, in one cluster each, those of the
    /// largest errors first.
    ///
    /// An error is its least and the squared distance from the mean, as often as there are vectors. Beyond the mean the distance
    /// is half of what it was, and rounding adds at most half of one: no more than before if it was one or more.
    pub fn better(&self, found: &Measured, entries: &Entries, beyond: bool) -> Entries {
        let (dim, k) = (self.dim, entries.k);
        let mut values = entries.values.clone();
        for (at, value) in values.iter_mut().enumerate() {
            let count = found.counts[at / dim] as i64;
            if count > 0 {
                let away = found.sums[at] - i64::from(*value) * count;
                let past = if beyond && away.abs() >= count { away } else { 0 };
                let to = 2 * found.sums[at] + past;
                *value = limited((to + count).div_euclid(2 * count));
            }
        }
        for book in 0..self.books {
            let all = book * k..(book + 1) * k;
            let empty: Vec<usize> = all.clone().filter(|at| found.counts[*at] == 0).collect();
            if empty.is_empty() {
                continue;
            }
            let mut split: Vec<usize> = all.filter(|at| found.worst[*at].0 > 0).collect();
            split.sort_by_key(|at| (std::cmp::Reverse(found.errors[*at]), *at));
            for (to, from) in empty.into_iter().zip(split) {
                values[to * dim..][..dim].copy_from_slice(self.vector(found.worst[from].1));
            }
        }
        Entries { dim, k, values }
    }
}

/// Held among the numbers of vectors, which is no farther from any mean of them.
fn limited(value: i64) -> i16 {
    value.clamp(-i64::from(VECTOR_LIMIT), i64::from(VECTOR_LIMIT)) as i16
}

#[cfg(test)]
mod tests {
    use super::{Clustered, Measured};
    use crate::kernels::Entries;

    /// Vectors of one number and labels with which an entry has none.
    #[test]
    fn an_entry_without_vectors_takes_the_one_that_is_worst_off() {
        let points: Vec<u32> = [0, 1, 2, 50, 1000, 1001].to_vec();
        let of = |weights| Clustered { points: &points, weights, dim: 1, books: 1 };
        let entries = Entries { dim: 1, k: 4, values: vec![1, 1000, 7, 9] };
        let labels = [0, 0, 0, 0, 1, 1];
        let found = of(&[]).measure(&labels, &entries);
        // Of the two that nobody has, the first takes the worst of the cluster of the largest error, the second that of the next.
        assert_eq!(of(&[]).better(&found, &entries, false).values, [13, 1001, 50, 1001]);
        // Of one that counts seldom a lesser distance may be the worse.
        let seldom = [1000, 1, 1, 0, 1, 1];
        let found = of(&seldom).measure(&labels, &entries);
        assert_eq!(of(&seldom).better(&found, &entries, false).values, [0, 1001, 0, 1001]);
    }
    /// All sums that may come of three vectors, and all entries near them: never farther from the mean than before.
    #[test]
    fn beyond_the_mean_the_error_does_not_rise() {
        let of = Clustered { points: &[], weights: &[], dim: 1, books: 1 };
        for sum in (-20..=20).chain([3 * 2047, -3 * 2047, 3 * 2040, 3 * 2046]) {
            let found =
                Measured { counts: vec![3], sums: vec![sum], errors: vec![0], worst: vec![(0, 0)] };
            for old in (-12..=12).chain([2047, 2046, -2047, 1000, -1000]) {
                let entries = Entries { dim: 1, k: 1, values: vec![old] };
                let far = |value: i16| (3 * i64::from(value) - sum).abs();
                let [mean, past] = [false, true].map(|b| of.better(&found, &entries, b).values[0]);
                assert!(far(mean) <= far(past) && far(past) <= far(old), "{sum} {old} {past}");
                assert!(past.abs() <= 2047);
                if (sum - 3 * i64::from(old)).abs() >= 12 && past.abs() < 2047 {
                    // Half as far beyond, to within what rounding takes.
                    let twice = 2 * (3 * i64::from(past) - sum) - (sum - 3 * i64::from(old));
                    assert!(twice.abs() <= 3, "{sum} {old} {past}");
                }
            }
        }
    }
}
