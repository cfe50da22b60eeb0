//! Orthogonal transforms of blocks of a row, done before weights become codes and undone when they are restored: a method sees F32
//! coefficients, and knows nothing of them.

use crate::form::{Matrix, PIECE};
use serde::Serialize;

/// A transform of blocks of consecutive weights of a row.
///
/// # Example
///
/// ```
/// use tersor::form::{BlockTransform, TransformKind};
///
/// let hadamard = BlockTransform { kind: TransformKind::Hadamard { seed: 1 }, block: 64, steps: vec![] };
/// assert_eq!(hadamard.words(), "hadamard 64");
/// assert!(hadamard.check(384).is_ok());
/// assert_eq!(hadamard.check(100).unwrap_err(), "transforms of 64 weights do not divide rows of 100");
/// assert_eq!(BlockTransform::largest(TransformKind::Dct, 384), Some(32));
/// assert_eq!(BlockTransform::largest(TransformKind::Dct, 100), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTransform {
    /// Which.
    pub kind: TransformKind,
    /// Weights of a block: a power of two.
    pub block: u32,
    /// Of a cosine transform, the row of a quantization matrix: a step for every frequency, of which only ratios count. Coefficients
    /// are divided by theirs relative to the smallest, so that a quantizer, which has the same steps everywhere, is coarser where
    /// they are larger. Empty where all are alike.
    pub steps: Vec<u8>,
}

/// Which transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TransformKind {
    /// Hadamard's, in Sylvester's order, of weights whose signs are turned at random: every coefficient is a sum of all weights of
    /// a block, so that none of them stands out.
    Hadamard {
        /// Of the signs, which are the same for all blocks.
        seed: u32,
    },
    /// The discrete cosine transform, type II: what changes slowly along the row is in the first coefficients.
    Dct,
}

/// In the manifest: which, weights of a block, the seed of the signs.
pub(super) type Text = (String, u32, u32);

impl TransformKind {
    /// Its name in recipes and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hadamard { .. } => "hadamard",
            Self::Dct => "dct",
        }
    }

    /// The fewest and the most weights of a block.
    pub fn blocks(self) -> (u32, u32) {
        match self {
            // Sums of more weights would not fit 32 bits.
            Self::Hadamard { .. } => (8, 256),
            Self::Dct => (8, 32),
        }
    }
}

impl BlockTransform {
    /// The largest block of this kind that divides rows of so many weights; none where not even 8 do.
    pub fn largest(kind: TransformKind, cols: u64) -> Option<u32> {
        let (least, most) = kind.blocks();
        let blocks = (least.ilog2()..=most.ilog2()).rev().map(|b| 1 << b);
        blocks.into_iter().find(|b| divides(*b, cols))
    }

    /// Whether it can be done to rows of so many weights.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub fn check(&self, cols: u64) -> Result<(), String> {
        let Self { kind, block, steps } = self;
        let (least, most) = kind.blocks();
        if !block.is_power_of_two() || !(least..=most).contains(block) {
            let name = kind.name();
            return Err(format!(
                "{name} of {block} weights, expected a power of two from {least} to {most}"
            ));
        }
        if !divides(*block, cols) {
            let pieces = if cols > PIECE { ", which are stored in pieces" } else { "" };
            return Err(format!(
                "transforms of {block} weights do not divide rows of {cols}{pieces}"
            ));
        }
        if steps.is_empty() {
            return Ok(());
        }
        if *kind != TransformKind::Dct {
            return Err(format!("steps of {}, whose coefficients are all alike", kind.name()));
        }
        if steps.len() != *block as usize || steps.contains(&0) {
            return Err(format!(
                "{} steps for blocks of {block} weights, expected one for each frequency, from 1 to 255",
                steps.len()
            ));
        }
        Ok(())
    }

    /// `hadamard 128`, `dct 8 with steps`.
    pub fn words(&self) -> String {
        let steps = if self.steps.is_empty() { "" } else { " with steps" };
        format!("{} {}{steps}", self.kind.name(), self.block)
    }

    pub(super) fn text(&self) -> Text {
        let seed = match self.kind {
            TransformKind::Hadamard { seed } => seed,
            TransformKind::Dct => 0,
        };
        (self.kind.name().into(), self.block, seed)
    }

    pub(super) fn of_text((name, block, seed): Text, steps: Vec<u8>) -> Result<Self, String> {
        let kind = match (name.as_str(), seed) {
            ("hadamard", seed) => TransformKind::Hadamard { seed },
            ("dct", 0) => TransformKind::Dct,
            ("dct", _) => return Err(format!("dct with the seed {seed}, expected 0")),
            _ => {
                let name = crate::quote::quoted(&name);
                return Err(format!("transform {name} is not known"));
            }
        };
        Ok(Self { kind, block, steps })
    }

    pub(super) fn check_matrix(&self, (_, cols): Matrix) -> Result<(), String> {
        self.check(cols)
    }
}

/// Whether blocks end where rows do, and where the pieces of a long one do.
fn divides(block: u32, cols: u64) -> bool {
    let block = u64::from(block);
    cols.is_multiple_of(block) && (cols <= PIECE || PIECE.is_multiple_of(block))
}
