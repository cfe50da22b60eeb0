//! Recipes and plans: the shipped ones, and what is refused.

mod support;
use support::write_checkpoint;
use tersor::{
    DType, Error,
    format::Checkpoint,
    plan::{Action, Plan},
    recipe::{PRESETS, Quantize, Recipe},
};

fn rule(body: &str) -> String {
    format!("version = 1\n[[rule]]\nmatch = \"*\"\n{body}\n")
}

#[test]
fn every_preset_parses() {
    for (name, _) in PRESETS {
        assert!(Recipe::preset(name).is_ok(), "{name}");
    }
    assert!(matches!(Recipe::preset("int9"), Err(Error::Usage(_))));
    assert!(Recipe::parse(include_str!("../recipes/binary.toml")).is_ok());
}

#[test]
fn bits_of_entropy_may_be_any_number_up_to_eight() {
    for (bits, expected) in [("2.5", 2.5), ("3", 3.0), ("8", 8.0), ("1e-3", 1e-3)] {
        let text = rule(&format!("quantize = {{ kind = \"entropy\", bits = {bits} }}"));
        let recipe = Recipe::parse(&text).unwrap();
        assert_eq!(recipe.rules[0].treatment.quantize, Some(Quantize::Entropy { bits: expected }));
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let cases = [
        (rule("keeep = true"), "line 4"),
        (rule("keeep = true"), "unknown field `keeep`"),
        (rule("prune = { kind = \"magnitude\", dens = 1 }"), "line 4"),
        (rule("quantize = { kind = \"affine\", bits = 9 }"), "bits is 9, expected 2 to 8"),
        (
            rule("quantize = { kind = \"affine\", bits = 4, granularity = \"group\" }"),
            "group is missing",
        ),
        (rule("quantize = { kind = \"affine\", bits = 4, group = 32 }"), "granularity is not"),
        (
            rule("quantize = { kind = \"palette\" }"),
            "expected one of bits = 1 to 8, k = 2 to 256, max_error",
        ),
        (rule("quantize = { kind = \"palette\", k = 300 }"), "k = 2 to 256"),
        (rule("quantize = { kind = \"binary\", bits = 1 }"), "unknown field `bits`"),
        (rule("quantize = { kind = \"binary\" }\nimportance = \"x\""), "importance weighs"),
        (rule("quantize = { kind = \"entropy\" }"), "missing field `bits`"),
        (
            rule("quantize = { kind = \"entropy\", bits = 0 }"),
            "bits is 0, expected above 0, up to 8",
        ),
        (rule("quantize = { kind = \"entropy\", bits = -1.5 }"), "bits is -1.5"),
        (rule("quantize = { kind = \"entropy\", bits = 8.01 }"), "bits is 8.01"),
        (rule("quantize = { kind = \"entropy\", bits = nan }"), "bits is NaN"),
        (rule("quantize = { kind = \"entropy\", bits = inf }"), "bits is inf"),
        (rule("quantize = { kind = \"entropy\", bits = \"2\" }"), "invalid type: string"),
        (rule("quantize = { kind = \"entropy\", bits = 2, k = 4 }"), "unknown field `k`"),
        (
            rule("quantize = { kind = \"entropy\", bits = 2 }\nimportance = \"x\""),
            "importance weighs",
        ),
        (rule("prune = { kind = \"magnitude\", density = 1.5 }"), "density is 1.5"),
        (rule("prune = { kind = \"n:m\", n = 4, m = 4 }"), "n:m is 4:4"),
        (rule("prune = { kind = \"block\", density = 0.5, block = [0, 4] }"), "block is [0, 4]"),
        (rule("keep = true\nprune = { kind = \"n:m\", n = 2, m = 4 }"), "expected keep = true, or"),
        (rule(""), "expected keep = true, or"),
        (rule("quantize = { kind = \"affine\", bits = 8 }\naxis = 2"), "axis is 2"),
        (rule("keep = true\naxis = 1"), "axis does nothing"),
        (rule("keep = true\nmax_rel_error = 0.5"), "max_rel_error does nothing"),
        (rule("keep = true\nnonfinite = \"error\""), "nonfinite does nothing"),
        (rule("keep = true\nencode = \"raw\""), "encode does nothing"),
        (rule("keep = true\nimportance = \"x\""), "importance does nothing"),
        (rule("keep = true\nregex = \"x\""), "either match"),
        (rule("keep = true\ndtype = \"F99\""), "dtype \"F99\" is not known"),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nimportance = \"x\""),
            "importance weighs",
        ),
        (
            rule(
                "quantize = { kind = \"affine\", bits = 4, objective = \"mse\" }\nimportance = \"x\"",
            ),
            "importance weighs the squared errors of palettes",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nencode = \"zip\""),
            "encode is not known, expected",
        ),
        (
            rule("encode = { kind = \"ribbon\", max_error = 0.1 }"),
            "ribbon and bloomier hold the codes",
        ),
        (
            rule(
                "prune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"palette\", bits = 3 }\nencode = { kind = \"ribbon\", max_error = 0.0 }",
            ),
            "max_error is 0",
        ),
        (rule("quantize = { kind = \"palette\", max_error = -1.0 }"), "max_error from 0 on"),
        (
            rule("quantize = { kind = \"palette\", max_error = 0.1, granularity = \"channel\" }"),
            "leave granularity out",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nmax_rel_error = -1"),
            "max_rel_error is -1",
        ),
        ("version = 2\n[[rule]]\nmatch = \"*\"\nkeep = true".into(), "version 2 is not known"),
        ("version = 1".into(), "no rule"),
        ("not toml".into(), "line 1"),
    ];
    for (text, expected) in cases {
        let error = Recipe::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn everything_that_does_not_fit_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.safetensors");
    let zeros = |n| vec![0; n];
    write_checkpoint(
        &path,
        &[
            ("a.weight", DType::F32, vec![10, 30], zeros(300)),
            ("b.weight", DType::F32, vec![10, 31], zeros(310)),
            ("c.weight", DType::F32, vec![10, 32], zeros(320)),
            ("d", DType::F32, vec![5], zeros(5)),
        ],
    );
    let checkpoint = Checkpoint::open(&path).unwrap();
    let plan = |text: &str| Plan::new(&checkpoint, &Recipe::parse(text).unwrap(), 1 << 20, 2);
    let text = "version = 1\n[[rule]]\nmatch = \"nothing*\"\nkeep = true\n[[rule]]\nmatch = \"*.weight\"\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = 16 }\n";
    let error = plan(text).unwrap_err().to_string();
    for expected in [
        "\"a.weight\"",
        "\"b.weight\"",
        "group 16",
        "no rule matches tensor \"d\"",
        "\"nothing*\" matches no tensor",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("c.weight"), "{error}");
    // The first matching rule wins; a treated form that is not smaller is kept.
    let text = "version = 1\n[[rule]]\nregex = \"[ab]\\\\.weight$\"\nquantize = { kind = \"affine\", bits = 8 }\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"palette\", k = 256 }\n";
    let planned = plan(text).unwrap();
    let kinds: Vec<bool> =
        planned.steps.iter().map(|s| matches!(s.action, Action::Treat(_))).collect();
    let names: Vec<_> = checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
    for (name, treated) in names.iter().zip(kinds) {
        assert_eq!(treated, ["a.weight", "b.weight"].contains(name), "{name}");
    }
}
