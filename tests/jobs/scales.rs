//! Affine scales of two bytes: what they cost, that they are the ones that codes are made for, and that no weights are beyond them.

use super::pipeline::{contents, run};
use crate::support::{CPU, noise, options, words_of, write_checkpoint};
use std::path::Path;
use tersor::{
    DType,
    affine::{AffineCode, ScaleType},
    pipeline::{decompress, verify},
    recipe::Recipe,
    report::{Report, TensorReport},
};

const SHAPE: [usize; 2] = [256, 512];

/// About normally distributed: a sum of twelve uniform ones.
fn gaussian(seed: u64) -> Vec<f32> {
    let of = noise(seed, 12 * SHAPE[0] * SHAPE[1]);
    of.chunks_exact(12).map(|dozen| dozen.iter().sum::<f32>() / 100.0).collect()
}

fn recipe(quantize: &str, scales: &str) -> Recipe {
    let text = format!(
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ kind = \"affine\", {quantize}, scales = \"{scales}\" }}\n"
    );
    Recipe::parse(&text).unwrap()
}

/// One F32 matrix in an archive, with a report on it.
fn compressed(dir: &Path, values: &[f32], quantize: &str, scales: &str) -> Report {
    let input = dir.join("in.safetensors");
    write_checkpoint(&input, &[("w", DType::F32, SHAPE.into(), words_of(DType::F32, values))]);
    run(&input, &dir.join("out.safetensors"), &recipe(quantize, scales), &CPU)
}

fn only(report: &Report) -> &TensorReport {
    assert_eq!(report.tensors.len(), 1);
    &report.tensors[0]
}

#[test]
fn they_take_half_and_cost_less_than_a_hundredth_of_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let values = gaussian(3);
    for group in [128, 32] {
        // With 8 bits the outermost codes move by a quarter of a step.
        for (bits, objective, more) in [
            (2, "mse", 0.002),
            (4, "mse", 0.002),
            (4, "range", 0.002),
            (7, "mse", 0.01),
            (8, "range", 0.05),
        ] {
            for symmetric in [true, false] {
                let quantize = format!(
                    "bits = {bits}, symmetric = {symmetric}, granularity = \"group\", group = {group}, objective = \"{objective}\""
                );
                let [wide, narrow] = ["f32", "bf16"].map(|scales| {
                    let report = compressed(dir.path(), &values, &quantize, scales);
                    let t = only(&report);
                    let scales = t.components.iter().find(|c| c.name == "scales").unwrap().bytes;
                    (t.error.mse.unwrap(), scales, t.form.scales)
                });
                let groups = (values.len() as u64) / group;
                assert_eq!((wide.1, wide.2), (4 * groups, Some("F32")), "{quantize}");
                assert_eq!((narrow.1, narrow.2), (2 * groups, Some("BF16")), "{quantize}");
                let ratio = narrow.0 / wide.0;
                println!("{quantize}: {ratio:.5}");
                assert!((0.99..1.0 + more).contains(&ratio), "{quantize}: {ratio}");
            }
        }
    }
}

#[test]
fn codes_are_those_of_the_scales_that_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let values = gaussian(1);
    let code = AffineCode { bits: 5, symmetric: true };
    compressed(dir.path(), &values, "bits = 5", "bf16");
    let archive = contents(&dir.path().join("out.safetensors"));
    let (dtype, shape, scales) = &archive["w.scales"];
    assert_eq!((*dtype, &shape[..]), (DType::BF16, &[SHAPE[0] as u64, 1][..]));
    decompress(&dir.path().join("out.safetensors"), &dir.path().join("back"), &options(&CPU))
        .unwrap();
    let back = &contents(&dir.path().join("back"))["w"].2;
    let rows = values.chunks(SHAPE[1]).zip(back.chunks(4 * SHAPE[1]));
    for ((row, back), scale) in rows.zip(scales.chunks(2)) {
        let scale = f32::from_bits(u32::from(u16::from_le_bytes([scale[0], scale[1]])) << 16);
        let absmax = row.iter().fold(0f32, |most, w| most.max(w.abs()));
        assert_eq!(scale, ScaleType::Bf16.round(absmax / code.limits().1 as f32));
        let inverse = (1.0 / f64::from(scale)) as f32;
        for (w, back) in row.iter().zip(back.as_chunks::<4>().0) {
            let code = (w * inverse).round_ties_even().clamp(-16.0, 15.0);
            assert_eq!(f32::from_le_bytes(*back), code * scale, "{w} of scale {scale}");
        }
    }
}

/// F16 has no such scales, or rougher ones: neither those of tiny weights nor those of huge ones.
#[test]
fn no_weights_are_too_small_or_too_large_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let weights = gaussian(2);
    let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
    for power in [-105, -40, -20, 0, 60, 127] {
        // The largest weight is the power of two.
        let factor = 2f64.powi(power) / f64::from(largest);
        let values: Vec<f32> = weights.iter().map(|w| (f64::from(*w) * factor) as f32).collect();
        for quantize in [
            "bits = 2, granularity = \"tensor\"",
            "bits = 4, granularity = \"group\", group = 32, objective = \"mse\"",
            "bits = 8, symmetric = false",
        ] {
            let [wide, narrow] = ["f32", "bf16"].map(|scales| {
                let report = compressed(dir.path(), &values, quantize, scales);
                let t = only(&report);
                assert_eq!((t.flushed, t.method.is_kept()), (0, false), "{quantize} at {power}");
                t.error.rel_error.unwrap()
            });
            let ratio = narrow / wide;
            assert!((0.99..1.01).contains(&ratio), "{quantize} at 2^{power}: {ratio}");
            let out = dir.path().join("out.safetensors");
            verify(&out, Some(&dir.path().join("in.safetensors")), &options(&CPU)).unwrap();
        }
    }
}

#[test]
fn the_largest_scale_is_finite() {
    // The next of BF16 above it is infinite.
    assert_eq!(ScaleType::Bf16.round(f32::MAX), f32::from_bits(0x7f7f_0000));
    let dir = tempfile::tempdir().unwrap();
    let mut values = vec![0.0; SHAPE[0] * SHAPE[1]];
    values[3] = f32::MAX;
    let report = compressed(dir.path(), &values, "bits = 2, granularity = \"tensor\"", "bf16");
    let error = only(&report).error.rel_error.unwrap();
    assert!(error < 1.0 / 256.0, "{error}");
}
