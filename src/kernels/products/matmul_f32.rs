use crate::{
    Backend, DType, Result, Tensor, dtype,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::product::{Params, Product, WORKGROUP, Weights, wide_quads},
    },
    simd::Packed,
    wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_f32",
    wgsl: wgsl!(
        "lib/grid",
        "lib/dtype",
        "lib/activation",
        "products/product",
        "products/matmul_f32"
    ),
    workgroup: WORKGROUP,
    params: size_of::<Params>(),
};

/// Multiplies activations by weights of any float type.
///
/// `y[m, n] = activation(sum over k of x[m, k] * w[n, k] + bias[n])`
///
/// - `x`: F32 `[M, K]`; `w`: a weight type `[N, K]`, F64 taken as f32, rounded to nearest even; `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// Agreement: before the activation, within `r 2^-24 / (1 - r 2^-24) (sum |x w| + |bias|)` of the sum in f64. r is the number of
/// roundings that a term meets: on the CPU, where sixteen sums take every sixteenth term, `ceil(K / 16) + 7`; on a device, from
/// 32 rows on and up to 2^16 columns, where fours are added one after the other, `ceil(K / 4) + 6`, else `ceil(K / 64) + 46`. The
/// CPU's bits depend on neither the machine nor M.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if types or shapes do not fit, or K is above 2^18;
/// [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Source
///
/// Goto and van de Geijn 2008, doi 10.1145/1356052.1356053, for the tiles.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Activation}};
///
/// let on = Backend::Cpu;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0], 1)?;
/// let w = Tensor::from_f32(&on, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3)?;
/// let bias = Tensor::from_f32(&on, &[0.5, -3.0, 0.0], 1)?;
/// let y = kernels::matmul_f32(&on, &x, &w, Some(&bias), Activation::Relu)?;
/// assert_eq!(y.read_f32(&on)?, [1.5, 0.0, 3.0]); // 1 + 0.5, max(2 - 3, 0), 1 + 2
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_f32(
    on: &Backend,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, w)?;
    let product = Product::new(KERNEL.name, x, (w.rows(), w.cols()), bias, activation)?;
    match on {
        Backend::Cpu => reference(&product, w),
        Backend::Gpu(gpu) => on_gpu(gpu, &product, w),
    }
}

fn reference(product: &Product, w: &Tensor) -> Result<Tensor> {
    let words = w.words()?;
    let packed = Packed::Dense { words, dtype: w.dtype() };
    product.on_cpu(packed, |n, _, row| dtype::decode(w.dtype(), words, n * w.cols(), row))
}

fn on_gpu(gpu: &Gpu, product: &Product, w: &Tensor) -> Result<Tensor> {
    let wide = match w.dtype() {
        DType::F64 => None,
        narrower => wide_quads(narrower.bits(), w.cols()),
    };
    let weights = Weights {
        parts: &[w],
        constants: &[("DTYPE", dtype::code(w.dtype()))],
        words: words(w.dtype(), w.cols()),
        group: w.cols(),
        entries: 0,
        sign: 0,
    };
    product.on_gpu(gpu, &KERNEL, product.layout(wide), weights)
}
