//! The main job end to end on small checkpoints: the same bytes from every backend, any number of threads and any memory, and
//! everything comes back.

use crate::support::{
    CPU, WEIGHTS, gpu, noise, options, splitmix64, tiny_gpu, words_of, write_checkpoint,
};
use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};
use tersor::{
    Backend, Cancel, DType, Error, Progress,
    format::{Archive, Checkpoint},
    pipeline::{Options, compress, decompress, verify},
    recipe::{PRESETS, Recipe},
    report::Report,
};

/// A checkpoint with everything that is odd: every type, odd widths, empty and scalar tensors, constants, few values.
fn zoo(path: &Path) {
    let weights =
        |seed, n| -> Vec<f32> { noise(seed, n).iter().map(|x| x * x * x * 0.1).collect() };
    let mut tensors: Vec<(String, DType, Vec<usize>, Vec<u32>)> = Vec::new();
    for (i, dtype) in WEIGHTS.into_iter().enumerate() {
        for (rows, cols) in [(48, 64), (33, 61), (8, 512)] {
            let name = format!("layer{i}.{rows}x{cols}.weight");
            tensors.push((
                name,
                dtype,
                vec![rows, cols],
                words_of(dtype, &weights(i as u64, rows * cols)),
            ));
        }
        tensors.push((format!("layer{i}.bias"), dtype, vec![77], words_of(dtype, &weights(9, 77))));
    }
    let f32_of = |values: Vec<f32>| words_of(DType::F32, &values);
    tensors.push((
        "embed.weight".into(),
        DType::BF16,
        vec![64, 96],
        words_of(DType::BF16, &weights(7, 64 * 96)),
    ));
    tensors.push((
        "conv.weight".into(),
        DType::F16,
        vec![20, 7, 3, 3],
        words_of(DType::F16, &weights(3, 1260)),
    ));
    tensors.push(("zeros.weight".into(), DType::F32, vec![40, 40], f32_of(vec![0.0; 1600])));
    tensors.push((
        "three.weight".into(),
        DType::F32,
        vec![40, 40],
        f32_of((0..1600).map(|i| [0.5, -1.0, 0.0][i % 3]).collect()),
    ));
    tensors.push(("tiny.weight".into(), DType::F32, vec![40, 40], f32_of(vec![1e-38; 1600])));
    tensors.push((
        "huge.weight".into(),
        DType::F32,
        vec![40, 40],
        f32_of(noise(4, 1600).iter().map(|x| x * 3.4e38).collect()),
    ));
    tensors.push(("empty.weight".into(), DType::F32, vec![0, 40], vec![]));
    tensors.push(("scalar".into(), DType::F32, vec![], f32_of(vec![1.5])));
    tensors.push(("ids".into(), DType::I64, vec![9], (0..18).collect()));
    tensors.push(("flags".into(), DType::Bool, vec![5], vec![0x0100_0101, 1]));
    let borrowed: Vec<_> =
        tensors.iter().map(|(n, d, s, w)| (n.as_str(), *d, s.clone(), w.clone())).collect();
    write_checkpoint(path, &borrowed);
}

pub fn contents(path: &Path) -> BTreeMap<String, (DType, Vec<u64>, Vec<u8>)> {
    let c = Checkpoint::open(path).unwrap();
    c.tensors
        .iter()
        .map(|t| {
            let mut bytes = vec![0; t.bytes as usize];
            c.read_at(t.file, t.offset(), &mut bytes).unwrap();
            (t.name.clone(), (t.dtype, t.shape.clone(), bytes))
        })
        .collect()
}

fn recipes() -> Vec<(String, Recipe)> {
    let keep = "\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    let treat = |what: &str| {
        let rule =
            "version = 1\n[[rule]]\nmatch = \"*.weight\"\nmin_dims = 2\nmin_elements = 1000\n";
        (what.to_owned(), Recipe::parse(&format!("{rule}{what}\n{keep}")).unwrap())
    };
    // Rows of vectors are never cut: longer ones are refused.
    let vectors = |what: &str| {
        let rules = "version = 1\n[[rule]]\nmatch = \"long.weight\"\noptional = true\nkeep = true\n[[rule]]\nmatch = \"*.weight\"\nmin_dims = 2\nmin_elements = 1000\n";
        (what.to_owned(), Recipe::parse(&format!("{rules}{what}\n{keep}")).unwrap())
    };
    let mut all: Vec<_> =
        PRESETS.iter().map(|(n, text)| ((*n).to_owned(), Recipe::parse(text).unwrap())).collect();
    all.extend([
        treat("quantize = { kind = \"affine\", bits = 8, symmetric = false, granularity = \"tensor\" }"),
        treat("quantize = { kind = \"affine\", bits = 5, symmetric = false, granularity = \"channel\", objective = \"mse\" }"),
        treat("quantize = { kind = \"affine\", bits = 3, granularity = \"tensor\", objective = \"mse\" }"),
        treat("axis = 1\nquantize = { kind = \"affine\", bits = 4, granularity = \"channel\", objective = \"mse\" }"),
        treat("quantize = { kind = \"palette\", k = 13, granularity = \"channel\" }"),
        treat("quantize = { kind = \"palette\", bits = 2, granularity = \"group\", group = [8, 3, 4, 1] }"),
        treat("quantize = { kind = \"entropy\", bits = 2.5 }"),
        vectors("quantize = { kind = \"vector\", d = 1, k = 37 }\nencode = \"auto\""),
        vectors("quantize = { kind = \"vector\", d = 1, k = 300, granularity = \"tensor\" }"),
        vectors("quantize = { kind = \"residual\", d = 1, k = 5, stages = 3, scales = \"bf16\" }"),
        vectors("axis = 1\nquantize = { kind = \"vector\", d = 1, k = 16, seed = 7 }\nencode = \"rans\""),
        treat("axis = 1\nprune = { kind = \"magnitude\", density = 0.3 }\nquantize = { kind = \"entropy\", bits = 1.5 }"),
        treat("prune = { kind = \"magnitude\", density = 0.1 }"),
        treat("prune = { kind = \"magnitude\", density = 0.3, scope = \"row\" }"),
        treat("prune = { kind = \"magnitude\", density = 0.0, scope = \"row\" }\nquantize = { kind = \"affine\", bits = 8 }"),
        treat("prune = { kind = \"magnitude\", density = 0.25, scope = \"model\" }"),
        treat("prune = { kind = \"n:m\", n = 3, m = 7 }\nquantize = { kind = \"affine\", bits = 6 }"),
        treat("prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", bits = 4 }"),
        treat("prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", bits = 3, granularity = \"channel\" }"),
        treat("prune = { kind = \"channel\", density = 0.4 }\nquantize = { kind = \"affine\", bits = 8, symmetric = false }"),
        treat("prune = { kind = \"channel\", density = 0.5, norm = \"l1\" }"),
        treat("prune = { kind = \"block\", density = 0.5, block = [4, 16] }"),
        treat("quantize = { kind = \"binary\" }"),
        treat("axis = 1\nquantize = { kind = \"binary\" }"),
        treat("encode = \"auto\"\nquantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"group\", group = [32, \"row\"] }"),
        treat("encode = \"huffman\"\nquantize = { kind = \"palette\", k = 13, granularity = \"channel\" }"),
        treat("encode = \"rans\"\nquantize = { kind = \"affine\", bits = 8 }"),
        treat("encode = \"rans\"\nprune = { kind = \"magnitude\", density = 0.1 }"),
        treat("encode = \"auto\"\nprune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"affine\", bits = 4 }"),
        treat("axis = 1\nencode = \"auto\"\nprune = { kind = \"magnitude\", density = 0.2, scope = \"row\" }\nquantize = { kind = \"palette\", max_error = 0.2 }"),
        treat("prune = { kind = \"magnitude\", density = 0.3 }\nquantize = { kind = \"binary\" }"),
        treat("quantize = { kind = \"affine\", bits = 3, symmetric = false, granularity = \"tensor\", scales = \"bf16\" }"),
        treat("encode = \"auto\"\nquantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"group\", group = [16, \"row\"], objective = \"mse\", scales = \"bf16\" }"),
    ]);
    all
}

pub fn run(input: &Path, output: &Path, recipe: &Recipe, backend: &Backend) -> Report {
    compress(input, output, recipe, &options(backend)).unwrap()
}

/// A matrix of three experts one below the other, beside the stack of these, and the stack of their transposes: every rule that
/// speaks of rows does to the stacks what it does to the matrix.
#[test]
fn a_channel_of_an_expert_is_a_channel() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (experts, rows, cols) = (3, 20, 48);
    // No two rows are of one size.
    let size = |i: usize| 1.1f32.powi((i / cols) as i32);
    let weights: Vec<f32> =
        noise(1, experts * rows * cols).iter().enumerate().map(|(i, x)| x * size(i)).collect();
    let transposed = |from: &[f32], (rows, cols): (usize, usize)| -> Vec<f32> {
        let of_one = |m: &[f32]| (0..rows * cols).map(|i| m[i % rows * cols + i / rows]).collect();
        from.chunks(rows * cols).flat_map(|m: &[f32]| -> Vec<f32> { of_one(m) }).collect()
    };
    // A name says it, or config.json does.
    let name = ["layers.0.mlp.experts.up", "layers.0.moe.up"];
    let treat = |i: usize, shape: &[usize], weights: &[f32], rule: &str| {
        let folder = at("in");
        _ = fs::create_dir(&folder);
        fs::write(folder.join("config.json"), r#"{"text_config":{"num_experts":3}}"#).unwrap();
        let words = words_of(DType::F32, weights);
        let file = folder.join("model.safetensors");
        write_checkpoint(&file, &[(name[i], DType::F32, shape.to_vec(), words)]);
        let recipe = Recipe::parse(&format!("version = 1\n[[rule]]\nmatch = \"*\"\n{rule}\n"));
        let input = if i == 0 { file } else { folder };
        for made in [at("out"), at("back")].iter().filter(|made| made.exists()) {
            if made.is_dir() { fs::remove_dir_all(made) } else { fs::remove_file(made) }.unwrap();
        }
        let mut report = run(&input, &at("out"), &recipe.unwrap(), &CPU);
        decompress(&at("out"), &at("back"), &options(&CPU)).unwrap();
        let (_, _, bytes) = contents(&at("back")).remove(name[i]).unwrap();
        let report = report.tensors.remove(0);
        let stored = report.components.into_iter().filter(|c| c.name != "header");
        let stored = stored.map(|c| (c.name, c.bytes)).collect::<Vec<_>>();
        let restored: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        (restored, (report.method.as_str().to_owned(), stored, report.error.rel_op_norm_1))
    };
    for rule in [
        "quantize = { kind = \"affine\", bits = 8 }",
        "quantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"group\", group = 16, objective = \"mse\" }",
        "quantize = { kind = \"affine\", bits = 4, granularity = \"tensor\" }",
        "quantize = { kind = \"palette\", bits = 3, granularity = \"channel\" }",
        "quantize = { kind = \"palette\", bits = 3, granularity = \"group\", group = 4 }",
        "quantize = { kind = \"binary\" }\nencode = \"auto\"",
        "prune = { kind = \"magnitude\", density = 0.3, scope = \"row\" }",
        "prune = { kind = \"magnitude\", density = 0.3 }\nencode = \"auto\"",
        "prune = { kind = \"channel\", density = 0.4 }",
        "prune = { kind = \"block\", density = 0.4, block = [4, 16] }",
        "prune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"affine\", bits = 8 }",
    ] {
        let matrix = treat(0, &[experts * rows, cols], &weights, rule);
        assert_ne!(matrix.1.0, "kept", "{rule}");
        for i in [0, 1] {
            let stack = treat(i, &[experts, rows, cols], &weights, rule);
            assert_eq!(stack, matrix, "{rule}, {}", name[i]);
            let (stack, report) = treat(
                i,
                &[experts, cols, rows],
                &transposed(&weights, (rows, cols)),
                &format!("axis = 1\n{rule}"),
            );
            assert_eq!(report, matrix.1, "{rule}, axis = 1");
            assert_eq!(transposed(&stack, (cols, rows)), matrix.0, "{rule}, axis = 1");
        }
    }
}

/// Every stage: its bytes, and how many of them were said to be done.
#[derive(Default)]
struct Stages(Mutex<Vec<(String, u64, u64)>>);

impl Progress for Stages {
    fn begin(&self, stage: &str, bytes: u64) {
        self.0.lock().unwrap().push((stage.into(), bytes, 0));
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().last_mut().unwrap().2 += bytes;
    }
    fn warn(&self, _: &str) {}
}

/// Also those of a tensor that is kept after all, once it was coded or a NaN was found in it.
#[test]
fn progress_counts_every_byte_once() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output, back] = ["in", "out", "back"].map(|n| dir.path().join(n));
    let mut kept = 0;
    let mut job = |name: &str, recipe: &Recipe| {
        let stages = Stages::default();
        let options = Options { progress: &stages, ..options(&CPU) };
        let report = compress(&input, &output, recipe, &options).unwrap();
        decompress(&output, &back, &options).unwrap();
        let reasons = report.tensors.iter().filter_map(|t| t.reason.as_deref());
        kept += reasons.filter(|r| r.contains("it would take") || r.contains("NaN")).count();
        let stages = stages.0.into_inner().unwrap();
        assert_eq!(stages.len(), 4, "{name}: {stages:?}");
        for (stage, bytes, done) in stages {
            assert_eq!(done, bytes, "{name}: {stage}");
        }
    };
    zoo(&input);
    recipes().iter().for_each(|(name, recipe)| job(name, recipe));
    // Bytes of which none is common, and a NaN.
    let bits = splitmix64(7).map(|z| z as u32);
    let mut odd = words_of(DType::F32, &noise(8, 4096));
    odd[99] = f32::NAN.to_bits();
    write_checkpoint(
        &input,
        &[
            ("bits.weight", DType::F8E4M3, vec![64, 256], bits.take(4096).collect()),
            ("odd.weight", DType::F32, vec![64, 64], odd),
        ],
    );
    for preset in ["lossless", "int8", "coded4"] {
        job(preset, &Recipe::preset(preset).unwrap());
    }
    assert!(kept > 2, "only {kept} tensors were kept after all");
}

#[test]
fn the_same_bytes_from_every_backend_and_everything_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output, back) = (
        dir.path().join("in.safetensors"),
        dir.path().join("out.safetensors"),
        dir.path().join("back.safetensors"),
    );
    zoo(&input);
    let source = contents(&input);
    for (name, recipe) in recipes() {
        let report = run(&input, &output, &recipe, &CPU);
        let expected = fs::read(&output).unwrap();
        assert_eq!(report.output_bytes, expected.len() as u64, "{name}");
        let treated: Vec<_> = report.tensors.iter().filter(|t| !t.method.is_kept()).collect();
        assert!(treated.len() > 8, "{name}: only {} tensors treated", treated.len());

        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored = contents(&back);
        assert_eq!(
            restored.keys().collect::<Vec<_>>(),
            source.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for t in &report.tensors {
            let ((dtype, shape, bytes), (d, s, b)) = (&source[&t.name], &restored[&t.name]);
            assert_eq!((dtype, shape), (d, s), "{name}: {}", t.name);
            assert_eq!(
                t.method.is_kept() || t.error.mse == Some(0.0),
                bytes == b || same_values(*dtype, bytes, b),
                "{name}: {}",
                t.name
            );
        }
        let plain = fs::read(&back).unwrap();
        let checked = verify(&output, Some(&input), &options(&CPU)).unwrap();
        assert!(checked.ok && checked.tensors.len() == source.len(), "{name}");
        let errors = |report: &Report| -> Vec<String> {
            let of = report.tensors.iter().map(|t| (&t.name, t.error, t.density));
            of.map(|figures| serde_json::to_string(&figures).unwrap()).collect()
        };
        // What was measured while it was written, and once more from both files.
        assert_eq!(errors(&report), errors(&checked), "{name}");
        let values = !name.contains("quantize") && name.contains("encode");
        let measured = |report: &Report| serde_json::to_string(&report.tensors).unwrap();

        for on in [gpu(), tiny_gpu()].into_iter().flatten() {
            let report = run(&input, &output, &recipe, on);
            assert!(
                fs::read(&output).unwrap() == expected,
                "{name}: the bytes of {} differ",
                on.name()
            );
            let lossless = name == "lossless";
            assert!(lossless || report.gpu_tiles > 0, "{name}: nothing ran on {}", on.name());
            let preset = PRESETS.iter().any(|(n, _)| *n == name);
            assert!(
                !preset || report.cpu_tiles == 0,
                "{name}: {:?} on {}",
                report.cpu_reasons,
                on.name()
            );
            let restored = decompress(&output, &back, &options(on)).unwrap();
            assert!(
                fs::read(&back).unwrap() == plain,
                "{name}: {} restores differently",
                on.name()
            );
            let verified = verify(&output, Some(&input), &options(on)).unwrap();
            assert_eq!(measured(&verified), measured(&checked), "{name}: {}", on.name());
            for report in [restored, verified] {
                assert_eq!(
                    report.cpu_tiles,
                    0,
                    "{name}: {:?} on {}",
                    report.cpu_reasons,
                    on.name()
                );
                let codes = |t: &&str| ["codes", "coded"].contains(t);
                let components = report.tensors.iter().flat_map(|t| &t.components);
                let codes = !lossless && !values && components.map(|c| c.name).any(|c| codes(&c));
                assert_eq!(report.gpu_tiles > 0, codes, "{name} on {}", on.name());
            }
        }
    }
}

/// Equal but for the sign of zeros.
fn same_values(dtype: DType, a: &[u8], b: &[u8]) -> bool {
    let size = dtype.bytes(1);
    let clean = |e: &[u8]| {
        let mut e = e.to_vec();
        if e[size - 1] & 0x7f == 0 && e[..size - 1].iter().all(|x| *x == 0) {
            e[size - 1] = 0;
        }
        e
    };
    a.chunks(size).zip(b.chunks(size)).all(|(a, b)| clean(a) == clean(b))
}

#[test]
fn bytes_depend_on_neither_threads_nor_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    // Several blocks, tables that lie in two blocks or in more, and a row that is cut into pieces.
    let long = noise(5, 1_500_000);
    let wide = noise(6, 1400 * 1000);
    write_checkpoint(
        &input,
        &[
            ("long.weight", DType::BF16, vec![1, 1_500_000], words_of(DType::BF16, &long)),
            ("wide.weight", DType::F32, vec![1400, 1000], words_of(DType::F32, &wide)),
        ],
    );
    let group = |rows| {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"wide*\"\nquantize = {{ kind = \"palette\", k = 9, granularity = \"group\", group = {rows} }}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        );
        (format!("group {rows}"), Recipe::parse(&text).unwrap())
    };
    for (name, recipe) in recipes().into_iter().chain([group(200), group(350), group(700)]) {
        let mut first: Option<Vec<u8>> = None;
        let mut same = |options: Options| {
            let report = compress(&input, &output, &recipe, &options);
            let report = report.unwrap_or_else(|e| panic!("{name}: {e}"));
            let bytes = fs::read(&output).unwrap();
            assert!(
                first.get_or_insert_with(|| bytes.clone()) == &bytes,
                "{name}: {} threads, {} bytes on {}",
                options.threads,
                options.memory,
                options.backend.name()
            );
            report.gpu_tiles
        };
        for (threads, memory) in [(1, 1 << 30), (3, 1 << 30), (2, 448 << 20)] {
            same(Options { threads, memory, ..options(&CPU) });
        }
        if let Some(on) = gpu() {
            // Units of 16 MiB, and of a little above 4, so that the wide tensor is two: it is the memory that decides how much a GPU
            // is given at a time, and with fewer threads what a pruned palette needs beside the units is more than that leaves.
            let few = same(Options { threads: 1, memory: 1 << 30, ..options(on) });
            let many = same(Options { threads: 19, memory: 2200 << 20, ..options(on) });
            let lossless = name == "lossless" && many == 0;
            assert!(lossless || 0 < few && few < many, "{name}: {few} and {many} tiles");
        }
    }
}

#[test]
fn how_many_values_are_not_finite_is_said_whatever_the_scope() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let mut values = noise(1, 4096);
    values[..3].fill(f32::NAN);
    let words = values.iter().map(|v| v.to_bits()).collect();
    write_checkpoint(&input, &[("a.weight", DType::F32, vec![64, 64], words)]);
    for scope in ["tensor", "row", "model"] {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nnonfinite = \"error\"\nprune = {{ kind = \"magnitude\", density = 0.3, scope = \"{scope}\" }}\n"
        );
        let recipe = Recipe::parse(&text).unwrap();
        let error = compress(&input, &output, &recipe, &options(&CPU)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { count: 3, .. }), "{scope}: {error}");
    }
}

#[test]
fn numbers_whose_squares_underflow_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let tiny: Vec<u32> = noise(1, 4096)
        .iter()
        .map(|x| (f64::from(*x) * 1e-200).to_bits())
        .flat_map(|bits| [bits as u32, (bits >> 32) as u32])
        .collect();
    write_checkpoint(&input, &[("a.weight", DType::F64, vec![64, 64], tiny)]);
    for (name, recipe) in recipes() {
        let report = run(&input, &output, &recipe, &CPU);
        assert!(report.ok, "{name}");
        let rel = report.tensors[0].error.rel_error.unwrap();
        assert!(rel <= 1.0, "{name}: {rel}");
        let t = &report.tensors[0];
        assert!(
            t.flushed == 4096 || !t.method.as_str().starts_with("affine"),
            "{name}: {}",
            t.flushed
        );
    }
}

#[test]
fn values_that_are_not_finite_are_kept_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = noise(1, 4096);
        values[1234] = bad;
        let words = values.iter().map(|v| v.to_bits()).collect();
        write_checkpoint(&input, &[("a.weight", DType::F32, vec![64, 64], words)]);
        // Lossless, they are as good as others: tests/jobs/coded.rs.
        for (name, recipe) in recipes().into_iter().filter(|r| r.0 != "lossless") {
            let report = run(&input, &output, &recipe, &CPU);
            assert!(report.tensors[0].method.is_kept(), "{name}");
            // The tensor, and that there is no other.
            assert!(report.warnings.len() == 2 && report.tensors[0].reason.is_some(), "{name}");
            assert_eq!(contents(&input), contents(&output), "{name}: bit for bit");
            let strict = recipe.rules.iter().map(|r| {
                let mut rule = r.clone();
                rule.treatment.nonfinite = tersor::recipe::NonFinite::Error;
                rule
            });
            let strict = Recipe { rules: strict.collect(), defaults: recipe.defaults };
            fs::remove_file(&output).unwrap();
            let error = compress(&input, &output, &strict, &options(&CPU)).unwrap_err();
            assert!(matches!(error, Error::NonFinite { .. }), "{name}: {error}");
            assert!(!output.exists(), "{name}");
        }
    }
}

#[test]
fn a_mask_keeps_exactly_the_share_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output, back) = (
        dir.path().join("in.safetensors"),
        dir.path().join("out.safetensors"),
        dir.path().join("back.safetensors"),
    );
    // Few distinct magnitudes: nearly everything is a tie. Sixty-four rows of 100 in two tensors.
    let values =
        |seed| -> Vec<f32> { noise(seed, 6400).iter().map(|x| (x * 5.0).round() + 0.25).collect() };
    let (a, b) = (values(1), values(2));
    write_checkpoint(
        &input,
        &[
            ("b.weight", DType::F32, vec![64, 100], words_of(DType::F32, &b)),
            ("a.weight", DType::F32, vec![64, 100], words_of(DType::F32, &a)),
        ],
    );
    let kept_of = |scope: &str| {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nprune = {{ kind = \"magnitude\", density = 0.37, scope = \"{scope}\" }}\n"
        );
        run(&input, &output, &Recipe::parse(&text).unwrap(), &CPU);
        decompress(&output, &back, &options(&CPU)).unwrap();
        let restored = contents(&back);
        ["a.weight", "b.weight"].map(|n| {
            bytemuck::pod_collect_to_vec::<u8, f32>(&restored[n].2)
                .iter()
                .map(|v| *v != 0.0)
                .collect::<Vec<bool>>()
        })
    };
    // The oracle: larger magnitude first, then lower index; over the model, then by name.
    let oracle = |values: &[f32], keep: usize| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|x, y| values[*y].abs().total_cmp(&values[*x].abs()).then(x.cmp(y)));
        let mut kept = vec![false; values.len()];
        order[..keep].iter().for_each(|i| kept[*i] = true);
        kept
    };
    assert_eq!(kept_of("tensor"), [oracle(&a, 2368), oracle(&b, 2368)]);
    let rows = |v: &[f32]| v.chunks(100).flat_map(|row| oracle(row, 37)).collect::<Vec<_>>();
    assert_eq!(kept_of("row"), [rows(&a), rows(&b)]);
    let model = oracle(&[a.clone(), b.clone()].concat(), 4736);
    assert_eq!(kept_of("model").concat(), model);
}

#[test]
fn outputs_are_not_replaced_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    zoo(&input);
    let recipe = Recipe::preset("int8").unwrap();
    fs::write(&output, "precious").unwrap();
    let refused = |r: tersor::Result<Report>, what: &str| {
        let error = r.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(
        compress(&input, &output, &recipe, &Options { force: false, ..options(&CPU) }),
        "--force",
    );
    refused(compress(&input, &input, &recipe, &options(&CPU)), "input itself");
    #[cfg(unix)]
    {
        let link = dir.path().join("link.safetensors");
        std::os::unix::fs::symlink(&input, &link).unwrap();
        refused(compress(&input, &link, &recipe, &options(&CPU)), "input itself");
    }
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    // Stopped in the middle: the old file stays, and nothing else.
    static STOP: Cancel = Cancel::new();
    STOP.raise(2);
    let stopped = compress(&input, &output, &recipe, &Options { cancel: &STOP, ..options(&CPU) });
    assert!(matches!(stopped, Err(Error::Interrupted(2))));
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().contains("tersor")), "{left:?}");
    run(&input, &output, &recipe, &CPU);
    refused(
        compress(&output, &dir.path().join("twice.safetensors"), &recipe, &options(&CPU)),
        "archive already",
    );
}

#[test]
fn folders_keep_their_shards_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output, back) =
        (dir.path().join("in"), dir.path().join("out"), dir.path().join("back"));
    fs::create_dir_all(input.join("1_Pooling")).unwrap();
    let shard = |name: &str, tensor: &str, seed| {
        let words = words_of(DType::BF16, &noise(seed, 64 * 64));
        write_checkpoint(&input.join(name), &[(tensor, DType::BF16, vec![64, 64], words)]);
    };
    shard("model-00001-of-00002.safetensors", "a.weight", 1);
    shard("model-00002-of-00002.safetensors", "b.weight", 2);
    let index = r#"{"metadata":{"total_size":16384},"weight_map":{"a.weight":"model-00001-of-00002.safetensors","b.weight":"model-00002-of-00002.safetensors"}}"#;
    fs::write(input.join("model.safetensors.index.json"), index).unwrap();
    fs::write(input.join("config.json"), "{}").unwrap();
    fs::write(input.join("1_Pooling/config.json"), "{\"x\":1}").unwrap();
    fs::write(input.join("pytorch_model.bin"), "other weights").unwrap();
    let recipe = Recipe::preset("palette4").unwrap();
    for round in 0..2 {
        let report = run(&input, &output, &recipe, &CPU);
        assert_eq!(report.warnings.len(), 1, "the other weights are named");
        assert!(report.ratio > 3.0, "round {round}");
        assert_eq!(fs::read(output.join("1_Pooling/config.json")).unwrap(), b"{\"x\":1}");
        assert!(!output.join("pytorch_model.bin").exists());
        verify(&output, Some(&input), &options(&CPU)).unwrap();
        verify(&output.join("model.safetensors.index.json"), Some(&input), &options(&CPU)).unwrap();
        decompress(&output, &back, &options(&CPU)).unwrap();
        assert_eq!(
            contents(&back).keys().collect::<Vec<_>>(),
            contents(&input).keys().collect::<Vec<_>>()
        );
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing else is left: {names:?}");
    // A checkpoint that is quantized already is carried bit for bit, and says so.
    fs::write(input.join("config.json"), r#"{"quantization_config":{"quant_method":"gptq"}}"#)
        .unwrap();
    let report = run(&input, &output, &recipe, &CPU);
    assert!(report.tensors.iter().all(|t| t.method.is_kept() && t.reason.as_ref().unwrap().contains("already quantized")));
}

#[test]
fn the_manifest_of_a_small_archive_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    fs::write(&input, fs::read("assets/lenet-300-100.safetensors").unwrap()).unwrap();
    run(&input, &output, &Recipe::preset("palette4").unwrap(), &CPU);
    let archive = Archive::open(&output).unwrap();
    let manifest = archive.stored.files[0].metadata.get("tersor").unwrap();
    assert!(manifest.len() < 800, "{} bytes: {manifest}", manifest.len());
}

#[test]
fn an_error_beyond_its_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    zoo(&input);
    let text = |limit| {
        format!(
            "version = 1\n[[rule]]\nmatch = \"embed*\"\nquantize = {{ kind = \"affine\", bits = 2 }}\nmax_rel_error = {limit}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        )
    };
    let error = compress(&input, &output, &Recipe::parse(&text(0.01)).unwrap(), &options(&CPU))
        .unwrap_err();
    assert!(matches!(error, Error::Verify { metric: "rel_error", .. }) && !output.exists());
    run(&input, &output, &Recipe::parse(&text(0.99)).unwrap(), &CPU);
}

/// The exit code of a job of the program, what it says, and the most memory that it takes, in MiB.
#[cfg(target_os = "linux")]
fn peak_of(
    input: &Path,
    output: &Path,
    recipe: &str,
    memory: &str,
) -> (Option<i32>, String, usize) {
    let file = input.with_file_name("recipe.toml");
    fs::write(&file, recipe).unwrap();
    let [input, output, file] = [input, output, &file].map(|path| path.to_str().unwrap());
    let job = ["compress", input, "-o", output, "--recipe", file, "--memory", memory];
    let flags = ["--device", "cpu", "--threads", "2", "--force", "--quiet"];
    let (code, said, _, most) = crate::support::measured(&[&job[..], &flags].concat());
    (code, said, most >> 20)
}

#[test]
#[cfg(target_os = "linux")]
fn a_job_stays_within_its_memory_or_says_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    // 256 MiB, more than the job may take.
    let (rows, cols) = (1 << 17, 1 << 10);
    let words = noise(1, 1 << 16).iter().map(|x| x.to_bits()).collect::<Vec<_>>().repeat(1 << 10);
    write_checkpoint(&input, &[("w", DType::BF16, vec![rows, cols], words)]);
    let rule = |what: &str| format!("version = 1\n[[rule]]\nmatch = \"*\"\n{what}\n");
    for what in [
        "quantize = { kind = \"palette\", k = 16, granularity = \"group\", group = 65536 }",
        "quantize = { kind = \"palette\", k = 4, granularity = \"group\", group = 256 }",
        "quantize = { kind = \"affine\", bits = 8 }\naxis = 1",
        "prune = { kind = \"block\", density = 0.5, block = [4, 16] }",
    ] {
        let (code, said, peak) = peak_of(&input, &output, &rule(what), "160MiB");
        assert!(code == Some(0), "{what}: {said}");
        assert!(peak > 0 && peak <= 160, "{what}: {peak} MiB");
    }
    // A norm for every weight would take a gigabyte: that is said before anything is done.
    let what = "prune = { kind = \"block\", density = 0.5, block = [1, 1] }";
    let (_, said, peak) = peak_of(&input, &output, &rule(what), "160MiB");
    assert!(said.contains("the job needs 12") && peak <= 32, "{peak} MiB: {said}");
}
