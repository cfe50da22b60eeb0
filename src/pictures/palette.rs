//! From the colours of a picture to a palette, and from a palette to the indices of pixels.

use super::{
    Color, Indexed, MOST_COLORS, Picture, Space,
    count::{CLEAR, Distinct, Sorted},
    dither::dither,
    kmeans::{Search, Weighted, solve},
    nearest::Points,
    needs::{Needs, Size, TABLED, beyond},
    spaces::{self, Point},
};
use crate::{Backend, Cancel, Error, Result, parallel};
use std::sync::OnceLock;

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
    /// Their points, made when they are first asked for.
    rgb: OnceLock<Vec<Point>>,
    oklab: OnceLock<Vec<Point>>,
}

impl<'a> Colors<'a> {
    /// Counts the colours of a picture. All fully transparent pixels have one.
    pub fn of(picture: &'a Picture) -> Self {
        Self::counted(picture, Sorted::of(picture.pixels()))
    }

    /// The same, where all that is to be made of them takes at most so many bytes of memory, the picture and the program among
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it would take more. [`Needs`] has an example.
    pub fn within(picture: &'a Picture, needs: &Needs, memory: u64) -> Result<Self> {
        let (width, height) = (picture.width() as u64, picture.height() as u64);
        let refused = |of: &str, needed: u64| {
            let needed = beyond(needed, memory);
            Err(Error::Usage(format!("{width} x {height} pixels{of} need {needed}")))
        };
        let partial = picture.pixels().iter().filter(|p| !matches!(p[3], 0 | 255)).count() as u64;
        let counting = needs.read + Needs::counting(width * height, partial) + Needs::program();
        if counting > memory {
            return refused("", counting);
        }
        let sorted = Sorted::of(picture.pixels());
        let colors = sorted.most() as u64;
        let needed = needs.memory(Size { width, height, partial, colors });
        match needed > memory {
            true => refused(&format!(" of up to {colors} colors"), needed),
            false => Ok(Self::counted(picture, sorted)),
        }
    }

    fn counted(picture: &'a Picture, sorted: Sorted) -> Self {
        let distinct = sorted.counted();
        Self { picture, distinct, rgb: OnceLock::new(), oklab: OnceLock::new() }
    }

    fn points(&self, space: Space) -> &[Point] {
        let place = match space {
            Space::Rgb => &self.rgb,
            Space::Oklab => &self.oklab,
        };
        place.get_or_init(|| points(space, &self.distinct.colors))
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
        let points = &self.points(space)[..n];
        let all = Points::new(on, points, counts, *opaque < n)?;
        let search = Search { k: k - usize::from(reserved), seed, starts };
        let weighted = Weighted { points, weights: counts };
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
        let Colors { picture, distinct, .. } = colors;
        let with_alpha =
            distinct.opaque < distinct.colors.len() || self.colors.iter().any(|c| c[3] < 255);
        let indices = if dithered {
            dither(picture, self.space, &entries, with_alpha, cancel)?
        } else {
            let found = colors.points(self.space);
            let found = Points::new(on, found, &distinct.counts, with_alpha)?;
            let labels = found.nearest(on, &entries)?;
            drop(found);
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
        if (pixels as u64) < TABLED {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::kmeans::apart;

    /// Slopes and noise: more colours than are searched at once, enough pixels for a table.
    fn picture(alphas: &[u8]) -> Picture {
        let (width, height) = (640, 420);
        let pixel = |i: usize| {
            let [a, b, c, d] = (i as u32).wrapping_mul(2_654_435_761).rotate_left(9).to_le_bytes();
            let (x, y) = (i % width, i / width);
            let alpha = alphas[usize::from(d) % alphas.len()];
            [(x / 3) as u8 ^ (a & 15), (y / 2) as u8 ^ (b & 15), (x + y) as u8 ^ (c & 31), alpha]
        };
        Picture::new(width, height, (0..width * height).map(pixel).collect()).unwrap()
    }

    #[test]
    fn every_pixel_has_the_nearest_entry() {
        for alphas in [&[255][..], &[255, 255, 0], &[255, 200, 0, 3]] {
            let picture = picture(alphas);
            let colors = Colors::of(&picture);
            assert!(colors.len() > 1 << 15 && picture.pixels().len() > 1 << 18);
            for space in [Space::Rgb, Space::Oklab] {
                let options = Options { colors: 40, space, ..Options::default() };
                let palette = colors.palette(&Backend::Cpu, &options, &Cancel::new()).unwrap();
                assert_eq!(palette.colors().len(), 40);
                assert_eq!(palette.colors()[0] == CLEAR, alphas.len() > 1);
                let found = palette.map(&Backend::Cpu, &colors, false, &Cancel::new()).unwrap();
                let entries = points(space, palette.colors());
                for at in (0..picture.pixels().len()).step_by(97) {
                    let mut pixel = [[0; 4]];
                    spaces::points(space, &picture.pixels()[at..=at], &mut pixel);
                    let near = (0..40).min_by_key(|i| apart(pixel[0], entries[*i])).unwrap();
                    assert_eq!(usize::from(found.indices()[at]), near, "{alphas:?} {space:?} {at}");
                }
            }
        }
    }

    #[test]
    fn cells_are_runs_of_few_colours_and_of_many() {
        let picture = picture(&[255]);
        let colors = Colors::of(&picture).distinct.colors;
        let runs = |colors: &[Color]| {
            let cells = cells(colors);
            let runs = cells.chunk_by(|a, b| a == b).count();
            let distinct: std::collections::BTreeSet<u32> = cells.into_iter().collect();
            assert_eq!(distinct.len(), runs, "a cell is one run");
            runs
        };
        assert!(runs(&colors) < 1 << 16);
        // All there are, at every other level: cells of six bits would be 2^18.
        let level = |i: usize, shift: usize| (2 * (i >> shift & 127)) as u8;
        let all: Vec<Color> =
            (0..1 << 21).map(|i| [level(i, 14), level(i, 7), level(i, 0), 255]).collect();
        assert_eq!(runs(&Sorted::of(&all).counted().colors), 1 << 15);
    }

    #[test]
    fn what_no_palette_has_is_refused() {
        let picture = Picture::new(1, 1, vec![[1; 4]]).unwrap();
        let (colors, cancel) = (Colors::of(&picture), Cancel::new());
        for k in [0, 257] {
            let options = Options { colors: k, ..Options::default() };
            let error = colors.palette(&Backend::Cpu, &options, &cancel).unwrap_err();
            assert_eq!(error.to_string(), format!("{k} colors: a palette has 1 to 256"));
        }
        let none = Palette::new(Space::Rgb, vec![]);
        assert!(none.map(&Backend::Cpu, &colors, false, &cancel).is_err());
        let many =
            Palette::new(Space::Rgb, (0..300).map(|i| [i as u8, (i >> 8) as u8, 0, 255]).collect());
        assert!(many.map(&Backend::Cpu, &colors, true, &cancel).is_err());
    }
}
