//! What two models have in common: exit codes, errors, and what an archive was made from.

use crate::support::{forge::Parts, noise, tersor, words_of, write_checkpoint};
use approx::assert_relative_eq;
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;
use tersor::DType;

type Tensors<'a> = Vec<(&'a str, DType, Vec<usize>, Vec<u32>)>;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(dir: &TempDir, name: &str, tensors: &Tensors) {
    write_checkpoint(&dir.path().join(name), tensors);
}

/// Exit code, stdout, stderr.
fn run(dir: &TempDir, line: &str) -> (i32, String, String) {
    let done = tersor().args(line.split(' ')).current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[track_caller]
fn json(dir: &TempDir, line: &str, code: i32) -> Value {
    let (found, out, err) = run(dir, &format!("{line} --json"));
    assert_eq!(found, code, "{line}: {err}");
    serde_json::from_str(&out).unwrap()
}

#[track_caller]
fn done(dir: &TempDir, line: &str) {
    let (code, _, err) = run(dir, line);
    assert_eq!(code, 0, "{line}: {err}");
}

fn tensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()
}

fn floats(dtype: DType, values: &[f32]) -> Vec<u32> {
    words_of(dtype, values)
}

#[test]
fn errors_are_those_of_the_values_whatever_their_types() {
    let values = noise(1, 70 * 96);
    let dir = folder();
    write(&dir, "a", &vec![("w", DType::F32, vec![70, 96], floats(DType::F32, &values))]);
    for dtype in crate::support::WEIGHTS {
        write(&dir, "b", &vec![("w", dtype, vec![70, 96], floats(dtype, &values))]);
        let mut rounded = vec![0.0; values.len()];
        tersor::dtype::decode(dtype, &floats(dtype, &values), 0, &mut rounded);
        let report = json(&dir, "diff a b", if dtype == DType::F32 { 0 } else { 1 });
        let found = tensor(&report, "w");
        let differ = values.iter().zip(&rounded).filter(|(a, b)| a != b).count();
        assert_eq!(found["differing"], differ, "{}", dtype.name());
        assert_eq!(found["b"]["dtype"], dtype.name());
        let square = |x: f32| f64::from(x) * f64::from(x);
        let error: f64 = values.iter().zip(&rounded).map(|(a, b)| square(a - b)).sum();
        let weight: f64 = values.iter().map(|a| square(*a)).sum();
        let rel_error = found["rel_error"].as_f64().unwrap();
        assert_relative_eq!(rel_error, (error / weight).sqrt(), epsilon = 0.0, max_relative = 1e-6);
        if dtype == DType::F64 {
            // No value differs, but the bits are others.
            assert_eq!((rel_error, &report["equal"]), (0.0, &false.into()));
        }
    }
}

#[test]
fn what_cannot_be_compared_is_said_and_what_is_equal_is_equal_bit_for_bit() {
    let dir = folder();
    let (mut odd, zeros) = (noise(2, 64), vec![0.0; 64]);
    odd[5] = f32::NAN;
    let tensors: Tensors = vec![
        ("empty", DType::F32, vec![0, 4], vec![]),
        ("ids", DType::I64, vec![8], (0..16).collect()),
        ("odd", DType::F32, vec![8, 8], floats(DType::F32, &odd)),
        ("only a", DType::F32, vec![8], floats(DType::F32, &odd[..8])),
        ("shape", DType::F32, vec![8, 8], floats(DType::F32, &odd)),
        ("signs", DType::F32, vec![8, 8], floats(DType::F32, &zeros)),
    ];
    write(&dir, "a", &tensors);
    let said = run(&dir, "diff a a");
    assert_eq!((said.0, said.1.as_str()), (0, "equal: 6 tensors, bit for bit\n"));
    let mut others = tensors.clone();
    others[1].3[2] ^= 1;
    others[3].0 = "only b";
    others[4].2 = vec![4, 16];
    others[5].3[9] = (-0.0f32).to_bits();
    write(&dir, "b", &others);
    let report = json(&dir, "diff a b", 1);
    assert_eq!(report["only_in_a"], serde_json::json!(["only a"]));
    assert_eq!(report["only_in_b"], serde_json::json!(["only b"]));
    let of = |name: &str| {
        let t = tensor(&report, name);
        (t["equal"].as_bool().unwrap(), t["differing"].as_u64(), t["max_abs_error"].as_f64())
    };
    assert_eq!(of("empty"), (true, Some(0), Some(0.0)));
    assert_eq!(of("ids"), (false, Some(1), None));
    assert_eq!(of("odd"), (true, Some(0), Some(0.0)));
    assert_eq!(of("shape"), (false, None, None));
    assert_eq!(of("signs"), (false, Some(1), Some(0.0)));
    let (code, text, _) = run(&dir, "diff a b");
    assert_eq!(code, 1);
    for words in [
        "F32 8x8, F32 4x16",
        "1 only in a: only a",
        "1 only in b: only b",
        "they differ: 2 of 5 tensors",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(run(&dir, "diff a b -q"), (1, String::new(), String::new()));
    assert_eq!(run(&dir, "diff a c").0, 2);
}

/// Archives of every form, on either side, by rows and by columns, and with rows that are cut.
#[test]
fn archives_are_decoded_on_either_side() {
    let dir = folder();
    let tensors: Tensors = vec![
        ("bias", DType::F32, vec![300], floats(DType::F32, &noise(1, 300))),
        ("long", DType::F8E4M3, vec![1, 1_500_000], floats(DType::F8E4M3, &noise(2, 1_500_000))),
        ("tall", DType::BF16, vec![9000, 130], floats(DType::BF16, &noise(3, 9000 * 130))),
        ("w", DType::F32, vec![300, 1001], floats(DType::F32, &noise(4, 300 * 1001))),
    ];
    write(&dir, "m", &tensors);
    let rule = |axis: u8, treatment: &str| {
        format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nmin_dims = 2\naxis = {axis}\n{treatment}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        )
    };
    let int5 = "quantize = { kind = \"affine\", bits = 5 }";
    for (name, text) in [
        ("rows", rule(0, int5)),
        ("columns", rule(1, int5)),
        ("coded", rule(0, "quantize = { kind = \"palette\", k = 5 }\nencode = \"rans\"")),
        ("pruned", rule(1, "prune = { kind = \"n:m\", n = 2, m = 4 }")),
    ] {
        fs::write(dir.path().join("recipe.toml"), text).unwrap();
        done(&dir, &format!("compress m -o {name} --recipe recipe.toml --device cpu"));
        done(&dir, &format!("decompress {name} -o {name}-back --device cpu"));
        let report = json(&dir, &format!("diff m {name}"), 1);
        let measured = json(&dir, &format!("verify {name} --against m --device cpu"), 0);
        assert_eq!(tensor(&report, "bias")["equal"], true);
        for t in measured["tensors"].as_array().unwrap() {
            let found = tensor(&report, t["name"].as_str().unwrap());
            for metric in ["mse", "max_abs_error", "cosine", "rel_error", "rel_op_norm_1"] {
                assert_eq!(found[metric], t[metric], "{name}: {}: {metric}", t["name"]);
            }
        }
        // What it restores is what it holds.
        done(&dir, &format!("diff {name} {name}-back"));
        done(&dir, &format!("diff {name}-back {name}"));
        done(&dir, &format!("diff {name} {name}"));
    }
    // Of two that are seen differently the same comes out as of what they restore, whatever the threads.
    for (a, b) in
        [("rows", "columns"), ("columns", "coded"), ("pruned", "columns"), ("pruned", "rows")]
    {
        let of = |line: String| {
            let mut report = json(&dir, &line, 1);
            report["tensors"]
                .as_array()
                .unwrap()
                .iter()
                .for_each(|t| assert!(t["differing"].is_u64(), "{t}"));
            ["a", "b", "seconds"].into_iter().for_each(|key| report[key] = Value::Null);
            report
        };
        let plain = of(format!("diff {a}-back {b}-back --threads 2"));
        let differing = |r: &Value| {
            r["tensors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["differing"].clone())
                .collect::<Vec<_>>()
        };
        let archives = of(format!("diff {a} {b} --threads 1"));
        assert_eq!(differing(&plain), differing(&archives), "{a} {b}");
        assert_eq!(archives, of(format!("diff {a} {b} --threads 3")), "{a} {b}");
    }
    let (code, _, said) = run(&dir, "diff m rows --memory 8MiB");
    assert!(code == 2 && said.contains("--memory allows 8 MiB"), "{said}");
}

fn model(seed: u64) -> Tensors<'static> {
    vec![
        ("a.weight", DType::F32, vec![64, 64], floats(DType::F32, &noise(seed, 4096))),
        ("b.weight", DType::BF16, vec![64, 64], floats(DType::BF16, &noise(seed + 1, 4096))),
    ]
}

#[test]
fn another_source_is_noticed_by_its_last_bit() {
    let dir = folder();
    let mut tensors = model(1);
    write(&dir, "m", &tensors);
    done(&dir, "compress m -o small -p int4 --device cpu");
    done(&dir, "verify small --against m --device cpu");
    for (tensor, word) in [(0, 4095), (1, 77)] {
        tensors[tensor].3[word] ^= 1;
        write(&dir, "changed", &tensors);
        tensors[tensor].3[word] ^= 1;
        let (code, _, said) = run(&dir, "verify small --against changed --device cpu");
        let name = tensors[tensor].0;
        let expected = format!(
            "tersor: small: not made from changed: tensor \"{name}\" had other values; `tersor diff` measures how far they are apart\n"
        );
        assert_eq!((code, said), (1, expected));
    }
    // One that does not say what it was made from, as older ones do not: the errors alone are held against their limits.
    let file = fs::read(dir.path().join("small")).unwrap();
    let mut parts = Parts::of(&file);
    assert_eq!(parts.sources.len(), r#","tersor.sources":"""#.len() + 22);
    parts.sources.clear();
    fs::write(dir.path().join("older"), parts.seal()).unwrap();
    let (code, _, said) = run(&dir, "verify older --against changed --device cpu");
    assert!(code == 0 && said.contains("does not say what it was made from"), "{code}: {said}");
    done(&dir, "decompress older -o back --device cpu");
    done(&dir, "diff back small");
    // One that says it of too many tensors, or what is none.
    for (text, why) in
        [("AAAAAAAAAAA", "8 bytes, expected 8 for each of 2 tensors"), ("!", "tersor.sources: ")]
    {
        let mut parts = Parts::of(&file);
        parts.sources = format!(r#","tersor.sources":"{text}""#);
        fs::write(dir.path().join("odd"), parts.seal()).unwrap();
        let (code, _, said) = run(&dir, "verify odd");
        assert!(code == 2 && said.contains(why), "{said}");
    }
}

#[test]
fn what_an_archive_was_made_from_is_no_part_of_what_it_restores() {
    let dir = folder();
    write(&dir, "m", &model(1));
    done(&dir, "compress m -o small -p int4 --device cpu");
    done(&dir, "decompress small -o back --device cpu");
    let header = |name: &str| {
        let file = fs::read(dir.path().join(name)).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        serde_json::from_slice::<Value>(&file[8..8 + length]).unwrap()["__metadata__"].clone()
    };
    assert_eq!(header("back"), header("m"));
    let sources = header("small")["tersor.sources"].as_str().unwrap().len();
    assert_eq!(sources, 22, "16 bytes for two tensors");
    // What comes back bit for bit needs none.
    done(&dir, "compress m -o lossless -p lossless --device cpu");
    assert_eq!(header("lossless")["tersor.sources"], Value::Null);
}

#[test]
fn other_tensors_are_not_what_an_archive_was_made_from() {
    let dir = folder();
    write(&dir, "m", &model(1));
    done(&dir, "compress m -o small -p int4 --device cpu");
    let small = floats(DType::F32, &noise(9, 4));
    let mut others: Tensors =
        ["b", "c", "d", "e"].map(|n| (n, DType::F32, vec![4], small.clone())).into();
    others.push(("a.weight", DType::F32, vec![32, 128], floats(DType::F32, &noise(1, 4096))));
    write(&dir, "others", &others);
    let (code, _, said) = run(&dir, "verify small --against others --device cpu");
    let expected = "tersor: small: not made from others: 1 tensors it does not have: \"b.weight\"
  1 tensors of another type or shape there: \"a.weight\" (F32 [64, 64], there F32 [32, 128])
  4 tensors that are not in the archive: \"b\", \"c\", \"d\" and 1 more\n";
    assert_eq!((code, said.as_str()), (1, expected));
    // No checkpoint at all is another matter.
    assert_eq!(run(&dir, "verify small --against nothing --device cpu").0, 2);
    assert!(Path::new(&dir.path().join("small")).exists());
}

#[test]
fn integers_that_an_archive_has_coded_are_decoded() {
    let dir = folder();
    let ids = |last: u32| {
        let mut words: Vec<u32> = (0..2048).map(|i| if i % 2 == 0 { i / 2 } else { 0 }).collect();
        words[2046] = last;
        words
    };
    for (name, last) in [("a", 1023), ("b", 7)] {
        let w = floats(DType::F32, &noise(1, 4096));
        let tensors =
            vec![("ids", DType::I64, vec![1, 1024], ids(last)), ("w", DType::F32, vec![64, 64], w)];
        write(&dir, name, &tensors);
        done(&dir, &format!("compress {name} -o small.{name} --preset lossless --device cpu"));
    }
    for (line, code) in [
        ("diff a small.a", 0),
        ("diff small.a small.a", 0),
        ("diff small.a b", 1),
        ("diff small.a small.b", 1),
    ] {
        let report = json(&dir, line, code);
        assert_eq!(tensor(&report, "ids")["differing"], code, "{line}");
    }
    // By columns, which is read in the order of storage, and so held whole.
    let columns = "version = 1\n[[rule]]\nmatch = \"ids\"\naxis = 1\nencode = \"auto\"\n\
                   [[rule]]\nmatch = \"*\"\nkeep = true\n";
    fs::write(dir.path().join("columns.toml"), columns).unwrap();
    let ids = vec![("ids", DType::I64, vec![32, 32], ids(1023))];
    write(&dir, "c", &ids);
    done(&dir, "compress c -o columns --recipe columns.toml --device cpu");
    json(&dir, "diff c columns", 0);
    let (code, _, said) = run(&dir, "diff c columns --memory 8MiB");
    assert!(code == 2 && said.contains("--memory allows 8 MiB"), "{said}");
}
