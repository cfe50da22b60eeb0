use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::groups::Groups,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::product::{self, Params, Product, WORKGROUP, Weights, wide_quads},
    },
    simd::Packed,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_palette",
    wgsl: wgsl!("lib/grid", "lib/activation", "products/product", "products/matmul_palette"),
    workgroup: WORKGROUP,
    params: size_of::<Params>(),
};

/// Entries that a workgroup can hold near: the size of `near` in the shader.
const NEAR: usize = 1536;

/// Weights as codes that point into tables.
#[derive(Clone, Debug)]
pub struct PaletteMatrix {
    /// U32 `[rows, words]`, as [`palettize`](crate::kernels::palette::palettize::palettize()) packs them.
    pub codes: Tensor,
    /// Codes per row.
    pub cols: usize,
    /// Bits per code, 1 to 8.
    pub bits: u32,
    /// Entries of a table; a code beyond it takes the last one.
    pub k: usize,
    /// Consecutive elements, row by row, that share a table: whole rows.
    pub group: usize,
    /// F32 `[tables, k]`.
    pub entries: Tensor,
}

impl PaletteMatrix {
    /// Moves packed codes and their tables, of equal length, one after the other, to a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if codes, group or entries do not fit the shape; [`Error::Gpu`] if they do not fit the device.
    pub fn new(
        on: &Backend,
        codes: Vec<u32>,
        (rows, cols): (usize, usize),
        bits: u32,
        group: usize,
        entries: &[f32],
    ) -> Result<Self> {
        let codes = product::packed(on, KERNEL.name, codes, (rows, cols), (bits, 1..=8))?;
        Self::of_codes(on, codes, cols, bits, group, entries)
    }

    /// [`PaletteMatrix::new`] of codes that are on the backend already: U32, [`bitpack::words`] to a row of `cols` codes.
    ///
    /// # Errors
    ///
    /// As [`PaletteMatrix::new`].
    pub fn of_codes(
        on: &Backend,
        codes: Tensor,
        cols: usize,
        bits: u32,
        group: usize,
        entries: &[f32],
    ) -> Result<Self> {
        let tables = Groups::of(group).count(codes.rows() * cols);
        let k = entries.len() / tables.max(1);
        if entries.len() != tables * k {
            let expected = format!("{tables} tables of equal length");
            return Err(Error::shape(KERNEL.name, "entries", entries.len(), expected));
        }
        let bits_of_entries = bytemuck::cast_slice(entries).to_vec();
        let matrix = Self {
            codes,
            cols,
            bits,
            k,
            group,
            entries: Tensor::new(on, DType::F32, tables, k, bits_of_entries)?,
        };
        matrix.check()?;
        Ok(matrix)
    }

    /// Device memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        product::bytes(&[&self.codes, &self.entries])
    }

    fn check(&self) -> Result<()> {
        let Self { codes, cols, bits, k, group, entries } = self;
        let name = KERNEL.name;
        if !(1..=8).contains(bits) {
            return Err(Error::shape(name, "bits", bits, "1 to 8"));
        }
        let words = bitpack::words(*cols, *bits);
        if codes.cols() != words || codes.dtype() != DType::U32 {
            return Err(Error::shape(name, "words per row", codes.cols(), words));
        }
        let rows = *group / cols.max(&1);
        if *cols > 0 && (rows == 0 || !group.is_multiple_of(*cols)) {
            return Err(Error::shape(name, "group", group, format!("whole rows of {cols}")));
        }
        let tables = Groups::of(*group).count(codes.rows() * cols);
        if (entries.rows(), entries.cols()) != (tables, *k) || entries.dtype() != DType::F32 {
            let got = format!("{} x {}", entries.rows(), entries.cols());
            return Err(Error::shape(name, "entries", got, format!("{tables} x {k}")));
        }
        if tables > 0 && !(1..=256).contains(k) {
            return Err(Error::shape(name, "entries of a table", k, "1 to 256"));
        }
        Ok(())
    }
}

/// Multiplies activations by weights of palette codes.
///
/// `y[m, n] = activation(sum over k of x[m, k] * entries[table of row n, codes[n, k]] + bias[n])`
///
/// - `x`: F32 `[M, K]`; `w`: `[N, K]`; `bias`: F32 `[1, N]`.
/// - returns F32 `[M, N]`.
///
/// Agreement: before the activation, within `r 2^-24 / (1 - r 2^-24) (sum |x w| + |bias|)` of the sum in f64. r is the number of
/// roundings that a term meets: on the CPU, where sixteen sums take every sixteenth term, `ceil(K / 16) + 7`; on a device, from
/// 32 rows on and up to 2^16 columns, where fours are added one after the other, `ceil(K / 4) + 6`, else `ceil(K / 64) + 46`. The
/// CPU's bits depend on neither the machine nor M.
///
/// # Errors
///
/// [`Error::Shape`] if types or shapes do not fit, or K is above 2^18; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Guo et al. 2024, arXiv 2407.10960: look-up tables in memory near the processor.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Activation, PaletteMatrix}};
///
/// let on = Backend::Cpu;
/// // Two rows that share a table: -1, -1, 0, 1 and 1, 1, 1, 1.
/// let codes = vec![0b10_01_00_00, 0b10_10_10_10];
/// let w = PaletteMatrix::new(&on, codes, (2, 4), 2, 8, &[-1.0, 0.0, 1.0])?;
/// let x = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0], 1)?;
/// let y = kernels::matmul_palette(&on, &x, &w, None, Activation::None)?;
/// assert_eq!(y.read_f32(&on)?, [1.0, 10.0]); // -1 - 2 + 0 + 4, 1 + 2 + 3 + 4
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_palette(
    on: &Backend,
    x: &Tensor,
    w: &PaletteMatrix,
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

fn reference(product: &Product, w: &PaletteMatrix) -> Result<Tensor> {
    let packed = w.codes.words()?;
    let entries: &[f32] = bytemuck::cast_slice(w.entries.words()?);
    let share = w.group.checked_div(w.cols).unwrap_or(1);
    let of_product = Packed::Palette { codes: packed, bits: w.bits, entries, k: w.k, share };
    product.on_cpu(of_product, |n, codes, row| {
        bitpack::unpack(&packed[n * w.codes.cols()..][..w.codes.cols()], w.bits, codes);
        let table = &entries[n * w.cols / w.group * w.k..][..w.k];
        // 256 entries, so that no code needs a check.
        let mut full = [table[w.k - 1]; 256];
        full[..w.k].copy_from_slice(table);
        for (code, value) in codes.iter().zip(row) {
            *value = full[usize::from(*code)];
        }
    })
}

fn on_gpu(gpu: &Gpu, product: &Product, w: &PaletteMatrix) -> Result<Tensor> {
    let layout = product.layout(wide_quads(w.bits as usize, w.cols));
    let rows_of_table = w.group / w.cols.max(1);
    // A workgroup's rows may start and end within a table's.
    let tables = (layout.outputs().div_ceil(rows_of_table.max(1)) + 1).min(w.entries.rows());
    let near = tables * w.k <= NEAR;
    let weights = Weights {
        parts: &[&w.codes, &w.entries],
        constants: &[("BITS", w.bits.into()), ("LOCAL", f64::from(u8::from(near)))],
        words: w.codes.cols(),
        group: w.group,
        entries: w.k,
        sign: 0,
    };
    product.on_gpu(gpu, &KERNEL, layout, weights)
}
