use crate::{
    Backend, DType, Error, Result, Tensor,
    decide::histogram::Histogram,
    decide::order_key,
    dtype,
    gpu::{Buffer, Gpu, Kernel},
    simd, wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "histogram",
    wgsl: wgsl!("lib/grid", "lib/dtype", "order/histogram"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    first: u32,
    bins: u32,
    invocations: u32,
}

/// Counts a tile's weights on the way to a whole tensor's histogram.
///
/// `counts[bin(w)] += 1; lows[bin(w)] += low bits of the key of w` for every weight
///
/// On the CPU it adds to a histogram at once; on the GPU the histogram stays on the device, for any number of tiles and from
/// any thread, until [`Counting::finish`].
///
/// Agreement: exact (integer sums).
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels::Counting};
///
/// let on = Backend::Cpu;
/// let mut counting = Counting::new(&on, DType::F32)?;
/// for tile in [[1.0, 2.0, 1.0], [2.0, f32::NAN, 2.0]] {
///     counting.add(&on, &Tensor::from_f32(&on, &tile, 1)?)?;
/// }
/// let histogram = counting.finish(&on)?;
/// assert_eq!((histogram.total(), histogram.nonfinite()), (6, 1));
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Debug)]
pub enum Counting {
    /// On the CPU.
    Cpu {
        /// What the next tiles are added to.
        sum: Histogram,
        /// Counts above, sums of low bits below: one addition a weight, flushed before either overflows.
        pending: Vec<u64>,
        /// Counts of patterns of 16 bits, once there are many: a few tables side by side.
        patterns: Vec<Patterns>,
        /// Weights since the last flush.
        seen: usize,
    },
    /// On the device, where counts have 32 bits.
    Gpu {
        /// What was on the device before its last flush.
        sum: Histogram,
        /// Windows of bins, each small enough for a binding: first bin, number of bins, and the counts, low and high sums.
        windows: Vec<(u32, u32, [Buffer; 3])>,
        /// Weights since the last flush.
        seen: u64,
        /// Weights that may be counted between two flushes.
        limit: u64,
    },
}

/// How often each pattern of 16 bits was seen.
type Patterns = [u32; 1 << 16];

/// Weights that may be added before the 28 bits of a count, or the 36 of a sum of 12-bit numbers, could overflow.
const FLUSH: usize = 1 << 24;

/// Weights that a device may count before they are taken off it: far fewer than a count of 32 bits can hold.
const DEVICE_FLUSH: u64 = 1 << 31;

impl Counting {
    /// Starts counting weights of `dtype`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `dtype` holds no weights; [`Error::Gpu`] if the device fails.
    pub fn new(on: &Backend, dtype: DType) -> Result<Self> {
        if !dtype.is_weight() {
            return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
        }
        let sum = Histogram::new(dtype);
        let gpu = match on {
            Backend::Cpu => {
                let pending = vec![0; sum.counts.len()];
                return Ok(Self::Cpu { pending, patterns: Vec::new(), sum, seen: 0 });
            }
            Backend::Gpu(gpu) => gpu,
        };
        Ok(Self::Gpu { windows: windows(gpu, &sum)?, sum, seen: 0, limit: DEVICE_FLUSH })
    }

    /// Counts a tile, on a GPU of at most 2^31 weights.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the tile's type is another; [`Error::Backend`] if the counts are on another backend; [`Error::Gpu`] if
    /// the device fails: then the counts are worthless.
    pub fn add(&mut self, on: &Backend, weights: &Tensor) -> Result<()> {
        let (Self::Cpu { sum, .. } | Self::Gpu { sum, .. }) = &*self;
        let expected = sum.dtype();
        if weights.dtype() != expected {
            return Err(Error::shape(
                KERNEL.name,
                "dtype",
                weights.dtype().name(),
                expected.name(),
            ));
        }
        match (self, on) {
            (Self::Cpu { sum, pending, patterns, seen }, Backend::Cpu) => {
                let mut at = 0;
                while at < weights.elements() {
                    let len = (weights.elements() - at).min(FLUSH - *seen);
                    count(expected, weights.words()?, at..at + len, pending, patterns);
                    *seen += len;
                    at += len;
                    if *seen == FLUSH {
                        flush(sum, pending, patterns);
                        *seen = 0;
                    }
                }
                Ok(())
            }
            (Self::Gpu { sum, windows: on_device, seen, limit }, Backend::Gpu(gpu)) => {
                if *seen + weights.elements() as u64 > *limit {
                    take_off(gpu, on_device, sum)?;
                    (*on_device, *seen) = (windows(gpu, sum)?, 0);
                }
                *seen += weights.elements() as u64;
                add_on_gpu(gpu, on_device, weights)
            }
            _ => Err(crate::kernels::expect::on_another_backend(KERNEL.name)),
        }
    }

    /// Counts tiles on a GPU like [`Counting::add`], and returns what they alone have added.
    ///
    /// # Errors
    ///
    /// As [`Counting::add`].
    pub fn add_apart<'t>(
        &mut self,
        on: &Backend,
        tiles: impl Iterator<Item = &'t Tensor>,
    ) -> Result<Histogram> {
        let (Self::Gpu { sum, windows: on_device, seen, .. }, Backend::Gpu(gpu)) = (&mut *self, on)
        else {
            return Err(crate::kernels::expect::on_another_backend(KERNEL.name));
        };
        if *seen > 0 {
            take_off(gpu, on_device, sum)?;
            (*on_device, *seen) = (windows(gpu, sum)?, 0);
        }
        for tile in tiles {
            self.add(on, tile)?;
        }
        let Self::Gpu { sum, windows: on_device, seen, .. } = self else {
            unreachable!("it has not moved")
        };
        let mut apart = Histogram::new(sum.dtype());
        take_off(gpu, on_device, &mut apart)?;
        (*on_device, *seen) = (windows(gpu, sum)?, 0);
        sum.merge(&apart);
        Ok(apart)
    }

    /// The histogram of everything that was added.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the counts are on another backend; [`Error::Gpu`] if the device fails.
    pub fn finish(self, on: &Backend) -> Result<Histogram> {
        match (self, on) {
            (Self::Cpu { mut sum, mut pending, mut patterns, .. }, _) => {
                flush(&mut sum, &mut pending, &mut patterns);
                Ok(sum)
            }
            (Self::Gpu { mut sum, windows, .. }, Backend::Gpu(gpu)) => {
                take_off(gpu, &windows, &mut sum)?;
                Ok(sum)
            }
            _ => Err(crate::kernels::expect::on_another_backend(KERNEL.name)),
        }
    }
}

/// Zeros on the device for all bins of a histogram.
fn windows(gpu: &Gpu, sum: &Histogram) -> Result<Vec<(u32, u32, [Buffer; 3])>> {
    let (all, fits) = (sum.counts.len() as u64, gpu.max_bytes() / 4);
    let starts = (0..all).step_by(fits.min(all) as usize);
    let window = |first: u64| {
        let bins = fits.min(all - first);
        // The narrow types have no low bits: one word stands for both of their sums.
        let low = if sum.lows.is_empty() { 4 } else { bins as usize * 4 };
        let buffers = [gpu.zeros(bins as usize * 4)?, gpu.zeros(low)?, gpu.zeros(low)?];
        Ok((first as u32, bins as u32, buffers))
    };
    starts.map(window).collect()
}

/// Adds what is on the device to a histogram.
fn take_off(gpu: &Gpu, windows: &[(u32, u32, [Buffer; 3])], sum: &mut Histogram) -> Result<()> {
    for (first, bins, [counts, lows, carries]) in windows {
        let (first, bins) = (*first as usize, *bins as usize);
        for (sum, n) in sum.counts[first..].iter_mut().zip(gpu.read(counts, bins)?) {
            *sum += u64::from(n);
        }
        if !sum.lows.is_empty() {
            let pairs = gpu.read(lows, bins)?.into_iter().zip(gpu.read(carries, bins)?);
            for (sum, (low, carry)) in sum.lows[first..].iter_mut().zip(pairs) {
                *sum += u64::from(carry) << 32 | u64::from(low);
            }
        }
    }
    Ok(())
}

fn flush(sum: &mut Histogram, pending: &mut [u64], patterns: &mut [Patterns]) {
    for side in patterns {
        for (all, n) in pending.iter_mut().zip(side) {
            *all += u64::from(std::mem::take(n));
        }
    }
    if sum.lows.is_empty() {
        // Narrow types were counted by their raw pattern.
        let sign = pending.len() / 2;
        for (pattern, n) in pending.iter_mut().enumerate() {
            let bin = if pattern & sign != 0 { !pattern & (2 * sign - 1) } else { pattern | sign };
            sum.counts[bin] += std::mem::take(n);
        }
        return;
    }
    for (bin, n) in pending.iter_mut().enumerate().filter(|(_, n)| **n != 0) {
        sum.counts[bin] += *n >> 36;
        sum.lows[bin] += *n & ((1 << 36) - 1);
        *n = 0;
    }
}

fn count(
    dtype: DType,
    words: &[u32],
    span: std::ops::Range<usize>,
    pending: &mut [u64],
    patterns: &mut Vec<Patterns>,
) {
    match dtype {
        DType::F16 | DType::BF16 => {
            count_halves(&bytemuck::cast_slice::<u32, u16>(words)[span], pending, patterns);
        }
        DType::F8E4M3 | DType::F8E5M2 => {
            let bytes = &bytemuck::cast_slice::<u32, u8>(words)[span];
            pending.iter_mut().zip(simd::histogram(bytes)).for_each(|(all, n)| *all += n);
        }
        _ => {
            let mut chunk = [0.0; 1024];
            for at in span.clone().step_by(1024) {
                let chunk = &mut chunk[..(span.end - at).min(1024)];
                dtype::decode(dtype, words, at, chunk);
                for w in chunk {
                    let key = order_key::of_f32(*w);
                    pending[(key >> 12) as usize & 0xf_ffff] += 1 << 36 | u64::from(key & 0xfff);
                }
            }
        }
    }
}

/// Tables side by side, so that a run of equal patterns does not wait for its own last addition; they stay until they are flushed, as
/// clearing and adding them up costs as much as counting a unit.
fn count_halves(halves: &[u16], pending: &mut [u64], tables: &mut Vec<Patterns>) {
    if tables.is_empty() {
        if halves.len() < 1 << 16 {
            return halves.iter().for_each(|p| pending[usize::from(*p)] += 1);
        }
        *tables = vec![[0; 1 << 16]; 2];
    }
    let [a, b] = &mut tables[..] else { unreachable!("there are two") };
    let (fours, rest) = halves.as_chunks::<4>();
    rest.iter().for_each(|p| a[usize::from(*p)] += 1);
    for [p, q, r, s] in fours {
        a[usize::from(*p)] += 1;
        b[usize::from(*q)] += 1;
        a[usize::from(*r)] += 1;
        b[usize::from(*s)] += 1;
    }
}

fn add_on_gpu(gpu: &Gpu, windows: &[(u32, u32, [Buffer; 3])], weights: &Tensor) -> Result<()> {
    let elements = weights.elements() as u64;
    if elements == 0 {
        return Ok(());
    }
    // A few weights an invocation, and never more workgroups than one dispatch can start.
    let workgroups = KERNEL.workgroups(elements.div_ceil(8)).min(gpu.max_workgroups());
    let invocations = workgroups * u64::from(KERNEL.workgroup);
    for (first, bins, [counts, lows, carries]) in windows {
        let params = Params {
            elements: elements as u32,
            first: *first,
            bins: *bins,
            invocations: invocations as u32,
        };
        let constants = [("DTYPE", dtype::code(weights.dtype()))];
        let buffers = [weights.buffer()?, counts, lows, carries];
        gpu.dispatch(&KERNEL, &constants, &params, &buffers, workgroups)?;
    }
    Ok(())
}

/// The histogram of one tensor: a [`Counting`] of a single tile, with its formula and agreement.
///
/// - `weights`: a weight type, any shape; F64 is taken as f32, rounded to nearest even.
///
/// # Errors
///
/// As [`Counting`].
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[2.0, 0.0, 1.0, -0.0, 2.0, -3.0], 2)?;
/// let bins = kernels::histogram(&on, &weights)?.bins();
/// assert_eq!(bins.values, [-3.0, 0.0, 1.0, 2.0]);
/// assert_eq!(bins.weights, [1.0, 2.0, 1.0, 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn histogram(on: &Backend, weights: &Tensor) -> Result<Histogram> {
    let mut counting = Counting::new(on, weights.dtype())?;
    counting.add(on, weights)?;
    counting.finish(on)
}
