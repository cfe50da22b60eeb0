//! What `inspect` shows.

use crate::support::{noise, tersor, words_of, write_checkpoint};
use std::{
    fs::{self, File},
    io::Write,
};
use tempfile::TempDir;
use tersor::DType;

fn run(dir: &TempDir, line: &str) -> (i32, String, String) {
    let mut command = tersor();
    let done = command.args(line.split(' ')).current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[track_caller]
fn text(dir: &TempDir, line: &str) -> String {
    let (code, out, err) = run(dir, line);
    assert_eq!(code, 0, "{line}: {err}");
    out
}

/// Twelve layers, an embedding, and names that a terminal shows wider than they are long.
fn layers() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut names = vec!["model.embed_tokens.weight".to_owned(), "嵌入.权重".to_owned()];
    for i in 0..12 {
        names.push(format!("model.layers.{i}.mlp.down_proj.weight"));
        names.push(format!("model.layers.{i}.self_attn.q_proj.with_a_name.of_some.length.weight"));
        names.push(format!("model.layers.{i}.input_layernorm.weight"));
    }
    let tensors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let (shape, dtype) = match name {
                n if n.contains("norm") => (vec![64], DType::F32),
                n if n.contains("down") => (vec![64, 128], DType::BF16),
                _ => (vec![64, 64], DType::BF16),
            };
            let mut words = words_of(dtype, &noise(i as u64, shape.iter().product()));
            if name.contains(".3.mlp") || name.contains(".11.mlp") {
                // Infinity.
                words[0] = 0x7f80_0000;
            }
            (name.as_str(), dtype, shape, words)
        })
        .collect();
    write_checkpoint(&dir.path().join("m"), &tensors);
    dir
}

#[test]
fn layers_are_one_line_and_all_fits_a_terminal() {
    let dir = layers();
    let found = text(&dir, "inspect m --device cpu");
    let lines: Vec<&str> = found.lines().collect();
    for line in &lines {
        let wide = line.chars().filter(|c| *c > '\u{2e80}').count();
        assert!(line.chars().count() + wide <= 80, "{line}");
    }
    let table = lines.iter().take_while(|l| !l.starts_with("NaN"));
    let names: Vec<_> = table.filter(|l| l.contains("weight")).map(|l| l.trim()).collect();
    let starts = [
        "model.embed_tokens.weight",
        "12 x model.layers.[N].input_layernorm.weight",
        "12 x model.layers.[N].mlp.down_proj.weight",
        "12 x model.layers.[N].self_attn.q_proj.with_a_name.of_some.length.weight",
    ];
    assert!(names.len() == 4 && names.iter().zip(starts).all(|(n, s)| n.starts_with(s)), "{found}");
    for words in [
        "NaN or infinite:\n  1 of 8192 in model.layers.3.mlp.down_proj.weight\n  1 of 8192 in model.layers.11.mlp.down_proj.weight\n",
        "\nBF16         26    155648  311.3 kB\n",
        "\nF32          12       768    3072 B\n",
        "\nall          38    156416  314.4 kB\n",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    // 12 matrices of 64 x 128 in two bytes.
    assert!(found.contains("BF16  64x128  196.6 kB"), "{found}");
}

#[test]
fn all_filter_and_sort_say_which_and_in_which_order() {
    let dir = layers();
    let names = |line: &str| -> Vec<String> {
        let found = text(&dir, line);
        let of_line = |l: &str| Some(l.split_once("layers.")?.1.split_once(".mlp")?.0.to_owned());
        found.lines().filter(|l| !l.contains(" in ")).filter_map(of_line).collect()
    };
    let numbers = |all: &[u32]| all.iter().map(u32::to_string).collect::<Vec<_>>();
    let natural = numbers(&(0..12).collect::<Vec<_>>());
    assert_eq!(names("inspect m --all --headers"), natural);
    let stored = numbers(&[0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(names("inspect m --all --headers --sort file"), stored);
    assert_eq!(names("inspect m --all --headers --filter *.1?.mlp.*"), numbers(&[10, 11]));
    assert_eq!(names("inspect m --headers --filter *.mlp.*"), ["[N]"]);
    let all = text(&dir, "inspect m --all --device cpu");
    let head = all.lines().next().unwrap();
    assert!(["min", "deviation", "zeros", "histogram"].iter().all(|c| head.contains(c)), "{head}");
    let by_bytes = text(&dir, "inspect m --headers --sort bytes");
    let first = by_bytes.lines().nth(1).unwrap();
    assert!(first.starts_with("12 x model.layers.[N].mlp.down_proj"), "{by_bytes}");
    let (code, _, said) = run(&dir, "inspect m --filter [");
    assert!(code == 2 && said.contains("--filter"), "{said}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let dir = layers();
    text(&dir, "compress m -o small -p int8 --device cpu");
    for column in ["outliers", "entropy", "deviation"] {
        let (code, out, said) = run(&dir, &format!("inspect m --headers --sort {column}"));
        let expected = format!("--sort {column} goes by the data, which --headers does not read");
        assert!(code == 2 && out.is_empty() && said.contains(&expected), "{said}");
        let (code, out, said) = run(&dir, &format!("inspect small --sort {column}"));
        let expected = format!("--sort {column} goes by the data, which is not read of an archive");
        assert!(code == 2 && out.is_empty() && said.contains(&expected), "{said}");
        // For programs the components of an archive are measured.
        text(&dir, &format!("inspect small --sort {column} --json --device cpu"));
    }
    text(&dir, "inspect m --headers --sort bytes");
    for (line, glob) in [
        ("inspect m --headers --filter *.mlp.* --filter nothing.*", "nothing.*"),
        ("inspect small --filter *.codes", "*.codes"),
        ("inspect small --headers --json --filter *.nothing", "*.nothing"),
    ] {
        let (code, _, said) = run(&dir, line);
        let expected = format!("--filter \"{glob}\" matches no tensor");
        assert!(code == 2 && said.contains(&expected), "{line}: {said}");
    }
    text(&dir, "inspect small --headers --json --filter *.codes");
}

#[test]
fn headers_alone_are_read_without_a_device() {
    let dir = tempfile::tempdir().unwrap();
    // 64 GiB that are not there.
    let header = br#"{"w":{"dtype":"F32","shape":[131072,131072],"data_offsets":[0,68719476736]}}"#;
    let mut file = File::create(dir.path().join("m")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header).unwrap();
    file.set_len(8 + header.len() as u64 + (1 << 36)).unwrap();
    let run = |line: &str| {
        let mut command = tersor();
        command
            .args(line.split(' '))
            .current_dir(dir.path())
            .env("VK_DRIVER_FILES", "/nonexistent");
        command.output().unwrap()
    };
    let done = run("inspect m --headers --device gpu");
    let found = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && found.contains("68.72 GB"), "{found}");
    assert_eq!(run("inspect m --device gpu").status.code(), Some(2));
}

#[test]
fn an_archive_shows_how_each_is_stored() {
    let dir = layers();
    text(&dir, "compress m -o small -p int8 --device cpu");
    // Its data is not read: neither is what is damaged there found.
    let mut bytes = fs::read(dir.path().join("small")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("small"), bytes).unwrap();
    let found = text(&dir, "inspect small");
    let (head, rest) = found.split_once('\n').unwrap();
    for column in ["type", "shape", "bytes", "ratio", "bits", "stored as"] {
        assert!(head.contains(column), "{head}");
    }
    assert!(rest.contains("12 x model.layers.[N].input_layernorm.weight") && rest.contains("kept"));
    let embedding =
        rest.lines().skip_while(|l| !l.starts_with("model.embed")).take(2).collect::<String>();
    for words in ["BF16", "64x64", "1.", "x", "int8 per channel"] {
        assert!(embedding.contains(words), "{words}: {embedding}");
    }
    assert!(
        rest.contains("38 tensors, 156416 elements: ") && rest.contains("314.4 kB restored"),
        "{rest}"
    );
    for line in found.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
