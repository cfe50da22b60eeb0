//! Every call to the system by which a job touches a file fails once, with every error; is interrupted once, by every signal;
//! and the job is killed at it. Whatever happens, the output is the complete old one or the complete new one.
//!
//! This takes `strace`; without it the tests say SKIPPED, or fail if `TERSOR_REQUIRE_STRACE=1` is set. `cargo test` goes through
//! a sample; `scripts/io_faults.sh` through everything.

#![cfg(target_os = "linux")]

use crate::support::{noise, tree, words_of, write_checkpoint};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Output},
};
use tersor::DType;

/// What is made to fail. Calls that only look or close are left out: what they say is checked by what follows.
const CALLS: &str = "openat,read,pread64,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,copy_file_range,sendfile,\
    rename,renameat,renameat2,link,linkat,symlink,mkdir,mkdirat,unlink,unlinkat,rmdir,flock,statfs,fstatfs,getdents64,\
    statx,newfstatat,readlink";

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Error(&'static str, &'static str),
    Signal(&'static str, i32),
    Kill,
}

const FAULTS: [Fault; 8] = [
    Fault::Error("EIO", "Input/output error"),
    Fault::Error("ENOSPC", "No space left on device|the disk is full"),
    Fault::Error("EDQUOT", "quota exceeded"),
    Fault::Error("EINTR", "Interrupted system call"),
    Fault::Error("EACCES", "Permission denied"),
    Fault::Kill,
    Fault::Signal("TERM", 143),
    Fault::Signal("INT", 130),
];

/// A job: its arguments, and whether an old output is there.
#[derive(Clone, Copy, Debug)]
struct Job {
    args: &'static str,
    old: bool,
}

const JOBS: [Job; 9] = [
    Job { args: "compress model -o out --preset int8 --resume --force", old: true },
    Job { args: "compress in.safetensors -o out --preset deep --force", old: true },
    Job { args: "decompress small -o out --force", old: true },
    Job { args: "compress model -o out --preset int8", old: false },
    Job { args: "compress in.safetensors -o out --preset int8", old: false },
    Job { args: "decompress small.safetensors -o out", old: false },
    Job { args: "compress model -o out --preset int8 --force", old: true },
    Job { args: "compress model -o out --preset int8 --resume", old: false },
    Job { args: "verify small.safetensors --report out.html", old: false },
];

impl Job {
    /// What it writes.
    fn output(self) -> &'static str {
        if self.args.ends_with("out.html") { "out.html" } else { "out" }
    }
}

/// A call of a job: its name, what it touches, and which of those it is.
type Call = (String, String, usize);

/// Where the number of the process stands in names.
const PROCESS: &str = "PROCESS";

struct Bench {
    dir: tempfile::TempDir,
    /// What jobs read.
    inputs: BTreeMap<String, Vec<u8>>,
    /// What they replace, by kind of output.
    old: BTreeMap<bool, BTreeMap<String, Vec<u8>>>,
}

impl Bench {
    fn new() -> Self {
        // Where making things durable takes no time: what fails is decided above the file system.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = memory.unwrap();
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("model/sub")).unwrap();
        for i in 0..2 {
            let (name, file) = (format!("{i}.weight"), format!("model/m{i}.safetensors"));
            let words = words_of(DType::F32, &noise(i, 4096));
            let tensors = [(name.as_str(), DType::F32, vec![64, 64], words)];
            write_checkpoint(&at(&file), &tensors);
        }
        fs::copy(at("model/m0.safetensors"), at("in.safetensors")).unwrap();
        let index = r#"{"weight_map":{"0.weight":"m0.safetensors","1.weight":"m1.safetensors"}}"#;
        fs::write(at("model/model.safetensors.index.json"), index).unwrap();
        fs::write(at("model/config.json"), "{}").unwrap();
        fs::write(at("model/sub/config.json"), "{}").unwrap();
        let mut bench = Self { dir, inputs: BTreeMap::new(), old: BTreeMap::new() };
        for (input, output) in [("model", "small"), ("in.safetensors", "small.safetensors")] {
            bench.done(&format!("compress {input} -o {output} --preset palette4"));
        }
        bench.inputs = tree(bench.dir.path());
        for (input, is_folder) in [("model", true), ("in.safetensors", false)] {
            bench.done(&format!("compress {input} -o out --preset palette8"));
            let mut all = tree(bench.dir.path());
            all.retain(|name, _| !bench.inputs.contains_key(name));
            bench.old.insert(is_folder, all);
            bench.clear();
        }
        bench
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tersor"));
        command.args(args.split(' ')).args(["--device", "cpu", "--threads", "1", "--quiet"]);
        command.current_dir(self.dir.path());
        command
    }

    #[track_caller]
    fn done(&self, args: &str) {
        let done = self.command(args).output().unwrap();
        assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Everything but the inputs, which must be as they were.
    #[track_caller]
    fn outputs(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = tree(self.dir.path());
        for (name, bytes) in &self.inputs {
            assert!(found.remove(name).as_ref() == Some(bytes), "the input {name} has changed");
        }
        found
    }

    fn clear(&self) {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path());
        for path in names {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !self.inputs.keys().any(|k| *k == name || k.starts_with(&format!("{name}/"))) {
                match path.symlink_metadata().unwrap().is_dir() {
                    true => fs::remove_dir_all(path).unwrap(),
                    false => fs::remove_file(path).unwrap(),
                }
            }
        }
    }

    /// Puts the old output there.
    fn prepare(&self, job: Job) -> BTreeMap<String, Vec<u8>> {
        self.clear();
        if !job.old {
            return BTreeMap::new();
        }
        let folder =
            !job.args.contains("in.safetensors") && !job.args.contains("small.safetensors");
        let old = &self.old[&folder];
        for (name, bytes) in old {
            let path = self.dir.path().join(name);
            match name.strip_suffix('/') {
                Some(_) => fs::create_dir_all(path).unwrap(),
                None => fs::write(path, bytes).unwrap(),
            }
        }
        old.clone()
    }

    /// Runs a job under strace, which keeps the number of its process.
    ///
    /// Only with `--seccomp-bpf` is it quick; but that misses signals.
    fn traced(&self, job: Job, trace: &str) -> (Output, String) {
        let quick = if trace.contains(":signal=") { "" } else { "--seccomp-bpf" };
        let log = self.dir.path().with_extension("log");
        // Of the shell, which becomes strace, whose child becomes the tracer and which itself becomes the job.
        let script = format!(
            "exec strace -D -f {quick} -y -s 4096 -o '{}' {} \"$0\" \"$@\"",
            log.display(),
            trace.replace(PROCESS, "'$$'")
        );
        let job = self.command(job.args);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(job.get_program()).args(job.get_args());
        let done = shell.current_dir(self.dir.path()).output().unwrap();
        (done, fs::read_to_string(log).unwrap_or_default())
    }

    /// The calls of a job on files of this folder, in their order.
    fn calls(&self, job: Job) -> Vec<Call> {
        self.prepare(job);
        let (done, log) = self.traced(job, &format!("-e trace={CALLS}"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let dir = fs::canonicalize(self.dir.path()).unwrap();
        let dir = format!("{}/", dir.display());
        let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in log.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((name, rest)) = rest.trim_start().split_once('(') else { continue };
            let args = rest.rsplit_once(" = ").map_or(rest, |r| r.0);
            // A descriptor's path, or a path relative to the working directory.
            let by_path = args.starts_with("AT_FDCWD") || args.starts_with('"');
            let path = match by_path {
                true => args.split('"').nth(1).map(str::to_owned),
                false => args.split(['<', '>']).nth(1).map(str::to_owned),
            };
            let Some(path) = path.filter(|p| !p.is_empty()) else { continue };
            let relative = match path.strip_prefix(&dir) {
                Some(relative) => relative.to_owned(),
                None if path == dir.trim_end_matches('/') || path == "." => ".".to_owned(),
                None if by_path && !path.starts_with('/') => path,
                None => continue,
            };
            let mut relative = relative.trim_end_matches('/').to_owned();
            let own = format!(".{}.tersor-", job.output());
            if let Some(rest) = relative.strip_prefix(&own)
                && let Some((number, rest)) = rest.split_once('-')
            {
                relative = format!("{own}{number}-{rest}").replacen(number, PROCESS, 1);
            }
            let n = counts.entry((thread.into(), name.into(), relative.clone())).or_default();
            *n += 1;
            let call = (name.to_owned(), relative, *n);
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
        calls
    }

    /// Has one thing go wrong with a job, and checks what is left; then runs it again. Whether it happened at all, and how
    /// the job ended.
    fn check(&self, job: Job, new: &BTreeMap<String, Vec<u8>>, call: &Call, fault: Fault) -> Ended {
        let old = self.prepare(job);
        let (name, path, n) = call;
        let inject = match fault {
            Fault::Error(e, _) => format!("error={e}"),
            Fault::Signal(s, _) => format!("signal={s}"),
            Fault::Kill => "signal=KILL".into(),
        };
        let dir = fs::canonicalize(self.dir.path()).unwrap();
        let filter = match path.as_str() {
            "." => format!("-P . -P '{}'", dir.display()),
            _ => format!("-P '{path}' -P '{}/{path}' -P '{path}/'", dir.display()),
        };
        let trace = format!("{filter} -e trace={name} -e inject={name}:{inject}:when={n}");
        let (done, log) = self.traced(job, &trace);
        let said = String::from_utf8_lossy(&done.stderr);
        let said: Vec<&str> = said.lines().filter(|l| !l.starts_with("strace: ")).collect();
        let said = said.join("\n");
        let context =
            format!("{}: {name} {path} #{n} {fault:?}: {:?} {said}", job.args, done.status);
        let happened = match fault {
            Fault::Error(..) => log.contains("(INJECTED)"),
            Fault::Signal(s, _) => log.contains(&format!("--- SIG{s} ")),
            Fault::Kill => log.contains("killed by SIGKILL"),
        };
        assert!(!said.contains("panicked") && !said.contains(".tmp"), "{context}");
        let found = self.outputs();
        let of_output = |all: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
            let of = |k: &str| k == job.output() || k.starts_with("out/");
            all.iter().filter(|(k, _)| of(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let output = of_output(&found);
        let (is_old, is_new) = (output == old, output == *new);
        assert!(
            is_old || is_new,
            "{context}: the output is neither old nor new: {:?}",
            output.keys()
        );
        let resumable = job.args.contains("--resume");
        let code = done.status.code();
        let ended = match (happened, fault, code) {
            (false, _, Some(0)) => Ended::Missed,
            (_, Fault::Kill, None) => Ended::Killed,
            (_, _, Some(0)) => Ended::Done,
            (_, Fault::Signal(_, expected), Some(code)) if code == expected => Ended::Stopped,
            (_, Fault::Error(..), Some(2)) => Ended::Failed,
            _ => panic!("{context}: exit code"),
        };
        match ended {
            Ended::Done | Ended::Missed => assert!(is_new, "{context}: done, but not new"),
            Ended::Failed => {
                let placed = said.contains("complete and in its place");
                assert!(if placed { is_new } else { is_old }, "{context}: wrong output");
                let Fault::Error(_, cause) = fault else { unreachable!() };
                let named =
                    ["out", "model", "in.safetensors", "small"].iter().any(|p| said.contains(p));
                assert!(
                    named && cause.split('|').any(|c| said.contains(c)),
                    "{context}: path and cause"
                );
            }
            Ended::Stopped => assert!(is_old, "{context}: stopped, but not old"),
            Ended::Killed => {}
        }
        // Nothing else is there, unless it was the deletion that failed; a lock that could not be taken may be another's; and a
        // second signal, of another thread, ends the job at once.
        let of_ours = path.starts_with(&format!(".{}.tersor-", job.output()));
        let deletes = match (name.as_str(), fault) {
            ("unlink" | "unlinkat" | "rmdir", _) => true,
            ("openat" | "getdents64" | "statx" | "newfstatat" | "flock", Fault::Error(..)) => {
                of_ours
            }
            (_, Fault::Signal(s, _)) => log.matches(&format!("--- SIG{s} ")).count() > 1,
            _ => false,
        };
        let others: BTreeSet<&String> = found.keys().filter(|k| !output.contains_key(*k)).collect();
        let kept = resumable && said.contains("out.partial keeps");
        let expected = |k: &&&String| !(kept && k.starts_with("out.partial/"));
        let others: Vec<_> = others.iter().filter(expected).collect();
        assert!(
            ended == Ended::Killed || deletes || others.is_empty(),
            "{context}: left {others:?}"
        );

        // The next run goes on, or begins anew; it replaces what is there only if asked to.
        let again = match is_new && !job.args.contains("--force") {
            true => format!("{} --force", job.args),
            false => job.args.to_owned(),
        };
        self.done(&again);
        assert!(
            self.outputs() == *new,
            "{context}: the next run leaves {:?}",
            self.outputs().keys()
        );
        ended
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    /// The call did not come again.
    Missed,
    /// In spite of it.
    Done,
    /// With exit code 2.
    Failed,
    Stopped,
    Killed,
}

fn strace() -> bool {
    let there = Command::new("strace").arg("-V").output().is_ok_and(|o| o.status.success());
    assert!(there || std::env::var_os("TERSOR_REQUIRE_STRACE").is_none(), "there is no strace");
    if !there {
        crate::support::skipped("faults of the system: there is no strace".into());
    }
    there
}

/// Goes through the calls of all jobs, of every so many one with a fault; every call has had each after so many rounds.
fn sweep(jobs: &[Job], step: usize) {
    let started = std::time::Instant::now();
    let bench = Bench::new();
    let mut ends: BTreeMap<(Fault, Ended), usize> = BTreeMap::new();
    let (mut calls, mut runs, mut wrong) = (0, 0, 0);
    for job in jobs {
        bench.prepare(*job);
        bench.done(job.args);
        let new = bench.outputs();
        let found = bench.calls(*job);
        calls += found.len();
        for (i, call) in found.iter().enumerate() {
            for (f, fault) in FAULTS.iter().enumerate() {
                if (i + f) % step == 0 {
                    // All that is wrong is told, not the first of it.
                    let check = || bench.check(*job, &new, call, *fault);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                        Ok(ended) => *ends.entry((*fault, ended)).or_default() += 1,
                        Err(_) => wrong += 1,
                    }
                    runs += 1;
                }
            }
        }
    }
    println!(
        "{} jobs, {calls} calls, {runs} runs in {:.1} s",
        jobs.len(),
        started.elapsed().as_secs_f64()
    );
    for ((fault, ended), n) in &ends {
        println!("{fault:?}: {ended:?} {n}");
    }
    assert_eq!(wrong, 0, "of {runs}");
    let missed: usize = ends.iter().filter(|((_, e), _)| *e == Ended::Missed).map(|(_, n)| n).sum();
    assert!(missed * 20 < runs, "{missed} of {runs} faults never happened");
}

#[test]
fn a_sample_of_faults() {
    if strace() {
        sweep(&JOBS[..3], 23);
    }
}

#[test]
#[ignore = "minutes; scripts/io_faults.sh runs it"]
fn every_fault_at_every_call() {
    if strace() {
        sweep(&JOBS, 1);
    }
}

/// One line of a trace: the call, its arguments, and whether it succeeded.
fn succeeded(line: &str) -> Option<(&str, &str)> {
    let (call, rest) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    let (args, result) = rest.rsplit_once(" = ")?;
    (!result.starts_with('-')).then_some((call, args))
}

/// What a power failure may lose is what was not made durable: when a journal says that a file is finished, and when an output
/// takes its place, nothing of them may be among that.
#[test]
fn what_is_published_is_durable() {
    if !strace() {
        return;
    }
    let bench = Bench::new();
    let dir = format!("{}/", fs::canonicalize(bench.dir.path()).unwrap().display());
    for job in JOBS {
        bench.prepare(job);
        let calls = "write,pwrite64,ftruncate,fsync,openat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat";
        let (done, log) = bench.traced(job, &format!("-e trace={calls}"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // Files with data, and folders with entries, that are not durable yet.
        let mut fleeting: BTreeSet<String> = BTreeSet::new();
        let above = |p: &str| p.rsplit_once('/').map_or(".", |r| r.0).to_owned();
        let (mut records, mut placed) = (0, 0);
        for (call, args) in log.lines().filter_map(succeeded) {
            let of_descriptor = |args: &str| {
                let path = args.split(['<', '>']).nth(1)?;
                let own = path.strip_prefix(&dir).map(str::to_owned);
                own.or((format!("{path}/") == dir).then(|| ".".into()))
            };
            let names: Vec<&str> = args.split('"').skip(1).step_by(2).collect();
            match call {
                "write" | "pwrite64" | "ftruncate" => {
                    let Some(path) = of_descriptor(args) else { continue };
                    if path == "out.partial/journal" {
                        records += 1;
                        let early = fleeting.iter().find(|p| p.starts_with("out.partial/output"));
                        assert_eq!(early, None, "{}: recorded before it was durable", job.args);
                    }
                    fleeting.insert(path);
                }
                "fsync" => _ = of_descriptor(args).map(|path| fleeting.remove(&path)),
                "openat" if args.contains("O_CREAT") && !names[0].ends_with("-lock") => {
                    fleeting.insert(above(names[0]));
                }
                "mkdir" => _ = fleeting.insert(above(names[0])),
                "rename" | "renameat" | "renameat2" => {
                    let (from, to) = (names[0], names[1]);
                    if to == job.output() {
                        placed += 1;
                        let early = fleeting
                            .iter()
                            .find(|p| *p == from || p.starts_with(&format!("{from}/")));
                        assert_eq!(early, None, "{}: in its place before it was durable", job.args);
                        fleeting.insert(".".into());
                    }
                }
                // The old output goes when the new one's name is durable.
                "unlink" | "unlinkat" if placed > 0 && !args.contains("-lock") => {
                    assert!(!fleeting.contains("."), "{}: deleted too early: {args}", job.args);
                }
                _ => {}
            }
        }
        // With --force the first attempt, which replaces nothing, fails.
        assert_eq!(placed, 1, "{}", job.args);
        assert_eq!(records, if job.args.contains("--resume") { 2 } else { 0 }, "{}", job.args);
        assert!(!fleeting.contains("."), "{}: the name of the output is not durable", job.args);
    }
}

/// Where two folders cannot be exchanged, the old one is moved aside for a moment; killed in it, the next run puts it back.
#[test]
fn folders_where_none_can_be_exchanged() {
    if !strace() {
        return;
    }
    let bench = Bench::new();
    let job = JOBS[6];
    let old = bench.prepare(job);
    bench.done(job.args);
    let new = bench.outputs();
    let without = "-e trace=rename,renameat2 -e inject=renameat2:error=EINVAL";
    bench.prepare(job);
    let (done, log) = bench.traced(job, without);
    assert!(
        done.status.success() && log.contains("INJECTED"),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(bench.outputs(), new);
    let mut aside = 0;
    for n in 1..=3 {
        bench.prepare(job);
        let (_, log) =
            bench.traced(job, &format!("{without} -e inject=rename:signal=KILL:when={n}"));
        assert!(log.contains("killed by SIGKILL"), "{log}");
        let found = bench.outputs();
        let of_output = |all: &BTreeMap<String, Vec<u8>>, name: &str| -> Vec<Vec<u8>> {
            let of = |k: &str| k == format!("{name}/") || k.starts_with(&format!("{name}/"));
            all.iter().filter(|(k, _)| of(k)).map(|(_, v)| v.clone()).collect()
        };
        let there = of_output(&found, "out");
        if there.is_empty() {
            // Nothing is at the target: the old one is aside, whole, and comes back even if the next run fails.
            assert_eq!(of_output(&found, ".out.tersor-old"), of_output(&old, "out"));
            let next = bench.command("compress model -o out --preset int8").output().unwrap();
            let said = String::from_utf8_lossy(&next.stderr).into_owned();
            assert!(next.status.code() == Some(2) && said.contains("--force"), "{said}");
            assert_eq!(bench.outputs(), old);
            aside += 1;
        } else {
            assert!(there == of_output(&old, "out") || there == of_output(&new, "out"), "kill {n}");
        }
        bench.done(job.args);
        assert_eq!(bench.outputs(), new, "kill {n}");
    }
    assert_eq!(aside, 1, "the moment was not met");
}

/// The system may write and read less than it was asked to.
#[test]
fn short_writes_and_reads_change_nothing() {
    let bench = Bench::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/short.c");
    let shim = bench.dir.path().with_extension("so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).arg("-ldl");
    if !compiler.status().is_ok_and(|s| s.success()) {
        assert!(std::env::var_os("TERSOR_REQUIRE_STRACE").is_none(), "there is no C compiler");
        return crate::support::skipped("short writes: there is no C compiler".into());
    }
    for job in JOBS {
        bench.prepare(job);
        bench.done(job.args);
        let new = bench.outputs();
        for most in ["1", "7", "1000"] {
            bench.prepare(job);
            let mut command = bench.command(job.args);
            let done = command.env("LD_PRELOAD", &shim).env("TERSOR_SHORT", most).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(bench.outputs() == new, "{} bytes at a time: {}", most, job.args);
        }
        // None at all is an error, which also shows that the library is in use.
        let old = bench.prepare(job);
        let mut command = bench.command(job.args);
        let done = command.env("LD_PRELOAD", &shim).env("TERSOR_SHORT", "0").output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.code() == Some(2) && said.contains("out") && said.contains("write"),
            "{said}"
        );
        assert_eq!(bench.outputs(), old, "{}", job.args);
    }
    fs::remove_file(shim).unwrap();
}

/// A disk that is too small, where we may make one: the job is refused before anything is written.
#[test]
fn a_disk_that_is_too_small() {
    let bench = Bench::new();
    let at = |p: &str| bench.dir.path().join(p);
    fs::create_dir_all(at("big")).unwrap();
    let words = words_of(DType::F32, &noise(5, 32768));
    let big = at("big/model.safetensors");
    write_checkpoint(&big, &[("a", DType::F32, vec![128, 256], words)]);
    bench.done("compress big -o small8 --preset int8");
    let disk = at("disk");
    fs::create_dir(&disk).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk);
    if !mount.output().is_ok_and(|m| m.status.success()) {
        return crate::support::skipped("a small disk: we may not mount one".into());
    }
    let mut ends = Vec::new();
    for args in [
        "compress big -o disk/out --preset sparse24",
        "compress big -o disk/out --preset sparse24 --resume",
        "compress big/model.safetensors -o disk/out --preset sparse24",
        "compress big -o disk/out --preset int8 --resume",
        "compress big -o disk/out --preset sparse24 --force",
        "decompress small8 -o disk/back",
        "decompress small8/model.safetensors -o disk/back",
    ] {
        let before = tree(&disk);
        let done = bench.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ends.push((args, done.status.code(), said, tree(&disk) == before));
    }
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    for (args, code, said, same) in ends {
        if args.contains("int8") {
            assert_eq!(code, Some(0), "{args}: {said}");
        } else {
            let full = said.contains("tersor: disk/") && said.contains("bytes are needed, ");
            assert!(code == Some(2) && full && same, "{args}: {code:?} {said}");
        }
    }
}
