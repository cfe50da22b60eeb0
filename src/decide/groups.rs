//! How the elements of a tile fall into groups that share a scale.

use std::ops::Range;

/// How the elements of a tile, row by row, fall into groups of consecutive elements that share a scale.
///
/// Groups have one size, which divides the row, so that they never straddle rows; a tile that is a piece of one long row,
/// or of a tensor that is a single group, may start and end inside a group.
///
/// # Example
///
/// ```
/// use tersor::kernels::Groups;
///
/// // A tile that starts at element 6: the rest of a group of four, then whole ones, the last one cut.
/// let groups = Groups::of(4).from(6);
/// assert_eq!(groups.count(9), 3);
/// assert_eq!([0, 1, 2].map(|g| groups.span(g, 9)), [0..2, 2..6, 6..9]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Elements per group.
    pub size: usize,
    /// How many elements of the tile's first group lie before the tile; less than `size`.
    pub before: usize,
}

impl Groups {
    /// Groups of `size` elements, the tile starting with a whole one.
    pub fn of(size: usize) -> Self {
        Self { size: size.max(1), before: 0 }
    }

    /// The same groups, seen from a tile that starts at element `start` of the tensor.
    pub fn from(self, start: usize) -> Self {
        Self { before: (self.before + start) % self.size, ..self }
    }

    /// How many groups a tile of `elements` elements touches.
    pub fn count(self, elements: usize) -> usize {
        if elements == 0 { 0 } else { (self.before + elements).div_ceil(self.size) }
    }

    /// Which elements of the tile belong to its group `g`.
    pub fn span(self, g: usize, elements: usize) -> Range<usize> {
        let start = (g * self.size).saturating_sub(self.before);
        start..((g + 1) * self.size - self.before).min(elements)
    }

    /// Cuts elements of the tile at the borders of groups; `values` has one entry per group of the tile.
    pub fn spans<T: Copy>(
        self,
        elements: Range<usize>,
        values: &[T],
    ) -> impl Iterator<Item = (Range<usize>, T)> {
        let groups = match elements.is_empty() {
            true => 0..0,
            false => {
                (self.before + elements.start) / self.size
                    ..(self.before + elements.end).div_ceil(self.size)
            }
        };
        groups.map(move |g| {
            let span = self.span(g, elements.end);
            (span.start.max(elements.start)..span.end, values[g])
        })
    }

    /// Group size and length of the first group as a shader takes them, for a tile of `elements` elements: both fit 32 bits.
    pub(crate) fn for_device(self, elements: usize) -> (u32, u32) {
        (self.size.min(elements.max(1)) as u32, self.span(0, elements).end as u32)
    }
}
