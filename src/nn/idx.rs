//! IDX files, in which the digits of MNIST come: bytes in up to four dimensions, gzip around them.

use crate::{Error, Result};
use flate2::bufread::GzDecoder;
use std::{io::Read, path::Path};

/// What an IDX file of bytes holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// The dimensions, the number of items first.
    pub shape: Vec<u32>,
    /// The items one after the other.
    pub data: Vec<u8>,
}

/// Unpacks and reads an IDX file of at most `most` bytes of data; `path` is for messages.
///
/// The format: two zeros, 8 for bytes, the number of dimensions, each of them as a big-endian u32, the data.
///
/// # Errors
///
/// [`Error::Format`] if it is no gzip file of one IDX file of bytes, or has more than `most`.
pub fn read(path: &Path, gz: &[u8], most: usize) -> Result<Idx> {
    let refuse = |why: String| Error::format(path, why);
    let mut unpacked = GzDecoder::new(gz);
    let mut take = |bytes: &mut [u8]| {
        unpacked.read_exact(bytes).map_err(|e| refuse(format!("its gzip stream: {e}")))
    };
    let mut magic = [0; 4];
    take(&mut magic)?;
    let [0, 0, 8, rank @ 1..=4] = magic else {
        return Err(refuse(format!("it starts with {magic:?}, expected [0, 0, 8, 1 to 4]")));
    };
    let mut shape = vec![0; rank.into()];
    for dimension in &mut shape {
        let mut bytes = [0; 4];
        take(&mut bytes)?;
        *dimension = u32::from_be_bytes(bytes);
    }
    let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d as usize));
    let Some(len) = len.filter(|len| *len <= most) else {
        return Err(refuse(format!("{shape:?} bytes, expected at most {most}")));
    };
    // Not allocated by what the file claims: what it holds grows the buffer.
    let mut data = Vec::new();
    let read = unpacked.by_ref().take(len as u64 + 1).read_to_end(&mut data);
    read.map_err(|e| refuse(format!("its gzip stream: {e}")))?;
    if data.len() != len {
        let found = if data.len() > len { "more" } else { "fewer" };
        return Err(refuse(format!("{found} bytes than the {len} of {shape:?}")));
    }
    if !unpacked.into_inner().is_empty() {
        return Err(refuse("bytes after its gzip stream".into()));
    }
    Ok(Idx { shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn what_it_holds_and_what_it_refuses() {
        let good = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        let path = Path::new("digits");
        let found = read(path, &packed(&good), 6).unwrap();
        assert_eq!(found, Idx { shape: vec![2, 3], data: vec![1, 2, 3, 4, 5, 6] });
        let refused = |gz: &[u8], why: &str| {
            let error = read(path, gz, 6).unwrap_err().to_string();
            assert_eq!(error, format!("digits: {why}"));
        };
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            packed(&bytes)
        };
        // What follows is the unpacker's own text.
        for gz in [vec![], good.to_vec(), packed(&good[..3]), packed(&good[..11])] {
            let error = read(path, &gz, 6).unwrap_err().to_string();
            assert!(error.starts_with("digits: its gzip stream: "), "{error}");
        }
        refused(&packed(&good[..17]), "fewer bytes than the 6 of [2, 3]");
        refused(&packed(&[&good[..], &[7]].concat()), "more bytes than the 6 of [2, 3]");
        refused(&with(0, 1), "it starts with [1, 0, 8, 2], expected [0, 0, 8, 1 to 4]");
        refused(&with(2, 13), "it starts with [0, 0, 13, 2], expected [0, 0, 8, 1 to 4]");
        refused(&with(3, 0), "it starts with [0, 0, 8, 0], expected [0, 0, 8, 1 to 4]");
        refused(&with(7, 3), "[3, 3] bytes, expected at most 6");
        refused(&with(4, 255), "[4278190082, 3] bytes, expected at most 6");
        refused(&[packed(&good), vec![0]].concat(), "bytes after its gzip stream");
        let gz = packed(&good);
        for len in 0..gz.len() {
            assert!(read(path, &gz[..len], 6).is_err(), "cut to {len} bytes");
        }
    }
}
