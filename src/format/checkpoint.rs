use crate::{
    Error, Result, TensorInfo,
    format::{
        folder::{Contents, hidden, list},
        real::real,
        safetensors::{header, index::Index, metadata::Metadata},
        variant::{choose, is_index, variant},
    },
    quote::quoted,
};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::ErrorKind,
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
    /// The name of the index that lists the shards, if there is one.
    pub index: Option<String>,
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
    /// Its name in the folder.
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
        let kind = fs::metadata(path).map_err(Error::io(path))?;
        if kind.is_dir() {
            return Self::open_folder(path);
        }
        if !kind.is_file() {
            return Err(Error::format(path, "this is neither a regular file nor a folder"));
        }
        if is_index(path) || name_of(path).ends_with(".index.json") {
            let root =
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Self::open_index(path, root);
        }
        Self::with_files(path, &[path.to_path_buf()])
    }

    fn open_folder(root: &Path) -> Result<Self> {
        let listed = list(root)?.into_iter().filter(|p| !hidden(p)).map(|p| (name_of(&p), p));
        let mut names = Vec::new();
        for (name, path) in listed.filter(|(name, _)| variant(name).is_some()) {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => names.push(name),
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::Io { path, source: e });
                }
                _ => {}
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found =
            choose(&names).map_err(|why| Error::Usage(format!("{}: {why}", root.display())))?;
        let path = root.join(found);
        match is_index(&path) {
            true => Self::open_index(&path, root),
            false => Self::with_files(root, &[path])?.in_folder(None),
        }
    }

    fn open_index(path: &Path, root: &Path) -> Result<Self> {
        let index = Index::read(path, root)?;
        let open = Self::with_files(root, &index.paths(root))?;
        index.check(path, &open.tensors)?;
        open.in_folder(Some(name_of(path)))
    }

    /// Makes it the checkpoint of a folder, other files included.
    fn in_folder(mut self, index: Option<String>) -> Result<Self> {
        let shards: Vec<&str> = self.files.iter().map(|f| f.name.as_str()).collect();
        self.contents = Contents::of(&self.root, &shards, index.as_deref())?;
        (self.index, self.is_folder) = (index, true);
        Ok(self)
    }

    fn with_files(root: &Path, paths: &[PathBuf]) -> Result<Self> {
        let (mut files, mut tensors) = (Vec::new(), Vec::new());
        for path in paths {
            let file = File::open(path).map_err(Error::io(path))?;
            let meta = file.metadata().map_err(Error::io(path))?;
            let header = header::read(path, &file, meta.len(), files.len())?;
            if tensors.is_empty() {
                // Kept as it is: there may be a million.
                tensors = header.tensors;
            } else {
                tensors.extend(header.tensors);
            }
            files.push(SourceFile {
                path: path.clone(),
                name: name_of(path),
                len: meta.len(),
                data_start: header.data_start,
                metadata: header.metadata,
                modified: meta.modified().ok(),
                file,
            });
        }
        let twice = (files.len() > 1).then(|| header::repeated(&tensors)).flatten();
        if let Some([a, b]) = twice {
            let why = format!(
                "tensor {} is in {} and in {}, expected once",
                quoted(&a.name),
                quoted(&files[a.file].name),
                quoted(&files[b.file].name)
            );
            return Err(Error::format(root, why));
        }
        let (root, contents) = (root.into(), Contents::default());
        Ok(Self { root, files, tensors, index: None, contents, is_folder: false })
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

    /// Forgets other files that lie in `folder`: an output in the folder of its input is no part of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be told where they lie.
    pub fn without(&mut self, folder: &Path) -> Result<()> {
        let Some(folder) = real(folder)? else { return Ok(()) };
        let carried = self.contents.carried.iter();
        let mut inside = HashSet::new();
        for path in carried.chain(self.contents.left_out.iter().map(|(p, _)| p)) {
            if real(&self.root.join(path))?.is_some_and(|p| p.starts_with(&folder)) {
                inside.insert(path.clone());
            }
        }
        self.contents.carried.retain(|p| !inside.contains(p));
        self.contents.left_out.retain(|(p, _)| !inside.contains(p));
        Ok(())
    }

    /// The files of an output of the same shape: its shards, its index and what is carried along, relative to its folder.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Path> {
        let own = self.files.iter().map(|f| &f.name).chain(&self.index);
        own.map(Path::new).chain(self.contents.carried.iter().map(PathBuf::as_path))
    }

    /// Bytes of the safetensors files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }

    /// Bytes of the file that lists the shards, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be told.
    pub fn index_bytes(&self) -> Result<u64> {
        self.index.as_ref().map_or(Ok(0), |name| length(self.root.join(name)))
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
