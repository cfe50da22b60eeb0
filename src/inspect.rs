//! What is in a checkpoint: statistics of every tensor, from one exact histogram each.

use crate::{
    Result,
    encode::count,
    engine::Engine,
    format::Checkpoint,
    pipeline::Options,
    stage::{Blocks, Source},
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
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// How many elements it has.
    pub elements: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What its values look like, where they are weights.
    pub weights: Option<WeightSummary>,
}

/// What the values of a tensor look like. F32 and F64 values are taken as the means of their 20-bit bins, which are exact.
#[derive(Clone, Debug, Serialize)]
pub struct WeightSummary {
    /// Smallest finite value.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Mean of the finite values.
    pub mean: Option<f64>,
    /// Standard deviation of the finite values.
    pub deviation: Option<f64>,
    /// Finite values more than 6 deviations from the mean.
    pub outliers: u64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// NaN and infinite values.
    pub nonfinite: u64,
    /// Shannon entropy in bits per element: of the whole pattern for types of 8 and 16 bits, of its upper 20 bits for wider ones.
    pub entropy_bits: f64,
    /// Counts in equal steps from -4 to 4 deviations; what lies beyond is counted at the ends.
    pub histogram: [u64; BARS],
}

/// Goes through every tensor once.
///
/// # Errors
///
/// [`crate::Error::Io`], [`crate::Error::Format`] if a file changes; [`crate::Error::Interrupted`].
pub fn inspect(checkpoint: &Checkpoint, options: &Options) -> Result<Vec<TensorSummary>> {
    let engine =
        Engine::new(options.backend, options.progress, options.cancel, options.unit_bytes());
    options.run(|| {
        options.progress.begin("inspecting", checkpoint.tensors.iter().map(|t| t.bytes).sum());
        let summary = |t: &crate::TensorInfo| {
            let weights = match t.dtype.is_weight() && t.elements() > 0 {
                true => {
                    let blocks = Blocks::new(t.dtype, (t.rows(), t.cols()));
                    let source = Source::open(checkpoint, t, 0);
                    Some(WeightSummary::of(&count(
                        &engine,
                        &blocks,
                        &|unit| source.load(&blocks, unit),
                        &blocks.units(engine.unit_bytes),
                    )?))
                }
                false => None,
            };
            options.progress.advance(t.bytes);
            Ok(TensorSummary {
                name: t.name.clone(),
                dtype: t.dtype.name().into(),
                shape: t.shape.clone(),
                elements: t.elements(),
                bytes: t.bytes,
                weights,
            })
        };
        checkpoint.tensors.iter().map(summary).collect()
    })
}

impl WeightSummary {
    fn of(histogram: &crate::kernels::Histogram) -> Self {
        let n = histogram.total() as f64;
        let occupied = histogram.counts.iter().filter(|c| **c > 0);
        let entropy_bits = occupied.map(|c| *c as f64 / n * (n / *c as f64).log2()).sum();
        let bins = histogram.bins();
        let finite = || bins.values.iter().zip(&bins.weights).filter(|(v, _)| v.is_finite());
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
        let some = |x: f64| x.is_finite().then_some(x);
        Self {
            min: finite().next().map(|(v, _)| *v),
            max: finite().next_back().map(|(v, _)| *v),
            mean: some(mean),
            deviation: some(deviation),
            outliers: finite()
                .filter(|(v, _)| (*v - mean).abs() > 6.0 * deviation)
                .map(|(_, w)| *w as u64)
                .sum(),
            zeros: finite().filter(|(v, _)| **v == 0.0).map(|(_, w)| *w as u64).sum(),
            nonfinite: histogram.nonfinite(),
            entropy_bits,
            histogram: bars,
        }
    }
}
