//! How the blocks of a tensor are coded: as the recipe says, or as streams where a retrieval structure would be too wrong.

use crate::{
    Result,
    codec::{block::Coding, stream::Coder},
    recipe::Encode,
    treat::{job::Job, masks::Mask, tables::Tables},
};

/// Most bits of a result of a retrieval structure.
const RESULT_BITS: u32 = 15;

impl Job<'_> {
    /// How blocks are coded: for a retrieval structure, with how many bits of results; or why there is none.
    pub(super) fn coding(
        &self,
        encode: Encode,
        mask: &Mask,
        tables: &Tables,
    ) -> Result<(Coding, Option<String>)> {
        let (structure, limit) = match encode {
            Encode::Retrieval { structure, max_error } => (structure, max_error),
            Encode::Streams(coder) => return Ok((Coding::Streams(coder), None)),
        };
        let Tables::Palettes(tables) = tables else { unreachable!("there is one palette") };
        let bins = self.survivors(mask)?;
        let survivors: f64 = bins.weights.iter().sum();
        let squares: f64 = bins.values.iter().zip(&bins.weights).map(|(v, n)| n * v * v).sum();
        let entries = tables[0].0.iter().map(|e| f64::from(*e) * f64::from(*e));
        let pruned = self.blocks.elements() as f64 - survivors;
        let r = u32::from(self.manifest.method.code_bits().expect("there is a palette"));
        // A pruned weight reads as each of 2^r codes with probability 2^-t; codes beyond the table read as its last entry.
        let last = entries.clone().next_back().unwrap_or(0.0);
        let beyond = (1 << r) as f64 - tables[0].0.len() as f64;
        let each = pruned * (entries.sum::<f64>() + beyond * last);
        let norm = |t: u32| (each / f64::from(1u32 << t) / squares).sqrt();
        let t = (r..=RESULT_BITS).find(|t| squares == 0.0 || norm(*t) <= limit);
        Ok(match t {
            Some(t) => (Coding::Retrieval(structure, t), None),
            None => {
                let norm = norm(RESULT_BITS);
                let why = format!(
                    "is stored as streams: with results of {RESULT_BITS} bits false positives would have {norm:.3} of the survivors' norm, more than max_error {limit}"
                );
                (Coding::Streams(Coder::Auto), Some(why))
            }
        })
    }
}
