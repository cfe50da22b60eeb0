//! `model.safetensors.index.json` files beside two shards.

use super::{Differences, SAMPLE, binary, entry, file, said};
use std::fs;
use tersor::format::Checkpoint;

#[test]
fn lying_indices_are_refused_in_these_words() {
    let parent = crate::support::memory_folder();
    let dir = parent.path().join("model");
    fs::create_dir_all(dir.join("sub")).unwrap();
    let shard = |name: &str| file(format!("{{{}}}", entry(name, "U8", "[4]", "[0,4]")), 4);
    // What a name that leaves the folder would reach is there.
    for (path, tensor) in [
        ("one.safetensors", "a"),
        ("two.safetensors", "b"),
        ("sub/one.safetensors", "a"),
        (".hidden.safetensors", "a"),
        ("../one.safetensors", "a"),
        ("..safetensors", "a"),
        ("model.bin", "a"),
    ] {
        fs::write(dir.join(path), shard(tensor)).unwrap();
    }
    fs::create_dir(dir.join("folder.safetensors")).unwrap();
    let index = dir.join("model.safetensors.index.json");
    let mut differences = Differences::default();
    for (i, (text, expected)) in cases().into_iter().enumerate() {
        fs::write(&index, &text).unwrap();
        for path in [&index, &dir] {
            match Checkpoint::open(path) {
                Ok(_) => differences.compare(i, "it is read", expected),
                Err(e) => differences.compare(i, &said(e, &index), expected),
            }
        }
        if i % SAMPLE == 0 {
            let args =
                ["compress", "model.safetensors.index.json", "-o", "out", "--preset", "int8"];
            differences.compare(i, &binary(&dir, &args, 2), expected);
        }
    }
    differences.none();
    // The same tensor in two shards.
    fs::write(&index, r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#).unwrap();
    fs::write(dir.join("two.safetensors"), shard("a")).unwrap();
    assert_eq!(
        said(Checkpoint::open(&dir).unwrap_err(), &dir),
        r#"tensor "a" is in "one.safetensors" and in "two.safetensors", expected once"#
    );
    fs::write(dir.join("two.safetensors"), shard("b")).unwrap();
    // A total_size is for people: nothing is read by it.
    for size in ["0", "1", "-1", "1e99", "\"8\"", "null", "18446744073709551616", "[]"] {
        let map = r#""weight_map":{"a":"one.safetensors","b":"two.safetensors"}"#;
        fs::write(&index, format!(r#"{{"metadata":{{"total_size":{size}}},{map}}}"#)).unwrap();
        assert_eq!(Checkpoint::open(&dir).unwrap().tensors.len(), 2, "{size}");
    }
}

pub fn cases() -> Vec<(Vec<u8>, &'static str)> {
    // The name of the shard, as it stands in JSON.
    let shard = |name: &str| format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#).into_bytes();
    let map = |text: &str| {
        let text = text.replace("ONE", "\"one.safetensors\"").replace("TWO", "\"two.safetensors\"");
        format!(r#"{{"weight_map":{text}}}"#).into_bytes()
    };
    let plain = |text: &str| text.as_bytes().to_vec();
    vec![
        // Out of the folder.
        (
            shard("../one.safetensors"),
            r#"shard name "../one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("../model/one.safetensors"),
            r#"shard name "../model/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("./one.safetensors"),
            r#"shard name "./one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("sub/one.safetensors"),
            r#"shard name "sub/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("sub/../one.safetensors"),
            r#"shard name "sub/../one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("sub//one.safetensors"),
            r#"shard name "sub//one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors/"),
            r#"shard name "one.safetensors/", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors/."),
            r#"shard name "one.safetensors/.", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("/etc/passwd"),
            r#"shard name "/etc/passwd", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("/one.safetensors"),
            r#"shard name "/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("//host/share/one.safetensors"),
            r#"shard name "//host/share/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("~/one.safetensors"),
            r#"shard name "~/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("\\u002e\\u002e\\u002fone.safetensors"),
            r#"shard name "../one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("..\\\\one.safetensors"),
            r#"shard name "..\\one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("sub\\\\one.safetensors"),
            r#"shard name "sub\\one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("\\\\\\\\host\\\\one.safetensors"),
            r#"shard name "\\\\host\\one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("C:one.safetensors"),
            r#"shard name "C:one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("C:\\\\one.safetensors"),
            r#"shard name "C:\\one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors:stream.safetensors"),
            r#"shard name "one.safetensors:stream.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("file:///one.safetensors"),
            r#"shard name "file:///one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("https://example.com/one.safetensors"),
            r#"shard name "https://example.com/one.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors\\u0000.safetensors"),
            r#"shard name "one.safetensors\0.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("\\u0000"),
            r#"shard name "\0", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard(""),
            r#"shard name "", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("."),
            r#"shard name ".", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard(".."),
            r#"shard name "..", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("..safetensors"),
            r#"shard name "..safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard(".hidden.safetensors"),
            r#"shard name ".hidden.safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard(".safetensors"),
            r#"shard name ".safetensors", expected the plain name of a .safetensors file in the same folder"#,
        ),
        // Not a shard.
        (
            shard("model.bin"),
            r#"shard name "model.bin", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors "),
            r#"shard name "one.safetensors ", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.SAFETENSORS"),
            r#"shard name "one.SAFETENSORS", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("one.safetensors\\n"),
            r#"shard name "one.safetensors\n", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (
            shard("model.safetensors.index.json"),
            r#"shard name "model.safetensors.index.json", expected the plain name of a .safetensors file in the same folder"#,
        ),
        (shard("gone.safetensors"), r#"shard "gone.safetensors" is missing"#),
        (shard(" one.safetensors"), r#"shard " one.safetensors" is missing"#),
        (
            shard("one%2esafetensors.safetensors"),
            r#"shard "one%2esafetensors.safetensors" is missing"#,
        ),
        (shard("folder.safetensors"), r#"shard "folder.safetensors" is missing"#),
        (shard("\\u001b[31m.safetensors"), r#"shard "\u{1b}[31m.safetensors" is missing"#),
        (shard("\\u202egone.safetensors"), r#"shard "\u{202e}gone.safetensors" is missing"#),
        (
            shard(&format!("{}.safetensors", "n".repeat(300))),
            r#"shard "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" is missing"#,
        ),
        // Other tensors than the shards hold.
        (map(r#"{"a":ONE,"b":ONE}"#), r#"tensor "b" is listed but not in shard "one.safetensors""#),
        (
            map(r#"{"a":ONE,"b":TWO,"c":TWO}"#),
            r#"tensor "c" is listed but not in shard "two.safetensors""#,
        ),
        (
            map(r#"{"a":TWO,"b":ONE}"#),
            r#"tensor "a" is in "one.safetensors", expected "two.safetensors""#,
        ),
        (map(r#"{"a":TWO}"#), r#"tensor "b" of shard "two.safetensors" is not listed"#),
        (map(r#"{"b":TWO,"x":ONE}"#), r#"tensor "a" of shard "one.safetensors" is not listed"#),
        (map(r#"{"A":ONE}"#), r#"tensor "a" of shard "one.safetensors" is not listed"#),
        (map(r#"{"":ONE}"#), r#"tensor "a" of shard "one.safetensors" is not listed"#),
        (
            map(r#"{"a":ONE,"\u001b[2J":ONE}"#),
            r#"tensor "\u{1b}[2J" is listed but not in shard "one.safetensors""#,
        ),
        // Twice.
        (
            map(r#"{"a":ONE,"a":ONE}"#),
            r#"tensor "a" is listed twice, expected once at line 1 column 59"#,
        ),
        (
            map(r#"{"a":ONE,"\u0061":TWO}"#),
            r#"tensor "a" is listed twice, expected once at line 1 column 64"#,
        ),
        (
            plain(r#"{"weight_map":{"a":"one.safetensors"},"weight_map":{"b":"two.safetensors"}}"#),
            "duplicate field `weight_map` at line 1 column 50",
        ),
        // Not an index.
        (map("{}"), "weight_map is empty, expected at least one tensor"),
        (
            map("null"),
            "invalid type: null, expected an object of tensor name to shard name at line 1 column 18",
        ),
        (
            map("[]"),
            "invalid type: sequence, expected an object of tensor name to shard name at line 1 column 14",
        ),
        (
            map("[[\"a\",ONE]]"),
            "invalid type: sequence, expected an object of tensor name to shard name at line 1 column 14",
        ),
        (
            map("ONE"),
            r#"invalid type: string "one.safetensors", expected an object of tensor name to shard name at line 1 column 31"#,
        ),
        (map("{\"a\":1}"), "invalid type: integer `1`, expected a string at line 1 column 20"),
        (map("{\"a\":null}"), "invalid type: null, expected a string at line 1 column 23"),
        (map("{\"a\":[ONE]}"), "invalid type: sequence, expected a string at line 1 column 19"),
        (map("{\"a\":{\"file\":ONE}}"), "invalid type: map, expected a string at line 1 column 19"),
        (plain("{}"), "missing field `weight_map` at line 1 column 2"),
        (
            plain(r#"{"metadata":{"total_size":4}}"#),
            "missing field `weight_map` at line 1 column 29",
        ),
        (plain(""), "no JSON object"),
        (plain("[]"), "no JSON object"),
        (plain("null"), "no JSON object"),
        (plain("{\"weight_map\":"), "EOF while parsing a value at line 1 column 14"),
        (plain("{\"weight_map\":{}}{}"), "trailing characters at line 1 column 18"),
        (plain("\u{feff}{}"), "no JSON object"),
        (
            b"{\"weight_map\":{\"\xff\":\"one.safetensors\"}}".to_vec(),
            "invalid unicode code point at line 1 column 17",
        ),
        (map(r#"{"\ud800":ONE}"#), "unexpected end of hex escape at line 1 column 23"),
        (plain(&"[".repeat(1000)), "no JSON object"),
        (
            plain(&format!("{{\"x\":{}", "[".repeat(1000))),
            "EOF while parsing a list at line 1 column 1005",
        ),
        (file("{}", 0), "no JSON object"),
    ]
}
