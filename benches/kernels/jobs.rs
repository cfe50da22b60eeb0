//! Kernels whose arguments are no weights of a checkpoint: layers, products, and what takes stored bytes apart.

use std::sync::Arc;
use tersor::{
    Backend, DType, Result, Tensor,
    affine::{AffineCode, Scale},
    codec::{
        bitpack,
        block::IndexKind,
        bloomier, huffman,
        pyramid::Pyramid,
        rans, ribbon,
        trellis::{self, Trellis},
    },
    dtype,
    kernels::*,
    trellis::{Grid, Positions},
    words,
};

/// What a kernel gives, on the device or on the host.
pub enum Output {
    Tensors(Vec<Tensor>),
    Words(Vec<u32>),
}

/// Runs a kernel on a backend.
type Run = dyn Fn(&Backend) -> Result<Output>;

/// A kernel with its arguments on a backend, and the bytes that it must read and write.
pub struct Job {
    pub bytes: u64,
    pub run: Box<Run>,
}

/// Every kernel there is a job for.
pub const JOBS: [&str; 32] = [
    "activate",
    "add",
    "attention",
    "binarize",
    "bloomier_query",
    "dequantize_pyramid",
    "gather_rows",
    "huffman_decode",
    "im2col",
    "layer_norm",
    "magnitude_tail",
    "masked_mean",
    "matmul_affine",
    "matmul_binary",
    "matmul_f32",
    "matmul_i8",
    "matmul_i8_coop",
    "matmul_palette",
    "matmul_sparse",
    "matmul_vectors",
    "max_pool",
    "nearest",
    "pack_codes",
    "pyramid_search",
    "quantize_rows",
    "rans_decode",
    "requantize",
    "ribbon_query",
    "scatter",
    "softmax",
    "trellis_decode",
    "trellis_search",
];

/// Rows of activations, columns of them and rows of weights, columns of weights: a layer of an encoder. A few images of 64 x 64.
const M: usize = 512;
const N: usize = 768;
const K: usize = 768;
const IMAGES: Image = Image { count: 4, height: 64, width: 64, channels: 32 };
const WINDOW: Window = Window { height: 3, width: 3, stride: 1, padding: 1 };

/// Positions of a retrieval structure, and symbols of a stream.
const POSITIONS: usize = 1 << 18;
const SYMBOLS: usize = 1 << 20;

/// Repeatable words.
fn noise(seed: u32, len: usize) -> Vec<u32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> ((state >> 28) + 4) ^ state).wrapping_mul(277_803_737)
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Repeatable values from -1 to 1.
fn floats(on: &Backend, seed: u32, (rows, cols): (usize, usize)) -> Result<Tensor> {
    let value = |w: &u32| *w as i32 as f32 / (1u32 << 31) as f32;
    let values: Vec<f32> = noise(seed, rows * cols).iter().map(value).collect();
    Tensor::from_f32(on, &values, rows)
}

/// Symbols of four bits, the low ones more often.
fn trellis() -> Trellis {
    Trellis::new(8).expect("there is one of 8 states")
}

fn symbols(len: usize) -> Vec<u8> {
    noise(5, len).iter().map(|w| ((w >> 8) % 16).min((w >> 16) % 16) as u8).collect()
}

fn bytes_of(on: &Backend, bytes: &[u8]) -> Result<Tensor> {
    let mut packed = vec![0; words(DType::U8, bytes.len())];
    bytemuck::cast_slice_mut(&mut packed)[..bytes.len()].copy_from_slice(bytes);
    Tensor::new(on, DType::U8, 1, bytes.len(), packed)
}

fn int8(on: &Backend, seed: u32, rows: usize) -> Result<Int8> {
    let words = Tensor::new(on, DType::U32, rows, K / 4, noise(seed, rows * K / 4))?;
    Ok(Int8 { words, cols: K, signed: true })
}

/// A job whose run gives tensors.
fn tensors(
    bytes: usize,
    run: impl Fn(&Backend) -> Result<Vec<Tensor>> + 'static,
) -> Result<Option<Job>> {
    let run = Box::new(move |on: &Backend| Ok(Output::Tensors(run(on)?)));
    Ok(Some(Job { bytes: bytes as u64, run }))
}

/// The job of a kernel; none where the device does not do it.
pub fn job(kernel: &str, on: &Backend) -> Result<Option<Job>> {
    let none = Activation::None;
    let layer = 4 * M * K;
    // Bytes of a product with weights of so many bits.
    let product = |bits: usize| 4 * M * (K + N) + N * K * bits / 8;
    let x = |seed| floats(on, seed, (M, K));
    match kernel {
        "activate" => {
            let x = x(1)?;
            tensors(2 * layer, move |on| Ok(vec![activate(on, &x, Activation::Gelu)?]))
        }
        "add" => {
            let (x, y) = (x(1)?, x(2)?);
            tensors(3 * layer, move |on| Ok(vec![add(on, &x, &y)?]))
        }
        "attention" => {
            let (q, k, v) = (x(1)?, x(2)?, x(3)?);
            tensors(4 * layer, move |on| {
                Ok(vec![attention(on, &q, &k, &v, 12, &[M as u32 / 4; 4])?])
            })
        }
        "binarize" => {
            let w = floats(on, 1, (N, K))?;
            tensors(N * K * 33 / 8, move |on| {
                let found = binarize(on, &w)?;
                Ok(vec![found.bits, found.scales])
            })
        }
        "ribbon_query" | "bloomier_query" => {
            let mask: Vec<u32> = noise(6, POSITIONS / 32).iter().map(|w| w & 0x1111_0101).collect();
            let survivors = mask.iter().map(|w| w.count_ones() as usize).sum();
            let (values, mut stored) = (symbols(survivors), Vec::new());
            let ribbon = kernel == "ribbon_query";
            let encode = if ribbon { ribbon::encode } else { bloomier::encode };
            encode(POSITIONS, &mask, &values, (4, 8), &mut stored);
            let query = if ribbon { ribbon_query } else { bloomier_query };
            tensors(stored.len() + POSITIONS * 9 / 8, move |on| {
                let (mask, values) = query(on, &stored, POSITIONS)?;
                Ok(vec![mask, values])
            })
        }
        "gather_rows" => {
            let table = floats(on, 1, (4096, K))?;
            let rows: Vec<u32> = noise(2, M).iter().map(|w| w % 4096).collect();
            tensors(2 * layer, move |on| Ok(vec![gather_rows(on, &table, &rows)?]))
        }
        "huffman_decode" | "rans_decode" => {
            let (symbols, mut stored) = (symbols(SYMBOLS), Vec::new());
            let huffman = kernel == "huffman_decode";
            match huffman {
                true => assert!(huffman::encode(&symbols, &mut stored)),
                false => rans::encode(&symbols, &mut stored),
            }
            let decode = if huffman { huffman_decode } else { rans_decode };
            tensors(stored.len() + SYMBOLS, move |on| {
                Ok(vec![decode(on, &[(&stored[..], SYMBOLS)])?])
            })
        }
        "trellis_decode" => {
            let (trellis, mut codes) = (trellis(), symbols(SYMBOLS));
            let mut stored = Vec::new();
            trellis.lead(&mut codes);
            trellis::encode(&codes, &mut stored);
            tensors(stored.len() + SYMBOLS, move |on| {
                Ok(vec![trellis_decode(on, trellis, &[(&stored[..], SYMBOLS)])?])
            })
        }
        "trellis_search" => {
            // Sixteen steps, and what each subset costs in squares.
            let positions = Positions { per_weight: 1.0, middle: 0, core: 255, far: 0 };
            let square = |p: i32, s: i32| ((p - 16 * s).rem_euclid(64) - 32).pow(2) as u16;
            let grid = Grid {
                trellis: trellis(),
                positions,
                costs: (0..511).map(|p| [0, 1, 2, 3].map(|s| square(p, s))).collect(),
                codes: (0..511)
                    .map(|p| [0, 1, 2, 3].map(|s| (p / 8 * 4 % 256) as u8 + s))
                    .collect(),
            };
            let words: Vec<u32> = noise(7, SYMBOLS / 2).iter().map(|w| w & 0x00ff_00ff).collect();
            let at = Tensor::new(on, DType::U16, 1, SYMBOLS, words)?;
            tensors(3 * SYMBOLS, move |on| Ok(vec![trellis_search(on, &at, &[SYMBOLS], &grid)?]))
        }
        "im2col" | "max_pool" => {
            let pixels = IMAGES.count * IMAGES.height * IMAGES.width;
            let x = floats(on, 1, (pixels, IMAGES.channels))?;
            let image = 4 * pixels * IMAGES.channels;
            match kernel {
                "im2col" => {
                    tensors(10 * image, move |on| Ok(vec![im2col(on, &x, IMAGES, WINDOW, 0)?]))
                }
                _ => {
                    tensors(2 * image, move |on| Ok(vec![max_pool(on, &x, IMAGES, WINDOW, false)?]))
                }
            }
        }
        "layer_norm" => {
            let (x, more) = (x(1)?, x(2)?);
            let (gamma, beta) = (floats(on, 3, (1, K))?, floats(on, 4, (1, K))?);
            tensors(3 * layer, move |on| {
                Ok(vec![layer_norm(on, &x, Some(&more), &gamma, &beta, 1e-12)?])
            })
        }
        "magnitude_tail" => {
            let w = floats(on, 1, (N, K))?;
            let run = move |on: &Backend| {
                let counts = magnitude_tail(on, &w, 0.5f32.to_bits() >> 12)?;
                Ok(Output::Words(counts.iter().map(|n| *n as u32).collect()))
            };
            Ok(Some(Job { bytes: 4 * (N * K) as u64, run: Box::new(run) }))
        }
        "masked_mean" => {
            let x = x(1)?;
            tensors(layer, move |on| Ok(vec![masked_mean(on, &x, &[M as u32 / 4; 4])?]))
        }
        "matmul_affine" => {
            let (x, code) = (x(1)?, AffineCode { bits: 4, symmetric: true });
            let scales = vec![Scale { scale: 0.01, zero_point: 0 }; N * K / 128];
            let codes = noise(2, N * bitpack::words(K, 4));
            let w = AffineMatrix::new(on, codes, (N, K), code, 128, &scales)?;
            tensors(product(4), move |on| Ok(vec![matmul_affine(on, &x, &w, None, none)?]))
        }
        "matmul_binary" => {
            let (a, w) = (binarize(on, &x(1)?)?, binarize(on, &floats(on, 2, (N, K))?)?);
            tensors((M + N) * K / 8 + 4 * M * N, move |on| {
                Ok(vec![matmul_binary(on, &a, &w, None)?])
            })
        }
        "matmul_f32" => {
            let (x, w) = (x(1)?, floats(on, 2, (N, K))?);
            tensors(product(32), move |on| Ok(vec![matmul_f32(on, &x, &w, None, none)?]))
        }
        "matmul_i8" | "matmul_i8_coop" => {
            let coop = kernel == "matmul_i8_coop";
            if coop && !matches!(on, Backend::Gpu(gpu) if matrix_units(gpu)) {
                return Ok(None);
            }
            let (a, w) = (int8(on, 1, M)?, int8(on, 2, N)?);
            let channels = Channels::new(on, &[[0; 4]; N])?;
            tensors((M + N) * K + 4 * M * N, move |on| {
                Ok(vec![match on {
                    Backend::Gpu(gpu) if coop => {
                        matmul_i8_coop(gpu, &a, &w, &channels, Epilogue::Sum)?
                    }
                    Backend::Gpu(gpu) => {
                        matmul_i8_in_tiles(gpu, &a, &w, &channels, Epilogue::Sum, Tile::Large)?
                    }
                    Backend::Cpu => matmul_i8(on, &a, &w, &channels, Epilogue::Sum)?,
                }])
            })
        }
        "matmul_palette" => {
            let entries: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
            let codes = noise(2, N * bitpack::words(K, 4));
            let (x, w) = (x(1)?, PaletteMatrix::new(on, codes, (N, K), 4, N * K, &entries)?);
            tensors(product(4), move |on| Ok(vec![matmul_palette(on, &x, &w, None, none)?]))
        }
        "matmul_sparse" => {
            let survivors = N * K / 2;
            let values: Vec<f32> = (0..survivors).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut stored = vec![0; words(DType::F16, survivors)];
            dtype::encode(DType::F16, &values, &mut stored, 0);
            let mask = vec![0x6c95_a35c; N * K / 32];
            let (x, w) = (x(1)?, SparseMatrix::new(on, mask, stored, DType::F16, (N, K))?);
            tensors(product(9), move |on| Ok(vec![matmul_sparse(on, &x, &w, None, none)?]))
        }
        "matmul_vectors" => {
            let values = noise(3, 4 * 256).iter().map(|z| (z % 4095) as i16 - 2047).collect();
            let entries = Arc::new(Entries { dim: 4, k: 256, values });
            let codes = Tensor::new(on, DType::U32, N, K / 16, noise(2, N * K / 16))?;
            let scales = vec![Scale { scale: 1e-3, zero_point: 0 }; N];
            let w = VectorMatrix::of_codes(on, codes, K, (entries, 1), K, &scales)?;
            let x = x(1)?;
            tensors(product(2), move |on| Ok(vec![matmul_vectors(on, &x, &w, None, none)?]))
        }
        "nearest" => {
            // Vectors of four weights of a layer: bytes are of points and labels, what costs is the 256 entries of each.
            let number = |z: &u32| (z % 4095) as i16 - 2047;
            let values: Vec<i16> = noise(3, 4 * 256).iter().map(number).collect();
            let entries = Entries { dim: 4, k: 256, values };
            let points: Vec<i16> = noise(4, N * K).iter().map(number).collect();
            let points = points_of(on, &points, 4)?;
            tensors(N * K * 5, move |on| Ok(vec![nearest(on, &points, &entries)?]))
        }
        "dequantize_pyramid" => {
            // 3.5 bits a weight; of any bits.
            let pyramid = Pyramid::new(32, 64).expect("it is small");
            let gains: Vec<f32> = (0..64).map(|i| i as f32).collect();
            let width = PyramidCodes { pyramid, gains: &gains }.bits() as usize * K / 32;
            let width = width.div_ceil(32);
            let codes = Tensor::new(on, DType::U32, N, width, noise(2, N * width))?;
            tensors(4 * N * width + 2 * N * K, move |on| {
                let book = PyramidCodes { pyramid, gains: &gains };
                Ok(vec![dequantize_pyramid(on, &codes, K, book, DType::BF16)?])
            })
        }
        "pyramid_search" => {
            let codes = Tensor::new(on, DType::U32, N, K / 4, noise(2, N * K / 4))?;
            tensors(2 * N * K, move |on| Ok(vec![pyramid_search(on, &codes, 32, 64)?]))
        }
        "pack_codes" => {
            let codes = [bytes_of(on, &symbols(N * K))?];
            tensors(N * K * 3 / 2, move |on| Ok(vec![pack_codes(on, &codes, K, 4)?]))
        }
        "quantize_rows" => {
            let x = x(1)?;
            tensors(layer * 5 / 4, move |on| {
                let rows = quantize_rows(on, &x)?;
                Ok(vec![rows.codes.words, rows.scales])
            })
        }
        "requantize" => {
            let sums: Vec<u32> = noise(1, M * N).iter().map(|w| (*w as i32 >> 14) as u32).collect();
            let sums = Tensor::new(on, DType::I32, M, N, sums)?;
            let (factor, shift) = multiplier(1e-3);
            let channels = Channels::new(on, &[[0, 0, factor as u32, shift]; N])?;
            tensors(5 * M * N, move |on| Ok(vec![requantize(on, &sums, &channels, 0, -128, 127)?]))
        }
        "scatter" => {
            // Blocks of a bit for each weight, of which half survive.
            let (block, blocks) = (1 << 14, 32);
            let mask: Vec<u8> = noise(7, blocks * block / 8).iter().map(|w| *w as u8).collect();
            let mut listed = Vec::new();
            for (b, mask) in mask.chunks(block / 8).enumerate() {
                let kept: usize = mask.iter().map(|byte| byte.count_ones() as usize).sum();
                let first = listed.last().map_or(0, |last: &Survivors| last.codes.end);
                listed.push(Survivors {
                    kind: IndexKind::Bitmap,
                    symbols: b * block / 8..(b + 1) * block / 8,
                    weights: b * block..(b + 1) * block,
                    codes: first..first + kept,
                });
            }
            let count = listed.last().map_or(0, |last| last.codes.end);
            let (index, codes) = (bytes_of(on, &mask)?, bytes_of(on, &symbols(count))?);
            let table: Vec<f32> = (0..16).map(|i| i as f32).collect();
            tensors(mask.len() + count + 2 * blocks * block, move |on| {
                let codes = (&codes, Order::Survivors);
                Ok(vec![scatter(on, &index, &listed, codes, &table, DType::F16)?])
            })
        }
        "softmax" => {
            let x = x(1)?;
            tensors(2 * layer, move |on| Ok(vec![softmax(on, &x)?]))
        }
        other => panic!("no job for {other}"),
    }
}
