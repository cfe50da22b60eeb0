//! From the components of a tensor back to its weights, a unit at a time.

mod device;

use crate::{
    Backend, DType, Error, Result, Tensor, TensorInfo,
    codec::{
        Malformed, bitpack,
        block::{self, Block, Element, Sizes},
        sparse,
    },
    decide::affine::Scale,
    dtype,
    engine::{Chain, Engine, Needs, Place},
    form::{Affine, Method, Palette, TensorManifest, words_per_row},
    format::{Archive, ArchivedTensor},
    kernels::{Codebook, depalettize, dequantize},
    quote::quoted,
    stage::{Blocks, Source, Unit},
    words,
};
use rayon::prelude::*;

/// The components of one unit.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Which weights survive; empty where all do.
    pub mask: Vec<u32>,
    /// Codes, or the survivors' values.
    pub stored: Vec<u32>,
    /// Scales of the groups that the unit touches.
    pub scales: Vec<Scale>,
    /// Tables that the unit touches, one after the other.
    pub entries: Vec<f32>,
    /// What its coded blocks take.
    pub sizes: Sizes,
}

impl Parts {
    /// The weights of a unit of the tensor of that name: from an engine's device, or uncounted from the CPU, whose references
    /// what a device has done is checked with.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the parts do not fit the unit; [`Error::Interrupted`].
    pub fn restore(
        mut self,
        engine: Option<(&Engine, &str)>,
        manifest: &TensorManifest,
        blocks: &Blocks,
        unit: &Unit,
    ) -> Result<Vec<u32>> {
        let (rows, cols) = unit.shape();
        let dtype = blocks.dtype;
        let bits = match manifest.element() {
            Element::Code(bits) => bits,
            Element::Value(_) if !manifest.pruned => return Ok(self.stored),
            Element::Value(_) => {
                return Ok(sparse::scatter(dtype, &self.stored, rows, cols, &self.mask));
            }
        };
        let stored = std::mem::take(&mut self.stored);
        let codes = match manifest.pruned {
            true => sparse::scatter_codes(&stored, bits, cols, &self.mask, 0),
            false => stored,
        };
        let kernel = |on: &Backend, codes: &Tensor, place: &Place| {
            self.weights(on, manifest, blocks, unit, codes, place)
        };
        let mut restored = match engine {
            Some((engine, tensor)) => {
                engine.restore(chain(manifest, tensor), blocks, unit, codes, bits, kernel)?
            }
            None => {
                let width = bitpack::words(cols, bits);
                let codes = Tensor::new(&Backend::Cpu, DType::U32, rows, width, codes)?;
                let whole = Place { shape: (rows, cols), start: unit.start(blocks) };
                kernel(&Backend::Cpu, &codes, &whole)?.into_words(&Backend::Cpu)?
            }
        };
        if manifest.pruned {
            sparse::clear_pruned(dtype, &mut restored, rows, cols, &self.mask);
        }
        Ok(restored)
    }

    /// The weights of a part of a unit, of which these are the codes, packed row by row.
    fn weights(
        &self,
        on: &Backend,
        manifest: &TensorManifest,
        blocks: &Blocks,
        unit: &Unit,
        codes: &Tensor,
        place: &Place,
    ) -> Result<Tensor> {
        let (groups, cols) = (manifest.groups(), place.shape.1);
        let own = groups.from(place.start as usize);
        let first = place.start as usize / groups.size - unit.start(blocks) as usize / groups.size;
        let tables = first..first + own.count(place.shape.0 * cols);
        match manifest.method {
            Method::Values => unreachable!("values are no codes"),
            Method::Affine(m) => {
                dequantize(on, codes, cols, m.code(), own, &self.scales[tables], blocks.dtype)
            }
            Method::Palette(m) => {
                // Tables have one length, and the unit's are all there.
                let k = self.entries.len() / tables_of(manifest, blocks, unit).max(1);
                let entries = &self.entries[tables.start * k..tables.end * k];
                let bits = m.code_bits().into();
                depalettize(on, codes, cols, Codebook { entries, k, bits }, own, blocks.dtype)
            }
        }
    }
}

/// How many scales or tables a unit touches.
fn tables_of(manifest: &TensorManifest, blocks: &Blocks, unit: &Unit) -> usize {
    manifest.groups().from(unit.start(blocks) as usize).count(unit.elements())
}

/// What restores a tensor.
fn chain<'a>(manifest: &TensorManifest, tensor: &'a str) -> Chain<'a> {
    let group = manifest.groups().size;
    let needs = Needs { table_bytes: manifest.method.table_bytes(), group, ..Needs::default() };
    let kernel = match manifest.method {
        // No kernel is needed, and none named.
        Method::Values => "",
        Method::Affine(_) => "dequantize",
        Method::Palette(_) => "depalettize",
    };
    Chain { kernel, tensor, needs }
}

/// A tensor of an archive, ready to be restored unit by unit from any thread.
#[derive(Debug)]
pub struct Restorer<'a> {
    archive: &'a Archive,
    tensor: &'a ArchivedTensor,
    /// What was made of it.
    pub manifest: &'a TensorManifest,
    /// Its matrix view.
    pub blocks: Blocks,
    /// Its units.
    pub units: Vec<Unit>,
    /// For a pruned tensor, where each unit's survivors start: bytes of values, words of codes. For a coded one, where each
    /// block starts.
    starts: Vec<u64>,
}

impl<'a> Restorer<'a> {
    /// Prepares a treated tensor to be restored in units of about `unit_bytes`; reads its mask, if it has one, to know where the survivors of each unit lie.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if the mask does not fit what is stored, [`Error::Digest`], [`Error::Io`].
    pub fn new(
        archive: &'a Archive,
        tensor: &'a ArchivedTensor,
        manifest: &'a TensorManifest,
        unit_bytes: u64,
    ) -> Result<Self> {
        let blocks = Blocks::new(manifest.dtype, manifest.matrix());
        let (units, starts) = (Vec::new(), Vec::new());
        let mut restorer = Self { archive, tensor, manifest, blocks, units, starts };
        if manifest.coded {
            // Before the units: a shape may claim more of them than there is memory.
            restorer.starts = restorer.block_starts()?;
        }
        restorer.units = blocks.units(unit_bytes);
        if manifest.pruned && !manifest.coded {
            let lengths = restorer.units.par_iter().map(|unit| {
                let mask = restorer.mask(unit)?;
                let cols = unit.shape().1;
                if !sparse::padding_is_zero(&mask, cols) {
                    return Err(restorer.refuse("its mask has bits beyond the end of a row"));
                }
                Ok(manifest.stored_length(&mask, cols))
            });
            let mut at = 0;
            for length in lengths.collect::<Result<Vec<_>>>()? {
                restorer.starts.push(at);
                at += length;
            }
            restorer.starts.push(at);
            let name = manifest.stored();
            let unit = match manifest.element() {
                Element::Value(_) => 1,
                Element::Code(_) => 4,
            };
            let found = archive.component(tensor, name).bytes;
            if at * unit != found {
                return Err(restorer
                    .refuse(&format!("{name} has {found} bytes, its mask needs {}", at * unit)));
            }
        }
        Ok(restorer)
    }

    /// Where each block of a coded tensor starts, and where the last one ends.
    fn block_starts(&self) -> Result<Vec<u64>> {
        let found = self.component("coded").bytes;
        let (tables, _) = self.manifest.table_starts();
        let mut at = tables + 4 * self.blocks.count();
        if at > found {
            let why = format!("coded has {found} bytes, its tables and lengths need {at}");
            return Err(self.refuse(&why));
        }
        let lengths = self.words("coded", tables, self.blocks.count() as usize)?;
        let mut starts = vec![at];
        starts.extend(lengths.into_iter().map(|length| {
            at += u64::from(length);
            at
        }));
        match at == found {
            true => Ok(starts),
            false => Err(self.refuse(&format!("coded has {found} bytes, its blocks need {at}"))),
        }
    }

    /// Decodes the blocks of a unit.
    fn decode(&self, unit: &Unit) -> Result<(Block, Sizes)> {
        let (cols, element) = (unit.shape().1, self.manifest.element());
        let blocks = self.blocks.of_unit(unit).into_par_iter().zip(self.blocks.heights(unit));
        let decoded = blocks.map(|(i, rows)| {
            let (block, sizes) =
                block::decode(&self.block(i)?, (rows, cols), self.manifest.pruned, element)
                    .map_err(|why| self.malformed(i, why))?;
            Ok(((block, rows), sizes))
        });
        let (blocks, sizes): (Vec<_>, Vec<_>) =
            decoded.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok((Block::join(blocks, cols, element), sizes.into_iter().sum()))
    }

    /// A coded block.
    fn block(&self, i: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (self.starts[i + 1] - self.starts[i]) as usize];
        self.archive.read_at(self.component("coded"), self.starts[i], &mut bytes)?;
        Ok(bytes)
    }

    fn malformed(&self, block: usize, why: Malformed) -> Error {
        self.refuse(&format!("block {block}: {why}"))
    }

    fn refuse(&self, why: &str) -> Error {
        let path = &self.archive.stored.files[self.tensor.file].path;
        Error::format(path, format!("tensor {}: {why}", quoted(&self.tensor.name)))
    }

    fn component(&self, name: &str) -> &TensorInfo {
        self.archive.component(self.tensor, name)
    }

    fn mask(&self, unit: &Unit) -> Result<Vec<u32>> {
        let (row_words, (rows, cols)) = (self.blocks.cols.div_ceil(32), unit.shape());
        let start = unit.rows.start * row_words + unit.cols.start / 32;
        self.words("mask", start * 4, rows * cols.div_ceil(32))
    }

    fn words(&self, component: &str, offset: u64, len: usize) -> Result<Vec<u32>> {
        let mut words = vec![0; len];
        self.archive.read_at(
            self.component(component),
            offset,
            bytemuck::cast_slice_mut(&mut words),
        )?;
        Ok(words)
    }

    /// The components of a unit, read through their digests.
    ///
    /// # Errors
    ///
    /// [`Error::Digest`], [`Error::Io`]; [`Error::Format`] if a scale or an entry is no number a tensor could have, or rows of
    /// codes are padded with anything but zeros.
    pub fn parts(&self, unit: &Unit) -> Result<Parts> {
        let (manifest, (rows, cols)) = (self.manifest, unit.shape());
        let mut parts = Parts::default();
        if manifest.coded {
            let (block, sizes) = self.decode(unit)?;
            parts = Parts { mask: block.mask, stored: block.stored, sizes, ..parts };
        } else if manifest.pruned {
            parts.mask = self.mask(unit)?;
            let (start, end) = (self.starts[unit.index], self.starts[unit.index + 1]);
            parts.stored = match manifest.element() {
                Element::Value(_) => {
                    let mut words = vec![0; (end - start).div_ceil(4) as usize];
                    let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..(end - start) as usize];
                    self.archive.read_at(self.component(manifest.stored()), start, bytes)?;
                    words
                }
                Element::Code(_) => {
                    self.words(manifest.stored(), start * 4, (end - start) as usize)?
                }
            };
        } else if let Some(bits) = manifest.method.code_bits() {
            let row_words = words_per_row(self.blocks.cols, bits);
            let start = unit.rows.start * row_words + unit.cols.start * u64::from(bits) / 32;
            parts.stored =
                self.words("codes", start * 4, rows * bitpack::words(cols, bits as u32))?;
        }
        if let (Some(bits), false) = (manifest.method.code_bits(), manifest.coded) {
            let rows: &mut dyn Iterator<Item = usize> = match manifest.pruned {
                true => &mut sparse::row_counts(&parts.mask, cols),
                false => &mut std::iter::repeat_n(cols, rows),
            };
            if !bitpack::padding_is_zero(&parts.stored, bits.into(), rows) {
                return Err(self.refuse("its codes have bits beyond the end of a row"));
            }
        }
        // A retrieval structure, which has no index, gives any code for weights that were pruned.
        let retrieved = manifest.coded && manifest.pruned && parts.sizes.index == 0;
        match manifest.method {
            Method::Values | Method::Affine(_) => {}
            Method::Palette(m) => {
                if !retrieved && !codes_within(&parts, (rows, cols), manifest.pruned, m) {
                    // They would stand for the table's last entry, which has a code of its own.
                    let k = m.k;
                    let why = format!("a code is beyond the {k} entries of its table");
                    return Err(self.refuse(&why));
                }
            }
        }
        self.tables(unit, &mut parts)?;
        Ok(parts)
    }

    /// The weights of a unit, decoded and restored on an engine's device as far as it can.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`] and [`Parts::restore`].
    pub fn restore(&self, engine: &Engine, unit: &Unit) -> Result<Vec<u32>> {
        let (manifest, blocks) = (self.manifest, &self.blocks);
        let weights = manifest.dtype.bytes(unit.elements());
        let tables = manifest.method.table_bytes() * tables_of(manifest, blocks, unit);
        let chain = Chain { kernel: "decode", ..chain(manifest, &self.tensor.name) };
        let longest = weights.max(tables) as u64;
        let expected = || self.weights(None, self.parts(unit)?, unit);
        let decoded = match self.bits_on_device() {
            None => None,
            Some(bits) => {
                let device = |on: &Backend| self.unit_on(on, unit, bits);
                engine.decode(chain, blocks, unit, longest, device, expected)?
            }
        };
        match decoded {
            Some(weights) => Ok(weights),
            None => self.weights(Some(engine), self.parts(unit)?, unit),
        }
    }

    /// The weights of a unit from its components: from an engine's device, or uncounted from the CPU.
    ///
    /// # Errors
    ///
    /// As [`Parts::restore`].
    pub fn weights(&self, engine: Option<&Engine>, parts: Parts, unit: &Unit) -> Result<Vec<u32>> {
        let engine = engine.map(|engine| (engine, self.tensor.name.as_str()));
        parts.restore(engine, self.manifest, &self.blocks, unit)
    }

    /// Reads the scales and tables that a unit touches.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`].
    pub fn tables(&self, unit: &Unit, parts: &mut Parts) -> Result<()> {
        let (manifest, (rows, cols)) = (self.manifest, unit.shape());
        let groups = manifest.groups();
        let first = unit.start(&self.blocks) / groups.size as u64;
        let count = groups.from(unit.start(&self.blocks) as usize).count(rows * cols);
        let (_, starts) = manifest.table_starts();
        // Where a table is: a component of its own, or at the start of the coded one.
        let table = |name: &'static str| {
            let start = starts.iter().find(|t| t.0 == name).map_or(0, |t| t.1);
            if manifest.coded { ("coded", start) } else { (name, 0) }
        };
        match manifest.method {
            Method::Values => {}
            Method::Affine(Affine { symmetric, .. }) => {
                let (name, at) = table("scales");
                let scales = self.words(name, at + first * 4, count)?;
                let mut zero_points = vec![0; count];
                if !symmetric {
                    let (name, at) = table("zero_points");
                    self.archive.read_at(self.component(name), at + first, &mut zero_points)?;
                }
                let pairs = scales.into_iter().zip(zero_points);
                parts.scales = pairs
                    .map(|(s, zero_point)| Scale { scale: f32::from_bits(s), zero_point })
                    .collect();
                if parts.scales.iter().any(|s| !s.scale.is_finite() || s.scale < 0.0) {
                    return Err(self.refuse("a scale is negative, infinite or NaN"));
                }
            }
            Method::Palette(Palette { k, .. }) => {
                let elements = count * k as usize;
                let size = manifest.dtype.bytes(1) as u64;
                let mut words = vec![0; words(manifest.dtype, elements)];
                let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..elements * size as usize];
                let (name, at) = table("codebook");
                let at = at + first * u64::from(k) * size;
                self.archive.read_at(self.component(name), at, bytes)?;
                parts.entries.resize(elements, 0.0);
                dtype::decode(manifest.dtype, &words, 0, &mut parts.entries);
                if parts.entries.iter().any(|e| !e.is_finite()) {
                    return Err(self.refuse("its codebook holds an infinity or NaN"));
                }
            }
        }
        Ok(())
    }
}

/// Whether every code of a palette has an entry. Tables of a power of two of entries have one for each.
fn codes_within(
    parts: &Parts,
    (rows, cols): (usize, usize),
    pruned: bool,
    palette: Palette,
) -> bool {
    let (k, bits) = (palette.k, palette.code_bits());
    if k == 1 << bits {
        return true;
    }
    let mut counts: Box<dyn Iterator<Item = usize>> = match pruned {
        true => Box::new(sparse::row_counts(&parts.mask, cols)),
        false => Box::new(std::iter::repeat_n(cols, rows)),
    };
    let (mut rest, mut codes) = (&parts.stored[..], vec![0; cols]);
    counts.all(|n| {
        let (row, after) = rest.split_at(bitpack::words(n, bits.into()));
        rest = after;
        bitpack::unpack(row, bits.into(), &mut codes[..n]);
        codes[..n].iter().all(|code| u32::from(*code) < k)
    })
}

/// Where a kept tensor's bytes come from.
pub fn kept<'a>(archive: &'a Archive, tensor: &'a ArchivedTensor) -> Source<'a> {
    Source::Archive(archive, archive.component(tensor, ""))
}
