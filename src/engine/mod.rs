//! Runs kernels on the tiles of a unit, on whatever backend is there: cuts the unit to the device's limits, redoes on the CPU
//! what the device cannot do, holds a sample of what it did against the CPU, and keeps count of all.

pub mod count;
mod flow;
mod position;
mod same;
mod tiles;
mod trust;

pub use same::Same;
pub use tiles::{Needs, Place, Tile, assemble};

use crate::{
    Backend, DType, Error, Result, Tensor,
    form::Packing,
    progress::{Cancel, Progress},
    stage::{Blocks, Unit},
    words,
};
use std::{
    collections::{BTreeSet, HashSet},
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
    kinds: Mutex<HashSet<trust::Kind>>,
    /// The device is lost, or not trusted: it is given no more work.
    given_up: AtomicBool,
    /// The device has computed something wrong.
    distrusted: AtomicBool,
    reasons: Mutex<BTreeSet<String>>,
    position: position::Position,
}

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

/// A unit of a tensor, and what is done to it.
#[derive(Clone, Copy)]
struct Task<'a> {
    chain: Chain<'a>,
    blocks: &'a Blocks,
    unit: &'a Unit,
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
            position: position::Position::default(),
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
        let done = self.try_device(|on, gpu| {
            let cut = tiles::cut(gpu, blocks.dtype, unit.shape(), chain.needs)?;
            let tiles = |on: &Backend| tiles::load(on, blocks, unit, elements, &cut);
            let expected = || kernels(&Backend::Cpu, &tiles(&Backend::Cpu)?);
            let task = Task { chain, blocks, unit };
            self.on_device(task, cut.len(), |_| kernels(on, &tiles(on)?), expected)
        })?;
        match done {
            Some(done) => Ok(done),
            None => self.on_cpu(blocks, unit, elements, |tile| {
                kernels(&Backend::Cpu, std::slice::from_ref(tile))
            }),
        }
    }

    /// Restores a unit from its codes, packed row by row: on the device's tiles if it can, otherwise on the
    /// CPU. `kernel` is given the codes of each tile, and returns its weights.
    pub fn restore(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        codes: Vec<u32>,
        packing: Packing,
        kernel: impl Fn(&Backend, &Tensor, &Place) -> Result<Tensor>,
    ) -> Result<Vec<u32>> {
        let (rows, cols) = unit.shape();
        let row_words = packing.words(cols);
        let place = Place { shape: (rows, cols), start: unit.start(blocks) };
        let on_cpu = |codes: Vec<u32>| {
            let codes = Tensor::new(&Backend::Cpu, DType::U32, rows, row_words, codes)?;
            kernel(&Backend::Cpu, &codes, &place)?.into_words(&Backend::Cpu)
        };
        let done = self.try_device(|on, gpu| {
            let cut = tiles::cut(gpu, blocks.dtype, (rows, cols), chain.needs)?;
            let device = |_| {
                // All of them are under way before the first is waited for.
                let weights = cut.iter().map(|(r, c)| {
                    let first = r.start * row_words + packing.words(c.start);
                    let width = packing.words(c.len());
                    let part = codes[first..first + r.len() * width].to_vec();
                    let start = place.start + (r.start * cols + c.start) as u64;
                    let place = Place { shape: (r.len(), c.len()), start };
                    kernel(on, &Tensor::new(on, DType::U32, r.len(), width, part)?, &place)
                });
                let weights = weights.collect::<Result<Vec<_>>>()?;
                let mut out = vec![0; words(blocks.dtype, rows * cols)];
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
                let size = blocks.dtype.bytes(1);
                for (tile, (r, c)) in weights.into_iter().zip(&cut) {
                    let len = tile.elements() * size;
                    let part = tile.into_words(on)?;
                    bytes[(r.start * cols + c.start) * size..][..len]
                        .copy_from_slice(&bytemuck::cast_slice(&part)[..len]);
                }
                Ok(out)
            };
            let task = Task { chain, blocks, unit };
            self.on_device(task, cut.len(), device, || on_cpu(codes.clone()))
        })?;
        match done {
            Some(done) => Ok(done),
            None => {
                self.cpu_tiles.fetch_add(1, Relaxed);
                on_cpu(codes)
            }
        }
    }

    /// Does a survey on the device if it can, otherwise on the CPU; the first of its kind, and whatever is picked, on both. `unit` is
    /// where it counts.
    pub fn survey<T: Same>(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        work: impl Fn(&Backend) -> Result<T>,
    ) -> Result<T> {
        let task = Task { chain, blocks, unit };
        let done =
            self.try_device(|on, _| self.on_device(task, 1, |_| work(on), || work(&Backend::Cpu)))?;
        match done {
            Some(done) => Ok(done),
            None => {
                self.cpu_tiles.fetch_add(1, Relaxed);
                work(&Backend::Cpu)
            }
        }
    }

    /// Decodes and restores a unit on the device, whose longest buffer takes `longest` bytes: `None` where there is none, it is too
    /// small, or it has not done it, which is noted. `expected` is the same on the CPU; where only the device finds fault with
    /// the archive, the fault is its own.
    pub fn decode(
        &self,
        chain: Chain,
        blocks: &Blocks,
        unit: &Unit,
        longest: u64,
        device: impl FnOnce(&Backend) -> Result<Vec<u32>>,
        expected: impl Fn() -> Result<Vec<u32>>,
    ) -> Result<Option<Vec<u32>>> {
        let done = self.try_device(|on, gpu| {
            // Then it is restored from its parts, tile by tile: the device has failed at nothing.
            if longest > gpu.max_bytes() {
                return Ok(None);
            }
            let device = |_| match device(on) {
                // Data that makes no sense; a mistake of the caller, which is not the device's either, passes through.
                Err(Error::Format { .. }) => {
                    expected()?;
                    Err(self.distrust(chain, "it finds fault with a sound archive"))
                }
                done => done,
            };
            self.on_device(Task { chain, blocks, unit }, 1, device, &expected).map(Some)
        })?;
        Ok(done.flatten())
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
}
