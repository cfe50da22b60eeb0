//! Decoding a whole archive and measuring it: every chunk's digest, every tensor's digest, and the error against the source.

mod codes;
mod errors;

use crate::{
    DType, Error, Result, TensorInfo,
    codec::block::Sizes,
    digest::{Digest, agrees, digest},
    dtype,
    engine::Engine,
    fingerprint::Fingerprint,
    form::TensorManifest,
    format::{Archive, ArchivedTensor, CHUNK, Checkpoint, chunk_starts},
    parallel,
    quote::{quoted, shown},
    report::{Decoded, ErrorReport, Made, TensorReport, account},
    restore::Restorer,
    scratch::Words,
    stage::{Blocks, Source, Unit},
    verify::{
        codes::CodeCounts,
        errors::{Bf16, Loaded, Slices, Sums},
    },
};
use multiversion::multiversion;
use std::{collections::HashMap, ops::Range};

/// How many blocks are measured before their column sums are added up, at most: enough for every thread.
const BATCH: usize = 64;
/// What those column sums may take.
const BATCH_BYTES: u64 = 64 << 20;

/// Checks every tensor of an archive, in the order of the archive, and reports on it. `made` says what else is known of the tensor of
/// that number.
///
/// # Errors
///
/// [`Error::Digest`] if anything is damaged; [`Error::Differs`] if a kept tensor is another than in the source; [`Error::Verify`] if a tensor is further from its source than its limit, or a
/// metric is not finite; [`Error::Format`] if the source does not fit.
pub fn check(
    engine: &Engine,
    archive: &Archive,
    against: Option<&Checkpoint>,
    made: impl Fn(usize) -> Made,
) -> Result<Vec<TensorReport>> {
    let partners = against.map(|source| partners(archive, source)).transpose()?;
    let check = |(i, t): (usize, &ArchivedTensor)| {
        let source = against.zip(partners.as_ref().map(|p| p[i]));
        match &t.treated {
            Some(manifest) => engine.again(&t.name, || {
                let made = made(i);
                let prints = made.fingerprints.as_deref();
                let decoded = treated(engine, archive, t, manifest, source, prints)?;
                Ok(account(archive, t, made, decoded))
            }),
            None => Ok(account(archive, t, made(i), kept(engine, archive, t, source)?)),
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
    prints: Option<&[Fingerprint]>,
) -> Result<Decoded> {
    let differs = || Error::Digest {
        path: archive.stored.files[t.file].path.clone(),
        what: format!("restored tensor {}", quoted(&t.name)),
    };
    let restorer = Restorer::new(archive, t, manifest, engine.unit_bytes)?;
    let source = origin.map(|(c, info)| Source::open(c, info, manifest.view));
    let blocks = &restorer.blocks;
    let measure = |unit: &Unit| {
        engine.cancel.check()?;
        let parts = restorer.parts(unit)?;
        let codes = CodeCounts::of(manifest, &parts, unit);
        let sizes = parts.sizes;
        let restored = Words::from(restorer.weights(Some(engine), parts, unit)?);
        let digests = restored_blocks(blocks, unit, &restored, prints).ok_or_else(differs)?;
        let load = |source: &Source| source.load(blocks, unit).map(Words::from);
        let original = source.as_ref().map(load).transpose()?;
        if manifest.lossless() {
            if let (Some(original), Some((checkpoint, info))) = (original, origin)
                && *original != *restored
            {
                return Err(Error::Differs {
                    path: archive.stored.files[t.file].path.clone(),
                    what: format!("tensor {}", quoted(&t.name)),
                    from: checkpoint.files[info.file].path.clone(),
                });
            }
            let bytes = blocks.dtype.bytes(unit.elements());
            let nonzero = nonzero(blocks.dtype, &bytemuck::cast_slice(&restored)[..bytes]);
            engine.advance(bytes as u64);
            let sums = vec![Sums::exact(unit.elements() as u64, nonzero)];
            return Ok(Measured { digests, sums, codes, sizes });
        }
        let original = original.as_deref().unwrap_or(&restored);
        let spans = blocks.spans(unit).into_iter();
        let cols = unit.shape().1;
        let sums = spans.map(|span| sums(blocks.dtype, original, &restored, span, cols)).collect();
        engine.advance(manifest.dtype.bytes(unit.elements()) as u64);
        Ok(Measured { digests, sums, codes, sizes })
    };
    let Measured { digests, sums, codes, sizes } = match blocks.cuts_rows() {
        true => by_columns(&restorer, measure)?,
        false => by_rows(&restorer, measure)?,
    };
    let sums = &sums[0];
    if prints.is_none() && !agrees(digest(&digests.concat()), manifest.digest) {
        return Err(differs());
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
    let density = sums.density().filter(|_| manifest.dtype.is_weight());
    let entropy_bits = codes.entropy();
    Ok(Decoded { sizes: Some(sizes), entropy_bits, density, error })
}

/// The digests of the restored blocks of a unit, for the tensor's; or none, where this run knows the fingerprints of the blocks that
/// were given that digest, and these have the same. `None` if they have not.
fn restored_blocks(
    blocks: &Blocks,
    unit: &Unit,
    restored: &[u32],
    prints: Option<&[Fingerprint]>,
) -> Option<Vec<Digest>> {
    match prints {
        None => Some(blocks.digests(unit, restored)),
        Some(all) => {
            let expected = all.get(blocks.of_unit(unit))?;
            (blocks.fingerprints(unit, restored) == expected).then(Vec::new)
        }
    }
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
        for measured in parallel::try_map(batch, &measure)? {
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
    let columns = parallel::try_map(&(0..pieces).collect::<Vec<_>>(), &|piece| {
        let (mut digests, mut sums, mut codes) =
            (Vec::new(), Sums::default(), CodeCounts::default());
        let mut sizes = Sizes::default();
        for unit in restorer.units.iter().skip(*piece).step_by(pieces) {
            let measured = measure(unit)?;
            digests.push((unit.index, measured.digests));
            measured.sums.iter().for_each(|s| sums.add(s));
            codes.add(&measured.codes);
            sizes = [sizes, measured.sizes].into_iter().sum();
        }
        sums.finish_columns();
        Ok((digests, sums, codes, sizes))
    })?;
    let (mut digests, mut sums, mut codes) = (Vec::new(), Sums::default(), CodeCounts::default());
    let mut sizes = Sizes::default();
    for (d, s, c, bytes) in columns {
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
    let bytes = &bytemuck::cast_slice(restored)[dtype.bytes(span.start)..dtype.bytes(span.end)];
    let nonzero = nonzero(dtype, bytes);
    let sums = match dtype {
        DType::F32 => {
            let of = |words| &bytemuck::cast_slice::<u32, f32>(words)[span.clone()];
            Sums::of(rows, cols, Slices(of(source), of(restored)))
        }
        DType::BF16 => {
            let of = |words| &bytemuck::cast_slice::<u32, Bf16>(words)[span.clone()];
            Sums::of(rows, cols, Slices(of(source), of(restored)))
        }
        DType::F64 => {
            let load = |first, w: &mut [f64], q: &mut [f64]| {
                dtype::decode_f64(dtype, source, span.start + first, w);
                dtype::decode_f64(dtype, restored, span.start + first, q);
            };
            Sums::of(rows, cols, Loaded::new(load))
        }
        _ => {
            let load = |first, w: &mut [f32], q: &mut [f32]| {
                dtype::decode(dtype, source, span.start + first, w);
                dtype::decode(dtype, restored, span.start + first, q);
            };
            Sums::of(rows, cols, Loaded::new(load))
        }
    };
    sums.with_nonzero(nonzero)
}

fn kept(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    source: Option<(&Checkpoint, &TensorInfo)>,
) -> Result<Decoded> {
    let info = archive.component(t, "");
    let chunks = parallel::try_map(&chunk_starts(info.bytes), &|&start| {
        engine.cancel.check()?;
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
        engine.advance(bytes.len() as u64);
        Ok(nonzero(info.dtype, &bytes))
    })?;
    let nonzero: u64 = chunks.iter().sum();
    let density = (info.dtype.is_weight() && info.elements() > 0)
        .then(|| nonzero as f64 / info.elements() as f64);
    let error = if source.is_some() { ErrorReport::EXACT } else { ErrorReport::default() };
    Ok(Decoded { density, error, ..Decoded::default() })
}

/// Elements that are not zero of either sign.
fn nonzero(dtype: DType, bytes: &[u8]) -> u64 {
    let size = dtype.bytes(1);
    if !dtype.is_weight() {
        return 0;
    }
    // Nothing is left of a zero without its sign.
    match size {
        1 => bytes.iter().filter(|x| **x << 1 != 0).count() as u64,
        2 => nonzero_halves(bytes.as_chunks().0),
        4 => nonzero_words(bytes.as_chunks().0),
        _ => {
            bytes.as_chunks().0.iter().filter(|x| u64::from_le_bytes(**x) << 1 != 0).count() as u64
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn nonzero_halves(patterns: &[[u8; 2]]) -> u64 {
    let mut total = 0;
    // As many at a time as a count of two bytes holds, of which a vector has many.
    for some in patterns.chunks(1 << 15) {
        let mut here = 0u16;
        for x in some {
            here += u16::from(u16::from_le_bytes(*x) << 1 != 0);
        }
        total += u64::from(here);
    }
    total
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn nonzero_words(patterns: &[[u8; 4]]) -> u64 {
    let mut total = 0;
    for some in patterns.chunks(1 << 30) {
        let mut here = 0u32;
        for x in some {
            here += u32::from(u32::from_le_bytes(*x) << 1 != 0);
        }
        total += u64::from(here);
    }
    total
}

/// Reads a checkpoint that was restored from an archive again, from disk, and holds every tensor against its digest or, where
/// it is kept, against the archive's bytes. `prints` knows the fingerprints of the blocks of a tensor of that name, if this run
/// has restored it and found that it has its digest.
///
/// # Errors
///
/// [`Error::Digest`] for a tensor that differs, [`Error::Format`] if the tensors are others, [`Error::Io`].
pub fn restored<'a>(
    engine: &Engine,
    archive: &Archive,
    checkpoint: &Checkpoint,
    prints: impl Fn(&str) -> Option<&'a [Fingerprint]>,
) -> Result<()> {
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
        let source = Source::open(checkpoint, info, manifest.view);
        let blocks = Blocks::new(manifest.dtype, manifest.matrix());
        let (units, prints) = (blocks.units(0), prints(&t.name));
        let digests = parallel::try_map(&units, &|unit| {
            engine.cancel.check()?;
            let elements = source.load(&blocks, unit)?;
            engine.advance(manifest.dtype.bytes(unit.elements()) as u64);
            let digests = restored_blocks(&blocks, unit, &elements, prints);
            digests.ok_or_else(differs)
        })?;
        if prints.is_none() && digest(digests.concat().as_flattened()) != manifest.digest {
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
    let chunks = parallel::try_map(&chunk_starts(stored.bytes), &|&start| {
        engine.cancel.check()?;
        let mut expected = vec![0; (stored.bytes - start).min(CHUNK) as usize];
        let mut found = expected.clone();
        archive.read_at(stored, start, &mut expected)?;
        Source::File(checkpoint, info).read_at(start, &mut found)?;
        engine.advance(found.len() as u64);
        Ok(found == expected)
    })?;
    Ok(chunks.into_iter().all(|same| same))
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
        let again = || restored(&engine, &archive, &Checkpoint::open(&back).unwrap(), |_| None);
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
