//! Pipelines: folders of modules, each of which has weights and a config.json of its own.

use crate::{
    Error, Result,
    format::{quantized::marks::MAX_CONFIG, safetensors::index::read_object},
    quote::{json_error, quoted},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    ops::Range,
    path::{Component, Path},
};

/// A part of a checkpoint that has its own index and in which a name occurs once: a folder of a pipeline. Any other checkpoint is
/// one.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// What stands before the names of its files and of its tensors: its folder and `/`; nothing at the root.
    pub prefix: String,
    /// The file that lists its shards, if there is one.
    pub index: Option<Listing>,
    /// Its files, among those of the checkpoint.
    pub files: Range<usize>,
}

/// An index, as far as its files do not say the same.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its name in the folder of the checkpoint.
    pub name: String,
    /// The tensors of the module, as they are counted there, in the order in which it lists them.
    pub order: Vec<u32>,
}

impl Module {
    /// The name of a file or of a tensor within the module.
    pub fn own<'a>(&self, name: &'a str) -> &'a str {
        &name[self.prefix.len()..]
    }
}

/// What a folder says of its modules.
#[derive(Debug)]
pub(super) struct Declared {
    /// The file that says so.
    pub by: &'static str,
    /// What stands before the names of their files: nothing for the root's, which is the first.
    pub prefixes: BTreeSet<String>,
}

/// The modules of a Diffusers pipeline (`model_index.json`) or of sentence-transformers (`modules.json`); none of another folder.
/// Whether they hold weights is another matter.
///
/// # Errors
///
/// [`Error::Format`] if such a file cannot be understood, or a module leaves the folder; [`Error::Io`]. A `modules.json` that lists
/// no paths is somebody else's.
pub(super) fn declared(root: &Path) -> Result<Option<Declared>> {
    #[derive(Deserialize)]
    struct Listed {
        path: String,
    }
    let (diffusers, sentences) = ("model_index.json", "modules.json");
    let path = root.join(diffusers);
    if is_file(&path)? {
        let text = read_object(&path, MAX_CONFIG)?;
        let object: BTreeMap<String, &RawValue> =
            serde_json::from_slice(&text).map_err(|e| Error::format(&path, json_error(&e)))?;
        // `"unet": ["diffusers", "UNet2DConditionModel"]`; what is none of it begins with `_`, or is no list.
        let module = |(name, what): &(String, &RawValue)| {
            !name.starts_with('_') && what.get().starts_with('[')
        };
        let names = object.into_iter().filter(module).map(|(name, _)| name);
        let prefixes = names.map(|name| prefix(&path, &name)).collect::<Result<_>>()?;
        return Ok(Some(Declared { by: diffusers, prefixes }));
    }
    let path = root.join(sentences);
    if !is_file(&path)? {
        return Ok(None);
    }
    let len = fs::metadata(&path).map_err(Error::io(&path))?.len();
    if len > MAX_CONFIG {
        return Err(Error::format(&path, format!("{len} bytes, expected at most {MAX_CONFIG}")));
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let Ok(listed) = serde_json::from_slice::<Vec<Listed>>(&text) else { return Ok(None) };
    let prefixes = listed.iter().map(|m| prefix(&path, &m.path)).collect::<Result<_>>()?;
    Ok(Some(Declared { by: sentences, prefixes }))
}

fn is_file(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        meta => Ok(meta.map_err(Error::io(path))?.is_file()),
    }
}

fn prefix(file: &Path, folder: &str) -> Result<String> {
    let folder = folder.trim_end_matches('/');
    let parts = Path::new(folder).components();
    let plain = parts.map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let plain = plain.collect::<Option<Vec<_>>>().is_some_and(|parts| parts.join("/") == folder);
    if !plain || folder.contains(['\\', ':', '\0']) {
        let why = format!("module {}, expected a folder within this one", quoted(folder));
        return Err(Error::format(file, why));
    }
    Ok(if folder.is_empty() { String::new() } else { format!("{folder}/") })
}
