//! What is no recipe, what a rule matches, and what it does.

use super::rule;

pub fn cases() -> Vec<(String, &'static str)> {
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
        // The second rule.
        (
            text(
                "version = 1\n\n[[rule]]\nmatch = \"a\"\nkeep = true\n\n[[rule]] # here\nmatch = \"*\"\n",
            ),
            r#"line 7, rule 2 ("*"): expected keep = true, or one or more of prune, quantize, encode"#,
        ),
    ]
}
