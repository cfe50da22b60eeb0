use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::{affine::Scale, groups::Groups},
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::product::{self, Params, Product, WORKGROUP, Weights, expect_group},
        vectors::{dequantize_vectors::VectorCodes, nearest::Entries},
    },
    simd::Packed,
    wgsl,
};
use std::sync::Arc;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_vectors",
    wgsl: wgsl!("lib/grid", "lib/activation", "products/product", "products/matmul_vectors"),
    workgroup: WORKGROUP,
    params: size_of::<Params>(),
};

/// Weights as codes of vectors.
#[derive(Clone, Debug)]
pub struct VectorMatrix {
    /// U32 `[rows, words]`, packed as [`VectorCodes::packing`] says.
    pub codes: Tensor,
    /// Weights per row.
    pub cols: usize,
    /// Consecutive elements, row by row, that share a scale.
    pub group: usize,
    /// F32 `[groups, 1]`.
    pub scales: Tensor,
    entries: Arc<Entries>,
    stages: usize,
    /// The codebooks where the product reads them: U32, two numbers to a word.
    packed: Tensor,
}

impl VectorMatrix {
    /// The matrix of codes that are on the backend already, with its codebooks and scales.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if codes, codebooks, group or scales do not fit the shape; [`Error::Gpu`] if they do not fit the device.
    pub fn of_codes(
        on: &Backend,
        codes: Tensor,
        cols: usize,
        (entries, stages): (Arc<Entries>, usize),
        group: usize,
        scales: &[Scale],
    ) -> Result<Self> {
        let book = VectorCodes { entries: &entries, stages };
        book.check(KERNEL.name, &codes, cols)?;
        expect_group(KERNEL.name, group, cols)?;
        let expected = Groups::of(group).count(codes.rows() * cols);
        if scales.len() != expected {
            return Err(Error::shape(KERNEL.name, "scales", scales.len(), expected));
        }
        let bits: Vec<u32> = scales.iter().map(|s| s.scale.to_bits()).collect();
        let packed = entries.packed();
        Ok(Self {
            codes,
            cols,
            group,
            scales: Tensor::new(on, DType::F32, bits.len(), 1, bits)?,
            packed: Tensor::new(on, DType::U32, 1, packed.len(), packed)?,
            entries,
            stages,
        })
    }

    /// Which codebooks the codes point into.
    pub fn book(&self) -> VectorCodes<'_> {
        VectorCodes { entries: &self.entries, stages: self.stages }
    }

    /// Device memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        product::bytes(&[&self.codes, &self.scales, &self.packed])
    }
}

/// Multiplies activations by weights of codes of vectors.
///
/// `y[m, n] = activation(sum over k of x[m, k] * scale * (sum over stages s of entries[space, s, codes[n, v, s], k mod dim]) +
/// bias[n])`, `v = k / dim`, `space = v mod spaces`
///
/// - `x`: F32 `[M, K]`; `w`: `[N, K]`; `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// The weights are never stored: each is looked up where it is multiplied.
///
/// Agreement: as [`matmul_palette`](crate::kernels::matmul_palette()), of weights that are one f32 product each.
///
/// # Errors
///
/// [`Error::Shape`] if types or shapes do not fit, or K is above 2^18; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Egiazarian et al. 2024, arXiv 2401.06118: sums of entries of codebooks as weights.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use tersor::{Backend, DType, Tensor, affine::Scale, kernels::{self, Activation, Entries, VectorMatrix}};
///
/// let on = Backend::Cpu;
/// // Two rows of two vectors of two weights: entries 1, 0 and 1, 1.
/// let codes = Tensor::new(&on, DType::U32, 2, 1, vec![0b01, 0b11])?;
/// let entries = Arc::new(Entries { dim: 2, k: 2, values: vec![0, 1, -1, 2] });
/// let half = Scale { scale: 0.5, zero_point: 0 };
/// let w = VectorMatrix::of_codes(&on, codes, 4, (entries, 1), 8, &[half])?;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0], 1)?;
/// let y = kernels::matmul_vectors(&on, &x, &w, None, Activation::None)?;
/// assert_eq!(y.read_f32(&on)?, [3.5, 4.0]); // (-1 + 4 + 0 + 4) / 2, (-1 + 4 - 3 + 8) / 2
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_vectors(
    on: &Backend,
    x: &Tensor,
    w: &VectorMatrix,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let product = Product::new(KERNEL.name, x, (w.codes.rows(), w.cols), bias, activation)?;
    match on {
        Backend::Cpu => reference(&product, w),
        Backend::Gpu(gpu) => on_gpu(gpu, &product, w),
    }
}

fn reference(product: &Product, w: &VectorMatrix) -> Result<Tensor> {
    let (packed, width, book) = (w.codes.words()?, w.codes.cols(), w.book());
    let scales: &[f32] = bytemuck::cast_slice(w.scales.words()?);
    product.on_cpu(Packed::Vectors, |n, _, row| {
        let mut symbols = vec![0; book.packing().count(w.cols)];
        let mut sums = vec![0; w.cols];
        book.sums(&packed[n * width..][..width], &mut symbols, &mut sums);
        let spans = Groups::of(w.group).from(n * w.cols % w.group);
        let first = n * w.cols / w.group;
        let own = &scales[first..first + spans.count(w.cols)];
        for (span, scale) in spans.spans(0..w.cols, own) {
            for (sum, value) in sums[span.clone()].iter().zip(&mut row[span]) {
                *value = f32::from(*sum) * scale;
            }
        }
    })
}

fn on_gpu(gpu: &Gpu, product: &Product, w: &VectorMatrix) -> Result<Tensor> {
    let (book, packing) = (w.book(), w.book().packing());
    let constants = [
        ("BITS", f64::from(packing.bits)),
        ("SYMBOLS", book.symbols() as f64),
        ("DIM", w.entries.dim as f64),
        ("STAGES", w.stages as f64),
        ("SPACES", book.spaces() as f64),
    ];
    let weights = Weights {
        parts: &[&w.codes, &w.packed, &w.scales],
        constants: &constants,
        words: w.codes.cols(),
        group: w.group,
        entries: w.entries.k,
        sign: 0,
    };
    product.on_gpu(gpu, &KERNEL, product.layout(None), weights)
}
