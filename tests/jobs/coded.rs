//! Entropy-coded archives: smaller than the figures of the papers, and bit for bit where that is promised.

use crate::support::{CPU, WEIGHTS, backends, gpu, options, write_checkpoint};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use tersor::{
    Backend, DType, Error,
    format::Archive,
    nn::{Architecture, Arithmetic, LENET_5, LENET_300_100, Model, Network},
    pipeline::{compress, decompress, verify},
    recipe::Recipe,
    report::Report,
};

fn preset(name: &str, input: &Path, output: &Path) -> Report {
    compress(input, output, &Recipe::preset(name).unwrap(), &options(&CPU)).unwrap()
}

fn unpack(name: &str, header: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name);
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes.split_off(header)
}

/// Wrong classes of the MNIST test images, in percent, of a network that runs on the archive's own codes.
fn test_error(path: &Path, architecture: Architecture, on: &Backend) -> f64 {
    let (pixels, labels) =
        (unpack("t10k-images-idx3-ubyte.gz", 16), unpack("t10k-labels-idx1-ubyte.gz", 8));
    let model = Model::open(path).unwrap();
    let network = Network::load(&model, on, architecture, Arithmetic::Float).unwrap();
    let classes = network.classify(on, &pixels).unwrap();
    let wrong = classes.iter().zip(&labels).filter(|(c, l)| **c != usize::from(**l)).count();
    100.0 * wrong as f64 / labels.len() as f64
}

/// A pruned network, out of the archive that holds it.
fn pruned(name: &str, to: &Path) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name);
    let restored = to.join(name);
    decompress(&path, &restored, &options(&CPU)).unwrap();
    restored
}

#[test]
fn coded_presets_cost_the_bits_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let (input, packed) = (dir.path().join("in"), dir.path().join("out"));
    // Matrices of the least size for which they promise it, of light and of heavy tails, and an embedding.
    let flat = crate::support::noise(1, 384 * 384);
    let heavy: Vec<f32> = crate::support::noise(2, 384 * 1536).iter().map(|x| x * x * x).collect();
    let tensors = [("q.weight", 384, &flat), ("up.weight", 1536, &heavy), ("embed", 1536, &heavy)];
    let words = tensors.map(|(name, cols, values)| {
        (name, DType::F32, vec![384, cols], crate::support::words_of(DType::F32, values))
    });
    write_checkpoint(&input, &words);
    for (name, bits) in [("coded4", 4.0), ("coded3", 3.0)] {
        let report = preset(name, &input, &packed);
        let cost = |embedding: bool| {
            let counted = report.tensors.iter().filter(|t| (t.name == "embed") == embedding);
            let sums = counted.fold((0, 0), |(bytes, weights), t| {
                (bytes + t.bytes, weights + t.shape.iter().product::<u64>())
            });
            8.0 * sums.0 as f64 / sums.1 as f64
        };
        let (matrices, embedding) = (cost(false), cost(true));
        assert!(matrices > bits - 0.03 && matrices <= bits, "{name}: {matrices} bits a weight");
        assert!((embedding - bits - 1.0).abs() <= 0.03, "{name}: {embedding} bits a weight");
    }
}

#[test]
fn deep_beats_the_ratios_of_deep_compression() {
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("deep.safetensors");
    for (name, architecture, ratio, error) in [
        ("lenet-300-100.pruned-8pct.safetensors", LENET_300_100, 42.0, 1.65),
        ("lenet-300-100.pruned-4pct.safetensors", LENET_300_100, 72.0, 2.05),
        ("lenet-5.pruned-8pct.safetensors", LENET_5, 40.0, 0.80),
    ] {
        let input = pruned(name, dir.path());
        let report = preset("deep", &input, &packed);
        let bytes = fs::metadata(&packed).unwrap().len();
        assert_eq!(report.output_bytes, bytes);
        assert!(report.ratio >= ratio, "{name}: {:.1}x", report.ratio);
        let found = test_error(&packed, architecture, &CPU);
        println!("{name}: {bytes} bytes, {:.2}x, {found:.2} %", report.ratio);
        assert!(found <= error, "{name}: {found} %");
    }
}

#[test]
fn weightless_brings_back_survivors_and_says_what_else() {
    let dir = tempfile::tempdir().unwrap();
    let [deep, packed, back, exact] = ["d", "w", "b", "e"].map(|n| dir.path().join(n));
    // A tenth survives: t is large, and streams are smaller. With a larger limit of error it is the other way round.
    let words: Vec<u32> = crate::support::noise(5, 500 * 400)
        .iter()
        .map(|x| if x.abs() < 0.9 { 0 } else { x.to_bits() })
        .collect();
    let input = dir.path().join("in");
    write_checkpoint(&input, &[("a.weight", DType::F32, vec![500, 400], words)]);
    let smaller = preset("deep", &input, &deep);
    for (kind, max_error) in [("ribbon", 0.1), ("bloomier", 0.1), ("ribbon", 1.0)] {
        let text = format!(
            "version = 1\n[[rule]]\nmatch = \"*\"\nprune = {{ kind = \"magnitude\", density = 0.5 }}\nquantize = {{ kind = \"palette\", max_error = 0.12 }}\nencode = {{ kind = \"{kind}\", max_error = {max_error} }}\n"
        );
        let recipe = Recipe::parse(&text).unwrap();
        let report = compress(&input, &packed, &recipe, &options(&CPU)).unwrap();
        let made = report.tensors[0].retrieval.unwrap();
        assert_eq!(
            made.stream_bytes,
            smaller.tensors[0].components[..3].iter().map(|c| c.bytes).sum::<u64>()
        );
        // Expected: so many of the pruned, 2^(r - t) of them.
        let pruned = 200_000.0 * (1.0 - smaller.tensors[0].density.unwrap());
        let r = f64::from(report.tensors[0].code_bits.unwrap());
        let expected = pruned * (r - f64::from(made.result_bits)).exp2();
        let found = made.false_positives as f64;
        assert!((found - expected).abs() < 5.0 * expected.sqrt() + 1.0, "{found} of {expected}");
        let norm = report.tensors[0].error.rel_error.unwrap();
        assert!(norm < (0.12f64.powi(2) + (1.1f64 * max_error).powi(2)).sqrt(), "{kind}: {norm}");
        // Every survivor is what deep makes of it, and the others are zero, or a survivor's value.
        decompress(&packed, &back, &options(&CPU)).unwrap();
        decompress(&deep, &exact, &options(&CPU)).unwrap();
        let values = |path: &Path| -> Vec<f32> {
            let c = tersor::format::Checkpoint::open(path).unwrap();
            let mut bytes = vec![0; c.tensors[0].bytes as usize];
            c.read_at(0, c.tensors[0].offset(), &mut bytes).unwrap();
            bytemuck::pod_collect_to_vec(&bytes)
        };
        let (found, expected) = (values(&back), values(&exact));
        let differ = found.iter().zip(&expected).filter(|(f, e)| f != e);
        assert!(differ.clone().all(|(_, e)| *e == 0.0));
        assert!(differ.count() as u64 <= made.false_positives);
    }
}

#[test]
fn a_dense_network_is_pruned_to_the_density_of_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("deep.safetensors");
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lenet-300-100.safetensors");
    let report = preset("deep", &input, &packed);
    for t in report.tensors.iter().filter(|t| !t.method.is_kept()) {
        assert!(
            t.density.is_some_and(|d| (0.45..=0.501).contains(&d)),
            "{}: {:?}",
            t.name,
            t.density
        );
        assert!(
            t.method.as_str().contains("density 0.5") && t.method.as_str().contains("coded"),
            "{}",
            t.method
        );
    }
    for on in backends() {
        let found = test_error(&packed, LENET_300_100, on);
        assert!(found <= 2.0, "{found} % on {}", on.name());
    }
}

/// Every pattern of a type of 8 or 16 bits, and patterns of all kinds of the wider ones.
fn patterns(dtype: DType) -> Vec<u32> {
    let of = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(i % 31) ^ (i << 16);
    match dtype.bits() {
        8 => (0..1024).map(|i| (0..4).map(|b| ((4 * i + b) % 256) << (8 * b)).sum()).collect(),
        16 => {
            (0..1 << 16).map(|i: u32| ((2 * i) & 0xffff) | ((2 * i + 1) & 0xffff) << 16).collect()
        }
        _ => {
            (0..1 << 17).map(|i| if i % 7 < 4 { 0x3c00_0000 | of(i) >> 7 } else { of(i) }).collect()
        }
    }
}

#[test]
fn lossless_brings_back_every_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let [input, packed, back] = ["in", "packed", "back"].map(|n| dir.path().join(n));
    let tensors: Vec<_> = WEIGHTS.map(|dtype| (dtype, patterns(dtype))).into();
    let named: Vec<_> = tensors
        .iter()
        .map(|(dtype, words)| {
            (dtype.name(), *dtype, vec![words.len() * 32 / dtype.bits()], words.clone())
        })
        .collect();
    write_checkpoint(&input, &named);
    let report = preset("lossless", &input, &packed);
    for t in &report.tensors {
        assert!(t.method.is_kept() || t.error.mse == Some(0.0), "{}", t.name);
    }
    for on in backends() {
        decompress(&packed, &back, &options(on)).unwrap();
        assert!(fs::read(&back).unwrap() == fs::read(&input).unwrap(), "on {}", on.name());
    }
    verify(&packed, Some(&input), &options(&CPU)).unwrap();
    // Another source is told apart, though both hold NaN.
    let mut other = fs::read(&input).unwrap();
    let last = other.len() - 1;
    other[last] ^= 1;
    let changed = dir.path().join("changed");
    fs::write(&changed, other).unwrap();
    assert!(matches!(verify(&packed, Some(&changed), &options(&CPU)), Err(Error::Differs { .. })));
}

#[test]
fn networks_run_on_codes_that_the_device_decodes() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, coded] = ["plain", "coded"].map(|n| dir.path().join(n));
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lenet-300-100.safetensors");
    for quantize in [
        "{ kind = \"palette\", bits = 4 }",
        "{ kind = \"palette\", k = 100 }",
        "{ kind = \"affine\", bits = 3, granularity = \"channel\" }",
        "{ kind = \"affine\", bits = 8, symmetric = false, granularity = \"tensor\" }",
    ] {
        for encode in ["huffman", "rans", "auto"] {
            let pack = |encode: &str, output: &Path| {
                let text = format!(
                    "version = 1\n[[rule]]\nmatch = \"*.weight\"\nquantize = {quantize}\nencode = \"{encode}\"\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
                );
                let recipe = Recipe::parse(&text).unwrap();
                compress(&input, output, &recipe, &options(&CPU)).unwrap()
            };
            let (raw, small) = (pack("raw", &plain), pack(encode, &coded));
            assert!(small.output_bytes < raw.output_bytes, "{quantize}, {encode}");
            for on in backends() {
                let errors = [&plain, &coded].map(|p| test_error(p, LENET_300_100, on));
                assert_eq!(errors[0], errors[1], "{quantize}, {encode} on {}", on.name());
            }
        }
    }
}

#[test]
fn the_same_coded_bytes_from_the_device() {
    let Some(on) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [input, one, two] = ["in", "one", "two"].map(|n| dir.path().join(n));
    // Several blocks, more than a unit of the device, and a tensor of one row that is cut into pieces.
    let cubes = |seed, n| -> Vec<u32> {
        crate::support::noise(seed, n).iter().map(|x| (x * x * x).to_bits()).collect()
    };
    write_checkpoint(
        &input,
        &[
            ("a.weight", DType::F32, vec![3000, 1000], cubes(1, 3_000_000)),
            ("b.weight", DType::F32, vec![1, 3_000_000], cubes(2, 3_000_000)),
        ],
    );
    for name in ["deep", "lossless"] {
        preset(name, &input, &one);
        compress(&input, &two, &Recipe::preset(name).unwrap(), &options(on)).unwrap();
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap(), "{name}");
        assert!(Archive::open(&two).unwrap().tensors.iter().any(|t| t.treated.is_some()));
        decompress(&two, &one, &options(on)).unwrap();
        verify(&two, Some(&input), &options(on)).unwrap();
    }
}

#[test]
fn weights_are_decoded_on_the_device() {
    // Few and many survivors or all, every coder and structure, blocks of which some are one value, rows that are cut; a device that
    // holds no unit leaves them to the host.
    let Some(on) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [input, packed, cpu, device] = ["in", "packed", "cpu", "gpu"].map(|n| dir.path().join(n));
    let cubes = |seed, n| -> Vec<f32> {
        crate::support::noise(seed, n)
            .iter()
            .map(|x| if *x == 0.0 { 0.5 } else { x * x * x })
            .collect()
    };
    let mut uneven = cubes(1, 1500 * 501);
    uneven[600 * 501..1400 * 501].fill(-2.0);
    let tensors = [
        ("a.weight", DType::F32, vec![1500, 501], crate::support::words_of(DType::F32, &uneven)),
        (
            "b.weight",
            DType::F16,
            vec![1, 1_600_001],
            crate::support::words_of(DType::F16, &cubes(2, 1_600_001)),
        ),
        (
            "c.weight",
            DType::BF16,
            vec![301, 7],
            crate::support::words_of(DType::BF16, &cubes(3, 301 * 7)),
        ),
        (
            "d.weight",
            DType::F8E4M3,
            vec![70, 33],
            crate::support::words_of(DType::F8E4M3, &cubes(4, 70 * 33)),
        ),
        (
            "e.weight",
            DType::F64,
            vec![60, 31],
            crate::support::words_of(DType::F64, &cubes(5, 60 * 31)),
        ),
    ];
    write_checkpoint(&input, &tensors);
    let mut treatments = Vec::new();
    for density in [0.02, 0.6] {
        for (encode, bits) in
            [("huffman", 3), ("rans", 8), ("auto", 4), ("auto", 1), ("ribbon", 4), ("bloomier", 2)]
        {
            treatments.push(format!(
                "prune = {{ kind = \"magnitude\", density = {density} }}\n\
                 quantize = {{ kind = \"palette\", bits = {bits} }}\nencode = \"{encode}\""
            ));
        }
    }
    for quantize in [
        "{ kind = \"palette\", bits = 4 }",
        "{ kind = \"palette\", bits = 2, granularity = \"channel\" }",
        "{ kind = \"affine\", bits = 8 }",
        "{ kind = \"affine\", bits = 3, symmetric = false, granularity = \"channel\" }",
    ] {
        for encode in ["huffman", "rans"] {
            treatments.push(format!("quantize = {quantize}\nencode = \"{encode}\""));
        }
    }
    for treatment in treatments {
        let text = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{treatment}\n");
        let recipe = Recipe::parse(&text).unwrap();
        compress(&input, &packed, &recipe, &options(&CPU)).unwrap();
        decompress(&packed, &cpu, &options(&CPU)).unwrap();
        let report = decompress(&packed, &device, &options(on)).unwrap();
        assert!(fs::read(&cpu).unwrap() == fs::read(&device).unwrap(), "{treatment}");
        let counts = (report.cpu_tiles, report.repaired_tiles);
        assert!(report.gpu_tiles > 0 && counts == (0, 0), "{treatment}: {:?}", report.cpu_reasons);
        if let Some(tiny) = crate::support::tiny_gpu() {
            let report = decompress(&packed, &device, &options(tiny)).unwrap();
            assert!(fs::read(&cpu).unwrap() == fs::read(&device).unwrap(), "{treatment}, tiny");
            assert_eq!(report.repaired_tiles, 0, "{treatment}, tiny: {:?}", report.cpu_reasons);
        }
    }
}

#[test]
fn every_set_of_instructions_makes_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    let cubes: Vec<f32> = crate::support::noise(1, 900 * 400).iter().map(|x| x * x * x).collect();
    write_checkpoint(
        &input,
        &[("a.weight", DType::BF16, vec![900, 400], crate::support::words_of(DType::BF16, &cubes))],
    );
    for preset in ["int8", "palette4", "coded4", "deep", "weightless", "lossless"] {
        let made = ["", "avx2", "none"].map(|simd| {
            let out = dir.path().join(format!("{preset}{simd}"));
            let mut job = crate::support::tersor();
            job.arg("compress")
                .arg(&input)
                .args(["--preset", preset, "--quiet", "--device", "cpu", "-o"]);
            assert!(job.arg(&out).env("TERSOR_SIMD", simd).status().unwrap().success());
            fs::read(out).unwrap()
        });
        assert!(made[0] == made[1] && made[0] == made[2], "{preset}");
    }
}
