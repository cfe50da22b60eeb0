//! Malformed files, each with the exact words in which it is refused. A table a kind of file: its bytes, made by code, and beside
//! them what is said. All go through the library; a sample goes through the binary, too, whose exit code is checked, that it says
//! the same, and that it leaves nothing behind.

mod archives;
mod headers;
mod indices;
mod manifests;
mod recipes;
mod renamed;

use std::{collections::BTreeSet, fs, path::Path};
use tersor::{Error, format::Checkpoint};

/// Every so many cases the binary is run, too.
const SAMPLE: usize = 8;

#[test]
fn there_are_enough_cases() {
    let counts = [
        headers::cases().len(),
        renamed::cases().len(),
        indices::cases().len(),
        manifests::cases().len(),
        archives::cases().len(),
        recipes::cases().len(),
    ];
    println!("headers, renamed, indices, manifests, archives, recipes: {counts:?}");
    assert!(counts[2] >= 60 && counts.iter().sum::<usize>() >= 250, "{counts:?}");
}

/// A safetensors file: a header and so many bytes of data.
fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + data, 7);
    bytes
}

/// A tensor's entry in a header.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// Collects what differs, so that one run says all of it.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare(&mut self, case: usize, found: &str, expected: &str) {
        // A file that somebody else made must not move the cursor of who reads about it, nor fill the screen.
        let harmless = !found.chars().any(char::is_control) && found.len() < 1500;
        if found != expected || !harmless {
            self.0.push(format!("case {case}:\n  found    {found}\n  expected {expected}"));
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// What opening a checkpoint says, which must be of this file.
fn said(error: Error, file: &Path) -> String {
    match error {
        Error::Format { path, why } if path == file => why,
        other => format!("another kind of error, or of another file: {other:?}"),
    }
}

/// Opens every file under the name of a checkpoint.
fn open_all(cases: impl IntoIterator<Item = (Vec<u8>, String)>) {
    let dir = crate::support::memory_folder();
    let path = dir.path().join("model.safetensors");
    let mut differences = Differences::default();
    for (i, (bytes, expected)) in cases.into_iter().enumerate() {
        fs::write(&path, &bytes).unwrap();
        match Checkpoint::open(&path) {
            Ok(_) => differences.compare(i, "it is read", &expected),
            Err(e) => {
                let folder = format!("{}/", dir.path().display());
                differences.compare(i, &said(e, &path).replace(&folder, ""), &expected);
            }
        }
        if i % SAMPLE == 0 {
            let job = ["compress", "model.safetensors", "-o", "out", "--preset", "int8"];
            differences.compare(i, &binary(dir.path(), &job, 2), &expected);
        }
    }
    differences.none();
}

/// What the binary says of `model.safetensors` or `recipe.toml` in a folder, without its name in front; it must end with this
/// code and change nothing.
fn binary(folder: &Path, args: &[&str], code: i32) -> String {
    let listed = || -> BTreeSet<_> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    let before = listed();
    let done = crate::support::tersor()
        .args(args)
        .args(["--device", "cpu", "--quiet"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(code), "{args:?}: {text}");
    assert!(done.stdout.is_empty(), "{args:?} prints on stdout");
    assert_eq!(listed(), before, "{args:?} leaves something behind");
    let text = text.trim_end();
    let text = text.strip_prefix("tersor: ").unwrap_or(text);
    let end = |name: &str| text.find(name).map(|at| at + name.len());
    let start =
        args.iter().filter(|a| a.contains('.')).filter_map(|a| end(&format!("{a}: "))).min();
    text[start.unwrap_or(0)..].to_owned()
}
