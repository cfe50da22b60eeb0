//! The tensors of the other shards, where a shard is named alone: a scale may be in the next one.

use crate::{
    DType,
    format::{
        checkpoint::Checkpoint,
        folder::list,
        safetensors::{header, index::Index},
        variant::{is_index, numbered},
    },
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A tensor elsewhere: its name, and its type and shape where its shard is there.
pub(super) type Sibling = (String, Option<(DType, Vec<u64>)>);

/// The tensors of the shards that an index beside a file lists with it, or else of those that are numbered with it. They only
/// hint at what this one holds, so that what cannot be read is as good as missing.
pub(super) fn siblings(checkpoint: &Checkpoint) -> Vec<Sibling> {
    let (false, [file]) = (checkpoint.is_folder, &checkpoint.files[..]) else { return Vec::new() };
    let folder = checkpoint.folder();
    let listed = list(folder).unwrap_or_default();
    let index = listed
        .iter()
        .filter(|p| is_index(p))
        .filter_map(|p| Index::parse(p).ok())
        .find(|index| index.shards.contains(&file.name));
    if let Some(index) = index {
        let mut found: Vec<Sibling> = Vec::new();
        let mut missing = vec![false; index.shards.len()];
        for (shard, missing) in index.shards.iter().zip(&mut missing) {
            if *shard != file.name {
                match tensors(&folder.join(shard)) {
                    Some(tensors) => found.extend(tensors),
                    None => *missing = true,
                }
            }
        }
        let names = index.names().filter(|(_, shard)| missing[*shard]);
        found.extend(names.map(|(name, _)| (name.to_owned(), None)));
        return found;
    }
    let Some(own) = numbered(&file.name) else { return Vec::new() };
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    let others = listed.iter().filter(|p: &&PathBuf| {
        name(p).is_some_and(|n| n != file.name && numbered(&n) == Some(own))
    });
    others.filter_map(|p| tensors(p)).flatten().collect()
}

fn tensors(path: &Path) -> Option<Vec<Sibling>> {
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let header = header::read(path, &file, len, 0).ok()?;
    Some(header.tensors.into_iter().map(|t| (t.name, Some((t.dtype, t.shape)))).collect())
}
