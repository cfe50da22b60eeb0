//! Mean pooling: worked example, agreement with f64, refusals.

use crate::support::{
    CPU, assert_all_within, backends, check_op, edges, matrix_f32, noise, tiny_gpu,
};
use tersor::{
    DType, Error, Tensor,
    crosscheck::{Data, Input},
    kernels::masked_mean,
};

#[test]
fn worked_example() {
    // Padding may hold anything; a sequence of one row is that row; an empty one gives zeros.
    let x = [1.0, 2.0, 4.0, 8.0, f32::NAN, 1e30, 5.0, 6.0, f32::NAN, 7.0, 8.0, f32::INFINITY];
    let x = [&x[..], &[f32::NAN; 6]].concat();
    for on in backends() {
        let x = Tensor::from_f32(on, &x, 9).unwrap();
        let means = masked_mean(on, &x, &[2, 1, 0]).unwrap();
        assert_eq!((means.rows(), means.cols()), (3, 2));
        assert_eq!(means.read_f32(on).unwrap(), [2.5, 5.0, 5.0, 6.0, 0.0, 0.0], "{}", on.name());
    }
}

#[test]
fn within_bounds_of_f64() {
    for cols in edges(16) {
        for (rows, lengths) in [
            (1, vec![1]),
            (15, vec![15, 14, 0]),
            (16, vec![16, 1]),
            (17, vec![17, 16, 15]),
            (300, vec![300]),
        ] {
            for offset in [0.0, 1000.0] {
                let x: Vec<f32> = noise(cols as u64, lengths.len() * rows * cols)
                    .iter()
                    .map(|x| x + offset)
                    .collect();
                let input = Input::new()
                    .with("x", Data::f32((lengths.len() * rows, cols), &x))
                    .with("lengths", Data::u32((lengths.len(), 1), lengths.clone()));
                check_op((rows, cols, &lengths), "masked_mean", &input);
            }
        }
    }
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    let x = noise(7, 70_000);
    let expected: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    assert_all_within(
        &"70,000 sequences of one row",
        &expected,
        |_| 0.0,
        |on| masked_mean(on, &matrix_f32(on, &x, (70_000, 1)), &[1; 70_000]),
    );
    for on in backends().chain(tiny_gpu()) {
        let run = |shape, lengths: &[u32]| {
            let means = masked_mean(on, &matrix_f32(on, &[], shape), lengths).unwrap();
            (means.rows(), means.cols(), means.read(on).unwrap())
        };
        assert_eq!(run((0, 3), &[]), (0, 3, vec![]));
        assert_eq!(run((4, 0), &[1, 2]), (2, 0, vec![]));
        assert_eq!(run((0, 2), &[0, 0]), (2, 2, vec![0; 4]), "{}", on.name());
    }
}

#[test]
fn refuses_lengths_that_do_not_fit() {
    let x = Tensor::from_f32(&CPU, &[1.0; 12], 6).unwrap();
    let refused = |x: &Tensor, lengths: &[u32]| match masked_mean(&CPU, x, lengths) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&x, &[3, 4]), "lengths");
    assert_eq!(refused(&x, &[1; 4]), "rows");
    assert_eq!(refused(&x, &[]), "rows");
    let halves = Tensor::new(&CPU, DType::F16, 2, 2, vec![0; 2]).unwrap();
    assert_eq!(refused(&halves, &[1]), "x");
}
