//! One tensor into its parts, and these where a writer lays them: survey where a rule needs the whole of it first, then kernels,
//! packing and writing, a unit at a time, in parallel.

mod binary;
pub(crate) mod chains;
mod coding;
mod importance;
mod job;
mod masks;
mod model_limits;
mod parts;
mod pyramids;
mod scales;
mod tables;
mod trellis;
mod vectors;
mod writer;

pub use model_limits::{ModelLimit, model_limits, said_of_pruning};
pub use writer::{Components, PartsWriter, Writers, Written};

use crate::{
    Result,
    digest::{Fingerprint, digest, fingerprint},
    engine::Engine,
    form::{Method, TensorManifest},
    measure::{Sums, batch, between, exact},
    parallel,
    plan::Treat,
    recipe::Quantize,
    report::{Compared, ErrorReport, Known, Retrieved},
    scratch::Words,
    stage::{Blocks, Source},
};
use job::Job;
use masks::Mask;
use tables::Tables;

/// What was written of a tensor.
#[derive(Debug)]
pub struct Stored {
    /// Component name, type, shape, and bytes in the data section, in order and without gaps.
    pub components: Components,
    /// What it is now, with the digest of the tensor as it will be restored.
    pub manifest: TensorManifest,
    /// What its weights will be.
    pub known: Known,
    /// Of what it was made from.
    pub source: Fingerprint,
    /// Non-zero weights of groups too small to scale.
    pub flushed: u64,
    /// What a retrieval structure has made of it.
    pub retrieved: Option<Retrieved>,
    /// What was done otherwise than the recipe says, and why.
    pub remark: Option<String>,
}

impl Stored {
    /// What it takes, its headers aside.
    pub fn bytes(&self) -> u64 {
        self.components.iter().map(|c| c.3.end - c.3.start).sum()
    }
}

/// Encodes a tensor and has a writer of `to` lay out its parts.
///
/// # Errors
///
/// Those of `to` and its writer; [`Error::NonFinite`](crate::Error::NonFinite) if it holds NaN or infinite values: what was
/// written then is to be written over.
pub fn encode(
    engine: &Engine,
    name: &str,
    source: &Source,
    treat: &Treat,
    limit: Option<ModelLimit>,
    to: &impl Writers,
) -> Result<Stored> {
    let mut job = Job::new(engine, name, source, treat)?;
    let mask = Mask::survey(&job, limit)?;
    if let Some(limit) = treat.treatment.quantize.as_ref().and_then(Quantize::max_error) {
        job.manifest.method = job.fewest_bits(&mask, limit)?;
    }
    let tables = Tables::survey(&job, &mask)?;
    let mut fewer = None;
    if let (Tables::Vectors(books), Method::Vector(m)) = (&tables, &mut job.manifest.method) {
        fewer = books.remark(m.k);
        m.k = books.entries.k as u32;
    }
    if let (Tables::Levels(levels), Method::Palette(m)) = (&tables, &mut job.manifest.method) {
        m.k = levels.entries.len() as u32;
    }
    let stored = match treat.treatment.encode {
        None => {
            let mut plain = to.plain(&job.manifest, job.blocks)?;
            lay_out(&job, &mask, &tables, &mut plain)?
        }
        Some(encode) => {
            let (coding, remark) = job.coding(encode, &mask, &tables)?;
            let mut coded = to.coded(&job.manifest, job.blocks, coding)?;
            let stored = lay_out(&job, &mask, &tables, &mut coded)?;
            Stored { remark, ..stored }
        }
    };
    let remark = stored.remark.clone().or(fewer);
    Ok(Stored { remark, ..stored })
}

/// Treats a tensor unit by unit, and has a writer lay out the parts.
fn lay_out<W: PartsWriter>(
    job: &Job,
    mask: &Mask,
    tables: &Tables,
    writer: &mut W,
) -> Result<Stored> {
    writer.begin(&job.units, &|unit| mask.of(job, unit, &mut job.read(unit)?))?;
    let (blocks, lossless) = (&job.outer, job.manifest.lossless());
    let measures = lossless || writer.asks_errors() || few_columns(blocks);
    let (mut digests, mut sources, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all, mut flushed) = (Sums::default(), 0);
    for window in job.units.chunks(writer.window().min(batch(blocks, &job.units))) {
        let to: &W = writer;
        let treated = parallel::try_map(window, &|unit| {
            job.engine.cancel.check()?;
            let mut original = Words::from(job.raw(unit)?);
            let (mut parts, flushed) = job.treated(unit, mask, tables, &mut original)?;
            let laid = to.unit(unit, &mut parts)?;
            let restored = Words::from(parts.restore(None, &job.manifest, blocks, unit)?);
            // Both are there, and mostly in the cache.
            let sums = match (measures, lossless) {
                (false, _) => Vec::new(),
                (true, true) => vec![exact(blocks, unit, &restored)],
                (true, false) => between(blocks, unit, [&original, &restored]),
            };
            let [source, seen] = match lossless {
                true => [Vec::new(), blocks.twofold(unit, &restored)],
                false => blocks.mixed_and_twofold(unit, &original, &restored),
            };
            let digests = [blocks.digests(unit, &restored), seen];
            job.engine.advance(blocks.dtype.bytes(unit.elements()) as u64);
            Ok((laid, digests, source, sums, flushed))
        })?;
        for (laid, [of_unit, seen], of_source, sums, lost) in treated {
            writer.append(laid)?;
            digests.extend(of_unit.concat());
            restored.extend(seen);
            sources.extend(of_source);
            sums.iter().for_each(|sums| all.add(sums));
            flushed += lost;
        }
    }
    let Written { components, retrieved } = writer.finish()?;
    let manifest = TensorManifest { digest: digest(&digests), ..job.manifest.clone() };
    let source = fingerprint(&sources);
    let measured = measures.then(|| Compared {
        source,
        density: all.density().filter(|_| manifest.dtype.is_weight()),
        error: if lossless { ErrorReport::EXACT } else { all.report() },
    });
    let known = Known { blocks: restored, measured };
    Ok(Stored { components, manifest, known, source, flushed, retrieved, remark: None })
}

/// Whether sums over the columns of a block take no more than the block, so that they are made as it is written.
fn few_columns(blocks: &Blocks) -> bool {
    !blocks.cuts_rows() && 16 <= blocks.rows_per_block() * blocks.dtype.bytes(1) as u64
}
