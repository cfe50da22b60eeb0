//! Recipes and plans: the shipped ones, and what does not fit; the table of malformed recipes is in `malformed`.

use crate::support::write_checkpoint;
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
    assert!(Recipe::parse(include_str!("../../recipes/binary.toml")).is_ok());
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
