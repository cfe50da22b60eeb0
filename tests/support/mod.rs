//! What every kernel's test file needs. Not a test target of its own.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod forge;
pub mod markup;
pub mod schema;
pub mod small;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tersor::{
    Backend, Cancel, DType, Device, Result, Silent, Tensor,
    crosscheck::{Class, Input, ops},
    dtype,
    gpu::GpuOptions,
    pipeline::Options,
};

/// The GPU, or `None` after saying so. With `TERSOR_REQUIRE_GPU=1` (as in CI) its absence is a failure.
pub fn gpu() -> Option<&'static Backend> {
    static GPU: LazyLock<Result<Backend>> = LazyLock::new(|| Backend::open(Device::Gpu));
    present(&GPU)
}

/// The same adapter with 64 KiB buffers, 16 KiB bindings and 7 workgroups per dimension.
pub fn tiny_gpu() -> Option<&'static Backend> {
    static GPU: LazyLock<Result<Backend>> = LazyLock::new(|| {
        Backend::open_with(Device::Gpu, &GpuOptions { tiny: true, ..Default::default() })
    });
    present(&GPU)
}

fn present(gpu: &'static Result<Backend>) -> Option<&'static Backend> {
    match gpu {
        Ok(gpu) => Some(gpu),
        Err(e) if std::env::var_os("TERSOR_REQUIRE_GPU").is_some() => {
            panic!("TERSOR_REQUIRE_GPU is set, but {e}")
        }
        Err(e) => {
            skipped(format!("on GPU: {e}"));
            None
        }
    }
}

/// Says what is not tested, once for each reason, where the harness does not capture it: a user is to see it though the tests
/// pass.
pub fn skipped(reason: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&reason) {
        _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
        said.insert(reason);
    }
}

/// The CPU.
pub static CPU: Backend = Backend::Cpu;

/// How jobs run that say nothing and replace what is there: on two threads, in 1 GiB.
pub fn options(on: &Backend) -> Options<'_> {
    static CANCEL: Cancel = Cancel::new();
    Options { threads: 2, memory: 1 << 30, force: true, ..Options::new(on, &Silent, &CANCEL) }
}

/// Every backend on this machine, the CPU first: for worked examples, whose ties random data never hits.
pub fn backends() -> impl Iterator<Item = &'static Backend> {
    std::iter::once(&CPU).chain(gpu())
}

/// Runs `kernel` on the CPU and on the GPU, demands identical results, and returns them.
pub fn cross_check<T: PartialEq + std::fmt::Debug>(
    case: impl std::fmt::Debug,
    kernel: impl Fn(&Backend) -> Result<Vec<T>>,
) -> Vec<T> {
    let expected = kernel(&CPU).unwrap();
    if let Some(gpu) = gpu() {
        assert_same(&case, &expected, &kernel(gpu).unwrap());
    }
    expected
}

/// Element-wise equality that names the first difference.
pub fn assert_same<T: PartialEq + std::fmt::Debug>(
    case: &impl std::fmt::Debug,
    expected: &[T],
    got: &[T],
) {
    assert_eq!(expected.len(), got.len(), "{case:?}: length");
    if let Some(i) = (0..got.len()).find(|&i| expected[i] != got[i]) {
        panic!("{case:?}: element {i}: reference {:?}, GPU {:?}", expected[i], got[i]);
    }
}

/// Demands that every element lies within its own bound of the f64 reference; a NaN never does.
pub fn assert_within(
    case: &impl std::fmt::Debug,
    expected: &[f64],
    bound: impl Fn(usize) -> f64,
    got: &[f32],
) {
    assert_eq!(expected.len(), got.len(), "{case:?}: length");
    for (i, (e, g)) in expected.iter().zip(got).enumerate() {
        let error = (e - f64::from(*g)).abs();
        assert!(
            error <= bound(i),
            "{case:?}: element {i}: {g}, expected {e} within {:e}",
            bound(i)
        );
    }
}

/// Runs a kernel of floats on every backend, and demands that each lies within the bounds of the f64 reference.
pub fn assert_all_within(
    case: &impl std::fmt::Debug,
    expected: &[f64],
    bound: impl Fn(usize) -> f64,
    kernel: impl Fn(&Backend) -> Result<Tensor>,
) {
    for on in backends() {
        let got = kernel(on).unwrap().read_f32(on).unwrap();
        assert_within(&(case, on.name()), expected, &bound, &got);
    }
}

/// An F32 matrix on a backend, of which either side may be 0.
pub fn matrix_f32(on: &Backend, values: &[f32], (rows, cols): (usize, usize)) -> Tensor {
    Tensor::new(on, DType::F32, rows, cols, bytemuck::cast_slice(values).to_vec()).unwrap()
}

/// Lengths on either side of a workgroup boundary, where kernels go wrong.
pub fn edges(workgroup: usize) -> [usize; 6] {
    [1, 2, workgroup - 1, workgroup, workgroup + 1, 3 * workgroup + 7]
}

/// The generator splitmix64 of Vigna, from a state on: https://prng.di.unimi.it/splitmix64.c.
pub fn splitmix64(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// Repeatable values in [-1, 1). A seed is hashed, for those of the generator that lie near each other are states of one stream.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let start = splitmix64(seed).next().expect("it has no end");
    let value = |z: u64| (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    splitmix64(start).take(len).map(value).collect()
}

/// Runs an op of the cross-check on a backend, and demands that every element lies within the bounds of its f64 reference there:
/// there is one, and tests and cross-check ask the same. `share`: how much of the bounds is allowed.
pub fn check_op_on(
    on: &Backend,
    case: impl std::fmt::Debug,
    (name, share): (&str, f64),
    input: &Input,
) {
    let op = ops::ALL.iter().find(|op| op.name == name).unwrap();
    let Class::Bound(bounds) = op.class else { panic!("{name} has no bounds") };
    let got = (op.run)(on, input).unwrap();
    let (expected, bounds): (Vec<_>, Vec<_>) = bounds(on, input).unwrap().into_iter().unzip();
    let got = got[0].1.as_f32();
    assert_within(&(&case, on.name()), &expected, |i| share * bounds[i], got);
}

/// The same on every backend, with all of the bounds.
pub fn check_op(case: impl std::fmt::Debug, name: &str, input: &Input) {
    for on in backends() {
        check_op_on(on, &case, (name, 1.0), input);
    }
}

/// The types that hold weights.
pub const WEIGHTS: [DType; 6] =
    [DType::F64, DType::F32, DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2];

/// `values` rounded to `dtype`, as the words of a tensor.
pub fn words_of(dtype: DType, values: &[f32]) -> Vec<u32> {
    let mut words = vec![0; tersor::words(dtype, values.len())];
    dtype::encode(dtype, values, &mut words, 0);
    words
}

/// `values` rounded to `dtype`, as a matrix on a backend.
pub fn matrix(on: &Backend, dtype: DType, values: &[f32], rows: usize) -> Tensor {
    Tensor::new(on, dtype, rows, values.len() / rows, words_of(dtype, values)).unwrap()
}

/// Writes a checkpoint with the `safetensors` crate: name, type, shape and words of each tensor.
pub fn write_checkpoint(path: &std::path::Path, tensors: &[(&str, DType, Vec<usize>, Vec<u32>)]) {
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, words)| {
            let bytes = dtype.bytes(shape.iter().product::<usize>());
            let kind = serde_json::from_value(serde_json::json!(dtype.name())).unwrap();
            let data = &bytemuck::cast_slice::<u32, u8>(words)[..bytes];
            (*name, safetensors::tensor::TensorView::new(kind, shape.clone(), data).unwrap())
        })
        .collect();
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).unwrap();
}

/// Does a piece of work for every item, two at a time or more, in threads of their own: those of a pool would take up other items
/// while they wait for a job's pool.
pub fn each<T: Sync>(items: &[T], work: impl Fn(usize, &T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    work(i, item);
                }
            });
        }
    });
}

/// A folder that goes away, in memory where there is such a place: for tests that write very many small files.
pub fn memory_folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// The binary.
pub fn tersor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tersor"));
    command.env("NODEVICE_SELECT", "1");
    command
}

/// Runs the binary to its end: exit code, what it said, seconds, and the most memory that it has had, in bytes, where the
/// system tells. A process of its own, so that nothing of the test counts.
pub fn measured(args: &[&str]) -> (Option<i32>, String, f64, usize) {
    let started = Instant::now();
    let mut child =
        tersor().args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        let text =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        // Until it runs the program it is a copy of this process.
        let text = if text.starts_with("Name:\ttersor\n") { &text[..] } else { "" };
        let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
        let kilobytes = line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
        most = most.max(kilobytes.unwrap_or(0) << 10);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = started.elapsed().as_secs_f64();
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    println!("{}: {seconds:.2} s, {} MB: {said}", args[0], most / 1_000_000);
    (status.code(), said, seconds, most)
}

/// What the program takes for a file of one tensor.
pub fn least() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.safetensors");
    write_checkpoint(&path, &[("a", DType::U8, vec![4], vec![0])]);
    measured(&["inspect", path.to_str().unwrap(), "--device", "cpu", "--quiet"]).3
}

/// Everything below a folder, hidden things included: what is in files, or where links lead.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for path in fs::read_dir(at).unwrap().map(|e| e.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = path.symlink_metadata().unwrap();
            if kind.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                walk(root, &path, found);
            } else if kind.is_symlink() {
                let leads = fs::read_link(&path).unwrap().into_os_string();
                found.insert(format!("{name} ->"), leads.into_encoded_bytes());
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// Sends a signal to a process.
pub fn signal(process: u32, name: &str) {
    assert!(
        Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap().success()
    );
}
