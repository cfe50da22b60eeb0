//! N:M masks: worked example, oracle, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{DType, Error, Tensor, kernels::nm_mask};

#[test]
fn worked_example() {
    // Ties go to the lower index, signs do not matter, the remainder of three is kept, the next row starts afresh.
    let weights = [
        1.0, -3.0, 3.0, 2.0, 0.0, 0.0, -0.0, 0.0, 5.0, 0.0, 0.1, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0,
        -4.0, 9.0, 8.0, 7.0,
    ];
    for on in backends() {
        let mask = nm_mask(on, &Tensor::from_f32(on, &weights, 2).unwrap(), 2, 4).unwrap();
        assert_eq!(mask.read(on).unwrap(), [0b111_0011_0110, 0b111_0011_1100], "{}", on.name());
    }
}

#[test]
fn agrees_with_sorting_and_with_the_gpu() {
    for dtype in WEIGHTS {
        for (n, m) in [(1, 2), (2, 4), (1, 3), (4, 5), (7, 11), (2, 16), (15, 16)] {
            for cols in edges(64) {
                // Few distinct values, so that there are many ties.
                let values: Vec<f32> =
                    noise(m.into(), 3 * cols).iter().map(|x| (x * 6.0).round()).collect();
                let run = |on: &tersor::Backend| {
                    nm_mask(on, &matrix(on, dtype, &values, 3), n, m)?.read(on)
                };
                let got = run(&CPU).unwrap();
                let words = cols.div_ceil(32);
                for (r, row) in values.chunks(cols).enumerate() {
                    for (g, group) in row.chunks(m as usize).enumerate() {
                        let mut order: Vec<usize> = (0..group.len()).collect();
                        order.sort_by(|a, b| {
                            group[*b].abs().total_cmp(&group[*a].abs()).then(a.cmp(b))
                        });
                        let most = if group.len() < m as usize { group.len() } else { n as usize };
                        for k in 0..group.len() {
                            let c = g * m as usize + k;
                            let bit = got[r * words + c / 32] >> (c % 32) & 1;
                            assert_eq!(
                                bit == 1,
                                order[..most].contains(&k),
                                "{n}:{m}, row {r}, column {c}"
                            );
                        }
                    }
                }
                cross_check((dtype, n, m, cols), run);
            }
        }
    }
}

#[test]
fn refuses_impossible_patterns() {
    let w = Tensor::from_f32(&CPU, &[1.0; 8], 1).unwrap();
    for (n, m) in [(0, 4), (4, 4), (5, 4), (3, 17)] {
        assert!(matches!(nm_mask(&CPU, &w, n, m), Err(Error::Shape { what: "n:m", .. })));
    }
    let w = Tensor::new(&CPU, DType::U8, 1, 4, vec![0]).unwrap();
    assert!(matches!(nm_mask(&CPU, &w, 2, 4), Err(Error::Shape { what: "dtype", .. })));
}
