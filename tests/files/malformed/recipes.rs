//! Recipes: what is wrong, and in which line.

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

pub fn cases() -> Vec<(String, &'static str)> {
    // Its body starts in line 4.
    let rule = |body: &str| format!("version = 1\n[[rule]]\nmatch = \"*\"\n{body}\n");
    let prune = |what: &str| rule(&format!("prune = {{ {what} }}"));
    let quantize = |what: &str| rule(&format!("quantize = {{ {what} }}"));
    let pruned = |what: &str| {
        rule(&format!(
            "prune = {{ kind = \"n:m\", n = 2, m = 4 }}\nquantize = {{ kind = \"palette\", bits = 3 }}\n{what}"
        ))
    };
    let text = str::to_owned;
    vec![
        // Not a recipe.
        (text(""), "TOML parse error at line 1, column 1: missing field `version`"),
        (text("not toml"), "TOML parse error at line 1, column 5: key with no value, expected `=`"),
        (text("version = 1"), "it has no rule; expected at least one [[rule]]"),
        (text("version = 1\nrule = []"), "it has no rule; expected at least one [[rule]]"),
        (
            text("version = 1\nrule = 3"),
            "TOML parse error at line 2, column 8: invalid type: integer `3`, expected a sequence",
        ),
        (
            text("version = 1\n[rule]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 2, column 1: invalid type: map, expected a sequence",
        ),
        (
            text("version = 1\n[[rules]]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 2, column 3: unknown field `rules`, expected one of `version`, `defaults`, `rule`",
        ),
        (text("version = 1\nversion = 1"), "TOML parse error at line 2, column 1: duplicate key"),
        (
            text("[[rule]]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 1, column 1: missing field `version`",
        ),
        (
            text("version = 0\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            "version 0 is not known, expected 1",
        ),
        (
            text("version = 2\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            "version 2 is not known, expected 1",
        ),
        (
            text("version = -1\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 1, column 11: invalid value: integer `-1`, expected u32",
        ),
        (
            text("version = \"1\"\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            r#"TOML parse error at line 1, column 11: invalid type: string "1", expected u32"#,
        ),
        (
            text("version = 1.0\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 1, column 11: invalid type: floating point `1.0`, expected u32",
        ),
        (
            text("version = 1\nname = \"mine\"\n[[rule]]\nmatch = \"*\"\nkeep = true"),
            "TOML parse error at line 2, column 1: unknown field `name`, expected one of `version`, `defaults`, `rule`",
        ),
        (
            text("version = 1\n[[rule]]\nmatch = \"*\nkeep = true"),
            r#"TOML parse error at line 3, column 11: invalid basic string, expected `"`"#,
        ),
        (
            text("version = 1\n[[rule]]\nmatch = \"\u{1b}[31m\"\nkeep = true"),
            r#"TOML parse error at line 3, column 10: invalid basic string, expected non-double-quote visible characters, `\`"#,
        ),
        (
            text("version = 1\n[[rule]]\nmatch = \"*\"\n\u{1b}[31m = true"),
            "TOML parse error at line 4, column 2: key with no value, expected `=`",
        ),
        // What a rule matches.
        (
            text("version = 1\n[[rule]]\nkeep = true"),
            r#"line 2, rule 1 (""): expected either match = "glob" or regex = "expression""#,
        ),
        (
            rule("keep = true\nregex = \"x\""),
            r#"line 2, rule 1 ("*"): expected either match = "glob" or regex = "expression""#,
        ),
        (rule("keep = true\nmatch = \"x\""), "TOML parse error at line 5, column 1: duplicate key"),
        (
            text("version = 1\n[[rule]]\nmatch = 1\nkeep = true"),
            "TOML parse error at line 3, column 9: invalid type: integer `1`, expected a string",
        ),
        (
            text("version = 1\n[[rule]]\nmatch = [\"a\", \"b\"]\nkeep = true"),
            "TOML parse error at line 3, column 9: invalid type: sequence, expected a string",
        ),
        (
            text("version = 1\n[[rule]]\nmatch = \"[\"\nkeep = true"),
            r#"line 2, rule 1 ("["): error parsing glob '[': unclosed character class; missing ']'"#,
        ),
        (
            text("version = 1\n[[rule]]\nmatch = \"{a\"\nkeep = true"),
            r#"line 2, rule 1 ("{a"): error parsing glob '{a': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)"#,
        ),
        (
            text("version = 1\n[[rule]]\nregex = \"(\"\nkeep = true"),
            r#"line 2, rule 1 ("("): regex parse error:: ^(?:()$: ^: error: unclosed group"#,
        ),
        (
            text("version = 1\n[[rule]]\nregex = \"a{1000}{1000}{1000}\"\nkeep = true"),
            r#"line 2, rule 1 ("a{1000}{1000}{1000}"): Compiled regex exceeds size limit of 10485760 bytes."#,
        ),
        (
            text("version = 1\n[[rule]]\nregex = \"(?=a)\"\nkeep = true"),
            r#"line 2, rule 1 ("(?=a)"): regex parse error:: ^(?:(?=a))$: ^^^: error: look-around, including look-ahead and look-behind, is not supported"#,
        ),
        (
            rule("keep = true\nmin_dims = -1"),
            "TOML parse error at line 5, column 12: invalid value: integer `-1`, expected usize",
        ),
        (
            rule("keep = true\nmin_dims = \"2\""),
            r#"TOML parse error at line 5, column 12: invalid type: string "2", expected usize"#,
        ),
        (
            rule("keep = true\nmin_elements = 1.5"),
            "TOML parse error at line 5, column 16: invalid type: floating point `1.5`, expected u64",
        ),
        (rule("keep = true\ndtype = \"F99\""), r#"line 2, rule 1 ("*"): dtype "F99" is not known"#),
        (
            rule("keep = true\ndtype = [\"F32\", \"f16\"]"),
            r#"line 2, rule 1 ("*"): dtype "f16" is not known"#,
        ),
        (
            rule("keep = true\ndtype = 32"),
            "TOML parse error at line 5, column 9: expected one value or a list of them",
        ),
        (
            rule("keep = true\noptional = 1"),
            "TOML parse error at line 5, column 12: invalid type: integer `1`, expected a boolean",
        ),
        // What it does.
        (
            rule(""),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("keep = false"),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("keep = \"yes\""),
            r#"TOML parse error at line 4, column 8: invalid type: string "yes", expected a boolean"#,
        ),
        (
            rule("keeep = true"),
            "TOML parse error at line 4, column 1: unknown field `keeep`, expected one of `match`, `regex`, `role`, `min_dims`, `min_elements`, `dtype`, `optional`, `keep`, `why`, `axis`, `prune`, `transform`, `quantize`, `encode`, `importance`, `nonfinite`, `max_rel_error`",
        ),
        (
            rule("keep = true\nKeep = true"),
            "TOML parse error at line 5, column 1: unknown field `Keep`, expected one of `match`, `regex`, `role`, `min_dims`, `min_elements`, `dtype`, `optional`, `keep`, `why`, `axis`, `prune`, `transform`, `quantize`, `encode`, `importance`, `nonfinite`, `max_rel_error`",
        ),
        (
            rule("keep = true\nprune = { kind = \"n:m\", n = 2, m = 4 }"),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("keep = true\nquantize = { kind = \"binary\" }"),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("keep = true\naxis = 1"),
            r#"line 2, rule 1 ("*"): axis does nothing where keep = true; leave it out"#,
        ),
        (
            rule("keep = true\nencode = \"raw\""),
            r#"line 2, rule 1 ("*"): encode does nothing where keep = true; leave it out"#,
        ),
        (
            rule("keep = true\nimportance = \"x\""),
            r#"line 2, rule 1 ("*"): importance does nothing where keep = true; leave it out"#,
        ),
        (
            rule("keep = true\nnonfinite = \"error\""),
            r#"line 2, rule 1 ("*"): nonfinite does nothing where keep = true; leave it out"#,
        ),
        (
            rule("keep = true\nmax_rel_error = 0.5"),
            r#"line 2, rule 1 ("*"): max_rel_error does nothing where keep = true; leave it out"#,
        ),
        (
            rule("encode = \"raw\""),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\naxis = 2"),
            r#"line 2, rule 1 ("*"): axis is 2, expected 0 or 1"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\naxis = -1"),
            "TOML parse error at line 5, column 8: invalid value: integer `-1`, expected u8",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\naxis = 256"),
            "TOML parse error at line 5, column 8: invalid value: integer `256`, expected u8",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nnonfinite = \"skip\""),
            "TOML parse error at line 5, column 13: unknown variant `skip`, expected `keep` or `error`",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nmax_rel_error = -1"),
            r#"line 2, rule 1 ("*"): max_rel_error is -1, expected a finite number from 0 on"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nmax_rel_error = nan"),
            r#"line 2, rule 1 ("*"): max_rel_error is NaN, expected a finite number from 0 on"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nmax_rel_error = inf"),
            r#"line 2, rule 1 ("*"): max_rel_error is inf, expected a finite number from 0 on"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nmax_rel_error = \"1\""),
            r#"TOML parse error at line 5, column 17: invalid type: string "1", expected f64"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nimportance = 7"),
            "TOML parse error at line 5, column 14: invalid type: integer `7`, expected path string",
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nimportance = \"x\""),
            r#"line 2, rule 1 ("*"): importance weighs the squared errors of palettes, vectors and trellises; expected one"#,
        ),
        (
            rule("quantize = { kind = \"trellis\", bits = 2 }\nencode = \"huffman\""),
            r#"line 2, rule 1 ("*"): codes of a trellis are paths, which rANS codes; leave encode out, or say "rans" or "auto""#,
        ),
        (
            rule(
                "quantize = { kind = \"trellis\", bits = 2 }\nprune = { kind = \"n:m\", n = 2, m = 4 }\nencode = \"ribbon\"",
            ),
            r#"line 2, rule 1 ("*"): codes of a trellis are paths, which rANS codes; leave encode out, or say "rans" or "auto""#,
        ),
        (
            rule("quantize = { kind = \"trellis\", bits = 2, states = 12 }\nencode = \"rans\""),
            r#"line 2, rule 1 ("*"): states is 12, expected 4, 8, 16, 32 or 64"#,
        ),
        (
            rule("quantize = { kind = \"trellis\", bits = 6.5 }\nencode = \"rans\""),
            r#"line 2, rule 1 ("*"): expected one of bits = 0.25 to 6, max_error = 0.005 to 0.9"#,
        ),
        (
            rule("quantize = { kind = \"trellis\", bits = 2, max_error = 0.1 }\nencode = \"rans\""),
            r#"line 2, rule 1 ("*"): expected one of bits = 0.25 to 6, max_error = 0.005 to 0.9"#,
        ),
        (
            rule("quantize = { kind = \"trellis\", max_error = 0.0 }\nencode = \"rans\""),
            r#"line 2, rule 1 ("*"): expected one of bits = 0.25 to 6, max_error = 0.005 to 0.9"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 6, k = 4 }"),
            r#"line 2, rule 1 ("*"): n is 6, expected 4 to 64, a multiple of 4"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 68, k = 4 }"),
            r#"line 2, rule 1 ("*"): n is 68, expected 4 to 64, a multiple of 4"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8 }"),
            r#"line 2, rule 1 ("*"): expected one of k = 1 to 127, bits above 0 and up to 16"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, k = 3, bits = 3 }"),
            r#"line 2, rule 1 ("*"): k and bits each say how many pulses there are; leave one out"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, k = 0 }"),
            r#"line 2, rule 1 ("*"): k is 0, expected 1 to 127"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, k = 300 }"),
            r#"line 2, rule 1 ("*"): k is 300, expected 1 to 127"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = -4, k = 3 }"),
            r#"line 2, rule 1 ("*"): n is -4, expected 4 to 64, a multiple of 4"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, bits = 99 }"),
            r#"line 2, rule 1 ("*"): bits is 99, expected above 0 and up to 16"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, bits = nan }"),
            r#"line 2, rule 1 ("*"): bits is NaN, expected above 0 and up to 16"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 300, k = 4 }"),
            r#"line 2, rule 1 ("*"): d is 300, expected 1 to 16 weights of a vector"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 4, seed = -1 }"),
            r#"line 2, rule 1 ("*"): seed is -1, expected 0 to 9223372036854775807"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 64, k = 127 }"),
            r#"line 2, rule 1 ("*"): k is 127, which takes more than 120 bits for n = 64"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, bits = 0.5 }"),
            r#"line 2, rule 1 ("*"): bits is 0.5, too few for a pulse and a gain in 8 weights"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, k = 4, gain_bits = 11 }"),
            r#"line 2, rule 1 ("*"): gain_bits is 11, expected 1 to 10"#,
        ),
        (
            rule("quantize = { kind = \"pyramid\", n = 8, k = 4 }\nencode = \"auto\""),
            r#"line 2, rule 1 ("*"): all numbers of a pyramid are about as likely; leave encode out"#,
        ),
        (
            rule(
                "quantize = { kind = \"pyramid\", n = 8, k = 4 }\nprune = { kind = \"n:m\", n = 2, m = 4 }",
            ),
            r#"line 2, rule 1 ("*"): pyramids hold all weights; leave prune out"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 0, k = 4 }"),
            r#"line 2, rule 1 ("*"): d is 0, expected 1 to 16 weights of a vector"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 17, k = 4 }"),
            r#"line 2, rule 1 ("*"): d is 17, expected 1 to 16 weights of a vector"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 1 }"),
            r#"line 2, rule 1 ("*"): k is 1, expected 2 to 65536 entries"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 65537 }"),
            r#"line 2, rule 1 ("*"): k is 65537, expected 2 to 65536 entries"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 16, stages = 2 }"),
            r#"line 2, rule 1 ("*"): stages are of a residual quantizer; expected kind = "residual""#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 16, spaces = 2 }"),
            r#"line 2, rule 1 ("*"): spaces are of a product; expected kind = "product""#,
        ),
        (
            rule("quantize = { kind = \"product\", d = 4, k = 16 }"),
            r#"line 2, rule 1 ("*"): a product has sub-spaces; expected spaces = 2 or more"#,
        ),
        (
            rule("quantize = { kind = \"product\", d = 4, k = 16, spaces = 0 }"),
            r#"line 2, rule 1 ("*"): spaces is 0, expected 1 to 1048576"#,
        ),
        (
            rule("quantize = { kind = \"residual\", d = 4, k = 16 }"),
            r#"line 2, rule 1 ("*"): a residual quantizer has stages; expected stages = 2 to 8"#,
        ),
        (
            rule("quantize = { kind = \"residual\", d = 4, k = 16, stages = 9 }"),
            r#"line 2, rule 1 ("*"): stages is 9, expected 1 to 8"#,
        ),
        (
            rule(
                "prune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"vector\", d = 4, k = 16 }",
            ),
            r#"line 2, rule 1 ("*"): vectors hold all weights; leave prune out"#,
        ),
        (
            rule("quantize = { kind = \"vector\", d = 4, k = 16 }\nencode = \"ribbon\""),
            r#"line 2, rule 1 ("*"): ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor"#,
        ),
        (
            rule("quantize = { kind = \"binary\" }\nimportance = \"x\""),
            r#"line 2, rule 1 ("*"): importance weighs the squared errors of palettes, vectors and trellises; expected one"#,
        ),
        (
            rule("quantize = { kind = \"entropy\", bits = 2 }\nimportance = \"x\""),
            r#"line 2, rule 1 ("*"): importance weighs the squared errors of palettes, vectors and trellises; expected one"#,
        ),
        (
            rule(
                "quantize = { kind = \"affine\", bits = 4, objective = \"mse\" }\nimportance = \"x\"",
            ),
            r#"line 2, rule 1 ("*"): importance weighs the squared errors of palettes, vectors and trellises; expected one"#,
        ),
        // prune
        (
            rule("prune = \"magnitude\""),
            r#"TOML parse error at line 4, column 9: invalid type: string "magnitude", expected a table such as { kind = "magnitude", density = 0.5 }"#,
        ),
        (prune("density = 0.5"), "TOML parse error at line 4, column 9: missing field `kind`"),
        (
            prune("kind = \"random\", density = 0.5"),
            "TOML parse error at line 4, column 18: unknown variant `random`, expected one of `magnitude`, `n:m`, `channel`, `block`",
        ),
        (
            prune("kind = \"magnitude\""),
            "TOML parse error at line 4, column 9: missing field `density`",
        ),
        (
            prune("kind = \"magnitude\", dens = 1"),
            "TOML parse error at line 4, column 9: unknown field `dens`, expected one of `density`, `scope`, `once`",
        ),
        (
            prune("kind = \"magnitude\", density = 1.5"),
            r#"line 2, rule 1 ("*"): density is 1.5, expected 0 to 1"#,
        ),
        (
            prune("kind = \"magnitude\", density = -0.1"),
            r#"line 2, rule 1 ("*"): density is -0.1, expected 0 to 1"#,
        ),
        (
            prune("kind = \"magnitude\", density = nan"),
            r#"line 2, rule 1 ("*"): density is NaN, expected 0 to 1"#,
        ),
        (
            prune("kind = \"magnitude\", density = \"half\""),
            r#"TOML parse error at line 4, column 9: invalid type: string "half", expected f64"#,
        ),
        (
            prune("kind = \"magnitude\", density = 0.5, scope = \"layer\""),
            "TOML parse error at line 4, column 9: unknown variant `layer`, expected one of `tensor`, `row`, `model`",
        ),
        (
            prune("kind = \"magnitude\", density = 0.5, once = 1"),
            "TOML parse error at line 4, column 9: invalid type: integer `1`, expected a boolean",
        ),
        (
            prune("kind = \"magnitude\", density = 0.5, norm = \"l2\""),
            "TOML parse error at line 4, column 9: unknown field `norm`, expected one of `density`, `scope`, `once`",
        ),
        (
            prune("kind = \"n:m\", n = 4, m = 4"),
            r#"line 2, rule 1 ("*"): n:m is 4:4, expected 1 <= n < m <= 16"#,
        ),
        (
            prune("kind = \"n:m\", n = 0, m = 4"),
            r#"line 2, rule 1 ("*"): n:m is 0:4, expected 1 <= n < m <= 16"#,
        ),
        (
            prune("kind = \"n:m\", n = 2, m = 17"),
            r#"line 2, rule 1 ("*"): n:m is 2:17, expected 1 <= n < m <= 16"#,
        ),
        (prune("kind = \"n:m\", n = 2"), "TOML parse error at line 4, column 9: missing field `m`"),
        (
            prune("kind = \"n:m\", n = -2, m = 4"),
            "TOML parse error at line 4, column 9: invalid value: integer `-2`, expected u32",
        ),
        (
            prune("kind = \"channel\", density = 2"),
            r#"line 2, rule 1 ("*"): density is 2, expected 0 to 1"#,
        ),
        (
            prune("kind = \"channel\", density = 0.5, norm = \"l3\""),
            "TOML parse error at line 4, column 9: unknown variant `l3`, expected `l1` or `l2`",
        ),
        (
            prune("kind = \"block\", density = 0.5"),
            "TOML parse error at line 4, column 9: missing field `block`",
        ),
        (
            prune("kind = \"block\", density = 0.5, block = [0, 4]"),
            r#"line 2, rule 1 ("*"): block is [0, 4], expected at least [1, 1]"#,
        ),
        (
            prune("kind = \"block\", density = 0.5, block = [4]"),
            "TOML parse error at line 4, column 9: invalid length 1, expected an array of length 2",
        ),
        (
            prune("kind = \"block\", density = 0.5, block = [4, 4, 4]"),
            "TOML parse error at line 4, column 9: invalid length 3, expected 2 elements in sequence",
        ),
        (
            prune("kind = \"block\", density = 0.5, block = 4"),
            "TOML parse error at line 4, column 9: invalid type: integer `4`, expected an array of length 2",
        ),
        // quantize
        (
            rule("quantize = 8"),
            r#"TOML parse error at line 4, column 12: invalid type: integer `8`, expected a table such as { kind = "affine", bits = 8 }"#,
        ),
        (quantize("bits = 8"), "TOML parse error at line 4, column 12: missing field `kind`"),
        (
            quantize("kind = \"cube\", bits = 8"),
            "TOML parse error at line 4, column 21: unknown variant `cube`, expected one of `affine`, `palette`, `vector`, `product`, `residual`, `pyramid`, `trellis`, `binary`, `entropy`",
        ),
        (
            quantize("kind = \"affine\""),
            "TOML parse error at line 4, column 12: missing field `bits`",
        ),
        (
            quantize("kind = \"affine\", bits = 1"),
            r#"line 2, rule 1 ("*"): bits is 1, expected 2 to 8"#,
        ),
        (
            quantize("kind = \"affine\", bits = 9"),
            r#"line 2, rule 1 ("*"): bits is 9, expected 2 to 8"#,
        ),
        (
            quantize("kind = \"affine\", bits = 256"),
            "TOML parse error at line 4, column 12: invalid value: integer `256`, expected u8",
        ),
        (
            quantize("kind = \"affine\", bits = -4"),
            "TOML parse error at line 4, column 12: invalid value: integer `-4`, expected u8",
        ),
        (
            quantize("kind = \"affine\", bits = 4.0"),
            "TOML parse error at line 4, column 12: invalid type: floating point `4.0`, expected u8",
        ),
        (
            quantize("kind = \"affine\", bits = 4, symmetric = \"no\""),
            r#"TOML parse error at line 4, column 12: invalid type: string "no", expected a boolean"#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"row\""),
            "TOML parse error at line 4, column 12: unknown variant `row`, expected one of `tensor`, `channel`, `group`",
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"group\""),
            r#"line 2, rule 1 ("*"): granularity is "group", but group is missing"#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, group = 32"),
            r#"line 2, rule 1 ("*"): group is given, but granularity is not "group""#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"group\", group = 0"),
            r#"line 2, rule 1 ("*"): group is 0, expected at least 1"#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"group\", group = -1"),
            "TOML parse error at line 4, column 12: expected one value or a list of them",
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"group\", group = \"col\""),
            r#"line 2, rule 1 ("*"): group is "col", expected a number or "row""#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, granularity = \"group\", group = []"),
            r#"line 2, rule 1 ("*"): granularity is "group", but group is missing"#,
        ),
        (
            quantize("kind = \"affine\", bits = 4, objective = \"mae\""),
            "TOML parse error at line 4, column 12: unknown variant `mae`, expected `range` or `mse`",
        ),
        (
            quantize("kind = \"affine\", bits = 4, scales = \"f16\""),
            "TOML parse error at line 4, column 12: unknown variant `f16`, expected `f32` or `bf16`",
        ),
        (
            quantize("kind = \"palette\", bits = 4, scales = \"bf16\""),
            "TOML parse error at line 4, column 12: unknown field `scales`, expected one of `bits`, `k`, `max_error`, `granularity`, `group`",
        ),
        (
            quantize("kind = \"affine\", bits = 4, k = 16"),
            "TOML parse error at line 4, column 12: unknown field `k`, expected one of `bits`, `symmetric`, `granularity`, `group`, `objective`, `scales`",
        ),
        (
            quantize("kind = \"palette\""),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", bits = 0"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", bits = 9"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", k = 1"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", k = 300"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", k = 4, bits = 2"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", max_error = -1.0"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", max_error = nan"),
            r#"line 2, rule 1 ("*"): expected one of bits = 1 to 8, k = 2 to 256, max_error from 0 on"#,
        ),
        (
            quantize("kind = \"palette\", max_error = 0.1, granularity = \"channel\""),
            r#"line 2, rule 1 ("*"): max_error chooses one table for a tensor; leave granularity out"#,
        ),
        (
            quantize("kind = \"palette\", k = 4, granularity = \"group\", group = \"row\""),
            r#"line 2, rule 1 ("*"): a palette's group is a number of rows; expected numbers"#,
        ),
        (
            quantize("kind = \"binary\", bits = 1"),
            "TOML parse error at line 4, column 12: unknown field `bits`, there are no fields",
        ),
        (
            quantize("kind = \"entropy\""),
            "TOML parse error at line 4, column 12: missing field `bits`",
        ),
        (
            quantize("kind = \"entropy\", bits = 0"),
            r#"line 2, rule 1 ("*"): bits is 0, expected above 0, up to 8"#,
        ),
        (
            quantize("kind = \"entropy\", bits = -1.5"),
            r#"line 2, rule 1 ("*"): bits is -1.5, expected above 0, up to 8"#,
        ),
        (
            quantize("kind = \"entropy\", bits = 8.01"),
            r#"line 2, rule 1 ("*"): bits is 8.01, expected above 0, up to 8"#,
        ),
        (
            quantize("kind = \"entropy\", bits = nan"),
            r#"line 2, rule 1 ("*"): bits is NaN, expected above 0, up to 8"#,
        ),
        (
            quantize("kind = \"entropy\", bits = inf"),
            r#"line 2, rule 1 ("*"): bits is inf, expected above 0, up to 8"#,
        ),
        (
            quantize("kind = \"entropy\", bits = \"2\""),
            r#"TOML parse error at line 4, column 12: invalid type: string "2", expected f64"#,
        ),
        (
            quantize("kind = \"entropy\", bits = 2, k = 4"),
            "TOML parse error at line 4, column 12: unknown field `k`, expected `bits`",
        ),
        // encode
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nencode = \"zip\""),
            r#"TOML parse error at line 5, column 10: encode is not known, expected "raw", "huffman", "rans", "auto", "ribbon", "bloomier", or { kind = "ribbon", max_error = 0.1 }"#,
        ),
        (
            rule("quantize = { kind = \"affine\", bits = 8 }\nencode = 1"),
            r#"TOML parse error at line 5, column 10: encode is not known, expected "raw", "huffman", "rans", "auto", "ribbon", "bloomier", or { kind = "ribbon", max_error = 0.1 }"#,
        ),
        (
            rule("encode = { kind = \"ribbon\", max_error = 0.1 }"),
            r#"line 2, rule 1 ("*"): ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor"#,
        ),
        (
            pruned("encode = { kind = \"ribbon\" }"),
            r#"TOML parse error at line 6, column 10: encode is not known, expected "raw", "huffman", "rans", "auto", "ribbon", "bloomier", or { kind = "ribbon", max_error = 0.1 }"#,
        ),
        (
            pruned("encode = { kind = \"ribbon\", max_error = 0.1, bits = 4 }"),
            r#"TOML parse error at line 6, column 10: encode is not known, expected "raw", "huffman", "rans", "auto", "ribbon", "bloomier", or { kind = "ribbon", max_error = 0.1 }"#,
        ),
        (
            pruned("encode = { kind = \"huffman\", max_error = 0.1 }"),
            r#"TOML parse error at line 6, column 10: encode is not known, expected "raw", "huffman", "rans", "auto", "ribbon", "bloomier", or { kind = "ribbon", max_error = 0.1 }"#,
        ),
        (
            pruned("encode = { kind = \"ribbon\", max_error = 0.0 }"),
            r#"line 2, rule 1 ("*"): max_error is 0, expected a number above 0"#,
        ),
        (
            pruned("encode = { kind = \"ribbon\", max_error = -1.0 }"),
            r#"line 2, rule 1 ("*"): max_error is -1, expected a number above 0"#,
        ),
        (
            pruned("encode = { kind = \"bloomier\", max_error = inf }"),
            r#"line 2, rule 1 ("*"): max_error is inf, expected a number above 0"#,
        ),
        (
            rule("quantize = { kind = \"palette\", bits = 3 }\nencode = \"ribbon\""),
            r#"line 2, rule 1 ("*"): ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor"#,
        ),
        (
            rule("prune = { kind = \"n:m\", n = 2, m = 4 }\nencode = \"bloomier\""),
            r#"line 2, rule 1 ("*"): ribbon and bloomier hold the codes of what survives; expected prune, and one palette for a tensor"#,
        ),
        // Transforms.
        (
            rule("transform = \"wavelet\"\nquantize = { kind = \"affine\", bits = 4 }"),
            r#"TOML parse error at line 4, column 13: transform is not known, expected "hadamard", "dct", or { kind = "hadamard", block = 128, seed = 1 }"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", size = 8 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"TOML parse error at line 4, column 13: transform is not known, expected "hadamard", "dct", or { kind = "hadamard", block = 128, seed = 1 }"#,
        ),
        (
            rule("transform = { block = 8 }\nquantize = { kind = \"affine\", bits = 4 }"),
            r#"TOML parse error at line 4, column 13: transform is not known, expected "hadamard", "dct", or { kind = "hadamard", block = 128, seed = 1 }"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", block = -8 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): block is -8, expected a power of two from 8 to 32"#,
        ),
        (
            rule(
                "transform = { kind = \"hadamard\", seed = 4294967296 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): seed is 4294967296, expected 0 to 4294967295"#,
        ),
        (
            rule(
                "transform = { kind = \"hadamard\", seed = -1 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): seed is -1, expected 0 to 4294967295"#,
        ),
        (
            rule("transform = \"dct\""),
            r#"line 2, rule 1 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
        (
            rule("transform = \"dct\"\nencode = \"auto\""),
            r#"line 2, rule 1 ("*"): transform prepares rows for quantize; expected one"#,
        ),
        (
            rule("transform = \"dct\"\nkeep = true"),
            r#"line 2, rule 1 ("*"): transform does nothing where keep = true; leave it out"#,
        ),
        (
            rule(
                "transform = { kind = \"hadamard\", block = 4 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): block is 4, expected a power of two from 8 to 256"#,
        ),
        (
            rule(
                "transform = { kind = \"hadamard\", block = 96 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): block is 96, expected a power of two from 8 to 256"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", block = 64 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): block is 64, expected a power of two from 8 to 32"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", seed = 1 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): seed is of the signs of a Hadamard transform; a cosine transform has none"#,
        ),
        (
            rule(
                "transform = { kind = \"hadamard\", quantization = \"jpeg\" }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization is a step for every frequency of a cosine transform"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = \"mpeg\" }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization is "mpeg", expected "jpeg" or a list of steps"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = [1, 2] }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization has 2 steps, expected one for each of the 8, 16 or 32 weights of a block"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = [] }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization has 0 steps, expected one for each of the 8, 16 or 32 weights of a block"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", block = 16, quantization = \"jpeg\" }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization has 8 steps, expected one for each of the 16 weights of a block"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = [1, 1, 1, 0, 1, 1, 1, 1] }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization has a step of 0, expected 1 to 255"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = [1, 1, 1, 256, 1, 1, 1, 1] }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): quantization has a step of 256, expected 1 to 255"#,
        ),
        (
            rule(
                "transform = \"dct\"\nprune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"affine\", bits = 4 }",
            ),
            r#"line 2, rule 1 ("*"): prune does not go with transform: weights that are zero are no zeros once they are transformed"#,
        ),
        (
            rule(
                "transform = \"dct\"\nimportance = \"w\"\nquantize = { kind = \"palette\", bits = 3 }",
            ),
            r#"line 2, rule 1 ("*"): importance does not go with transform: coefficients are sums of weights of unequal importance"#,
        ),
        (
            rule(
                "transform = { kind = \"dct\", quantization = \"jpeg\" }\nquantize = { kind = \"palette\", max_error = 0.1 }",
            ),
            r#"line 2, rule 1 ("*"): max_error does not go with steps: the errors of coefficients are not those of weights"#,
        ),
        // The second rule.
        (
            text(
                "version = 1\n\n[[rule]]\nmatch = \"a\"\nkeep = true\n\n[[rule]] # here\nmatch = \"*\"\n",
            ),
            r#"line 7, rule 2 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
    ]
}
