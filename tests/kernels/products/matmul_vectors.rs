//! Products with weights of codes of vectors: worked example, agreement, refusal.

use crate::{
    products::product::{PATHS, check, check_bits},
    support::{CPU, backends},
    vectors::numbers,
};
use std::sync::Arc;
use tersor::{
    Backend, DType, Error, Result, Tensor,
    affine::Scale,
    kernels::{
        Activation, Entries, Groups, VectorCodes, VectorMatrix, dequantize_vectors, matmul_vectors,
    },
};

fn scale(scale: f32) -> Scale {
    Scale { scale, zero_point: 0 }
}

#[test]
fn worked_example() {
    for on in backends() {
        let entries = Arc::new(Entries { dim: 2, k: 3, values: vec![1, 2, 3, 4, 5, 6] });
        // Entries 0, 2 and 1, 3, which is beyond the codebook and takes the last.
        let codes = Tensor::new(on, DType::U32, 2, 1, vec![0b10_00, 0b11_01]).unwrap();
        let scales = [scale(1.0), scale(0.5)];
        let w = VectorMatrix::of_codes(on, codes, 4, (entries, 1), 4, &scales).unwrap();
        assert_eq!(w.bytes(), 2 * 4 + 2 * 4 + 3 * 4);
        let x = Tensor::from_f32(on, &[1.0, 0.0, -1.0, 2.0], 1).unwrap();
        let bias = Tensor::from_f32(on, &[0.25, -9.0], 1).unwrap();
        let y = matmul_vectors(on, &x, &w, Some(&bias), Activation::None).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [8.25, -4.0], "{}", on.name());
        let y = matmul_vectors(on, &x, &w, Some(&bias), Activation::Relu).unwrap();
        assert_eq!(y.read_f32(on).unwrap(), [8.25, 0.0], "{}", on.name());
    }
}

/// Codebooks of one shape with codes of `outputs` rows, and their scales.
struct Coded {
    entries: Arc<Entries>,
    stages: usize,
    cols: usize,
    outputs: usize,
    packed: Vec<u32>,
    group: usize,
    scales: Vec<Scale>,
}

impl Coded {
    fn new(
        (dim, k, spaces, stages): (usize, usize, usize, usize),
        (outputs, cols): (usize, usize),
        group: usize,
    ) -> Self {
        let values = numbers(k as u64, spaces * stages * k * dim, 2047);
        let entries = Arc::new(Entries { dim, k, values });
        let words = VectorCodes { entries: &entries, stages }.packing().words(cols);
        let packed = (0..(outputs * words) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let count = (outputs * cols).div_ceil(group);
        let scales = (0..count).map(|g| scale(1.0 / (2000.0 + g as f32))).collect();
        Self { entries, stages, cols, outputs, packed, group, scales }
    }

    fn codes(&self, on: &Backend) -> Result<Tensor> {
        let words = self.packed.len() / self.outputs;
        Tensor::new(on, DType::U32, self.outputs, words, self.packed.clone())
    }

    fn matrix(&self, on: &Backend) -> Result<VectorMatrix> {
        let books = (self.entries.clone(), self.stages);
        VectorMatrix::of_codes(on, self.codes(on)?, self.cols, books, self.group, &self.scales)
    }

    fn restored(&self) -> Vec<f32> {
        let book = VectorCodes { entries: &self.entries, stages: self.stages };
        let (codes, groups) = (self.codes(&CPU).unwrap(), Groups::of(self.group));
        let w = dequantize_vectors(&CPU, &codes, self.cols, book, groups, &self.scales, DType::F32);
        w.unwrap().read_f32(&CPU).unwrap()
    }
}

#[test]
fn agrees_with_f64_on_every_path() {
    for (turn, of) in
        [(1, 16, 1, 1), (2, 5, 1, 2), (4, 256, 1, 1), (8, 300, 1, 1), (16, 16, 1, 3), (4, 9, 2, 1)]
            .into_iter()
            .enumerate()
    {
        for (rows, cols) in PATHS {
            // Whole vectors of every sub-space.
            let cols = cols.next_multiple_of(of.0 * of.2);
            for group in [cols, 70 * cols, of.0] {
                let coded = Coded::new(of, (70 - turn, cols), group);
                let group = if group > cols { (70 - turn) * cols } else { group };
                let coded = Coded { group, ..coded };
                let w: Vec<f64> = coded.restored().into_iter().map(f64::from).collect();
                check((of, group), (rows, cols, 70 - turn), &w, |on, x, bias, activation| {
                    matmul_vectors(on, x, &coded.matrix(on)?, bias, activation)
                });
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_machine_or_rows() {
    for (rows, cols, outputs) in [(1, 264, 65), (33, 264, 65)] {
        let coded = Coded::new((8, 50, 1, 2), (outputs, cols), cols);
        check_bits((rows, cols, outputs), &coded.restored(), |x| {
            matmul_vectors(&CPU, x, &coded.matrix(&CPU)?, None, Activation::None)
        });
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |stages, group, scales: usize, cols| {
        let entries = Arc::new(Entries { dim: 2, k: 4, values: vec![0; 8] });
        let codes = Tensor::new(&CPU, DType::U32, 2, 1, vec![0; 2]).unwrap();
        let scales = vec![scale(1.0); scales];
        match VectorMatrix::of_codes(&CPU, codes, cols, (entries, stages), group, &scales) {
            Err(Error::Shape { kernel: "matmul_vectors", what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(2, 4, 2, 4), "stages");
    assert_eq!(refused(1, 3, 2, 4), "group");
    assert_eq!(refused(1, 4, 1, 4), "scales");
    assert_eq!(refused(1, 4, 2, 5), "cols");
    assert_eq!(refused(1, 4, 2, 40), "words per row");
}
