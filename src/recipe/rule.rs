//! One rule: which tensors it matches.

use crate::{
    DType, TensorInfo,
    recipe::{defaults, flags::Flag, treatment::Treatment},
    tensor::elements,
};
use globset::GlobMatcher;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// One rule: what it matches, and what is done to it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `match` or `regex`, or else its `role`, to name it in messages. Either has to match the whole name of a tensor.
    pub pattern: String,
    pub(super) matcher: Matcher,
    /// A glob that the name has to match as well.
    pub(super) only: Option<GlobMatcher>,
    /// The flag of the command line that it is from; `None` if it is from a recipe.
    pub(super) flag: Option<Arc<Flag>>,
    pub(super) role: Option<Role>,
    pub(super) min_dims: usize,
    pub(super) min_elements: u64,
    pub(super) dtypes: Vec<DType>,
    /// The rule may match nothing.
    pub optional: bool,
    /// Why it keeps what it matches, in the words of the recipe.
    pub why: Option<Arc<str>>,
    /// Whether it gives `axis` itself.
    pub(crate) sets_axis: bool,
    /// What is done to the tensors it matches.
    pub treatment: Treatment,
}

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
    All,
}

/// What a tensor is in its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A table with a row for each token: an embedding, or a head of words.
    Embedding,
    /// Anything else.
    Other,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedding => "for embeddings",
            Self::Other => "for other than embeddings",
        })
    }
}

impl Rule {
    /// Whether the rule applies to a tensor, whose role is the one that its name alone gives it. A plan knows more: other tensors,
    /// and what config.json says.
    pub fn matches(&self, name: &str, dtype: DType, shape: &[u64]) -> bool {
        let role = match self.role {
            Some(_) => defaults().embeddings.role(name),
            None => Role::Other,
        };
        self.names([name; 2], role) && self.missing(dtype, shape).is_none()
    }

    /// Whether the rule applies to a tensor of that role. Either of its names will do, with its module or without.
    pub(crate) fn fits(&self, t: &TensorInfo, role: Role) -> bool {
        self.names([t.own_name(), &t.name], role) && self.missing(t.dtype, &t.shape).is_none()
    }

    /// Why the rule does not apply to a tensor whose name and role it matches: what the tensor "is" or "has".
    pub(crate) fn unmet(&self, t: &TensorInfo, role: Role) -> Option<String> {
        let names = [t.own_name(), &t.name];
        self.missing(t.dtype, &t.shape).filter(|_| self.names(names, role))
    }

    /// Whether it goes by what a tensor is in its model.
    pub(crate) fn asks_role(&self) -> bool {
        self.role.is_some()
    }

    /// What it is called in a plan: its pattern, or the flag that it is from.
    pub fn title(&self) -> String {
        self.flag.as_ref().map_or_else(|| self.pattern.clone(), |flag| flag.words())
    }

    /// Whether it is from a flag of the command line.
    pub fn is_of_a_flag(&self) -> bool {
        self.flag.is_some()
    }

    /// Whether its pattern is a regular expression.
    pub(super) fn is_regex(&self) -> bool {
        matches!(self.matcher, Matcher::Regex(_))
    }

    fn names(&self, names: [&str; 2], role: Role) -> bool {
        let matches = |name: &&str| match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
            Matcher::All => true,
        };
        let asked = self.role.is_none_or(|asked| asked == role);
        let only = |glob: &GlobMatcher| names.iter().any(|name| glob.is_match(name));
        asked && names.iter().any(matches) && self.only.as_ref().is_none_or(only)
    }

    fn missing(&self, dtype: DType, shape: &[u64]) -> Option<String> {
        if shape.len() < self.min_dims {
            return Some(format!("has fewer than {} dimensions", self.min_dims));
        }
        if elements(shape) < self.min_elements {
            return Some(format!("has fewer than {} elements", self.min_elements));
        }
        let listed = self.dtypes.is_empty() || self.dtypes.contains(&dtype);
        (!listed).then(|| format!("is {}, which the rule for its name does not list", dtype.name()))
    }
}
