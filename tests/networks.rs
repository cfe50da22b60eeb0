//! Real networks on compressed weights, on every backend: the LeNets on the MNIST test images, and a BERT encoder beside what
//! PyTorch gives.

mod support;
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use support::{CPU, backends, gpu, options};
use tersor::{
    Backend, DType, Tensor,
    kernels::Activation,
    nn::{
        Arithmetic, Bert, Calibration, Embedding, IntegerNetwork, LENET_5, LENET_300_100, Linear,
        Model, Network,
    },
    pipeline::compress,
    recipe::Recipe,
};

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

fn unpack(name: &str, header: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(asset(name)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes.split_off(header)
}

fn images() -> (Vec<u8>, Vec<u8>) {
    (unpack("t10k-images-idx3-ubyte.gz", 16), unpack("t10k-labels-idx1-ubyte.gz", 8))
}

fn archive(dir: &Path, input: &Path, recipe: &Recipe, name: &str) -> PathBuf {
    let output = dir.join(name);
    compress(input, &output, recipe, &options(&CPU)).unwrap();
    output
}

/// Wrong classes in percent.
fn error(classes: &[usize], labels: &[u8]) -> f64 {
    assert_eq!(classes.len(), labels.len());
    let wrong = classes.iter().zip(labels).filter(|(c, l)| **c != usize::from(**l)).count();
    100.0 * wrong as f64 / labels.len() as f64
}

#[test]
fn lenets_classify_with_compressed_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (pixels, labels) = images();
    for (name, architecture, expected) in
        [("lenet-300-100", LENET_300_100, 1.47), ("lenet-5", LENET_5, 0.74)]
    {
        let original = asset(&format!("{name}.safetensors"));
        let model = Model::open(&original).unwrap();
        let float = Network::load(&model, &CPU, architecture, Arithmetic::Float).unwrap();
        let before = error(&float.classify(&CPU, &pixels).unwrap(), &labels);
        assert!((before - expected).abs() < 0.011, "{name}: {before} %");
        for (preset, worse) in [
            ("int8", 0.1),
            ("int4", 0.3),
            ("palette8", 0.1),
            ("palette4", 0.3),
            ("coded4", 0.3),
            ("coded3", 0.5),
            ("sparse24", 2.0),
        ] {
            let path =
                archive(dir.path(), &original, &Recipe::preset(preset).unwrap(), "a.safetensors");
            let model = Model::open(&path).unwrap();
            let network = Network::load(&model, &CPU, architecture, Arithmetic::Float).unwrap();
            assert!(network.bytes() < float.bytes(), "{name}, {preset}: {} bytes", network.bytes());
            let after = error(&network.classify(&CPU, &pixels).unwrap(), &labels);
            eprintln!("{name}, {preset}: {before} % -> {after} %, {} bytes", network.bytes());
            assert!(after <= before + worse, "{name}, {preset}: {before} % -> {after} %");
            // The GPU multiplies in another order; a thousand images are enough to see that it runs the same network.
            if let Some(on) = gpu() {
                let few = &pixels[..500 * 784];
                let there = Network::load(&model, on, architecture, Arithmetic::Float).unwrap();
                let (a, b) =
                    (there.classify(on, few).unwrap(), network.classify(&CPU, few).unwrap());
                let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
                assert!(differ <= 1, "{name}, {preset}: {differ} of 500 differ");
            }
        }
    }
}

fn bits(t: &Tensor, on: &Backend) -> Vec<u32> {
    t.read(on).unwrap()
}

fn images_of(on: &Backend, pixels: &[u8]) -> Tensor {
    let values: Vec<f32> = pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
    Tensor::from_f32(on, &values, pixels.len()).unwrap()
}

#[test]
fn binary_weights_run_on_both_backends() {
    let dir = tempfile::tempdir().unwrap();
    let (pixels, labels) = images();
    let recipe = Recipe::parse(include_str!("../recipes/binary.toml")).unwrap();
    for (name, architecture, limit) in
        [("lenet-300-100", LENET_300_100, 17.0), ("lenet-5", LENET_5, 12.5)]
    {
        let original = asset(&format!("{name}.safetensors"));
        let path = archive(dir.path(), &original, &recipe, "a.safetensors");
        let (model, stored) = (Model::open(&original).unwrap(), Model::open(&path).unwrap());
        let load =
            |model, on, arithmetic| Network::load(model, on, architecture, arithmetic).unwrap();
        // The archive keeps tiny tensors; BinaryWeights takes the signs of those as well.
        for (model, arithmetic, limit) in
            [(&stored, Arithmetic::Float, limit), (&model, Arithmetic::BinaryWeights, limit)]
        {
            let network = load(model, &CPU, arithmetic);
            let classes = network.classify(&CPU, &pixels).unwrap();
            let after = error(&classes, &labels);
            eprintln!("{name}, binary, {arithmetic:?}: {after} %, {} bytes", network.bytes());
            // Without retraining, signs and a mean per row lose much.
            assert!(after < limit, "{name}: {after} %");
            if let Some(on) = gpu() {
                let there = load(model, on, arithmetic);
                let there = there.classify(on, &pixels[..500 * 784]).unwrap();
                let differ = there.iter().zip(&classes).filter(|(a, b)| a != b).count();
                assert!(differ <= 1, "{name}: {differ} of 500 differ");
            }
        }
        // Signs and means of what was restored are those of the original.
        let images = images_of(&CPU, &pixels[..100 * 784]);
        let outputs = |model| {
            let network = load(model, &CPU, Arithmetic::BinaryWeights);
            bits(&network.forward(&CPU, &images).unwrap(), &CPU)
        };
        assert_eq!(outputs(&model), outputs(&stored), "{name}");
    }
}

/// Wrong classes in percent with signs for weights and inputs, of networks that were not trained for it: after a ReLU all signs
/// are the same, so that LeNet-300-100 has to guess.
const GUESSED: f64 = 91.23;
const SIGNS: f64 = 23.32;

/// The mean magnitude as rows of signs have it: of magnitudes in steps of the 32767th part of the largest.
fn mean_magnitude(row: &[f32]) -> f64 {
    let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let steps = (32767.0 / f64::from(largest)) as f32;
    let sum: f64 = row.iter().map(|x| f64::from((x.abs() * steps).round_ties_even())).sum();
    f64::from((sum * f64::from(largest) / 32767.0 / row.len() as f64) as f32)
}

/// An output of a layer with signs for weights and inputs, by definition: the dot product of the signs times both mean magnitudes,
/// before the bias.
fn product_of_signs(x: &[f32], w: &[f32]) -> f64 {
    let sign = |v: f32| if v < 0.0 { -1.0 } else { 1.0 };
    let dot: f64 = x.iter().zip(w).map(|(x, w)| sign(*x) * sign(*w)).sum();
    dot * mean_magnitude(x) * mean_magnitude(w)
}

/// An output of a layer with signs for weights alone.
fn product_with_signs(x: &[f32], w: &[f32]) -> f64 {
    let signed = |(x, w): (&f32, &f32)| if *w < 0.0 { -f64::from(*x) } else { f64::from(*x) };
    x.iter().zip(w).map(signed).sum::<f64>() * mean_magnitude(w)
}

/// The outputs of LeNet-300-100 with such layers: the first and the last take their inputs as they are (Rastegari et al. 2016).
fn signs_by_definition(pixels: &[u8]) -> Vec<f64> {
    let bytes = std::fs::read(asset("lenet-300-100.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: String| -> Vec<f32> {
        let data = tensors.tensor(&name).unwrap().data();
        data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let mut x: Vec<f32> = pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
    for (layer, product) in
        [("fc1", product_with_signs as fn(&[f32], &[f32]) -> f64), ("fc2", product_of_signs)]
    {
        let (w, bias) = (values(format!("{layer}.weight")), values(format!("{layer}.bias")));
        let output = |(w, b): (&[f32], &f32)| product(&x, w) + f64::from(*b);
        x = w.chunks(x.len()).zip(&bias).map(|row| output(row).max(0.0) as f32).collect();
    }
    let (w, bias) = (values("fc3.weight".into()), values("fc3.bias".into()));
    w.chunks(x.len()).zip(bias).map(|(w, b)| product_with_signs(&x, w) + f64::from(b)).collect()
}

#[test]
fn binary_networks_give_what_signs_give() {
    let (pixels, labels) = images();
    for (name, architecture, expected) in
        [("lenet-300-100", LENET_300_100, GUESSED), ("lenet-5", LENET_5, SIGNS)]
    {
        let model = Model::open(&asset(&format!("{name}.safetensors"))).unwrap();
        let load = |on| Network::load(&model, on, architecture, Arithmetic::Binary).unwrap();
        let network = load(&CPU);
        // A bit a weight, means and biases.
        let float = Network::load(&model, &CPU, architecture, Arithmetic::Float).unwrap();
        assert!(network.bytes() < float.bytes() / 20, "{name}: {} bytes", network.bytes());
        let classes = network.classify(&CPU, &pixels).unwrap();
        let after = error(&classes, &labels);
        assert!((after - expected).abs() < 0.011, "{name}: {after} %");
        let outputs = |network: &Network, on: &Backend| {
            network.forward(on, &images_of(on, &pixels[..100 * 784])).unwrap()
        };
        let got = outputs(&network, &CPU).read_f32(&CPU).unwrap();
        if name == "lenet-300-100" {
            let expected = pixels.chunks(784).take(100).flat_map(signs_by_definition);
            for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
                let near = (f64::from(*got) - expected).abs() <= 1e-5 * (1.0 + expected.abs());
                assert!(near, "output {i}: {got}, not {expected}");
            }
        }
        // The first layer adds floats, and every backend in an order of its own.
        if let Some(on) = gpu() {
            let on_gpu = outputs(&load(on), on).read_f32(on).unwrap();
            for (i, (a, b)) in on_gpu.iter().zip(&got).enumerate() {
                assert!(
                    (a - b).abs() <= 1e-5 * (1.0 + b.abs()),
                    "{name}, output {i}: {a}, not {b}"
                );
            }
        }
    }
    // The layer itself, on inputs of either sign; rows of many lengths, one of zeros.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    for (m, n, k) in [(1, 1, 1), (3, 5, 31), (9, 33, 64), (70, 65, 333)] {
        let w: Vec<f32> = support::noise(1, n * k);
        let b: Vec<f32> = support::noise(2, n);
        let mut x: Vec<f32> = support::noise(3, m * k);
        x[..k].fill(-0.0);
        support::write_checkpoint(
            &path,
            &[
                ("l.weight", DType::F32, vec![n, k], support::words_of(DType::F32, &w)),
                ("l.bias", DType::F32, vec![n], support::words_of(DType::F32, &b)),
            ],
        );
        let model = Model::open(&path).unwrap();
        let run = |on: &Backend| {
            let layer =
                Linear::load(&model, on, "l", k, Activation::Relu, Arithmetic::Binary).unwrap();
            layer.forward(on, &Tensor::from_f32(on, &x, m).unwrap()).unwrap().read_f32(on).unwrap()
        };
        let got = run(&CPU);
        for (i, got) in got.iter().enumerate() {
            let product = product_of_signs(&x[i / n * k..][..k], &w[i % n * k..][..k]);
            let b = f64::from(b[i % n]);
            // Two products and a sum.
            let bound = 3.1 * 0.5f64.powi(24) * (product.abs() + b.abs());
            assert!((f64::from(*got) - (product + b).max(0.0)).abs() <= bound, "{m} {n} {k}");
        }
        if let Some(on) = gpu() {
            let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(run(on)), bits(got), "{m} {n} {k}");
        }
    }
}

/// A layer `l` of `[n, k]` weights, compressed.
fn layer(dir: &Path, (n, k): (usize, usize), what: &str) -> Model {
    let input = dir.join("in.safetensors");
    let weights: Vec<f32> = support::noise(7, n * k).iter().map(|w| w + 0.3).collect();
    support::write_checkpoint(
        &input,
        &[
            ("l.weight", DType::F32, vec![n, k], support::words_of(DType::F32, &weights)),
            ("l.bias", DType::F32, vec![n], support::words_of(DType::F32, &support::noise(8, n))),
        ],
    );
    let text = format!(
        "version = 1\n[[rule]]\nmatch = \"*.weight\"\n{what}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
    );
    let path = archive(dir, &input, &Recipe::parse(&text).unwrap(), "out.safetensors");
    Model::open(&path).unwrap()
}

#[test]
fn integer_layers_multiply_codes_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (5, 23, 71);
    // Whole numbers from some negative one on, 255 apart: codes of 8 bits say them exactly.
    let mut x: Vec<f32> = (0..m * k)
        .map(|i| (((i % k) * 37 + i / k * 11) % 256) as f32 - (40 * (i / k)) as f32)
        .collect();
    for (r, row) in x.chunks_mut(k).enumerate() {
        row[..2].copy_from_slice(&[-40.0 * r as f32, 255.0 - 40.0 * r as f32]);
    }
    let identity: Vec<f32> = (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect();
    let affine = |bits: u8, symmetric: bool, granularity: &str| {
        format!(
            "quantize = {{ kind = \"affine\", bits = {bits}, symmetric = {symmetric}, granularity = \"{granularity}\" }}"
        )
    };
    let mut forms = Vec::new();
    for bits in [2, 3, 4, 7, 8] {
        for symmetric in [true, false] {
            for granularity in ["channel", "tensor"] {
                forms.push(affine(bits, symmetric, granularity));
                let prune = "prune = { kind = \"magnitude\", density = 0.5 }";
                forms.push(format!("{prune}\n{}", affine(bits, symmetric, granularity)));
            }
        }
    }
    for form in &forms {
        let model = layer(dir.path(), (n, k), form);
        let load = |on: &Backend, arithmetic| {
            Linear::load(&model, on, "l", k, Activation::None, arithmetic).unwrap()
        };
        let run = |on: &Backend, layer: &Linear, x: &[f32]| {
            let x = Tensor::from_f32(on, x, x.len() / k).unwrap();
            layer.forward(on, &x).unwrap().read_f32(on).unwrap()
        };
        let float = load(&CPU, Arithmetic::Float);
        let zero = run(&CPU, &float, &vec![0.0; k]);
        let restored = run(&CPU, &float, &identity);
        for on in backends() {
            let integer = load(on, Arithmetic::Int8);
            assert!(integer.is_int8() && !float.is_int8());
            for (i, got) in run(on, &integer, &x).into_iter().enumerate() {
                let (row, o) = (&x[i / n * k..][..k], i % n);
                let products = row
                    .iter()
                    .enumerate()
                    .map(|(c, x)| f64::from(*x) * f64::from(restored[c * n + o] - zero[o]));
                let expected = products.clone().sum::<f64>() + f64::from(zero[o]);
                let magnitude = products.map(f64::abs).sum::<f64>();
                let error = (f64::from(got) - expected).abs();
                assert!(error <= 1e-5 * magnitude, "{form} on {}: {got}, {expected}", on.name());
            }
        }
        let mixed = load(&CPU, Arithmetic::Mixed);
        assert_eq!(mixed.is_int8(), form.contains("bits = 8"), "{form}");
    }
    // What there is no product for is named, with what there is.
    let group = "quantize = { kind = \"affine\", bits = 8, granularity = \"group\", group = 8 }";
    let palette = "quantize = { kind = \"palette\", bits = 4 }";
    let axis = format!("axis = 1\n{}", affine(8, true, "channel"));
    for (form, found) in [
        (group, "int8 per 8,"),
        (palette, "palette 16 per tensor,"),
        ("prune = { kind = \"n:m\", n = 2, m = 4 }", "pruned, values,"),
        (&axis, "int8 per channel, axis = 1,"),
        ("keep = true", "F32,"),
    ] {
        let model = layer(dir.path(), (24, 64), form);
        let load = |a| Linear::load(&model, &CPU, "l", 64, Activation::None, a);
        let error = load(Arithmetic::Int8).unwrap_err().to_string();
        let expected = format!(
            "layer \"l\": \"l.weight\" is stored as {found} expected integer codes with a scale for each row, or one for all"
        );
        assert!(error.contains(&expected), "{error}");
        assert!(!load(Arithmetic::Mixed).unwrap().is_int8(), "{form}");
    }
    let model = layer(dir.path(), (1, 70_000), &affine(8, true, "tensor"));
    let load = |a| Linear::load(&model, &CPU, "l", 70_000, Activation::None, a);
    let error = load(Arithmetic::Int8).unwrap_err().to_string();
    assert!(
        error.contains("\"l\": \"l.weight\" has 70000 inputs, expected at most 66311"),
        "{error}"
    );
}

#[test]
fn integers_alone_give_the_same_sums_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (pixels, labels) = images();
    for (name, architecture) in [("lenet-300-100", LENET_300_100), ("lenet-5", LENET_5)] {
        let original = asset(&format!("{name}.safetensors"));
        let float = Model::open(&original).unwrap();
        let float = Network::load(&float, &CPU, architecture, Arithmetic::Float).unwrap();
        let before = error(&float.classify(&CPU, &pixels).unwrap(), &labels);
        let calibration = Calibration::measure(&float, &CPU, &pixels[..200 * 784]).unwrap();
        // int8 with zero points, and codes of fewer bits, have integer products too.
        let codes = |bits: u8, symmetric: bool, granularity: &str| {
            let text = format!(
                "version = 1\n[[rule]]\nmatch = \"*.weight\"\nquantize = {{ kind = \"affine\", bits = {bits}, symmetric = {symmetric}, granularity = \"{granularity}\", objective = \"mse\" }}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
            );
            Recipe::parse(&text).unwrap()
        };
        for (form, recipe, worse) in [
            ("int8", Recipe::preset("int8").unwrap(), 0.1),
            ("uint8 per channel", codes(8, false, "channel"), 0.1),
            ("uint8 per tensor", codes(8, false, "tensor"), 0.1),
            ("int4 per channel", codes(4, true, "channel"), 1.0),
        ] {
            let path = archive(dir.path(), &original, &recipe, "a.safetensors");
            let model = Model::open(&path).unwrap();
            let network = IntegerNetwork::load(&model, &CPU, architecture, &calibration).unwrap();
            let sums = network.sums(&CPU, &pixels).unwrap();
            let after = error(&network.classes(&sums), &labels);
            eprintln!(
                "{name}, {form}, integers: {before} % -> {after} %, {} bytes",
                network.bytes()
            );
            assert!(after <= before + worse, "{name}, {form}: {before} % -> {after} %");
            if let Some(on) = gpu() {
                let there = IntegerNetwork::load(&model, on, architecture, &calibration).unwrap();
                let count = if form == "int8" { 10_000 } else { 500 };
                let there = there.sums(on, &pixels[..count * 784]).unwrap();
                assert_eq!(there, sums[..count * 10], "{name}, {form}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let model = Model::open(&asset("lenet-300-100.safetensors")).unwrap();
    let error = Network::load(&model, &CPU, LENET_5, Arithmetic::Float).unwrap_err().to_string();
    assert!(error.contains("layer \"conv1\": \"conv1.weight\" is missing"), "{error}");
    let mut wider = LENET_300_100;
    wider.image = [28, 29, 1];
    let error = Network::load(&model, &CPU, wider, Arithmetic::Float).unwrap_err().to_string();
    assert!(
        error.contains("\"fc1.weight\" is F32 [300, 784], expected floats for 812 inputs"),
        "{error}"
    );
    let float = Network::load(&model, &CPU, LENET_300_100, Arithmetic::Float).unwrap();
    let calibration = Calibration::measure(&float, &CPU, &[7; 784]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let original = asset("lenet-300-100.safetensors");
    let path =
        archive(dir.path(), &original, &Recipe::preset("palette4").unwrap(), "a.safetensors");
    let model = Model::open(&path).unwrap();
    let error = IntegerNetwork::load(&model, &CPU, LENET_300_100, &calibration).unwrap_err();
    let expected =
        "layer \"fc1\": \"fc1.weight\" is stored as palette 16 per tensor, expected integer codes";
    assert!(error.to_string().contains(expected), "{error}");
    // A calibration of another network; images that are none; a window that does not fit; a bias that does not.
    let model = Model::open(&asset("lenet-5.safetensors")).unwrap();
    let error = IntegerNetwork::load(&model, &CPU, LENET_5, &calibration).unwrap_err().to_string();
    assert!(error.contains("layers of the calibration is 3, expected 4"), "{error}");
    let images = Tensor::from_f32(&CPU, &[0.0; 785], 785).unwrap();
    let error = float.forward(&CPU, &images).unwrap_err().to_string();
    assert!(error.contains("values of the images is 785, expected a multiple of 784"), "{error}");
    let mut smaller = LENET_5;
    smaller.image = [28, 5, 1];
    let error = Network::load(&model, &CPU, smaller, Arithmetic::Float).unwrap_err().to_string();
    assert!(error.contains("layer \"conv1\": \"conv1.weight\" on 28 x 5 pixels"), "{error}");
    let path = dir.path().join("bias.safetensors");
    let zeros = |n| vec![0; n];
    support::write_checkpoint(
        &path,
        &[
            ("l.weight", DType::F32, vec![3, 4], zeros(12)),
            ("l.bias", DType::F32, vec![2], zeros(2)),
        ],
    );
    let model = Model::open(&path).unwrap();
    let load = |a| Linear::load(&model, &CPU, "l", 4, Activation::None, a);
    let error = load(Arithmetic::Float).unwrap_err().to_string();
    assert!(error.contains("layer \"l\": \"l.bias\" is F32 [2], expected 3 floats"), "{error}");
    let nan = support::words_of(DType::F32, &[f32::NAN; 12]);
    support::write_checkpoint(&path, &[("l.weight", DType::F32, vec![3, 4], nan)]);
    let model = Model::open(&path).unwrap();
    for arithmetic in [Arithmetic::Binary, Arithmetic::BinaryWeights] {
        let load = Linear::load(&model, &CPU, "l", 4, Activation::None, arithmetic);
        let error = load.unwrap_err().to_string();
        assert!(
            error.contains("layer \"l\": \"l.weight\" holds NaN or infinite values"),
            "{error}"
        );
    }
}

/// The folder of all-MiniLM-L6-v2 (`scripts/fetch_minilm.sh`), or `None` after saying so.
fn minilm() -> Option<PathBuf> {
    let folder =
        std::env::var_os("TERSOR_MINILM").map_or_else(|| asset("../minilm"), PathBuf::from);
    let found = folder.join("model.safetensors").is_file();
    if !found {
        eprintln!("SKIPPED: no all-MiniLM-L6-v2; get it with scripts/fetch_minilm.sh minilm");
    }
    found.then_some(folder)
}

struct Reference {
    tokens: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f32>>,
}

fn reference() -> Reference {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/minilm-embeddings.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words =
        |name: &str| bytemuck::pod_collect_to_vec::<u8, u32>(file.tensor(name).unwrap().data());
    let (lengths, tokens) = (words("lengths"), words("tokens"));
    let mut at = 0;
    let sentence = |n: &u32| {
        at += *n as usize;
        tokens[at - *n as usize..at].to_vec()
    };
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor("embeddings").unwrap().data());
    Reference {
        tokens: lengths.iter().map(sentence).collect(),
        embeddings: values.chunks(384).map(<[f32]>::to_vec).collect(),
    }
}

/// Cosine of every sentence with PyTorch's embedding: the mean and the two least.
fn cosines(folder: &Path, on: &Backend, arithmetic: Arithmetic) -> (f64, f64, f64) {
    let reference = reference();
    let bert = Bert::load(folder, on, arithmetic).unwrap();
    let tokens: Vec<&[u32]> = reference.tokens.iter().map(|t| &t[..]).collect();
    let embeddings = bert.embed(on, &tokens).unwrap();
    assert_eq!(embeddings.len(), 20);
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let mut all: Vec<f64> = embeddings.iter().zip(&reference.embeddings).map(cosine).collect();
    all.sort_by(f64::total_cmp);
    let (mean, least, second) = (all.iter().sum::<f64>() / 20.0, all[0], all[1]);
    eprintln!(
        "{}, {}: cosine {mean:.5} in the mean, {least:.5} and {second:.5} at least",
        folder.display(),
        on.name()
    );
    (mean, least, second)
}

/// Only the dense layers of the encoder, as the reference figures were taken.
fn linear_layers(quantize: &str) -> Recipe {
    let text = format!(
        "version = 1\n[[rule]]\nregex = \"encoder\\\\.layer\\\\..*(query|key|value|dense)\\\\.weight\"\nquantize = {quantize}\n[[rule]]\nmatch = \"*\"\nkeep = true\n"
    );
    Recipe::parse(&text).unwrap()
}

#[test]
fn bert_agrees_with_pytorch() {
    let Some(folder) = minilm() else { return };
    for on in backends() {
        let (_, least, _) = cosines(&folder, on, Arithmetic::Float);
        assert!(least >= 0.99999, "{}: {least}", on.name());
    }
    let dir = tempfile::tempdir().unwrap();
    let int8 = r#"{ kind = "affine", bits = 8, symmetric = true, granularity = "channel", objective = "range" }"#;
    let int4 = |symmetric: bool| {
        format!(
            r#"{{ kind = "affine", bits = 4, symmetric = {symmetric}, granularity = "group", group = 32, objective = "mse" }}"#
        )
    };
    // The rules of compressed-tensors reach 0.9962, 0.9528 and 0.9668 on these sentences (scripts/peers_embedding.py). One of them
    // is a single word, whose embedding hangs on three tokens: it may stay below the others.
    for (quantize, arithmetic, mean, second) in [
        (int8.to_owned(), Arithmetic::Int8, 0.998, 0.993),
        (int4(true), Arithmetic::Float, 0.958, 0.93),
        (int4(false), Arithmetic::Float, 0.969, 0.95),
    ] {
        let archive = archive(dir.path(), &folder, &linear_layers(&quantize), "linear");
        for on in backends() {
            let got = cosines(&archive, on, arithmetic);
            assert!(
                got.0 >= mean && got.2 >= second && got.1 >= 0.89,
                "{quantize} on {}: {got:?}",
                on.name()
            );
        }
    }
    for preset in ["int8", "int4", "palette8", "palette4", "coded4", "sparse24"] {
        let archive = archive(dir.path(), &folder, &Recipe::preset(preset).unwrap(), preset);
        let got = cosines(&archive, &CPU, Arithmetic::Mixed);
        assert!(got.0 >= 0.9 || preset == "sparse24", "{preset}: {got:?}");
    }
}

#[test]
fn bert_refuses_what_it_cannot_run() {
    let Some(folder) = minilm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let weights = dir.path().join("model.safetensors");
    std::fs::copy(folder.join("model.safetensors"), &weights).unwrap();
    for (from, to, expected) in [
        ("\"bert\"", "\"gpt2\"", "model_type is \"gpt2\", expected bert"),
        ("\"gelu\"", "\"silu\"", "hidden_act is \"silu\", expected gelu or relu"),
        (
            "\"absolute\"",
            "\"relative_key\"",
            "position_embedding_type is \"relative_key\", expected absolute",
        ),
        ("\"num_attention_heads\": 12", "\"num_attention_heads\": 7", "expected a divisor of 384"),
        (
            "\"hidden_size\": 384",
            "\"hidden_size\": 768",
            "is F32 [30522, 384], expected floats for 768 inputs",
        ),
        (
            "\"num_hidden_layers\": 6",
            "\"num_hidden_layers\": 7",
            "encoder.layer.6.attention.self.query",
        ),
        ("\"hidden_size\": 384,", "", "missing field `hidden_size`"),
    ] {
        assert!(config.contains(from), "{from}");
        std::fs::write(dir.path().join("config.json"), config.replace(from, to)).unwrap();
        let error = Bert::load(dir.path(), &CPU, Arithmetic::Float).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let bert = Bert::load(&folder, &CPU, Arithmetic::Float).unwrap();
    let error = bert.embed(&CPU, &[&[101; 513]]).unwrap_err();
    assert!(error.to_string().contains("tokens is 513, expected at most 512"), "{error}");
    let error = bert.embed(&CPU, &[&[30522]]).unwrap_err().to_string();
    assert!(error.contains("word_embeddings: token is 30522, expected below 30522"), "{error}");
}

#[test]
fn a_head_that_is_tied_to_an_embedding_is_the_same_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let (rows, k) = (128, 160);
    let words = support::words_of(DType::F32, &support::noise(1, rows * k));
    let names = ["embed.weight", "head.weight"];
    let tensors = names.map(|name| (name, DType::F32, vec![rows, k], words.clone()));
    support::write_checkpoint(&input, &tensors);
    let x = Tensor::from_f32(&CPU, &support::noise(2, 3 * k), 3).unwrap();
    for treatment in [
        "keep = true",
        "encode = \"auto\"",
        "quantize = { kind = \"affine\", bits = 4 }",
        "prune = { kind = \"n:m\", n = 2, m = 4 }\nquantize = { kind = \"palette\", k = 5 }",
    ] {
        let text = format!("version = 1\n[[rule]]\nmatch = \"*\"\n{treatment}\n");
        let path = archive(dir.path(), &input, &Recipe::parse(&text).unwrap(), "tied");
        let model = Model::open(&path).unwrap();
        let [embed, head] = ["embed", "head"].map(|name| {
            let none = Activation::None;
            let layer = Linear::load(&model, &CPU, name, k, none, Arithmetic::Float).unwrap();
            layer.forward(&CPU, &x).unwrap().read_f32(&CPU).unwrap()
        });
        assert_eq!(embed, head, "{treatment}");
        assert!(embed.iter().any(|y| *y != 0.0));
        assert_eq!(model.shape("head.weight"), Some((DType::F32, &[128, 160][..])));
        std::fs::remove_file(path).unwrap();
    }
}

/// A layer and an embedding of vectors are what their restored weights are.
#[test]
fn vectors_are_multiplied_and_looked_up_as_they_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (n, k) = (48, 96);
    let x = support::noise(2, 3 * k);
    for (what, bytes) in [
        ("kind = \"vector\", d = 4, k = 64", n * 20 + n * 4 + 64 * 8),
        (
            "kind = \"residual\", d = 8, k = 16, stages = 2, granularity = \"tensor\"",
            n * 12 + 4 + 512,
        ),
    ] {
        for encode in ["", "encode = \"auto\""] {
            let model = layer(dir.path(), (n, k), &format!("quantize = {{ {what} }}\n{encode}"));
            let back = dir.path().join("back");
            tersor::pipeline::decompress(
                &dir.path().join("out.safetensors"),
                &back,
                &options(&CPU),
            )
            .unwrap();
            let restored = Model::open(&back).unwrap();
            for on in backends() {
                let x = Tensor::from_f32(on, &x, 3).unwrap();
                let run = |model: &Model| {
                    let (none, float) = (Activation::None, Arithmetic::Float);
                    let linear = Linear::load(model, on, "l", k, none, float).unwrap();
                    let embedding = Embedding::load(model, on, "l", k).unwrap();
                    let rows = embedding.forward(on, &[7, 0, 47]).unwrap();
                    let y = linear.forward(on, &x).unwrap().read_f32(on).unwrap();
                    (y, rows.read_f32(on).unwrap(), embedding.bytes())
                };
                let (coded, plain) = (run(&model), run(&restored));
                assert_eq!(coded.1, plain.1, "{what} on {}", on.name());
                assert_eq!(coded.2, bytes as u64, "{what}");
                for (a, b) in coded.0.iter().zip(&plain.0) {
                    assert!((a - b).abs() <= 1e-4, "{what} on {}: {a}, {b}", on.name());
                }
            }
        }
    }
}
