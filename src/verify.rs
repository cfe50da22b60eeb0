//! Decoding a whole archive and measuring it: every chunk's digest, every tensor's digest, and the error against the source.

use crate::{
    DType, Error, Result, TensorInfo, dtype,
    engine::Engine,
    format::{
        Archive, ArchivedTensor, CHUNK, Checkpoint, Digest, TensorManifest, digest, header_text,
        quoted,
    },
    metrics::Sums,
    plan::describe,
    report::{ComponentReport, ErrorReport, TensorReport},
    restore::Restorer,
    stage::{Source, Unit},
};
use rayon::prelude::*;

/// How many blocks are measured before their column sums are added up, at most: enough for every thread.
const BATCH: usize = 64;

/// Bytes of column sums that wait to be added up, at most, unless those of one block are more.
const WAITING: usize = 32 << 20;

/// Checks every tensor of an archive, in the order of the archive.
///
/// # Errors
///
/// [`Error::Digest`] if anything is damaged; [`Error::Verify`] if a tensor is further from its source than its limit, or a
/// metric is not finite; [`Error::Format`] if the source does not fit.
pub fn check(
    engine: &Engine,
    archive: &Archive,
    against: Option<&Checkpoint>,
) -> Result<Vec<TensorReport>> {
    if let Some(source) = against {
        same_tensors(archive, source)?;
    }
    let by_name: std::collections::HashMap<&str, &TensorInfo> =
        against.iter().flat_map(|c| &c.tensors).map(|t| (t.name.as_str(), t)).collect();
    archive
        .tensors
        .iter()
        .map(|t| {
            let source = against.and_then(|c| by_name.get(t.name.as_str()).map(|info| (c, *info)));
            match &t.treated {
                Some(manifest) => treated(engine, archive, t, manifest, source),
                None => kept(engine, archive, t, source),
            }
        })
        .collect()
}

fn same_tensors(archive: &Archive, source: &Checkpoint) -> Result<()> {
    let expected: std::collections::HashMap<&str, &TensorInfo> =
        source.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let refuse = |why: String| Err(Error::format(&archive.stored.root, why));
    for t in &archive.tensors {
        let (dtype, shape) = original(t);
        match expected.get(t.name.as_str()) {
            None => {
                return refuse(format!(
                    "tensor {} is not in {}",
                    quoted(&t.name),
                    source.root.display()
                ));
            }
            Some(s) if (s.dtype, &s.shape[..]) != (dtype, shape) => {
                return refuse(format!(
                    "tensor {} is {} {shape:?}, in {} it is {} {:?}",
                    quoted(&t.name),
                    dtype.name(),
                    source.root.display(),
                    s.dtype.name(),
                    s.shape
                ));
            }
            Some(_) => {}
        }
    }
    if archive.tensors.len() != source.tensors.len() {
        let why = format!(
            "{} tensors, {} has {}",
            archive.tensors.len(),
            source.root.display(),
            source.tensors.len()
        );
        return refuse(why);
    }
    Ok(())
}

/// Type and shape of a tensor before it was archived.
pub fn original(t: &ArchivedTensor) -> (DType, &[u64]) {
    match &t.treated {
        Some(manifest) => (manifest.dtype, &manifest.shape),
        None => (t.components[""].dtype, &t.components[""].shape),
    }
}

fn treated(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    manifest: &TensorManifest,
    source: Option<(&Checkpoint, &TensorInfo)>,
) -> Result<TensorReport> {
    let restorer = Restorer::new(archive, t, manifest)?;
    let source = source.map(|(c, info)| Source::open(c, info, manifest.axis));
    let blocks = &restorer.blocks;
    let measure = |unit: &Unit| {
        engine.cancel.check()?;
        let parts = restorer.parts(manifest, unit)?;
        let codes = CodeCounts::of(manifest, &parts.stored, unit);
        let restored = parts.restore(manifest, blocks, unit)?;
        let digests = blocks.digests(unit, &restored);
        let original = source.as_ref().map(|s| s.load(blocks, unit)).transpose()?;
        let sums = sums(blocks.dtype, original.as_deref().unwrap_or(&restored), &restored, unit);
        engine.progress.advance(unit.elements() as u64 * manifest.dtype.bits() as u64 / 8);
        Ok((digests, sums, codes))
    };
    let (digests, sums, codes) = if blocks.cuts_rows() {
        by_columns(&restorer, measure)?
    } else {
        let (mut digests, mut sums, mut codes) =
            (Vec::new(), Sums::default(), CodeCounts::default());
        let batch = (WAITING / (16 * blocks.cols as usize).max(1)).clamp(1, BATCH);
        for batch in restorer.units.chunks(batch) {
            let measured = batch.par_iter().map(measure).collect::<Result<Vec<_>>>()?;
            for (d, s, c) in measured {
                digests.extend(d);
                sums.add(&s);
                codes.add(&c);
            }
        }
        (digests, sums, codes)
    };
    let found = digest(&digests.concat());
    if found != manifest.digest {
        let path = archive.stored.files[t.file].path.clone();
        return Err(Error::Digest { path, what: format!("restored tensor {}", quoted(&t.name)) });
    }
    let error = if source.is_some() { sums.report() } else { ErrorReport::default() };
    if let Some((metric, got)) = error.not_finite() {
        return Err(Error::Verify { tensor: t.name.clone(), metric, got, limit: f64::MAX });
    }
    if let (Some(got), Some(limit)) = (error.rel_error, manifest.max_rel_error)
        && got > limit
    {
        return Err(Error::Verify { tensor: t.name.clone(), metric: "rel_error", got, limit });
    }
    let mut report = blank(archive, t);
    report.density = sums.density();
    report.entropy_bits = codes.entropy(blocks.elements());
    report.error = error;
    Ok(report)
}

/// Pieces of long rows: one after the other down a column of pieces, so that no table of all columns is needed.
fn by_columns(
    restorer: &Restorer,
    measure: impl Fn(&Unit) -> Result<(Vec<Digest>, Sums, CodeCounts)> + Sync,
) -> Result<(Vec<Digest>, Sums, CodeCounts)> {
    let pieces = restorer.units.len() / restorer.blocks.rows as usize;
    let columns = (0..pieces).into_par_iter().map(|piece| {
        let (mut digests, mut sums, mut codes) =
            (Vec::new(), Sums::default(), CodeCounts::default());
        for unit in restorer.units.iter().skip(piece).step_by(pieces) {
            let (d, s, c) = measure(unit)?;
            digests.push((unit.index, d));
            sums.add(&s);
            codes.add(&c);
        }
        sums.finish_columns();
        Ok((digests, sums, codes))
    });
    let (mut digests, mut sums, mut codes) = (Vec::new(), Sums::default(), CodeCounts::default());
    for (d, s, c) in columns.collect::<Result<Vec<_>>>()? {
        digests.extend(d);
        sums.add_columns(&s);
        codes.add(&c);
    }
    digests.sort_by_key(|(index, _)| *index);
    Ok((digests.into_iter().flat_map(|(_, d)| d).collect(), sums, codes))
}

fn sums(dtype: DType, source: &[u32], restored: &[u32], unit: &Unit) -> Sums {
    let (rows, cols) = unit.shape();
    if dtype == DType::F64 {
        let wide = |words: &[u32], i: usize| {
            f64::from_bits(u64::from(words[2 * i + 1]) << 32 | u64::from(words[2 * i]))
        };
        return Sums::of(rows, cols, |first, w: &mut [f64], q: &mut [f64]| {
            for (i, (w, q)) in w.iter_mut().zip(q).enumerate() {
                (*w, *q) = (wide(source, first + i), wide(restored, first + i));
            }
        });
    }
    Sums::of(rows, cols, |first, w: &mut [f32], q: &mut [f32]| {
        dtype::decode(dtype, source, first, w);
        dtype::decode(dtype, restored, first, q);
    })
}

fn kept(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    source: Option<(&Checkpoint, &TensorInfo)>,
) -> Result<TensorReport> {
    let info = &t.components[""];
    let chunks = (0..info.bytes.div_ceil(CHUNK)).into_par_iter().map(|chunk| {
        engine.cancel.check()?;
        let start = chunk * CHUNK;
        let mut bytes = vec![0; (info.bytes - start).min(CHUNK) as usize];
        archive.read_at(info, start, &mut bytes)?;
        if let Some((checkpoint, original)) = source {
            let mut expected = vec![0; bytes.len()];
            checkpoint.read_at(original.file, original.offset + start, &mut expected)?;
            if bytes != expected {
                let path = archive.stored.files[t.file].path.clone();
                return Err(Error::Digest {
                    path,
                    what: format!("kept tensor {}", quoted(&t.name)),
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
    let size = dtype.bits() / 8;
    if !dtype.is_weight() {
        return 0;
    }
    let zero = |element: &&[u8]| {
        element[size - 1] & 0x7f != 0 || element[..size - 1].iter().any(|b| *b != 0)
    };
    bytes.chunks_exact(size).filter(zero).count() as u64
}

/// What is known without decoding: names, shapes, and where the bytes go.
pub fn blank(archive: &Archive, t: &ArchivedTensor) -> TensorReport {
    let (dtype, shape) = original(t);
    let elements: u64 = shape.iter().product();
    let mut components: Vec<ComponentReport> = t
        .components
        .iter()
        .map(|(name, info)| ComponentReport {
            name: if name.is_empty() { "kept".into() } else { (*name).into() },
            bytes: info.bytes,
        })
        .collect();
    let entry = |info: &TensorInfo| {
        let start = info.offset - archive.stored.files[info.file].data_start;
        let entry = (info.name.clone(), info.dtype, info.shape.clone(), start..start + info.bytes);
        header_text(&[entry], &[]).len() as u64 - 1
    };
    let header = t.components.values().map(entry).sum::<u64>() + archive.manifest_bytes(t);
    components.push(ComponentReport { name: "header".into(), bytes: header });
    let bytes = components.iter().map(|c| c.bytes).sum();
    TensorReport {
        name: t.name.clone(),
        dtype: dtype.name().into(),
        shape: shape.to_vec(),
        method: t.treated.as_ref().map_or("kept".into(), |m| describe(m, None)),
        reason: None,
        bytes,
        bits_per_weight: if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 },
        entropy_bits: None,
        density: None,
        flushed: 0,
        error: ErrorReport::default(),
        components,
    }
}

/// How often each code is stored.
#[derive(Clone, Debug, Default)]
struct CodeCounts(Vec<u64>);

impl CodeCounts {
    fn of(manifest: &TensorManifest, stored: &[u32], unit: &Unit) -> Self {
        let Some(bits @ (2 | 4 | 8)) = manifest.method.code_bits() else { return Self::default() };
        // Padding is counted with the zeros and taken off again; survivors' rows end anywhere, so they are not.
        if manifest.pruned {
            return Self::default();
        }
        let mut sides = [[0u32; 256]; 4];
        for word in stored {
            for (side, byte) in sides.iter_mut().zip(word.to_le_bytes()) {
                side[usize::from(byte)] += 1;
            }
        }
        let bytes: Vec<u64> =
            (0..256).map(|b| sides.iter().map(|s| u64::from(s[b])).sum()).collect();
        let mut counts = vec![0; 1 << bits];
        for (byte, n) in bytes.iter().enumerate() {
            for part in 0..8 / bits {
                counts[byte >> (part * bits) & ((1 << bits) - 1)] += n;
            }
        }
        counts[0] -= stored.len() as u64 * 32 / u64::from(bits) - unit.elements() as u64;
        Self(counts)
    }

    fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }

    /// Shannon's bound in bits per element.
    fn entropy(&self, elements: u64) -> Option<f64> {
        let n = elements as f64;
        (!self.0.is_empty()).then(|| {
            let bits =
                self.0.iter().filter(|c| **c > 0).map(|c| *c as f64 * (n / *c as f64).log2());
            bits.sum::<f64>() / n
        })
    }
}
