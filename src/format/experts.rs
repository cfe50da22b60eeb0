//! How many experts a mixture has, by its config.json.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint, quantized::marks::MAX_CONFIG, safetensors::index::read_object,
    },
    quote::json_error,
};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// The keys that say it.
const KEYS: [&str; 4] = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/// An object whose values are left as text: a long list of other things costs no memory.
type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The numbers of experts that the config.json beside the weights gives, for the model or for a part of it such as `text_config`;
/// none where there is no such file.
///
/// # Errors
///
/// [`Error::Format`] if config.json cannot be understood.
pub fn numbers_of_experts(checkpoint: &Checkpoint) -> Result<BTreeSet<u64>> {
    let path = checkpoint.folder().join("config.json");
    let mut numbers = BTreeSet::new();
    if path.is_file() {
        let text = read_object(&path, MAX_CONFIG)?;
        let parse = |text| {
            let object = serde_json::from_str::<Object>(text);
            object.map_err(|e| Error::format(&path, json_error(&e)))
        };
        let text = std::str::from_utf8(&text)
            .map_err(|e| Error::format(&path, format!("no UTF-8: {e}")))?;
        let config = parse(text)?;
        numbers.extend(given(&config));
        for part in config.values().filter(|part| part.get().starts_with('{')) {
            numbers.extend(given(&parse(part.get())?));
        }
    }
    Ok(numbers)
}

fn given(object: &Object) -> impl Iterator<Item = u64> {
    KEYS.iter().filter_map(|key| serde_json::from_str(object.get(*key)?.get()).ok())
}
