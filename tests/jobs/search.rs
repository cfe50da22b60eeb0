//! A size or an error to aim at: what is found takes what it says, is no worse than any preset of that size, and is the same everywhere.

use super::quantizers::gaussian;
use crate::support::{CPU, gpu, options, tersor, tiny_gpu, words_of, write_checkpoint};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tersor::{
    DType,
    pipeline::{Options, compress, verify},
    recipe::{Additions, Recipe},
    report::Report,
    search::{Ask, Found, Target, search},
};

type Weights = (&'static str, DType, Vec<usize>, Vec<u32>);

fn tensor(name: &'static str, shape: &[usize], values: Vec<f32>) -> Weights {
    (name, DType::F32, shape.into(), words_of(DType::F32, &values))
}

/// Layers of several sizes and distributions; norms, and a table that is kept.
fn model(dir: &Path) -> PathBuf {
    let normal =
        |seed, n, deviation: f32| gaussian(seed, n).iter().map(|w| w * deviation).collect();
    let heavy = gaussian(5, 128 * 128).iter().map(|w| w * w * w * 0.01).collect();
    // Rows of very different scale.
    let rows =
        gaussian(6, 64 * 256).into_iter().enumerate().map(|(i, w)| w * [1.0, 0.01][i / 256 % 2]);
    let path = dir.join("model.safetensors");
    let tensors = [
        tensor("embed.weight", &[512, 128], normal(1, 512 * 128, 0.05)),
        tensor("layers.0.attn.q_proj.weight", &[128, 128], normal(2, 128 * 128, 0.02)),
        tensor("layers.0.attn.k_proj.weight", &[128, 128], normal(3, 128 * 128, 0.3)),
        tensor("layers.0.mlp.weight", &[128, 128], normal(4, 128 * 128, 0.04)),
        tensor("layers.1.heavy.weight", &[128, 128], heavy),
        tensor("layers.1.rows.weight", &[64, 256], rows.collect()),
        tensor("layers.1.norm.weight", &[128], normal(7, 128, 1.0)),
        tensor("wpe.weight", &[16, 128], normal(8, 16 * 128, 0.5)),
        tensor("layers.1.small.weight", &[32, 40], normal(9, 32 * 40, 0.5)),
    ];
    write_checkpoint(&path, &tensors);
    path
}

fn found(input: &Path, target: Target, additions: &Additions, options: &Options) -> Found {
    let found = search(input, &Ask { target, additions, together: false }, options);
    found.unwrap_or_else(|e| panic!("{target:?}: {e}"))
}

/// The root of the mean of the squared relative errors of what the search treats.
fn error(report: &Report, except: &[&str]) -> f64 {
    let searched = report.tensors.iter().filter(|t| !except.contains(&&*t.name));
    let (mut sum, mut all) = (0.0, 0.0);
    for t in searched {
        let n = t.shape.iter().product::<u64>() as f64;
        sum += n * t.error.rel_error.unwrap_or(0.0).powi(2);
        all += n;
    }
    f64::sqrt(sum / all)
}

const KEPT: [&str; 2] = ["layers.1.norm.weight", "wpe.weight"];

#[test]
fn a_size_is_met_and_no_preset_of_that_size_is_better() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (model(dir.path()), dir.path().join("out"));
    let options = options(&CPU);
    let made = |recipe: &Recipe| {
        let report = compress(&input, &output, recipe, &Options { force: true, ..options });
        let report = report.unwrap();
        assert_eq!(report.output_bytes, fs::metadata(&output).unwrap().len());
        report
    };
    let elements =
        512 * 128 + 2 * 128 * 128 + 128 * 128 + 128 * 128 + 64 * 256 + 128 + 16 * 128 + 32 * 40;
    let aim = |target| {
        let found = found(&input, target, &Additions::default(), &options);
        let report = made(&found.recipe);
        assert_eq!(report.output_bytes, found.output_bytes, "{target:?}");
        // Beyond 8 bits there is nothing but no loss at all.
        let gap = 8 * report.output_bytes > 79 * elements / 10;
        assert!(found.remarks.is_empty() || gap, "{target:?}: {:?}", found.remarks);
        let own = error(&report, &KEPT);
        assert!(
            (own / found.rel_error - 1.0).abs() < 1e-6,
            "{target:?}: {own} {}",
            found.rel_error
        );
        verify(&output, Some(&input), &options).unwrap();
        (report.output_bytes, own, found)
    };
    let mut last = f64::MAX;
    for bits in [2.5, 6.0, 7.5] {
        let (bytes, error, found) = aim(Target::BitsPerWeight(bits));
        let got = 8.0 * bytes as f64 / elements as f64;
        assert!((bits * 0.995..=bits).contains(&got), "{bits}: {got}");
        assert!(error < last, "{bits}");
        last = error;
        // What it says without flags is what it means.
        let again = Recipe::parse(&found.text).unwrap();
        assert_eq!(again.digest().unwrap(), found.recipe.digest().unwrap());
    }
    for preset in ["int8", "int4", "coded4"] {
        let report = made(&Recipe::preset(preset).unwrap());
        let of_preset = error(&report, &KEPT);
        let (_, error, _) = aim(Target::Size(report.output_bytes));
        assert!(error <= of_preset, "{preset}: {error} beside {of_preset}");
    }
}

#[test]
fn an_error_is_kept_to_by_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (model(dir.path()), dir.path().join("out"));
    let options = Options { force: true, ..options(&CPU) };
    let mut last = u64::MAX;
    for limit in [0.001, 0.02, 0.1, 0.5] {
        let found = found(&input, Target::Error(limit), &Additions::default(), &options);
        let report = compress(&input, &output, &found.recipe, &options).unwrap();
        assert_eq!(report.output_bytes, found.output_bytes);
        for t in &report.tensors {
            assert!(t.error.rel_error.unwrap_or(0.0) <= limit, "{limit}: {}", t.name);
        }
        // None is much better than it must be, unless 8 bits are too few for it.
        let worst = report.tensors.iter().filter_map(|t| t.error.rel_error).fold(0.0, f64::max);
        assert!(worst > 0.8 * limit || limit < 0.005, "{limit}: {worst}");
        assert!(report.output_bytes < last);
        last = report.output_bytes;
    }
}

#[test]
fn the_same_is_found_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("model.safetensors");
    let tensors = [("a.weight", [64, 96]), ("b.weight", [96, 128]), ("c.weight", [24, 64])];
    let tensors = tensors
        .map(|(name, shape)| tensor(name, &shape, gaussian(shape[0] as u64, shape[0] * shape[1])));
    write_checkpoint(&input, &tensors);
    let additions = Additions::default();
    let on = |options: &Options| found(&input, Target::BitsPerWeight(4.0), &additions, options);
    let expected = on(&options(&CPU));
    let one = on(&Options { threads: 1, ..options(&CPU) });
    assert_eq!(one.text, expected.text);
    assert_eq!(one.curve.csv(), expected.curve.csv());
    for device in [gpu(), tiny_gpu()].into_iter().flatten() {
        assert_eq!(on(&options(device)).text, expected.text, "{}", device.name());
    }
}

/// Tied weights take their bytes once, what is not finite is kept, columns are seen as rows where a model has them so, and flags are
/// obeyed.
#[test]
fn what_models_have_is_reckoned_with() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out"));
    let n = |seed, n| gaussian(seed, n);
    let mut odd = n(3, 128 * 128);
    odd[77] = f32::NAN;
    write_checkpoint(
        &input,
        &[
            tensor("embed.weight", &[512, 128], n(1, 512 * 128)),
            tensor("h.0.attn.c_attn.weight", &[128, 384], n(2, 128 * 384)),
            tensor("h.0.attn.c_proj.weight", &[128, 128], n(4, 128 * 128)),
            tensor("h.0.mlp.c_fc.weight", &[128, 512], n(5, 128 * 512)),
            tensor("h.0.mlp.c_proj.weight", &[512, 128], n(6, 128 * 512)),
            tensor("lm_head.weight", &[512, 128], n(1, 512 * 128)),
            tensor("odd.weight", &[128, 128], odd),
            tensor("self_attn.k_proj.weight", &[128, 128], n(7, 128 * 128)),
            tensor("self_attn.q_proj.weight", &[64, 128], n(8, 64 * 128)),
            tensor("set.weight", &[128, 128], n(9, 128 * 128)),
            tensor("stays.weight", &[128, 128], n(10, 128 * 128)),
        ],
    );
    let additions = Additions {
        keep: vec!["stays.*".into()],
        set: vec![("set.*".into(), "int8".into())],
        max_error: None,
    };
    let options = Options { force: true, ..options(&CPU) };
    let ask = Ask { target: Target::Size(300_000), additions: &additions, together: true };
    let found = search(&input, &ask, &options).unwrap();
    assert!((298_500..=300_000).contains(&found.output_bytes), "{}", found.output_bytes);
    let report = compress(&input, &output, &found.recipe, &options).unwrap();
    assert_eq!(report.output_bytes, found.output_bytes);
    let of = |name: &str| report.tensors.iter().find(|t| t.name == name).unwrap();
    assert!(
        of("lm_head.weight").method.tied_to() == Some("embed.weight"),
        "{:?}",
        of("lm_head.weight").method
    );
    assert!(of("stays.weight").method.is_kept());
    // Whatever its bits are, they come back.
    assert!(!of("odd.weight").form.kind.is_empty() && of("odd.weight").error.mse == Some(0.0));
    assert_eq!(of("set.weight").method.as_str(), "int8 per channel");
    assert!(of("h.0.attn.c_attn.weight").form.transposed);
    let rule = |x: &str| {
        let (_, after) =
            found.text.split_once(&format!("\"self_attn.{x}_proj.weight\"\n")).unwrap();
        after.split_once("\n\n").unwrap().0
    };
    assert_eq!(rule("k"), rule("q"));
    // It stands alone.
    assert!(found.text.contains("--keep stays.* --set set.*=int8"), "{}", found.text);
    let alone = Recipe::parse(&found.text).unwrap();
    let archive = fs::read(&output).unwrap();
    compress(&input, &output, &alone, &options).unwrap();
    assert!(fs::read(&output).unwrap() == archive);
}

fn said(dir: &Path, line: &str) -> (i32, String, String) {
    let done = tersor().args(line.split(' ')).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_command_line_writes_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let compress = "compress model.safetensors -o out --device cpu --force";
    let line = format!(
        "{compress} --target-bpw 3 --write-recipe r.toml --write-curve c.csv --write-curve c.svg --json"
    );
    let (code, out, err) = said(dir.path(), &line);
    assert_eq!(code, 0, "{err}");
    let job: Value = serde_json::from_str(&out).unwrap();
    let archive = fs::read(dir.path().join("out")).unwrap();
    assert_eq!(job["search"]["output_bytes"], archive.len());
    assert_eq!(job["target_bpw"], 3.0);
    let text = fs::read_to_string(dir.path().join("r.toml")).unwrap();
    assert_eq!(job["search"]["recipe"], text);
    let (csv, svg) =
        ["c.csv", "c.svg"].map(|f| fs::read_to_string(dir.path().join(f)).unwrap()).into();
    assert!(csv.starts_with("what,bytes,bits_per_weight,rel_error\n") && csv.contains("\ncoded4,"));
    assert!(svg.starts_with("<svg") && svg.contains(">coded4</text>") && svg.ends_with("</svg>\n"));
    // The recipe alone makes the same archive.
    let (code, _, err) = said(dir.path(), &format!("{compress} --recipe r.toml"));
    assert_eq!(code, 0, "{err}");
    assert!(fs::read(dir.path().join("out")).unwrap() == archive);
    let (code, out, err) = said(dir.path(), "plan model.safetensors --target-bpw 3 --device cpu");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("found: ") && out.contains("trellis"), "{out}");
}

#[test]
fn what_cannot_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let compress = "compress model.safetensors -o out --device cpu";
    for (flags, words) in [
        ("--target-size 10000", "cannot be met; the least is about"),
        ("--target-bpw 3 --preset int8", "--target-bpw 3 and --preset each say"),
        ("--target-bpw 3 --bits 4", "--target-bpw 3 and --bits each say"),
        ("--target-bpw 3 --recipe r.toml", "--target-bpw 3 and --recipe each say"),
        ("--target-bpw 3 --target-size 1MiB", "there can be only one target"),
        ("--target-bpw 0", "--target-bpw 0: expected a number above 0, up to 64"),
        ("--target-bpw -1", "--target-bpw -1: expected a number above 0, up to 64"),
        ("--target-bpw nan", "--target-bpw NaN: expected a number above 0, up to 64"),
        ("--max-rel-error 1", "--max-rel-error 1: expected a number above 0, below 1"),
        ("--target-bpw 3 --write-recipe r.txt", "name a file that ends in .toml"),
        ("--target-bpw 3 --write-curve c.png", "name a file that ends in .csv or .svg"),
        ("--target-bpw 3 --write-recipe model.safetensors/r.toml", "model.safetensors"),
        ("-p int8 --write-recipe r.toml", "--write-recipe is of what a search finds"),
        ("-p int8 --together", "--together is of what a search finds"),
        ("--max-rel-error 0.1 --max-error 0.2", "each limit the error of every tensor"),
        ("--target-bpw 3 --write-curve c.csv --write-curve ./c.csv", "is named twice"),
        ("--target-bpw 3 --memory 2MiB", "MiB of memory"),
    ] {
        let (code, _, err) = said(dir.path(), &format!("{compress} {flags}"));
        assert!(code == 2 && err.contains(words), "{flags}: {code} {err}");
    }
    assert!(!dir.path().join("out").exists());
    fs::write(dir.path().join("r.toml"), "mine").unwrap();
    let (code, _, err) =
        said(dir.path(), &format!("{compress} --target-bpw 3 --write-recipe r.toml"));
    assert!(code == 2 && err.contains("r.toml"), "{err}");
    assert_eq!(fs::read_to_string(dir.path().join("r.toml")).unwrap(), "mine");
    // More than the checkpoint takes without loss.
    let (code, _, err) = said(dir.path(), &format!("{compress} --target-size 1GiB"));
    assert!(code == 0 && err.contains("without any loss"), "{code} {err}");
    let (code, out, _) = said(dir.path(), "diff model.safetensors out");
    assert_eq!(code, 0, "{out}");
}

/// A folder of shards with an index and other files: what is said of its size is every byte of it. Names that patterns could mistake, a tensor
/// that is not finite and tied, many small ones of one shape.
#[test]
fn a_folder_takes_what_is_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    fs::create_dir(&input).unwrap();
    let mut odd = gaussian(1, 128 * 256);
    odd[30_000] = f32::NAN;
    let first = [
        tensor("a[0]{b}*?.weight", &[64, 128], gaussian(2, 64 * 128)),
        tensor("back\\slash.weight", &[64, 256], gaussian(3, 64 * 256)),
        tensor("odd.weight", &[128, 256], odd.clone()),
        tensor("odd_again.weight", &[128, 256], odd),
    ];
    let names: Vec<String> = (0..24).map(|i| format!("small.{i}.weight")).collect();
    let second: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, i)| {
            (&**name, DType::F32, vec![32, 40], words_of(DType::F32, &gaussian(i, 32 * 40)))
        })
        .collect();
    write_checkpoint(&input.join("model-1.safetensors"), &first);
    write_checkpoint(&input.join("model-2.safetensors"), &second);
    let shard = |name: &str, file: &str| (name.to_owned(), Value::from(file));
    let map: serde_json::Map<String, Value> = first
        .iter()
        .map(|t| shard(t.0, "model-1.safetensors"))
        .chain(second.iter().map(|t| shard(t.0, "model-2.safetensors")))
        .collect();
    let index = serde_json::json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    fs::write(input.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(input.join("config.json"), "{}").unwrap();
    let options = options(&CPU);
    let found = found(&input, Target::Size(150_000), &Additions::default(), &options);
    let report = compress(&input, &output, &found.recipe, &options).unwrap();
    let files = fs::read_dir(&output).unwrap().map(|f| f.unwrap().metadata().unwrap().len());
    assert_eq!(found.output_bytes, files.sum::<u64>());
    assert_eq!(found.output_bytes, report.output_bytes);
    // What is left over is said.
    let (bytes, said) = (found.output_bytes, !found.remarks.is_empty());
    assert!(bytes <= 150_000 && said == (bytes < 149_250), "{bytes} {:?}", found.remarks);
    let of = |name: &str| report.tensors.iter().find(|t| t.name == name).unwrap();
    assert_eq!(of("odd.weight").error.mse, Some(0.0));
    assert_eq!(of("odd_again.weight").method.tied_to(), Some("odd.weight"));
    for name in [first[0].0, first[1].0] {
        assert!(of(name).method.is_treated(), "{name}: {}", of(name).method);
    }
    let forms: std::collections::BTreeSet<String> =
        names.iter().map(|name| format!("{:?}", of(name).form.kind)).collect();
    assert_eq!(forms.len(), 1, "{forms:?}");
}
