//! A tensor of an archive, read unit by unit through its digests.

use crate::{
    DType, Error, Result, TensorInfo,
    codec::{
        Malformed, bitpack,
        block::{self, Block, Element, Sizes},
        sparse,
    },
    decide::affine::Scale,
    dtype,
    form::{Affine, Method, Palette, Pyramid, TensorManifest, Vector},
    format::{Archive, ArchivedTensor},
    kernels::{Entries, VECTOR_LIMIT},
    parallel,
    quote::quoted,
    restore::parts::Parts,
    scratch,
    stage::{Blocks, Unit},
    words,
};
use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

/// A tensor of an archive, ready to be restored unit by unit from any thread.
#[derive(Debug)]
pub struct Restorer<'a> {
    archive: &'a Archive,
    pub(super) tensor: &'a ArchivedTensor,
    /// What was made of it.
    pub manifest: &'a TensorManifest,
    /// Its matrix view.
    pub blocks: Blocks,
    /// Its units.
    pub units: Vec<Unit>,
    /// For a pruned tensor, where each unit's survivors start: bytes of values, words of codes. For a coded one, where each
    /// block starts.
    starts: Vec<u64>,
    /// Its codebooks of vectors, once they are read.
    books: OnceLock<Arc<Entries>>,
    /// Its gains, once they are read.
    gains: OnceLock<Arc<[f32]>>,
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
        let (books, gains) = (OnceLock::new(), OnceLock::new());
        let mut restorer = Self { archive, tensor, manifest, blocks, units, starts, books, gains };
        if manifest.coded {
            // Before the units: a shape may claim more of them than there is memory.
            restorer.starts = restorer.block_starts()?;
        }
        restorer.units = blocks.units(unit_bytes);
        if manifest.pruned && !manifest.coded {
            let lengths = parallel::try_map(&restorer.units, &|unit| {
                let mask = restorer.mask(unit)?;
                let cols = unit.shape().1;
                if !sparse::padding_is_zero(&mask, cols) {
                    return Err(restorer.refuse("its mask has bits beyond the end of a row"));
                }
                Ok(manifest.stored_length(&mask, cols))
            })?;
            let mut at = 0;
            for length in lengths {
                restorer.starts.push(at);
                at += length;
            }
            restorer.starts.push(at);
            let name = manifest.stored();
            let unit = match manifest.element() {
                Element::Value(_) => 1,
                Element::Code(_) | Element::Path(..) => 4,
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
        let (cols, element) = (self.manifest.stored_cols(unit.shape().1), self.manifest.element());
        let blocks = self.blocks.of_unit(unit).zip(self.blocks.heights(unit));
        let decoded = parallel::try_map(&blocks.collect::<Vec<_>>(), &|&(i, rows)| {
            let (start, len) = self.place(i);
            let decode =
                |bytes: &[u8]| block::decode(bytes, (rows, cols), self.manifest.pruned, element);
            let (block, sizes) = self
                .archive
                .with_bytes(self.component("coded"), start, len, decode)?
                .map_err(|why| self.malformed(i, why))?;
            Ok(((block, rows), sizes))
        })?;
        let (blocks, sizes): (Vec<_>, Vec<_>) = decoded.into_iter().unzip();
        Ok((Block::join(blocks, cols, element), sizes.into_iter().sum()))
    }

    /// Coded blocks.
    pub(super) fn coded_blocks(&self, numbers: Range<usize>) -> Result<Vec<Vec<u8>>> {
        parallel::try_map(&numbers.collect::<Vec<_>>(), &|i| self.block(*i))
    }

    /// A coded block.
    fn block(&self, i: usize) -> Result<Vec<u8>> {
        let (start, len) = self.place(i);
        self.archive.with_bytes(self.component("coded"), start, len, <[u8]>::to_vec)
    }

    /// Where a coded block starts, and how long it is.
    fn place(&self, i: usize) -> (u64, usize) {
        (self.starts[i], (self.starts[i + 1] - self.starts[i]) as usize)
    }

    pub(super) fn malformed(&self, block: usize, why: Malformed) -> Error {
        self.refuse(&format!("block {block}: {why}"))
    }

    pub(super) fn refuse(&self, why: &str) -> Error {
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
        let mut words = scratch::words(len);
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
                Element::Code(_) | Element::Path(..) => {
                    self.words(manifest.stored(), start * 4, (end - start) as usize)?
                }
            };
        } else if let Some(packing) = manifest.method.packing() {
            let row_words = packing.words_per_row(self.blocks.cols);
            let start = unit.rows.start * row_words + packing.words_per_row(unit.cols.start);
            parts.stored = self.words("codes", start * 4, rows * packing.words(cols))?;
        }
        if let (Some(bits), false) = (manifest.method.code_bits(), manifest.coded) {
            let rows: &mut dyn Iterator<Item = usize> = match manifest.pruned {
                true => &mut sparse::row_counts(&parts.mask, cols),
                false => &mut std::iter::repeat_n(manifest.stored_cols(cols), rows),
            };
            if !bitpack::padding_is_zero(&parts.stored, bits.into(), rows) {
                return Err(self.refuse("its codes have bits beyond the end of a row"));
            }
        }
        // A retrieval structure, which has no index, gives any code for weights that were pruned.
        let retrieved = manifest.coded && manifest.pruned && parts.sizes.index == 0;
        match manifest.method {
            Method::Values | Method::Affine(_) | Method::Vector(_) | Method::Pyramid(_) => {}
            Method::Palette(m) => {
                if !retrieved && !parts.codes_within(m, (rows, cols), manifest.pruned) {
                    // They would stand for the table's last entry, which has a code of its own.
                    let k = m.k;
                    let why = format!("a code is beyond the {k} entries of its table");
                    return Err(self.refuse(&why));
                }
            }
        }
        self.tables(unit, &mut parts)?;
        if let Method::Vector(m) = manifest.method
            && !parts.entries_exist(m, (rows, cols))
        {
            let k = m.k;
            return Err(self.refuse(&format!("a code is beyond the {k} entries of its codebook")));
        }
        if let Method::Pyramid(m) = manifest.method
            && !parts.vectors_exist(m, (rows, cols))
        {
            return Err(self.refuse("a number is of no vector of its pyramid"));
        }
        Ok(parts)
    }

    /// The gains of pyramids, read once.
    fn gains(&self, form: Pyramid) -> Result<Arc<[f32]>> {
        if let Some(found) = self.gains.get() {
            return Ok(found.clone());
        }
        let mut bytes = vec![0; 4 * form.gains()];
        self.archive.read_at(self.component("gains"), 0, &mut bytes)?;
        let gains: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if gains.iter().any(|g| !g.is_finite() || *g < 0.0) {
            return Err(self.refuse("a gain is negative, infinite or NaN"));
        }
        Ok(self.gains.get_or_init(|| gains.into()).clone())
    }

    /// The codebooks of vectors, read once.
    fn books(&self, vector: Vector) -> Result<Arc<Entries>> {
        if let Some(found) = self.books.get() {
            return Ok(found.clone());
        }
        let manifest = self.manifest;
        let (_, starts) = manifest.table_starts();
        let start = starts.iter().find(|t| t.0 == "codebook").map_or(0, |t| t.1);
        let (name, at) = if manifest.coded { ("coded", start) } else { ("codebook", 0) };
        let mut bytes = vec![0; 2 * vector.numbers() as usize];
        self.archive.read_at(self.component(name), at, &mut bytes)?;
        let values: Vec<i16> =
            bytes.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
        if values.iter().any(|v| v.unsigned_abs() > VECTOR_LIMIT.unsigned_abs()) {
            return Err(self.refuse("its codebook holds a number beyond 2047"));
        }
        let entries = Entries { dim: vector.dim.into(), k: vector.k as usize, values };
        Ok(self.books.get_or_init(|| Arc::new(entries)).clone())
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
        // The floats of the groups, so many each.
        let floats = |name: &'static str, dtype: DType, each: usize| {
            let mut words = vec![0; words(dtype, count * each)];
            let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..dtype.bytes(count * each)];
            let (name, at) = table(name);
            let at = at + first * dtype.bytes(each) as u64;
            self.archive.read_at(self.component(name), at, bytes)?;
            let mut values = vec![0.0; count * each];
            dtype::decode(dtype, &words, 0, &mut values);
            Ok::<_, Error>(values)
        };
        match manifest.method {
            Method::Values => {}
            Method::Affine(Affine { symmetric, scales, .. }) => {
                let scales = floats("scales", scales.dtype(), 1)?;
                let mut zero_points = vec![0; count];
                if !symmetric {
                    let (name, at) = table("zero_points");
                    self.archive.read_at(self.component(name), at + first, &mut zero_points)?;
                }
                let pairs = scales.into_iter().zip(zero_points);
                parts.scales =
                    pairs.map(|(scale, zero_point)| Scale { scale, zero_point }).collect();
                self.check_scales(parts)?;
            }
            Method::Vector(m) => {
                let scales = floats("scales", m.scales.dtype(), 1)?.into_iter();
                parts.scales = scales.map(|scale| Scale { scale, zero_point: 0 }).collect();
                self.check_scales(parts)?;
                parts.books = Some(self.books(m)?);
            }
            Method::Pyramid(m) => parts.gains = Some(self.gains(m)?),
            Method::Palette(Palette { k, .. }) => {
                parts.entries = floats("codebook", manifest.quantized_dtype(), k as usize)?;
                if parts.entries.iter().any(|e| !e.is_finite()) {
                    return Err(self.refuse("its codebook holds an infinity or NaN"));
                }
            }
        }
        Ok(())
    }

    fn check_scales(&self, parts: &Parts) -> Result<()> {
        match parts.scales.iter().any(|s| !s.scale.is_finite() || s.scale < 0.0) {
            true => Err(self.refuse("a scale is negative, infinite or NaN")),
            false => Ok(()),
        }
    }
}
