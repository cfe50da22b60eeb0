//! Points of the integer pyramid, numbered: the vectors of N integers whose magnitudes add up to K.
//!
//! There are `V(n, k)` of them: `V(n, k) = V(n-1, k) + V(n, k-1) + V(n-1, k-1)`, `V(n, 0) = 1`, `V(0, k) = 0` for k above 0. They are
//! in the order of their first number, of these 0, 1, -1, 2, -2, ...; those that agree in it by the second; and so on. So every
//! number below `V(N, K)` is one vector's, in `ceil(log2 V(N, K))` bits.
//!
//! Source: Fischer 1986, "A pyramid vector quantizer".

use std::sync::LazyLock;

/// The most numbers of a vector, and the most that their magnitudes add up to.
pub const MOST: (usize, usize) = (64, 127);

/// The most bits of a vector's number.
pub const BITS: u32 = 120;

/// V(m, j) for m and j up to [`MOST`], row by row; of those that no pyramid here has, the largest number that there is.
static COUNTS: LazyLock<Vec<u128>> = LazyLock::new(|| {
    let width = MOST.1 + 1;
    let mut counts = vec![0u128; (MOST.0 + 1) * width];
    counts[0] = 1;
    for m in 1..=MOST.0 {
        counts[m * width] = 1;
        for j in 1..width {
            let above = (m - 1) * width + j;
            let sum = counts[above].saturating_add(counts[above - 1]);
            counts[m * width + j] = sum.saturating_add(counts[m * width + j - 1]);
        }
    }
    counts
});

/// The pyramid of some N and K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pyramid {
    /// Numbers of a vector.
    pub n: usize,
    /// What their magnitudes add up to.
    pub k: usize,
}

impl Pyramid {
    /// `None` where `n` or `k` is 0 or more than [`MOST`], or numbers take more than [`BITS`] bits.
    pub fn new(n: usize, k: usize) -> Option<Self> {
        if n == 0 || k == 0 || n > MOST.0 || k > MOST.1 {
            return None;
        }
        let pyramid = Self { n, k };
        (pyramid.bits() <= BITS).then_some(pyramid)
    }

    /// Bits of a number.
    pub fn bits(self) -> u32 {
        128 - (self.count(self.n, self.k) - 1).leading_zeros()
    }

    /// How many vectors of `m` integers there are whose magnitudes add up to `j`.
    pub fn count(self, m: usize, j: usize) -> u128 {
        COUNTS[m * (MOST.1 + 1) + j]
    }

    /// All of these for m up to n and j up to k, row by row.
    pub fn counts(self) -> impl Iterator<Item = u128> {
        (0..=self.n).flat_map(move |m| (0..=self.k).map(move |j| self.count(m, j)))
    }

    /// The number of a vector.
    ///
    /// # Panics
    ///
    /// If it is none of the pyramid's.
    pub fn number(self, vector: &[i8]) -> u128 {
        assert_eq!(vector.len(), self.n);
        let (mut number, mut left) = (0, self.k);
        for (i, value) in vector.iter().enumerate() {
            let (rest, size) = (self.n - i - 1, usize::from(value.unsigned_abs()));
            if size > 0 {
                number += self.count(rest, left);
                for smaller in 1..size {
                    number += 2 * self.count(rest, left - smaller);
                }
                if *value < 0 {
                    number += self.count(rest, left - size);
                }
            }
            left -= size;
        }
        assert_eq!(left, 0, "{vector:?}");
        number
    }

    /// The vector of a number; false if it is none's.
    pub fn vector(self, mut number: u128, vector: &mut [i8]) -> bool {
        assert_eq!(vector.len(), self.n);
        if number >= self.count(self.n, self.k) {
            return false;
        }
        let mut left = self.k;
        for (i, value) in vector.iter_mut().enumerate() {
            let rest = self.n - i - 1;
            *value = 0;
            let mut here = self.count(rest, left);
            while number >= here {
                number -= here;
                // After a number above 0 its negative, and after that the next.
                *value = if *value > 0 { -*value } else { 1 - *value };
                here = self.count(rest, left - usize::from(value.unsigned_abs()));
            }
            left -= usize::from(value.unsigned_abs());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{BITS, MOST, Pyramid};
    use crate::random;

    /// Every vector of `n` integers whose magnitudes add up to `k`, in the order of their numbers.
    fn all(n: usize, k: i32) -> Vec<Vec<i8>> {
        if n == 0 {
            return if k == 0 { vec![Vec::new()] } else { Vec::new() };
        }
        let firsts = std::iter::once(0).chain((1..=k).flat_map(|v| [v, -v]));
        let of = |first: i32| {
            let rest = all(n - 1, k - first.abs());
            rest.into_iter().map(move |rest| [vec![first as i8], rest].concat())
        };
        firsts.flat_map(of).collect()
    }

    #[test]
    fn numbers_are_those_of_the_definition() {
        for n in 1..=5 {
            for k in 1..=6 {
                let pyramid = Pyramid::new(n, k).unwrap();
                let expected = all(n, k as i32);
                assert_eq!(pyramid.count(n, k), expected.len() as u128);
                let mut found = vec![9; n];
                for (number, vector) in expected.iter().enumerate() {
                    assert_eq!(pyramid.number(vector), number as u128, "{vector:?}");
                    assert!(pyramid.vector(number as u128, &mut found));
                    assert_eq!(&found, vector);
                }
                assert!(!pyramid.vector(expected.len() as u128, &mut found));
                assert!(!pyramid.vector(u128::MAX, &mut found));
            }
        }
    }

    #[test]
    fn long_vectors_come_back() {
        // Counts that are known: Fischer's V(16, 5), and those of two numbers, 4 K.
        assert_eq!(Pyramid::new(2, 100).unwrap().count(2, 100), 400);
        assert_eq!(Pyramid::new(3, 2).unwrap().count(3, 2), 18);
        for (n, k) in [(32, 64), (64, 30), (16, 127), (4, 127), (1, 127)] {
            let pyramid = Pyramid::new(n, k).unwrap();
            let mut vector = vec![0; n];
            for i in 0..200 {
                let wide =
                    u128::from(random::number(i, 0)) << 64 | u128::from(random::number(i, 1));
                let number = wide % pyramid.count(n, k);
                assert!(pyramid.vector(number, &mut vector));
                let sum: usize = vector.iter().map(|v| usize::from(v.unsigned_abs())).sum();
                assert_eq!((sum, pyramid.number(&vector)), (k, number));
            }
        }
    }

    #[test]
    fn what_is_too_large_is_none() {
        assert!(Pyramid::new(0, 3).is_none() && Pyramid::new(3, 0).is_none());
        assert!(Pyramid::new(MOST.0 + 1, 3).is_none() && Pyramid::new(3, MOST.1 + 1).is_none());
        assert!(Pyramid::new(64, 127).is_none());
        let widest = (1..=MOST.1).filter_map(|k| Pyramid::new(64, k)).next_back().unwrap();
        assert!((BITS - 4..=BITS).contains(&widest.bits()), "{}", widest.bits());
    }
}
