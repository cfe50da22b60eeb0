use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::{affine::Scale, groups::Groups},
    dtype,
    form::Packing,
    gpu::{Gpu, Kernel},
    kernels::{tasks::task_rows, vectors::nearest::Entries},
    parallel::chunks,
    scratch, wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "dequantize_vectors",
    wgsl: wgsl!("lib/grid", "lib/dtype", "vectors/dequantize_vectors", "lib/restored"),
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
    dim: u32,
    pairs: u32,
    k: u32,
    spaces: u32,
    stages: u32,
}

/// How codes of vectors are read: which codebooks, and which of them a code points into.
#[derive(Clone, Copy, Debug)]
pub struct VectorCodes<'a> {
    /// Codebooks: of each sub-space all stages, `[spaces, stages, k, dim]`.
    pub entries: &'a Entries,
    /// Entries that are added up for a vector.
    pub stages: usize,
}

impl VectorCodes<'_> {
    /// Sub-spaces: the v-th vector of a row has the books of space `v mod spaces`.
    pub fn spaces(&self) -> usize {
        self.entries.books() / self.stages.max(1)
    }

    /// How the codes of a row are packed.
    pub fn packing(&self) -> Packing {
        Packing::of_vectors(self.entries.dim as u8, self.entries.k as u32, self.stages as u8)
    }

    /// Codes that number one entry: 2 where it takes more than 8 bits.
    pub(crate) fn symbols(&self) -> usize {
        self.packing().codes as usize / self.stages
    }

    /// Refuses what does not fit together.
    pub(crate) fn check(&self, kernel: &'static str, codes: &Tensor, cols: usize) -> Result<()> {
        self.entries.check(kernel)?;
        let books = self.entries.books();
        if !(1..=8).contains(&self.stages) || !books.is_multiple_of(self.stages) {
            let expected = format!("1 to 8, dividing {books} codebooks");
            return Err(Error::shape(kernel, "stages", self.stages, expected));
        }
        let vector = self.entries.dim * self.spaces();
        if !cols.is_multiple_of(vector) {
            return Err(Error::shape(kernel, "cols", cols, format!("a multiple of {vector}")));
        }
        let expected = self.packing().words(cols);
        if codes.cols() != expected || codes.dtype() != DType::U32 {
            return Err(Error::shape(kernel, "words per row", codes.cols(), expected));
        }
        Ok(())
    }

    /// The sums of entries that a row of packed codes stands for; a code beyond its book takes the last entry.
    pub(crate) fn sums(&self, packed: &[u32], symbols: &mut [u8], out: &mut [i16]) {
        let Entries { dim, k, .. } = *self.entries;
        let (packing, spaces) = (self.packing(), self.spaces());
        bitpack::unpack(packed, packing.bits.into(), symbols);
        let of_code = self.symbols();
        let vectors = out.chunks_exact_mut(dim).zip(symbols.chunks_exact(of_code * self.stages));
        for (v, (out, symbols)) in vectors.enumerate() {
            for (s, code) in symbols.chunks_exact(of_code).enumerate() {
                let code = code.iter().rev().fold(0, |c, s| c << packing.bits | usize::from(*s));
                let book = v % spaces * self.stages + s;
                let entry = &self.entries.values[(book * k + code.min(k - 1)) * dim..][..dim];
                match s {
                    0 => out.copy_from_slice(entry),
                    _ => out.iter_mut().zip(entry).for_each(|(sum, e)| *sum += e),
                }
            }
        }
    }
}

/// Restores weights from codes of vectors.
///
/// `weights[r, c] = scale * (sum over stages s of entries[v mod spaces, s, codes[r, v, s], c mod dim])`, `v = c / dim`: one f32
/// multiply, rounded to `dtype`; beyond its range: its largest finite value
///
/// - `codes`: U32 `[rows, words]`, packed as [`VectorCodes::packing`] says, a vector's stages one after the other; `cols`:
///   weights per row. A code beyond its codebook takes the last entry.
/// - `groups`, `scales`: which elements share a scale, and the scale of every group that the tile touches.
/// - returns `dtype` `[rows, cols]`.
///
/// Agreement: exact: sums of integers, one multiply, one rounding by integer code.
///
/// # Errors
///
/// [`Error::Shape`] if `dtype` holds no weights, or codes, codebooks or scales do not fit; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Gray 1984, "Vector quantization"; Jégou et al. 2011, "Product quantization for nearest neighbor search"; Zeghidour et al. 2021,
/// arXiv 2107.03312: stages of what is left.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, affine::Scale, kernels::{self, Entries, Groups, VectorCodes}};
///
/// let on = Backend::Cpu;
/// // Four vectors of two: entries 1, 0, 1, 1 of a codebook of two.
/// let codes = Tensor::new(&on, DType::U32, 1, 1, vec![0b1101])?;
/// let entries = Entries { dim: 2, k: 2, values: vec![0, 10, -10, 4] };
/// let book = VectorCodes { entries: &entries, stages: 1 };
/// let half = Scale { scale: 0.5, zero_point: 0 };
/// let weights = kernels::dequantize_vectors(&on, &codes, 8, book, Groups::of(8), &[half], DType::F32)?;
/// assert_eq!(weights.read_f32(&on)?, [-5.0, 2.0, 0.0, 5.0, -5.0, 2.0, -5.0, 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn dequantize_vectors(
    on: &Backend,
    codes: &Tensor,
    cols: usize,
    book: VectorCodes,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Result<Tensor> {
    book.check(KERNEL.name, codes, cols)?;
    let expected = groups.count(codes.rows() * cols);
    if scales.len() != expected {
        return Err(Error::shape(KERNEL.name, "scales", scales.len(), expected));
    }
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    match on {
        Backend::Cpu => {
            let weights = reference(codes, cols, book, groups, scales, dtype)?;
            Ok(Tensor::cpu(dtype, codes.rows(), cols, weights))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, codes, cols, book, groups, scales, dtype),
    }
}

/// Weights that are restored at a time: they stay in the first cache.
const CHUNK: usize = 2048;

fn reference(
    codes: &Tensor,
    cols: usize,
    book: VectorCodes,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Result<Vec<u32>> {
    let (packed, rows, row_words) = (codes.words()?, codes.rows(), codes.cols());
    let task = task_rows(rows, cols);
    let mut weights = scratch::words(words(dtype, rows * cols));
    chunks(&mut weights, words(dtype, task * cols), &|t, weights| {
        let mut symbols = vec![0; book.packing().count(cols)];
        let (mut sums, mut values) = (vec![0; cols], vec![0.0; cols.min(CHUNK)]);
        for r in t * task..rows.min((t + 1) * task) {
            book.sums(&packed[r * row_words..][..row_words], &mut symbols, &mut sums);
            for (span, scale) in groups.spans(r * cols..(r + 1) * cols, scales) {
                for at in span.clone().step_by(CHUNK) {
                    let values = &mut values[..(span.end - at).min(CHUNK)];
                    let sums = &sums[at - r * cols..][..values.len()];
                    for (sum, value) in sums.iter().zip(values.iter_mut()) {
                        *value = f32::from(*sum) * scale.scale;
                    }
                    dtype::encode(dtype, values, weights, at - t * task * cols);
                }
            }
        }
    });
    Ok(weights)
}

fn on_gpu(
    gpu: &Gpu,
    codes: &Tensor,
    cols: usize,
    book: VectorCodes,
    groups: Groups,
    scales: &[Scale],
    dtype: DType,
) -> Result<Tensor> {
    let (rows, elements) = (codes.rows(), codes.rows() * cols);
    let Entries { dim, k, .. } = *book.entries;
    let out = gpu.alloc(4 * words(dtype, elements))?;
    let scales: Vec<u32> = scales.iter().map(|s| s.scale.to_bits()).collect();
    let total = if dtype == DType::F64 { elements } else { words(dtype, elements) };
    let (group, first) = groups.for_device(elements);
    let params = Params {
        elements: elements as u32,
        cols: cols as u32,
        words: codes.cols() as u32,
        group,
        first,
        total: total as u32,
        dim: dim as u32,
        pairs: dim.div_ceil(2) as u32,
        k: k as u32,
        spaces: book.spaces() as u32,
        stages: book.stages as u32,
    };
    let packing = book.packing();
    let constants = [
        ("DTYPE", dtype::code(dtype)),
        ("BITS", packing.bits.into()),
        ("SYMBOLS", book.symbols() as f64),
    ];
    let entries = gpu.upload(&book.entries.packed())?;
    let buffers = [codes.buffer()?, &entries, &gpu.upload(&scales)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(dtype, rows, cols, out))
}
