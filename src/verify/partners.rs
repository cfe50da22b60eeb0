//! Which tensor of a checkpoint is which of an archive.

use crate::{
    DType, Error, Result, TensorInfo,
    format::{Archive, Checkpoint},
    quote::{examples, quoted},
};
use std::collections::HashMap;

/// For every tensor of an archive the one of a checkpoint with the same name, type and shape; the checkpoint has no others.
///
/// # Errors
///
/// [`Error::Unlike`], with a line for each way in which they are others.
pub fn partners<'a>(archive: &Archive, source: &'a Checkpoint) -> Result<Vec<&'a TensorInfo>> {
    // Of use only where the order is another, and large.
    let mut by_name: Option<HashMap<&str, &TensorInfo>> = None;
    let named = || source.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut partners = Vec::with_capacity(archive.tensors.len());
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    for (i, t) in archive.tensors.iter().enumerate() {
        let (dtype, shape) = archive.original(t);
        let found = match source.tensors.get(i) {
            Some(s) if s.name == t.name => Some(s),
            _ => by_name.get_or_insert_with(named).get(t.name.as_str()).copied(),
        };
        match found {
            None => missing.push(quoted(&t.name)),
            Some(found) if (found.dtype, &found.shape[..]) != (dtype, shape) => {
                let (ours, theirs) =
                    (described(dtype, shape), described(found.dtype, &found.shape));
                others.push(format!("{} ({ours}, there {theirs})", quoted(&t.name)));
            }
            Some(found) => partners.push(found),
        }
    }
    let known = partners.len() + others.len();
    let mut more = Vec::new();
    if known < source.tensors.len() {
        let ours: HashMap<&str, ()> = archive.tensors.iter().map(|t| (&*t.name, ())).collect();
        let unknown = source.tensors.iter().filter(|t| !ours.contains_key(&*t.name));
        more.extend(unknown.map(|t| quoted(&t.name)));
    }
    let rules = [
        ("it does not have", missing),
        ("of another type or shape there", others),
        ("that are not in the archive", more),
    ];
    let lines: Vec<String> = rules
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(rule, names)| {
            let (n, some) = (names.len(), examples(names.iter().map(String::as_str), names.len()));
            format!("{n} tensors {rule}: {some}")
        })
        .collect();
    match lines.is_empty() {
        true => Ok(partners),
        false => Err(Error::Unlike {
            path: archive.stored.root.clone(),
            from: source.root.clone(),
            why: lines.join("\n  "),
        }),
    }
}

fn described(dtype: DType, shape: &[u64]) -> String {
    format!("{} {shape:?}", dtype.name())
}
