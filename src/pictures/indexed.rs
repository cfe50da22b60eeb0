//! A picture with a palette, and how far it is from the one it was made of.

use super::{Color, Picture};
use crate::{Error, Result, parallel};

/// A picture whose pixels are entries of a palette.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    width: usize,
    height: usize,
    palette: Vec<Color>,
    indices: Vec<u8>,
}

/// How far a picture is from another. Channels are red, green and blue as they are seen, premultiplied by alpha, and alpha: of
/// pictures without transparency they are the channels as stored.
///
/// [`Indexed::errors`] has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Mean of E = sum over channels of |C - O|.
    pub average: f64,
    /// Mean of the squared difference of a channel; alpha is one where anything is transparent.
    pub mean_squared: f64,
    /// 10 log10(255^2 / mean squared); none where nothing differs.
    pub psnr_db: Option<f64>,
}

/// Rows of pixels that a thread does at a time.
const RUN: usize = 1 << 16;

impl Indexed {
    pub(super) fn new(of: &Picture, palette: Vec<Color>, indices: Vec<u8>) -> Self {
        Self { width: of.width, height: of.height, palette, indices }
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The entries, those with transparency first.
    pub fn palette(&self) -> &[Color] {
        &self.palette
    }

    /// The entry of every pixel, row by row from the top.
    pub fn indices(&self) -> &[u8] {
        &self.indices
    }

    /// The same without a palette.
    pub fn picture(&self) -> Picture {
        let pixels = self.indices.iter().map(|i| self.palette[usize::from(*i)]).collect();
        Picture { width: self.width, height: self.height, pixels }
    }

    /// How far it is from a picture of its size.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if that has another size.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::{Backend, Cancel, pictures::{self, Options, Picture}};
    ///
    /// let picture = Picture::new(2, 1, vec![[0, 0, 0, 255], [2, 4, 6, 255]])?;
    /// let one = Options { colors: 1, ..Options::default() };
    /// let found = pictures::palettize(&Backend::Cpu, &picture, &one, &Cancel::new())?;
    /// let errors = found.errors(&picture)?; // both are (1, 2, 3) off
    /// assert_eq!((errors.average, errors.mean_squared), (6.0, (1.0 + 4.0 + 9.0) / 3.0));
    /// assert_eq!(found.error_picture(&picture)?.pixels(), [[6, 0, 0, 255]; 2]);
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn errors(&self, of: &Picture) -> Result<Errors> {
        self.same_size(of)?;
        let palette: Vec<[i32; 4]> = self.palette.iter().map(seen).collect();
        let runs: Vec<(&[u8], &[Color])> =
            self.indices.chunks(RUN).zip(of.pixels.chunks(RUN)).collect();
        let sums = parallel::map(&runs, &|(indices, pixels)| {
            let (mut absolute, mut squared, mut alpha) = (0u64, 0u64, 255);
            for (index, pixel) in indices.iter().zip(*pixels) {
                alpha &= pixel[3];
                for (a, b) in seen(pixel).iter().zip(&palette[usize::from(*index)]) {
                    absolute += u64::from(a.abs_diff(*b));
                    squared += u64::from(a.abs_diff(*b).pow(2));
                }
            }
            (absolute, squared, alpha == 255)
        });
        let opaque = sums.iter().all(|s| s.2) && self.palette.iter().all(|c| c[3] == 255);
        let (absolute, squared): (u64, u64) =
            sums.iter().fold((0, 0), |(a, s), sum| (a + sum.0, s + sum.1));
        let pixels = self.indices.len() as f64;
        let mean_squared = squared as f64 / (pixels * if opaque { 3.0 } else { 4.0 });
        Ok(Errors {
            average: absolute as f64 / pixels,
            mean_squared,
            psnr_db: (squared > 0).then(|| 10.0 * libm::log10(255.0 * 255.0 / mean_squared)),
        })
    }

    /// E of every pixel, as [`Errors`] have it, in red on black: 255 and more are full red.
    ///
    /// # Errors
    ///
    /// As [`Indexed::errors`], where the example is.
    pub fn error_picture(&self, of: &Picture) -> Result<Picture> {
        self.same_size(of)?;
        let palette: Vec<[i32; 4]> = self.palette.iter().map(seen).collect();
        let red = |(index, pixel): (&u8, &Color)| {
            let pairs = seen(pixel).into_iter().zip(palette[usize::from(*index)]);
            let error: u32 = pairs.map(|(a, b)| a.abs_diff(b)).sum();
            [error.min(255) as u8, 0, 0, 255]
        };
        let pixels = self.indices.iter().zip(&of.pixels).map(red).collect();
        Ok(Picture { width: self.width, height: self.height, pixels })
    }

    fn same_size(&self, of: &Picture) -> Result<()> {
        if (of.width, of.height) == (self.width, self.height) {
            return Ok(());
        }
        let (got, expected) =
            (format!("{} x {}", of.width, of.height), format!("{} x {}", self.width, self.height));
        Err(Error::shape("errors of a picture", "its size", got, expected))
    }
}

/// The channels of a colour as it is seen.
fn seen(color: &Color) -> [i32; 4] {
    let alpha = i32::from(color[3]);
    let channel = |v: u8| (i32::from(v) * alpha * 2 + 255) / 510;
    [channel(color[0]), channel(color[1]), channel(color[2]), alpha]
}
