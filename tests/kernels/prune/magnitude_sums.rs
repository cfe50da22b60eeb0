//! Integer norms of blocks: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    Error, Tensor,
    kernels::{BlockGrid, magnitude_sums},
    recipe::Norm,
};

fn grid(rows: usize, cols: usize, row0: usize, col0: usize) -> BlockGrid {
    BlockGrid { rows, cols, row0, col0 }
}

#[test]
fn worked_example() {
    // 2 x 2 blocks over 3 x 3: ragged at both ends. Halves round to even: 0.5 to 0, 1.5 to 2.
    let weights = [1.0, -2.0, 3.0, 0.5, 1.5, -1.0, 4.0, 0.0, 5.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 3).unwrap();
        let sums = |g, norm| magnitude_sums(on, &w, g, norm, &[1.0]).unwrap();
        assert_eq!(sums(grid(2, 2, 0, 0), Norm::L1), [5, 4, 4, 5], "{}", on.name());
        assert_eq!(sums(grid(2, 2, 0, 0), Norm::L2), [9, 10, 16, 25], "{}", on.name());
        assert_eq!(sums(grid(1, 3, 0, 0), Norm::L1), [6, 3, 9], "{}", on.name());
        // A tile that starts one row and one column into a block.
        assert_eq!(sums(grid(2, 2, 1, 1), Norm::L1), [1, 5, 4, 8], "{}", on.name());
        // An inverse for every row of blocks.
        let sums = magnitude_sums(on, &w, grid(2, 2, 0, 0), Norm::L1, &[10.0, 2.0]).unwrap();
        assert_eq!(sums, [50, 40, 8, 10], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for cols in edges(64) {
            let values = noise(4, 5 * cols);
            for g in
                [grid(1, cols, 0, 0), grid(2, 3, 1, 2), grid(4, 16, 0, 5), grid(9, 4 * cols, 3, 1)]
            {
                for norm in [Norm::L1, Norm::L2] {
                    cross_check((dtype, cols, g, norm), |on| {
                        magnitude_sums(on, &matrix(on, dtype, &values, 5), g, norm, &[32767.0])
                    });
                }
            }
        }
    }
}

#[test]
fn gpu_agrees_with_an_inverse_for_every_row_of_blocks() {
    let inverses: Vec<f32> = noise(5, 70).iter().map(|v| v.abs() * 1000.0).collect();
    let values = noise(6, 70 * 33);
    for g in [grid(1, 33, 0, 0), grid(1, 7, 0, 3), grid(3, 5, 2, 1)] {
        cross_check(g, |on| {
            let w = Tensor::from_f32(on, &values, 70)?;
            magnitude_sums(on, &w, g, Norm::L1, &inverses[..g.count(70, 33).0])
        });
    }
}

#[test]
fn sums_pass_32_bits() {
    let values = vec![1.0; 20_000];
    for on in backends() {
        let w = Tensor::from_f32(on, &values, 1).unwrap();
        let sums = magnitude_sums(on, &w, grid(1, 20_000, 0, 0), Norm::L2, &[32767.0]).unwrap();
        assert_eq!(sums, [20_000 * 32767 * 32767], "{}", on.name());
    }
}

#[test]
fn refuses_empty_blocks_and_wrong_numbers_of_inverses() {
    let w = Tensor::from_f32(&CPU, &[1.0; 4], 1).unwrap();
    for inverses in [&[][..], &[1.0; 2], &[1.0; 4]] {
        let error = magnitude_sums(&CPU, &w, grid(1, 2, 0, 0), Norm::L1, inverses).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "inverses", .. }));
    }
    let error = magnitude_sums(&CPU, &w, grid(0, 1, 0, 0), Norm::L1, &[1.0]).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "grid", .. }));
}
