//! Vectors in jobs: what error they have, the same bytes everywhere, scales that make groups alike, and what is odd.

use super::{
    pipeline::{contents, run},
    quantizers::{gaussian, matrix, same_everywhere},
};
use crate::support::{CPU, WEIGHTS, noise, options, words_of, write_checkpoint};
use tersor::{
    DType,
    pipeline::{compress, decompress},
    recipe::Recipe,
    report::Report,
};

fn recipe(quantize: &str, more: &str) -> Recipe {
    let text =
        format!("version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ {quantize} }}\n{more}\n");
    Recipe::parse(&text).unwrap()
}

/// The mean squared error of a matrix.
fn error(report: &Report) -> f64 {
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    report.tensors[0].error.mse.unwrap()
}

#[test]
fn errors_at_two_bits_are_what_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let input = matrix(dir.path(), [512, 1024], &gaussian(3, 512 * 1024));
    let of = |quantize: &str| {
        let report = run(&input, &dir.path().join("out"), &recipe(quantize, ""), &CPU);
        (error(&report), report.tensors[0].code_bits.unwrap())
    };
    // The best table of single weights has 0.1175.
    let palette = of("kind = \"palette\", bits = 2").0;
    let mut before = palette;
    for (d, k, most) in [(2, 16, 0.109), (4, 256, 0.0975)] {
        let (error, _) = of(&format!("kind = \"vector\", d = {d}, k = {k}"));
        assert!(error < most && error < before, "{d}: {error}, before {before}");
        before = error;
    }
    // Two stages of half the bits are better than one of them, and no better than one codebook of all.
    let residual = of("kind = \"residual\", d = 4, k = 16, stages = 2");
    assert_eq!(residual.1, 4);
    assert!((before..0.125).contains(&residual.0), "{residual:?}");
    let product = of("kind = \"product\", d = 2, k = 16, spaces = 4");
    assert!((product.0 - 0.1085).abs() < 0.002, "{product:?}");
    // Above 256 entries numbers are two codes of half the bits.
    assert_eq!(of("kind = \"vector\", d = 8, k = 1024").1, 5);
}

#[test]
fn groups_of_every_size_fare_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, cols) = (64, 512);
    let mut values = gaussian(5, rows * cols);
    for (r, row) in values.chunks_mut(cols).enumerate() {
        row.iter_mut().for_each(|v| *v *= 2f32.powi(r as i32 - 40));
    }
    // An outlier, by which a scale from the largest magnitude would go, and a row of zeros.
    values[0] *= 20.0;
    values[cols..2 * cols].fill(0.0);
    let input = matrix(dir.path(), [rows, cols], &values);
    let (output, back) = (dir.path().join("out"), dir.path().join("back"));
    for scales in ["f32", "bf16"] {
        let quantize = format!("kind = \"vector\", d = 4, k = 256, scales = \"{scales}\"");
        run(&input, &output, &recipe(&quantize, ""), &CPU);
        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["w"].2);
        for r in (0..rows).filter(|r| *r != 1) {
            let squares = |f: &dyn Fn(usize) -> f64| -> f64 {
                // Without the outlier, which is an entry of its own or not.
                (r * cols + 4..(r + 1) * cols).map(f).map(|x| x * x).sum()
            };
            let error = squares(&|i| f64::from(values[i]) - f64::from(restored[i]));
            let ratio = error / squares(&|i| f64::from(values[i]));
            assert!((0.06..0.13).contains(&ratio), "row {r}, {scales}: {ratio}");
        }
        assert!(restored[cols..2 * cols].iter().all(|w| *w == 0.0));
    }
}

#[test]
fn the_same_bytes_from_every_backend() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let tensors: Vec<_> = WEIGHTS
        .iter()
        .enumerate()
        .map(|(i, dtype)| {
            let shape = [[96, 240], [33, 480]][i % 2];
            let values = gaussian(i as u64, shape[0] * shape[1]);
            (format!("w{i}"), *dtype, shape.to_vec(), words_of(*dtype, &values))
        })
        .collect();
    let borrowed: Vec<_> =
        tensors.iter().map(|(n, d, s, w)| (&**n, *d, s.clone(), w.clone())).collect();
    write_checkpoint(&input, &borrowed);
    for (quantize, more) in [
        ("kind = \"vector\", d = 4, k = 100", ""),
        (
            "kind = \"vector\", d = 3, k = 300, granularity = \"group\", group = 24",
            "encode = \"auto\"",
        ),
        ("kind = \"product\", d = 2, k = 16, spaces = 5, scales = \"bf16\", seed = 9", ""),
        ("kind = \"residual\", d = 8, k = 16, stages = 3, granularity = \"tensor\"", "axis = 0"),
        ("kind = \"residual\", d = 16, k = 20, stages = 2, spaces = 3", "encode = \"rans\""),
        ("kind = \"pyramid\", n = 8, k = 9, gain_bits = 5", ""),
        ("kind = \"pyramid\", n = 48, bits = 1.5", "axis = 0"),
    ] {
        let of = (&recipe(quantize, more), quantize);
        // What k-means goes through does not fit the buffers of a tiny device, and is not cut: the CPU does it.
        let unfit = |reason: &str| reason.starts_with("alloc: beyond the device");
        let report = same_everywhere((&input, dir.path()), of, unfit);
        assert!(report.tensors.iter().all(|t| !t.method.is_kept()), "{quantize}");
    }
}

#[test]
fn fewer_distinct_vectors_make_shorter_codebooks_and_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..64 * 64).map(|i| [0.5, -1.0, 2.0][i / 4 * 7 % 3]).collect();
    let input = matrix(dir.path(), [64, 64], &values);
    let (output, back) = (dir.path().join("out"), dir.path().join("back"));
    let quantize = "kind = \"vector\", d = 4, k = 64, granularity = \"tensor\"";
    let report = run(&input, &output, &recipe(quantize, ""), &CPU);
    assert_eq!(report.tensors[0].form.entries, Some(3));
    let said = [
        "tensor \"w\" has codebooks of 3 entries, as no more distinct vectors of integers up to 2047 are there",
    ];
    assert_eq!(report.warnings, said);
    decompress(&output, &back, &options(&CPU)).unwrap();
    let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["w"].2);
    let far = values.iter().zip(&restored).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far <= 0.5 / 2047.0 * 2.0, "{far}");
}

#[test]
fn why_codebooks_are_shorter_is_said_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (rows, cols) = (64, 256);
    let input = matrix(dir.path(), [rows, cols], &gaussian(8, rows * cols));
    let file = at("importance.safetensors");
    let importance = |of: &dyn Fn(usize) -> f32| {
        let weights: Vec<f32> = (0..cols).map(of).collect();
        write_checkpoint(&file, &[("w", DType::F32, vec![cols], words_of(DType::F32, &weights))]);
        let quantize = "kind = \"vector\", d = 4, k = 128, granularity = \"tensor\"";
        let more = format!("importance = {:?}", file.to_str().unwrap());
        let report = run(&input, &at("out"), &recipe(quantize, &more), &CPU);
        (report.tensors[0].form.entries.unwrap(), report.warnings)
    };
    // One vector of each row counts.
    let (entries, said) = importance(&|c| if c < 4 { 1.0 } else { 0.0 });
    let words = "of integers up to 2047 have an importance above zero";
    assert_eq!(entries, 64);
    assert_eq!(
        said,
        [format!("tensor \"w\" has codebooks of 64 entries, as no more distinct vectors {words}")]
    );
    // None does, so all do.
    let (entries, said) = importance(&|_| 0.0);
    assert!(entries == 128 && said.is_empty(), "{entries}: {said:?}");
    // Of 80 vectors among zeros half are drawn.
    let mut values = vec![0.0; 128 * 4096];
    for (i, v) in gaussian(9, 80).into_iter().enumerate() {
        values[i * 6553 / 4 * 4] = v;
    }
    let input = matrix(dir.path(), [128, 4096], &values);
    let quantize = "kind = \"vector\", d = 4, k = 64, granularity = \"tensor\"";
    let said = run(&input, &at("out"), &recipe(quantize, ""), &CPU).warnings;
    let words = "as no more distinct vectors of integers up to 2047 are there among the 6";
    assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    assert!(said[0].ends_with(" that were drawn"), "{said:?}");
}

#[test]
fn importance_moves_the_entries() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (rows, cols) = (64, 256);
    let values = gaussian(8, rows * cols);
    let input = matrix(dir.path(), [rows, cols], &values);
    let important = |c: usize| if c < 64 { 100.0 } else { 1.0 };
    let weights: Vec<f32> = (0..cols).map(important).collect();
    let file = at("importance.safetensors");
    write_checkpoint(&file, &[("w", DType::F32, vec![cols], words_of(DType::F32, &weights))]);
    let weighted = |more: &str| -> f64 {
        run(&input, &at("out"), &recipe("kind = \"vector\", d = 4, k = 64", more), &CPU);
        decompress(&at("out"), &at("back"), &options(&CPU)).unwrap();
        let back: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&at("back"))["w"].2);
        let term = |i: usize| f64::from(weights[i % cols]) * f64::from(values[i] - back[i]).powi(2);
        (0..rows * cols).map(term).sum()
    };
    let plain = weighted("");
    let better = weighted(&format!("importance = {:?}", file.to_str().unwrap()));
    assert!(better < 0.97 * plain, "{better}, {plain}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |shape: [usize; 2], quantize: &str| {
        let input = matrix(dir.path(), shape, &noise(1, shape[0] * shape[1]));
        let error =
            compress(&input, &dir.path().join("out"), &recipe(quantize, ""), &options(&CPU));
        error.unwrap_err().to_string()
    };
    for (shape, quantize, expected) in [
        ([8, 30], "kind = \"vector\", d = 4, k = 4", "vectors of 4 do not divide its rows of 30"),
        (
            [8, 32],
            "kind = \"product\", d = 4, k = 4, spaces = 3",
            "a product of 3 x 4 does not divide its rows of 32",
        ),
        (
            [8, 32],
            "kind = \"vector\", d = 4, k = 4, granularity = \"group\", group = 2",
            "group 2 is no whole vectors of 4",
        ),
        (
            [8, 32],
            "kind = \"vector\", d = 4, k = 4, granularity = \"group\", group = 5",
            "group 5 does not divide its rows of 32",
        ),
        ([8, 30], "kind = \"pyramid\", n = 8, k = 4", "pyramids of 8 do not divide rows of 30"),
        (
            [1, 1_441_444],
            "kind = \"vector\", d = 4, k = 4",
            "its rows of 1441444 are too long for vectors: above 1441440",
        ),
    ] {
        assert_eq!(refused(shape, quantize), format!("recipe: tensor \"w\": {expected}"));
    }
}

#[test]
fn pyramids_have_the_error_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let input = matrix(dir.path(), [512, 1024], &gaussian(4, 512 * 1024));
    // The same search in f64, without rounded gains, has 0.0130, 0.0505 and 0.2107 (numpy, 4,000 vectors).
    for (n, bits, most) in [(32, 3.5, 0.0133), (16, 2.7, 0.0513), (64, 1.5, 0.2135)] {
        let quantize = format!("kind = \"pyramid\", n = {n}, bits = {bits}, gain_bits = 5");
        let report = run(&input, &dir.path().join("out"), &recipe(&quantize, ""), &CPU);
        let (error, stored) = (error(&report), report.tensors[0].bits_per_weight);
        println!("n = {n}, {bits} bits: {error:.5}, {stored:.3} bits");
        assert!(error <= most && error > 0.97 * most, "{n}: {error}");
        assert!(stored <= bits + 0.01, "{n}: {stored}");
    }
}

#[test]
fn groups_of_zeros_and_of_very_different_sizes_are_pyramids_too() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, cols) = (32, 128);
    let mut values = gaussian(6, rows * cols);
    for (r, row) in values.chunks_mut(cols).enumerate() {
        row.iter_mut().for_each(|v| *v *= 2f32.powi(-(r as i32) / 2));
    }
    values[..16].fill(0.0);
    let input = matrix(dir.path(), [rows, cols], &values);
    let (output, back) = (dir.path().join("out"), dir.path().join("back"));
    run(&input, &output, &recipe("kind = \"pyramid\", n = 16, k = 40", ""), &CPU);
    decompress(&output, &back, &options(&CPU)).unwrap();
    let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["w"].2);
    assert!(restored[..16].iter().all(|w| *w == 0.0));
    let groups = values.chunks(16).zip(restored.chunks(16)).enumerate().skip(1);
    for (g, (values, restored)) in groups {
        let squares = |f: &dyn Fn(usize) -> f32| (0..16).map(f).map(|x| x * x).sum::<f32>();
        let ratio = squares(&|i| values[i] - restored[i]) / squares(&|i| values[i]);
        assert!(ratio < 0.05, "group {g}: {ratio}");
    }
}

/// The report counts the weights that are gone with their groups, as it does of other kinds.
#[test]
fn weights_of_pyramids_that_are_lost_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (output, back) = (dir.path().join("out"), dir.path().join("back"));
    // The last three are too small beside the first; a zero in each is not lost.
    let powers = [0, -8, -19, -24, -120];
    let of = |powers: &[i32]| {
        let mut values = gaussian(7, powers.len() * 256);
        for (row, power) in values.chunks_mut(256).zip(powers) {
            row.iter_mut().for_each(|v| *v = (v.abs() + 0.5).copysign(*v) * 2f32.powi(*power));
            row[5] = 0.0;
        }
        let input = matrix(dir.path(), [powers.len(), 256], &values);
        let report = run(
            &input,
            &output,
            &recipe("kind = \"pyramid\", n = 16, k = 40, gain_bits = 3", ""),
            &CPU,
        );
        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&contents(&back)["w"].2);
        let lost = |(values, restored): (&[f32], &[f32])| match restored.iter().all(|w| *w == 0.0) {
            true => values.iter().filter(|w| **w != 0.0).count() as u64,
            false => 0,
        };
        let lost: u64 = values.chunks(16).zip(restored.chunks(16)).map(lost).sum();
        assert_eq!(report.tensors[0].flushed, lost, "{powers:?}");
        lost
    };
    assert_eq!(of(&powers[..2]), 0);
    assert_eq!(of(&powers), 3 * 255);
    // As of every kind, groups below 2^-110 become zeros, with nothing larger beside them too.
    assert_eq!(of(&[-120, -124]), 2 * 255);
    let vectors = |powers: i32| {
        let values: Vec<f32> = gaussian(8, 512).iter().map(|v| v * 2f32.powi(powers)).collect();
        let input = matrix(dir.path(), [8, 64], &values);
        run(&input, &output, &recipe("kind = \"vector\", d = 4, k = 16", ""), &CPU).tensors[0]
            .flushed
    };
    assert_eq!((vectors(0), vectors(-120)), (0, 512));
}
