//! Symbols to bytes and back: pure, lossless, no I/O.

pub mod bitpack;
pub mod floats;
pub mod huffman;
pub mod sparse;

/// Bytes that no encoder here writes; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
