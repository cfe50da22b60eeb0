//! What a treated tensor is: how its weights are written, in which components, with which words and which text in the manifest.
//! It stands below kernels and files: it runs nothing and opens nothing.
//!
//! One method, one file: its parameters, tables, text, words, bytes, and what it takes of memory. [`Method`] names them all, and
//! no match on it has a rest: whoever adds one is told by the compiler where it is missing.

mod affine;
mod packing;
mod palette;
mod pyramid;
mod shape;
mod text;
mod transform;
mod values;
mod vector;

pub use affine::Affine;
pub use packing::Packing;
pub use palette::{Palette, code_bits};
pub use pyramid::Pyramid;
pub use shape::{MAX_RANK, PIECE, View, described_bytes};
pub use transform::{BlockTransform, TransformKind};
pub use vector::{Vector, sample_of};

use crate::{
    DType,
    codec::{bitpack, block::Element, sparse},
    decide::groups::Groups,
    digest::Digest,
};

/// The endings of component names; a tensor of the checkpoint may not end so where the stem is a tensor too.
pub const COMPONENTS: [&str; 9] =
    ["codes", "scales", "zero_points", "codebook", "gains", "mask", "values", "coded", TIED];

/// The ending of what stands in the place of a tensor that is stored under the name of another.
pub const TIED: &str = "tied";

/// What was done to one tensor, and what it must become again.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorManifest {
    /// Original type.
    pub dtype: DType,
    /// Original shape.
    pub shape: Vec<u64>,
    /// How it is seen as a matrix.
    pub view: View,
    /// Whether only the weights that `mask` marks are stored; the rest are +0.
    pub pruned: bool,
    /// What is done to the rows before: the method then writes coefficients.
    pub transform: Option<BlockTransform>,
    /// How the stored weights are written.
    pub method: Method,
    /// Whether blocks of the weights are entropy-coded, all in one component: first the tables (see
    /// [`Self::tables`]), then the length of every block as a u32, then the blocks (see [`crate::codec::block`]).
    pub coded: bool,
    /// Digest of the restored tensor, taken over its blocks.
    pub digest: Digest,
    /// Largest Frobenius ratio that verification accepts.
    pub max_rel_error: Option<f64>,
}

/// How the stored weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they were, in the original type.
    Values,
    /// Codes, scales and perhaps zero points.
    Affine(Affine),
    /// Codes and tables.
    Palette(Palette),
    /// Codes of vectors, codebooks and scales.
    Vector(Vector),
    /// Codes of points of an integer pyramid, and gains.
    Pyramid(Pyramid),
}

/// One stored tensor of a treated tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// One of [`COMPONENTS`].
    pub name: &'static str,
    /// Its type.
    pub dtype: DType,
    /// Its shape; `None` where it depends on how many weights survive.
    pub shape: Option<Vec<u64>>,
}

/// Rows and columns of the matrix view.
type Matrix = (u64, u64);

/// How a tensor is gone through, as far as the memory of a method depends on it: numbers of elements.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// Its type.
    pub dtype: DType,
    /// Of the tensor.
    pub elements: u64,
    /// Of its largest unit.
    pub unit: u64,
    /// Of a group that shares a table.
    pub group: u64,
}

/// What a method takes of memory beside the weights, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of a thread that encodes a unit.
    pub thread: u64,
    /// Of a thread that goes through the tensor before.
    pub survey: u64,
    /// Of all threads together.
    pub shared: u64,
}

impl Component {
    /// What a tied tensor leaves in its place: no bytes.
    pub fn tied() -> Self {
        Self { name: TIED, dtype: DType::U8, shape: Some(vec![0]) }
    }

    /// Its bytes, where they are known.
    pub fn bytes(&self) -> Option<u64> {
        self.shape.as_ref().and_then(|s| described_bytes(self.dtype, s))
    }
}

impl Passes {
    /// Whether a histogram has bins of more than one value.
    fn wide(&self) -> bool {
        matches!(self.dtype, DType::F32 | DType::F64)
    }

    /// Counts and sums of 2^20 bins, and both in one, waiting to be added; or counts of 2^16.
    pub fn histogram(&self) -> u64 {
        if self.wide() { 24 << 20 } else { 2 << 20 }
    }
}

impl Method {
    /// How codes are packed; none where the values are stored.
    pub fn packing(self) -> Option<Packing> {
        match self {
            Self::Values => None,
            Self::Affine(m) => Some(Packing::of_bits(m.bits)),
            Self::Palette(m) => Some(Packing::of_bits(m.code_bits())),
            Self::Vector(m) => Some(m.packing()),
            Self::Pyramid(m) => Some(m.packing()),
        }
    }

    /// Bits of what is packed, and coded where that is asked for; none where the values are stored.
    pub fn code_bits(self) -> Option<u8> {
        self.packing().map(|p| p.bits)
    }

    /// Bits of a code as a report says them: of a pyramid those of a gain and a number together.
    pub fn reported_bits(self) -> Option<u8> {
        match self {
            Self::Pyramid(m) => Some(m.packing().codes as u8),
            Self::Values | Self::Affine(_) | Self::Palette(_) | Self::Vector(_) => self.code_bits(),
        }
    }

    /// What a group's table takes on a device.
    pub fn table_bytes(self) -> usize {
        match self {
            Self::Values => 0,
            Self::Affine(_) => Affine::TABLE_BYTES,
            Self::Palette(m) => m.table_bytes(),
            Self::Vector(_) => Affine::TABLE_BYTES,
            // Gains are of the tensor.
            Self::Pyramid(_) => 0,
        }
    }
}

impl TensorManifest {
    /// Rows and columns of the matrix view.
    pub fn matrix(&self) -> (u64, u64) {
        self.view.matrix(&self.shape)
    }

    /// The type of what the method writes: the tensor's own, or of coefficients F32.
    pub fn quantized_dtype(&self) -> DType {
        if self.transform.is_some() { DType::F32 } else { self.dtype }
    }

    /// How the elements of the tensor fall into groups that share a scale or a table.
    pub fn groups(&self) -> Groups {
        let matrix = self.matrix();
        let size = match self.method {
            Method::Values => values::group(matrix),
            Method::Affine(m) => m.group(matrix),
            Method::Palette(m) => m.group(matrix),
            Method::Vector(m) => m.group(matrix),
            Method::Pyramid(m) => m.group(),
        };
        Groups::of(size as usize)
    }

    /// The components that store the tensor, in the order they are written. The one place that knows.
    pub fn components(&self) -> Vec<Component> {
        if self.coded {
            return vec![Component { name: "coded", dtype: DType::U8, shape: None }];
        }
        let (rows, cols) = self.matrix();
        let mut list = Vec::new();
        if self.pruned {
            let shape = Some(vec![rows, cols.div_ceil(32)]);
            list.push(Component { name: "mask", dtype: DType::U32, shape });
        }
        list.push(match self.method.packing() {
            None => values::stored(self.dtype),
            Some(packing) => {
                let shape = (!self.pruned).then(|| vec![rows, packing.words_per_row(cols)]);
                Component { name: "codes", dtype: DType::U32, shape }
            }
        });
        list.extend(self.tables());
        list
    }

    /// The component that stores the weights themselves, or, where the tensor is coded, what they are in a report.
    pub fn stored(&self) -> &'static str {
        match self.element() {
            Element::Value(_) => values::STORED,
            Element::Code(_) | Element::Path(..) => "codes",
        }
    }

    /// What the codes stand for. Where the tensor is coded, these lie in front of its blocks, one after the other.
    pub fn tables(&self) -> Vec<Component> {
        match self.method {
            Method::Values => Vec::new(),
            Method::Affine(m) => m.tables(self.matrix()),
            Method::Palette(m) => m.tables(self.quantized_dtype(), self.matrix()),
            Method::Vector(m) => m.tables(self.matrix()),
            Method::Pyramid(m) => m.tables(),
        }
    }

    /// Bytes of all tables, and where in a coded tensor each begins.
    pub fn table_starts(&self) -> (u64, Vec<(&'static str, u64)>) {
        let mut at = 0;
        let start = |table: Component| {
            let start = at;
            at += table.bytes().unwrap_or(0);
            (table.name, start)
        };
        let starts = self.tables().into_iter().map(start).collect();
        (at, starts)
    }

    /// How many codes or values a row of `cols` weights has, where all of them are stored.
    pub fn stored_cols(&self, cols: usize) -> usize {
        self.method.packing().map_or(cols, |packing| packing.count(cols))
    }

    /// What the stored weights are.
    pub fn element(&self) -> Element {
        match (self.method.code_bits(), self.method) {
            (None, _) => Element::Value(self.dtype),
            (Some(bits), Method::Palette(Palette { trellis: Some(trellis), .. })) => {
                Element::Path(bits.into(), trellis)
            }
            (Some(bits), _) => Element::Code(bits.into()),
        }
    }

    /// What the survivors of a mask of rows of `cols` weights take: bytes of values, or words of codes.
    pub fn stored_length(&self, mask: &[u32], cols: usize) -> u64 {
        match self.element() {
            Element::Value(dtype) => values::stored_length(dtype, mask, cols),
            Element::Code(bits) | Element::Path(bits, _) => {
                sparse::row_counts(mask, cols).map(|n| bitpack::words(n, bits) as u64).sum()
            }
        }
    }

    /// Whether the tensor comes back bit for bit, whatever its values are.
    pub fn lossless(&self) -> bool {
        match self.method {
            Method::Values => !self.pruned,
            Method::Affine(_) | Method::Palette(_) | Method::Vector(_) | Method::Pyramid(_) => {
                false
            }
        }
    }

    /// The stored form in words: `int8 per channel`, `2:4, values`. How it was pruned is not stored: whoever knows says it.
    pub fn describe(&self, pruned: Option<&str>) -> String {
        let matrix = self.matrix();
        let stored = match self.method {
            Method::Values => values::words(),
            Method::Affine(m) => m.words(matrix),
            Method::Palette(m) => m.words(matrix),
            Method::Vector(m) => m.words(matrix),
            Method::Pyramid(m) => m.words(),
        };
        let stored = match &self.transform {
            Some(transform) => format!("{stored}, {}", transform.words()),
            None => stored,
        };
        let stored = if self.coded { format!("{stored}, coded") } else { stored };
        match pruned.or(self.pruned.then_some("pruned")) {
            None => stored,
            Some(how) => format!("{how}, {stored}"),
        }
    }

    /// Everything that arithmetic on the shape later relies on.
    fn check(&self) -> Result<(), String> {
        // What is lossless asks nothing of the values but whole bytes.
        let whole = self.lossless() && self.dtype.bits().is_multiple_of(8);
        if !(self.dtype.is_weight() || whole) || self.shape.len() > MAX_RANK {
            let (dtype, rank) = (self.dtype.name(), self.shape.len());
            return Err(format!(
                "{dtype} of {rank} dimensions, expected weights of at most {MAX_RANK}"
            ));
        }
        if described_bytes(self.dtype, &self.shape).is_none_or(|b| b == 0) {
            return Err(format!("shape {:?}, expected between 1 and 2^61 bytes", self.shape));
        }
        if self.view.stack && self.shape.len() != 3 {
            let rank = self.shape.len();
            return Err(format!("a stack of matrices of {rank} dimensions, expected 3"));
        }
        match self.method {
            Method::Values => values::check(self.pruned, self.coded)?,
            Method::Affine(m) => m.check(self.matrix())?,
            Method::Palette(m) => m.check(self.matrix(), self.coded)?,
            Method::Vector(m) => m.check(self.matrix(), self.pruned)?,
            Method::Pyramid(m) => m.check(self.matrix(), self.pruned, self.coded)?,
        }
        if let Some(transform) = &self.transform {
            if self.pruned || self.method == Method::Values {
                return Err("a transform of what is pruned, or of no codes".into());
            }
            transform.check_matrix(self.matrix())?;
        }
        match self.table_bytes() {
            None => Err("tables of 2^61 bytes or more".into()),
            Some(_) => Ok(()),
        }
    }

    /// Bytes of all tables, where they are fewer than 2^61.
    fn table_bytes(&self) -> Option<u64> {
        self.tables().iter().try_fold(0u64, |all, table| all.checked_add(table.bytes()?))
    }
}
