//! Where the rules of the house have exceptions: exactly there, and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
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

/// The names of crates that the library is built from, with its default features or with none.
fn crates_of_the_library(features: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{lib}",
    ]);
    command.args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_command_line_is_a_feature() {
    let only = [
        "clap",
        "clap_complete",
        "clap_mangen",
        "flate2",
        "image",
        "indicatif",
        "mimalloc",
        "png",
        "signal_hook",
    ];
    let with = |features: &[&str]| -> Vec<&str> {
        let crates = crates_of_the_library(features);
        assert!(crates.iter().any(|c| c == "wgpu"), "{crates:?}");
        only.into_iter().filter(|c| crates.iter().any(|found| found == c)).collect()
    };
    assert_eq!(with(&[]), only);
    assert_eq!(with(&["--no-default-features"]), [""; 0]);
}

/// The fenced blocks of a file's doc comments: what stands behind the opening fence, and the code.
fn fenced(text: &str) -> Vec<(String, String)> {
    let (mut blocks, mut open) = (Vec::<(String, String)>::new(), false);
    let docs = text.lines().map(str::trim_start);
    for line in docs.filter_map(|l| l.strip_prefix("///").or(l.strip_prefix("//!"))) {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(info), false) => blocks.push((info.trim().into(), String::new())),
            (Some(_), true) => {}
            (None, true) => {
                let (_, code) = blocks.last_mut().expect("a block is open");
                code.push_str(line);
                code.push('\n');
                continue;
            }
            (None, false) => continue,
        }
        open = !open;
    }
    blocks
}

#[test]
fn public_items_have_examples_that_run_and_assert() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut run, mut not_run) = (0, Vec::new());
    for path in sources("src") {
        let name = path.strip_prefix(root).unwrap().display().to_string().replace('\\', "/");
        for (info, code) in fenced(&fs::read_to_string(&path).unwrap()) {
            match &*info {
                "" => {
                    assert!(code.contains("assert"), "{name}: an example asserts nothing:\n{code}");
                    run += 1;
                }
                "text" | "toml" => {}
                _ => not_run.push((name.clone(), info)),
            }
        }
    }
    assert!(run >= 30, "{run} examples");
    // It takes a GPU.
    assert_eq!(not_run, [("src/crosscheck/run.rs".to_owned(), "no_run".to_owned())]);
}
