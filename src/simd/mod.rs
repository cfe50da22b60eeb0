//! The CPU's fast paths: products, where every output is the product of a row of `a` and a row of `w`, `out = a w^T`; lanes of
//! Huffman codes; counts and tables of bytes.
//!
//! The one module with `unsafe`: it calls instructions that the build's target does not promise, and lets tasks write disjoint
//! rectangles of one matrix.
#![allow(unsafe_code, reason = "vector instructions chosen at run time, rectangles of a matrix")]

mod blocks;
mod bytes;
mod dots_i8;
mod floats;
mod histogram;
pub(crate) mod huffman;
#[cfg(target_arch = "x86_64")]
mod isa;
mod matmul_f32;
#[cfg(target_arch = "x86_64")]
mod panels;
#[cfg(target_arch = "x86_64")]
mod streams;

pub(crate) use bytes::{positions, translate};
pub(crate) use dots_i8::dots_i8;
pub(crate) use histogram::histogram;
pub(crate) use matmul_f32::matmul_f32;
