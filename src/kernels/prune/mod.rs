//! Which weights survive.

pub(crate) mod magnitude_mask;
pub(crate) mod magnitude_sums;
pub(crate) mod magnitude_tail;
pub(crate) mod nm_mask;
pub(crate) mod row_threshold;

kernels! {
    magnitude_mask: magnitude_mask;
    magnitude_sums: BlockGrid, magnitude_sums;
    magnitude_tail: magnitude_tail;
    nm_mask: nm_mask;
    row_threshold: row_threshold;
}
