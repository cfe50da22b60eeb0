//! The low bits of magnitudes: an exact threshold over a tensor, against sorting.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    DType, Error, Tensor,
    kernels::{histogram, magnitude_tail},
    prune::{Threshold, refine, threshold},
};

#[test]
fn worked_example() {
    let one = 1f32.to_bits();
    let weights = [one, one | 5, 1 << 31 | one | 5, one + 0x1000, 0].map(f32::from_bits);
    for on in backends() {
        let counts =
            magnitude_tail(on, &Tensor::from_f32(on, &weights, 1).unwrap(), one >> 12).unwrap();
        assert_eq!((counts[0], counts[5], counts.iter().sum::<u64>()), (1, 2, 3), "{}", on.name());
    }
}

#[test]
fn two_passes_find_the_threshold_of_sorting() {
    for dtype in WEIGHTS {
        let values: Vec<f32> = noise(6, 5000).iter().map(|x| x * x * x).collect();
        let w = matrix(&CPU, dtype, &values, 1);
        let mut sorted: Vec<u32> =
            w.read_f32(&CPU).unwrap().iter().map(|v| v.to_bits() & 0x7fff_ffff).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        for keep in [1, 2, 17, 2500, 4999, 5000] {
            for on in backends() {
                let w = matrix(on, dtype, &values, 1);
                let (magnitude, ties) = match threshold(&histogram(on, &w).unwrap(), keep) {
                    Threshold::Exact { magnitude, ties } => (magnitude, ties),
                    Threshold::Prefix { prefix, keep } => {
                        refine(prefix, keep, &magnitude_tail(on, &w, prefix).unwrap())
                    }
                };
                assert_eq!(
                    magnitude,
                    sorted[keep as usize - 1],
                    "{dtype:?}, {keep} on {}",
                    on.name()
                );
                let above = sorted.iter().filter(|m| **m > magnitude).count() as u64;
                assert_eq!(ties, keep - above, "{dtype:?}, {keep} on {}", on.name());
            }
        }
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for cols in edges(256) {
            let values: Vec<f32> = noise(2, cols).iter().map(|x| 1.0 + x / 4096.0).collect();
            cross_check((dtype, cols), |on| {
                magnitude_tail(on, &matrix(on, dtype, &values, 1), 0x3f800)
            });
        }
    }
}

#[test]
fn refuses_what_are_no_weights() {
    let w = Tensor::new(&CPU, DType::U32, 1, 1, vec![0]).unwrap();
    assert!(matches!(magnitude_tail(&CPU, &w, 0), Err(Error::Shape { what: "dtype", .. })));
}
