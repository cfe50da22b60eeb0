//! Products of rows with rows.

mod blocks;
mod codes;
#[cfg(target_arch = "x86_64")]
mod decode;
pub(super) mod dots_i8;
mod floats;
#[cfg(target_arch = "x86_64")]
mod isa;
pub(super) mod matmul_f32;
pub(super) mod packed;
#[cfg(target_arch = "x86_64")]
mod panels;
pub(super) mod rows;
#[cfg(target_arch = "x86_64")]
mod streams;
