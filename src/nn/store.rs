use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::block::Element,
    codec::{bitpack, sparse},
    decide::affine::{AffineCode, Scale},
    dtype,
    form::{Affine, Method, TensorManifest, View},
    format::{Archive, ArchivedTensor, Opened},
    kernels::{
        AffineMatrix, BinaryMatrix, Entries, Int8, PaletteMatrix, SparseMatrix, VectorMatrix,
        binarize,
    },
    nn::layers::weight::Weight,
    recipe::Objective,
    restore::{Parts, Restorer, kept},
    stage::{Blocks, Source, Unit, write_transposed},
    tensor::elements,
    words,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The weights of a network by name: a checkpoint as it is, or an archive in the form that it stores.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes = [0f32; 6].map(f32::to_le_bytes).concat();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3, 2], &bytes);
/// # safetensors::serialize_to_file([("fc.weight", view.unwrap())], None, &path).unwrap();
/// use tersor::{DType, nn::Model};
///
/// // `path`: a checkpoint of one F32 matrix, `fc.weight`.
/// let model = Model::open(&path)?;
/// assert_eq!(model.shape("fc.weight"), Some((DType::F32, &[3, 2][..])));
/// assert!(!model.has("fc.bias"));
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    stored: Opened,
}

/// Signed 8-bit codes of a matrix, as integer products take them.
#[derive(Debug)]
pub(super) struct Int8Channels {
    pub codes: Int8,
    /// One for each row.
    pub channels: Vec<Int8Channel>,
}

/// What the codes of a row stand for: `(code - zero_point) * scale`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Int8Channel {
    pub scale: f32,
    pub zero_point: i32,
    /// The sum of `code - zero_point`: what zero points of activations count.
    pub sum: i32,
}

impl Model {
    /// Opens a checkpoint or an archive: a file, an index.json or a folder.
    ///
    /// # Errors
    ///
    /// As [`Opened::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), stored: Opened::open(path)? })
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Original type and shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<(DType, &[u64])> {
        match &self.stored {
            Opened::Checkpoint(c) => {
                c.tensors.iter().find(|t| t.name == name).map(|t| (t.dtype, &t.shape[..]))
            }
            Opened::Archive(a) => a.tensors.iter().find(|t| t.name == name).map(|t| a.original(t)),
        }
    }

    /// Rows and columns of the weight of a layer: the first dimension, and the product of the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it is missing, holds no weights, has fewer than two dimensions, or not `cols` columns.
    pub(super) fn expect_matrix(&self, name: &str, cols: usize) -> Result<(usize, usize)> {
        let (dtype, shape) = self.shape(name).ok_or_else(|| self.refuse(name, "is missing"))?;
        // Where there are no rows the other dimensions may be too large to be multiplied.
        let inputs = shape.iter().skip(1).try_fold(1u64, |n, d| n.checked_mul(*d));
        if !dtype.is_weight() || shape.len() < 2 || inputs != Some(cols as u64) {
            let found = format!("is {} {shape:?}, expected floats for {cols} inputs", dtype.name());
            return Err(self.refuse(name, &found));
        }
        Ok((shape[0] as usize, cols))
    }

    /// A tensor of `len` elements, whatever its shape, restored to f32 on the host: biases, norms.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it is missing or has another length; [`Error::Digest`], [`Error::Io`].
    pub(super) fn values(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (dtype, shape) = self.shape(name).ok_or_else(|| self.refuse(name, "is missing"))?;
        if !dtype.is_weight() || elements(shape) != len as u64 {
            let found = format!("is {} {shape:?}, expected {len} floats", dtype.name());
            return Err(self.refuse(name, &found));
        }
        let mut values = vec![0.0; len];
        dtype::decode(dtype, &self.restored(name)?, 0, &mut values);
        Ok(values)
    }

    /// [`Model::values`] as a row on a backend.
    pub(super) fn vector(&self, on: &Backend, name: &str, len: usize) -> Result<Tensor> {
        Tensor::from_f32(on, &self.values(name, len)?, 1)
    }

    /// A weight of `cols` columns in the form that is stored.
    ///
    /// What has no product of its own form goes to the device restored, in its original type: tensors stored with `axis = 1`,
    /// stacks of matrices, and what was transformed before it was quantized.
    /// Survivors of a mask that are codes go there as values, or, where zero is code 0, as codes of the whole matrix.
    ///
    /// # Errors
    ///
    /// As [`Model::expect_matrix`]; [`Error::Digest`], [`Error::Io`]; [`Error::Gpu`] if it does not fit the device.
    pub(super) fn weight(&self, on: &Backend, name: &str, cols: usize) -> Result<Weight> {
        let (rows, cols) = self.expect_matrix(name, cols)?;
        let dense = || {
            let (dtype, _) = self.shape(name).expect("the matrix was found");
            Ok(Weight::Dense(Tensor::new(on, dtype, rows, cols, self.restored(name)?)?))
        };
        let Some((archive, tensor, manifest)) = self.treated(name) else { return dense() };
        if manifest.view != View::default() || manifest.lossless() || manifest.transform.is_some() {
            return dense();
        }
        let group = manifest.groups().size;
        let shape = (rows, cols);
        let sparse = |mask, values| {
            SparseMatrix::new(on, mask, values, manifest.dtype, shape).map(Weight::Sparse)
        };
        match (manifest.method, manifest.pruned) {
            (Method::Affine(m), false) => {
                let (codes, Whole { scales, .. }) = codes_on(on, archive, tensor, manifest)?;
                AffineMatrix::of_codes(on, codes, cols, m.code(), group, &scales)
                    .map(Weight::Affine)
            }
            (Method::Palette(m), false) => {
                let (codes, Whole { entries, .. }) = codes_on(on, archive, tensor, manifest)?;
                PaletteMatrix::of_codes(on, codes, cols, m.code_bits().into(), group, &entries)
                    .map(Weight::Palette)
            }
            // There is no product of them.
            (Method::Pyramid(_), _) => dense(),
            (Method::Vector(m), _) => {
                let (codes, Whole { scales, books, .. }) = codes_on(on, archive, tensor, manifest)?;
                let books = books.ok_or_else(|| self.refuse(name, "has no rows"))?;
                let books = (books, m.stages.into());
                VectorMatrix::of_codes(on, codes, cols, books, group, &scales).map(Weight::Vectors)
            }
            (Method::Values, _) => {
                let parts = Whole::read(archive, tensor, manifest)?;
                sparse(parts.mask, parts.codes)
            }
            (Method::Affine(m), true) if m.symmetric => {
                let parts = Whole::read(archive, tensor, manifest)?;
                let codes = parts.all_codes(manifest.pruned, m.bits, shape, |_| 0);
                AffineMatrix::new(on, codes, shape, m.code(), group, &parts.scales)
                    .map(Weight::Affine)
            }
            (Method::Affine(_) | Method::Palette(_), true) => {
                let parts = Whole::read(archive, tensor, manifest)?;
                let restored = self.restored(name)?;
                let values = sparse::gather(manifest.dtype, &restored, cols, &parts.mask);
                sparse(parts.mask, values)
            }
        }
    }

    /// [`Model::int8`], or for a tensor that is no more than kept, such as a tiny one, the codes of its rows by their range.
    ///
    /// # Errors
    ///
    /// As [`Model::int8`]; [`Error::Shape`] if the values of a kept tensor are not finite.
    pub(super) fn int8_or_rounded(
        &self,
        on: &Backend,
        name: &str,
        cols: usize,
    ) -> Result<Int8Channels> {
        let (rows, cols) = self.expect_matrix(name, cols)?;
        if self.treated(name).is_some() {
            return self.int8(on, name, cols);
        }
        let (dtype, _) = self.shape(name).expect("the matrix was found");
        let kept = Tensor::new(on, dtype, rows, cols, self.restored(name)?)?;
        let code = AffineCode { bits: 8, symmetric: true };
        let rounded = crate::ops::quantize(on, &kept, code, None, Objective::Range)?;
        let words = rounded.codes.read(on)?;
        int8_channels(on, &words, (rows, cols), code, |r| rounded.scales[r])
    }

    /// A weight that is stored as integer codes with one scale for each row, or one for all: what integer products take. Codes
    /// of fewer bits are widened to 8, and unsigned ones moved by half their range, with their zero points.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] where the tensor is stored in another form; otherwise as [`Model::weight`].
    pub(super) fn int8(&self, on: &Backend, name: &str, cols: usize) -> Result<Int8Channels> {
        let (rows, cols) = self.expect_matrix(name, cols)?;
        let refuse = |found: &str| {
            let expected = "integer codes with a scale for each row, or one for all";
            Err(self.refuse(name, &format!("is stored as {found}, expected {expected}")))
        };
        let Some((archive, tensor, manifest)) = self.treated(name) else {
            let (dtype, _) = self.shape(name).expect("the matrix was found");
            return refuse(dtype.name());
        };
        let affine = match manifest.method {
            Method::Affine(affine) => affine,
            Method::Values | Method::Palette(_) | Method::Vector(_) | Method::Pyramid(_) => {
                return refuse(&manifest.describe(None));
            }
        };
        let group = affine.group;
        match manifest.view {
            View { axis: 0, stack: false } => {}
            View { stack: false, .. } => {
                return refuse(&format!("{}, axis = 1", manifest.describe(None)));
            }
            View { stack: true, .. } => {
                return refuse(&format!("{}, a stack of matrices", manifest.describe(None)));
            }
        }
        if manifest.transform.is_some() || group != 0 && group != cols as u64 {
            return refuse(&manifest.describe(None));
        }
        let parts = Whole::read(archive, tensor, manifest)?;
        let scale = |r: usize| parts.scales[if group == 0 { 0 } else { r }];
        let zero_point = |r| scale(r).zero_point;
        let codes = parts.all_codes(manifest.pruned, affine.bits, (rows, cols), zero_point);
        int8_channels(on, &codes, (rows, cols), affine.code(), scale)
    }

    /// Whether [`Model::int8`] takes a weight as it is stored, without widening its codes.
    pub(super) fn has_int8(&self, name: &str) -> bool {
        self.treated(name).is_some_and(|(_, _, manifest)| {
            let of_rows = |m: Affine| m.group == 0 || m.group == manifest.matrix().1;
            match manifest.method {
                Method::Affine(m) => {
                    let plain = manifest.view == View::default() && manifest.transform.is_none();
                    plain && m.bits == 8 && of_rows(m)
                }
                Method::Values | Method::Palette(_) | Method::Vector(_) | Method::Pyramid(_) => {
                    false
                }
            }
        })
    }

    /// A weight as signs, and the mean magnitude of each of its rows.
    ///
    /// # Errors
    ///
    /// As [`Model::expect_matrix`]; [`Error::Format`] if a value is not finite; [`Error::Digest`], [`Error::Io`];
    /// [`Error::Gpu`] if it does not fit the device.
    pub(super) fn binary(&self, on: &Backend, name: &str, cols: usize) -> Result<BinaryMatrix> {
        let (rows, cols) = self.expect_matrix(name, cols)?;
        let (dtype, _) = self.shape(name).expect("the matrix was found");
        let restored = self.restored(name)?;
        if !dtype::all_finite(dtype, &restored) {
            return Err(self.refuse(name, "holds NaN or infinite values, expected finite ones"));
        }
        binarize(on, &Tensor::new(on, dtype, rows, cols, restored)?)
    }

    /// [`Model::binary`] as a table of two values for every row, for activations that have more than a sign.
    ///
    /// # Errors
    ///
    /// As [`Model::binary`].
    pub(super) fn binary_weight(&self, on: &Backend, name: &str, cols: usize) -> Result<Weight> {
        let binary = self.binary(on, name, cols)?;
        let entries: Vec<f32> =
            binary.scales.read_f32(on)?.into_iter().flat_map(|s| [s, -s]).collect();
        let (signs, shape) = (binary.bits.read(on)?, (binary.bits.rows(), cols));
        Ok(Weight::Palette(PaletteMatrix::new(on, signs, shape, 1, cols, &entries)?))
    }

    /// An error that names a tensor of this model.
    pub(super) fn refuse(&self, name: &str, found: &str) -> Error {
        let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
        let (layer, name) = (crate::quote::quoted(layer), crate::quote::quoted(name));
        Error::format(&self.path, format!("layer {layer}: {name} {found}"))
    }

    fn treated(&self, name: &str) -> Option<(&Archive, &ArchivedTensor, &TensorManifest)> {
        let Opened::Archive(archive) = &self.stored else { return None };
        let tensor = archive.tensors.iter().find(|t| t.name == name)?;
        Some((archive, tensor, tensor.treated.as_ref()?))
    }

    /// The whole tensor in its original type and shape, as words.
    fn restored(&self, name: &str) -> Result<Vec<u32>> {
        if let Some((archive, tensor, manifest)) = self.treated(name) {
            let restorer = Restorer::new(archive, tensor, manifest, 0)?;
            let (rows, cols) = (restorer.blocks.rows as usize, restorer.blocks.cols as usize);
            let mut all = Joined::new(manifest.dtype, rows * cols);
            for unit in &restorer.units {
                let parts = restorer.parts(unit)?;
                all.push(&restorer.weights(None, parts, unit)?, unit.elements());
            }
            if manifest.view.axis == 0 {
                return Ok(all.words);
            }
            let mut stored = vec![0; all.words.len()];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut stored);
            let whole = &bytemuck::cast_slice::<u32, u8>(&all.words)[..all.bytes];
            let matrices = manifest.view.matrices(&manifest.shape);
            write_transposed(
                &restorer.blocks,
                matrices,
                &restorer.units,
                whole,
                |offset, part| {
                    bytes[offset as usize..][..part.len()].copy_from_slice(part);
                    Ok(())
                },
            )?;
            return Ok(stored);
        }
        let (source, info) = match &self.stored {
            Opened::Checkpoint(c) => {
                let info = c.tensors.iter().find(|t| t.name == name);
                let info = info.ok_or_else(|| self.refuse(name, "is missing"))?;
                (Source::File(c, info), info)
            }
            Opened::Archive(a) => {
                let tensor = a.tensors.iter().find(|t| t.name == name);
                let tensor = tensor.ok_or_else(|| self.refuse(name, "is missing"))?;
                (kept(a, tensor), a.component(tensor, ""))
            }
        };
        let blocks = Blocks::new(info.dtype, (info.rows(), info.cols()));
        let mut all = Joined::new(info.dtype, info.elements() as usize);
        for unit in blocks.units(0) {
            all.push(&source.load(&blocks, &unit)?, unit.elements());
        }
        Ok(all.words)
    }
}

/// The codes of a tensor that is not pruned on a backend, which decodes those that are coded; and its tables.
fn codes_on(
    on: &Backend,
    archive: &Archive,
    tensor: &ArchivedTensor,
    manifest: &TensorManifest,
) -> Result<(Tensor, Whole)> {
    let restorer = Restorer::new(archive, tensor, manifest, 0)?;
    if let Some(codes) = restorer.codes_on(on)? {
        return Ok((codes, Whole::tables(&restorer, manifest)?));
    }
    let mut whole = Whole::read(archive, tensor, manifest)?;
    let codes = std::mem::take(&mut whole.codes);
    let rows = restorer.blocks.rows as usize;
    let words = codes.len() / rows;
    Ok((Tensor::new(on, DType::U32, rows, words, codes)?, whole))
}

/// Elements of several units, one after the other.
struct Joined {
    words: Vec<u32>,
    bytes: usize,
    size: usize,
}

impl Joined {
    fn new(dtype: DType, elements: usize) -> Self {
        Self { words: vec![0; words(dtype, elements)], bytes: 0, size: dtype.bytes(1) }
    }

    fn push(&mut self, part: &[u32], elements: usize) {
        let len = elements * self.size;
        bytemuck::cast_slice_mut::<u32, u8>(&mut self.words)[self.bytes..][..len]
            .copy_from_slice(&bytemuck::cast_slice::<u32, u8>(part)[..len]);
        self.bytes += len;
    }
}

/// The components of a whole tensor.
#[derive(Default)]
struct Whole {
    mask: Vec<u32>,
    /// Packed codes, or the survivors' values.
    codes: Vec<u32>,
    scales: Vec<Scale>,
    entries: Vec<f32>,
    books: Option<Arc<Entries>>,
}

impl Whole {
    fn read(archive: &Archive, tensor: &ArchivedTensor, manifest: &TensorManifest) -> Result<Self> {
        let restorer = Restorer::new(archive, tensor, manifest, 0)?;
        let mut whole = Self::default();
        // Survivors of a unit need not end on a word.
        let mut values = Vec::<u8>::new();
        for unit in &restorer.units {
            let parts = restorer.parts(unit)?;
            whole.add_tables(&restorer, manifest, unit, &parts);
            match manifest.element() {
                Element::Value(dtype) => {
                    let kept: usize = sparse::row_counts(&parts.mask, unit.shape().1).sum();
                    let bytes = &bytemuck::cast_slice::<u32, u8>(&parts.stored);
                    values.extend(&bytes[..dtype.bytes(kept)]);
                }
                Element::Code(_) | Element::Path(..) => whole.codes.extend(parts.stored),
            }
            whole.mask.extend(parts.mask);
        }
        if !values.is_empty() {
            values.resize(values.len().next_multiple_of(4), 0);
            whole.codes = bytemuck::pod_collect_to_vec(&values);
        }
        Ok(whole)
    }

    /// The tables alone.
    fn tables(restorer: &Restorer, manifest: &TensorManifest) -> Result<Self> {
        let mut whole = Self::default();
        for unit in &restorer.units {
            let mut parts = Parts::default();
            restorer.tables(unit, &mut parts)?;
            whole.add_tables(restorer, manifest, unit, &parts);
        }
        Ok(whole)
    }

    fn add_tables(
        &mut self,
        restorer: &Restorer,
        manifest: &TensorManifest,
        unit: &Unit,
        parts: &Parts,
    ) {
        let (all, whole) = (manifest.groups(), self);
        let tables = all.count(restorer.blocks.elements() as usize);
        let first = unit.start(&restorer.blocks) as usize / all.size;
        if whole.scales.len() < first + parts.scales.len() {
            whole.scales.resize(first + parts.scales.len(), Scale::default());
        }
        whole.scales[first..][..parts.scales.len()].copy_from_slice(&parts.scales);
        match manifest.method {
            Method::Values | Method::Affine(_) | Method::Pyramid(_) => {}
            Method::Vector(_) => whole.books.clone_from(&parts.books),
            Method::Palette(m) => {
                let k = m.k as usize;
                whole.entries.resize(tables * k, 0.0);
                whole.entries[first * k..][..parts.entries.len()].copy_from_slice(&parts.entries);
            }
        }
    }

    /// Codes of every element: of pruned ones, that of zero, which `zero_point` says for each row.
    fn all_codes(
        &self,
        pruned: bool,
        bits: u8,
        (rows, cols): (usize, usize),
        zero_point: impl Fn(usize) -> u8,
    ) -> Vec<u32> {
        if !pruned {
            return self.codes.clone();
        }
        let bits = u32::from(bits);
        let mut all = sparse::scatter_codes(&self.codes, bits, cols, &self.mask, 0);
        let (words, mask_words) = (bitpack::words(cols, bits), cols.div_ceil(32));
        let mut codes = vec![0; cols];
        for r in (0..rows).filter(|r| zero_point(*r) != 0) {
            let packed = &mut all[r * words..][..words];
            bitpack::unpack(packed, bits, &mut codes);
            for (c, code) in codes.iter_mut().enumerate() {
                if self.mask[r * mask_words + c / 32] >> (c % 32) & 1 == 0 {
                    *code = zero_point(r);
                }
            }
            bitpack::pack(&codes, bits, packed);
        }
        all
    }
}

/// Packed codes of any alphabet as signed ones of 8 bits. Those of an asymmetric alphabet, and their zero points, are moved down
/// by 128.
fn int8_channels(
    on: &Backend,
    packed: &[u32],
    (rows, cols): (usize, usize),
    code: AffineCode,
    scale: impl Fn(usize) -> Scale,
) -> Result<Int8Channels> {
    let bits = u32::from(code.bits);
    let (from, to) = (bitpack::words(cols, bits), bitpack::words(cols, 8));
    let mut words = vec![0; rows * to];
    let mut codes = vec![0; cols];
    let mut channels = Vec::with_capacity(rows);
    for r in 0..rows {
        bitpack::unpack(&packed[r * from..][..from], bits, &mut codes);
        for c in &mut codes {
            *c = match code.symmetric {
                true => ((*c << (8 - bits)) as i8 >> (8 - bits)) as u8,
                false => c.wrapping_sub(128),
            };
        }
        bitpack::pack(&codes, 8, &mut words[r * to..][..to]);
        let Scale { scale, zero_point } = scale(r);
        let zero_point = if code.symmetric { 0 } else { i32::from(zero_point) - 128 };
        let sum = codes.iter().map(|c| i32::from(*c as i8) - zero_point).fold(0, i32::wrapping_add);
        channels.push(Int8Channel { scale, zero_point, sum });
    }
    let words = Tensor::new(on, DType::U32, rows, to, words)?;
    Ok(Int8Channels { codes: Int8 { words, cols, signed: true }, channels })
}
