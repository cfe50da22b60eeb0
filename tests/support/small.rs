//! Small archives of every kind: what damage is done to, and what future versions must still read.

use super::{CPU, WEIGHTS, noise, options, words_of, write_checkpoint};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tersor::{
    DType,
    format::{Checkpoint, Entry, Preface, write_header},
    pipeline::compress,
    recipe::{PRESETS, Recipe},
};

/// Ways to treat a tensor, by a name for each.
const TREATMENTS: [(&str, &str); 29] = [
    (
        "affine",
        "quantize = { kind = \"affine\", bits = 4, symmetric = false, granularity = \"group\", group = 8 }",
    ),
    (
        "tensor-scale",
        "quantize = { kind = \"affine\", bits = 2, granularity = \"tensor\", objective = \"mse\" }",
    ),
    ("transposed", "axis = 1\nquantize = { kind = \"affine\", bits = 5 }\nmax_rel_error = 0.5"),
    ("palette", "quantize = { kind = \"palette\", k = 3 }"),
    ("palettes", "quantize = { kind = \"palette\", bits = 1, granularity = \"channel\" }"),
    ("binary", "quantize = { kind = \"binary\" }"),
    ("two-of-four", "prune = { kind = \"n:m\", n = 2, m = 4 }"),
    (
        "channels",
        "prune = { kind = \"channel\", density = 0.5 }\nquantize = { kind = \"affine\", bits = 3 }",
    ),
    ("blocks", "prune = { kind = \"block\", density = 0.4, block = [2, 4] }\nencode = \"auto\""),
    ("huffman", "quantize = { kind = \"affine\", bits = 4 }\nencode = \"huffman\""),
    ("rans", "quantize = { kind = \"entropy\", bits = 1.5 }\nencode = \"rans\""),
    (
        "deep-huffman",
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"huffman\"",
    ),
    (
        "deep-rans",
        "prune = { kind = \"magnitude\", density = 0.2 }\nquantize = { kind = \"palette\", k = 5 }\nencode = \"rans\"",
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
    ("trellis", "quantize = { kind = \"trellis\", bits = 5, states = 8 }\nencode = \"rans\""),
    (
        "trellis-error",
        "axis = 1\nquantize = { kind = \"trellis\", max_error = 0.1, states = 4 }\nencode = \"auto\"",
    ),
    (
        "deep-trellis",
        "prune = { kind = \"magnitude\", density = 0.5 }\nquantize = { kind = \"trellis\", max_error = 0.05, states = 64 }\nencode = \"auto\"",
    ),
    (
        "vectors",
        "quantize = { kind = \"vector\", d = 4, k = 11, granularity = \"group\", group = 8, scales = \"bf16\" }",
    ),
    ("pyramid", "quantize = { kind = \"pyramid\", n = 8, k = 9, gain_bits = 4 }"),
    ("product", "axis = 1\nquantize = { kind = \"product\", d = 3, k = 4, spaces = 4 }"),
    (
        "residual-coded",
        "quantize = { kind = \"residual\", d = 1, k = 5, stages = 2, granularity = \"tensor\" }\nencode = \"auto\"",
    ),
    (
        "bf16-scales",
        "quantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = 8, scales = \"bf16\" }",
    ),
    (
        "bf16-scales-coded",
        "quantize = { kind = \"affine\", bits = 3, symmetric = false, objective = \"mse\", scales = \"bf16\" }\nencode = \"auto\"",
    ),
    (
        "hadamard-vectors",
        "transform = \"hadamard\"\nquantize = { kind = \"vector\", d = 2, k = 4 }\nencode = \"auto\"",
    ),
    (
        "hadamard",
        "transform = { kind = \"hadamard\", seed = 7 }\nquantize = { kind = \"affine\", bits = 4, granularity = \"group\", group = 8 }",
    ),
    (
        "hadamard-coded",
        "axis = 1\ntransform = { kind = \"hadamard\", block = 8 }\nquantize = { kind = \"entropy\", bits = 2.5 }\nencode = \"rans\"",
    ),
    (
        "dct",
        "transform = { kind = \"dct\", quantization = \"jpeg\" }\nquantize = { kind = \"palette\", k = 5, granularity = \"channel\" }",
    ),
];

/// Makes the archives in a folder: of each its name, and a file or a folder.
pub fn archives(into: &Path) -> Vec<(String, PathBuf)> {
    let input = into.join("input.safetensors");
    let mut made = Vec::new();
    let mut make = |name: &str, input: &Path, recipe: &str| {
        let output = into.join(format!("{name}.tersor"));
        let recipe = Recipe::parse(recipe).unwrap();
        let report = compress(input, &output, &recipe, &options(&CPU)).unwrap();
        made.push((name.to_owned(), output));
        report
    };
    let cubes = |dtype, seed, n| {
        words_of(dtype, &noise(seed, n).iter().map(|x| x * x * x).collect::<Vec<_>>())
    };
    // Every treatment of two types, and every type with four of them.
    for (name, treatment) in TREATMENTS {
        for dtype in WEIGHTS {
            let chosen = ["tensor-scale", "two-of-four", "deep-rans", "lossless"].contains(&name);
            if !chosen && ![DType::F32, DType::BF16].contains(&dtype) {
                continue;
            }
            let shape = vec![24, 16];
            write_checkpoint(
                &input,
                &[
                    ("w.weight", dtype, shape, cubes(dtype, 1, 24 * 16)),
                    ("norm", dtype, vec![3], cubes(dtype, 2, 3)),
                ],
            );
            let recipe = format!(
                "version = 1\n[[rule]]\nmatch = \"w.weight\"\n{treatment}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
            );
            let report = make(&format!("{name}-{}", dtype.name()), &input, &recipe);
            let w = report.tensors.iter().find(|t| t.name == "w.weight").unwrap();
            // Floats of a byte are mostly exponent.
            let may_be_kept = name == "lossless" && dtype.bits() == 8;
            assert!(!w.method.is_kept() || may_be_kept, "{name} of {dtype:?}");
        }
    }
    write_checkpoint(
        &input,
        &[
            ("h.0.weight", DType::F16, vec![32, 32], cubes(DType::F16, 3, 1024)),
            ("h.0.bias", DType::F16, vec![5], cubes(DType::F16, 4, 5)),
        ],
    );
    for (name, recipe) in PRESETS {
        make(name, &input, recipe);
    }
    // What is kept: every type, a scalar, tensors without elements, and values that are no numbers.
    let mut all: Vec<_> =
        DType::ALL.map(|(dtype, name)| (name, dtype, vec![1, 4], vec![0x7f80_ff00; 8])).into();
    all.push(("scalar", DType::F64, vec![], vec![1, 2]));
    all.push(("none", DType::F32, vec![0, 7], vec![]));
    checkpoint(&input, &all);
    make("every-type", &input, PRESETS[0].1);
    let mut words = cubes(DType::F32, 5, 1024);
    words[77] = f32::NAN.to_bits();
    words[78] = f32::NEG_INFINITY.to_bits();
    write_checkpoint(&input, &[("not finite", DType::F32, vec![16, 32], words[..512].to_vec())]);
    make(
        "not-finite",
        &input,
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 4 }\n",
    );
    make(
        "not-finite-lossless",
        &input,
        "version = 1\n[[rule]]\nmatch = \"*\"\nencode = \"auto\"\n",
    );
    // Codes and what is beside them: types that hold no weights, of whole bytes and of less.
    let codes = |name, dtype: DType, shape: [u64; 2], seed| {
        let nibbles = |z: u64| (0..8).map(|i| ((z >> (8 * i)) as u32 % 3) << (4 * i)).sum();
        let len = tersor::words(dtype, (shape[0] * shape[1]) as usize);
        (name, dtype, shape.to_vec(), super::splitmix64(seed).map(nibbles).take(len).collect())
    };
    checkpoint(
        &input,
        &[
            codes("h.0.qweight", DType::I32, [16, 16], 10),
            codes("h.0.weight", DType::U8, [16, 16], 11),
            codes("h.0.weight_scale", DType::F8E8M0, [16, 16], 12),
            codes("ids", DType::I64, [1, 64], 13),
            codes("small", DType::F4, [4, 4], 14),
        ],
    );
    let report = make("codes", &input, "version = 1\n[[rule]]\nmatch = \"*\"\nencode = \"auto\"\n");
    let kept = report.tensors.iter().filter(|t| t.method.is_kept()).map(|t| t.name.as_str());
    assert!(kept.eq(["small"]), "only what is no whole bytes is kept");
    // Floats that were halves, and the same of two and of eight bytes: planes of their mantissas are coded.
    let halves = |dtype: DType, seed, n| {
        let words = cubes(dtype, seed, n).into_iter();
        words.map(|w| if dtype == DType::F32 { w & 0xffff_e000 } else { w }).collect::<Vec<_>>()
    };
    write_checkpoint(
        &input,
        &[
            ("halves", DType::F32, vec![16, 32], halves(DType::F32, 15, 512)),
            ("bfloats", DType::BF16, vec![16, 32], halves(DType::BF16, 16, 512)),
            ("doubles", DType::F64, vec![16, 20], halves(DType::F64, 17, 320)),
        ],
    );
    let report =
        make("planes", &input, "version = 1\n[[rule]]\nmatch = \"*\"\nencode = \"auto\"\n");
    let kept: Vec<_> = report.tensors.iter().filter_map(|t| t.reason.as_deref()).collect();
    assert_eq!(kept, [""; 0]);
    checkpoint(&input, &[]);
    make("nothing", &input, PRESETS[0].1);
    // One row, a single weight, names that must be escaped.
    write_checkpoint(
        &input,
        &[
            ("row", DType::F32, vec![300], cubes(DType::F32, 6, 300)),
            ("\u{1b}\"\\é\u{202e}", DType::F32, vec![9, 8, 3], cubes(DType::F32, 7, 216)),
        ],
    );
    make(
        "names",
        &input,
        "version = 1\n[[rule]]\nmatch = \"*\"\nquantize = { kind = \"affine\", bits = 4 }\n",
    );
    // Stacks of matrices, as they are stored and each transposed.
    write_checkpoint(
        &input,
        &[
            ("mlp.experts.up", DType::BF16, vec![3, 8, 16], cubes(DType::BF16, 8, 384)),
            ("mlp.experts.down", DType::F32, vec![2, 16, 12], cubes(DType::F32, 9, 384)),
        ],
    );
    make(
        "experts",
        &input,
        "version = 1\n[[rule]]\nmatch = \"*.up\"\nquantize = { kind = \"affine\", bits = 4, granularity = \"channel\" }\n[[rule]]\nmatch = \"*.down\"\naxis = 1\nprune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"palette\", bits = 2, granularity = \"channel\" }\n",
    );
    // A folder of two shards, and one of a single file.
    let folder = into.join("folder");
    fs::create_dir(&folder).unwrap();
    for (file, tensor) in [("a.safetensors", "a"), ("b.safetensors", "b")] {
        let words = cubes(DType::F32, tensor.len() as u64, 512);
        write_checkpoint(&folder.join(file), &[(tensor, DType::F32, vec![16, 32], words)]);
    }
    let index = r#"{"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}"#;
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    for (name, treatment) in [TREATMENTS[0], TREATMENTS[12]] {
        let recipe = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{treatment}\n");
        make(&format!("folder-{name}"), &folder, &recipe);
    }
    // Equal tensors, which are stored once, one of them named first by the index, and once more in the other shard.
    let folder = into.join("tied");
    fs::create_dir(&folder).unwrap();
    let rare = |seed, often: u64| {
        let values = super::noise(seed, 128 * 128).into_iter().zip(super::splitmix64(seed));
        let values = values.map(|(x, z)| if z.is_multiple_of(often) { x } else { 0.0 });
        words_of(DType::F32, &values.collect::<Vec<_>>())
    };
    let few = super::splitmix64(19).map(|z| u32::from(z.is_multiple_of(99))).take(128 * 128);
    let (few, shape): (Vec<u32>, _) = (few.collect(), vec![128, 128]);
    let of_a = ["embed", "head"].map(|name| (name, DType::F32, shape.clone(), rare(18, 60)));
    let ids = ["ids", "more"].map(|name| (name, DType::I32, shape.clone(), few.clone()));
    let last = ("odd", DType::I32, vec![0], vec![]);
    write_checkpoint(&folder.join("a.safetensors"), &[&of_a[..], &ids[..], &[last]].concat());
    let other = ("other", DType::F32, shape, rare(18, 60));
    write_checkpoint(&folder.join("b.safetensors"), &[other]);
    let index = r#"{"weight_map":{"more":"a.safetensors","head":"a.safetensors","other":"b.safetensors","odd":"a.safetensors","embed":"a.safetensors","ids":"a.safetensors"}}"#;
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    let report = make(
        "folder-tied",
        &folder,
        "version = 1\n[[rule]]\nmatch = \"ids\"\nencode = \"auto\"\n[[rule]]\nmatch = \"more\"\nencode = \"auto\"\n[[rule]]\nmatch = \"*\"\nprune = { kind = \"magnitude\", density = 0.01 }\nquantize = { kind = \"palette\", k = 4 }\nencode = \"huffman\"\n",
    );
    let tied = report.tensors.iter().filter_map(|t| Some((&*t.name, t.method.tied_to()?)));
    assert!(tied.eq([("head", "embed"), ("more", "ids")]));
    made
}

/// The files of an archive that hold its tensors or say where they are.
pub fn files(archive: &Path) -> Vec<PathBuf> {
    if archive.is_file() {
        return vec![archive.into()];
    }
    let stored = Checkpoint::open(archive).unwrap();
    let names = stored.files.iter().map(|f| f.name.as_str()).chain(stored.indices());
    names.map(|name| archive.join(name)).collect()
}

/// Writes a checkpoint of any types, also those that the reference crate has no name for.
fn checkpoint(path: &Path, tensors: &[(&str, DType, Vec<u64>, Vec<u32>)]) {
    let (mut header, mut data, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for (name, dtype, shape, words) in tensors {
        let len = dtype.bytes(shape.iter().product::<u64>() as usize);
        let start = data.len() as u64;
        data.extend(&bytemuck::cast_slice::<u32, u8>(words)[..len]);
        let bytes = start..data.len() as u64;
        entries.push(Entry { name: (*name).into(), dtype: *dtype, shape: shape.into(), bytes });
    }
    write_header(&mut header, Preface::default(), "", entries).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}
