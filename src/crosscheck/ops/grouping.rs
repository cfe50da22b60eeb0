//! How elements fall into groups.

use crate::{
    Result,
    crosscheck::case::{Data, Input},
    decide::groups::Groups,
};

/// How the elements of a case fall into groups, chosen in turn; names are the numbers of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crosscheck) enum Grouping {
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
