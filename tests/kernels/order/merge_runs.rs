//! Merging sorted runs: worked example, agreement on both sides of every border, refusal.

use crate::support::{CPU, backends, cross_check, noise};
use tersor::{Backend, DType, Error, Result, Tensor, kernels::merge_runs};

/// Rows of `cols` keys in ascending runs, with many ties and the largest key.
fn runs(on: &Backend, rows: usize, cols: usize, run: usize) -> Result<Tensor> {
    let key = |x: &f32| if *x > 0.9 { u32::MAX } else { ((x + 1.0) * 50.0) as u32 };
    let mut keys: Vec<u32> = noise(cols as u64, rows * cols).iter().map(key).collect();
    let row = |row: &mut [u32]| row.chunks_mut(run).for_each(<[u32]>::sort_unstable);
    keys.chunks_mut(cols.max(1)).for_each(row);
    Tensor::new(on, DType::U32, rows, cols, keys)
}

#[test]
fn worked_example() {
    // Three runs of 16: one after the other, equal keys, and a last one of a single key without a partner.
    let row: Vec<u32> = (16..32).chain(0..16).chain([5]).collect();
    let expected: Vec<u32> = (0..32).chain([5]).collect();
    for on in backends() {
        let keys = Tensor::new(on, DType::U32, 2, 33, row.repeat(2)).unwrap();
        let merged = merge_runs(on, &keys, 16).unwrap().read(on).unwrap();
        assert_eq!(merged, expected.repeat(2), "{}", on.name());
        let keys = Tensor::new(on, DType::U32, 1, 1, vec![7]).unwrap();
        assert_eq!(merge_runs(on, &keys, 1 << 20).unwrap().read(on).unwrap(), [7], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for run in [16, 48, 256] {
        for cols in [
            0,
            1,
            15,
            16,
            17,
            run - 1,
            run,
            run + 1,
            2 * run - 1,
            2 * run,
            2 * run + 1,
            5 * run + 3,
        ] {
            let merged = |on: &Backend| merge_runs(on, &runs(on, 3, cols, run)?, run)?.read(on);
            let (got, before) = (merged(&CPU).unwrap(), runs(&CPU, 3, cols, run).unwrap());
            let mut expected = before.read(&CPU).unwrap();
            let row = |row: &mut [u32]| row.chunks_mut(2 * run).for_each(<[u32]>::sort_unstable);
            expected.chunks_mut(cols.max(1)).for_each(row);
            assert_eq!(got, expected, "{cols} keys in runs of {run}");
            cross_check((run, cols), merged);
        }
    }
}

#[test]
fn refuses_other_types_and_runs() {
    let w = Tensor::from_f32(&CPU, &[1.0], 1).unwrap();
    assert!(matches!(merge_runs(&CPU, &w, 16), Err(Error::Shape { what: "dtype", .. })));
    let w = Tensor::new(&CPU, DType::U32, 1, 1, vec![1]).unwrap();
    for run in [0, 17] {
        assert!(matches!(merge_runs(&CPU, &w, run), Err(Error::Shape { what: "run", .. })));
    }
}
