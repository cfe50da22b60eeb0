//! Transforms of rows before they are quantized: the same bytes everywhere, what comes back, and what is refused.

use crate::{
    pipeline::contents,
    support::{CPU, WEIGHTS, gpu, noise, options, tiny_gpu, words_of, write_checkpoint},
};
use std::{fs, path::Path};
use tersor::{
    DType, Error, Tensor,
    form::TransformKind,
    format::{Archive, Checkpoint},
    kernels::Activation,
    nn::{Arithmetic, Linear, Model},
    pipeline::{Options, compress, decompress, plan, verify},
    recipe::Recipe,
    report::Report,
};

const HADAMARD: &str = "transform = { kind = \"hadamard\", seed = 3 }";

fn recipe(rule: &str) -> Recipe {
    let keep = "\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    Recipe::parse(&format!("version = 1\n[[rule]]\nmatch = \"*.weight\"\n{rule}\n{keep}")).unwrap()
}

/// Every type, a convolution, a stack of matrices, zeros, the largest numbers and the smallest.
fn model(path: &Path) {
    let cubes = |seed, n| noise(seed, n).iter().map(|x| x * x * x).collect::<Vec<f32>>();
    let mut tensors: Vec<(String, DType, Vec<usize>, Vec<f32>)> = Vec::new();
    for (i, dtype) in WEIGHTS.into_iter().enumerate() {
        tensors.push((format!("{i}.weight"), dtype, vec![16, 192], cubes(i as u64, 3072)));
    }
    tensors.push(("conv.weight".into(), DType::F16, vec![24, 8, 3, 3], cubes(11, 1728)));
    tensors.push(("experts.weight".into(), DType::BF16, vec![2, 32, 64], cubes(12, 4096)));
    tensors.push(("zeros.weight".into(), DType::F32, vec![8, 256], vec![0.0; 2048]));
    let huge = noise(13, 2048).iter().map(|x| x * 3.4e38).collect();
    tensors.push(("huge.weight".into(), DType::F32, vec![8, 256], huge));
    let tiny = noise(14, 2048).iter().map(|x| x * 1e-36).collect();
    tensors.push(("tiny.weight".into(), DType::F32, vec![8, 256], tiny));
    let words: Vec<_> = tensors.iter().map(|t| words_of(t.1, &t.3)).collect();
    let all = tensors.iter().zip(words);
    let all: Vec<_> = all.map(|((n, d, s, _), w)| (n.as_str(), *d, s.clone(), w)).collect();
    write_checkpoint(path, &all);
}

const RULES: [&str; 7] = [
    "transform = \"hadamard\"\nquantize = { kind = \"vector\", d = 4, k = 16 }",
    "transform = \"hadamard\"\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [64, 8], objective = \"mse\" }",
    "transform = { kind = \"dct\", block = 8 }\nquantize = { kind = \"affine\", bits = 3, symmetric = false, granularity = \"tensor\" }\nencode = \"auto\"",
    "transform = { kind = \"dct\", quantization = \"jpeg\" }\nquantize = { kind = \"entropy\", bits = 2.5 }\nencode = \"rans\"",
    "transform = { kind = \"hadamard\", block = 8, seed = 9 }\nquantize = { kind = \"palette\", k = 5, granularity = \"channel\" }",
    "axis = 1\ntransform = \"hadamard\"\nquantize = { kind = \"binary\" }",
    "transform = \"dct\"\nquantize = { kind = \"palette\", max_error = 0.2 }\nencode = \"huffman\"",
];

#[test]
fn bytes_do_not_depend_on_device_threads_or_memory_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let [input, good, other, back] = ["in", "good", "other", "back"].map(|n| dir.path().join(n));
    model(&input);
    for rule in RULES {
        let recipe = recipe(rule);
        let report = compress(&input, &good, &recipe, &options(&CPU)).unwrap();
        let treated = report.tensors.iter().filter(|t| t.form.transform.is_some()).count();
        assert!(treated >= 8, "{rule}: {treated} transformed");
        decompress(&good, &back, &options(&CPU)).unwrap();
        let restored = contents(&back);
        assert!(verify(&good, Some(&input), &options(&CPU)).unwrap().ok);
        let others = [
            (Some(&CPU), 1, 1 << 28),
            (Some(&CPU), 3, 1 << 30),
            (gpu(), 2, 1 << 30),
            (tiny_gpu(), 2, 1 << 29),
        ];
        for (on, threads, memory) in others {
            let Some(on) = on else { continue };
            let options = Options { threads, memory, force: true, ..options(on) };
            let made = compress(&input, &other, &recipe, &options).unwrap();
            assert_eq!(made.repaired_tiles, 0, "{rule} on {}: {:?}", on.name(), made.cpu_reasons);
            assert!(
                fs::read(&other).unwrap() == fs::read(&good).unwrap(),
                "{rule} on {}",
                on.name()
            );
            let made = decompress(&other, &back, &options).unwrap();
            assert_eq!(made.repaired_tiles, 0, "{rule} on {}: {:?}", on.name(), made.cpu_reasons);
            assert!(contents(&back) == restored, "{rule} on {}", on.name());
        }
        for made in [&good, &other, &back] {
            _ = fs::remove_file(made);
        }
    }
}

fn error_of(report: &Report) -> f64 {
    report.tensors[0].error.rel_error.unwrap()
}

/// What a transform is for, with a bound that a wrong one would not keep.
#[test]
fn outliers_cost_less_where_blocks_share_them_and_smooth_rows_where_a_few_coefficients_hold_them() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|n| dir.path().join(n));
    let errors = |values: &[f32], rule: &str| {
        write_checkpoint(
            &input,
            &[("a.weight", DType::F32, vec![64, 256], words_of(DType::F32, values))],
        );
        let options = Options { force: true, ..options(&CPU) };
        error_of(&compress(&input, &output, &recipe(rule), &options).unwrap())
    };
    let int4 = "quantize = { kind = \"affine\", bits = 4, granularity = \"channel\" }";
    let outliers: Vec<f32> = noise(1, 64 * 256)
        .iter()
        .enumerate()
        .map(|(i, x)| if i % 128 == 5 { 30.0 * x } else { *x })
        .collect();
    let (plain, spread) =
        (errors(&outliers, int4), errors(&outliers, &format!("{HADAMARD}\n{int4}")));
    assert!(spread < 0.6 * plain, "{spread}, without {plain}");
    // A slow wave in every row: almost all of it is in the first coefficients, which entropy coding has the bits for.
    let wave = |i: usize| (i % 256) as f32 * 0.02 + (i / 256) as f32;
    let smooth: Vec<f32> =
        noise(2, 64 * 256).iter().enumerate().map(|(i, x)| wave(i).sin() + 0.02 * x).collect();
    let entropy = "quantize = { kind = \"entropy\", bits = 2 }\nencode = \"rans\"";
    let (plain, few) =
        (errors(&smooth, entropy), errors(&smooth, &format!("transform = \"dct\"\n{entropy}")));
    assert!(few < 0.5 * plain, "{few}, without {plain}");
}

/// Rows that are stored in pieces: blocks of at most 32 end where these do.
#[test]
fn pieces_of_long_rows_consist_of_whole_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let [input, good, other] = ["in", "good", "other"].map(|n| dir.path().join(n));
    let (rows, cols) = (2, 2 * 1_441_440 + 64);
    let words = words_of(DType::BF16, &noise(3, rows * cols));
    write_checkpoint(&input, &[("long.weight", DType::BF16, vec![rows, cols], words)]);
    for (kind, rule) in [("hadamard", HADAMARD), ("dct", "transform = \"dct\"")] {
        let recipe = recipe(&format!(
            "{rule}\nquantize = {{ kind = \"affine\", bits = 4, granularity = \"group\", group = 32 }}"
        ));
        let options = Options { force: true, ..options(&CPU) };
        let report = compress(&input, &good, &recipe, &options).unwrap();
        assert_eq!(report.tensors[0].method.as_str(), format!("int4 per 32, {kind} 32"));
        if let Some(on) = tiny_gpu() {
            let options = Options { backend: on, ..options };
            let made = compress(&input, &other, &recipe, &options).unwrap();
            assert!(
                made.repaired_tiles == 0 && fs::read(&other).unwrap() == fs::read(&good).unwrap()
            );
        }
    }
    let error = plan(
        &Checkpoint::open(&input).unwrap(),
        &recipe(
            "transform = { kind = \"hadamard\", block = 64 }\nquantize = { kind = \"affine\", bits = 4 }",
        ),
        &options(&CPU),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(
            "transforms of 64 weights do not divide rows of 2882944, which are stored in pieces"
        ),
        "{error}"
    );
}

#[test]
fn rows_that_no_block_divides_are_refused_with_their_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    let of = |cols: usize| (DType::F32, vec![64, cols], words_of(DType::F32, &noise(4, 64 * cols)));
    let tensors = [("odd.weight", of(100)), ("even.weight", of(96))];
    let tensors = tensors.map(|(name, (dtype, shape, words))| (name, dtype, shape, words));
    write_checkpoint(&input, &tensors);
    let checkpoint = Checkpoint::open(&input).unwrap();
    let planned = |rule: &str| {
        let rule = format!("{rule}\nquantize = {{ kind = \"affine\", bits = 4 }}");
        plan(&checkpoint, &recipe(&rule), &options(&CPU)).map(|_| ()).unwrap_err()
    };
    let error = planned(HADAMARD);
    assert!(matches!(error, Error::Recipe(_)));
    let error = error.to_string();
    assert!(
        error.contains(
            "hadamard transforms at least 8 weights, which do not divide its rows of 100"
        ),
        "{error}"
    );
    assert!(error.contains("odd.weight") && !error.contains("even.weight"), "{error}");
    let error = planned("transform = { kind = \"dct\", block = 16 }").to_string();
    assert!(error.contains("transforms of 16 weights do not divide rows of 100"), "{error}");
}

/// What is said of it, what its manifest holds, and networks, which take such weights restored.
#[test]
fn reports_manifests_and_networks_know_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|n| dir.path().join(n));
    let words = words_of(DType::BF16, &noise(5, 128 * 384));
    write_checkpoint(
        &input,
        &[
            ("a.weight", DType::BF16, vec![128, 384], words.clone()),
            // Equal, so that it is tied.
            ("b.weight", DType::BF16, vec![128, 384], words),
        ],
    );
    let rule = "transform = { kind = \"hadamard\", seed = 6 }\nquantize = { kind = \"affine\", bits = 8 }\nencode = \"auto\"";
    let report = compress(&input, &output, &recipe(rule), &options(&CPU)).unwrap();
    assert_eq!(report.tensors[0].method.as_str(), "int8 per channel, hadamard 128, coded");
    assert_eq!(report.tensors[0].form.transform, Some("hadamard"));
    assert_eq!(report.tensors[0].form.block, Some(128));
    assert_eq!(report.tensors[1].method.tied_to(), Some("a.weight"));
    let archive = Archive::open(&output).unwrap();
    let manifest = archive.tensors[0].treated.as_ref().unwrap();
    let of = manifest.transform.as_ref().unwrap();
    assert_eq!((of.kind, of.block, of.steps.len()), (TransformKind::Hadamard { seed: 6 }, 128, 0));
    assert!(error_of(&report) < 0.01, "{}", error_of(&report));
    // A layer's product is that of the restored weights, bit for bit; integers of coefficients are none of weights.
    let back = dir.path().join("back");
    decompress(&output, &back, &options(&CPU)).unwrap();
    let x = Tensor::from_f32(&CPU, &noise(7, 3 * 384), 3).unwrap();
    let layer = |path: &Path, arithmetic| {
        let model = Model::open(path).unwrap();
        Linear::load(&model, &CPU, "a", 384, Activation::None, arithmetic)
    };
    let product = |path, arithmetic| {
        layer(path, arithmetic).unwrap().forward(&CPU, &x).unwrap().read(&CPU).unwrap()
    };
    let expected = product(&back, Arithmetic::Float);
    assert_eq!(product(&output, Arithmetic::Float), expected);
    assert_eq!(product(&output, Arithmetic::Mixed), expected);
    let error = layer(&output, Arithmetic::Int8).unwrap_err().to_string();
    assert!(error.contains("is stored as int8 per channel, hadamard 128, coded"), "{error}");
}
