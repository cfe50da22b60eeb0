use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    decide::{groups::Groups, kmeans::Palette, order_key},
    dtype,
    gpu::{Gpu, Kernel},
    kernels::tasks::task_rows,
    parallel::chunks,
    scratch,
    simd::{Edges, MOST_EDGES, edges_below, finds_edges},
    wgsl,
};
use multiversion::multiversion;
use std::borrow::Borrow;

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "palettize",
    wgsl: wgsl!("lib/grid", "lib/dtype", "lib/bits", "palette/palettize"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    words: u32,
    group: u32,
    first: u32,
    stride: u32,
    total: u32,
}

/// A palette prepared for assignment: its thresholds as order keys and, for many weights, a table.
#[derive(Clone, Debug)]
pub struct Assigner {
    keys: Vec<u32>,
    table: Table,
}

#[derive(Clone, Debug)]
enum Table {
    /// So few weights that it would not pay.
    None,
    /// The code of every pattern of a type of 8 or 16 bits; of one of 16 bits also, where they are few, the keys after which codes
    /// rise.
    Patterns(DType, Vec<u8>, Option<Box<Edges>>),
    /// For every value of the order key's top 16 bits, the code of the smallest key that has them; the most thresholds that
    /// share such bits; and the thresholds, filled up with keys that nothing exceeds.
    Starts(Vec<u8>, usize, Box<[u32; 256]>),
}

/// With so few thresholds, comparing with every one is faster than looking up.
const FEW: usize = 16;

/// With more thresholds than this in one cell of a table, a binary search is faster.
const CROWDED: usize = 6;

impl Assigner {
    /// Prepares a palette for about `weights` weights of `dtype`.
    pub fn new(palette: &Palette, dtype: DType, weights: u64) -> Self {
        let keys: Vec<u32> = palette.thresholds.iter().map(|t| order_key::of_f32(*t)).collect();
        let code = |key: u32| keys.partition_point(|t| *t < key) as u8;
        let table = match dtype {
            _ if weights <= 1 << 17 => Table::None,
            DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => {
                let patterns = 1 << dtype.bits();
                let all: Vec<u32> = match dtype.bits() {
                    16 => (0..patterns / 2).map(|i| ((2 * i + 1) << 16) | (2 * i)).collect(),
                    _ => (0..patterns / 4).map(|i| 0x0302_0100 + i * 0x0404_0404).collect(),
                };
                let mut values = vec![0.0; patterns as usize];
                dtype::decode(dtype, &all, 0, &mut values);
                let codes: Vec<u8> =
                    values.into_iter().map(|v| code(order_key::of_f32(v))).collect();
                let few = dtype.bits() == 16 && keys.len() <= MOST_EDGES;
                let edges = few.then(|| edges(&codes, keys.len()));
                Table::Patterns(dtype, codes, edges)
            }
            _ if keys.len() > FEW => {
                let starts: Vec<u8> = (0..1u32 << 16).map(|top| code(top << 16)).collect();
                let crowd =
                    |top: usize| keys.iter().filter(|k| (**k >> 16) as usize == top).count();
                let most = keys.iter().map(|k| crowd((k >> 16) as usize)).max().unwrap_or(0);
                let mut padded = Box::new([u32::MAX; 256]);
                padded[..keys.len()].copy_from_slice(&keys);
                if most <= CROWDED { Table::Starts(starts, most, padded) } else { Table::None }
            }
            _ => Table::None,
        };
        Self { keys, table }
    }

    /// Codes of weights, from element `first` of `words` on.
    fn assign(&self, dtype: DType, words: &[u32], first: usize, codes: &mut [u8]) {
        match &self.table {
            Table::Patterns(of, table, edges) if *of == dtype => {
                let span = first..first + codes.len();
                match (dtype.bits(), edges) {
                    (16, edges) => {
                        let halves = &bytemuck::cast_slice::<u32, u16>(words)[span];
                        match edges {
                            Some(edges) if finds_edges() => {
                                edges_below(halves, edges, self.keys.len(), codes);
                            }
                            _ => look_up::<u16, 65536>(halves, table, codes),
                        }
                    }
                    _ => look_up::<u8, 256>(
                        &bytemuck::cast_slice::<u32, u8>(words)[span],
                        table,
                        codes,
                    ),
                }
            }
            _ => {
                let mut values = [0.0; CHUNK];
                for (i, codes) in codes.chunks_mut(CHUNK).enumerate() {
                    let values = &mut values[..codes.len()];
                    dtype::decode(dtype, words, first + i * CHUNK, values);
                    self.assign_values(values, codes);
                }
            }
        }
    }

    fn assign_values(&self, weights: &[f32], codes: &mut [u8]) {
        match &self.table {
            _ if self.keys.len() <= FEW => compare_all(weights, &self.keys, codes),
            Table::Starts(starts, most, thresholds) => {
                for (w, code) in weights.iter().zip(codes) {
                    let key = order_key::of_f32(*w);
                    let mut c = starts[(key >> 16) as usize & 0xffff];
                    // The same number of steps for every weight: nothing to mispredict.
                    for _ in 0..*most {
                        c += u8::from(thresholds[usize::from(c)] < key);
                    }
                    *code = c;
                }
            }
            _ => {
                for (w, code) in weights.iter().zip(codes) {
                    let key = order_key::of_f32(*w);
                    *code = self.keys.partition_point(|t| *t < key) as u8;
                }
            }
        }
    }
}

/// Of the codes of all patterns of 16 bits, which are numbers below `count` and one more, the last keys that have each but the last.
fn edges(codes: &[u8], count: usize) -> Box<Edges> {
    // By the order of keys.
    let code = |key: i32| {
        let half = key as i16;
        codes[usize::from((half ^ ((half >> 15) as u16 >> 1) as i16) as u16)]
    };
    let mut edges = Box::new([i16::MAX; 32]);
    for (edge, j) in edges[..count].iter_mut().zip(0..) {
        let (mut low, mut high) = (i32::from(i16::MIN), i32::from(i16::MAX) + 1);
        while low < high {
            let middle = (low + high).div_euclid(2);
            if code(middle) > j { high = middle } else { low = middle + 1 }
        }
        *edge = (low - 1) as i16;
    }
    edges
}

fn look_up<T: Copy + Into<usize>, const PATTERNS: usize>(
    patterns: &[T],
    table: &[u8],
    codes: &mut [u8],
) {
    // An array whose length the compiler knows: no pattern lies outside.
    let table: &[u8; PATTERNS] = table.try_into().expect("a code for every pattern");
    for (p, code) in patterns.iter().zip(codes) {
        *code = table[(*p).into() % PATTERNS];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn compare_all(weights: &[f32], keys: &[u32], codes: &mut [u8]) {
    let mut below = [0i32; 256];
    let mut of_weights = [0i32; 256];
    for (weights, codes) in weights.chunks(256).zip(codes.chunks_mut(256)) {
        // Signed, because that is what every SIMD instruction set compares.
        for (w, key) in weights.iter().zip(&mut of_weights) {
            let bits = w.to_bits() as i32;
            *key = bits ^ ((bits >> 31) as u32 >> 1) as i32;
        }
        below.fill(0);
        for threshold in keys {
            let threshold = (*threshold ^ 0x8000_0000) as i32;
            for (key, n) in of_weights.iter().zip(&mut below) {
                *n += i32::from(*key > threshold);
            }
        }
        for (n, code) in below.iter().zip(codes) {
            *code = *n as u8;
        }
    }
}

/// Gives every weight the number of its palette entry.
///
/// `codes[r, c] = #{t in thresholds : t < weights[r, c]}`, packed
///
/// - `weights`: `[rows, cols]`, finite; F64 is taken as f32, rounded to nearest even.
/// - `palettes`: one for every group that the tile touches; `groups` says which elements share one.
/// - `bits`: 1 to 8, enough for the longest palette.
/// - returns U32 `[rows, words]`: each row of codes starts on a 32-bit boundary, first code in the low bits, padding zero.
///
/// Agreement: exact (comparisons of order keys, never of rounded distances).
///
/// # Errors
///
/// [`Error::Shape`] if the elements are no weights, or the palettes do not fit the groups or the bits; [`Error::Gpu`] if the
/// device fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor, kernels::{self, Assigner, Groups}, kmeans::Palette};
///
/// let on = Backend::Cpu;
/// let weights = Tensor::from_f32(&on, &[-2.0, -0.5, 0.25, 0.75], 1)?;
/// let palette = Palette { entries: vec![-1.0, 0.0, 1.0], thresholds: vec![-0.5, 0.5] };
/// let assigner = Assigner::new(&palette, DType::F32, 4);
/// let codes = kernels::palettize(&on, &weights, &[assigner], Groups::of(4), 2)?;
/// assert_eq!(codes.read(&on)?, [0b10_01_00_00]); // -0.5 lies on a threshold: the lower entry
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn palettize<P: Borrow<Assigner> + Sync>(
    on: &Backend,
    weights: &Tensor,
    palettes: &[P],
    groups: Groups,
    bits: u32,
) -> Result<Tensor> {
    crate::kernels::expect::expect_weights(KERNEL.name, weights)?;
    let expected = groups.count(weights.elements());
    if palettes.len() != expected {
        return Err(Error::shape(KERNEL.name, "palettes", palettes.len(), expected));
    }
    let longest = palettes.iter().map(|p| p.borrow().keys.len()).max().unwrap_or(0);
    if !(1..=8).contains(&bits) || longest >= 1 << bits {
        return Err(Error::shape(
            KERNEL.name,
            "bits",
            bits,
            format!("1 to 8, enough for {} entries", longest + 1),
        ));
    }
    let (rows, cols) = (weights.rows(), weights.cols());
    match on {
        Backend::Cpu => {
            let codes =
                reference(weights.dtype(), weights.words()?, (rows, cols), palettes, groups, bits);
            Ok(Tensor::cpu(DType::U32, rows, bitpack::words(cols, bits), codes))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, weights, palettes, groups, bits),
    }
}

/// Weights that are decoded at a time: they stay in the first cache.
const CHUNK: usize = 2048;

fn reference<P: Borrow<Assigner> + Sync>(
    dtype: DType,
    weights: &[u32],
    (rows, cols): (usize, usize),
    palettes: &[P],
    groups: Groups,
    bits: u32,
) -> Vec<u32> {
    let words = bitpack::words(cols, bits);
    let mut packed = scratch::words(rows * words);
    let task = task_rows(rows, cols);
    let palettes: Vec<&Assigner> = palettes.iter().map(Borrow::borrow).collect();
    chunks(&mut packed, task * words, &|t, packed| {
        let mut codes = vec![0; cols];
        for (r, packed) in packed.chunks_mut(words.max(1)).enumerate() {
            let start = (t * task + r) * cols;
            for (span, palette) in groups.spans(start..start + cols, &palettes) {
                palette.assign(
                    dtype,
                    weights,
                    span.start,
                    &mut codes[span.start - start..span.end - start],
                );
            }
            bitpack::pack(&codes, bits, packed);
        }
    });
    packed
}

fn on_gpu<P: Borrow<Assigner>>(
    gpu: &Gpu,
    weights: &Tensor,
    palettes: &[P],
    groups: Groups,
    bits: u32,
) -> Result<Tensor> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let words = bitpack::words(cols, bits);
    let out = gpu.alloc(rows * words * 4)?;
    let longest = palettes.iter().map(|p| p.borrow().keys.len()).max().unwrap_or(0);
    let stride = (longest + 1).next_power_of_two().max(2);
    let mut thresholds = vec![u32::MAX; palettes.len() * stride];
    for (palette, row) in palettes.iter().zip(thresholds.chunks_mut(stride)) {
        let keys = &palette.borrow().keys;
        row[..keys.len()].copy_from_slice(keys);
    }
    let (group, first) = groups.for_device(weights.elements());
    let total = (rows * words) as u32;
    let params = Params {
        cols: cols as u32,
        words: words as u32,
        group,
        first,
        stride: stride as u32,
        total,
    };
    let constants = [("DTYPE", dtype::code(weights.dtype())), ("BITS", bits.into())];
    let buffers = [weights.buffer()?, &gpu.upload(&thresholds)?, &out];
    gpu.dispatch(&KERNEL, &constants, &params, &buffers, KERNEL.workgroups(total.into()))?;
    Ok(Tensor::gpu(DType::U32, rows, words, out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_thresholds_and_a_table_give_every_pattern_the_same_code() {
        let patterns: Vec<u32> = (0..1 << 15).map(|i| (2 * i + 1) << 16 | (2 * i)).collect();
        for dtype in [DType::BF16, DType::F16] {
            for k in [1, 2, 3, 16, 17, 31, 32] {
                let entries: Vec<f32> = (0..k).map(|i| (i - k / 3) as f32 * 0.37).collect();
                let thresholds = entries.windows(2).map(|e| (e[0] + e[1]) / 2.0).collect();
                let assigner = Assigner::new(&Palette { entries, thresholds }, dtype, 1 << 20);
                let Table::Patterns(_, table, Some(_)) = &assigner.table else { panic!("{k}") };
                let mut codes = vec![0; 1 << 16];
                assigner.assign(dtype, &patterns, 0, &mut codes);
                assert_eq!(codes, *table, "{} {k}", dtype.name());
            }
        }
    }
}
