//! What a plan promises from headers alone: never less than is written, about what is expected, and no device.

use crate::support::{
    CPU, WEIGHTS, each, measured, memory_folder, noise, options, skipped, splitmix64, tersor, tree,
    words_of, write_checkpoint,
};
use approx::assert_relative_eq;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};
use tersor::{
    DType,
    format::{Checkpoint, Entry, Metadata, Preface, write_header},
    pipeline::{compress, plan},
    recipe::{PRESETS, Recipe},
};

/// What is done to whatever has two dimensions, the rest kept. `exact`: of finite tensors not a byte more than expected is written.
struct Rule {
    treatment: &'static str,
    exact: bool,
}

const fn exact(treatment: &'static str) -> Rule {
    Rule { treatment, exact: true }
}

const fn about(treatment: &'static str) -> Rule {
    Rule { treatment, exact: false }
}

/// Every quantizer, pruning and coding, and some of them together.
const RULES: [Rule; 33] = [
    exact("quantize = { kind = \"affine\", bits = 8 }"),
    exact("quantize = { kind = \"affine\", bits = 8 }\nnonfinite = \"error\""),
    exact(
        "quantize = { kind = \"affine\", bits = 3, symmetric = false, granularity = \"tensor\" }",
    ),
    exact(
        "axis = 1\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [8, \"row\"], objective = \"mse\" }",
    ),
    exact("quantize = { kind = \"palette\", k = 5 }"),
    exact("quantize = { kind = \"palette\", bits = 1, granularity = \"channel\" }"),
    exact("quantize = { kind = \"palette\", max_error = 0.2 }"),
    exact("axis = 1\nquantize = { kind = \"binary\" }"),
    exact("quantize = { kind = \"entropy\", bits = 2.5 }"),
    exact("prune = { kind = \"n:m\", n = 2, m = 4 }"),
    exact("prune = { kind = \"n:m\", n = 1, m = 7 }\nquantize = { kind = \"affine\", bits = 5 }"),
    exact("prune = { kind = \"magnitude\", density = 0.3 }"),
    exact(
        "axis = 1\nprune = { kind = \"magnitude\", density = 0.3, scope = \"row\" }\nquantize = { kind = \"palette\", k = 3 }",
    ),
    about("prune = { kind = \"magnitude\", density = 0.3, scope = \"model\" }"),
    about(
        "prune = { kind = \"magnitude\", density = 0.6, scope = \"model\" }\nquantize = { kind = \"affine\", bits = 2 }",
    ),
    about("prune = { kind = \"magnitude\", density = 0.7, once = true }"),
    about(
        "prune = { kind = \"magnitude\", density = 0.5, once = true, scope = \"row\" }\nquantize = { kind = \"palette\", k = 16 }",
    ),
    exact("prune = { kind = \"channel\", density = 0.5 }"),
    exact(
        "prune = { kind = \"channel\", density = 0.4, norm = \"l1\" }\nquantize = { kind = \"affine\", bits = 3 }",
    ),
    exact("prune = { kind = \"block\", density = 0.4, block = [3, 4] }"),
    // Codebooks are shorter where there are fewer distinct vectors.
    about("quantize = { kind = \"vector\", d = 1, k = 9 }"),
    about(
        "axis = 1\nquantize = { kind = \"residual\", d = 1, k = 3, stages = 2, scales = \"bf16\" }",
    ),
    about("quantize = { kind = \"vector\", d = 1, k = 300 }\nencode = \"auto\""),
    about("encode = \"auto\""),
    about("axis = 1\nencode = \"huffman\""),
    about("encode = \"rans\""),
    about("quantize = { kind = \"affine\", bits = 4 }\nencode = \"huffman\""),
    about(
        "quantize = { kind = \"affine\", bits = 2, granularity = \"tensor\" }\nencode = \"rans\"",
    ),
    about("prune = { kind = \"block\", density = 0.4, block = [2, 4] }\nencode = \"auto\""),
    about(
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 5 }\nencode = \"rans\"",
    ),
    about(
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"ribbon\"",
    ),
    about(
        "prune = { kind = \"magnitude\", density = 0.05 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"bloomier\"",
    ),
    about(
        "prune = { kind = \"magnitude\", density = 0.3, scope = \"model\" }\nquantize = { kind = \"entropy\", bits = 1.5 }\nencode = \"auto\"",
    ),
];

/// Names that are short, long, of a stack, of an embedding, and that must be escaped.
const NAMES: [&str; 7] = [
    "w",
    "model.layers.0.self_attn.q_proj.weight",
    "mlp.experts.up",
    "embed_tokens.weight",
    "\u{1b}\"\\é\u{202e}",
    "a.name.that.takes.more.room.in.every.header.than.the.few.weights.which.it.stands.for.do.in.the.data.section",
    "h.0.attn.bias",
];

/// A repeatable choice.
struct Dice(Box<dyn Iterator<Item = u64>>);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next().unwrap() % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Values of every kind that there is, and whether all of them are finite.
fn values(dice: &mut Dice, dtype: DType, len: usize) -> (Vec<u32>, bool) {
    let mut values = noise(dice.below(1 << 30) as u64, len);
    match dice.below(7) {
        0 => values.fill(0.5),
        1 => values.fill(-0.0),
        2 => values.iter_mut().step_by(2).for_each(|v| *v = 0.0),
        3 => values.iter_mut().for_each(|v| *v = *v * *v * *v * 1e-3),
        4 => values.iter_mut().for_each(|v| *v *= 1e-40),
        _ => {}
    }
    let mut words = words_of(dtype, &values);
    let finite = len == 0 || dice.below(5) > 0;
    if !finite {
        // All bits but the sign: a NaN of every type.
        let size = dtype.bytes(1);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let at = dice.below(len) * size;
        bytes[at..at + size].fill(0xff);
        bytes[at + size - 1] = 0x7f;
    }
    (words, finite)
}

/// Writes a file with tensors whose names begin with a number; says whether all weights are finite.
fn write_file(dice: &mut Dice, path: &Path, number: usize) -> (Vec<String>, bool) {
    let (mut data, mut entries, mut all_finite) = (Vec::new(), Vec::new(), true);
    for i in 0..dice.below(4) + 1 {
        let dtype = match dice.below(5) {
            0 => dice.of(&DType::ALL).0,
            _ => dice.of(&WEIGHTS),
        };
        let side = |dice: &mut Dice| dice.of(&[1, 2, 3, 8, 16, 31, 32, 33, 64, 100]);
        let mut shape: Vec<u64> = (0..dice.below(3) + 1).map(|_| side(dice)).collect();
        shape.truncate(if shape.iter().product::<u64>() > 1 << 14 { 2 } else { 3 });
        if dice.below(12) == 0 {
            shape[0] = 0;
        }
        let mut elements = shape.iter().product::<u64>() as usize;
        if !(elements * dtype.bits()).is_multiple_of(8) {
            shape.push(4);
            elements *= 4;
        }
        let bytes = dtype.bytes(elements);
        let (words, finite) = match WEIGHTS.contains(&dtype) {
            true => values(dice, dtype, elements),
            false => {
                let of = dice.of(&[1, 7, 100, u32::MAX]);
                let words = splitmix64(dice.below(1 << 30) as u64).map(|z| z as u32 % of);
                (words.take(bytes.div_ceil(4)).collect(), true)
            }
        };
        all_finite &= finite;
        let start = data.len() as u64;
        data.extend(&bytemuck::cast_slice::<u32, u8>(&words)[..bytes]);
        let name = format!("{number}.{i}.{}", dice.of(&NAMES));
        entries.push(Entry {
            name: name.into(),
            dtype,
            shape: shape.into(),
            bytes: start..data.len() as u64,
        });
    }
    let metadata: Metadata = match dice.below(3) {
        0 => [("format", "pt"), ("\"\n", "\u{1}é")].into_iter().collect(),
        _ => Metadata::default(),
    };
    let names = entries.iter().map(|e| e.name.to_string()).collect();
    let mut header = Vec::new();
    let preface = Preface { metadata: &metadata, ..Preface::default() };
    write_header(&mut header, preface, "", entries).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
    (names, all_finite)
}

/// Writes a file, or a folder of shards with what is carried along.
fn write_model(dice: &mut Dice, root: &Path) -> (PathBuf, bool) {
    if dice.below(2) == 0 {
        let path = root.join("in.safetensors");
        let (_, finite) = write_file(dice, &path, 0);
        return (path, finite);
    }
    let folder = root.join("in");
    fs::create_dir_all(folder.join("more")).unwrap();
    let (mut map, mut all_finite) = (serde_json::Map::new(), true);
    let long = "é".repeat(dice.of(&[1, 100]));
    for shard in 0..dice.below(3) + 1 {
        let name = format!("{shard}-{long}.safetensors");
        let (names, finite) = write_file(dice, &folder.join(&name), shard);
        all_finite &= finite;
        map.extend(names.into_iter().map(|tensor| (tensor, name.clone().into())));
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    for (name, len) in [("config.json", 0), ("tokenizer.json", dice.below(5000)), ("more/x", 3)] {
        fs::write(folder.join(name), [b"{}", &b" ".repeat(len)[..]].concat()).unwrap();
    }
    (folder, all_finite)
}

#[test]
fn no_plan_is_exceeded() {
    let recipes: Vec<(String, bool)> = PRESETS
        .iter()
        .map(|(_, text)| {
            (text.to_string(), !text.contains("encode = \"auto\"") && !text.contains("once"))
        })
        .chain(RULES.iter().map(|rule| {
            let keep = "[[rule]]\nmatch = \"*\"\nkeep = true\n";
            let rule_text = format!(
                "version = 1\n[[rule]]\nmatch = \"*\"\nmin_dims = 2\noptional = true\n{}\n{keep}",
                rule.treatment
            );
            (rule_text, rule.exact)
        }))
        .collect();
    // More of them for whoever changes a bound.
    let times = std::env::var("TERSOR_PLANS").map_or(1, |n| n.parse().unwrap());
    let cases: Vec<u64> = (0..times * recipes.len() as u64).collect();
    let done = std::sync::atomic::AtomicUsize::new(0);
    each(&cases, |_, seed| {
        let (text, exact) = &recipes[*seed as usize % recipes.len()];
        let dir = memory_folder();
        let mut dice = Dice(Box::new(splitmix64(seed ^ 0xb0_07)));
        let (input, finite) = write_model(&mut dice, dir.path());
        let (recipe, output) = (Recipe::parse(text).unwrap(), dir.path().join("out"));
        let checkpoint = Checkpoint::open(&input).unwrap();
        let planned = plan(&checkpoint, &recipe, &options(&CPU)).unwrap();
        let carried = checkpoint.carried_bytes().unwrap();
        let report = match compress(&input, &output, &recipe, &options(&CPU)) {
            Ok(report) => report,
            Err(tersor::Error::NonFinite { .. }) if !finite => return,
            Err(e) => panic!("{seed}: {text}: {e}"),
        };
        done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let written: u64 = match output.is_dir() {
            true => tree(&output).values().map(|bytes| bytes.len() as u64).sum(),
            false => output.metadata().unwrap().len(),
        };
        assert_eq!(written, report.output_bytes, "{seed}");
        let (most, expected) = (planned.output_bytes + carried, planned.expected_bytes + carried);
        assert!(written <= most, "{seed}: {written} of at most {most}: {text}");
        assert!(expected <= most, "{seed}: {expected} expected, at most {most}: {text}");
        if *exact && finite {
            assert!(written <= expected, "{seed}: {written} of {expected}: {text}");
        }
        for ((t, step), done) in checkpoint.tensors.iter().zip(&planned.steps).zip(&report.tensors)
        {
            assert_eq!(t.name, done.name);
            let bytes: u64 =
                done.components.iter().filter(|c| c.name != "header").map(|c| c.bytes).sum();
            assert!(bytes <= step.bytes, "{seed}, {:?}: {bytes} of {}: {text}", t.name, step.bytes);
            let pruned = text.contains("prune");
            if *exact && finite && !pruned && !text.contains("max_error") {
                assert_eq!(bytes, step.expected_bytes, "{seed}, {:?}: {text}", t.name);
            }
        }
    });
    let done = done.into_inner();
    assert!(done > cases.len() * 9 / 10, "{done} of {} jobs went through", cases.len());
}

#[test]
fn a_network_that_is_not_pruned_again_may_keep_more_of_one_tensor_than_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out"));
    let tensor = |name, words| (name, DType::F32, vec![32, 32], words);
    let tensors =
        [tensor("dense", words_of(DType::F32, &noise(1, 1024))), tensor("sparse", vec![0; 1024])];
    write_checkpoint(&input, &tensors);
    let text = "version = 1\n[[rule]]\nmatch = \"*\"\nnonfinite = \"error\"\nprune = { kind = \"magnitude\", density = 0.6, once = true }\n";
    let recipe = Recipe::parse(text).unwrap();
    let planned = plan(&Checkpoint::open(&input).unwrap(), &recipe, &options(&CPU)).unwrap();
    let report = compress(&input, &output, &recipe, &options(&CPU)).unwrap();
    // Every weight of the dense one, and the mask.
    assert_eq!(planned.steps[0].bytes, 4096 + 128);
    assert!(planned.steps[0].expected_bytes < 4096);
    assert_eq!(report.tensors[0].density, Some(1.0));
    assert!(report.output_bytes <= planned.output_bytes);
}

#[test]
fn what_is_expected_of_coded_tensors_is_about_what_they_take() {
    let dir = memory_folder();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out"));
    let sums = noise(3, 8 << 16);
    let values: Vec<f32> = sums.chunks(8).map(|eight| 0.02 * eight.iter().sum::<f32>()).collect();
    for (dtype, only) in [(DType::BF16, ""), (DType::F32, "lossless")] {
        write_checkpoint(&input, &[("w", dtype, vec![256, 256], words_of(dtype, &values))]);
        let vectors = |what| {
            let rule = format!("version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ {what} }}\n");
            (what, Recipe::parse(&(rule + "encode = \"auto\"\n")).unwrap())
        };
        let presets = PRESETS.iter().map(|(name, _)| (*name, Recipe::preset(name).unwrap()));
        let recipes = presets.chain([
            vectors("kind = \"vector\", d = 4, k = 64"),
            vectors("kind = \"residual\", d = 2, k = 16, stages = 3"),
        ]);
        for (name, recipe) in recipes.filter(|(name, _)| name.contains(only)) {
            let checkpoint = Checkpoint::open(&input).unwrap();
            let planned = plan(&checkpoint, &recipe, &options(&CPU)).unwrap();
            let report = compress(&input, &output, &recipe, &options(&CPU)).unwrap();
            let (found, expected) = (report.output_bytes as f64, planned.expected_bytes as f64);
            println!("{name} of {}: {found} of {expected}", dtype.name());
            // How many bits an error needs depends on more than the pruned share.
            let off = if name == "deep" { 0.3 } else { 0.1 };
            assert_relative_eq!(found, expected, max_relative = off, epsilon = 0.0);
        }
    }
}

/// A folder with one checkpoint, and the binary run in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(tensors: &[(&str, DType, Vec<usize>, Vec<u32>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&dir.path().join("in.safetensors"), tensors);
        Self(dir)
    }

    fn recipe(&self, text: &str) {
        fs::write(self.0.path().join("r.toml"), format!("version = 1\n{text}")).unwrap();
    }

    fn run(&self, args: &str) -> Output {
        tersor().args(args.split(' ')).current_dir(self.0.path()).output().unwrap()
    }

    /// Exit code and what is said on stderr.
    fn said(&self, args: &str) -> (i32, String) {
        let done = self.run(args);
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    }

    #[track_caller]
    fn json(&self, args: &str) -> Value {
        let done = self.run(&format!("{args} --json"));
        assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

fn matrix(name: &str, rows: usize, cols: usize) -> (&str, DType, Vec<usize>, Vec<u32>) {
    (name, DType::F32, vec![rows, cols], words_of(DType::F32, &noise(7, rows * cols)))
}

#[test]
fn without_a_recipe_every_preset_has_a_row() {
    let place = Place::new(&[matrix("a.weight", 64, 64), matrix("embed.weight", 96, 64)]);
    let all = place.json("plan in.safetensors --device cpu");
    assert_eq!(
        all["input_bytes"],
        fs::metadata(place.0.path().join("in.safetensors")).unwrap().len()
    );
    let rows = all["presets"].as_array().unwrap();
    assert!(rows.iter().map(|row| row["name"].as_str().unwrap()).eq(PRESETS.map(|p| p.0)));
    for row in rows {
        let one = place.json(&format!(
            "plan in.safetensors --device cpu -p {}",
            row["name"].as_str().unwrap()
        ));
        for key in ["output_bytes", "expected_bytes", "memory_bytes"] {
            assert_eq!(row[key], one[key], "{} of {}", key, row["name"]);
        }
        let treated = one["tensors"].as_array().unwrap().iter().filter(|t| t["reason"].is_null());
        assert_eq!(row["treated"], treated.count());
    }
    assert_eq!(rows[0]["bits_per_weight"], 8.5, "a scale of 32 bits for 64 weights");
    let text = String::from_utf8(place.run("plan in.safetensors --device cpu").stdout).unwrap();
    let int4 = text.lines().find(|line| line.starts_with("int4 ")).unwrap();
    assert!(int4.ends_with("2 of 2  small, restored at full speed"), "{int4}");
    // What stands before recipes stands before each; one that does not fit says why.
    let kept = place.json("plan in.safetensors --device cpu --keep embed.*");
    assert!(kept["presets"].as_array().unwrap().iter().all(|row| row["treated"] == 1), "{kept}");
    let some = place.json("plan in.safetensors --device cpu --memory 80MiB");
    let errors: Vec<bool> =
        some["presets"].as_array().unwrap().iter().map(|row| row["error"].is_string()).collect();
    assert!(errors.contains(&true) && errors.contains(&false), "{some}");
    assert_eq!(place.said("plan in.safetensors --keep nothing").0, 2);
}

#[test]
fn a_plan_of_many_tensors_takes_no_time() {
    let names: Vec<String> =
        (0..272).map(|i| format!("model.layers.{}.mlp.{}.weight", i / 9, i % 9)).collect();
    let place = Place::new(&names.iter().map(|n| matrix(n, 8, 8)).collect::<Vec<_>>());
    let path = place.0.path().join("in.safetensors");
    let (code, said, seconds, _) = measured(&["plan", path.to_str().unwrap(), "--quiet"]);
    // 15 ms in a release; the machine may do other things.
    assert!(code == Some(0) && seconds < 1.0, "{seconds} s: {said}");
}

#[test]
fn a_device_is_opened_only_for_kernels() {
    let place = Place::new(&[matrix("w", 64, 64)]);
    let run = |args: &str| {
        let out = tersor()
            .args(args.split(' '))
            .current_dir(place.0.path())
            .env("VK_LOADER_DEBUG", "all")
            .env("VK_DRIVER_FILES", "/nonexistent")
            .output()
            .unwrap();
        (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    // A plan needs no driver, not even for a device that there is none of.
    for device in ["auto", "gpu", "cpu"] {
        for what in ["", " -p int8", " -p deep --json"] {
            let (code, said) = run(&format!("plan in.safetensors --device {device}{what}"));
            assert!(code == 0 && !said.contains("vulkan") && !said.contains("LAYER"), "{said}");
        }
    }
    let loader = |args: &str| {
        let (code, said) = run(args);
        assert_eq!(code, 0, "{args}: {said}");
        said.lines().any(|line| {
            line.contains("[Vulkan Loader]")
                || line.contains("LOADER")
                || line.starts_with("INFO")
                || line.starts_with("DEBUG")
        })
    };
    let compress = "compress in.safetensors -o out --force -q";
    let opens = loader(&format!("{compress} -p int8"));
    if !opens {
        return skipped("that a device is opened only for kernels: no Vulkan loader speaks".into());
    }
    assert!(loader("decompress out -o back --force -q"));
    for what in ["-p lossless", "-p int8 --keep *", "--bits 4 --dry-run --set w=int8"] {
        assert!(!loader(&format!("{compress} {what}")), "{what}");
    }
    // Whether kernels run is asked of the variant that is taken.
    let folder = place.0.path().join("variants");
    std::fs::create_dir(&folder).unwrap();
    for (name, rows) in [("model.safetensors", 1), ("model.fp16.safetensors", 64)] {
        let w = words_of(DType::F16, &noise(1, rows * 64));
        write_checkpoint(&folder.join(name), &[("w", DType::F16, vec![rows, 64], w)]);
    }
    let variants = "compress variants -o small --force -q -p int8";
    assert!(!loader(variants) && loader(&format!("{variants} --variant fp16")));
    loader(&format!("{compress} -p lossless"));
    assert!(!loader("decompress out -o back --force -q"));
    assert!(!loader(&format!("{compress} -p sparse24 --keep *")));
    // Whoever asks for one by name is told that there is none.
    assert_eq!(run(&format!("{compress} -p lossless --device gpu")).0, 2);
}

#[test]
fn what_changes_nothing_says_so_and_why() {
    let place =
        Place::new(&[matrix("a.weight", 4, 4), matrix("b.weight", 5, 4), matrix("c", 1, 9)]);
    let nothing = "nothing is changed: all 3 tensors are kept: it has fewer than 1024 elements; `tersor plan MODEL` shows what each preset would do";
    let compress = "compress in.safetensors -o out --force --device cpu";
    let report = place.json(&format!("{compress} -p int8"));
    assert_eq!(report["warnings"], serde_json::json!([nothing]));
    assert!(place.said("plan in.safetensors -p int8").1.contains(nothing));
    // The commonest of several reasons.
    place.recipe("[[rule]]\nmatch = \"*.weight\"\nquantize = { kind = \"palette\", k = 256 }\n[[rule]]\nmatch = \"*\"\nkeep = true\n");
    let nothing = nothing.replace(
        "kept: it has fewer than 1024 elements",
        "kept, 2 of them for this: its treated form is not smaller",
    );
    let report = place.json(&format!("{compress} --recipe r.toml"));
    assert_eq!(report["warnings"], serde_json::json!([nothing]));
    // A rule of one's own whose every tensor a guard keeps, for reasons of their own, while others are treated.
    place.recipe("[[rule]]\nmatch = \"*.weight\"\nencode = \"auto\"\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 2, granularity = \"tensor\" }\n");
    let report = place.json(&format!("{compress} --recipe r.toml"));
    let idle = "rule \"*.weight\" does not change any of its 2 tensors: \"a.weight\": coded, it would take 69 bytes, as it is 64; \"b.weight\": coded, it would take 85 bytes, as it is 80";
    assert_eq!(report["warnings"], serde_json::json!([idle]));
    // Nothing of the kind is said where all is as it was asked.
    let (code, said) = place.said("plan in.safetensors --device cpu --recipe r.toml");
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn a_flag_that_a_guard_overrides_is_said() {
    let mut tensors = vec![matrix("plain.weight", 64, 64)];
    let names: Vec<String> = (0..5).map(|i| format!("h.{i}.weight")).collect();
    for name in &names {
        tensors.push((name, DType::I8, vec![32, 64], vec![3; 512]));
    }
    let place = Place::new(&tensors);
    let said = "--set h.*=deep does not change any of its 5 tensors: already quantized: integer codes (\"h.0.weight\", \"h.1.weight\", \"h.2.weight\" and 2 more)";
    for job in ["plan in.safetensors", "compress in.safetensors -o out --device cpu"] {
        let (code, found) = place.said(&format!("{job} -p int8 --set h.*=deep"));
        assert!(code == 0 && found.contains(said), "{found}");
        assert!(!found.contains("nothing is changed"), "{found}");
    }
}

#[test]
fn what_does_not_fit_many_tensors_is_a_line_for_each_rule() {
    let names: Vec<String> = (0..9).map(|i| format!("h.{i}.weight")).collect();
    let mut tensors: Vec<_> = names.iter().map(|n| matrix(n, 10, 30)).collect();
    tensors.extend(["x", "y", "z", "zz"].map(|n| matrix(n, 8, 31)));
    let place = Place::new(&tensors);
    let quantize =
        "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = 16 }";
    place.recipe(&format!(
        "[[rule]]\nmatch = \"h.[0-6].*\"\n{quantize}\n[[rule]]\nregex = \"[h-x].*\"\n{quantize}\n"
    ));
    let (code, said) = place.said("plan in.safetensors --recipe r.toml");
    let expected = "tersor: recipe: rule \"h.[0-6].*\" does not fit 7 tensors: group 16 does not divide its rows of 30 (\"h.0.weight\", \"h.1.weight\", \"h.2.weight\" and 4 more)
  rule \"[h-x].*\" does not fit 3 tensors: \"h.7.weight\": group 16 does not divide its rows of 30; \"h.8.weight\": group 16 does not divide its rows of 30; \"x\": group 16 does not divide its rows of 31
  no rule matches 3 tensors (\"y\", \"z\", \"zz\"); end the recipe with a rule that keeps \"*\"\n";
    assert_eq!((code, said.as_str()), (2, expected));
}
