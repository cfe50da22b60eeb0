//! What will be done to one tensor.

use crate::{
    form::TensorManifest,
    format::Checkpoint,
    recipe::{Objective, Prune, Quantize, Treatment},
};
use std::sync::Arc;

/// What will be done to one tensor.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which rule says so: one of the recipe by its number, or after these one of the defaults.
    pub rule: usize,
    /// What is done.
    pub action: Action,
    /// Upper bound of its stored bytes, headers aside.
    pub bytes: u64,
    /// Its stored bytes as they are expected, headers aside. If it is not coded and all of its values are finite it takes no more,
    /// and unless it is pruned exactly so much; where a rule looks at the whole model, more or fewer of its weights may survive. If
    /// it is coded this is an estimate, as of weights that are about normally distributed.
    pub expected_bytes: u64,
}

/// What is done to a tensor.
#[derive(Clone, Debug)]
pub enum Action {
    /// Copied bit for bit, and why.
    Keep(Arc<str>),
    /// Treated.
    Treat(Box<Treat>),
}

impl Step {
    /// Whether the tensor is copied bit for bit.
    pub fn keeps(&self) -> bool {
        matches!(self.action, Action::Keep(_))
    }
}

/// A treatment fitted to one tensor.
#[derive(Clone, Debug)]
pub struct Treat {
    /// Which weights survive.
    pub prune: Option<Prune>,
    /// How the scale of a group is chosen.
    pub objective: Objective,
    /// The recipe's own words.
    pub treatment: Arc<Treatment>,
    /// Why its rows are the columns of storage although the recipe does not say so.
    pub columns: Option<Arc<str>>,
    /// What the manifest will say; its digest is not known yet.
    pub manifest: TensorManifest,
    /// Where the weights of its squared errors are.
    pub importance: Option<ImportanceOf>,
}

/// The importance of one tensor.
#[derive(Clone, Debug)]
pub struct ImportanceOf {
    /// The file that the rule names, opened once for all tensors.
    pub file: Arc<Checkpoint>,
    /// The number of the tensor in it.
    pub tensor: usize,
}

impl Treat {
    /// How the tensor is stored, in words.
    pub fn method(&self) -> String {
        let method = self.describe(&self.manifest);
        match self.treatment.quantize.as_ref().and_then(Quantize::max_error) {
            Some(limit) => format!("{method}, error at most {limit}"),
            None => method,
        }
    }

    /// A form that the treatment has come to, in words, with how it prunes.
    pub fn describe(&self, manifest: &TensorManifest) -> String {
        let pruned = self.prune.map(|prune| match prune {
            Prune::NOfM { n, m } => format!("{n}:{m}"),
            Prune::Magnitude { density, .. } => format!("density {density}"),
            Prune::Channel { density, .. } => format!("channels {density}"),
            Prune::Block { density, block: [r, c], .. } => format!("blocks {r}x{c} {density}"),
        });
        let method = manifest.describe(pruned.as_deref());
        match &self.columns {
            Some(why) => format!("{method}, columns, as {why}"),
            None => method,
        }
    }

    /// Whether the tables hold plus and minus one magnitude.
    pub fn is_binary(&self) -> bool {
        self.treatment.quantize == Some(Quantize::Binary)
    }
}
