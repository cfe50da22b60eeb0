//! Sorting rows: worked example, against the standard library, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise, tiny_gpu};
use tersor::{
    DType, Error, Tensor,
    kernels::{order_key, sort_rows},
};

#[test]
fn worked_example() {
    let weights = [1.0, -3.0, 0.0, -0.0, 5.0, 5.0];
    for on in backends() {
        let sorted =
            sort_rows(on, &Tensor::from_f32(on, &weights, 2).unwrap()).unwrap().read(on).unwrap();
        let expected = [-3.0, 0.0, 1.0, -0.0, 5.0, 5.0].map(order_key::of_f32);
        assert_eq!(sorted, expected, "{}", on.name());
    }
}

#[test]
fn rows_are_sorted_and_the_gpu_agrees() {
    for dtype in WEIGHTS {
        for cols in edges(256).into_iter().chain([4095, 4096, 4097, 8192, 8193, 11_008]) {
            let values = noise(11, 3 * cols);
            let w = matrix(&CPU, dtype, &values, 3);
            let sorted = sort_rows(&CPU, &w).unwrap().read(&CPU).unwrap();
            for (row, sorted) in w.read_f32(&CPU).unwrap().chunks(cols).zip(sorted.chunks(cols)) {
                let mut expected: Vec<u32> = row.iter().map(|v| order_key::of_f32(*v)).collect();
                expected.sort_unstable();
                assert_eq!(sorted, expected, "{dtype:?}, {cols} columns");
            }
            cross_check((dtype, cols), |on| {
                sort_rows(on, &matrix(on, dtype, &values, 3))?.read(on)
            });
        }
    }
}

#[test]
fn long_rows_are_merged_from_runs() {
    // An odd number of runs, and one of a single weight; many ties.
    for cols in [3 * 4096, 5 * 4096 + 1, 100_003] {
        let values: Vec<f32> = noise(5, cols).iter().map(|x| (x * 300.0).round()).collect();
        cross_check(cols, |on| sort_rows(on, &matrix(on, DType::BF16, &values, 1))?.read(on));
    }
}

#[test]
fn a_tiny_device_sorts_what_fits_a_binding() {
    let Some(tiny) = tiny_gpu() else { return };
    let sorted = |on, cols| sort_rows(on, &matrix(on, DType::BF16, &noise(4, cols), 1))?.read(on);
    assert_eq!(sorted(tiny, 4096).unwrap(), sorted(&CPU, 4096).unwrap());
    assert!(matches!(sorted(tiny, 4097), Err(Error::Gpu { .. })), "its keys fit no binding");
}

#[test]
fn refuses_what_are_no_weights() {
    let w = Tensor::new(&CPU, DType::I64, 1, 1, vec![0, 0]).unwrap();
    assert!(matches!(sort_rows(&CPU, &w), Err(Error::Shape { what: "dtype", .. })));
}
