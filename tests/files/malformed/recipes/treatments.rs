//! What survives, what a weight becomes, and how that is coded.

use super::{prune, pruned, quantize, rule};

pub fn cases() -> Vec<(String, &'static str)> {
    vec![
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
    ]
}
