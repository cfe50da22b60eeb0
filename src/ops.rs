//! Whole treatments of one matrix in memory, composed of kernels: what to call when there is no checkpoint.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::sparse,
    decide::{
        affine::{AffineCode, Scale, ScaleType},
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
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `group`: a divisor of `cols`.
/// - `objective`: the scale of the group's range, or that of the clip of it with the least squared error: see
///   [`kernels::best_clips`].
/// - returns the codes, and `rows * cols / group` scales.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if the code has not 2 to 8 bits, the group does not divide the row or a weight is not finite;
/// [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Jacob et al. 2018, arXiv 1712.05877; symmetric weights: Krishnamoorthi 2018, arXiv 1806.08342.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::AffineCode, ops, recipe::Objective};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[7.0, -3.0, 1.0, 0.2, 70.0, -30.0, 10.0, 2.0], 2)?;
/// let int4 = AffineCode { bits: 4, symmetric: true };
/// let quantized = ops::quantize(&on, &weights, int4, None, Objective::Range)?;
/// // The largest of a row is code 7; the rest are rounded to the nearest step.
/// assert_eq!([quantized.scales[0].scale, quantized.scales[1].scale], [1.0, 10.0]);
/// assert_eq!(quantized.codes.read(&on)?, [0x01d7, 0x01d7]);
/// assert_eq!(
///     quantized.dequantize(&on)?.read_f32(&on)?,
///     [7.0, -3.0, 1.0, 0.0, 70.0, -30.0, 10.0, 0.0]
/// );
/// # Ok::<(), tersor::Error>(())
/// ```
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
    let scales = chains::scales((code, ScaleType::F32), objective, &ranges, |grids| {
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
/// `w ≈ entries[code]`, with the at most `k` entries that have the least `sum of (w - entries[code])²`
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - returns the codes, of as few bits as number the entries, and the entries, ascending.
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
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, ops};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[0.0, 10.0, 1.0, 11.0, 15.0], 1)?;
/// let palette = ops::palettize(&on, &weights, 2)?;
/// assert_eq!(palette.entries, [0.5, 12.0]); // the means of {0, 1} and {10, 11, 15}
/// assert_eq!(palette.codes.read(&on)?, [0b11010]); // a bit for each weight, the first lowest
/// assert_eq!(palette.depalettize(&on)?.read_f32(&on)?, [0.5, 12.0, 0.5, 12.0, 12.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
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
/// `floor(density * n + 0.5)` of the n weights survive
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - returns the mask, and the survivors in the type of the weights.
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
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, ops};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -3.0, 2.0, 0.5, -2.0, 2.0], 2)?;
/// let pruned = ops::prune_magnitude(&on, &weights, 0.5)?;
/// // Three survive: -3, and of the three twos the first and the second.
/// assert_eq!(pruned.restore(&on)?.read_f32(&on)?, [0.0, -3.0, 2.0, 0.0, -2.0, 0.0]);
/// assert_eq!((pruned.mask[0], pruned.mask[1], pruned.density()), (0b110, 0b010, 0.5));
/// # Ok::<(), tersor::Error>(())
/// ```
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

/// Keeps the `n` largest of every `m` consecutive weights of a row; ties, shapes and bounds are those of [`kernels::nm_mask`].
///
/// Returns the mask, and the survivors in the type of the weights.
///
/// Agreement: exact.
///
/// # Errors
///
/// As [`kernels::nm_mask`].
///
/// # Source
///
/// Zhou et al. 2021, arXiv 2102.04010; 2:4: Mishra et al. 2021, arXiv 2104.08378.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, ops};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -3.0, 2.0, 2.0, 5.0, 0.0, 6.0, 7.0], 1)?;
/// let pruned = ops::prune_nm(&on, &weights, 2, 4)?;
/// assert_eq!(pruned.restore(&on)?.read_f32(&on)?, [0.0, -3.0, 2.0, 0.0, 0.0, 0.0, 6.0, 7.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
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
