//! What is fuzzed: a function of bytes for every parser and codec. libFuzzer calls them from `fuzz_targets`, and the crate's own
//! tests with a committed corpus and some mutations of it (`tests/files/fuzz.rs`), so that they need no other tool than cargo.

#[path = "targets.rs"]
pub mod targets;

use std::sync::LazyLock;

/// Runs a target, files in a folder of this process.
pub fn fuzz(name: &str, data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let memory = std::path::Path::new("/dev/shm");
        match memory.is_dir() {
            true => tempfile::tempdir_in(memory).expect("a folder in memory"),
            false => tempfile::tempdir().expect("a temporary folder"),
        }
    });
    let (_, target) = targets::ALL.iter().find(|(n, _)| *n == name).expect("a target");
    target(data, FOLDER.path());
}
