//! Jobs that are killed at random moments, and many at one output: what is there is the complete old output or the complete
//! new one, and what the next run makes is what it would have made.
//!
//! `TERSOR_ROUNDS` is the number of kills, `TERSOR_SEED` another seed; `scripts/kill.sh` sets them.

use crate::support::{noise, tree, words_of, write_checkpoint};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};
use tersor::DType;

type Tree = BTreeMap<String, Vec<u8>>;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |n| n.parse().expect(name))
}

/// A checkpoint of so many shards, and the file of the first.
fn model(dir: &Path, shards: usize, rows: usize) {
    fs::create_dir_all(dir.join("model")).unwrap();
    let mut map = BTreeMap::new();
    for i in 0..shards {
        let (name, file) = (format!("{i}.weight"), format!("m{i}.safetensors"));
        let words = words_of(DType::F32, &noise(i as u64, rows * 256));
        write_checkpoint(
            &dir.join("model").join(&file),
            &[(name.as_str(), DType::F32, vec![rows, 256], words)],
        );
        map.insert(name, file);
    }
    let index = serde_json::json!({"weight_map": map}).to_string();
    fs::write(dir.join("model/model.safetensors.index.json"), index).unwrap();
    fs::write(dir.join("model/config.json"), "{}").unwrap();
    fs::copy(dir.join("model/m0.safetensors"), dir.join("in.safetensors")).unwrap();
}

fn command(dir: &Path, args: &str) -> Command {
    let mut command = crate::support::tersor();
    command.args(args.split_whitespace()).args(["--device", "cpu", "--quiet"]);
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn done(dir: &Path, args: &str) {
    let done = command(dir, args).output().unwrap();
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
}

fn delete(path: &Path) {
    match path.symlink_metadata() {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// What is at a path: a file's bytes, a folder's files, nothing.
fn at(path: &Path) -> Option<Tree> {
    match path.symlink_metadata() {
        Err(_) => None,
        Ok(m) if m.is_dir() => Some(tree(path)),
        Ok(_) => Some(Tree::from([(String::new(), fs::read(path).unwrap())])),
    }
}

fn put(path: &Path, what: &Option<Tree>) {
    delete(path);
    let Some(files) = what else { return };
    for (name, bytes) in files {
        match name.strip_suffix('/') {
            _ if name.is_empty() => fs::write(path, bytes).unwrap(),
            Some(_) => fs::create_dir_all(path.join(name)).unwrap(),
            None => {
                fs::create_dir_all(path).unwrap();
                fs::write(path.join(name), bytes).unwrap();
            }
        }
    }
}

/// Numbers that look like chance: splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n
    }
}

#[test]
fn whatever_is_killed_leaves_the_old_or_the_new() {
    let (rounds, seed) = (number("TERSOR_ROUNDS", 120), number("TERSOR_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), 4, 128);
    for (input, output) in [("model", "small"), ("in.safetensors", "small.safetensors")] {
        done(dir.path(), &format!("compress {input} -o {output} --preset int8"));
    }
    let inputs = tree(dir.path());
    let out = dir.path().join("out");
    let jobs = [
        "compress model -o out --preset palette8 --resume",
        "compress in.safetensors -o out --preset palette8",
        "decompress small -o out",
        "compress model -o out --preset palette8",
        "decompress small.safetensors -o out",
        "compress model -o out --preset deep --resume --threads 1",
    ];
    // What each makes, what another would have made, and how long it takes.
    let mut cases = jobs.map(|job| {
        let other = match job.starts_with("compress model") {
            true => "compress model -o out --preset int4",
            false if job.contains(" small ") => "decompress small -o out",
            false => "compress in.safetensors -o out --preset int4",
        };
        done(dir.path(), other);
        let old = at(&out);
        delete(&out);
        let begun = Instant::now();
        done(dir.path(), job);
        let took = begun.elapsed();
        let new = at(&out);
        delete(&out);
        (job, old, new, took)
    });
    let mut chance = Chance(seed);
    let (mut killed, mut ended, mut kept, mut replaced, mut absent) = (0, 0, 0, 0, 0);
    let mut resumed = 0;
    let begun = Instant::now();
    let mut round = 0;
    while killed < rounds && ended < 4 * rounds {
        let (job, old, new, took) = &mut cases[round % jobs.len()];
        round += 1;
        let force = chance.below(2) == 0;
        let (old, new) = (&*old, &*new);
        let before = if force { old } else { &None };
        put(&out, before);
        let job = format!("{job}{}", if force { " --force" } else { "" });
        // Killed up to three times in a row.
        for _ in 0..=chance.below(3) {
            let mut child = command(dir.path(), &job).spawn().unwrap();
            std::thread::sleep(took.mul_f64(chance.below(1000) as f64 / 1000.0));
            match child.try_wait().unwrap() {
                None => killed += 1,
                Some(_) => ended += 1,
            }
            _ = child.kill();
            child.wait().unwrap();
            let found = at(&out);
            match () {
                () if found == *new => replaced += 1,
                () if found == *before && force => kept += 1,
                () if found == *before => absent += 1,
                () => panic!("round {round} of seed {seed}: {job}: the output is torn"),
            }
            if found == *new {
                break;
            }
        }
        let again = match (at(&out) == *new, force) {
            (true, false) => format!("{job} --force"),
            _ => job,
        };
        resumed += u64::from(dir.path().join("out.partial").exists());
        let begun = Instant::now();
        done(dir.path(), &again);
        // Others may have the cores now, and not then.
        *took = (*took * 2 + begun.elapsed()) / 3;
        assert!(at(&out) == *new, "round {round} of seed {seed}: {again}: not the same bytes");
        delete(&out);
        assert!(
            tree(dir.path()) == inputs,
            "round {round} of seed {seed}: {again}: something is left"
        );
    }
    println!(
        "{killed} jobs killed and {ended} that were quicker, in {:.0} s: the old output {kept} times, none yet {absent}, the new one \
         {replaced}, another never; {round} next runs, {resumed} of them resumed, all with the same bytes, nothing left",
        begun.elapsed().as_secs_f64()
    );
    assert!(2 * killed > ended, "too quick to be killed");
}

#[test]
fn many_writers_of_one_output_are_never_mixed() {
    let rounds = number("TERSOR_WRITER_ROUNDS", 6);
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), 3, 64);
    let inputs = tree(dir.path());
    let out = dir.path().join("out");
    for (input, resume) in [("model", ""), ("model", " --resume"), ("in.safetensors", "")] {
        let jobs = ["int8", "int4", "palette8", "palette4"]
            .map(|p| format!("compress {input} -o out --preset {p} --force{resume}"));
        let made = jobs.each_ref().map(|job| {
            done(dir.path(), job);
            at(&out)
        });
        let (mut won, mut locked, mut refused) = (0, 0, 0);
        for round in 0..rounds {
            let writers: Vec<Child> =
                (0..16).map(|i| command(dir.path(), &jobs[i % 4]).spawn().unwrap()).collect();
            for (i, writer) in writers.into_iter().enumerate() {
                let done = writer.wait_with_output().unwrap();
                match done.status.code() {
                    Some(0) => won += 1,
                    Some(6) => locked += 1,
                    code => {
                        panic!("writer {i}: {code:?}: {}", String::from_utf8_lossy(&done.stderr))
                    }
                }
            }
            let found = at(&out);
            assert!(made.contains(&found), "round {round}: the output is mixed");
            refused += usize::from(found.is_none());
            delete(&out);
            assert!(tree(dir.path()) == inputs, "round {round}: something is left");
        }
        println!(
            "{input}{resume}: {rounds} rounds of 16 writers: {won} done, {locked} locked out, never mixed"
        );
        assert!(won > 0 && locked > 0 && refused == 0);
    }
}

#[test]
fn a_folder_is_there_at_every_moment_while_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), 2, 64);
    let out = dir.path().join("out");
    let jobs = ["int8", "palette4"].map(|p| format!("compress model -o out --preset {p} --force"));
    let made = jobs.each_ref().map(|job| {
        done(dir.path(), job);
        at(&out).unwrap()
    });
    let (stop, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let look = || {
            while !stop.load(Ordering::Relaxed) {
                assert!(out.is_dir(), "there was no output for a moment");
                // Whatever folder is open, its files are of one output, as long as they are there.
                let open = File::open(&out).unwrap();
                let held = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
                let read = |n| fs::read(Path::new(&held).join(n)).ok();
                let (a, b) = (read("m0.safetensors"), read("m1.safetensors"));
                if let (Some(a), Some(b)) = (a, b) {
                    let of_one = |m: &Tree| m["m0.safetensors"] == a && m["m1.safetensors"] == b;
                    assert!(made.iter().any(of_one), "an output was mixed");
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        };
        let looking = scope.spawn(look);
        for i in 0..40 {
            done(dir.path(), &jobs[i % 2]);
        }
        stop.store(true, Ordering::Relaxed);
        looking.join().unwrap();
    });
    println!("{} looks at a folder that was replaced 40 times", looks.into_inner());
}

/// The permissions of a path.
#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
}

#[cfg(unix)]
#[test]
fn the_umask_is_honoured() {
    for (mask, file, folder) in
        [("022", 0o644, 0o755), ("077", 0o600, 0o700), ("002", 0o664, 0o775)]
    {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path(), 2, 16);
        for job in [
            "compress model -o out --preset int8 --resume",
            "decompress out -o back",
            "compress in.safetensors -o small --preset int8",
        ] {
            let shell = format!("umask {mask}; exec \"$0\" {job} --device cpu --quiet");
            let done = Command::new("sh")
                .args(["-c", &shell, env!("CARGO_BIN_EXE_tersor")])
                .current_dir(dir.path())
                .status();
            assert!(done.unwrap().success());
        }
        for name in ["out", "back"] {
            let at = dir.path().join(name);
            assert_eq!(mode(&at), folder, "{mask} {name}");
            for (name, _) in tree(&at) {
                assert_eq!(mode(&at.join(&name)), file, "{mask} {name}");
            }
        }
        assert_eq!(mode(&dir.path().join("small")), file, "{mask}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_has_to_listen() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), 2, 16);
    done(dir.path(), "compress in.safetensors -o expected --preset int8");
    let expected = at(&dir.path().join("expected"));
    // A job, what happens to its words, and its exit code.
    let job = "compress in.safetensors -o out --preset int8 --device cpu --force";
    for (how, code) in [
        (">&- 2>&-", 0),
        ("2>/dev/full >/dev/null", 0),
        (">/dev/full", 2),
        ("| true", 0),
        ("--json | true", 0),
        ("2>&1 | true", 0),
    ] {
        let shell = format!("set -o pipefail; \"$0\" {job} {how}");
        let done = Command::new("bash")
            .args(["-c", &shell, env!("CARGO_BIN_EXE_tersor")])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{how}: {said}");
        assert!(at(&dir.path().join("out")) == expected, "{how}");
    }
    // Errors and warnings into nowhere do not end in a panic.
    for how in ["2>/dev/full", "2>&-", "2> >(true)"] {
        let shell = format!("\"$0\" compress nothing -o out --preset int8 {how}");
        let done = Command::new("bash")
            .args(["-c", &shell, env!("CARGO_BIN_EXE_tersor")])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert_eq!(done.code(), Some(2), "{how}");
    }
}
