//! Malformed and hostile files: each refused with an error that names what was found and what was expected.

mod support;
use proptest::prelude::*;
use std::{fs, path::Path};
use tersor::{Error, format::Checkpoint};

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
fn malformed_headers_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let long = "n".repeat(2000);
    let deep = format!("[{}]", ["1"; 40].join(","));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "too few"),
        (vec![1; 7], "too few"),
        (0u64.to_le_bytes().to_vec(), "claims 0 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "at most 100000000"),
        (100u64.to_le_bytes().to_vec(), "claims 100 bytes, expected 2 to the 0"),
        (b"PK\x03\x04 and a zip archive".to_vec(), "a zip archive"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00".to_vec(), "a Python pickle"),
        (b"GGUF\x03\x00\x00\x00rest".to_vec(), "a GGUF file"),
        (file("[]        ", 0), "expected '{'"),
        (file("{", 0), "2 to the"),
        (file("{ ", 0), "the end of the header"),
        (file("{}x", 0), "after the end"),
        (file("{}", 3), "has 3 bytes, expected the 0"),
        (file(&format!("{{{A},}}"), 16), "expected '\"'"),
        (file(&format!("{{{A} {A}}}"), 16), "expected ',' or '}'"),
        // The three headers with a duplicate name that the reference reader accepts.
        (
            file(
                &format!(r#"{{{A},"a":{{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}}}"#),
                16,
            ),
            "appears twice",
        ),
        (
            file(&format!(r#"{{"a":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},{A}}}"#), 16),
            "appears twice",
        ),
        (
            file(
                &format!(r#"{{"a":{{"dtype":"F32","shape":[25],"data_offsets":[77,177]}},{A}}}"#),
                16,
            ),
            "appears twice",
        ),
        (
            file(r#"{"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 16),
            "\"dtype\" appears twice",
        ),
        (file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "__metadata__ appears twice"),
        (file(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0), "metadata key \"k\" appears twice"),
        (file(r#"{"__metadata__":{"k":1}}"#, 0), "expected '\"'"),
        (
            file(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"extra":1}}"#, 16),
            "key \"extra\" is not known",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[4]}}"#, 16),
            "expected dtype, shape and data_offsets",
        ),
        (file(&tensor("F128", "[4]", "[0,16]"), 16), "dtype \"F128\" is not known"),
        (file(&tensor("F32", "[-4]", "[0,16]"), 16), "expected a whole number"),
        (file(&tensor("F32", "[4.0]", "[0,16]"), 16), "expected a whole number"),
        (file(&tensor("F32", "[4e0]", "[0,16]"), 16), "expected a whole number"),
        (file(&tensor("F32", "[04]", "[0,16]"), 16), "expected a whole number"),
        (file(&tensor("F32", "[18446744073709551616]", "[0,16]"), 16), "expected a whole number"),
        (file(&tensor("F32", &deep, "[0,4]"), 4), "more than 32 numbers"),
        (file(&tensor("F32", "[4]", "[0]"), 16), "expected two numbers"),
        (file(&tensor("F32", "[4]", "[0,16,32]"), 16), "more than 2 numbers"),
        (file(&tensor("F32", "[4]", "[16,0]"), 16), "hold -16 bytes, expected 16"),
        (file(&tensor("F32", "[5]", "[0,16]"), 16), "expected 20 for F32 [5]"),
        (
            file(&tensor("F32", "[4294967296,4294967296]", "[0,16]"), 16),
            "a whole number of bytes below 2^64",
        ),
        (file(&tensor("F4", "[3]", "[0,2]"), 2), "a whole number of bytes"),
        (file(&tensor("F32", "[4]", "[0,16]"), 15), "has 15 bytes, expected the 16"),
        (file(&tensor("F32", "[4]", "[0,16]"), 17), "has 17 bytes, expected the 16"),
        (
            file(&tensor("F32", "[4]", "[4,20]"), 20),
            "leaves a hole before it: it starts at 4, expected 0",
        ),
        (
            file(
                &format!(r#"{{{A},"b":{{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}}}"#),
                16,
            ),
            "\"b\" overlaps what is before it: it starts at 8, expected 16",
        ),
        (
            file(&format!(r#"{{"{long}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#), 1),
            "at most 1024 bytes",
        ),
        (file(r#"{"a\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1), "no NUL"),
        (
            file(r#"{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1),
            "half a surrogate pair",
        ),
        (file("{\"a\nb\":{}}", 0), "control character"),
        (file(r#"{"a\q":{}}"#, 0), "unknown escape"),
    ];
    for (bytes, expected) in cases {
        let error = match open(dir.path(), &bytes) {
            Err(e @ Error::Format { .. }) => e.to_string(),
            other => panic!("{expected}: {other:?}"),
        };
        assert!(
            error.contains(expected) && error.contains("model.safetensors"),
            "{expected}: {error}"
        );
        assert!(error.len() < 1000 && !error.contains('\n'), "{error}");
    }
    let error = open(dir.path(), &[&file("{\"\u{1b}[31m", 0)[..], b"\xff\xff"].concat())
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\u{1b}'), "names are escaped: {error}");
}

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
    assert_eq!(c.files[0].metadata, [("format".into(), "pt".into()), ("x".into(), "😀".into())]);
}

#[test]
fn a_header_of_very_many_tensors_costs_little() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.safetensors");
    // Well over the cap: refused when the cap is reached, not after the whole header was kept.
    let entries: Vec<String> = (0..1_200_000)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    drop(entries);
    fs::write(&path, file(&header, 0)).unwrap();
    let before = resident();
    let started = std::time::Instant::now();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 tensors"), "{error}");
    let (seconds, grown) = (started.elapsed().as_secs_f64(), resident().saturating_sub(before));
    println!("{} MB of header: {seconds:.2} s, {} MiB", header.len() / 1_000_000, grown >> 20);
    // Debug builds are given more time; memory is the same.
    assert!(seconds < if cfg!(debug_assertions) { 20.0 } else { 2.0 } && grown < 300 << 20);
}

/// Most memory the process has had, where the system tells.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("0");
    let kilobytes = line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    kilobytes.unwrap_or(0) << 10
}

#[test]
fn a_lying_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one.safetensors"), file(&format!("{{{A}}}"), 16)).unwrap();
    fs::write(
        dir.path().join("two.safetensors"),
        file(&format!("{{{}}}", A.replace("\"a\"", "\"b\"")), 16),
    )
    .unwrap();
    let outside = dir.path().join("sub");
    fs::create_dir(&outside).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let cases = [
        (r#"{"weight_map":{"a":"../one.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"/etc/one.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"sub\\one.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"C:one.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"https://x/one.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"one\u0000.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":""}}"#, "plain name"),
        (r#"{"weight_map":{"a":"pytorch_model.bin"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"gone.safetensors"}}"#, "\"gone.safetensors\" is missing"),
        (
            r#"{"weight_map":{"a":"one.safetensors","b":"one.safetensors"}}"#,
            "\"b\" is listed but not in shard",
        ),
        (
            r#"{"weight_map":{"b":"two.safetensors","x":"one.safetensors"}}"#,
            "\"a\" of shard \"one.safetensors\" is not listed",
        ),
        (
            r#"{"weight_map":{"a":"two.safetensors","b":"one.safetensors"}}"#,
            "is in \"one.safetensors\", expected \"two.safetensors\"",
        ),
        (r#"{"weight_map":{"a":"one.safetensors","a":"one.safetensors"}}"#, "listed twice"),
        (r#"{"weight_map":{}}"#, "weight_map is empty"),
        (r#"{"metadata":{}}"#, "missing field"),
        (r#"{"weight_map":"#, "EOF"),
    ];
    for (text, expected) in cases {
        fs::write(&index, text).unwrap();
        for path in [&index, &dir.path().to_path_buf()] {
            let error = Checkpoint::open(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
    fs::write(&index, r#"{"metadata":{"total_size":1},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().tensors.len(), 2);
    fs::write(dir.path().join("two.safetensors"), file(&format!("{{{A}}}"), 16)).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("expected once"), "{error}");
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
    c.read_at(0, c.tensors[0].offset, &mut bytes).unwrap();
    assert!(c.unchanged().is_ok());
    fs::OpenOptions::new().write(true).open(&blob).unwrap().set_len(40).unwrap();
    let error = c.read_at(0, c.tensors[0].offset, &mut bytes).unwrap_err().to_string();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

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
