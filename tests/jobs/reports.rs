//! What the command line reports, as a user sees it: the numbers are right, every byte has its place, nothing is kept back.

use crate::support::{gpu, noise, words_of, write_checkpoint};
use approx::{assert_abs_diff_eq, assert_relative_eq};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;
use tersor::DType;

/// Exit code, stdout and stderr of the binary.
fn tersor(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_tersor")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// What a job that succeeds prints with `--json`.
fn json(args: &[&str]) -> Value {
    let (code, out, err) = tersor(&[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// A folder with a checkpoint, a recipe, and names for what comes out.
struct Place {
    _dir: TempDir,
    model: String,
    recipe: String,
    out: String,
    back: String,
}

impl Place {
    fn new(tensors: &[(&str, DType, Vec<usize>, Vec<u32>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (model, recipe) = (path("in.safetensors"), path("recipe.toml"));
        let (out, back) = (path("out.safetensors"), path("back.safetensors"));
        write_checkpoint(Path::new(&model), tensors);
        Self { _dir: dir, model, recipe, out, back }
    }

    /// Compresses with a treatment of every tensor of two dimensions.
    fn compress(&self, treatment: &str) -> Value {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nmin_dims = 2\n{treatment}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        );
        fs::write(&self.recipe, text).unwrap();
        let to = ["-o", &self.out, "--recipe", &self.recipe, "--device", "cpu", "--force"];
        json(&[&["compress", &self.model], &to[..]].concat())
    }

    fn preset(&self, name: &str) -> Value {
        let to = ["-o", &self.out, "--preset", name, "--device", "cpu", "--force"];
        json(&[&["compress", &self.model], &to[..]].concat())
    }
}

fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()
}

fn f32_words(values: &[f32]) -> Vec<u32> {
    words_of(DType::F32, values)
}

fn f64_words(values: &[f64]) -> Vec<u32> {
    values.iter().flat_map(|v| [v.to_bits() as u32, (v.to_bits() >> 32) as u32]).collect()
}

#[test]
fn inspect_shows_the_range_and_the_moments_of_the_values_themselves() {
    // Values that share their bins of 20-bit keys, so that the means of the bins hide them.
    let fine: Vec<f32> = (0..4096).map(|i| 1.0 + i as f32 * f32::EPSILON).collect();
    let double: Vec<f64> = noise(1, 3000).iter().map(|v| f64::from(*v) * (0.1 + 1e-12)).collect();
    let mut odd = noise(2, 1000);
    (odd[3], odd[500], odd[999]) = (f32::NAN, f32::INFINITY, -0.0);
    let offset: Vec<f64> = noise(3, 1000).iter().map(|v| 1e9 + f64::from(*v)).collect();
    let wide: Vec<f64> = [1e300, 1.0, -2.0, 0.0].to_vec();
    let place = Place::new(&[
        ("fine", DType::F32, vec![64, 64], f32_words(&fine)),
        ("double", DType::F64, vec![30, 100], f64_words(&double)),
        ("odd", DType::F32, vec![1000], odd.iter().map(|v| v.to_bits()).collect()),
        ("offset", DType::F64, vec![1000], f64_words(&offset)),
        ("wide", DType::F64, vec![4], f64_words(&wide)),
        ("half", DType::BF16, vec![64, 64], words_of(DType::BF16, &noise(4, 4096))),
        ("none", DType::F32, vec![2], vec![f32::NAN.to_bits(); 2]),
    ]);
    for device in ["cpu", "gpu"] {
        if device == "gpu" && gpu().is_none() {
            continue;
        }
        let report = json(&["inspect", &place.model, "--device", device]);
        let check = |name: &str, values: Vec<f64>| {
            let found = &tensor(&report, name)["weights"];
            let finite: Vec<f64> = values.into_iter().filter(|v| (*v as f32).is_finite()).collect();
            let number = |key: &str| found[key].as_f64().unwrap_or_else(|| panic!("{name}: {key}"));
            let (min, max) =
                finite.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            // The parser of the JSON may be off by the last bit.
            assert_relative_eq!(number("min"), min, epsilon = 0.0, max_relative = 1e-15);
            assert_relative_eq!(number("max"), max, epsilon = 0.0, max_relative = 1e-15);
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            // Sums in another order, of values that may cancel.
            let largest = max.abs().max(min.abs());
            assert_abs_diff_eq!(number("mean"), mean, epsilon = 1e-14 * largest);
            let squares: f64 = finite.iter().map(|v| (v - mean) * (v - mean)).sum();
            let deviation = (squares / finite.len() as f64).sqrt();
            // Squares of differences from a mean that is off by so little.
            let found_deviation = number("deviation");
            assert_relative_eq!(found_deviation, deviation, epsilon = 0.0, max_relative = 1e-8);
            assert_eq!(found["zeros"], finite.iter().filter(|v| **v == 0.0).count(), "{name}");
        };
        let exact = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        check("fine", exact(&fine));
        check("double", double.clone());
        check("odd", exact(&odd));
        check("offset", offset.clone());
        check("wide", wide.clone());
        let mut half = vec![0.0; 4096];
        tersor::dtype::decode(DType::BF16, &words_of(DType::BF16, &noise(4, 4096)), 0, &mut half);
        check("half", exact(&half));
        let of = |name: &str, key: &str| tensor(&report, name)["weights"][key].clone();
        assert_eq!((of("odd", "nonfinite"), of("wide", "nonfinite")), (2.into(), 1.into()));
        assert_eq!((of("none", "min"), of("none", "mean")), (Value::Null, Value::Null));
        assert_eq!(
            (of("fine", "entropy_of_bits"), of("half", "entropy_of_bits")),
            (20.into(), 16.into())
        );
    }
}

#[test]
fn kept_tensors_say_why() {
    let small = f32_words(&noise(1, 600));
    let place = Place::new(&[
        ("a.weight", DType::F32, vec![64, 64], f32_words(&noise(2, 4096))),
        ("bias", DType::F32, vec![2048], f32_words(&noise(3, 2048))),
        ("embed.weight", DType::F32, vec![64, 64], f32_words(&noise(4, 4096))),
        ("ids", DType::I64, vec![64, 64], vec![0; 8192]),
        ("nan.weight", DType::F32, vec![64, 64], vec![f32::NAN.to_bits(); 4096]),
        ("small.weight", DType::F32, vec![6, 100], small),
        ("thin.weight", DType::F8E4M3, vec![4096, 1], words_of(DType::F8E4M3, &noise(5, 4096))),
    ]);
    let reasons = |preset: &str| {
        let report = place.preset(preset);
        let of = |name: &str| tensor(&report, name)["reason"].as_str().unwrap_or("").to_owned();
        ["a.weight", "bias", "embed.weight", "ids", "nan.weight", "small.weight", "thin.weight"]
            .map(of)
    };
    let [treated, bias, embed, ids, nan, small, thin] = reasons("int8");
    assert_eq!((treated.as_str(), embed.as_str()), ("", ""));
    assert_eq!(bias, "it has fewer than 2 dimensions");
    assert_eq!(ids, "I64 holds no weights");
    assert_eq!(nan, "4096 of its values are NaN or infinite");
    assert_eq!(small, "it has fewer than 1024 elements");
    assert_eq!(thin, "its treated form is not smaller");
    assert_eq!(reasons("sparse24")[2], "it is an embedding");
}

#[test]
fn the_entropy_bound_counts_every_width_and_only_codes() {
    // Every code equally often, in rows whose last word is mostly padding.
    for bits in 1..=8u32 {
        let k = 1usize << bits;
        let values: Vec<f32> = (0..61 * k).map(|i| (i % k) as f32 - 3.0).collect();
        let place = Place::new(&[("a", DType::F32, vec![k, 61], f32_words(&values))]);
        let report = place.compress(&format!("quantize = {{ kind = \"palette\", k = {k} }}"));
        let bound = tensor(&report, "a")["entropy_bits"].as_f64().unwrap();
        assert_relative_eq!(bound, f64::from(bits), epsilon = 0.0, max_relative = 1e-13);
    }
    // Half of the weights survive, of two values: a bit for each place in the mask, half a bit for the codes.
    let values: Vec<f32> = (0..64 * 36).map(|i| [0.1, 4.0, 0.2, -3.0][i % 4]).collect();
    let place = Place::new(&[("a", DType::F32, vec![64, 36], f32_words(&values))]);
    let treatment = |bits| {
        format!(
            "prune = {{ kind = \"n:m\", n = 2, m = 4 }}\nquantize = {{ kind = \"affine\", bits = {bits} }}"
        )
    };
    for bits in 2..=8 {
        let report = place.compress(&treatment(bits));
        let verified = json(&["verify", &place.out]);
        for report in [report, verified] {
            let bound = tensor(&report, "a")["entropy_bits"].as_f64().unwrap();
            assert_relative_eq!(bound, 1.5, epsilon = 0.0, max_relative = 1e-13);
        }
    }
}

/// Everything a report says is stored, which must be what lies on the disk.
fn accounted(report: &Value) -> u64 {
    let bytes = |list: &Value| -> u64 {
        list.as_array().unwrap().iter().map(|c| c["bytes"].as_u64().unwrap()).sum()
    };
    for t in report["tensors"].as_array().unwrap() {
        assert_eq!(t["bytes"].as_u64().unwrap(), bytes(&t["components"]), "{t}");
    }
    bytes(&report["tensors"]) + bytes(&report["overhead"])
}

#[test]
fn every_byte_is_accounted_for() {
    let odd_name = "so \"odd\" \\ a näme";
    let place = Place::new(&[
        (odd_name, DType::F32, vec![64, 64], f32_words(&noise(1, 4096))),
        ("b", DType::F32, vec![40, 64], f32_words(&noise(2, 40 * 64))),
        ("bias", DType::F32, vec![3], f32_words(&noise(3, 3))),
    ]);
    let report = place.compress("prune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"affine\", bits = 5, symmetric = false }");
    let size = fs::metadata(&place.out).unwrap().len();
    assert_eq!((accounted(&report), &report["output_bytes"]), (size, &Value::from(size)));
    assert_eq!(accounted(&json(&["verify", &place.out])), size);
    let restored = json(&["decompress", &place.out, "-o", &place.back]);
    assert_eq!((accounted(&restored), &restored["input_bytes"]), (size, &Value::from(size)));
    // A folder: the index is one of its files.
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    fs::create_dir(&input).unwrap();
    for (name, tensor) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
        let words = f32_words(&noise(4, 4096));
        write_checkpoint(&input.join(name), &[(tensor, DType::F32, vec![64, 64], words)]);
    }
    let index = r#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    fs::write(input.join("model.safetensors.index.json"), index).unwrap();
    // So is what is carried along: other weights, and what is no weights.
    let words = f32_words(&noise(4, 4096));
    let adapter = input.join("adapter.safetensors");
    write_checkpoint(&adapter, &[("layers.a", DType::F32, vec![64, 64], words)]);
    fs::create_dir(input.join("1_Pooling")).unwrap();
    fs::write(input.join("1_Pooling/config.json"), "{}").unwrap();
    fs::write(input.join("left out.bin"), "12345").unwrap();
    let sizes = |folder: &std::path::Path| -> u64 {
        crate::support::tree(folder).values().map(|bytes| bytes.len() as u64).sum()
    };
    let (given, back) = (sizes(&input) - 5, dir.path().join("back"));
    let (input, folder) = (input.to_str().unwrap(), output.to_str().unwrap());
    let report = json(&["compress", input, "-o", folder, "--preset", "int4", "--device", "cpu"]);
    let size = sizes(&output);
    assert_eq!((accounted(&report), &report["output_bytes"]), (size, &Value::from(size)));
    assert_eq!(report["input_bytes"], given);
    let carried = report["overhead"].as_array().unwrap().last().unwrap();
    let whole = fs::metadata(&adapter).unwrap().len() + 2;
    assert_eq!((&carried["name"], &carried["bytes"]), (&"carried".into(), &whole.into()));
    let restored = json(&["decompress", folder, "-o", back.to_str().unwrap()]);
    assert_eq!((accounted(&restored), &restored["input_bytes"]), (size, &Value::from(size)));
    assert_eq!(restored["output_bytes"], sizes(&back));
    let against = json(&["verify", folder, "--against", input]);
    assert_eq!(against["input_bytes"], given);
    let index = output.join("model.safetensors.index.json");
    for archive in [folder, index.to_str().unwrap()] {
        let verified = json(&["verify", archive]);
        assert_eq!((accounted(&verified), &verified["output_bytes"]), (size, &Value::from(size)));
    }
}

#[test]
fn warnings_are_seen_whatever_is_asked_for() {
    let place = Place::new(&[("a", DType::F32, vec![64, 64], vec![f32::NAN.to_bits(); 4096])]);
    for flag in ["--quiet", "--json", "--device=cpu"] {
        let to = ["-o", &place.out, "--preset", "int8", "--force", flag];
        let (code, out, err) = tersor(&[&["compress", &place.model], &to[..]].concat());
        assert_eq!(code, 0);
        assert_eq!(
            err.matches("bit for bit: 4096 of its values are NaN or infinite").count(),
            1,
            "{flag}: {err}"
        );
        assert!(flag != "--quiet" || out.is_empty(), "{out}");
    }
}

#[test]
fn another_model_is_not_called_damage() {
    let tensors = |seed| [("bias", DType::F32, vec![300], f32_words(&noise(seed, 300)))];
    let (place, other) = (Place::new(&tensors(1)), Place::new(&tensors(2)));
    place.preset("int8");
    let (code, _, err) = tersor(&["verify", &place.out, "--against", &other.model]);
    assert_eq!(code, 1);
    assert!(err.contains("differs from") && err.contains(&other.model), "{err}");
    assert!(!err.contains("damaged"), "{err}");
}

#[test]
fn the_device_restores_and_says_so() {
    let tensors: Vec<_> = crate::support::WEIGHTS
        .iter()
        .map(|d| (d.name(), *d, vec![70, 96], words_of(*d, &noise(1, 70 * 96))))
        .collect();
    let place = Place::new(&tensors);
    let gpu_back = place.back.replace("back", "gpu");
    for treatment in [
        "quantize = { kind = \"affine\", bits = 3, granularity = \"group\", group = 32 }",
        "prune = { kind = \"n:m\", n = 3, m = 7 }\nquantize = { kind = \"affine\", bits = 4, symmetric = false }",
        "axis = 1\nquantize = { kind = \"palette\", k = 13, granularity = \"channel\" }",
    ] {
        place.compress(treatment);
        let restore = |device: &str, back: &str| {
            json(&["decompress", &place.out, "-o", back, "--force", "--device", device])
        };
        let verify = |device: &str| {
            json(&["verify", &place.out, "--against", &place.model, "--device", device])
        };
        let (restored, verified) = (restore("cpu", &place.back), verify("cpu"));
        for report in [&restored, &verified] {
            assert_eq!(report["gpu_tiles"], 0);
            assert_ne!(report["cpu_tiles"], 0, "{treatment}");
        }
        if gpu().is_none() {
            continue;
        }
        for report in [restore("gpu", &gpu_back), verify("gpu")] {
            assert_eq!(report["cpu_tiles"], 0, "{treatment}");
            assert_ne!(report["gpu_tiles"], 0, "{treatment}");
            assert_ne!(report["backend"], "cpu");
        }
        assert_eq!(fs::read(&place.back).unwrap(), fs::read(&gpu_back).unwrap(), "{treatment}");
        assert_eq!(verify("gpu")["tensors"], verified["tensors"], "{treatment}");
    }
}

#[test]
fn an_adapter_for_the_cpu_is_a_usage_error() {
    let place = Place::new(&[("a", DType::F32, vec![64, 64], f32_words(&noise(1, 4096)))]);
    for job in ["inspect", "plan"] {
        let preset: &[&str] = if job == "plan" { &["--preset", "int8"] } else { &[] };
        let flags = ["--device", "cpu", "--adapter", "foo"];
        let (code, _, err) = tersor(&[&[job, &place.model], preset, &flags[..]].concat());
        assert_eq!(code, 2, "{job}");
        assert!(err.contains("--adapter"), "{err}");
    }
}

#[test]
fn a_recipe_that_is_wrong_is_named_once() {
    let place = Place::new(&[("a", DType::F32, vec![64, 64], f32_words(&noise(1, 4096)))]);
    fs::write(&place.recipe, "version = 2").unwrap();
    let (code, _, err) = tersor(&["plan", &place.model, "--recipe", &place.recipe]);
    assert_eq!(code, 2);
    assert!(err.starts_with(&format!("tersor: recipe: {}: ", place.recipe)), "{err}");
    assert_eq!(err.matches("recipe: ").count(), 1, "{err}");
}

#[test]
fn inspect_estimates_what_coders_make() {
    // The weights of a dense tensor, and those of a pruned one, whose zeros an index tells.
    let cubes = |seed| noise(seed, 400_000).into_iter().map(|x| x * x * x);
    let dense: Vec<f32> = cubes(1).map(|x| if x == 0.0 { 0.1 } else { x }).collect();
    let pruned: Vec<f32> = cubes(2).map(|x| if x.abs() < 0.3 { 0.0 } else { x }).collect();
    let prune = "prune = { kind = \"magnitude\", density = 1.0, once = true }";
    for (name, dtype, values, prune) in
        [("dense", DType::BF16, dense, ""), ("pruned", DType::F32, pruned, prune)]
    {
        let place = Place::new(&[(name, dtype, vec![400, 1000], words_of(dtype, &values))]);
        let estimates = json(&["inspect", &place.model, "--device", "cpu"]);
        for encode in ["raw", "huffman", "rans"] {
            let quantize = "quantize = { kind = \"palette\", bits = 4 }";
            let report = place.compress(&format!("{prune}\n{quantize}\nencode = \"{encode}\""));
            let estimate =
                tensor(&estimates, name)["weights"]["palette4"][encode].as_f64().unwrap();
            let found = tensor(&report, name)["bits_per_weight"].as_f64().unwrap();
            // An estimate: within two parts in a hundred.
            assert_relative_eq!(found, estimate, epsilon = 0.0, max_relative = 0.02);
        }
    }
}
