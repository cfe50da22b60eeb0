//! PNG and JPEG files in.

use super::{Color, Needs, Picture, needs::beyond};
use crate::{Error, Result, format::regular, quote::printable};
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    metadata::Orientation,
};
use std::{fs, io::Cursor, path::Path};

/// A picture that was read.
///
/// [`open`] has an example.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its pixels, upright, with 8 bits a channel.
    pub picture: Picture,
    /// The ICC profile that says what red, green and blue are, where the file has one.
    pub profile: Option<Vec<u8>>,
    /// What was left out, if anything: bits of a channel, a profile.
    pub notes: Vec<String>,
    /// Bytes of memory that reading took beside the pixels.
    pub memory: u64,
}

/// Reads a PNG or JPEG file: colour or grey, with or without transparency. Of 16 bits a channel the upper 8 are kept, rounded;
/// CMYK becomes RGB; a photo is turned as its Exif data say; of an animation it is the first picture.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Format`] for what is no regular file, another format, a damaged or truncated file, and a picture that takes
/// more than `memory` bytes to read and to count its colours. They name the file.
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
/// assert_eq!(open(&path, 1 << 30)?.picture, picture);
///
/// std::fs::write(&path, "no picture").unwrap();
/// let error = open(&path, 1 << 30).unwrap_err();
/// assert!(error.to_string().ends_with("two.png: neither a PNG nor a JPEG file"));
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn open(path: &Path, memory: u64) -> Result<Opened> {
    let malformed = |why: String| Error::format(path, why);
    let length = regular(path)?.len();
    let held = length.saturating_add(Needs::program());
    if held > memory {
        return Err(malformed(format!("{length} bytes need {}", beyond(held, memory))));
    }
    let bytes = fs::read(path).map_err(Error::io(path))?;
    decoded(&bytes, memory).map_err(malformed)
}

/// The same of bytes that were read.
pub(super) fn decoded(bytes: &[u8], memory: u64) -> std::result::Result<Opened, String> {
    let length = bytes.len() as u64;
    let held = length.saturating_add(Needs::program());
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|e| e.to_string())?;
    let is_png = match reader.format() {
        Some(ImageFormat::Png) => true,
        Some(ImageFormat::Jpeg) if ends(bytes) => false,
        Some(ImageFormat::Jpeg) => {
            return Err("a JPEG file without its end; it is truncated".into());
        }
        _ => return Err("neither a PNG nor a JPEG file".into()),
    };
    let refused = |width: u64, height: u64, needed: u64| {
        (needed > memory)
            .then(|| format!("{width} x {height} pixels need {}", beyond(needed, memory)))
    };
    let mut limits = Limits::no_limits();
    if is_png {
        let (width, height) = declared(bytes);
        let pixels = width.saturating_mul(height).saturating_mul(4);
        if let Some(why) = refused(width, height, pixels.saturating_add(held)) {
            return Err(why);
        }
        // Rows, and of what is beside them a chunk that is unpacked in growing room, kept and copied.
        limits.max_alloc = Some((memory - held) / 5 + 8 * width);
    }
    reader.limits(limits);
    let wrong = |e: ImageError| said(&e, memory);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let profile = decoder.icc_profile().map_err(wrong)?;
    let turned = decoder.orientation().map_err(wrong)?;
    let stored = decoder.total_bytes();
    let [width, height] = [width, height].map(u64::from);
    // Less than 2^62.
    let pixels = width * height;
    let beside = if is_png {
        4 * texts(bytes) + 24 * width
    } else {
        Frame::of(bytes).memory(width, height) + length
    };
    let kept = profile.as_ref().map_or(0, Vec::len) as u64;
    let mut notes = Vec::new();
    if is_png && profile.is_none() && chunks(bytes).any(|(kind, _)| kind == b"iCCP") {
        notes.push("its profile of colors is damaged or too large, and left out".into());
    }
    // As it is stored, unless that is what becomes of it, and turned.
    let first = if decoder.color_type() == ColorType::Rgba8 { 0 } else { stored };
    let again = if turned == Orientation::NoTransforms { 0 } else { stored };
    let read = [length, first, again, beside, 4 * kept].into_iter().fold(0, u64::saturating_add);
    let needed = [read, Needs::counting(pixels, 0), Needs::program()]
        .into_iter()
        .fold(0, u64::saturating_add);
    if let Some(why) = refused(width, height, needed) {
        return Err(why);
    }
    // That of grey or CMYK says nothing of the red, green and blue that they become.
    let profile = profile.filter(|p| p.get(16..20) == Some(b"RGB "));
    if decoder.color_type().bytes_per_pixel() / decoder.color_type().channel_count() > 1 {
        notes.push("16 bits a channel, of which 8 are kept".into());
    }
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    decoded.apply_orientation(turned);
    let decoded = decoded.into_rgba8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    // The same bytes under another name.
    let pixels: Vec<Color> = bytemuck::allocation::try_cast_vec(decoded.into_raw())
        .unwrap_or_else(|(_, raw)| raw.as_chunks::<4>().0.to_vec());
    let picture = Picture::new(width, height, pixels).map_err(|e| e.to_string())?;
    Ok(Opened { picture, profile, notes, memory: read })
}

/// What a decoder refuses, without the names that its types have.
fn said(error: &ImageError, memory: u64) -> String {
    if let ImageError::Limits(_) = error {
        let most = memory >> 20;
        return format!("its profile, texts or rows take too much of the {most} MiB of --memory");
    }
    let text = error.to_string();
    // `ChunkType { type: IDAT, critical: true, .. }` is IDAT.
    let chunk = text.split_once("ChunkType { type: ").and_then(|(before, after)| {
        let (fields, after) = after.split_once('}')?;
        Some(format!("{before}{}{after}", fields.split(',').next()?))
    });
    printable(&chunk.unwrap_or(text))
}

/// Width and height that a PNG file begins with.
fn declared(bytes: &[u8]) -> (u64, u64) {
    if bytes.get(12..16) != Some(b"IHDR") {
        return (0, 0);
    }
    let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    let side = |at: usize| number(at).map_or(0, |b| u64::from(u32::from_be_bytes(b)));
    (side(16), side(20))
}

/// The chunks of a PNG file: kinds and lengths.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 8usize;
    std::iter::from_fn(move || {
        let (length, kind) = bytes.get(at..at.saturating_add(8))?.split_at(4);
        let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        at = at.saturating_add(12).saturating_add(length);
        Some((kind, length.min(bytes.len())))
    })
}

/// Bytes of the chunks of a PNG file that hold no pixels.
fn texts(bytes: &[u8]) -> u64 {
    let others = chunks(bytes).filter(|(kind, _)| *kind != b"IDAT" && *kind != b"fdAT");
    others.map(|(_, length)| length as u64).sum()
}

/// What decides the memory that the decoder of a JPEG file takes.
struct Frame {
    components: u64,
    /// Blocks of a component in a unit at most.
    sampling: u64,
    /// Whether its scans come one after the other, so that all coefficients are held.
    whole: bool,
}

impl Frame {
    /// Of the first frame; where there is none, the most that one may have.
    fn of(bytes: &[u8]) -> Self {
        let mut frame = Self { components: 4, sampling: 16, whole: true };
        let mut at = 2usize;
        while let Some(&[0xff, marker, high, low]) = bytes.get(at..at.saturating_add(4)) {
            let byte = |i: usize| bytes.get(at + 4 + i).copied().unwrap_or(0);
            match marker {
                0xff => {
                    at += 1;
                    continue;
                }
                0xc0..=0xc2 => {
                    let components = usize::from(byte(5)).min(4);
                    let most =
                        |shift: u32| (0..components).map(|c| byte(7 + 3 * c) >> shift & 15).max();
                    let sampling =
                        most(0).zip(most(4)).map_or(16, |(v, h)| u64::from(v) * u64::from(h));
                    frame = Self { components: components as u64, sampling, whole: marker == 0xc2 };
                }
                0xda => {
                    frame.whole |= u64::from(byte(0)) != frame.components;
                    break;
                }
                _ => {}
            }
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
        frame
    }

    /// Bytes beside the picture: coefficients of 2 bytes, and rows of units, whose samples are held a few times.
    fn memory(&self, width: u64, height: u64) -> u64 {
        let (width, height) = (width + 32, height + 32);
        let all = if self.whole { 2 * width * height } else { 0 };
        self.components * (all + 60 * self.sampling * width)
    }
}

/// Whether the marker that ends a JPEG file comes after that of its last scan. Decoders fill up what is missing with grey.
fn ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|w| w == [0xff, marker]);
    last(0xd9) > last(0xda)
}
