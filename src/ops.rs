//! Whole treatments of one matrix in memory, composed of kernels: what to call when there is no checkpoint.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::sparse,
    decide::{
        affine::{AffineCode, Scale},
        groups::Groups,
        kmeans,
        threshold::{Limit, kept, limit},
    },
    form::code_bits,
    kernels::{self, Assigner, Codebook},
    recipe::Objective,
    treat::chains::{self, Part, Stretch},
};

/// Integer codes and what they stand for.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// U32 `[rows, words]`, packed.
    pub codes: Tensor,
    /// One for every group of `group` weights, in order.
    pub scales: Vec<Scale>,
    code: AffineCode,
    group: usize,
    shape: (usize, usize),
    dtype: DType,
}

/// Quantizes a matrix: a scale for every `group` consecutive weights of a row; `None` for one per row.
///
/// `w ≈ (code - zero_point) * scale`; see [`AffineCode::scale`] and [`kernels::quantize`].
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if the code has not 2 to 8 bits, the group does not divide the row or a weight is not finite; [`Error::Gpu`] if the device fails.
pub fn quantize(
    on: &Backend,
    weights: &Tensor,
    code: AffineCode,
    group: Option<usize>,
    objective: Objective,
) -> Result<Quantized> {
    if !(2..=8).contains(&code.bits) {
        return Err(Error::shape("quantize", "bits", code.bits, "2 to 8"));
    }
    let shape = (weights.rows(), weights.cols());
    let group = group.unwrap_or(shape.1);
    if group == 0 || !shape.1.is_multiple_of(group) {
        return Err(Error::shape("quantize", "group", group, format!("a divisor of {}", shape.1)));
    }
    let all = Stretch::new(Groups::of(group), 0, weights.elements());
    let ranges = chains::ranges(on, [weights], all)?;
    if !ranges.iter().all(|r| r.is_finite()) {
        return Err(Error::shape("quantize", "weights", "NaN or infinite", "finite"));
    }
    let scales = chains::scales(code, objective, &ranges, |grids| {
        chains::best_clips(on, &[Part::from(weights)], code, all, grids)
    })?;
    let codes = chains::quantize(on, weights, code, all, &scales)?;
    Ok(Quantized { codes, scales, code, group, shape, dtype: weights.dtype() })
}

impl Quantized {
    /// The restored matrix, in the original type.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails.
    pub fn dequantize(&self, on: &Backend) -> Result<Tensor> {
        let groups = Groups::of(self.group);
        kernels::dequantize(
            on,
            &self.codes,
            self.shape.1,
            self.code,
            groups,
            &self.scales,
            self.dtype,
        )
    }
}

/// Codes and the table they point into.
#[derive(Clone, Debug)]
pub struct Palettized {
    /// U32 `[rows, words]`, packed.
    pub codes: Tensor,
    /// The table: at most k values.
    pub entries: Vec<f32>,
    bits: u32,
    cols: usize,
    dtype: DType,
}

/// Replaces every weight of a matrix by the nearest of the `k` best values: k-means in one dimension, exact but for what
/// [`kmeans::palette_of_histogram`] says of F32.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if k is not 2 to 256 or a weight is not finite; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Grønlund et al. 2017, arXiv 1701.07204.
pub fn palettize(on: &Backend, weights: &Tensor, k: usize) -> Result<Palettized> {
    if !(2..=256).contains(&k) {
        return Err(Error::shape("palettize", "k", k, "2 to 256"));
    }
    let histogram = kernels::histogram(on, weights)?;
    if histogram.nonfinite() > 0 {
        return Err(Error::shape("palettize", "weights", "NaN or infinite", "finite"));
    }
    let goal = kmeans::Goal::Entries(k);
    let palette = kmeans::palette_of_histogram(&histogram, goal, weights.dtype(), |mut tails| {
        let found = kernels::histogram_tails(on, weights, tails.bins())?;
        tails.add(found.into_iter().map(|(key, n)| (key, n.into())));
        Ok(tails)
    })?;
    let elements = weights.elements();
    let bits = code_bits(palette.entries.len() as u32).into();
    let assigner = [Assigner::new(&palette, weights.dtype(), elements as u64)];
    let all = Stretch::new(Groups::of(elements), 0, elements);
    let codes = chains::palettize(on, weights, &assigner, all, bits)?;
    Ok(Palettized {
        codes,
        entries: palette.entries,
        bits,
        cols: weights.cols(),
        dtype: weights.dtype(),
    })
}

impl Palettized {
    /// The restored matrix, in the original type.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails.
    pub fn depalettize(&self, on: &Backend) -> Result<Tensor> {
        let book = Codebook { entries: &self.entries, k: self.entries.len(), bits: self.bits };
        let groups = Groups::of(self.codes.rows() * self.cols);
        kernels::depalettize(on, &self.codes, self.cols, book, groups, self.dtype)
    }
}

/// What survives of a matrix, and where.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// A bit for every weight, each row from a fresh word.
    pub mask: Vec<u32>,
    /// The survivors, row by row, in the original type.
    pub values: Vec<u32>,
    shape: (usize, usize),
    dtype: DType,
}

/// Keeps the share `density` of a matrix that is largest in magnitude; ties go to the lower index.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if the density is not 0 to 1 or a weight is not finite; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Han, Pool, Tran, Dally 2015, arXiv 1506.02626.
pub fn prune_magnitude(on: &Backend, weights: &Tensor, density: f64) -> Result<Pruned> {
    if !(0.0..=1.0).contains(&density) {
        return Err(Error::shape("prune", "density", density, "0 to 1"));
    }
    let histogram = kernels::histogram(on, weights)?;
    if histogram.nonfinite() > 0 {
        return Err(Error::shape("prune", "weights", "NaN or infinite", "finite"));
    }
    let keep = kept(density, histogram.total());
    let tail = |prefix| kernels::magnitude_tail(on, weights, prefix);
    let limit = limit(&histogram, keep, tail, |magnitude, ties| {
        let tied = weights.read_f32(on)?.into_iter().enumerate();
        let mut tied = tied.filter(|(_, w)| w.to_bits() & 0x7fff_ffff == magnitude);
        let last = tied.nth(ties as usize - 1).map_or(weights.elements(), |(i, _)| i + 1);
        Ok(Limit { threshold: magnitude, ties_before: last as u64 })
    })?;
    let mask = kernels::magnitude_mask(on, weights, Groups::of(weights.elements()), &[limit])?;
    Pruned::new(on, weights, mask)
}

/// Keeps the `n` largest of every `m` consecutive weights of a row.
///
/// Agreement: exact.
///
/// # Errors
///
/// As [`kernels::nm_mask`].
pub fn prune_nm(on: &Backend, weights: &Tensor, n: u32, m: u32) -> Result<Pruned> {
    Pruned::new(on, weights, kernels::nm_mask(on, weights, n, m)?)
}

impl Pruned {
    fn new(on: &Backend, weights: &Tensor, mask: Tensor) -> Result<Self> {
        let mask = mask.into_words(on)?;
        let values = sparse::gather(weights.dtype(), &weights.read(on)?, weights.cols(), &mask);
        Ok(Self { mask, values, shape: (weights.rows(), weights.cols()), dtype: weights.dtype() })
    }

    /// Share of the weights that survive.
    pub fn density(&self) -> f64 {
        let kept: usize = sparse::row_counts(&self.mask, self.shape.1).sum();
        kept as f64 / (self.shape.0 * self.shape.1) as f64
    }

    /// The restored matrix: survivors unchanged, the rest +0.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails.
    pub fn restore(&self, on: &Backend) -> Result<Tensor> {
        let (rows, cols) = self.shape;
        Tensor::new(
            on,
            self.dtype,
            rows,
            cols,
            sparse::scatter(self.dtype, &self.values, rows, cols, &self.mask),
        )
    }
}
