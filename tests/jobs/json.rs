//! What `--json` prints, against docs/json.schema.json.

use crate::support::{gpu, noise, schema::violation, tersor, words_of, write_checkpoint};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};
use tersor::DType;

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A folder to work in, with a checkpoint of every kind of tensor and another like it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (seed, name) in [(1, "in.safetensors"), (2, "other.safetensors")] {
        let mut odd = noise(seed, 4096);
        odd[7] = f32::NAN;
        write_checkpoint(
            &dir.path().join(name),
            &[
                ("a.0.weight", DType::F32, vec![64, 64], words_of(DType::F32, &noise(seed, 4096))),
                ("a.1.weight", DType::BF16, vec![64, 64], words_of(DType::BF16, &noise(3, 4096))),
                ("bias", DType::F32, vec![64], words_of(DType::F32, &noise(4, 64))),
                ("ids", DType::I64, vec![4], vec![seed as u32; 8]),
                ("odd.weight", DType::F32, vec![64, 64], words_of(DType::F32, &odd)),
            ],
        );
    }
    let pixels = (0..300u32).map(|i| [(i % 7 * 30) as u8, (i % 11) as u8, i as u8, 255]);
    let picture = image::RgbaImage::from_raw(20, 15, pixels.flatten().collect()).unwrap();
    picture.save(dir.path().join("in.png")).unwrap();
    dir
}

/// What a command prints, once it was found to be what the schema says; its exit code is `code`.
#[track_caller]
fn valid(schema: &Value, dir: &Path, line: &str, code: i32) -> Value {
    let mut command = tersor();
    let done = command.args(line.split(' ')).arg("--json").current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(code), "{line}: {said}");
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(text.find('\n'), Some(text.len() - 1), "{line}: {text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(violation(schema, &value), None, "{line}");
    assert_eq!(value["tersor"], env!("CARGO_PKG_VERSION"), "{line}");
    value
}

#[test]
fn every_command_prints_what_the_schema_says() {
    let (schema, dir) = (schema(), folder());
    let (dir, mut kinds) = (dir.path(), BTreeSet::new());
    fs::write(
        dir.join("deep.toml"),
        "version = 1\n[[rule]]\nmatch = \"*.weight\"\nencode = \"bloomier\"\nnonfinite = \"keep\"\n\
         prune = { kind = \"magnitude\", density = 0.1, scope = \"tensor\" }\n\
         quantize = { kind = \"palette\", k = 8 }\n[[rule]]\nmatch = \"*\"\nkeep = true\n",
    )
    .unwrap();
    for (line, code) in [
        ("compress in.safetensors -o int8 -p int8 --device cpu", 0),
        ("compress in.safetensors -o deep --recipe deep.toml --device cpu", 0),
        ("compress in.safetensors -o out --bits 3.5 --kind entropy --device cpu --dry-run", 0),
        ("plan in.safetensors -p palette4 --device cpu", 0),
        ("compress in.safetensors -o aimed --target-size 40000 --device cpu", 0),
        ("plan in.safetensors --max-rel-error 0.05 --device cpu", 0),
        ("plan in.safetensors", 0),
        ("plan in.safetensors --max-error 0.1", 0),
        ("decompress int8 -o back --device cpu", 0),
        ("verify int8 --device cpu", 0),
        ("verify deep --against in.safetensors --device cpu", 0),
        ("verify int8 --against other.safetensors --device cpu", 1),
        ("inspect in.safetensors --device cpu", 0),
        ("inspect in.safetensors --headers", 0),
        ("inspect int8 --device cpu", 0),
        ("inspect deep --headers", 0),
        ("diff in.safetensors int8", 1),
        ("diff int8 back", 0),
        ("diff in.safetensors other.safetensors", 1),
        ("diff in.safetensors nothing", 2),
        ("palettize in.png -o 16.png --colors 16 --error-image errors.png --device cpu", 0),
        (
            "palettize in.png --colors 1,..,256 --sheet sheet.png --space oklab --dither --device cpu",
            0,
        ),
        ("palettize in.safetensors -o out.png --device cpu", 2),
        ("presets", 0),
        ("devices", 0),
    ] {
        let found = valid(&schema, dir, line, code);
        assert_eq!(found["ok"], found["schema"] != "error/1", "{line}");
        kinds.insert(found["schema"].as_str().unwrap().to_owned());
    }
    if gpu().is_some() {
        let found = valid(&schema, dir, "crosscheck --quick --ops add", 0);
        kinds.insert(found["schema"].as_str().unwrap().to_owned());
    } else {
        kinds.insert("crosscheck/1".into());
    }
    // It takes too long here: its own module holds its object against the schema.
    kinds.insert("demo/1".into());
    // All that the schema has.
    let all: BTreeSet<String> = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|def| {
            let schema = &def["properties"]["schema"];
            let many = schema["enum"].as_array().cloned().unwrap_or_default();
            many.into_iter().chain(schema.get("const").cloned())
        })
        .map(|kind| kind.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, all);
}

#[test]
fn a_field_more_or_less_or_of_another_type_is_found() {
    let (schema, dir) = (schema(), folder());
    let good = valid(&schema, dir.path(), "compress in.safetensors -o a -p int8 --device cpu", 0);
    let broken = |breaks: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        breaks(&mut value);
        violation(&schema, &value).expect("it is broken")
    };
    let said = broken(&|v| v["tensors"][0]["more"] = 1.into());
    assert!(said.contains("$.tensors[0]: \\\"more\\\" is not known"), "{said}");
    broken(&|v| v["more"] = 1.into());
    broken(&|v| _ = v["tensors"][0].as_object_mut().unwrap().remove("form"));
    broken(&|v| _ = v.as_object_mut().unwrap().remove("tersor"));
    broken(&|v| v["tensors"][0]["form"]["kind"] = "other".into());
    broken(&|v| v["tensors"][0]["bytes"] = "1".into());
    broken(&|v| v["tensors"][0]["bytes"] = (-1).into());
    broken(&|v| v["schema"] = "plan/1".into());
}

#[test]
fn what_was_asked_for_is_said_as_it_was_given() {
    let (schema, dir) = (schema(), folder());
    let dir = dir.path();
    let of = |line: &str| valid(&schema, dir, line, 0);
    let made = of("compress ./in.safetensors -o ./small -p int4 --device cpu");
    let said =
        ["schema", "input", "output", "preset", "recipe", "bits"].map(|key| made[key].clone());
    let expected =
        serde_json::json!(["compress/1", "./in.safetensors", "./small", "int4", null, null]);
    assert_eq!(Value::from(said.to_vec()), expected);
    let verified = of("verify small --against ./in.safetensors --device cpu");
    assert_eq!(
        (&verified["input"], &verified["against"]),
        (&"small".into(), &"./in.safetensors".into())
    );
    assert_eq!(of("plan in.safetensors --bits 3 --device cpu")["bits"], 3.0);
}

#[test]
fn the_form_says_for_programs_what_the_method_says() {
    let (schema, dir) = (schema(), folder());
    let dir = dir.path();
    let made =
        valid(&schema, dir, "compress in.safetensors -o a --bits 4 --group 32 --device cpu", 0);
    let of = |report: &Value, list: &str, name: &str| -> Value {
        let all = report[list].as_array().unwrap();
        all.iter().find(|t| t["name"] == name).unwrap().clone()
    };
    let first = of(&made, "tensors", "a.0.weight");
    assert_eq!(first["method"], "int4 per 32");
    let expected = serde_json::json!({"kind": "affine", "bits": 4, "symmetric": true, "scales": "BF16",
        "entries": null, "group": 32, "pruned": false, "coded": false, "transposed": false});
    assert_eq!(first["form"], expected);
    assert_eq!(of(&made, "tensors", "ids")["form"]["kind"], "kept");
    // The same from the archive alone.
    let inspected = valid(&schema, dir, "inspect a --headers", 0);
    let archived = of(&inspected, "archived", "a.0.weight");
    assert_eq!((&archived["form"], &archived["bytes"]), (&first["form"], &first["bytes"]));
    assert_eq!((&archived["shape"], &archived["original_bytes"]), (&first["shape"], &16384.into()));
}
