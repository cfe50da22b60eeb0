//! Symbols to bytes and back: pure, lossless, no I/O.

pub mod bitpack;
mod bits;
pub mod block;
pub mod floats;
mod frequencies;
pub mod gaps;
pub mod huffman;
pub(crate) mod lanes;
pub mod planes;
pub mod pyramid;
pub mod rans;
pub(crate) mod retrieval;
pub mod sparse;
pub mod stream;
pub mod trellis;

pub use retrieval::{bloomier, ribbon};

use std::fmt;

/// Bytes that no encoder here would have written, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
