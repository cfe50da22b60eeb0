//! One tensor into its components: survey where a rule needs the whole of it first, then kernels, packing and writing, a unit
//! at a time, in parallel.

mod binary;
mod coded;
mod importance;
mod masks;
mod tables;

pub use masks::{ModelLimit, model_limits};
pub use tables::TableRows;

use crate::{
    DType, Error, Result,
    codec::sparse,
    decide::affine::Scale,
    digest::digest,
    engine::{Chain, Engine, Needs, assemble},
    format::{Method, OutputFile, TensorManifest},
    kernels::{Assigner, palettize, quantize},
    plan::{Treat, affine_code},
    recipe::Quantize,
    report::Retrieved,
    restore::{Parts, groups, stored_length},
    stage::{Blocks, Source, Unit},
    words,
};
use importance::Importance;
use masks::Mask;
use rayon::prelude::*;
use std::ops::Range;
use tables::Tables;

/// What was written of a tensor.
#[derive(Debug)]
pub struct Stored {
    /// Component name, type, shape, and bytes in the data section, in order and without gaps.
    pub components: Vec<(&'static str, DType, Vec<u64>, Range<u64>)>,
    /// What it is now, with the digest of the tensor as it will be restored.
    pub manifest: TensorManifest,
    /// Non-zero weights of groups too small to scale.
    pub flushed: u64,
    /// What a retrieval structure has made of it.
    pub retrieved: Option<Retrieved>,
    /// What was done otherwise than the recipe says, and why.
    pub remark: Option<String>,
}

impl Stored {
    /// What it takes, its headers aside.
    pub fn bytes(&self) -> u64 {
        self.components.iter().map(|c| c.3.end - c.3.start).sum()
    }
}

/// The tensor that is being encoded, and everything its units need.
struct Job<'a> {
    engine: &'a Engine<'a>,
    name: &'a str,
    source: &'a Source<'a>,
    treat: &'a Treat,
    /// What the manifest will say: what the plan says, but for the number of bits where an error limit chooses it.
    manifest: TensorManifest,
    blocks: Blocks,
    units: Vec<Unit>,
    importance: Option<Importance<'a>>,
}

/// Encodes a tensor and writes its components from `start` of the data section on.
///
/// # Errors
///
/// [`Error::NonFinite`] if it holds NaN or infinite values: what was written then is to be written over.
pub fn encode(
    engine: &Engine,
    name: &str,
    source: &Source,
    treat: &Treat,
    limit: Option<ModelLimit>,
    out: &OutputFile,
    start: u64,
) -> Result<Stored> {
    let manifest = &treat.manifest;
    let blocks = Blocks::new(manifest.dtype, manifest.matrix());
    let units = blocks.units(engine.unit_bytes);
    let importance = Importance::open(treat)?;
    let manifest = manifest.clone();
    let mut job = Job { engine, name, source, treat, manifest, blocks, units, importance };
    let mask = Mask::survey(&job, limit)?;
    if let Some(limit) = treat.treatment.quantize.as_ref().and_then(Quantize::max_error) {
        job.manifest.method = job.fewest_bits(&mask, limit)?;
    }
    let tables = Tables::survey(&job, &mask)?;
    match treat.treatment.encode {
        Some(_) => job.coded(&mask, &tables, out, start),
        None => job.plain(&mask, &tables, out, start),
    }
}

/// Where the components lie, and where each unit's survivors start in theirs, in bytes.
struct Layout {
    components: Vec<(&'static str, DType, Vec<u64>, Range<u64>)>,
    starts: Vec<u64>,
}

impl Job<'_> {
    /// Writes every component as it is.
    fn plain(&self, mask: &Mask, tables: &Tables, out: &OutputFile, start: u64) -> Result<Stored> {
        let (job, engine, manifest) = (self, self.engine, &self.manifest);
        let mut stored = job.layout(mask, out, start)?;
        let starts = std::mem::take(&mut stored.starts);
        let at = |name: &str| stored.components.iter().find(|c| c.0 == name).map(|c| c.3.start);
        let encoded = job.units.par_iter().map(|unit| {
            let mut elements = job.load(unit, mask)?;
            let (parts, flushed) = job.parts(unit, &mut elements.0, elements.1, tables)?;
            let offset = starts.get(unit.index).copied();
            job.write(unit, &parts, offset, out, &at)?;
            let restored = parts.restore(None, manifest, &job.blocks, unit)?;
            engine.advance(manifest.dtype.bytes(unit.elements()) as u64);
            Ok((job.blocks.digests(unit, &restored), flushed))
        });
        let encoded = encoded.collect::<Result<Vec<_>>>()?;
        let digests: Vec<u8> = encoded.iter().flat_map(|(d, _)| d.concat()).collect();
        Ok(Stored {
            components: stored.components,
            manifest: TensorManifest { digest: digest(&digests), ..manifest.clone() },
            flushed: encoded.iter().map(|(_, f)| f).sum(),
            retrieved: None,
            remark: None,
        })
    }

    /// What is done to the tensor next.
    fn chain(&self, kernel: &'static str, needs: Needs) -> Chain<'_> {
        Chain { kernel, tensor: self.name, needs }
    }

    /// A unit's elements. Refuses values that are not finite, unless nothing is to change: here, once for every treatment, so that nothing is decided from
    /// them and none is lost.
    fn read(&self, unit: &Unit) -> Result<Vec<u32>> {
        let elements = self.source.load(&self.blocks, unit)?;
        match self.manifest.lossless() || crate::dtype::all_finite(self.blocks.dtype, &elements) {
            true => Ok(elements),
            false => Err(self.nonfinite()),
        }
    }

    /// A unit's elements, the pruned ones zero, and its mask.
    fn load(&self, unit: &Unit, mask: &Mask) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut elements = self.read(unit)?;
        let bits = mask.of(self, unit, &mut elements)?;
        if !bits.is_empty() && self.manifest.method != Method::Values {
            let (rows, cols) = unit.shape();
            sparse::clear_pruned(self.blocks.dtype, &mut elements, rows, cols, &bits);
        }
        Ok((elements, bits))
    }

    fn nonfinite(&self) -> Error {
        // How many is for the report; this pass is taken only where there are some.
        let count = |unit: &Unit| {
            let mut values = vec![0.0; unit.elements()];
            let elements = self.source.load(&self.blocks, unit)?;
            crate::dtype::decode(self.blocks.dtype, &elements, 0, &mut values);
            Ok(values.iter().filter(|v| !v.is_finite()).count() as u64)
        };
        match self.units.par_iter().map(count).sum::<Result<u64>>() {
            Ok(count) => Error::NonFinite { tensor: self.name.into(), count },
            Err(e) => e,
        }
    }

    /// Lays out the components. For a pruned tensor this takes a pass that writes the mask and counts the survivors.
    fn layout(&self, mask: &Mask, out: &OutputFile, start: u64) -> Result<Layout> {
        let manifest = &self.manifest;
        let mut starts = Vec::new();
        let mut survivors = 0;
        if manifest.pruned {
            let row_words = self.blocks.cols.div_ceil(32);
            let lengths = self.units.par_iter().map(|unit| {
                let mut elements = self.read(unit)?;
                let bits = mask.of(self, unit, &mut elements)?;
                let at = unit.rows.start * row_words + unit.cols.start / 32;
                out.write_at(start + at * 4, bytemuck::cast_slice(&bits))?;
                // Codes are counted in words, values in bytes.
                let unit_bytes = if manifest.method == Method::Values { 1 } else { 4 };
                Ok(stored_length(manifest, &bits, unit.shape().1) * unit_bytes)
            });
            for length in lengths.collect::<Result<Vec<u64>>>()? {
                starts.push(survivors);
                survivors += length;
            }
        }
        let mut at = start;
        let components = manifest.components().into_iter().map(|c| {
            let bytes = c.bytes().unwrap_or(survivors);
            let shape = c.shape.unwrap_or_else(|| vec![bytes * 8 / c.dtype.bits() as u64]);
            at += bytes;
            (c.name, c.dtype, shape, at - bytes..at)
        });
        Ok(Layout { components: components.collect(), starts })
    }

    /// The components of a unit.
    fn parts(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        mask: Vec<u32>,
        tables: &Tables,
    ) -> Result<(Parts, u64)> {
        let manifest = &self.manifest;
        let cols = unit.shape().1;
        let of_tensor = groups(manifest);
        let start = unit.start(&self.blocks);
        let count = of_tensor.from(start as usize).count(unit.elements());
        let first = start as usize / of_tensor.size;
        let Some(bits) = manifest.method.code_bits().map(usize::from) else {
            let stored = match manifest.pruned {
                true => sparse::gather(self.blocks.dtype, elements, cols, &mask),
                false => std::mem::take(elements),
            };
            return Ok((Parts { mask, stored, ..Parts::default() }, 0));
        };
        let mut parts = Parts::default();
        let mut flushed = 0;
        let codes = match manifest.method {
            Method::Affine { .. } => {
                let code = affine_code(manifest.method).expect("the method is affine");
                parts.scales = match tables {
                    Tables::Scales(all) => all[first..first + count].to_vec(),
                    _ => self.scales(unit, elements)?,
                };
                flushed = self.flushed(unit, elements, &parts.scales);
                let needs = Needs { table_bytes: 8, group: of_tensor.size, ..Needs::default() };
                let chain = self.chain("quantize", needs);
                self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
                    assemble(unit, tiles, bits, |tile| {
                        let groups = of_tensor.from(tile.start as usize);
                        let g = tile.start as usize / of_tensor.size - first;
                        let scales = &parts.scales[g..g + groups.count(tile.weights.elements())];
                        quantize(on, &tile.weights, code, groups, scales)?.into_words(on)
                    })
                })?
            }
            _ => {
                let own;
                let palettes: Vec<&Assigner> = match tables {
                    Tables::Palettes(all) => {
                        parts.entries = all
                            .iter()
                            .skip(first)
                            .take(count)
                            .flat_map(|(e, _)| e.clone())
                            .collect();
                        all[first..first + count].iter().map(|(_, a)| a).collect()
                    }
                    _ => {
                        own = self.palettes(unit, elements, &mask)?;
                        parts.entries = own.iter().flat_map(|(e, _)| e.clone()).collect();
                        own.iter().map(|(_, a)| a).collect()
                    }
                };
                if self.treat.is_binary() {
                    let scale = |e: &[f32]| Scale { scale: e[1], zero_point: 0 };
                    let scales: Vec<_> = parts.entries.chunks(2).map(scale).collect();
                    flushed = self.flushed(unit, elements, &scales);
                }
                let needs =
                    Needs { table_bytes: 4 << bits, group: of_tensor.size, ..Needs::default() };
                let chain = self.chain("palettize", needs);
                self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
                    assemble(unit, tiles, bits, |tile| {
                        let groups = of_tensor.from(tile.start as usize);
                        let g = tile.start as usize / of_tensor.size - first;
                        let palettes = &palettes[g..g + groups.count(tile.weights.elements())];
                        palettize(on, &tile.weights, palettes, groups, bits as u32)?.into_words(on)
                    })
                })?
            }
        };
        parts.stored = match manifest.pruned {
            true => sparse::gather_codes(&codes, bits as u32, cols, &mask),
            false => codes,
        };
        parts.mask = mask;
        Ok((parts, flushed))
    }

    /// Non-zero weights in groups whose scale is 0.
    fn flushed(&self, unit: &Unit, elements: &[u32], scales: &[Scale]) -> u64 {
        if scales.iter().all(|s| s.scale != 0.0) {
            return 0;
        }
        // By their patterns: an F64 may be too small even for an f32.
        let size = self.blocks.dtype.bytes(1);
        let bytes = &bytemuck::cast_slice::<u32, u8>(elements)[..unit.elements() * size];
        let nonzero = |element: &[u8]| {
            element[size - 1] & 0x7f != 0 || element[..size - 1].iter().any(|b| *b != 0)
        };
        let groups = groups(&self.manifest).from(unit.start(&self.blocks) as usize);
        let lost = groups.spans(0..unit.elements(), scales).filter(|(_, s)| s.scale == 0.0);
        let of_group = |span: Range<usize>| {
            bytes[span.start * size..span.end * size].chunks_exact(size).filter(|e| nonzero(e))
        };
        lost.map(|(span, _)| of_group(span).count() as u64).sum()
    }

    /// Writes the parts of a unit where they belong.
    fn write(
        &self,
        unit: &Unit,
        parts: &Parts,
        offset: Option<u64>,
        out: &OutputFile,
        at: &(impl Fn(&str) -> Option<u64> + Sync),
    ) -> Result<()> {
        if let Some(values) = at("values") {
            let size = self.blocks.dtype.bytes(1);
            let kept: usize = sparse::row_counts(&parts.mask, unit.shape().1).sum();
            let bytes = &bytemuck::cast_slice::<u32, u8>(&parts.stored)[..kept * size];
            out.write_at(values + offset.unwrap_or(0), bytes)?;
        }
        if let Some(codes) = at("codes") {
            let bits = u64::from(self.manifest.method.code_bits().unwrap_or(8));
            let row_words = (self.blocks.cols * bits).div_ceil(32);
            let plain = (unit.rows.start * row_words + unit.cols.start * bits / 32) * 4;
            out.write_at(codes + offset.unwrap_or(plain), bytemuck::cast_slice(&parts.stored))?;
        }
        self.write_tables(unit, parts, out, at)
    }

    /// Writes the scales, zero points and palettes that a unit touches.
    fn write_tables(
        &self,
        unit: &Unit,
        parts: &Parts,
        out: &OutputFile,
        at: &(impl Fn(&str) -> Option<u64> + Sync),
    ) -> Result<()> {
        let manifest = &self.manifest;
        let of_tensor = groups(manifest);
        let first = unit.start(&self.blocks) / of_tensor.size as u64;
        // A group that starts before the unit was written by the unit it starts in; writing it again changes nothing.
        if let Some(scales) = at("scales") {
            let values: Vec<f32> = parts.scales.iter().map(|s| s.scale).collect();
            out.write_at(scales + first * 4, bytemuck::cast_slice(&values))?;
        }
        if let Some(zero_points) = at("zero_points") {
            let values: Vec<u8> = parts.scales.iter().map(|s| s.zero_point).collect();
            out.write_at(zero_points + first, &values)?;
        }
        if let (Some(codebook), Method::Palette { k, .. }) = (at("codebook"), manifest.method) {
            let dtype = self.blocks.dtype;
            let size = dtype.bytes(1) as u64;
            let mut encoded = vec![0; words(dtype, parts.entries.len())];
            crate::dtype::encode(dtype, &parts.entries, &mut encoded, 0);
            let bytes =
                &bytemuck::cast_slice::<u32, u8>(&encoded)[..parts.entries.len() * size as usize];
            out.write_at(codebook + first * u64::from(k) * size, bytes)?;
        }
        Ok(())
    }
}
