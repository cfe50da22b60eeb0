//! Attention: worked example, agreement with f64, padding, refusals.

use crate::support::{
    CPU, assert_all_within, assert_within, backends, gpu, matrix_f32, noise, tiny_gpu,
};
use tersor::{Backend, DType, Error, Result, Tensor, kernels::attention};

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

/// A case, its result by definition, and the bound of each element.
#[derive(Debug)]
struct Case {
    rows: usize,
    heads: usize,
    lengths: Vec<u32>,
    matrices: [Vec<f32>; 3],
    expected: Vec<f64>,
    bounds: Vec<f64>,
}

impl Case {
    /// Queries and keys are noise up to `reach`; what lies beyond the lengths is NaN.
    fn new(rows: usize, heads: usize, width: usize, lengths: &[u32], reach: f32) -> Self {
        let cols = heads * width;
        let mut matrices = [1, 2, 3].map(|seed| {
            let scale = if seed == 3 { 1.0 } else { reach };
            noise(seed, lengths.len() * rows * cols).iter().map(|x| x * scale).collect::<Vec<_>>()
        });
        let at = |b: usize, row: usize, head: usize| (b * rows + row) * cols + head * width;
        for (b, length) in lengths.iter().enumerate() {
            for m in &mut matrices {
                m[at(b, *length as usize, 0)..at(b, rows, 0)].fill(f32::NAN);
            }
        }
        let [q, k, v] = &matrices;
        let mut expected = vec![0.0; q.len()];
        let mut bounds = vec![0.0; q.len()];
        let norm = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        for (b, length) in lengths.iter().enumerate() {
            let length = *length as usize;
            for head in 0..heads {
                for i in 0..length {
                    let query = &q[at(b, i, head)..][..width];
                    let keys = (0..length).map(|j| &k[at(b, j, head)..][..width]);
                    let scale = 1.0 / (width as f64).sqrt();
                    let dot = |key: &[f32]| -> f64 {
                        query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
                    };
                    let scores: Vec<f64> = keys.clone().map(|key| dot(key) * scale).collect();
                    let reach = norm(query) * keys.map(norm).fold(0.0, f64::max) * scale;
                    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                    let p: Vec<f64> = scores.iter().map(|s| libm::exp(s - highest)).collect();
                    let sum: f64 = p.iter().sum();
                    let units = 2.0 * (width as f64 + 18.0) * reach + length as f64 + 96.0;
                    for (j, p) in p.iter().enumerate() {
                        for c in 0..width {
                            let share = p / sum * f64::from(v[at(b, j, head) + c]);
                            expected[at(b, i, head) + c] += share;
                            bounds[at(b, i, head) + c] += 0.5f64.powi(24) * units * share.abs();
                        }
                    }
                }
            }
        }
        Self { rows, heads, lengths: lengths.to_vec(), matrices, expected, bounds }
    }

    fn run(&self, on: &Backend) -> Result<Tensor> {
        let rows = self.rows * self.lengths.len();
        let cols = self.matrices[0].len().checked_div(rows).unwrap_or(0);
        let [q, k, v] = self.matrices.each_ref().map(|m| matrix_f32(on, m, (rows, cols)));
        attention(on, &q, &k, &v, self.heads, &self.lengths)
    }

    fn check(&self, name: impl std::fmt::Debug) {
        assert_all_within(&name, &self.expected, |i| self.bounds[i], |on| self.run(on));
    }
}

#[test]
fn within_bounds_of_f64() {
    // Rows on either side of a block of queries and keys.
    for rows in [1, 2, 31, 32, 33, 65] {
        for (heads, width) in [(1, 4), (3, 8), (2, 32)] {
            let lengths = [rows as u32, rows as u32 / 2, 0, rows as u32 - 1, 1];
            Case::new(rows, heads, width, &lengths, 1.0).check((rows, heads, width));
        }
    }
    // Widths on either side of a slice of columns, and of a panel of the CPU.
    for width in [12, 16, 20, 28, 36, 60, 64, 68, 96, 100, 124, 128] {
        Case::new(37, 2, width, &[37, 33], 1.0).check(width);
    }
}

#[test]
fn scores_of_any_size_and_order() {
    // Scores of hundreds: one key takes all, wherever it lies; the running maximum changes from block to block.
    for reach in [1e-3, 5.0, 12.0] {
        Case::new(100, 2, 32, &[100, 99], reach).check(reach);
    }
    for rising in [true, false] {
        let mut case = Case::new(130, 1, 4, &[130], 1.0);
        let [q, k, _] = &mut case.matrices;
        for (j, key) in k.chunks_mut(4).enumerate() {
            let j = if rising { j } else { 130 - j };
            key.copy_from_slice(&[j as f32, 0.0, 0.0, 0.0]);
        }
        q.iter_mut().for_each(|q| *q = 20.0);
        // A step between scores is 10: each weighs 22026 times as much as the one below it.
        let last = if rising { 129 } else { 0 };
        for on in backends() {
            let y = case.run(on).unwrap().read_f32(on).unwrap();
            for (i, y) in y.iter().enumerate() {
                let expected = case.matrices[2][4 * last + i % 4];
                assert!((y - expected).abs() <= 2e-4, "{rising}, {i}: {y} on {}", on.name());
            }
        }
    }
}

#[test]
fn long_sequences() {
    Case::new(513, 1, 32, &[513], 1.5).check("513 rows");
    Case::new(700, 1, 4, &[641], 1.5).check("641 of 700 rows");
}

#[test]
fn folded_dispatch_and_nothing_at_all() {
    if gpu().is_some() {
        let lengths: Vec<u32> = (0..70_000).map(|b| b % 3).collect();
        Case::new(2, 1, 4, &lengths, 1.0).check("70,000 sequences");
    }
    if let Some(tiny) = tiny_gpu() {
        let case = Case::new(3, 8, 4, &[3; 32], 1.0);
        let got = case.run(tiny).unwrap().read_f32(tiny).unwrap();
        assert_within(&"folded in three", &case.expected, |i| case.bounds[i], &got);
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
