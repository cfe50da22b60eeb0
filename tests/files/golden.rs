//! Archives that version 1 of the format has written, one of every kind: every later version restores the same bytes from them.

use crate::support::{CPU, options, small};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};
use tersor::{
    format::Checkpoint,
    pipeline::{decompress, verify},
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1")
}

/// The digest of what an archive restores, as docs/format.md has it: of every tensor, in the order of their names, a line of text
/// and then its data.
fn restored(archive: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let back = dir.path().join("back");
    decompress(archive, &back, &options(&CPU)).unwrap();
    let checkpoint = Checkpoint::open(&back).unwrap();
    let mut hash = blake3::Hasher::new();
    let tensors: BTreeMap<&str, _> = checkpoint.tensors.iter().map(|t| (&*t.name, t)).collect();
    for (name, t) in tensors {
        let mut bytes = vec![0; t.bytes as usize];
        checkpoint.read_at(t.file, t.offset(), &mut bytes).unwrap();
        hash.update(line(name, t.dtype.name(), &t.shape).as_bytes());
        hash.update(&bytes);
    }
    hash.finalize().to_hex().to_string()
}

/// How many bytes a name has, the name as it is, type, and dimensions: whatever a name holds, no two tensors have the same.
fn line(name: &str, dtype: &str, shape: &[u64]) -> String {
    let dimensions: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("{} {name} {dtype} {}\n", name.len(), dimensions.join(","))
}

#[test]
fn lines_are_what_the_format_says() {
    assert_eq!(line("w.weight", "F8_E4M3", &[24, 16]), "8 w.weight F8_E4M3 24,16\n");
    assert_eq!(line("\u{1b}\"\\é\u{202e}", "F64", &[]), "8 \u{1b}\"\\é\u{202e} F64 \n");
}

#[test]
fn golden_archives_decode_for_ever() {
    let text = fs::read_to_string(golden().join("restored.txt")).unwrap();
    assert!(text.lines().count() >= 39);
    for line in text.lines() {
        let (name, digest) = line.split_once(' ').unwrap();
        let archive = golden().join(name);
        verify(&archive, None, &options(&CPU)).unwrap();
        assert_eq!(restored(&archive), digest, "{name}");
    }
}

/// Adds those that are missing; what is there is never written again.
#[test]
#[ignore = "writes tests/golden"]
fn add_golden_archives() {
    fs::create_dir_all(golden()).unwrap();
    let list = golden().join("restored.txt");
    let mut text = fs::read_to_string(&list).unwrap_or_default();
    let dir = tempfile::tempdir().unwrap();
    for (name, archive) in small::archives(dir.path()) {
        // Of every treatment one type, and of the presets all.
        let other =
            ["-F64", "-F16", "-BF16", "-F8_E4M3", "-F8_E5M2"].iter().any(|t| name.ends_with(t));
        let to = golden().join(&name);
        if to.exists() || other {
            continue;
        }
        match archive.is_dir() {
            false => _ = fs::copy(&archive, &to).unwrap(),
            true => {
                fs::create_dir(&to).unwrap();
                for file in small::files(&archive) {
                    fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        writeln!(text, "{name} {}", restored(&to)).unwrap();
    }
    fs::write(list, text).unwrap();
}
