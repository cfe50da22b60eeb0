mod magnitude_mask;
mod magnitude_sums;
mod magnitude_tail;
mod nm_mask;
mod row_threshold;
