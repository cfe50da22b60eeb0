//! Recipes: what is wrong, and in which line.

mod rules;
mod transforms;
mod treatments;

use super::{Differences, SAMPLE, binary, entry, file};
use std::fs;
use tersor::{Error, recipe::Recipe};

#[test]
fn recipes_are_refused_in_these_words_and_with_their_line() {
    let dir = crate::support::memory_folder();
    fs::write(
        dir.path().join("in.safetensors"),
        file(format!("{{{}}}", entry("a", "U8", "[1]", "[0,1]")), 1),
    )
    .unwrap();
    let mut differences = Differences::default();
    for (i, (text, expected)) in cases().into_iter().enumerate() {
        let found = match Recipe::parse(&text) {
            Ok(_) => "it is read".into(),
            Err(Error::Recipe(why)) => {
                assert!(!why.lines().any(|l| l.chars().any(char::is_control)), "{why:?}");
                short(&why)
            }
            Err(other) => format!("another kind of error: {other:?}"),
        };
        differences.compare(i, &found, expected);
        if i % SAMPLE == 0 {
            fs::write(dir.path().join("recipe.toml"), &text).unwrap();
            let job = ["compress", "in.safetensors", "--recipe", "recipe.toml", "-o", "out"];
            differences.compare(i, &short(&binary(dir.path(), &job, 2)), expected);
        }
    }
    differences.none();
}

/// A message without the lines of the recipe that it shows.
fn short(why: &str) -> String {
    let shown = |line: &&str| !line.contains(" |");
    why.trim_end().lines().filter(shown).map(str::trim).collect::<Vec<_>>().join(": ")
}

/// A recipe of one rule, whose body starts in line 4.
fn rule(body: &str) -> String {
    format!("version = 1\n[[rule]]\nmatch = \"*\"\n{body}\n")
}

fn prune(what: &str) -> String {
    rule(&format!("prune = {{ {what} }}"))
}

fn quantize(what: &str) -> String {
    rule(&format!("quantize = {{ {what} }}"))
}

fn pruned(what: &str) -> String {
    rule(&format!(
        "prune = {{ kind = \"n:m\", n = 2, m = 4 }}\nquantize = {{ kind = \"palette\", bits = 3 }}\n{what}"
    ))
}

pub fn cases() -> Vec<(String, &'static str)> {
    [rules::cases(), treatments::cases(), transforms::cases()].concat()
}
