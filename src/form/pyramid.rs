//! Codes that number points of an integer pyramid: of N neighbours of a row, integers whose magnitudes add up to K, times a gain.
//! Gains are a table of the tensor, spaced evenly in the logarithm.

use crate::{
    DType,
    codec::pyramid::{self, BITS},
    form::{Component, Matrix, Memory, PIECE, Packing, Passes},
};

/// How weights are written as codes of a pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pyramid {
    /// Weights of a vector: 4 to 64, a multiple of 4.
    pub n: u8,
    /// What the magnitudes of a vector's integers add up to, 1 to 127.
    pub k: u8,
    /// Bits of a gain's number, 1 to 10.
    pub gain_bits: u8,
}

/// In the manifest: weights of a vector, sum of magnitudes, bits of a gain.
pub(super) type Text = (u8, u8, u8);

impl Pyramid {
    /// The vectors that are numbered; `None` where there are none, or too many.
    pub fn vectors(self) -> Option<pyramid::Pyramid> {
        pyramid::Pyramid::new(self.n.into(), self.k.into())
    }

    /// How the codes of a row are packed: bit by bit.
    pub fn packing(self) -> Packing {
        let bits = self.vectors().map_or(0, |v| v.bits()) + u32::from(self.gain_bits);
        Packing { bits: 1, codes: bits, weights: self.n.into() }
    }

    /// How many gains there are.
    pub fn gains(self) -> usize {
        1 << self.gain_bits
    }

    pub(super) fn text(self) -> Text {
        (self.n, self.k, self.gain_bits)
    }

    pub(super) fn of_text((n, k, gain_bits): Text) -> Self {
        Self { n, k, gain_bits }
    }

    /// Whether it makes sense for rows of so many columns.
    pub fn check_row(self, cols: u64) -> Result<(), String> {
        let Self { n, k, gain_bits } = self;
        if !(4..=64).contains(&n) || !n.is_multiple_of(4) {
            return Err(format!("pyramids of {n} weights, expected 4 to 64, a multiple of 4"));
        }
        if !(1..=127).contains(&k) {
            return Err(format!("pyramids of {k} pulses, expected 1 to 127"));
        }
        if !(1..=10).contains(&gain_bits) {
            return Err(format!("gains of {gain_bits} bits, expected 1 to 10"));
        }
        if self.vectors().is_none() {
            return Err(format!("{k} pulses in {n} weights take more than {BITS} bits"));
        }
        if !cols.is_multiple_of(n.into()) {
            return Err(format!("pyramids of {n} do not divide rows of {cols}"));
        }
        if cols > PIECE {
            return Err(format!("pyramids in rows of {cols}, expected at most {PIECE}"));
        }
        Ok(())
    }

    pub(super) fn check(self, (_, cols): Matrix, pruned: bool, coded: bool) -> Result<(), String> {
        self.check_row(cols)?;
        match pruned || coded {
            true => Err("pyramids of a pruned or coded tensor".into()),
            false => Ok(()),
        }
    }

    /// `pyramids of 32, 64 pulses`.
    pub(super) fn words(self) -> String {
        format!("pyramids of {}, {} pulses", self.n, self.k)
    }

    /// Elements that share a gain.
    pub(super) fn group(self) -> u64 {
        self.n.into()
    }

    pub(super) fn tables(self) -> Vec<Component> {
        let shape = Some(vec![self.gains() as u64]);
        vec![Component { name: "gains", dtype: DType::F32, shape }]
    }

    /// What finding gains takes: of every unit the points and gains of its groups.
    pub fn memory(self, passes: &Passes) -> Memory {
        Memory { thread: passes.unit * 8, survey: passes.unit * 8, shared: 1 << 20 }
    }
}
