//! Which tensors of a file are equal, so that one of them is enough: `lm_head.weight` and `model.embed_tokens.weight`, mostly. A
//! config.json may say so, or not; the bytes decide.

use crate::{
    Result,
    engine::Engine,
    form::TIED,
    format::{Checkpoint, map_chunks, tied_length},
    parallel,
    plan::{Action, Plan, Treat},
    treat::ModelLimit,
};
use std::collections::{BTreeMap, HashSet};

/// By the number of a tensor, that of the first of its file that is equal to it and treated alike.
pub type Ties = BTreeMap<usize, usize>;

/// Fewer bytes are not worth a mark. So many take 1 KiB at least in whatever form, palettes of one bit for an F64.
const LEAST: u64 = 64 << 10;

/// Most of what a tie takes in a manifest: no plan reckons with it, so that it takes less than what it saves.
const LONGEST: u64 = 896;

/// What is read of a tensor at each of three places before all of it is.
const SAMPLE: u64 = 1 << 10;

/// Finds the ties of a file. Every layer of a model has matrices of the same shapes, so that tensors of one type, shape and
/// treatment are told apart by samples; what these leave is read whole, each tensor once.
///
/// # Errors
///
/// As [`Checkpoint::read_at`]; [`Error::Interrupted`](crate::Error::Interrupted).
pub fn ties(
    engine: &Engine,
    checkpoint: &Checkpoint,
    plan: &Plan,
    limits: &[Option<ModelLimit>],
    file: usize,
) -> Result<Ties> {
    let tensor = |i: usize| &checkpoint.tensors[i];
    let first = checkpoint.tensors.partition_point(|t| t.file < file);
    let end = checkpoint.tensors.partition_point(|t| t.file <= file);
    let large = (first..end).filter(|i| tensor(*i).bytes >= LEAST).collect();
    let groups = equal(vec![large], |all| {
        Ok(all.iter().map(|i| (tensor(*i).dtype.name(), &tensor(*i).shape)).collect())
    })?;
    let alike = |a: usize, b: usize| {
        limits[a] == limits[b] && same(&plan.steps[a].action, &plan.steps[b].action)
    };
    let groups = equal(groups, |all| {
        // Of every tensor the first that is treated alike.
        Ok(all.iter().map(|i| *all.iter().find(|j| alike(**j, *i)).unwrap_or(i)).collect())
    })?;
    let groups = equal(groups, |all| parallel::try_map(all, &|i| sample(engine, checkpoint, *i)))?;
    let groups = equal(groups, |all| all.iter().map(|i| whole(engine, checkpoint, *i)).collect())?;
    if groups.is_empty() {
        return Ok(Ties::new());
    }
    let names: HashSet<&str> = checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
    let pairs = groups.iter().flat_map(|all| all[1..].iter().map(|i| (*i, all[0])));
    let fits = |(i, to): &(usize, usize)| {
        let (name, to) = (tensor(*i).own_name(), tensor(*to).own_name());
        !names.contains(format!("{}.{TIED}", tensor(*i).name).as_str())
            && tied_length(name, to) <= LONGEST
    };
    Ok(pairs.filter(fits).collect())
}

/// Splits groups by a key of their members, which stay in their order, and leaves out who is alone.
fn equal<K: Ord>(
    groups: Vec<Vec<usize>>,
    keys: impl Fn(&[usize]) -> Result<Vec<K>>,
) -> Result<Vec<Vec<usize>>> {
    let mut parts = Vec::new();
    for group in groups {
        let mut by_key: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        for (key, member) in keys(&group)?.into_iter().zip(group) {
            by_key.entry(key).or_default().push(member);
        }
        parts.extend(by_key.into_values().filter(|part| part.len() > 1));
    }
    Ok(parts)
}

/// Whether the same bytes would become the same under both; importance goes by name.
fn same(a: &Action, b: &Action) -> bool {
    match (a, b) {
        (Action::Keep(_), Action::Keep(_)) => true,
        (Action::Treat(a), Action::Treat(b)) => {
            let key = |t: &Treat| (t.prune, t.objective);
            a.importance.is_none()
                && b.importance.is_none()
                && key(a) == key(b)
                && a.treatment == b.treatment
                && a.manifest == b.manifest
        }
        _ => false,
    }
}

/// The digest of a tensor's first, middle and last bytes.
fn sample(engine: &Engine, checkpoint: &Checkpoint, i: usize) -> Result<[u8; 32]> {
    engine.cancel.check()?;
    let t = &checkpoint.tensors[i];
    let mut hash = blake3::Hasher::new();
    for at in [0, (t.bytes - SAMPLE) / 2, t.bytes - SAMPLE] {
        let mut bytes = [0; SAMPLE as usize];
        checkpoint.read_at(t.file, t.offset() + at, &mut bytes)?;
        hash.update(&bytes);
    }
    Ok(hash.finalize().into())
}

/// The digest of all its bytes, whole, since nobody can make two tensors that share it.
fn whole(engine: &Engine, checkpoint: &Checkpoint, i: usize) -> Result<[u8; 32]> {
    let t = &checkpoint.tensors[i];
    let read = |at, buf: &mut [u8]| {
        engine.cancel.check()?;
        checkpoint.read_at(t.file, t.offset() + at, buf)
    };
    let chunks = map_chunks(t.bytes, read, |bytes| <[u8; 32]>::from(blake3::hash(bytes)))?;
    Ok(blake3::hash(chunks.as_flattened()).into())
}
