//! Real networks on compressed weights, on every backend: the LeNets on the MNIST test images, and a BERT encoder beside what
//! PyTorch gives.

mod support;
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use support::{CPU, backends, gpu};
use tersor::{
    Backend, Cancel, Error, Silent,
    nn::{Arithmetic, Bert, Calibration, IntegerNetwork, LENET_5, LENET_300_100, Model, Network},
    pipeline::{Options, compress},
    recipe::Recipe,
};

static CANCEL: Cancel = Cancel::new();

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
    let options = Options {
        backend: &CPU,
        threads: 2,
        memory: 1 << 30,
        force: true,
        progress: &Silent,
        cancel: &CANCEL,
    };
    compress(input, &output, recipe, &options).unwrap();
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
        for (preset, worse) in
            [("int8", 0.1), ("int4", 0.3), ("palette8", 0.1), ("palette4", 0.3), ("sparse24", 2.0)]
        {
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

#[test]
fn binary_weights_run_on_both_backends() {
    let (pixels, labels) = images();
    for (name, architecture, limit) in
        [("lenet-300-100", LENET_300_100, 17.0), ("lenet-5", LENET_5, 12.5)]
    {
        let model = Model::open(&asset(&format!("{name}.safetensors"))).unwrap();
        let load = |on| Network::load(&model, on, architecture, Arithmetic::BinaryWeights).unwrap();
        let network = load(&CPU);
        let classes = network.classify(&CPU, &pixels).unwrap();
        let after = error(&classes, &labels);
        eprintln!("{name}, binary weights: {after} %, {} bytes", network.bytes());
        // Without retraining, signs and a mean per row lose much.
        assert!(after < limit, "{name}: {after} %");
        if let Some(on) = gpu() {
            let there = load(on).classify(on, &pixels[..500 * 784]).unwrap();
            let differ = there.iter().zip(&classes).filter(|(a, b)| a != b).count();
            assert!(differ <= 1, "{name}: {differ} of 500 differ");
        }
    }
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
        let path =
            archive(dir.path(), &original, &Recipe::preset("int8").unwrap(), "a.safetensors");
        let model = Model::open(&path).unwrap();
        let network = IntegerNetwork::load(&model, &CPU, architecture, &calibration).unwrap();
        let sums = network.sums(&CPU, &pixels).unwrap();
        let after = error(&network.classes(&sums), &labels);
        eprintln!("{name}, integers: {before} % -> {after} %, {} bytes", network.bytes());
        assert!(after <= before + 0.1, "{name}: {before} % -> {after} %");
        if let Some(on) = gpu() {
            let there = IntegerNetwork::load(&model, on, architecture, &calibration).unwrap();
            assert_eq!(there.sums(on, &pixels).unwrap(), sums, "{name}");
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
    let path = archive(dir.path(), &original, &Recipe::preset("int4").unwrap(), "a.safetensors");
    let model = Model::open(&path).unwrap();
    let error = IntegerNetwork::load(&model, &CPU, LENET_300_100, &calibration).unwrap_err();
    assert!(error.to_string().contains("\"fc1.weight\" is stored otherwise"), "{error}");
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
    for preset in ["int8", "int4", "palette8", "palette4", "sparse24"] {
        let archive = archive(dir.path(), &folder, &Recipe::preset(preset).unwrap(), preset);
        let got = cosines(&archive, &CPU, Arithmetic::Int8);
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
    let error = bert.embed(&CPU, &[&[30522]]).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}
