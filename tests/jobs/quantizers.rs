//! What the tests of quantizers share: weights, and that a job's bytes are the same everywhere.

use super::pipeline::{contents, run};
use crate::support::{CPU, gpu, options, splitmix64, tiny_gpu, words_of, write_checkpoint};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tersor::{
    DType,
    pipeline::{Options, compress, decompress, verify},
    recipe::Recipe,
    report::Report,
};

/// Normally distributed, of deviation 1.
pub fn gaussian(seed: u64, n: usize) -> Vec<f32> {
    let mut uniform = splitmix64(seed).map(|z| ((z >> 11) as f64 + 0.5) / (1u64 << 53) as f64);
    let mut one = || {
        let (a, b) = (uniform.next().unwrap(), uniform.next().unwrap());
        (libm::sqrt(-2.0 * libm::log(a)) * libm::cos(2.0 * std::f64::consts::PI * b)) as f32
    };
    (0..n).map(|_| one()).collect()
}

/// A checkpoint of one F32 matrix.
pub fn matrix(dir: &Path, shape: [usize; 2], values: &[f32]) -> PathBuf {
    let input = dir.join("in.safetensors");
    write_checkpoint(&input, &[("w", DType::F32, shape.into(), words_of(DType::F32, values))]);
    input
}

/// Demands the same archive of one thread and of every device as of the CPU, the same weights from every device, and that it is
/// verified; says what the CPU reports. `unfit`: the reasons for which a tiny device may leave work to the CPU.
pub fn same_everywhere(
    (input, dir): (&Path, &Path),
    (recipe, case): (&Recipe, &str),
    unfit: fn(&str) -> bool,
) -> Report {
    let (output, back) = (dir.join("out"), dir.join("back"));
    let found = run(input, &output, recipe, &CPU);
    let expected = fs::read(&output).unwrap();
    decompress(&output, &back, &options(&CPU)).unwrap();
    let restored = contents(&back);
    let threads = Options { threads: 1, ..options(&CPU) };
    compress(input, &output, recipe, &threads).unwrap();
    assert!(fs::read(&output).unwrap() == expected, "{case}: one thread");
    for on in [gpu(), tiny_gpu()].into_iter().flatten() {
        let report = run(input, &output, recipe, on);
        let tiny = tiny_gpu().is_some_and(|tiny| std::ptr::eq(tiny, on));
        let allowed = |reason: &String| tiny && unfit(reason);
        assert!(report.cpu_reasons.iter().all(allowed), "{case}: {:?}", report.cpu_reasons);
        assert!(fs::read(&output).unwrap() == expected, "{case} on {}", on.name());
        decompress(&output, &back, &options(on)).unwrap();
        assert!(contents(&back) == restored, "{case} on {}", on.name());
    }
    verify(&output, Some(input), &options(&CPU)).unwrap();
    found
}
