//! Symbols of up to 8 bits as one string of bytes, by whichever coder makes the fewest: a byte that names it, then its stream.

use crate::{
    codec::{
        Malformed, bitpack, huffman, rans,
        trellis::{self, Trellis},
    },
    simd::histogram,
};
use serde::{Deserialize, Serialize};

/// How symbols are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coder {
    /// Prefix codes, [`huffman`]; where the alphabet is too large for them, as they are.
    Huffman,
    /// Asymmetric numeral systems, [`rans`].
    Rans,
    /// Whichever is the smallest, the plain codes included.
    Auto,
}

/// Why paths are refused where none are expected.
pub const NO_TRELLIS: &str = "paths through a trellis that is not known";

/// The first byte of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// Codes as they are, packed.
    Raw,
    /// A stream of [`huffman`].
    Huffman,
    /// A stream of [`rans`].
    Rans,
    /// A stream of [`trellis`], which only codes along paths have.
    Trellis,
}

/// The form of a stream, and the rest of its bytes.
///
/// # Errors
///
/// If it has none that is known.
pub fn form(bytes: &[u8]) -> Result<(Form, &[u8]), Malformed> {
    let (form, stream) = bytes.split_first().ok_or(Malformed("a stream without a coder"))?;
    let forms = [Form::Raw, Form::Huffman, Form::Rans, Form::Trellis];
    let form = forms.get(usize::from(*form)).ok_or(Malformed("a coder that is not known"))?;
    Ok((*form, stream))
}

/// Refuses a stream of so many symbols whose coder has some beyond `bits` bits: for those who decode where symbols are not looked
/// at. Plain codes have none.
///
/// # Errors
///
/// If it has, or is malformed before its first symbol.
pub fn check_alphabet(
    (form, stream): (Form, &[u8]),
    symbols: usize,
    bits: u32,
) -> Result<(), Malformed> {
    let all = match form {
        Form::Raw => 0,
        Form::Huffman => {
            huffman::Stream::read(stream, symbols)?.code.iter().fold(0, |all, c| all | (c & 0xff))
        }
        Form::Rans => match rans::layout(stream, symbols)? {
            rans::Layout::Only(symbol) => symbol.into(),
            rans::Layout::Blocks { slots, .. } => {
                slots.iter().fold(0, |all, slot| all | (slot & 0xff) as u16)
            }
        },
        Form::Trellis => trellis::layout(stream, symbols)?.alphabet(),
    };
    in_alphabet(all, bits)
}

/// Refuses symbols, whose bits `all` has, beyond `bits` bits.
fn in_alphabet(all: u16, bits: u32) -> Result<(), Malformed> {
    match all >> bits {
        0 => Ok(()),
        _ => Err(Malformed("a symbol outside the alphabet")),
    }
}

/// The coder that by its cost takes the fewest bytes for symbols of `bits` bits that occur so often, and how many these are, its name
/// included. Of equals the one that decodes fastest.
fn choose(counts: &[u64; 256], bits: u32, coder: Coder) -> (Form, u64) {
    let symbols: u64 = counts.iter().sum();
    let raw = (Form::Raw, (symbols * u64::from(bits)).div_ceil(8));
    let huffman = huffman::cost(counts).map(|bytes| (Form::Huffman, bytes));
    let (kind, bytes) = match coder {
        Coder::Huffman => huffman.unwrap_or(raw),
        Coder::Rans => (Form::Rans, rans::cost(counts)),
        Coder::Auto => {
            let rans = (Form::Rans, rans::cost(counts));
            [Some(raw), huffman, Some(rans)]
                .into_iter()
                .flatten()
                .min_by_key(|c| c.1)
                .unwrap_or(raw)
        }
    };
    (kind, 1 + bytes)
}

/// About the bytes that [`encode`] takes for symbols of `bits` bits that occur so often: see [`huffman::cost`] and
/// [`rans::cost`] for how near.
pub fn cost(counts: &[u64; 256], bits: u32, coder: Coder) -> u64 {
    choose(counts, bits, coder).1
}

/// Appends symbols, each below 2^`bits`.
pub fn encode(symbols: &[u8], bits: u32, coder: Coder, out: &mut Vec<u8>) {
    let counts = histogram(symbols);
    let (form, _) = choose(&counts, bits, coder);
    out.push(form as u8);
    match form {
        Form::Huffman => assert!(huffman::encode(symbols, out), "it was asked for the cost"),
        Form::Rans => rans::encode_counted(symbols, &counts, out),
        Form::Raw => {
            let mut words = vec![0; bitpack::words(symbols.len(), bits)];
            bitpack::pack(symbols, bits, &mut words);
            let bytes = (symbols.len() * bits as usize).div_ceil(8);
            out.extend(&bytemuck::cast_slice::<u32, u8>(&words)[..bytes]);
        }
        Form::Trellis => unreachable!("it is not chosen"),
    }
}

/// Appends codes along paths through a trellis.
pub fn encode_paths(codes: &[u8], out: &mut Vec<u8>) {
    out.push(Form::Trellis as u8);
    trellis::encode(codes, out);
}

/// Reads as many codes of `bits` bits along paths through a trellis as `out` holds from the whole of `bytes`.
///
/// # Errors
///
/// What is wrong with them.
pub fn decode_paths(
    trellis: Trellis,
    bytes: &[u8],
    bits: u32,
    out: &mut [u8],
) -> Result<(), Malformed> {
    let (Form::Trellis, stream) = form(bytes)? else {
        return Err(Malformed("codes on no path"));
    };
    trellis::decode(trellis, stream, out)?;
    in_alphabet(out.iter().fold(0, |all, s| all | s).into(), bits)
}

/// Reads as many symbols of `bits` bits as `out` holds from the whole of `bytes`.
///
/// # Errors
///
/// What is wrong with them.
pub fn decode(bytes: &[u8], bits: u32, out: &mut [u8]) -> Result<(), Malformed> {
    let (form, stream) = form(bytes)?;
    match form {
        Form::Raw => {
            if stream.len() != (out.len() * bits as usize).div_ceil(8) {
                return Err(Malformed("plain codes of another length"));
            }
            let mut words = vec![0; bitpack::words(out.len(), bits)];
            bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..stream.len()].copy_from_slice(stream);
            if !bitpack::padding_is_zero(&words, bits, std::iter::once(out.len())) {
                return Err(Malformed("bits beyond the last plain code"));
            }
            bitpack::unpack(&words, bits, out);
            return Ok(());
        }
        Form::Huffman => huffman::decode(stream, out)?,
        Form::Rans => rans::decode(stream, out)?,
        Form::Trellis => return Err(Malformed(NO_TRELLIS)),
    }
    in_alphabet(out.iter().fold(0, |all, s| all | s).into(), bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_never_larger_than_any_of_them() {
        for (bits, spread) in [(1u32, 1u32), (4, 4), (4, 15), (8, 3), (8, 255), (3, 0)] {
            let symbols: Vec<u8> = (0..70_000u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) % (spread + 1))
                .map(|s| (s * s / spread.max(1)) as u8)
                .collect();
            let size = |coder| {
                let mut out = Vec::new();
                encode(&symbols, bits, coder, &mut out);
                assert!(out.len() as u64 <= cost(&histogram(&symbols), bits, coder));
                let mut back = vec![0; symbols.len()];
                decode(&out, bits, &mut back).unwrap();
                assert_eq!(back, symbols);
                out.len()
            };
            let raw = (symbols.len() * bits as usize).div_ceil(8) + 1;
            let auto = size(Coder::Auto);
            let bound = size(Coder::Huffman).min(size(Coder::Rans)).min(raw);
            // Costs are bounds, so that a choice by them may miss by a little.
            assert!(auto <= bound + bound / 100 + 8, "{auto} of {bound}");
        }
    }

    #[test]
    fn what_encode_does_not_write_is_refused() {
        let mut out = Vec::new();
        encode(&[1, 2, 3], 2, Coder::Auto, &mut out);
        assert_eq!(form(&out).unwrap().0, Form::Raw);
        let mut back = [0; 3];
        decode(&out, 2, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3]);
        assert!(decode(&[], 2, &mut back).is_err());
        assert!(decode(&[9, 0], 2, &mut back).is_err());
        assert!(decode(&out[..1], 2, &mut back).is_err());
        assert!(decode(&[Form::Raw as u8, 0b0100_0000], 2, &mut back).is_err(), "padding");
        let mut wide = Vec::new();
        encode(&[7; 100], 3, Coder::Rans, &mut wide);
        assert!(decode(&wide, 3, &mut [0; 100]).is_ok());
        assert!(decode(&wide, 2, &mut [0; 100]).is_err(), "7 is no symbol of 2 bits");
        for (form, symbols) in
            [(Coder::Rans, [7; 100]), (Coder::Huffman, [7; 100])].into_iter().chain(
                [Coder::Rans, Coder::Huffman]
                    .map(|c| (c, std::array::from_fn(|i| (i % 9 % 8) as u8))),
            )
        {
            let mut bytes = Vec::new();
            encode(&symbols, 3, form, &mut bytes);
            let alphabet = |bits| check_alphabet(super::form(&bytes).unwrap(), 100, bits);
            assert!(alphabet(3).is_ok() && alphabet(2).is_err(), "{form:?}");
        }
    }
}
