//! Masks by threshold: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    Error, Tensor,
    kernels::{Groups, magnitude_mask},
    prune::Limit,
};

fn limit(threshold: f32, ties_before: u64) -> Limit {
    Limit { threshold: threshold.to_bits(), ties_before }
}

#[test]
fn worked_example() {
    // Signs do not matter; of the four weights on the threshold the two before element 3 stay.
    let weights = [2.0, -1.0, 1.0, 1.0, -1.0, 0.5, -3.0, 0.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 1).unwrap();
        let mask = |limits: &[Limit], size| {
            magnitude_mask(on, &w, Groups::of(size), limits).unwrap().read(on).unwrap()[0]
        };
        assert_eq!(mask(&[limit(1.0, 3)], 8), 0b0100_0111, "{}", on.name());
        assert_eq!(mask(&[Limit::ALL], 8), 0xff, "{}", on.name());
        assert_eq!(mask(&[Limit::NONE], 8), 0, "{}", on.name());
        // Two groups; `ties_before` counts from the start of the tile.
        assert_eq!(mask(&[limit(2.0, 8), limit(0.5, 5)], 4), 0b0101_0001, "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for cols in edges(64) {
            let values: Vec<f32> = noise(4, 3 * cols).iter().map(|x| (x * 4.0).round()).collect();
            for groups in [Groups::of(cols), Groups { size: 4 * cols, before: cols }] {
                let count = groups.count(3 * cols);
                let limits: Vec<Limit> = (0..count)
                    .map(|g| limit(1.0 + g as f32, (g * cols + cols / 2) as u64))
                    .collect();
                cross_check((dtype, cols, groups), |on| {
                    magnitude_mask(on, &matrix(on, dtype, &values, 3), groups, &limits)?.read(on)
                });
            }
        }
    }
}

#[test]
fn refuses_missing_limits() {
    let w = Tensor::from_f32(&CPU, &[1.0; 4], 1).unwrap();
    let error = magnitude_mask(&CPU, &w, Groups::of(2), &[Limit::ALL]).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "limits", .. }));
}
