use crate::cli::{CANCEL, Common, table};
use clap::Args;
use serde::Serialize;
use std::path::Path;
use tersor::{
    Backend, Error, Result, Silent,
    nn::{Arithmetic, Calibration, IntegerNetwork, LENET_300_100, Model, Network, idx},
    pipeline,
    recipe::{PRESETS, Recipe},
    report,
};

/// LeNet-300-100, trained on MNIST; see assets/README.md.
const NETWORK: &[u8] = include_bytes!("../../assets/lenet-300-100.safetensors");
const IMAGES: &[u8] = include_bytes!("../../assets/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../assets/t10k-labels-idx1-ubyte.gz");

/// No preset: it is for networks that were trained for it, and shows what becomes of one that was not.
const BINARY: &str = include_str!("../../recipes/binary.toml");

/// Images that the integer network is calibrated on.
const CALIBRATION: usize = 200;

#[derive(Args)]
pub struct Demo {
    #[command(flatten)]
    pub common: Common,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    network: &'a str,
    images: usize,
    backend: &'a str,
    presets: &'a [Row],
}

#[derive(Default, Serialize)]
struct Row {
    preset: &'static str,
    bytes: u64,
    ratio: f64,
    bits_per_weight: f64,
    rel_error: f64,
    test_error_before: f64,
    test_error_after: f64,
    /// Of the network that runs on the compressed weights.
    inference_error: f64,
    /// What it multiplies.
    inference: &'static str,
    /// What its weights take on the device.
    inference_bytes: u64,
    seconds: f64,
    backend: String,
}

impl Demo {
    pub fn run(self) -> Result<u8> {
        let backend = self.common.backend()?;
        let unpack = |gz| idx::read(Path::new("the embedded images"), gz, 10_000 * 784);
        let (pixels, labels) = (unpack(IMAGES)?.data, unpack(LABELS)?.data);
        let folder = Scratch::new()?;
        let model = folder.0.join("lenet-300-100.safetensors");
        std::fs::write(&model, NETWORK).map_err(Error::io(&model))?;
        let test = |classes: Vec<usize>| {
            let wrong = classes.iter().zip(&labels).filter(|(c, l)| **c != usize::from(**l));
            wrong.count() as f64 / labels.len() as f64
        };
        let load = |on: &Backend, path: &Path| {
            Network::load(&Model::open(path)?, on, LENET_300_100, Arithmetic::Float)
        };
        let original = load(backend, &model)?;
        let before = test(original.classify(backend, &pixels)?);
        // Scales between integer layers come from the first images, without their labels.
        let calibration = Calibration::measure(&original, backend, &pixels[..CALIBRATION * 784])?;
        let mut rows = Vec::new();
        for (preset, recipe) in PRESETS.into_iter().chain([("binary", BINARY)]) {
            CANCEL.check()?;
            let options = self.common.options(backend, &Silent, true);
            let (archive, restored) =
                (folder.0.join("archive.safetensors"), folder.0.join("restored.safetensors"));
            let report = pipeline::compress(&model, &archive, &Recipe::parse(recipe)?, &options)?;
            pipeline::decompress(&archive, &restored, &options)?;
            let after = test(load(backend, &restored)?.classify(backend, &pixels)?);
            let inference = match preset {
                "int8" => {
                    let archive = Model::open(&archive)?;
                    let network =
                        IntegerNetwork::load(&archive, backend, LENET_300_100, &calibration)?;
                    let classes = network.classes(&network.sums(backend, &pixels)?);
                    (test(classes), "integers", network.bytes())
                }
                _ => {
                    let network = load(backend, &archive)?;
                    (test(network.classify(backend, &pixels)?), "codes x f32", network.bytes())
                }
            };
            rows.push(row(preset, &report, before, after, inference));
        }
        let json = Report {
            ok: true,
            network: "LeNet-300-100",
            images: labels.len(),
            backend: backend.name(),
            presets: &rows,
        };
        let any_would_do = self.common.device()? == tersor::Device::Auto;
        self.common.print("demo", &json, || {
            let head =
                ["preset", "bytes", "ratio", "bits/weight", "rel error", "test error", "before", "compressed form", "runs as", "on device", "seconds", "backend"];
            let mut cells = vec![head.map(String::from).to_vec()];
            cells.push(vec!["(original)".into(), NETWORK.len().to_string(), "1.00x".into(), "32.00".into(), "0".into(), percent(before)]);
            cells.extend(rows.iter().map(|r| {
                vec![
                    r.preset.into(),
                    r.bytes.to_string(),
                    format!("{:.2}x", r.ratio),
                    format!("{:.2}", r.bits_per_weight),
                    format!("{:.5}", r.rel_error),
                    percent(r.test_error_after),
                    percent(r.test_error_before),
                    percent(r.inference_error),
                    r.inference.into(),
                    r.inference_bytes.to_string(),
                    format!("{:.3}", r.seconds),
                    r.backend.clone(),
                ]
            }));
            let why = match backend {
                // Nobody has looked for one where the CPU was asked for.
                tersor::Backend::Cpu
                    if any_would_do && tersor::gpu::adapters().iter().all(|a| a.software) =>
                {
                    "No hardware GPU was found, so the CPU did the work; the bytes would be the same.\n"
                }
                _ => "",
            };
            format!(
                "LeNet-300-100 on the {} MNIST test images: with the weights restored from each archive, and run on the archive's own codes.\n\n{}\n{why}",
                labels.len(),
                table::table(&cells)
            )
        })?;
        Ok(0)
    }
}

fn row(
    preset: &'static str,
    report: &report::Report,
    before: f64,
    after: f64,
    (inference_error, inference, inference_bytes): (f64, &'static str, u64),
) -> Row {
    let treated: Vec<_> = report.tensors.iter().filter(|t| !t.method.is_kept()).collect();
    let weights: u64 = treated.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let bytes: u64 = treated.iter().map(|t| t.bytes).sum();
    // The largest of the tensors, which is what a user has to fear.
    let rel_error = treated.iter().filter_map(|t| t.error.rel_error).fold(0.0, f64::max);
    Row {
        preset,
        bytes: report.output_bytes,
        ratio: report.ratio,
        bits_per_weight: bytes as f64 * 8.0 / weights as f64,
        rel_error,
        test_error_before: before,
        test_error_after: after,
        inference_error,
        inference,
        inference_bytes,
        seconds: report.seconds,
        backend: report.backend.clone(),
    }
}

fn percent(x: f64) -> String {
    format!("{:.2} %", 100.0 * x)
}

/// A folder of its own that goes away again.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tersor-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[path = "../../tests/support/schema.rs"]
mod schema;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_what_the_schema_says() {
        let schema = serde_json::from_str(include_str!("../../docs/json.schema.json")).unwrap();
        let presets = &[Row::default()];
        let report = Report { ok: true, network: "", images: 10_000, backend: "cpu", presets };
        let text = crate::cli::json::object("demo", &report).unwrap();
        assert_eq!(schema::violation(&schema, &serde_json::from_str(&text).unwrap()), None);
    }
}
