use crate::{
    Backend, DType, Result, Tensor,
    decide::{groups::Groups, order_key, range::Range},
    dtype,
    gpu::{Gpu, Kernel},
    parallel::spans,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "range",
    wgsl: wgsl!("lib/grid", "lib/dtype", "affine/range"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    group: u32,
    first: u32,
    per_group: u32,
    slice: u32,
    slices: u32,
}

/// Weights that one workgroup looks at: enough to fill it, few enough that a long group fills the device.
const SLICE: usize = 1 << 16;

/// The range of every group of a tile.
///
/// `ranges[g] = (min, max)` over the elements of group `g` that are in `weights`
///
/// - `weights`: a weight type, any shape; F64 is taken as f32, rounded to nearest even.
/// - `groups`: how the elements fall into groups; a tile may start and end inside a group.
/// - returns one range per group that the tile touches.
///
/// Agreement: exact (comparisons of order keys, which are integers).
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the elements are no weights; [`Error::Gpu`](crate::Error::Gpu) if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[1.0, -2.0, 3.0, 0.0, 0.5, 0.5, 4.0, -8.0], 2)?;
/// let ranges = kernels::range(&on, &weights, Groups::of(4))?;
/// let ends: Vec<_> = ranges.iter().map(|r| (r.min, r.max)).collect();
/// assert_eq!(ends, [(-2.0, 3.0), (-8.0, 4.0)]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn range(on: &Backend, weights: &Tensor, groups: Groups) -> Result<Vec<Range>> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    if weights.elements() == 0 {
        return Ok(Vec::new());
    }
    match on {
        Backend::Cpu => {
            Ok(reference(weights.dtype(), weights.words()?, weights.elements(), groups))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, groups),
    }
}

fn reference(dtype: DType, words: &[u32], elements: usize, groups: Groups) -> Vec<Range> {
    let mut ranges = vec![Range { min: 0.0, max: 0.0 }; groups.count(elements)];
    spans(&mut ranges, 1, (1 << 20) / groups.size.min(1 << 20) + 1, &|first, ranges| {
        let mut chunk = [0.0; 1024];
        for (g, found) in (first..).zip(ranges) {
            let span = groups.span(g, elements);
            let mut range = (i32::MAX, i32::MIN);
            if dtype == DType::BF16 {
                let (low, high) = widest_halves(&bytemuck::cast_slice(words)[span]);
                // What is below the upper half of a key is below that of its value.
                let key = |key: i16| i32::from(key) << 16 | (i32::from(key) >> 31) & 0xffff;
                range = (key(low), key(high));
            } else {
                for start in span.clone().step_by(chunk.len()) {
                    let chunk = &mut chunk[..(span.end - start).min(1024)];
                    dtype::decode(dtype, words, start, chunk);
                    range = widest(chunk, range);
                }
            }
            *found = Range { min: from_signed_key(range.0), max: from_signed_key(range.1) };
        }
    });
    ranges
}

/// IEEE total order as the order of signed integers, which every SIMD instruction set compares.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn widest(weights: &[f32], (mut low, mut high): (i32, i32)) -> (i32, i32) {
    for w in weights {
        let bits = w.to_bits() as i32;
        let key = bits ^ ((bits >> 31) as u32 >> 1) as i32;
        (low, high) = (low.min(key), high.max(key));
    }
    (low, high)
}

/// The same of the patterns of BF16, which are the upper halves of those of f32.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn widest_halves(weights: &[u16]) -> (i16, i16) {
    let (mut low, mut high) = (i16::MAX, i16::MIN);
    for w in weights {
        let bits = *w as i16;
        let key = bits ^ ((bits >> 15) as u16 >> 1) as i16;
        (low, high) = (low.min(key), high.max(key));
    }
    (low, high)
}

fn from_signed_key(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) as u32 >> 1) as i32) as u32)
}

fn on_gpu(gpu: &Gpu, weights: &Tensor, groups: Groups) -> Result<Vec<Range>> {
    let elements = weights.elements();
    let (group, first) = groups.for_device(elements);
    let per_group = (group as usize).div_ceil(SLICE);
    let slices = groups.count(elements) * per_group;
    let lanes = (group.min(SLICE as u32) / 4).next_power_of_two().clamp(1, 256);
    let out = gpu.alloc(8 * slices)?;
    let params = Params {
        elements: elements as u32,
        group,
        first,
        per_group: per_group as u32,
        slice: SLICE as u32,
        slices: slices as u32,
    };
    let constants = [("LANES", lanes.into()), ("DTYPE", dtype::code(weights.dtype()))];
    let workgroups = (slices as u64).div_ceil(u64::from(KERNEL.workgroup / lanes));
    gpu.dispatch(&KERNEL, &constants, &params, &[weights.buffer()?, &out], workgroups)?;
    let keys = gpu.read(&out, 2 * slices)?;
    // A slice beyond the end of a shorter group changes nothing.
    let unite = |slices: &[u32]| {
        let pairs = slices.chunks_exact(2);
        let (low, high) = pairs.fold((u32::MAX, 0), |(a, b), k| (a.min(k[0]), b.max(k[1])));
        Range { min: order_key::to_f32(low), max: order_key::to_f32(high) }
    };
    Ok(keys.chunks_exact(2 * per_group).map(unite).collect())
}
