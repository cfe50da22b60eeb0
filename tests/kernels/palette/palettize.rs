//! Assignment to a palette: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, edges, matrix, noise};
use tersor::{
    DType, Error, Tensor,
    kernels::{Assigner, Groups, histogram, palettize},
    kmeans::{Bins, Palette, palette},
    ops,
};

fn assigner(thresholds: &[f32], weights: u64) -> Assigner {
    let entries = (0..=thresholds.len()).map(|i| i as f32).collect();
    Assigner::new(&Palette { entries, thresholds: thresholds.to_vec() }, DType::F32, weights)
}

#[test]
fn worked_example() {
    // On a threshold the lower entry wins; both zeros are on the threshold 0.
    let weights = [-2.0, -1.0, -0.5, 0.0, -0.0, 1e-40, 3.0, 9.0];
    for on in backends() {
        let w = Tensor::from_f32(on, &weights, 1).unwrap();
        let p = [assigner(&[-1.0, 0.0, 3.0], 8)];
        let codes = palettize(on, &w, &p, Groups::of(8), 2).unwrap().read(on).unwrap();
        assert_eq!(codes, [0b11_10_10_01_01_01_00_00], "{}", on.name());
        // Two tables of different length; a palette of one entry needs no threshold.
        let p = [assigner(&[], 4), assigner(&[-0.25, 0.5, 1.0, 5.0], 4)];
        let codes = palettize(on, &w, &p, Groups::of(4), 3).unwrap().read(on).unwrap();
        assert_eq!(codes, [0o4311_0000], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for (k, bits) in [(2, 1), (5, 3), (16, 4), (17, 5), (100, 7), (256, 8)] {
            for cols in edges(64) {
                let values = noise(k as u64, 3 * cols);
                let bins = histogram(&CPU, &matrix(&CPU, dtype, &values, 3)).unwrap().bins();
                let p = palette(&bins, k, dtype);
                for weights in [0, 1 << 20] {
                    // Beside its own palette, thresholds that are themselves weights.
                    let own = Assigner::new(&p, dtype, weights);
                    let on_weights = Assigner::new(
                        &Palette { thresholds: p.entries[1..].to_vec(), ..p.clone() },
                        dtype,
                        weights,
                    );
                    let mut p = vec![own, on_weights.clone(), on_weights];
                    p.truncate(3);
                    cross_check((dtype, k, cols, weights), |on| {
                        palettize(on, &matrix(on, dtype, &values, 3), &p, Groups::of(cols), bits)?
                            .read(on)
                    });
                }
            }
        }
    }
}

#[test]
fn lookup_and_comparison_give_the_same_codes() {
    let values: Vec<f32> = noise(3, 20_000).iter().map(|x| x * x * x).collect();
    let thresholds: Vec<f32> = (0..255).map(|i| (i as f32 - 127.0) / 300.0).collect();
    let w = Tensor::from_f32(&CPU, &values, 1).unwrap();
    let codes = |weights| {
        let p = [assigner(&thresholds, weights)];
        palettize(&CPU, &w, &p, Groups::of(20_000), 8).unwrap().read(&CPU).unwrap()
    };
    assert_eq!(codes(0), codes(1 << 30));
    let plain: Vec<u8> =
        values.iter().map(|w| thresholds.iter().filter(|t| *t < w).count() as u8).collect();
    assert_eq!(bytemuck::cast_slice::<u32, u8>(&codes(0)), plain);
}

#[test]
fn every_weight_takes_its_nearest_entry() {
    let values = noise(5, 5000);
    let w = Tensor::from_f32(&CPU, &values, 1).unwrap();
    let p = palette(&histogram(&CPU, &w).unwrap().bins(), 16, DType::F32);
    let a = [Assigner::new(&p, DType::F32, 5000)];
    let codes = palettize(&CPU, &w, &a, Groups::of(5000), 8).unwrap().read(&CPU).unwrap();
    for (w, code) in values.iter().zip(bytemuck::cast_slice::<u32, u8>(&codes)) {
        let of = (p.entries[usize::from(*code)] - w).abs();
        assert!(p.entries.iter().all(|e| of <= (e - w).abs() + 1e-6), "{w}");
    }
}

/// Squared error of weights against a palette.
fn squared_error(values: &[f32], p: &Palette) -> f64 {
    let entry = |v: &f32| f64::from(p.entries[p.thresholds.iter().filter(|t| *t < v).count()]);
    values.iter().map(|v| (f64::from(*v) - entry(v)).powi(2)).sum()
}

#[test]
fn a_palette_from_a_histogram_is_as_good_as_one_from_single_values() {
    let normal = |seed, n: usize| -> Vec<f32> {
        let (a, b) = (noise(seed, n), noise(seed + 1, n));
        let pairs = a.iter().zip(&b).map(|(a, b)| (f64::from(a.abs()).max(1e-9), f64::from(*b)));
        pairs.map(|(a, b)| ((-2.0 * a.ln()).sqrt() * (3.2 * b).cos()) as f32).collect()
    };
    let of = |f: &dyn Fn(f32) -> f32| normal(1, 50_000).into_iter().map(f).collect::<Vec<_>>();
    let laws = [
        ("normal", of(&|x| 0.02 * x)),
        ("near one", of(&|x| 1.0 + 0.001 * x)),
        ("nearer one", of(&|x| 1.0 + 1e-5 * x)),
        ("offset", of(&|x| -100.0 + 0.05 * x)),
        ("a tenth around one", of(&|x| 1.0 + 0.1 * x)),
        ("two clumps", of(&|x| x.signum() * (1.0 + 0.001 * x))),
        ("heavy tail", of(&|x| x * x * x * x * x)),
        // More distinct values than are taken one by one.
        ("many", normal(3, 600_000).into_iter().map(|x| 1.0 + 0.1 * x).collect()),
    ];
    for (law, values) in &laws {
        let mut sorted: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        sorted.sort_by(f64::total_cmp);
        let bins = Bins::of_sorted(sorted.into_iter().map(|v| (v, 1.0)));
        for k in [2, 16, 256] {
            let least = squared_error(values, &palette(&bins, k, DType::F32));
            let mut first = None;
            for on in backends() {
                let w = Tensor::from_f32(on, values, 8).unwrap();
                let palettized = ops::palettize(on, &w, k).unwrap();
                let restored = palettized.depalettize(on).unwrap().read_f32(on).unwrap();
                let error = values.iter().zip(&restored).map(|(v, r)| f64::from(v - r).powi(2));
                let error = error.sum::<f64>();
                assert!(error <= least * 1.0002, "{law}, k = {k}: {} of the least", error / least);
                let same = *first.get_or_insert_with(|| restored.clone()) == restored;
                assert!(same, "{law}, k = {k} on {}", on.name());
            }
        }
    }
}

#[test]
fn few_distinct_values_are_restored_exactly() {
    let laws: [fn(usize) -> f32; 4] = [
        |i| f32::from_bits(0x3f80_0000 + i as u32),
        |i| i as f32 / 7.0,
        // Two in every bin.
        |i| (i / 2 + 1) as f32 + (i % 2) as f32 * 1e-6,
        // Zero and subnormals.
        |i| -f32::from_bits(i as u32),
    ];
    for (law, value) in laws.iter().enumerate() {
        for k in [2, 5, 256] {
            let values: Vec<f32> = (0..4096).map(|i| value(i * 7 % k)).collect();
            for on in backends() {
                let w = Tensor::from_f32(on, &values, 4).unwrap();
                let palettized = ops::palettize(on, &w, k).unwrap();
                let restored = palettized.depalettize(on).unwrap().read_f32(on).unwrap();
                assert!(restored == values, "{law}, k = {k} on {}", on.name());
            }
        }
    }
}

#[test]
fn refuses_too_few_bits_and_tables() {
    let w = Tensor::from_f32(&CPU, &[1.0; 6], 2).unwrap();
    let p = assigner(&[0.0, 1.0], 6);
    let error = palettize(&CPU, &w, &[&p], Groups::of(6), 1).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "bits", .. }));
    let error = palettize(&CPU, &w, &[&p], Groups::of(3), 2).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "palettes", .. }));
}
