//! The values in bins of a histogram: worked example, agreement on ordinary and tiny devices, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise, tiny_gpu};
use tersor::{
    Backend, DType, Error, Tensor,
    kernels::{histogram_tails, order_key},
};

/// The bin of a value.
fn bin(value: f32) -> u32 {
    order_key::of_f32(value) >> 12
}

#[test]
fn worked_example() {
    // Neighbours, both zeros, a value whose bin is not asked for, one that does not occur.
    let next = f32::from_bits(0x3f80_0001);
    let weights = [next, 1.0, -0.0, next, 0.0, 7.0, -1.0, 1.0, next];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 1).unwrap();
        let bins = [bin(-1.0), bin(-0.0), bin(0.0), bin(1.0), bin(2.0)];
        let expected = [(-1.0, 1), (-0.0, 1), (0.0, 1), (1.0, 2), (next, 3)];
        let expected = expected.map(|(value, n)| (order_key::of_f32(value), n));
        assert_eq!(histogram_tails(on, &w, &bins).unwrap(), expected, "{}", on.name());
        assert_eq!(histogram_tails(on, &w, &[bin(1e30)]).unwrap(), [], "{}", on.name());
        assert_eq!(histogram_tails(on, &w, &[]).unwrap(), [], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference_even_through_small_windows() {
    for dtype in WEIGHTS {
        for cols in edges(256) {
            let values: Vec<f32> = noise(3, cols).iter().map(|x| 1.0 + x / 100.0).collect();
            // Two of three bins between 0.99 and 1.01.
            let bins: Vec<u32> = (bin(0.99)..bin(1.01)).filter(|b| b % 3 > 0).collect();
            let count = |on: &Backend| histogram_tails(on, &matrix(on, dtype, &values, 1), &bins);
            assert!(cols < 255 || !count(&CPU).unwrap().is_empty(), "{dtype:?}: nothing found");
            cross_check((dtype, cols), count);
            if let Some(tiny) = tiny_gpu().filter(|_| cols == 257) {
                assert_eq!(count(tiny).unwrap(), count(&CPU).unwrap(), "{dtype:?}, tiny device");
            }
        }
    }
}

#[test]
fn refuses_what_are_no_weights_and_bins_out_of_order() {
    let w = Tensor::new(&CPU, DType::U32, 1, 1, vec![0]).unwrap();
    assert!(matches!(histogram_tails(&CPU, &w, &[1]), Err(Error::Shape { what: "dtype", .. })));
    let w = Tensor::from_f32(&CPU, &[1.0], 1).unwrap();
    for bins in [&[2, 1][..], &[1, 1], &[1 << 20]] {
        assert!(matches!(histogram_tails(&CPU, &w, bins), Err(Error::Shape { what: "bins", .. })));
    }
}
