//! What a tersor archive says of itself, and where the parts of its tensors are.

pub(in crate::format) mod manifest;
mod tied;

use crate::{
    DType, Error, Result, TensorInfo,
    digest::{Digest, Fingerprint, agrees, encode_digest, short, twofold},
    form::{COMPONENTS, Component, TensorManifest, described_bytes},
    format::{
        CHUNK,
        archive::{
            manifest::{Manifest, SOURCES, parse_sources},
            tied::{Tie, Tied, join},
        },
        checkpoint::Checkpoint,
        chunks::{PART, SPAN},
        safetensors::{
            header_text::{NO_DIGEST, before_digest, described_length, tied_length},
            index::index_text,
        },
    },
    quote::quoted,
    scratch::Bytes,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// A tersor archive on disk, opened and checked: header digests, manifests, and that every component is there with the
/// length it must have. Data is given out only after the digest of its chunk has been checked.
#[derive(Debug)]
pub struct Archive {
    /// The safetensors files as they are stored.
    pub stored: Checkpoint,
    /// The tensors of the original checkpoint, in the order in which they are stored.
    pub tensors: Vec<ArchivedTensor>,
    /// Of every file, the digests of its chunks.
    chunks: Vec<Vec<Digest>>,
    /// Of every file that this run has made, the twofold digests that its spans had when its chunks were given these: it is read by
    /// spans.
    known: Vec<Option<Vec<Digest>>>,
    cache: Mutex<Cache>,
}

/// One tensor of the original checkpoint, as the archive holds it.
#[derive(Clone, Debug)]
pub struct ArchivedTensor {
    /// Its name, as that of the tensors of a checkpoint.
    pub name: String,
    /// How many bytes of the name are those of a module.
    pub prefix: u32,
    /// Which file of the archive holds it.
    pub file: usize,
    /// What was done to it; `None` where it is kept bit for bit.
    pub treated: Option<Box<TensorManifest>>,
    /// What tells its source from another, where it does not come back bit for bit and the archive says so: older ones do not.
    pub source: Option<Fingerprint>,
    /// Its components, or the kept tensor itself under the empty name. There may be a million tensors, so that nothing is held twice.
    components: Box<[Stored]>,
    /// Where these are those of another.
    tied: Option<Box<Tie>>,
}

/// A component's name, and its place in [`Checkpoint::tensors`].
type Stored = (&'static str, u32);

/// The file and number of a chunk, or of a span.
type ChunkId = (usize, u64);

/// A chunk's bytes, once their digest has been checked.
type Chunk = Arc<OnceLock<Vec<u8>>>;

/// Chunks whose digest has been checked, the last used first.
#[derive(Debug)]
struct Cache {
    chunks: Vec<(ChunkId, Chunk)>,
    room: usize,
    /// Buffers of chunks that were let go of, for those to come.
    spare: Vec<Vec<u8>>,
}

impl Cache {
    /// Lets go of those that were not used for longest.
    fn make_room(&mut self) {
        while self.chunks.len() > self.room {
            let last = self.chunks.pop().and_then(|(_, chunk)| Arc::into_inner(chunk));
            self.spare.extend(last.and_then(OnceLock::into_inner));
        }
    }
}

impl ArchivedTensor {
    /// What it is called in its file.
    pub fn own_name(&self) -> &str {
        &self.name[self.prefix as usize..]
    }

    /// The name of the tensor before it whose components are its own, too, as they are equal bit for bit.
    pub fn tied_to(&self) -> Option<&str> {
        self.tied.as_ref().map(|tie| &*tie.to)
    }

    /// What stands in the file for it alone.
    fn own(&self) -> &[Stored] {
        self.tied.as_ref().map_or(&self.components, |tie| std::slice::from_ref(&tie.mark))
    }

    /// Where it stands among the stored tensors.
    fn place(&self) -> Option<u32> {
        self.own().iter().map(|(_, at)| *at).min()
    }
}

impl Archive {
    /// Opens an archive: a file, an index.json or a folder.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it is not an archive or malformed, [`Error::Digest`] if a header is damaged, [`Error::Io`].
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.safetensors");
    /// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32).to_le_bytes())).collect();
    /// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
    /// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
    /// use tersor::{Backend, Cancel, DType, Silent, format::Archive, pipeline, recipe::Recipe};
    ///
    /// // `path`: a checkpoint of one F32 matrix, `w`, 64 x 255.
    /// let output = path.with_file_name("small.safetensors");
    /// let cancel = Cancel::new();
    /// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
    /// pipeline::compress(&path, &output, &Recipe::preset("int8")?, &options)?;
    /// let archive = Archive::open(&output)?;
    /// let w = &archive.tensors[0];
    /// assert_eq!(archive.original(w), (DType::F32, &[64, 255][..]));
    /// assert!(archive.components(w).map(|(name, _)| name).eq(["codes", "scales"]));
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn open(path: &Path) -> Result<Self> {
        let stored = Checkpoint::open(path)?;
        let (mut tensors, mut chunks) = (Vec::new(), Vec::new());
        for (i, file) in stored.files.iter().enumerate() {
            let Some(text) = file.metadata.get("tersor") else {
                let why = "no tersor manifest: this is not a tersor archive; make one with `tersor compress`";
                return Err(Error::format(&file.path, why));
            };
            let held = stored.tensors.iter().filter(|t| t.file == i).count();
            let (manifest, header_digest) =
                Manifest::parse(text, held).map_err(|why| Error::format(&file.path, why))?;
            check_header(&stored, i, &manifest.chunks, header_digest)?;
            let expected = (file.len - file.data_start).div_ceil(CHUNK);
            if manifest.chunks.len() as u64 != expected {
                let found = manifest.chunks.len();
                let why = format!("manifest: {found} chunk digests, expected {expected}");
                return Err(Error::format(&file.path, why));
            }
            chunks.push(manifest.chunks);
            tensors.push((manifest.tensors, manifest.tied));
        }
        check_index(&stored)?;
        let (mut tensors, ties) = assemble(&stored, tensors)?;
        name_sources(&stored, &mut tensors)?;
        join(&stored, &mut tensors, ties)?;
        tensors.sort_unstable_by_key(ArchivedTensor::place);
        let all = tensors.iter().map(|t| original_bytes(&stored, t));
        if all.fold(0u64, u64::saturating_add) > MOST {
            return Err(Error::format(&stored.root, "its tensors are 2^63 bytes or more"));
        }
        let room = 8.max(2 * rayon::current_num_threads() + 2);
        let cache = Mutex::new(Cache { chunks: Vec::new(), room, spare: Vec::new() });
        let known = vec![None; stored.files.len()];
        Ok(Self { stored, tensors, chunks, known, cache })
    }

    /// Holds the spans of files that this run has made against the twofold digests that they had when their chunks were given their own:
    /// `known` is asked for those of every file, by its name.
    pub(crate) fn made_by_this_run(
        mut self,
        known: &mut dyn FnMut(&str) -> Option<Vec<Digest>>,
    ) -> Self {
        self.known = self.stored.files.iter().map(|f| known(&f.name)).collect();
        self
    }

    /// The components of a tensor, or the kept tensor itself under the empty name.
    pub fn components(
        &self,
        tensor: &ArchivedTensor,
    ) -> impl ExactSizeIterator<Item = (&'static str, &TensorInfo)> {
        tensor.components.iter().map(|(name, at)| (*name, &self.stored.tensors[*at as usize]))
    }

    /// What stands in the file for a tensor alone: its components or, where it is tied to another that has them, a mark without bytes.
    pub fn stored_as(
        &self,
        tensor: &ArchivedTensor,
    ) -> impl ExactSizeIterator<Item = (&'static str, &TensorInfo)> {
        tensor.own().iter().map(|(name, at)| (*name, &self.stored.tensors[*at as usize]))
    }

    /// One component of a tensor, which must be one that its manifest calls for, or "" for a kept tensor.
    pub fn component(&self, tensor: &ArchivedTensor, name: &str) -> &TensorInfo {
        let mut all = self.components(tensor);
        all.find(|(n, _)| *n == name).map(|(_, info)| info).expect("opening found every component")
    }

    /// Whether a tensor is stored as codes, which kernels restore; values are only put in their places.
    pub fn holds_codes(&self) -> bool {
        let codes =
            |t: &ArchivedTensor| t.treated.as_ref().is_some_and(|m| m.method.code_bits().is_some());
        self.tensors.iter().any(codes)
    }

    /// Type and shape of a tensor before it was archived.
    pub fn original<'a>(&'a self, tensor: &'a ArchivedTensor) -> (DType, &'a [u64]) {
        match &tensor.treated {
            Some(manifest) => (manifest.dtype, &manifest.shape),
            None => {
                let info = self.component(tensor, "");
                (info.dtype, &info.shape)
            }
        }
    }

    /// Bytes of a tensor before it was archived.
    pub fn original_bytes(&self, tensor: &ArchivedTensor) -> u64 {
        original_bytes(&self.stored, tensor)
    }

    /// Reads bytes of a stored tensor, from `offset` within it, out of chunks whose digest has been checked; from any thread.
    ///
    /// # Errors
    ///
    /// [`Error::Digest`] if a chunk is damaged, [`Error::Io`].
    pub fn read_at(&self, info: &TensorInfo, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = info.offset() - self.stored.files[info.file].data_start + offset;
        let mut done = 0;
        while done < buf.len() {
            let at = start + done as u64;
            let size = self.size(info.file);
            let chunk = self.chunk(info.file, at / size)?;
            let bytes = &chunk.get().expect("checked chunks are filled")[(at % size) as usize..];
            let len = bytes.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        Ok(())
    }

    /// What is made of bytes of a stored tensor, from `offset` within it: where they lie, if one chunk has all of them.
    ///
    /// # Errors
    ///
    /// As [`Archive::read_at`].
    pub fn with_bytes<T>(
        &self,
        info: &TensorInfo,
        offset: u64,
        len: usize,
        of: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let start = info.offset() - self.stored.files[info.file].data_start + offset;
        let size = self.size(info.file);
        let first = (start % size) as usize;
        if first + len > size as usize || len == 0 {
            let mut bytes = Bytes::new(len);
            self.read_at(info, offset, &mut bytes)?;
            return Ok(of(&bytes));
        }
        let chunk = self.chunk(info.file, start / size)?;
        Ok(of(&chunk.get().expect("checked chunks are filled")[first..first + len]))
    }

    /// What a tensor takes in the manifest, as it stands in the header.
    pub fn manifest_bytes(&self, tensor: &ArchivedTensor) -> u64 {
        let name = tensor.own_name();
        match (tensor.tied_to(), &tensor.treated) {
            (Some(to), _) => tied_length(name, &to[tensor.prefix as usize..]),
            (None, Some(treated)) => described_length(name, treated),
            (None, None) => 0,
        }
    }

    /// Of every tensor the place of its first component in the index, which orders them as the original's did.
    pub(crate) fn places(&self) -> Vec<u32> {
        let stored = self.stored.places();
        let place = |t: &ArchivedTensor| {
            t.own().iter().map(|(_, at)| stored[*at as usize]).min().unwrap_or(0)
        };
        self.tensors.iter().map(place).collect()
    }

    /// Bytes of a file that are read and checked together.
    fn size(&self, file: usize) -> u64 {
        if self.known[file].is_some() { SPAN } else { CHUNK }
    }

    fn chunk(&self, file: usize, index: u64) -> Result<Chunk> {
        let slot = {
            let mut cache = self.lock();
            let key = (file, index);
            let slot = match cache.chunks.iter().position(|(k, _)| *k == key) {
                Some(at) => cache.chunks.remove(at).1,
                None => Arc::new(OnceLock::new()),
            };
            cache.chunks.insert(0, (key, slot.clone()));
            cache.make_room();
            slot
        };
        if slot.get().is_none() {
            let bytes = self.load(file, index)?;
            // Another thread may have been as quick; both hold the same checked bytes.
            _ = slot.set(bytes);
        }
        Ok(slot)
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, file: usize, index: u64) -> Result<Vec<u8>> {
        let source = &self.stored.files[file];
        let size = self.size(file);
        let start = source.data_start + index * size;
        let mut bytes = self.lock().spare.pop().unwrap_or_default();
        bytes.resize((source.len - start).min(size) as usize, 0);
        let same = match &self.known[file] {
            Some(known) => {
                self.stored.read_at(file, start, &mut bytes)?;
                known.get(index as usize) == Some(&twofold(&bytes))
            }
            None => {
                let mut hash = blake3::Hasher::new();
                for (part, at) in bytes.chunks_mut(PART).zip((start..).step_by(PART)) {
                    self.stored.read_at(file, at, part)?;
                    hash.update(part);
                }
                agrees(short(hash.finalize()), self.chunks[file][index as usize])
            }
        };
        if same {
            return Ok(bytes);
        }
        let end = start + bytes.len() as u64;
        Err(Error::Digest {
            path: source.path.clone(),
            what: format!("chunk {} (bytes {start} to {end})", index * size / CHUNK),
        })
    }
}

/// Most bytes of all tensors: no file is longer, and sums of them stay numbers of 64 bits.
const MOST: u64 = i64::MAX as u64;

fn original_bytes(stored: &Checkpoint, tensor: &ArchivedTensor) -> u64 {
    match &tensor.treated {
        Some(manifest) => described_bytes(manifest.dtype, &manifest.shape).unwrap_or(0),
        None => tensor.components.iter().map(|(_, at)| stored.tensors[*at as usize].bytes).sum(),
    }
}

/// Recomputes the header's digest over its text with the digest's own characters replaced.
fn check_header(
    stored: &Checkpoint,
    file: usize,
    chunks: &[Digest],
    expected: Digest,
) -> Result<()> {
    let source = &stored.files[file];
    let damaged = || Error::Digest { path: source.path.clone(), what: "header".into() };
    let (mut start, end) = (before_digest(chunks), source.data_start);
    let mut hash = blake3::Hasher::new();
    hash.update(&start).update(NO_DIGEST.as_bytes());
    start.extend(encode_digest(expected).as_bytes());
    let mut at = 8 + start.len() as u64;
    if at > end {
        return Err(damaged());
    }
    let mut buffer = vec![0; start.len()];
    stored.read_at(file, 8, &mut buffer)?;
    if buffer != start {
        return Err(damaged());
    }
    while at < end {
        buffer.resize((end - at).min(1 << 20) as usize, 0);
        stored.read_at(file, at, &mut buffer)?;
        hash.update(&buffer);
        at += buffer.len() as u64;
    }
    if agrees(short(hash.finalize()), expected) { Ok(()) } else { Err(damaged()) }
}

/// Demands that the indices of a folder are as they were written: they have no digest, but in their order only one text.
fn check_index(stored: &Checkpoint) -> Result<()> {
    for module in &stored.modules {
        let Some(index) = &module.index else { continue };
        let path = stored.root.join(&index.name);
        let tensors = stored.tensors_of(module);
        let listed = index.order.iter().map(|at| &tensors[*at as usize]);
        let shards: Vec<_> =
            listed.map(|t| (t.own_name(), module.own(&stored.files[t.file].name))).collect();
        let total = tensors.iter().map(|t| t.bytes).sum();
        if std::fs::read(&path).map_err(Error::io(&path))? != index_text(total, &shards) {
            return Err(Error::Digest { path, what: "its text".into() });
        }
    }
    Ok(())
}

/// Gives each tensor the fingerprint of its source, where the file that holds it has them.
fn name_sources(stored: &Checkpoint, tensors: &mut [ArchivedTensor]) -> Result<()> {
    for (file, source) in stored.files.iter().enumerate() {
        let Some(text) = source.metadata.get(SOURCES) else { continue };
        let lossy = |t: &ArchivedTensor| t.treated.as_ref().is_some_and(|m| !m.lossless());
        let mut of_file: Vec<_> =
            tensors.iter_mut().filter(|t| t.file == file && lossy(t)).collect();
        of_file.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let sources =
            parse_sources(text, of_file.len()).map_err(|why| Error::format(&source.path, why))?;
        of_file.into_iter().zip(sources).for_each(|(t, s)| t.source = Some(s));
    }
    Ok(())
}

/// Matches the stored tensors with the manifests of their files: every component there once, with the right type and length.
fn assemble(
    stored: &Checkpoint,
    manifests: Vec<(BTreeMap<String, TensorManifest>, BTreeMap<String, String>)>,
) -> Result<(Vec<ArchivedTensor>, Vec<Tied>)> {
    let component = |t: &TensorInfo| {
        t.name.rsplit_once('.').is_some_and(|(_, ending)| COMPONENTS.contains(&ending))
    };
    let by_name: HashMap<&str, u32> = (0..)
        .zip(&stored.tensors)
        .filter(|(_, t)| component(t))
        .map(|(at, t)| (&*t.name, at))
        .collect();
    let mut taken = vec![false; stored.tensors.len()];
    let (mut tensors, mut ties) = (Vec::new(), Vec::new());
    for (file, (manifest, tied)) in manifests.into_iter().enumerate() {
        let module = &stored.modules[stored.module_of(file)].prefix;
        let prefix = module.len() as u32;
        let mut take = |name: &str, c: Component, most: u64| -> Result<Stored> {
            let refuse = |why: String| refused(stored, file, name, &why);
            let at = *by_name
                .get(format!("{name}.{}", c.name).as_str())
                .ok_or_else(|| refuse(format!("{} is missing", c.name)))?;
            let info = &stored.tensors[at as usize];
            if info.file != file
                || info.dtype != c.dtype
                || c.shape.as_ref().is_some_and(|s| *s != info.shape)
            {
                let found = format!("{} is {} {:?}", c.name, info.dtype.name(), info.shape);
                let shape = c.shape.map_or("[..]".into(), |shape| format!("{shape:?}"));
                let dtype = c.dtype.name();
                return Err(refuse(format!("{found}, expected {dtype} {shape} in the same file")));
            }
            // What survives is at most everything; the exact number is checked against the mask when it is read.
            if c.shape.is_none() && (info.shape.len() != 1 || info.bytes > most) {
                let (name, shape) = (c.name, &info.shape);
                return Err(refuse(format!("{name} is {shape:?}, which no mask can need")));
            }
            taken[at as usize] = true;
            Ok((c.name, at))
        };
        for (own, to) in tied {
            let (name, to) = (format!("{module}{own}"), format!("{module}{to}").into());
            let mark = take(&name, Component::tied(), 0)?;
            ties.push(Tied { name, prefix, file, tie: Tie { to, mark } });
        }
        for (own, treated) in manifest {
            let name = format!("{module}{own}");
            let most =
                described_bytes(treated.dtype, &treated.shape).unwrap_or(0).saturating_mul(4);
            let components = treated.components().into_iter().map(|c| take(&name, c, most));
            let components = components.collect::<Result<_>>()?;
            tensors.push(ArchivedTensor {
                name,
                prefix,
                file,
                treated: Some(treated.into()),
                source: None,
                components,
                tied: None,
            });
        }
    }
    let kept = || (0..).zip(&stored.tensors).filter(|(at, _)| !taken[*at as usize]);
    // No two treated tensors have the same name: they would need the same components.
    let treated: HashSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    if let Some((_, t)) = kept().find(|(_, t)| treated.contains(t.name.as_str())) {
        let why = format!("tensor {} is stored twice", quoted(&t.name));
        return Err(Error::format(&stored.root, why));
    }
    tensors.reserve_exact(kept().count());
    tensors.extend(kept().map(|(at, t)| ArchivedTensor {
        name: t.name.clone(),
        prefix: t.prefix,
        file: t.file,
        treated: None,
        source: None,
        components: [("", at as u32)].into(),
        tied: None,
    }));
    Ok((tensors, ties))
}

fn refused(stored: &Checkpoint, file: usize, name: &str, why: &str) -> Error {
    Error::format(&stored.files[file].path, format!("tensor {}: {why}", quoted(name)))
}
