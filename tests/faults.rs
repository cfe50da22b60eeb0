//! Devices that compute wrongly: what a job makes of them. `cargo test --features faults --test faults`.

mod support;
use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use support::{CPU, gpu, noise, tiny_gpu, words_of, write_checkpoint};
use tersor::{
    Backend, Cancel, DType, Error, Progress, Result, Silent,
    crosscheck::{Case, Input, Level, Maker, Op, Outcome, Pair, Rng, ops},
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

/// What is wrong, the op of the cross-check that must notice, and how its kernel is wrong.
fn of_kernels() -> Vec<(&'static str, &'static str, Fault)> {
    let shader = |kernel, from, to| Fault::Shader { kernel, from, to };
    let flip = |kernel, bit| Fault::FlipBit { kernel, bit };
    let tail = |kernel| Fault::LoseTail { kernel, words: 1 };
    let skip_last = |kernel| Fault::SkipLastWorkgroup { kernel };
    let skip = |kernel| Fault::SkipDispatch { kernel };
    let once = |kernel| Fault::OnlyOnce { kernel };
    vec![
        (
            "wrong sign of the zero point",
            "quantize",
            shader("quantize", "clamp(q + i32(scale.y)", "clamp(q - i32(scale.y)"),
        ),
        (
            "wrong clamp",
            "quantize",
            shader(
                "quantize",
                "params.lowest, params.highest)",
                "params.lowest, params.highest - 1)",
            ),
        ),
        (
            "wrong tie",
            "quantize",
            shader(
                "quantize",
                "let q = rounded(w, scale.x, INTEGER);",
                "let q = i32(clamp(floor(bitcast<f32>(w) * bitcast<f32>(scale.x) + 0.5), -1e6, 1e6));",
            ),
        ),
        ("last workgroup skipped", "quantize", skip_last("quantize")),
        ("lost tail", "quantize", tail("quantize")),
        (
            "swapped nibble",
            "dequantize",
            shader(
                "dequantize",
                "let at = (i % params.cols) * BITS;",
                "let at = ((i % params.cols) ^ 1u) * BITS;",
            ),
        ),
        (
            "signed taken as unsigned",
            "dequantize",
            shader(
                "dequantize",
                "extractBits(i32(code), 0u, BITS), SIGNED)",
                "extractBits(i32(code), 0u, BITS), false)",
            ),
        ),
        (
            "wrong shift between words",
            "dequantize",
            shader(
                "dequantize",
                "code |= codes[w + 1u] << (32u - at % 32u);",
                "code |= codes[w + 1u] << (31u - at % 32u);",
            ),
        ),
        (
            "flush to zero",
            "sort_rows",
            shader(
                "sort_rows",
                "key = order_key(decode(DTYPE, weights[w.x], weights[w.y], start + c));",
                "let bits = decode(DTYPE, weights[w.x], weights[w.y], start + c); key = order_key(select(bits, bits & 0x80000000u, (bits & 0x7f800000u) == 0u));",
            ),
        ),
        (
            "off by one",
            "range",
            shader(
                "range",
                "let end = min(min(params.elements,",
                "let end = min(min(params.elements - 1u,",
            ),
        ),
        (
            "dropped -0",
            "range",
            shader(
                "range",
                "let key = order_key(decode(DTYPE, weights[w.x], weights[w.y], i));",
                "let bits = decode(DTYPE, weights[w.x], weights[w.y], i); let key = order_key(select(bits, 0u, bits == 0x80000000u));",
            ),
        ),
        (
            "wrong reduction tail",
            "range",
            shader(
                "range",
                "for (var half = LANES / 2u; half > 0u; half /= 2u)",
                "for (var half = LANES / 2u; half > 1u; half /= 2u)",
            ),
        ),
        (
            "wrong rounding",
            "clip_errors",
            shader("clip_errors", "let half = (1u << params.shift) >> 1u;", "let half = 0u;"),
        ),
        ("one flipped bit", "clip_errors", flip("clip_errors", 5)),
        (
            "wrong tie",
            "palettize",
            shader(
                "palettize",
                "if thresholds[table + below + step - 1u] < key",
                "if thresholds[table + below + step - 1u] <= key",
            ),
        ),
        ("never started", "palettize", skip("palettize")),
        ("wrong tie", "nearest", shader("nearest", "if found < least {", "if found <= least {")),
        ("never started", "nearest", skip("nearest")),
        (
            "wrong clamp",
            "vector_points",
            shader("vector_points", "clamp(q, -LIMIT, LIMIT)", "clamp(q, -LIMIT - 1, LIMIT)"),
        ),
        (
            "wrong tie",
            "pyramid_search",
            shader("pyramid_search", "high > other_high ||", "high >= other_high ||"),
        ),
        (
            "a borrow is lost",
            "dequantize_pyramid",
            shader("dequantize_pyramid", "let y = a.y - b.y - borrow_x;", "let y = a.y - b.y;"),
        ),
        (
            "wrong sub-space",
            "dequantize_vectors",
            shader(
                "dequantize_vectors",
                "(v % params.spaces)",
                "(v / params.spaces % params.spaces)",
            ),
        ),
        (
            "wrong half",
            "matmul_vectors",
            shader(
                "matmul_vectors",
                "extractBits(i32(word), 0u, 16u), i32(word) >> 16u",
                "i32(word & 0xffffu), i32(word) >> 16u",
            ),
        ),
        (
            "wrong clamp",
            "depalettize",
            shader(
                "depalettize",
                "min(extractBits(code, 0u, BITS), params.k - 1u)",
                "min(extractBits(code, 0u, BITS), params.k - 2u)",
            ),
        ),
        ("last workgroup skipped", "depalettize", skip_last("depalettize")),
        (
            "no rounding",
            "transform",
            shader(
                "transform",
                "let n = i32((mantissa + (1u << (shift - 1u))) >> shift);",
                "let n = i32(mantissa >> shift);",
            ),
        ),
        ("a gap left out", "transform", shader("transform", "gap *= 2u", "gap *= 4u")),
        (
            "a pair left out",
            "transform",
            shader("transform", "t < SPAN / 2u", "t < SPAN / 2u - 1u"),
        ),
        (
            "lower halves taken as signed",
            "transform",
            shader(
                "transform",
                "low += (n & 2047) * factor;",
                "low += extractBits(n, 0u, 11u) * factor;",
            ),
        ),
        ("last workgroup skipped", "transform", skip_last("transform")),
        (
            "flips before, not after",
            "untransform",
            shader("untransform", "scaled((mixed(c) ^ flip) - flip,", "scaled(mixed(c),"),
        ),
        (
            "steps of the neighbour",
            "untransform",
            shader(
                "untransform",
                "table[params.block + c % params.block]",
                "table[params.block + (c ^ 1u) % params.block]",
            ),
        ),
        (
            "no largest number",
            "transform",
            shader(
                "transform",
                "if field > 254 { return sign | 0x7f7fffffu; }",
                "if field > 255 { return sign | 0x7f7fffffu; }",
            ),
        ),
        (
            "subnormal results",
            "untransform",
            shader("untransform", "if field < 1 { return 0u; }", "if field < 0 { return 0u; }"),
        ),
        ("one flipped bit", "untransform", flip("untransform", 9)),
        (
            "counted twice",
            "histogram",
            shader("histogram", "atomicAdd(&counts[at], 1u)", "atomicAdd(&counts[at], 2u)"),
        ),
        (
            "lost bit",
            "histogram",
            shader("histogram", "low = key & 0xfffu;", "low = key & 0x7ffu;"),
        ),
        ("last workgroup skipped", "histogram", skip_last("histogram")),
        (
            "wrong bin",
            "histogram_tails",
            shader("histogram_tails", "(key & 0xfffu)], 1u)", "(key & 0xffeu)], 1u)"),
        ),
        (
            "wrong padding",
            "sort_rows",
            shader("sort_rows", "var key = 0xffffffffu;", "var key = 0u;"),
        ),
        ("stale buffer", "sort_rows", once("sort_rows")),
        (
            "lost tail",
            "merge_runs",
            shader(
                "merge_runs",
                "let first = b == end || (a < middle && x <= y);",
                "let first = a < middle && x <= y;",
            ),
        ),
        (
            "off by one at ties",
            "magnitude_mask",
            shader("magnitude_mask", "i < limit.y", "i <= limit.y"),
        ),
        (
            "wrong tie",
            "magnitude_mask",
            shader("magnitude_mask", "m > limit.x ||", "m >= limit.x ||"),
        ),
        (
            "wrong reduction tail",
            "magnitude_sums",
            shader(
                "magnitude_sums",
                "for (var l = 0u; l < WG; l++)",
                "for (var l = 0u; l < WG - 1u; l++)",
            ),
        ),
        (
            "lost bit",
            "magnitude_tail",
            shader(
                "magnitude_tail",
                "atomicAdd(&counts[magnitude & 0xfffu], 1u)",
                "atomicAdd(&counts[magnitude & 0xffeu], 1u)",
            ),
        ),
        (
            "neighbouring prefix",
            "magnitude_tail",
            shader(
                "magnitude_tail",
                "(magnitude >> 12u) == params.prefix",
                "(magnitude >> 13u) == (params.prefix >> 1u)",
            ),
        ),
        ("wrong tie", "nm_mask", shader("nm_mask", "&& o < k", "&& o > k")),
        (
            "off by one at the end of a row",
            "nm_mask",
            shader(
                "nm_mask",
                "let whole = g + M <= params.cols;",
                "let whole = g + M < params.cols;",
            ),
        ),
        ("one flipped bit", "row_threshold", flip("row_threshold", 0)),
        ("-0 taken as negative", "binarize", shader("binarize", "> 0x80000000u", ">= 0x80000000u")),
        (
            "wrong shift between words",
            "pack_codes",
            shader(
                "pack_codes",
                "word |= symbol >> (bit - place);",
                "word |= symbol >> (bit - place + 1u);",
            ),
        ),
        ("lost tail", "pack_codes", tail("pack_codes")),
        (
            "lost tail",
            "huffman_decode",
            shader(
                "huffman_decode",
                "(min(ROWS * lanes, count - row * lanes) + 3u) / 4u",
                "min(ROWS * lanes, count - row * lanes) / 4u",
            ),
        ),
        ("one flipped bit", "huffman_decode", flip("huffman_decode", 9)),
        ("last workgroup skipped", "rans_decode", skip_last("rans_decode")),
        ("wrong prefix sum", "scatter", shader("scatter", "if lane >= step {", "if lane > step {")),
        (
            "lost beginning",
            "scatter",
            shader("scatter", "var rank = at.y;", "var rank = at.y + 1u;"),
        ),
        ("last workgroup skipped", "scatter", skip_last("scatter")),
        ("one flipped bit", "ribbon_query", flip("ribbon_query", 3)),
        ("one flipped bit", "numerics", flip("numerics", 3)),
        (
            "off by one",
            "bloomier_query",
            shader(
                "bloomier_query",
                "let end = min(32u * id + 32u, params.positions);",
                "let end = min(32u * id + 31u, params.positions);",
            ),
        ),
        ("last workgroup skipped", "activate", skip_last("activate")),
        (
            "off by one",
            "add",
            shader("add", "y[i % params.repeat]", "y[i % max(params.repeat - 1u, 1u)]"),
        ),
        (
            "rotated row",
            "gather_rows",
            shader("gather_rows", "+ id % params.words]", "+ (id + 1u) % params.words]"),
        ),
        (
            "wrong reduction tail",
            "masked_mean",
            shader(
                "masked_mean",
                "for (var half = 8u; half > 0u;",
                "for (var half = 8u; half > 1u;",
            ),
        ),
        (
            "a hundredth of a percent too much",
            "softmax",
            shader("softmax", "let scale = 1.0 /", "let scale = 1.0001 /"),
        ),
        ("no epsilon", "layer_norm", shader("layer_norm", "variance + params.epsilon", "variance")),
        ("last workgroup skipped", "attention", skip_last("attention")),
        ("off by one", "im2col", shader("im2col", "across += 1u;", "across += 2u;")),
        (
            "off by one",
            "max_pool",
            shader(
                "max_pool",
                "let top = line % params.down * params.stride;",
                "let top = line % params.down * params.stride + 1u;",
            ),
        ),
        (
            "lost tail",
            "requantize",
            shader(
                "requantize",
                "let end = min(first + 4u, params.n);",
                "let end = min(first + 3u, params.n);",
            ),
        ),
        ("lost tail", "matmul_f32", tail("matmul_f32")),
        ("last workgroup skipped", "matmul_affine", skip_last("matmul_affine")),
        ("one flipped bit", "matmul_palette", flip("matmul_palette", 30)),
        ("never started", "matmul_sparse", skip("matmul_sparse")),
        ("one flipped bit", "matmul_binary", flip("matmul_binary", 30)),
        ("one flipped bit, the lowest", "matmul_i8", flip("matmul_i8", 0)),
        ("stale buffer", "matmul_i8.float", once("matmul_i8")),
        ("lost tail", "quantize_rows", tail("quantize_rows")),
    ]
}

/// The first case of an op, of those of the quick level, that fails, and what fails in it.
fn first_failure(pair: &Pair, op: &Op) -> Option<(Case, bool, String)> {
    let mut found = None;
    let mut take = |case: Case| {
        let small = !case.ordinary && case.input.longest() * op.expands <= Pair::TINY_BYTES;
        for tiny in [false, true] {
            if found.is_none()
                && (!tiny || small && pair.has_tiny())
                && let Outcome::Failed(failure) = pair.check(op, &case.input, tiny).outcome
            {
                found = Some((case.clone(), tiny, failure.kind().to_owned()));
            }
        }
    };
    let rng = Rng::new(0, op.name);
    (op.make)(&mut Maker { level: Level::Quick, rng, user: &[], take: &mut take });
    found
}

/// A cross-check that cannot fail proves nothing: every one of these faults is caught by a case that passes without it.
#[test]
fn the_cross_check_catches_every_seeded_fault() {
    if gpu().is_none() {
        return;
    }
    let pair = Pair::open(None).unwrap();
    let table = of_kernels();
    let mut missed = Vec::new();
    for (what, name, fault) in &table {
        let op = ops::ALL.iter().find(|op| op.name == *name).unwrap();
        let runs = op.kernels.iter().any(|k| k.name == fault.kernel());
        assert!(runs, "{name} does not run {}", fault.kernel());
        pair.inject(Some(*fault));
        let failure = first_failure(&pair, op);
        pair.inject(None);
        let Some((case, tiny, kind)) = failure else {
            missed.push(format!("{what}: {fault:?} in {name}"));
            continue;
        };
        let input: &Input = &case.input;
        let clean = pair.check(op, input, tiny).outcome;
        assert!(matches!(clean, Outcome::Pass), "{what} in {name}: without it {clean:?}");
        println!("{name:<16} {what:<36} {kind:<10} {}", case.source);
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
    let kernels: std::collections::BTreeSet<_> = table.iter().map(|t| t.2.kernel()).collect();
    assert!(table.len() >= 63 && kernels.len() >= 40, "{} in {}", table.len(), kernels.len());
}
