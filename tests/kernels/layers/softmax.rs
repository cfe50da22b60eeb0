//! Softmax of rows: worked example, agreement with f64, refusal.

use crate::support::{
    CPU, assert_all_within, backends, check_op, check_op_on, edges, matrix_f32, noise, tiny_gpu,
};
use tersor::{
    DType, Error, Tensor,
    crosscheck::{Data, Input},
    kernels::softmax,
};

const INFINITE: f32 = f32::INFINITY;

#[test]
fn worked_example() {
    // By hand: equal values, also the lowest there are, share alike; what is far below the highest is 0.
    let x = [
        [0.0, 0.0, 0.0, 0.0],
        [-1e30; 4],
        [-INFINITE; 4],
        [5.0, -INFINITE, 5.0, -1e30],
        [f32::MIN, f32::MAX, f32::MIN, -0.0],
        [7.0, 7.0, -80.0, -81.0],
    ];
    let quarter = [0.25; 4];
    let half = [0.5, 0.0, 0.5, 0.0];
    let expected = [quarter, quarter, quarter, half, [0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]];
    for on in backends() {
        let x = Tensor::from_f32(on, x.as_flattened(), 6).unwrap();
        let y = softmax(on, &x).unwrap().read_f32(on).unwrap();
        for (y, expected) in y.iter().zip(expected.as_flattened()) {
            assert!((y - expected).abs() <= 1e-6 * expected, "{y} is not {expected}: {y:?}");
        }
        let one = Tensor::from_f32(on, &[-3.0, 1e9], 2).unwrap();
        let y = softmax(on, &one).unwrap().read_f32(on).unwrap();
        assert!(y.iter().all(|y| (y - 1.0).abs() <= 1e-6), "{y:?}");
    }
}

fn case(x: &[f32], cols: usize) -> Input {
    Input::new().with("x", Data::f32((x.len() / cols, cols), x))
}

#[test]
fn within_bounds_of_f64() {
    let mut widths = edges(256).to_vec();
    widths.extend([3, 4, 5, 7, 8, 9, 100, 128, 129, 512, 1023, 1024, 1025, 5000]);
    for cols in widths {
        for (scale, offset) in [(1.0, 0.0), (30.0, 1000.0), (200.0, -5.0)] {
            for rows in [1, 3, 70] {
                let x: Vec<f32> = noise(cols as u64, rows.min(70_000 / cols + 1) * cols)
                    .iter()
                    .map(|x| x * scale + offset)
                    .collect();
                check_op((cols, scale, rows), "softmax", &case(&x, cols));
            }
        }
    }
}

#[test]
fn the_highest_is_found_wherever_it_lies() {
    // A row for every place; by hand: 1 there, 0 elsewhere.
    let cols = 300;
    let x: Vec<f32> =
        (0..cols * cols).map(|i| if i % (cols + 1) == 0 { 200.0 } else { 0.0 }).collect();
    let y: Vec<f64> = x.iter().map(|x| f64::from(x.min(1.0))).collect();
    assert_all_within(
        &"peaks",
        &y,
        |i| 1e-6 * y[i],
        |on| softmax(on, &matrix_f32(on, &x, (cols, cols))),
    );
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    if let Some(tiny) = tiny_gpu() {
        // Eight workgroups of two rows, the last half empty, where one dimension has seven.
        check_op_on(tiny, "folded", ("softmax", 1.0), &case(&noise(8, 15 * 257), 257));
    }
    for on in backends() {
        for shape in [(0, 3), (3, 0)] {
            let y = softmax(on, &matrix_f32(on, &[], shape)).unwrap();
            assert_eq!(((y.rows(), y.cols()), y.read(on).unwrap()), (shape, vec![]));
        }
    }
}

#[test]
fn refuses_other_types() {
    let x = Tensor::new(&CPU, DType::F16, 1, 2, vec![0]).unwrap();
    assert!(matches!(softmax(&CPU, &x), Err(Error::Shape { what: "x", .. })));
}
