use super::{Int8, Range, quantize::round};
use crate::{
    Backend, DType, Error, Result, Tensor,
    affine::AffineCode,
    codec::bitpack,
    gpu::{Gpu, Kernel},
    wgsl,
};
use multiversion::multiversion;
use rayon::prelude::*;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "quantize_rows",
    wgsl: wgsl!("lib/grid", "lib/rounding", "quantize_rows"),
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

/// Activations as codes, with one scale for each row.
#[derive(Clone, Debug)]
pub struct Int8Rows {
    /// Signed codes, -127 to 127.
    pub codes: Int8,
    /// F32 `[rows, 1]`: a code stands for `code * scale`.
    pub scales: Tensor,
}

/// Rounds activations to signed codes of 8 bits, each row on a scale of its own that its largest magnitude decides.
///
/// `scale[r] = f32(f64(max_c |x[r, c]|) / 127)`,
/// `codes[r, c] = clamp(round_ties_even(x[r, c] * f32(1 / f64(scale[r]))), -127, 127)`
///
/// - `x`: F32 `[rows, cols]`. A row whose largest magnitude is below 2^-110 gets scale 0 and codes 0. A row that holds a NaN
///   or an infinity gets a NaN for its scale, so that whatever is made of it is NaN too, and codes 0.
/// - returns codes and scales, on the backend where `x` is.
///
/// Agreement: exact. A device finds both quotients by integer division, which gives the same bits: neither quotient comes
/// near enough to a tie of f32 for the way through f64 to matter.
///
/// # Errors
///
/// [`Error::Shape`] if `x` is not F32; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Dynamic quantization by row: Yao et al. 2022 (ZeroQuant), arXiv 2206.01861.
pub fn quantize_rows(on: &Backend, x: &Tensor) -> Result<Int8Rows> {
    if x.dtype() != DType::F32 {
        return Err(Error::shape(KERNEL.name, "x", x.dtype().name(), "F32"));
    }
    let (words, scales) = match on {
        Backend::Cpu => reference(x)?,
        Backend::Gpu(gpu) => on_gpu(gpu, x, !gpu.numerics().rounds_exactly())?,
    };
    Ok(Int8Rows { codes: Int8 { words, cols: x.cols(), signed: true }, scales })
}

/// Codes and scales.
fn reference(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, cols, words) = (x.rows(), x.cols(), bitpack::words(x.cols(), 8));
    let x: &[f32] = bytemuck::cast_slice(x.words()?);
    let (mut packed, mut scales) = (vec![0; rows * words], vec![0; rows]);
    let outputs = scales.par_iter_mut().zip(packed.par_chunks_mut(words.max(1)));
    outputs.zip(x.par_chunks(cols.max(1))).for_each_init(
        || vec![0; cols],
        |codes, ((scale, packed), x)| {
            let absmax = absmax(x);
            if !absmax.is_finite() {
                *scale = f32::NAN.to_bits();
                return;
            }
            let code = AffineCode { bits: 8, symmetric: true };
            let range = code.scale(Range { min: -absmax, max: absmax }, 64);
            *scale = range.scale.to_bits();
            round(x, range.inverse(), 0, code.limits(), codes);
            bitpack::pack(codes, 8, packed);
        },
    );
    Ok((Tensor::cpu(DType::U32, rows, words, packed), Tensor::cpu(DType::F32, rows, 1, scales)))
}

/// The largest magnitude, of bits: a NaN is larger than the infinities.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn absmax(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff)))
}

fn on_gpu(gpu: &Gpu, x: &Tensor, integer: bool) -> Result<(Tensor, Tensor)> {
    let (rows, cols, words) = (x.rows(), x.cols(), bitpack::words(x.cols(), 8));
    let (codes, scales) = (gpu.alloc(4 * rows * words)?, gpu.alloc(4 * rows)?);
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
    Ok((Tensor::gpu(DType::U32, rows, words, codes), Tensor::gpu(DType::F32, rows, 1, scales)))
}

/// [`quantize_rows`] on a GPU by its integer path, for the tests: devices that need it are rare.
///
/// # Errors
///
/// As [`quantize_rows`].
pub fn quantize_rows_in_integers(gpu: &Gpu, x: &Tensor) -> Result<Int8Rows> {
    let (words, scales) = on_gpu(gpu, x, true)?;
    Ok(Int8Rows { codes: Int8 { words, cols: x.cols(), signed: true }, scales })
}
