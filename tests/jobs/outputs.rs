//! What becomes of outputs: what a job replaces and what it never touches, two jobs with one output, signals, full disks, and
//! the other files of a folder. The binary is run, as a user would.

use crate::support::{noise, words_of, write_checkpoint};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tersor::{DType, format::Checkpoint};

fn tersor(dir: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tersor"));
    command.args(args.split(' ')).args(["--device", "cpu"]).current_dir(dir);
    command
}

fn run(dir: &Path, args: &str) -> Output {
    tersor(dir, args).output().unwrap()
}

/// A job that hears SIGHUP also where these tests do not, under nohup for one: that a signal is ignored is inherited.
fn hearing(dir: &Path, args: &str) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let deaf = mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1);
    let job = tersor(dir, args);
    if !deaf {
        return job;
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(job.get_program()).args(job.get_args());
    command.current_dir(dir);
    command
}

/// The exit code and what was said on stderr.
fn outcome(done: &Output) -> (Option<i32>, String) {
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[track_caller]
fn refused(done: &Output, code: i32, what: &str) {
    let (found, said) = outcome(done);
    assert!(found == Some(code) && said.contains(what), "exit {found:?}: {said}");
}

#[track_caller]
fn succeeds(done: &Output) {
    let (code, said) = outcome(done);
    assert_eq!(code, Some(0), "{said}");
}

fn weights(path: &Path, name: &str, rows: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let words = words_of(DType::F32, &noise(rows as u64, rows * 64));
    write_checkpoint(path, &[(name, DType::F32, vec![rows, 64], words)]);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file below a folder, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
        for path in fs::read_dir(at).unwrap().map(|e| e.unwrap().path()) {
            match path.is_dir() && !path.is_symlink() {
                true => walk(root, &path, found),
                false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

const FORCE: &str = "--preset int8 --force";

#[test]
fn a_folder_is_replaced_only_if_it_is_an_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    weights(&at("models/hf/model.safetensors"), "a.weight", 64);
    write(&at("models/hf/config.json"), "{}");
    write(&at("models/hf/1_Pooling/config.json"), "{}");
    write(&at("models/precious.txt"), "precious");
    weights(&at("importance/imp.safetensors"), "a.weight", 64);
    write(
        &at("recipes/mine.toml"),
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"palette\", bits = 4 }\nimportance = \"../importance/imp.safetensors\"\n",
    );
    let before = files(dir.path());
    // Folders that hold what is read, by whatever name, are never replaced.
    std::os::unix::fs::symlink(at("models"), at("link")).unwrap();
    for output in ["models", "link", ".", "models/hf/..", "models/hf", "models/hf/1_Pooling/.."] {
        let done = run(dir.path(), &format!("compress models/hf -o {output} {FORCE}"));
        let (code, said) = outcome(&done);
        assert!(code == Some(2) && said.contains("input"), "{output}: {said}");
    }
    for output in ["recipes", "importance", "recipes/mine.toml", "importance/imp.safetensors"] {
        let args = format!("compress models/hf -o {output} --recipe recipes/mine.toml --force");
        refused(&run(dir.path(), &args), 2, "input");
    }
    fs::remove_file(at("link")).unwrap();
    assert_eq!(files(dir.path()), before);

    // Foreign folders are not replaced either, and the first foreign file is named.
    let foreign = [
        ("thesis/chapter.txt", "thesis in it is no part"),
        ("README.md", "there are no weights in it"),
        ("model.safetensors notes.txt", "notes.txt in it is no part"),
        ("model.safetensors .git/config", ".git in it is no part"),
        ("model.safetensors 2_Dense/model.safetensors", "2_Dense in it is no part"),
        ("model.safetensors 1_Pooling/notes", "1_Pooling/notes in it is no part"),
        ("other/model.safetensors", "other in it is no part"),
    ];
    for (i, (names, what)) in foreign.into_iter().enumerate() {
        let folder = format!("foreign{i}");
        names.split(' ').for_each(|n| write(&at(&folder).join(n), "x"));
        refused(&run(dir.path(), &format!("compress models/hf -o {folder} {FORCE}")), 2, what);
        let mut expected: Vec<_> = names.split(' ').collect();
        expected.sort();
        assert_eq!(files(&at(&folder)), expected);
    }

    // An empty folder, and one like an output: former shards, an index, what models are usually accompanied by.
    fs::create_dir(at("out")).unwrap();
    let compress = format!("compress models/hf -o out {FORCE}");
    let expected = ["1_Pooling/config.json", "config.json", "model.safetensors"];
    succeeds(&run(dir.path(), &compress));
    assert_eq!(files(&at("out")), expected);
    for former in ["model-00001-of-00002.safetensors", "x.safetensors.index.json", "vocab.txt"] {
        write(&at("out").join(former), "x");
    }
    refused(&run(dir.path(), "compress models/hf -o out --preset int8"), 2, "--force");
    succeeds(&run(dir.path(), &compress));
    assert_eq!(files(&at("out")), expected);
    succeeds(&run(dir.path(), "decompress out -o back"));
    succeeds(&run(dir.path(), "decompress out -o back --force"));
    assert_eq!(files(&at("back")), expected);
}

#[test]
fn nothing_of_a_folder_is_lost_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join("model").join(p);
    weights(&at("model.safetensors"), "a.weight", 64);
    for carried in ["2_Dense/model.safetensors", "adapter_model.safetensors"] {
        weights(&at(carried), "linear.weight", 32);
    }
    for text in [
        "3_Dense/pytorch_model.bin",
        "2_Dense/pytorch_model.bin",
        "a/b/c/d/e/f/g/deep.txt",
        "a/b/c/d/e/f/g/h/i/deepest.txt",
        ".gitattributes",
        ".git/objects",
        "onnx/model.onnx",
        "pytorch_model.bin",
    ] {
        write(&at(text), "x");
    }
    write(&at("config.json"), "{}");
    std::os::unix::fs::symlink(at("onnx"), at("linked")).unwrap();
    std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    succeeds(&run(
        dir.path(),
        "compress model/adapter_model.safetensors -o model/small.safetensors --preset int8",
    ));
    let done = run(dir.path(), "compress model -o out --preset int8 --json");
    succeeds(&done);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let warnings: Vec<_> =
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let other = "its ending stands for weights in another format";
    assert_eq!(
        warnings,
        [
            ".git is left out: it is hidden",
            &format!("2_Dense/pytorch_model.bin is left out: {other}"),
            "a/b/c/d/e/f/g/h/i is left out: it is too deep",
            "dangling is left out: it is a link to nothing",
            "linked is left out: it is a link to a folder",
            &format!("onnx/model.onnx is left out: {other}"),
            &format!("pytorch_model.bin is left out: {other}"),
            "small.safetensors is left out: it is a tersor archive of its own",
            "socket is left out: it is no regular file",
            "2_Dense/model.safetensors is carried bit for bit: it is no part of the checkpoint itself",
            "3_Dense/pytorch_model.bin is carried bit for bit: it is no part of the checkpoint itself",
            "adapter_model.safetensors is carried bit for bit: it is no part of the checkpoint itself",
        ]
    );
    succeeds(&run(dir.path(), "decompress out -o back"));
    for folder in ["out", "back"] {
        let found = files(&dir.path().join(folder));
        let expected = [
            ".gitattributes",
            "2_Dense/model.safetensors",
            "3_Dense/pytorch_model.bin",
            "a/b/c/d/e/f/g/deep.txt",
            "adapter_model.safetensors",
            "config.json",
            "model.safetensors",
        ];
        assert_eq!(found, expected);
        for same in &found[..6] {
            let copy = fs::read(dir.path().join(folder).join(same)).unwrap();
            assert!(copy == fs::read(at(same)).unwrap(), "{same}");
        }
    }
}

#[test]
fn an_index_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let unet = dir.path().join("unet");
    let name = "diffusion_pytorch_model.safetensors.index.json";
    for (i, tensor) in ["a.weight", "b.weight"].iter().enumerate() {
        weights(&unet.join(format!("part{i}.safetensors")), tensor, 64);
    }
    let map = r#"{"weight_map":{"a.weight":"part0.safetensors","b.weight":"part1.safetensors"}}"#;
    write(&unet.join(name), map);
    for (job, output) in
        [("compress unet -o out --preset int8", "out"), ("decompress out -o back", "back")]
    {
        succeeds(&run(dir.path(), job));
        let expected = [name, "part0.safetensors", "part1.safetensors"];
        assert_eq!(files(&dir.path().join(output)), expected);
    }
    succeeds(&run(dir.path(), "verify out --against unet"));
    let restored = Checkpoint::open(&dir.path().join("back")).unwrap();
    assert_eq!(restored.tensors.len(), 2);
    write(&unet.join("other.safetensors.index.json"), map);
    refused(&run(dir.path(), "plan unet --preset int8"), 2, "name one of them");
    succeeds(&run(dir.path(), &format!("plan unet/{name} --preset int8")));
}

/// A checkpoint that takes a while to compress.
fn large(path: &Path) {
    let values = noise(5, 1 << 20);
    let words = words_of(DType::F32, &values);
    let tensors: Vec<_> = (0..24).map(|i| format!("{i}.weight")).collect();
    let tensors: Vec<_> =
        tensors.iter().map(|n| (n.as_str(), DType::F32, vec![1024, 1024], words.clone())).collect();
    write_checkpoint(path, &tensors);
}

/// Waits until a job has begun to write: the temporary file beside the target.
fn temporary(dir: &Path, job: &mut std::process::Child) -> PathBuf {
    loop {
        let found = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let of_ours = |p: &PathBuf| p.extension().is_some_and(|e| e == "tmp");
        if let Some(path) = found.into_iter().find(of_ours) {
            return path;
        }
        assert!(job.try_wait().unwrap().is_none(), "the job ended without a temporary file");
        std::thread::yield_now();
    }
}

#[test]
fn one_output_has_one_job() {
    let dir = tempfile::tempdir().unwrap();
    large(&dir.path().join("in.safetensors"));
    weights(&dir.path().join("small.safetensors"), "a.weight", 64);
    for output in ["out.safetensors", &"x".repeat(250)] {
        let job = format!("compress in.safetensors -o {output} --preset palette8 --quiet");
        let mut first = tersor(dir.path(), &job).spawn().unwrap();
        temporary(dir.path(), &mut first);
        for flag in ["", " --force"] {
            let second = run(
                dir.path(),
                &format!("compress small.safetensors -o {output} --preset int8{flag}"),
            );
            refused(&second, 6, "the output is locked by another run");
        }
        assert!(first.wait().unwrap().success());
        let kept = fs::read(dir.path().join(output)).unwrap();
        refused(
            &run(dir.path(), &format!("compress small.safetensors -o {output} --preset int8")),
            2,
            "--force",
        );
        assert!(fs::read(dir.path().join(output)).unwrap() == kept);
        fs::remove_file(dir.path().join(output)).unwrap();
    }
    assert_eq!(files(dir.path()), ["in.safetensors", "small.safetensors"], "no lock is left");
}

#[test]
fn what_appears_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    large(&at("in.safetensors"));
    fs::create_dir(at("model")).unwrap();
    fs::copy(at("in.safetensors"), at("model/model.safetensors")).unwrap();
    for (input, force) in [("in.safetensors", ""), ("model", ""), ("model", " --force")] {
        let job = format!("compress {input} -o out --preset palette8 --quiet{force}");
        let mut job = tersor(dir.path(), &job).stderr(std::process::Stdio::null()).spawn().unwrap();
        temporary(dir.path(), &mut job);
        write(&at("out/notes.txt"), "precious");
        assert_eq!(job.wait().unwrap().code(), Some(2), "{input}{force}");
        let expected = ["in.safetensors", "model/model.safetensors", "out/notes.txt"];
        assert_eq!(files(dir.path()), expected, "{input}{force}");
        fs::remove_dir_all(at("out")).unwrap();
    }
}

#[test]
fn signals_leave_nothing_and_what_a_kill_leaves_goes_with_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    large(&at("in.safetensors"));
    fs::create_dir(at("model")).unwrap();
    fs::copy(at("in.safetensors"), at("model/model.safetensors")).unwrap();
    let before = files(dir.path());
    for input in ["in.safetensors", "model"] {
        let job = format!("compress {input} -o out --preset palette8 --quiet");
        for (signal, code) in
            [("HUP", Some(129)), ("TERM", Some(143)), ("INT", Some(130)), ("KILL", None)]
        {
            let mut job =
                hearing(dir.path(), &job).stderr(std::process::Stdio::null()).spawn().unwrap();
            let left = temporary(dir.path(), &mut job);
            let id = job.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            assert_eq!(job.wait().unwrap().code(), code, "SIG{signal}");
            match code {
                Some(_) => assert_eq!(files(dir.path()), before, "SIG{signal}"),
                None => assert!(left.exists()),
            }
        }
        // Others' files, however similar their names.
        let others = [
            ".out.tersor-x-0.tmp",
            ".out.tersor-1-0.old",
            ".out2.tersor-1-0.tmp",
            ".out.tersor-7.tersor-1-0.tmp",
        ];
        others.iter().for_each(|n| fs::write(at(n), "").unwrap());
        succeeds(&run(dir.path(), &job));
        others.iter().for_each(|n| fs::remove_file(at(n)).unwrap());
        match at("out").is_dir() {
            true => fs::remove_dir_all(at("out")).unwrap(),
            false => fs::remove_file(at("out")).unwrap(),
        }
        assert_eq!(files(dir.path()), before, "{input}: leftovers of the killed run");
    }
    // Started by nohup, it survives the terminal.
    let job = "trap '' HUP; exec \"$0\" compress in.safetensors -o out --preset palette8 --quiet --device cpu";
    let mut job = Command::new("sh")
        .args(["-c", job, env!("CARGO_BIN_EXE_tersor")])
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    temporary(dir.path(), &mut job);
    assert!(
        Command::new("kill").args(["-s", "HUP", &job.id().to_string()]).status().unwrap().success()
    );
    assert!(job.wait().unwrap().success() && at("out").exists());
}

#[test]
fn errors_name_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    weights(&at("model/model.safetensors"), "a.weight", 4096);
    weights(&at("in.safetensors"), "a.weight", 4096);
    // More than a file may be long.
    for (job, name) in [
        ("compress in.safetensors -o out.safetensors", "out.safetensors: "),
        ("compress model -o out", "out/model.safetensors: "),
    ] {
        let limited = format!("ulimit -f 100; exec \"$0\" {job} --preset int8 --device cpu");
        let done = Command::new("sh")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_tersor")])
            .current_dir(dir.path())
            .output()
            .unwrap();
        refused(&done, 2, &format!("tersor: {name}File too large"));
        assert!(!outcome(&done).1.contains(".tmp"));
        assert_eq!(files(dir.path()), ["in.safetensors", "model/model.safetensors"]);
    }
    refused(&run(dir.path(), "compress in.safetensors -o . --preset int8"), 2, "input");
    refused(
        &run(dir.path(), "compress in.safetensors -o in.safetensors/out --preset int8"),
        2,
        "tersor: in.safetensors/out: Not a directory",
    );
    // Names as long as the file system has them.
    let long = "é".repeat(125);
    succeeds(&run(dir.path(), &format!("compress in.safetensors -o {long} --preset int8")));
    succeeds(&run(dir.path(), &format!("compress model -o {long}x --preset int8")));
    assert!(at(&long).is_file() && at(&format!("{long}x")).is_dir());
    // Where files cannot be made, unless we may do everything.
    fs::create_dir(at("closed")).unwrap();
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(at("closed/probe"), "").is_err() {
        let done = run(dir.path(), "compress in.safetensors -o closed/out --preset int8");
        refused(&done, 2, "tersor: closed/out: Permission denied");
    }
}

#[test]
fn names_are_printed_without_what_a_terminal_obeys() {
    let dir = tempfile::tempdir().unwrap();
    let words = |bad: f32| {
        let mut values = noise(1, 4096);
        values[7] = bad;
        words_of(DType::F32, &values)
    };
    let evil = "\u{1b}[2Jx.weight";
    let path = dir.path().join("\u{1b}[31m.safetensors");
    let recipe = |rule: &str| {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = {{ kind = \"affine\", bits = 2 }}\n{rule}\n"
        );
        write(&dir.path().join("r.toml"), &text);
    };
    for (value, rule, what) in [
        (f32::NAN, "nonfinite = \"error\"", "\"\\u{1b}[2Jx.weight\": 1 of its values"),
        (0.0, "max_rel_error = 0.001", "\"\\u{1b}[2Jx.weight\": rel_error"),
    ] {
        write_checkpoint(&path, &[(evil, DType::F32, vec![64, 64], words(value))]);
        recipe(rule);
        let mut job = tersor(dir.path(), "compress --recipe r.toml -o out");
        let done = job.arg(&path).output().unwrap();
        let (_, said) = outcome(&done);
        assert!(said.contains(what) && !said.contains('\u{1b}'), "{said:?}");
    }
    fs::write(&path, "x").unwrap();
    let (code, said) = outcome(&tersor(dir.path(), "inspect").arg(&path).output().unwrap());
    assert!(code == Some(2) && said.contains("\\u{1b}[31m.safetensors"), "{said:?}");
    assert!(!said.contains('\u{1b}'));
}

#[test]
fn names_of_components_are_refused_only_where_they_collide_and_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let plan = |names: &[&str], recipe: &str| {
        let words = words_of(DType::F32, &noise(1, 4096));
        let all: Vec<_> =
            names.iter().map(|n| (*n, DType::F32, vec![64, 64], words.clone())).collect();
        write_checkpoint(&path, &all);
        let keep = "[[rule]]\nmatch = \"*\"\nkeep = true\n";
        write(&dir.path().join("r.toml"), &format!("version = 1\n{recipe}{keep}"));
        let done = run(dir.path(), "compress in.safetensors -o out --recipe r.toml --force --json");
        if done.status.success() {
            succeeds(&run(dir.path(), "decompress out -o back --force"));
        }
        done
    };
    let rule = |pattern: &str| {
        format!("[[rule]]\nmatch = \"{pattern}\"\nquantize = {{ kind = \"affine\", bits = 8 }}\n")
    };
    refused(
        &plan(&["a", "a.codes"], &rule("a")),
        2,
        "\"a.codes\" has the name of a component of \"a\"",
    );
    // Kept, stored without such a component, or with another.
    succeeds(&plan(&["b", "a", "a.codes"], &rule("b")));
    succeeds(&plan(&["a", "a.zero_points"], &rule("a")));
    succeeds(&plan(&["a", "a.codes"], &rule("a.codes")));
    let (fits, long) = ("n".repeat(1017), "n".repeat(1018));
    for (name, method) in [(&fits, "int8 per channel"), (&long, "kept")] {
        let done = plan(&[name], &rule("*"));
        succeeds(&done);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["tensors"][0]["method"], method, "{}", report["tensors"][0]["reason"]);
    }
}
