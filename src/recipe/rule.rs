//! One rule: which tensors it matches.

use crate::{
    DType,
    recipe::{flags::Flag, treatment::Treatment},
    tensor::elements,
};
use globset::GlobMatcher;
use regex::Regex;
use std::sync::Arc;

/// One rule: what it matches, and what is done to it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `match` or `regex`, to name it in messages. Either has to match the whole name of a tensor.
    pub pattern: String,
    pub(super) matcher: Matcher,
    /// A glob that the name has to match as well.
    pub(super) only: Option<GlobMatcher>,
    /// The flag of the command line that it is from; `None` if it is from a recipe.
    pub(super) flag: Option<Arc<Flag>>,
    pub(super) min_dims: usize,
    pub(super) min_elements: u64,
    pub(super) dtypes: Vec<DType>,
    /// The rule may match nothing.
    pub optional: bool,
    /// What is done to the tensors it matches.
    pub treatment: Treatment,
}

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
}
impl Rule {
    /// Whether the rule applies to a tensor.
    pub fn matches(&self, name: &str, dtype: DType, shape: &[u64]) -> bool {
        self.names(name) && self.missing(dtype, shape).is_none()
    }

    /// Why the rule does not apply to a tensor whose name it matches: what the tensor "is" or "has".
    pub fn unmet(&self, name: &str, dtype: DType, shape: &[u64]) -> Option<String> {
        self.missing(dtype, shape).filter(|_| self.names(name))
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

    fn names(&self, name: &str) -> bool {
        let matches = match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        };
        matches && self.only.as_ref().is_none_or(|glob| glob.is_match(name))
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
