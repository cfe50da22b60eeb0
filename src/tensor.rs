/// Element types of a checkpoint. Widths are in bits, because some are narrower than a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F6E2M3,
    F6E3M2,
    F4,
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Every type with its spelling in a safetensors header.
    pub const ALL: [(Self, &str); 20] = [
        (Self::F64, "F64"),
        (Self::F32, "F32"),
        (Self::F16, "F16"),
        (Self::BF16, "BF16"),
        (Self::F8E4M3, "F8_E4M3"),
        (Self::F8E5M2, "F8_E5M2"),
        (Self::F8E8M0, "F8_E8M0"),
        (Self::F6E2M3, "F6_E2M3"),
        (Self::F6E3M2, "F6_E3M2"),
        (Self::F4, "F4"),
        (Self::C64, "C64"),
        (Self::I64, "I64"),
        (Self::I32, "I32"),
        (Self::I16, "I16"),
        (Self::I8, "I8"),
        (Self::U64, "U64"),
        (Self::U32, "U32"),
        (Self::U16, "U16"),
        (Self::U8, "U8"),
        (Self::Bool, "BOOL"),
    ];

    /// Bits per element.
    pub const fn bits(self) -> usize {
        match self {
            Self::F64 | Self::C64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E8M0 | Self::I8 | Self::U8 | Self::Bool => 8,
            Self::F6E2M3 | Self::F6E3M2 => 6,
            Self::F4 => 4,
        }
    }

    /// Whether the kernels read this type as weights; every other type is carried bit for bit.
    pub const fn is_weight(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2
        )
    }

    /// The spelling in a safetensors header.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(d, _)| *d == self).map_or("?", |(_, n)| n)
    }

    /// The type spelled `name` in a safetensors header.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
    }
}

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
        self.shape.iter().product()
    }

    /// Rows of the matrix view: the first dimension, or 1 for fewer than two dimensions.
    pub fn rows(&self) -> u64 {
        if self.shape.len() < 2 { 1 } else { self.shape[0] }
    }

    /// Columns of the matrix view: the product of all dimensions but the first.
    pub fn cols(&self) -> u64 {
        if self.shape.len() < 2 { self.elements() } else { self.shape[1..].iter().product() }
    }
}
