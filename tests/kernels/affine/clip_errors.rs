//! The search for the clip of least squared error: against plain arithmetic, agreement, refusal.

use crate::support::{CPU, WEIGHTS, cross_check, edges, matrix, noise};
use tersor::{
    DType, Error, Tensor,
    affine::{AffineCode, ClipErrors, ClipGrid, best_clip},
    kernels::{Groups, best_clips, clip_errors, range},
};

fn grids(w: &Tensor, code: AffineCode, groups: Groups) -> Vec<ClipGrid> {
    range(&CPU, w, groups).unwrap().iter().map(|r| ClipGrid::new(code, *r)).collect()
}

#[test]
fn errors_are_those_of_plain_arithmetic() {
    for (bits, symmetric) in [(2, true), (4, true), (8, true), (3, false), (4, false), (8, false)] {
        let code = AffineCode { bits, symmetric };
        let values: Vec<f32> =
            noise(bits.into(), 4000).iter().map(|x| x * x * x * 0.1 + 0.01).collect();
        let w = Tensor::from_f32(&CPU, &values, 1).unwrap();
        let groups = Groups::of(4000);
        let range = range(&CPU, &w, groups).unwrap()[0];
        let got = clip_errors(&CPU, &w, code, groups, &grids(&w, code, groups)).unwrap()[0];
        let unit = f64::from(range.absmax()) / 32767.0;
        for (i, got) in got.iter().enumerate() {
            let scale = code.scale(range, 32 + i as u32);
            let (low, high) = code.limits();
            let error = |w: &f32| {
                let zero = f64::from(scale.zero_point);
                let q = (f64::from(*w) / f64::from(scale.scale)).round_ties_even() + zero;
                let back = (q.clamp(low.into(), high.into()) - zero) * f64::from(scale.scale);
                (f64::from(*w) - back).powi(2)
            };
            let expected: f64 = values.iter().map(error).sum();
            let got = *got as f64 * unit * unit;
            // Rounding to u and the grid's 15 bits move single errors by a unit or two.
            let slack = 4000.0 * 4.0 * unit * unit + 2.0 * 4.0 * unit * (expected * 4000.0).sqrt();
            assert!(
                (got - expected).abs() <= slack,
                "{code:?}, clip {}: {got} and {expected}",
                32 + i
            );
        }
    }
}

#[test]
fn ties_go_to_the_larger_clip() {
    let mut errors: ClipErrors = [5; 33];
    assert_eq!(best_clip(&errors), 64);
    (errors[3], errors[10]) = (4, 4);
    assert_eq!(best_clip(&errors), 42);
    // A group of zeros has no error anywhere.
    let w = Tensor::from_f32(&CPU, &[0.0; 8], 1).unwrap();
    let code = AffineCode { bits: 4, symmetric: true };
    assert_eq!(
        best_clips(&CPU, &w, code, Groups::of(8), &grids(&w, code, Groups::of(8))).unwrap(),
        [64]
    );
}

#[test]
fn gpu_agrees_with_reference() {
    for dtype in WEIGHTS {
        for (bits, symmetric) in [(2, true), (4, true), (8, true), (4, false), (7, false)] {
            let code = AffineCode { bits, symmetric };
            for cols in edges(64) {
                let values: Vec<f32> =
                    noise(bits.into(), 3 * cols).iter().map(|x| x * x * x).collect();
                for groups in
                    [Groups::of(cols), Groups::of(1), Groups { size: 5 * cols, before: cols }]
                {
                    let grids = grids(&matrix(&CPU, dtype, &values, 3), code, groups);
                    cross_check((dtype, code, cols, groups), |on| {
                        clip_errors(on, &matrix(on, dtype, &values, 3), code, groups, &grids)
                    });
                    cross_check((dtype, code, cols, groups, "best"), |on| {
                        best_clips(on, &matrix(on, dtype, &values, 3), code, groups, &grids)
                    });
                }
            }
        }
    }
}

#[test]
fn long_groups_are_summed_in_slices() {
    let values: Vec<f32> = noise(8, 100_000).iter().map(|x| x * x * x).collect();
    let code = AffineCode { bits: 4, symmetric: true };
    let groups = Groups { size: 70_000, before: 1_000 };
    let grids = grids(&Tensor::from_f32(&CPU, &values, 1).unwrap(), code, groups);
    cross_check("long", |on| {
        clip_errors(on, &Tensor::from_f32(on, &values, 1)?, code, groups, &grids)
    });
    cross_check("best", |on| {
        best_clips(on, &Tensor::from_f32(on, &values, 1)?, code, groups, &grids)
    });
}

#[test]
fn refuses_missing_grids() {
    let w = Tensor::new(&CPU, DType::F32, 1, 4, vec![0; 4]).unwrap();
    let code = AffineCode { bits: 4, symmetric: true };
    let error = clip_errors(&CPU, &w, code, Groups::of(2), &[]).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "grids", .. }));
}
