//! The Hugging Face Hub: its names, which are no paths, and the folders of its cache, which hold models a step or two down.

use crate::{Error, Result, format::folder::list, quote::shown};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// What a path that leads nowhere was meant for, perhaps: a model on the Hub.
pub(super) fn missing(path: &Path, source: io::Error) -> Error {
    let Some(model) = model(path).filter(|_| source.kind() == ErrorKind::NotFound) else {
        return Error::Io { path: path.into(), source };
    };
    let name = model.rsplit('/').next().unwrap_or(&model);
    Error::Usage(format!(
        "{}: no such file or folder. If {model} is a model on the Hugging Face Hub, download it first: \
         hf download {model} --local-dir {name}",
        shown(path)
    ))
}

/// The name `org/name` of a model, which may stand in an address of the Hub; none if this can be none, or is more likely a path.
fn model(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let address = ["https://huggingface.co/", "https://hf.co/", "hf://"];
    let of_address = address.iter().find_map(|start| text.strip_prefix(start));
    let (org, name) = of_address.unwrap_or(text).trim_end_matches('/').split_once('/')?;
    let name = if of_address.is_some() { name.split('/').next()? } else { name };
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let file = [".safetensors", ".json"].iter().any(|ending| name.ends_with(ending));
    let path = of_address.is_none() && (file || Path::new(org).exists());
    (plain(org) && plain(name) && !path).then(|| format!("{org}/{name}"))
}

/// Of a folder of the Hub's cache the snapshot that it stands for: of a model's (`models--org--name`) that of `refs/main`, or else
/// the only one; of a folder of models that of the only model. None for any other folder.
///
/// # Errors
///
/// [`Error::Usage`] if there are several, which are listed, or none; [`Error::Io`].
pub(super) fn snapshot(folder: &Path) -> Result<Option<PathBuf>> {
    let is_model = |p: &Path| p.join("snapshots").is_dir() && (p.join("refs").is_dir() || named(p));
    if is_model(folder) {
        return snapshot_of(folder).map(Some);
    }
    let models: Vec<_> = list(folder)?.into_iter().filter(|p| named(p) && is_model(p)).collect();
    match &models[..] {
        [] => Ok(None),
        [one] => snapshot_of(one).map(Some),
        _ => Err(several(folder, "models", &models)),
    }
}

fn named(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"models--"))
}

fn snapshot_of(model: &Path) -> Result<PathBuf> {
    let folder = model.join("snapshots");
    let main = model.join("refs/main");
    match fs::read_to_string(&main) {
        Ok(hash) => {
            let hash = hash.trim();
            let plain = !hash.is_empty() && hash.bytes().all(|b| b.is_ascii_alphanumeric());
            let found = folder.join(hash);
            if plain && found.is_dir() {
                return Ok(found);
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(Error::Io { path: main, source: e }),
    }
    let all: Vec<_> = list(&folder)?.into_iter().filter(|p| p.is_dir()).collect();
    match &all[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::Usage(format!("{}: it holds no snapshot", shown(model)))),
        _ => Err(several(&folder, "snapshots, and refs/main names none of them", &all)),
    }
}

fn several(folder: &Path, what: &str, all: &[PathBuf]) -> Error {
    let listed = all.iter().map(|p| shown(p)).collect::<Vec<_>>().join(", ");
    let n = all.len();
    Error::Usage(format!("{}: {n} {what}; name one of them: {listed}", shown(folder)))
}
