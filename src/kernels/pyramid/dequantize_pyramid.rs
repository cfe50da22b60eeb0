use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::pyramid::Pyramid,
    dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    scratch, wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "dequantize_pyramid",
    wgsl: wgsl!("lib/grid", "lib/dtype", "pyramid/dequantize_pyramid"),
    workgroup: 64,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    of_row: u32,
    words: u32,
    k: u32,
}

/// What codes of a pyramid stand for.
#[derive(Clone, Copy, Debug)]
pub struct PyramidCodes<'a> {
    /// The vectors that are numbered.
    pub pyramid: Pyramid,
    /// What they are multiplied by: 2 to 1024 gains, a power of two of them.
    pub gains: &'a [f32],
}

impl PyramidCodes<'_> {
    /// Bits of a gain's number.
    pub fn gain_bits(&self) -> u32 {
        self.gains.len().trailing_zeros()
    }

    /// Bits of a group: of its gain, and of its vector's number.
    pub fn bits(&self) -> u32 {
        self.gain_bits() + self.pyramid.bits()
    }
}

/// Restores weights from codes of a pyramid.
///
/// `weights[g n + i] = vector[i] * gains[gain]`, one f32 multiply, rounded to `dtype`; beyond its range: its largest finite value
///
/// - `codes`: U32 `[rows, words]`: of every group of n neighbours of a row the number of its gain, in the low bits, and then that of
///   its vector; groups follow one another bit by bit, each row from a fresh word. `cols`: weights per row, whole groups. What is
///   no vector's number gives what it comes to, the same everywhere.
/// - returns `dtype` `[rows, cols]`.
///
/// Agreement: exact: integers, one multiply, one rounding by integer code.
///
/// # Errors
///
/// [`Error::Shape`] if `dtype` holds no weights, or codes or gains do not fit; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Fischer 1986, "A pyramid vector quantizer".
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, codec::pyramid::Pyramid, kernels::{self, PyramidCodes}};
///
/// let on = Backend::Cpu;
/// let pyramid = Pyramid::new(4, 2).expect("it is small"); // 32 vectors, in 5 bits
/// let number = pyramid.number(&[0, -1, 0, 1]) as u32;
/// let codes = Tensor::new(&on, DType::U32, 1, 1, vec![1 | number << 1])?;
/// let book = PyramidCodes { pyramid, gains: &[0.5, 3.0] };
/// let weights = kernels::dequantize_pyramid(&on, &codes, 4, book, DType::F32)?;
/// assert_eq!(weights.read_f32(&on)?, [0.0, -3.0, 0.0, 3.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn dequantize_pyramid(
    on: &Backend,
    codes: &Tensor,
    cols: usize,
    book: PyramidCodes,
    dtype: DType,
) -> Result<Tensor> {
    let (n, gains) = (book.pyramid.n, book.gains.len());
    if !n.is_multiple_of(4) || !cols.is_multiple_of(n) {
        let expected = format!("a multiple of n = {n}, which is one of 4");
        return Err(Error::shape(KERNEL.name, "cols", cols, expected));
    }
    if !gains.is_power_of_two() || !(2..=1024).contains(&gains) {
        return Err(Error::shape(KERNEL.name, "gains", gains, "a power of two, 2 to 1024"));
    }
    let expected = (cols / n * book.bits() as usize).div_ceil(32);
    if codes.cols() != expected || codes.dtype() != DType::U32 {
        return Err(Error::shape(KERNEL.name, "words per row", codes.cols(), expected));
    }
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    match on {
        Backend::Cpu => {
            let weights = reference(codes, cols, book, dtype)?;
            Ok(Tensor::cpu(dtype, codes.rows(), cols, weights))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, codes, cols, book, dtype),
    }
}

/// A field of at most 128 bits of packed words.
pub(crate) fn field(words: &[u32], at: usize, bits: u32) -> u128 {
    let mut found = 0u128;
    let (first, shift) = (at / 32, at % 32);
    for i in (0..(shift + bits as usize).div_ceil(32)).rev() {
        let word = u128::from(words[first + i]);
        found = if i == 0 { found << (32 - shift) | word >> shift } else { found << 32 | word };
    }
    match bits {
        128.. => found,
        bits => found & ((1 << bits) - 1),
    }
}

fn reference(codes: &Tensor, cols: usize, book: PyramidCodes, dtype: DType) -> Result<Vec<u32>> {
    let (packed, width, rows) = (codes.words()?, codes.cols(), codes.rows());
    let (n, bits, gain_bits) = (book.pyramid.n, book.bits() as usize, book.gain_bits());
    let task = task_rows(rows, cols);
    let mut weights = scratch::words(words(dtype, rows * cols));
    chunks(&mut weights, words(dtype, task * cols), &|t, weights| {
        let (mut vector, mut values) = (vec![0i8; n], vec![0.0; cols]);
        for (i, r) in (t * task..rows.min((t + 1) * task)).enumerate() {
            let row = &packed[r * width..][..width];
            for (g, values) in values.chunks_exact_mut(n).enumerate() {
                let gain = book.gains[field(row, g * bits, gain_bits) as usize];
                let number = field(row, g * bits + gain_bits as usize, book.pyramid.bits());
                decode(book.pyramid, number, &mut vector);
                for (value, y) in values.iter_mut().zip(&vector) {
                    *value = f32::from(*y) * gain;
                }
            }
            dtype::encode(dtype, &values, weights, i * cols);
        }
    });
    Ok(weights)
}

/// The vector of a number; of what is none's, what the shader makes of it.
fn decode(pyramid: Pyramid, mut number: u128, vector: &mut [i8]) {
    let mut left = pyramid.k;
    let n = pyramid.n;
    for (i, value) in vector.iter_mut().enumerate() {
        let rest = n - i - 1;
        *value = 0;
        let mut here = pyramid.count(rest, left);
        for _ in 0..2 * left {
            if number < here {
                break;
            }
            number -= here;
            *value = if *value > 0 { -*value } else { 1 - *value };
            here = pyramid.count(rest, left - usize::from(value.unsigned_abs()));
        }
        left -= usize::from(value.unsigned_abs());
    }
}

fn on_gpu(
    gpu: &Gpu,
    codes: &Tensor,
    cols: usize,
    book: PyramidCodes,
    dtype: DType,
) -> Result<Tensor> {
    let (rows, n) = (codes.rows(), book.pyramid.n);
    let groups = rows * cols / n;
    let out = gpu.alloc(4 * crate::words(dtype, rows * cols))?;
    let gains: Vec<u32> = book.gains.iter().map(|g| g.to_bits()).collect();
    let words = |c: u128| -> [u32; 4] { std::array::from_fn(|i| (c >> (32 * i)) as u32) };
    let counts: Vec<[u32; 4]> = book.pyramid.counts().map(words).collect();
    let params = Params {
        groups: groups as u32,
        of_row: (cols / n) as u32,
        words: codes.cols() as u32,
        k: book.pyramid.k as u32,
    };
    let constants = [
        ("DTYPE", dtype::code(dtype)),
        ("WORDS", (n / 4) as f64),
        ("BITS", book.pyramid.bits().into()),
        ("GAIN", book.gain_bits().into()),
    ];
    let buffers = [codes.buffer()?, &gpu.upload(&gains)?, &gpu.upload(&counts)?, &out];
    let operations = (groups * (n + book.pyramid.k) * 16) as u64;
    let workgroups = KERNEL.workgroups(groups as u64);
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, workgroups), operations)?;
    Ok(Tensor::gpu(dtype, rows, cols, out))
}
