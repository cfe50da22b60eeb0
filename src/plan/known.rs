//! What is known of the tensors of a model beyond their own names: by other tensors, and by config.json.

use crate::{
    TensorInfo,
    format::ModelConfig,
    recipe::{Role, defaults},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is known.
pub(super) struct Known<'a> {
    config: &'a ModelConfig,
    /// The shapes of tables with a row for each token.
    tables: BTreeSet<&'a [u64]>,
    /// Why layers are stored `[in, out]`, where they are.
    columns: Option<Arc<str>>,
    /// The blocks that store them `[out, in]` all the same.
    usual: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub fn new(tensors: &'a [TensorInfo], config: &'a ModelConfig) -> Self {
        let defaults = defaults();
        let matrices = || tensors.iter().filter(|t| t.shape.len() == 2);
        let tables = matrices().filter(|t| defaults.embeddings.is_table(t.own_name()));
        let layers = || matrices().filter(|t| defaults.columns.is_layer(t.own_name()));
        let mut blocks: BTreeMap<&str, Block> = BTreeMap::new();
        for t in layers() {
            let (block, layer) = split(t.own_name());
            blocks.entry(block).or_default().insert(layer, (t.shape[0], t.shape[1]));
        }
        let is_named = |kind: &&String| defaults.columns.model_types.contains(*kind);
        let named = config.model_types.iter().find(is_named);
        let columns = match named {
            Some(kind) => Some(format!("config.json says {kind}").into()),
            None if blocks.values().any(says_columns) => {
                Some("the shapes of c_attn and c_fc say".into())
            }
            None => None,
        };
        Self {
            config,
            tables: tables.map(|t| &t.shape[..]).collect(),
            columns,
            usual: blocks.iter().filter(|b| says_rows(b.1)).map(|b| *b.0).collect(),
        }
    }

    /// What a tensor is in its model.
    pub fn role(&self, t: &TensorInfo) -> Role {
        let embeddings = &defaults().embeddings;
        let as_table = || self.tables.contains(&t.shape[..]);
        let is_embedding = || {
            t.shape.len() == 2
                && (self.config.vocabularies.contains(&t.shape[0])
                    || as_table() && (self.config.tied || embeddings.is_head(t.own_name())))
        };
        match embeddings.role(t.own_name()) {
            Role::Other if is_embedding() => Role::Embedding,
            role => role,
        }
    }

    /// Why the channels of a tensor are its columns, if they are.
    pub fn columns(&self, t: &TensorInfo) -> Option<&Arc<str>> {
        let columns = self.columns.as_ref()?;
        let layer = t.shape.len() == 2 && defaults().columns.is_layer(t.own_name());
        (layer && !self.usual.contains(split(t.own_name()).0)).then_some(columns)
    }
}

/// The layers of a block and their shapes.
type Block<'a> = HashMap<&'a str, (u64, u64)>;

/// The block of a layer, `h.0.`, and its name there, `attn.c_attn.weight`.
fn split(name: &str) -> (&str, &str) {
    let begin = name.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    name.split_at(begin)
}

/// Whether the shapes of a block are those of GPT-2 and of no block that is stored the usual way.
fn says_columns(block: &Block) -> bool {
    let shape = |layer: &str| block.get(layer).copied();
    // A matrix of so many rows and columns is in the file, so that four times as many are a number.
    let Some((d, _)) = shape("attn.c_proj.weight").filter(|(d, e)| d == e) else { return false };
    [
        ("attn.c_attn.weight", (d, 3 * d)),
        ("mlp.c_fc.weight", (d, 4 * d)),
        ("mlp.c_proj.weight", (4 * d, d)),
    ]
    .into_iter()
    .all(|(layer, expected)| shape(layer) == Some(expected))
}

/// Whether a block has a layer that widens and is taller than wide.
fn says_rows(block: &Block) -> bool {
    let taller = |(layer, (rows, cols)): (&&str, &(u64, u64))| {
        rows > cols && !layer.ends_with("c_proj.weight")
    };
    block.iter().any(taller)
}
