//! Decoding a whole archive and measuring it: every chunk's digest, every tensor's digest, and the error against the source.

mod partners;

pub(crate) use partners::partners;

use crate::{
    Error, Result, TensorInfo,
    digest::{Digest, agrees, digest, fingerprint},
    engine::Engine,
    form::TensorManifest,
    format::{Archive, ArchivedTensor, CHUNK, Checkpoint, chunk_starts},
    measure::{CodeCounts, Measured, between, by_columns, by_rows, exact, nonzero},
    parallel,
    quote::quoted,
    report::{Compared, Decoded, ErrorReport, Known, Made, TensorReport, account},
    restore::Restorer,
    scratch::Words,
    stage::{Blocks, Source, Unit},
};

/// Checks every tensor of an archive, in the order of the archive, and reports on it. `made` says what else is known of the tensor of
/// that number.
///
/// # Errors
///
/// [`Error::Digest`] if anything is damaged; [`Error::Unlike`] if the source has other tensors, or other values than a tensor was
/// made from; [`Error::Differs`] if a tensor that comes back bit for bit is another than in the source; [`Error::Verify`] if a
/// tensor is further from its source than its limit, or a metric is not finite.
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
                let known = made.known.clone();
                let decoded = treated(engine, archive, t, manifest, source, known.as_deref())?;
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

/// Decodes a tensor, and measures it beside its source. What this run has measured already, in weights of the same digests, is not read
/// again.
fn treated(
    engine: &Engine,
    archive: &Archive,
    t: &ArchivedTensor,
    manifest: &TensorManifest,
    origin: Option<(&Checkpoint, &TensorInfo)>,
    known: Option<&Known>,
) -> Result<Decoded> {
    let damaged = || Error::Digest {
        path: archive.stored.files[t.file].path.clone(),
        what: format!("restored tensor {}", quoted(&t.name)),
    };
    let restorer = Restorer::new(archive, t, manifest, engine.unit_bytes)?;
    let measured = origin.and(known).and_then(|known| known.measured);
    let source = match measured {
        Some(_) => None,
        None => origin.map(|(c, info)| Source::open(c, info, manifest.view)),
    };
    let known = known.map(|known| &known.blocks[..]);
    let blocks = &restorer.blocks;
    let measure = |unit: &Unit| {
        engine.cancel.check()?;
        let parts = restorer.parts(unit)?;
        let codes = CodeCounts::of(manifest, &parts, unit);
        let sizes = parts.sizes;
        let restored = Words::from(restorer.weights(Some(engine), parts, unit)?);
        engine.advance(blocks.dtype.bytes(unit.elements()) as u64);
        let load = |source: &Source| source.load(blocks, unit).map(Words::from);
        let Some(original) = source.as_ref().map(load).transpose()? else {
            let digests = digests(blocks, unit, &restored, known).ok_or_else(damaged)?;
            let sums = match measured {
                Some(_) => Vec::new(),
                None => vec![exact(blocks, unit, &restored)],
            };
            return Ok(Measured { digests, sums, codes, sizes, ..Measured::default() });
        };
        let digests = digests(blocks, unit, &restored, known).ok_or_else(damaged)?;
        let lossless = manifest.lossless();
        let source = if lossless { Vec::new() } else { blocks.mixed(unit, &original) };
        let sums = match (lossless, origin) {
            (true, Some((checkpoint, info))) if *original != *restored => {
                return Err(Error::Differs {
                    path: archive.stored.files[t.file].path.clone(),
                    what: format!("tensor {}", quoted(&t.name)),
                    from: checkpoint.files[info.file].path.clone(),
                });
            }
            (true, _) => vec![exact(blocks, unit, &restored)],
            (false, _) => between(blocks, unit, [&original, &restored]),
        };
        Ok(Measured { digests, source, sums, codes, sizes, ..Measured::default() })
    };
    let Measured { digests, source: found_source, sums, codes, sizes, .. } =
        match blocks.cuts_rows() {
            true => by_columns(blocks, &restorer.units, measure)?,
            false => by_rows(blocks, &restorer.units, measure)?,
        };
    if known.is_none() && !agrees(digest(&digests.concat()), manifest.digest) {
        return Err(damaged());
    }
    let found = match measured {
        Some(measured) => measured,
        None => Compared {
            source: fingerprint(&found_source),
            density: sums[0].density().filter(|_| manifest.dtype.is_weight()),
            error: match source {
                None => ErrorReport::default(),
                Some(_) if manifest.lossless() => ErrorReport::EXACT,
                Some(_) => sums[0].report(),
            },
        },
    };
    if let (Some(made_from), Some((checkpoint, info))) = (t.source, origin)
        && found.source != made_from
    {
        return Err(Error::Unlike {
            path: archive.stored.files[t.file].path.clone(),
            from: checkpoint.files[info.file].path.clone(),
            why: format!(
                "tensor {} had other values; `tersor diff` measures how far they are apart",
                quoted(&t.name)
            ),
        });
    }
    let Compared { density, error, .. } = found;
    if let Some((metric, got)) = error.not_finite() {
        return Err(Error::Verify { tensor: t.name.clone(), metric, got, limit: f64::MAX });
    }
    if let (Some(got), Some(limit)) = (error.rel_error, manifest.max_rel_error)
        && got > limit
    {
        return Err(Error::Verify { tensor: t.name.clone(), metric: "rel_error", got, limit });
    }
    let entropy_bits = codes.entropy();
    Ok(Decoded { sizes: Some(sizes), entropy_bits, density, error })
}

/// The digests of the restored blocks of a unit, for the tensor's; or none, where this run knows the twofold digests of the blocks that
/// were given that digest, and these have the same. `None` if they have not.
fn digests(
    blocks: &Blocks,
    unit: &Unit,
    restored: &[u32],
    known: Option<&[Digest]>,
) -> Option<Vec<Digest>> {
    match known {
        None => Some(blocks.digests(unit, restored)),
        Some(all) => {
            let expected = all.get(blocks.of_unit(unit))?;
            (blocks.twofold(unit, restored) == expected).then(Vec::new)
        }
    }
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

/// Reads a checkpoint that was restored from an archive again, from disk, and holds every tensor against its digest or, where
/// it is kept, against the archive's bytes. `known` has the twofold digests of the blocks of a tensor of that name, if this run
/// has restored it and found that it has its digest.
///
/// # Errors
///
/// [`Error::Digest`] for a tensor that differs, [`Error::Unlike`] if the tensors are others, [`Error::Io`].
pub fn restored<'a>(
    engine: &Engine,
    archive: &Archive,
    checkpoint: &Checkpoint,
    known: impl Fn(&str) -> Option<&'a [Digest]>,
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
        let (units, known) = (blocks.units(0), known(&t.name));
        let digests = parallel::try_map(&units, &|unit| {
            engine.cancel.check()?;
            let elements = Words::from(source.load(&blocks, unit)?);
            engine.advance(manifest.dtype.bytes(unit.elements()) as u64);
            let digests = self::digests(&blocks, unit, &elements, known);
            digests.ok_or_else(differs)
        })?;
        if known.is_none() && digest(digests.concat().as_flattened()) != manifest.digest {
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
