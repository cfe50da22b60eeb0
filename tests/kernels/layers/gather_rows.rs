//! Copying rows of a table: worked example, agreement, refusals.

use crate::support::{CPU, backends, cross_check, edges, tiny_gpu};
use tersor::{Backend, DType, Error, Result, Tensor, kernels::gather_rows};

#[test]
fn worked_example() {
    for on in backends() {
        let table = Tensor::from_f32(on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap();
        let rows = gather_rows(on, &table, &[2, 0, 2, 1]).unwrap();
        assert_eq!((rows.rows(), rows.cols(), rows.dtype()), (4, 2, DType::F32));
        assert_eq!(rows.read_f32(on).unwrap(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
        // Two rows of four bytes, a word each.
        let table = Tensor::new(on, DType::U8, 2, 4, vec![0x04030201, 0x08070605]).unwrap();
        let rows = gather_rows(on, &table, &[1]).unwrap();
        assert_eq!(rows.read(on).unwrap(), [0x08070605], "{}", on.name());
        assert_eq!(gather_rows(on, &table, &[]).unwrap().rows(), 0);
        let hollow = Tensor::new(on, DType::F64, 2, 0, vec![]).unwrap();
        assert!(gather_rows(on, &hollow, &[1, 1]).unwrap().read(on).unwrap().is_empty());
    }
}

/// Every seventh row and so on, of a table whose words are their own numbers.
fn gathered(on: &Backend, dtype: DType, cols: usize, count: usize) -> Result<Vec<u32>> {
    let words = tersor::words(dtype, 11 * cols) as u32;
    let table = Tensor::new(on, dtype, 11, cols, (0..words).collect())?;
    let rows: Vec<u32> = (0..count as u32).map(|i| i * 7 % 11).collect();
    gather_rows(on, &table, &rows)?.read(on)
}

#[test]
fn gpu_agrees_with_reference() {
    for words in edges(64) {
        for (dtype, cols) in [
            (DType::F64, words.div_ceil(2)),
            (DType::F32, words),
            (DType::BF16, 2 * words),
            (DType::F8E4M3, 4 * words),
            (DType::U32, words),
        ] {
            for count in [1, 5, 40] {
                cross_check((dtype, cols, count), |on| gathered(on, dtype, cols, count));
            }
        }
    }
    if let Some(tiny) = tiny_gpu() {
        let expected = gathered(&CPU, DType::F32, 300, 13).unwrap();
        assert_eq!(gathered(tiny, DType::F32, 300, 13).unwrap(), expected, "folded dispatch");
    }
}

#[test]
fn refuses_rows_that_are_not_there_and_broken_words() {
    for on in backends() {
        let table = Tensor::from_f32(on, &[1.0; 6], 3).unwrap();
        let error = gather_rows(on, &table, &[0, 3]).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "rows", .. }), "{error}");
        let halves = Tensor::new(on, DType::F16, 2, 3, vec![0; 3]).unwrap();
        let error = gather_rows(on, &halves, &[0]).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "table", .. }), "{error}");
    }
}
