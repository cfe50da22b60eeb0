//! Counting and sorting weights.

pub(crate) mod histogram;
pub(crate) mod histogram_tails;
pub(crate) mod merge_runs;
pub(crate) mod sort_rows;

kernels! {
    histogram: Counting, histogram;
    histogram_tails: histogram_tails;
    merge_runs: merge_runs;
    sort_rows: sort_rows;
}
