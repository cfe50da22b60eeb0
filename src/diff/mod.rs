//! How far two models are apart, tensor by tensor: checkpoints or archives, which are decoded, in whatever types.

mod side;

use crate::{
    DType, Error, Result,
    dtype::decode_f64,
    engine::Engine,
    form::View,
    format::Opened,
    measure::{BATCH_BYTES, Measured, by_columns, by_rows, sums},
    pipeline::Options,
    report::ErrorReport,
    stage::{Blocks, Unit},
};
use serde::Serialize;
use side::{Entry, Side, entries};
use std::{collections::HashMap, path::Path, time::Instant};

/// What two models have in common, and what not.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// Whether they hold the same tensors, bit for bit.
    pub equal: bool,
    /// Wall time.
    pub seconds: f64,
    /// The tensors that both have, in the order of the first.
    pub tensors: Vec<TensorDiff>,
    /// Names that only the first has.
    pub only_in_a: Vec<String>,
    /// Names that only the second has.
    pub only_in_b: Vec<String>,
}

/// A tensor that both models have.
#[derive(Clone, Debug, Serialize)]
pub struct TensorDiff {
    /// Its name.
    pub name: String,
    /// Whether type, shape and every bit are the same.
    pub equal: bool,
    /// What it is in the first.
    pub a: TensorSide,
    /// What it is in the second.
    pub b: TensorSide,
    /// Elements that differ: in a bit where both have one type, else in their value, NaN being like NaN. Null where they were not
    /// compared: shapes differ, or types of which one is none of weights.
    pub differing: Option<u64>,
    /// How far the second, Q, is from the first, W. All null where there are no weights to compare; single metrics where they are no
    /// finite number.
    #[serde(flatten)]
    pub error: ErrorReport,
}

/// What a tensor is in one of the models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorSide {
    /// Its type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
}

/// Compares two models; archives are decoded, on the CPU. Neither is held whole: a block of a tensor for every thread, and a tensor
/// only where it is stored by columns in an archive and by rows in the other.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Format`] if one cannot be read, [`Error::Digest`] if it is damaged; [`Error::Usage`] if the memory does not
/// suffice. That they differ is none.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes: Vec<u8> = (0..64).flat_map(|_| (-127..=127).flat_map(|i: i32| (i as f32 + 0.3).to_le_bytes())).collect();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![64, 255], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, diff::diff, pipeline, recipe::Recipe};
///
/// // `path`: a checkpoint of one F32 matrix, `w`.
/// let small = path.with_file_name("small.safetensors");
/// let cancel = Cancel::new();
/// let options = pipeline::Options::new(&Backend::Cpu, &Silent, &cancel);
/// let report = pipeline::compress(&path, &small, &Recipe::preset("int8")?, &options)?;
/// let apart = diff(&path, &small, &options)?;
/// assert!(!apart.equal && apart.only_in_a.is_empty() && apart.only_in_b.is_empty());
/// assert_eq!(apart.tensors[0].error.rel_error, report.tensors[0].error.rel_error);
/// assert!(diff(&path, &path, &options)?.equal);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn diff(a: &Path, b: &Path, options: &Options) -> Result<Diff> {
    let started = Instant::now();
    let (a, b) = (Opened::open(a)?, Opened::open(b)?);
    let (of_a, of_b) = (entries(&a), entries(&b));
    let by_name: HashMap<&str, &Entry> = of_b.iter().map(|e| (e.name, e)).collect();
    let names: HashMap<&str, ()> = of_a.iter().map(|e| (e.name, ())).collect();
    let only = |of: &[Entry], there: &dyn Fn(&str) -> bool| -> Vec<String> {
        of.iter().filter(|e| !there(e.name)).map(|e| e.name.to_owned()).collect()
    };
    let only_in_a = only(&of_a, &|name| by_name.contains_key(name));
    let only_in_b = only(&of_b, &|name| names.contains_key(name));
    let pairs: Vec<_> = of_a.iter().filter_map(|a| by_name.get(a.name).map(|b| (a, *b))).collect();
    let engine =
        Engine::new(&crate::Backend::Cpu, options.progress, options.cancel, 0, options.paranoid);
    let tensors = options.run(|| {
        let bytes = |(a, b): &(&Entry, &Entry)| a.bytes.max(b.bytes);
        options.progress.begin("comparing", pairs.iter().map(bytes).sum());
        let mut tensors = Vec::with_capacity(pairs.len());
        for pair in &pairs {
            tensors.push(compare(&engine, options, pair.0, pair.1)?);
            options.progress.advance(bytes(pair));
        }
        Ok(tensors)
    })?;
    let equal = only_in_a.is_empty() && only_in_b.is_empty() && tensors.iter().all(|t| t.equal);
    Ok(Diff { equal, seconds: started.elapsed().as_secs_f64(), tensors, only_in_a, only_in_b })
}

fn compare(engine: &Engine, options: &Options, a: &Entry, b: &Entry) -> Result<TensorDiff> {
    let side = |e: &Entry| TensorSide { dtype: e.dtype.name(), shape: e.shape.to_vec() };
    let (of_a, of_b) = (side(a), side(b));
    let same_type = a.dtype == b.dtype;
    let weights = a.dtype.is_weight() && b.dtype.is_weight();
    let name = a.name.to_owned();
    if a.shape != b.shape || !(same_type || weights) {
        let error = ErrorReport::default();
        return Ok(TensorDiff { name, equal: false, a: of_a, b: of_b, differing: None, error });
    }
    let (differing, error) = match (crate::tensor::elements(a.shape), weights) {
        (0, true) => (0, ErrorReport::EXACT),
        (0, false) => (0, ErrorReport::default()),
        (_, true) => of_weights(engine, options, a, b)?,
        (_, false) => {
            let held = [a, b].iter().map(|e| e.held_bytes(side::Order::Storage)).sum();
            if held > 0 {
                let blocks = Blocks::new(a.dtype, View::default().matrix(a.shape));
                affordable(options, &blocks, held)?;
            }
            (side::differing_bytes(engine, a, b)?, ErrorReport::default())
        }
    };
    let equal = same_type && differing == 0;
    Ok(TensorDiff { name, equal, a: of_a, b: of_b, differing: Some(differing), error })
}

/// How many elements differ, and how far.
fn of_weights(
    engine: &Engine,
    options: &Options,
    a: &Entry,
    b: &Entry,
) -> Result<(u64, ErrorReport)> {
    // By the blocks of the one that was treated, so that each of them is decoded once.
    let view = a.view().or(b.view()).unwrap_or_default();
    let order = side::Order::of(view);
    let view = match [a, b].iter().all(|e| e.reads_in(order)) {
        true => view,
        false => View::default(),
    };
    let driver = if a.view().is_none() && b.view().is_some() { b } else { a };
    let blocks = Blocks::new(driver.dtype, view.matrix(a.shape));
    let held = [a, b].iter().map(|e| e.held_bytes(side::Order::of(view))).sum::<u64>();
    affordable(options, &blocks, held)?;
    let (a, b) = (Side::open(engine, a, view)?, Side::open(engine, b, view)?);
    let measure = |unit: &Unit| {
        engine.cancel.check()?;
        let start = unit.start(&blocks);
        let range = start..start + unit.elements() as u64;
        let (w, q) = (a.load(engine, range.clone())?, b.load(engine, range)?);
        let differing = differing((a.dtype, &w), (b.dtype, &q), unit.elements());
        let cols = unit.shape().1;
        let of_span = |span| sums((a.dtype, &w), (b.dtype, &q), span, cols);
        let sums = blocks.spans(unit).into_iter().map(of_span).collect();
        Ok(Measured { sums, differing, ..Measured::default() })
    };
    let units = blocks.units(0);
    let measured = match blocks.cuts_rows() {
        true => by_columns(&blocks, &units, measure)?,
        false => by_rows(&blocks, &units, measure)?,
    };
    let error = match measured.differing {
        0 => ErrorReport::EXACT,
        _ => measured.sums[0].report().finite(),
    };
    Ok((measured.differing, error))
}

/// Refuses what would take more memory than the options allow: the parts, the weights and the words of a block on either side for
/// every thread, sums of columns, strips of what lies by columns, and tensors that are held whole.
fn affordable(options: &Options, blocks: &Blocks, held: u64) -> Result<()> {
    let threads = options.threads() as u64;
    let unit = blocks.unit_elements(0) * 8;
    let needed = held + BATCH_BYTES + threads * (6 * unit + 2 * crate::stage::STRIP_BYTES);
    match needed <= options.memory {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "the job needs {} MiB of memory with {threads} threads, --memory allows {} MiB",
            needed.div_ceil(1 << 20),
            options.memory >> 20
        ))),
    }
}

/// How many of some elements differ: in a bit where the types are the same, else in their value.
fn differing((of_a, a): (DType, &[u32]), (of_b, b): (DType, &[u32]), elements: usize) -> u64 {
    if of_a == of_b {
        let len = of_a.bytes(elements);
        let (a, b): (&[u8], &[u8]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
        return differing_elements(&a[..len], &b[..len], of_a.bytes(1));
    }
    let (mut w, mut q, mut count) = ([0.0; 512], [0.0; 512], 0);
    for first in (0..elements).step_by(512) {
        let len = 512.min(elements - first);
        decode_f64(of_a, a, first, &mut w[..len]);
        decode_f64(of_b, b, first, &mut q[..len]);
        let same = |(w, q): (&f64, &f64)| w == q || (w.is_nan() && q.is_nan());
        count += w[..len].iter().zip(&q[..len]).filter(|(w, q)| !same((*w, *q))).count() as u64;
    }
    count
}

/// How many elements of `size` bytes differ.
fn differing_elements(a: &[u8], b: &[u8], size: usize) -> u64 {
    if a == b {
        return 0;
    }
    match size {
        1 => differing_chunks::<1>(a, b),
        2 => differing_chunks::<2>(a, b),
        4 => differing_chunks::<4>(a, b),
        _ => differing_chunks::<8>(a, b),
    }
}

fn differing_chunks<const N: usize>(a: &[u8], b: &[u8]) -> u64 {
    let (a, b) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0);
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}
