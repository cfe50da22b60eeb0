use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::{
        affine::{AffineCode, Scale},
        groups::Groups,
    },
    dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    scratch, wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "quantize",
    wgsl: wgsl!("lib/grid", "lib/dtype", "lib/bits", "lib/rounding", "affine/quantize"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    cols: u32,
    words: u32,
    group: u32,
    first: u32,
    lowest: i32,
    highest: i32,
    total: u32,
}

/// Rounds weights to integer codes and packs them.
///
/// `codes[r, c] = clamp(round_ties_even(weights[r, c] * inverse(scale)) + zero_point, lowest, highest)`
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `groups`, `scales`: which elements share a scale, and the scale of every group that the tile touches.
/// - returns U32 `[rows, words]`: each row of codes starts on a 32-bit boundary, first code in the low bits, signed codes as
///   two's complement, padding zero.
///
/// Agreement: exact: one multiply, one rounding, one clamp. A device whose own rounding is not IEEE's does both roundings in
/// integers.
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights, the code has not 2 to 8 bits, or the scales do not fit the groups;
/// [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Jacob et al. 2018, arXiv 1712.05877.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::{AffineCode, Scale}, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -2.0, 0.25, 0.75], 1)?;
/// let (int4, half) = (AffineCode { bits: 4, symmetric: true }, Scale { scale: 0.5, zero_point: 0 });
/// let codes = kernels::quantize(&on, &weights, int4, Groups::of(4), &[half])?;
/// // 2, -4, and the ties 0.5 and 1.5, which go to the even 0 and 2.
/// assert_eq!(codes.read(&on)?, [0x20c2]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn quantize(
    on: &Backend,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    expect_code(KERNEL.name, code, groups.count(weights.elements()), scales)?;
    let (rows, cols) = (weights.rows(), weights.cols());
    match on {
        Backend::Cpu => {
            let codes =
                reference(weights.dtype(), weights.words()?, (rows, cols), code, groups, scales);
            Ok(Tensor::cpu(DType::U32, rows, bitpack::words(cols, code.bits.into()), codes))
        }
        Backend::Gpu(gpu) => {
            let integer = !gpu.numerics().rounds_exactly()
                || scales.iter().any(|s| s.inverse().is_subnormal());
            on_gpu(gpu, weights, code, groups, scales, integer)
        }
    }
}

/// Refuses an alphabet or a number of scales that does not fit.
pub(crate) fn expect_code(
    kernel: &'static str,
    code: AffineCode,
    groups: usize,
    scales: &[Scale],
) -> Result<()> {
    if !(2..=8).contains(&code.bits) {
        return Err(Error::shape(kernel, "bits", code.bits, "2 to 8"));
    }
    if scales.len() != groups {
        return Err(Error::shape(kernel, "scales", scales.len(), groups));
    }
    Ok(())
}

fn reference(
    dtype: DType,
    weights: &[u32],
    (rows, cols): (usize, usize),
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
) -> Vec<u32> {
    let bits = code.bits.into();
    let words = bitpack::words(cols, bits);
    let mut packed = scratch::words(rows * words);
    let task = task_rows(rows, cols);
    chunks(&mut packed, task * words, &|t, packed| {
        let mut values = vec![0.0; cols.min(CHUNK)];
        // Codes of a byte are packed as they are.
        let mut narrow = vec![0; if bits < 8 { cols } else { 0 }];
        for (r, packed) in packed.chunks_mut(words.max(1)).enumerate() {
            let start = (t * task + r) * cols;
            let codes = match bits {
                8 => {
                    let (codes, padding) = bytemuck::cast_slice_mut(packed).split_at_mut(cols);
                    padding.fill(0);
                    codes
                }
                _ => &mut narrow[..],
            };
            for (span, scale) in groups.spans(start..start + cols, scales) {
                let inverse = scale.inverse();
                if dtype == DType::BF16 {
                    let halves = &bytemuck::cast_slice(weights)[span.clone()];
                    let codes = &mut codes[span.start - start..span.end - start];
                    round_halves(halves, inverse, scale.zero_point.into(), code.limits(), codes);
                    continue;
                }
                for at in span.clone().step_by(CHUNK) {
                    let values = &mut values[..(span.end - at).min(CHUNK)];
                    dtype::decode(dtype, weights, at, values);
                    let codes = &mut codes[at - start..][..values.len()];
                    round(values, inverse, scale.zero_point.into(), code.limits(), codes);
                }
            }
            if bits < 8 {
                bitpack::pack(&narrow, bits, packed);
            }
        }
    });
    packed
}

/// Weights that are decoded at a time: they stay in the first cache.
const CHUNK: usize = 2048;

/// Adding this to a float below 2^22 in magnitude rounds it to an integer, ties to even, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn round(
    weights: &[f32],
    inverse: f32,
    zero_point: i32,
    (lowest, highest): (i32, i32),
    codes: &mut [u8],
) {
    for (w, code) in weights.iter().zip(codes) {
        *code = rounded(*w, inverse, zero_point, (lowest, highest));
    }
}

/// The same of the patterns of BF16.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn round_halves(
    weights: &[u16],
    inverse: f32,
    zero_point: i32,
    limits: (i32, i32),
    codes: &mut [u8],
) {
    for (w, code) in weights.iter().zip(codes) {
        *code = rounded(f32::from_bits(u32::from(*w) << 16), inverse, zero_point, limits);
    }
}

#[inline(always)]
fn rounded(w: f32, inverse: f32, zero_point: i32, (lowest, highest): (i32, i32)) -> u8 {
    let rounded =
        ((w * inverse).clamp(-1000.0, 1000.0) + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
    (rounded + zero_point).clamp(lowest, highest) as u8
}

fn on_gpu(
    gpu: &Gpu,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
    integer: bool,
) -> Result<Tensor> {
    let (rows, cols, bits) = (weights.rows(), weights.cols(), u32::from(code.bits));
    let words = bitpack::words(cols, bits);
    let out = gpu.alloc(rows * words * 4)?;
    let pairs: Vec<[u32; 2]> =
        scales.iter().map(|s| [s.inverse().to_bits(), s.zero_point.into()]).collect();
    let (group, first) = groups.for_device(weights.elements());
    let (lowest, highest) = code.limits();
    let total = (rows * words) as u32;
    let params = Params {
        elements: weights.elements() as u32,
        cols: cols as u32,
        words: words as u32,
        group,
        first,
        lowest,
        highest,
        total,
    };
    let constants = [
        ("DTYPE", dtype::code(weights.dtype())),
        ("BITS", bits.into()),
        ("INTEGER", f64::from(u8::from(integer))),
    ];
    let buffers = [weights.buffer()?, &gpu.upload(&pairs)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total.into()))?;
    Ok(Tensor::gpu(DType::U32, rows, words, out))
}

/// [`quantize`] on a GPU by its integer path, for the tests: devices that need it are rare.
///
/// # Errors
///
/// As [`quantize`].
pub fn quantize_in_integers(
    gpu: &Gpu,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
) -> Result<Tensor> {
    on_gpu(gpu, weights, code, groups, scales, true)
}
