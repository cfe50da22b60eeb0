//! Restoring weights from palette codes: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, noise};
use tersor::{
    DType, Error, Tensor,
    codec::bitpack,
    kernels::{Codebook, Groups, depalettize},
};

#[test]
fn worked_example() {
    let entries = [-1.5, 0.0, 2.0, 8.0, 8.0, 8.0];
    for on in backends() {
        let codes = Tensor::new(on, DType::U32, 2, 1, vec![0b10_01_00, 0b00_11_00]).unwrap();
        let book = Codebook { entries: &entries, k: 3, bits: 2 };
        let w = depalettize(on, &codes, 3, book, Groups::of(3), DType::F16).unwrap();
        // The second table has one value; a code beyond a table takes its last entry.
        assert_eq!(w.read_f32(on).unwrap(), [-1.5, 0.0, 2.0, 8.0, 8.0, 8.0], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for bits in 1..=8u32 {
            for cols in edges(64) {
                let k = (1usize << bits) - usize::from(bits > 2);
                let entries = noise(9, 3 * k);
                let words = bitpack::words(cols, bits);
                // Any pattern is a code; the padding is not read.
                let packed: Vec<u32> =
                    (0..3 * words as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
                cross_check((dtype, bits, cols), |on| {
                    let codes = Tensor::new(on, DType::U32, 3, words, packed.clone())?;
                    let book = Codebook { entries: &entries, k, bits };
                    depalettize(on, &codes, cols, book, Groups::of(cols), dtype)?.read(on)
                });
            }
        }
    }
}

#[test]
fn refuses_missing_tables() {
    let codes = Tensor::new(&CPU, DType::U32, 2, 1, vec![0; 2]).unwrap();
    let book = Codebook { entries: &[0.0; 4], k: 4, bits: 2 };
    let error = depalettize(&CPU, &codes, 3, book, Groups::of(3), DType::F32).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "entries", .. }));
}
