//! Sorting rows: worked example, against the standard library, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, gpu, matrix, noise};
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
        for cols in edges(256).into_iter().chain([4096]) {
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
fn refuses_what_are_no_weights_and_rows_too_long_for_a_workgroup() {
    let w = Tensor::new(&CPU, DType::I64, 1, 1, vec![0, 0]).unwrap();
    assert!(matches!(sort_rows(&CPU, &w), Err(Error::Shape { what: "dtype", .. })));
    if let Some(on) = gpu() {
        let w = matrix(on, DType::F32, &noise(1, 4097), 1);
        assert!(matches!(sort_rows(on, &w), Err(Error::Gpu { .. })));
    }
}
