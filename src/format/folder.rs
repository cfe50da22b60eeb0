//! What lies beside the weights in the folder of a checkpoint: what is carried along, and what is left out, and why.

use crate::{
    Error, Result,
    format::variant::{is_precision, variant},
    quote::shown,
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// How many folders deep files are looked for.
const MAX_DEPTH: usize = 8;
/// Endings of files that hold weights in other formats.
const OTHER_WEIGHTS: [&str; 11] =
    ["bin", "pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack", "npz", "tflite", "ot"];

/// The files of a folder, relative to it, sorted.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What is carried along.
    pub carried: Vec<PathBuf>,
    /// What is not, and why.
    pub left_out: Vec<(PathBuf, &'static str)>,
}

impl Contents {
    /// Goes through a folder, over its shards and its index.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn of(root: &Path, shards: &[&str], index: Option<&str>) -> Result<Self> {
        let mut contents = Self::default();
        let own = |name: &OsStr| shards.iter().copied().chain(index).any(|own| name == own);
        let variant = index.or(shards.first().copied()).and_then(variant);
        contents.walk(root, Path::new(""), 0, &own, variant)?;
        Ok(contents)
    }

    fn walk(
        &mut self,
        root: &Path,
        folder: &Path,
        depth: usize,
        own: &impl Fn(&OsStr) -> bool,
        variant: Option<(&str, &str)>,
    ) -> Result<()> {
        for path in list(&root.join(folder))? {
            let Some(name) = path.file_name() else { continue };
            let relative = folder.join(name);
            if depth == 0 && own(name) {
                continue;
            }
            // The metadata of what a link points to: the Hugging Face cache consists of links to files.
            let why = match (fs::metadata(&path), path.is_symlink()) {
                _ if hidden(&path) => "it is hidden",
                (Ok(meta), true) if meta.is_dir() => "it is a link to a folder",
                (Ok(meta), false) if meta.is_dir() && depth == MAX_DEPTH => "it is too deep",
                (Ok(meta), false) if meta.is_dir() => {
                    self.walk(root, &relative, depth + 1, own, None)?;
                    continue;
                }
                (Ok(meta), _) if !meta.is_file() => "it is no regular file",
                (Err(e), true) if e.kind() == ErrorKind::NotFound => "it is a link to nothing",
                (Err(e), _) => return Err(Error::Io { path, source: e }),
                (Ok(_), _) if variant.is_some_and(|own| is_same(&path, own)) => {
                    "it belongs to the same weights in another precision"
                }
                (Ok(_), _) => match not_carried(&path, depth) {
                    Some(why) => why,
                    None => {
                        self.carried.push(relative);
                        continue;
                    }
                },
            };
            self.left_out.push((relative, why));
        }
        Ok(())
    }

    /// What a user should know of them, a sentence each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let left_out =
            |(path, why): &(PathBuf, &str)| format!("{} is left out: {why}", shown(path));
        let weights = self.carried.iter().filter(|p| ends(p, "safetensors") || pickled(p));
        let whole = weights.map(|p| {
            format!("{} is carried bit for bit: it is no part of the checkpoint itself", shown(p))
        });
        self.left_out.iter().map(left_out).chain(whole)
    }
}

/// Whether a file belongs to the same weights as a checkpoint and variant, in another precision.
fn is_same(path: &Path, (base, own): (&str, &str)) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    variant(&name).is_some_and(|(of, other)| {
        of == base && other != own && [own, other].iter().all(|v| v.is_empty() || is_precision(v))
    })
}

/// Why a regular file is not carried along.
fn not_carried(path: &Path, depth: usize) -> Option<&'static str> {
    if ends(path, "safetensors") {
        return is_archive(path).then_some("it is a tersor archive of its own");
    }
    // The weights of a module that lies in a folder of its own, where they exist in this form only, belong to the model.
    let module = depth > 0 && pickled(path) && !has_safetensors(path.parent());
    let other = !module && OTHER_WEIGHTS.iter().any(|e| ends(path, e));
    other.then_some("its ending stands for weights in another format")
}

fn ends(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
}

fn pickled(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("pytorch_model") && name.ends_with(".bin")
}

fn has_safetensors(folder: Option<&Path>) -> bool {
    let listed = folder.and_then(|f| list(f).ok()).unwrap_or_default();
    listed.iter().any(|p| ends(p, "safetensors"))
}

/// Whether a file starts like an archive of ours, whose manifest comes before everything else.
pub(super) fn is_archive(path: &Path) -> bool {
    let start = br#"{"__metadata__":{"tersor":"#;
    let mut found = [0; 8 + 26];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut found));
    read.is_ok() && found[8..] == start[..]
}

/// The paths in a folder, sorted.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut paths = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}

/// Whether a name starts with a dot.
pub(super) fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))
}
