//! Runs kernels on the tiles of a unit, on whatever backend is there: cuts the unit to the device's limits, redoes on the CPU
//! what the device cannot do, holds a sample of what it did against the CPU, and keeps count of all.

mod same;

pub use same::Same;

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::bitpack,
    digest::digest,
    gpu::{self, Gpu},
    progress::{Cancel, Progress},
    quote::quoted,
    stage::{Blocks, Unit},
    tensor::slice,
    words,
};
use std::{
    collections::{BTreeSet, HashSet},
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
    checked: AtomicU64,
    /// Share of the tiles, beside the first of each kind, that are done again on the CPU and compared.
    paranoid: f64,
    /// Kinds of tiles of which one was picked.
    kinds: Mutex<HashSet<Kind>>,
    /// The device is lost, or not trusted: it is given no more work.
    given_up: AtomicBool,
    /// The device has computed something wrong.
    distrusted: AtomicBool,
    reasons: Mutex<BTreeSet<String>>,
}

/// A chain of kernels, the type and the length of the rows that it is given, and whether that is the end of a row that is cut.
/// Which code runs and how it finds its elements depends on these; more rows are only more of the same.
type Kind = (&'static str, DType, usize, bool);

/// What is done to a tensor, a unit at a time.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The kernel, or the one that a chain of them is named after.
    pub kernel: &'static str,
    /// The tensor's name.
    pub tensor: &'a str,
    /// What the kernels need.
    pub needs: Needs,
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
    /// On the CPU because they failed on the GPU, or were found wrong.
    pub repaired: u64,
    /// On both, and compared.
    pub checked: u64,
    /// Why, each reason once.
    pub reasons: Vec<String>,
}

impl<'a> Engine<'a> {
    /// An engine that has done nothing. Of what a device does it holds the share `paranoid`, and the first of each kind, against
    /// the CPU.
    pub fn new(
        backend: &'a Backend,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
        unit_bytes: u64,
        paranoid: f64,
    ) -> Self {
        Self {
            backend,
            progress,
            cancel,
            unit_bytes,
            gpu_tiles: AtomicU64::new(0),
            cpu_tiles: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            paranoid,
            kinds: Mutex::default(),
            distrusted: AtomicBool::new(false),
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
            checked: self.checked.load(Relaxed),
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

    /// Runs `kernels` on a unit's tiles: on the device if it can, otherwise on the CPU, where the unit is one tile. If the unit
    /// is picked, the CPU does the same tiles, and what the device has made counts only if every bit is the same.
    pub fn run<T: Same>(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        elements: &mut Vec<u32>,
        kernels: impl Fn(&Backend, &[Tile]) -> Result<T>,
    ) -> Result<T> {
        self.cancel.check()?;
        if let on @ Backend::Gpu(gpu) = self.backend() {
            let on_gpu = || {
                let cut = cut(gpu, blocks.dtype, unit.shape(), chain.needs)?;
                let tiles = load(on, blocks, unit, elements, &cut)?;
                // What the host does with the results of a device must be prepared for anything.
                let done = gpu::quietly(|| kernels(on, &tiles))
                    .unwrap_or_else(|| Err(self.distrust(chain, "its results make no sense")))?;
                drop(tiles);
                let expected =
                    || kernels(&Backend::Cpu, &load(&Backend::Cpu, blocks, unit, elements, &cut)?);
                self.accept(chain, blocks, unit, cut.len(), &done, expected)?;
                Ok(done)
            };
            match on_gpu() {
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
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        codes: Vec<u32>,
        bits: u32,
        kernel: impl Fn(&Backend, &Tensor, &Place) -> Result<Tensor>,
    ) -> Result<Vec<u32>> {
        self.cancel.check()?;
        let (rows, cols) = unit.shape();
        let row_words = bitpack::words(cols, bits);
        let place = Place { shape: (rows, cols), start: unit.start(blocks) };
        let on_cpu = |codes: Vec<u32>| {
            let codes = Tensor::new(&Backend::Cpu, DType::U32, rows, row_words, codes)?;
            kernel(&Backend::Cpu, &codes, &place)?.into_words(&Backend::Cpu)
        };
        if let on @ Backend::Gpu(gpu) = self.backend() {
            let on_gpu = || {
                let tiles = cut(gpu, blocks.dtype, (rows, cols), chain.needs)?;
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
                let size = blocks.dtype.bytes(1);
                for (tile, (r, c)) in weights.into_iter().zip(&tiles) {
                    let len = tile.elements() * size;
                    let part = tile.into_words(on)?;
                    bytes[(r.start * cols + c.start) * size..][..len]
                        .copy_from_slice(&bytemuck::cast_slice(&part)[..len]);
                }
                let expected = || on_cpu(codes.clone());
                self.accept(chain, blocks, unit, tiles.len(), &out, expected)?;
                Ok(out)
            };
            match on_gpu() {
                Err(Error::Gpu { kernel, message }) => self.record(kernel, &message, gpu),
                other => return other,
            }
        }
        let restored = on_cpu(codes);
        self.cpu_tiles.fetch_add(1, Relaxed);
        restored
    }

    /// Counts a unit on the device, and nowhere else. If it is picked, `add` is told so, and returns what it has counted of the
    /// unit alone, as `expected` does on the CPU.
    pub fn count<T: Same>(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        elements: Vec<u32>,
        add: impl Fn(&Backend, &[Tile], bool) -> Result<Option<T>>,
        expected: impl Fn(&Tile) -> Result<T>,
    ) -> Result<()> {
        self.cancel.check()?;
        let on @ Backend::Gpu(gpu) = self.backend() else {
            return Err(Error::Gpu { kernel: chain.kernel, message: GIVEN_UP.into() });
        };
        let cut = cut(gpu, blocks.dtype, unit.shape(), chain.needs)?;
        let tiles = load(on, blocks, unit, &elements, &cut)?;
        // As in `run`: the host must be prepared for any result.
        let counted = gpu::quietly(|| add(on, &tiles, self.picks(chain, blocks, unit)))
            .unwrap_or_else(|| Err(self.distrust(chain, "its results make no sense")))?;
        if let Some(counted) = counted {
            let whole = [(0..unit.shape().0, 0..unit.shape().1)];
            let on_cpu = load(&Backend::Cpu, blocks, unit, &elements, &whole)?;
            self.compare(chain, blocks, unit, tiles.len(), &counted, &expected(&on_cpu[0])?)?;
        }
        self.finish(chain, tiles.len())
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

    /// Holds what the device has made of a unit against the CPU if it is picked.
    fn accept<T: Same>(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        tiles: usize,
        done: &T,
        expected: impl FnOnce() -> Result<T>,
    ) -> Result<()> {
        if self.picks(chain, blocks, unit) {
            self.compare(chain, blocks, unit, tiles, done, &expected()?)?;
        }
        self.finish(chain, tiles)
    }

    fn compare<T: Same>(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        tiles: usize,
        done: &T,
        expected: &T,
    ) -> Result<()> {
        self.checked.fetch_add(tiles as u64, Relaxed);
        match done.difference(expected) {
            None => Ok(()),
            Some(what) => {
                let start = unit.start(blocks);
                Err(self.distrust(chain, &format!("tile from element {start} on, {what}")))
            }
        }
    }

    /// Counts what the device has done, unless it has come to be distrusted meanwhile.
    fn finish(&self, chain: Chain, tiles: usize) -> Result<()> {
        if self.distrusted() {
            return Err(Error::Gpu { kernel: chain.kernel, message: GIVEN_UP.into() });
        }
        self.gpu_tiles.fetch_add(tiles as u64, Relaxed);
        Ok(())
    }

    /// Gives the device up because it computes otherwise than the CPU: the error to return where that was found.
    pub fn distrust(&self, chain: Chain, what: &str) -> Error {
        self.distrusted.store(true, Relaxed);
        self.given_up.store(true, Relaxed);
        let tensor = quoted(chain.tensor);
        let message = format!(
            "the GPU computes otherwise than the CPU: tensor {tensor}, {what}; it is not used any more in this run"
        );
        Error::Gpu { kernel: chain.kernel, message }
    }

    /// Whether the device has computed something wrong.
    pub fn distrusted(&self) -> bool {
        self.distrusted.load(Relaxed)
    }

    /// Does `work` on a tensor, and does it again, on the CPU, if the device was found to compute wrong meanwhile: what it did
    /// just before was not all compared. So it does if the tensor that a device restores has another digest than it should.
    /// `work` must be able to begin anew.
    pub fn again<T>(&self, tensor: &str, work: impl Fn() -> Result<T>) -> Result<T> {
        let Backend::Gpu(gpu) = self.backend() else { return work() };
        match work() {
            _ if self.distrusted() => work(),
            Err(Error::Digest { .. }) => {
                self.given_up.store(true, Relaxed);
                let done = work()?;
                // So it was not the archive.
                let chain = Chain { kernel: "restore", tensor, needs: Needs::default() };
                if let Error::Gpu { kernel, message } =
                    self.distrust(chain, "it has another digest")
                {
                    self.record(kernel, &message, gpu);
                }
                Ok(done)
            }
            done => done,
        }
    }

    /// Whether a unit is to be done on the CPU as well: the first of a tensor, and the end of a first row that is cut, if it is the
    /// first of its kind; and a share of all, by their names and places alone, so that every run picks the same.
    fn picks(&self, chain: Chain, blocks: &Blocks, unit: &Unit) -> bool {
        let start = unit.start(blocks);
        let ends_row = start > 0 && unit.rows.start == 0 && unit.cols.end == blocks.cols;
        if start == 0 || ends_row {
            let kind = (chain.kernel, blocks.dtype, unit.shape().1, ends_row);
            if self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(kind) {
                return true;
            }
        }
        let place = format!("{}\0{start}\0{}", chain.kernel, chain.tensor);
        let draw = u32::from_le_bytes(*digest(place.as_bytes()).first_chunk().expect("16 bytes"));
        f64::from(draw) < self.paranoid * 2f64.powi(32)
    }

    /// Decodes and restores a unit on the device, whose longest buffer takes `longest` bytes:
    /// `None` where there is none, it is too small, or it has failed, which is noted. `expected` is the
    /// same on the CPU: if the unit is picked every bit must be the same, and where the device finds fault with what the CPU
    /// takes, the fault is its own.
    pub fn decode(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        longest: u64,
        device: impl FnOnce(&Backend) -> Result<Vec<u32>>,
        expected: impl Fn() -> Result<Vec<u32>>,
    ) -> Result<Option<Vec<u32>>> {
        self.cancel.check()?;
        let on @ Backend::Gpu(gpu) = self.backend() else { return Ok(None) };
        if longest > gpu.max_bytes() {
            return Ok(None);
        }
        let on_gpu = || {
            let decoded = gpu::quietly(|| device(on))
                .unwrap_or_else(|| Err(self.distrust(chain, "its results make no sense")))?;
            self.accept(chain, blocks, unit, 1, &decoded, &expected)?;
            Ok(decoded)
        };
        let failed = match on_gpu() {
            Err(Error::Format { .. } | Error::Shape { .. }) => {
                let right = expected()?;
                let wrong = self.distrust(chain, "it finds fault with a sound archive");
                (wrong, Some(right))
            }
            Err(error @ Error::Gpu { .. }) => (error, None),
            other => return other.map(Some),
        };
        if let (Error::Gpu { kernel, message }, _) = &failed {
            self.record(kernel, message, gpu);
        }
        Ok(failed.1)
    }

    /// Notes a failure of the device. Only a lost device is not asked again.
    pub fn record(&self, kernel: &str, message: &str, gpu: &Gpu) {
        self.repaired.fetch_add(1, Relaxed);
        let reason = format!("{kernel}: {message}");
        let new = self.reasons.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        if new && message != GIVEN_UP {
            self.progress.warn(&format!("{kernel}: {message}; redone on the CPU"));
        }
        if gpu.is_lost() {
            self.given_up.store(true, Relaxed);
        }
    }
}

/// Why work that was under way comes to nothing.
const GIVEN_UP: &str = "the device was given up meanwhile";

/// The tiles of a unit, on a backend.
fn load(
    on: &Backend,
    blocks: &Blocks,
    unit: &Unit,
    elements: &[u32],
    cut: &[(Range<usize>, Range<usize>)],
) -> Result<Vec<Tile>> {
    let tile = |(rows, cols): &(Range<usize>, Range<usize>)| {
        let first = rows.start * unit.shape().1 + cols.start;
        let part = slice(blocks.dtype, elements, first, rows.len() * cols.len());
        Ok(Tile {
            weights: Tensor::new(on, blocks.dtype, rows.len(), cols.len(), part)?,
            start: unit.start(blocks) + first as u64,
            rows: rows.clone(),
            cols: cols.clone(),
        })
    };
    cut.iter().map(tile).collect()
}

/// Rows and columns of tiles that fit the device's buffers, covering the unit row by row.
fn cut(
    gpu: &Gpu,
    dtype: DType,
    (rows, cols): (usize, usize),
    needs: Needs,
) -> Result<Vec<(Range<usize>, Range<usize>)>> {
    let max = gpu.max_bytes() as usize;
    let by_data = max / dtype.bytes(1).max(needs.result_bytes).max(1);
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
