//! PNG files out: rows are packed and compressed one by one, so that a file takes no more memory than its own bytes.

use super::{Color, Indexed, Picture};
use crate::{Error, Result};
use std::{
    borrow::Cow,
    io::{self, Write},
};

/// The bytes of a PNG file with a palette: 1, 2, 4 or 8 bits a pixel, whichever hold it.
///
/// # Errors
///
/// [`Error::Shape`] for more pixels in a row or rows than PNG allows.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Cancel, pictures::{self, Options, Picture, indexed_png}};
///
/// let picture = Picture::new(2, 1, vec![[9, 9, 9, 255], [0, 0, 0, 0]])?;
/// let found = pictures::palettize(&Backend::Cpu, &picture, &Options::default(), &Cancel::new())?;
/// let bytes = indexed_png(&found, None)?;
/// assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
/// assert_eq!(bytes[24..26], [1, 3]); // one bit, a palette
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn indexed_png(picture: &Indexed, profile: Option<&[u8]>) -> Result<Vec<u8>> {
    let palette = picture.palette();
    let (depth, bits) = match palette.len() {
        ..=2 => (png::BitDepth::One, 1),
        3..=4 => (png::BitDepth::Two, 2),
        5..=16 => (png::BitDepth::Four, 4),
        _ => (png::BitDepth::Eight, 8),
    };
    let (width, height) = (picture.width(), picture.height());
    let mut info = described(width, height, profile)?;
    info.color_type = png::ColorType::Indexed;
    info.bit_depth = depth;
    info.palette = Some(palette.iter().flat_map(|c| [c[0], c[1], c[2]]).collect());
    // Those after the last one with transparency have none.
    let transparent = palette.iter().filter(|c| c[3] < 255).count();
    if transparent > 0 {
        info.trns = Some(palette[..transparent].iter().map(|c| c[3]).collect());
    }
    let pack = |row: &[u8], packed: &mut Vec<u8>| {
        for byte in row.chunks(8 / bits) {
            let ahead = |i: usize| 8 - bits * (i + 1);
            packed.push(byte.iter().enumerate().fold(0, |b, (i, index)| b | index << ahead(i)));
        }
    };
    // Neighbours of indices say nothing of one another.
    written(info, png::Filter::NoFilter, picture.indices(), (width * bits).div_ceil(8), pack)
}

/// The bytes of a PNG file without a palette: RGB, or RGBA where anything is transparent.
///
/// # Errors
///
/// As [`indexed_png`]. [`open`](crate::pictures::open) has an example.
pub fn png(picture: &Picture, profile: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut info = described(picture.width(), picture.height(), profile)?;
    let opaque = picture.pixels().iter().all(|p| p[3] == 255);
    info.bit_depth = png::BitDepth::Eight;
    info.color_type = if opaque { png::ColorType::Rgb } else { png::ColorType::Rgba };
    let channels = if opaque { 3 } else { 4 };
    let pack = |row: &[Color], raw: &mut Vec<u8>| {
        row.iter().for_each(|pixel| raw.extend_from_slice(&pixel[..channels]));
    };
    written(info, png::Filter::Adaptive, picture.pixels(), channels * picture.width(), pack)
}

fn described<'a>(width: usize, height: usize, profile: Option<&'a [u8]>) -> Result<png::Info<'a>> {
    let side = |pixels: usize| u32::try_from(pixels).ok().filter(|n| *n <= i32::MAX as u32);
    let Some((wide, high)) = side(width).zip(side(height)) else {
        let got = format!("{width} x {height} pixels");
        return Err(Error::shape("PNG", "picture", got, "less than 2^31 either way"));
    };
    let mut info = png::Info::with_size(wide, high);
    info.icc_profile = profile.map(Cow::Borrowed);
    Ok(info)
}

/// Bytes of a chunk of compressed rows.
const CHUNK: usize = 1 << 16;

/// A file whose rows have so many bytes each.
fn written<T>(
    info: png::Info,
    filter: png::Filter,
    pixels: &[T],
    row_bytes: usize,
    pack: impl Fn(&[T], &mut Vec<u8>),
) -> Result<Vec<u8>> {
    let width = info.width as usize;
    // Room that is never written to is no memory; growing would have the file twice.
    let most = (row_bytes + 1) * (pixels.len() / width);
    let mut out = Vec::with_capacity(most + most / 64 + CHUNK);
    let write = || -> std::result::Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::with_info(&mut out, info)?;
        encoder.set_deflate_compression(png::DeflateCompression::Level(8));
        encoder.set_filter(filter);
        let mut writer = encoder.write_header()?;
        let mut rows = writer.stream_writer_with_size(CHUNK)?;
        let mut packed = Vec::with_capacity(row_bytes);
        for row in pixels.chunks(width) {
            packed.clear();
            pack(row, &mut packed);
            rows.write_all(&packed)?;
        }
        rows.finish()?;
        writer.finish()
    };
    // Writing to memory does not fail; what the encoder refuses would be this module's mistake.
    write().map_err(|e| Error::Io { path: "PNG".into(), source: io::Error::other(e) })?;
    Ok(out)
}
