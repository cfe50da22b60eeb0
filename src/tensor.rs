use crate::{
    Backend, DType, Error, Result, dtype, gpu,
    scratch::{self, Words},
};

/// One tensor of a checkpoint: what it is, and how it is stored. Its elements are read through
/// [`Source`](crate::stage::Source), which knows every way of storing them.
///
/// # Example
///
/// ```
/// use tersor::{DType, Storage, TensorInfo};
///
/// // 64 filters of 3 channels and 5 x 5 pixels: a matrix of 64 rows.
/// let filters = TensorInfo {
///     name: "conv.weight".into(),
///     prefix: 0,
///     dtype: DType::BF16,
///     shape: vec![64, 3, 5, 5],
///     file: 0,
///     storage: Storage::Plain { offset: 128 },
///     bytes: 2 * 64 * 75,
/// };
/// assert_eq!((filters.rows(), filters.cols(), filters.elements()), (64, 75, 4800));
/// assert_eq!(filters.offset(), 128);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name; data, never a path. In a pipeline that of its module comes before it: `unet/conv_in.weight`.
    pub name: String,
    /// How many bytes of the name are those of a module.
    pub prefix: u32,
    /// The type of its elements as they are read.
    pub dtype: DType,
    /// Its shape; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index of its file in [`Checkpoint::files`](crate::format::Checkpoint).
    pub file: usize,
    /// How it is stored there.
    pub storage: Storage,
    /// Bytes that its elements take as they are read.
    pub bytes: u64,
}

/// How the elements of a tensor are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are read, one after the other from this byte of the file on.
    Plain {
        /// That byte.
        offset: u64,
    },
    /// As narrow codes with scales beside them, which reading multiplies.
    Scaled(Box<Scaled>),
}

/// Codes with a scale for every tile. A tensor of these is a stack of matrices one below the other, and the scales are as many
/// matrices of a scale for every tile, of which those at the lower and at the right edge may be cut:
///
/// ```text
/// w[m, r, c] = code[m, r, c] x scale[m, r / tile rows, c / tile columns]
/// ```
///
/// as one f32 multiplication, whose result is the element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The codes, row by row: floats of 8 bits, or of 4, two in a byte, of which the one in the low bits comes first.
    pub codes: Stored,
    /// The scales, row by row: floats, of which F8_E8M0 are powers of two.
    pub scales: Stored,
    /// Rows and columns of one matrix.
    pub matrix: [u64; 2],
    /// Rows and columns of a tile.
    pub tile: [u64; 2],
}

/// Plain elements somewhere in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Their type.
    pub dtype: DType,
    /// Index of their file.
    pub file: usize,
    /// Where they start in it.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of elements: the product of the shape, 1 for a scalar. Readers have checked that it fits.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// What it is called in its file, and in the recipes of models like its module.
    pub fn own_name(&self) -> &str {
        &self.name[self.prefix as usize..]
    }

    /// Where its bytes start in its file, or those of its codes.
    pub fn offset(&self) -> u64 {
        match &self.storage {
            Storage::Plain { offset } => *offset,
            Storage::Scaled(scaled) => scaled.codes.offset,
        }
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
///
/// # Example
///
/// ```
/// use tersor::{Backend, DType, Tensor};
///
/// let on = Backend::Cpu;
/// let matrix = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?;
/// assert_eq!((matrix.rows(), matrix.cols(), matrix.dtype()), (2, 3, DType::F32));
/// assert_eq!(matrix.reshape(3, 2)?.read_f32(&on)?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
///
/// // Two BF16 to a word, the first in the low half: 0x3f80 is 1, 0xc000 is -2.
/// let narrow = Tensor::new(&on, DType::BF16, 1, 2, vec![0xc000_3f80])?;
/// assert_eq!(narrow.read_f32(&on)?, [1.0, -2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
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
    Cpu(Words),
    Gpu(gpu::Buffer),
}

/// Words that `elements` elements of `dtype` take.
///
/// # Example
///
/// ```
/// use tersor::{DType, words};
///
/// assert_eq!([DType::U8, DType::F16, DType::F32, DType::F64].map(|d| words(d, 5)), [2, 3, 5, 10]);
/// ```
pub fn words(dtype: DType, elements: usize) -> usize {
    (elements * dtype.bits()).div_ceil(32)
}

/// Elements `first..first + count`, from a fresh word on.
pub fn slice(dtype: DType, elements: &[u32], first: usize, count: usize) -> Vec<u32> {
    let size = dtype.bytes(1);
    let mut part = scratch::words(words(dtype, count));
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
            Backend::Cpu => Data::Cpu(data.into()),
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
        Self { dtype, rows, cols, data: Data::Cpu(data.into()) }
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
        match (self.data, on) {
            (Data::Cpu(words), Backend::Cpu) => Ok(words.into_inner()),
            (data, on) => Self { data, ..self }.read(on),
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

#[cfg(test)]
mod tests {
    use super::Tensor;
    use crate::{Backend, Device, Error};

    #[test]
    fn words_come_only_from_the_backend_a_tensor_lives_on() {
        let of = |on: &Backend| Tensor::from_f32(on, &[1.0, 2.0], 1).unwrap();
        let words = vec![1f32.to_bits(), 2f32.to_bits()];
        assert_eq!(of(&Backend::Cpu).into_words(&Backend::Cpu).unwrap(), words);
        let on = match Backend::open(Device::Gpu) {
            Ok(on) => on,
            Err(e) if std::env::var_os("TERSOR_REQUIRE_GPU").is_some() => panic!("{e}"),
            Err(e) => return eprintln!("SKIPPED: {e}"),
        };
        assert_eq!(of(&on).into_words(&on).unwrap(), words);
        for (lives, asked) in [(&Backend::Cpu, &on), (&on, &Backend::Cpu)] {
            let error = of(lives).into_words(asked).unwrap_err();
            assert!(matches!(error, Error::Backend { .. }), "{error}");
        }
    }
}
