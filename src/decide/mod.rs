//! What the host decides from exact counts and reductions: ranges, histograms, thresholds, tables, scales. It runs no kernel and
//! opens no file, so that every backend is given the same decision.

pub mod affine;
pub mod groups;
pub mod histogram;
pub mod kmeans;
pub mod order_key;
pub mod range;
pub mod threshold;
pub mod trellis;
