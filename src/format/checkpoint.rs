use crate::{
    Error, Result, TensorInfo,
    format::{
        folder::{Contents, other_weights},
        hub,
        modules::{Found, Listing, Module, find},
        regular,
        safetensors::{header, index::Index, metadata::Metadata},
        variant::{choose, choose_variant, is_index, no_variant},
    },
    quote::{quoted, shown},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

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
    /// Its parts that have names of their own: one, unless it is a pipeline.
    pub modules: Vec<Module>,
    /// The folder's other files; none for a single file.
    contents: Contents,
    /// Whether it is a folder (or an index.json in one) rather than a single file.
    pub is_folder: bool,
}

/// One safetensors file of a checkpoint.
#[derive(Debug)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the folder: `model.safetensors`, or `unet/model.safetensors` in a pipeline.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Where its data section starts.
    pub data_start: u64,
    /// Its `__metadata__`.
    pub metadata: Metadata,
    file: File,
    modified: Option<SystemTime>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an index (`*.safetensors.index.json`, `*.safetensors.index.VARIANT.json`), or a folder with
    /// either. Of the checkpoints in a folder it takes
    ///
    /// 1. the index `model.safetensors.index.json`, else the file `model.safetensors`;
    /// 2. the only index of no variant;
    /// 3. the only file of no variant;
    /// 4. of several indices of variants, or else files, the first by name, where all are variants of one checkpoint; those of
    ///    `model` come first.
    ///
    /// Other precisions of the same weights are left out of the folder's other files, and said to be.
    ///
    /// A pipeline is a folder whose `model_index.json` or `modules.json` names modules: in each folder that holds weights that rule
    /// is followed by itself. Names of its files and tensors begin with that of their module: `unet/conv_in.weight`.
    ///
    /// A folder of the Hugging Face Hub's cache (`models--org--name`) stands for its snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for anything malformed, [`Error::Io`], [`Error::Usage`] if the path holds no checkpoint.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.safetensors");
    /// # let bytes = [0f32; 6].map(f32::to_le_bytes).concat();
    /// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 3], &bytes);
    /// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
    /// use tersor::{DType, format::Checkpoint};
    ///
    /// // `path`: a checkpoint of one F32 matrix, `w`.
    /// let checkpoint = Checkpoint::open(&path)?;
    /// let w = &checkpoint.tensors[0];
    /// assert_eq!((&*w.name, w.dtype, &w.shape[..], w.bytes), ("w", DType::F32, &[2, 3][..], 24));
    /// assert!(!checkpoint.is_folder);
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_variant(path, None)
    }

    /// [`Checkpoint::open`], with a variant of a folder's weights: `fp16` for `model.fp16.safetensors`. A module of a pipeline that
    /// has no such variant, where another has, is taken as without one. The other variants are left out of the folder's other
    /// files.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`]; [`Error::Usage`] if there is no such variant, or `path` is no folder.
    pub fn open_variant(path: &Path, variant: Option<&str>) -> Result<Self> {
        let kind = fs::metadata(path).map_err(|e| hub::missing(path, e))?;
        if kind.is_dir() {
            let snapshot = hub::snapshot(path)?;
            return Self::open_folder(snapshot.as_deref().unwrap_or(path), variant);
        }
        if variant.is_some() {
            let path = shown(path);
            let why =
                format!("{path} is no folder, of whose variants one is chosen: name it alone");
            return Err(Error::Usage(why));
        }
        regular(path)?;
        if is_index(path) || name_of(path).ends_with(".index.json") {
            let root =
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut open = Self::new(root);
            open.add("", &name_of(path))?;
            return open.in_folder(false, None);
        }
        let mut open = Self::new(path);
        open.add_files("", &[path.to_path_buf()])?;
        Ok(open)
    }

    fn open_folder(root: &Path, variant: Option<&str>) -> Result<Self> {
        let Found { modules, by } = find(root)?;
        let mut open = Self::new(root);
        let mut there = variant.is_none();
        for (prefix, names) in &modules {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let of_variant = variant.and_then(|v| choose_variant(&names, v));
            there |= of_variant.is_some();
            let name = of_variant.unwrap_or_else(|| choose(&names)).map_err(|why| {
                let other = names.is_empty().then(|| other_weights(root)).flatten();
                let but = other.map_or(String::new(), |other| format!("; {other}"));
                let folder = if prefix.is_empty() { root.into() } else { root.join(prefix) };
                Error::Usage(format!("{}: {why}{but}", shown(&folder)))
            })?;
            open.add(prefix, name)?;
        }
        if let (false, Some(wanted)) = (there, variant) {
            let all = modules.iter().flat_map(|(_, names)| names);
            return Err(Error::Usage(format!("{}: {}", shown(root), no_variant(wanted, all))));
        }
        let several = open.modules.len() > 1;
        if let Some(twice) = several.then(|| header::repeated(&open.tensors)).flatten() {
            return Err(open.twice(twice));
        }
        open.in_folder(variant.is_some(), by)
    }

    fn new(root: &Path) -> Self {
        let (files, tensors, modules) = (Vec::new(), Vec::new(), Vec::new());
        let contents = Contents::default();
        Self { root: root.into(), files, tensors, modules, contents, is_folder: false }
    }

    /// Adds the module whose folder has this prefix: a file in it, or the files that an index in it lists.
    fn add(&mut self, prefix: &str, name: &str) -> Result<()> {
        let folder = self.root.join(prefix);
        let path = folder.join(name);
        if !is_index(&path) && !name.ends_with(".index.json") {
            return self.add_files(prefix, &[path]);
        }
        let (first_file, first) = (self.files.len(), self.tensors.len());
        let index = Index::read(&path, &folder)?;
        self.add_files(prefix, &index.paths(&folder))?;
        let order = index.check(&path, &self.tensors[first..], first_file)?;
        let listing = Listing { name: format!("{prefix}{name}"), order };
        self.modules.last_mut().expect("it was just added").index = Some(listing);
        Ok(())
    }

    fn add_files(&mut self, prefix: &str, paths: &[PathBuf]) -> Result<()> {
        let (first_file, first) = (self.files.len(), self.tensors.len());
        for path in paths {
            let file = File::open(path).map_err(Error::io(path))?;
            let meta = file.metadata().map_err(Error::io(path))?;
            let mut header = header::read(path, &file, meta.len(), self.files.len())?;
            if !prefix.is_empty() {
                for t in &mut header.tensors {
                    t.name.insert_str(0, prefix);
                    t.prefix = prefix.len() as u32;
                }
            }
            if self.tensors.is_empty() {
                // Kept as it is: there may be a million.
                self.tensors = header.tensors;
            } else {
                self.tensors.extend(header.tensors);
            }
            self.files.push(SourceFile {
                path: path.clone(),
                name: format!("{prefix}{}", name_of(path)),
                len: meta.len(),
                data_start: header.data_start,
                metadata: header.metadata,
                modified: meta.modified().ok(),
                file,
            });
        }
        let several = paths.len() > 1;
        if let Some(twice) = several.then(|| header::repeated(&self.tensors[first..])).flatten() {
            return Err(self.twice(twice));
        }
        let files = first_file..self.files.len();
        self.modules.push(Module { prefix: prefix.into(), index: None, files });
        Ok(())
    }

    fn twice(&self, [a, b]: [&TensorInfo; 2]) -> Error {
        let why = format!(
            "tensor {} is in {} and in {}, expected once",
            quoted(&a.name),
            quoted(&self.files[a.file].name),
            quoted(&self.files[b.file].name)
        );
        Error::format(&self.root, why)
    }

    /// Makes it the checkpoint of a folder, other files included; whether its variant was asked for, and what file names its
    /// modules, if it is a pipeline.
    fn in_folder(mut self, asked: bool, pipeline: Option<&'static str>) -> Result<Self> {
        self.contents = Contents::of(&self, asked, pipeline)?;
        self.is_folder = true;
        Ok(self)
    }

    /// The module that a file is of.
    pub(crate) fn module_of(&self, file: usize) -> usize {
        self.modules.partition_point(|m| m.files.end <= file)
    }

    /// The tensors of a module.
    pub(crate) fn tensors_of(&self, module: &Module) -> &[TensorInfo] {
        let at = |file: usize| self.tensors.partition_point(|t| t.file < file);
        &self.tensors[at(module.files.start)..at(module.files.end)]
    }

    /// Of every tensor its place in the index of its module, or in the files where there is none.
    pub(crate) fn places(&self) -> Vec<u32> {
        let mut places = Vec::with_capacity(self.tensors.len());
        for module in &self.modules {
            let (first, count) = (places.len(), self.tensors_of(module).len());
            places.extend(0..count as u32);
            let order = module.index.iter().flat_map(|index| &index.order);
            order.zip(0..).for_each(|(t, place)| places[first + *t as usize] = place);
        }
        places
    }

    /// The names of its indices in the folder.
    pub fn indices(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().filter_map(|m| m.index.as_ref()).map(|index| index.name.as_str())
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        let path = if self.is_folder { Some(&*self.root) } else { self.root.parent() };
        path.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The folder's other files that are carried along, relative to it, sorted.
    pub fn carried(&self) -> &[PathBuf] {
        &self.contents.carried
    }

    /// What a user should know of the folder's other files, a sentence each: what is left out and why, and which weights
    /// are carried bit for bit because they are no part of the checkpoint itself.
    pub fn remarks(&self) -> Vec<String> {
        self.contents.remarks().collect()
    }

    /// The files of an output of the same shape: its shards, its index and what is carried along, relative to its folder.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Path> {
        let own = self.files.iter().map(|f| f.name.as_str()).chain(self.indices());
        own.map(Path::new).chain(self.contents.carried.iter().map(PathBuf::as_path))
    }

    /// Bytes of the safetensors files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }

    /// Bytes of the files that list shards.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be told.
    pub fn index_bytes(&self) -> Result<u64> {
        self.indices().map(|name| length(self.root.join(name))).sum()
    }

    /// Bytes of the folder's other files that are carried along.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be told.
    pub fn carried_bytes(&self) -> Result<u64> {
        self.carried().iter().map(|p| length(self.root.join(p))).sum()
    }

    /// Bytes of all its files: of the weights, the index, and what is carried along.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be told.
    pub fn total_bytes(&self) -> Result<u64> {
        Ok(self.bytes() + self.index_bytes()? + self.carried_bytes()?)
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
}

fn length(path: PathBuf) -> Result<u64> {
    fs::metadata(&path).map(|m| m.len()).map_err(Error::io(path))
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned())
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
