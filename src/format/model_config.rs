//! What config.json says of the model whose weights lie beside it.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint, modules::Module, quantized::marks::MAX_CONFIG,
        safetensors::index::read_object,
    },
    quote::json_error,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// How many experts a mixture has.
const EXPERTS: [&str; 4] =
    ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/// The sizes of layers.
const SIZES: [&str; 10] = [
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "embedding_size",
    "n_embd",
    "n_inner",
    "d_model",
    "d_ff",
    "ffn_dim",
    "dim",
];

/// An object whose values are left as text: a long list of other things costs no memory.
type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// What the config.json beside the weights says of the model, or of a part of it such as `text_config`; nothing where there is no
/// such file.
#[derive(Clone, Debug, Default)]
pub struct ModelConfig {
    /// The numbers of experts of a mixture.
    pub experts: BTreeSet<u64>,
    /// The numbers of words: every `vocab_size` that no layer is likely to have as a size, which is none that is one to four times
    /// another size.
    pub vocabularies: BTreeSet<u64>,
    /// Whether head and embeddings are said to be the same weights.
    pub tied: bool,
    /// Every `model_type`, that of the model first.
    pub model_types: Vec<String>,
}

impl ModelConfig {
    /// Reads that of a module: beside its files, or beside the one file.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if config.json cannot be understood.
    pub fn read(checkpoint: &Checkpoint, module: &Module) -> Result<Self> {
        let path = checkpoint.folder().join(format!("{}config.json", module.prefix));
        let mut config = Self::default();
        if path.is_file() {
            let text = read_object(&path, MAX_CONFIG)?;
            let parse = |text| {
                let object = serde_json::from_str::<Object>(text);
                object.map_err(|e| Error::format(&path, json_error(&e)))
            };
            let text = std::str::from_utf8(&text)
                .map_err(|e| Error::format(&path, format!("no UTF-8: {e}")))?;
            let model = parse(text)?;
            config.add(&model);
            for part in model.values().filter(|part| part.get().starts_with('{')) {
                config.add(&parse(part.get())?);
            }
        }
        Ok(config)
    }

    fn add(&mut self, object: &Object) {
        self.experts.extend(EXPERTS.iter().filter_map(|key| value::<u64>(object, key)));
        let sizes: Vec<u64> = SIZES.iter().filter_map(|key| value(object, key)).collect();
        let size = |n: u64| sizes.iter().any(|s| (1..=4).any(|k| s.checked_mul(k) == Some(n)));
        self.vocabularies.extend(value::<u64>(object, "vocab_size").filter(|n| !size(*n)));
        self.tied |= value(object, "tie_word_embeddings") == Some(true);
        self.model_types.extend(value::<String>(object, "model_type"));
    }
}

/// What stands under a key, if it is of that type: what is written otherwise says nothing.
fn value<T: DeserializeOwned>(object: &Object, key: &str) -> Option<T> {
    serde_json::from_str(object.get(key)?.get()).ok()
}
