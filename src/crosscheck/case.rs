//! A case as plain data: what a kernel is given, and what it gives. It shrinks, goes to a file and comes back without knowing
//! which kernel it is for.

use crate::{Backend, DType, Error, Result, Tensor, format::Checkpoint, stage::Source, words};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, path::Path};

/// A matrix on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// Element type; of whole bytes.
    pub dtype: DType,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Little-endian elements, padded with zeros to whole words.
    pub words: Vec<u32>,
    /// Names of its two dimensions. Those of one name shrink together; an empty name stays as it is.
    pub axes: [String; 2],
}

impl Data {
    /// A matrix from its words.
    pub fn new(dtype: DType, (rows, cols): (usize, usize), words: Vec<u32>) -> Self {
        debug_assert_eq!(words.len(), crate::words(dtype, rows * cols));
        Self { dtype, rows, cols, words, axes: Default::default() }
    }

    /// A matrix of f32.
    pub fn f32(shape: (usize, usize), values: &[f32]) -> Self {
        Self::new(DType::F32, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// A matrix of u32.
    pub fn u32(shape: (usize, usize), values: Vec<u32>) -> Self {
        Self::new(DType::U32, shape, values)
    }

    /// A matrix of u64.
    pub fn u64(shape: (usize, usize), values: &[u64]) -> Self {
        let halves = values.iter().flat_map(|x| [*x as u32, (*x >> 32) as u32]);
        Self::new(DType::U64, shape, halves.collect())
    }

    /// A matrix of bytes.
    pub fn u8(shape: (usize, usize), values: &[u8]) -> Self {
        let mut words = vec![0; values.len().div_ceil(4)];
        bytemuck::cast_slice_mut(&mut words)[..values.len()].copy_from_slice(values);
        Self::new(DType::U8, shape, words)
    }

    /// Names its dimensions.
    pub fn axes(mut self, rows: &str, cols: &str) -> Self {
        self.axes = [rows.into(), cols.into()];
        self
    }

    /// What a kernel has made.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if it cannot be read.
    pub fn read(on: &Backend, tensor: &Tensor) -> Result<Self> {
        Ok(Self::new(tensor.dtype(), (tensor.rows(), tensor.cols()), tensor.read(on)?))
    }

    /// The matrix on a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if it does not fit.
    pub fn upload(&self, on: &Backend) -> Result<Tensor> {
        Tensor::new(on, self.dtype, self.rows, self.cols, self.words.clone())
    }

    /// Elements.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Bytes of an element.
    pub fn width(&self) -> usize {
        self.dtype.bytes(1)
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.elements() * self.width()]
    }

    /// The elements as bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.elements() * self.width();
        &mut bytemuck::cast_slice_mut(&mut self.words)[..len]
    }

    /// The pattern of element `i`.
    pub fn bits(&self, i: usize) -> u64 {
        let mut bits = [0; 8];
        bits[..self.width()].copy_from_slice(&self.bytes()[i * self.width()..][..self.width()]);
        u64::from_le_bytes(bits)
    }

    /// The value of element `i`.
    pub fn value(&self, i: usize) -> f64 {
        let bits = self.bits(i);
        match self.dtype {
            dtype if dtype.is_weight() => {
                let (mut value, at) = ([0.0], self.width().max(4) / 4);
                let words = [bits as u32, (bits >> 32) as u32];
                crate::dtype::decode_f64(dtype, &words[..at], 0, &mut value);
                value[0]
            }
            DType::I8 => f64::from(bits as i8),
            DType::I32 => f64::from(bits as i32),
            _ => bits as f64,
        }
    }

    /// The elements of an F32 matrix.
    pub fn as_f32(&self) -> &[f32] {
        bytemuck::cast_slice(&self.words)
    }

    /// The matrix without some of its rows (`axis` 0) or columns.
    fn without(&self, axis: usize, gone: std::ops::Range<usize>) -> Self {
        let (width, mut bytes) = (self.width(), Vec::new());
        for (i, element) in self.bytes().chunks_exact(width).enumerate() {
            let at = if axis == 0 { i / self.cols } else { i % self.cols };
            if !gone.contains(&at) {
                bytes.extend_from_slice(element);
            }
        }
        let mut shape = [self.rows, self.cols];
        shape[axis] -= gone.len();
        bytes.resize(4 * words(self.dtype, shape[0] * shape[1]), 0);
        Self {
            rows: shape[0],
            cols: shape[1],
            words: bytemuck::pod_collect_to_vec(&bytes),
            ..self.clone()
        }
    }
}

/// What a kernel is given: named matrices and named numbers.
///
/// # Example
///
/// ```
/// use tersor::crosscheck::{Data, Input};
///
/// let matrix = Data::u8((2, 2), &[1, 2, 3, 4]).axes("rows", "cols");
/// let input = Input::new().with("codes", matrix).set("bits", 3);
/// assert_eq!(input.number::<u32>("bits")?, 3);
/// // Smaller by the first row, as a failing case shrinks.
/// assert_eq!(input.without("rows", 0..1).tensor("codes")?.bytes(), [3, 4]);
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Matrices; the first is the one that a failure shows.
    pub tensors: Vec<(String, Data)>,
    /// Sizes, widths and switches.
    pub numbers: Vec<(String, i64)>,
}

impl Input {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a matrix more.
    pub fn with(mut self, name: &str, data: Data) -> Self {
        self.tensors.push((name.into(), data));
        self
    }

    /// With a number more.
    pub fn set(mut self, name: &str, number: impl TryInto<i64>) -> Self {
        self.numbers.push((name.into(), number.try_into().unwrap_or(i64::MAX)));
        self
    }

    /// A matrix.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is none of this name: the file is for another kernel.
    pub fn tensor(&self, name: &str) -> Result<&Data> {
        let found = self.tensors.iter().find(|t| t.0 == name).map(|t| &t.1);
        found.ok_or_else(|| Error::Usage(format!("the case has no tensor {name:?}")))
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is none of this name, or it is out of the range of its type.
    pub fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T> {
        let found = self.numbers.iter().find(|n| n.0 == name);
        let fits = found.and_then(|n| T::try_from(n.1).ok());
        fits.ok_or_else(|| Error::Usage(format!("the case has no number {name:?} that fits")))
    }

    /// Longest matrix in bytes.
    pub fn longest(&self) -> usize {
        self.tensors.iter().map(|t| t.1.bytes().len()).max().unwrap_or(0)
    }

    /// Length of a dimension, if any matrix has one of this name.
    pub fn length(&self, axis: &str) -> Option<usize> {
        let mut all = self.tensors.iter().flat_map(|(_, d)| d.axes.iter().zip([d.rows, d.cols]));
        all.find(|(name, _)| *name == axis).map(|(_, n)| n)
    }

    /// Names of the dimensions that may shrink, in order of their first use.
    pub fn shrinking(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for axis in self.tensors.iter().flat_map(|t| &t.1.axes) {
            if !axis.is_empty() && !names.contains(axis) {
                names.push(axis.clone());
            }
        }
        names
    }

    /// The input without a part of one dimension, in every matrix that has it.
    pub fn without(&self, axis: &str, gone: std::ops::Range<usize>) -> Self {
        let mut less = self.clone();
        for (_, data) in &mut less.tensors {
            for side in [0, 1] {
                if data.axes[side] == axis {
                    *data = data.without(side, gone.clone());
                }
            }
        }
        less
    }
}

/// What a kernel gives: named matrices, in the same order on every backend.
pub type Outputs = Vec<(&'static str, Data)>;

/// A case of one kernel.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where its values come from: `edge`, `tie`, `random`, `shape`, or `user:file::tensor@offset`.
    pub source: String,
    /// What the kernel is given.
    pub input: Input,
    /// Whether the device of tiny limits cannot hold it.
    pub ordinary: bool,
}

/// What a repro file says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Description {
    op: String,
    source: String,
    tiny: bool,
    numbers: Vec<(String, i64)>,
    tensors: Vec<(String, [String; 2])>,
}

/// The metadata key of a repro file.
const KEY: &str = "tersor_crosscheck";

/// Writes a case: a safetensors file that holds the tensors, the kernel, the device's limits and the numbers.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be written.
pub fn write(path: &Path, op: &str, tiny: bool, case: &Case) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::format(path, e.to_string());
    let tensors = case.input.tensors.iter().map(|(name, data)| (name.clone(), data.axes.clone()));
    let description = Description {
        op: op.into(),
        source: case.source.clone(),
        tiny,
        numbers: case.input.numbers.clone(),
        tensors: tensors.collect(),
    };
    let text = serde_json::to_string(&description).map_err(|e| failed(&e))?;
    let mut views = Vec::new();
    for (name, data) in &case.input.tensors {
        let dtype = serde_json::from_value(data.dtype.name().into()).map_err(|e| failed(&e))?;
        let shape = vec![data.rows, data.cols];
        let view = safetensors::tensor::TensorView::new(dtype, shape, data.bytes());
        views.push((name.as_str(), view.map_err(|e| failed(&e))?));
    }
    let bytes = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), text)])));
    std::fs::write(path, bytes.map_err(|e| failed(&e))?).map_err(Error::io(path))
}

/// Reads a case: the name of its kernel, whether it is for the device of tiny limits, and the case.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] if the file is not one that [`write()`] wrote.
pub fn read(path: &Path) -> Result<(String, bool, Case)> {
    let none = || Error::format(path, "this is no case of a cross-check");
    let checkpoint = Checkpoint::open(path)?;
    let file = checkpoint.files.first().ok_or_else(none)?;
    let text = file.metadata.get(KEY).ok_or_else(none)?;
    let description: Description =
        serde_json::from_str(text).map_err(|e| Error::format(path, e.to_string()))?;
    let mut input = Input { numbers: description.numbers, ..Input::default() };
    for (name, axes) in description.tensors {
        let info = checkpoint.tensors.iter().find(|t| t.name == name).ok_or_else(none)?;
        let &[rows, cols] = &info.shape[..] else { return Err(none()) };
        if info.dtype.bits() % 8 != 0 {
            return Err(none());
        }
        let (rows, cols) = (rows as usize, cols as usize);
        let mut data = vec![0; words(info.dtype, rows * cols)];
        let bytes = &mut bytemuck::cast_slice_mut(&mut data)[..info.bytes as usize];
        Source::File(&checkpoint, info).read_at(0, bytes)?;
        input.tensors.push((name, Data { axes, ..Data::new(info.dtype, (rows, cols), data) }));
    }
    Ok((
        description.op,
        description.tiny,
        Case { source: description.source, input, ordinary: false },
    ))
}
