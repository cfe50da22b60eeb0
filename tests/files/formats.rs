//! Legal oddities, hostile sizes, and the reference reader as oracle; the tables of malformed files are in `malformed`.

use crate::support::{least, measured, tersor, write_checkpoint};
use proptest::prelude::*;
use std::{fs, io::Write, path::Path};
use tersor::{
    DType, Error,
    affine::ScaleType,
    form::{Affine, BlockTransform, Method, Palette, TensorManifest, TransformKind, View},
    format::{Checkpoint, Manifest, already_quantized},
};

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![7; data]);
    bytes
}

fn open(dir: &Path, bytes: &[u8]) -> Result<Checkpoint, Error> {
    let path = dir.join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

const A: &str = r#""a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;

#[test]
fn legal_oddities_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let header = concat!(
        r#" {"__metadata__":{"format":"pt","\u0078":"\ud83d\ude00"}, "s":{"data_offsets":[0,4],"shape":[],"dtype":"F32"},"#,
        r#" "z":{"dtype":"F32","shape":[18446744073709551615,0,18446744073709551615],"data_offsets":[4,4]},"#,
        r#""odd":{"dtype":"F16","shape":[1,1],"data_offsets":[5,7]},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[4,5]}}   "#
    );
    let c = open(dir.path(), &file(header, 7)).unwrap();
    let names: Vec<_> =
        c.tensors.iter().map(|t| (t.name.as_str(), t.elements(), t.bytes)).collect();
    assert_eq!(names, [("s", 1, 4), ("z", 0, 0), ("b", 1, 1), ("odd", 1, 2)]);
    let pairs: Vec<_> = c.files[0].metadata.iter().collect();
    assert_eq!(pairs, [("format", "pt"), ("x", "😀")]);
}

/// What the reference reader opens is opened, and comes back: no metadata, said so; long metadata, and much of it; long names,
/// many dimensions, and every type.
#[test]
fn nothing_is_too_long_or_too_much_for_us_only() {
    let dir = tempfile::tempdir().unwrap();
    let rank = format!("[{}16]", "1,".repeat(999));
    let tensor = |name: &str, dtype: &str, shape: &str, start: usize, bytes: usize| {
        let end = start + bytes;
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let long = "n".repeat(5000);
    let pairs = (0..70_000).map(|i| format!(r#""key {i}":"value""#)).collect::<Vec<_>>().join(",");
    let text = "a tag, ".repeat(3 << 20);
    let weights = tensor("w", "F32", "[64,64]", 0, 1 << 14);
    let with = |start: &str, rest: &str| format!("{{{start}{weights}{rest}}}");
    let (f4, f6) =
        (tensor("b", "F4", "[3,5,2]", 1 << 14, 15), tensor("b", "F6_E2M3", "[4,3]", 1 << 14, 9));
    let cases: &[(String, usize)] = &[
        (with(r#""__metadata__":null,"#, ""), 0),
        (with(r#""__metadata__": null , "#, ""), 0),
        (with(&format!(r#""__metadata__":{{"ss_tag_frequency":"{text}","format":"pt"}},"#), ""), 0),
        (with(&format!(r#""__metadata__":{{{pairs}}},"#), ""), 0),
        (with("", &format!(",{}", tensor(&long, "F32", "[64,64]", 1 << 14, 1 << 14))), 1 << 14),
        (with("", &format!(",{}", tensor("b", "F32", &rank, 1 << 14, 64))), 64),
        (with("", &format!(",{}", tensor("b", "F8_E4M3FNUZ", "[64,64]", 1 << 14, 4096))), 4096),
        (with("", &format!(",{}", tensor("b", "F8_E5M2FNUZ", "[64,64]", 1 << 14, 4096))), 4096),
        (with("", &format!(",{f4}")), 15),
        (with("", &format!(",{f6}")), 9),
        (with("", &format!(",{}", tensor("b", "F6_E3M2", "[1,20]", 1 << 14, 15))), 15),
    ];
    let [input, packed, back] = ["in", "packed", "back"].map(|n| dir.path().join(n));
    for (i, (header, more)) in cases.iter().enumerate() {
        let mut bytes = file(header, (1 << 14) + more);
        let start = bytes.len() - (1 << 14) - more;
        let weights: Vec<u8> = bytemuck::cast_slice(&crate::support::noise(3, 4096)).to_vec();
        bytes[start..start + (1 << 14)].copy_from_slice(&weights);
        // Whatever is carried must come back as it was.
        bytes[start + (1 << 14)..].iter_mut().zip(1..).for_each(|(b, i)| *b = (i * 37 % 251) as u8);
        let reference = safetensors::SafeTensors::deserialize(&bytes);
        assert!(reference.is_ok(), "{i}: the reference reads it: {:?}", reference.err());
        fs::write(&input, &bytes).unwrap();
        let options = crate::support::options(&crate::support::CPU);
        let recipe = tersor::recipe::Recipe::preset("int8").unwrap();
        let report = tersor::pipeline::compress(&input, &packed, &recipe, &options).unwrap();
        assert!(!report.tensors[0].method.is_kept(), "{i}");
        assert!(report.tensors[1..].iter().all(|t| t.method.is_kept() || t.name == long), "{i}");
        tersor::pipeline::decompress(&packed, &back, &options).unwrap();
        tersor::pipeline::verify(&packed, Some(&input), &options).unwrap();
        let [before, after] = [&input, &back].map(|p| Checkpoint::open(p).unwrap());
        let pairs = |c: &Checkpoint| {
            c.files[0]
                .metadata
                .sorted()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect::<Vec<_>>()
        };
        assert!(pairs(&before) == pairs(&after), "{i}: metadata");
        assert_eq!(before.tensors.len(), after.tensors.len());
        if let [_, kept] = &after.tensors[..] {
            let all = fs::read(&back).unwrap();
            assert_eq!(all[all.len() - more..], bytes[bytes.len() - more..], "{i}");
            let original = &before.tensors[1];
            assert_eq!(
                (&kept.name, kept.dtype, &kept.shape),
                (&original.name, original.dtype, &original.shape)
            );
        }
    }
}

#[test]
fn dimensions_that_make_a_tensor_empty_may_be_large() {
    let dir = tempfile::tempdir().unwrap();
    let huge = 1u64 << 63;
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[0,{huge},4],"data_offsets":[0,0]}}}}"#);
    let c = open(dir.path(), &file(&header, 0)).unwrap();
    let t = &c.tensors[0];
    assert_eq!((t.elements(), t.rows(), t.cols()), (0, 0, 0));
    let (bytes, path) = (file(&header, 0), dir.path().join("model.safetensors"));
    assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok(), "the reference reads it too");
    for job in ["inspect", "plan --preset int8", "compress --preset int8 -o out.safetensors"] {
        let done = tersor().args(job.split(' ')).arg(&path).current_dir(dir.path()).output();
        assert!(done.as_ref().unwrap().status.success(), "{job}: {done:?}");
    }
}

/// The limits for a header of 100 MB: time, and memory beyond the `least`. An unoptimised build is given more time.
#[track_caller]
fn costs_little((_, said, seconds, most): &(Option<i32>, String, f64, usize), least: usize) {
    let limit = if cfg!(debug_assertions) { 30.0 } else { 2.0 };
    assert!(*seconds <= limit && *most <= least + 300_000_000, "{seconds} s, {most} bytes: {said}");
}

/// Writes a file whose header is `start`, then the items with commas between them as long as there is room, then `end`, all
/// in 100 MB, and then `data` bytes.
fn full_header(
    path: &Path,
    start: &str,
    mut item: impl FnMut(usize) -> Option<String>,
    end: &str,
    data: usize,
) {
    let mut header = start.as_bytes().to_vec();
    let mut items = 0;
    while let Some(item) = item(items) {
        if header.len() + item.len() + end.len() + 1 > 100_000_000 {
            break;
        }
        header.extend(if items == 0 { "" } else { "," }.bytes().chain(item.bytes()));
        items += 1;
    }
    header.extend(end.bytes());
    header.resize(100_000_000, b' ');
    let mut out = fs::File::create(path).unwrap();
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&header).unwrap();
    out.write_all(&vec![0; data]).unwrap();
}

#[test]
fn a_header_of_100_mb_costs_little() {
    let least = least();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.safetensors");
    let (text, none) = (path.to_str().unwrap(), |_| None);
    let refused = |what: &str| {
        let done = measured(&["verify", text, "--device", "cpu"]);
        assert!(done.0 == Some(2) && done.1.contains(what), "{what}: {done:?}");
        assert!(done.1.len() < 1000, "{}", done.1);
        costs_little(&done, least);
    };
    let empty = |i| Some(format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#));
    full_header(&path, "{", empty, "}", 0);
    refused("more than 1048576 tensors");
    // All of it one dimension after the other, and half of them.
    let one = |_| Some("1".into());
    let start = r#"{"a":{"dtype":"U8","data_offsets":[0,1],"shape":["#;
    full_header(&path, start, one, "]}}", 1);
    refused("more than 16777216 numbers");
    full_header(&path, start, |i| (i < 8 << 20).then(|| "1".into()), "]}}", 1);
    refused("no tersor manifest");
    // Metadata of any number and length is legal, and read whole before it is found to be no archive.
    let pair = |i| Some(format!(r#""{i:x}":"""#));
    full_header(&path, r#"{"__metadata__":{"#, pair, "}}", 0);
    refused("no tersor manifest");
    let long = "x".repeat(99_000_000);
    full_header(&path, &format!(r#"{{"__metadata__":{{"a":"{long}"#), none, "\"}}", 0);
    refused("no tersor manifest");
    full_header(&path, &format!("{{\"{long}"), none, "\":1}", 0);
    refused("'1', expected '{'");

    // Manifests, which may be long where there are many tensors.
    let manifest = |start: &str, item: &dyn Fn(usize) -> Option<String>, end: &str| {
        let [start, end] = [start, end].map(|text| text.replace('"', r#"\""#));
        let start = format!(r#"{{"__metadata__":{{"tersor":"{start}"#);
        full_header(&path, &start, item, &format!("{end}\"}}}}"), 0);
    };
    let zero = |_| Some("0".into());
    manifest(r#"{"version":1,"x":["#, &zero, "]}");
    refused("unknown field `x`");
    let digest = "A".repeat(22);
    let start = format!(r#"{{"chunks":"","header":"{digest}","tensors":{{"#);
    manifest(&format!(r#"{start}"a":["#), &zero, r#"]},"version":1}"#);
    refused("more tensors than the file holds");
    let described = |i| {
        let shape = r#""dtype":"F32","pruned":true,"shape":[1]"#;
        let text = format!(r#""{i:x}":{{"digest":"{digest}",{shape}}}"#);
        Some(text.replace('"', r#"\""#))
    };
    manifest(&start, &described, r#"},"version":1}"#);
    refused("more tensors than the file holds");

    // As many tensors as there may be, all legal: read whole before it is found to be no archive.
    let legal = |most: usize| {
        let tensor = move |i| {
            let end = i + 1;
            format!(r#""{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{end}]}}"#)
        };
        full_header(&path, "{", |i| (i < most).then(|| tensor(i)), "}", most);
    };
    legal(1 << 20);
    refused("no tersor manifest");
    assert_eq!(Checkpoint::open(&path).unwrap().tensors.len(), 1 << 20);
    let done = measured(&["inspect", text, "--device", "cpu", "--quiet"]);
    assert_eq!(done.0, Some(0), "{done:?}");
    costs_little(&done, least);
    // A quarter of them, so that the test is quick.
    legal(1 << 18);
    let out = dir.path().join("out.safetensors");
    let out = out.to_str().unwrap();
    let done =
        measured(&["compress", text, "-o", out, "--preset", "int8", "--device", "cpu", "--quiet"]);
    assert!(done.0 == Some(0) && done.3 < 1000 << 18, "{done:?}");
}

#[test]
fn a_long_config_costs_little() {
    let least = least();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("model.safetensors"), file(&format!("{{{A}}}"), 16)).unwrap();
    let config = |n: usize, rest: &str| {
        let zeros = "0,".repeat(n);
        fs::write(folder.join("config.json"), format!("{{\"a\":[{zeros}0],{rest}}}")).unwrap();
        measured(&["plan", folder.to_str().unwrap(), "--preset", "int8"])
    };
    let done = config(40_000_000, "\"b\":0");
    assert!(done.0 == Some(2) && done.1.contains("at most 16777216"), "{done:?}");
    costs_little(&done, least);
    let done = config(8_000_000, "\"quantization_config\":null");
    assert_eq!(done.0, Some(0), "{done:?}");
    assert!(done.3 < 100_000_000, "{done:?}");
    let quantized = |rest: &str| {
        config(3, rest);
        already_quantized(&Checkpoint::open(&folder).unwrap()).map(|q| q.reasons[0].is_some())
    };
    assert!(!quantized("\"quantization_config\":null").unwrap());
    assert!(quantized("\"quantization_config\":{\"x\":[1]}").unwrap());
    assert!(quantized("\"quantization_config\":1,\"quantization_config\":null").is_err());
}

#[test]
fn weights_of_8_bits_with_scales_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let carried = |tensors: &[(&str, DType)]| {
        let path = dir.path().join("f8.safetensors");
        let all: Vec<_> =
            tensors.iter().map(|(n, d)| (*n, *d, vec![2, 2], vec![0; 4 * d.bits() / 32])).collect();
        write_checkpoint(&path, &all);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let reasons = already_quantized(&checkpoint).unwrap().reasons;
        let mut names: Vec<_> = checkpoint.tensors.iter().zip(reasons).collect();
        names.retain(|(_, reason)| reason.is_some());
        let mut names: Vec<_> = names.into_iter().map(|(t, _)| t.name.clone()).collect();
        names.sort();
        names
    };
    let (f8, f32) = (DType::F8E4M3, DType::F32);
    for scale in ["l.input_scale", "l.weight_scale_inv", "l.weight.scale", "l.scale", "l.scales"] {
        let all = [("l.weight", f8), (scale, f32), ("m.weight", f8), ("n.input_scale", f32)];
        let mut expected = ["l.weight", scale];
        expected.sort();
        assert_eq!(carried(&all), expected);
    }
    assert_eq!(carried(&[("w", f8), ("w_scale", f32), ("l.w", f8)]), ["w", "w_scale"]);
    assert_eq!(carried(&[("l.weight", f32), ("l.weight_scale", f32)]), [""; 0]);
    let packed = [("l.qweight", DType::I32), ("l.scales", f32), ("l.weight", f32)];
    assert_eq!(carried(&packed), ["l.qweight", "l.scales", "l.weight"]);
    let packed = [("l.weight.quant_map", f32), ("l.weight.absmax", f32), ("m.bias", f32)];
    assert_eq!(carried(&packed), ["l.weight.absmax", "l.weight.quant_map"]);
}

#[test]
fn a_manifest_has_one_text() {
    let described = |method, pruned| TensorManifest {
        dtype: DType::BF16,
        shape: vec![6, 8],
        view: View::default(),
        pruned,
        transform: None,
        method,
        coded: pruned,
        digest: [9; 16],
        max_rel_error: Some(0.1),
    };
    let scales = ScaleType::F32;
    let affine = Method::Affine(Affine { bits: 4, symmetric: true, group: 8, scales });
    let manifest = Manifest {
        tensors: [
            ("a".to_owned(), described(affine, false)),
            (
                "b".to_owned(),
                described(Method::Palette(Palette { k: 5, rows: 2, trellis: None }), true),
            ),
            (
                "d".to_owned(),
                TensorManifest {
                    transform: Some(BlockTransform {
                        kind: TransformKind::Dct,
                        block: 8,
                        steps: vec![16, 11, 10, 16, 24, 40, 51, 61],
                    }),
                    ..described(affine, false)
                },
            ),
            (
                "e".to_owned(),
                TensorManifest {
                    transform: Some(BlockTransform {
                        kind: TransformKind::Hadamard { seed: 5 },
                        block: 8,
                        steps: vec![],
                    }),
                    ..described(affine, false)
                },
            ),
        ]
        .into(),
        tied: [("c".to_owned(), "a".to_owned())].into(),
        chunks: vec![[1; 16]],
        ..Manifest::default()
    };
    let mut text = Vec::new();
    manifest.write(&mut text, &"A".repeat(22)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(Manifest::parse(&text, 4).unwrap(), (manifest, [0; 16]));
    assert!(Manifest::parse(&text, 3).unwrap_err().contains("more tensors"));
    let other = |from: &str, to: &str, what: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        let error = Manifest::parse(&text.replacen(from, to, 1), 4).unwrap_err();
        assert!(error.contains(what), "{from} as {to}: {error}");
    };
    for (from, to) in [
        ("{", " {"),
        (",", ", "),
        ("\"a\":", "\"\\u0061\":"),
        ("\"palette\":[5,2],", "\"axis\":null,\"palette\":[5,2],"),
        ("[4,1,8]", "[4,2,8]"),
        ("0.1,", "0.10,"),
        ("\"pruned\":true", "\"pruned\":false"),
        ("\"tied\":{\"c\":\"a\"}", "\"tied\":{}"),
        ("\"tied\":{\"c\":\"a\"}", "\"tied\":null"),
    ] {
        other(from, to, "not in the canonical form");
    }
    let a = text.find("\"a\":").unwrap()..text.find(",\"b\":").unwrap();
    let twice = format!("{},{}", &text[a.clone()], &text[a.clone()]);
    let error = Manifest::parse(&text.replace(&text[a], &twice), 5).unwrap_err();
    assert!(error.contains("not in the canonical form"), "{error}");
    other("\"version\":1", "\"version\":2", "version is 2, expected 1");
    other("\"version\":1", "\"version\":1,\"version\":1", "duplicate field");
    other("\"pruned\"", "\"\u{1b}[31m\"", "control character");
    other("\"pruned\"", "\"\\u001b[31m\"", "unknown field `\\u{1b}[31m`");
    other("[4,1,8]", "[9,1,8]", "codes of 9 bits");
    other("[5,2]", "[0,2]", "tables of 0 entries");
    other("[5,2]", "[5,4]", "do not divide");
    other("[4,1,8]", "[4,1,7]", "do not divide");
    other("[\"dct\",8,0]", "[\"dct\",8,1]", "dct with the seed 1, expected 0");
    other("[\"dct\",8,0]", "[\"dst\",8,0]", "transform \"dst\" is not known");
    other(
        "[\"dct\",8,0]",
        "[\"dct\",4,0]",
        "dct of 4 weights, expected a power of two from 8 to 32",
    );
    other("[\"dct\",8,0]", "[\"dct\",16,0]", "transforms of 16 weights do not divide rows of 8");
    other("[\"hadamard\",8,5]", "[\"hadamard\",12,5]", "expected a power of two from 8 to 256");
    other("[\"hadamard\",8,5]", "[\"hadamard\",8,-1]", "invalid value");
    other("[16,11,", "[16,", "7 steps for blocks of 8 weights");
    other("[16,11,", "[16,0,", "from 1 to 255");
    other("[16,11,", "[16,256,", "invalid value");
    other("[16,11,10,16,24,40,51,61]", "[]", "not in the canonical form");
    other(",\"transform\":[\"dct\",8,0]", "", "steps of no transform");
    other("[\"dct\",8,0]", "[\"hadamard\",8,0]", "steps of hadamard");
    other(
        ",\"shape\":[6,8],\"transform\":[\"hadamard\",8,5]",
        ",\"pruned\":true,\"shape\":[6,8],\"transform\":[\"hadamard\",8,5]",
        "a transform of what is pruned",
    );
    other("BF16", "I32", "expected weights");
    other("BF16", "BF17", "not known");
    other("[6,8]", "[9223372036854775808,8]", "between 1 and 2^61");
    // A scale of four bytes for every byte.
    let huge = text.replace("BF16", "F8_E4M3").replace("[6,8]", "[1152921504606846976,1]");
    let huge = huge.replace("[5,2]", "[5,0]");
    for (affine, shape) in
        [("[4,1,1]", "[1152921504606846976,1]"), ("[4,0,1]", "[576460752303423488,2]")]
    {
        let shaped = huge.replace("[1152921504606846976,1]", shape);
        let error = Manifest::parse(&shaped.replace("[4,1,8]", affine), 4).unwrap_err();
        assert!(error.contains("tables of 2^61 bytes"), "{error}");
    }
    other(&text[text.find("shape").unwrap()..][..13], "shape\":[6,0]}", "between 1 and 2^61");
}

#[test]
fn links_into_a_cache_are_followed_and_a_shrinking_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (blob, snapshot) = (dir.path().join("blob"), dir.path().join("snapshot"));
    fs::write(&blob, file(&format!("{{{A}}}"), 16)).unwrap();
    fs::create_dir(&snapshot).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&blob, snapshot.join("model.safetensors")).unwrap();
    #[cfg(not(unix))]
    fs::copy(&blob, snapshot.join("model.safetensors")).unwrap();
    let c = Checkpoint::open(&snapshot).unwrap();
    let mut bytes = [0; 16];
    c.read_at(0, c.tensors[0].offset(), &mut bytes).unwrap();
    assert!(c.unchanged().is_ok());
    fs::OpenOptions::new().write(true).open(&blob).unwrap().set_len(40).unwrap();
    let error = c.read_at(0, c.tensors[0].offset(), &mut bytes).unwrap_err().to_string();
    assert!(error.contains("shorter"), "{error}");
    assert!(c.unchanged().is_err());
}

#[test]
fn folders_without_one_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("no model.safetensors.index.json"), "{error}");
    for name in ["x.safetensors", "y.safetensors"] {
        fs::write(dir.path().join(name), file("{}", 0)).unwrap();
    }
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("name one of them"), "{error}");
    assert!(matches!(Checkpoint::open(&dir.path().join("nothing")), Err(Error::Io { .. })));
}

/// JSON with these texts after `[` and `{`, for a comma, for a colon, and before `]` and `}`; beyond ASCII in escapes or not.
fn styled(
    value: &serde_json::Value,
    [open, comma, colon, close]: [&str; 4],
    ascii: bool,
) -> String {
    let all = |v: &serde_json::Value| styled(v, [open, comma, colon, close], ascii);
    let text = |s: &str| {
        let plain = serde_json::Value::from(s).to_string();
        let escape = |c: char| match c.is_ascii() || !ascii {
            true => c.to_string(),
            false => c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect(),
        };
        plain.chars().map(escape).collect::<String>()
    };
    match value {
        serde_json::Value::Object(map) => {
            let pair = |(k, v): (&String, _)| format!("{}{colon}{}", text(k), all(v));
            format!("{{{open}{}{close}}}", map.iter().map(pair).collect::<Vec<_>>().join(comma))
        }
        serde_json::Value::Array(list) => {
            format!("[{open}{}{close}]", list.iter().map(all).collect::<Vec<_>>().join(comma))
        }
        serde_json::Value::String(s) => text(s),
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a writer of JSON makes of a valid header we read, and read the same as the reference reader.
    #[test]
    fn never_stricter_than_the_reference(
        tensors in proptest::collection::btree_map(
            ".{0,12}",
            (0usize..4, proptest::collection::vec(0u64..5, 0..4)),
            0..6,
        ),
        metadata in proptest::option::of(proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..3)),
        style in 0usize..6,
        ascii: bool,
        spaces in 0usize..9,
    ) {
        let mut header = serde_json::Map::new();
        let mut at = 0;
        for (name, (dtype, shape)) in tensors.iter().filter(|(n, _)| !n.contains('\0') && *n != "__metadata__") {
            let (dtype, size) = [("U8", 1), ("BF16", 2), ("F32", 4), ("I64", 8)][*dtype];
            let bytes = shape.iter().product::<u64>() * size;
            let info = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
            header.insert(name.clone(), info);
            at += bytes;
        }
        if let Some(pairs) = metadata {
            header.insert("__metadata__".into(), serde_json::json!(pairs));
        }
        let value = serde_json::Value::Object(header);
        let text = match style {
            0 => value.to_string(),
            1 => format!("{value:#}"),
            // json.dumps of Python, by itself and with an indentation.
            2 => styled(&value, ["", ", ", ": ", ""], ascii),
            3 => styled(&value, ["\n  ", ",\n  ", ": ", "\n"], ascii),
            4 => styled(&value, [" ", " , ", " : ", "\t"], ascii),
            _ => styled(&value, ["\r\n", "\t,\r\n", "\n:\n", " "], ascii),
        } + &" ".repeat(spaces);
        let bytes = file(&text, at as usize);
        let reference = safetensors::SafeTensors::deserialize(&bytes);
        prop_assert!(reference.is_ok(), "no valid header: {text}");
        let reference = reference.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ours = open(dir.path(), &bytes);
        prop_assert!(ours.is_ok(), "{}: {text}", ours.unwrap_err());
        let ours = ours.unwrap();
        prop_assert_eq!(ours.tensors.len(), reference.len());
        for t in &ours.tensors {
            let view = reference.tensor(&t.name).unwrap();
            let shape: Vec<u64> = view.shape().iter().map(|d| *d as u64).collect();
            prop_assert_eq!((&t.shape, t.bytes), (&shape, view.data().len() as u64));
            prop_assert_eq!(t.dtype.name(), format!("{:?}", view.dtype()));
        }
    }

    /// Whatever the reference reader refuses we refuse, whatever damage is done to a header.
    #[test]
    fn never_more_lenient_than_the_reference(at in 0usize..140, byte in any::<u8>(), cut in 0usize..200) {
        let good = file(&format!("{{{A},\"b\":{{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[16,28]}}}}   "), 28);
        let mut bytes = good.clone();
        if at < bytes.len() {
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(150).min(bytes.len()));
        let dir = tempfile::tempdir().unwrap();
        let ours = open(dir.path(), &bytes);
        let reference = safetensors::SafeTensors::deserialize(&bytes);
        if reference.is_err() {
            prop_assert!(ours.is_err(), "accepted: {:?}", String::from_utf8_lossy(&bytes));
        }
        if let (Ok(ours), Ok(reference)) = (&ours, &reference) {
            prop_assert_eq!(ours.tensors.len(), reference.len());
        }
    }
}

/// An index of a variant, beside shards and beside the same weights in other precisions: in a folder, and named.
#[test]
fn an_index_of_a_variant_is_the_checkpoint_of_its_shards() {
    let parent = tempfile::tempdir().unwrap();
    let recipe = tersor::recipe::Recipe::preset("int8").unwrap();
    let options = crate::support::options(&crate::support::CPU);
    let weights = crate::support::words_of(DType::BF16, &crate::support::noise(1, 64 * 128));
    for (base, variant, shard) in [
        ("model", "bf16", "model.bf16-0000N-of-00002.safetensors"),
        ("model", "fp16", "model.fp16-0000N-of-00002.safetensors"),
        (
            "diffusion_pytorch_model",
            "fp16",
            "diffusion_pytorch_model-0000N-of-00002.fp16.safetensors",
        ),
    ] {
        let dir = parent.path().join(format!("{base} {variant}"));
        fs::create_dir(&dir).unwrap();
        let mut map = serde_json::Map::new();
        for n in ["1", "2"] {
            let (file, name) = (shard.replace('N', n), format!("layer.{n}.weight"));
            write_checkpoint(
                &dir.join(&file),
                &[(&name, DType::BF16, vec![64, 128], weights.clone())],
            );
            map.insert(name, file.into());
        }
        let index = format!("{base}.safetensors.index.{variant}.json");
        fs::write(dir.join(&index), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
        let [packed, back] = ["packed", "back"].map(|n| parent.path().join(n));
        for path in [&dir, &dir.join(&index)] {
            let c = Checkpoint::open(path).unwrap();
            assert_eq!((c.tensors.len(), c.files.len(), c.indices().next()), (2, 2, Some(&*index)));
            let report = tersor::pipeline::compress(path, &packed, &recipe, &options).unwrap();
            assert!(
                report.tensors.iter().all(|t| !t.method.is_kept()) && report.tensors.len() == 2
            );
            tersor::pipeline::decompress(&packed, &back, &options).unwrap();
            assert_eq!(Checkpoint::open(&back).unwrap().indices().next(), Some(&*index));
            fs::remove_dir_all(&packed).unwrap();
            fs::remove_dir_all(&back).unwrap();
        }
        // The plain one comes before it, and takes its place in an output; named, it is the other way round.
        let plain = format!("{base}.safetensors");
        write_checkpoint(&dir.join(&plain), &[("w", DType::BF16, vec![64, 128], weights.clone())]);
        write_checkpoint(
            &dir.join(format!("{base}.ema.safetensors")),
            &[("w", DType::U8, vec![4], vec![0])],
        );
        for (path, tensors, out) in [(&dir, 1, &index), (&dir.join(&index), 2, &plain)] {
            let c = Checkpoint::open(path).unwrap();
            assert_eq!(c.tensors.len(), tensors);
            let carried: Vec<_> = c.carried().iter().map(|p| p.display().to_string()).collect();
            assert_eq!(carried, [format!("{base}.ema.safetensors")]);
            let how = match out == &plain {
                true => "it is what is taken without --variant".into(),
                false => format!("--variant {variant} takes it instead"),
            };
            let why = format!(
                "{out} is left out: it belongs to the same weights in another precision; {how}"
            );
            assert!(c.remarks().contains(&why), "{:?}", c.remarks());
            tersor::pipeline::compress(path, &packed, &recipe, &options).unwrap();
            assert!(
                !packed.join(out).exists()
                    && packed.join(format!("{base}.ema.safetensors")).exists()
            );
            fs::remove_dir_all(&packed).unwrap();
        }
    }
}
