//! The kernels that are cross-checked, a file for each family. An [`Op`] says how cases of a kernel are made and run; all else,
//! from comparing to shrinking, is the same for all.

mod affine;
mod codes;
mod layers;
mod order;
mod palette;
mod probe;
mod products;
mod prune;
mod retrieval;

use crate::{
    Backend, Result,
    crosscheck::{Class, Data, Input, Maker, Outputs},
    decide::groups::Groups,
};

/// A kernel, or one way to use it.
pub struct Op {
    /// What `--ops` matches and the report shows.
    pub name: &'static str,
    /// Kernels that its cases run, its own first.
    pub kernels: &'static [&'static str],
    /// How closely results must agree.
    pub class: Class,
    /// Bytes of its longest output for a byte of its longest input, at most: what is too long for the device of tiny limits is
    /// not tried there.
    pub expands: usize,
    /// Makes its cases.
    pub make: fn(&mut Maker),
    /// Runs one.
    pub run: fn(&Backend, &Input) -> Result<Outputs>,
}

/// Every op.
pub const ALL: &[&Op] = &[
    &probe::NUMERICS,
    &affine::QUANTIZE,
    &affine::DEQUANTIZE,
    &affine::RANGE,
    &affine::CLIP_ERRORS,
    &palette::PALETTIZE,
    &palette::DEPALETTIZE,
    &order::HISTOGRAM,
    &order::HISTOGRAM_TAILS,
    &order::SORT_ROWS,
    &order::MERGE_RUNS,
    &prune::MAGNITUDE_MASK,
    &prune::MAGNITUDE_SUMS,
    &prune::MAGNITUDE_TAIL,
    &prune::NM_MASK,
    &prune::ROW_THRESHOLD,
    &prune::BINARIZE,
    &codes::PACK_CODES,
    &codes::HUFFMAN_DECODE,
    &codes::RANS_DECODE,
    &codes::SCATTER,
    &retrieval::RIBBON_QUERY,
    &retrieval::BLOOMIER_QUERY,
    &layers::ACTIVATE,
    &layers::ADD,
    &layers::ATTENTION,
    &layers::GATHER_ROWS,
    &layers::IM2COL,
    &layers::LAYER_NORM,
    &layers::MASKED_MEAN,
    &layers::MAX_POOL,
    &layers::SOFTMAX,
    &products::MATMUL_AFFINE,
    &products::MATMUL_BINARY,
    &products::MATMUL_F32,
    &products::MATMUL_I8,
    &products::MATMUL_I8_FLOAT,
    &products::MATMUL_PALETTE,
    &products::MATMUL_SPARSE,
    &products::QUANTIZE_ROWS,
    &products::REQUANTIZE,
];

/// How the elements of a case fall into groups, chosen in turn; names are the numbers of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// One group.
    Whole,
    /// A group a row.
    Rows,
    /// Groups of so many elements, which divide the row.
    Parts(usize),
    /// Groups of two rows, the tile starting with the second of one.
    Pairs,
}

impl Grouping {
    /// One of those that a matrix allows.
    pub(super) fn of(turn: usize, data: &Data) -> Self {
        let parts =
            [32, 3, 1].into_iter().find(|size| data.cols > 0 && data.cols.is_multiple_of(*size));
        match turn % 4 {
            0 => Self::Whole,
            1 => Self::Rows,
            // So many groups as elements are for small matrices.
            2 if data.elements() <= 2048 => Self::Parts(parts.unwrap_or(1)),
            _ => Self::Pairs,
        }
    }

    /// Writes it into a case.
    pub(super) fn set(self, input: Input) -> Input {
        let (kind, size) = match self {
            Self::Whole => (0, 0),
            Self::Rows => (1, 0),
            Self::Parts(size) => (2, size),
            Self::Pairs => (3, 0),
        };
        input.set("grouping", kind).set("group", size)
    }

    /// The groups of a case whose matrix has so many columns.
    pub(super) fn read(input: &Input, cols: usize) -> Result<Groups> {
        let kind = match input.number::<u8>("grouping")? {
            0 => Self::Whole,
            1 => Self::Rows,
            2 => Self::Parts(input.number("group")?),
            _ => Self::Pairs,
        };
        Ok(kind.groups(cols))
    }

    /// The groups of a matrix of so many columns.
    pub(super) fn groups(self, cols: usize) -> Groups {
        match self {
            Self::Whole => Groups::of(1 << 30),
            Self::Rows => Groups::of(cols),
            Self::Parts(size) => Groups::of(size),
            Self::Pairs => Groups { size: 2 * cols.max(1), before: cols },
        }
    }

    /// Names of the dimensions of a matrix that has one row for every group.
    pub(super) fn axes(self, data: Data) -> Data {
        data.axes(if self == Self::Rows { "rows" } else { "" }, "")
    }
}
