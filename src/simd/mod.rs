//! The CPU's fast products, where every output is the product of a row of `a` and a row of `w`, `out = a w^T`; and the inner loops
//! of codecs.
//!
//! The one module with `unsafe`: it calls instructions that the build's target does not promise, and lets tasks write disjoint
//! rectangles of one matrix.
#![allow(unsafe_code, reason = "vector instructions chosen at run time, rectangles of a matrix")]

mod blocks;
mod bytes;
#[cfg(target_arch = "x86_64")]
mod decode;
mod dots_i8;
mod floats;
mod histogram;
pub(crate) mod huffman;
#[cfg(target_arch = "x86_64")]
mod isa;
mod matmul_f32;
mod packed;
#[cfg(target_arch = "x86_64")]
mod panels;
pub(crate) mod rans;
pub(crate) mod ribbon;
#[cfg(target_arch = "x86_64")]
mod streams;

pub(crate) use bytes::{positions, translate};
pub(crate) use dots_i8::{Panels, dots_i8};
pub(crate) use histogram::histogram;
pub(crate) use matmul_f32::matmul_f32;
pub(crate) use packed::{FEW, Packed, decode_rows, matmul_packed};
