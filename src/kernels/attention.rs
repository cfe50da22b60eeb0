use super::{expect_f32, masked_mean::expect_sequences, softmax::exponentials};
use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    wgsl,
};
use multiversion::multiversion;
use rayon::prelude::*;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "attention",
    wgsl: wgsl!("lib/grid", "attention"),
    workgroup: 64,
    params: size_of::<Params>(),
};

/// Queries that a workgroup takes.
const BLOCK: usize = 32;

/// Most columns a head may have: as many sums as an invocation has registers for.
const WIDEST: usize = 128;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    blocks: u32,
    total: u32,
    scale: f32,
}

/// Attention of every row of a sequence to all of its rows, head by head.
///
/// `y[b, i, h] = sum_j p[j] v[b, j, h]`, `p = softmax_j(q[b, i, h] · k[b, j, h] / sqrt(d))`, over the keys j < lengths[b]; rows i from
/// lengths[b] on are 0
///
/// - `q`, `k`, `v`: F32 `[sequences * S, heads * d]`, finite up to the lengths; padding may hold anything. d is a multiple of 4,
///   at most 128; S is not limited.
/// - `lengths`: rows of each sequence, at most S; a sequence may be empty.
/// - returns F32 `[sequences * S, heads * d]`.
///
/// Agreement: `|error| <= 2^-24 (2 (d + 18) e + lengths[b] + 96) sum_j p[j] |v[b, j, h]|` against f64, where
/// `e = max_j |q[b, i, h]| · |k[b, j, h]| / sqrt(d)` bounds the scores.
///
/// # Errors
///
/// [`Error::Shape`] if a matrix is not F32 or has another shape, its rows are not as many for every sequence, a length is larger
/// than that, or the columns do not make so many heads; [`Error::Gpu`] if the device fails.
///
/// # Source
///
/// Vaswani et al. 2017, arXiv 1706.03762; block by block with a running maximum: Milakov and Gimelshein 2018, arXiv 1805.02867,
/// and Dao et al. 2022, arXiv 2205.14135.
pub fn attention(
    on: &Backend,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    lengths: &[u32],
) -> Result<Tensor> {
    let (rows, cols) = (q.rows(), q.cols());
    for (what, tensor) in [("q", q), ("k", k), ("v", v)] {
        expect_f32(KERNEL.name, what, tensor, (rows, cols))?;
    }
    let each = expect_sequences(KERNEL.name, rows, lengths)?;
    let width = cols.checked_div(heads).unwrap_or(0);
    if width * heads != cols || heads == 0 || !width.is_multiple_of(4) || width > WIDEST {
        let got = format!("{heads} in {cols} columns");
        let expected = format!("heads of 4, 8, 12, ... or {WIDEST} columns");
        return Err(Error::shape(KERNEL.name, "heads", got, expected));
    }
    let shape = Shape { rows: each, heads, width };
    match on {
        Backend::Cpu => {
            let [q, k, v] = [q.words()?, k.words()?, v.words()?].map(bytemuck::cast_slice);
            Ok(Tensor::cpu(DType::F32, rows, cols, reference(q, k, v, shape, lengths)))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, q, k, v, shape, lengths),
    }
}

/// Rows of a sequence, heads of a row, columns of a head.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    heads: usize,
    width: usize,
}

impl Shape {
    fn cols(self) -> usize {
        self.heads * self.width
    }

    /// What scores are multiplied by.
    fn scale(self) -> f64 {
        1.0 / (self.width as f64).sqrt()
    }
}

/// Queries that the CPU multiplies at a time, and sums of each that lie side by side: so many fit its registers.
const TALL: usize = 6;
const WIDE: usize = 16;

fn reference(q: &[f32], k: &[f32], v: &[f32], shape: Shape, lengths: &[u32]) -> Vec<u32> {
    let (keys, values) = (key_panels(k, shape, lengths), value_panels(v, shape, lengths));
    let cols = shape.cols();
    let mut y = vec![0; q.len()];
    y.par_chunks_mut((shape.rows * cols).max(1)).enumerate().for_each(|(b, y)| {
        let length = lengths[b] as usize;
        // A few blocks of queries, all heads, are a task; the rows of padding stay zero.
        let task = 4 * TALL * cols;
        y[..length * cols].par_chunks_mut(task).enumerate().for_each_init(
            || vec![0.0; TALL * length.next_multiple_of(WIDE)],
            |scores, (t, y)| {
                let q = &q[b * shape.rows * cols + t * task..][..y.len()];
                for h in 0..shape.heads {
                    let head = Head {
                        shape,
                        length,
                        first: h * shape.width,
                        keys: &keys[(b * shape.heads + h) * keys_each(shape)..],
                        values: &values[(b * shape.heads + h) * values_each(shape)..],
                    };
                    for (y, q) in y.chunks_mut(TALL * cols).zip(q.chunks(TALL * cols)) {
                        attend(head, q, scores, bytemuck::cast_slice_mut(y));
                    }
                }
            },
        );
    });
    y
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    shape: Shape,
    length: usize,
    /// Its first column.
    first: usize,
    /// Its keys and values, as panels; those of later heads follow.
    keys: &'a [f32],
    values: &'a [f32],
}

fn keys_each(shape: Shape) -> usize {
    shape.rows.next_multiple_of(WIDE) * shape.width
}

fn values_each(shape: Shape) -> usize {
    shape.rows * shape.width.next_multiple_of(WIDE)
}

/// Every head's keys in panels of [`WIDE`] keys: column by column, the keys side by side, 0 beyond the last.
fn key_panels(k: &[f32], shape: Shape, lengths: &[u32]) -> Vec<f32> {
    let Shape { rows, heads, width } = shape;
    let mut panels = vec![0.0; lengths.len() * heads * keys_each(shape)];
    panels.par_chunks_mut(keys_each(shape).max(1)).enumerate().for_each(|(at, panels)| {
        let (b, first) = (at / heads, at % heads * width);
        let sequence = k[b * rows * shape.cols()..].chunks_exact(shape.cols());
        for (j, row) in sequence.take(lengths[b] as usize).enumerate() {
            let panel = &mut panels[j / WIDE * WIDE * width..];
            for (x, to) in row[first..][..width].iter().zip(panel.chunks_exact_mut(WIDE)) {
                to[j % WIDE] = *x;
            }
        }
    });
    panels
}

/// Every head's values in panels of [`WIDE`] columns: row by row, the columns side by side, 0 beyond the last.
fn value_panels(v: &[f32], shape: Shape, lengths: &[u32]) -> Vec<f32> {
    let Shape { rows, heads, width } = shape;
    let mut panels = vec![0.0; lengths.len() * heads * values_each(shape)];
    panels.par_chunks_mut(values_each(shape).max(1)).enumerate().for_each(|(at, panels)| {
        let (b, first) = (at / heads, at % heads * width);
        let sequence = v[b * rows * shape.cols()..].chunks_exact(shape.cols());
        for (j, row) in sequence.take(lengths[b] as usize).enumerate() {
            for (n, x) in row[first..][..width].chunks(WIDE).enumerate() {
                panels[(n * rows + j) * WIDE..][..x.len()].copy_from_slice(x);
            }
        }
    });
    panels
}

/// What at most [`TALL`] rows of queries gather with one head; `scores` has room for so many rows of scores.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn attend(head: Head<'_>, q: &[f32], scores: &mut [f32], y: &mut [f32]) {
    let Head { shape, length, first, keys, values } = head;
    let (cols, width) = (shape.cols(), shape.width);
    let mut queries = [[0.0; WIDEST]; TALL];
    for (query, q) in queries.iter_mut().zip(q.chunks_exact(cols)) {
        for (x, q) in query.iter_mut().zip(&q[first..][..width]) {
            *x = q * shape.scale() as f32;
        }
    }
    let stride = length.next_multiple_of(WIDE);
    let panels = keys.chunks_exact(width * WIDE).take(stride / WIDE);
    for (n, panel) in panels.enumerate() {
        let sums = products(queries.each_ref().map(|query| &query[..width]), panel);
        for (scores, sums) in scores.chunks_exact_mut(stride).zip(&sums) {
            scores[n * WIDE..][..WIDE].copy_from_slice(sums);
        }
    }
    let mut scales = [0.0; TALL];
    for (scores, scale) in scores.chunks_exact_mut(stride).zip(&mut scales) {
        *scale = (1.0 / exponentials(&mut scores[..length])) as f32;
    }
    let weights = std::array::from_fn(|i| &scores[i * stride..][..length]);
    let panels = values.chunks_exact(shape.rows * WIDE).take(width.div_ceil(WIDE));
    for (n, panel) in panels.enumerate() {
        let sums = products(weights, &panel[..length * WIDE]);
        for ((y, sums), scale) in y.chunks_exact_mut(cols).zip(&sums).zip(&scales) {
            for (y, sum) in y[first..][..width][n * WIDE..].iter_mut().zip(sums) {
                *y = sum * scale;
            }
        }
    }
}

/// `products[i][n] = sum_t rows[i][t] panel[t, n]`, in the order of t.
#[inline(always)]
fn products(rows: [&[f32]; TALL], panel: &[f32]) -> [[f32; WIDE]; TALL] {
    let rows = rows.map(|row| &row[..panel.len() / WIDE]);
    let mut sums = [[0.0; WIDE]; TALL];
    for (t, panel) in panel.chunks_exact(WIDE).enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, x) in sums.iter_mut().zip(panel) {
                *sum += row[t] * x;
            }
        }
    }
    sums
}

fn on_gpu(
    gpu: &Gpu,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: Shape,
    lengths: &[u32],
) -> Result<Tensor> {
    let y = gpu.alloc(4 * q.elements())?;
    let blocks = shape.rows.div_ceil(BLOCK);
    let total = if shape.width == 0 { 0 } else { lengths.len() * shape.heads * blocks };
    let params = Params {
        rows: shape.rows as u32,
        heads: shape.heads as u32,
        width: (shape.width / 4) as u32,
        blocks: blocks as u32,
        total: total as u32,
        scale: (std::f64::consts::LOG2_E * shape.scale()) as f32,
    };
    let constants = [("SLICES", shape.width.div_ceil(BLOCK) as f64)];
    let buffers = [q.buffer()?, k.buffer()?, v.buffer()?, &gpu.upload(lengths)?, &y];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, total as u64)?;
    Ok(Tensor::gpu(DType::F32, q.rows(), q.cols(), y))
}
