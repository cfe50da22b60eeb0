use crate::{
    Backend, Error, Result, Tensor,
    decide::{
        affine::{AffineCode, CLIP_COUNT, CLIPS, ClipErrors, ClipGrid, best_clip, reciprocals},
        groups::Groups,
    },
    dtype,
    gpu::{Gpu, Kernel},
    parallel::spans,
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "clip_errors",
    wgsl: wgsl!("lib/grid", "lib/dtype", "affine/clip_errors"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    group: u32,
    first: u32,
    per_group: u32,
    shift: u32,
    slices: u32,
}

/// Weights that one workgroup sums: far below the 65,535 iterations after which some software drivers end every loop.
const SLICE: usize = 4096;

/// The squared error of every group at every clip of its range.
///
/// `errors[g][i] = sum of (u - restored(u))²` over the weights of group `g` in the tile, clipped at `(32 + i) / 64` of its
/// range, in the integers that [`ClipGrid`] defines
///
/// - `weights`: finite; F64 is taken as f32, rounded to nearest even. At most 2^26 a tile, so that no sum overflows.
/// - `grids`: one for every group that the tile touches.
///
/// Agreement: exact: one multiply and one rounding to u, then integers.
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights or the grids do not fit the groups; [`Error::Gpu`] if the device fails, or
/// does not round as IEEE.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::{AffineCode, ClipGrid}, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0], 1)?;
/// let (groups, int2) = (Groups::of(8), AffineCode { bits: 2, symmetric: true });
/// let range = kernels::range(&on, &weights, groups)?[0];
/// let errors = kernels::clip_errors(&on, &weights, int2, groups, &[ClipGrid::new(int2, range)])?;
/// // The largest code is 1. Clipped at half of the range the 1 becomes 1/2, else the seven halves
/// // become 1: in units of 1/32767, where 1/2 is 16384, an error of 16383 each.
/// assert_eq!(errors[0][0], 16383 * 16383);
/// assert_eq!(errors[0][32], 7 * 16383 * 16383);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn clip_errors(
    on: &Backend,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
) -> Result<Vec<ClipErrors>> {
    check(weights, groups, grids)?;
    match on {
        Backend::Cpu => reference(weights, code, groups, grids),
        Backend::Gpu(gpu) => {
            let (words, per_group) = on_gpu(gpu, weights, code, groups, grids, false)?;
            let value = |w: &[u32]| u64::from(w[1]) << 32 | u64::from(w[0]);
            let slices: Vec<ClipErrors> = words
                .chunks_exact(2 * CLIP_COUNT)
                .map(|slice| std::array::from_fn(|i| value(&slice[2 * i..])))
                .collect();
            let sum =
                |slices: &[ClipErrors]| std::array::from_fn(|i| slices.iter().map(|s| s[i]).sum());
            Ok(slices.chunks(per_group).map(sum).collect())
        }
    }
}

/// The clip of least error of every group, in 64ths of its range: [`best_clip`] of [`clip_errors`], decided on the device where
/// groups are short. Meant for tiles of whole groups.
///
/// `clips[g]` is the largest of 32 to 64 at which the error of group `g` is least
///
/// Agreement: exact, as the errors are.
///
/// # Errors
///
/// As [`clip_errors`].
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, affine::{AffineCode, ClipGrid}, kernels::{self, Groups}};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0], 1)?;
/// let (groups, int2) = (Groups::of(8), AffineCode { bits: 2, symmetric: true });
/// let range = kernels::range(&on, &weights, groups)?[0];
/// let best = kernels::best_clips(&on, &weights, int2, groups, &[ClipGrid::new(int2, range)])?;
/// // The largest code is 1, and the step s has the error 7 (s - 1/2)² + (s - 1)²: least at 4.5 / 8.
/// assert_eq!(best, [36]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn best_clips(
    on: &Backend,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
) -> Result<Vec<u32>> {
    check(weights, groups, grids)?;
    match on {
        Backend::Gpu(gpu) if groups.size <= SLICE => {
            Ok(on_gpu(gpu, weights, code, groups, grids, true)?.0)
        }
        _ => Ok(clip_errors(on, weights, code, groups, grids)?.iter().map(best_clip).collect()),
    }
}

fn check(weights: &Tensor, groups: Groups, grids: &[ClipGrid]) -> Result<()> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    let expected = groups.count(weights.elements());
    if grids.len() != expected {
        return Err(Error::shape(KERNEL.name, "grids", grids.len(), expected));
    }
    if weights.elements() > 1 << 26 {
        return Err(Error::shape(KERNEL.name, "weights", weights.elements(), "at most 2^26"));
    }
    Ok(())
}

fn reference(
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
) -> Result<Vec<ClipErrors>> {
    let (words, elements, dtype) = (weights.words()?, weights.elements(), weights.dtype());
    let reciprocals = reciprocals();
    let mut errors = vec![[0; CLIP_COUNT]; grids.len()];
    spans(&mut errors, 1, (1 << 17) / groups.size.min(1 << 17) + 1, &|first, errors| {
        let (mut values, mut us, mut limits) = ([0.0; CHUNK], [0; CHUNK], [0; CHUNK]);
        for ((g, grid), errors) in grids.iter().enumerate().skip(first).zip(errors) {
            let span = groups.span(g, elements);
            for at in span.clone().step_by(CHUNK) {
                let len = (span.end - at).min(CHUNK);
                dtype::decode(dtype, words, at, &mut values[..len]);
                to_units(&values[..len], grid, &mut us[..len], &mut limits[..len]);
                for (i, error) in errors.iter_mut().enumerate() {
                    let step = grid.steps_per_64th * (CLIPS.start() + i as u32);
                    let m = (grid.codes_per_u * reciprocals[i] + 16384) >> 15;
                    *error += squares(&us[..len], &limits[..len], step, m, ClipGrid::shift(code));
                }
            }
        }
    });
    Ok(errors)
}

/// Weights that are taken at a time: a lane's sum of squares of 2^30 at most, split into halves of 16 bits, cannot overflow.
const CHUNK: usize = 512;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_units(weights: &[f32], grid: &ClipGrid, us: &mut [u32], limits: &mut [u32]) {
    let (above, below) = (grid.limits & 0xffff, grid.limits >> 16);
    for ((w, u), limit) in weights.iter().zip(us).zip(limits) {
        // Below 2^22, so that adding 2^23 rounds to an integer, ties to even.
        *u = ((w.abs() * grid.inverse + 8_388_608.0).to_bits() - 8_388_608f32.to_bits()).min(32767);
        *limit = if w.to_bits() >> 31 == 1 { below } else { above };
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn squares(us: &[u32], limits: &[u32], step: u32, m: u32, shift: u32) -> u64 {
    let half = (1u32 << shift) >> 1;
    let (mut low, mut high) = (0u32, 0u32);
    for (u, limit) in us.iter().zip(limits) {
        let code = (u.wrapping_mul(m).wrapping_add(half) >> shift).min(*limit);
        let restored = code.wrapping_mul(step).wrapping_add(16384) >> 15;
        let error = u.wrapping_sub(restored);
        let square = error.wrapping_mul(error);
        low = low.wrapping_add(square & 0xffff);
        high = high.wrapping_add(square >> 16);
    }
    (u64::from(high) << 16) + u64::from(low)
}

fn on_gpu(
    gpu: &Gpu,
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
    decide: bool,
) -> Result<(Vec<u32>, usize)> {
    if !gpu.numerics().rounds_exactly() {
        return Err(Error::beyond(KERNEL.name, "it does not round as IEEE"));
    }
    let elements = weights.elements();
    let (group, first) = groups.for_device(elements);
    let per_group = (group as usize).div_ceil(SLICE).max(1);
    let slices = grids.len() * per_group;
    let words = if decide { slices } else { slices * 2 * CLIP_COUNT };
    let out = gpu.alloc(4 * words)?;
    if elements == 0 {
        return Ok((Vec::new(), per_group));
    }
    let params = Params {
        elements: elements as u32,
        group,
        first,
        per_group: per_group as u32,
        shift: ClipGrid::shift(code),
        slices: slices as u32,
    };
    let slice = (group as usize).min(SLICE).next_multiple_of(64);
    let constants = [
        ("DTYPE", dtype::code(weights.dtype())),
        ("SLICE", if per_group == 1 { slice as f64 } else { SLICE as f64 }),
        ("DECIDE", f64::from(u8::from(decide))),
    ];
    let buffers = [weights.buffer()?, &gpu.upload(grids)?, &gpu.upload(&reciprocals())?, &out];
    let operations = (16 * CLIP_COUNT * weights.elements()) as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, slices as u64), operations)?;
    Ok((gpu.read(&out, words)?, per_group))
}
