//! What tersor knows of models, as recipes/defaults.toml has it.

use crate::{
    Error, Result, TensorInfo,
    recipe::{
        rule::{Role, Rule},
        written::{RawRule, checked},
    },
};
use regex::Regex;
use serde::Deserialize;
use std::{collections::BTreeSet, sync::LazyLock};

/// The rules that come before those of a recipe with `defaults = true`, and the names of embeddings: recipes/defaults.toml.
pub const DEFAULTS: &str = include_str!("../../recipes/defaults.toml");

/// What [`DEFAULTS`] say.
#[derive(Debug)]
pub(crate) struct Defaults {
    /// All of them keep.
    pub rules: Vec<Rule>,
    pub embeddings: Embeddings,
    pub columns: Columns,
}

/// Which tensors have a row for each token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Embeddings {
    names: Whole,
    heads: Whole,
    tables: Whole,
}

/// Which layers are stored `[in, out]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Columns {
    pub model_types: BTreeSet<String>,
    layers: Whole,
}

/// An expression for a whole name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Whole(Regex);

impl TryFrom<String> for Whole {
    type Error = regex::Error;

    fn try_from(text: String) -> std::result::Result<Self, regex::Error> {
        Regex::new(&format!("^(?:{text})$")).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    rule: Vec<toml::Spanned<RawRule>>,
    embeddings: Embeddings,
    columns: Columns,
}

/// The defaults, read once.
///
/// # Panics
///
/// If the file that is part of the program is wrong.
pub(crate) fn defaults() -> &'static Defaults {
    static READ: LazyLock<Defaults> =
        LazyLock::new(|| Defaults::parse(DEFAULTS).expect("recipes/defaults.toml is right"));
    &READ
}

impl Defaults {
    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|e| Error::Recipe(e.to_string()))?;
        let rules = checked(text, file.rule)?;
        let wrong = |why: &str| Err(Error::Recipe(format!("defaults: {why}")));
        if file.version != 1 {
            return wrong("expected version 1");
        }
        if rules.iter().any(|r| !r.is_regex() || r.why.is_none() || !r.treatment.keeps()) {
            return wrong("expected a regex, keep = true and why in every rule");
        }
        Ok(Self { rules, embeddings: file.embeddings, columns: file.columns })
    }

    /// The first rule that applies to a tensor of that role.
    pub fn rule(&self, t: &TensorInfo, role: Role) -> Option<usize> {
        self.rules.iter().position(|rule| rule.fits(t, role))
    }
}

impl Embeddings {
    /// What a name alone says.
    pub fn role(&self, name: &str) -> Role {
        if self.names.0.is_match(name) { Role::Embedding } else { Role::Other }
    }

    /// Whether it is the name of a head, of which the shape says more.
    pub fn is_head(&self, name: &str) -> bool {
        self.heads.0.is_match(name)
    }

    /// Whether it is the name of a table with a row for each token.
    pub fn is_table(&self, name: &str) -> bool {
        self.tables.0.is_match(name)
    }
}

impl Columns {
    /// Whether it is the name of a layer that some models store `[in, out]`.
    pub fn is_layer(&self, name: &str) -> bool {
        self.layers.0.is_match(name)
    }
}
