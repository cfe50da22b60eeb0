//! Where the rules of the house have exceptions: exactly there, and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file of Rust under a folder of the project.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// How often a text is in each file that holds it, spaces and line ends aside.
fn holders(folder: &str, text: &str) -> Vec<(String, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = |path: &PathBuf| {
        let held = fs::read_to_string(path).unwrap().split_whitespace().collect::<String>();
        let name = path.strip_prefix(root).unwrap().display().to_string().replace('\\', "/");
        (name, held.matches(text).count())
    };
    let mut found: Vec<_> = sources(folder).iter().map(count).filter(|(_, n)| *n > 0).collect();
    found.sort();
    found
}

#[test]
fn unsafe_code_is_allowed_in_three_places() {
    let expected = ["src/gpu/mod.rs", "src/gpu/open.rs", "src/simd/mod.rs"];
    assert_eq!(holders("src", "allow(unsafe_code"), expected.map(|name| (name.to_owned(), 1)));
    for file in ["src/lib.rs", "src/main.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains("#![deny(unsafe_code)]"), "{file}");
    }
    // Outside the module of SIMD the word starts two blocks.
    let others = holders("src", "unsafe{").into_iter().filter(|(f, _)| !f.starts_with("src/simd/"));
    assert_eq!(others.map(|(_, n)| n).sum::<usize>(), 2);
}

#[test]
fn digests_are_skipped_for_fuzzers_alone() {
    assert_eq!(holders("src", "cfg!(fuzzing)"), [("src/digest.rs".to_owned(), 1)]);
    assert_eq!(holders("src", "cfg(fuzzing)"), []);
    const { assert!(!cfg!(fuzzing), "no build but a fuzzer's may have it") };
}
