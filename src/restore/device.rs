//! Coded tensors that are decoded where they are used: the coded bytes go to the device, and codes or weights come out.

use crate::{
    Backend, DType, Error, Result, Tensor,
    codec::{
        Malformed,
        block::{self, Element, Pruned, Structure},
        stream::{self, Form},
    },
    engine::Place,
    form::Method,
    kernels::{
        Order, Survivors, bloomier_query, count_survivors, huffman_decode, pack_codes, rans_decode,
        ribbon_query, scatter, trellis_decode,
    },
    restore::{parts::Parts, restorer::Restorer},
    stage::Unit,
    words,
};
use std::ops::Range;

/// Coded bytes that are decoded at once.
const AT_ONCE: usize = 64 << 20;

/// A stream of a block, and how many symbols it has.
#[derive(Clone, Copy)]
struct Stream<'a> {
    block: usize,
    form: Form,
    bytes: &'a [u8],
    symbols: usize,
}

impl Restorer<'_> {
    /// The codes of the tensor, packed row by row, decoded on a backend: U32 `[rows, words of a row]`.
    ///
    /// `None` where there are none of the whole tensor: of one that is pruned, or whose rows are cut.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`]; [`Error::Gpu`] if the device fails.
    pub fn codes_on(&self, on: &Backend) -> Result<Option<Tensor>> {
        let manifest = self.manifest;
        if !manifest.coded || manifest.pruned || self.blocks.cuts_rows() {
            return Ok(None);
        }
        let Some(bits) = manifest.method.code_bits() else { return Ok(None) };
        let heights = self.units.iter().flat_map(|unit| self.blocks.heights(unit));
        let cols = manifest.stored_cols(self.blocks.cols as usize);
        self.dense_codes(on, 0, &heights.collect::<Vec<_>>(), cols, bits.into()).map(Some)
    }

    /// Bits of the codes that a device decodes by itself; `None` where the host has to: what is not coded, weights that are no
    /// codes, and pruned ones with more than one table.
    pub(super) fn bits_on_device(&self) -> Option<u8> {
        let manifest = self.manifest;
        let one_table = match manifest.method {
            Method::Values | Method::Affine(_) | Method::Vector(_) | Method::Pyramid(_) => false,
            Method::Palette(m) => m.rows == 0,
        };
        let decodes = manifest.coded && (!manifest.pruned || one_table);
        manifest.method.code_bits().filter(|_| decodes)
    }

    /// The weights of a unit of such a tensor, decoded and restored on a backend.
    ///
    /// # Errors
    ///
    /// As [`Restorer::parts`]; [`Error::Gpu`] if the device fails, or the unit does not fit it.
    pub(super) fn unit_on(&self, on: &Backend, unit: &Unit, bits: u8) -> Result<Vec<u32>> {
        if self.manifest.pruned {
            return self.pruned_on(on, unit, bits);
        }
        let mut tables = Parts::default();
        self.tables(unit, &mut tables)?;
        let (heights, first) = (self.blocks.heights(unit), self.blocks.of_unit(unit).start);
        let cols = self.manifest.stored_cols(unit.shape().1);
        let codes = self.dense_codes(on, first, &heights, cols, bits.into())?;
        let place = Place { shape: unit.shape(), start: unit.start(&self.blocks) };
        tables.weights(on, self.manifest, &self.blocks, unit, &codes, &place)?.into_words(on)
    }

    /// The weights of a unit of a pruned tensor with one table.
    fn pruned_on(&self, on: &Backend, unit: &Unit, bits: u8) -> Result<Vec<u32>> {
        let mut tables = Parts::default();
        self.tables(unit, &mut tables)?;
        let (dtype, table, bits) = (self.manifest.dtype, &tables.entries[..], u32::from(bits));
        let numbers = self.blocks.of_unit(unit);
        let coded = self.coded_blocks(numbers.clone())?;
        let weights: Vec<usize> =
            self.blocks.heights(unit).iter().map(|rows| rows * unit.shape().1).collect();
        let mut blocks = Vec::with_capacity(coded.len());
        for ((i, bytes), n) in numbers.zip(&coded).zip(&weights) {
            let split = block::split(bytes, *n).map_err(|why| self.malformed(i, why))?;
            blocks.push(match split {
                Pruned::Retrieval(..) if matches!(self.manifest.element(), Element::Path(..)) => {
                    return Err(self.malformed(i, Malformed("a structure that holds paths")));
                }
                Pruned::Retrieval(structure, bytes) => {
                    block::check_values(bytes, bits).map_err(|why| self.malformed(i, why))?;
                    Kind::Retrieval(structure, i, bytes)
                }
                Pruned::Streams(index, stored) => {
                    let (kind, symbols) = (index.kind, index.symbols);
                    let index = self.stream(i, index.stream, symbols, kind.bits())?;
                    if index.form == Form::Trellis {
                        return Err(self.malformed(i, Malformed(stream::NO_TRELLIS)));
                    }
                    Kind::Streams(kind, index, stored)
                }
            });
        }
        let mut parts = Vec::new();
        for run in runs(&blocks) {
            let n = &weights[run.clone()];
            parts.push(match &blocks[run.clone()] {
                [Kind::Retrieval(structure, i, bytes)] => {
                    let query = match structure {
                        Structure::Ribbon => ribbon_query,
                        Structure::Bloomier => bloomier_query,
                    };
                    let (index, codes) = query(on, bytes, n[0]).map_err(|e| self.named(*i, e))?;
                    let survivors = Survivors {
                        kind: block::IndexKind::Bitmap,
                        symbols: 0..n[0].div_ceil(8),
                        weights: 0..n[0],
                        codes: 0..n[0],
                    };
                    scatter(on, &index, &[survivors], (&codes, Order::Weights), table, dtype)
                        .map_err(|e| self.named(*i, e))?
                }
                streams => self.scattered(on, streams, n, bits, table, dtype)?,
            });
        }
        let size = dtype.bytes(1);
        let mut out = vec![0; words(dtype, unit.elements())];
        let mut rest: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        // All are under way before the first is waited for.
        for part in parts {
            let len = part.elements() * size;
            let read = part.into_words(on)?;
            let (here, after) = rest.split_at_mut(len);
            here.copy_from_slice(&bytemuck::cast_slice(&read)[..len]);
            rest = after;
        }
        Ok(out)
    }

    /// The weights of blocks whose indices and codes are streams of one form each.
    fn scattered(
        &self,
        on: &Backend,
        blocks: &[Kind],
        weights: &[usize],
        bits: u32,
        table: &[f32],
        dtype: DType,
    ) -> Result<Tensor> {
        let streams = blocks.iter().filter_map(|block| match block {
            Kind::Streams(kind, index, stored) => Some((*kind, *index, *stored)),
            Kind::Retrieval(..) => None,
        });
        let streams: Vec<_> = streams.collect();
        let first = streams[0].1.block;
        let index: Vec<Stream> = streams.iter().map(|(_, index, _)| *index).collect();
        // Gaps of several widths may stand beside one another: a plain one is unpacked by its own.
        let widths: Vec<u32> = streams.iter().map(|(kind, ..)| kind.bits()).collect();
        let symbols = self.symbols_on(on, &index, &widths)?;
        let mut survivors: Vec<Survivors> = Vec::with_capacity(streams.len());
        let (mut symbol, mut weight) = (0usize, 0);
        for ((kind, index, _), n) in streams.iter().zip(weights) {
            let here = symbol.next_multiple_of(4);
            symbol = here + index.symbols;
            survivors.push(Survivors {
                kind: *kind,
                symbols: here..symbol,
                weights: weight..weight + n,
                codes: 0..0,
            });
            weight += n;
        }
        let counts = count_survivors(on, &symbols, &survivors).map_err(|e| self.named(first, e))?;
        let mut code = 0usize;
        let mut codes = Vec::with_capacity(streams.len());
        for (((_, index, stored), count), of) in streams.iter().zip(counts).zip(&mut survivors) {
            codes.push(self.stream_of_codes(index.block, stored, count, bits)?);
            let here = code.next_multiple_of(4);
            code = here + count;
            of.codes = here..code;
        }
        let codes = self.symbols_on(on, &codes, &vec![bits; codes.len()])?;
        scatter(on, &symbols, &survivors, (&codes, Order::Survivors), table, dtype)
            .map_err(|e| self.named(first, e))
    }

    /// The codes of whole rows of blocks from `first` on, packed row by row.
    fn dense_codes(
        &self,
        on: &Backend,
        first: usize,
        heights: &[usize],
        cols: usize,
        bits: u32,
    ) -> Result<Tensor> {
        let coded = self.coded_blocks(first..first + heights.len())?;
        let streams = coded.iter().zip(heights).enumerate();
        let streams = streams
            .map(|(i, (bytes, rows))| self.stream_of_codes(first + i, bytes, rows * cols, bits));
        let streams = streams.collect::<Result<Vec<_>>>()?;
        // Rows follow one another only where they end with a word.
        let joins = |bytes: usize, a: &Stream, b: &Stream| {
            a.form == b.form && a.symbols.is_multiple_of(4) && bytes <= AT_ONCE
        };
        let mut parts = Vec::new();
        let mut at = 0;
        while at < streams.len() {
            let (mut end, mut bytes) = (at + 1, streams[at].bytes.len());
            while end < streams.len() {
                bytes += streams[end].bytes.len();
                if !joins(bytes, &streams[end - 1], &streams[end]) {
                    break;
                }
                end += 1;
            }
            parts.push(self.symbols_on(on, &streams[at..end], &vec![bits; end - at])?);
            at = end;
        }
        pack_codes(on, &parts, cols, bits)
    }

    /// Takes the form of the stream of a block's codes off, which are paths if and only if the manifest says so.
    fn stream_of_codes<'b>(
        &self,
        block: usize,
        bytes: &'b [u8],
        symbols: usize,
        bits: u32,
    ) -> Result<Stream<'b>> {
        let stream = self.stream(block, bytes, symbols, bits)?;
        let paths = matches!(self.manifest.element(), Element::Path(..));
        match paths == (stream.form == Form::Trellis) {
            true => Ok(stream),
            false if paths => Err(self.malformed(block, Malformed("codes on no path"))),
            false => Err(self.malformed(block, Malformed(stream::NO_TRELLIS))),
        }
    }

    /// Takes a stream's form off, and refuses one with symbols that no code has: the kernels take whatever a byte holds.
    fn stream<'b>(
        &self,
        block: usize,
        bytes: &'b [u8],
        symbols: usize,
        bits: u32,
    ) -> Result<Stream<'b>> {
        let (form, _) = stream::form(bytes)
            .and_then(|read| stream::check_alphabet(read, symbols, bits).map(|()| read))
            .map_err(|why| self.malformed(block, why))?;
        Ok(Stream { block, form, bytes, symbols })
    }

    /// The symbols of streams of one form, each from a fresh word on.
    fn symbols_on(&self, on: &Backend, streams: &[Stream], bits: &[u32]) -> Result<Tensor> {
        let first = streams[0].block;
        let coded: Vec<_> = streams.iter().map(|s| (&s.bytes[1..], s.symbols)).collect();
        match streams[0].form {
            Form::Huffman => huffman_decode(on, &coded).map_err(|e| self.named(first, e)),
            Form::Rans => rans_decode(on, &coded).map_err(|e| self.named(first, e)),
            Form::Trellis => {
                let Element::Path(_, trellis) = self.manifest.element() else {
                    unreachable!("streams have been looked at")
                };
                trellis_decode(on, trellis, &coded).map_err(|e| self.named(first, e))
            }
            Form::Raw => {
                let (mut out, mut elements) = (Vec::new(), 0);
                for (s, bits) in streams.iter().zip(bits) {
                    let start = out.len();
                    elements = 4 * start + s.symbols;
                    out.resize(start + words(DType::U8, s.symbols), 0);
                    let symbols: &mut [u8] = bytemuck::cast_slice_mut(&mut out[start..]);
                    stream::decode(s.bytes, *bits, &mut symbols[..s.symbols])
                        .map_err(|why| self.malformed(s.block, why))?;
                }
                Tensor::new(on, DType::U8, 1, elements, out)
            }
        }
    }

    /// What a kernel finds malformed is wrong with the archive; any other mistake is not.
    fn named(&self, first: usize, error: Error) -> Error {
        match error {
            Error::Malformed { why, .. } => self.refuse(&format!("blocks from {first} on: {why}")),
            error => error,
        }
    }
}

/// A coded block of a pruned tensor: the structure, or the index, taken off its form, and the stream of codes.
enum Kind<'a> {
    Streams(block::IndexKind, Stream<'a>, &'a [u8]),
    Retrieval(Structure, usize, &'a [u8]),
}

/// Blocks that are decoded together: those that follow one another with streams of the same forms, or one structure.
fn runs(blocks: &[Kind]) -> Vec<Range<usize>> {
    let forms = |block: &Kind| match block {
        // The first byte of a stream is its form.
        Kind::Streams(_, index, stored) => Some((index.form, stored.first().copied())),
        Kind::Retrieval(..) => None,
    };
    let bytes = |block: &Kind| match block {
        Kind::Streams(_, index, stored) => index.bytes.len() + stored.len(),
        Kind::Retrieval(_, _, bytes) => bytes.len(),
    };
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut size = 0;
    for (i, block) in blocks.iter().enumerate() {
        size += bytes(block);
        match runs.last_mut() {
            Some(run)
                if forms(block).is_some()
                    && forms(block) == forms(&blocks[run.start])
                    && size <= AT_ONCE =>
            {
                run.end = i + 1;
            }
            _ => {
                runs.push(i..i + 1);
                size = bytes(block);
            }
        }
    }
    runs
}
