//! How many experts a mixture has, by its config.json.

use crate::{
    Result,
    format::{checkpoint::Checkpoint, quantized::MAX_CONFIG, safetensors::index::read_json},
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The keys that say it.
const KEYS: [&str; 4] = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/// The numbers of experts that the config.json of a folder gives, for the model or for a part of it such as `text_config`; none
/// where there is no such file.
///
/// # Errors
///
/// [`Error::Format`](crate::Error::Format) if config.json cannot be understood.
pub fn numbers_of_experts(checkpoint: &Checkpoint) -> Result<BTreeSet<u64>> {
    let config = checkpoint.root.join("config.json");
    let mut numbers = BTreeSet::new();
    if checkpoint.is_folder && config.is_file() {
        let config: Map<String, Value> = read_json(&config, MAX_CONFIG)?;
        let parts = config.values().filter_map(Value::as_object);
        for part in parts.chain([&config]) {
            numbers.extend(KEYS.iter().filter_map(|key| part.get(*key)?.as_u64()));
        }
    }
    Ok(numbers)
}
