use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::affine::SMALLEST,
    gpu::{Gpu, Kernel},
    kernels::{affine::quantize::round, products::int8::Int8},
    wgsl,
};
use multiversion::multiversion;
use rayon::prelude::*;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "quantize_rows",
    wgsl: wgsl!("lib/grid", "lib/rounding", "products/quantize_rows"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    words: u32,
}

/// Activations as codes, with a scale and a zero point for each row.
#[derive(Clone, Debug)]
pub struct Int8Rows {
    /// Unsigned codes.
    pub codes: Int8,
    /// F32 `[rows, 2]`: scale and zero point; a code stands for `(code - zero point) * scale`.
    pub scales: Tensor,
}

/// Rounds activations to unsigned codes of 8 bits, each row on a scale of its own that its extremes decide.
///
/// With `low = max(0, max_c -x[r, c])` and `high = max(0, max_c x[r, c])`:
/// `zero[r] = floor(255 low / (low + high) + 1/2)`, of 24-bit mantissas at the exponent of the larger;
/// `scale[r] = max(f32(f64(low) / zero[r]), f32(f64(high) / (255 - zero[r])))`, without a quotient by 0;
/// `codes[r, c] = clamp(round_ties_even(x[r, c] * f32(1 / f64(scale[r]))) + zero[r], 0, 255)`
///
/// - `x`: F32 `[rows, cols]`. A row whose largest magnitude is below 2^-110 gets scale 0 and codes 0. A row that holds a NaN
///   or an infinity gets a NaN for its scale, so that whatever is made of it is NaN too, and codes 0.
/// - returns codes and scales, on the backend where `x` is.
///
/// Agreement: exact. A device finds all quotients by integer division, which gives the same bits: no quotient comes so near a
/// tie of f32, without being one, that the way through f64 could matter.
///
/// # Errors
///
/// [`Error::Shape`] if `x` is not F32; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Dynamic quantization by row: Yao et al. 2022 (ZeroQuant), arXiv 2206.01861; zero points: Jacob et al. 2018, arXiv 1712.05877.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let x = Tensor::from_f32(&on, &[0.0, 1.0, 2.0, 255.0, -1.0, 0.0, 1.0, 254.0], 2)?;
/// let rows = kernels::quantize_rows(&on, &x)?;
/// // Both rows reach over 255 steps of 1; the second has zero at code 1.
/// assert_eq!(rows.scales.read_f32(&on)?, [1.0, 0.0, 1.0, 1.0]);
/// assert_eq!(rows.codes.words.read(&on)?, [0xff02_0100, 0xff02_0100]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn quantize_rows(on: &Backend, x: &Tensor) -> Result<Int8Rows> {
    if x.dtype() != DType::F32 {
        return Err(Error::shape(KERNEL.name, "x", x.dtype().name(), "F32"));
    }
    let (words, scales) = match on {
        Backend::Cpu => reference(x)?,
        Backend::Gpu(gpu) => on_gpu(gpu, x, !gpu.numerics().rounds_exactly())?,
    };
    Ok(Int8Rows { codes: Int8 { words, cols: x.cols(), signed: false }, scales })
}

/// Codes and scales.
fn reference(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, cols, words) = (x.rows(), x.cols(), bitpack::words(x.cols(), 8));
    let x: &[f32] = bytemuck::cast_slice(x.words()?);
    let (mut packed, mut scales) = (vec![0; rows * words], vec![0; 2 * rows]);
    let outputs = scales.par_chunks_mut(2).zip(packed.par_chunks_mut(words.max(1)));
    outputs.zip(x.par_chunks(cols.max(1))).for_each_init(
        || vec![0; cols],
        |codes, ((scale, packed), x)| {
            let [low, high] = reach(x);
            let absmax = f32::from_bits(low.max(high));
            if !absmax.is_finite() {
                scale[0] = f32::NAN.to_bits();
            } else if absmax >= SMALLEST {
                let zero = zero_point(low, high);
                let quotient = |magnitude: u32, steps: u32| match steps {
                    0 => 0.0,
                    _ => (f64::from(f32::from_bits(magnitude)) / f64::from(steps)) as f32,
                };
                let found = quotient(low, zero).max(quotient(high, 255 - zero));
                scale.copy_from_slice(&[found.to_bits(), (zero as f32).to_bits()]);
                let inverse = (1.0 / f64::from(found)) as f32;
                round(x, inverse, zero as i32, (0, 255), codes);
                bitpack::pack(codes, 8, packed);
            }
        },
    );
    Ok((Tensor::cpu(DType::U32, rows, words, packed), Tensor::cpu(DType::F32, rows, 2, scales)))
}

/// The largest magnitudes below zero and above, as bits: a NaN is larger than the infinities.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn reach(x: &[f32]) -> [u32; 2] {
    x.iter().fold([0, 0], |[low, high], x| {
        let (bits, magnitude) = (x.to_bits(), x.to_bits() & 0x7fff_ffff);
        // All ones for negative numbers.
        let negative = (bits as i32 >> 31) as u32;
        [low.max(magnitude & negative), high.max(magnitude & !negative)]
    })
}

/// The code of zero in a row that reaches from `-low` to `high`, given as bits of which the larger is a normal number.
fn zero_point(low: u32, high: u32) -> u32 {
    let exponent = low.max(high) >> 23;
    let mantissa = |magnitude: u32| {
        let shift = exponent - (magnitude >> 23);
        match magnitude < 1 << 23 || shift > 23 {
            true => 0,
            false => (magnitude & 0x7f_ffff | 0x80_0000) >> shift,
        }
    };
    let (a, b) = (mantissa(low), mantissa(high));
    (255 * a + (a + b) / 2) / (a + b)
}

fn on_gpu(gpu: &Gpu, x: &Tensor, integer: bool) -> Result<(Tensor, Tensor)> {
    let (rows, cols, words) = (x.rows(), x.cols(), bitpack::words(x.cols(), 8));
    let (codes, scales) = (gpu.alloc(4 * rows * words)?, gpu.alloc(8 * rows)?);
    let lanes = words.next_power_of_two().clamp(1, KERNEL.workgroup as usize) as u32;
    let params = Params { rows: rows as u32, cols: cols as u32, words: words as u32 };
    let aligned = cols > 0 && cols.is_multiple_of(4);
    let constants = [
        ("LANES", lanes.into()),
        ("ALIGNED", f64::from(u8::from(aligned))),
        ("INTEGER", f64::from(u8::from(integer))),
    ];
    let x = x.buffer()?;
    let unread = gpu.zeros(16)?;
    let buffers = [x, if aligned { x } else { &unread }, &codes, &scales];
    let workgroups = (rows as u64).div_ceil((KERNEL.workgroup / lanes).into());
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, workgroups)?;
    Ok((Tensor::gpu(DType::U32, rows, words, codes), Tensor::gpu(DType::F32, rows, 2, scales)))
}

/// [`quantize_rows`] on a GPU by its integer path, for the tests: devices that need it are rare.
///
/// # Errors
///
/// As [`quantize_rows`].
pub fn quantize_rows_in_integers(gpu: &Gpu, x: &Tensor) -> Result<Int8Rows> {
    let (words, scales) = on_gpu(gpu, x, true)?;
    Ok(Int8Rows { codes: Int8 { words, cols: x.cols(), signed: false }, scales })
}
