//! Thresholds of rows: worked example, against sorting, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{Error, Tensor, kernels::row_threshold, prune::Limit};

#[test]
fn worked_example() {
    let weights = [1.0, -3.0, 2.0, 2.0, 2.0, 0.0, 0.0, -0.0, 0.0, 0.0];
    for on in backends() {
        let limits = row_threshold(on, &Tensor::from_f32(on, &weights, 2).unwrap(), 3).unwrap();
        let limit =
            |threshold: f32, ties_before| Limit { threshold: threshold.to_bits(), ties_before };
        assert_eq!(limits, [limit(2.0, 4), limit(0.0, 3)], "{}", on.name());
    }
}

#[test]
fn a_limit_keeps_exactly_so_many() {
    for dtype in WEIGHTS {
        for cols in edges(256) {
            let values: Vec<f32> = noise(4, 3 * cols).iter().map(|x| (x * 5.0).round()).collect();
            for keep in [1, cols / 3, cols] {
                if keep == 0 {
                    continue;
                }
                let limits = row_threshold(&CPU, &matrix(&CPU, dtype, &values, 3), keep).unwrap();
                for (row, limit) in values.chunks(cols).zip(&limits) {
                    let kept = row.iter().enumerate().filter(|(c, v)| {
                        let m = v.to_bits() & 0x7fff_ffff;
                        m > limit.threshold
                            || m == limit.threshold && (*c as u64) < limit.ties_before
                    });
                    assert_eq!(kept.count(), keep, "{dtype:?}, {cols} columns");
                }
                cross_check((dtype, cols, keep), |on| {
                    row_threshold(on, &matrix(on, dtype, &values, 3), keep)
                });
            }
        }
    }
}

#[test]
fn refuses_to_keep_nothing_or_too_much() {
    let w = Tensor::from_f32(&CPU, &[1.0; 4], 1).unwrap();
    for keep in [0, 5] {
        assert!(matches!(row_threshold(&CPU, &w, keep), Err(Error::Shape { what: "keep", .. })));
    }
}
