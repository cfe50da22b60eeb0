//! From the colours of a picture to a palette, and from a palette to the indices of pixels.

use super::{
    Color, Indexed, MOST_COLORS, Picture, Space,
    count::{CLEAR, Distinct, distinct},
    dither::dither,
    kmeans::{Search, Weighted, solve},
    nearest::Points,
    spaces::{self, Point},
};
use crate::{Backend, Cancel, Error, Result, parallel};

/// How a palette is looked for.
///
/// # Example
///
/// ```
/// use tersor::pictures::{Options, Space};
///
/// let usual = Options::default();
/// assert_eq!((usual.colors, usual.space, usual.dither), (256, Space::Rgb, false));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Colours at most, from 1 to 256.
    pub colors: usize,
    /// Where distances are measured.
    pub space: Space,
    /// Of all starts but the first, which takes no chances.
    pub seed: u64,
    /// Searches, of which the best counts; 0 counts as 1.
    pub starts: usize,
    /// Diffuse the error of a pixel to its neighbours (R. W. Floyd, L. Steinberg, 1976), every other row from the right.
    pub dither: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { colors: MOST_COLORS, space: Space::default(), seed: 0, starts: 1, dither: false }
    }
}

/// A picture with at most so many colours as [`Options`] ask for: [`Colors::palette`] and [`Palette::map`], for whoever wants one
/// result. The module has an example.
///
/// # Errors
///
/// As these.
pub fn palettize(
    on: &Backend,
    picture: &Picture,
    options: &Options,
    cancel: &Cancel,
) -> Result<Indexed> {
    let colors = Colors::of(picture);
    colors.palette(on, options, cancel)?.map(on, &colors, options.dither, cancel)
}

/// The distinct colours of a picture, counted once for any number of palettes.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Cancel, pictures::{Colors, Options, Picture}};
///
/// let greys = (0..=255).map(|v| [v, v, v, 255]).collect();
/// let picture = Picture::new(16, 16, greys)?;
/// let colors = Colors::of(&picture);
/// assert_eq!(colors.len(), 256);
/// for k in [1, 16, 256] {
///     let options = Options { colors: k, ..Options::default() };
///     let palette = colors.palette(&Backend::Cpu, &options, &Cancel::new())?;
///     assert_eq!(palette.colors().len(), k);
/// }
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Debug)]
pub struct Colors<'a> {
    picture: &'a Picture,
    distinct: Distinct,
}

impl<'a> Colors<'a> {
    /// Counts the colours of a picture. All fully transparent pixels have one.
    pub fn of(picture: &'a Picture) -> Self {
        Self { picture, distinct: distinct(picture.pixels()) }
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a picture has a pixel, and so a colour")]
    pub fn len(&self) -> usize {
        self.distinct.colors.len()
    }

    /// A palette of little squared error: all colours where they are no more than asked for; otherwise an entry for what is fully
    /// transparent, if two are asked for at least, and the means of clusters of all others. It may have fewer entries than asked
    /// for where clusters round to one colour.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for 0 colours or more than 256; [`Error::Interrupted`]; those of a device.
    pub fn palette(&self, on: &Backend, options: &Options, cancel: &Cancel) -> Result<Palette> {
        let &Options { colors: k, space, seed, starts, .. } = options;
        if !(1..=MOST_COLORS).contains(&k) {
            return Err(Error::Usage(format!("{k} colors: a palette has 1 to {MOST_COLORS}")));
        }
        let Distinct { colors, counts, opaque } = &self.distinct;
        if colors.len() <= k {
            return Ok(Palette::new(space, colors.clone()));
        }
        let reserved = k > 1 && colors.last() == Some(&CLEAR);
        let n = colors.len() - usize::from(reserved);
        let (colors, counts) = (&colors[..n], &counts[..n]);
        let points = points(space, colors);
        let all = Points::new(on, &points, counts, *opaque < n)?;
        let search = Search { k: k - usize::from(reserved), seed, starts };
        let weighted = Weighted { points: &points, weights: counts };
        let entries = solve(on, &all, weighted, &cells(colors), search, cancel)?;
        let clear = reserved.then_some(CLEAR);
        let entries = entries.into_iter().map(|entry| spaces::color(space, entry));
        Ok(Palette::new(space, entries.chain(clear).collect()))
    }
}

/// Colours for the pixels of a picture, each once; those with transparency first, then from dark to bright.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Cancel, pictures::{Colors, Palette, Picture, Space}};
///
/// let palette = Palette::new(Space::Rgb, vec![[255, 255, 255, 255], [0, 0, 0, 255]]);
/// let picture = Picture::new(3, 1, vec![[200, 200, 200, 255], [90, 90, 90, 255], [0, 0, 0, 255]])?;
/// let indexed = palette.map(&Backend::Cpu, &Colors::of(&picture), false, &Cancel::new())?;
/// assert_eq!(indexed.palette(), [[0, 0, 0, 255], [255, 255, 255, 255]]);
/// assert_eq!(indexed.indices(), [1, 0, 0]);
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    space: Space,
    colors: Vec<Color>,
}

impl Palette {
    /// A palette of colours, in its own order, for distances in a space.
    pub fn new(space: Space, mut colors: Vec<Color>) -> Self {
        let order = |color: &Color| {
            let [r, g, b, a] = color.map(u32::from);
            (a, 2126 * r + 7152 * g + 722 * b, *color)
        };
        for color in colors.iter_mut().filter(|color| color[3] == 0) {
            *color = CLEAR;
        }
        colors.sort_unstable_by_key(order);
        colors.dedup();
        Self { space, colors }
    }

    /// Its colours.
    pub fn colors(&self) -> &[Color] {
        &self.colors
    }

    /// Gives every pixel an entry: the nearest, the first of several, or where it is dithered as [`Options::dither`] says.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where the palette is empty or has more than 256 colours; [`Error::Interrupted`]; those of a device.
    pub fn map(
        &self,
        on: &Backend,
        colors: &Colors,
        dithered: bool,
        cancel: &Cancel,
    ) -> Result<Indexed> {
        let entries = points(self.space, &self.colors);
        if !(1..=MOST_COLORS).contains(&entries.len()) {
            let why = format!("a palette of {} colors has none for a pixel", entries.len());
            return Err(Error::Usage(why));
        }
        cancel.check()?;
        let Colors { picture, distinct } = colors;
        let with_alpha =
            distinct.opaque < distinct.colors.len() || self.colors.iter().any(|c| c[3] < 255);
        let indices = if dithered {
            dither(picture, self.space, &entries, with_alpha, cancel)?
        } else {
            let found = points(self.space, &distinct.colors);
            let found = Points::new(on, &found, &distinct.counts, with_alpha)?;
            let labels = found.nearest(on, &entries)?;
            cancel.check()?;
            Lookup::new(distinct, &labels, picture.pixels().len()).map(picture.pixels())
        };
        Ok(Indexed::new(picture, self.colors.clone(), indices))
    }
}

/// The points of colours, by all threads.
fn points(space: Space, colors: &[Color]) -> Vec<Point> {
    const RUN: usize = 1 << 13;
    let mut points = vec![[0; 4]; colors.len()];
    parallel::chunks(&mut points, RUN, &|run, out| {
        spaces::points(space, &colors[run * RUN..][..out.len()], out);
    });
    points
}

/// The cells that colours are taken together in: 6 bits of each channel, or 5 where these are too many.
fn cells(colors: &[Color]) -> Vec<u32> {
    let of = |bits: u32| {
        let cell = |color: &Color| u32::from_le_bytes(color.map(|v| v >> (8 - bits)));
        colors.iter().map(cell).collect::<Vec<_>>()
    };
    let fine = of(6);
    match fine.chunk_by(|a, b| a == b).count() > 1 << 16 {
        true => of(5),
        false => fine,
    }
}

/// The entry of every distinct colour.
enum Lookup {
    /// By red, green and blue, of colours without transparency; then others, ascending.
    Table(Vec<u8>, Vec<(u32, u8)>),
    /// All of them, ascending, where there are too few pixels to fill a table for.
    Sorted(Vec<(u32, u8)>),
}

impl Lookup {
    fn new(distinct: &Distinct, labels: &[u8], pixels: usize) -> Self {
        let number = |color: &Color| u32::from_le_bytes(*color);
        let sorted = |from: usize| {
            let pairs = distinct.colors.iter().map(number).zip(labels.iter().copied());
            let mut pairs: Vec<(u32, u8)> = pairs.skip(from).collect();
            pairs.sort_unstable();
            pairs
        };
        if pixels < 1 << 18 {
            return Self::Sorted(sorted(0));
        }
        let mut table = vec![0; 1 << 24];
        for (color, label) in distinct.colors[..distinct.opaque].iter().zip(labels) {
            table[(number(color) & 0xff_ffff) as usize] = *label;
        }
        Self::Table(table, sorted(distinct.opaque))
    }

    fn map(&self, pixels: &[Color]) -> Vec<u8> {
        const RUN: usize = 1 << 16;
        let search = |sorted: &[(u32, u8)], pixel: Color| {
            let number = u32::from_le_bytes(if pixel[3] == 0 { CLEAR } else { pixel });
            let at = sorted.binary_search_by_key(&number, |(color, _)| *color);
            at.map_or(0, |at| sorted[at].1)
        };
        let mut out = vec![0; pixels.len()];
        parallel::chunks(&mut out, RUN, &|run, out| {
            for (out, pixel) in out.iter_mut().zip(&pixels[run * RUN..]) {
                *out = match self {
                    Self::Table(table, _) if pixel[3] == 255 => {
                        table[(u32::from_le_bytes(*pixel) & 0xff_ffff) as usize]
                    }
                    Self::Table(_, sorted) | Self::Sorted(sorted) => search(sorted, *pixel),
                };
            }
        });
        out
    }
}
