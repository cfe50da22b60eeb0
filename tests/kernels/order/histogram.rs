//! The exact histogram: worked example, agreement on ordinary and tiny devices, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, gpu, matrix, noise, tiny_gpu};
use tersor::{
    DType, Error, Tensor,
    kernels::{Counting, histogram},
    kmeans::Bins,
};

#[test]
fn worked_example() {
    // Equal weights, both zeros, neighbours within one 20-bit bin (their mean is exact), all in order.
    let weights = [2.0, -1.0, 0.0, 2.0, -0.0, 1.0, f32::from_bits(0x3f80_0002), -1e30];
    for on in backends() {
        let bins = histogram(on, &Tensor::from_f32(on, &weights, 1).unwrap()).unwrap().bins();
        let between = f64::from(f32::from_bits(0x3f80_0001));
        let values = vec![f64::from(-1e30f32), -1.0, 0.0, between, 2.0];
        assert_eq!(bins, Bins { values, weights: vec![1.0, 1.0, 2.0, 2.0, 2.0] }, "{}", on.name());
        let halves = matrix(on, DType::F16, &[0.5, -0.5, 0.5, -0.0, 6e-8], 1);
        let bins = histogram(on, &halves).unwrap().bins();
        assert_eq!(bins.weights, [1.0, 1.0, 1.0, 2.0], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference_even_through_small_windows() {
    for dtype in WEIGHTS {
        for cols in edges(256) {
            let values = noise(7, cols);
            let count = |on: &tersor::Backend| histogram(on, &matrix(on, dtype, &values, 1));
            cross_check((dtype, cols), |on| Ok(vec![count(on)?]));
            if let Some(tiny) = tiny_gpu().filter(|_| cols == 257) {
                assert_eq!(count(tiny).unwrap(), count(&CPU).unwrap(), "{dtype:?}, tiny device");
            }
        }
    }
}

#[test]
fn many_tiles_make_one_histogram_and_sums_carry() {
    // Two million times the largest low bits in one bin: the sum passes 2^32.
    let one = f32::from_bits(0x3f80_0fff);
    for on in backends() {
        let mut counting = Counting::new(on, DType::F32).unwrap();
        for _ in 0..4 {
            counting.add(on, &Tensor::from_f32(on, &vec![one; 500_000], 1).unwrap()).unwrap();
        }
        let h = counting.finish(on).unwrap();
        assert_eq!(
            (h.total(), h.lows.iter().sum::<u64>()),
            (2_000_000, 2_000_000 * 0xfff),
            "{}",
            on.name()
        );
        assert_eq!(h.bins().values, [f64::from(one)], "{}", on.name());
    }
}

#[test]
fn counts_leave_the_device_before_they_overflow() {
    let Some(on) = gpu() else { return };
    for dtype in [DType::F32, DType::BF16] {
        let values = noise(2, 1000);
        let mut counting = Counting::new(on, dtype).unwrap();
        let Counting::Gpu { limit, .. } = &mut counting else { panic!("it is on the GPU") };
        assert_eq!(*limit, 1 << 31, "counts have 32 bits");
        *limit = 2500;
        for _ in 0..7 {
            counting.add(on, &matrix(on, dtype, &values, 1)).unwrap();
        }
        let Counting::Gpu { seen, sum, .. } = &counting else { panic!("it is on the GPU") };
        assert_eq!((*seen, sum.total()), (1000, 6000), "flushed after every second tile");
        let repeated = matrix(&CPU, dtype, &values.repeat(7), 1);
        assert_eq!(counting.finish(on).unwrap(), histogram(&CPU, &repeated).unwrap());
    }
}

#[test]
fn nonfinite_weights_are_counted() {
    let weights = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 1).unwrap();
        assert_eq!(histogram(on, &w).unwrap().nonfinite(), 4, "{}", on.name());
        let w = Tensor::new(on, DType::F8E5M2, 1, 4, vec![0x7b_fc_7d_7c]).unwrap();
        assert_eq!(histogram(on, &w).unwrap().nonfinite(), 3, "{}", on.name());
    }
}

#[test]
fn refuses_what_are_no_weights_and_mixed_types() {
    assert!(matches!(Counting::new(&CPU, DType::I8), Err(Error::Shape { what: "dtype", .. })));
    let mut counting = Counting::new(&CPU, DType::F16).unwrap();
    let w = Tensor::from_f32(&CPU, &[1.0], 1).unwrap();
    assert!(matches!(counting.add(&CPU, &w), Err(Error::Shape { what: "dtype", .. })));
    if let Some(on) = gpu() {
        let w = Tensor::from_f32(on, &[1.0], 1).unwrap();
        let mut counting = Counting::new(&CPU, DType::F32).unwrap();
        assert!(matches!(counting.add(on, &w), Err(Error::Backend { .. })));
    }
}
