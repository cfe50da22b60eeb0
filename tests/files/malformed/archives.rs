//! Archives whose stored tensors are not what their manifests call for, all with right digests.

use super::{Differences, SAMPLE, binary};
use crate::support::{CPU, forge::Parts, noise, options, words_of, write_checkpoint};
use std::{collections::HashMap, fs, sync::LazyLock};
use tersor::{DType, Error, pipeline, recipe::Recipe};

/// How the tensor `w` of the good archives is treated.
const BASES: [(&str, &str); 12] = [
    (
        "affine",
        "quantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"group\", group = 8 }",
    ),
    ("palette", "quantize = { kind = \"palette\", k = 3 }"),
    ("sparse", "prune = { kind = \"n:m\", n = 1, m = 4 }"),
    (
        "pruned",
        "prune = { kind = \"magnitude\", density = 0.3 }\nquantize = { kind = \"affine\", bits = 3 }",
    ),
    ("huffman", "quantize = { kind = \"affine\", bits = 4 }\nencode = \"huffman\""),
    (
        "rans",
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"rans\"",
    ),
    (
        "ribbon",
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"ribbon\"",
    ),
    (
        "bloomier",
        "prune = { kind = \"magnitude\", density = 0.05 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"bloomier\"",
    ),
    ("lossless", "encode = \"auto\""),
    ("vectors", "quantize = { kind = \"vector\", d = 4, k = 12 }"),
    (
        "residual",
        "quantize = { kind = \"residual\", d = 4, k = 12, stages = 2, granularity = \"tensor\" }\nencode = \"rans\"",
    ),
    ("pyramid", "quantize = { kind = \"pyramid\", n = 8, k = 9, gain_bits = 4 }"),
];

/// The archive of a tensor `w`, treated, and a tensor `k`, kept.
pub fn base(name: &str) -> Vec<u8> {
    static MADE: LazyLock<HashMap<&str, Vec<u8>>> =
        LazyLock::new(|| BASES.iter().map(|(name, how)| (*name, make(how))).collect());
    MADE[name].clone()
}

fn make(treatment: &str) -> Vec<u8> {
    let dir = crate::support::memory_folder();
    let [input, archive] = ["in", "out"].map(|n| dir.path().join(n));
    let words = words_of(DType::F32, &noise(1, 16 * 32));
    let kept = words_of(DType::F32, &noise(2, 3));
    write_checkpoint(
        &input,
        &[("w", DType::F32, vec![16, 32], words), ("k", DType::F32, vec![3], kept)],
    );
    let text = format!(
        "version = 1\n[[rule]]\nmatch = \"w\"\n{treatment}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
    );
    pipeline::compress(&input, &archive, &Recipe::parse(&text).unwrap(), &options(&CPU)).unwrap();
    fs::read(archive).unwrap()
}

#[test]
fn archives_that_lie_are_refused_in_these_words() {
    let dir = crate::support::memory_folder();
    let path = dir.path().join("model.safetensors");
    for (name, _) in BASES {
        let good = base(name);
        assert_eq!(Parts::of(&good).seal(), good, "{name}: the forger writes what the crate does");
        fs::write(&path, good).unwrap();
        let report = pipeline::verify(&path, None, &options(&CPU)).unwrap();
        assert!(report.tensors.iter().any(|t| t.name == "w" && !t.method.is_kept()), "{name}");
    }
    let mut differences = Differences::default();
    for (i, (bytes, expected)) in cases().into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let (found, code) = match pipeline::verify(&path, None, &options(&CPU)) {
            Ok(_) => ("it is verified".into(), 0),
            Err(e @ Error::Digest { .. }) => (e.to_string(), 1),
            Err(e) => (e.to_string(), 2),
        };
        let start = format!("{}: ", path.display());
        differences.compare(i, found.strip_prefix(&start).unwrap_or(&found), expected);
        if i % SAMPLE == 0 {
            let job = ["decompress", "model.safetensors", "-o", "out"];
            differences.compare(i, &binary(dir.path(), &job, code), expected);
        }
    }
    differences.none();
}

/// Another first letter of the digest that follows a text.
fn another_digest(text: &str, before: &str) -> String {
    let at = text.find(before).unwrap() + before.len();
    let other = if text[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

pub fn cases() -> Vec<(Vec<u8>, &'static str)> {
    let changed = |name: &str, change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of(&base(name));
        change(&mut parts);
        parts.seal()
    };
    let enter = |name, from: &str, to: &str| changed(name, &|p| p.enter(from, to));
    let describe = |name, from: &str, to: &str| changed(name, &|p| p.describe(from, to));
    let float = |name, component: &str, value: f32| {
        changed(name, &|p| p.bytes(component)[4..8].copy_from_slice(&value.to_le_bytes()))
    };
    let number = |name, value: i16| {
        changed(name, &|p| p.bytes("w.codebook")[2..4].copy_from_slice(&value.to_le_bytes()))
    };
    let last = |name, component: &str, bits: u8| {
        changed(name, &|p| *p.bytes(component).last_mut().unwrap() |= bits)
    };
    let coded = |name, change: &dyn Fn(&mut Vec<u8>)| {
        changed(name, &|p| {
            let mut bytes = p.bytes("w.coded").to_vec();
            change(&mut bytes);
            p.replace("w.coded", &bytes);
        })
    };
    // The block of the coded tensor, behind its tables and its length, which is set anew.
    let block = |name, tables: usize, change: &dyn Fn(&mut Vec<u8>)| {
        coded(name, &|bytes| {
            let mut block = bytes.split_off(tables + 4);
            change(&mut block);
            bytes.truncate(tables);
            bytes.extend((block.len() as u32).to_le_bytes());
            bytes.extend(block);
        })
    };
    let raw = |name, change: &dyn Fn(&str) -> String| {
        let good = Parts::of(&base(name));
        let file = good.seal();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        good.file(&change(std::str::from_utf8(&file[8..8 + length]).unwrap()))
    };
    // Ties, and the names of marks between the two stored tensors.
    let tied = |ties: &str, marks: &[&str]| {
        changed("affine", &|p| {
            p.describe(",\"version\"", &format!(",\"tied\":{{{ties}}},\"version\""));
            let at = p.place("k").start;
            for mark in marks {
                let entry = format!(
                    r#""{mark}":{{"dtype":"U8","shape":[0],"data_offsets":[{at},{at}]}},"k":"#
                );
                p.enter("\"k\":", &entry);
            }
        })
    };
    const PALETTE: usize = 4 * 4;
    vec![
        // Ties: `w` is treated and comes before the mark, `k` is kept and comes after it.
        (tied(r#""t":"w""#, &[]), r#"tensor "t": tied is missing"#),
        (
            tied(r#""t":"x""#, &["t.tied"]),
            r#"tensor "t": tied to "x", which its file does not hold"#,
        ),
        (tied(r#""t":"t""#, &["t.tied"]), r#"tensor "t": tied to "t", which is itself"#),
        (
            tied(r#""t":"u","u":"t""#, &["t.tied", "u.tied"]),
            r#"tensor "t": tied to "u", which is tied, too"#,
        ),
        (
            tied(r#""t":"u","u":"w""#, &["t.tied", "u.tied"]),
            r#"tensor "t": tied to "u", which is tied, too"#,
        ),
        (tied(r#""t":"k""#, &["t.tied"]), r#"tensor "t": tied to "k", which comes after it"#),
        (
            tied(r#""t":"w.codes""#, &["t.tied"]),
            r#"tensor "t": tied to "w.codes", which its file does not hold"#,
        ),
        (
            tied(r#""t":"t.tied""#, &["t.tied"]),
            r#"tensor "t": tied to "t.tied", which its file does not hold"#,
        ),
        (tied(r#""k":"w""#, &["k.tied"]), r#"tensor "k" is stored twice"#),
        (tied(r#""w":"w""#, &["w.tied"]), r#"tensor "w" is stored twice"#),
        (
            changed("affine", &|p| {
                p.describe(",\"version\"", ",\"tied\":{\"t\":\"w\"},\"version\"");
                p.enter("\"k\":", "\"t.tied\":");
            }),
            r#"tensor "t": tied is F32 [3], expected U8 [0] in the same file"#,
        ),
        (
            tied(r#""t":7"#, &["t.tied"]),
            r#"manifest: tensor "t": invalid type: integer `7`, expected a string at line 1 column 1"#,
        ),
        (
            tied(r#""t":{"to":"w"}"#, &["t.tied"]),
            r#"manifest: tensor "t": invalid type: map, expected a string at line 1 column 0"#,
        ),
        (
            tied(r#""a":"w","b":"w","c":"w","d":"w","e":"w""#, &[]),
            r#"manifest: tensor "e": more tensors than the file holds at line 1 column 41"#,
        ),
        (tied("", &[]), "manifest, byte 169: not in the canonical form"),
        // Digests.
        (
            raw("affine", &|h| another_digest(h, "\\\"chunks\\\":\\\"")),
            "header: digest mismatch, the file is damaged",
        ),
        (
            raw("affine", &|h| another_digest(h, "\\\"header\\\":\\\"")),
            "header: digest mismatch, the file is damaged",
        ),
        (raw("affine", &|h| format!("{h} ")), "header: digest mismatch, the file is damaged"),
        (raw("affine", &|h| format!(" {h}")), "header: digest mismatch, the file is damaged"),
        (
            raw("affine", &|h| h.replacen("{\"tersor\"", "{ \"tersor\"", 1)),
            "header: digest mismatch, the file is damaged",
        ),
        (
            raw("affine", &|h| h.replacen("{\"tersor\"", "{\"a\":\"b\",\"tersor\"", 1)),
            "header: digest mismatch, the file is damaged",
        ),
        (
            raw("affine", &|h| h.replacen("{\\\"chunks", "\\u007b\\\"chunks", 1)),
            "header: digest mismatch, the file is damaged",
        ),
        (
            raw("affine", &|h| h.replacen("\"pt\"", "\"tp\"", 1)),
            "header: digest mismatch, the file is damaged",
        ),
        (
            raw("affine", &|h| {
                h.replacen("\"k\":{\"dtype\":\"F32\"", "\"k\":{\"dtype\":\"I32\"", 1)
            }),
            "header: digest mismatch, the file is damaged",
        ),
        (
            changed("affine", &|p| p.manifest = another_digest(&p.manifest, "\"digest\":\"")),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            Parts::of(&base("affine")).seal_with(&"A".repeat(22)),
            "chunk 0 (bytes 560 to 1148): digest mismatch, the file is damaged",
        ),
        // Components.
        (enter("affine", "w.codes", "w.kodes"), r#"tensor "w": codes is missing"#),
        (enter("affine", "w.scales", "w.zcales"), r#"tensor "w": scales is missing"#),
        (enter("affine", "w.zero_points", "w.zero_point"), r#"tensor "w": zero_points is missing"#),
        (enter("palette", "w.codebook", "v.codebook"), r#"tensor "w": codebook is missing"#),
        (enter("sparse", "w.mask", "w.masks"), r#"tensor "w": mask is missing"#),
        (enter("sparse", "w.values", "x.values"), r#"tensor "w": values is missing"#),
        (enter("huffman", "w.coded", "w.Coded"), r#"tensor "w": coded is missing"#),
        (enter("affine", "\"k\":", "\"w\":"), r#"tensor "w" is stored twice"#),
        (
            enter("affine", "\"w.codes\":{\"dtype\":\"U32\"", "\"w.codes\":{\"dtype\":\"I32\""),
            r#"tensor "w": codes is I32 [16, 4], expected U32 [16, 4] in the same file"#,
        ),
        (
            enter("affine", "\"w.scales\":{\"dtype\":\"F32\"", "\"w.scales\":{\"dtype\":\"U32\""),
            r#"tensor "w": scales is U32 [16, 4], expected F32 [16, 4] in the same file"#,
        ),
        (
            enter("affine", "\"shape\":[16,4]", "\"shape\":[4,16]"),
            r#"tensor "w": codes is U32 [4, 16], expected U32 [16, 4] in the same file"#,
        ),
        (
            enter("affine", "\"shape\":[16,4]", "\"shape\":[64]"),
            r#"tensor "w": codes is U32 [64], expected U32 [16, 4] in the same file"#,
        ),
        (
            enter("palette", "\"shape\":[1,3]", "\"shape\":[3]"),
            r#"tensor "w": codebook is F32 [3], expected F32 [1, 3] in the same file"#,
        ),
        (
            enter("sparse", "\"w.values\":{\"dtype\":\"F32\"", "\"w.values\":{\"dtype\":\"I32\""),
            r#"tensor "w": values is I32 [128], expected F32 [..] in the same file"#,
        ),
        (
            enter("sparse", "\"shape\":[128]", "\"shape\":[128,1]"),
            r#"tensor "w": values is [128, 1], which no mask can need"#,
        ),
        (
            enter("huffman", "\"w.coded\":{\"dtype\":\"U8\"", "\"w.coded\":{\"dtype\":\"I8\""),
            r#"tensor "w": coded is I8 [326], expected U8 [..] in the same file"#,
        ),
        (
            describe("affine", "[4,0,8]", "[4,1,8]"),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            describe("affine", "[4,0,8]", "[8,0,8]"),
            r#"tensor "w": codes is U32 [16, 4], expected U32 [16, 8] in the same file"#,
        ),
        (
            describe("affine", "[4,0,8]", "[4,0,16]"),
            r#"tensor "w": scales is F32 [16, 4], expected F32 [16, 2] in the same file"#,
        ),
        (
            describe("affine", "\"shape\":[16,32]", "\"shape\":[32,16]"),
            r#"tensor "w": codes is U32 [16, 4], expected U32 [32, 2] in the same file"#,
        ),
        (
            describe("affine", "\"shape\":[16,32]", "\"shape\":[16,33]"),
            r#"manifest: tensor "w": groups of 8 do not divide rows of 33 at line 1 column 88"#,
        ),
        (
            describe("palette", "[3,0]", "[4,0]"),
            r#"tensor "w": codebook is F32 [1, 3], expected F32 [1, 4] in the same file"#,
        ),
        (
            describe("palette", "[3,0]", "[3,1]"),
            r#"tensor "w": codebook is F32 [1, 3], expected F32 [16, 3] in the same file"#,
        ),
        (
            describe("palette", "\"F32\"", "\"F16\""),
            r#"tensor "w": codebook is F32 [1, 3], expected F16 [1, 3] in the same file"#,
        ),
        (
            describe(
                "sparse",
                "\"pruned\":true,\"shape\":[16,32]",
                "\"pruned\":true,\"shape\":[1,16,1]",
            ),
            r#"tensor "w": mask is U32 [16, 1], expected U32 [1, 1] in the same file"#,
        ),
        // Each of five tensors may have 2^61 bytes, but not all of them.
        (
            changed("lossless", &|p| {
                let v: String = (0..4).map(|i| format!(r#""v{i}":{{"coded":true,"digest":"AAAAAAAAAAAAAAAAAAAAAA","dtype":"F64","shape":[288230376151711743]}},"#)).collect();
                p.describe("\"shape\":[16,32]", "\"shape\":[576460752303423487]");
                p.describe("\"tensors\":{", &format!("\"tensors\":{{{v}"));
                let start = p.place("k").start;
                let coded: String = (0..4)
                    .map(|i| {
                        let (a, b) = (start + 3 * i, start + 3 * i + 3);
                        format!(
                            r#""v{i}.coded":{{"dtype":"U8","shape":[3],"data_offsets":[{a},{b}]}},"#
                        )
                    })
                    .collect();
                let k = format!(
                    r#""k":{{"dtype":"F32","shape":[3],"data_offsets":[{start},{}]}},"#,
                    start + 12
                );
                p.enter(&k, &coded);
            }),
            "its tensors are 2^63 bytes or more",
        ),
        (
            changed("lossless", &|p| {
                p.describe("\"shape\":[16,32]", "\"shape\":[576460752303423488]")
            }),
            r#"manifest: tensor "w": shape [576460752303423488], expected between 1 and 2^61 bytes at line 1 column 97"#,
        ),
        (
            changed("lossless", &|p| {
                p.describe("\"shape\":[16,32]", "\"shape\":[576460752303423487]")
            }),
            r#"tensor "w": coded has 1679 bytes, its tables and lengths need 1599680187324"#,
        ),
        // Numbers that no tensor has.
        (
            float("affine", "w.scales", f32::NAN),
            r#"tensor "w": a scale is negative, infinite or NaN"#,
        ),
        (
            float("affine", "w.scales", f32::INFINITY),
            r#"tensor "w": a scale is negative, infinite or NaN"#,
        ),
        (float("affine", "w.scales", -1.0), r#"tensor "w": a scale is negative, infinite or NaN"#),
        (
            float("affine", "w.scales", 0.5),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            float("palette", "w.codebook", f32::NAN),
            r#"tensor "w": its codebook holds an infinity or NaN"#,
        ),
        (
            float("palette", "w.codebook", f32::NEG_INFINITY),
            r#"tensor "w": its codebook holds an infinity or NaN"#,
        ),
        (
            float("palette", "w.codebook", 1000.0),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            changed("affine", &|p| p.bytes("w.zero_points")[0] ^= 1),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            changed("affine", &|p| p.bytes("w.codes")[0] ^= 1),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            changed("palette", &|p| p.bytes("w.codes").fill(0xff)),
            r#"tensor "w": a code is beyond the 3 entries of its table"#,
        ),
        // The last entry's code is 2; 3 would give the same tensor back.
        (
            changed("palette", &|p| {
                let codes = p.bytes("w.codes");
                let (byte, shift) = (0..codes.len())
                    .flat_map(|b| [0, 2, 4, 6].map(|s| (b, s)))
                    .find(|(b, s)| codes[*b] >> s & 3 == 2)
                    .unwrap();
                codes[byte] |= 1 << shift;
            }),
            r#"tensor "w": a code is beyond the 3 entries of its table"#,
        ),
        (
            changed("sparse", &|p| p.bytes("w.mask")[0] ^= 1),
            r#"tensor "w": values has 512 bytes, its mask needs 516"#,
        ),
        (
            changed("sparse", &|p| p.bytes("w.mask").fill(0)),
            r#"tensor "w": values has 512 bytes, its mask needs 0"#,
        ),
        (
            changed("sparse", &|p| p.bytes("w.mask").fill(0xff)),
            r#"tensor "w": values has 512 bytes, its mask needs 2048"#,
        ),
        (
            changed("sparse", &|p| p.bytes("w.mask")[..2].rotate_left(1)),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            changed("sparse", &|p| p.bytes("w.values")[0] ^= 1),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            last("pruned", "w.codes", 0xc0),
            r#"tensor "w": its codes have bits beyond the end of a row"#,
        ),
        (
            changed("pruned", &|p| p.bytes("w.mask")[0] ^= 1),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        // Coded blocks.
        (
            coded("huffman", &|b| b.clear()),
            r#"tensor "w": coded has 0 bytes, its tables and lengths need 68"#,
        ),
        (
            coded("huffman", &|b| b.truncate(64)),
            r#"tensor "w": coded has 64 bytes, its tables and lengths need 68"#,
        ),
        (
            coded("huffman", &|b| b.truncate(67)),
            r#"tensor "w": coded has 67 bytes, its tables and lengths need 68"#,
        ),
        (
            coded("huffman", &|b| b.truncate(68)),
            r#"tensor "w": coded has 68 bytes, its blocks need 326"#,
        ),
        (
            coded("huffman", &|b| b.push(0)),
            r#"tensor "w": coded has 327 bytes, its blocks need 326"#,
        ),
        (
            coded("huffman", &|b| b[64] ^= 1),
            r#"tensor "w": coded has 326 bytes, its blocks need 327"#,
        ),
        (
            coded("huffman", &|b| b[64..68].fill(0xff)),
            r#"tensor "w": coded has 326 bytes, its blocks need 4294967363"#,
        ),
        (block("huffman", 64, &|b| b.clear()), r#"tensor "w": block 0: a stream without a coder"#),
        (
            block("huffman", 64, &|b| b.truncate(1)),
            r#"tensor "w": block 0: the stream ends within its code"#,
        ),
        (
            block("huffman", 64, &|b| b.truncate(2)),
            r#"tensor "w": block 0: the stream ends within its code"#,
        ),
        (
            block("huffman", 64, &|b| b[0] = 0),
            r#"tensor "w": block 0: plain codes of another length"#,
        ),
        (block("huffman", 64, &|b| b[0] = 2), r#"tensor "w": block 0: bytes after the stream"#),
        (
            block("huffman", 64, &|b| b[0] = 3),
            r#"tensor "w": block 0: paths through a trellis that is not known"#,
        ),
        (block("huffman", 64, &|b| b[0] = 4), r#"tensor "w": block 0: a coder that is not known"#),
        (
            block("huffman", 64, &|b| b.push(0)),
            r#"tensor "w": block 0: a lane does not end where it says, or not in zeros"#,
        ),
        (
            block("huffman", 64, &|b| b.truncate(b.len() - 1)),
            r#"tensor "w": block 0: a lane does not end where it says, or not in zeros"#,
        ),
        (
            block("huffman", 64, &|b| b[1..].fill(0)),
            r#"tensor "w": block 0: the stream is longer than its symbols"#,
        ),
        (
            block("huffman", 64, &|b| b[1..].fill(0xff)),
            r#"tensor "w": block 0: the stream is longer than its symbols"#,
        ),
        (
            block("huffman", 64, &|b| b[1] = 0xff),
            r#"tensor "w": block 0: a code that leaves bits without a meaning"#,
        ),
        (
            block("huffman", 64, &|b| *b = vec![1, 0x20, 0x20]),
            r#"tensor "w": block 0: a symbol outside the alphabet"#,
        ),
        (
            float("huffman", "w.coded", f32::NAN),
            r#"tensor "w": a scale is negative, infinite or NaN"#,
        ),
        (
            float("rans", "w.coded", f32::NAN),
            r#"tensor "w": its codebook holds an infinity or NaN"#,
        ),
        (
            block("rans", PALETTE, &|b| b[0] = 1),
            r#"tensor "w": block 0: an index that is not known"#,
        ),
        (
            block("rans", PALETTE, &|b| b[0] = 9),
            r#"tensor "w": block 0: an index that is not known"#,
        ),
        (
            block("rans", PALETTE, &|b| b[0] = 16),
            r#"tensor "w": block 0: a structure of another length"#,
        ),
        (
            block("rans", PALETTE, &|b| b[1] = 0xff),
            r#"tensor "w": block 0: an index beyond the end"#,
        ),
        (block("rans", PALETTE, &|b| b[1] = 0), r#"tensor "w": block 0: ends in a number"#),
        (
            block("rans", PALETTE, &|b| b[1] -= 1),
            r#"tensor "w": block 0: a lane does not end where it began"#,
        ),
        (block("rans", PALETTE, &|b| b.truncate(1)), r#"tensor "w": block 0: ends in a number"#),
        (
            block("rans", PALETTE, &|b| b.push(0)),
            r#"tensor "w": block 0: a lane does not end where it began"#,
        ),
        (
            block("rans", PALETTE, &|b| *b.last_mut().unwrap() ^= 1),
            r#"tensor "w": block 0: a lane does not end where it began"#,
        ),
        (
            block("ribbon", PALETTE, &|b| b[0] = 18),
            r#"tensor "w": block 0: an index that is not known"#,
        ),
        (
            block("ribbon", PALETTE, &|b| b[0] = 17),
            r#"tensor "w": block 0: not as many cells as bytes"#,
        ),
        (
            block("ribbon", PALETTE, &|b| b[1] ^= 1),
            r#"tensor "w": block 0: a structure of another length"#,
        ),
        (block("ribbon", PALETTE, &|b| b.truncate(2)), r#"tensor "w": block 0: ends in a number"#),
        (
            block("ribbon", PALETTE, &|b| *b = vec![16, 0]),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            block("ribbon", PALETTE, &|b| b.push(0)),
            r#"tensor "w": block 0: a structure of another length"#,
        ),
        (block("bloomier", PALETTE, &|b| b[0] = 16), r#"tensor "w": block 0: too many ribbons"#),
        (
            block("bloomier", PALETTE, &|b| b.truncate(4)),
            r#"tensor "w": block 0: a structure of another length"#,
        ),
        (
            block("bloomier", PALETTE, &|b| *b = vec![17, 0x80, 0x80, 0x80, 0x80, 0x80]),
            r#"tensor "w": block 0: a number is too long"#,
        ),
        (
            block("lossless", 0, &|b| b.clear()),
            r#"tensor "w": block 0: the bytes end before the floats"#,
        ),
        (
            block("lossless", 0, &|b| b[0] = 0),
            r#"tensor "w": block 0: not as many plain bytes as there should be"#,
        ),
        (
            block("lossless", 0, &|b| b[0] = 17),
            r#"tensor "w": block 0: exponents that do not have the ranks that they should"#,
        ),
        (
            block("lossless", 0, &|b| b.push(0)),
            r#"tensor "w": block 0: a code that leaves bits without a meaning"#,
        ),
        (
            block("lossless", 0, &|b| b.truncate(b.len() - 1)),
            r#"tensor "w": block 0: a code that leaves bits without a meaning"#,
        ),
        (
            block("lossless", 0, &|b| b[1] ^= 0x80),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        // Codebooks of vectors.
        (enter("vectors", "w.codebook", "w.codebooks"), r#"tensor "w": codebook is missing"#),
        (
            enter("vectors", "\"shape\":[1,1,12,4]", "\"shape\":[1,1,4,12]"),
            r#"tensor "w": codebook is I16 [1, 1, 4, 12], expected I16 [1, 1, 12, 4] in the same file"#,
        ),
        (
            enter("vectors", "\"shape\":[1,1,12,4]", "\"shape\":[48]"),
            r#"tensor "w": codebook is I16 [48], expected I16 [1, 1, 12, 4] in the same file"#,
        ),
        (
            enter(
                "vectors",
                "\"w.codebook\":{\"dtype\":\"I16\"",
                "\"w.codebook\":{\"dtype\":\"F16\"",
            ),
            r#"tensor "w": codebook is F16 [1, 1, 12, 4], expected I16 [1, 1, 12, 4] in the same file"#,
        ),
        (
            describe("vectors", "[4,12,1,1,32]", "[4,13,1,1,32]"),
            r#"tensor "w": codebook is I16 [1, 1, 12, 4], expected I16 [1, 1, 13, 4] in the same file"#,
        ),
        (
            describe("vectors", "[4,12,1,1,32]", "[2,12,1,2,32]"),
            r#"tensor "w": codes is U32 [16, 1], expected U32 [16, 4] in the same file"#,
        ),
        (number("vectors", 2048), r#"tensor "w": its codebook holds a number beyond 2047"#),
        (number("vectors", -2048), r#"tensor "w": its codebook holds a number beyond 2047"#),
        (number("vectors", i16::MIN), r#"tensor "w": its codebook holds a number beyond 2047"#),
        (number("vectors", -2047), r#"restored tensor "w": digest mismatch, the file is damaged"#),
        (
            changed("vectors", &|p| p.bytes("w.codes").fill(0xff)),
            r#"tensor "w": a code is beyond the 12 entries of its codebook"#,
        ),
        (
            float("vectors", "w.scales", f32::NAN),
            r#"tensor "w": a scale is negative, infinite or NaN"#,
        ),
        // In a coded one behind the scale.
        (
            coded("residual", &|b| b[4..6].copy_from_slice(&2048i16.to_le_bytes())),
            r#"tensor "w": its codebook holds a number beyond 2047"#,
        ),
        (
            coded("residual", &|b| b[4..6].copy_from_slice(&(-2047i16).to_le_bytes())),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        // Gains and numbers of pyramids.
        (enter("pyramid", "w.gains", "w.gain"), r#"tensor "w": gains is missing"#),
        (
            enter("pyramid", "\"shape\":[16]", "\"shape\":[16,1]"),
            r#"tensor "w": gains is F32 [16, 1], expected F32 [16] in the same file"#,
        ),
        (
            enter("pyramid", "\"w.gains\":{\"dtype\":\"F32\"", "\"w.gains\":{\"dtype\":\"U32\""),
            r#"tensor "w": gains is U32 [16], expected F32 [16] in the same file"#,
        ),
        (
            describe("pyramid", "[8,9,4]", "[8,9,3]"),
            r#"tensor "w": gains is F32 [16], expected F32 [8] in the same file"#,
        ),
        (
            float("pyramid", "w.gains", f32::NAN),
            r#"tensor "w": a gain is negative, infinite or NaN"#,
        ),
        (
            float("pyramid", "w.gains", f32::INFINITY),
            r#"tensor "w": a gain is negative, infinite or NaN"#,
        ),
        (float("pyramid", "w.gains", -1.0), r#"tensor "w": a gain is negative, infinite or NaN"#),
        // They need not fall: that is what the encoder makes of them, and restored weights are others.
        (
            float("pyramid", "w.gains", 1e-3),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
        (
            changed("pyramid", &|p| p.bytes("w.codes")[..3].fill(0xff)),
            r#"tensor "w": a number is of no vector of its pyramid"#,
        ),
        (
            last("pyramid", "w.codes", 0x80),
            r#"tensor "w": its codes have bits beyond the end of a row"#,
        ),
        (
            changed("pyramid", &|p| p.bytes("w.codes")[0] ^= 0x10),
            r#"restored tensor "w": digest mismatch, the file is damaged"#,
        ),
    ]
}
