use super::header::{self, quoted};
use crate::{DType, Error, Result, TensorInfo};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Largest index.json or config.json that is read.
const MAX_JSON: u64 = 256 << 20;
/// How deep other files of a folder are looked for.
const MAX_DEPTH: usize = 3;
/// Endings of files that hold weights in other formats; they are not carried along.
const OTHER_WEIGHTS: [&str; 12] = [
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "onnx",
    "h5",
    "msgpack",
    "npz",
    "tflite",
    "ot",
];

/// What the scales of a quantized weight add to its name.
const SCALE_ENDINGS: [&str; 5] = ["_scale_inv", "_scale", ".scale", ".scales", "_scales"];

/// A checkpoint on disk, opened and checked: its files and its tensors. Data is read by position, never mapped: a file that
/// shrinks meanwhile is an error, not a crash.
#[derive(Debug)]
pub struct Checkpoint {
    /// What was opened: a file, or the folder.
    pub root: PathBuf,
    /// The safetensors files.
    pub files: Vec<SourceFile>,
    /// Every tensor, by file and position.
    pub tensors: Vec<TensorInfo>,
    /// The folder's other files, relative to it, sorted; empty for a single file.
    pub carried: Vec<PathBuf>,
    /// Weight files of other formats in the folder, which are not carried.
    pub left_out: Vec<PathBuf>,
    /// Whether it is a folder (or an index.json in one) rather than a single file.
    pub is_folder: bool,
}

/// One safetensors file of a checkpoint.
#[derive(Debug)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the folder.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Where its data section starts.
    pub data_start: u64,
    /// Its `__metadata__`.
    pub metadata: Vec<(String, String)>,
    file: File,
    modified: Option<SystemTime>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a `*.safetensors.index.json`, or a folder with either.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for anything malformed, [`Error::Io`], [`Error::Usage`] if the path holds no checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = fs::metadata(path).map_err(Error::io(path))?;
        let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        if kind.is_dir() {
            let index = path.join("model.safetensors.index.json");
            if index.is_file() {
                return Self::open_index(&index, path);
            }
            let mut found: Vec<_> = list(path)?
                .into_iter()
                .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
                .collect();
            if let Some(model) = found.iter().find(|p| p.ends_with("model.safetensors")) {
                found = vec![model.clone()];
            }
            return match &found[..] {
                [one] => Self::with_files(path, std::slice::from_ref(one), true),
                [] => Err(Error::Usage(format!(
                    "{}: the folder holds no model.safetensors.index.json and no .safetensors file",
                    path.display()
                ))),
                many => Err(Error::Usage(format!(
                    "{}: {} .safetensors files but no model.safetensors.index.json; name one of them",
                    path.display(),
                    many.len()
                ))),
            };
        }
        if !kind.is_file() {
            return Err(Error::format(path, "this is neither a regular file nor a folder"));
        }
        if name.ends_with(".index.json") {
            let root =
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Self::open_index(path, root);
        }
        Self::with_files(path, &[path.to_path_buf()], false)
    }

    fn open_index(index: &Path, root: &Path) -> Result<Self> {
        let listed = read_index(index)?;
        let mut names: Vec<&String> = listed.values().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(Error::format(index, "weight_map is empty, expected at least one tensor"));
        }
        let mut paths = Vec::new();
        for name in &names {
            check_basename(index, name)?;
            let path = root.join(name);
            if !path.is_file() {
                return Err(Error::format(index, format!("shard {} is missing", quoted(name))));
            }
            paths.push(path);
        }
        let mut open = Self::with_files(root, &paths, true)?;
        open.carried.retain(|p| Some(p.as_os_str()) != index.file_name());
        for t in &open.tensors {
            let shard = &open.files[t.file].name;
            match listed.get(&t.name) {
                Some(claimed) if claimed == shard => {}
                Some(claimed) => {
                    let why = format!(
                        "tensor {} is in {}, expected {}",
                        quoted(&t.name),
                        quoted(shard),
                        quoted(claimed)
                    );
                    return Err(Error::format(index, why));
                }
                None => {
                    let why = format!(
                        "tensor {} of shard {} is not listed",
                        quoted(&t.name),
                        quoted(shard)
                    );
                    return Err(Error::format(index, why));
                }
            }
        }
        if open.tensors.len() != listed.len() {
            let present: HashSet<_> = open.tensors.iter().map(|t| &t.name).collect();
            let missing = listed.iter().find(|(name, _)| !present.contains(name));
            let (name, shard) = missing.map_or(("?", "?"), |(n, s)| (n.as_str(), s.as_str()));
            let why =
                format!("tensor {} is listed but not in shard {}", quoted(name), quoted(shard));
            return Err(Error::format(index, why));
        }
        Ok(open)
    }

    fn with_files(root: &Path, paths: &[PathBuf], is_folder: bool) -> Result<Self> {
        let (mut files, mut tensors) = (Vec::new(), Vec::new());
        for path in paths {
            let file = File::open(path).map_err(Error::io(path))?;
            let meta = file.metadata().map_err(Error::io(path))?;
            let header = header::read(path, &file, meta.len(), files.len())?;
            tensors.extend(header.tensors);
            files.push(SourceFile {
                path: path.clone(),
                name: path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned()),
                len: meta.len(),
                data_start: header.data_start,
                metadata: header.metadata,
                modified: meta.modified().ok(),
                file,
            });
        }
        let mut owner: HashMap<&str, usize> = HashMap::new();
        for t in &tensors {
            if let Some(other) = owner.insert(&t.name, t.file) {
                let (a, b) = (&files[other].name, &files[t.file].name);
                let why = format!(
                    "tensor {} is in {} and in {}, expected once",
                    quoted(&t.name),
                    quoted(a),
                    quoted(b)
                );
                return Err(Error::format(root, why));
            }
        }
        let (mut carried, mut left_out) = (Vec::new(), Vec::new());
        if is_folder {
            walk(root, Path::new(""), 0, &mut |relative| {
                let weights = |e: &std::ffi::OsStr| OTHER_WEIGHTS.iter().any(|w| e == *w);
                let shard = relative.parent() == Some(Path::new(""))
                    && files.iter().any(|f| relative == Path::new(&f.name));
                match relative.extension() {
                    _ if shard => {}
                    Some(e) if weights(e) => left_out.push(relative),
                    _ => carried.push(relative),
                }
            })?;
        }
        Ok(Self { root: root.into(), files, tensors, carried, left_out, is_folder })
    }

    /// Bytes of the safetensors files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }

    /// Reads `buf.len()` bytes of a file from position `offset` on; from any thread.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if the file has become shorter, [`Error::Io`].
    pub fn read_at(&self, file: usize, offset: u64, buf: &mut [u8]) -> Result<()> {
        let source = &self.files[file];
        read_exact_at(&source.file, buf, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let end = offset + buf.len() as u64;
                Error::format(
                    &source.path,
                    format!("the file has become shorter than {end} bytes while it was read"),
                )
            }
            _ => Error::Io { path: source.path.clone(), source: e },
        })
    }

    /// # Errors
    ///
    /// [`Error::Format`] if a file has changed since it was opened.
    pub fn unchanged(&self) -> Result<()> {
        for f in &self.files {
            let now = f.file.metadata().map_err(Error::io(&f.path))?;
            if now.len() != f.len || now.modified().ok() != f.modified {
                return Err(Error::format(&f.path, "the file was changed while it was read"));
            }
        }
        Ok(())
    }

    /// For every tensor, why it must be carried bit for bit because the checkpoint is quantized already, if so.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if config.json cannot be understood.
    pub fn already_quantized(&self) -> Result<Vec<Option<&'static str>>> {
        let config = self.root.join("config.json");
        if self.is_folder && config.is_file() {
            let json: serde_json::Value = parse_json(&config)?;
            if json.get("quantization_config").is_some_and(|q| !q.is_null()) {
                return Ok(vec![
                    Some("the checkpoint is already quantized (config.json)");
                    self.tensors.len()
                ]);
            }
        }
        let names: HashSet<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        let has = |stem: &str, endings: &[&str]| {
            endings.iter().any(|e| names.contains(format!("{stem}{e}").as_str()))
        };
        let reason = |t: &TensorInfo| {
            let stem = t.name.strip_suffix("weight").unwrap_or(&t.name);
            let scaled = has(&t.name, &SCALE_ENDINGS)
                || stem.len() < t.name.len()
                    && has(stem, &["scale", "scales", "weight_scale", "weight_scale_inv"]);
            let packed = |stem: &str| {
                has(
                    stem,
                    &[
                        "qweight",
                        "weight_packed",
                        "weight_format",
                        "quant_map",
                        "weight.quant_map",
                        "SCB",
                    ],
                )
            };
            let module = t.name.rfind('.').map_or("", |dot| &t.name[..=dot]);
            match t.dtype {
                DType::F8E4M3 | DType::F8E5M2 if scaled => {
                    Some("already quantized: FP8 with scales")
                }
                _ if !t.dtype.is_weight() => None,
                _ if !module.is_empty() && packed(module) && !t.name.ends_with(".weight") => {
                    Some("belongs to a layer that is already quantized")
                }
                _ => None,
            }
        };
        let mut reasons: Vec<_> = self.tensors.iter().map(reason).collect();
        // The scales of FP8 weights are part of the quantization, not weights of their own.
        let is_f8 = |t: &&TensorInfo| matches!(t.dtype, DType::F8E4M3 | DType::F8E5M2);
        let f8: HashSet<&str> =
            self.tensors.iter().filter(is_f8).map(|t| t.name.as_str()).collect();
        for (t, r) in self.tensors.iter().zip(&mut reasons) {
            let base = SCALE_ENDINGS.iter().find_map(|e| t.name.strip_suffix(e));
            if r.is_none() && base.is_some_and(|b| f8.contains(b)) {
                *r = Some("scales of an already quantized weight");
            }
        }
        Ok(reasons)
    }
}

/// One plain file name: it can leave no folder.
fn check_basename(index: &Path, name: &str) -> Result<()> {
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0', ':'])
        && name.ends_with(".safetensors");
    if plain {
        return Ok(());
    }
    let why = format!(
        "shard name {}, expected the plain name of a .safetensors file in the same folder",
        quoted(name)
    );
    Err(Error::format(index, why))
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Unique,
    }
    Ok(parse_json::<Index>(path)?.weight_map.0)
}

/// A JSON object of strings without duplicate keys, which `serde_json` would accept.
struct Unique(BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Unique;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensor name to shard name")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Unique, A::Error> {
                let mut unique = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if unique.contains_key(&key) {
                        let why = format!("tensor {} is listed twice, expected once", quoted(&key));
                        return Err(serde::de::Error::custom(why));
                    }
                    unique.insert(key, value);
                }
                Ok(Unique(unique))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn parse_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let len = fs::metadata(path).map_err(Error::io(path))?.len();
    if len > MAX_JSON {
        return Err(Error::format(path, format!("{len} bytes, expected at most {MAX_JSON}")));
    }
    let text = fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|e| Error::format(path, e.to_string()))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut paths = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}

fn walk(root: &Path, relative: &Path, depth: usize, found: &mut impl FnMut(PathBuf)) -> Result<()> {
    for path in list(&root.join(relative))? {
        let Some(name) = path.file_name() else { continue };
        let hidden = name.to_string_lossy().starts_with('.');
        let relative = relative.join(name);
        // The metadata of what a link points to: the Hugging Face cache consists of links.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && !hidden => found(relative),
            Ok(meta) if meta.is_dir() && !hidden && depth < MAX_DEPTH => {
                walk(root, &relative, depth + 1, found)?
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
pub(super) fn read_exact_at(
    file: &File,
    mut buf: &mut [u8],
    mut offset: u64,
) -> std::io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buf, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}
