//! Weights from codes of vectors: worked example, agreement, refusal.

use crate::{
    support::{CPU, WEIGHTS, backends, cross_check},
    vectors::numbers,
};
use tersor::{
    DType, Error, Tensor,
    affine::Scale,
    kernels::{Entries, Groups, VectorCodes, dequantize_vectors},
};

fn scale(scale: f32) -> Scale {
    Scale { scale, zero_point: 0 }
}

#[test]
fn worked_example() {
    for on in backends() {
        // Two sub-spaces of two weights in two stages of three entries: of each vector two codes of two bits.
        let values =
            vec![0, 0, 10, 20, 30, 40, 1, 1, 2, 2, 3, 3, 0, 0, -10, 0, 0, -10, 5, 5, 6, 6, 7, 7];
        let entries = Entries { dim: 2, k: 3, values };
        let book = VectorCodes { entries: &entries, stages: 2 };
        assert_eq!(book.spaces(), 2);
        // Row 0: (1, 0), (2, 1). Row 1: (0, 3 and so the last), (1, 2).
        let codes = vec![0b01_10_00_01, 0b10_01_11_00];
        let codes = Tensor::new(on, DType::U32, 2, 1, codes).unwrap();
        let scales = [scale(0.5), scale(2.0)];
        let w = dequantize_vectors(on, &codes, 4, book, Groups::of(4), &scales, DType::F16);
        let expected = [5.5, 10.5, 3.0, -2.0, 6.0, 6.0, -6.0, 14.0];
        assert_eq!(w.unwrap().read_f32(on).unwrap(), expected, "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for (turn, dtype) in WEIGHTS.into_iter().enumerate() {
        for (dim, k, stages) in
            [(1, 2, 8), (2, 16, 1), (3, 7, 2), (4, 256, 1), (5, 300, 1), (8, 4096, 2), (16, 9, 3)]
        {
            for spaces in [1, 3] {
                let values = numbers(turn as u64, spaces * stages * k * dim, 2047);
                let entries = Entries { dim, k, values };
                let book = VectorCodes { entries: &entries, stages };
                for vectors in [3, 33] {
                    let cols = dim * vectors;
                    let words = book.packing().words(cols);
                    let packed: Vec<u32> = (0..3 * words as u32)
                        .map(|i| i.wrapping_mul(2_654_435_761) ^ 0x5bd1_e995)
                        .collect();
                    let groups = [
                        Groups::of(dim),
                        Groups::of(cols),
                        Groups { size: 9 * cols, before: 7 * cols },
                    ][turn % 3];
                    let scales: Vec<Scale> = (0..groups.count(3 * cols))
                        .map(|g| scale(1.0 / (900.0 + g as f32)))
                        .collect();
                    cross_check((dtype, dim, k, stages, spaces, cols), |on| {
                        let codes = Tensor::new(on, DType::U32, 3, words, packed.clone())?;
                        dequantize_vectors(on, &codes, cols, book, groups, &scales, dtype)?.read(on)
                    });
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let refused = |k: usize, values: usize, stages, words: usize, scales: usize| {
        let entries = Entries { dim: 2, k, values: vec![0; values] };
        let book = VectorCodes { entries: &entries, stages };
        let codes = Tensor::new(&CPU, DType::U32, 2, words, vec![0; 2 * words]).unwrap();
        let scales = vec![scale(1.0); scales];
        match dequantize_vectors(&CPU, &codes, 4, book, Groups::of(4), &scales, DType::F32) {
            Err(Error::Shape { kernel: "dequantize_vectors", what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(3, 5, 1, 1, 2), "numbers");
    assert_eq!(refused(3, 6, 0, 1, 2), "stages");
    assert_eq!(refused(3, 6, 2, 1, 2), "stages");
    // Three sub-spaces do not divide two vectors.
    assert_eq!(refused(3, 18, 1, 1, 2), "cols");
    assert_eq!(refused(3, 6, 1, 2, 2), "words per row");
    assert_eq!(refused(3, 6, 1, 1, 1), "scales");
}
