//! What is done to which tensor, said by flags: the bytes are those of the recipe that says the same.

use crate::support::{noise, tersor, tree, words_of, write_checkpoint};
use serde_json::Value;
use std::{fs, path::Path, process::Output};
use tempfile::TempDir;
use tersor::{DType, recipe::Preset};

/// A folder with a checkpoint that has an embedding, a head, two layers, and what no preset treats.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tensor = |name, shape: &[usize], seed| {
            let values = noise(seed, shape.iter().product());
            let cubes: Vec<_> = values.iter().map(|x| x * x * x).collect();
            (name, DType::F32, shape.to_vec(), words_of(DType::F32, &cubes))
        };
        let tensors = [
            tensor("embed.weight", &[64, 32], 1),
            tensor("layers.0.attn.weight", &[64, 64], 2),
            tensor("layers.0.mlp.weight", &[128, 128], 3),
            tensor("layers.0.norm", &[64], 4),
            tensor("lm_head.weight", &[256, 64], 5),
        ];
        write_checkpoint(&dir.path().join("in.safetensors"), &tensors);
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, args: &str) -> Output {
        tersor().args(args.split(' ')).current_dir(self.path()).output().unwrap()
    }

    /// Exit code and what is said on stderr.
    fn said(&self, args: &str) -> (i32, String) {
        let done = self.run(args);
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    }

    /// The archive that flags make.
    #[track_caller]
    fn archive(&self, flags: &str) -> Vec<u8> {
        let (code, said) =
            self.said(&format!("compress in.safetensors -o out --force -q --device cpu {flags}"));
        assert!(code == 0, "{flags}: {said}");
        fs::read(self.path().join("out")).unwrap()
    }

    /// The archive that a recipe makes: rules, and those of a preset after them.
    #[track_caller]
    fn archive_of(&self, rules: &str, preset: &str) -> Vec<u8> {
        let first = preset.find("[[rule]]").unwrap();
        let text = [&preset[..first], rules, "\n", &preset[first..]].concat();
        fs::write(self.path().join("r.toml"), text).unwrap();
        self.archive("--recipe r.toml")
    }

    /// The plan that flags make, a tensor each.
    #[track_caller]
    fn plan(&self, flags: &str) -> Vec<Value> {
        let done = self.run(&format!("plan in.safetensors --json --device cpu {flags}"));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{flags}: {said}");
        let plan: Value = serde_json::from_slice(&done.stdout).unwrap();
        plan["tensors"].as_array().unwrap().clone()
    }
}

fn text(preset: &str) -> &'static str {
    Preset::named(preset).unwrap().text
}

/// A preset with other words for some of its own.
#[track_caller]
fn changed(preset: &str, changes: &[(&str, &str)]) -> String {
    let mut text = text(preset).to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{preset} has no {from}");
        text = text.replace(from, to);
    }
    text
}

#[test]
fn bits_are_those_of_the_preset_that_has_so_many() {
    let place = Place::new();
    for (flags, preset) in [
        ("--bits 8", "int8"),
        ("--bits 4", "int4"),
        ("--bits 4 --kind affine", "int4"),
        ("--bits 8 --kind palette", "palette8"),
        ("--bits 4 --kind palette --group tensor", "palette4"),
    ] {
        let expected = place.archive(&format!("-p {preset}"));
        assert!(place.archive(flags) == expected, "{flags} is not {preset}");
    }
}

/// What makes palettes by entropy of a preset of trellises, with so many bits, and so many of embeddings.
fn entropy(bits: &'static str, of_embeddings: &'static str) -> Vec<(&'static str, &'static str)> {
    let encode = " }\nencode = \"auto\"";
    let rule = |bits: &str| -> &'static str {
        format!("quantize = {{ kind = \"entropy\", bits = {bits}{encode}").leak()
    };
    vec![
        ("quantize = { kind = \"trellis\", bits = 4.98 }", rule(of_embeddings)),
        ("quantize = { kind = \"trellis\", bits = 3.99 }", rule(bits)),
        ("bits = 3.975", format!("bits = {bits}").leak()),
        ("min_elements = 16384", "min_elements = 1024"),
    ]
}

#[test]
fn other_bits_and_groups_are_those_of_the_preset_with_others() {
    let place = Place::new();
    let groups = "granularity = \"group\", group = [128, 64, 32, \"row\"]";
    for (flags, preset, changes) in [
        ("--bits 3", "int4", vec![("bits = 4", "bits = 3")]),
        ("--bits 4 --group 16", "int4", vec![(groups, "granularity = \"group\", group = 16")]),
        (
            "--bits 6 --group channel",
            "int4",
            vec![("bits = 4", "bits = 6"), (groups, "granularity = \"channel\"")],
        ),
        (
            "--bits 2 --group tensor",
            "int4",
            vec![("bits = 4", "bits = 2"), (groups, "granularity = \"tensor\"")],
        ),
        (
            "--bits 8 --group 32",
            "int8",
            vec![("granularity = \"channel\"", "granularity = \"group\", group = 32")],
        ),
        (
            "--bits 2 --kind palette --group 16",
            "palette4",
            vec![(
                "bits = 4, granularity = \"tensor\"",
                "bits = 2, granularity = \"group\", group = 16",
            )],
        ),
        (
            "--bits 8 --kind palette --group 16",
            "palette8",
            vec![("granularity = \"tensor\"", "granularity = \"group\", group = 16")],
        ),
        ("--bits 2.5 --kind entropy", "coded4", entropy("2.5", "3.5")),
        ("--bits 7.5 --kind entropy --group tensor", "coded4", entropy("7.5", "8")),
        (
            "--bits 2.5 --kind trellis",
            "coded4",
            vec![
                ("bits = 3.99", "bits = 2.5"),
                ("bits = 4.98", "bits = 3.5"),
                ("bits = 3.975", "bits = 2.5"),
            ],
        ),
        (
            "--bits 5.5 --kind trellis --group tensor",
            "coded4",
            vec![
                ("bits = 3.99", "bits = 5.5"),
                ("bits = 4.98", "bits = 6"),
                ("bits = 3.975", "bits = 5.5"),
            ],
        ),
    ] {
        let expected = place.archive_of("", &changed(preset, &changes));
        assert!(place.archive(flags) == expected, "{flags} is not {preset} with {changes:?}");
    }
}

#[test]
fn keep_is_a_rule_that_keeps_before_all_others() {
    let place = Place::new();
    let keep = |glob: &str| format!("[[rule]]\nmatch = \"{glob}\"\nkeep = true\n");
    let expected = place.archive_of(&(keep("*.attn.*") + &keep("lm_head.weight")), text("int8"));
    assert!(place.archive("-p int8 --keep *.attn.* --keep lm_head.weight") == expected);
    assert!(place.archive("--bits 8 --keep *.attn.* --keep lm_head.weight") == expected);
    assert!(place.archive("-p int8") != expected);
    // With a recipe, and one whose names are kept already.
    fs::write(place.path().join("mine.toml"), text("int8")).unwrap();
    let flags = "--recipe mine.toml --keep *.attn.* --keep lm_head.weight --keep lm_head.*";
    assert!(place.archive(flags) == expected);
    for t in place.plan(flags) {
        let name = t["name"].as_str().unwrap();
        let reason = match name {
            "layers.0.attn.weight" => Some("--keep *.attn.* keeps it"),
            "lm_head.weight" => Some("--keep lm_head.weight keeps it"),
            "layers.0.norm" => Some("it is a norm"),
            _ => None,
        };
        assert_eq!(t["reason"].as_str(), reason, "{name}");
    }
}

#[test]
fn set_treats_as_the_preset_does_what_both_globs_match() {
    let place = Place::new();
    let rule = |glob: &str, body: &str| format!("[[rule]]\nmatch = \"{glob}\"\n{body}\n");
    let palette4 = "quantize = { kind = \"palette\", bits = 4 }";
    let expected = place.archive_of(&rule("*.mlp.weight", palette4), text("int8"));
    assert!(place.archive("-p int8 --set *.mlp.*=palette4") == expected);
    // Of int4 embeddings have the rule for embeddings, also if the glob takes in others.
    let eight = "quantize = { kind = \"affine\", bits = 8 }";
    let four = "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = [128, 64, 32, \"row\"], objective = \"mse\", scales = \"bf16\" }";
    let rules = rule("embed.weight", eight) + &rule("*.attn.weight", four);
    let expected = place.archive_of(&rules, text("palette8"));
    assert!(place.archive("-p palette8 --set {embed,*attn}.*=int4") == expected);
    // The first that matches decides, those that keep before them all.
    let keep = "keep = true";
    let rules = rule("lm_head.weight", keep)
        + &rule("*.attn.weight", palette4)
        + &rule("layers.*.weight", four);
    let expected = place.archive_of(&rules, text("palette8"));
    let flags =
        "--set *.attn.*=palette4 --set layers.*=int4 --bits 8 --kind palette --keep lm_head.*";
    assert!(place.archive(flags) == expected);
    // What a preset keeps by its name is not kept where a glob names it.
    let pruned = "prune = { kind = \"n:m\", n = 2, m = 4 }";
    let expected = place.archive_of(&rule("lm_head.weight", pruned), text("sparse24"));
    assert!(place.archive("-p sparse24 --set lm_head.*=sparse24") == expected);
    assert!(place.archive("-p sparse24") != expected);
}

#[test]
fn a_plan_says_which_flag_decided() {
    let place = Place::new();
    let flags = "-p int8 --set *.mlp.*=palette4 --keep lm_head.*";
    let rules: Vec<_> =
        place.plan(flags).iter().map(|t| t["rule"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rules, ["*", "*", "--set *.mlp.*=palette4", "defaults.toml", "--keep lm_head.*"]);
    let done = place.run(&format!("plan in.safetensors --device cpu {flags}"));
    let table = String::from_utf8(done.stdout).unwrap();
    let ends: Vec<_> = table.lines().map(|l| l.rsplit("  ").next().unwrap()).collect();
    assert_eq!(
        ends[1..6],
        ["rule *", "rule *", "--set *.mlp.*=palette4", "it is a norm", "--keep lm_head.* keeps it"]
    );
    // Rules of a recipe keep their numbers.
    let text = "version = 1\n[[rule]]\nmatch = \"layers.*\"\nquantize = { kind = \"affine\", bits = 8 }\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    fs::write(place.path().join("r.toml"), text).unwrap();
    let plan = place.plan("--recipe r.toml --set embed.*=int8");
    assert_eq!(plan[4]["reason"], "rule 2, *, keeps it");
}

#[test]
fn max_error_is_the_limit_of_every_rule_that_treats() {
    let place = Place::new();
    let limited = |preset: &str, limit: &str| {
        text(preset)
            .replace("encode = \"raw\"", &format!("encode = \"raw\"\nmax_rel_error = {limit}"))
    };
    // It is stored, so that the bytes are others than without.
    let expected = place.archive_of("", &limited("int4", "0.5"));
    assert!(place.archive("-p int4 --max-error 0.5") == expected);
    assert!(place.archive("--bits 4 --max-error 0.5") == expected);
    assert!(place.archive("-p int4") != expected);
    // It takes the place of a recipe's.
    fs::write(place.path().join("mine.toml"), limited("int4", "0.001")).unwrap();
    assert!(place.archive("--recipe mine.toml --max-error 0.5") == expected);
    // A refusal is the recipe's, and what was there stays.
    let job = "compress in.safetensors -o out --force --device cpu";
    let (code, of_recipe) = place.said(&format!("{job} --recipe mine.toml"));
    assert_eq!(code, 1, "{of_recipe}");
    let before = tree(place.path());
    let refused = place.said(&format!("{job} -p int4 --max-error 0.001"));
    assert_eq!(refused, (1, of_recipe.clone()));
    assert!(of_recipe.contains("0.001"), "{of_recipe}");
    assert_eq!(tree(place.path()), before);
    // So it is for what --set treats.
    let (code, said) =
        place.said(&format!("{job} -p lossless --set *.mlp.*=int4 --max-error 0.001"));
    assert!(code == 1 && said.contains("layers.0.mlp.weight"), "{code}: {said}");
    let kept = place.archive("-p int4 --keep * --max-error 0.001");
    assert!(kept.len() > expected.len());
}

/// What each is refused with, word for word.
const REFUSED: [(&str, &str); 21] = [
    (
        "",
        "what is to be done? Say --preset NAME, --recipe FILE, --bits N or --target-size SIZE; `tersor presets` lists the presets",
    ),
    (
        "--keep embed.*",
        "what is to be done? Say --preset NAME, --recipe FILE, --bits N or --target-size SIZE; `tersor presets` lists the presets",
    ),
    (
        "-p int8 --recipe r.toml",
        "--preset and --recipe each say what is done to every tensor; leave one out (--keep, --set and --max-error go with either)",
    ),
    (
        "-p int8 --bits 4",
        "--bits and --preset each say what is done to every tensor; leave one out (--keep, --set and --max-error go with either)",
    ),
    (
        "--recipe r.toml --bits 4",
        "--bits and --recipe each say what is done to every tensor; leave one out (--keep, --set and --max-error go with either)",
    ),
    (
        "-p int5",
        "no preset is called \"int5\"; there are: int8, int4, palette8, palette4, coded4, coded3, sparse24, deep, weightless, lossless",
    ),
    (
        "-p int8 --set embed.*=int5",
        "no preset is called \"int5\"; there are: int8, int4, palette8, palette4, coded4, coded3, sparse24, deep, weightless, lossless",
    ),
    ("--bits 9", "--bits is 9, expected 2 to 8, whole; --kind entropy takes any above 0"),
    ("--bits 1", "--bits is 1, expected 2 to 8, whole; --kind entropy takes any above 0"),
    ("--bits 2.5", "--bits is 2.5, expected 2 to 8, whole; --kind entropy takes any above 0"),
    ("--bits nan", "--bits is NaN, expected 2 to 8, whole; --kind entropy takes any above 0"),
    (
        "--bits 0 --kind palette",
        "--bits is 0, expected 1 to 8, whole; --kind entropy takes any above 0",
    ),
    ("--bits 8.5 --kind entropy", "--bits is 8.5, expected above 0, up to 8"),
    (
        "--bits 3 --kind entropy --group 64",
        "--kind entropy has one table for a tensor; leave --group out, or say --group tensor",
    ),
    ("-p int8 --max-error -1", "--max-error is -1, expected a finite number from 0 on"),
    ("-p int8 --max-error inf", "--max-error is inf, expected a finite number from 0 on"),
    ("-p int8 --keep [", "--keep: error parsing glob '[': unclosed character class; missing ']'"),
    ("-p int8 --keep embedding.*", "recipe: --keep embedding.* matches no tensor"),
    (
        "-p int8 --set embedding.*=int4 --keep embedding.*",
        "recipe: --keep embedding.* matches no tensor\n  --set embedding.*=int4 matches no tensor",
    ),
    (
        "-p int8 --set *.norm=int4",
        "recipe: --set *.norm=int4 treats no tensor; of 1 that it matches the first is \"layers.0.norm\": it has fewer than 2 dimensions",
    ),
    (
        "-p int8 --set layers.*=int4 --keep layers.*",
        "recipe: --set layers.*=int4 treats no tensor; of 3 that it matches the first is \"layers.0.attn.weight\": a flag before it decides",
    ),
];

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let place = Place::new();
    fs::write(place.path().join("r.toml"), text("int8")).unwrap();
    let before = tree(place.path());
    for (flags, why) in REFUSED {
        for command in ["plan in.safetensors", "compress in.safetensors -o out"] {
            // Without a recipe a plan is one of all presets.
            if command.starts_with("plan") && why.starts_with("what is to be done?") {
                continue;
            }
            let args = format!("{command} --device cpu {flags}");
            let args = args.trim_end();
            assert_eq!(place.said(args), (2, format!("tersor: {why}\n")), "{args}");
            let done = place.run(&format!("{args} --json"));
            let json: Value = serde_json::from_slice(&done.stdout).unwrap();
            let said = ["ok", "error", "exit_code"].map(|key| json[key].clone());
            assert_eq!(said, [Value::from(false), why.into(), 2.into()]);
        }
    }
    // What cannot be parsed at all.
    for (flags, why) in [
        ("-p int8 --group 64", "required arguments were not provided:\n  --bits <N>"),
        ("-p int8 --kind palette", "required arguments were not provided:\n  --bits <N>"),
        ("--bits 4 --group 0", "expected a number from 1 on, \"channel\" or \"tensor\""),
        ("--bits 4 --group row", "expected a number from 1 on, \"channel\" or \"tensor\""),
        ("-p int8 --set embed.*", "expected GLOB=PRESET, such as \"*.mlp.*=int4\""),
    ] {
        let (code, said) = place.said(&format!("plan in.safetensors {flags}"));
        assert!(code == 2 && said.contains(why), "{flags}: {said}");
    }
    assert_eq!(tree(place.path()), before);
}

#[test]
fn flags_go_before_what_is_known_of_models() {
    let place = Place::new();
    let matrix =
        |name, seed| (name, DType::F32, vec![64, 64], words_of(DType::F32, &noise(seed, 4096)));
    let tensors = [matrix("h.0.mlp.gate.weight", 1), matrix("h.0.mlp.up.weight", 2)];
    write_checkpoint(&place.path().join("in.safetensors"), &tensors);
    for (flags, [gate, up]) in [
        ("-p int8", ["defaults.toml", "*"]),
        ("-p int8 --set *.gate.*=int4", ["--set *.gate.*=int4", "*"]),
        ("-p int8 --keep h.0.mlp.*", ["--keep h.0.mlp.*", "--keep h.0.mlp.*"]),
        // The preset's own rule for everything else does not reach it.
        ("--bits 3", ["defaults.toml", "*"]),
    ] {
        let plan = place.plan(flags);
        assert_eq!([&plan[0]["rule"], &plan[1]["rule"]], [gate, up], "{flags}");
        let treated = plan[0]["method"] != "kept";
        assert_eq!(treated, flags.contains("--set"), "{flags}");
    }
    let kept = place.plan("-p int8").swap_remove(0);
    assert_eq!(kept["reason"], "it routes tokens to experts");
    // Where a default keeps all that a rule of one's own would treat, that is said.
    let recipe = "version = 1\ndefaults = true\n[[rule]]\nmatch = \"*.gate.*\"\nquantize = { kind = \"binary\" }\n[[rule]]\nmatch = \"*\"\nkeep = true\n";
    fs::write(place.path().join("r.toml"), recipe).unwrap();
    let (code, said) = place.said("plan in.safetensors --device cpu --recipe r.toml");
    let why = "tersor: recipe: rule \"*.gate.*\" matches no tensor that the defaults do not keep\n";
    assert_eq!((code, said.as_str()), (2, why));
}
