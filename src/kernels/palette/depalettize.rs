use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::groups::Groups,
    dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    scratch,
    simd::look_up_halves,
    wgsl, words,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "depalettize",
    wgsl: wgsl!("lib/grid", "lib/dtype", "palette/depalettize", "lib/restored"),
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
    k: u32,
    total: u32,
}

/// Codes of `bits` bits and the tables they point into.
#[derive(Clone, Copy, Debug)]
pub struct Codebook<'a> {
    /// Entries of all tables, `k` each.
    pub entries: &'a [f32],
    /// Entries of a table; a shorter one repeats its last.
    pub k: usize,
    /// Bits per code, 1 to 8.
    pub bits: u32,
}

/// Restores weights from the codes of a palette.
///
/// `weights[r, c] = entries[table, codes[r, c]]`, in `dtype`
///
/// - `codes`: U32 `[rows, words]`, as [`palettize`](crate::kernels::palette::palettize::palettize()) packs them; `cols`: codes per row.
/// - `codebook`: a table for every group that the tile touches; a code beyond the table takes its last entry.
/// - returns `dtype` `[rows, cols]`.
///
/// Agreement: exact.
///
/// # Errors
///
/// [`Error::Shape`] if `dtype` holds no weights, or codes or tables do not fit; [`Error::Gpu`] if the device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels::{self, Codebook, Groups}};
///
/// let on = Backend::Cpu;
/// let codes = Tensor::new(&on, DType::U32, 1, 1, vec![0b11_10_01_00])?;
/// let book = Codebook { entries: &[-1.0, 0.0, 1.5], k: 3, bits: 2 };
/// let weights = kernels::depalettize(&on, &codes, 4, book, Groups::of(4), DType::F32)?;
/// assert_eq!(weights.read_f32(&on)?, [-1.0, 0.0, 1.5, 1.5]); // code 3 is beyond the table
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn depalettize(
    on: &Backend,
    codes: &Tensor,
    cols: usize,
    codebook: Codebook,
    groups: Groups,
    dtype: DType,
) -> Result<Tensor> {
    let Codebook { entries, k, bits } = codebook;
    let expected = groups.count(codes.rows() * cols) * k;
    if entries.len() != expected || !(1..=256).contains(&k) {
        return Err(Error::shape(KERNEL.name, "entries", entries.len(), expected));
    }
    if !(1..=8).contains(&bits) {
        return Err(Error::shape(KERNEL.name, "bits", bits, "1 to 8"));
    }
    let expected = bitpack::words(cols, bits);
    if codes.cols() != expected || codes.dtype() != DType::U32 {
        return Err(Error::shape(KERNEL.name, "words per row", codes.cols(), expected));
    }
    if !dtype.is_weight() {
        return Err(Error::shape(KERNEL.name, "dtype", dtype.name(), "a float type"));
    }
    match on {
        Backend::Cpu => {
            let weights = reference(codes.words()?, (codes.rows(), cols), codebook, groups, dtype);
            Ok(Tensor::cpu(dtype, codes.rows(), cols, weights))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, codes, cols, codebook, groups, dtype),
    }
}

fn reference(
    codes: &[u32],
    (rows, cols): (usize, usize),
    Codebook { entries, k, bits }: Codebook,
    groups: Groups,
    dtype: DType,
) -> Vec<u32> {
    let packed_cols = bitpack::words(cols, bits);
    let task = task_rows(rows, cols);
    let tables: Vec<&[f32]> = entries.chunks(k).collect();
    let mut weights = scratch::words(words(dtype, rows * cols));
    chunks(&mut weights, words(dtype, task * cols), &|t, weights| {
        let mut row = vec![0; cols];
        // Rounded once for a table, not for every weight.
        let (mut full, mut patterns) = ([0.0; 256], [0; 512]);
        let mut filled: &[f32] = &[];
        for r in t * task..rows.min((t + 1) * task) {
            bitpack::unpack(&codes[r * packed_cols..][..packed_cols], bits, &mut row);
            for (span, table) in groups.spans(r * cols..(r + 1) * cols, &tables) {
                if !std::ptr::eq(filled, table) {
                    // 256 entries, so that no code needs a check.
                    full.fill(table[k - 1]);
                    full[..k].copy_from_slice(table);
                    dtype::encode(dtype, &full, &mut patterns, 0);
                    filled = table;
                }
                let codes = &row[span.start - r * cols..span.end - r * cols];
                let first = span.start - t * task * cols;
                match dtype.bytes(1) {
                    1 => look_up::<u8>(&patterns, codes, weights, first),
                    2 => {
                        let out = &mut bytemuck::cast_slice_mut(weights)[first..][..codes.len()];
                        let table = bytemuck::cast_slice(&patterns).first_chunk();
                        look_up_halves(table.expect("256 of two bytes"), 1 << bits, codes, out);
                    }
                    4 => look_up::<u32>(&patterns, codes, weights, first),
                    _ => look_up::<[u32; 2]>(&patterns, codes, weights, first),
                }
            }
        }
    });
    weights
}

/// The patterns of codes, from element `first` of the weights on.
fn look_up<T: bytemuck::Pod>(
    patterns: &[u32; 512],
    codes: &[u8],
    weights: &mut [u32],
    first: usize,
) {
    let table: &[T; 256] =
        bytemuck::cast_slice(patterns).first_chunk().expect("256 of up to eight bytes");
    for (code, weight) in codes.iter().zip(&mut bytemuck::cast_slice_mut(weights)[first..]) {
        *weight = table[usize::from(*code)];
    }
}

fn on_gpu(
    gpu: &Gpu,
    codes: &Tensor,
    cols: usize,
    Codebook { entries, k, bits }: Codebook,
    groups: Groups,
    dtype: DType,
) -> Result<Tensor> {
    let (rows, elements) = (codes.rows(), codes.rows() * cols);
    let out = gpu.alloc(4 * words(dtype, elements))?;
    let total = if dtype == DType::F64 { elements } else { words(dtype, elements) };
    let (group, first) = groups.for_device(elements);
    let params = Params {
        elements: elements as u32,
        cols: cols as u32,
        words: codes.cols() as u32,
        group,
        first,
        k: k as u32,
        total: total as u32,
    };
    let constants = [("DTYPE", dtype::code(dtype)), ("BITS", bits.into())];
    let buffers = [codes.buffer()?, &gpu.upload(entries)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(dtype, rows, cols, out))
}
