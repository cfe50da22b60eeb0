//! Symbols to bytes and back: pure, lossless, no I/O.

pub mod bitpack;
pub mod sparse;
