//! Pictures with at most 256 colours: palettes of least squared error, and what is lost by them.
//!
//! The colours of a picture are counted, and clustered as weighted points of a [`Space`] by k-means; every pixel then takes the
//! nearest entry, or, where it is dithered, the nearest to itself and to what its neighbours were off by. All of it is in whole
//! numbers, so that the same picture gives the same bytes on every device and with any number of threads.
//!
//! Fully transparent pixels have one entry, whatever colour they hold. Where others are transparent in part, colours are
//! premultiplied by alpha, and alpha is a fourth axis.
//!
//! ```
//! use tersor::{Backend, Cancel, pictures::{self, Options, Picture}};
//!
//! // Two dark pixels and two bright ones.
//! let pixels = [[10, 20, 30, 255], [12, 20, 30, 255], [200, 210, 220, 255], [200, 210, 228, 255]];
//! let picture = Picture::new(2, 2, pixels.to_vec())?;
//! let options = Options { colors: 2, ..Options::default() };
//! let found = pictures::palettize(&Backend::Cpu, &picture, &options, &Cancel::new())?;
//! assert_eq!(found.palette(), [[11, 20, 30, 255], [200, 210, 224, 255]]); // the means
//! assert_eq!(found.indices(), [0, 0, 1, 1]);
//! assert_eq!(found.errors(&picture)?.average, (1.0 + 1.0 + 4.0 + 4.0) / 4.0);
//! # Ok::<(), tersor::Error>(())
//! ```

mod count;
mod dither;
mod font;
mod indexed;
mod kmeans;
mod nearest;
mod needs;
mod palette;
#[cfg(feature = "pictures")]
mod read;
mod sheet;
mod spaces;
#[cfg(feature = "pictures")]
mod write;

pub use indexed::{Errors, Indexed};
pub use needs::Needs;
pub use palette::{Colors, Options, Palette, palettize};
#[cfg(feature = "pictures")]
pub use read::{Opened, open};
pub use sheet::{Rung, Sheet};
pub use spaces::Space;
#[cfg(feature = "pictures")]
pub use write::{indexed_png, png};

use crate::{Error, Result};

/// A colour: red, green, blue and alpha, not premultiplied.
pub type Color = [u8; 4];

/// Entries of a palette at most.
pub const MOST_COLORS: usize = 256;

/// Pixels, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Picture {
    /// A picture of `width` x `height` pixels.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there are not so many pixels, none, or 2^32 and more.
    ///
    /// # Example
    ///
    /// ```
    /// use tersor::pictures::Picture;
    ///
    /// let red = Picture::new(3, 1, vec![[255, 0, 0, 255]; 3])?;
    /// assert_eq!((red.width(), red.height()), (3, 1));
    /// assert!(Picture::new(2, 2, vec![[0; 4]; 3]).is_err());
    /// # Ok::<(), tersor::Error>(())
    /// ```
    pub fn new(width: usize, height: usize, pixels: Vec<Color>) -> Result<Self> {
        let size = width.checked_mul(height).filter(|n| *n > 0 && u32::try_from(*n).is_ok());
        if size != Some(pixels.len()) {
            let expected = format!("{width} x {height}, at least one and less than 2^32");
            return Err(Error::shape("picture", "pixels", pixels.len(), expected));
        }
        Ok(Self { width, height, pixels })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Row by row from the top.
    pub fn pixels(&self) -> &[Color] {
        &self.pixels
    }
}
