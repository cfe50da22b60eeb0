//! What a unit becomes: its mask, its tables, and its codes or its survivors' values.

use crate::{
    Result,
    codec::{block::Element, sparse},
    decide::affine::Scale,
    engine::{Needs, assemble},
    form::{Affine, Method, Packing, Palette},
    kernels::Assigner,
    restore::Parts,
    scratch::Words,
    stage::Unit,
    treat::{chains, job::Job, masks::Mask, tables::Tables},
};

impl Job<'_> {
    /// The parts of a unit, given its elements as they were read; and how many non-zero weights are in groups whose scale is 0. The
    /// elements are still there afterwards, unless they are what is stored.
    pub(super) fn treated(
        &self,
        unit: &Unit,
        mask: &Mask,
        tables: &Tables,
        original: &mut Words,
    ) -> Result<(Parts, u64)> {
        let mut own = match self.transformed(unit, original)? {
            Some(transformed) => Some(Words::from(transformed)),
            None if self.clears_pruned() => Some(original.clone()),
            None => None,
        };
        let elements = own.as_mut().unwrap_or(original);
        let mask = self.pruned(unit, mask, elements)?;
        let (mut parts, flushed) = match self.manifest.method {
            Method::Values if self.manifest.pruned => (Parts::default(), 0),
            Method::Values => (Parts { stored: std::mem::take(elements), ..Parts::default() }, 0),
            Method::Affine(m) => self.quantized(unit, elements, tables, m)?,
            Method::Palette(m) if m.trellis.is_some() => {
                let Tables::Levels(levels) = tables else { unreachable!("they were surveyed") };
                self.paths(unit, elements, &mask, levels, m)?
            }
            Method::Palette(m) => self.palettized(unit, elements, &mask, tables, m)?,
            Method::Vector(m) => {
                let Tables::Vectors(books) = tables else { unreachable!("they were surveyed") };
                self.vectorized(unit, elements, books, m)?
            }
            Method::Pyramid(m) => {
                let Tables::Gains(gains) = tables else { unreachable!("they were surveyed") };
                self.pyramids(unit, elements, gains, m)?
            }
        };
        if self.manifest.pruned {
            let cols = unit.shape().1;
            parts.stored = match self.manifest.element() {
                Element::Value(dtype) => sparse::gather(dtype, elements, cols, &mask),
                Element::Code(bits) | Element::Path(bits, _) => {
                    sparse::gather_codes(&parts.stored, bits, cols, &mask)
                }
            };
        }
        parts.mask = mask;
        Ok((parts, flushed))
    }

    /// Scales, and codes of all weights.
    fn quantized(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        tables: &Tables,
        affine: Affine,
    ) -> Result<(Parts, u64)> {
        let (code, touched) = (affine.code(), self.touched(unit));
        let scales = match tables {
            Tables::Scales(all) => all[touched.first..][..touched.count].to_vec(),
            Tables::Own
            | Tables::Palettes(_)
            | Tables::Vectors(_)
            | Tables::Gains(_)
            | Tables::Levels(_) => self.scales(unit, elements, affine)?,
        };
        let flushed = self.flushed(unit, elements, &scales);
        let group = touched.groups.size;
        let needs = Needs { table_bytes: Affine::TABLE_BYTES, group, ..Needs::default() };
        let chain = self.chain("quantize", needs);
        let stored = self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            assemble(unit, tiles, Packing::of_bits(affine.bits), |tile| {
                chains::quantize(on, tile, code, touched, &scales)?.into_words(on)
            })
        })?;
        Ok((Parts { stored, scales, ..Parts::default() }, flushed))
    }

    /// Tables, and codes of all weights.
    fn palettized(
        &self,
        unit: &Unit,
        elements: &mut Vec<u32>,
        mask: &[u32],
        tables: &Tables,
        palette: Palette,
    ) -> Result<(Parts, u64)> {
        let (bits, touched) = (palette.code_bits(), self.touched(unit));
        let own;
        let found = match tables {
            Tables::Palettes(all) => &all[touched.first..][..touched.count],
            Tables::Own
            | Tables::Scales(_)
            | Tables::Vectors(_)
            | Tables::Gains(_)
            | Tables::Levels(_) => {
                own = self.palettes(unit, elements, mask)?;
                &own[..]
            }
        };
        let entries = found.iter().flat_map(|(e, _)| e).copied().collect::<Vec<f32>>();
        let palettes: Vec<&Assigner> = found.iter().map(|(_, a)| a).collect();
        let mut flushed = 0;
        if self.treat.is_binary() {
            let scale = |e: &[f32]| Scale { scale: e[1], zero_point: 0 };
            let scales: Vec<_> = entries.chunks(2).map(scale).collect();
            flushed = self.flushed(unit, elements, &scales);
        }
        let group = touched.groups.size;
        let needs = Needs { table_bytes: 4 << bits, group, ..Needs::default() };
        let chain = self.chain("palettize", needs);
        let stored = self.engine.run(chain, &self.blocks, unit, elements, |on, tiles| {
            assemble(unit, tiles, Packing::of_bits(bits), |tile| {
                chains::palettize(on, tile, &palettes, touched, bits.into())?.into_words(on)
            })
        })?;
        Ok((Parts { stored, entries, ..Parts::default() }, flushed))
    }

    /// Non-zero weights in groups whose scale is 0.
    pub(super) fn flushed(&self, unit: &Unit, elements: &[u32], scales: &[Scale]) -> u64 {
        if scales.iter().all(|s| s.scale != 0.0) {
            return 0;
        }
        // By their patterns: an F64 may be too small even for an f32.
        let size = self.blocks.dtype.bytes(1);
        let bytes = &bytemuck::cast_slice::<u32, u8>(elements)[..unit.elements() * size];
        let nonzero = |element: &[u8]| {
            element[size - 1] & 0x7f != 0 || element[..size - 1].iter().any(|b| *b != 0)
        };
        let groups = self.groups().from(unit.start(&self.blocks) as usize);
        let lost = groups.spans(0..unit.elements(), scales).filter(|(_, s)| s.scale == 0.0);
        let of_group = |span: std::ops::Range<usize>| {
            bytes[span.start * size..span.end * size].chunks_exact(size).filter(|e| nonzero(e))
        };
        lost.map(|(span, _)| of_group(span).count() as u64).sum()
    }
}
