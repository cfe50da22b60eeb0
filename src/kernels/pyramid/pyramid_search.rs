use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::pyramid::MOST,
    gpu::{Gpu, Kernel},
    parallel::chunks,
    scratch, wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "pyramid_search",
    wgsl: wgsl!("lib/grid", "pyramid/pyramid_search"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    k: u32,
}

/// The points of an integer pyramid that lie about where groups of codes point.
///
/// `y = floor(k |x| / sum |x|)`, and then for what is left of k, one after the other, 1 more where `(sum |x| y)² / sum y²` becomes
/// largest, the first of equals; with the signs of x. Of a group of zeros all of k is at its first.
///
/// - `codes`: U32 `[rows, words]`, signed codes of 8 bits, as [`quantize`](crate::kernels::quantize()) packs them, whole groups of
///   `n`, 4 to 64 in fours, to a row.
/// - `k`: 1 to 127.
/// - returns U32 `[rows, words]`: integers of 8 bits whose magnitudes add up to k in every group.
///
/// Agreement: exact: comparisons of products of integers.
///
/// # Errors
///
/// [`Error::Shape`] if n, k or the codes do not fit; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Fischer 1986, "A pyramid vector quantizer"; Valin et al. 2012, RFC 6716 (Opus), section 4.3.4: the search.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// // 100, -50, 0 and 10 are about 3 : -1 : 0 : 0.
/// let codes = Tensor::new(&on, DType::U32, 1, 1, vec![0x0a_00_ce_64])?;
/// let pulses = kernels::pyramid_search(&on, &codes, 4, 4)?;
/// assert_eq!(pulses.read(&on)?, [0x00_00_ff_03]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn pyramid_search(on: &Backend, codes: &Tensor, n: usize, k: usize) -> Result<Tensor> {
    if !(4..=MOST.0).contains(&n) || !n.is_multiple_of(4) {
        return Err(Error::shape(KERNEL.name, "n", n, "4 to 64, a multiple of 4"));
    }
    if !(1..=MOST.1).contains(&k) {
        return Err(Error::shape(KERNEL.name, "k", k, "1 to 127"));
    }
    if codes.dtype() != DType::U32 || !codes.cols().is_multiple_of(n / 4) {
        let expected = format!("U32, a multiple of {}", n / 4);
        return Err(Error::shape(KERNEL.name, "words per row", codes.cols(), expected));
    }
    match on {
        Backend::Cpu => {
            let pulses = reference(codes.words()?, n, k);
            Ok(Tensor::cpu(DType::U32, codes.rows(), codes.cols(), pulses))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, codes, n, k),
    }
}

/// Groups that a task of the CPU takes.
const TASK: usize = 1 << 10;

fn reference(codes: &[u32], n: usize, k: usize) -> Vec<u32> {
    let mut pulses = scratch::words(codes.len());
    chunks(&mut pulses, TASK * n / 4, &|t, pulses| {
        let codes = &codes[t * TASK * n / 4..][..pulses.len()];
        let codes: &[i8] = bytemuck::cast_slice(codes);
        let pulses: &mut [i8] = bytemuck::cast_slice_mut(pulses);
        for (x, y) in codes.chunks_exact(n).zip(pulses.chunks_exact_mut(n)) {
            search(x, k as u32, y);
        }
    });
    pulses
}

fn search(x: &[i8], k: u32, pulses: &mut [i8]) {
    let (mut sizes, mut y) = ([0u32; MOST.0], [0u32; MOST.0]);
    let n = x.len();
    let (sizes, y) = (&mut sizes[..n], &mut y[..n]);
    for (size, x) in sizes.iter_mut().zip(x) {
        *size = x.unsigned_abs().into();
    }
    let sum = sizes.iter().sum::<u32>().max(1);
    for (y, size) in y.iter_mut().zip(&*sizes) {
        *y = k * size / sum;
    }
    let mut xy: u32 = sizes.iter().zip(&*y).map(|(x, y)| x * y).sum();
    let mut yy: u32 = y.iter().map(|y| y * y).sum();
    for _ in y.iter().sum::<u32>()..k {
        // Of fractions square / norm the largest, compared without division.
        let (mut best, mut square, mut norm) = (0, 0u64, 1u64);
        for (i, (size, y)) in sizes.iter().zip(&*y).enumerate() {
            let (product, own) = (u64::from(xy + size), u64::from(yy + 2 * y + 1));
            if product * product * norm > square * own {
                (best, square, norm) = (i, product * product, own);
            }
        }
        xy += sizes[best];
        yy += 2 * y[best] + 1;
        y[best] += 1;
    }
    for ((pulse, y), x) in pulses.iter_mut().zip(y).zip(x) {
        *pulse = if *x < 0 { -(*y as i8) } else { *y as i8 };
    }
}

fn on_gpu(gpu: &Gpu, codes: &Tensor, n: usize, k: usize) -> Result<Tensor> {
    let words = codes.rows() * codes.cols();
    let groups = words / (n / 4);
    let out = gpu.alloc(4 * words)?;
    let params = Params { groups: groups as u32, k: k as u32 };
    let constants = [("WORDS", (n / 4) as f64)];
    // A pulse for each number at most, each of which looks at all of them.
    let operations = (groups * n * n * 8) as u64;
    let buffers = [codes.buffer()?, &out];
    let workgroups = KERNEL.workgroups(groups as u64);
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    Ok(Tensor::gpu(DType::U32, codes.rows(), codes.cols(), out))
}
