//! Files of pictures: PNG and JPEG in, PNG out.

use super::{Color, Indexed, Picture};
use crate::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::{
    borrow::Cow,
    fs,
    io::{self, Cursor},
    path::Path,
};

/// A picture that was read.
///
/// [`open`] has an example.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its pixels, upright, with 8 bits a channel.
    pub picture: Picture,
    /// The ICC profile that says what red, green and blue are, where the file has one.
    pub profile: Option<Vec<u8>>,
    /// What was left out, if anything: bits of a channel.
    pub notes: Vec<String>,
}

/// Bytes that a pixel takes while its picture is palettized, beside what it takes in the file: the pixel, its entry, its place
/// among the counted.
const PIXEL: u64 = 4 + 1 + 2;

/// Reads a PNG or JPEG file: colour or grey, with or without transparency. Of 16 bits a channel the upper 8 are kept, rounded;
/// CMYK becomes RGB; a photo is turned as its Exif data say; of an animation it is the first picture.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Format`] for another format, a damaged or truncated file, and a picture that takes more than `memory`
/// bytes. They name the file.
///
/// # Example
///
/// ```
/// use tersor::pictures::{Picture, open, png};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("two.png");
/// let picture = Picture::new(2, 1, vec![[1, 2, 3, 255], [4, 5, 6, 7]])?;
/// std::fs::write(&path, png(&picture, None)?).unwrap();
/// assert_eq!(open(&path, 1 << 20)?.picture, picture);
///
/// std::fs::write(&path, "no picture").unwrap();
/// let error = open(&path, 1 << 20).unwrap_err();
/// assert!(error.to_string().ends_with("two.png: neither a PNG nor a JPEG file"));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn open(path: &Path, memory: u64) -> Result<Opened> {
    let malformed = |why: String| Error::format(path, why);
    let length = fs::metadata(path).map_err(Error::io(path))?.len();
    if length > memory {
        return Err(malformed(format!("{length} bytes, of {memory} that memory may take")));
    }
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
    let mut reader = reader.map_err(Error::io(path))?;
    let format = reader.format().filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg));
    let Some(format) = format else {
        return Err(malformed("neither a PNG nor a JPEG file".into()));
    };
    if format == ImageFormat::Jpeg && !ends(&bytes) {
        return Err(malformed("a JPEG file without its end; it is truncated".into()));
    }
    // The whole picture is held against the memory below, where the sizes can be said.
    reader.limits(Limits::no_limits());
    let wrong = |e: image::ImageError| Error::format(path, e.to_string());
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let needed = decoder.total_bytes().saturating_add(pixels * PIXEL).saturating_add(length);
    if needed > memory {
        let why = format!(
            "{width} x {height} pixels take {needed} bytes of memory, of {memory}; see --memory"
        );
        return Err(malformed(why));
    }
    let profile = decoder.icc_profile().map_err(wrong)?;
    // That of grey or CMYK says nothing of the red, green and blue that they become.
    let profile = profile.filter(|p| p.get(16..20) == Some(b"RGB "));
    let turned = decoder.orientation().map_err(wrong)?;
    let mut notes = Vec::new();
    if decoder.color_type().bytes_per_pixel() / decoder.color_type().channel_count() > 1 {
        notes.push("16 bits a channel, of which 8 are kept".into());
    }
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    decoded.apply_orientation(turned);
    let decoded = decoded.into_rgba8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (pixels, _) = decoded.as_raw().as_chunks::<4>();
    let picture = Picture::new(width, height, pixels.to_vec());
    let picture = picture.map_err(|e| malformed(e.to_string()))?;
    Ok(Opened { picture, profile, notes })
}

/// Whether the marker that ends a JPEG file comes after that of its last scan. Decoders fill up what is missing with grey.
fn ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|w| w == [0xff, marker]);
    last(0xd9) > last(0xda)
}

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
    let mut packed = Vec::with_capacity(height * (width * bits).div_ceil(8));
    for row in picture.indices().chunks(width) {
        for byte in row.chunks(8 / bits) {
            let ahead = |i: usize| 8 - bits * (i + 1);
            packed.push(byte.iter().enumerate().fold(0, |b, (i, index)| b | index << ahead(i)));
        }
    }
    // Neighbours of indices say nothing of one another.
    written(info, png::Filter::NoFilter, &packed)
}

/// The bytes of a PNG file without a palette: RGB, or RGBA where anything is transparent.
///
/// # Errors
///
/// As [`indexed_png`]. [`open`] has an example.
pub fn png(picture: &Picture, profile: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut info = described(picture.width(), picture.height(), profile)?;
    let opaque = picture.pixels().iter().all(|p| p[3] == 255);
    info.bit_depth = png::BitDepth::Eight;
    info.color_type = if opaque { png::ColorType::Rgb } else { png::ColorType::Rgba };
    let channels = if opaque { 3 } else { 4 };
    let bytes = |pixel: &Color| pixel.iter().copied().take(channels).collect::<Vec<_>>();
    let raw: Vec<u8> = picture.pixels().iter().flat_map(bytes).collect();
    written(info, png::Filter::Adaptive, &raw)
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

fn written(info: png::Info, filter: png::Filter, raw: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let write = || {
        let mut encoder = png::Encoder::with_info(&mut out, info)?;
        encoder.set_deflate_compression(png::DeflateCompression::Level(8));
        encoder.set_filter(filter);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(raw)?;
        writer.finish()
    };
    // Writing to memory does not fail; what the encoder refuses would be this module's mistake.
    write().map_err(|e| Error::Io { path: "PNG".into(), source: io::Error::other(e) })?;
    Ok(out)
}
