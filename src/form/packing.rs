//! How the codes of a row of weights lie in its words.

use crate::codec::bitpack;

/// `codes` codes of `bits` bits for every `weights` consecutive weights of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Bits of a code, 1 to 8.
    pub bits: u8,
    /// Codes of a vector: 1, but for vectors of stages or of wide codes, and for pyramids, which are packed bit by bit.
    pub codes: u32,
    /// Weights of a vector: 1, but for vectors and pyramids.
    pub weights: u32,
}

impl Packing {
    /// A code of so many bits for every weight.
    pub fn of_bits(bits: u8) -> Self {
        Self { bits, codes: 1, weights: 1 }
    }

    /// The codes of vectors of `dim` weights, which number `k` entries in each of some stages. A number of more than 8 bits is two
    /// codes of half as many, the low one first.
    pub fn of_vectors(dim: u8, k: u32, stages: u8) -> Self {
        let bits = (k.max(2) - 1).ilog2() as u8 + 1;
        let halves = if bits > 8 { 2 } else { 1 };
        Self {
            bits: bits.div_ceil(halves),
            codes: u32::from(stages) * u32::from(halves),
            weights: dim.into(),
        }
    }

    /// Codes of `cols` weights.
    pub fn count(self, cols: usize) -> usize {
        cols / self.weights as usize * self.codes as usize
    }

    /// Words that the codes of `cols` weights take.
    pub fn words(self, cols: usize) -> usize {
        bitpack::words(self.count(cols), self.bits.into())
    }

    /// [`Packing::words`] of a row of any length.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::form::Packing;
    ///
    /// let words = |bits, cols| Packing::of_bits(bits).words_per_row(cols);
    /// assert_eq!([words(4, 8), words(4, 9), words(3, 32)], [1, 2, 3]);
    /// // Numbers of 4,096 entries are two codes of six bits, for every eight weights.
    /// assert_eq!(Packing::of_vectors(8, 4096, 1).words_per_row(64), 3);
    /// ```
    pub fn words_per_row(self, cols: u64) -> u64 {
        let codes = cols / u64::from(self.weights) * u64::from(self.codes);
        (codes * u64::from(self.bits)).div_ceil(32)
    }
}
