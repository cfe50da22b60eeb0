//! Tensors that are equal to another of their file. They are stored once: the second has a mark without bytes where it stood.

use super::{ArchivedTensor, Stored, refused};
use crate::{Error, Result, format::checkpoint::Checkpoint, quote::quoted};
use std::collections::{HashMap, HashSet};

/// What a tensor has instead of components.
#[derive(Clone, Debug)]
pub(super) struct Tie {
    /// The name of the tensor that has them.
    pub to: Box<str>,
    /// What stands in its place.
    pub mark: Stored,
}

/// A tensor of which only a manifest speaks.
pub(super) struct Tied {
    pub name: String,
    pub prefix: u32,
    pub file: usize,
    pub tie: Tie,
}

/// Adds the tied tensors to those that have components.
///
/// # Errors
///
/// [`Error::Format`] if one is stored as well, or is tied to anything but a stored tensor before it in its file: what a tie leads to
/// is no tie, so that there are no circles.
pub(super) fn join(
    stored: &Checkpoint,
    tensors: &mut Vec<ArchivedTensor>,
    ties: Vec<Tied>,
) -> Result<()> {
    if ties.is_empty() {
        return Ok(());
    }
    let by_name: HashMap<&str, &ArchivedTensor> =
        tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let tied: HashSet<&str> = ties.iter().map(|t| t.name.as_str()).collect();
    let resolve = |Tied { name, prefix, file, tie }: &Tied| {
        if by_name.contains_key(name.as_str()) {
            let why = format!("tensor {} is stored twice", quoted(name));
            return Err(Error::format(&stored.root, why));
        }
        let refuse = |why: &str| {
            Err(refused(stored, *file, name, &format!("tied to {}, {why}", quoted(&tie.to))))
        };
        let first = by_name.get(&*tie.to).filter(|first| first.file == *file);
        match first {
            None if *name == *tie.to => refuse("which is itself"),
            None if tied.contains(&*tie.to) => refuse("which is tied, too"),
            None => refuse("which its file does not hold"),
            Some(first) if first.place() > Some(tie.mark.1) => refuse("which comes after it"),
            Some(first) => Ok(ArchivedTensor {
                name: name.clone(),
                prefix: *prefix,
                tied: Some(tie.clone().into()),
                ..(*first).clone()
            }),
        }
    };
    let joined = ties.iter().map(resolve).collect::<Result<Vec<_>>>()?;
    tensors.extend(joined);
    Ok(())
}
