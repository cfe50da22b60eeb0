use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::sparse,
    dtype,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::product::{self, Params, Product, WORKGROUP, Weights},
    },
    simd::Packed,
    wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_sparse",
    wgsl: wgsl!(
        "lib/grid",
        "lib/dtype",
        "lib/activation",
        "products/product",
        "products/matmul_sparse"
    ),
    workgroup: WORKGROUP,
    params: size_of::<Params>(),
};

/// Weights most of which are zero: a mask, and the values where it has a bit.
#[derive(Clone, Debug)]
pub struct SparseMatrix {
    /// U32 `[rows, ceil(cols / 32)]`: element j is bit j % 32 of word j / 32; padding is zero.
    pub mask: Tensor,
    /// U32, a number for each word of the mask: how many survivors come before it.
    pub starts: Tensor,
    /// A weight type `[1, survivors]`, row by row.
    pub values: Tensor,
    /// Elements per row.
    pub cols: usize,
}

impl SparseMatrix {
    /// Moves a mask and its survivors, words of elements of `dtype`, to a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the mask does not fit the shape, has bits beyond a row or not as many as there are survivors, or
    /// these are no weights; [`Error::Gpu`] if they do not fit the device.
    pub fn new(
        on: &Backend,
        mask: Vec<u32>,
        values: Vec<u32>,
        dtype: DType,
        (rows, cols): (usize, usize),
    ) -> Result<Self> {
        let per_row = cols.div_ceil(32);
        if mask.len() != rows * per_row {
            return Err(Error::shape(KERNEL.name, "mask", mask.len(), rows * per_row));
        }
        if !sparse::padding_is_zero(&mask, cols) {
            return Err(Error::shape(KERNEL.name, "mask", "a bit beyond a row", "zero padding"));
        }
        let mut survivors = 0usize;
        let starts = mask
            .iter()
            .map(|word| {
                let start = survivors as u32;
                survivors += word.count_ones() as usize;
                start
            })
            .collect();
        if survivors > u32::MAX as usize {
            return Err(Error::shape(KERNEL.name, "survivors", survivors, "fewer than 2^32"));
        }
        if values.len() != words(dtype, survivors) {
            let expected = format!("{survivors} survivors in {} words", words(dtype, survivors));
            return Err(Error::shape(KERNEL.name, "values", values.len(), expected));
        }
        let matrix = Self {
            mask: Tensor::new(on, DType::U32, rows, per_row, mask)?,
            starts: Tensor::new(on, DType::U32, rows, per_row, starts)?,
            values: Tensor::new(on, dtype, 1, survivors, values)?,
            cols,
        };
        matrix.check()?;
        Ok(matrix)
    }

    /// Device memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        product::bytes(&[&self.mask, &self.starts, &self.values])
    }

    fn check(&self) -> Result<()> {
        crate::kernels::expect::expect_weights(KERNEL.name, &self.values)?;
        let shape = (self.mask.rows(), self.cols.div_ceil(32));
        for (what, part) in [("mask", &self.mask), ("starts", &self.starts)] {
            if (part.rows(), part.cols()) != shape || part.dtype() != DType::U32 {
                let got = format!("{} {} x {}", part.dtype().name(), part.rows(), part.cols());
                let expected = format!("U32 {} x {}", shape.0, shape.1);
                return Err(Error::shape(KERNEL.name, what, got, expected));
            }
        }
        Ok(())
    }
}

/// Multiplies activations by weights of which only the survivors of a mask are stored.
///
/// `y[m, n] = activation(sum over k of x[m, k] * w[n, k] + bias[n])`, w zero where the mask has no bit
///
/// - `x`: F32 `[M, K]`; `w`: `[N, K]`, any mask, N:M ones included; `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// Agreement: before the activation, within `r 2^-24 / (1 - r 2^-24) (sum |x w| + |bias|)` of the sum in f64. r is the number of
/// roundings that a term meets: on the CPU, where sixteen sums take every sixteenth term, `ceil(K / 16) + 7`; on a device, from
/// 32 rows on and up to 2^16 columns, where fours are added one after the other, `ceil(K / 4) + 6`, else `ceil(K / 64) + 46`. The
/// CPU's bits depend on neither the machine nor M. A survivor that `values` does not hold counts as zero.
///
/// # Errors
///
/// [`Error::Shape`] if types or shapes do not fit, or K is above 2^18; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Mishra et al. 2021, arXiv 2104.08378, for N:M masks.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels::{self, Activation, SparseMatrix}};
///
/// let on = Backend::Cpu;
/// // The row 0, 5, 0, -1.
/// let survivors = [5.0f32, -1.0].map(f32::to_bits).to_vec();
/// let w = SparseMatrix::new(&on, vec![0b1010], survivors, DType::F32, (1, 4))?;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0], 1)?;
/// let y = kernels::matmul_sparse(&on, &x, &w, None, Activation::None)?;
/// assert_eq!(y.read_f32(&on)?, [6.0]); // 2 * 5 - 4
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_sparse(
    on: &Backend,
    x: &Tensor,
    w: &SparseMatrix,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    w.check()?;
    let product = Product::new(KERNEL.name, x, (w.mask.rows(), w.cols), bias, activation)?;
    match on {
        Backend::Cpu => reference(&product, w),
        Backend::Gpu(gpu) => on_gpu(gpu, &product, w),
    }
}

fn reference(product: &Product, w: &SparseMatrix) -> Result<Tensor> {
    let (mask, starts, values) = (w.mask.words()?, w.starts.words()?, w.values.words()?);
    let (per_row, survivors) = (w.mask.cols(), w.values.cols());
    let dtype = w.values.dtype();
    let packed = Packed::Sparse { mask, starts, values, dtype, survivors };
    product.on_cpu(packed, |n, _, row| {
        let mask = &mask[n * per_row..][..per_row];
        let kept = mask.iter().map(|w| w.count_ones() as usize).sum::<usize>().min(row.len());
        let first = survivors.min(starts[n * per_row] as usize);
        let held = kept.min(survivors - first);
        // The survivors wait at the row's end: no element is written before it is read.
        let mut next = row.len() - kept;
        dtype::decode(w.values.dtype(), values, first, &mut row[next..next + held]);
        row[next + held..].fill(0.0);
        for j in 0..row.len() {
            let bit = mask[j / 32] >> (j % 32) & 1;
            row[j] = if bit == 1 { row[next] } else { 0.0 };
            next = (next + bit as usize).min(row.len() - 1);
        }
    })
}

fn on_gpu(gpu: &Gpu, product: &Product, w: &SparseMatrix) -> Result<Tensor> {
    let weights = Weights {
        parts: &[&w.mask, &w.starts, &w.values],
        constants: &[("DTYPE", dtype::code(w.values.dtype()))],
        words: w.mask.cols(),
        group: w.cols,
        entries: w.values.cols(),
        sign: 0,
    };
    product.on_gpu(gpu, &KERNEL, product.layout(None), weights)
}
