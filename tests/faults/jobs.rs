//! What a job makes of a device that computes wrongly.

use crate::support::{CPU, gpu, noise, tiny_gpu, words_of, write_checkpoint};
use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tersor::{
    Backend, Cancel, DType, Error, Progress, Result, Silent,
    gpu::{Fault, Gpu},
    pipeline::{Options, PARANOID, compress, decompress, verify},
    recipe::Recipe,
    report::Report,
};

static CANCEL: Cancel = Cancel::new();

fn options(backend: &Backend, paranoid: f64, threads: usize) -> Options<'_> {
    let (progress, cancel) = (&Silent, &CANCEL);
    Options {
        threads,
        memory: (threads as u64 + 1) << 27,
        force: true,
        paranoid,
        ..Options::new(backend, progress, cancel)
    }
}

/// A device, and the fault it has as long as this lives: one at a time.
struct Faulty<'a> {
    gpu: &'a Gpu,
    _alone: MutexGuard<'static, ()>,
}

impl<'a> Faulty<'a> {
    fn new(on: &'a Backend, fault: Option<Fault>) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let Backend::Gpu(gpu) = on else { panic!("{} is no GPU", on.name()) };
        gpu.inject(fault);
        Self { gpu, _alone: alone }
    }
}

impl Drop for Faulty<'_> {
    fn drop(&mut self) {
        self.gpu.inject(None);
    }
}

/// Tensors of several types and shapes, some of them twice, one of several units.
fn model(path: &Path, large: usize) {
    let shapes = [(96, 128), (96, 128), (61, 136), (large, 1024)];
    let tensors: Vec<_> = [DType::F32, DType::BF16]
        .into_iter()
        .flat_map(|dtype| shapes.map(|shape| (dtype, shape)))
        .enumerate()
        .map(|(i, (dtype, (rows, cols)))| {
            let mut values = noise(i as u64, rows * cols);
            if rows == 61 {
                // So close that a histogram hides what they are.
                values.iter_mut().for_each(|v| *v = 1.0 + *v / 1000.0);
            }
            (format!("layer{i}.weight"), dtype, vec![rows, cols], words_of(dtype, &values))
        })
        .collect();
    let borrowed: Vec<_> =
        tensors.iter().map(|(n, d, s, w)| (n.as_str(), *d, s.clone(), w.clone())).collect();
    write_checkpoint(path, &borrowed);
}

fn recipe(what: &str) -> Recipe {
    Recipe::parse(&format!("version = 1\n[[rule]]\nmatch = \"*\"\n{what}\n")).unwrap()
}

const AFFINE: &str = "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [64, \"row\"], objective = \"mse\" }";
const WHOLE: &str =
    "quantize = { kind = \"affine\", bits = 8, granularity = \"tensor\", objective = \"mse\" }";
const ROWS: &str = "quantize = { kind = \"palette\", bits = 3, granularity = \"channel\" }";
const PALETTE: &str = "quantize = { kind = \"palette\", bits = 4, granularity = \"tensor\" }";
const HADAMARD: &str =
    "transform = { kind = \"hadamard\", seed = 3 }\nquantize = { kind = \"affine\", bits = 4 }";
const DCT: &str = "transform = \"dct\"\nquantize = { kind = \"palette\", bits = 3 }";
const BINARY: &str = "quantize = { kind = \"binary\" }";
const N_OF_M: &str = "prune = { kind = \"n:m\", n = 2, m = 4 }";
const MAGNITUDE: &str = "prune = { kind = \"magnitude\", density = 0.3 }";
const MODEL: &str = "prune = { kind = \"magnitude\", density = 0.3, scope = \"model\" }";
const OF_ROW: &str = "prune = { kind = \"magnitude\", density = 0.3, scope = \"row\" }";
const VECTORS: &str =
    "quantize = { kind = \"residual\", d = 2, k = 16, stages = 2, granularity = \"channel\" }";
const PYRAMID: &str = "quantize = { kind = \"pyramid\", n = 4, k = 9 }";
const BLOCK: &str = "prune = { kind = \"block\", density = 0.5, block = [4, 16] }";

/// What a job does with a kernel, and what is wrong with it: every chain of kernels that a job gives to a device.
fn of_jobs() -> Vec<(&'static str, Fault)> {
    let shader = |kernel, from, to| Fault::Shader { kernel, from, to };
    vec![
        (AFFINE, shader("quantize", "clamp(q + i32(scale.y)", "clamp(q + 1 + i32(scale.y)")),
        (AFFINE, Fault::FlipBit { kernel: "quantize", bit: 77 }),
        (AFFINE, Fault::SkipLastWorkgroup { kernel: "quantize" }),
        (AFFINE, Fault::SkipLastWorkgroup { kernel: "range" }),
        (AFFINE, Fault::FlipBit { kernel: "clip_errors", bit: 40 }),
        (WHOLE, Fault::LoseTail { kernel: "range", words: 1 }),
        (WHOLE, Fault::SkipDispatch { kernel: "clip_errors" }),
        (ROWS, shader("sort_rows", "if (a > b) ==", "if (a >= b) !=")),
        (ROWS, Fault::LoseTail { kernel: "sort_rows", words: 1 }),
        (ROWS, Fault::SkipLastWorkgroup { kernel: "palettize" }),
        (PALETTE, shader("histogram", "atomicAdd(&counts[at], 1u)", "atomicAdd(&counts[at], 2u)")),
        (
            PALETTE,
            shader(
                "histogram",
                "let at = bin - params.first",
                "let at = (bin ^ 1u) - params.first",
            ),
        ),
        (PALETTE, Fault::SkipLastWorkgroup { kernel: "histogram" }),
        (PALETTE, Fault::FlipBit { kernel: "histogram_tails", bit: 4099 }),
        (PALETTE, Fault::FlipBit { kernel: "palettize", bit: 1000 }),
        (VECTORS, Fault::FlipBit { kernel: "magnitude_sums", bit: 3 }),
        (VECTORS, shader("vector_points", "let q = rounded(", "let q = 1 + rounded(")),
        (VECTORS, shader("nearest", "best = start + i;", "best = start;")),
        (VECTORS, Fault::SkipLastWorkgroup { kernel: "nearest" }),
        (PYRAMID, shader("pyramid_search", "y[best] += 1u;", "y[best] += 1u; xy += 1u;")),
        (PYRAMID, Fault::SkipLastWorkgroup { kernel: "pyramid_search" }),
        (BINARY, Fault::FlipBit { kernel: "magnitude_sums", bit: 3 }),
        (HADAMARD, shader("transform", "return integers[c]", "return integers[c ^ 1u]")),
        (HADAMARD, Fault::SkipLastWorkgroup { kernel: "transform" }),
        (DCT, shader("transform", "return (high +", "return (high + 40 +")),
        (N_OF_M, shader("nm_mask", "&& o < k", "&& o > k")),
        (N_OF_M, Fault::LoseTail { kernel: "nm_mask", words: 2 }),
        (MAGNITUDE, shader("magnitude_mask", "i < limit.y", "i <= limit.y")),
        (MAGNITUDE, Fault::FlipBit { kernel: "magnitude_tail", bit: 32 * 70 }),
        (MODEL, Fault::SkipLastWorkgroup { kernel: "histogram" }),
        (MODEL, Fault::SkipDispatch { kernel: "magnitude_mask" }),
        (OF_ROW, Fault::FlipBit { kernel: "row_threshold", bit: 12 }),
        (BLOCK, Fault::SkipLastWorkgroup { kernel: "magnitude_sums" }),
    ]
}

/// What is wrong with a kernel that restores weights.
fn of_restored() -> Vec<(&'static str, Fault)> {
    let shader = |kernel, from, to| Fault::Shader { kernel, from, to };
    vec![
        (AFFINE, shader("dequantize", "(value - i32(scale.y))", "(value + i32(scale.y) + 1)")),
        (AFFINE, Fault::SkipLastWorkgroup { kernel: "dequantize" }),
        (VECTORS, shader("dequantize_vectors", "sum += ", "sum -= ")),
        (VECTORS, Fault::LoseTail { kernel: "dequantize_vectors", words: 1 }),
        (
            PYRAMID,
            shader(
                "dequantize_pyramid",
                "let at = id % params.of_row",
                "let at = (id + 1u) % params.of_row",
            ),
        ),
        (PYRAMID, Fault::LoseTail { kernel: "dequantize_pyramid", words: 1 }),
        (ROWS, Fault::FlipBit { kernel: "depalettize", bit: 5 }),
        (PALETTE, Fault::LoseTail { kernel: "depalettize", words: 1 }),
        (
            HADAMARD,
            shader(
                "untransform",
                "i32(exponent_of(c, params.block)) + params.unit",
                "i32(exponent_of(c, params.block)) + params.unit + 1",
            ),
        ),
        (HADAMARD, Fault::FlipBit { kernel: "untransform", bit: 4099 }),
        (DCT, Fault::SkipLastWorkgroup { kernel: "untransform" }),
    ]
}

#[track_caller]
fn found_out(report: &Report, fault: Fault, case: &str) {
    let reasons = report.cpu_reasons.join("; ");
    assert!(report.repaired_tiles > 0 && report.checked_tiles > 0, "{case}: {reasons}");
    assert!(reasons.contains("computes otherwise than the CPU"), "{case}: {reasons}");
    assert!(report.cpu_tiles > 0, "{case}: {:?} did all", fault.kernel());
}

#[test]
fn a_device_that_computes_wrongly_is_found_out_and_replaced() {
    let (Some(on), Some(tiny)) = (gpu(), tiny_gpu()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let [input, output, good] = ["in", "out", "good"].map(|n| dir.path().join(n));
    for (on, large, (what, fault)) in
        of_jobs().into_iter().flat_map(|job| [(on, 2048, job), (tiny, 64, job)])
    {
        model(&input, large);
        compress(&input, &good, &recipe(what), &options(&CPU, 0.0, 2)).unwrap();
        {
            let case = format!("{what} {fault:?} {}", on.name());
            let faulty = Faulty::new(on, Some(fault));
            let report =
                compress(&input, &output, &recipe(what), &options(on, PARANOID, 2)).unwrap();
            assert!(faulty.gpu.faulty_starts() > 0, "{case}: never started");
            found_out(&report, fault, &case);
            assert!(fs::read(&output).unwrap() == fs::read(&good).unwrap(), "{case}");
        }
    }
}

#[test]
fn so_is_one_that_restores_wrongly() {
    let Some(on) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [input, archive, output, good] = ["in", "a", "out", "good"].map(|n| dir.path().join(n));
    model(&input, 2048);
    for (what, fault) in of_restored() {
        compress(&input, &archive, &recipe(what), &options(&CPU, 0.0, 2)).unwrap();
        decompress(&archive, &good, &options(&CPU, 0.0, 2)).unwrap();
        let faulty = Faulty::new(on, Some(fault));
        let report = decompress(&archive, &output, &options(on, PARANOID, 2)).unwrap();
        found_out(&report, fault, &format!("{fault:?}"));
        assert!(fs::read(&output).unwrap() == fs::read(&good).unwrap(), "{fault:?}");
        let report = verify(&archive, Some(&input), &options(on, PARANOID, 2)).unwrap();
        found_out(&report, fault, &format!("verify {fault:?}"));
        assert!(faulty.gpu.faulty_starts() > 1, "{fault:?}: never started");
    }
}

/// A kernel that works once passes its first check. The digest of a restored tensor finds it out all the same.
#[test]
fn a_digest_finds_what_no_check_has_seen() {
    let Some(on) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [input, archive, output, good] = ["in", "a", "out", "good"].map(|n| dir.path().join(n));
    model(&input, 2048);
    let palette = recipe(PALETTE);
    compress(&input, &archive, &palette, &options(&CPU, 0.0, 2)).unwrap();
    decompress(&archive, &good, &options(&CPU, 0.0, 2)).unwrap();
    let fault = Fault::OnlyOnce { kernel: "depalettize" };
    let _faulty = Faulty::new(on, Some(fault));
    let report = decompress(&archive, &output, &options(on, 0.0, 2)).unwrap();
    found_out(&report, fault, "restored");
    assert!(report.cpu_reasons[0].contains("digest"), "{:?}", report.cpu_reasons);
    assert!(fs::read(&output).unwrap() == fs::read(&good).unwrap());
}

/// One that is wrong now and then is found where it is looked for.
#[test]
fn every_tile_is_checked_if_all_are_asked_for() -> Result<()> {
    let Some(on) = gpu() else { return Ok(()) };
    let dir = tempfile::tempdir().unwrap();
    let [input, output, good] = ["in", "out", "good"].map(|n| dir.path().join(n));
    model(&input, 2048);
    let recipe = recipe(AFFINE);
    compress(&input, &good, &recipe, &options(&CPU, 0.0, 2))?;
    let same = || fs::read(&output).unwrap() == fs::read(&good).unwrap();
    let faulty = Faulty::new(on, Some(Fault::OnlyOnce { kernel: "quantize" }));
    // The second tensor has the shape of the first: only with a share of all tiles would it be looked at.
    let few = compress(&input, &output, &recipe, &options(on, 0.0, 1))?;
    assert!(few.repaired_tiles > 0 && !same(), "the fault was to show in the second tensor");
    faulty.gpu.inject(Some(Fault::OnlyOnce { kernel: "quantize" }));
    let all = compress(&input, &output, &recipe, &options(on, 1.0, 1))?;
    assert!(all.repaired_tiles > 0 && same());

    faulty.gpu.inject(None);
    let counts = |paranoid, threads| -> Result<_> {
        let report = compress(&input, &output, &recipe, &options(on, paranoid, threads))?;
        assert!(same() && report.repaired_tiles == 0 && report.cpu_tiles == 0);
        Ok((report.checked_tiles, report.gpu_tiles))
    };
    let (all, tiles) = counts(1.0, 2)?;
    assert_eq!(all, tiles);
    let (few, _) = counts(0.0, 1)?;
    assert!(0 < few && few < tiles, "{few} of {tiles} tiles checked");
    // Which are picked depends on neither time nor threads.
    for share in [0.0, 0.3] {
        assert_eq!(counts(share, 1)?, counts(share, 3)?);
    }
    assert!(counts(0.3, 1)?.0 > few);
    Ok(())
}

/// Stops a job in its second file: once its journal, which begins with a line for the job, has one for a finished file.
struct StopsAfterOne<'a> {
    journal: &'a Path,
    cancel: &'a Cancel,
}

impl Progress for StopsAfterOne<'_> {
    fn begin(&self, _: &str, _: u64) {}
    fn warn(&self, _: &str) {}
    fn advance(&self, _: u64) {
        if fs::read_to_string(self.journal).is_ok_and(|text| text.lines().count() > 1) {
            self.cancel.raise(2);
        }
    }
}

/// What was redone before a job was interrupted counts when it is resumed, on whatever backend.
#[test]
fn a_resumed_job_remembers_what_was_repaired() -> Result<()> {
    let Some(on) = gpu() else { return Ok(()) };
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("model"), dir.path().join("out"));
    fs::create_dir(&input).unwrap();
    for shard in 0..2 {
        let words = words_of(DType::F32, &noise(shard, 96 * 128));
        let tensors = [(&*format!("{shard}.weight"), DType::F32, vec![96, 128], words)];
        write_checkpoint(&input.join(format!("{shard}.safetensors")), &tensors);
    }
    let index = r#"{"weight_map":{"0.weight":"0.safetensors","1.weight":"1.safetensors"}}"#;
    fs::write(input.join("model.safetensors.index.json"), index).unwrap();
    let recipe = recipe(AFFINE);
    let (stop, journal) = (Cancel::new(), dir.path().join("out.partial/journal"));
    let progress = StopsAfterOne { journal: &journal, cancel: &stop };
    {
        let fault = Fault::SkipLastWorkgroup { kernel: "quantize" };
        let _faulty = Faulty::new(on, Some(fault));
        let options = Options {
            resume: true,
            progress: &progress,
            cancel: &stop,
            ..options(on, PARANOID, 1)
        };
        let stopped = compress(&input, &output, &recipe, &options);
        assert!(matches!(stopped, Err(Error::Interrupted(2))), "{stopped:?}");
    }
    let options = Options { resume: true, ..options(&CPU, 0.0, 1) };
    let report = compress(&input, &output, &recipe, &options)?;
    assert_eq!((report.resumed_files, report.gpu_tiles), (1, 0));
    assert!(report.repaired_tiles > 0 && report.cpu_reasons[0].contains("computes otherwise"));
    Ok(())
}
