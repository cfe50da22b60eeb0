//! `compress --resume`: an interrupted job of a sharded model goes on where it was, with the same bytes, or says why not.

use crate::support::{noise, tersor, tree, words_of, write_checkpoint};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tersor::{
    DType,
    format::{self, Checkpoint},
};

const SHARDS: usize = 5;
const JOB: &str =
    "compress model -o out --resume --preset palette8 --threads 1 --device cpu --json";

fn shard(i: usize) -> String {
    format!("model-{i:05}.safetensors")
}

/// A folder with a model of five shards; in each one tensor cannot be treated, which the report says, and two are equal.
fn model(dir: &Path) {
    let at = |p: &str| dir.join("model").join(p);
    fs::create_dir_all(at("")).unwrap();
    let mut map = BTreeMap::new();
    for i in 0..SHARDS {
        let [a, b, c] = ["weight", "odd", "head"].map(|name| format!("{i}.{name}"));
        let weight = words_of(DType::F32, &noise(i as u64, 1 << 18));
        let mut odd = noise(99 + i as u64, 4096);
        odd[7] = f32::NAN;
        let tensors = [
            (a.as_str(), DType::F32, vec![1024, 256], weight.clone()),
            (b.as_str(), DType::F32, vec![64, 64], words_of(DType::F32, &odd)),
            (c.as_str(), DType::F32, vec![1024, 256], weight),
        ];
        write_checkpoint(&at(&shard(i)), &tensors);
        map.extend([&a, &b, &c].map(|name| (name.clone(), shard(i))));
    }
    let index = json!({"weight_map": map}).to_string();
    fs::write(at("model.safetensors.index.json"), index).unwrap();
    fs::write(at("config.json"), "{}").unwrap();
}

fn run(dir: &Path, args: &str) -> Output {
    tersor().args(args.split(' ')).current_dir(dir).output().unwrap()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[track_caller]
fn report(done: &Output) -> Value {
    assert!(done.status.success(), "{}", said(done));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[track_caller]
fn refused(done: &Output, what: &str) {
    let said = said(done);
    assert!(done.status.code() == Some(2) && said.contains(what), "{:?}: {said}", done.status);
}

/// Runs a job until so many files are finished, and stops it with a signal.
pub(super) fn stop(dir: &Path, job: &str, finished: usize, signal: &str) -> Output {
    let mut command = tersor();
    let command = command.args(job.split(' ')).current_dir(dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = || {
        fs::read(dir.join("out.partial/journal"))
            .map_or(0, |j| j.iter().filter(|b| **b == b'\n').count())
    };
    while lines() < finished + 1 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}",
            said(&child.wait_with_output().unwrap())
        );
        std::thread::yield_now();
    }
    crate::support::signal(child.id(), signal);
    child.wait_with_output().unwrap()
}

/// What both must have in common: everything but how long it took and what was done now.
fn timeless(mut report: Value) -> Value {
    for key in ["seconds", "cpu_tiles", "resumed_files", "output"] {
        report.as_object_mut().unwrap().remove(key);
    }
    report
}

#[test]
fn an_interrupted_job_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let whole = report(&run(dir.path(), &JOB.replace("--resume ", "").replace("out", "whole")));
    assert_eq!(whole["warnings"].as_array().unwrap().len(), SHARDS);
    let tied = whole["tensors"].as_array().unwrap().iter().filter(|t| t["tied_to"].is_string());
    assert_eq!(tied.count(), SHARDS);
    let before = tree(dir.path());
    for (finished, signal, code) in [
        (1, "KILL", None),
        (2, "INT", Some(130)),
        (3, "TERM", Some(143)),
        (4, "KILL", None),
        (5, "KILL", None),
    ] {
        let mut stopped = stop(dir.path(), JOB, finished, signal);
        // On a machine that does much else the signal may come too late; after the last shard it usually does.
        for _ in 0..9 {
            if !stopped.status.success() || finished == SHARDS {
                break;
            }
            fs::remove_dir_all(dir.path().join("out")).unwrap();
            stopped = stop(dir.path(), JOB, finished, signal);
        }
        if stopped.status.success() {
            assert_eq!(finished, SHARDS);
        } else {
            assert_eq!(stopped.status.code(), code, "{}", said(&stopped));
            assert!(!dir.path().join("out").exists());
            if code.is_some() {
                let how = format!("of {SHARDS} files; the same command goes on from there");
                assert!(said(&stopped).contains(&how), "{}", said(&stopped));
            }
            // Killed again and again.
            for _ in 0..2 {
                stop(dir.path(), JOB, finished, "KILL");
            }
            if dir.path().join("out.partial").exists() {
                let resumed = report(&run(dir.path(), JOB));
                assert!(resumed["resumed_files"].as_u64().unwrap() >= finished as u64, "{resumed}");
                assert_eq!(timeless(resumed), timeless(whole.clone()));
            }
        }
        assert_eq!(tree(&dir.path().join("out")), tree(&dir.path().join("whole")), "{finished}");
        fs::remove_dir_all(dir.path().join("out")).unwrap();
        assert_eq!(tree(dir.path()), before, "something is left");
    }
    // Other names, threads and memory are not another job: what was compressed is.
    stop(dir.path(), JOB, 2, "KILL");
    fs::rename(dir.path().join("model"), dir.path().join("moved")).unwrap();
    let job = JOB.replace("model", "moved").replace("threads 1", "threads 3");
    assert!(report(&run(dir.path(), &job))["resumed_files"].as_u64() >= Some(2));
    assert_eq!(tree(&dir.path().join("out")), tree(&dir.path().join("whole")));
    report(&run(dir.path(), "verify out --against moved --json"));
    // Over an old output, which is there until the end.
    let old = tree(&dir.path().join("out"));
    let job = format!("{job} --force").replace("palette8", "int8");
    stop(dir.path(), &job, 1, "INT");
    assert_eq!(tree(&dir.path().join("out")), old);
    report(&run(dir.path(), &job));
    report(&run(dir.path(), &job.replace("out", "other").replace("--resume ", "")));
    assert_eq!(tree(&dir.path().join("out")), tree(&dir.path().join("other")));
    assert!(!dir.path().join("out.partial").exists());
}

/// Changes bytes of a file and neither its length nor its times.
fn poke(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn config_json_counts_where_the_recipe_goes_by_it() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let job = JOB.replace("palette8", "palette4");
    stop(dir.path(), &job, 2, "KILL");
    let config = dir.path().join("model/config.json");
    // Every matrix has 1024 rows: now they would be embeddings, and have 8 bits.
    fs::write(&config, r#"{"vocab_size": 1024}"#).unwrap();
    refused(
        &run(dir.path(), &job),
        "the data of the model has changed, or its config.json; bring it back",
    );
    fs::write(&config, "{}").unwrap();
    report(&run(dir.path(), &job));
}

#[test]
fn what_has_changed_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let at = |p: &str| dir.path().join(p);
    let recipe = |density: &str| {
        let rule = "[[rule]]\nmatch = \"*.weight\"\nquantize = { kind = \"palette\", bits = 8 }\nimportance = \"imp.safetensors\"\n";
        let prune =
            format!("prune = {{ kind = \"magnitude\", density = {density}, scope = \"model\" }}\n");
        let text = format!("version = 1\n{rule}{prune}[[rule]]\nmatch = \"*\"\nkeep = true\n");
        fs::write(at("r.toml"), text).unwrap();
    };
    recipe("0.5");
    let importance = |seed| {
        let names: Vec<_> = (0..SHARDS).map(|i| format!("{i}.weight")).collect();
        let ones =
            words_of(DType::F32, &noise(seed, 256).iter().map(|x| x.abs()).collect::<Vec<_>>());
        let tensors: Vec<_> =
            names.iter().map(|n| (n.as_str(), DType::F32, vec![256], ones.clone())).collect();
        write_checkpoint(&at("imp.safetensors"), &tensors);
    };
    importance(1);
    let job = JOB.replace("--preset palette8", "--recipe r.toml");
    report(&run(dir.path(), &job.replace("--resume ", "").replace("out", "whole")));
    stop(dir.path(), &job, 3, "KILL");
    let left = tree(&at("out.partial"));
    let resume = |what: &str| {
        refused(&run(dir.path(), &job), what);
        assert!(left == tree(&at("out.partial")) && !at("out").exists(), "{what}: it was touched");
    };
    let saved = fs::read(at("r.toml")).unwrap();
    recipe("0.25");
    resume(
        "out.partial cannot be resumed: it was begun with another recipe; use that one, or delete out.partial",
    );
    fs::write(at("r.toml"), saved).unwrap();
    importance(2);
    resume("another recipe");
    importance(1);
    let first = at("model").join(shard(0));
    let header = Checkpoint::open(&first).unwrap().files[0].data_start as usize;
    // One bit of a weight that is pruned anyway, so that no threshold changes.
    let small = |b: &mut [u8]| -> usize {
        let word = |i: usize| {
            f32::from_le_bytes(b[header + 4 * i..header + 4 * i + 4].try_into().unwrap())
        };
        header + 4 * (0..1 << 18).find(|i| word(*i).abs() < 0.1).unwrap()
    };
    let flip = |b: &mut Vec<u8>| {
        let i = small(b);
        b[i] ^= 1;
    };
    poke(&first, flip);
    resume("the data of model/model-00000.safetensors has changed; bring it back, or delete");
    poke(&first, flip);
    poke(&first, |b| b[header - 1] = if b[header - 1] == b' ' { b'\n' } else { b' ' });
    resume("model-00000.safetensors");
    poke(&first, |b| b[header - 1] = b' ');
    // A large weight of a file that was not reached: the threshold over all is another.
    let last = at("model").join(shard(SHARDS - 1));
    let mut kept = Vec::new();
    poke(&last, |b| {
        let end = b.len() - 4;
        kept = b[end - 40000..end].to_vec();
        b[end - 40000..end]
            .chunks_exact_mut(4)
            .for_each(|w| w.copy_from_slice(&9f32.to_le_bytes()));
    });
    resume("the data of the model has changed");
    poke(&last, |b| {
        let end = b.len() - 4;
        b[end - 40000..end].copy_from_slice(&kept);
    });
    // Another version, as its journal would say.
    let journal = at("out.partial/journal");
    let text = fs::read_to_string(&journal).unwrap();
    let (head, rest) = text.split_once('\n').unwrap();
    let json = head.split_once(' ').unwrap().1.replace(env!("CARGO_PKG_VERSION"), "0.0.7");
    let own = base64(format::digest(json.as_bytes()));
    fs::write(&journal, format!("{own} {json}\n{rest}")).unwrap();
    refused(&run(dir.path(), &job), "it was begun by tersor \"0.0.7\", this is");
    fs::write(&journal, &text).unwrap();
    // A file more, a file less.
    let index = at("model/model.safetensors.index.json");
    let listed = fs::read_to_string(&index).unwrap();
    weights(&at("model/more.safetensors"), "more.odd");
    let more = listed.replace("{\"0.head\"", "{\"more.odd\":\"more.safetensors\",\"0.head\"");
    fs::write(&index, more).unwrap();
    let imp = fs::read(at("imp.safetensors")).unwrap();
    resume_other(&dir, &job, "more.safetensors was not in the model");
    fs::remove_file(at("model/more.safetensors")).unwrap();
    let less: Value = serde_json::from_str(&listed).unwrap();
    let mut map = less["weight_map"].as_object().unwrap().clone();
    map.retain(|_, file| file != &json!(shard(4)));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    fs::rename(&last, at("last")).unwrap();
    resume_other(&dir, &job, "model-00004.safetensors is no longer in the model");
    fs::rename(at("last"), &last).unwrap();
    fs::write(&index, &listed).unwrap();
    fs::write(at("imp.safetensors"), imp).unwrap();
    // As it was.
    assert_eq!(left, tree(&at("out.partial")));
    assert!(report(&run(dir.path(), &job))["resumed_files"].as_u64() >= Some(3));
    assert_eq!(tree(&at("out")), tree(&at("whole")));
}

fn resume_other(dir: &tempfile::TempDir, job: &str, what: &str) {
    refused(&run(dir.path(), job), what);
    assert!(!dir.path().join("out").exists());
}

fn base64(digest: format::Digest) -> String {
    use ::base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    BASE64_STANDARD_NO_PAD.encode(digest)
}

fn weights(path: &Path, name: &str) {
    let words = words_of(DType::F32, &noise(7, 4096));
    write_checkpoint(path, &[(name, DType::F32, vec![16, 256], words)]);
}

#[test]
fn a_torn_file_and_a_torn_journal_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let at = |p: &str| dir.path().join(p);
    report(&run(dir.path(), &JOB.replace("--resume ", "").replace("out", "whole")));
    stop(dir.path(), JOB, 3, "KILL");
    let saved = at("saved");
    copy(&at("out.partial"), &saved);
    let journal = fs::read(saved.join("journal")).unwrap();
    let ends: Vec<usize> = (0..journal.len()).filter(|i| journal[*i] == b'\n').collect();
    let all = ends.len() as u64 - 1;
    let output = |i: usize| at("out.partial/output").join(shard(i));
    let whole = tree(&at("whole"));
    let check = |what: &str, reused: u64, damage: &dyn Fn()| {
        copy(&saved, &at("out.partial"));
        damage();
        let done = report(&run(dir.path(), JOB));
        assert_eq!(done["resumed_files"], reused, "{what}");
        assert!(tree(&at("out")) == whole, "{what}");
        assert!(!at("out.partial").exists(), "{what}");
        fs::remove_dir_all(at("out")).unwrap();
    };
    check("nothing", all, &|| {});
    check("a flipped bit", all - 1, &|| {
        poke(&output(1), |b| {
            let middle = b.len() / 2;
            b[middle] ^= 16;
        })
    });
    check("cut", all - 1, &|| poke(&output(1), |b| b.truncate(b.len() - 1)));
    check("longer", all - 1, &|| poke(&output(1), |b| b.push(0)));
    check("another's", all - 1, &|| _ = fs::copy(output(0), output(1)).unwrap());
    check("missing", all - 1, &|| fs::remove_file(output(1)).unwrap());
    check("a link", all - 1, &|| {
        fs::rename(output(1), at("elsewhere")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), output(1)).unwrap();
    });
    fs::remove_file(at("elsewhere")).unwrap();
    check("no output", 0, &|| fs::remove_dir_all(at("out.partial/output")).unwrap());
    check("strangers", all, &|| {
        fs::create_dir_all(at("out.partial/output/sub/sub")).unwrap();
        fs::write(at("out.partial/output/x.safetensors"), "x").unwrap();
    });
    let cut = |len: usize| fs::write(at("out.partial/journal"), &journal[..len]).unwrap();
    let before_last = ends[ends.len() - 2] + 1;
    for len in [before_last, before_last + 1, before_last + 30, journal.len() - 1] {
        check("a torn journal", all - 1, &|| cut(len));
    }
    for bit in (0..8 * (journal.len() - before_last)).step_by(97) {
        check("a flipped bit of the journal", all - 1, &|| {
            let mut bytes = journal.clone();
            bytes[before_last + bit / 8] ^= 1 << (bit % 8);
            fs::write(at("out.partial/journal"), bytes).unwrap();
        });
    }
    check("zeros behind", all, &|| poke(&at("out.partial/journal"), |b| b.extend([0; 300])));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let to = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &to),
            false => _ = fs::copy(&entry, &to).unwrap(),
        }
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let at = |p: &str| dir.path().join(p);
    let others: [(&str, &dyn Fn(PathBuf)); 5] = [
        ("no folder", &|p| fs::write(p, "mine").unwrap()),
        ("it holds no journal", &|p| fs::create_dir(p).unwrap()),
        ("it holds notes.txt", &|p| {
            fs::create_dir(&p).unwrap();
            fs::write(p.join("notes.txt"), "mine").unwrap();
        }),
        ("its journal is none", &|p| {
            fs::create_dir(&p).unwrap();
            fs::write(p.join("journal"), "dear diary\n").unwrap();
        }),
        ("no folder", &|p| std::os::unix::fs::symlink("model", p).unwrap()),
    ];
    for (what, make) in others {
        make(at("out.partial"));
        let before = tree(dir.path());
        refused(&run(dir.path(), JOB), what);
        assert_eq!(tree(dir.path()), before, "{what}");
        match at("out.partial").symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(at("out.partial")).unwrap(),
            false => fs::remove_file(at("out.partial")).unwrap(),
        }
    }
    // Without --resume it is named and stays.
    stop(dir.path(), JOB, 2, "KILL");
    let left = tree(&at("out.partial"));
    let done = run(dir.path(), &JOB.replace("--resume ", ""));
    assert!(said(&done).contains("out.partial is there, of an interrupted run: --resume goes on"));
    report(&done);
    assert_eq!(tree(&at("out.partial")), left);
    let out = tree(&at("out"));
    refused(&run(dir.path(), JOB), "out exists already");
    assert!(
        report(&run(dir.path(), &format!("{JOB} --force")))["resumed_files"].as_u64() >= Some(2)
    );
    assert_eq!(tree(&at("out")), out);
    assert!(!at("out.partial").exists());
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_had() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let at = |p: &str| dir.path().join(p);
    let before = tree(dir.path());
    // A limit that cannot be met is not met by the next run either.
    let text = "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 2 }\nmax_rel_error = 0.001\n";
    fs::write(at("r.toml"), text).unwrap();
    let done = run(dir.path(), &JOB.replace("--preset palette8", "--recipe r.toml"));
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    fs::remove_file(at("r.toml")).unwrap();
    assert_eq!(tree(dir.path()), before);
    // Interrupted before anything is finished.
    let stopped = stop(dir.path(), JOB, 0, "TERM");
    assert_eq!(stopped.status.code(), Some(143), "{}", said(&stopped));
    if !at("out.partial").exists() {
        assert!(!said(&stopped).contains("keeps"));
        assert_eq!(tree(dir.path()), before);
    }
    _ = fs::remove_dir_all(at("out.partial"));
    // A single file.
    let job = JOB.replace("model", "model/model-00000.safetensors");
    let done = run(dir.path(), &job);
    assert!(said(&done).contains("a single file is not resumed"), "{}", said(&done));
    assert!(at("out").is_file() && !at("out.partial").exists());
    fs::remove_file(at("out")).unwrap();
    // One output, one job, in a folder that was made for it.
    let job = JOB.replace("-o out", "-o new/out");
    let mut child = tersor()
        .args(job.split(' '))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !at("new/out.partial").exists() {
        assert!(child.try_wait().unwrap().is_none());
    }
    let second = run(dir.path(), &job);
    assert_eq!(second.status.code(), Some(6), "{}", said(&second));
    crate::support::signal(child.id(), "KILL");
    child.wait().unwrap();
    report(&run(dir.path(), &job));
    fs::remove_dir_all(at("new/out")).unwrap();
    fs::remove_dir(at("new")).unwrap();
    assert_eq!(tree(dir.path()), before, "the next run has cleaned up");
}

#[test]
fn flags_are_part_of_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let at = |p: &str| dir.path().join(p);
    let flags = "--preset int8 --keep 4.odd --set 1.*=palette8 --max-error 0.5";
    let job = |flags: &str| JOB.replace("--preset palette8", flags);
    let whole = job(flags).replace("--resume ", "").replace("out", "whole");
    report(&run(dir.path(), &whole));
    stop(dir.path(), &job(flags), 3, "KILL");
    let left = tree(&at("out.partial"));
    for (from, to) in [
        ("--preset int8", "--preset int4"),
        ("--preset int8", "--bits 7"),
        ("4.odd", "3.odd"),
        ("--keep 4.odd ", ""),
        ("--set 1.*", "--set 1.?*"),
        ("=palette8", "=palette4"),
        ("0.5", "0.25"),
        (" --max-error 0.5", ""),
    ] {
        let other = flags.replace(from, to);
        refused(&run(dir.path(), &job(&other)), "it was begun with another recipe");
        assert!(left == tree(&at("out.partial")) && !at("out").exists(), "{other}");
    }
    // The same said otherwise is the same.
    let same = flags.replace("--preset int8", "--bits 8");
    let done = report(&run(dir.path(), &job(&same)));
    assert!(done["resumed_files"].as_u64() >= Some(3));
    assert_eq!(tree(&at("out")), tree(&at("whole")));
}
