//! `--report`: what is on a page, whatever the checkpoint; that it loads nothing and obeys no name; and when it is refused.

use crate::support::{
    markup::{Element, checked, rows},
    noise, skipped, tersor, tree, words_of, write_checkpoint,
};
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tersor::{DType, recipe::PRESETS};

/// Names that a page must not obey.
const NAMES: [&str; 4] = [
    "</script><b>bold</b>",
    "\"><img src=\"http://x.invalid/x.png\" onerror=\"alert(1)\">",
    "a&lt;b&amp;'c' \u{202e}d\n.weight",
    "层.0.权重",
];

fn run(dir: &Path, line: &str) -> (i32, String, String) {
    let done = tersor().args(line.split(' ')).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[track_caller]
fn done(dir: &Path, line: &str) -> String {
    let (code, out, err) = run(dir, line);
    assert_eq!(code, 0, "{line}: {err}");
    out
}

/// What a job says as JSON, and its page.
#[track_caller]
fn page(dir: &Path, line: &str) -> (Value, String, Vec<Element>) {
    let report = done(dir, &format!("{line} --report page.html --force --json --device cpu"));
    let text = fs::read_to_string(dir.join("page.html")).unwrap();
    let all = checked(&text);
    (serde_json::from_str(&report).unwrap(), text, all)
}

/// Weights of every kind: large and small, with names of every kind, not finite, empty, all the same, no weights.
fn every_kind() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut odd = noise(7, 4096);
    (odd[3], odd[4], odd[5]) = (f32::NAN, f32::INFINITY, 0.0);
    let mut wild = noise(8, 4096);
    wild.iter_mut().for_each(|w| *w = *w * *w * *w);
    wild[9] = 100.0;
    let f32s = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let mut tensors = vec![
        ("big.weight", DType::F32, vec![256, 512], f32s(&noise(1, 256 * 512))),
        ("half.weight", DType::BF16, vec![256, 128], words_of(DType::BF16, &noise(2, 32768))),
        ("odd.weight", DType::F32, vec![64, 64], f32s(&odd)),
        ("wild.weight", DType::F32, vec![64, 64], f32s(&wild)),
        ("none.weight", DType::F32, vec![64, 64], f32s(&[f32::NAN; 4096])),
        ("zero.weight", DType::F32, vec![64, 64], f32s(&[0.0; 4096])),
        ("same.weight", DType::F32, vec![64, 64], f32s(&[-2.5; 4096])),
        ("huge.weight", DType::F32, vec![64, 64], f32s(&[3.0e38, -3.0e38].repeat(2048))),
        ("tied.weight", DType::BF16, vec![256, 128], words_of(DType::BF16, &noise(2, 32768))),
        ("empty.weight", DType::F32, vec![0, 64], vec![]),
        ("scalar", DType::F32, vec![], f32s(&[0.5])),
        ("bias", DType::F32, vec![64], f32s(&noise(3, 64))),
        ("ids", DType::I64, vec![4], vec![5; 8]),
        ("wide.weight", DType::F64, vec![64, 64], words_of(DType::F64, &noise(4, 4096))),
    ];
    for (i, name) in NAMES.iter().enumerate() {
        tensors.push((name, DType::F32, vec![64, 64], f32s(&noise(20 + i as u64, 4096))));
    }
    write_checkpoint(&dir.path().join("in.safetensors"), &tensors);
    dir
}

/// The rows of the table of tensors, by the figures of the report: of every tensor its bytes, bits and error.
#[track_caller]
fn same_figures(report: &Value, all: &[Element]) {
    let rows = rows(all, "table");
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(rows.len(), tensors.len() + 1);
    for (t, row) in tensors.iter().zip(&rows[1..]) {
        let bytes = row[4].replace(',', "");
        assert_eq!(bytes, t["bytes"].to_string(), "{row:?}");
        assert_eq!(row[5], format!("{:.3}", t["bits_per_weight"].as_f64().unwrap()), "{row:?}");
        assert!(row[3].starts_with(t["method"].as_str().unwrap()), "{row:?}");
        if let Some(reason) = t["reason"].as_str() {
            assert!(row[3].contains(reason), "{row:?}");
        }
        match (row.get(8).map(String::as_str), t["rel_error"].as_f64()) {
            (None | Some("-"), None) => {}
            (Some(shown), Some(error)) => {
                let shown: f64 = shown.parse().unwrap();
                assert!((shown - error).abs() <= 1e-3 * error + 5.1e-6, "{shown}, {error}");
            }
            other => panic!("{row:?}: {other:?}"),
        }
    }
}

fn count(all: &[Element], name: &str) -> usize {
    all.iter().filter(|e| e.name == name).count()
}

#[test]
fn a_page_of_every_preset_has_the_report_and_loads_nothing() {
    let dir = every_kind();
    let dir = dir.path();
    for (preset, text) in PRESETS {
        let (report, html, all) = page(dir, &format!("compress in.safetensors -o out -p {preset}"));
        assert_eq!(report["report"], "page.html");
        same_figures(&report, &all);
        let body = &all.iter().find(|e| e.name == "body").unwrap().text;
        for words in [
            "tersor compress: in.safetensors",
            &format!("tersor {}.", env!("CARGO_PKG_VERSION")),
            &format!("{:.3}x", report["ratio"].as_f64().unwrap()),
            "Where the bytes are",
            "Stored once, being equal",
            "Kept bit for bit, and why",
        ] {
            assert!(body.contains(words), "{preset}: no {words:?}");
        }
        let recipe = &all.iter().find(|e| e.name == "pre").unwrap().text;
        assert_eq!(recipe.trim_end(), text.trim_end(), "{preset}");
        // Names are text: of what they hold nothing is an element, or an address.
        assert!(count(&all, "b") == 0 && count(&all, "img") == 0);
        assert!(body.contains(NAMES[0]) && body.contains(NAMES[1]) && body.contains(NAMES[3]));
        assert!(body.contains("a&lt;b&amp;'c' \\u{202e}d\\u{a}.weight"));
        for bad in ["<b>", "<img", "</script><", "\u{202e}", "NaN\"", "inf\""] {
            assert!(!html.contains(bad), "{preset}: {bad}");
        }
        // A point for each tensor that holds weights and is not another's, three more in the legend or so.
        let points =
            all.iter().filter(|e| e.name == "circle" && e.within.contains(&"figure".into()));
        assert_eq!(points.count(), 15, "{preset}");
        assert_eq!(count(&all, "figcaption"), 15, "{preset}");
        let warned = all.iter().find(|e| e.attribute("class") == "warnings").map(|e| &*e.text);
        for warning in report["warnings"].as_array().unwrap() {
            let first = warning.as_str().unwrap().lines().next().unwrap();
            assert!(warned.is_some_and(|all| all.contains(first)), "{preset}: {first}");
        }
    }
}

#[test]
fn histograms_have_the_palette_or_the_steps_drawn_in() {
    let dir = every_kind();
    let dir = dir.path();
    let lines = |all: &[Element], name: &str| {
        let figure = all.iter().position(|e| e.name == "h3" && e.text == name).unwrap();
        let inside = all[figure..].iter().take_while(|e| e.name != "figcaption");
        let lines = inside.filter(|e| e.attribute("class") == "lines").map(|e| e.attribute("d"));
        let marks: usize = lines.map(|d| d.matches('M').count()).sum();
        let said = &all[figure..].iter().find(|e| e.name == "figcaption").unwrap().text;
        (marks, said.clone())
    };
    let (_, _, all) = page(dir, "compress in.safetensors -o out -p palette4");
    let (marks, said) = lines(&all, "big.weight");
    assert!(marks == 16 && said.contains("16 entries of a palette"), "{marks}: {said}");
    assert!(!said.contains("the first of"), "{said}");
    let (marks, said) = lines(&all, "wild.weight");
    assert!(marks < 16 && said.contains("of them beyond the picture"), "{marks}: {said}");
    assert!(said.contains("1 beyond, in the outermost bars"), "{said}");
    let (_, said) = lines(&all, "odd.weight");
    assert!(said.contains("1 zero not drawn; 2 NaN or infinite"), "{said}");
    let (_, said) = lines(&all, "none.weight");
    assert!(said.contains("4,096 NaN or infinite"), "{said}");
    let (report, _, all) = page(dir, "compress in.safetensors -o out -p int4");
    let (marks, said) = lines(&all, "big.weight");
    assert!(marks > 8 && said.contains("steps of a scale, the first of "), "{marks}: {said}");
    let big = report["tensors"].as_array().unwrap().iter();
    let big = big.into_iter().find(|t| t["name"] == "big.weight").unwrap();
    let groups = 256 * 512 / big["form"]["group"].as_u64().unwrap();
    assert!(said.contains(&format!("the first of {}", with_commas(groups))), "{said}");
    let (_, _, all) = page(dir, "compress in.safetensors -o out -p sparse24");
    let (marks, said) = lines(&all, "big.weight");
    assert!(marks == 0 && said.contains("dark: what survives"), "{said}");
    // Half of it survives, and the outline of the survivors lies within that of all.
    let figure = all.iter().position(|e| e.name == "h3" && e.text == "big.weight").unwrap();
    let outline = |class: &str| {
        let path = all[figure..].iter().find(|e| e.attribute("class") == class).unwrap();
        let heights = path.attribute("d").split('V').skip(1);
        let heights = heights.map(|h| h.split(['H', 'Z']).next().unwrap().parse::<f64>().unwrap());
        heights.collect::<Vec<_>>()
    };
    let (bars, survivors) = (outline("bar"), outline("survivor"));
    assert!(bars.len() == 97 && bars.iter().zip(&survivors).all(|(a, s)| s >= a), "{bars:?}");
    assert!(bars.iter().zip(&survivors).any(|(a, s)| s > a));
    // Without a source they are what is stored.
    let (_, _, all) = page(dir, "verify out");
    let (_, said) = lines(&all, "big.weight");
    assert!(said.contains("as restored") && said.contains("65,536 zeros not drawn"), "{said}");
}

/// Weights as seven kinds of codes, each a tensor of its name, in a folder with its recipe.
fn coded_kinds() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [
        ("pairs", "quantize = { kind = \"vector\", d = 2, k = 32 }"),
        ("large", "quantize = { kind = \"vector\", d = 2, k = 1024 }"),
        ("product", "quantize = { kind = \"product\", d = 2, k = 16, spaces = 4 }"),
        ("residual", "quantize = { kind = \"residual\", d = 4, k = 16, stages = 2 }"),
        ("pyramid", "quantize = { kind = \"pyramid\", n = 16, bits = 1.5 }"),
        ("dct", "transform = \"dct\"\nquantize = { kind = \"affine\", bits = 3 }"),
        ("trellis", "quantize = { kind = \"trellis\", bits = 2.5 }\nencode = \"rans\""),
    ];
    let values = super::quantizers::gaussian(3, 64 * 256);
    let words = words_of(DType::F32, &values);
    let tensors = kinds.map(|(name, _)| (name, DType::F32, vec![64, 256], words.clone()));
    write_checkpoint(&dir.path().join("in.safetensors"), &tensors);
    let rules = kinds.map(|(name, how)| format!("[[rule]]\nmatch = \"{name}\"\n{how}\n"));
    fs::write(dir.path().join("recipe.toml"), format!("version = 1\n{}", rules.concat())).unwrap();
    dir
}

#[test]
fn where_codes_stand_for_no_single_weights_what_comes_back_is_drawn() {
    let dir = coded_kinds();
    let dir = dir.path();
    let of = |all: &[Element], name: &str| {
        let figure = all.iter().position(|e| e.name == "h3" && e.text == name).unwrap();
        let inside = all[figure..].iter().take_while(|e| e.name != "figcaption");
        let count = |class: &str, what: char| -> usize {
            let paths = inside.clone().filter(|e| e.attribute("class") == class);
            paths.map(|e| e.attribute("d").matches(what).count()).sum()
        };
        let said = &all[figure..].iter().find(|e| e.name == "figcaption").unwrap().text;
        (count("after", 'V'), count("dots", 'M'), count("lines", 'M'), said.clone())
    };
    for line in [
        "compress in.safetensors -o out --recipe recipe.toml",
        "verify out --against in.safetensors",
    ] {
        let (_, html, all) = page(dir, line);
        assert!(html.len() < 100_000, "{} bytes", html.len());
        for (name, points, words) in [
            ("pairs", 32, "; points: 32 entries"),
            ("large", 512, "; points: 512 of 1,024 entries"),
            ("product", 16, "; points: 16 entries, the first of 4 codebooks"),
            ("residual", 0, ""),
            ("pyramid", 0, ""),
            ("dct", 0, ""),
        ] {
            let (after, dots, lines, said) = of(&all, name);
            assert_eq!((after, dots, lines), (97, points, 0), "{line}: {name}");
            assert!(said.contains("; line: what they come back as"), "{line}: {said}");
            assert!(said.contains(words) && (points > 0 || !said.contains("points")), "{said}");
        }
        // Sparse integers are zeros, which no bar has.
        assert!(of(&all, "pyramid").3.contains("come back as, but for "), "{line}");
        let (after, _, lines, said) = of(&all, "trellis");
        assert!(after == 0 && lines > 4, "{line}: {lines}");
        assert!(said.contains("entries of a palette"), "{said}");
    }
    // Without a source bars are what comes back.
    let (_, _, all) = page(dir, "verify out");
    let (after, dots, _, said) = of(&all, "pairs");
    assert!(after == 0 && dots == 32 && said.contains("as restored"), "{after} {dots} {said}");
}

fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|g| str::from_utf8(g).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn verify_and_inspect_have_what_they_know() {
    let dir = every_kind();
    let dir = dir.path();
    done(dir, "compress in.safetensors -o out -p coded4 --device cpu");
    let (report, _, all) = page(dir, "verify out --against in.safetensors");
    same_figures(&report, &all);
    assert!(count(&all, "ol") == 1 && all.iter().any(|e| e.attribute("id") == "rd-t"));
    let worst = all.iter().find(|e| e.name == "li" && e.within.contains(&"ol".into())).unwrap();
    let errors = report["tensors"].as_array().unwrap().iter().filter(|t| t["tied_to"].is_null());
    let most = errors.max_by(|a, b| {
        let of = |t: &Value| t["rel_error"].as_f64().unwrap_or(0.0);
        of(a).total_cmp(&of(b))
    });
    assert!(worst.text.starts_with(most.unwrap()["name"].as_str().unwrap()), "{}", worst.text);
    let (report, html, all) = page(dir, "verify out");
    same_figures(&report, &all);
    assert!(count(&all, "ol") == 0 && html.contains("--against MODEL"));
    assert!(html.contains("(an archive does not store why)"));

    let (report, html, all) = page(dir, "inspect in.safetensors");
    let found = rows(&all, "table");
    assert_eq!(found.len(), report["tensors"].as_array().unwrap().len() + 1);
    assert!(found[0].contains(&"Outliers".into()) && html.contains("2 of 4,096 NaN or infinite"));
    assert_eq!(count(&all, "figcaption"), 16);
    let (_, _, all) = page(dir, "inspect in.safetensors --headers --filter *.weight");
    let found = rows(&all, "table");
    assert!(found.len() == 13 && !found[0].contains(&"Outliers".into()), "{found:?}");
    assert_eq!(count(&all, "figcaption"), 0);
    let (report, _, all) = page(dir, "inspect out");
    let found = rows(&all, "table");
    for (t, row) in report["archived"].as_array().unwrap().iter().zip(&found[1..]) {
        assert_eq!(row[5].replace(',', ""), t["bytes"].to_string());
        assert_eq!(row[3], t["method"].as_str().unwrap());
    }
    assert_eq!(count(&all, "figcaption"), 15);
    let (_, _, all) = page(dir, "inspect out --headers");
    assert_eq!(count(&all, "figcaption"), 0);
}

#[test]
fn a_checkpoint_without_tensors_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("in.safetensors"), &[]);
    let dir = dir.path();
    let (_, _, all) = page(dir, "compress in.safetensors -o out -p lossless");
    assert_eq!(rows(&all, "table").len(), 1);
    page(dir, "verify out --against in.safetensors");
    page(dir, "inspect in.safetensors");
    page(dir, "inspect out");
}

#[test]
fn the_same_input_has_the_same_page() {
    let dir = every_kind();
    let dir = dir.path();
    let mut pages = Vec::new();
    for threads in [1, 3] {
        let (_, html, _) =
            page(dir, &format!("compress in.safetensors -o out -p deep --threads {threads}"));
        assert!(!html.contains(dir.to_str().unwrap()) && !html.contains("seconds"));
        pages.push(html);
    }
    assert_eq!(pages[0], pages[1]);
}

#[test]
fn json_and_quiet_go_with_a_page_and_the_text_names_it() {
    let dir = every_kind();
    let dir = dir.path();
    let line = "compress in.safetensors -o out -p int8 --device cpu --report a/b/page.html --force";
    assert!(done(dir, line).ends_with("\nthe page is a/b/page.html\n"));
    assert_eq!(done(dir, &format!("{line} --quiet")), "");
    assert_eq!(done(dir, &format!("{line} --json")).lines().count(), 1);
    assert!(done(dir, "verify out --device cpu --report v.htm").ends_with("\nthe page is v.htm\n"));
    assert!(done(dir, "inspect out --report i.html").ends_with("\nthe page is i.html\n"));
    checked(&fs::read_to_string(dir.join("a/b/page.html")).unwrap());
}

#[test]
fn a_page_that_would_be_wrong_there_is_refused_before_the_job() {
    let dir = every_kind();
    let dir = dir.path();
    done(dir, "compress in.safetensors -o small -p int8 --device cpu");
    fs::create_dir_all(dir.join("model")).unwrap();
    fs::copy(dir.join("in.safetensors"), dir.join("model/model.safetensors")).unwrap();
    fs::write(dir.join("old.html"), "old").unwrap();
    fs::create_dir(dir.join("folder.html")).unwrap();
    fs::write(dir.join("recipe.html"), "version = 1\n[[rule]]\nmatch = \"*\"\nkeep = true\n")
        .unwrap();
    let before = tree(dir);
    let compress = "compress in.safetensors -o out -p int8 --device cpu --report";
    for (line, said) in [
        (&*format!("{compress} old.html"), "old.html exists already; use --force"),
        ("verify small --report old.html", "old.html exists already; use --force"),
        ("inspect small --report old.html", "old.html exists already; use --force"),
        (&format!("{compress} folder.html --force"), "is not a regular file"),
        (&format!("{compress} -"), "name a file that ends in .html"),
        (&format!("{compress} out.json"), "name a file that ends in .html"),
        (&format!("{compress} page.html --dry-run"), "cannot be used with"),
        (
            "compress in.safetensors -o out.html -p int8 --report out.html",
            "in the place of the output",
        ),
        (
            "compress in.safetensors -o out.html -p int8 --report ./out.html",
            "in the place of the output",
        ),
        ("compress model -o made -p int8 --report made/page.html", "in the place of the output"),
        ("compress model -o made -p int8 --report model/page.html", "lies in the input model"),
        ("inspect model --report model/page.html", "lies in the input model"),
        (
            "compress in.safetensors -o out --recipe recipe.html --report recipe.html --force",
            "is the input itself",
        ),
        ("verify small --force", "--report"),
        // The job fails: the folder that was made for the page goes again.
        (&format!("{compress} new/page.html --max-error 0.00001"), "rel_error"),
        ("verify in.safetensors --report new/page.html", "not a tersor archive"),
    ] {
        let (code, out, err) = run(dir, line);
        assert!((code == 2 || code == 1) && err.contains(said), "{line}: {code}: {err}");
        assert_eq!(out, "", "{line}");
        assert!(tree(dir) == before, "{line}: {:?}", tree(dir).keys());
    }
    done(dir, "inspect small --report old.html --force");
    assert!(fs::read_to_string(dir.join("old.html")).unwrap().starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_page_that_fails_leaves_the_archive_and_says_so() {
    let dir = every_kind();
    let dir = dir.path();
    // Something appears at the page's place while the job runs.
    let archive = "compress in.safetensors -o out -p int8 --device cpu --report page.html";
    let mut job = tersor();
    job.args(archive.split(' ')).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut job = job.spawn().unwrap();
    // The output is claimed after the page.
    let until = Instant::now() + Duration::from_secs(60);
    while !dir.join(".out.tersor-lock").exists() {
        assert!(Instant::now() < until && job.try_wait().unwrap().is_none(), "never claimed");
    }
    fs::write(dir.join("page.html"), "another's").unwrap();
    let status = job.wait().unwrap();
    let mut said = String::new();
    job.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("out is written and verified; its page is not"), "{said}");
    assert!(said.contains("page.html exists already"), "{said}");
    assert_eq!(fs::read(dir.join("page.html")).unwrap(), b"another's");
    done(dir, "verify out --against in.safetensors --device cpu");
}

#[test]
fn a_page_of_very_many_tensors_stays_small_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> =
        (0..6000).map(|i| format!("model.layers.{i}.mlp.down_proj.weight")).collect();
    let tensors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, n)| {
            (n.as_str(), DType::F32, vec![16, 64], words_of(DType::F32, &noise(i as u64, 1024)))
        })
        .collect();
    write_checkpoint(&dir.path().join("in.safetensors"), &tensors);
    let dir = dir.path();
    for line in [
        "compress in.safetensors -o out -p int4",
        "inspect in.safetensors --headers",
        "inspect out --headers",
    ] {
        let (_, html, all) = page(dir, line);
        assert!(html.len() < 3_000_000, "{line}: {} bytes", html.len());
        assert_eq!(rows(&all, "table").len(), 5001, "{line}");
        assert!(html.contains("5,000 of 6,000 tensors"), "{line}");
        if line.starts_with("compress") {
            assert!(
                html.contains("24 of 6,000 tensors: ") && html.contains("2,000 of 6,000 are drawn")
            );
            assert_eq!(count(&all, "figcaption"), 24);
        }
    }
}

/// Chromium without a window, if it is there; it has to be with `TERSOR_REQUIRE_CHROMIUM=1`.
fn chromium(dir: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]);
    command.arg(format!("--user-data-dir={}", dir.join("profile").display()));
    command.args(args).current_dir(dir).stderr(Stdio::null());
    match command.output() {
        Ok(done) => {
            assert!(done.status.success(), "chromium: {:?}", done.status);
            Some(done.stdout)
        }
        Err(e) if std::env::var_os("TERSOR_REQUIRE_CHROMIUM").is_some() => {
            panic!("TERSOR_REQUIRE_CHROMIUM is set, but chromium: {e}")
        }
        Err(e) => {
            skipped(format!("pages in a browser: chromium: {e}"));
            None
        }
    }
}

#[test]
fn a_browser_sorts_the_table_and_shows_the_page() {
    let dir = every_kind();
    let dir = dir.path();
    done(dir, "compress in.safetensors -o out -p palette4 --device cpu --report page.html");
    let address = |fragment: &str| format!("file://{}{fragment}", dir.join("page.html").display());
    let order = |fragment: &str| -> Option<(Vec<String>, String)> {
        let dom = String::from_utf8(chromium(dir, &["--dump-dom", &address(fragment)])?).unwrap();
        let table = dom.split_once("id=\"table\"").unwrap().1.split_once("</table>").unwrap().0;
        let (head, body) = table.split_once("<tbody>").unwrap();
        let names = body.split("<tr>").skip(1).map(|row| {
            let name = row.split_once("class=\"name\">").unwrap().1;
            name.split_once("</th>").unwrap().0.replace("<wbr>", "")
        });
        Some((names.collect(), head.to_owned()))
    };
    let Some((as_stored, head)) = order("") else { return };
    assert!(head.contains("<button") && head.matches("aria-sort=\"none\"").count() == 12, "{head}");
    let errors: Vec<(String, f64)> = {
        let all = checked(&fs::read_to_string(dir.join("page.html")).unwrap());
        let rows = rows(&all, "table");
        assert_eq!(rows.len() - 1, as_stored.len());
        let error = |row: &Vec<String>| Some((row[0].clone(), row[8].parse().ok()?));
        rows.iter().skip(1).filter_map(error).collect()
    };
    let mut sorted = errors.clone();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (by_error, head) = order("#sort=error").unwrap();
    assert!(head.contains("aria-sort=\"descending\""), "{head}");
    assert_ne!(by_error, as_stored);
    assert_eq!(by_error[0], sorted[0].0);
    let (reversed, _) = order("#sort=error,reverse").unwrap();
    assert!(
        reversed[0] != by_error[0] && errors.iter().any(|(n, e)| *n == reversed[0] && *e == 0.0)
    );
    // What the address holds is no code, and no column that is not there.
    assert_eq!(order("#sort=nothing").unwrap().0, as_stored);
    assert_eq!(order("#sort=<b>").unwrap().0, as_stored);

    for (width, dark) in [(400, false), (1400, true)] {
        let shot = format!("--screenshot={}", dir.join("shot.png").display());
        let size = format!("--window-size={width},1200");
        let mut args = vec![shot.as_str(), &size, "--force-device-scale-factor=1"];
        if dark {
            args.push("--blink-settings=preferredColorScheme=0");
        }
        let page = address("");
        args.push(&page);
        chromium(dir, &args).unwrap();
        let (columns, pixels) = png(&fs::read(dir.join("shot.png")).unwrap());
        assert_eq!(columns, width);
        // Background, text, bars: of three colours at least each some thousand pixels, and most is background.
        let mut counts = std::collections::BTreeMap::new();
        pixels.iter().for_each(|p| *counts.entry(*p).or_insert(0u32) += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        assert!(
            counts.len() > 50 && counts[2].1 > 500,
            "{width}: {:?}",
            &counts[..5.min(counts.len())]
        );
        let light = counts[0].0.iter().map(|c| u32::from(*c)).sum::<u32>() > 384;
        assert_eq!(light, !dark, "{width}: {:?}", counts[0]);
    }
}

/// The width and the pixels of a PNG of 8 bits a channel that is not interlaced, such as a browser's.
fn png(bytes: &[u8]) -> (usize, Vec<[u8; 3]>) {
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (width, channels) = (
        number(16),
        match bytes[25] {
            2 => 3,
            6 => 4,
            kind => panic!("colour type {kind}"),
        },
    );
    assert!(bytes[24] == 8 && bytes[28] == 0);
    let (mut at, mut packed) = (8, Vec::new());
    while at < bytes.len() {
        let length = number(at);
        if &bytes[at + 4..at + 8] == b"IDAT" {
            packed.extend(&bytes[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    let mut raw = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut raw).unwrap();
    let stride = width * channels;
    let mut above = vec![0u8; stride];
    let mut pixels = Vec::new();
    for line in raw.chunks(stride + 1) {
        let (filter, mut row) = (line[0], line[1..].to_vec());
        for i in 0..stride {
            let left = if i >= channels { row[i - channels] } else { 0 };
            let corner = if i >= channels { above[i - channels] } else { 0 };
            let (a, b, c) = (i32::from(left), i32::from(above[i]), i32::from(corner));
            let (pa, pb, pc) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
            let add = match filter {
                0 => 0,
                1 => a,
                2 => b,
                3 => (a + b) / 2,
                4 if pa <= pb && pa <= pc => a,
                4 if pb <= pc => b,
                4 => c,
                _ => panic!("filter {filter}"),
            };
            row[i] = row[i].wrapping_add(add as u8);
        }
        pixels.extend(row.chunks(channels).map(|p| [p[0], p[1], p[2]]));
        above = row;
    }
    (width, pixels)
}
