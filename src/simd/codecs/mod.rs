//! Inner loops of codecs.

pub(super) mod bits;
pub(super) mod bytes;
pub(crate) mod hash;
pub(super) mod histogram;
pub(crate) mod huffman;
pub(crate) mod rans;
pub(crate) mod ribbon;
pub(crate) mod trellis;
