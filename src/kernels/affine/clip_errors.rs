use crate::{
    Backend, Error, Result, Tensor,
    decide::{
        affine::{AffineCode, CLIP_COUNT, CLIPS, ClipErrors, ClipGrid, best_clip, reciprocals},
        groups::Groups,
    },
    dtype::{self, DType},
    gpu::{Gpu, Kernel},
    parallel::spans,
    simd::clips::Steps,
    wgsl,
};
use multiversion::multiversion;
use std::ops::Range;

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

/// Weights that are taken at a time. One workgroup of a device sums them: far below the 65,535 iterations after which some software
/// drivers end every loop.
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
        Backend::Cpu if groups.size <= SLICE => best(weights, code, groups, grids),
        Backend::Cpu | Backend::Gpu(_) => {
            Ok(clip_errors(on, weights, code, groups, grids)?.iter().map(best_clip).collect())
        }
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

/// The errors of every group at every clip.
fn reference(
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
) -> Result<Vec<ClipErrors>> {
    let reciprocals = reciprocals();
    each_group(weights, groups, grids, [0; CLIP_COUNT], |units, grid, span, errors| {
        let (steps, mut of_slice) = (Steps::new(grid, code, &reciprocals), [0; CLIP_COUNT]);
        for at in span.clone().step_by(SLICE) {
            let (us, limits) = units.read(weights.dtype(), at..span.end.min(at + SLICE), grid);
            steps.squares(0, us, limits, &mut of_slice);
            errors.iter_mut().zip(of_slice).for_each(|(error, more)| *error += more);
        }
    })
}

/// The clip of least error of every group, none of which is longer than a slice.
fn best(
    weights: &Tensor,
    code: AffineCode,
    groups: Groups,
    grids: &[ClipGrid],
) -> Result<Vec<u32>> {
    let reciprocals = reciprocals();
    each_group(weights, groups, grids, 0, |units, grid, span, clip| {
        let (us, limits) = units.read(weights.dtype(), span, grid);
        *clip = CLIPS.start() + Steps::new(grid, code, &reciprocals).best(us, limits) as u32;
    })
}

/// What becomes of every group, given its grid and which weights it has, from what it is before.
fn each_group<T: Clone + Send>(
    weights: &Tensor,
    groups: Groups,
    grids: &[ClipGrid],
    before: T,
    of: impl Fn(&mut Units, &ClipGrid, Range<usize>, &mut T) + Sync,
) -> Result<Vec<T>> {
    let (words, elements) = (weights.words()?, weights.elements());
    let mut all = vec![before; grids.len()];
    spans(&mut all, 1, (1 << 17) / groups.size.min(1 << 17) + 1, &|first, all| {
        let mut units = Units::new(words, groups.size.min(SLICE));
        for ((g, grid), one) in grids.iter().enumerate().skip(first).zip(all) {
            of(&mut units, grid, groups.span(g, elements), one);
        }
    });
    Ok(all)
}

/// Some weights in units of their grid, with the largest code of each.
struct Units<'a> {
    words: &'a [u32],
    values: Vec<f32>,
    us: Vec<u16>,
    limits: Vec<u16>,
}

impl<'a> Units<'a> {
    fn new(words: &'a [u32], most: usize) -> Self {
        Self { words, values: vec![0.0; most], us: vec![0; most], limits: vec![0; most] }
    }

    fn read(&mut self, dtype: DType, span: Range<usize>, grid: &ClipGrid) -> (&[u16], &[u16]) {
        let values = &mut self.values[..span.len()];
        dtype::decode(dtype, self.words, span.start, values);
        let (us, limits) = (&mut self.us[..span.len()], &mut self.limits[..span.len()]);
        to_units(values, grid, us, limits);
        (us, limits)
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_units(weights: &[f32], grid: &ClipGrid, us: &mut [u16], limits: &mut [u16]) {
    let (above, below) = (grid.limits as u16, (grid.limits >> 16) as u16);
    for ((w, u), limit) in weights.iter().zip(us).zip(limits) {
        // Below 2^22, so that adding 2^23 rounds to an integer, ties to even.
        let rounded = (w.abs() * grid.inverse + 8_388_608.0).to_bits() - 8_388_608f32.to_bits();
        *u = rounded.min(32767) as u16;
        *limit = if w.to_bits() >> 31 == 1 { below } else { above };
    }
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
