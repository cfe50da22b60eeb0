//! The CPU's fast products, where every output is the product of a row of `a` and a row of `w`, `out = a w^T`; and the inner loops
//! of codecs and of the search for clips.
//!
//! The one module with `unsafe`: it calls instructions that the build's target does not promise, and lets tasks write disjoint
//! rectangles of one matrix.
#![allow(unsafe_code, reason = "vector instructions chosen at run time, rectangles of a matrix")]

/// Whether the machine has a feature, and it may be used.
#[cfg(target_arch = "x86_64")]
macro_rules! detected {
    ($feature:tt) => {
        std::arch::is_x86_feature_detected!($feature) && crate::simd::allowed($feature)
    };
}

pub(crate) mod clips;
pub(crate) mod codecs;
mod edges;
pub(crate) mod nearest;
mod products;

pub(crate) use codecs::{
    bits::{pack_eights, unpack_eights},
    bytes::{look_up_halves, looks_up_halves, positions, translate},
    histogram::{histogram, histogram_nibbles},
};
pub(crate) use edges::{Edges, MOST as MOST_EDGES, edges_below, finds_edges};
pub(crate) use products::{
    dots_i8::{Panels, dots_i8},
    matmul_f32::matmul_f32,
    packed::{FEW, decode_rows, matmul_packed},
    rows::Packed,
};

/// Whether a feature may be used: all may, unless the variable `TERSOR_SIMD` is `avx2`, which leaves AVX-512 out, or `none`. Every
/// choice gives the same bytes; it is there to show that, and to time what other machines run.
#[cfg(target_arch = "x86_64")]
fn allowed(feature: &str) -> bool {
    use std::sync::LazyLock;
    /// Whether AVX-512, and whether anything.
    static ALLOWED: LazyLock<[bool; 2]> =
        LazyLock::new(|| match std::env::var("TERSOR_SIMD").as_deref() {
            Ok("none") => [false, false],
            Ok("avx2") => [false, true],
            _ => [true, true],
        });
    // The forms of GFNI that are used come with AVX-512.
    ALLOWED[usize::from(!(feature.starts_with("avx512") || feature == "gfni"))]
}
