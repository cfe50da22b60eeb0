//! How many experts a mixture has, by its config.json.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint, quantized::marks::MAX_CONFIG, safetensors::index::read_object,
    },
    quote::json_error,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The keys that say it.
const KEYS: [&str; 4] = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/// The numbers of experts that the config.json beside the weights gives, for the model or for a part of it such as `text_config`; none
/// where there is no such file.
///
/// # Errors
///
/// [`Error::Format`](crate::Error::Format) if config.json cannot be understood.
pub fn numbers_of_experts(checkpoint: &Checkpoint) -> Result<BTreeSet<u64>> {
    let path = checkpoint.folder().join("config.json");
    let mut numbers = BTreeSet::new();
    if path.is_file() {
        let text = read_object(&path, MAX_CONFIG)?;
        let config: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|e| Error::format(&path, json_error(&e)))?;
        let parts = config.values().filter_map(Value::as_object);
        for part in parts.chain([&config]) {
            numbers.extend(KEYS.iter().filter_map(|key| part.get(*key)?.as_u64()));
        }
    }
    Ok(numbers)
}
