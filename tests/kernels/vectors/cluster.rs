//! k-means over vectors: the same everywhere, an error that never rises, quality, and what is odd.

use crate::{
    support::{CPU, backends, cross_check, splitmix64},
    vectors::numbers,
};
use std::time::Duration;
use tersor::{
    Backend, Cancel, Error, Result, Tensor,
    cluster::{self, Clusters, Search},
    kernels::points_of,
};

/// With nobody who stops it.
fn cluster(on: &Backend, points: &Tensor, weights: &[u32], search: Search) -> Result<Clusters> {
    cluster::cluster(on, points, weights, search, &Cancel::new())
}

fn search(dim: usize, k: usize) -> Search {
    Search { dim, books: 1, k, rounds: 25, seed: 0 }
}

/// The error of what was found, from its labels, in the plainest words.
fn error_of(found: &Clusters, points: &[i16], weights: &[u32]) -> u128 {
    let (dim, books) = (found.entries.dim, found.entries.books());
    let of = |(v, x): (usize, &[i16])| -> u128 {
        let entry = &found.entries.book(v % books)[found.labels[v] as usize * dim..][..dim];
        let square: i64 =
            x.iter().zip(entry).map(|(x, c)| (i64::from(*x) - i64::from(*c)).pow(2)).sum();
        square as u128 * weights.get(v).map_or(1, |w| u128::from(*w))
    };
    points.chunks_exact(dim).enumerate().map(of).sum()
}

#[test]
fn the_same_everywhere_and_the_error_never_rises() {
    for (dim, books, k, n) in [(1, 1, 5, 300), (2, 3, 16, 900), (3, 1, 40, 1000), (8, 2, 33, 700)] {
        let points = numbers(dim as u64, n * dim, 2047);
        let weights: Vec<u32> =
            splitmix64(5).map(|z| (z % 7) as u32 * (z % 1000) as u32).take(n).collect();
        for weights in [&[][..], &weights] {
            let search = Search { books, ..search(dim, k) };
            let mut found = cross_check((dim, books, k), |on| {
                let found = cluster(on, &points_of(on, &points, dim)?, weights, search)?;
                Ok(vec![(found.entries, found.labels, found.errors)])
            });
            let found = found.remove(0);
            let found = Clusters {
                entries: found.0,
                labels: found.1,
                error: *found.2.last().unwrap(),
                errors: found.2,
            };
            assert_eq!(found.entries.k, k);
            assert!(found.errors.len() > 2, "{:?}", found.errors);
            assert!(found.errors.windows(2).all(|pair| pair[1] <= pair[0]), "{:?}", found.errors);
            assert_eq!(found.error, error_of(&found, &points, weights));
        }
    }
}

/// Another number of threads.
#[test]
fn threads_do_not_matter() {
    let points = numbers(3, 40_000, 2047);
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| cluster(&CPU, &points_of(&CPU, &points, 2).unwrap(), &[], search(2, 64)))
    };
    let (one, three) = (of(1).unwrap(), of(3).unwrap());
    assert_eq!(one.entries, three.entries);
    assert_eq!((one.labels, one.errors), (three.labels, three.errors));
}

/// Normally distributed numbers, by twelve uniform ones would be too flat: by Box and Muller.
fn normal(n: usize) -> Vec<f64> {
    let mut uniform = splitmix64(11).map(|z| ((z >> 11) as f64 + 0.5) / (1u64 << 53) as f64);
    let mut pair = || {
        let (a, b) = (uniform.next().unwrap(), uniform.next().unwrap());
        let (r, angle) = (libm::sqrt(-2.0 * libm::log(a)), 2.0 * std::f64::consts::PI * b);
        [r * libm::cos(angle), r * libm::sin(angle)]
    };
    (0..n / 2).flat_map(|_| pair()).collect()
}

#[test]
fn four_numbers_of_a_normal_distribution_at_two_bits() {
    // faiss has 0.0965 after as many rounds; one number at a time has 0.1175 at best.
    let values = normal(1 << 20);
    let unit = 2047.0 / values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let points: Vec<i16> = values.iter().map(|v| (v * unit).round() as i16).collect();
    let found = cluster(&CPU, &points_of(&CPU, &points, 4).unwrap(), &[], search(4, 256)).unwrap();
    let error = found.error as f64 / unit / unit / values.len() as f64;
    assert!((0.0940..=0.0966).contains(&error), "{error}");
}

#[test]
fn fewer_distinct_vectors_than_entries() {
    for on in backends() {
        let points = [3, 3, 3, 3, -7, 0, 3, 3, -7, 0];
        let points = points_of(on, &points, 2).unwrap();
        let found = cluster(on, &points, &[], search(2, 16)).unwrap();
        assert_eq!((found.entries.k, found.error), (2, 0));
        // Those that count for nothing take no entry.
        let found = cluster(on, &points, &[1, 1, 0, 1, 0], search(2, 16)).unwrap();
        assert_eq!(found.entries.values, [3, 3]);
        // Many vectors, of which few are distinct and one is rare: a sample does not find it.
        let mut many = vec![5; 400_000];
        many[123_456] = -1;
        let many = points_of(on, &many, 1).unwrap();
        let found = cluster(on, &many, &[], search(1, 8)).unwrap();
        assert_eq!((found.entries.k, found.error), (2, 0), "{}", on.name());
    }
}

#[test]
fn weights_draw_entries_towards_them() {
    // One entry: the mean, rounded to the nearest.
    let points = points_of(&CPU, &[0, 10], 1).unwrap();
    let one =
        |weights: &[u32]| cluster(&CPU, &points, weights, search(1, 1)).unwrap().entries.values[0];
    assert_eq!([one(&[]), one(&[1, 3]), one(&[1, 0]), one(&[1, 1 << 31])], [5, 8, 0, 10]);
}

#[test]
fn the_seed_decides_where_the_search_starts() {
    let points = points_of(&CPU, &numbers(4, 600, 2047), 2).unwrap();
    let found = |seed| {
        let search = Search { rounds: 1, seed, ..search(2, 16) };
        cluster(&CPU, &points, &[], search).unwrap().entries
    };
    assert_eq!(found(1), found(1));
    assert_ne!(found(1), found(2));
}

#[test]
fn refuses_what_does_not_fit() {
    let points = points_of(&CPU, &[0; 6], 2).unwrap();
    let refused =
        |points: &Tensor, weights: &[u32], search| match cluster(&CPU, points, weights, search)
            .unwrap_err()
        {
            Error::Shape { kernel: "cluster", what, .. } => what,
            other => panic!("{other}"),
        };
    assert_eq!(refused(&points, &[], search(3, 2)), "dim");
    assert_eq!(refused(&points, &[], search(2, 0)), "k");
    assert_eq!(refused(&points, &[], search(2, 1 << 17)), "k");
    assert_eq!(refused(&points, &[], Search { books: 4, ..search(2, 2) }), "vectors");
    assert_eq!(refused(&points, &[1, 2], search(2, 2)), "weights");
    let many = points_of(&CPU, &[0; 40], 2).unwrap();
    assert_eq!(refused(&many, &[u32::MAX; 20], search(2, 2)), "weights");
    assert_eq!(refused(&points, &[0, 0, 0], search(2, 2)), "weights");
    assert_eq!(refused(&points, &[0, 1, 0], Search { books: 3, ..search(2, 2) }), "weights");
}

#[test]
fn stops_when_it_is_asked() {
    let points = points_of(&CPU, &numbers(9, 1 << 20, 2047), 8).unwrap();
    // Alone it takes many times as long, first to draw where it starts, then in rounds.
    let search = Search { rounds: 1000, ..search(8, 1 << 14) };
    for delay in [0, 500] {
        let cancel = Cancel::new();
        let found = std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(delay));
                cancel.raise(2);
            });
            cluster::cluster(&CPU, &points, &[], search, &cancel)
        });
        assert!(matches!(found, Err(Error::Interrupted(2))), "after {delay} ms");
    }
}
