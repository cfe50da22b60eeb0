//! Weights for the squared errors of a tensor.
//!
//! They are whole multiples of 2^-62 of a power of two above the largest, so that all sums of them are exact, whatever their
//! order, and none that is above zero is lost beside others: 2^38 below the largest they still have the 24 bits of an f32.
//! Where all weights that share a palette have an importance of zero, each of them counts as one.

use crate::{
    Error, Result, dtype,
    form::View,
    parallel,
    plan::Treat,
    quote::quoted,
    stage::{Blocks, Source, Unit},
};

/// A weight per element, or per column.
pub(super) struct Importance<'a> {
    source: Source<'a>,
    /// Of the tensor, or of a single row.
    blocks: Blocks,
    per_column: bool,
    /// A power of two.
    scale: f64,
}

impl<'a> Importance<'a> {
    /// Goes through what the plan found for a tensor, if its rule asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it holds anything but finite numbers from 0 on.
    pub fn open(treat: &'a Treat) -> Result<Option<Self>> {
        let (Some(found), manifest) = (&treat.importance, &treat.manifest) else { return Ok(None) };
        let info = &found.file.tensors[found.tensor];
        let per_column = info.shape != manifest.shape;
        let (view, shape) = match per_column {
            true => (View::default(), (1, info.elements())),
            false => (manifest.view, manifest.matrix()),
        };
        let source = Source::open(&found.file, info, view);
        let blocks = Blocks::new(info.dtype, shape);
        let refuse = |why: String| {
            let name = quoted(&info.name);
            Error::format(&found.file.root, format!("importance of tensor {name}: {why}"))
        };
        let largest = parallel::try_map(&blocks.units(0), &|unit| {
            let mut values = vec![0.0; unit.elements()];
            dtype::decode(info.dtype, &source.load(&blocks, unit)?, 0, &mut values);
            match values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                Some(bad) => {
                    Err(refuse(format!("it holds {bad}, expected finite numbers from 0 on")))
                }
                None => Ok(values.into_iter().fold(0.0, f32::max)),
            }
        })?;
        let largest = largest.into_iter().fold(0.0, f32::max);
        // Of zeros it may be anything.
        let exponent = (f64::from(largest.max(f32::MIN_POSITIVE)).to_bits() >> 52) as i32 - 1023;
        let scale = libm::exp2(f64::from(61 - exponent));
        Ok(Some(Self { source, blocks, per_column, scale }))
    }

    /// The importance of every element of a unit, below 2^62.
    ///
    /// # Errors
    ///
    /// As [`Source::load`].
    pub fn of(&self, unit: &Unit) -> Result<Vec<u64>> {
        let rows = if self.per_column { 0..1 } else { unit.rows.clone() };
        let part = Unit { index: 0, rows, cols: unit.cols.clone() };
        let mut values = vec![0.0; part.elements()];
        let words = self.source.load(&self.blocks, &part)?;
        dtype::decode(self.blocks.dtype, &words, 0, &mut values);
        let whole = |v: f32| match v > 0.0 {
            true => ((f64::from(v) * self.scale).round_ties_even() as u64).max(1),
            false => 0,
        };
        let weights: Vec<u64> = values.into_iter().map(whole).collect();
        Ok(if self.per_column { weights.repeat(unit.shape().0) } else { weights })
    }
}
