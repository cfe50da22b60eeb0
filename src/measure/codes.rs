//! What the codes of a tensor need at least: how often each occurs.

use crate::{
    codec::{bitpack, block::Element, sparse},
    form::TensorManifest,
    restore::Parts,
    simd::{histogram, histogram_nibbles},
    stage::Unit,
};

/// How often each code is stored, and each bit of the mask. What only fills a row up to its last word is no code.
#[derive(Clone, Debug, Default)]
pub struct CodeCounts {
    codes: Vec<u64>,
    mask: [u64; 2],
    /// Of the tensor.
    weights: u64,
    /// Whether it is known of a code before it is read whether it is odd.
    paths: bool,
}

impl CodeCounts {
    /// Those of a unit.
    pub fn of(manifest: &TensorManifest, parts: &Parts, unit: &Unit) -> Self {
        let Some(bits) = manifest.method.code_bits().map(u32::from) else { return Self::default() };
        let (rows, cols) = unit.shape();
        let cols = manifest.stored_cols(cols);
        let mut counts = Counting::new(bits);
        let mut mask = [0; 2];
        if manifest.pruned {
            let mut stored = &parts.stored[..];
            for kept in sparse::row_counts(&parts.mask, cols) {
                let (row, rest) = stored.split_at(bitpack::words(kept, bits));
                counts.row(row, kept);
                stored = rest;
                mask[1] += kept as u64;
            }
            mask[0] = unit.elements() as u64 - mask[1];
        } else if (cols * bits as usize).is_multiple_of(32) {
            // Without padding all rows are one.
            counts.row(&parts.stored, rows * cols);
        } else {
            let width = bitpack::words(cols, bits);
            parts.stored.chunks(width).for_each(|row| counts.row(row, cols));
        }
        let paths = matches!(manifest.element(), Element::Path(..));
        Self { codes: counts.finish(), mask, weights: unit.elements() as u64, paths }
    }

    /// Adds those of other units.
    pub fn add(&mut self, other: &Self) {
        self.codes.resize(self.codes.len().max(other.codes.len()), 0);
        self.codes.iter_mut().zip(&other.codes).for_each(|(a, b)| *a += b);
        self.mask.iter_mut().zip(&other.mask).for_each(|(a, b)| *a += b);
        self.weights += other.weights;
        self.paths |= other.paths;
    }

    /// Shannon's bound of codes and mask, in bits per weight of the tensor. Of codes along paths each parity is by itself.
    pub fn entropy(&self) -> Option<f64> {
        let bits = |counts: &[u64]| {
            let n = counts.iter().sum::<u64>() as f64;
            let occupied = counts.iter().filter(|c| **c > 0);
            occupied.map(|c| *c as f64 * (n / *c as f64).log2()).sum::<f64>()
        };
        let of_parity = |parity: usize| -> Vec<u64> {
            self.codes.iter().skip(parity).step_by(2).copied().collect()
        };
        let codes = match self.paths {
            true => bits(&of_parity(0)) + bits(&of_parity(1)),
            false => bits(&self.codes),
        };
        (self.weights > 0).then(|| (codes + bits(&self.mask)) / self.weights as f64)
    }
}

/// Counts codes by the bytes they are in.
struct Counting {
    bits: u32,
    /// Four histograms side by side, so that no byte waits for the one before.
    bytes: [[u32; 256]; 4],
    /// How often each byte occurs where there were many.
    many: [u64; 256],
    /// The same of codes.
    codes: [u64; 16],
    /// Codes of bytes that are not full.
    single: [u32; 256],
    unpacked: Vec<u8>,
}

impl Counting {
    fn new(bits: u32) -> Self {
        Self {
            bits,
            bytes: [[0; 256]; 4],
            many: [0; 256],
            codes: [0; 16],
            single: [0; 256],
            unpacked: Vec::new(),
        }
    }

    /// Codes in a byte; widths that straddle bytes are unpacked to one each.
    fn per_byte(&self) -> usize {
        if 8u32.is_multiple_of(self.bits) { 8 / self.bits as usize } else { 1 }
    }

    fn code(&self, byte: u8, place: usize) -> usize {
        usize::from(byte) >> (place * self.bits as usize) & ((1 << self.bits) - 1)
    }

    /// Counts the first `len` codes of packed words.
    fn row(&mut self, words: &[u32], len: usize) {
        if !8u32.is_multiple_of(self.bits) {
            let mut unpacked = std::mem::take(&mut self.unpacked);
            unpacked.resize(len, 0);
            bitpack::unpack(words, self.bits, &mut unpacked);
            self.bytes(&unpacked);
            self.unpacked = unpacked;
            return;
        }
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let (full, rest) = (len / self.per_byte(), len % self.per_byte());
        self.bytes(&bytes[..full]);
        for place in 0..rest {
            self.single[self.code(bytes[full], place)] += 1;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() < MANY {
            return count_bytes(bytes, &mut self.bytes);
        }
        match self.bits {
            4 => add(&mut self.codes, &histogram_nibbles(bytes)),
            _ => add(&mut self.many, &histogram(bytes)),
        }
    }

    fn finish(self) -> Vec<u64> {
        let mut codes: Vec<u64> =
            self.single[..1 << self.bits].iter().map(|n| u64::from(*n)).collect();
        for byte in 0..=255 {
            let n: u64 = self.bytes.iter().map(|side| u64::from(side[usize::from(byte)])).sum();
            let n = n + self.many[usize::from(byte)];
            for place in 0..self.per_byte() {
                codes[self.code(byte, place)] += n;
            }
        }
        add(&mut codes, &self.codes);
        codes
    }
}

fn add(counts: &mut [u64], more: &[u64]) {
    counts.iter_mut().zip(more).for_each(|(n, m)| *n += m);
}

/// So many bytes are worth tables of their own.
const MANY: usize = 1 << 13;

fn count_bytes(bytes: &[u8], sides: &mut [[u32; 256]; 4]) {
    let (eights, rest) = bytes.as_chunks::<8>();
    let [a, b, c, d] = sides;
    for eight in eights {
        // One load for eight bytes: what is left to wait for are the tables.
        let word = u64::from_le_bytes(*eight);
        let byte = |i: u32| (word >> (8 * i)) as u8 as usize;
        a[byte(0)] += 1;
        b[byte(1)] += 1;
        c[byte(2)] += 1;
        d[byte(3)] += 1;
        a[byte(4)] += 1;
        b[byte(5)] += 1;
        c[byte(6)] += 1;
        d[byte(7)] += 1;
    }
    rest.iter().for_each(|byte| a[usize::from(*byte)] += 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_counted_however_many_there_are() {
        let mut state = 1u32;
        for bits in [1, 2, 3, 4, 8] {
            for len in [0, 1, 7, 1000, 8 * MANY / bits as usize + 5, 9 * MANY / bits as usize] {
                let (mut codes, mut expected) = (vec![0; len], vec![0; 1 << bits]);
                for code in &mut codes {
                    state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                    *code = ((state >> 16 & state >> 24) & ((1 << bits) - 1)) as u8;
                    expected[usize::from(*code)] += 1;
                }
                let mut words = vec![0; bitpack::words(len, bits)];
                bitpack::pack(&codes, bits, &mut words);
                let mut counting = Counting::new(bits);
                counting.row(&words, len);
                assert_eq!(counting.finish(), expected, "{len} of {bits} bits");
            }
        }
    }
}
