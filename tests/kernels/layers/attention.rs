//! Attention: worked example, agreement with f64, padding, refusals.

use crate::support::{CPU, backends, check_op, check_op_on, gpu, matrix_f32, noise, tiny_gpu};
use std::fmt::Debug;
use tersor::{
    DType, Error, Tensor,
    crosscheck::{Data, Input},
    kernels::attention,
};

#[test]
fn worked_example() {
    // Two sequences of two rows, a head of four columns, 1 / sqrt(4) = 1/2. By hand: the first row asks for neither key and takes
    // the mean of the values; the second asks for the first key, e^(4 ln 2 / 2) : 1 = 4 : 1. The other sequence has one row, which
    // takes its own value, and padding, which becomes 0.
    let ln2 = std::f32::consts::LN_2;
    let q = [[0.0; 4], [1.0, 0.0, 0.0, 0.0], [-9.0; 4], [f32::NAN; 4]];
    let k = [[4.0 * ln2, 0.0, 0.0, 0.0], [0.0; 4], [3.0; 4], [f32::INFINITY; 4]];
    let v = [[10.0, 0.0, -5.0, 1.0], [0.0, 20.0, 5.0, 1.0], [1.0, 2.0, 3.0, 4.0], [f32::NAN; 4]];
    let expected = [[5.0, 10.0, 0.0, 1.0], [8.0, 4.0, -3.0, 1.0], [1.0, 2.0, 3.0, 4.0], [0.0; 4]];
    for on in backends() {
        let [q, k, v] = [&q, &k, &v].map(|m| Tensor::from_f32(on, m.as_flattened(), 4).unwrap());
        let y = attention(on, &q, &k, &v, 1, &[2, 1]).unwrap().read_f32(on).unwrap();
        for (y, expected) in y.iter().zip(expected.as_flattened()) {
            assert!((y - expected).abs() <= 1e-5, "{y} is not {expected} on {}", on.name());
        }
    }
}

/// Queries and keys are noise up to `reach`; what lies beyond the lengths is NaN.
fn case(rows: usize, heads: usize, width: usize, lengths: &[u32], reach: f32) -> Input {
    let cols = heads * width;
    let mut input = Input::new().set("heads", heads);
    for (seed, name) in [(1, "q"), (2, "k"), (3, "v")] {
        let scale = if name == "v" { 1.0 } else { reach };
        let mut values: Vec<f32> =
            noise(seed, lengths.len() * rows * cols).iter().map(|x| x * scale).collect();
        for (b, length) in lengths.iter().enumerate() {
            values[(b * rows + *length as usize) * cols..(b + 1) * rows * cols].fill(f32::NAN);
        }
        input = input.with(name, Data::f32((lengths.len() * rows, cols), &values));
    }
    input.with("lengths", Data::u32((lengths.len(), 1), lengths.to_vec()))
}

/// Many keys of noise on every backend. The bound holds for any numbers: all roundings of a result may go one way. Those of noise
/// do not, and leave about the square root of their number: of hundreds of roundings a tenth of the bound is enough.
fn check_noise(name: impl Debug, input: &Input) {
    backends().for_each(|on| check_op_on(on, &name, ("attention", 0.1), input));
}

#[test]
fn within_bounds_of_f64() {
    // Rows on either side of a block of queries and keys.
    for rows in [1, 2, 31, 32, 33, 65] {
        for (heads, width) in [(1, 4), (3, 8), (2, 32)] {
            let lengths = [rows as u32, rows as u32 / 2, 0, rows as u32 - 1, 1];
            check_op((rows, heads, width), "attention", &case(rows, heads, width, &lengths, 1.0));
        }
    }
    // Widths on either side of a slice of columns, and of a panel of the CPU.
    for width in [12, 16, 20, 28, 36, 60, 64, 68, 96, 100, 124, 128] {
        check_noise(width, &case(37, 2, width, &[37, 33], 1.0));
    }
}

#[test]
fn scores_of_any_size_and_order() {
    // Scores of hundreds: one key takes all, wherever it lies; the running maximum changes from block to block.
    for reach in [1e-3, 5.0, 12.0] {
        check_noise(reach, &case(100, 2, 32, &[100, 99], reach));
    }
    for rising in [true, false] {
        let place = |j: usize| (if rising { j } else { 130 - j }) as f32;
        let k: Vec<f32> = (0..130).flat_map(|j| [place(j), 0.0, 0.0, 0.0]).collect();
        let v = noise(3, 4 * 130);
        // A step between scores is 10: each weighs 22026 times as much as the one below it.
        let last = if rising { 129 } else { 0 };
        for on in backends() {
            let [q, k, v] = [&[20.0; 4 * 130], &k[..], &v].map(|m| matrix_f32(on, m, (130, 4)));
            let y = attention(on, &q, &k, &v, 1, &[130]).unwrap().read_f32(on).unwrap();
            let v = v.read_f32(on).unwrap();
            for (i, y) in y.iter().enumerate() {
                let expected = v[4 * last + i % 4];
                assert!((y - expected).abs() <= 2e-4, "{rising}, {i}: {y} on {}", on.name());
            }
        }
    }
}

#[test]
fn long_sequences() {
    check_noise("513 rows", &case(513, 1, 32, &[513], 1.5));
    check_noise("641 of 700 rows", &case(700, 1, 4, &[641], 1.5));
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    if gpu().is_some() {
        let lengths: Vec<u32> = (0..70_000).map(|b| b % 3).collect();
        check_op("70,000 sequences", "attention", &case(2, 1, 4, &lengths, 1.0));
    }
    if let Some(tiny) = tiny_gpu() {
        check_op_on(tiny, "folded in three", ("attention", 1.0), &case(3, 8, 4, &[3; 32], 1.0));
    }
    for on in backends() {
        let run = |shape, heads, lengths: &[u32]| {
            let x = matrix_f32(on, &[], shape);
            let y = attention(on, &x, &x, &x, heads, lengths).unwrap();
            (y.rows(), y.cols(), y.read(on).unwrap())
        };
        assert_eq!(run((0, 8), 2, &[]), (0, 8, vec![]));
        assert_eq!(run((0, 8), 2, &[0, 0]), (0, 8, vec![]));
        assert_eq!(run((4, 0), 2, &[2, 1]), (4, 0, vec![]), "{}", on.name());
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let x = Tensor::from_f32(&CPU, &[1.0; 48], 4).unwrap();
    let short = Tensor::from_f32(&CPU, &[1.0; 36], 3).unwrap();
    let halves = Tensor::new(&CPU, DType::F16, 4, 12, vec![0; 24]).unwrap();
    let wide = Tensor::from_f32(&CPU, &[1.0; 264], 2).unwrap();
    let refused = |q, k, v, heads, lengths: &[u32]| match attention(&CPU, q, k, v, heads, lengths) {
        Err(Error::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&halves, &x, &x, 1, &[4]), "q");
    assert_eq!(refused(&x, &short, &x, 1, &[4]), "k");
    assert_eq!(refused(&x, &x, &short, 1, &[4]), "v");
    assert_eq!(refused(&x, &x, &x, 1, &[3, 0, 0]), "rows");
    assert_eq!(refused(&x, &x, &x, 1, &[2, 3]), "lengths");
    for heads in [0, 2, 4, 5, 12] {
        assert_eq!(refused(&x, &x, &x, heads, &[4]), "heads", "{heads}");
    }
    assert_eq!(refused(&wide, &wide, &wide, 1, &[2]), "heads");
}
