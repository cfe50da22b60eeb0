use crate::{
    Backend, DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{
        expect::expect_f32,
        layers::{masked_mean::expect_sequences, softmax::power},
    },
    parallel::{chunks, spans},
    wgsl,
};
use multiversion::multiversion;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "attention",
    wgsl: wgsl!("lib/grid", "layers/attention"),
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
/// `y[b, i, h] = sum_j p[j] v[b, j, h]`, `p = softmax_j(q[b, i, h] · k[b, j, h] / sqrt(d))`, over the keys `j < lengths[b]`; rows i
/// from `lengths[b]` on are 0
///
/// - `q`, `k`, `v`: F32 `[sequences * S, heads * d]`, finite up to the lengths; padding may hold anything. d is a multiple of 4,
///   at most 128; S is not limited.
/// - `lengths`: rows of each sequence, at most S; a sequence may be empty.
/// - returns F32 `[sequences * S, heads * d]`.
///
/// Agreement: `|error| <= 2^-24 r sum_j p[j] |v[b, j, h]|` against f64, where `e = max_j |q[b, i, h]| · |k[b, j, h]| / sqrt(d)`
/// bounds the scores and n is `lengths[b]`: on the CPU `r = 2 (d + 4) e + n + 10`, the roundings of two scores, their
/// exponentials, and a sum over the keys; on a device `r = (d / 2 + 40) e + 20 ceil(n / 32) + 61`, since it adds by fours and
/// blocks of 32 keys, and WGSL lets a power `2^t` be off by 3 + 2 |t| units in the last place.
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
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// // One head of four columns. Queries of zero like all keys equally: the mean of the values.
/// let q = Tensor::from_f32(&on, &[0.0; 8], 2)?;
/// let v = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0], 2)?;
/// let y = kernels::attention(&on, &q, &q, &v, 1, &[2])?;
/// assert_eq!(y.read_f32(&on)?, [2.0, 3.0, 4.0, 5.0, 2.0, 3.0, 4.0, 5.0]);
/// // With a second row that is padding.
/// let y = kernels::attention(&on, &q, &q, &v, 1, &[1])?;
/// assert_eq!(y.read_f32(&on)?, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
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

    /// Quads of the keys of a head.
    fn quads_of_keys(self) -> usize {
        self.rows.div_ceil(QUAD) * self.width
    }

    /// Quads of the values of a head.
    fn quads_of_values(self) -> usize {
        self.width / QUAD * self.rows
    }
}

/// One number of each of sixteen queries, side by side.
type Lanes = [f32; 16];

/// Keys, or columns of values, that meet sixteen queries at a time: the registers hold so many sums.
const QUAD: usize = 4;

fn reference(q: &[f32], k: &[f32], v: &[f32], shape: Shape, lengths: &[u32]) -> Vec<u32> {
    let (keys, values) = (key_quads(k, shape, lengths), value_quads(v, shape, lengths));
    let cols = shape.cols();
    let mut y = vec![0; q.len()];
    chunks(&mut y, shape.rows * cols, &|b, y| {
        let length = lengths[b] as usize;
        // Sixteen queries, all heads, are a task; the rows of padding stay zero.
        let task = 16 * cols;
        spans(&mut y[..length * cols], task, 1, &|first, y| {
            let (mut queries, mut scores) = (vec![[0.0; 16]; shape.width], vec![[0.0; 16]; length]);
            for (t, y) in (first..).zip(y.chunks_mut(task)) {
                let q = &q[b * shape.rows * cols + t * task..][..y.len()];
                for h in 0..shape.heads {
                    let at = b * shape.heads + h;
                    let keys = &keys[at * shape.quads_of_keys()..];
                    let values = &values[at * shape.quads_of_values()..];
                    let first = h * shape.width;
                    load(q, cols, first, shape.scale() as f32, &mut queries);
                    let y = bytemuck::cast_slice_mut(y);
                    attend(&queries, keys, values, shape, &mut scores, &mut y[first..]);
                }
            }
        });
    });
    y
}

/// Every head's keys, four by four: of these the first column, the second, and so on; 0 beyond the last key.
fn key_quads(k: &[f32], shape: Shape, lengths: &[u32]) -> Vec<[f32; QUAD]> {
    quads(k, shape, lengths, shape.quads_of_keys(), |j, row, quads| {
        let quads = &mut quads[j / QUAD * shape.width..];
        row.iter().zip(quads).for_each(|(x, quad)| quad[j % QUAD] = *x);
    })
}

/// Every head's values, four columns by four: of these the first row, the second, and so on.
fn value_quads(v: &[f32], shape: Shape, lengths: &[u32]) -> Vec<[f32; QUAD]> {
    quads(v, shape, lengths, shape.quads_of_values(), |j, row, quads| {
        let (columns, _) = row.as_chunks();
        columns.iter().enumerate().for_each(|(n, quad)| quads[n * shape.rows + j] = *quad);
    })
}

/// Puts each row of each head, its number first, where `place` wants it among the `each` quads of the head.
fn quads(
    x: &[f32],
    shape: Shape,
    lengths: &[u32],
    each: usize,
    place: impl Fn(usize, &[f32], &mut [[f32; QUAD]]) + Sync,
) -> Vec<[f32; QUAD]> {
    let (cols, heads) = (shape.cols(), shape.heads);
    let mut all = vec![[0.0; QUAD]; lengths.len() * heads * each];
    chunks(&mut all, each, &|at, quads| {
        let (b, first) = (at / heads, at % heads * shape.width);
        let rows = x[b * shape.rows * cols..].chunks_exact(cols).take(lengths[b] as usize);
        rows.enumerate().for_each(|(j, row)| place(j, &row[first..][..shape.width], quads));
    });
    all
}

/// Lays at most sixteen queries side by side, scaled. Where there are fewer, the last lanes keep what they had; nobody reads
/// what comes of it.
fn load(q: &[f32], cols: usize, first: usize, scale: f32, queries: &mut [Lanes]) {
    for (n, q) in q.chunks_exact(cols).enumerate() {
        q[first..].iter().zip(&mut *queries).for_each(|(q, lanes)| lanes[n] = q * scale);
    }
}

/// What sixteen queries gather with one head; `y` starts at its first column, and has a row for each query there is.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn attend(
    queries: &[Lanes],
    keys: &[[f32; QUAD]],
    values: &[[f32; QUAD]],
    shape: Shape,
    scores: &mut [Lanes],
    y: &mut [f32],
) {
    for (scores, keys) in scores.chunks_mut(QUAD).zip(keys.chunks_exact(shape.width)) {
        scores.iter_mut().zip(products(keys, queries)).for_each(|(to, lanes)| *to = lanes);
    }
    let mut highest = [f32::MIN; 16];
    for scores in &*scores {
        highest.iter_mut().zip(scores).for_each(|(h, s)| *h = if *s > *h { *s } else { *h });
    }
    let mut sums = [0.0; 16];
    for scores in &mut *scores {
        for ((score, highest), sum) in scores.iter_mut().zip(&highest).zip(&mut sums) {
            *score = power(*score - highest);
            *sum += f64::from(*score);
        }
    }
    let scales = sums.map(|sum| (1.0 / sum) as f32);
    let values = values.chunks_exact(shape.rows).take(shape.width / QUAD);
    for (n, values) in values.enumerate() {
        let gathered = products(values, scores);
        for (lane, y) in y.chunks_mut(shape.cols()).enumerate() {
            for (y, lanes) in y[n * QUAD..].iter_mut().zip(&gathered) {
                *y = lanes[lane] * scales[lane];
            }
        }
    }
}

/// `products[i][n] = sum_t quads[t][i] lanes[t][n]`, in the order of t, over as many t as both have. The sums have names of
/// their own, so that they stay in registers.
#[inline(always)]
fn products(quads: &[[f32; QUAD]], lanes: &[Lanes]) -> [Lanes; QUAD] {
    let [mut first, mut second, mut third, mut fourth] = [[0.0; 16]; QUAD];
    for ([a, b, c, d], lanes) in quads.iter().zip(lanes) {
        for n in 0..16 {
            first[n] += a * lanes[n];
            second[n] += b * lanes[n];
            third[n] += c * lanes[n];
            fourth[n] += d * lanes[n];
        }
    }
    [first, second, third, fourth]
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
    // Every row meets every other, twice, in all its columns.
    let operations = (2 * q.elements() * shape.rows) as u64;
    gpu.dispatch_long(&KERNEL, &constants, &params, (&buffers, total as u64), operations)?;
    Ok(Tensor::gpu(DType::F32, q.rows(), q.cols(), y))
}
