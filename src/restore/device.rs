//! Coded tensors that are decoded where they are used: the coded bytes go to the device, and nothing comes back.

use super::Restorer;
use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::stream::{self, Form},
    format::TensorManifest,
    kernels::{huffman_decode, pack_codes, rans_decode},
    words,
};
use rayon::prelude::*;
use std::ops::Range;

/// Coded bytes that are decoded at once.
const AT_ONCE: usize = 64 << 20;

/// Blocks that one kernel decodes at once.
struct Run {
    form: Form,
    blocks: Range<usize>,
    bytes: usize,
}

impl Restorer<'_> {
    /// The codes of the tensor, packed row by row, decoded on a backend: U32 `[rows, words of a row]`.
    ///
    /// `None` where the host has to decode them: those of a pruned tensor, whose index it reads, and rows that are cut.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`]; [`Error::Gpu`] if the device fails.
    pub fn codes_on(&self, on: &Backend, manifest: &TensorManifest) -> Result<Option<Tensor>> {
        let (Some(bits), false) = (manifest.method.code_bits(), manifest.pruned) else {
            return Ok(None);
        };
        if !manifest.coded || self.blocks.cuts_rows() {
            return Ok(None);
        }
        let (cols, all) = (self.blocks.cols as usize, 0..self.blocks.count() as usize);
        let coded = all.into_par_iter().map(|i| self.block(i)).collect::<Result<Vec<_>>>()?;
        let symbols: Vec<usize> = self
            .units
            .iter()
            .flat_map(|u| self.blocks.heights(u))
            .map(|rows| rows * cols)
            .collect();
        let mut runs: Vec<Run> = Vec::new();
        for (i, block) in coded.iter().enumerate() {
            let (form, stream) = stream::form(block)
                .and_then(|read| {
                    // The kernels take whatever a byte holds.
                    stream::check_alphabet(read, symbols[i], bits.into()).map(|()| read)
                })
                .map_err(|why| self.malformed(i, why))?;
            match runs.last_mut() {
                // Streams follow one another where they end with a word.
                Some(run)
                    if run.form == form
                        && form != Form::Raw
                        && symbols[i - 1].is_multiple_of(4)
                        && run.bytes + stream.len() <= AT_ONCE =>
                {
                    run.blocks.end += 1;
                    run.bytes += stream.len();
                }
                _ => runs.push(Run { form, blocks: i..i + 1, bytes: stream.len() }),
            }
        }
        let decode = |run: &Run| {
            let blocks = coded[run.blocks.clone()].iter().map(|bytes| &bytes[1..]);
            let streams: Vec<_> = blocks.zip(symbols[run.blocks.clone()].iter().copied()).collect();
            let named = |e| match e {
                Error::Shape { got, .. } => {
                    self.refuse(&format!("blocks from {} on: {got}", run.blocks.start))
                }
                e => e,
            };
            match run.form {
                Form::Huffman => huffman_decode(on, &streams).map_err(named),
                Form::Rans => rans_decode(on, &streams).map_err(named),
                Form::Raw => {
                    let (i, n) = (run.blocks.start, streams[0].1);
                    let mut out = vec![0; words(DType::U8, n)];
                    let symbols = &mut bytemuck::cast_slice_mut(&mut out)[..n];
                    stream::decode(&coded[i], bits.into(), symbols)
                        .map_err(|why| self.malformed(i, why))?;
                    Tensor::new(on, DType::U8, 1, n, out)
                }
            }
        };
        let parts = runs.iter().map(decode).collect::<Result<Vec<_>>>()?;
        pack_codes(on, &parts, cols, bits.into()).map(Some)
    }
}
