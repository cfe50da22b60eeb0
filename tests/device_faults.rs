//! Devices that fail: every call of the driver that may fail is made to, by a Vulkan layer of our own (`faultlayer/fault.c`). A
//! job then ends with the bytes of a run without a fault, or with a clear error; it neither panics nor hangs. The binary is run,
//! as a user would.
//!
//! A few dozen points by default; all of them with `TERSOR_GPU_FAULTS=all`, as `scripts/gpu_faults.sh` does.

mod support;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{noise, skipped, words_of, write_checkpoint};
use tersor::DType;

/// No run may take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Compiles the layer into a folder and writes its manifest; `None`, after saying so, where that cannot be.
fn layer(folder: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faultlayer/fault.c");
    let library = folder.join("fault.so");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o"])
        .args([&library, &source])
        .output();
    let missing = match compiled {
        Ok(done) if done.status.success() => {
            let manifest = serde_json::json!({"file_format_version": "1.2.0", "layer": {
                "name": "VK_LAYER_TERSOR_fault", "type": "GLOBAL", "library_path": library,
                "api_version": "1.3.230", "implementation_version": "1", "description": "calls that fail",
            }});
            fs::write(folder.join("fault.json"), manifest.to_string()).unwrap();
            let found = Run::new(folder, &["devices", "--json"], "").go(folder, "layer");
            match found.counts.get("device") {
                Some(n) if *n > 0 => return Some(()),
                _ => "no Vulkan loader or adapter loads a layer".to_owned(),
            }
        }
        Ok(done) => panic!("the layer: {}", String::from_utf8_lossy(&done.stderr)),
        Err(e) => format!("no C compiler: {e}"),
    };
    assert!(std::env::var_os("TERSOR_REQUIRE_GPU").is_none(), "TERSOR_REQUIRE_GPU: {missing}");
    skipped(format!("failing devices: {missing}"));
    None
}

/// The binary under the layer.
struct Run<'a> {
    layer: &'a Path,
    args: Vec<&'a str>,
    fault: String,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    said: String,
    json: String,
    time: Duration,
    counts: BTreeMap<String, usize>,
}

impl<'a> Run<'a> {
    fn new(layer: &'a Path, args: &[&'a str], fault: impl Into<String>) -> Self {
        Self { layer, args: args.to_vec(), fault: fault.into() }
    }

    /// Runs it in `folder`; `name` is its own among those that run at the same time.
    fn go(&self, folder: &Path, name: &str) -> Outcome {
        let [counts, out, err] =
            ["counts", "out", "err"].map(|n| folder.join(format!("{name}.{n}")));
        _ = fs::remove_file(&counts);
        let started = Instant::now();
        let mut command = support::tersor();
        command
            .args(&self.args)
            .current_dir(folder)
            .env("VK_LAYER_PATH", self.layer)
            .env("VK_INSTANCE_LAYERS", "VK_LAYER_TERSOR_fault")
            .env("TERSOR_FAULT_COUNTS", &counts)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::from(fs::File::create(&out).unwrap()))
            .stderr(Stdio::from(fs::File::create(&err).unwrap()));
        if !self.fault.is_empty() {
            command.env("TERSOR_FAULT", &self.fault);
        }
        if self.args.contains(&"auto") {
            command.env("TERSOR_FAULT_HARDWARE", "1");
        }
        let mut child = command.spawn().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if started.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let lines = fs::read_to_string(&counts).unwrap_or_default();
        let count = |line: &str| {
            let (call, n) = line.split_once(' ').unwrap();
            (call.to_owned(), n.parse().unwrap())
        };
        Outcome {
            code: status.and_then(|s| s.code()),
            said: fs::read_to_string(&err).unwrap(),
            json: fs::read_to_string(&out).unwrap(),
            time: started.elapsed(),
            counts: lines.lines().map(count).collect(),
        }
    }
}

/// A job: what it is called, its arguments, with OUT for its output, and the bytes it must make.
struct Job {
    name: &'static str,
    args: &'static str,
    expected: Option<Vec<u8>>,
    counts: BTreeMap<String, usize>,
}

const JOBS: [(&str, &str); 9] = [
    ("int4", "compress model -o OUT --force --json --preset int4 --device gpu --threads 1"),
    ("palette4", "compress model -o OUT --force --json --preset palette4 --device gpu --threads 1"),
    ("rows", "compress model -o OUT --force --json --recipe rows.toml --device gpu --threads 1"),
    ("sparse24", "compress model -o OUT --force --json --preset sparse24 --device gpu --threads 1"),
    ("deep", "compress model -o OUT --force --json --preset deep --device gpu --threads 2"),
    ("auto", "compress model -o OUT --force --json --preset int8 --device auto --threads 1"),
    ("restored", "decompress archive -o OUT --force --json --device gpu --threads 1"),
    ("verified", "verify archive --json --device gpu --threads 1"),
    ("devices", "devices --json"),
];

/// Calls, and how each may fail.
const CALLS: [(&str, &[&str]); 9] = [
    ("submit", &["lost", "device-memory", "host-memory:once"]),
    ("wait", &["lost", "host-memory", "delay:once"]),
    ("allocate", &["device-memory", "device-memory:once", "host-memory"]),
    ("pipeline", &["lost", "device-memory:once", "host-memory"]),
    ("map", &["host-memory", "device-memory:once"]),
    ("buffer", &["device-memory:once", "host-memory"]),
    ("record", &["device-memory:once", "lost"]),
    ("descriptors", &["device-memory", "host-memory:once"]),
    ("device", &["lost", "host-memory"]),
];

/// One point: a job, and the fault it meets.
struct Point<'a> {
    job: &'a Job,
    fault: String,
}

/// Numbers from 1 to `n`, at most `most` of them, spread, both ends among them.
fn spread(n: usize, most: usize) -> Vec<usize> {
    match n <= most {
        true => (1..=n).collect(),
        false => (0..most).map(|i| 1 + i * (n - 1) / (most - 1).max(1)).collect(),
    }
}

impl Point<'_> {
    /// Runs it and says what is wrong with what came of it.
    fn check(&self, layer: &Path, folder: &Path, name: &str) -> Result<Option<i32>, String> {
        let output = format!("{name}.st");
        let text = self.job.args.replace("OUT", &output);
        let args: Vec<&str> = text.split(' ').collect();
        let made = Run::new(layer, &args, &self.fault).go(folder, name);
        let is = |what: bool, why: &str| match what {
            true => Ok(()),
            false => Err(format!("{} {}: {why}: {made:?}", self.job.name, self.fault)),
        };
        is(made.time < LIMIT && made.code.is_some(), "hangs, or died of a signal")?;
        is(!made.said.contains("panicked"), "panics")?;
        let path = folder.join(&output);
        match made.code {
            Some(0 | 3) => {
                is(made.json.contains("\"ok\":true"), "says nothing")?;
                if let Some(expected) = &self.job.expected {
                    is(fs::read(&path).is_ok_and(|found| found == *expected), "other bytes")?;
                }
                let repaired = !made.json.contains("\"repaired_tiles\":0,");
                let tiles = made.json.contains("\"repaired_tiles\"");
                is(!tiles || repaired == (made.code == Some(3)), "exit code and report differ")?;
                is(made.code == Some(0) || made.said.contains("redone on the CPU"), "not said")?;
            }
            Some(2) => {
                let opening = made.said.contains("no usable GPU");
                let stuck = made.said.contains("has not come back from a call");
                is(opening || stuck, "an unclear error")?;
                is(
                    !self.job.args.contains("--device auto") || stuck,
                    "the CPU could have done it",
                )?;
                is(!path.exists(), "an error and an output")?;
            }
            _ => is(false, "an exit code that this is no reason for")?,
        }
        _ = fs::remove_file(&path);
        Ok(made.code)
    }
}

fn prepare(folder: &Path) {
    let tensors = [(DType::F32, (96, 128)), (DType::BF16, (61, 130)), (DType::F32, (1200, 1024))];
    let tensors: Vec<_> = tensors
        .into_iter()
        .enumerate()
        .map(|(i, (dtype, (rows, cols)))| {
            let words = words_of(dtype, &noise(i as u64, rows * cols));
            (format!("layer{i}.weight"), dtype, vec![rows, cols], words)
        })
        .collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(n, d, s, w)| (n.as_str(), *d, s.clone(), w.clone())).collect();
    write_checkpoint(&folder.join("model"), &tensors);
    let rows = "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"palette\", bits = 3, granularity = \"channel\" }\n";
    fs::write(folder.join("rows.toml"), rows).unwrap();
    let args = "compress model -o archive --preset palette4 --device cpu --quiet";
    assert!(
        support::tersor().args(args.split(' ')).current_dir(folder).status().unwrap().success()
    );
}

/// The jobs without a fault: what they make, and how often they call.
fn jobs(layer: &Path, folder: &Path) -> Vec<Job> {
    let job = |(name, args): (&'static str, &'static str)| {
        let output = folder.join("clean.st");
        let text = args.replace("OUT", "clean.st");
        let made = Run::new(layer, &text.split(' ').collect::<Vec<_>>(), "").go(folder, "clean");
        assert_eq!(made.code, Some(0), "{name}: {made:?}");
        assert!(made.counts["submit"] > 0, "{name}: nothing ran on the device: {made:?}");
        let expected = fs::read(&output).ok();
        if expected.is_some() {
            // The same as on the CPU, which no fault can reach.
            let on_cpu = text.replace("--device gpu", "--device cpu").replace("auto", "cpu");
            let done = support::tersor().args(on_cpu.split(' ')).current_dir(folder).output();
            assert!(done.unwrap().status.success() && fs::read(&output).ok() == expected, "{name}");
            fs::remove_file(&output).unwrap();
        }
        Job { name, args, expected, counts: made.counts }
    };
    JOBS.into_iter().map(job).collect()
}

/// Every point, or a few: of each call of each job so many places.
fn points(jobs: &[Job], all: bool) -> Vec<Point<'_>> {
    let mut points = Vec::new();
    for (j, job) in jobs.iter().enumerate() {
        for (c, (call, faults)) in CALLS.into_iter().enumerate() {
            let places = spread(job.counts[call], if all { 8 } else { 3 });
            let few = (j + c) % places.len().max(1);
            for (p, place) in places.into_iter().enumerate() {
                for (f, fault) in faults.iter().enumerate() {
                    // Of the few, a different one for every job and call.
                    if all || (few, (j + 2 * c) % faults.len()) == (p, f) {
                        points.push(Point { job, fault: format!("{call}:{place}:{fault}") });
                    }
                }
            }
        }
        // A wait that is never over: the first, of opening, and one of the job.
        let waits = job.counts["wait"];
        let middle = waits * 3 / 4;
        let hangs = if all { vec![1, middle] } else { Vec::from_iter((j == 1).then_some(middle)) };
        points.extend(hangs.into_iter().map(|n| Point { job, fault: format!("wait:{n}:hang") }));
        if all {
            points.push(Point { job, fault: format!("submit:{}:hang", job.counts["submit"]) });
            points.push(Point { job, fault: "device:1:hang".into() });
        }
    }
    points
}

#[test]
fn devices_that_fail_cost_time_and_nothing_else() {
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("device_faults");
    _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).unwrap();
    let Some(()) = layer(&scratch) else { return };
    prepare(&scratch);
    let jobs = jobs(&scratch, &scratch);
    let all = std::env::var("TERSOR_GPU_FAULTS").is_ok_and(|v| v == "all");
    let points = points(&jobs, all);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let codes = Mutex::new(BTreeMap::<_, usize>::new());
    std::thread::scope(|scope| {
        // More than cores, since those that hang only wait.
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(i) else { break };
                    match point.check(&scratch, &scratch, &format!("point{i}")) {
                        Ok(code) => {
                            let call = point.fault.split(':').next().unwrap();
                            let key = (call.to_owned(), code.unwrap());
                            *codes.lock().unwrap().entry(key).or_default() += 1;
                        }
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    for ((call, code), n) in codes.into_inner().unwrap() {
        println!("{call}: exit {code}: {n}");
    }
    let failures = failures.into_inner().unwrap();
    println!("{} points, {} wrong", points.len(), failures.len());
    assert!(points.len() >= if all { 200 } else { 60 }, "only {} points", points.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    fs::remove_dir_all(&scratch).unwrap();
}
