use super::order_key;
use crate::{
    Backend, DType, Error, Result, Tensor, dtype,
    gpu::{Buffer, Gpu, Kernel},
    kmeans::Bins,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "histogram",
    wgsl: wgsl!("lib/grid", "lib/dtype", "histogram"),
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

/// The exact histogram of a tensor's patterns, in the order of their values.
///
/// Types of 16 and 8 bits have a bin for every pattern. F32, and F64 rounded to it, have one for the top 20 bits of the order
/// key (sign, exponent, 11 bits of mantissa), and the integer sum of the 12 bits below: from it the mean of the bin is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    dtype: DType,
    /// How many weights fall into each bin.
    pub counts: Vec<u64>,
    /// Sum of the low 12 bits of the keys in each bin; empty for the narrow types.
    pub lows: Vec<u64>,
}

impl Histogram {
    /// One that has seen nothing.
    pub fn new(dtype: DType) -> Self {
        let wide = matches!(dtype, DType::F32 | DType::F64);
        let bins = if wide { 1 << 20 } else { 1 << dtype.bits() };
        Self { dtype, counts: vec![0; bins], lows: vec![0; if wide { bins } else { 0 }] }
    }

    /// Adds what another has seen of the same type.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.lows.iter_mut().zip(&other.lows).for_each(|(a, b)| *a += b);
    }

    /// How many weights it has seen.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them were NaN or infinite.
    pub fn nonfinite(&self) -> u64 {
        // A wide bin that starts finite is finite: the largest finite keys end their bins.
        let start = |b: usize| {
            if self.lows.is_empty() { self.value(b) } else { order_key::to_f32((b as u32) << 12) }
        };
        (0..self.counts.len())
            .filter(|b| self.counts[*b] > 0 && !start(*b).is_finite())
            .map(|b| self.counts[b])
            .sum()
    }

    /// The type of the tensor.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The pattern of a bin of a narrow type.
    pub(crate) fn pattern(&self, bin: usize) -> u32 {
        let sign = 1 << (self.dtype.bits() - 1);
        (if bin & sign != 0 { bin & !sign } else { !bin & (2 * sign - 1) }) as u32
    }

    /// The value of a bin of a narrow type.
    pub(crate) fn value(&self, bin: usize) -> f32 {
        let mut value = [0.0];
        dtype::decode(self.dtype, &[self.pattern(bin)], 0, &mut value);
        value[0]
    }

    /// The occupied bins with their means; both zeros are one value.
    pub fn bins(&self) -> Bins {
        let occupied = (0..self.counts.len()).filter(|b| self.counts[*b] > 0);
        if self.lows.is_empty() {
            return Bins::of_sorted(
                occupied.map(|b| (f64::from(self.value(b)), self.counts[b] as f64)),
            );
        }
        Bins::of_sorted(
            occupied.map(|b| (Self::mean(b, self.counts[b], self.lows[b]), self.counts[b] as f64)),
        )
    }

    /// The mean of `n` weights of a wide bin, from the sum of their low bits.
    pub(crate) fn mean(bin: usize, n: u64, lows: u64) -> f64 {
        // One bin has one exponent, so values are linear in their keys; -0 ends its bin and +0 starts the next.
        // Multiplied before it is divided, so that a bin of equal weights gives exactly their value.
        let (start, end) = ends(bin);
        start + (end - start) * (lows as f64 / n as f64) / 4095.0
    }

    /// The wide bins that may hold different values, with the most that Σ (w - mean)² can be in each: the variance of
    /// numbers from 0 to 4095 of mean m is at most `m (4095 - m)` (Bhatia and Davis 2000).
    pub(crate) fn hidden(&self) -> Vec<(u32, f64)> {
        let bins = self.counts.iter().zip(&self.lows).enumerate().filter(|(_, (n, _))| **n > 1);
        let most = bins.map(|(b, (n, low))| {
            let (start, end) = ends(b);
            let ulp = (end - start) / 4095.0;
            let mean = *low as f64 / *n as f64;
            (b as u32, *n as f64 * (mean * (4095.0 - mean)) * (ulp * ulp))
        });
        most.filter(|(_, hidden)| *hidden > 0.0).collect()
    }
}

/// The smallest and the largest value of a wide bin.
fn ends(bin: usize) -> (f64, f64) {
    let key = (bin as u32) << 12;
    (f64::from(order_key::to_f32(key)), f64::from(order_key::to_f32(key | 0xfff)))
}

/// Counts a tile's weights on the way to a whole tensor's histogram.
///
/// `counts[bin(w)] += 1; lows[bin(w)] += low bits of the key of w` for every weight
///
/// On the CPU it adds to a histogram at once; on the GPU the histogram stays on the device, for any number of tiles and from
/// any thread, until [`Counting::finish`].
///
/// Agreement: exact (integer sums).
#[derive(Debug)]
pub enum Counting {
    /// On the CPU.
    Cpu {
        /// What the next tiles are added to.
        sum: Histogram,
        /// Counts above, sums of low bits below: one addition a weight, flushed before either overflows.
        pending: Vec<u64>,
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
                return Ok(Self::Cpu { pending: vec![0; sum.counts.len()], sum, seen: 0 });
            }
            Backend::Gpu(gpu) => gpu,
        };
        Ok(Self::Gpu { windows: windows(gpu, &sum)?, sum, seen: 0, limit: DEVICE_FLUSH })
    }

    /// Counts a tile, on a GPU of at most 2^31 weights.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the tile's type is another; [`Error::Gpu`] if the device fails: then the counts are worthless.
    pub fn add(&mut self, on: &Backend, weights: &Tensor) -> Result<()> {
        let (Self::Cpu { sum, .. } | Self::Gpu { sum, .. }) = &*self;
        let expected = sum.dtype;
        if weights.dtype() != expected {
            return Err(Error::shape(
                KERNEL.name,
                "dtype",
                weights.dtype().name(),
                expected.name(),
            ));
        }
        match (self, on) {
            (Self::Cpu { sum, pending, seen }, Backend::Cpu) => {
                let mut at = 0;
                while at < weights.elements() {
                    let len = (weights.elements() - at).min(FLUSH - *seen);
                    count(expected, weights.words()?, at..at + len, pending);
                    *seen += len;
                    at += len;
                    if *seen == FLUSH {
                        flush(sum, pending);
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
            _ => Err(super::on_another_backend(KERNEL.name)),
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
            return Err(super::on_another_backend(KERNEL.name));
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
        let mut apart = Histogram::new(sum.dtype);
        take_off(gpu, on_device, &mut apart)?;
        (*on_device, *seen) = (windows(gpu, sum)?, 0);
        sum.merge(&apart);
        Ok(apart)
    }

    /// The histogram of everything that was added.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails.
    pub fn finish(self, on: &Backend) -> Result<Histogram> {
        match (self, on) {
            (Self::Cpu { mut sum, mut pending, .. }, _) => {
                flush(&mut sum, &mut pending);
                Ok(sum)
            }
            (Self::Gpu { mut sum, windows, .. }, Backend::Gpu(gpu)) => {
                take_off(gpu, &windows, &mut sum)?;
                Ok(sum)
            }
            _ => Err(super::on_another_backend(KERNEL.name)),
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

fn flush(sum: &mut Histogram, pending: &mut [u64]) {
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

fn count(dtype: DType, words: &[u32], span: std::ops::Range<usize>, pending: &mut [u64]) {
    match dtype {
        DType::F16 | DType::BF16 => {
            count_patterns::<u16, 65536>(&bytemuck::cast_slice::<u32, u16>(words)[span], pending);
        }
        DType::F8E4M3 | DType::F8E5M2 => {
            count_patterns::<u8, 256>(&bytemuck::cast_slice::<u32, u8>(words)[span], pending);
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

/// Four histograms side by side, so that a run of equal patterns does not wait for its own last addition.
fn count_patterns<T: Copy + Into<usize>, const BINS: usize>(patterns: &[T], pending: &mut [u64]) {
    if patterns.len() < BINS {
        return patterns.iter().for_each(|p| pending[(*p).into()] += 1);
    }
    // Arrays whose length the compiler knows: no pattern lies outside.
    #[allow(clippy::useless_vec, reason = "a megabyte is too much for the stack")]
    let mut sides = vec![[0u32; BINS]; 4];
    let [a, b, c, d] = &mut sides[..] else { unreachable!("there are four") };
    let fours = patterns.chunks_exact(4);
    fours.remainder().iter().for_each(|p| a[(*p).into() % BINS] += 1);
    for p in fours {
        a[p[0].into() % BINS] += 1;
        b[p[1].into() % BINS] += 1;
        c[p[2].into() % BINS] += 1;
        d[p[3].into() % BINS] += 1;
    }
    for (i, n) in pending.iter_mut().enumerate() {
        *n += u64::from(a[i]) + u64::from(b[i]) + u64::from(c[i]) + u64::from(d[i]);
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

/// The histogram of one tensor.
///
/// # Errors
///
/// As [`Counting`].
pub fn histogram(on: &Backend, weights: &Tensor) -> Result<Histogram> {
    let mut counting = Counting::new(on, weights.dtype())?;
    counting.add(on, weights)?;
    counting.finish(on)
}
