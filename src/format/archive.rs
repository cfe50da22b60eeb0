use super::{
    CHUNK, Checkpoint, Digest, Manifest, TensorManifest, digest, quoted, writer::digest_position,
};
use crate::{Error, Result, TensorInfo, format::header::described_bytes};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A tersor archive on disk, opened and checked: header digests, manifests, and that every component is there with the
/// length it must have. Data is given out only after the digest of its chunk has been checked.
#[derive(Debug)]
pub struct Archive {
    /// The safetensors files as they are stored.
    pub stored: Checkpoint,
    /// The tensors of the original checkpoint.
    pub tensors: Vec<ArchivedTensor>,
    manifests: Vec<Manifest>,
    cache: Mutex<Cache>,
}

/// One tensor of the original checkpoint, as the archive holds it.
#[derive(Clone, Debug)]
pub struct ArchivedTensor {
    /// Its name.
    pub name: String,
    /// Which file of the archive holds it.
    pub file: usize,
    /// What was done to it; `None` where it is kept bit for bit.
    pub treated: Option<TensorManifest>,
    /// Its components by name, or the kept tensor itself under the empty name.
    pub components: BTreeMap<&'static str, TensorInfo>,
}

/// A chunk's file and number.
type ChunkId = (usize, u64);

/// A chunk's bytes, once their digest has been checked.
type Chunk = Arc<OnceLock<Vec<u8>>>;

/// Chunks whose digest has been checked, the last used first.
#[derive(Debug)]
struct Cache {
    chunks: Vec<(ChunkId, Chunk)>,
    room: usize,
}

impl Archive {
    /// Opens an archive: a file, an index.json or a folder.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it is not an archive or malformed, [`Error::Digest`] if a header is damaged, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let stored = Checkpoint::open(path)?;
        let mut manifests = Vec::new();
        for (i, file) in stored.files.iter().enumerate() {
            let Some((_, text)) = file.metadata.iter().find(|(k, _)| k == "tersor") else {
                let why = "no tersor manifest: this is not a tersor archive; make one with `tersor compress`";
                return Err(Error::format(&file.path, why));
            };
            let (manifest, header_digest) =
                Manifest::parse(text).map_err(|why| Error::format(&file.path, why))?;
            check_header(&stored, i, header_digest)?;
            let chunks = (file.len - file.data_start).div_ceil(CHUNK);
            if manifest.chunks.len() as u64 != chunks {
                let why =
                    format!("manifest: {} chunk digests, expected {chunks}", manifest.chunks.len());
                return Err(Error::format(&file.path, why));
            }
            manifests.push(manifest);
        }
        let tensors = assemble(&stored, &manifests)?;
        let room = 8.max(2 * rayon::current_num_threads() + 2);
        Ok(Self {
            stored,
            tensors,
            manifests,
            cache: Mutex::new(Cache { chunks: Vec::new(), room }),
        })
    }

    /// Reads bytes of a stored tensor, from `offset` within it, out of chunks whose digest has been checked; from any thread.
    ///
    /// # Errors
    ///
    /// [`Error::Digest`] if a chunk is damaged, [`Error::Io`].
    pub fn read_at(&self, info: &TensorInfo, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = info.offset - self.stored.files[info.file].data_start + offset;
        let mut done = 0;
        while done < buf.len() {
            let at = start + done as u64;
            let chunk = self.chunk(info.file, at / CHUNK)?;
            let bytes = &chunk.get().expect("checked chunks are filled")[(at % CHUNK) as usize..];
            let len = bytes.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        Ok(())
    }

    /// What a tensor takes in the manifest, as it stands in the header.
    pub fn manifest_bytes(&self, tensor: &ArchivedTensor) -> u64 {
        let Some(treated) = &tensor.treated else { return 0 };
        let alone = |tensors| Manifest { tensors, chunks: Vec::new() }.to_text();
        let (without, with) = (
            alone(BTreeMap::new()),
            alone(BTreeMap::from([(tensor.name.clone(), treated.clone())])),
        );
        // Every quote inside the metadata value carries a backslash; a comma parts it from its neighbour.
        let quotes = |text: &str| text.matches('"').count();
        (with.len() - without.len() + quotes(&with) - quotes(&without) + 1) as u64
    }

    fn chunk(&self, file: usize, index: u64) -> Result<Chunk> {
        let slot = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (file, index);
            let slot = match cache.chunks.iter().position(|(k, _)| *k == key) {
                Some(at) => cache.chunks.remove(at).1,
                None => Arc::new(OnceLock::new()),
            };
            cache.chunks.insert(0, (key, slot.clone()));
            let room = cache.room;
            cache.chunks.truncate(room);
            slot
        };
        if slot.get().is_none() {
            let bytes = self.load(file, index)?;
            // Another thread may have been as quick; both hold the same checked bytes.
            _ = slot.set(bytes);
        }
        Ok(slot)
    }

    fn load(&self, file: usize, index: u64) -> Result<Vec<u8>> {
        let source = &self.stored.files[file];
        let start = source.data_start + index * CHUNK;
        let mut bytes = vec![0; (source.len - start).min(CHUNK) as usize];
        self.stored.read_at(file, start, &mut bytes)?;
        if digest(&bytes) == self.manifests[file].chunks[index as usize] {
            return Ok(bytes);
        }
        let end = start + bytes.len() as u64;
        Err(Error::Digest {
            path: source.path.clone(),
            what: format!("chunk {index} (bytes {start} to {end})"),
        })
    }
}

/// Recomputes the header's digest over its text with the digest's own characters replaced.
fn check_header(stored: &Checkpoint, file: usize, expected: Digest) -> Result<()> {
    let source = &stored.files[file];
    let mut text = vec![0; source.data_start as usize - 8];
    stored.read_at(file, 8, &mut text)?;
    let damaged = || Error::Digest { path: source.path.clone(), what: "header".into() };
    let at = digest_position(&text).ok_or_else(damaged)?;
    text[at..at + 22].fill(b'A');
    if digest(&text) == expected { Ok(()) } else { Err(damaged()) }
}

/// Matches the stored tensors with the manifests: every component there once, with the right type and length.
fn assemble(stored: &Checkpoint, manifests: &[Manifest]) -> Result<Vec<ArchivedTensor>> {
    let mut by_name: HashMap<&str, &TensorInfo> =
        stored.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut tensors = Vec::new();
    for (file, manifest) in manifests.iter().enumerate() {
        for (name, treated) in &manifest.tensors {
            let refuse = |why: String| {
                Error::format(&stored.files[file].path, format!("tensor {}: {why}", quoted(name)))
            };
            let mut components = BTreeMap::new();
            for c in treated.components() {
                let full = format!("{name}.{}", c.name);
                let info = by_name
                    .remove(full.as_str())
                    .ok_or_else(|| refuse(format!("{} is missing", c.name)))?;
                if info.file != file
                    || info.dtype != c.dtype
                    || c.shape.as_ref().is_some_and(|s| *s != info.shape)
                {
                    let (dtype, shape) = (c.dtype.name(), c.shape.unwrap_or_default());
                    let found = format!("{} is {} {:?}", c.name, info.dtype.name(), info.shape);
                    return Err(refuse(format!(
                        "{found}, expected {dtype} {shape:?} in the same file"
                    )));
                }
                components.insert(c.name, info.clone());
            }
            let restored = described_bytes(treated.dtype, &treated.shape).unwrap_or(0);
            // What survives is at most everything; the exact number is checked against the mask when it is read.
            for name in ["values", "codes"] {
                if let Some(info) = components.get(name).filter(|c| {
                    treated.pruned && (c.shape.len() != 1 || c.bytes > restored.saturating_mul(4))
                }) {
                    return Err(refuse(format!(
                        "{name} is {:?}, which no mask of it can need",
                        info.shape
                    )));
                }
            }
            tensors.push(ArchivedTensor {
                name: name.clone(),
                file,
                treated: Some(treated.clone()),
                components,
            });
        }
    }
    for kept in stored.tensors.iter().filter(|t| by_name.contains_key(t.name.as_str())) {
        let components = BTreeMap::from([("", kept.clone())]);
        tensors.push(ArchivedTensor {
            name: kept.name.clone(),
            file: kept.file,
            treated: None,
            components,
        });
    }
    tensors.sort_by_key(|t| t.components.values().map(|c| (c.file, c.offset)).min());
    let mut names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    if let Some(w) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::format(
            &stored.root,
            format!("tensor {} is stored twice", quoted(w[0])),
        ));
    }
    Ok(tensors)
}
