use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    gpu::{Gpu, Kernel},
    kernels::{
        products::int8::{Channels, expect_codes},
        tasks::task_rows,
    },
    parallel::chunks,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "requantize",
    wgsl: wgsl!("lib/grid", "lib/fixed_point", "products/requantize"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    words: u32,
    total: u32,
    zero_point: i32,
    lowest: i32,
    highest: i32,
}

/// A real number as an integer and a shift: `real ≈ multiplier * 2^-shift`, for channels and [`requantize`](requantize()).
///
/// The multiplier lies in `2^30..2^31`, the shift in 1 to 62, and the relative error is at most 2^-31, for reals of 2^-32 to
/// 2^30. No sum of 32 bits makes a code differ from zero's below that range, nor one other than zero stay within the codes
/// beyond it: the first becomes zero, the second the largest multiplier, and both are exact in effect. A negative number or a
/// NaN counts as zero.
///
/// # Source
///
/// Jacob et al. 2018, arXiv 1712.05877, section 2.2.
///
/// # Example
///
/// ```
/// use tersor::kernels::multiplier;
///
/// assert_eq!(multiplier(1.0), (1 << 30, 30));
/// assert_eq!(multiplier(0.75), (3 << 29, 31));
/// assert_eq!(multiplier(-1.0).0, 0);
/// ```
pub fn multiplier(real: f64) -> (i32, u32) {
    let (fraction, exponent) = libm::frexp(real.max(0.0).min(2f64.powi(30)));
    let rounded = (fraction * 2f64.powi(31)).round_ties_even();
    let (multiplier, shift) = match rounded == 2f64.powi(31) {
        true => (1 << 30, 30 - exponent),
        false => (rounded as i32, 31 - exponent),
    };
    match shift {
        ..=0 => (i32::MAX, 1),
        1..=62 => (multiplier, shift as u32),
        _ => (0, 62),
    }
}

/// Turns integer sums into codes of 8 bits without floating point.
///
/// `codes[m, n] = clamp(zero_point + floor(sums[m, n] * multiplier[n] / 2^shift[n] + 1/2), lowest, highest)`, with a product
/// of 64 bits: a rounding right shift, whose ties go up
///
/// - `sums`: I32 `[M, N]`, as [`Epilogue::Sum`](crate::kernels::products::int8::Epilogue::Sum) leaves them: offsets and zero points are in them, and
///   not looked at again.
/// - `channels`: `[N]`, with [`multiplier`]s and shifts.
/// - `zero_point`, `lowest`, `highest`: the code of zero and the range of codes, -128 to 127 or 0 to 255; `lowest =
///   zero_point` makes it a ReLU.
/// - returns U32 `[M, ceil(N / 4)]`: four codes to a word, the first in the low byte, signed ones as two's complement,
///   padding zero.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if the sums are none, the channels do not fit them, or the range is none; [`Error::Gpu`] if the device
/// fails.
///
/// # Source
///
/// Jacob et al. 2018, arXiv 1712.05877, sections 2.2 to 2.4; the rounding of ties is ours.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels::{self, Channels, multiplier}};
///
/// let on = Backend::Cpu;
/// let sums = [10, -3, 1, 1000].map(|sum: i32| sum as u32);
/// let sums = Tensor::new(&on, DType::I32, 1, 4, sums.to_vec())?;
/// let (half, shift) = multiplier(0.5);
/// let channels = Channels::new(&on, &[[0, 0, half as u32, shift]; 4])?;
/// let codes = kernels::requantize(&on, &sums, &channels, 0, -128, 127)?.read(&on)?;
/// // 5; -1.5 and 0.5, whose ties go up to -1 and 1; and the largest code.
/// assert_eq!(codes[0].to_le_bytes().map(|code| code as i8), [5, -1, 1, 127]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn requantize(
    on: &Backend,
    sums: &Tensor,
    channels: &Channels,
    zero_point: i32,
    lowest: i32,
    highest: i32,
) -> Result<Tensor> {
    if sums.dtype() != DType::I32 {
        return Err(Error::shape(KERNEL.name, "sums", sums.dtype().name(), "I32"));
    }
    channels.expect(KERNEL.name, sums.cols())?;
    channels.expect_fixed_point(KERNEL.name)?;
    expect_codes(KERNEL.name, zero_point, lowest, highest)?;
    let (m, n) = (sums.rows(), sums.cols());
    match on {
        Backend::Cpu => {
            let (sums, table) = (bytemuck::cast_slice(sums.words()?), channels.table().words()?);
            let codes = reference(sums, n, table, zero_point, lowest, highest);
            Ok(Tensor::cpu(DType::U32, m, bitpack::words(n, 8), codes))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, sums, channels, zero_point, lowest, highest),
    }
}

pub(crate) fn reference(
    sums: &[i32],
    n: usize,
    channels: &[u32],
    zero_point: i32,
    lowest: i32,
    highest: i32,
) -> Vec<u32> {
    let (m, words) = (sums.len() / n.max(1), bitpack::words(n, 8));
    let mut packed = vec![0; m * words];
    let task = task_rows(m, n);
    chunks(&mut packed, task * words, &|t, packed| {
        let mut codes = vec![0; n];
        for (packed, sums) in packed.chunks_mut(words).zip(sums[t * task * n..].chunks(n)) {
            round(sums, channels, zero_point, (lowest, highest), &mut codes);
            bitpack::pack(&codes, 8, packed);
        }
    });
    packed
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn round(
    sums: &[i32],
    channels: &[u32],
    zero_point: i32,
    (lowest, highest): (i32, i32),
    codes: &mut [u8],
) {
    let channels = channels.as_chunks::<4>().0;
    for ((sum, [.., multiplier, shift]), code) in sums.iter().zip(channels).zip(codes) {
        let product = i64::from(*sum) * i64::from(*multiplier);
        let scaled = (product + (1 << (shift - 1))) >> shift;
        *code = (scaled + i64::from(zero_point)).clamp(lowest.into(), highest.into()) as u8;
    }
}

pub(crate) fn on_gpu(
    gpu: &Gpu,
    sums: &Tensor,
    channels: &Channels,
    zero_point: i32,
    lowest: i32,
    highest: i32,
) -> Result<Tensor> {
    let (m, n) = (sums.rows(), sums.cols());
    let words = bitpack::words(n, 8);
    let (total, out) = (m * words, gpu.alloc(4 * m * words)?);
    let params = Params {
        n: n as u32,
        words: words as u32,
        total: total as u32,
        zero_point,
        lowest,
        highest,
    };
    let buffers = [sums.buffer()?, channels.table().buffer()?, &out];
    gpu.dispatch(&KERNEL, &[], &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(DType::U32, m, words, out))
}
