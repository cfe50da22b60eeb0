//! Decoding a whole archive and measuring it: every chunk's digest, every tensor's digest, and the error against the source.

mod errors;

use crate::{
    DType, Error, Result, TensorInfo,
    codec::{bitpack, block::Sizes, sparse},
    digest::{Digest, agrees, digest},
    dtype,
    engine::Engine,
    format::{
        Archive, ArchivedTensor, CHUNK, Checkpoint, Entry, Method, TensorManifest, entry_length,
    },
    plan::describe,
    quote::{quoted, shown},
    report::{ComponentReport, ErrorReport, TensorReport},
    restore::{Parts, Restorer},
    stage::{Blocks, Source, Unit},
    verify::errors::Sums,
};
use rayon::prelude::*;
use std::{collections::HashMap, ops::Range};

/// How many blocks are measured before their column sums are added up, at most: enough for every thread.
const BATCH: usize = 64;
/// What those column sums may take.
const BATCH_BYTES: u64 = 64 << 20;

/// Checks every tensor of an archive, in the order of the archive.
///
/// # Errors
///
/// [`Error::Digest`] if anything is damaged; [`Error::Differs`] if a kept tensor is another than in the source; [`Error::Verify`] if a tensor is further from its source than its limit, or a
/// metric is not finite; [`Error::Format`] if the source does not fit.
pub fn check(
    engine: &Engine,
    archive: &Archive,
    against: Option<&Checkpoint>,
) -> Result<Vec<TensorReport>> {
    let partners = against.map(|source| partners(archive, source)).transpose()?;
    let check = |(i, t): (usize, &ArchivedTensor)| {
        let source = against.zip(partners.as_ref().map(|p| p[i]));
        match &t.treated {
            Some(manifest) => {
                engine.again(&t.name, || treated(engine, archive, t, manifest, source))
            }
            None => kept(engine, archive, t, source),
        }
    };
    // Room for all at once: there may be a million, and growing would hold them twice.
    let mut reports = Vec::with_capacity(archive.tensors.len());
    for tensor in archive.tensors.iter().enumerate() {
        reports.push(check(tensor)?);
    }
    Ok(reports)
}

/// For every tensor of an archive the one of a checkpoint with the same name, type and shape; the checkpoint has no others.
fn partners<'a>(archive: &Archive, source: &'a Checkpoint) -> Result<Vec<&'a TensorInfo>> {
    let refuse = |why: String| Err(Error::format(&archive.stored.root, why));
    let root = shown(&source.root);
    // Of use only where the order is another, and large.
    let mut by_name: Option<HashMap<&str, &TensorInfo>> = None;
    let named = || source.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut partners = Vec::with_capacity(archive.tensors.len());
    for (i, t) in archive.tensors.iter().enumerate() {
        let (dtype, shape) = archive.original(t);
        let found = match source.tensors.get(i) {
            Some(s) if s.name == t.name => Some(s),
            _ => by_name.get_or_insert_with(named).get(t.name.as_str()).copied(),
        };
        let Some(found) = found else {
            return refuse(format!("tensor {} is not in {root}", quoted(&t.name)));
        };
        if (found.dtype, &found.shape[..]) != (dtype, shape) {
            return refuse(format!(
                "tensor {} is {} {shape:?}, in {root} it is {} {:?}",
                quoted(&t.name),
                dtype.name(),
                found.dtype.name(),
                found.shape
            ));
        }
        partners.push(found);
    }
    if partners.len() != source.tensors.len() {
        let (ours, theirs) = (partners.len(), source.tensors.len());
        return refuse(format!("{ours} tensors, {root} has {theirs}"));
    }
    Ok(partners)
}

fn treated(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    manifest: &TensorManifest,
    origin: Option<(&Checkpoint, &TensorInfo)>,
) -> Result<TensorReport> {
    let restorer = Restorer::new(archive, t, manifest, engine.unit_bytes)?;
    let source = origin.map(|(c, info)| Source::open(c, info, manifest.axis));
    let blocks = &restorer.blocks;
    let measure = |unit: &Unit| {
        engine.cancel.check()?;
        let parts = restorer.parts(manifest, unit)?;
        let codes = CodeCounts::of(manifest, &parts, unit);
        let sizes = parts.sizes;
        let restored = parts.restore(Some((engine, &t.name)), manifest, blocks, unit)?;
        let digests = blocks.digests(unit, &restored);
        let original = source.as_ref().map(|s| s.load(blocks, unit)).transpose()?;
        if manifest.lossless() {
            if let (Some(original), Some((checkpoint, info))) = (original, origin)
                && original != restored
            {
                return Err(Error::Differs {
                    path: archive.stored.files[t.file].path.clone(),
                    what: format!("tensor {}", quoted(&t.name)),
                    from: checkpoint.files[info.file].path.clone(),
                });
            }
            let bytes = blocks.dtype.bytes(unit.elements());
            let nonzero = nonzero(blocks.dtype, &bytemuck::cast_slice(&restored)[..bytes]);
            engine.progress.advance(bytes as u64);
            let sums = vec![Sums::exact(unit.elements() as u64, nonzero)];
            return Ok(Measured { digests, sums, codes, sizes });
        }
        let original = original.as_deref().unwrap_or(&restored);
        let spans = blocks.spans(unit).into_iter();
        let cols = unit.shape().1;
        let sums = spans.map(|span| sums(blocks.dtype, original, &restored, span, cols)).collect();
        engine.progress.advance(manifest.dtype.bytes(unit.elements()) as u64);
        Ok(Measured { digests, sums, codes, sizes })
    };
    let Measured { digests, sums, codes, sizes } = match blocks.cuts_rows() {
        true => by_columns(&restorer, measure)?,
        false => by_rows(&restorer, measure)?,
    };
    let sums = &sums[0];
    let found = digest(&digests.concat());
    if !agrees(found, manifest.digest) {
        let path = archive.stored.files[t.file].path.clone();
        return Err(Error::Digest { path, what: format!("restored tensor {}", quoted(&t.name)) });
    }
    let error = match source {
        None => ErrorReport::default(),
        Some(_) if manifest.lossless() => ErrorReport::EXACT,
        Some(_) => sums.report(),
    };
    if let Some((metric, got)) = error.not_finite() {
        return Err(Error::Verify { tensor: t.name.clone(), metric, got, limit: f64::MAX });
    }
    if let (Some(got), Some(limit)) = (error.rel_error, manifest.max_rel_error)
        && got > limit
    {
        return Err(Error::Verify { tensor: t.name.clone(), metric: "rel_error", got, limit });
    }
    let mut report = blank(archive, t);
    split_coded(&mut report, manifest, sizes);
    report.density = sums.density();
    report.entropy_bits = codes.entropy();
    report.error = error;
    Ok(report)
}

/// Says what the bytes of a coded tensor are, its tables and the lengths of its blocks as one.
fn split_coded(report: &mut TensorReport, manifest: &TensorManifest, sizes: Sizes) {
    let Some(at) = report.components.iter().position(|c| c.name == "coded") else { return };
    let coded = report.components.remove(at);
    let stored = if manifest.method == Method::Values { "values" } else { "codes" };
    let tables = coded.bytes - sizes.index - sizes.stored;
    let parts = [("index", sizes.index), (stored, sizes.stored), ("tables", tables)];
    let parts = parts.into_iter().filter(|(_, bytes)| *bytes > 0);
    report.components.splice(at..at, parts.map(|(name, bytes)| ComponentReport { name, bytes }));
}

/// What was found in some units: the digests of their blocks, sums for each block (or for all of them), the codes, and what
/// the coded blocks take.
struct Measured {
    digests: Vec<Digest>,
    sums: Vec<Sums>,
    codes: CodeCounts,
    sizes: Sizes,
}

/// Units of whole rows, a batch at a time; sums are added block by block, so that they depend on nothing else.
fn by_rows(
    restorer: &Restorer,
    measure: impl Fn(&Unit) -> Result<Measured> + Sync,
) -> Result<Measured> {
    let (blocks, units) = (&restorer.blocks, &restorer.units);
    let per_unit = units.first().map_or(1, |u| blocks.spans(u).len().max(1));
    let fit = BATCH_BYTES / (16 * blocks.cols.max(1) * per_unit as u64);
    let batch = (fit as usize).min(BATCH / per_unit).max(rayon::current_num_threads());
    let (mut digests, mut sums, mut codes) = (Vec::new(), Sums::default(), CodeCounts::default());
    let mut sizes = Sizes::default();
    for batch in units.chunks(batch) {
        for measured in batch.par_iter().map(&measure).collect::<Result<Vec<_>>>()? {
            digests.extend(measured.digests);
            measured.sums.iter().for_each(|s| sums.add(s));
            codes.add(&measured.codes);
            sizes = [sizes, measured.sizes].into_iter().sum();
        }
    }
    Ok(Measured { digests, sums: vec![sums], codes, sizes })
}

/// Pieces of long rows: one after the other down a column of pieces, so that no table of all columns is needed.
fn by_columns(
    restorer: &Restorer,
    measure: impl Fn(&Unit) -> Result<Measured> + Sync,
) -> Result<Measured> {
    let pieces = restorer.units.len() / restorer.blocks.rows as usize;
    let columns = (0..pieces).into_par_iter().map(|piece| {
        let (mut digests, mut sums, mut codes) =
            (Vec::new(), Sums::default(), CodeCounts::default());
        let mut sizes = Sizes::default();
        for unit in restorer.units.iter().skip(piece).step_by(pieces) {
            let measured = measure(unit)?;
            digests.push((unit.index, measured.digests));
            measured.sums.iter().for_each(|s| sums.add(s));
            codes.add(&measured.codes);
            sizes = [sizes, measured.sizes].into_iter().sum();
        }
        sums.finish_columns();
        Ok((digests, sums, codes, sizes))
    });
    let (mut digests, mut sums, mut codes) = (Vec::new(), Sums::default(), CodeCounts::default());
    let mut sizes = Sizes::default();
    for (d, s, c, bytes) in columns.collect::<Result<Vec<_>>>()? {
        digests.extend(d);
        sums.add_columns(&s);
        codes.add(&c);
        sizes = [sizes, bytes].into_iter().sum();
    }
    digests.sort_by_key(|(index, _)| *index);
    let digests = digests.into_iter().flat_map(|(_, d)| d).collect();
    Ok(Measured { digests, sums: vec![sums], codes, sizes })
}

/// The sums over the elements `span`, which are whole rows of `cols` elements or a piece of one.
fn sums(dtype: DType, source: &[u32], restored: &[u32], span: Range<usize>, cols: usize) -> Sums {
    let rows = span.len() / cols;
    if dtype == DType::F64 {
        return Sums::of(rows, cols, |first, w: &mut [f64], q: &mut [f64]| {
            dtype::decode_f64(dtype, source, span.start + first, w);
            dtype::decode_f64(dtype, restored, span.start + first, q);
        });
    }
    Sums::of(rows, cols, |first, w: &mut [f32], q: &mut [f32]| {
        dtype::decode(dtype, source, span.start + first, w);
        dtype::decode(dtype, restored, span.start + first, q);
    })
}

fn kept(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    source: Option<(&Checkpoint, &TensorInfo)>,
) -> Result<TensorReport> {
    let info = archive.component(t, "");
    let chunks = (0..info.bytes.div_ceil(CHUNK)).into_par_iter().map(|chunk| {
        engine.cancel.check()?;
        let start = chunk * CHUNK;
        let mut bytes = vec![0; (info.bytes - start).min(CHUNK) as usize];
        archive.read_at(info, start, &mut bytes)?;
        if let Some((checkpoint, original)) = source {
            let mut expected = vec![0; bytes.len()];
            Source::File(checkpoint, original).read_at(start, &mut expected)?;
            if bytes != expected {
                return Err(Error::Differs {
                    path: archive.stored.files[t.file].path.clone(),
                    what: format!("kept tensor {}", quoted(&t.name)),
                    from: checkpoint.files[original.file].path.clone(),
                });
            }
        }
        engine.progress.advance(bytes.len() as u64);
        Ok(nonzero(info.dtype, &bytes))
    });
    let nonzero: u64 = chunks.sum::<Result<u64>>()?;
    let mut report = blank(archive, t);
    report.density = (info.dtype.is_weight() && info.elements() > 0)
        .then(|| nonzero as f64 / info.elements() as f64);
    report.error = if source.is_some() { ErrorReport::EXACT } else { ErrorReport::default() };
    Ok(report)
}

/// Elements that are not zero of either sign.
fn nonzero(dtype: DType, bytes: &[u8]) -> u64 {
    let size = dtype.bytes(1);
    if !dtype.is_weight() {
        return 0;
    }
    // Nothing is left of a zero without its sign.
    match size {
        1 => count(bytes, |x: [u8; 1]| x[0] << 1 != 0),
        2 => count(bytes, |x| u16::from_le_bytes(x) << 1 != 0),
        4 => count(bytes, |x| u32::from_le_bytes(x) << 1 != 0),
        _ => count(bytes, |x| u64::from_le_bytes(x) << 1 != 0),
    }
}

fn count<const N: usize>(bytes: &[u8], holds: impl Fn([u8; N]) -> bool) -> u64 {
    bytes.as_chunks::<N>().0.iter().filter(|x| holds(**x)).count() as u64
}

/// Reads a checkpoint that was restored from an archive again, from disk, and holds every tensor against its digest or, where
/// it is kept, against the archive's bytes.
///
/// # Errors
///
/// [`Error::Digest`] for a tensor that differs, [`Error::Format`] if the tensors are others, [`Error::Io`].
pub fn restored(engine: &Engine, archive: &Archive, checkpoint: &Checkpoint) -> Result<()> {
    for (t, info) in archive.tensors.iter().zip(partners(archive, checkpoint)?) {
        let differs = || Error::Digest {
            path: checkpoint.files[info.file].path.clone(),
            what: format!("restored tensor {}", quoted(&info.name)),
        };
        let Some(manifest) = &t.treated else {
            let same = kept_again(engine, archive, t, (checkpoint, info))?;
            same.then_some(()).ok_or_else(differs)?;
            continue;
        };
        let source = Source::open(checkpoint, info, manifest.axis);
        let blocks = Blocks::new(manifest.dtype, manifest.matrix());
        let units = blocks.units(0);
        let digests = units.par_iter().map(|unit| {
            engine.cancel.check()?;
            let elements = source.load(&blocks, unit)?;
            engine.progress.advance(manifest.dtype.bytes(unit.elements()) as u64);
            Ok(blocks.digests(unit, &elements).concat())
        });
        if digest(&digests.collect::<Result<Vec<_>>>()?.concat()) != manifest.digest {
            return Err(differs());
        }
    }
    Ok(())
}

fn kept_again(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    (checkpoint, info): (&Checkpoint, &TensorInfo),
) -> Result<bool> {
    let stored = archive.component(t, "");
    let chunks = (0..stored.bytes.div_ceil(CHUNK)).into_par_iter().map(|chunk| {
        engine.cancel.check()?;
        let start = chunk * CHUNK;
        let mut expected = vec![0; (stored.bytes - start).min(CHUNK) as usize];
        let mut found = expected.clone();
        archive.read_at(stored, start, &mut expected)?;
        Source::File(checkpoint, info).read_at(start, &mut found)?;
        engine.progress.advance(found.len() as u64);
        Ok(found == expected)
    });
    Ok(chunks.collect::<Result<Vec<_>>>()?.into_iter().all(|same| same))
}

/// What is known without decoding: names, shapes, and where the bytes go.
pub fn blank(archive: &Archive, t: &ArchivedTensor) -> TensorReport {
    let (dtype, shape) = archive.original(t);
    let elements = crate::tensor::elements(shape);
    let mut components: Vec<ComponentReport> = archive
        .components(t)
        .map(|(name, info)| ComponentReport {
            name: if name.is_empty() { "kept" } else { name },
            bytes: info.bytes,
        })
        .collect();
    let entry = |(_, info): (&str, &TensorInfo)| {
        let start = info.offset() - archive.stored.files[info.file].data_start;
        let (name, shape) = (info.name.as_str().into(), info.shape.as_slice().into());
        entry_length(Entry { name, dtype: info.dtype, shape, bytes: start..start + info.bytes })
    };
    let header = archive.components(t).map(entry).sum::<u64>() + archive.manifest_bytes(t);
    components.push(ComponentReport { name: "header", bytes: header });
    let bytes = components.iter().map(|c| c.bytes).sum();
    TensorReport {
        name: t.name.clone(),
        dtype: dtype.name(),
        shape: shape.to_vec(),
        method: t.treated.as_ref().map_or("kept".into(), |m| describe(m, None).into()),
        code_bits: t.treated.as_ref().and_then(|m| m.method.code_bits()),
        coded: t.treated.as_ref().is_some_and(|m| m.coded),
        // An archive does not store why a tensor was kept; where no rule could have treated it, it shows.
        reason: (t.treated.is_none() && !dtype.is_weight())
            .then(|| format!("{} holds no weights", dtype.name()).into()),
        bytes,
        bits_per_weight: if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 },
        entropy_bits: None,
        density: None,
        retrieval: None,
        flushed: 0,
        error: ErrorReport::default(),
        components,
    }
}

/// What an archive holds that belongs to no tensor alone, so that with the tensors it adds up to the archive's size: the rest
/// of the headers (chunk digests, other metadata), their padding, and a folder's index of `index_bytes` bytes.
///
/// # Errors
///
/// As [`Checkpoint::read_at`].
pub fn overhead(
    archive: &Archive,
    tensors: &[TensorReport],
    index_bytes: u64,
) -> Result<Vec<ComponentReport>> {
    let (mut headers, mut padding) = (0, 0);
    for (file, stored) in archive.stored.files.iter().enumerate() {
        headers += stored.data_start;
        padding += trailing_spaces(&archive.stored, file, stored.data_start)?;
    }
    let of_tensors: u64 = tensors
        .iter()
        .flat_map(|t| &t.components)
        .filter(|c| c.name == "header")
        .map(|c| c.bytes)
        .sum();
    let component = |name, bytes| ComponentReport { name, bytes };
    let mut overhead = vec![
        component("header", headers.saturating_sub(padding + of_tensors)),
        component("padding", padding),
    ];
    if index_bytes > 0 {
        overhead.push(component("index", index_bytes));
    }
    Ok(overhead)
}

/// How many spaces a header that ends at `end` ends with.
fn trailing_spaces(stored: &Checkpoint, file: usize, end: u64) -> Result<u64> {
    let (mut at, mut spaces) = (end, 0);
    loop {
        let mut part = vec![0; at.min(4096) as usize];
        at -= part.len() as u64;
        stored.read_at(file, at, &mut part)?;
        let here = part.iter().rev().take_while(|b| **b == b' ').count();
        spaces += here as u64;
        if here < part.len() || at == 0 {
            return Ok(spaces);
        }
    }
}

/// How often each code is stored, and each bit of the mask. What only fills a row up to its last word is no code.
#[derive(Clone, Debug, Default)]
struct CodeCounts {
    codes: Vec<u64>,
    mask: [u64; 2],
}

impl CodeCounts {
    fn of(manifest: &TensorManifest, parts: &Parts, unit: &Unit) -> Self {
        let Some(bits) = manifest.method.code_bits().map(u32::from) else { return Self::default() };
        let (rows, cols) = unit.shape();
        let mut counts = Counting::new(bits);
        let mut mask = [0; 2];
        if manifest.pruned {
            let mut stored = &parts.stored[..];
            for kept in sparse::row_counts(&parts.mask, cols) {
                let (row, rest) = stored.split_at(bitpack::words(kept, bits));
                counts.row(row, kept);
                stored = rest;
                mask[1] += kept as u64;
            }
            mask[0] = unit.elements() as u64 - mask[1];
        } else if (cols * bits as usize).is_multiple_of(32) {
            // Without padding all rows are one.
            counts.row(&parts.stored, rows * cols);
        } else {
            let width = bitpack::words(cols, bits);
            parts.stored.chunks(width).for_each(|row| counts.row(row, cols));
        }
        Self { codes: counts.finish(), mask }
    }

    fn add(&mut self, other: &Self) {
        self.codes.resize(self.codes.len().max(other.codes.len()), 0);
        self.codes.iter_mut().zip(&other.codes).for_each(|(a, b)| *a += b);
        self.mask.iter_mut().zip(&other.mask).for_each(|(a, b)| *a += b);
    }

    /// Shannon's bound of codes and mask, in bits per weight of the tensor.
    fn entropy(&self) -> Option<f64> {
        let bits = |counts: &[u64]| {
            let n = counts.iter().sum::<u64>() as f64;
            let occupied = counts.iter().filter(|c| **c > 0);
            occupied.map(|c| *c as f64 * (n / *c as f64).log2()).sum::<f64>()
        };
        let codes = self.codes.iter().sum::<u64>();
        let weights = codes.max(self.mask.iter().sum());
        (weights > 0).then(|| (bits(&self.codes) + bits(&self.mask)) / weights as f64)
    }
}

/// Counts codes by the bytes they are in, four histograms side by side, so that no byte waits for the one before.
struct Counting {
    bits: u32,
    bytes: [[u32; 256]; 4],
    /// Codes of bytes that are not full.
    single: [u32; 256],
    unpacked: Vec<u8>,
}

impl Counting {
    fn new(bits: u32) -> Self {
        Self { bits, bytes: [[0; 256]; 4], single: [0; 256], unpacked: Vec::new() }
    }

    /// Codes in a byte; widths that straddle bytes are unpacked to one each.
    fn per_byte(&self) -> usize {
        if 8u32.is_multiple_of(self.bits) { 8 / self.bits as usize } else { 1 }
    }

    fn code(&self, byte: u8, place: usize) -> usize {
        usize::from(byte) >> (place * self.bits as usize) & ((1 << self.bits) - 1)
    }

    /// Counts the first `len` codes of packed words.
    fn row(&mut self, words: &[u32], len: usize) {
        if !8u32.is_multiple_of(self.bits) {
            self.unpacked.resize(len, 0);
            bitpack::unpack(words, self.bits, &mut self.unpacked);
            return count_bytes(&self.unpacked, &mut self.bytes);
        }
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let (full, rest) = (len / self.per_byte(), len % self.per_byte());
        count_bytes(&bytes[..full], &mut self.bytes);
        for place in 0..rest {
            self.single[self.code(bytes[full], place)] += 1;
        }
    }

    fn finish(self) -> Vec<u64> {
        let mut codes: Vec<u64> =
            self.single[..1 << self.bits].iter().map(|n| u64::from(*n)).collect();
        for byte in 0..=255 {
            let n: u64 = self.bytes.iter().map(|side| u64::from(side[usize::from(byte)])).sum();
            for place in 0..self.per_byte() {
                codes[self.code(byte, place)] += n;
            }
        }
        codes
    }
}

fn count_bytes(bytes: &[u8], sides: &mut [[u32; 256]; 4]) {
    let (fours, rest) = bytes.as_chunks::<4>();
    for four in fours {
        for (side, byte) in sides.iter_mut().zip(four) {
            side[usize::from(*byte)] += 1;
        }
    }
    rest.iter().for_each(|byte| sides[0][usize::from(*byte)] += 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Backend, Cancel, Silent,
        pipeline::{Options, compress, decompress},
        recipe::Recipe,
    };
    use std::{fs, path::Path};

    #[test]
    fn zeros_of_either_sign_are_told_from_the_least_values() {
        for dtype in [DType::F8E4M3, DType::BF16, DType::F32, DType::F64] {
            let size = dtype.bytes(1);
            let mut bytes = vec![0; 70 * size];
            // -0, the least bit, the highest but the sign, and both.
            bytes[2 * size - 1] = 0x80;
            bytes[2 * size] = 1;
            bytes[4 * size - 1] = 0x40;
            bytes[70 * size - 1] = 0xc0;
            assert_eq!(nonzero(dtype, &bytes), 3, "{}", dtype.name());
        }
    }

    #[test]
    fn what_was_restored_is_read_again() {
        static CANCEL: Cancel = Cancel::new();
        let backend = &Backend::Cpu;
        let (progress, cancel) = (&Silent, &CANCEL);
        let options =
            Options { threads: 2, memory: 1 << 30, ..Options::new(backend, progress, cancel) };
        let dir = tempfile::tempdir().unwrap();
        let [packed, back] = ["packed", "back"].map(|n| dir.path().join(n));
        let input = Path::new("assets/lenet-300-100.safetensors");
        compress(input, &packed, &Recipe::preset("palette4").unwrap(), &options).unwrap();
        decompress(&packed, &back, &options).unwrap();
        let archive = Archive::open(&packed).unwrap();
        let engine = Engine::new(backend, progress, cancel, 0, 0.0);
        let again = || restored(&engine, &archive, &Checkpoint::open(&back).unwrap());
        again().unwrap();
        let good = fs::read(&back).unwrap();
        let tensors = Checkpoint::open(&back).unwrap().tensors;
        assert!(archive.tensors.iter().any(|t| t.treated.is_none()) && tensors.len() > 3);
        for t in tensors {
            let mut bad = good.clone();
            bad[(t.offset() + t.bytes) as usize - 1] ^= 1;
            fs::write(&back, bad).unwrap();
            let error = again().unwrap_err().to_string();
            let what = format!("restored tensor {}", quoted(&t.name));
            assert!(error.contains(&what) && error.contains("back: "), "{error}");
        }
    }
}
