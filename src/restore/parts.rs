//! The parts of a unit: what treating ends with, every writer lays out, and restoring takes.

use crate::{
    Backend, DType, Result, Tensor,
    codec::{
        bitpack,
        block::{Element, Sizes},
        sparse,
    },
    decide::affine::Scale,
    dtype,
    engine::{Chain, Engine, Needs, Place},
    form::{Method, Palette, Pyramid, TensorManifest, Vector},
    kernels::{
        Codebook, Entries, PyramidCodes, VectorCodes, depalettize, dequantize, dequantize_pyramid,
        dequantize_vectors, field, untransform,
    },
    stage::{Blocks, Unit},
    words,
};
use std::sync::Arc;

/// The parts of one unit, whatever format they come from or go to: each code packed row by row, the first in the low bits.
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
    /// Codebooks of vectors, which are the tensor's.
    pub books: Option<Arc<Entries>>,
    /// Gains of pyramids, which are the tensor's.
    pub gains: Option<Arc<[f32]>>,
    /// What its coded blocks take.
    pub sizes: Sizes,
}

impl Parts {
    /// The weights of a unit of the tensor of that name: from an engine's device, or uncounted from the CPU, whose references
    /// what a device has done is checked with.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape) if the parts do not fit the unit; [`Error::Interrupted`](crate::Error::Interrupted).
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
            Element::Code(bits) | Element::Path(bits, _) => bits,
            Element::Value(_) if !manifest.pruned => return Ok(self.stored),
            Element::Value(_) => {
                return Ok(sparse::scatter(dtype, &self.stored, rows, cols, &self.mask));
            }
        };
        let packing = manifest.method.packing().expect("they are codes");
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
                engine.restore(chain(manifest, tensor), blocks, unit, codes, packing, kernel)?
            }
            None => {
                let width = packing.words(cols);
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
    pub(super) fn weights(
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
        let dtype = manifest.quantized_dtype();
        let quantized = match manifest.method {
            Method::Values => unreachable!("values are no codes"),
            Method::Affine(m) => {
                dequantize(on, codes, cols, m.code(), own, &self.scales[tables], dtype)?
            }
            Method::Palette(m) => {
                // Tables have one length, and the unit's are all there.
                let k = self.entries.len() / tables_of(manifest, blocks, unit).max(1);
                let entries = &self.entries[tables.start * k..tables.end * k];
                let bits = m.code_bits().into();
                depalettize(on, codes, cols, Codebook { entries, k, bits }, own, dtype)?
            }
            Method::Vector(m) => {
                let entries = self.books.as_deref().expect("codebooks come with the scales");
                let book = VectorCodes { entries, stages: m.stages.into() };
                dequantize_vectors(on, codes, cols, book, own, &self.scales[tables], dtype)?
            }
            Method::Pyramid(m) => {
                let gains = self.gains.as_deref().expect("gains come with the codes");
                let pyramid = m.vectors().expect("the manifest was checked");
                dequantize_pyramid(on, codes, cols, PyramidCodes { pyramid, gains }, dtype)?
            }
        };
        match &manifest.transform {
            None => Ok(quantized),
            Some(of) => untransform(on, &quantized, of, manifest.dtype),
        }
    }

    /// The bytes of the tables that the unit touches, by the names of their components, in their order.
    pub fn tables(&self, manifest: &TensorManifest) -> Vec<(&'static str, Vec<u8>)> {
        match manifest.method {
            Method::Values => Vec::new(),
            Method::Affine(m) => {
                let scales: Vec<f32> = self.scales.iter().map(|s| s.scale).collect();
                let mut tables = vec![("scales", encoded(m.scales.dtype(), &scales))];
                if !m.symmetric {
                    let zero_points = self.scales.iter().map(|s| s.zero_point).collect();
                    tables.push(("zero_points", zero_points));
                }
                tables
            }
            Method::Palette(_) => {
                vec![("codebook", encoded(manifest.quantized_dtype(), &self.entries))]
            }
            Method::Pyramid(_) => Vec::new(),
            Method::Vector(m) => {
                let scales: Vec<f32> = self.scales.iter().map(|s| s.scale).collect();
                vec![("scales", encoded(m.scales.dtype(), &scales))]
            }
        }
    }

    /// The bytes of the codebooks that all units share, by the name of their component.
    pub fn books(&self, manifest: &TensorManifest) -> Option<(&'static str, Vec<u8>)> {
        match manifest.method {
            Method::Values | Method::Affine(_) | Method::Palette(_) => None,
            Method::Pyramid(_) => {
                let gains = self.gains.as_ref().expect("gains come with the codes");
                Some(("gains", gains.iter().flat_map(|g| g.to_le_bytes()).collect()))
            }
            Method::Vector(_) => {
                let entries = self.books.as_ref().expect("codebooks come with the scales");
                let bytes = entries.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                Some(("codebook", bytes))
            }
        }
    }

    /// Whether every number of a pyramid is one of its vectors'.
    pub(super) fn vectors_exist(&self, form: Pyramid, (rows, cols): (usize, usize)) -> bool {
        let vectors = form.vectors().expect("the manifest was checked");
        let (width, n, bits) = (form.packing().words(cols), usize::from(form.n), vectors.bits());
        let of_group = usize::from(form.gain_bits) + bits as usize;
        let count = vectors.count(vectors.n, vectors.k);
        (0..rows).all(|r| {
            let row = &self.stored[r * width..][..width];
            let number = |g: usize| field(row, g * of_group + usize::from(form.gain_bits), bits);
            (0..cols / n).all(|g| number(g) < count)
        })
    }

    /// Whether every code of vectors has an entry. Codebooks of as many entries as there are codes have one for each.
    pub(super) fn entries_exist(&self, vector: Vector, (rows, cols): (usize, usize)) -> bool {
        let packing = vector.packing();
        let of_code = packing.codes as usize / usize::from(vector.stages);
        if vector.k as usize == 1 << (usize::from(packing.bits) * of_code) {
            return true;
        }
        let (bits, words) = (u32::from(packing.bits), packing.words(cols));
        let mut symbols = vec![0; packing.count(cols)];
        (0..rows).all(|r| {
            bitpack::unpack(&self.stored[r * words..][..words], bits, &mut symbols);
            symbols
                .chunks_exact(of_code)
                .all(|code| code.iter().rev().fold(0, |c, s| c << bits | u32::from(*s)) < vector.k)
        })
    }

    /// Whether every code of a palette has an entry. Tables of a power of two of entries have one for each.
    pub(super) fn codes_within(
        &self,
        palette: Palette,
        (rows, cols): (usize, usize),
        pruned: bool,
    ) -> bool {
        let (k, bits) = (palette.k, palette.code_bits());
        if k == 1 << bits {
            return true;
        }
        let mut counts: Box<dyn Iterator<Item = usize>> = match pruned {
            true => Box::new(sparse::row_counts(&self.mask, cols)),
            false => Box::new(std::iter::repeat_n(cols, rows)),
        };
        let (mut rest, mut codes) = (&self.stored[..], vec![0; cols]);
        counts.all(|n| {
            let (row, after) = rest.split_at(bitpack::words(n, bits.into()));
            rest = after;
            bitpack::unpack(row, bits.into(), &mut codes[..n]);
            codes[..n].iter().all(|code| u32::from(*code) < k)
        })
    }
}

/// Values as the bytes of a type.
fn encoded(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut words = vec![0; words(dtype, values.len())];
    dtype::encode(dtype, values, &mut words, 0);
    bytemuck::cast_slice::<u32, u8>(&words)[..dtype.bytes(values.len())].to_vec()
}

/// How many scales or tables a unit touches.
pub(super) fn tables_of(manifest: &TensorManifest, blocks: &Blocks, unit: &Unit) -> usize {
    manifest.groups().from(unit.start(blocks) as usize).count(unit.elements())
}

/// The least number that both divide.
fn least_common_multiple(a: u32, b: u32) -> u32 {
    (1..).map(|n| n * a).find(|n| n.is_multiple_of(b)).expect("their product is one")
}

/// What restores a tensor.
pub(super) fn chain<'a>(manifest: &TensorManifest, tensor: &'a str) -> Chain<'a> {
    let group = manifest.groups().size;
    let of_codes = manifest.method.packing().map_or(1, |p| p.weights);
    // Pieces of rows consist of whole vectors and whole blocks, of which there are 32 weights anyway.
    let of_blocks = manifest.transform.as_ref().map_or(1, |of| of.block.div_ceil(32));
    let multiple = least_common_multiple(of_codes, of_blocks) as usize;
    let result_bytes = if manifest.transform.is_some() { 4 } else { 0 };
    let table_bytes = manifest.method.table_bytes();
    let needs = Needs { table_bytes, group, multiple, result_bytes };
    let kernel = match manifest.method {
        // No kernel is needed, and none named.
        Method::Values => "",
        Method::Affine(_) => "dequantize",
        Method::Palette(_) => "depalettize",
        Method::Vector(_) => "dequantize_vectors",
        Method::Pyramid(_) => "dequantize_pyramid",
    };
    Chain { kernel, tensor, needs }
}
