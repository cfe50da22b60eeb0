//! What is in a checkpoint: statistics of every tensor, from its exact histogram, and of the wide types from the values too.

mod archive;
mod estimate;
mod moments;

pub use archive::{ArchivedSummary, archived};

pub use estimate::CodeBits;

use crate::{
    DType, Result, TensorInfo,
    decide::histogram::Histogram,
    engine::{Engine, count::count},
    form::View,
    format::Checkpoint,
    inspect::moments::Moments,
    parallel,
    pipeline::Options,
    stage::{Blocks, Source, Unit},
};
use serde::Serialize;

/// Bars of the small histogram.
pub const BARS: usize = 16;

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// How many elements it has.
    pub elements: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What its values look like, where they are weights.
    pub weights: Option<Box<WeightSummary>>,
}

/// What the values of a tensor look like. Values that are finite as f32 count; F64 values beyond it are taken as infinite,
/// as in a treatment.
#[derive(Clone, Debug, Serialize)]
pub struct WeightSummary {
    /// Smallest finite value, exactly.
    pub min: Option<f64>,
    /// Largest finite value, exactly.
    pub max: Option<f64>,
    /// Mean of the finite values, in f64.
    pub mean: Option<f64>,
    /// Standard deviation of the finite values, in f64: `√(Σ (w - mean)² / n)`.
    pub deviation: Option<f64>,
    /// Finite values more than 6 deviations from the mean; F32 and F64 as the means of their bins, one part in 2048 wide.
    pub outliers: u64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// NaN and infinite values.
    pub nonfinite: u64,
    /// Shannon entropy, in bits per element, of the bins of the histogram.
    pub entropy_bits: f64,
    /// Bits per element that `lossless` would take, from the histogram: the order-0 entropy of the exponents, and the rest as it
    /// is. Tables and escapes add about half a per cent. F64 has exponents that the histogram does not tell apart: null.
    pub lossless_bits: Option<f64>,
    /// Bits per element of a palette of 16, where there are weights that are not zero, and all are finite.
    pub palette4: Option<CodeBits>,
    /// What those bins tell apart: the whole pattern of 8 or 16 bits, or the upper 20 bits of a F32, or of a F64 rounded to it.
    pub entropy_of_bits: u32,
    /// Counts of bins in equal steps from -4 to 4 deviations; what lies beyond is counted at the ends.
    pub histogram: [u64; BARS],
}

/// Goes through every tensor.
///
/// # Errors
///
/// [`crate::Error::Io`], [`crate::Error::Format`] if a file changes; [`crate::Error::Interrupted`].
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes = [0f32, 1.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 4], &bytes);
/// # safetensors::serialize_to_file([("w", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, Cancel, Silent, format::Checkpoint, inspect::inspect, pipeline::Options};
///
/// // `path`: a checkpoint of one F32 matrix, [[0, 1, 3, 4]].
/// let cancel = Cancel::new();
/// let all = inspect(&Checkpoint::open(&path)?, &Options::new(&Backend::Cpu, &Silent, &cancel))?;
/// let weights = all[0].weights.as_ref().unwrap();
/// assert_eq!((weights.min, weights.max, weights.mean), (Some(0.0), Some(4.0), Some(2.0)));
/// assert_eq!((weights.zeros, weights.nonfinite), (1, 0));
/// assert_eq!(weights.entropy_bits, 2.0); // four values, each a quarter of all
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn inspect(checkpoint: &Checkpoint, options: &Options) -> Result<Vec<TensorSummary>> {
    let mut all = headers(checkpoint);
    let numbers: Vec<usize> = (0..all.len()).collect();
    measure(checkpoint, &numbers, &mut all, options)?;
    Ok(all)
}

/// What headers say of every tensor, without what its values look like: no data is read.
pub fn headers(checkpoint: &Checkpoint) -> Vec<TensorSummary> {
    let summary = |t: &TensorInfo| TensorSummary {
        name: t.name.clone(),
        dtype: t.dtype.name(),
        shape: t.shape.clone(),
        elements: t.elements(),
        bytes: t.bytes,
        weights: None,
    };
    checkpoint.tensors.iter().map(summary).collect()
}

/// Adds to some of the summaries that [`headers`] has made of all tensors, by their numbers, what their values look like.
///
/// # Errors
///
/// As [`inspect`].
pub fn measure(
    checkpoint: &Checkpoint,
    numbers: &[usize],
    summaries: &mut [TensorSummary],
    options: &Options,
) -> Result<()> {
    let engine = options.engine();
    let tensors = || numbers.iter().map(|i| &checkpoint.tensors[*i]);
    options.run(|| {
        options.progress.begin("inspecting", tensors().map(|t| t.bytes).sum());
        for (i, t) in numbers.iter().zip(tensors()) {
            if t.dtype.is_weight() && t.elements() > 0 {
                summaries[*i].weights = Some(Box::new(weights(&engine, checkpoint, t)?));
            }
            options.progress.advance(t.bytes);
        }
        Ok(())
    })
}

fn weights(engine: &Engine, checkpoint: &Checkpoint, t: &TensorInfo) -> Result<WeightSummary> {
    let blocks = Blocks::new(t.dtype, (t.rows(), t.cols()));
    let source = Source::open(checkpoint, t, View::default());
    let load = |unit: &Unit| source.load(&blocks, unit);
    let units = blocks.units(engine.unit_bytes);
    let histogram = engine.again(&t.name, || count(engine, &t.name, &blocks, &load, &units))?;
    if !matches!(t.dtype, DType::F32 | DType::F64) {
        return Ok(WeightSummary::new(&histogram, &Moments::of_patterns(&histogram)));
    }
    // A second reading, out of the page cache; block by block, so that the order depends on neither device nor threads.
    let of_block = |unit: &Unit| {
        engine.cancel.check()?;
        Ok(Moments::of(t.dtype, &source.load(&blocks, unit)?, unit.elements()))
    };
    let parts = parallel::try_map(&blocks.units(0), &of_block)?;
    let mut moments = Moments::default();
    parts.iter().for_each(|part| moments.merge(part));
    Ok(WeightSummary::new(&histogram, &moments))
}

impl WeightSummary {
    fn new(histogram: &Histogram, moments: &Moments) -> Self {
        let n = histogram.total() as f64;
        let occupied = histogram.counts.iter().filter(|c| **c > 0);
        let entropy_bits = occupied.map(|c| *c as f64 / n * (n / *c as f64).log2()).sum();
        let bins = histogram.bins();
        let finite = || bins.values.iter().zip(&bins.weights).filter(|(v, _)| v.is_finite());
        // Bins are measured by their own mean and deviation: those of the values may lie between two bins.
        let count: f64 = finite().map(|(_, w)| w).sum();
        let mean = finite().map(|(v, w)| v * w).sum::<f64>() / count;
        let deviation =
            (finite().map(|(v, w)| (v - mean) * (v - mean) * w).sum::<f64>() / count).sqrt();
        let mut bars = [0; BARS];
        for (v, w) in finite() {
            let place = ((v - mean) / deviation + 4.0) / 8.0 * BARS as f64;
            // A tensor of one value has no deviation: it stands in the middle.
            let bar = if place.is_finite() {
                place.clamp(0.0, BARS as f64 - 1.0) as usize
            } else {
                BARS / 2
            };
            bars[bar] += *w as u64;
        }
        // Adding +0 makes +0 of -0.
        let some = |x: f64| (moments.count > 0).then_some(x + 0.0);
        Self {
            min: some(moments.min),
            max: some(moments.max),
            mean: some(moments.mean),
            deviation: moments.deviation(),
            outliers: finite()
                .filter(|(v, _)| (*v - mean).abs() > 6.0 * deviation)
                .map(|(_, w)| *w as u64)
                .sum(),
            zeros: moments.zeros,
            nonfinite: histogram.nonfinite(),
            entropy_bits,
            lossless_bits: estimate::lossless_bits(histogram),
            palette4: CodeBits::of_palette(histogram, &bins, 4),
            entropy_of_bits: histogram.counts.len().ilog2(),
            histogram: bars,
        }
    }
}
