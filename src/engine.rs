//! Runs kernels on the tiles of a unit, on whatever backend is there: cuts the unit to the device's limits, redoes on the CPU
//! what the device cannot do, and keeps count of both.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    gpu::Gpu,
    progress::{Cancel, Progress},
    stage::{Blocks, Unit},
    tensor::slice,
    words,
};
use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// A backend at work, and what it has done so far.
pub struct Engine<'a> {
    backend: &'a Backend,
    /// What the job says while it runs.
    pub progress: &'a dyn Progress,
    /// What stops it.
    pub cancel: &'a Cancel,
    /// Source bytes that are loaded and treated together.
    pub unit_bytes: u64,
    gpu_tiles: AtomicU64,
    cpu_tiles: AtomicU64,
    repaired: AtomicU64,
    given_up: AtomicBool,
    reasons: Mutex<BTreeSet<String>>,
}

/// Part of a unit that fits the device.
#[derive(Debug)]
pub struct Tile {
    /// Its elements, on the backend that runs it.
    pub weights: Tensor,
    /// Its rows within the unit.
    pub rows: Range<usize>,
    /// Its columns within the unit: all, or a piece that starts at a multiple of 32.
    pub cols: Range<usize>,
    /// The number of its first element in the tensor.
    pub start: u64,
}

/// Where a part of a unit lies that is restored at once: whole rows, or a piece of one row.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its rows and columns.
    pub shape: (usize, usize),
    /// The number of its first element in the tensor.
    pub start: u64,
}

/// What a kernel needs of the device besides the weights.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Bytes of tables for every `group` elements.
    pub table_bytes: usize,
    /// Elements that share a table.
    pub group: usize,
    /// Column pieces start at multiples of this as well as of 32.
    pub multiple: usize,
    /// Bytes of results for every element, where they may be more than its own.
    pub result_bytes: usize,
}

impl Default for Needs {
    fn default() -> Self {
        Self { table_bytes: 0, group: 1, multiple: 1, result_bytes: 0 }
    }
}

/// How many tiles ran where: a tile counts once for every kernel, or chain of kernels, that it is cut for, since each has its
/// own needs. On the CPU a unit is one tile.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// On the GPU.
    pub gpu: u64,
    /// On the CPU.
    pub cpu: u64,
    /// On the CPU because they failed on the GPU.
    pub repaired: u64,
    /// Why, each reason once.
    pub reasons: Vec<String>,
}

impl<'a> Engine<'a> {
    /// An engine that has done nothing.
    pub fn new(
        backend: &'a Backend,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
        unit_bytes: u64,
    ) -> Self {
        Self {
            backend,
            progress,
            cancel,
            unit_bytes,
            gpu_tiles: AtomicU64::new(0),
            cpu_tiles: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            reasons: Mutex::default(),
        }
    }

    /// What has run where so far.
    pub fn counts(&self) -> Counts {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            gpu: self.gpu_tiles.load(Relaxed),
            cpu: self.cpu_tiles.load(Relaxed),
            repaired: self.repaired.load(Relaxed),
            reasons: reasons.iter().cloned().collect(),
        }
    }

    /// The backend that was opened, by name.
    pub fn name(&self) -> &str {
        self.backend.name()
    }

    /// The backend to start whole-tensor work on: the GPU until it has failed.
    pub fn backend(&self) -> &Backend {
        if self.given_up.load(Relaxed) { &Backend::Cpu } else { self.backend }
    }

    /// Runs `kernels` on a unit's tiles: on the device if it can, otherwise on the CPU, where the unit is one tile.
    pub fn run<T>(
        &self,
        blocks: &Blocks,
        unit: &Unit,
        elements: &mut Vec<u32>,
        needs: Needs,
        kernels: impl Fn(&Backend, &[Tile]) -> Result<T>,
    ) -> Result<T> {
        self.cancel.check()?;
        if let on @ Backend::Gpu(gpu) = self.backend() {
            match self.on_gpu((gpu, on), blocks, unit, elements, needs, &kernels) {
                Err(Error::Gpu { kernel, message }) => self.record(kernel, &message, gpu),
                other => return other,
            }
        }
        self.on_cpu(blocks, unit, elements, |tile| {
            kernels(&Backend::Cpu, std::slice::from_ref(tile))
        })
    }

    /// Restores a unit from its codes of `bits` bits, packed row by row: on the device's tiles if it can, otherwise on the
    /// CPU. `kernel` is given the codes of each tile, and returns its weights.
    pub fn restore(
        &self,
        blocks: &Blocks,
        unit: &Unit,
        codes: Vec<u32>,
        bits: u32,
        needs: Needs,
        kernel: impl Fn(&Backend, &Tensor, &Place) -> Result<Tensor>,
    ) -> Result<Vec<u32>> {
        self.cancel.check()?;
        let (rows, cols) = unit.shape();
        let row_words = bitpack::words(cols, bits);
        if let on @ Backend::Gpu(gpu) = self.backend() {
            let on_gpu = || {
                let tiles = cut(gpu, blocks.dtype, (rows, cols), needs)?;
                // All of them are under way before the first is waited for.
                let weights = tiles.iter().map(|(r, c)| {
                    let first = r.start * row_words + c.start * bits as usize / 32;
                    let width = bitpack::words(c.len(), bits);
                    let part = codes[first..first + r.len() * width].to_vec();
                    let start = unit.start(blocks) + (r.start * cols + c.start) as u64;
                    let place = Place { shape: (r.len(), c.len()), start };
                    kernel(on, &Tensor::new(on, DType::U32, r.len(), width, part)?, &place)
                });
                let weights = weights.collect::<Result<Vec<_>>>()?;
                let mut out = vec![0; words(blocks.dtype, rows * cols)];
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
                let size = blocks.dtype.bits() / 8;
                for (tile, (r, c)) in weights.into_iter().zip(&tiles) {
                    let len = tile.elements() * size;
                    let part = tile.into_words(on)?;
                    bytes[(r.start * cols + c.start) * size..][..len]
                        .copy_from_slice(&bytemuck::cast_slice(&part)[..len]);
                }
                self.gpu_tiles.fetch_add(tiles.len() as u64, Relaxed);
                Ok(out)
            };
            match on_gpu() {
                Err(Error::Gpu { kernel, message }) => self.record(kernel, &message, gpu),
                other => return other,
            }
        }
        let codes = Tensor::new(&Backend::Cpu, DType::U32, rows, row_words, codes)?;
        let place = Place { shape: (rows, cols), start: unit.start(blocks) };
        let restored = kernel(&Backend::Cpu, &codes, &place)?.into_words(&Backend::Cpu);
        self.cpu_tiles.fetch_add(1, Relaxed);
        restored
    }

    /// Runs `kernels` on the device's tiles of a unit, and nowhere else.
    pub fn on_device<T>(
        &self,
        blocks: &Blocks,
        unit: &Unit,
        elements: &mut [u32],
        kernels: impl Fn(&Backend, &[Tile]) -> Result<T>,
    ) -> Result<T> {
        self.cancel.check()?;
        match self.backend() {
            on @ Backend::Gpu(gpu) => {
                self.on_gpu((gpu, on), blocks, unit, elements, Needs::default(), &kernels)
            }
            Backend::Cpu => {
                Err(Error::Gpu { kernel: "engine", message: "the device was given up".into() })
            }
        }
    }

    /// Runs `kernels` on the CPU, where a unit is one tile.
    pub fn on_cpu<T>(
        &self,
        blocks: &Blocks,
        unit: &Unit,
        elements: &mut Vec<u32>,
        kernels: impl FnOnce(&Tile) -> Result<T>,
    ) -> Result<T> {
        self.cancel.check()?;
        let (rows, cols) = unit.shape();
        let weights =
            Tensor::new(&Backend::Cpu, blocks.dtype, rows, cols, std::mem::take(elements))?;
        let tile = Tile { weights, rows: 0..rows, cols: 0..cols, start: unit.start(blocks) };
        let done = kernels(&tile);
        *elements = tile.weights.into_words(&Backend::Cpu)?;
        self.cpu_tiles.fetch_add(1, Relaxed);
        done
    }

    fn on_gpu<T>(
        &self,
        (gpu, on): (&Gpu, &Backend),
        blocks: &Blocks,
        unit: &Unit,
        elements: &[u32],
        needs: Needs,
        kernels: &impl Fn(&Backend, &[Tile]) -> Result<T>,
    ) -> Result<T> {
        let cut = cut(gpu, blocks.dtype, unit.shape(), needs)?;
        let tiles = cut.into_iter().map(|(rows, cols)| {
            let first = rows.start * unit.shape().1 + cols.start;
            let count = rows.len() * cols.len();
            let part = slice(blocks.dtype, elements, first, count);
            Ok(Tile {
                weights: Tensor::new(on, blocks.dtype, rows.len(), cols.len(), part)?,
                start: unit.start(blocks) + first as u64,
                rows,
                cols,
            })
        });
        let tiles = tiles.collect::<Result<Vec<_>>>()?;
        let done = kernels(on, &tiles)?;
        self.gpu_tiles.fetch_add(tiles.len() as u64, Relaxed);
        Ok(done)
    }

    /// Decodes on the device what gives `bytes` bytes: `None` where there is none, it is too small, `decode` does not know how, or it
    /// has failed, which is noted.
    pub fn decode<T>(
        &self,
        bytes: u64,
        decode: impl FnOnce(&Backend) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.cancel.check()?;
        let on @ Backend::Gpu(gpu) = self.backend() else { return Ok(None) };
        if bytes > gpu.max_bytes() {
            return Ok(None);
        }
        match decode(on) {
            Err(Error::Gpu { kernel, message }) => {
                self.record(kernel, &message, gpu);
                Ok(None)
            }
            decoded => {
                let decoded = decoded?;
                self.gpu_tiles.fetch_add(decoded.is_some().into(), Relaxed);
                Ok(decoded)
            }
        }
    }

    /// Notes a failure of the device. Only a lost device is not asked again.
    pub fn record(&self, kernel: &str, message: &str, gpu: &Gpu) {
        self.repaired.fetch_add(1, Relaxed);
        let reason = format!("{kernel}: {message}");
        let new = self.reasons.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        if new {
            self.progress.warn(&format!("{kernel}: {message}; redone on the CPU"));
        }
        if gpu.is_lost() {
            self.given_up.store(true, Relaxed);
        }
    }
}

/// Rows and columns of tiles that fit the device's buffers, covering the unit row by row.
fn cut(
    gpu: &Gpu,
    dtype: DType,
    (rows, cols): (usize, usize),
    needs: Needs,
) -> Result<Vec<(Range<usize>, Range<usize>)>> {
    let max = gpu.max_bytes() as usize;
    let by_data = max / (dtype.bits() / 8).max(needs.result_bytes).max(1);
    let by_tables = match needs.table_bytes {
        0 => usize::MAX,
        // A tile may start and end inside a group,
        // and kernels with tables may want a workgroup for each group.
        bytes => (max / bytes)
            .min(gpu.max_workgroups() as usize)
            .saturating_sub(2)
            .saturating_mul(needs.group),
    };
    // Masks have a word for up to 32 columns of every row, codes one for every row at least.
    let by_rows = max / 4 / cols.div_ceil(4).max(1);
    let fits = by_data.min(by_tables).min(gpu.max_workgroups() as usize * 64);
    if cols <= fits && by_rows > 0 {
        let step = (fits / cols.max(1)).min(by_rows).max(1);
        return Ok((0..rows).step_by(step).map(|r| (r..(r + step).min(rows), 0..cols)).collect());
    }
    let multiple = 32 * needs.multiple.max(1);
    let step = fits.min(max / 2) / multiple * multiple;
    if step == 0 {
        let message = format!("{multiple} columns do not fit its buffers of {max} bytes");
        return Err(Error::Gpu { kernel: "stage", message });
    }
    let piece =
        |r: usize| (0..cols).step_by(step).map(move |c| (r..r + 1, c..(c + step).min(cols)));
    Ok((0..rows).flat_map(piece).collect())
}

/// The codes of a unit, of `bits` bits and packed row by row, from those of its tiles.
pub fn assemble(
    unit: &Unit,
    tiles: &[Tile],
    bits: usize,
    mut codes: impl FnMut(&Tile) -> Result<Vec<u32>>,
) -> Result<Vec<u32>> {
    let (rows, cols) = unit.shape();
    if let [whole] = tiles {
        return codes(whole);
    }
    let row_words = (cols * bits).div_ceil(32);
    let mut out = vec![0; rows * row_words];
    for tile in tiles {
        let part = codes(tile)?;
        let (width, offset) = ((tile.cols.len() * bits).div_ceil(32), tile.cols.start * bits / 32);
        for (row, part) in tile.rows.clone().zip(part.chunks_exact(width)) {
            out[row * row_words + offset..][..width].copy_from_slice(part);
        }
    }
    Ok(out)
}
