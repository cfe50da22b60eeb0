//! Pipelines: folders of modules, each of which has weights and a config.json of its own.

use crate::{
    Error, Result,
    format::{
        folder::{hidden, list},
        quantized::marks::MAX_CONFIG,
        safetensors::index::read_object,
        variant::variant,
    },
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

/// The modules of a folder that hold weights.
#[derive(Debug)]
pub(super) struct Found {
    /// What stands before the names of each one's files, and these names: of safetensors files and indices. One without any is the
    /// only one.
    pub modules: Vec<(String, Vec<String>)>,
    /// The file that names them, if it is a pipeline.
    pub by: Option<&'static str>,
}

/// What a folder says of its modules.
#[derive(Debug)]
struct Declared {
    /// The file that says so.
    by: &'static str,
    /// What stands before the names of their files: nothing for the root's, which is the first.
    prefixes: BTreeSet<String>,
}

/// Finds the modules of a folder: those that it names, where one below it holds weights; else the folder itself.
///
/// # Errors
///
/// [`Error::Format`] if what names modules cannot be understood, or a module leaves the folder; [`Error::Io`].
pub(super) fn find(root: &Path) -> Result<Found> {
    let declared = declared(root)?;
    let mut modules = Vec::new();
    for prefix in declared.iter().flat_map(|d| &d.prefixes) {
        let names = weights(root, prefix)?;
        if !names.is_empty() {
            modules.push((prefix.clone(), names));
        }
    }
    if modules.iter().all(|(prefix, _)| prefix.is_empty()) {
        modules = vec![(String::new(), weights(root, "")?)];
        return Ok(Found { modules, by: None });
    }
    Ok(Found { modules, by: declared.map(|d| d.by) })
}

/// The names of the safetensors files and indices of a folder within another; none where that is no folder.
fn weights(root: &Path, prefix: &str) -> Result<Vec<String>> {
    let folder = root.join(prefix);
    let is_module = match folder.symlink_metadata() {
        _ if prefix.is_empty() => true,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
        meta => meta.map_err(Error::io(&folder))?.is_dir(),
    };
    let listed = if is_module { list(&folder)? } else { Vec::new() };
    let mut names = Vec::new();
    for path in listed.into_iter().filter(|p| !hidden(p) && variant(&name(p)).is_some()) {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => names.push(name(&path)),
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::Io { path, source: e });
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The modules of a Diffusers pipeline (`model_index.json`) or of sentence-transformers (`modules.json`); none of another folder.
/// Whether they hold weights is another matter.
///
/// # Errors
///
/// [`Error::Format`] if such a file cannot be understood, or a module leaves the folder; [`Error::Io`]. A `modules.json` that lists
/// no paths is somebody else's.
fn declared(root: &Path) -> Result<Option<Declared>> {
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

fn name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned())
}
