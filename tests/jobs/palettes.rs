//! Palettes of a job: importance, a given entropy, signs.

use super::pipeline::{contents, run};
use crate::support::{CPU, WEIGHTS, noise, options, words_of, write_checkpoint};
use std::path::Path;
use tersor::{
    DType,
    kmeans::{Bins, palette},
    pipeline::decompress,
    recipe::Recipe,
};

#[test]
fn importance_moves_the_palette() {
    let dir = tempfile::tempdir().unwrap();
    let (input, importance, output) = (
        dir.path().join("in.safetensors"),
        dir.path().join("imp.safetensors"),
        dir.path().join("out.safetensors"),
    );
    // The first column is a quarter as wide as the others: eight entries for it alone have a sixteenth of the squared error.
    let mut values = noise(3, 64 * 64);
    values.iter_mut().step_by(64).for_each(|w| *w *= 0.25);
    write_checkpoint(
        &input,
        &[("a.weight", DType::F32, vec![64, 64], words_of(DType::F32, &values))],
    );
    // Only the first column matters.
    let of_column: Vec<f32> = (0..64).map(|c| if c == 0 { 1.0 } else { 0.0 }).collect();
    write_checkpoint(
        &importance,
        &[("a.weight", DType::F32, vec![64], words_of(DType::F32, &of_column))],
    );
    let column_error = |weighted: bool, granularity: &str| {
        let extra = if weighted {
            format!("importance = {:?}", importance.to_str().unwrap())
        } else {
            String::new()
        };
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ kind = \"palette\", bits = 3, granularity = \"{granularity}\" }}\n{extra}\n"
        );
        run(&input, &output, &Recipe::parse(&text).unwrap(), &CPU);
        let back = dir.path().join("back.safetensors");
        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["a.weight"].2);
        (0..64).map(|r| (restored[r * 64] - values[r * 64]).powi(2)).sum::<f32>()
    };
    assert!(column_error(true, "tensor") < 0.1 * column_error(false, "tensor"));
    // With one value per row that counts, eight entries restore it exactly.
    assert_eq!(column_error(true, "channel"), 0.0);
}

/// A checkpoint of one F32 tensor after palettes with some importance, or none, whose shape is that of the tensor or a row's.
fn with_importance(
    (rows, cols): (usize, usize),
    values: &[f32],
    importance: Option<&[f32]>,
    quantize: &str,
) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (input, output, back) =
        (at("in.safetensors"), at("out.safetensors"), at("back.safetensors"));
    let weights = |path: &Path, shape: Vec<usize>, values: &[f32]| {
        write_checkpoint(path, &[("a.weight", DType::F32, shape, words_of(DType::F32, values))]);
    };
    weights(&input, vec![rows, cols], values);
    let mut text = format!("version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ {quantize} }}\n");
    if let Some(importance) = importance {
        let shape = if importance.len() == cols { vec![cols] } else { vec![rows, cols] };
        weights(&at("importance.safetensors"), shape, importance);
        let path = at("importance.safetensors");
        text += &format!("importance = {:?}\n", path.to_str().unwrap());
    }
    run(&input, &output, &Recipe::parse(&text).unwrap(), &CPU);
    decompress(&output, &back, &options(&CPU)).unwrap();
    bytemuck::pod_collect_to_vec(&contents(&back)["a.weight"].2)
}

#[test]
fn a_massive_column_leaves_the_others_their_importance() {
    const ROWS: usize = 32;
    const COLS: usize = 256;
    let values: Vec<f32> =
        noise(4, ROWS * COLS).iter().map(|u| (0.999 * u).atanh() * 0.02).collect();
    for massive in [1e6f32, 1e9, 1e12] {
        let importance: Vec<f32> = (0..COLS).map(|c| if c == 7 { massive } else { 1.0 }).collect();
        for (granularity, k, rows) in [("channel", 16, 1), ("tensor", 256, ROWS)] {
            let quantize = format!("kind = \"palette\", k = {k}, granularity = \"{granularity}\"");
            let back = with_importance((ROWS, COLS), &values, Some(&importance), &quantize);
            let squared = |i: usize| f64::from(values[i] - back[i]).powi(2);
            let found: f64 =
                (0..ROWS * COLS).map(|i| f64::from(importance[i % COLS]) * squared(i)).sum();
            // An entry for every weight of the column, and the best of the others for the rest.
            let bound = values.chunks(rows * COLS).map(|values| {
                let rest = values.iter().enumerate().filter(|(i, _)| i % COLS != 7);
                let mut rest: Vec<f64> = rest.map(|(_, v)| f64::from(*v)).collect();
                rest.sort_by(f64::total_cmp);
                let bins = Bins::of_sorted(rest.iter().map(|v| (*v, 1.0)));
                let p = palette(&bins, k - rows, DType::F32);
                let entry = |v: &f64| p.thresholds.iter().filter(|t| f64::from(**t) < *v).count();
                rest.iter().map(|v| (v - f64::from(p.entries[entry(v)])).powi(2)).sum::<f64>()
            });
            let bound: f64 = bound.sum();
            // What the rounding of entries to f32 adds is weighed, too.
            let rounding = f64::from(massive) * ROWS as f64 * (0.1 * 2f64.powi(-25)).powi(2);
            assert!(
                found <= bound * 1.000_01 + rounding,
                "{massive}, {granularity}: {} of what a named palette has",
                found / bound
            );
        }
    }
}

#[test]
fn no_importance_in_a_whole_table_is_the_same_for_all_of_it() {
    const ROWS: usize = 8;
    const COLS: usize = 64;
    let values = noise(5, ROWS * COLS);
    let at_rows = |zero: std::ops::Range<usize>| -> Vec<f32> {
        let of = |i: usize| if zero.contains(&(i / COLS)) { 0.0 } else { (i % 5) as f32 };
        (0..ROWS * COLS).map(of).collect()
    };
    let tables = [
        ("granularity = \"channel\"", 3..4),
        ("granularity = \"group\", group = 2", 2..4),
        ("granularity = \"tensor\"", 0..8),
    ];
    for (granularity, zero) in tables {
        let quantize = format!("kind = \"palette\", k = 8, {granularity}");
        let plain = with_importance((ROWS, COLS), &values, None, &quantize);
        let importance = at_rows(zero.clone());
        let found = with_importance((ROWS, COLS), &values, Some(&importance), &quantize);
        let span = zero.start * COLS..zero.end * COLS;
        assert_eq!(found[span.clone()], plain[span], "{granularity}");
        assert!(zero.len() == ROWS || found != plain, "{granularity}: the others are weighed");
        // Weights without importance beside others that have some take the nearest entry.
        let some = at_rows(0..0);
        let found = with_importance((ROWS, COLS), &values, Some(&some), &quantize);
        let table = |i: usize| i / COLS / zero.len();
        for (i, (v, q)) in values.iter().zip(&found).enumerate() {
            let nearest = (0..found.len()).filter(|j| table(*j) == table(i));
            let nearest = nearest.map(|j| (found[j] - v).abs()).fold(f32::INFINITY, f32::min);
            assert!((q - v).abs() <= nearest + 1e-6, "{granularity}: {v} as {q}");
        }
    }
}

#[test]
fn codes_have_the_entropy_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    const N: usize = 256 * 256;
    // Logistic: a smooth density with longer tails than Gaussian ones.
    let values: Vec<f32> = noise(1, N).iter().map(|u| (0.999 * u).atanh() * 0.02).collect();
    let few: Vec<f32> = (0..N).map(|i| [0.0, 0.0, 0.5, -0.5][i % 4]).collect();
    let types = [DType::F64, DType::F32, DType::BF16, DType::F16];
    let names = types.map(|t| format!("{}.weight", t.name()));
    let mut tensors: Vec<_> = names
        .iter()
        .zip(types)
        .map(|(n, t)| (n.as_str(), t, vec![256, 256], words_of(t, &values)))
        .collect();
    tensors.push(("few.weight", DType::F32, vec![256, 256], words_of(DType::F32, &few)));
    write_checkpoint(&input, &tensors);
    let of = |what: &str| {
        let text = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{what}\n");
        run(&input, &output, &Recipe::parse(&text).unwrap(), &CPU).tensors
    };
    let binary = |p: f64| p * (1.0 / p).log2() + (1.0 - p) * (1.0 / (1.0 - p)).log2();
    for bits in [0.7, 1.5, 2.5, 4.0] {
        let entropy = format!("quantize = {{ kind = \"entropy\", bits = {bits} }}");
        for t in of(&entropy) {
            let (got, few) = (t.entropy_bits.unwrap(), t.name == "few.weight");
            assert!(got <= bits, "{}: {got} of {bits}", t.name);
            // The values of the last have 1.5 bits; with less they are one.
            let most = if few && bits < 1.5 {
                0.0
            } else if few {
                1.5
            } else {
                bits
            };
            assert!(got >= most - 0.01, "{}: {got} of {bits}", t.name);
            assert_eq!(t.error.mse == Some(0.0), few && bits >= 1.5, "{}", t.name);
        }
        // Of a pruned tensor the survivors' codes have them.
        for t in of(&format!("prune = {{ kind = \"magnitude\", density = 0.25 }}\n{entropy}")) {
            let got = (t.entropy_bits.unwrap() - binary(0.25)) / 0.25;
            assert!(got <= bits + 1e-9, "{}, pruned: {got} of {bits}", t.name);
            // Between the one value that needs no bits and the two that the signs tell apart, no price leads to another choice.
            let least = if bits < 1.0 || t.name == "few.weight" { 0.0 } else { bits - 0.02 };
            assert!(got >= least, "{}, pruned: {got} of {bits}", t.name);
        }
    }
    // With the entropy of an optimal palette the error is less.
    let palette = of("quantize = { kind = \"palette\", bits = 3 }");
    for (i, t) in palette.iter().enumerate().filter(|(_, t)| t.name != "few.weight") {
        let bits = t.entropy_bits.unwrap();
        let same = &of(&format!("quantize = {{ kind = \"entropy\", bits = {bits:?} }}"))[i];
        let (error, less) = (t.error.mse.unwrap(), same.error.mse.unwrap());
        assert!(less < 0.88 * error, "{}: {less} of {error}", t.name);
    }
}

/// What a binary tensor is restored to.
fn binary(dtype: DType, (rows, cols): (usize, usize), values: &[f32], prune: &str) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output, back) = (
        dir.path().join("in.safetensors"),
        dir.path().join("out.safetensors"),
        dir.path().join("back.safetensors"),
    );
    write_checkpoint(&input, &[("w", dtype, vec![rows, cols], words_of(dtype, values))]);
    let text =
        format!("version = 1\n[[rule]]\nmatch = \"*\"\n{prune}quantize = {{ kind = \"binary\" }}");
    let report = run(&input, &output, &Recipe::parse(&text).unwrap(), &CPU);
    assert!(!report.tensors[0].method.is_kept());
    decompress(&output, &back, &options(&CPU)).unwrap();
    let (_, _, bytes) = &contents(&back)["w"];
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
    let mut restored = vec![0.0; rows * cols];
    tersor::dtype::decode(dtype, &words, 0, &mut restored);
    restored
}

#[test]
fn binary_weights_are_signs_and_a_mean_for_each_row() {
    // Means 0.5 and 3, and a row of zeros; either zero counts as positive.
    let mut values: Vec<f32> = [[1.0, -0.5, 0.0, -0.0, -1.0, 0.5]; 20].concat();
    values.extend([[-4.0, 2.0, -3.0]; 40].concat());
    values.extend([0.0; 120]);
    let expected = [
        [[0.5, -0.5, 0.5, 0.5, -0.5, 0.5]; 20].concat(),
        [[-3.0, 3.0, -3.0]; 40].concat(),
        vec![0.0; 120],
    ]
    .concat();
    for dtype in WEIGHTS {
        let restored = binary(dtype, (3, 120), &values, "");
        // The unit is 1 / 32767 of the largest magnitude: the mean is off by at most half of it, and by the type's rounding.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() * 2e-5;
        assert!(restored.iter().zip(&expected).all(near), "{}: {restored:?}", dtype.name());
        assert!(restored.iter().all(|x| x.to_bits() != (-0.0f32).to_bits()), "{}", dtype.name());
    }
    // The mean of the survivors, 1 and 3.5, rounded to nearest even in BF16: 3.5 and 1 are there, 3.501 is not.
    let prune = "prune = { kind = \"n:m\", n = 1, m = 3 }\n";
    let restored = binary(DType::BF16, (3, 120), &values, prune);
    assert_eq!(restored[..6], [1.0, 0.0, 0.0, 0.0, -1.0, 0.0]);
    assert_eq!(restored[120..123], [-4.0, 0.0, 0.0]);
    let restored = binary(DType::BF16, (1, 64), &[[1.0, 1.01]; 32].concat(), "");
    assert_eq!(restored, [1.0078125; 64]);
}

#[test]
fn binary_rows_longer_than_a_block_have_one_mean() {
    let cols = 3_000_000;
    let values: Vec<f32> = noise(5, 2 * cols).iter().map(|x| x * x * x).collect();
    for prune in ["", "prune = { kind = \"magnitude\", density = 0.5, scope = \"tensor\" }\n"] {
        let restored = binary(DType::F32, (2, cols), &values, prune);
        for (restored, values) in restored.chunks(cols).zip(values.chunks(cols)) {
            let kept = || restored.iter().zip(values).filter(|(r, _)| **r != 0.0);
            let mean = kept().map(|(_, v)| f64::from(v.abs())).sum::<f64>() / kept().count() as f64;
            let same = |(r, v): (&f32, &f32)| {
                r.signum() == v.signum() && (f64::from(r.abs()) / mean - 1.0).abs() < 1e-5
            };
            assert!(kept().count() > cols / 3 && kept().all(same), "{prune}");
        }
    }
}
