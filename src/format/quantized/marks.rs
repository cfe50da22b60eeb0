//! What a checkpoint says of itself: that it is quantized, in its configuration or in the metadata of its files.

use crate::{
    Error, Result,
    format::{checkpoint::Checkpoint, modules::Module, safetensors::index::read_object},
    quote::{json_error, printable, quoted},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Largest configuration that is read. Those of large vocabularies of classes take a few megabytes.
pub(in crate::format) const MAX_CONFIG: u64 = 16 << 20;

/// Where a mark may stand beside the weights.
const CONFIGS: [&str; 2] = ["config.json", "hf_quant_config.json"];

/// Under which keys: of compressed-tensors, transformers and others, and of MLX and ModelOpt.
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// How deep: `text_config` and the like are one or two objects down.
const MAX_DEPTH: usize = 8;

/// The first mark of a module, in words: `quantization in config.json, 4 bits`.
pub(super) fn mark(checkpoint: &Checkpoint, module: &Module) -> Result<Option<String>> {
    for name in CONFIGS.map(|name| format!("{}{name}", module.prefix)) {
        let path = checkpoint.folder().join(&name);
        if path.is_file() {
            let text = read_object(&path, MAX_CONFIG)?;
            let found = serde_json::from_slice(&text).and_then(|text| find(text, 0));
            if let Some((key, how)) = found.map_err(|e| Error::format(&path, json_error(&e)))? {
                return Ok(Some(format!("{key} in {name}{how}")));
            }
        }
    }
    let files = checkpoint.files[module.files.clone()].iter();
    let pairs = files.flat_map(|f| f.metadata.iter().map(move |pair| (f, pair)));
    for (file, (key, value)) in pairs {
        // Other people's metadata need not be JSON.
        if (KEYS.contains(&key) || key == "_quantization_metadata")
            && let Ok(value) = serde_json::from_str::<&RawValue>(value)
            && value.get().starts_with('{')
            && let Ok(Some(how)) = how(key, value)
        {
            return Ok(Some(format!("{key} in the metadata of {}{how}", quoted(&file.name))));
        }
    }
    Ok(None)
}

/// The first mark in an object or those within it: its key, and how, as far as it says so.
fn find(value: &RawValue, depth: usize) -> serde_json::Result<Option<(&'static str, String)>> {
    if !value.get().starts_with('{') || depth == MAX_DEPTH {
        return Ok(None);
    }
    for (key, inner) in serde_json::from_str::<Object>(value.get())?.0 {
        let found = match KEYS.into_iter().find(|k| *k == key) {
            Some(key) => how(key, inner)?.map(|how| (key, how)),
            None => find(inner, depth + 1)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What a mark says of how, to be read after where it is; none where its value makes no mark of its key.
fn how(key: &str, value: &RawValue) -> serde_json::Result<Option<String>> {
    let mut words = String::new();
    if value.get().starts_with('{') {
        for (key, inner) in serde_json::from_str::<Object>(value.get())?.0 {
            match &*key {
                "quant_method" | "quant_algo" => {
                    if let Ok(method) = serde_json::from_str::<String>(inner.get()) {
                        let method: String = method.chars().take(40).collect();
                        words += &format!(", {}", printable(&method));
                    }
                }
                "bits" => {
                    if let Ok(bits) = serde_json::from_str::<u64>(inner.get()) {
                        words += &format!(", {bits} bits");
                    }
                }
                _ => {}
            }
        }
    }
    // The short key is other people's, too.
    let marks = if key == "quantization" { !words.is_empty() } else { value.get() != "null" };
    Ok(marks.then_some(words))
}

/// The pairs of an object; none of a mark's keys may be there twice.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Object<'de>, A::Error> {
                let mut pairs: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(key) = map.next_key::<Key>()? {
                    let Key(key) = key;
                    if KEYS.contains(&&*key) && pairs.iter().any(|(k, _)| *k == key) {
                        return Err(A::Error::custom(format!("duplicate field `{key}`")));
                    }
                    pairs.push((key, map.next_value()?));
                }
                Ok(Object(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// A key, which is only copied where it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
