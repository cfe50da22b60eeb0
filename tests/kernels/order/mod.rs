mod histogram;
mod histogram_tails;
mod merge_runs;
mod sort_rows;
