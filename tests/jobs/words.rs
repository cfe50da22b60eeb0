//! What the command line says of itself, word for word where the words are the point.

use crate::support::{noise, tersor, tree, words_of, write_checkpoint};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};
use tersor::{
    DType,
    recipe::{MINILM_BYTES, PRESETS, SHIPPED},
};

const PRESETS_TABLE: &str = "\
preset      bits    for                                  MiniLM  ratio   error
int8        8       the usual; can run on integers      24.1 MB  3.77x  0.0212
int4        4 (8)   small, restored at full speed       18.8 MB  4.82x  0.1288
palette8    8       the least error at 8 bits           23.9 MB  3.80x  0.0094
palette4    4 (8)   16 values a tensor, no scales       18.6 MB  4.90x  0.1554
coded4      4 (5)   less error than int4, fewer bytes   14.1 MB  6.44x  0.0678
coded3      3 (4)   networks that bear so few bits      11.3 MB  8.03x  0.1345
sparse24    2 of 4  networks pruned so in training      71.0 MB  1.28x  0.3648
deep        half    networks pruned in training, coded  52.0 MB  1.75x  0.2848
weightless  half    as deep, where very few survive     55.6 MB  1.63x  0.2964
lossless    all     every bit comes back                74.3 MB  1.22x       0

bits: of a weight, in parentheses of an embedding; or which weights survive
MiniLM: all-MiniLM-L6-v2, 90.9 MB of F32, measured (benches/record/); error: the
largest ‖W-Q‖ / ‖W‖ of a tensor, without training again

`tersor presets show NAME` prints a preset's recipe.
";

const EXIT_CODES: &str = "\
Exit codes:
  0              done
  1              damaged, not what it is compared with, or outside its limits
  2              usage, malformed input, I/O, no GPU where one was asked for
  3              done; the CPU redid tiles that the GPU failed at or got wrong
  4              crosscheck: a required kernel did not run
  5              crosscheck: the device was lost
  6              another run is writing the same output
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM
";

/// What the binary prints where all is well.
#[track_caller]
fn out(args: &[&str]) -> String {
    let done = tersor().args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The cells of the rows of tables in Markdown.
fn cells(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|l| l.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|g| str::from_utf8(g).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn presets_are_listed_with_what_was_measured() {
    assert_eq!(out(&["presets"]), PRESETS_TABLE);
    assert!(PRESETS_TABLE.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn figures_of_presets_are_those_of_their_records() {
    for preset in SHIPPED {
        let (name, m) = (preset.name, preset.minilm);
        let record = read(&format!("benches/record/{}", m.record));
        let rows = cells(&record);
        // The first of that name: a record may go on to other networks.
        let row = rows.iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{} has no {name}", m.record));
        let short = |x: f64, digits: usize| match x {
            0.0 => "0".into(),
            1.0 => "1".into(),
            _ => format!("{x:.digits$}"),
        };
        for figure in [
            with_commas(m.bytes),
            format!("{:.3}x", MINILM_BYTES as f64 / m.bytes as f64),
            short(m.bits_per_weight, 3),
            short(m.rel_error, 4),
            short(m.cosine, 5),
        ] {
            assert!(row.contains(&&*figure), "{name}: {} has no {figure}: {row:?}", m.record);
        }
    }
    assert!(read("benches/record/2026-11-30-minilm-sizes.md").contains("F32, 90,868,376 bytes"));
    assert_eq!(MINILM_BYTES, 90_868_376);
}

#[test]
fn presets_are_shown_as_they_ship_and_listed_as_json() {
    for (name, text) in PRESETS {
        assert_eq!(out(&["presets", "show", name]), text);
        assert_eq!(text, read(&format!("recipes/{name}.toml")));
    }
    let listed: Value = serde_json::from_str(&out(&["presets", "--json"])).unwrap();
    assert_eq!(listed["schema"], "presets/1");
    let listed = listed["presets"].as_array().unwrap();
    assert_eq!(listed.len(), PRESETS.len());
    let (names, of_int4): (Vec<_>, _) = (listed.iter().map(|p| &p["name"]).collect(), &listed[1]);
    assert_eq!(names, PRESETS.map(|(name, _)| name));
    let expected = serde_json::json!({
        "name": "int4",
        "bits": 4,
        "embedding_bits": 8,
        "survivors": null,
        "purpose": "small, restored at full speed",
        "minilm": {
            "bytes": 18_847_816,
            "bits_per_weight": 6.207,
            "rel_error": 0.1288,
            "cosine": 0.99167,
            "record": "2026-11-30-scales.md",
        },
    });
    assert_eq!(*of_int4, expected);
    let done = tersor().args(["presets", "show", "int5"]).output().unwrap();
    let names = PRESETS.map(|(name, _)| name).join(", ");
    let said = format!("tersor: no preset is called \"int5\"; there are: {names}\n");
    assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap()), (Some(2), said));
    let help = out(&["compress", "-h"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&names), "{help}");
}

#[test]
fn exit_codes_are_one_table_in_the_help_and_in_the_documentation() {
    assert!(out(&["--help"]).ends_with(EXIT_CODES), "{}", out(&["--help"]));
    assert!(!out(&["-h"]).contains("Exit codes"));
    let docs = read("docs/jobs.md");
    let (_, docs) = docs.split_once("## Exit codes").unwrap();
    let rows = cells(docs).into_iter().skip(2).map(|row| format!("  {:13}  {}\n", row[0], row[1]));
    assert_eq!(format!("Exit codes:\n{}", rows.collect::<String>()), EXIT_CODES);
}

#[test]
fn long_help_has_examples_that_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_tersor")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for command in ["compress", "plan", "inspect", "verify", "decompress", "diff"] {
        let (short, long) = (out(&[command, "-h"]), out(&[command, "--help"]));
        assert!(!short.contains("Examples:") && short.len() < long.len(), "{command}");
        let (_, examples) = long.split_once("Examples:\n").unwrap();
        let examples: Vec<_> = examples.lines().map(str::trim).collect();
        assert!((2..=5).contains(&examples.len()), "{command}: {examples:?}");
        for example in examples {
            assert!(example.starts_with(&format!("tersor {command} ")), "{example}");
            // There is no such model, which is all that is wrong with it.
            let mut shell = Command::new("sh");
            let done = shell.args(["-c", example]).current_dir(dir.path()).env("PATH", &path);
            let done = done.output().unwrap();
            let said = String::from_utf8(done.stderr).unwrap();
            let missing = said.contains("No such file") || said.contains("mine.toml");
            assert!(done.status.code() == Some(2) && missing, "{example}: {said}");
            assert!(said.starts_with("tersor: "), "{example}: {said}");
        }
    }
    for command in ["compress", "plan"] {
        let usage = out(&[command, "-h"]);
        for way in ["--preset NAME\n", "--recipe FILE\n", "--bits N\n"] {
            let line = usage.lines().find(|l| format!("{l}\n").ends_with(way));
            assert!(line.is_some_and(|l| l.contains(&format!("tersor {command} "))), "{usage}");
        }
    }
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let commands = [
        &[][..],
        &["compress"],
        &["completions"],
        &["crosscheck"],
        &["decompress"],
        &["demo"],
        &["devices"],
        &["diff"],
        &["inspect"],
        &["man"],
        &["palettize"],
        &["plan"],
        &["presets"],
        &["presets", "show"],
        &["verify"],
    ];
    for command in commands {
        for flag in ["-h", "--help"] {
            let help = out(&[command, &[flag]].concat());
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{command:?} {flag}: {line}");
            }
        }
    }
}

#[test]
fn memory_without_a_unit_is_refused_with_what_was_meant() {
    let done = tersor().args(["inspect", "nothing", "--memory", "4"]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(2) && said.contains("did you mean 4GiB?"), "{said}");
}

#[test]
fn short_flags_are_the_long_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    write_checkpoint(
        &path,
        &[("w", DType::F32, vec![64, 64], words_of(DType::F32, &noise(1, 4096)))],
    );
    let model = path.to_str().unwrap();
    let plan = |args: &[&str]| out(&[&["plan", model, "--device", "cpu"], args].concat());
    let json = plan(&["--preset", "int4", "--json"]);
    assert!(serde_json::from_str::<Value>(&json).is_ok());
    assert_eq!(plan(&["-p", "int4", "-j"]), json);
    assert_eq!(plan(&["-p", "int4", "-q"]), "");
    assert_ne!(plan(&["-p", "int4"]), "");
    assert_eq!(out(&["presets", "-j"]), out(&["presets", "--json"]));
    for command in ["demo", "inspect", "compress", "decompress", "verify", "diff", "crosscheck"] {
        let help = out(&[command, "-h"]);
        assert!(help.contains("-j, --json") && help.contains("-q, --quiet"), "{help}");
    }
    // A plan reads headers, and no tile is ever on a GPU. What was accepted still is.
    assert_eq!(plan(&["-p", "int4", "-j", "--paranoid", "1"]), json);
    let shown = |command| out(&[command, "--help"]).contains("--paranoid");
    assert!(!shown("plan") && !shown("presets"));
    assert!(shown("compress") && shown("decompress") && shown("verify"));
}

#[test]
fn completions_name_every_command() {
    let commands = ["compress", "presets", "completions", "man", "--max-error"];
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = out(&["completions", shell]);
        for word in commands {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let mut bash = match Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() {
        Ok(bash) => bash,
        Err(e) => return crate::support::skipped(format!("completions in bash: {e}")),
    };
    bash.stdin.take().unwrap().write_all(out(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert_eq!(tersor().args(["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("man/man1");
    let top = out(&["man"]);
    assert_eq!(out(&["man", into.to_str().unwrap()]), "");
    let pages = tree(&into);
    let names: BTreeSet<_> = pages.keys().map(String::as_str).collect();
    let expected = [
        "tersor.1",
        "tersor-compress.1",
        "tersor-completions.1",
        "tersor-crosscheck.1",
        "tersor-decompress.1",
        "tersor-demo.1",
        "tersor-devices.1",
        "tersor-diff.1",
        "tersor-inspect.1",
        "tersor-man.1",
        "tersor-palettize.1",
        "tersor-plan.1",
        "tersor-presets-show.1",
        "tersor-presets.1",
        "tersor-verify.1",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(pages["tersor.1"], top.as_bytes());
    assert!(top.contains("129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM"), "{top}");
    let compress = String::from_utf8(pages["tersor-compress.1"].clone()).unwrap();
    assert!(compress.contains("max\\-error") && compress.contains("Examples:"), "{compress}");
    // Again: in the place of the older ones.
    fs::write(into.join("tersor.1"), "old").unwrap();
    out(&["man", into.to_str().unwrap()]);
    assert_eq!(tree(&into), pages);
}
