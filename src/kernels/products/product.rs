//! What the products of f32 activations with weights share: their arguments, the sums on the CPU, and how a GPU is asked. A
//! kernel adds how its weights are decoded.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    gpu::{Gpu, Kernel},
    kernels::{layers::activation::Activation, tasks::ITERATIONS},
    parallel::spans,
    simd::{FEW, Packed, decode_rows, matmul_f32, matmul_packed},
    words,
};
use multiversion::multiversion;
use std::ops::RangeInclusive;

/// The arguments of a product, checked.
pub(crate) struct Product<'a> {
    x: &'a Tensor,
    outputs: usize,
    bias: Option<&'a Tensor>,
    activation: Activation,
}

/// The longest row: up to here the iterations of no invocation exceed what every device allows, and the bound on the error
/// means something.
const MAX_COLS: usize = 1 << 18;

/// Codes of `bits` bits that are packed row by row, on a backend.
pub(crate) fn packed(
    on: &Backend,
    kernel: &'static str,
    codes: Vec<u32>,
    (rows, cols): (usize, usize),
    (bits, allowed): (u32, RangeInclusive<u32>),
) -> Result<Tensor> {
    if !allowed.contains(&bits) {
        let expected = format!("{} to {}", allowed.start(), allowed.end());
        return Err(Error::shape(kernel, "bits", bits, expected));
    }
    let words = bitpack::words(cols, bits);
    if codes.len() != rows * words {
        return Err(Error::shape(kernel, "codes", codes.len(), rows * words));
    }
    Tensor::new(on, DType::U32, rows, words, codes)
}

impl<'a> Product<'a> {
    /// Refuses activations and a bias that do not fit weights of `outputs` rows and `cols` columns.
    pub(crate) fn new(
        kernel: &'static str,
        x: &'a Tensor,
        (outputs, cols): (usize, usize),
        bias: Option<&'a Tensor>,
        activation: Activation,
    ) -> Result<Self> {
        if x.dtype() != DType::F32 {
            return Err(Error::shape(kernel, "dtype of x", x.dtype().name(), "F32"));
        }
        if x.cols() != cols {
            return Err(Error::shape(kernel, "columns of x", x.cols(), cols));
        }
        if cols > MAX_COLS {
            return Err(Error::shape(kernel, "columns of w", cols, format!("at most {MAX_COLS}")));
        }
        if let Some(bias) = bias {
            if bias.dtype() != DType::F32 {
                return Err(Error::shape(kernel, "dtype of bias", bias.dtype().name(), "F32"));
            }
            if (bias.rows(), bias.cols()) != (1, outputs) {
                let got = format!("{} x {}", bias.rows(), bias.cols());
                return Err(Error::shape(kernel, "bias", got, format!("1 x {outputs}")));
            }
        }
        Ok(Self { x, outputs, bias, activation })
    }

    /// The product on the CPU, with weights that are `packed`. Where they cannot be decoded by SIMD, `decode(n, codes, row)` fills
    /// `row` with row `n` of them; `codes` is room for a byte of each.
    ///
    /// The sums are those of [`matmul_f32`], to which the bias is added: their bits depend on nothing but a row of x and a row of
    /// weights.
    pub(crate) fn on_cpu(
        &self,
        packed: Packed,
        decode: impl Fn(usize, &mut [u8], &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        let (rows, cols, outputs) = (self.x.rows(), self.x.cols(), self.outputs);
        let bias = self.bias.map(Tensor::words).transpose()?.map(bytemuck::cast_slice);
        let x: &[f32] = bytemuck::cast_slice(self.x.words()?);
        if rows <= FEW && rows * cols * outputs > 0 {
            let mut y = vec![0; rows * outputs];
            let sums = bytemuck::cast_slice_mut(&mut y);
            if matmul_packed(x, packed, (rows, outputs, cols), sums) {
                sums.chunks_mut(outputs).for_each(|y| finish(bias, self.activation, y));
                return Ok(Tensor::cpu(DType::F32, rows, outputs, y));
            }
        }
        // Block by block, so that every task writes a part of its own.
        let mut sums = vec![0.0; outputs.div_ceil(BLOCK) * BLOCK * rows];
        if cols > 0 && rows > 0 {
            let least = (1 << 16) / (BLOCK * cols * rows) + 1;
            spans(&mut sums, BLOCK * rows, least, &|first, sums| {
                let (mut w, mut codes) = (vec![0.0; BLOCK * cols], vec![0; cols]);
                for (block, sums) in (first..).zip(sums.chunks_mut(BLOCK * rows)) {
                    let block = block * BLOCK..outputs.min((block + 1) * BLOCK);
                    let (w, sums) = (&mut w[..block.len() * cols], &mut sums[..block.len() * rows]);
                    let sizes = (rows, block.len(), cols);
                    if let Packed::Dense { words, dtype: DType::F32 } = packed {
                        // Nothing to decode.
                        let w = &words[block.start * cols..block.end * cols];
                        matmul_f32(x, bytemuck::cast_slice(w), sizes, sums);
                        continue;
                    }
                    if !decode_rows(packed, block.clone(), (outputs, cols), w) {
                        for (n, row) in block.clone().zip(w.chunks_mut(cols)) {
                            decode(n, &mut codes, row);
                        }
                    }
                    matmul_f32(x, w, sizes, sums);
                }
            });
        }
        let mut y = vec![0; rows * outputs];
        let least = (1 << 14) / outputs.max(1) + 1;
        spans(&mut y, outputs, least, &|first, y| {
            for (m, y) in (first..).zip(y.chunks_mut(outputs)) {
                let y = bytemuck::cast_slice_mut::<u32, f32>(y);
                for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                    y.copy_from_slice(&sums[block * BLOCK * rows + m * y.len()..][..y.len()]);
                }
                finish(bias, self.activation, y);
            }
        });
        Ok(Tensor::cpu(DType::F32, rows, outputs, y))
    }

    /// How the work is laid out on a GPU, for weights that may be read `wide` quads at a time.
    pub(crate) fn layout(&self, wide: Option<u32>) -> Layout {
        Layout::new(self.x.rows(), self.x.cols(), wide)
    }

    /// The product on a GPU, by `kernel`.
    pub(crate) fn on_gpu(
        &self,
        gpu: &Gpu,
        kernel: &'static Kernel,
        layout: Layout,
        weights: Weights,
    ) -> Result<Tensor> {
        let (rows, cols, outputs) = (self.x.rows(), self.x.cols(), self.outputs);
        let y = gpu.alloc(4 * rows * outputs)?;
        let params = Params {
            rows: rows as u32,
            outputs: outputs as u32,
            cols: cols as u32,
            words: weights.words as u32,
            group: weights.group.clamp(1, cols.max(1)) as u32,
            share: (weights.group / cols.max(1)).clamp(1, outputs.max(1)) as u32,
            entries: weights.entries as u32,
            sign: weights.sign,
            lanes: layout.lanes,
            depth: layout.depth,
            activation: self.activation.code() as u32,
            biased: self.bias.is_some().into(),
        };
        let flag = |is| f64::from(u8::from(is));
        let mut constants = vec![
            ("TILED", flag(layout.tiled)),
            ("ROWS", layout.rows.into()),
            ("QUADS", layout.quads.into()),
            ("WIDE", flag(layout.wide)),
        ];
        constants.extend(weights.constants);
        let x = self.x.buffer()?;
        // Something must be bound where there is no bias.
        let mut buffers = vec![x, self.bias.map_or(Ok(x), Tensor::buffer)?];
        for part in weights.parts {
            buffers.push(part.buffer()?);
        }
        buffers.push(&y);
        let across = outputs.div_ceil(layout.outputs()) as u64;
        let workgroups = across * rows.div_ceil(layout.rows as usize) as u64;
        let operations = (2 * rows * cols * outputs) as u64;
        gpu.dispatch_long(kernel, &constants, &params, (&buffers, workgroups), operations)?;
        Ok(Tensor::gpu(DType::F32, rows, outputs, y))
    }
}

/// The weights of a product as its shader takes them.
pub(crate) struct Weights<'a> {
    /// Bindings from 3 on.
    pub(crate) parts: &'a [&'a Tensor],
    /// The kernel's own overrides.
    pub(crate) constants: &'a [(&'static str, f64)],
    /// Words of codes per row.
    pub(crate) words: usize,
    /// Consecutive elements that share a scale or a table: they divide the row, or are whole rows.
    pub(crate) group: usize,
    /// Entries of a table, or survivors.
    pub(crate) entries: usize,
    /// The sign bit of signed codes.
    pub(crate) sign: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    rows: u32,
    outputs: u32,
    cols: u32,
    words: u32,
    group: u32,
    share: u32,
    entries: u32,
    sign: u32,
    lanes: u32,
    depth: u32,
    activation: u32,
    biased: u32,
}

/// How `shaders/frames/product.wgsl` divides the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Whether a workgroup decodes its weights once for 64 rows of x.
    tiled: bool,
    /// Rows of x that a workgroup takes.
    rows: u32,
    /// Invocations that share four rows of weights.
    lanes: u32,
    /// Units that an invocation takes between two barriers.
    depth: u32,
    /// Quads of weights in a unit.
    quads: u32,
    /// Whether a unit is 16 bytes of a row.
    wide: bool,
}

/// Workgroups of every product.
pub(crate) const WORKGROUP: u32 = 256;

impl Layout {
    fn new(rows: usize, cols: usize, wide: Option<u32>) -> Self {
        let quads = wide.unwrap_or(1);
        let wide = wide.is_some();
        if takes_tiles(rows, cols) {
            return Self { tiled: true, rows: 64, lanes: 1, depth: 1, quads, wide };
        }
        // Room for 512 quads of x is shared by rows, lanes and what each lane takes; fewer than 16 lanes are too few to fill a
        // card, so that long units leave room for fewer rows.
        let rows = (rows.min(8) as u32).next_power_of_two().min(32 / quads);
        let units = (cols as u32).div_ceil(4 * quads).max(1);
        let lanes = (512 / (rows * quads)).min(64).min(units.next_power_of_two());
        let depth = (512 / (rows * quads * lanes)).min(4);
        Self { tiled: false, rows, lanes, depth, quads, wide }
    }

    /// Outputs that a workgroup computes.
    pub(crate) fn outputs(self) -> usize {
        if self.tiled { 64 } else { (WORKGROUP / self.lanes * 4) as usize }
    }
}

/// Device memory that tensors hold.
pub(crate) fn bytes(tensors: &[&Tensor]) -> u64 {
    tensors.iter().map(|t| 4 * words(t.dtype(), t.elements()) as u64).sum()
}

/// Whether a device takes tiles of x and weights, rather than rows: for many rows, as long as an invocation may. A tile of 16
/// columns takes up to 9 iterations; 16 of them leave room.
pub(crate) fn takes_tiles(rows: usize, cols: usize) -> bool {
    rows >= 32 && cols.div_ceil(16) <= ITERATIONS.div_ceil(16)
}

/// Refuses a group that straddles rows.
pub(crate) fn expect_group(kernel: &'static str, group: usize, cols: usize) -> Result<()> {
    let fits = group > 0 && (cols.is_multiple_of(group) || group.is_multiple_of(cols));
    if cols == 0 || fits {
        return Ok(());
    }
    Err(Error::shape(kernel, "group", group, format!("a divisor or a multiple of {cols}")))
}

/// How many quads of codes 16 bytes hold, if rows of them are whole units of 16 bytes in which no code straddles words.
pub(crate) fn wide_quads(bits: usize, cols: usize) -> Option<u32> {
    (bits.is_power_of_two() && (cols * bits).is_multiple_of(128)).then_some(32 / bits as u32)
}

/// Rows of weights that are decoded at a time.
const BLOCK: usize = 32;

/// Adds the bias and applies the activation.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn finish(bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
    for (y, bias) in y.iter_mut().zip(bias.into_iter().flatten()) {
        *y += bias;
    }
    // A loop for each, so that each becomes SIMD.
    match activation {
        Activation::None => {}
        Activation::Relu => y.iter_mut().for_each(|y| *y = Activation::Relu.apply(*y)),
        Activation::Gelu => y.iter_mut().for_each(|y| *y = Activation::Gelu.apply(*y)),
    }
}
