use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::{
        affine::{AffineCode, Scale},
        groups::Groups,
    },
    gpu::{Gpu, Kernel},
    kernels::{
        affine::dequantize::{restore, restore_signed},
        layers::activation::Activation,
        products::product::{self, Params, Product, WORKGROUP, Weights, wide_quads},
    },
    simd::Packed,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_affine",
    wgsl: wgsl!("lib/grid", "lib/activation", "products/product", "products/matmul_affine"),
    workgroup: WORKGROUP,
    params: size_of::<Params>(),
};

/// Weights as integer codes with scales.
#[derive(Clone, Debug)]
pub struct AffineMatrix {
    /// U32 `[rows, words]`, as [`quantize`](crate::kernels::affine::quantize::quantize()) packs them.
    pub codes: Tensor,
    /// Codes per row.
    pub cols: usize,
    /// The alphabet of 2 to 8 bits.
    pub code: AffineCode,
    /// Consecutive elements, row by row, that share a scale: they divide the row, or are whole rows.
    pub group: usize,
    /// U32 `[groups, 2]`: the bits of the f32 scale, and the zero point.
    pub scales: Tensor,
}

impl AffineMatrix {
    /// Moves packed codes and their scales to a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if codes, group or scales do not fit the shape; [`Error::Gpu`] if they do not fit the device.
    pub fn new(
        on: &Backend,
        codes: Vec<u32>,
        (rows, cols): (usize, usize),
        code: AffineCode,
        group: usize,
        scales: &[Scale],
    ) -> Result<Self> {
        let codes =
            product::packed(on, KERNEL.name, codes, (rows, cols), (code.bits.into(), 2..=8))?;
        Self::of_codes(on, codes, cols, code, group, scales)
    }

    /// [`AffineMatrix::new`] of codes that are on the backend already: U32, [`bitpack::words`] to a row of `cols` codes.
    ///
    /// # Errors
    ///
    /// As [`AffineMatrix::new`].
    pub fn of_codes(
        on: &Backend,
        codes: Tensor,
        cols: usize,
        code: AffineCode,
        group: usize,
        scales: &[Scale],
    ) -> Result<Self> {
        let pairs = scales.iter().flat_map(|s| [s.scale.to_bits(), s.zero_point.into()]).collect();
        let matrix = Self {
            codes,
            cols,
            code,
            group,
            scales: Tensor::new(on, DType::U32, scales.len(), 2, pairs)?,
        };
        matrix.check()?;
        Ok(matrix)
    }

    /// Device memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        product::bytes(&[&self.codes, &self.scales])
    }

    fn check(&self) -> Result<()> {
        let Self { codes, cols, code, group, scales } = self;
        let name = KERNEL.name;
        if !(2..=8).contains(&code.bits) {
            return Err(Error::shape(name, "bits", code.bits, "2 to 8"));
        }
        let words = bitpack::words(*cols, code.bits.into());
        if codes.cols() != words || codes.dtype() != DType::U32 {
            return Err(Error::shape(name, "words per row", codes.cols(), words));
        }
        product::expect_group(name, *group, *cols)?;
        let groups = Groups::of(*group).count(codes.rows() * cols);
        if (scales.rows(), scales.cols()) != (groups, 2) || scales.dtype() != DType::U32 {
            return Err(Error::shape(name, "scales", scales.rows(), groups));
        }
        Ok(())
    }
}

/// Multiplies activations by weights of integer codes.
///
/// `y[m, n] = activation(sum over k of x[m, k] * (codes[n, k] - zero_point) * scale + bias[n])`
///
/// - `x`: F32 `[M, K]`; `w`: `[N, K]`; `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// Agreement: before the activation, within `r 2^-24 / (1 - r 2^-24) (sum |x w| + |bias|)` of the sum in f64, where `w = (code -
/// zero_point) * scale`. r is the number of roundings that a term meets: on the CPU, where sixteen sums take every sixteenth
/// term, `ceil(K / 16) + 7`; on a device, from 32 rows on and up to 2^16 columns, where fours are added one after the other,
/// `ceil(K / 4) + 6`, else `ceil(K / 64) + 46`. The CPU's bits depend on neither the machine nor M.
///
/// # Errors
///
/// [`Error::Shape`] if types or shapes do not fit, or K is above 2^18; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Kim et al. 2022, arXiv 2211.10017: weights of few bits are decoded on their way into the registers.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::{AffineCode, Scale}};
/// use tersor::kernels::{self, Activation, AffineMatrix};
///
/// let on = Backend::Cpu;
/// let (int4, half) = (AffineCode { bits: 4, symmetric: true }, Scale { scale: 0.5, zero_point: 0 });
/// // The codes 2, -4, 0 and 2, which stand for 1, -2, 0 and 1.
/// let w = AffineMatrix::new(&on, vec![0x20c2], (1, 4), int4, 4, &[half])?;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0], 1)?;
/// let y = kernels::matmul_affine(&on, &x, &w, None, Activation::None)?;
/// assert_eq!(y.read_f32(&on)?, [1.0]); // 1 - 4 + 0 + 4
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_affine(
    on: &Backend,
    x: &Tensor,
    w: &AffineMatrix,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    w.check()?;
    let product = Product::new(KERNEL.name, x, (w.codes.rows(), w.cols), bias, activation)?;
    match on {
        Backend::Cpu => reference(&product, w),
        Backend::Gpu(gpu) => on_gpu(gpu, &product, w),
    }
}

fn reference(product: &Product, w: &AffineMatrix) -> Result<Tensor> {
    let (packed, bits) = (w.codes.words()?, u32::from(w.code.bits));
    let scales: &[[u32; 2]] = bytemuck::cast_slice(w.scales.words()?);
    let (symmetric, group) = (w.code.symmetric, w.group);
    let of_product = Packed::Affine { codes: packed, bits, symmetric, scales, group };
    product.on_cpu(of_product, |n, codes, row| {
        bitpack::unpack(&packed[n * w.codes.cols()..][..w.codes.cols()], bits, codes);
        let start = n * w.cols;
        for (span, [scale, zero_point]) in Groups::of(w.group).spans(start..start + w.cols, scales)
        {
            let scale = f32::from_bits(scale);
            let span = span.start - start..span.end - start;
            let (codes, values) = (&codes[span.clone()], &mut row[span]);
            match w.code.symmetric {
                true => restore_signed(codes, 8 - bits, scale, values),
                false => restore(codes, zero_point as i32, scale, values),
            }
        }
    })
}

fn on_gpu(gpu: &Gpu, product: &Product, w: &AffineMatrix) -> Result<Tensor> {
    let bits = usize::from(w.code.bits);
    // A unit of 16 bytes must lie within a group.
    let wide = wide_quads(bits, w.cols)
        .filter(|quads| w.group.min(w.cols).is_multiple_of(4 * *quads as usize));
    let weights = Weights {
        parts: &[&w.codes, &w.scales],
        constants: &[("BITS", f64::from(w.code.bits))],
        words: w.codes.cols(),
        group: w.group,
        entries: 0,
        sign: u32::from(w.code.symmetric) << (w.code.bits - 1),
    };
    product.on_gpu(gpu, &KERNEL, product.layout(wide), weights)
}
