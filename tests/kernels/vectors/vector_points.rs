//! Integers of vectors from weights: worked example, agreement, refusal.

use crate::support::{CPU, WEIGHTS, backends, cross_check, gpu, matrix, noise};
use tersor::{
    Backend, Error, Tensor,
    affine::Scale,
    kernels::{Groups, vector_points, vector_points_in_integers},
};

fn scale(scale: f32) -> Scale {
    Scale { scale, zero_point: 0 }
}

#[test]
fn worked_example() {
    for on in backends() {
        // Two rows of one vector of three: ties to even, and the ends.
        let w = Tensor::from_f32(on, &[0.5, 1.5, -2.5, 3e9, -3e9, 100.0], 2).unwrap();
        let scales = [scale(1.0), scale(0.5)];
        let points = vector_points(on, &w, 3, Groups::of(3), &scales).unwrap().read(on).unwrap();
        let halves: &[i16] = bytemuck::cast_slice(&points);
        assert_eq!(halves, [0, 2, -2, 0, 2047, -2047, 200, 0], "{}", on.name());
    }
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for dim in [1, 2, 3, 5, 8, 16] {
            for vectors in [1, 7, 65] {
                let cols = dim * vectors;
                let values = noise(dim as u64, 3 * cols);
                for groups in
                    [Groups::of(dim), Groups::of(cols), Groups { size: 9 * cols, before: 7 * cols }]
                {
                    let scales: Vec<Scale> = (0..groups.count(3 * cols))
                        .map(|g| scale(1.0 / (100.0 + g as f32)))
                        .collect();
                    let points = cross_check((dtype, dim, cols, groups), |on| {
                        vector_points(on, &matrix(on, dtype, &values, 3), dim, groups, &scales)?
                            .read(on)
                    });
                    let halves: &[i16] = bytemuck::cast_slice(&points);
                    let w = matrix(&CPU, dtype, &values, 3).read_f32(&CPU).unwrap();
                    let stride = dim.next_multiple_of(2);
                    for (i, w) in w.iter().enumerate() {
                        let inverse = scales[(i + groups.before) / groups.size].inverse();
                        let expected = (w * inverse).round_ties_even().clamp(-2047.0, 2047.0);
                        assert_eq!(f32::from(halves[i / dim * stride + i % dim]), expected);
                    }
                }
            }
        }
    }
}

#[test]
fn ties_and_ends_agree_also_in_integers() {
    let mut values = Vec::new();
    for half in (-4100..=4100).chain([7999, 8000, 8001, -7999, -8000, -8001, 70_000]) {
        for nudge in [-1, 0, 1] {
            values.push(f32::from_bits((half as f32 / 2.0).to_bits().wrapping_add_signed(nudge)));
        }
    }
    for step in [1.0, 0.3, 1.0 / 3.0, 1e-30, 3e33] {
        let scaled: Vec<f32> = values
            .iter()
            .map(|v| v * step)
            .map(|v| if v.is_finite() { v } else { f32::MAX })
            .collect();
        let scale = [scale(step)];
        let run = |on: &Backend| {
            vector_points(on, &Tensor::from_f32(on, &scaled, 1)?, 1, Groups::of(1 << 20), &scale)
        };
        let expected = run(&CPU).unwrap().read(&CPU).unwrap();
        for (word, w) in expected.iter().zip(&scaled) {
            let plain = (w * scale[0].inverse()).round_ties_even().clamp(-2047.0, 2047.0);
            assert_eq!(f32::from(*word as i16), plain, "{w:e} / {step:e}");
        }
        if let Some(on @ Backend::Gpu(device)) = gpu() {
            assert_eq!(run(on).unwrap().read(on).unwrap(), expected, "step {step:e}");
            let w = Tensor::from_f32(on, &scaled, 1).unwrap();
            let points =
                vector_points_in_integers(device, &w, 1, Groups::of(1 << 20), &scale).unwrap();
            assert_eq!(points.read(on).unwrap(), expected, "in integers, step {step:e}");
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let w = Tensor::from_f32(&CPU, &[0.0; 12], 2).unwrap();
    let refused = |dim, scales: usize| {
        let scales = vec![scale(1.0); scales];
        match vector_points(&CPU, &w, dim, Groups::of(6), &scales).unwrap_err() {
            Error::Shape { kernel: "vector_points", what, .. } => what,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(0, 2), "dim");
    assert_eq!(refused(4, 2), "dim");
    assert_eq!(refused(17, 2), "dim");
    assert_eq!(refused(3, 1), "scales");
}
