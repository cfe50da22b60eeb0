//! Checkpoints that are quantized already: what they mark as quantized is carried bit for bit.

use crate::{
    DType, Result,
    format::{checkpoint::Checkpoint, safetensors::index::read_json},
};
use serde::{Deserialize, de::IgnoredAny};
use std::collections::HashSet;

/// Largest config.json that is read. Those of large vocabularies of classes take a few megabytes.
pub(in crate::format) const MAX_CONFIG: u64 = 16 << 20;

/// What other quantizers store beside their codes, by the last part of its name.
const PACKED: [&str; 5] = ["qweight", "weight_packed", "weight_format", "quant_map", "SCB"];

/// Why each tensor must be carried bit for bit because the checkpoint is quantized already, if so: where config.json has a
/// `quantization_config`, where a module holds packed integers, and for weights of 8-bit floats with scales beside them, and
/// the scales.
///
/// # Errors
///
/// [`Error::Format`](crate::Error::Format) if config.json cannot be understood.
pub fn already_quantized(checkpoint: &Checkpoint) -> Result<Vec<Option<&'static str>>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        quantization_config: Option<IgnoredAny>,
    }
    let config = checkpoint.root.join("config.json");
    if checkpoint.is_folder && config.is_file() {
        let config: Config = read_json(&config, MAX_CONFIG)?;
        if config.quantization_config.is_some() {
            let why = "the checkpoint is already quantized (config.json)";
            return Ok(vec![Some(why); checkpoint.tensors.len()]);
        }
    }
    let is_f8 = |dtype| matches!(dtype, DType::F8E4M3 | DType::F8E5M2);
    // Modules by the path before the last dot. A scale may also be named after the weight: `weight.scale`.
    let (mut packed, mut scaled, mut f8) = (HashSet::new(), HashSet::new(), HashSet::new());
    for t in &checkpoint.tensors {
        let (module, last) = parted(&t.name);
        if PACKED.contains(&last) {
            packed.extend([module, module.strip_suffix(".weight").unwrap_or(module)]);
        }
        if last.contains("scale") {
            scaled.insert(module);
        } else if is_f8(t.dtype) {
            f8.extend([module, &t.name]);
        }
    }
    let reason = |t: &crate::TensorInfo| {
        let (module, last) = parted(&t.name);
        let is_scale = last.contains("scale");
        match t.dtype {
            _ if is_scale && f8.contains(module) => Some("scales of an already quantized weight"),
            d if is_f8(d) && (scaled.contains(module) || scaled.contains(&*t.name)) => {
                Some("already quantized: FP8 with scales")
            }
            d if !d.is_weight() => None,
            _ if !module.is_empty() && packed.contains(module) && last != "weight" => {
                Some("belongs to a layer that is already quantized")
            }
            _ => None,
        }
    };
    Ok(checkpoint.tensors.iter().map(reason).collect())
}

fn parted(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}
