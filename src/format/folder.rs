//! What lies beside the weights in the folder of a checkpoint: what is carried along, and what is left out, and why.

use crate::{
    Error, Result,
    format::{
        checkpoint::Checkpoint,
        foreign::Foreign,
        variant::{CONSOLIDATED, is_precision, variant},
    },
    quote::shown,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// How many folders deep files are looked for.
const MAX_DEPTH: usize = 8;
/// Endings of files that hold weights in other formats.
const OTHER_WEIGHTS: [&str; 12] = [
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "onnx",
    "onnx_data",
    "h5",
    "msgpack",
    "npz",
    "tflite",
    "ot",
];

/// The files of a folder, relative to it, sorted.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What is carried along.
    pub carried: Vec<PathBuf>,
    /// What is not, and why.
    pub left_out: Vec<(PathBuf, Cow<'static, str>)>,
}

/// What a folder's other files are told by.
struct Walk<'a> {
    root: &'a Path,
    /// The files and indices of the checkpoint.
    own: HashSet<&'a Path>,
    /// Of the folder of every module the checkpoint and the variant that are taken there.
    taken: BTreeMap<&'a Path, (&'a str, &'a str)>,
    /// Whether the variant was asked for.
    asked: bool,
    /// What names the modules.
    pipeline: Option<&'static str>,
}

impl Contents {
    /// Goes through the folder of a checkpoint, over its own files and indices; whether its variant was asked for, and what file
    /// names its modules.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn of(
        checkpoint: &Checkpoint,
        asked: bool,
        pipeline: Option<&'static str>,
    ) -> Result<Self> {
        let names = checkpoint.files.iter().map(|f| f.name.as_str());
        let own = names.chain(checkpoint.indices()).map(Path::new).collect();
        let taken = checkpoint.modules.iter().filter_map(|module| {
            let of_files = checkpoint.files.get(module.files.start).map(|f| f.name.as_str());
            let name = module.index.as_ref().map(|index| index.name.as_str()).or(of_files)?;
            let folder = module.prefix.strip_suffix('/').unwrap_or("");
            Some((Path::new(folder), variant(module.own(name))?))
        });
        let root = &checkpoint.root;
        let walk = Walk { root, own, taken: taken.collect(), asked, pipeline };
        let mut contents = Self::default();
        contents.walk(&walk, Path::new(""), 0)?;
        Ok(contents)
    }

    fn walk(&mut self, walk: &Walk, folder: &Path, depth: usize) -> Result<()> {
        for path in list(&walk.root.join(folder))? {
            let Some(name) = path.file_name() else { continue };
            let relative = folder.join(name);
            if walk.own.contains(&*relative) {
                continue;
            }
            // The metadata of what a link points to: the Hugging Face cache consists of links to files.
            let why = match (fs::metadata(&path), path.is_symlink()) {
                _ if hidden(&path) && relative != Path::new(".gitattributes") => {
                    Some("it is hidden".into())
                }
                (Ok(meta), true) if meta.is_dir() => Some("it is a link to a folder".into()),
                (Ok(meta), false) if meta.is_dir() && depth == MAX_DEPTH => {
                    Some("it is too deep".into())
                }
                (Ok(meta), false) if meta.is_dir() => {
                    self.walk(walk, &relative, depth + 1)?;
                    continue;
                }
                (Ok(meta), _) if !meta.is_file() => Some("it is no regular file".into()),
                (Err(e), true) if e.kind() == ErrorKind::NotFound => {
                    Some("it is a link to nothing".into())
                }
                (Err(e), _) => return Err(Error::Io { path, source: e }),
                (Ok(_), _) => walk.again(folder, &path).or_else(|| not_carried(&path, depth)),
            };
            match why {
                None => self.carried.push(relative),
                Some(why) => self.left_out.push((relative, why)),
            }
        }
        Ok(())
    }

    /// What a user should know of them, a sentence each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let left_out =
            |(path, why): &(PathBuf, Cow<str>)| format!("{} is left out: {why}", shown(path));
        let weights = self.carried.iter().filter(|p| ends(p, "safetensors") || pickled(p));
        let whole = weights.map(|p| {
            format!("{} is carried bit for bit: it is no part of the checkpoint itself", shown(p))
        });
        self.left_out.iter().map(left_out).chain(whole)
    }
}

impl Walk<'_> {
    /// Why a file or index in a folder holds weights that are taken from elsewhere, if it does.
    fn again(&self, folder: &Path, path: &Path) -> Option<Cow<'static, str>> {
        let name = path.file_name()?.to_string_lossy();
        let (base, other) = variant(&name)?;
        let Some((taken, own)) = self.taken.get(folder) else {
            let by = self.pipeline.filter(|_| folder == Path::new(""))?;
            return Some(format!("{by} does not name it; compress it by itself").into());
        };
        if base == CONSOLIDATED && base != *taken {
            return Some("it holds the same weights once more, in Mistral's own layout".into());
        }
        if base != *taken || other == *own {
            return None;
        }
        if [*own, other].iter().all(|v| v.is_empty() || is_precision(v)) {
            let how = match other {
                "" => "it is what is taken without --variant".into(),
                other => format!("--variant {} takes it instead", shown(Path::new(other))),
            };
            return Some(
                format!("it belongs to the same weights in another precision; {how}").into(),
            );
        }
        self.asked.then(|| "it is another variant than the one that was asked for".into())
    }
}

/// Why a regular file is not carried along.
fn not_carried(path: &Path, depth: usize) -> Option<Cow<'static, str>> {
    if ends(path, "safetensors") {
        return is_archive(path).then_some("it is a tersor archive of its own".into());
    }
    // The weights of a module that lies in a folder of its own, where they exist in this form only, belong to the model.
    if depth > 0 && pickled(path) && !has_safetensors(path.parent()) {
        return None;
    }
    if OTHER_WEIGHTS.iter().any(|e| ends(path, e)) {
        return Some("its ending stands for weights in another format".into());
    }
    let foreign = Foreign::at(path).filter(|foreign| foreign.weights)?;
    Some(format!("it holds weights in another format: it is {}", foreign.what).into())
}

/// What weights in other formats a folder holds, or one within it: the first by name, and what makes them readable.
pub(super) fn other_weights(folder: &Path) -> Option<String> {
    let at_root = list(folder).ok()?;
    let within = at_root.iter().filter(|p| p.is_dir() && !p.is_symlink() && !hidden(p));
    let within = within.flat_map(|p| list(p).unwrap_or_default());
    let mut files = at_root.iter().cloned().chain(within).filter(|p| p.is_file());
    let (path, found) = files.find_map(|path| {
        let found = Foreign::at(&path)?;
        let named = OTHER_WEIGHTS.iter().any(|e| ends(&path, e));
        (found.weights || named).then_some((path, found))
    })?;
    let name = shown(path.strip_prefix(folder).unwrap_or(&path));
    Some(format!("{name} in it is {}; {}", found.what, found.way(&path)))
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
