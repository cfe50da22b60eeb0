use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::tasks::ITERATIONS,
    parallel::chunks,
    scratch,
    simd::nearest::{BLOCK, Block, Book, LIMIT},
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "nearest",
    wgsl: wgsl!("lib/grid", "vectors/nearest"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    vectors: u32,
    books: u32,
    pairs: u32,
    k: u32,
    start: u32,
    end: u32,
    near: u32,
    left: u32,
}

/// Codebooks of vectors of integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Numbers of a vector, 1 to 16.
    pub dim: usize,
    /// Entries of a codebook, 1 to 65,536.
    pub k: usize,
    /// `[books, k, dim]`, at most 2047 in magnitude.
    pub values: Vec<i16>,
}

impl Entries {
    /// How many codebooks there are.
    pub fn books(&self) -> usize {
        self.values.len() / (self.k * self.dim).max(1)
    }

    /// Those of one codebook.
    pub fn book(&self, number: usize) -> &[i16] {
        let size = self.k * self.dim;
        &self.values[number * size..][..size]
    }

    /// Refuses what no kernel takes.
    pub(crate) fn check(&self, kernel: &'static str) -> Result<()> {
        let Self { dim, k, values } = self;
        if !(1..=16).contains(dim) {
            return Err(Error::shape(kernel, "dim", dim, "1 to 16"));
        }
        if !(1..=1 << 16).contains(k) {
            return Err(Error::shape(kernel, "entries of a codebook", k, "1 to 65536"));
        }
        if values.is_empty() || !values.len().is_multiple_of(k * dim) {
            let expected = format!("whole codebooks of {k} entries of {dim}");
            return Err(Error::shape(kernel, "numbers", values.len(), expected));
        }
        if let Some(beyond) = values.iter().find(|v| v.unsigned_abs() > LIMIT.unsigned_abs()) {
            return Err(Error::shape(kernel, "a number", beyond, "at most 2047 in magnitude"));
        }
        Ok(())
    }

    /// The numbers as a device takes them, two to a word.
    pub(crate) fn packed(&self) -> Vec<u32> {
        pack(&self.values, self.dim)
    }
}

/// Vectors, two numbers to a word, the first in the low half; of an odd `dim` the last upper half is zero.
fn pack(values: &[i16], dim: usize) -> Vec<u32> {
    let half = |v: i16| u32::from(v as u16);
    let word = |pair: &[i16]| pair.iter().rev().fold(0, |word, v| word << 16 | half(*v));
    values.chunks_exact(dim).flat_map(|v| v.chunks(2).map(word)).collect()
}

/// Vectors of integers as [`nearest`] takes them, on a backend.
///
/// - `values`: `[vectors, dim]`, at most 2047 in magnitude.
/// - returns U32 `[vectors, pairs]`.
///
/// # Errors
///
/// [`Error::Shape`] if `dim` is not 1 to 16, or a number is too large; [`Error::Gpu`] if the device fails.
pub fn points_of(on: &Backend, values: &[i16], dim: usize) -> Result<Tensor> {
    if !(1..=16).contains(&dim) || !values.len().is_multiple_of(dim) {
        return Err(Error::shape(KERNEL.name, "dim", dim, "1 to 16, dividing the numbers"));
    }
    if let Some(beyond) = values.iter().find(|v| v.unsigned_abs() > LIMIT.unsigned_abs()) {
        return Err(Error::shape(KERNEL.name, "a number", beyond, "at most 2047 in magnitude"));
    }
    Tensor::new(on, DType::U32, values.len() / dim, dim.div_ceil(2), pack(values, dim))
}

/// The nearest entry of a codebook for every vector: the step of k-means and of vector quantization that costs.
///
/// `labels[v] = the first j that has the least |points[v] - entries[v mod books, j]|²`
///
/// - `points`: U32 `[vectors, pairs]`, as [`vector_points`](crate::kernels::vector_points()) or [`points_of`] gives them.
/// - `entries`: one codebook or several: sub-spaces of a product quantizer, or problems side by side.
/// - returns U32 `[vectors, 1]`.
///
/// Distances are never stored: a vector's numbers stay in registers, and entries pass by, staged in a workgroup's memory on a
/// device, sixteen vectors or more to an instruction on the CPU.
///
/// Agreement: exact: integers below 2^31.
///
/// # Errors
///
/// [`Error::Shape`] if the entries are none, or the points are of another `dim`; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Lloyd 1982, "Least squares quantization in PCM"; Yang et al. 2026, arXiv 2603.09229: the fused distance and arg-min.
///
/// # Example
///
/// ```
/// use tersor::{Backend, kernels::{self, Entries}};
///
/// let on = Backend::Cpu;
/// let points = kernels::points_of(&on, &[0, 0, 10, 9, 5, 5], 2)?;
/// let entries = Entries { dim: 2, k: 2, values: vec![0, 0, 10, 10] };
/// assert_eq!(kernels::nearest(&on, &points, &entries)?.read(&on)?, [0, 1, 0]); // a tie goes to the first
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn nearest(on: &Backend, points: &Tensor, entries: &Entries) -> Result<Tensor> {
    Ok(search(on, points, entries, false)?.0)
}

/// [`nearest()`] and what the entries leave of the vectors: what the next stage of a residual quantizer takes.
///
/// `rest[v] = clamp(points[v] - entries[v mod books, labels[v]], -2047, 2047)`
///
/// - returns U32 `[vectors, 1]`, the labels, and U32 `[vectors, pairs]`, the rest.
///
/// Agreement, errors and arguments: as of [`nearest()`].
///
/// # Source
///
/// Juang and Gray 1982, "Multiple stage vector quantization for speech coding".
///
/// # Example
///
/// ```
/// use tersor::{Backend, kernels::{self, Entries}};
///
/// let on = Backend::Cpu;
/// let points = kernels::points_of(&on, &[0, 0, 10, 9, 5, 5], 2)?;
/// let entries = Entries { dim: 2, k: 2, values: vec![0, 0, 10, 10] };
/// let (labels, rest) = kernels::nearest_and_rest(&on, &points, &entries)?;
/// assert_eq!(labels.read(&on)?, [0, 1, 0]);
/// assert_eq!(rest.read(&on)?, [0, 0xffff_0000, 0x0005_0005]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn nearest_and_rest(
    on: &Backend,
    points: &Tensor,
    entries: &Entries,
) -> Result<(Tensor, Tensor)> {
    search(on, points, entries, true)
}

/// Labels and what is left; of the latter nothing unless it is wanted.
fn search(
    on: &Backend,
    points: &Tensor,
    entries: &Entries,
    wants_rest: bool,
) -> Result<(Tensor, Tensor)> {
    entries.check(KERNEL.name)?;
    let pairs = entries.dim.div_ceil(2);
    if points.dtype() != DType::U32 || points.cols() != pairs {
        let expected = format!("U32 of {pairs} pairs");
        let got = format!("{} of {}", points.dtype().name(), points.cols());
        return Err(Error::shape(KERNEL.name, "points", got, expected));
    }
    let vectors = points.rows();
    let left = if wants_rest { vectors } else { 0 };
    match on {
        Backend::Cpu => {
            let points = points.words()?;
            let labels = reference(points, entries);
            let rest = reference_rest(&points[..left * pairs], &labels, entries);
            Ok((
                Tensor::cpu(DType::U32, vectors, 1, labels),
                Tensor::cpu(DType::U32, left, pairs, rest),
            ))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, points, entries, left),
    }
}

/// Vectors that a task of the CPU takes.
const TASK: usize = 1 << 14;

fn reference(points: &[u32], entries: &Entries) -> Vec<u32> {
    let (pairs, books) = (entries.dim.div_ceil(2), entries.books());
    let prepared: Vec<Book> = (0..books).map(|b| Book::new(entries.book(b), entries.dim)).collect();
    let task = TASK.next_multiple_of(books);
    let mut labels = scratch::words(points.len() / pairs);
    chunks(&mut labels, task, &|t, labels| {
        let points = &points[t * task * pairs..][..labels.len() * pairs];
        let mut block: Block = [[0; BLOCK]; 8];
        let mut found = [0; BLOCK];
        for (b, book) in prepared.iter().enumerate() {
            for first in (b..labels.len()).step_by(books * BLOCK) {
                let own = (first..labels.len()).step_by(books).take(BLOCK);
                match points.get(first..first + BLOCK) {
                    // Vectors of a pair that follow one another are a block as they are.
                    Some(points) if pairs == 1 && books == 1 => block[0].copy_from_slice(points),
                    _ => {
                        for (at, v) in own.clone().enumerate() {
                            for (p, word) in points[v * pairs..][..pairs].iter().enumerate() {
                                block[p][at] = *word;
                            }
                        }
                    }
                }
                book.nearest(&block, &mut found);
                own.zip(found).for_each(|(v, label)| labels[v] = label);
            }
        }
    });
    labels
}

/// What the entries leave of vectors.
fn reference_rest(points: &[u32], labels: &[u32], entries: &Entries) -> Vec<u32> {
    let (pairs, books) = (entries.dim.div_ceil(2), entries.books());
    let (packed, task) = (entries.packed(), TASK.next_multiple_of(books));
    let mut rest = scratch::words(points.len());
    chunks(&mut rest, task * pairs, &|t, rest| {
        let first = t * task;
        let vectors = points[first * pairs..].chunks_exact(pairs).zip(&labels[first..]);
        for (v, (rest, (point, label))) in rest.chunks_exact_mut(pairs).zip(vectors).enumerate() {
            // A task starts with the first book.
            let at = (v % books * entries.k + *label as usize) * pairs;
            for ((rest, x), c) in rest.iter_mut().zip(point).zip(&packed[at..at + pairs]) {
                *rest = difference(*x, *c);
            }
        }
    });
    rest
}

/// Both halves of a word less those of another, held within the limit.
fn difference(x: u32, c: u32) -> u32 {
    let half = |x: u32, c: u32| (x as i16 - c as i16).clamp(-LIMIT, LIMIT) as u16;
    u32::from(half(x, c)) | u32::from(half(x >> 16, c >> 16)) << 16
}

/// Fours of numbers that a workgroup holds near: the size of `quads` in the shader, and of `squares`.
const NEAR: (usize, usize) = (768, 256);

/// Entries that one dispatch goes through: an invocation has a round for each, and some to bring them near.
const AT_ONCE: usize = ITERATIONS / 2;

fn on_gpu(gpu: &Gpu, points: &Tensor, entries: &Entries, left: usize) -> Result<(Tensor, Tensor)> {
    let (vectors, pairs, books) = (points.rows(), entries.dim.div_ceil(2), entries.books());
    let quads = entries.dim.div_ceil(4);
    let packed = gpu.upload(&entries.packed())?;
    let labels = gpu.alloc(4 * vectors)?;
    let rest = gpu.alloc(4 * (left * pairs).max(1))?;
    let groups = vectors.div_ceil(books).div_ceil(KERNEL.workgroup as usize) * books;
    for start in (0..entries.k).step_by(AT_ONCE) {
        let end = entries.k.min(start + AT_ONCE);
        let params = Params {
            vectors: vectors as u32,
            books: books as u32,
            pairs: pairs as u32,
            k: entries.k as u32,
            start: start as u32,
            end: end as u32,
            near: (NEAR.0 / quads).min(NEAR.1) as u32,
            left: left as u32,
        };
        let constants = [("QUADS", quads as f64)];
        let buffers: [_; 4] = [points.buffer()?, &packed, &labels, &rest];
        let operations = vectors as u64 * (end - start) as u64 * (quads as u64 + 1);
        gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, groups as u64), operations)?;
    }
    Ok((Tensor::gpu(DType::U32, vectors, 1, labels), Tensor::gpu(DType::U32, left, pairs, rest)))
}
