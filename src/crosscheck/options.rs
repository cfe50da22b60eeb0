//! What to check, and how much of it.

use crate::Cancel;
use std::path::Path;

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// About a minute on a software device.
    Quick,
    /// Every type with every shape.
    Full,
}

impl Level {
    /// Numbered items of a list: all of them, or the first few.
    pub(crate) fn some<T: Copy>(self, all: &[T], few: usize) -> impl Iterator<Item = (usize, T)> {
        let count = if self == Self::Full { all.len() } else { few };
        all.iter().copied().enumerate().take(count)
    }
}

/// What to check, and where to leave what failed.
pub struct Options<'a> {
    /// How many cases.
    pub level: Level,
    /// Where random numbers start.
    pub seed: u64,
    /// Names of ops, with `*` and `?`; all without.
    pub ops: Option<&'a str>,
    /// A checkpoint whose tensors are asked as well.
    pub model: Option<&'a Path>,
    /// The folder for files that replay a failure.
    pub folder: &'a Path,
    /// What a command line must name to open the same adapter.
    pub adapter: Option<&'a str>,
    /// Told before each op.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Ends the run.
    pub cancel: &'a Cancel,
}
