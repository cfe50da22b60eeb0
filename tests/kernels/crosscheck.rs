//! The cross-check itself: that it cannot pass where it should not, and the command line.

use crate::support::{gpu, tersor};
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tersor::{
    Backend, Cancel, DType, Device, Error, Result,
    crosscheck::{
        self, Admits, Case, Class, Data, Failure, Input, Level, Maker, Op, Options, Outcome,
        Outputs, Pair, Rng, Values, exact, ops, shrink, ulp_at, within,
    },
    gpu::{Audited, GpuOptions, Kernel},
    kernels,
};

fn audited(tiny: bool) -> Option<Backend> {
    gpu()?;
    let options = GpuOptions { audited: true, tiny, ..GpuOptions::default() };
    Some(Backend::open_with(Device::Gpu, &options).unwrap())
}

fn pair() -> Option<Pair> {
    Some(Pair::new(Backend::Cpu, audited(false)?, audited(true)).unwrap())
}

#[test]
fn a_backend_is_never_compared_with_itself() {
    let same = Pair::new(Backend::Cpu, Backend::Cpu, None).unwrap_err();
    assert!(matches!(&same, Error::Usage(why) if why.contains("two different backends")), "{same}");
    let (Some(one), Some(other)) = (audited(false), audited(false)) else { return };
    assert!(matches!(Pair::new(one, other, None), Err(Error::Usage(_))));
    // Nor with the CPU in the place of either device, or in that of the one of tiny limits.
    let Some(gpu) = audited(false) else { return };
    assert!(matches!(Pair::new(Backend::Cpu, gpu, Some(Backend::Cpu)), Err(Error::Usage(_))));
    let Some(gpu) = audited(false) else { return };
    assert!(matches!(Pair::new(gpu, Backend::Cpu, None), Err(Error::Usage(_))));
}

/// Agreement of `got` with `want` to one ulp, and byte for byte.
fn caught(what: &str, shape: (usize, usize), want: &[f32], got: &[f32]) {
    let outputs = |values: &[f32]| -> Outputs { vec![("out", Data::f32(shape, values))] };
    assert!(exact(&outputs(want), &outputs(got)).is_err(), "{what}: exact");
    let bounds: Vec<(f64, f64)> =
        want.iter().map(|w| (f64::from(*w), ulp_at(f64::from(*w)))).collect();
    let same = within(&bounds, ("out", &Data::f32(shape, want)));
    assert_eq!(same.is_ok(), want.iter().all(|w| w.is_finite()), "{what}: with itself");
    let difference = within(&bounds, ("out", &Data::f32(shape, got))).unwrap_err();
    let wrong = want.iter().zip(got).filter(|(w, g)| w.to_bits() != g.to_bits()).count();
    assert!(difference.wrong >= wrong.min(1), "{what}: {difference:?}");
}

#[test]
fn what_an_average_hides_is_caught() {
    let n = 1 << 20;
    caught("sign-flipped 1e20", (1, 4), &[1e20; 4], &[-1e20; 4]);
    caught("seven times too large at 1e-30", (1, 4), &[1e-30; 4], &[7e-30; 4]);
    let halves = vec![0.5; n];
    let mut one = halves.clone();
    one[12_345] = 0.0;
    caught("one element zeroed", (1024, 1024), &halves, &one);
    let mut row = halves.clone();
    row[1024..2048].fill(0.0);
    caught("a row zeroed", (1024, 1024), &halves, &row);
    let mut small = vec![1e-3; n];
    small[7] = 1e4;
    let mut flipped = small.clone();
    flipped[8..8 + 1024].fill(-1e-3);
    caught("sign flips beside an outlier", (1, n), &small, &flipped);
    caught("NaN for a number", (1, 2), &[1.0, 2.0], &[1.0, f32::NAN]);
    caught("a number for NaN", (1, 2), &[1.0, f32::NAN], &[1.0, 2.0]);
    caught("infinity for the largest", (1, 1), &[f32::MAX], &[f32::INFINITY]);
    // -0 is another pattern than 0, though not another value.
    let zero = |z: f32| -> Outputs { vec![("out", Data::f32((1, 1), &[z]))] };
    assert!(exact(&zero(0.0), &zero(-0.0)).is_err());
    // Nor does one NaN agree with another by a bound: it is no metric.
    assert!(
        within(&[(f64::NAN, f64::INFINITY)], ("out", &Data::f32((1, 1), &[f32::NAN]))).is_err()
    );
    assert!(within(&[(1.0, f64::INFINITY)], ("out", &Data::f32((1, 1), &[1.0]))).is_err());
}

#[test]
fn a_difference_says_where_and_what() {
    let want: Outputs = vec![("out", Data::u32((4, 64), (0..256).collect()))];
    let pattern = |change: &dyn Fn(usize, &mut u32)| {
        let mut got = want.clone();
        got[0].1.words.iter_mut().enumerate().for_each(|(i, w)| change(i, w));
        *exact(&want, &got).unwrap_err()
    };
    let lost = pattern(&|i, w| {
        if i >= 192 {
            *w = 9999
        }
    });
    assert_eq!((lost.wrong, lost.elements), (64, 256));
    assert!(lost.pattern.contains("all from element 192 on"), "{}", lost.pattern);
    let bit = pattern(&|_, w| *w ^= 1 << 17);
    assert_eq!(bit.pattern, "every element; bit 17 flipped");
    let every = pattern(&|i, w| {
        if i % 64 == 5 {
            *w = 7777
        }
    });
    assert_eq!(every.pattern, "every 64th element from 5 on");
    let one = pattern(&|i, w| {
        if i == 130 {
            *w = 5
        }
    });
    assert_eq!((one.index, one.pattern.as_str()), ([2, 2], "element 130 alone"));
    assert_eq!((one.want.as_str(), one.got.as_str()), ("130.0 (0x00000082)", "5.0 (0x00000005)"));
    assert_eq!(one.ulp, 125.0);
    // Another shape is a difference too, whatever the elements.
    let turned: Outputs = vec![("out", Data { rows: 64, cols: 4, ..want[0].1.clone() })];
    assert!(exact(&want, &turned).is_err());
}

#[test]
fn a_case_shrinks_to_what_makes_it_fail() {
    // It fails where a row holds 7 and somewhere a 3 is left.
    let mut values = vec![1.0; 40 * 50];
    (values[11 * 50 + 13], values[30 * 50 + 44]) = (7.0, 3.0);
    let weights = Data::f32((40, 50), &values).axes("rows", "cols");
    let scales = Data::f32((40, 1), &[2.0; 40]).axes("rows", "");
    let input = Input::new().with("weights", weights).with("scales", scales).set("n", 5);
    let has = |input: &Input, x: f32| input.tensor("weights").unwrap().as_f32().contains(&x);
    let shrunk = shrink(&input, 400, |i| has(i, 7.0) && has(i, 3.0));
    let weights = shrunk.input.tensor("weights").unwrap();
    assert_eq!((weights.rows, weights.cols), (2, 2));
    assert_eq!(weights.as_f32(), [7.0, 0.0, 0.0, 3.0]);
    // Dimensions of one name stay alike, numbers stay.
    let scales = shrunk.input.tensor("scales").unwrap();
    assert_eq!((scales.rows, scales.cols, scales.as_f32()), (2, 1, &[0.0, 0.0][..]));
    assert_eq!(shrunk.input.number::<u8>("n").unwrap(), 5);
    // What does not fail again is left as it is.
    assert_eq!(shrink(&input, 400, |_| false).input, input);
}

#[test]
fn a_case_comes_back_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("case.safetensors");
    for dtype in crosscheck::WEIGHTS {
        let weights =
            crosscheck::weights(dtype, (3, 5), Values::Edges, Admits::All, Rng::new(1, "x"));
        let input = Input::new()
            .with("weights", weights)
            .with("limits", Data::u64((1, 2), &[7, u64::MAX]))
            .with("none", Data::u8((0, 4), &[]))
            .set("bits", 8)
            .set("low", -3);
        let case = Case { source: "edge".into(), input, ordinary: false };
        crosscheck::write(&path, "quantize", true, &case).unwrap();
        let (op, tiny, back) = crosscheck::read(&path).unwrap();
        assert_eq!((op.as_str(), tiny, back.source.as_str()), ("quantize", true, "edge"));
        assert_eq!(back.input, case.input, "{dtype:?}");
    }
    crate::support::write_checkpoint(&path, &[("a", DType::F32, vec![1, 1], vec![0])]);
    assert!(matches!(crosscheck::read(&path), Err(Error::Format { .. })));
}

/// `out[i] = i`, for as many elements as the uniform says.
static COUNT: Kernel = Kernel {
    name: "count",
    wgsl: concat!(
        tersor::wgsl!("lib/grid"),
        "@group(0) @binding(0) var<uniform> params: vec2<u32>;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
override WG: u32;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.x { return; }
    out[id] = id + input[0];
}
"
    ),
    workgroup: 64,
    params: 8,
};

/// The same, writing word `y` of its input as well; the argument is how the input is declared.
macro_rules! spoil {
    ($input:literal) => {
        concat!(
            tersor::wgsl!("lib/grid"),
            "@group(0) @binding(0) var<uniform> params: vec2<u32>;
@group(0) @binding(1) ",
            $input,
            " input: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
override WG: u32;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.x { return; }
    out[id] = id;
    input[params.y] = 5u;
}
"
        )
    };
}

static SPOIL: Kernel =
    Kernel { name: "spoil", wgsl: spoil!("var<storage, read_write>"), workgroup: 64, params: 8 };

/// What the audit takes for a kernel that only reads its input, for it looks for the declaration as kernels spell it.
static SPOIL_IN_SECRET: Kernel = Kernel {
    name: "spoil_in_secret",
    wgsl: spoil!("var<storage,read_write>"),
    workgroup: 64,
    params: 8,
};

/// Ten elements, of which the kernel fills `written`.
fn count(on: &Backend, kernel: &'static Kernel, written: u32) -> Result<Outputs> {
    let words = match on {
        Backend::Cpu => (0..10).collect(),
        Backend::Gpu(gpu) => {
            let (input, out) = (gpu.upload(&[0u32; 3])?, gpu.alloc(40)?);
            gpu.dispatch(kernel, &[], &[written, 3], &[&input, &out], 1)?;
            gpu.read(&out, 10)?
        }
    };
    Ok(vec![("out", Data::u32((1, 10), words))])
}

fn op(run: fn(&Backend, &Input) -> Result<Outputs>) -> Op {
    Op { name: "test", kernels: &[], class: Class::Exact, expands: 1, make: |_| {}, run }
}

fn failure(pair: &Pair, run: fn(&Backend, &Input) -> Result<Outputs>) -> Option<&'static str> {
    match pair.check(&op(run), &Input::new(), false).outcome {
        Outcome::Failed(failure) => Some(failure.kind()),
        Outcome::Pass => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_audit_sees_words_too_many_too_few_and_changed() {
    let Some(pair) = pair() else { return };
    assert_eq!(failure(&pair, |on, _| count(on, &COUNT, 10)), None);
    // One word too far, which no element shows.
    assert_eq!(failure(&pair, |on, _| count(on, &COUNT, 11)), Some("overrun"));
    // One too few, and none at all.
    assert_eq!(failure(&pair, |on, _| count(on, &COUNT, 9)), Some("unwritten"));
    assert_eq!(failure(&pair, |on, _| count(on, &COUNT, 0)), Some("unwritten"));
    // Behind the end of its input; a buffer that is bound to be written may change, its guards may not.
    assert_eq!(failure(&pair, |on, _| count(on, &SPOIL, 10)), Some("overrun"));
}

#[test]
fn an_upload_that_changes_without_being_bound_for_it_is_seen() {
    let Some(Backend::Gpu(gpu)) = audited(false) else { return };
    gpu.audit().unwrap();
    let (input, out) = (gpu.upload(&[7u32; 3]).unwrap(), gpu.alloc(40).unwrap());
    gpu.dispatch(&COUNT, &[], &[10u32, 0], &[&input, &out], 1).unwrap();
    let found = gpu.audit().unwrap();
    assert!(found.is_clean() && found.buffers == 2 && found.kernels.contains("count"), "{found:?}");
    // A buffer that is bound for writing may change; one that is not may not, and only its contents have.
    let spoilt = |kernel| {
        let (input, out) = (gpu.upload(&[7u32; 10]).unwrap(), gpu.alloc(40).unwrap());
        gpu.dispatch(kernel, &[], &[10u32, 1], &[&input, &out], 1).unwrap();
        let found = gpu.audit().unwrap();
        (found.overrun, found.changed)
    };
    assert_eq!(spoilt(&SPOIL), (0, 0));
    assert_eq!(spoilt(&SPOIL_IN_SECRET), (0, 1));
    assert_eq!(gpu.audit().unwrap().buffers, 0);
}

#[test]
fn every_wrong_result_has_its_name() {
    let Some(pair) = pair() else { return };
    fn on_gpu(on: &Backend, cpu: f32, gpu: f32) -> Result<Outputs> {
        let value = if matches!(on, Backend::Cpu) { cpu } else { gpu };
        Ok(vec![("out", Data::f32((1, 1), &[value]))])
    }
    assert_eq!(failure(&pair, |on, _| on_gpu(on, 1.0, 1.0)), None);
    assert_eq!(failure(&pair, |on, _| on_gpu(on, 1.0, 1.000_000_1)), Some("differs"));
    assert_eq!(failure(&pair, |on, _| on_gpu(on, 0.0, -0.0)), Some("differs"));
    assert_eq!(
        failure(&pair, |on, _| match on {
            Backend::Cpu => on_gpu(on, 1.0, 1.0),
            _ => Err(Error::shape("test", "input", 1, 2)),
        }),
        Some("refused")
    );
    assert_eq!(
        failure(&pair, |on, _| match on {
            Backend::Cpu => Err(Error::shape("test", "input", 1, 2)),
            _ => on_gpu(on, 1.0, 1.0),
        }),
        Some("refused")
    );
    assert_eq!(failure(&pair, |_, _| panic!("a panic is a refusal")), Some("refused"));
    // What both get wrong shows against a reference of its own.
    let bounded =
        Op { class: Class::Ulps(1.0, 0.0, |_| Ok(vec![2.0])), ..op(|on, _| on_gpu(on, 1.0, 1.0)) };
    let outcome = pair.check(&bounded, &Input::new(), false).outcome;
    assert!(matches!(outcome, Outcome::Failed(Failure::Differs(_, "reference"))), "{outcome:?}");
    let named = Op {
        class: Class::Invariant("never", |_, _| Ok(Some("it does not hold".into()))),
        ..op(|on, _| on_gpu(on, 1.0, 1.0))
    };
    let outcome = pair.check(&named, &Input::new(), false).outcome;
    assert!(matches!(outcome, Outcome::Failed(Failure::Broken(_))), "{outcome:?}");
    // Results that change from run to run.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(
        failure(&pair, |on, _| on_gpu(on, 1.0, RUNS.fetch_add(1, Ordering::Relaxed) as f32)),
        Some("unwritten")
    );
}

#[test]
fn cases_depend_on_the_seed_alone_and_names_are_unique() {
    let cases = |op: &Op, seed: u64| {
        let mut all = Vec::new();
        let mut take = |case: Case| all.push(format!("{case:?}"));
        (op.make)(&mut Maker {
            level: Level::Quick,
            rng: Rng::new(seed, op.name),
            user: &[],
            take: &mut take,
        });
        all
    };
    for (i, op) in ops::ALL.iter().enumerate() {
        assert!(ops::ALL[..i].iter().all(|o| o.name != op.name), "{} twice", op.name);
        for kernel in op.kernels {
            assert!(kernels::ALL.iter().any(|k| k.name == kernel.name), "{}", op.name);
        }
    }
    // A kernel that no op asks is a kernel that no one checks.
    for kernel in kernels::ALL.iter() {
        let asked = ops::ALL.iter().flat_map(|op| op.kernels).any(|k| k.name == kernel.name);
        assert!(asked, "no op asks {}", kernel.name);
    }
    let op = ops::ALL.iter().find(|op| op.name == "quantize").unwrap();
    assert_eq!(cases(op, 1), cases(op, 1));
    assert_ne!(cases(op, 1), cases(op, 2));
}

#[test]
fn narrow_types_are_exhaustive() {
    for (dtype, shape) in [
        (DType::F16, (64, 1024)),
        (DType::BF16, (64, 1024)),
        (DType::F8E4M3, (4, 64)),
        (DType::F8E5M2, (4, 64)),
    ] {
        let all = crosscheck::weights(dtype, shape, Values::Edges, Admits::All, Rng::new(3, "x"));
        let mut seen: Vec<u64> = (0..all.elements()).map(|i| all.bits(i)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1 << dtype.bits(), "{dtype:?}");
    }
}

#[test]
fn a_run_reports_every_case() {
    let Some(pair) = pair() else { return };
    let (dir, cancel) = (tempfile::tempdir().unwrap(), Cancel::new());
    let options = Options {
        level: Level::Quick,
        seed: 7,
        ops: Some("rang?"),
        model: None,
        folder: dir.path(),
        adapter: None,
        progress: &|_| {},
        cancel: &cancel,
    };
    let report = crosscheck::run(&pair, ops::ALL, &options).unwrap();
    assert!(report.ok && report.exit_code() == 0, "{:?}", report.summary);
    assert_eq!(report.summary.run, report.cases.len());
    assert!(report.cases.iter().any(|c| c.device == "tiny"));
    assert!(report.cases.iter().all(|c| c.op == "range" && c.class == "E0"));
    assert_ne!(report.reference, report.adapter.title);
    // A device that is lost, a mismatch, one that comes and goes, a kernel that did not run.
    let code = |change: &dyn Fn(&mut crosscheck::Report)| {
        let mut changed = report.clone();
        change(&mut changed);
        changed.exit_code()
    };
    assert_eq!(code(&|r| (r.lost, r.summary.fail) = (true, 3)), 5);
    assert_eq!(code(&|r| (r.summary.fail, r.summary.flaky) = (3, 2)), 1);
    assert_eq!(code(&|r| (r.summary.fail, r.summary.flaky) = (2, 2)), 3);
    assert_eq!(code(&|r| r.missing = vec!["range"]), 4);
    let xml = report.junit();
    // The cases of one op, and that its kernel ran.
    assert_eq!(xml.matches("<testcase ").count(), report.cases.len() + 1);
    assert_eq!((xml.matches("<testsuite ").count(), xml.matches("<failure ").count()), (2, 0));
    let mut incomplete = report.clone();
    incomplete.missing = vec!["range"];
    assert!(incomplete.junit().contains("name=\"range\"><failure "));
    let mut hostile = report.clone();
    hostile.cases[0].outcome = "fail";
    hostile.cases[0].why = Some("<\u{1b}[0m & \"'>".into());
    let xml = hostile.junit();
    assert!(xml.contains("<failure message=\"&lt;\u{fffd}[0m &amp; &quot;&apos;&gt;\">"), "{xml}");
}

/// `out[i] = i + input[0]`, an op as another crate would bring it.
static ADD_FIRST: Op = Op {
    name: "add_first",
    kernels: &[&COUNT],
    class: Class::Exact,
    expands: 2000,
    make: |maker| {
        for (i, n) in [1, 64, 65, 500].into_iter().enumerate() {
            let first = Data::u32((1, 1), vec![maker.rng.below(i, 1000) as u32]);
            maker.emit("first", Input::new().with("first", first).set("n", n));
        }
    },
    run: |on, input| {
        let (first, n) = (input.tensor("first")?.words[0], input.number::<u32>("n")?);
        let words = match on {
            Backend::Cpu => (0..n).map(|i| i + first).collect(),
            Backend::Gpu(gpu) => {
                let (input, out) = (gpu.upload(&[first])?, gpu.alloc(4 * n as usize)?);
                gpu.dispatch(&COUNT, &[], &[n, 0], &[&input, &out], n.div_ceil(64).into())?;
                gpu.read(&out, n as usize)?
            }
        };
        Ok(vec![("out", Data::u32((1, n as usize), words))])
    },
};

/// The same with a reference that is wrong from `n` = 65 on.
static WRONG: Op = Op {
    name: "wrong",
    run: |on, input| {
        let mut out = (ADD_FIRST.run)(on, input)?;
        if let (Backend::Cpu, Some(word)) = (on, out[0].1.words.get_mut(64)) {
            *word += 1;
        }
        Ok(out)
    },
    ..ADD_FIRST
};

#[test]
fn another_crate_brings_its_own_ops() {
    let Some(pair) = pair() else { return };
    let (dir, cancel) = (tempfile::tempdir().unwrap(), Cancel::new());
    let options = Options {
        level: Level::Quick,
        seed: 7,
        ops: None,
        model: None,
        folder: dir.path(),
        adapter: None,
        progress: &|_| {},
        cancel: &cancel,
    };
    let report = crosscheck::run(&pair, &[&ADD_FIRST], &options).unwrap();
    assert!(report.ok && report.missing.is_empty(), "{:?}", report.summary);
    assert_eq!((report.summary.run, report.summary.required), (8, 1));
    // Beside one that is wrong: two of its four cases, on either device, and a file that replays one.
    let ops = [&ADD_FIRST, &WRONG];
    let report = crosscheck::run(&pair, &ops, &options).unwrap();
    let failed: Vec<_> = report.cases.iter().filter(|c| c.outcome == "fail").collect();
    assert!(failed.len() == 4 && failed.iter().all(|c| c.op == "wrong"), "{:?}", report.summary);
    let path = dir.path().join("crosscheck-wrong-1.safetensors");
    let again = crosscheck::replay(&pair, &ops, &path, &options).unwrap();
    assert_eq!((again.summary.run, again.summary.fail), (1, 1));
    assert!(crosscheck::replay(&pair, &[&ADD_FIRST], &path, &options).is_err());
    let none = Options { ops: Some("quantize"), ..options };
    let refused = crosscheck::run(&pair, &ops, &none).unwrap_err().to_string();
    assert!(refused.contains("there are: add_first, wrong"), "{refused}");
}

/// A case that differs for certain, though outside the contract: of a NaN of 64 bits the CPU keeps other bits.
fn write_mismatch(path: &Path) {
    let nan = Data::new(DType::F64, (2, 1), vec![0, 0, 0xe000_0000, 0x7ff0_0000]);
    let input = Input::new().with("weights", nan.axes("rows", "cols"));
    let case = Case { source: "edge".into(), input, ordinary: false };
    crosscheck::write(path, "histogram", false, &case).unwrap();
}

#[test]
fn the_command_line_checks_reports_and_replays() {
    if gpu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let done = tersor().current_dir(dir.path()).arg("crosscheck").args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    };
    let (code, out, _) = run(&[
        "--ops", "nm_mask", "--seed", "0x2a", "--json", "--report", "r.json", "--junit", "r.xml",
    ]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |pointer: &str| json.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    assert_eq!((code, of("/schema")), (0, &serde_json::json!("crosscheck/1")));
    assert_eq!(of("/seed"), "0x000000000000002a");
    for name in ["name", "backend", "driver", "vendor", "limits_sha"] {
        of(&format!("/adapter/{name}"));
    }
    let numerics =
        ["rne_add", "ftz", "fma_contracts", "reassociates", "nan_cmp", "barrier_ok", "f16_rne"];
    assert!(numerics.iter().all(|n| of(&format!("/numerics/{n}")).is_boolean()));
    for name in ["required", "run", "pass", "fail", "unsupported"] {
        assert!(of(&format!("/summary/{name}")).is_u64());
    }
    for name in "op class shape dtype source elements max_ulp bound_ulp max_abs worst_index in_bits want got bad_share runs flaky guards unwritten us repro".split(' ') {
        of(&format!("/cases/0/{name}"));
    }
    let written = std::fs::read_to_string(dir.path().join("r.json")).unwrap();
    assert_eq!(written.trim(), out.trim());
    assert!(std::fs::read_to_string(dir.path().join("r.xml")).unwrap().contains("<testsuites"));

    let (code, out, _) = run(&["--ops", "nm_mask", "--quiet"]);
    assert_eq!((code, out.as_str()), (0, ""));
    let (code, _, error) = run(&["--ops", "no_such_op"]);
    assert!(code == 2 && error.contains("no op is called"), "{error}");
    let (code, _, error) = run(&["--adapter", "no such adapter"]);
    assert!(code == 2 && error.contains("install"), "{error}");

    write_mismatch(&dir.path().join("nan.safetensors"));
    let (code, out, _) = run(&["--replay", "nan.safetensors"]);
    assert_eq!(code, 1, "{out}");
    for part in ["expected", "got", "tersor crosscheck --replay 'nan.safetensors'"] {
        assert!(out.contains(part), "{out}");
    }
    let (code, _, error) = run(&["--replay", "missing.safetensors"]);
    assert!(code == 2 && error.contains("missing.safetensors"), "{error}");
}

#[test]
fn tensors_of_a_checkpoint_are_asked_too() {
    let Some(pair) = pair() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let mut values: Vec<f32> = crate::support::noise(4, 30_000);
    (values[7777], values[20_000]) = (55.0, f32::NAN);
    let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    crate::support::write_checkpoint(&path, &[("w", DType::F32, vec![300, 100], words)]);
    let tiles = crosscheck::tiles(&path, Level::Quick, Rng::new(1, "tiles")).unwrap();
    let has =
        |x: f32| tiles.iter().any(|t| t.data.as_f32().iter().any(|v| v.to_bits() == x.to_bits()));
    assert!(has(values[0]) && has(values[29_999]) && has(55.0) && has(f32::NAN));
    assert!(tiles[0].source.starts_with("user:m.safetensors::w@0"), "{}", tiles[0].source);
    let cancel = Cancel::new();
    let options = Options {
        level: Level::Quick,
        seed: 7,
        ops: Some("magnitude_tail"),
        model: Some(&path),
        folder: dir.path(),
        adapter: None,
        progress: &|_| {},
        cancel: &cancel,
    };
    let report = crosscheck::run(&pair, ops::ALL, &options).unwrap();
    assert!(report.ok && report.cases.iter().any(|c| c.source.starts_with("user:")));
}

#[test]
fn plain_devices_are_not_audited() {
    let Some(Backend::Gpu(gpu)) = gpu() else { return };
    gpu.upload(&[1.0f32]).unwrap();
    assert_eq!(gpu.audit().unwrap(), Audited::default());
}
