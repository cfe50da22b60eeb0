//! What is done to rows before.

use super::rule;

pub fn cases() -> Vec<(String, &'static str)> {
    vec![
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
    ]
}
