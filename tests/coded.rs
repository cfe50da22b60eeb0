//! Entropy-coded archives: smaller than the figures of the papers, bit for bit where that is promised, and refused when damaged.

mod support;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use support::{CPU, WEIGHTS, backends, gpu, write_checkpoint};
use tersor::{
    Backend, Cancel, DType, Error, Silent,
    format::Archive,
    nn::{Architecture, Arithmetic, LENET_5, LENET_300_100, Model, Network},
    pipeline::{Options, compress, decompress, verify},
    recipe::Recipe,
    report::Report,
};

static CANCEL: Cancel = Cancel::new();

fn options(backend: &Backend) -> Options<'_> {
    let (progress, cancel) = (&Silent, &CANCEL);
    Options { backend, threads: 2, memory: 1 << 30, force: true, resume: false, progress, cancel }
}

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

/// The pruned networks, which lie beside the project where it is developed.
fn pruned(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lenet").join(name);
    if !path.exists() {
        support::skipped(format!("{name} is not there"));
        return None;
    }
    Some(path)
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
        let Some(input) = pruned(name) else { continue };
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
    let words: Vec<u32> = support::noise(5, 500 * 400)
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
            c.read_at(0, c.tensors[0].offset, &mut bytes).unwrap();
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
    for t in report.tensors.iter().filter(|t| t.method != "kept") {
        assert!(
            t.density.is_some_and(|d| (0.45..=0.501).contains(&d)),
            "{}: {:?}",
            t.name,
            t.density
        );
        assert!(t.method.contains("density 0.5") && t.method.contains("coded"), "{}", t.method);
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
        assert!(t.method == "kept" || t.error.mse == Some(0.0), "{}", t.name);
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
fn every_flipped_bit_and_every_truncation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [input, packed, bad] = ["in", "packed", "bad"].map(|n| dir.path().join(n));
    let words: Vec<u32> =
        support::noise(3, 60 * 40).iter().map(|x| (x * x * x).to_bits()).collect();
    write_checkpoint(&input, &[("a.weight", DType::F32, vec![60, 40], words)]);
    preset("deep", &input, &packed);
    let good = fs::read(&packed).unwrap();
    assert!(good.len() < 3000, "{} bytes", good.len());
    let refused = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        verify(&bad, None, &options(&CPU)).is_err()
    };
    for bit in 0..good.len() * 8 {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&damaged), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(refused(&good[..len]), "{len} bytes");
    }
    assert!(!refused(&good));
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
        support::noise(seed, n).iter().map(|x| (x * x * x).to_bits()).collect()
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
