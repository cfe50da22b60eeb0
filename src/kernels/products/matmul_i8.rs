use crate::{
    Backend, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::{
            coop_probe,
            int8::{Channels, Epilogue, Int8, expect, expect_factors, expect_int8},
            matmul_i8_coop, requantize,
        },
    },
    parallel::chunks,
    simd::{Panels, dots_i8},
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_i8",
    wgsl: wgsl!("lib/grid", "lib/activation", "lib/fixed_point", "products/matmul_i8"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    words: u32,
    tiles_m: u32,
    tiles_n: u32,
    zero_point: i32,
    lowest: i32,
    highest: i32,
}

/// Multiplies matrices of codes; the weights are given output by output.
///
/// `sum[m, n] = Σ_k a[m, k] * (w[n, k] - zero[n]) + factor[m] * offset[n]`, then the epilogue; the factor is 1, or minus the zero
/// point of the row where the epilogue is given some
///
/// - `a`: `[M, K]`, activations; `w`: `[N, K]`, weights; each signed or unsigned.
/// - `channels`: `[N]`, in the form that the epilogue takes.
/// - returns what the epilogue says.
///
/// K is at most 132,104 for signed activations and weights, 66,311 for unsigned activations, 65,793 for unsigned weights or
/// zero points, 33,025 for both, so that no sum leaves 32 bits: `K * max|a| * max|w - zero| < 2^31`. The offset is added
/// in arithmetic that wraps: that its sum fits is the caller's matter.
///
/// Agreement: exact, for sums and codes. Floats: `6 * 2^-24 * (|sum * row * scale| + |bias|)` from the value in real numbers
/// before the activation, where `row * scale` is a normal number.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not chain, K is too large, or channels or codes do not fit; [`Error::Gpu`]
/// if the device fails.
///
/// # Source
///
/// Zero points and integer sums: Jacob et al. 2018, arXiv 1712.05877. The tile: research of this project on public kernels,
/// above all llama.cpp's `mul_mmq.comp`.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor};
/// use tersor::kernels::{self, Activation, Channels, Epilogue, Int8};
///
/// let on = Backend::Cpu;
/// // The codes 1, 2, 3, 4 and 1, 1, 1, -1.
/// let [a, w] = [0x0403_0201, 0xff01_0101]
///     .map(|word| Tensor::new(&on, DType::U32, 1, 1, vec![word]))
///     .map(|words| words.map(|words| Int8 { words, cols: 4, signed: true }));
/// let (a, w) = (a?, w?);
/// // Offset 10, zero point 0, scale 1/2, bias 1.
/// let channels = Channels::new(&on, &[[10, 0, 0.5f32.to_bits(), 1f32.to_bits()]])?;
/// let sums = kernels::matmul_i8(&on, &a, &w, &channels, Epilogue::Sum)?;
/// assert_eq!(sums.read(&on)?, [12]); // 1 + 2 + 3 - 4 + 10
/// let float = Epilogue::Float { rows: None, activation: Activation::None };
/// let y = kernels::matmul_i8(&on, &a, &w, &channels, float)?;
/// assert_eq!(y.read_f32(&on)?, [7.0]); // 12 / 2 + 1
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_i8(
    on: &Backend,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    expect(KERNEL.name, a, w, channels, epilogue)?;
    match on {
        Backend::Cpu => {
            let (m, n, words) = (a.words.rows(), w.words.rows(), a.words.cols());
            let mut sums = vec![0; m * n];
            let (of_a, of_w) = (a.words.words()?, w.words.words()?);
            dots_i8(of_a, a.signed, of_w, w.signed, (m, n, words), &mut sums);
            finish(a, n, sums, channels, epilogue)
        }
        Backend::Gpu(gpu) => {
            let tile = Tile::best(gpu, a, w);
            on_gpu(gpu, a, w, channels, epilogue, tile)
        }
    }
}

/// Weights that take part in many products. Where the CPU multiplies bytes, they are held in the order in which it reads them, and
/// no product has to bring them into it; elsewhere, and on a GPU, as they were.
#[derive(Clone, Debug)]
pub struct Int8Weights {
    layout: Layout,
    rows: usize,
    cols: usize,
    signed: bool,
    a_signed: bool,
}

#[derive(Clone, Debug)]
enum Layout {
    Words(Int8),
    Panels(Panels),
}

impl Int8Weights {
    /// Lays out weights for products with activations that are signed, or not.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the words do not hold the codes; [`Error::Backend`] if they are not on this backend.
    pub fn new(on: &Backend, w: Int8, a_signed: bool) -> Result<Self> {
        expect_int8(KERNEL.name, "words of w", &w)?;
        let (rows, cols, signed) = (w.words.rows(), w.cols, w.signed);
        let panels = match on {
            Backend::Cpu => Panels::new(w.words.words()?, signed, a_signed, (rows, w.words.cols())),
            Backend::Gpu(_) => None,
        };
        let layout = panels.map_or(Layout::Words(w), Layout::Panels);
        Ok(Self { layout, rows, cols, signed, a_signed })
    }

    /// Outputs of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Codes per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes they take on the device.
    pub fn bytes(&self) -> u64 {
        match &self.layout {
            Layout::Words(w) => 4 * w.words.elements() as u64,
            Layout::Panels(panels) => panels.bytes() as u64,
        }
    }
}

/// [`matmul_i8`] with weights that were laid out before.
///
/// # Errors
///
/// As [`matmul_i8`]; [`Error::Shape`] if the activations are not signed or unsigned as the weights were laid out for;
/// [`Error::Backend`] if they were laid out for another backend.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor};
/// use tersor::kernels::{self, Channels, Epilogue, Int8, Int8Weights};
///
/// let on = Backend::Cpu;
/// // The codes 1, 2, 3, 4 and 1, 1, 1, -1.
/// let [a, w] = [0x0403_0201, 0xff01_0101]
///     .map(|word| Tensor::new(&on, DType::U32, 1, 1, vec![word]))
///     .map(|words| words.map(|words| Int8 { words, cols: 4, signed: true }));
/// let (a, w) = (a?, w?);
/// let w = Int8Weights::new(&on, w, a.signed)?;
/// // Offset 0, zero point 1, which makes the weights 0, 0, 0, -2; scale and bias take no part in sums.
/// let channels = Channels::new(&on, &[[0, 1, 0, 0]])?;
/// let sums = kernels::matmul_i8_with(&on, &a, &w, &channels, Epilogue::Sum)?;
/// assert_eq!(sums.read(&on)?, [-8i32 as u32]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn matmul_i8_with(
    on: &Backend,
    a: &Int8,
    w: &Int8Weights,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    if a.signed != w.a_signed {
        let signed = |s| if s { "signed" } else { "unsigned" };
        return Err(Error::shape(KERNEL.name, "a", signed(a.signed), signed(w.a_signed)));
    }
    let panels = match &w.layout {
        Layout::Words(w) => return matmul_i8(on, a, w, channels, epilogue),
        Layout::Panels(panels) => panels,
    };
    if let Backend::Gpu(_) = on {
        let found = "the weights are laid out for the CPU";
        return Err(Error::Backend { kernel: KERNEL.name, found });
    }
    expect_factors(KERNEL.name, a, (w.rows, w.cols, w.signed), channels, epilogue)?;
    let mut sums = vec![0; a.words.rows() * w.rows];
    panels.dots(a.words.words()?, a.words.rows(), &mut sums);
    finish(a, w.rows, sums, channels, epilogue)
}

/// What becomes of the plain sums of `n` outputs on the CPU.
fn finish(
    a: &Int8,
    n: usize,
    mut sums: Vec<i32>,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let (m, words) = (a.words.rows(), a.words.cols());
    let (codes, table) = (a.words.words()?, channels.table.words()?);
    let rows = match epilogue {
        Epilogue::Float { rows: Some(rows), .. } => Some(bytemuck::cast_slice(rows.words()?)),
        _ => None,
    };
    // Scale and zero point of a row.
    let row = |r: usize| rows.map(|rows: &[f32]| (rows[2 * r], rows[2 * r + 1] as i32));
    chunks(&mut sums, n, &|r, sums| {
        let sum_of_a = match channels.zero_points() {
            true => row_sum(&codes[r * words..][..words], a.signed),
            false => 0,
        };
        correct(sums, sum_of_a, row(r).map_or(1, |(_, zero)| -zero), table);
    });
    let (dtype, cols) = epilogue.output(n);
    let out = match epilogue {
        Epilogue::Sum => sums.into_iter().map(|s| s as u32).collect(),
        Epilogue::Float { activation, .. } => {
            let mut out = vec![0; m * n];
            chunks(&mut out, n, &|r, out| {
                let scale = row(r).map_or(1.0, |(scale, _)| scale);
                floats(&sums[r * n..][..n], scale, table, activation, out);
            });
            out
        }
        Epilogue::Requantize { zero_point, lowest, highest } => {
            requantize::reference(&sums, n, table, zero_point, lowest, highest)
        }
    };
    Ok(Tensor::cpu(dtype, m, cols, out))
}

/// The sum of a row of codes.
fn row_sum(codes: &[u32], signed: bool) -> i32 {
    match signed {
        true => bytemuck::cast_slice::<_, i8>(codes).iter().map(|c| i32::from(*c)).sum(),
        false => bytemuck::cast_slice::<_, u8>(codes).iter().map(|c| i32::from(*c)).sum(),
    }
}

/// Takes zero points into account and adds so many times the offsets.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn correct(sums: &mut [i32], sum_of_a: i32, factor: i32, channels: &[u32]) {
    for (sum, [offset, zero, ..]) in sums.iter_mut().zip(channels.as_chunks::<4>().0) {
        let zeros = sum_of_a.wrapping_mul(*zero as i32);
        *sum = sum.wrapping_sub(zeros).wrapping_add(factor.wrapping_mul(*offset as i32));
    }
}

/// One row of [`Epilogue::Float`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn floats(sums: &[i32], row: f32, channels: &[u32], activation: Activation, out: &mut [u32]) {
    let channels = channels.as_chunks::<4>().0;
    for ((sum, [.., scale, bias]), out) in sums.iter().zip(channels).zip(out) {
        let x = *sum as f32 * (row * f32::from_bits(*scale)) + f32::from_bits(*bias);
        *out = activation.apply(x).to_bits();
    }
}

/// How the outputs are divided among workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 8 x 16, for so few rows that a larger tile would stand empty.
    Few,
    /// 64 x 64, for so few outputs that larger tiles would leave the device idle.
    Small,
    /// 128 x 128.
    Large,
    /// 128 x 128 on matrix units: [`matmul_i8_coop`](crate::kernels::products::matmul_i8_coop::matmul_i8_coop()).
    Matrices,
}

/// Whether integer products run on this device's matrix units: it has them, they were exact in every bit, and faster than packed
/// dot products, when the first product asked.
pub fn matrix_units(gpu: &Gpu) -> bool {
    gpu.matrices(|gpu| {
        coop_probe::probe(gpu, |a, w, channels, large| {
            let tile = if large { Tile::Large } else { Tile::Small };
            matmul_i8_in_tiles(gpu, a, w, channels, Epilogue::Sum, tile)
        })
    })
}

impl Tile {
    fn best(gpu: &Gpu, a: &Int8, w: &Int8) -> Self {
        let (m, n) = (a.words.rows(), w.words.rows());
        match m {
            ..=16 => Self::Few,
            _ if m.min(n) <= 64 || m.div_ceil(128) * n.div_ceil(128) < 256 => Self::Small,
            _ if matmul_i8_coop::takes(gpu, a, w) && matrix_units(gpu) => Self::Matrices,
            _ => Self::Large,
        }
    }

    fn size(self) -> (usize, usize) {
        match self {
            Self::Few => (8, 16),
            Self::Small => (64, 64),
            Self::Large | Self::Matrices => (128, 128),
        }
    }
}

fn on_gpu(
    gpu: &Gpu,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
    tile: Tile,
) -> Result<Tensor> {
    if tile == Tile::Matrices {
        return matmul_i8_coop(gpu, a, w, channels, epilogue);
    }
    let (m, n, words) = (a.words.rows(), w.words.rows(), a.words.cols());
    let (dtype, cols) = epilogue.output(n);
    let out = gpu.alloc(4 * m * cols)?;
    let (tiles_m, tiles_n) = (m.div_ceil(tile.size().0), n.div_ceil(tile.size().1));
    let mut params = Params {
        m: m as u32,
        n: n as u32,
        words: words as u32,
        tiles_m: tiles_m as u32,
        tiles_n: tiles_n as u32,
        zero_point: 0,
        lowest: 0,
        highest: 0,
    };
    let (kind, activation, rows) = match epilogue {
        Epilogue::Sum => (0.0, Activation::None, None),
        Epilogue::Float { rows, activation } => (1.0, activation, rows),
        Epilogue::Requantize { zero_point, lowest, highest } => {
            params = Params { zero_point, lowest, highest, ..params };
            (2.0, Activation::None, None)
        }
    };
    let small = tile == Tile::Small;
    let aligned = words > 0 && words.is_multiple_of(4);
    let flag = |on: bool| f64::from(u8::from(on));
    let constants = [
        ("WG", if small { 64.0 } else { KERNEL.workgroup.into() }),
        ("SIDE", if small { 8.0 } else { 16.0 }),
        ("FEW", flag(tile == Tile::Few)),
        ("ALIGNED", flag(aligned)),
        ("A_SIGNED", flag(a.signed)),
        ("W_SIGNED", flag(w.signed)),
        ("ZERO_POINTS", flag(channels.zero_points())),
        ("ROW_SCALES", flag(rows.is_some())),
        ("EPILOGUE", kind),
        ("ACTIVATION", activation.code()),
    ];
    // Any buffer does for a binding that is not read, if it holds an element.
    let table = channels.table.buffer()?;
    let (a, w) = (a.words.buffer()?, w.words.buffer()?);
    let (a4, w4) = if aligned { (a, w) } else { (table, table) };
    let rows = rows.map(Tensor::buffer).transpose()?.unwrap_or(table);
    let buffers = [a, a4, w, w4, table, rows, &out];
    let (workgroups, operations) = (tiles_m as u64 * tiles_n as u64, (m * n * words * 4) as u64);
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    Ok(Tensor::gpu(dtype, m, cols, out))
}

/// [`matmul_i8`] on a GPU in tiles of one size, for probes, tests and benches: it chooses by the number of outputs.
///
/// # Errors
///
/// As [`matmul_i8`].
pub fn matmul_i8_in_tiles(
    gpu: &Gpu,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
    tile: Tile,
) -> Result<Tensor> {
    expect(KERNEL.name, a, w, channels, epilogue)?;
    on_gpu(gpu, a, w, channels, epilogue, tile)
}
