use crate::{Backend, DType, Error, Result, dtype, gpu};

/// One tensor of a checkpoint: what it is, and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name; data, never a path.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index of its file in [`Checkpoint::files`](crate::format::Checkpoint).
    pub file: usize,
    /// Byte position of its data in that file.
    pub offset: u64,
    /// Length of its data in bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of elements: the product of the shape, 1 for a scalar. Readers have checked that it fits.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// Rows of the matrix view: the first dimension, or 1 for fewer than two dimensions.
    pub fn rows(&self) -> u64 {
        if self.shape.len() < 2 { 1 } else { self.shape[0] }
    }

    /// Columns of the matrix view: the product of all dimensions but the first; none where there are no elements.
    pub fn cols(&self) -> u64 {
        self.elements().checked_div(self.rows()).unwrap_or(0)
    }
}

/// The product of a shape, or the largest number. A dimension of 0 comes first: the others' product may be none.
pub(crate) fn elements(shape: &[u64]) -> u64 {
    if shape.contains(&0) { 0 } else { shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d)) }
}

/// A matrix of one element type that lives on one backend: what kernels take and return. Row-major, no strides.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    /// Little-endian elements, padded with zeros to whole words.
    Cpu(Vec<u32>),
    Gpu(gpu::Buffer),
}

/// Words that `elements` elements of `dtype` take.
pub fn words(dtype: DType, elements: usize) -> usize {
    (elements * dtype.bits()).div_ceil(32)
}

/// Elements `first..first + count`, from a fresh word on.
pub fn slice(dtype: DType, elements: &[u32], first: usize, count: usize) -> Vec<u32> {
    let size = dtype.bytes(1);
    let mut part = vec![0; words(dtype, count)];
    bytemuck::cast_slice_mut::<u32, u8>(&mut part)[..count * size].copy_from_slice(
        &bytemuck::cast_slice::<u32, u8>(elements)[first * size..][..count * size],
    );
    part
}

impl Tensor {
    /// Moves `rows * cols` elements, given as little-endian words, to a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the number of words is wrong, [`Error::Gpu`] if they do not fit the device.
    pub fn new(
        on: &Backend,
        dtype: DType,
        rows: usize,
        cols: usize,
        data: Vec<u32>,
    ) -> Result<Self> {
        let expected = words(dtype, rows * cols);
        if data.len() != expected {
            return Err(Error::shape("upload", "data", data.len(), format!("{expected} words")));
        }
        let data = match on {
            Backend::Cpu => Data::Cpu(data),
            Backend::Gpu(gpu) => Data::Gpu(gpu.upload(&data)?),
        };
        Ok(Self { dtype, rows, cols, data })
    }

    /// Moves a matrix of f32 weights to a backend.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the weights do not make `rows` rows, [`Error::Gpu`] if they do not fit the device.
    pub fn from_f32(on: &Backend, weights: &[f32], rows: usize) -> Result<Self> {
        if rows == 0 || !weights.len().is_multiple_of(rows) {
            return Err(Error::shape(
                "upload",
                "weights",
                weights.len(),
                format!("a multiple of {rows} rows"),
            ));
        }
        Self::new(
            on,
            DType::F32,
            rows,
            weights.len() / rows,
            bytemuck::cast_slice(weights).to_vec(),
        )
    }

    /// What a CPU kernel has made.
    pub(crate) fn cpu(dtype: DType, rows: usize, cols: usize, data: Vec<u32>) -> Self {
        debug_assert_eq!(data.len(), words(dtype, rows * cols));
        Self { dtype, rows, cols, data: Data::Cpu(data) }
    }

    /// What a GPU kernel is making.
    pub(crate) fn gpu(dtype: DType, rows: usize, cols: usize, data: gpu::Buffer) -> Self {
        Self { dtype, rows, cols, data: Data::Gpu(data) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows: output channels of a weight.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// The same elements, row by row, as a matrix of another shape.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the number of elements differs.
    pub fn reshape(mut self, rows: usize, cols: usize) -> Result<Self> {
        if rows * cols != self.elements() {
            return Err(Error::shape("reshape", "rows x cols", rows * cols, self.elements()));
        }
        (self.rows, self.cols) = (rows, cols);
        Ok(self)
    }

    /// Brings the elements back to the host, as little-endian words.
    ///
    /// # Errors
    ///
    /// [`Error::Gpu`] if the device fails; [`Error::Backend`] if `on` is not the backend the tensor lives on.
    pub fn read(&self, on: &Backend) -> Result<Vec<u32>> {
        match on {
            Backend::Cpu => self.words().map(<[u32]>::to_vec),
            Backend::Gpu(gpu) => gpu.read(self.buffer()?, words(self.dtype, self.elements())),
        }
    }

    /// Like [`Tensor::read`], for a tensor that is not needed any more: the CPU hands its words over.
    ///
    /// # Errors
    ///
    /// As [`Tensor::read`].
    pub fn into_words(self, on: &Backend) -> Result<Vec<u32>> {
        match self.data {
            Data::Cpu(words) => Ok(words),
            Data::Gpu(_) => self.read(on),
        }
    }

    /// Brings weights back to the host as f32.
    ///
    /// # Errors
    ///
    /// As [`Tensor::read`]; [`Error::Shape`] if the elements are not weights.
    pub fn read_f32(&self, on: &Backend) -> Result<Vec<f32>> {
        if !self.dtype.is_weight() {
            return Err(Error::shape("read_f32", "dtype", self.dtype.name(), "a float type"));
        }
        let mut out = vec![0.0; self.elements()];
        dtype::decode(self.dtype, &self.read(on)?, 0, &mut out);
        Ok(out)
    }

    /// The words of a tensor on the CPU.
    pub(crate) fn words(&self) -> Result<&[u32]> {
        match &self.data {
            Data::Cpu(words) => Ok(words),
            Data::Gpu(_) => Err(elsewhere("the tensor is on the GPU")),
        }
    }

    /// The buffer of a tensor on the GPU.
    pub(crate) fn buffer(&self) -> Result<&gpu::Buffer> {
        match &self.data {
            Data::Cpu(_) => Err(elsewhere("the tensor is on the CPU")),
            Data::Gpu(buffer) => Ok(buffer),
        }
    }
}

fn elsewhere(found: &'static str) -> Error {
    Error::Backend { kernel: "tensor", found }
}
