//! Manifests of archives, all in files whose digests are right.

use super::{Differences, SAMPLE, binary};
use crate::support::forge::Parts;
use std::fs;
use tersor::{Error, format::Archive};

#[test]
fn manifests_that_lie_are_refused_in_these_words() {
    let dir = crate::support::memory_folder();
    let path = dir.path().join("model.safetensors");
    let mut differences = Differences::default();
    for (i, (bytes, expected)) in cases().into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let found = match Archive::open(&path) {
            Ok(_) => "it is opened".into(),
            Err(Error::Format { path: file, why }) if file == path => why,
            Err(other) => other.to_string(),
        };
        differences.compare(i, &found, expected);
        if i % SAMPLE == 0 {
            let job = ["decompress", "model.safetensors", "-o", "out"];
            differences.compare(i, &binary(dir.path(), &job, 2), expected);
        }
    }
    differences.none();
}

pub fn cases() -> Vec<(Vec<u8>, &'static str)> {
    let good = Parts::of(&super::archives::base("affine"));
    let other = |from: &str, to: &str| {
        let mut parts = good.clone();
        parts.describe(from, to);
        parts.seal()
    };
    // The whole manifest, or what metadata there is.
    let whole = |text: &str| {
        let text = serde_json::Value::from(text);
        good.file(&format!("{{\"__metadata__\":{{\"tersor\":{text}{}", good.rest))
    };
    let metadata = |text: &str| good.file(&format!("{{{text}{}", &good.rest[2..]));
    let chunks = |text: &str| good.seal_with(text);
    let digest = &"A".repeat(22);
    let one = good.chunks();
    vec![
        (metadata(""), r#"header, byte 2: 'f', expected '"'"#),
        (metadata(r#""__metadata__":{},"#), r#"header, byte 20: 'f', expected '"'"#),
        (metadata(r#""__metadata__":{"Tersor":"{}"},"#), r#"header, byte 33: 'f', expected '"'"#),
        (whole(""), "manifest: EOF while parsing a value at line 1 column 0"),
        (whole("null"), "manifest: invalid type: null, expected struct Version at line 1 column 4"),
        (
            whole("1"),
            "manifest: invalid type: integer `1`, expected struct Version at line 1 column 1",
        ),
        (
            whole("[]"),
            "manifest: invalid length 0, expected struct Version with 1 element at line 1 column 2",
        ),
        (whole("{}"), "manifest: missing field `version` at line 1 column 2"),
        (whole("{"), "manifest: EOF while parsing an object at line 1 column 1"),
        (whole(r#"{"version":1}"#), "manifest: missing field `chunks` at line 1 column 13"),
        (
            whole(r#"{"version":"1"}"#),
            r#"manifest: invalid type: string "1", expected u64 at line 1 column 14"#,
        ),
        (
            whole(r#"{"version":1.0}"#),
            "manifest: invalid type: floating point `1.0`, expected u64 at line 1 column 14",
        ),
        (
            whole(r#"{"version":-1}"#),
            "manifest: invalid value: integer `-1`, expected u64 at line 1 column 13",
        ),
        (whole(r#"{"version":0}"#), "manifest: version is 0, expected 1"),
        (
            whole(r#"{"version":2,"whatever":[1,2,3]}"#),
            "manifest: version is 2, expected 1; a newer tersor may read it",
        ),
        (
            whole(r#"{"version":18446744073709551616}"#),
            "manifest: invalid type: floating point `1.8446744073709552e+19`, expected u64 at line 1 column 31",
        ),
        (
            whole(r#"{"version":1,"version":1}"#),
            "manifest: duplicate field `version` at line 1 column 22",
        ),
        (
            whole(&format!(r#"{{"chunks":"","header":"{digest}","tensors":[],"version":1}}"#)),
            "manifest: invalid type: sequence, expected an object of tensors at line 1 column 0",
        ),
        (
            whole(&format!(r#"{{"chunks":"","header":"{digest}","tensors":null,"version":1}}"#)),
            "manifest: invalid type: null, expected an object of tensors at line 1 column 4",
        ),
        (
            whole(&format!(r#"{{"chunks":[],"header":"{digest}","tensors":{{}},"version":1}}"#)),
            "manifest: invalid type: sequence, expected a borrowed string at line 1 column 10",
        ),
        (
            whole(r#"{"chunks":"","header":"","tensors":{},"version":1}"#),
            "manifest: header is no digest",
        ),
        (
            whole(r#"{"chunks":"","header":"!","tensors":{},"version":1}"#),
            "manifest: header is no digest",
        ),
        (
            whole(&format!(r#"{{"chunks":"","header":"{digest}AA","tensors":{{}},"version":1}}"#)),
            "manifest: header is no digest",
        ),
        // The last letter of a digest has four bits that must be zero.
        (
            whole(r#"{"chunks":"","header":"AAAAAAAAAAAAAAAAAAAAAB","tensors":{},"version":1}"#),
            "manifest: header is no digest",
        ),
        (chunks("!"), "manifest: chunks: Invalid symbol 33, offset 0."),
        (chunks("AA"), "manifest: chunks have 1 bytes, expected a multiple of 16"),
        (chunks(&format!("{one}==")), "manifest: chunks: Invalid padding"),
        (chunks(""), "manifest: 0 chunk digests, expected 1"),
        (chunks(&"A".repeat(64 * 22 / 22)), "manifest: 3 chunk digests, expected 1"),
        (
            other("\"version\":1", "\"version\":1,\"x\":1"),
            "manifest: unknown field `x`, expected one of `chunks`, `header`, `tensors`, `tied`, `version` at line 1 column 183",
        ),
        (other("\"version\":1", "\"version\": 1"), "manifest, byte 178: not in the canonical form"),
        (
            other("\"version\":1}", "\"version\":1} "),
            "manifest, byte 180: not in the canonical form",
        ),
        (
            other("\"version\":1}", "\"version\":1}{}"),
            "manifest: trailing characters at line 1 column 181",
        ),
        (other("\"w\":", "\"\\u0077\":"), "manifest, byte 81: not in the canonical form"),
        (other("\"w\":", "\"v\":"), r#"tensor "v": codes is missing"#),
        (other("\"w\":", "\"\":"), r#"tensor "": codes is missing"#),
        (other("\"w\":", "\"\\u001b[31m\":"), r#"tensor "\u{1b}[31m": codes is missing"#),
        (
            other("\"w\":", &format!("\"{}\":", "w".repeat(1025))),
            r#"manifest: tensor "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww…": a name or a description too long for one tensor at line 1 column 1112"#,
        ),
        (
            other("\"affine\"", "\"afine\""),
            r#"manifest: tensor "w": unknown field `afine`, expected one of `affine`, `axis`, `coded`, `digest`, `dtype`, `max_rel_error`, `palette`, `pruned`, `pyramid`, `scales`, `shape`, `stack`, `steps`, `transform`, `trellis`, `vector` at line 1 column 8"#,
        ),
        (
            other("\"affine\"", "\"a\\u001b[31m\""),
            r#"manifest: tensor "w": unknown field `a\u{1b}[31m`, expected one of `affine`, `axis`, `coded`, `digest`, `dtype`, `max_rel_error`, `palette`, `pruned`, `pyramid`, `scales`, `shape`, `stack`, `steps`, `transform`, `trellis`, `vector` at line 1 column 14"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,2,8]"),
            "manifest, byte 97: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,8]"),
            r#"manifest: tensor "w": invalid length 2, expected a tuple of size 3 at line 1 column 15"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,0,8,0]"),
            r#"manifest: tensor "w": trailing characters at line 1 column 18"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[256,0,8]"),
            r#"manifest: tensor "w": invalid value: integer `256`, expected u8 at line 1 column 14"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[1,0,8]"),
            r#"manifest: tensor "w": codes of 1 bits, expected 2 to 8 at line 1 column 88"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[9,0,8]"),
            r#"manifest: tensor "w": codes of 9 bits, expected 2 to 8 at line 1 column 88"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,0,-8]"),
            r#"manifest: tensor "w": invalid value: integer `-8`, expected u64 at line 1 column 17"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,0,7]"),
            r#"manifest: tensor "w": groups of 7 do not divide rows of 32 at line 1 column 88"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,0,18446744073709551615]"),
            r#"manifest: tensor "w": groups of 18446744073709551615 do not divide rows of 32 at line 1 column 107"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"palette\":[0,0]"),
            r#"manifest: tensor "w": tables of 0 entries, expected 1 to 256 at line 1 column 87"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"palette\":[257,0]"),
            r#"manifest: tensor "w": tables of 257 entries, expected 1 to 256 at line 1 column 89"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"palette\":[4,3]"),
            r#"manifest: tensor "w": tables for 3 rows do not divide 16 rows at line 1 column 87"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"trellis\":8}"),
            r#"manifest: tensor "w": a trellis of no palette at line 1 column 100"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"trellis\":12,\"palette\":[4,0]"),
            r#"manifest: tensor "w": a trellis of 12 states, expected 4, 8, 16, 32 or 64 at line 1 column 100"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"trellis\":8,\"palette\":[4,0]"),
            r#"manifest: tensor "w": a trellis of codes that are not coded, or of several tables at line 1 column 99"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"coded\":true,\"trellis\":8,\"palette\":[4,4]"),
            r#"manifest: tensor "w": a trellis of codes that are not coded, or of several tables at line 1 column 112"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[3,4,8]"),
            r#"manifest: tensor "w": pyramids of 3 weights, expected 4 to 64, a multiple of 4 at line 1 column 89"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[68,4,8]"),
            r#"manifest: tensor "w": pyramids of 68 weights, expected 4 to 64, a multiple of 4 at line 1 column 90"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[8,0,8]"),
            r#"manifest: tensor "w": pyramids of 0 pulses, expected 1 to 127 at line 1 column 89"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[8,128,8]"),
            r#"manifest: tensor "w": pyramids of 128 pulses, expected 1 to 127 at line 1 column 91"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[8,4,0]"),
            r#"manifest: tensor "w": gains of 0 bits, expected 1 to 10 at line 1 column 89"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[8,4,11]"),
            r#"manifest: tensor "w": gains of 11 bits, expected 1 to 10 at line 1 column 90"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[64,127,8]"),
            r#"manifest: tensor "w": 127 pulses in 64 weights take more than 120 bits at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pyramid\":[12,4,8]"),
            r#"manifest: tensor "w": pyramids of 12 do not divide rows of 32 at line 1 column 90"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pruned\":true,\"pyramid\":[8,4,8]"),
            r#"manifest: tensor "w": pyramids of a pruned or coded tensor at line 1 column 103"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"coded\":true,\"pyramid\":[8,4,8]"),
            r#"manifest: tensor "w": pyramids of a pruned or coded tensor at line 1 column 102"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[0,4,1,1,0]"),
            r#"manifest: tensor "w": vectors of 0 weights, expected 1 to 16 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[17,4,1,1,0]"),
            r#"manifest: tensor "w": vectors of 17 weights, expected 1 to 16 at line 1 column 93"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[2,1,1,1,0]"),
            r#"manifest: tensor "w": codebooks of 1 entries, expected 2 to 65536 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[2,65537,1,1,0]"),
            r#"manifest: tensor "w": codebooks of 65537 entries, expected 2 to 65536 at line 1 column 96"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[2,4,0,1,0]"),
            r#"manifest: tensor "w": 0 sub-spaces of 1 stages, expected at least 1, and 1 to 8 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[2,4,1,9,0]"),
            r#"manifest: tensor "w": 1 sub-spaces of 9 stages, expected at least 1, and 1 to 8 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[7,4,1,1,0]"),
            r#"manifest: tensor "w": vectors of 7 do not divide rows of 32 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[2,4,4294967295,1,0]"),
            r#"manifest: tensor "w": 4294967295 sub-spaces of 2 do not divide rows of 32 at line 1 column 101"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[4,4,1,1,2]"),
            r#"manifest: tensor "w": groups of 2 are no whole vectors of 4 in rows of 32 at line 1 column 92"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"pruned\":true,\"vector\":[4,4,1,1,0]"),
            r#"manifest: tensor "w": vectors of a pruned tensor at line 1 column 106"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"vector\":[4,4,1,1]"),
            r#"manifest: tensor "w": invalid length 4, expected a tuple of size 5 at line 1 column 19"#,
        ),
        (
            other("\"affine\":[4,0,8]", "\"affine\":[4,0,8],\"palette\":[4,0]"),
            "manifest, byte 103: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8],", ""),
            r#"manifest: tensor "w": neither pruned, quantized nor coded at line 1 column 71"#,
        ),
        (
            other("\"affine\":[4,0,8],", "\"affine\":[4,0,8],\"axis\":0,"),
            "manifest, byte 109: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8],", "\"affine\":[4,0,8],\"axis\":2,"),
            "manifest, byte 109: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8],", "\"affine\":[4,0,8],\"axis\":null,"),
            "manifest, byte 103: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8],", "\"affine\":[4,0,8],\"coded\":false,"),
            "manifest, byte 110: not in the canonical form",
        ),
        (
            other("\"affine\":[4,0,8],", "\"coded\":1,"),
            r#"manifest: tensor "w": invalid type: integer `1`, expected a boolean at line 1 column 10"#,
        ),
        (
            other("\"digest\":\"", "\"digest\":\"A"),
            r#"manifest: tensor "w": its digest is none at line 1 column 89"#,
        ),
        (
            other("\"digest\":", "\"hash\":"),
            r#"manifest: tensor "w": unknown field `hash`, expected one of `affine`, `axis`, `coded`, `digest`, `dtype`, `max_rel_error`, `palette`, `pruned`, `pyramid`, `scales`, `shape`, `stack`, `steps`, `transform`, `trellis`, `vector` at line 1 column 24"#,
        ),
        (
            other("\"dtype\":\"F32\"", "\"dtype\":\"F31\""),
            r#"manifest: tensor "w": dtype "F31" is not known at line 1 column 88"#,
        ),
        (
            other("\"dtype\":\"F32\"", "\"dtype\":\"U8\""),
            r#"manifest: tensor "w": U8 of 2 dimensions, expected weights of at most 32 at line 1 column 87"#,
        ),
        (
            other("\"dtype\":\"F32\"", "\"dtype\":\"F8_E8M0\""),
            r#"manifest: tensor "w": F8_E8M0 of 2 dimensions, expected weights of at most 32 at line 1 column 92"#,
        ),
        (
            other("\"dtype\":\"F32\"", "\"dtype\":null"),
            r#"manifest: tensor "w": invalid type: null, expected a string at line 1 column 64"#,
        ),
        (
            other("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"max_rel_error\":1e999,"),
            r#"manifest: tensor "w": number out of range at line 1 column 87"#,
        ),
        (
            other("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"max_rel_error\":0.10,"),
            "manifest, byte 169: not in the canonical form",
        ),
        (
            other("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"max_rel_error\":\"1\","),
            r#"manifest: tensor "w": invalid type: string "1", expected f64 at line 1 column 85"#,
        ),
        (
            other("\"shape\":[16,32]", "\"scales\":\"F16\",\"shape\":[16,32]"),
            r#"manifest: tensor "w": scales of type "F16", expected BF16 at line 1 column 103"#,
        ),
        (
            other("\"shape\":[16,32]", "\"scales\":\"bf16\",\"shape\":[16,32]"),
            r#"manifest: tensor "w": scales of type "bf16", expected BF16 at line 1 column 104"#,
        ),
        (
            other("\"shape\":[16,32]", "\"scales\":2,\"shape\":[16,32]"),
            r#"manifest: tensor "w": invalid type: integer `2`, expected a string at line 1 column 76"#,
        ),
        // What is usual is not said.
        (
            other("\"shape\":[16,32]", "\"scales\":\"F32\",\"shape\":[16,32]"),
            "manifest, byte 152: not in the canonical form",
        ),
        // There are no scales.
        (
            other("\"affine\":[4,0,8],", "\"palette\":[4,0],\"scales\":\"BF16\","),
            "manifest, byte 86: not in the canonical form",
        ),
        (
            other("\"shape\":[16,32]", "\"scales\":\"BF16\",\"shape\":[16,32]"),
            r#"tensor "w": scales is F32 [16, 4], expected BF16 [16, 4] in the same file"#,
        ),
        (
            other("\"shape\":[16,32]", "\"pruned\":false,\"shape\":[16,32]"),
            "manifest, byte 159: not in the canonical form",
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[16,-32]"),
            r#"manifest: tensor "w": invalid value: integer `-32`, expected u64 at line 1 column 81"#,
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[16,32.0]"),
            r#"manifest: tensor "w": invalid type: floating point `32.0`, expected u64 at line 1 column 82"#,
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[]"),
            r#"manifest: tensor "w": groups of 8 do not divide rows of 1 at line 1 column 83"#,
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[0,32]"),
            r#"manifest: tensor "w": shape [0, 32], expected between 1 and 2^61 bytes at line 1 column 87"#,
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[4294967296,4294967296]"),
            r#"manifest: tensor "w": shape [4294967296, 4294967296], expected between 1 and 2^61 bytes at line 1 column 104"#,
        ),
        (
            other("\"shape\":[16,32]", "\"shape\":[18446744073709551616]"),
            r#"manifest: tensor "w": invalid type: floating point `1.8446744073709552e+19`, expected u64 at line 1 column 95"#,
        ),
        (
            other("\"shape\":[16,32]", &format!("\"shape\":[{}]", vec!["1"; 33].join(","))),
            r#"manifest: tensor "w": F32 of 33 dimensions, expected weights of at most 32 at line 1 column 148"#,
        ),
        (
            other("\"shape\":[16,32]", &format!("\"shape\":[{}]", vec!["1"; 1000].join(","))),
            r#"manifest: tensor "w": a name or a description too long for one tensor at line 1 column 2082"#,
        ),
        (
            other(
                "\"dtype\":\"F32\",\"shape\":[16,32]",
                "\"dtype\":\"F8_E4M3\",\"shape\":[2305843009213693952,8]",
            ),
            r#"manifest: tensor "w": shape [2305843009213693952, 8], expected between 1 and 2^61 bytes at line 1 column 108"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"stack\":true}"),
            r#"manifest: tensor "w": a stack of matrices of 2 dimensions, expected 3 at line 1 column 101"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[2,8,4,8],\"stack\":true}"),
            r#"manifest: tensor "w": a stack of matrices of 4 dimensions, expected 3 at line 1 column 103"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[2,8,32],\"stack\":false}"),
            "manifest, byte 175: not in the canonical form",
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[2,8,32],\"stack\":1}"),
            r#"manifest: tensor "w": invalid type: integer `1`, expected a boolean at line 1 column 92"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32]},\"x\":1"),
            r#"manifest: tensor "x": invalid type: integer `1`, expected struct Description at line 1 column 1"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32]},\"v\":{}"),
            r#"manifest: tensor "v": missing field `digest` at line 1 column 2"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"shape\":[16,32]}"),
            r#"manifest: tensor "w": duplicate field `shape` at line 1 column 89"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"transform\":[\"hadamard\",64,0]}"),
            r#"manifest: tensor "w": transforms of 64 weights do not divide rows of 32 at line 1 column 118"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"transform\":[\"hadamard\",512,0]}"),
            r#"manifest: tensor "w": hadamard of 512 weights, expected a power of two from 8 to 256 at line 1 column 119"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"transform\":[\"dct\",8,7]}"),
            r#"manifest: tensor "w": dct with the seed 7, expected 0 at line 1 column 112"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"transform\":[\"wavelet\",8,0]}"),
            r#"manifest: tensor "w": transform "wavelet" is not known at line 1 column 116"#,
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"steps\":[1,2]}"),
            r#"manifest: tensor "w": steps of no transform at line 1 column 102"#,
        ),
        (
            other(
                "\"shape\":[16,32]}",
                "\"shape\":[16,32],\"steps\":[1,2],\"transform\":[\"dct\",8,0]}",
            ),
            r#"manifest: tensor "w": 2 steps for blocks of 8 weights, expected one for each frequency, from 1 to 255 at line 1 column 126"#,
        ),
        (
            other(
                "\"shape\":[16,32]}",
                "\"shape\":[16,32],\"steps\":[],\"transform\":[\"dct\",8,0]}",
            ),
            "manifest, byte 167: not in the canonical form",
        ),
        (
            other("\"shape\":[16,32]}", "\"shape\":[16,32],\"version\":1}"),
            r#"manifest: tensor "w": unknown field `version`, expected one of `affine`, `axis`, `coded`, `digest`, `dtype`, `max_rel_error`, `palette`, `pruned`, `pyramid`, `scales`, `shape`, `stack`, `steps`, `transform`, `trellis`, `vector` at line 1 column 91"#,
        ),
    ]
}
