//! One of two tensors that are compared: where its elements come from, in an order that both can be read in.

use crate::{
    DType, Result, TensorInfo,
    diff::differing_elements,
    engine::Engine,
    form::{TensorManifest, View},
    format::{Archive, ArchivedTensor, CHUNK, Checkpoint, Opened, chunk_starts},
    parallel,
    restore::{Restorer, kept},
    stage::{Source, Unit, units_per_strip, write_transposed},
    words,
};
use std::ops::Range;

/// A tensor of a model.
pub struct Entry<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [u64],
    /// What it takes as it is, or once it is restored.
    pub bytes: u64,
    place: Place<'a>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Checkpoint, &'a TensorInfo),
    Kept(&'a Archive, &'a ArchivedTensor),
    Treated(&'a Archive, &'a ArchivedTensor, &'a TensorManifest),
}

/// All tensors of a model, in their order.
pub fn entries(model: &Opened) -> Vec<Entry<'_>> {
    match model {
        Opened::Checkpoint(c) => c.tensors.iter().map(|t| Entry::of_file(c, t)).collect(),
        Opened::Archive(a) => a.tensors.iter().map(|t| Entry::of_archive(a, t)).collect(),
    }
}

/// In which order the elements of a view are. That of storage does not depend on how rows are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Storage,
    /// By columns, of the tensor or of every matrix of a stack.
    Columns {
        stack: bool,
    },
}

impl Order {
    pub fn of(view: View) -> Self {
        match view.axis {
            0 => Self::Storage,
            _ => Self::Columns { stack: view.stack },
        }
    }
}

impl<'a> Entry<'a> {
    fn of_file(checkpoint: &'a Checkpoint, t: &'a TensorInfo) -> Self {
        let place = Place::File(checkpoint, t);
        Self { name: &t.name, dtype: t.dtype, shape: &t.shape, bytes: t.bytes, place }
    }

    fn of_archive(archive: &'a Archive, t: &'a ArchivedTensor) -> Self {
        let ((dtype, shape), bytes) = (archive.original(t), archive.original_bytes(t));
        let place = match &t.treated {
            None => Place::Kept(archive, t),
            Some(manifest) => Place::Treated(archive, t, manifest),
        };
        Self { name: &t.name, dtype, shape, bytes, place }
    }

    /// How it is seen as a matrix, if it was treated.
    pub fn view(&self) -> Option<View> {
        match self.place {
            Place::Treated(_, _, manifest) => Some(manifest.view),
            Place::File(..) | Place::Kept(..) => None,
        }
    }

    /// Whether its elements can be had in an order, a part at a time.
    pub fn reads_in(&self, order: Order) -> bool {
        match self.place {
            Place::File(..) => true,
            Place::Kept(..) => order == Order::Storage,
            Place::Treated(_, _, manifest) => order == Order::of(manifest.view),
        }
    }

    /// What it takes to be had in an order nevertheless.
    pub fn held_bytes(&self, order: Order) -> u64 {
        if self.reads_in(order) { 0 } else { self.bytes }
    }
}

/// Where the elements of a tensor come from.
pub struct Side<'a> {
    pub dtype: DType,
    from: From<'a>,
}

enum From<'a> {
    Source(Source<'a>),
    Restorer(Box<Restorer<'a>>),
    /// All of its bytes, in the order of storage.
    Held(Vec<u8>),
}

impl<'a> Side<'a> {
    /// Those of a tensor, in the order of a view; where it cannot be read so, the view must be that of storage.
    pub fn open(engine: &Engine, entry: &Entry<'a>, view: View) -> Result<Self> {
        let from = match entry.place {
            Place::File(checkpoint, info) => From::Source(Source::open(checkpoint, info, view)),
            Place::Kept(archive, t) => From::Source(kept(archive, t)),
            Place::Treated(archive, t, manifest) => {
                let restorer = Restorer::new(archive, t, manifest, 0)?;
                match entry.reads_in(Order::of(view)) {
                    true => From::Restorer(restorer.into()),
                    false => From::Held(held(engine, &restorer)?),
                }
            }
        };
        Ok(Self { dtype: entry.dtype, from })
    }

    /// A range of its elements, as little-endian words.
    pub fn load(&self, engine: &Engine, range: Range<u64>) -> Result<Vec<u32>> {
        let (size, len) = (self.dtype.bytes(1), (range.end - range.start) as usize);
        let mut out = vec![0; words(self.dtype, len)];
        let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut out)[..len * size];
        match &self.from {
            From::Source(source) => source.read_at(range.start * size as u64, bytes)?,
            From::Held(all) => {
                bytes.copy_from_slice(&all[range.start as usize * size..][..bytes.len()]);
            }
            From::Restorer(restorer) => {
                let blocks = &restorer.blocks;
                let end = |unit: &Unit| unit.start(blocks) + unit.elements() as u64;
                let first = restorer.units.partition_point(|unit| end(unit) <= range.start);
                for unit in &restorer.units[first..] {
                    let start = unit.start(blocks);
                    if start >= range.end {
                        break;
                    }
                    let restored = restorer.restore(engine, unit)?;
                    if (start, unit.elements()) == (range.start, len) {
                        return Ok(restored);
                    }
                    let (from, to) = (range.start.max(start), range.end.min(end(unit)));
                    let part = &bytemuck::cast_slice::<u32, u8>(&restored)
                        [(from - start) as usize * size..(to - start) as usize * size];
                    bytes[(from - range.start) as usize * size..][..part.len()]
                        .copy_from_slice(part);
                }
            }
        }
        Ok(out)
    }
}

/// A tensor that is stored by columns, in the order of storage.
fn held(engine: &Engine, restorer: &Restorer) -> Result<Vec<u8>> {
    let (blocks, manifest) = (&restorer.blocks, restorer.manifest);
    let (size, matrices) = (blocks.dtype.bytes(1), manifest.view.matrices(&manifest.shape));
    let mut all = vec![0; blocks.elements() as usize * size];
    for units in restorer.units.chunks(units_per_strip(blocks, &restorer.units)) {
        let of_units = parallel::try_map(units, &|unit| {
            engine.cancel.check()?;
            let restored = restorer.restore(engine, unit)?;
            let bytes = bytemuck::cast_slice::<u32, u8>(&restored);
            Ok(bytes[..unit.elements() * size].to_vec())
        })?;
        write_transposed(blocks, matrices, units, &of_units.concat(), |offset, part| {
            all[offset as usize..][..part.len()].copy_from_slice(part);
            Ok(())
        })?;
    }
    Ok(all)
}

/// A treated tensor that holds no weights, in the order of storage: its elements are whole bytes.
fn decoded<'a>(engine: &Engine, e: &Entry<'a>) -> Result<Option<Side<'a>>> {
    match e.place {
        Place::File(..) | Place::Kept(..) => Ok(None),
        Place::Treated(..) => Side::open(engine, e, View::default()).map(Some),
    }
}

/// How many elements that are no weights differ, of one type and shape; of a type of less than a byte, how many bytes.
pub fn differing_bytes(engine: &Engine, a: &Entry, b: &Entry) -> Result<u64> {
    let (of_a, of_b) = (decoded(engine, a)?, decoded(engine, b)?);
    let read = |e: &Entry, decoded: &Option<Side>, at: u64| {
        let len = (e.bytes - at).min(CHUNK);
        let mut bytes = vec![0; len as usize];
        match (e.place, decoded) {
            (Place::File(c, t), _) => Source::File(c, t).read_at(at, &mut bytes)?,
            (Place::Kept(archive, t), _) => kept(archive, t).read_at(at, &mut bytes)?,
            (Place::Treated(..), side) => {
                let side = side.as_ref().expect("it was opened");
                let size = e.dtype.bytes(1) as u64;
                let words = side.load(engine, at / size..(at + len) / size)?;
                bytes.copy_from_slice(&bytemuck::cast_slice(&words)[..len as usize]);
            }
        }
        Ok(bytes)
    };
    let counts = parallel::try_map(&chunk_starts(a.bytes), &|&at| {
        engine.cancel.check()?;
        Ok(differing_elements(&read(a, &of_a, at)?, &read(b, &of_b, at)?, a.dtype.bytes(1).max(1)))
    })?;
    Ok(counts.iter().sum())
}
