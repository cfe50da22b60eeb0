use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::{
        affine::{AffineCode, Scale},
        groups::Groups,
    },
    dtype,
    gpu::{Gpu, Kernel},
    kernels::{affine::quantize::expect_code, tasks::task_rows},
    parallel::chunks,
    scratch,
    simd::{self, look_up_halves},
    wgsl, words,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    wgsl: wgsl!("lib/grid", "lib/dtype", "affine/dequantize", "lib/restored"),
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
    total: u32,
}

/// Restores weights from codes.
///
/// `weights[r, c] = (codes[r, c] - zero_point) * scale`, one f32 multiply, rounded to `dtype`; beyond its range: its largest
/// finite value
///
/// - `codes`: U32 `[rows, words]`, as [`quantize`](crate::kernels::affine::quantize::quantize()) packs them; `cols`: codes per row.
/// - `groups`, `scales`: which elements share a scale, and the scale of every group that the tile touches.
/// - returns `dtype` `[rows, cols]`.
///
/// Agreement: exact: one multiply of normal numbers, one rounding by integer code.
///
/// # Errors
///
/// [`Error::Shape`] if `dtype` holds no weights, or codes or scales do not fit; [`Error::Gpu`] if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, affine::{AffineCode, Scale}, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// // The codes 2, -4, 0 and 2.
/// let codes = Tensor::new(&on, DType::U32, 1, 1, vec![0x20c2])?;
/// let (int4, half) = (AffineCode { bits: 4, symmetric: true }, Scale { scale: 0.5, zero_point: 0 });
/// let weights = kernels::dequantize(&on, &codes, 4, int4, Groups::of(4), &[half], DType::F32)?;
/// assert_eq!(weights.read_f32(&on)?, [1.0, -2.0, 0.0, 1.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn dequantize(
    on: &Backend,
    codes: &Tensor,
    cols: usize,
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Result<Tensor> {
    expect_code(KERNEL.name, code, groups.count(codes.rows() * cols), scales)?;
    let expected = bitpack::words(cols, code.bits.into());
    if codes.cols() != expected || codes.dtype() != DType::U32 {
        return Err(Error::shape(KERNEL.name, "words per row", codes.cols(), expected));
    }
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    match on {
        Backend::Cpu => {
            let shape = (codes.rows(), cols);
            let weights = reference(codes.words()?, shape, code, groups, scales, dtype);
            Ok(Tensor::cpu(dtype, codes.rows(), cols, weights))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, codes, cols, code, groups, scales, dtype),
    }
}

fn reference(
    codes: &[u32],
    (rows, cols): (usize, usize),
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Vec<u32> {
    let bits = code.bits.into();
    let packed_cols = bitpack::words(cols, bits);
    let task = task_rows(rows, cols);
    let looked_up = dtype.bytes(1) == 2 && simd::looks_up_halves(1 << bits);
    let mut weights = scratch::words(words(dtype, rows * cols));
    chunks(&mut weights, words(dtype, task * cols), &|t, weights| {
        let mut values = vec![0.0; cols.min(CHUNK)];
        // Codes of a byte are there as they are.
        let mut narrow = vec![0; if bits < 8 { cols } else { 0 }];
        let mut table = Table { of: None, values: [0.0; 256], patterns: [0; 128] };
        for r in t * task..rows.min((t + 1) * task) {
            let packed = &codes[r * packed_cols..][..packed_cols];
            let row = match bits {
                8 => &bytemuck::cast_slice(packed)[..cols],
                _ => {
                    bitpack::unpack(packed, bits, &mut narrow);
                    &narrow[..]
                }
            };
            for (span, scale) in groups.spans(r * cols..(r + 1) * cols, scales) {
                let first = span.start - t * task * cols;
                let codes = &row[span.start - r * cols..span.end - r * cols];
                if looked_up && codes.len() >= WORTH << bits {
                    let out = &mut bytemuck::cast_slice_mut(weights)[first..][..codes.len()];
                    look_up_halves(table.fill(code, scale, dtype), 1 << bits, codes, out);
                    continue;
                }
                for (codes, at) in codes.chunks(CHUNK).zip((first..).step_by(CHUNK)) {
                    let values = &mut values[..codes.len()];
                    restore_codes(codes, code, scale, values);
                    dtype::encode(dtype, values, weights, at);
                }
            }
        }
    });
    weights
}

/// So many weights for every code of a group are worth a table of what each becomes.
const WORTH: usize = 4;

/// What every code of a group becomes, in a type of two bytes.
struct Table {
    of: Option<Scale>,
    values: [f32; 256],
    patterns: [u32; 128],
}

/// Every byte.
static BYTES: [u8; 256] = {
    let (mut bytes, mut i) = ([0; 256], 0);
    while i < 256 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

impl Table {
    fn fill(&mut self, code: AffineCode, scale: Scale, dtype: DType) -> &[u16; 256] {
        if self.of != Some(scale) {
            let values = &mut self.values[..1 << code.bits];
            restore_codes(&BYTES[..values.len()], code, scale, values);
            dtype::encode(dtype, values, &mut self.patterns, 0);
            self.of = Some(scale);
        }
        bytemuck::cast_ref(&self.patterns)
    }
}

/// What codes stand for, of a group of this scale.
fn restore_codes(codes: &[u8], code: AffineCode, scale: Scale, values: &mut [f32]) {
    match (code.symmetric, code.bits) {
        (true, 8) => restore_bytes(codes, scale.scale, values),
        // A signed code's sign bit moves to the top of the byte and back.
        (true, bits) => restore_signed(codes, 8 - u32::from(bits), scale.scale, values),
        (false, _) => restore(codes, scale.zero_point.into(), scale.scale, values),
    }
}

/// Weights that are restored at a time: they stay in the first cache.
const CHUNK: usize = 2048;

/// As [`restore_signed`], of codes that fill their bytes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn restore_bytes(codes: &[u8], scale: f32, values: &mut [f32]) {
    for (code, value) in codes.iter().zip(values) {
        *value = f32::from(*code as i8) * scale;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn restore_signed(codes: &[u8], up: u32, scale: f32, values: &mut [f32]) {
    for (code, value) in codes.iter().zip(values) {
        *value = f32::from((code << up) as i8 >> up) * scale;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn restore(codes: &[u8], zero_point: i32, scale: f32, values: &mut [f32]) {
    for (code, value) in codes.iter().zip(values) {
        *value = (i32::from(*code) - zero_point) as f32 * scale;
    }
}

fn on_gpu(
    gpu: &Gpu,
    codes: &Tensor,
    cols: usize,
    code: AffineCode,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Result<Tensor> {
    let (rows, elements) = (codes.rows(), codes.rows() * cols);
    let out = gpu.alloc(4 * words(dtype, elements))?;
    let pairs: Vec<[u32; 2]> =
        scales.iter().map(|s| [s.scale.to_bits(), s.zero_point.into()]).collect();
    let total = if dtype == DType::F64 { elements } else { words(dtype, elements) };
    let (group, first) = groups.for_device(elements);
    let params = Params {
        elements: elements as u32,
        cols: cols as u32,
        words: codes.cols() as u32,
        group,
        first,
        total: total as u32,
    };
    let constants = [
        ("DTYPE", dtype::code(dtype)),
        ("BITS", code.bits.into()),
        ("SIGNED", f64::from(u8::from(code.symmetric))),
    ];
    let buffers = [codes.buffer()?, &gpu.upload(&pairs)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(dtype, rows, cols, out))
}
