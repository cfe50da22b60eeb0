//! A ladder of results on one picture: small copies side by side, each with its palette and a label.

use super::{
    Color, Picture,
    font::{HEIGHT, WIDTH, rows},
};
use crate::Result;

/// Pixels of the longer side of a copy at most.
const LONGEST: usize = 384;
/// Around a copy, and what a label and a palette take.
const MARGIN: usize = 16;
const STRIP: usize = 12;
/// Pixels of a dot of a letter.
const DOT: usize = 2;
const LETTER: usize = (WIDTH + 1) * DOT;
const LABEL: usize = HEIGHT * DOT + 8;
/// Letters of the longest label of the program.
const LETTERS: usize = 28;

const PAPER: Color = [250, 250, 248, 255];
const INK: Color = [32, 32, 36, 255];

/// Pixels of a small copy of a picture of this size, and of a sheet with so many at most.
pub(super) fn areas(width: u64, height: u64, rungs: u64) -> (u64, u64) {
    let longest = width.max(height).max(1);
    let small = |side: u64| match longest > LONGEST as u64 {
        true => (side * LONGEST as u64 / longest).max(1),
        false => side,
    };
    if rungs == 0 {
        return (0, 0);
    }
    let (wide, high) = (small(width), small(height));
    let cell = wide.max((LETTERS * LETTER) as u64) + 2 * MARGIN as u64;
    // The last line may be empty but for one, and a margin is around all.
    (wide * high, 2 * rungs * cell * (high + (STRIP + LABEL + 2 * MARGIN) as u64))
}

/// What stands in one place of a sheet.
#[derive(Clone, Debug)]
pub struct Rung {
    /// As large as [`Sheet::small`].
    pub picture: Picture,
    /// Drawn as a strip below it.
    pub palette: Vec<Color>,
    /// Digits and the letters of "colors", "error" and "original"; any other is drawn as a box.
    pub label: String,
}

/// A sheet in the making.
///
/// # Example
///
/// ```
/// use tersor::pictures::{Picture, Rung, Sheet};
///
/// let picture = Picture::new(1000, 500, vec![[40, 80, 160, 255]; 500_000])?;
/// let mut sheet = Sheet::of(&picture)?;
/// assert_eq!((sheet.small().width(), sheet.small().height()), (384, 192));
/// let small = sheet.small().clone();
/// sheet.add(Rung { picture: small, palette: vec![[40, 80, 160, 255]], label: "1 color".into() });
/// let drawn = sheet.draw()?;
/// assert_eq!(drawn.pixels()[16 * drawn.width() + 16], [40, 80, 160, 255]); // behind a margin
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sheet {
    small: Picture,
    rungs: Vec<Rung>,
}

impl Sheet {
    /// A sheet for results of a picture, of which it holds a small copy: a picture that is small enough itself, otherwise means
    /// over its pixels.
    ///
    /// # Errors
    ///
    /// None that are known of: the copy has a pixel.
    pub fn of(picture: &Picture) -> Result<Self> {
        let (width, height) = (picture.width(), picture.height());
        let longest = width.max(height);
        if longest <= LONGEST {
            return Ok(Self { small: picture.clone(), rungs: Vec::new() });
        }
        let size = |side: usize| (side * LONGEST / longest).max(1);
        let (columns, lines) = (size(width), size(height));
        let mut pixels = Vec::with_capacity(columns * lines);
        for y in 0..lines {
            let ys = y * height / lines..(y + 1) * height / lines;
            for x in 0..columns {
                let xs = x * width / columns..(x + 1) * width / columns;
                let rows = ys.clone().map(|y| &picture.pixels()[y * width..][xs.clone()]);
                pixels.push(mean(rows.flatten()));
            }
        }
        Ok(Self { small: Picture::new(columns, lines, pixels)?, rungs: Vec::new() })
    }

    /// The small copy, of which results are shown.
    pub fn small(&self) -> &Picture {
        &self.small
    }

    /// Puts something in the next place.
    pub fn add(&mut self, rung: Rung) {
        self.rungs.push(rung);
    }

    /// The sheet, about as wide as high.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] if a rung has another size than the small copy.
    pub fn draw(&self) -> Result<Picture> {
        let letters = self.rungs.iter().map(|r| r.label.chars().count()).max().unwrap_or(0);
        let (wide, high) = (self.small.width(), self.small.height());
        let cell = (wide.max(letters * LETTER) + MARGIN, high + STRIP + LABEL + MARGIN);
        let n = self.rungs.len().max(1);
        // The number of columns whose sheet is nearest to a square, the first of several.
        let apart = |columns: &usize| (columns * cell.0).abs_diff(n.div_ceil(*columns) * cell.1);
        let columns = (1..=n).min_by_key(apart).unwrap_or(1);
        let lines = n.div_ceil(columns);
        let (width, height) = (columns * cell.0 + MARGIN, lines * cell.1 + MARGIN);
        let mut canvas = Canvas { width, pixels: vec![PAPER; width * height] };
        for (i, rung) in self.rungs.iter().enumerate() {
            let (x, y) = (MARGIN + i % columns * cell.0, MARGIN + i / columns * cell.1);
            let size = (rung.picture.width(), rung.picture.height());
            if size != (wide, high) {
                let got = format!("{} x {}", size.0, size.1);
                return Err(crate::Error::shape(
                    "sheet",
                    "a rung",
                    got,
                    format!("{wide} x {high}"),
                ));
            }
            for (row, pixels) in rung.picture.pixels().chunks(wide).enumerate() {
                for (column, pixel) in pixels.iter().enumerate() {
                    canvas.put(x + column, y + row, *pixel);
                }
            }
            let count = rung.palette.len();
            for column in 0..if count == 0 { 0 } else { wide } {
                for row in 4..STRIP {
                    let color = rung.palette[column * count / wide];
                    canvas.put(x + column, y + high + row, color);
                }
            }
            canvas.write(x, y + high + STRIP + 4, &rung.label);
        }
        Picture::new(width, height, canvas.pixels)
    }
}

/// The mean of colours, premultiplied.
fn mean<'a>(pixels: impl Iterator<Item = &'a Color>) -> Color {
    let (mut sum, mut alpha, mut count) = ([0u64; 3], 0u64, 0u64);
    for pixel in pixels {
        let a = u64::from(pixel[3]);
        sum.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += a * u64::from(*v));
        alpha += a;
        count += 1;
    }
    if alpha == 0 {
        return [0; 4];
    }
    let [r, g, b] = sum.map(|sum| ((2 * sum + alpha) / (2 * alpha)) as u8);
    [r, g, b, ((2 * alpha + count) / (2 * count)) as u8]
}

struct Canvas {
    width: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// Lays a colour over squares of two greys, so that transparency is seen.
    fn put(&mut self, x: usize, y: usize, color: Color) {
        let grey = if (x / 8 + y / 8).is_multiple_of(2) { 255 } else { 204 };
        let alpha = u32::from(color[3]);
        let over = |v: u8| ((u32::from(v) * alpha + grey * (255 - alpha)) * 2 + 255) / 510;
        let [r, g, b] = [color[0], color[1], color[2]].map(|v| over(v) as u8);
        self.pixels[y * self.width + x] = [r, g, b, 255];
    }

    fn write(&mut self, x: usize, y: usize, text: &str) {
        for (i, letter) in text.chars().enumerate() {
            for (row, dots) in rows(letter).into_iter().enumerate() {
                for column in (0..WIDTH).filter(|c| dots >> (WIDTH - 1 - c) & 1 == 1) {
                    let (x, y) = (x + i * LETTER + column * DOT, y + row * DOT);
                    for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                        self.pixels[(y + dy) * self.width + x + dx] = INK;
                    }
                }
            }
        }
    }
}
