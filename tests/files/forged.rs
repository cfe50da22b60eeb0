//! Archives that lie although every digest is right: each refused, by name, at little cost.

use crate::support::{CPU, least, measured, noise, options, words_of, write_checkpoint};
use std::{fs, path::Path};
use tersor::{
    DType,
    form::{Method, Palette, TensorManifest},
    format::{
        Archive, ArchivedTensor, Checkpoint, Digest, Entry, Manifest, OutputFile, Preface, Target,
    },
    nn::{Arithmetic, LENET_300_100, Model, Network},
    pipeline,
    recipe::Recipe,
};

/// The archive of a checkpoint, with components changed and every digest right.
fn forged(from: &Path, to: &Path, change: impl Fn(&str, &mut [u8])) {
    let same_length = |name: &str, bytes: &mut Vec<u8>| change(name, bytes);
    forged_with(from, to, |_| (), same_length);
}

/// The same, where what the manifest says of its tensors changes, too, and components may get another length.
fn forged_with(
    from: &Path,
    to: &Path,
    describe: impl Fn(&mut TensorManifest),
    change: impl Fn(&str, &mut Vec<u8>),
) {
    let source = Checkpoint::open(from).unwrap();
    let metadata = &source.files[0].metadata;
    let text = metadata.get("tersor").unwrap();
    let (mut manifest, _): (Manifest, Digest) =
        Manifest::parse(text, source.tensors.len()).unwrap();
    let of = |t: ArchivedTensor| Some((t.name, t.source?));
    manifest.sources = Archive::open(from).unwrap().tensors.into_iter().filter_map(of).collect();
    let target = Target::claim(to, &source, true).unwrap();
    let described = manifest.tensors.clone();
    manifest.tensors.values_mut().for_each(describe);
    // Longer numbers need more room.
    let room = if manifest.tensors == described { 0 } else { 64 };
    let out = OutputFile::create(&target, source.files[0].data_start + room, 0).unwrap();
    let mut at = 0;
    let entry = |t: &tersor::TensorInfo| {
        let mut bytes = vec![0; t.bytes as usize];
        source.read_at(0, t.offset(), &mut bytes).unwrap();
        change(&t.name, &mut bytes);
        out.write_at(at, &bytes).unwrap();
        let start = at;
        at += bytes.len() as u64;
        let shape = if start + t.bytes == at { t.shape.clone() } else { vec![at - start] };
        Entry { name: t.name.clone().into(), dtype: t.dtype, shape: shape.into(), bytes: start..at }
    };
    let entries: Vec<_> = source.tensors.iter().map(entry).collect();
    manifest.chunks = out.digest_chunks(at).unwrap().0;
    out.seal(&entries, Preface { manifest: Some(&manifest), metadata }, at).unwrap();
    out.publish(target).unwrap();
}

#[test]
fn padding_of_codes_is_zero() {
    let options = options(&CPU);
    let dir = tempfile::tempdir().unwrap();
    let [input, archive, bad] =
        ["in", "out", "bad"].map(|n| dir.path().join(format!("{n}.safetensors")));
    let words = words_of(DType::F32, &noise(1, 64 * 33));
    write_checkpoint(&input, &[("a.weight", DType::F32, vec![64, 33], words)]);
    for what in [
        "quantize = { kind = \"affine\", bits = 4 }",
        "quantize = { kind = \"palette\", bits = 2, granularity = \"channel\" }",
        "prune = { kind = \"n:m\", n = 1, m = 4 }\nquantize = { kind = \"affine\", bits = 8 }",
    ] {
        let recipe = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{what}\n");
        pipeline::compress(&input, &archive, &Recipe::parse(&recipe).unwrap(), &options).unwrap();
        forged(&archive, &bad, |_, _| ());
        assert_eq!(fs::read(&archive).unwrap(), fs::read(&bad).unwrap());
        // The last bit of the last row's last word lies beyond its last code.
        forged(&archive, &bad, |name, bytes| {
            if name.ends_with("codes") {
                *bytes.last_mut().unwrap() |= 0x80;
            }
        });
        assert!(Archive::open(&bad).is_ok());
        let error = pipeline::verify(&bad, Some(&input), &options).unwrap_err().to_string();
        assert!(error.contains("bits beyond the end of a row"), "{what}: {error}");
        let back = dir.path().join("back.safetensors");
        assert!(pipeline::decompress(&bad, &back, &options).is_err() && !back.exists());
    }
}

#[test]
fn coded_tensors_that_lie_are_refused_and_cost_little() {
    let least = least();
    let dir = tempfile::tempdir().unwrap();
    let [input, archive, bad, back] =
        ["in", "out", "bad", "back"].map(|n| dir.path().join(format!("{n}.safetensors")));
    // Two blocks of 1 MiB and a shorter one.
    let words = words_of(DType::F32, &noise(1, 600 * 1000));
    write_checkpoint(&input, &[("a.weight", DType::F32, vec![600, 1000], words)]);
    let affine =
        "quantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"channel\" }";
    let palette = "quantize = { kind = \"palette\", k = 3 }";
    let pruned = format!("prune = {{ kind = \"magnitude\", density = 0.1 }}\n{palette}");
    for (what, tables, encodes) in [
        ("", 0, ["auto", "auto"]),
        (affine, 3000, ["huffman", "rans"]),
        (palette, 12, ["huffman", "rans"]),
        (&pruned, 12, ["auto", "auto"]),
        (&pruned, 12, ["ribbon", "bloomier"]),
    ] {
        for encode in encodes {
            let recipe =
                format!("version = 1\n[[rule]]\nmatch = \"*\"\n{what}\nencode = \"{encode}\"\n");
            let options = options(&CPU);
            pipeline::compress(&input, &archive, &Recipe::parse(&recipe).unwrap(), &options)
                .unwrap();
            let refused = |why: &str,
                           describe: &dyn Fn(&mut TensorManifest),
                           change: &dyn Fn(&mut Vec<u8>)| {
                forged_with(&archive, &bad, describe, |_, bytes| change(bytes));
                let [bad, back] = [&bad, &back].map(|p| p.to_str().unwrap());
                for args in [
                    &["verify", bad, "--device", "cpu"][..],
                    &["decompress", bad, "-o", back, "--device", "cpu"],
                    &["verify", bad, "--device", "gpu"],
                ] {
                    if args.contains(&"gpu") && crate::support::gpu().is_none() {
                        continue;
                    }
                    let (code, said, seconds, most) = measured(args);
                    let context = format!("{what}, {encode}, {why}: {args:?} {code:?} {said}");
                    assert!(matches!(code, Some(1..100)), "{context}");
                    assert!(
                        said.contains("a.weight") || said.contains("disk is too full"),
                        "{context}"
                    );
                    let room = if args.contains(&"gpu") { 300_000_000 } else { 80_000_000 };
                    assert!(seconds < 20.0 && most < least + room, "{context}: {most} bytes");
                }
            };
            let u32_at = |bytes: &[u8], i: usize| {
                u32::from_le_bytes(bytes[tables + 4 * i..][..4].try_into().unwrap())
            };
            let set = |bytes: &mut [u8], i: usize, to: u32| {
                bytes[tables + 4 * i..][..4].copy_from_slice(&to.to_le_bytes());
            };
            let same = |_: &mut TensorManifest| ();
            refused("empty", &same, &|bytes| bytes.clear());
            refused("only tables", &same, &|bytes| bytes.truncate(tables));
            refused("only lengths", &same, &|bytes| bytes.truncate(tables + 12));
            refused("no blocks", &same, &|bytes| {
                bytes.truncate(tables + 12);
                bytes[tables..].fill(0);
            });
            // As sums of 32 bits these would be right.
            refused("a sum that wraps", &same, &|bytes| {
                let sum = u32_at(bytes, 0).wrapping_add(u32_at(bytes, 1));
                set(bytes, 0, u32::MAX);
                set(bytes, 1, sum.wrapping_add(1));
            });
            refused("a block without bytes", &same, &|bytes| {
                let sum = u32_at(bytes, 0) + u32_at(bytes, 1);
                set(bytes, 0, 0);
                set(bytes, 1, sum);
            });
            refused("blocks that share the bytes otherwise", &same, &|bytes| {
                let [a, b] = [0, 1].map(|i| u32_at(bytes, i));
                set(bytes, 0, a - 1);
                set(bytes, 1, b + 1);
            });
            refused("blocks of zeros", &same, &|bytes| bytes[tables + 12..].fill(0));
            refused("blocks of ones", &same, &|bytes| bytes[tables + 12..].fill(0xff));
            for shape in [
                vec![1 << 50, 1 << 8],
                vec![1 << 8, 1 << 50],
                vec![1 << 58],
                vec![1 << 58, 1],
                vec![1 << 20, 1000],
                vec![601, 1000],
                vec![1000, 600],
            ] {
                let why = format!("shape {shape:?}");
                refused(&why, &|t| t.shape = shape.clone(), &|_| ());
            }
            if !what.is_empty() {
                let not_finite = |bytes: &mut Vec<u8>| {
                    bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                };
                refused("a table with NaN", &same, &not_finite);
            }
        }
    }
}

#[test]
fn codes_beyond_a_table_are_refused_where_a_network_decodes_them() {
    let dir = tempfile::tempdir().unwrap();
    let [archive, bad] = ["out", "bad"].map(|n| dir.path().join(n));
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lenet-300-100.safetensors");
    for encode in ["huffman", "rans"] {
        let recipe = format!(
            "version = 1\n[[rule]]\nmatch = \"*.weight\"\nquantize = {{ kind = \"palette\", k = 16 }}\nencode = \"{encode}\"\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
        );
        pipeline::compress(&input, &archive, &Recipe::parse(&recipe).unwrap(), &options(&CPU))
            .unwrap();
        // Codes of 4 bits are called codes of 2.
        forged_with(
            &archive,
            &bad,
            |t| t.method = Method::Palette(Palette { k: 4, rows: 0, trellis: None }),
            |name, bytes| {
                if name.ends_with(".coded") {
                    drop(bytes.drain(16..64));
                }
            },
        );
        let model = Model::open(&bad).unwrap();
        for on in crate::support::backends() {
            let loaded = Network::load(&model, on, LENET_300_100, Arithmetic::Float);
            let error = loaded.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(".weight") && error.contains("outside the alphabet"), "{error}");
        }
    }
}
