//! The nearest entry: worked example, agreement with distances in 64 bits, refusal.

use crate::{
    support::{CPU, backends, cross_check},
    vectors::numbers,
};
use tersor::{
    Error,
    kernels::{Entries, nearest, nearest_and_rest, points_of},
};

#[test]
fn worked_example() {
    for on in backends() {
        // Two codebooks, which take turns: (0, 0, 0), (4, 0, 0) and (0, 0, 9), (0, 9, 0).
        let points = [1, 0, 0, 0, 8, 1, 2, 0, 0, 2000, 2000, 2000];
        let points = points_of(on, &points, 3).unwrap();
        let entries = Entries { dim: 3, k: 2, values: vec![0, 0, 0, 4, 0, 0, 0, 0, 9, 0, 9, 0] };
        let (labels, rest) = nearest_and_rest(on, &points, &entries).unwrap();
        // (2, 0, 0) is as far from both, and so is (2000, 2000, 2000): the first takes them.
        assert_eq!(labels.read(on).unwrap(), [0, 1, 0, 0], "{}", on.name());
        let rest = rest.read(on).unwrap();
        let rest: &[i16] = bytemuck::cast_slice(&rest);
        let expected = [1, 0, 0, 0, 0, -1, 1, 0, 2, 0, 0, 0, 2000, 2000, 1991, 0];
        assert_eq!(rest, expected, "{}", on.name());
    }
}

/// What the formula says, in 64 bits.
fn plainly(points: &[i16], entries: &Entries) -> (Vec<u32>, Vec<i16>) {
    let (mut labels, mut rest) = (Vec::new(), Vec::new());
    for (v, x) in points.chunks_exact(entries.dim).enumerate() {
        let book = entries.book(v % entries.books());
        let distance = |e: &[i16]| -> i64 {
            e.iter().zip(x).map(|(c, x)| (i64::from(*x) - i64::from(*c)).pow(2)).sum()
        };
        let all: Vec<i64> = book.chunks_exact(entries.dim).map(distance).collect();
        let least = all.iter().min().unwrap();
        let label = all.iter().position(|d| d == least).unwrap();
        labels.push(label as u32);
        let entry = &book[label * entries.dim..][..entries.dim];
        rest.extend(x.iter().zip(entry).map(|(x, c)| (x - c).clamp(-2047, 2047)));
    }
    (labels, rest)
}

#[test]
fn agrees_with_distances_in_64_bits() {
    for dim in 1..=16 {
        for (n, k, books) in [(1, 1, 1), (70, 5, 1), (257, 16, 2), (600, 300, 3), (64, 1000, 1)] {
            for reach in [3, 2047] {
                let seed = (dim * 1000 + n + k) as u64;
                let points = numbers(seed, n * books * dim, reach);
                let values = numbers(!seed, books * k * dim, reach);
                let entries = Entries { dim, k, values };
                let (labels, rest) = plainly(&points, &entries);
                let found = cross_check((dim, n, k, books, reach), |on| {
                    let points = points_of(on, &points, dim)?;
                    let (labels, rest) = nearest_and_rest(on, &points, &entries)?;
                    let alone = nearest(on, &points, &entries)?.read(on)?;
                    assert_eq!(alone, labels.read(on)?, "{} {dim} {n} {k} {books}", on.name());
                    Ok([alone, rest.read(on)?].concat())
                });
                let (found, rest_words) = found.split_at(n * books);
                assert_eq!(found, labels, "{dim} {n} {k} {books} {reach}");
                let words: &[i16] = bytemuck::cast_slice(rest_words);
                let stride = dim.next_multiple_of(2);
                for (v, expected) in rest.chunks_exact(dim).enumerate() {
                    assert_eq!(&words[v * stride..][..dim], expected);
                    assert!(dim == stride || words[v * stride + dim] == 0);
                }
            }
        }
    }
}

#[test]
fn as_many_entries_as_there_may_be() {
    // More than one dispatch goes through: the first of equals is in the first, the nearest of others in the second.
    let mut values = numbers(1, 2 * 65_536, 1000);
    (values[0], values[1]) = (2000, 2000);
    (values[2 * 65_535], values[2 * 65_535 + 1]) = (-2000, -2000);
    (values[2 * 40_000], values[2 * 40_000 + 1]) = (2000, 2000);
    let entries = Entries { dim: 2, k: 65_536, values };
    let points = [2001, 2001, -2001, -2001, 0, 5];
    let labels =
        cross_check("65536", |on| nearest(on, &points_of(on, &points, 2)?, &entries)?.read(on));
    assert_eq!(labels, plainly(&points, &entries).0);
    assert_eq!(labels[..2], [0, 65_535]);
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |dim, k, values: Vec<i16>| {
        let points = points_of(&CPU, &[0; 6], 3).unwrap();
        match nearest(&CPU, &points, &Entries { dim, k, values }).unwrap_err() {
            Error::Shape { kernel: "nearest", what, .. } => what,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(0, 1, vec![0; 3]), "dim");
    assert_eq!(refused(17, 1, vec![0; 17]), "dim");
    assert_eq!(refused(3, 0, vec![]), "entries of a codebook");
    assert_eq!(refused(3, 2, vec![0; 3]), "numbers");
    assert_eq!(refused(3, 1, vec![]), "numbers");
    assert_eq!(refused(3, 1, vec![0, 2048, 0]), "a number");
    assert_eq!(refused(2, 1, vec![0; 2]), "points");
    let error = points_of(&CPU, &[0, -2048], 1).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "a number", .. }));
    assert!(matches!(points_of(&CPU, &[0; 5], 3).unwrap_err(), Error::Shape { what: "dim", .. }));
}
