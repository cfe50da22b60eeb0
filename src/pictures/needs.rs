//! Memory that a job on a picture takes at most, so that it is refused before it takes it.

/// The program itself, what does not grow with a picture, and what huge pages are too large.
const PROGRAM: u64 = 32 << 20;
/// Of every thread: counters of colours, and what it has sorted.
const THREAD: u64 = 1 << 20;
/// The entries of all colours without transparency, where there is a table of them.
pub(super) const TABLE: u64 = 1 << 24;
/// Pixels from which on it is filled.
pub(super) const TABLED: u64 = 1 << 18;

/// What is made of a picture beside one with a palette, and what was taken before.
///
/// # Example
///
/// ```
/// use tersor::pictures::{Colors, Needs, Picture};
///
/// // Many colours take more than so many pixels do.
/// let noise = (0..1u32 << 22).map(|i| { let [r, g, b, _] = i.to_le_bytes(); [r, g, b, 255] });
/// let picture = Picture::new(2048, 2048, noise.collect())?;
/// assert!(Colors::within(&picture, &Needs::default(), 1 << 30).is_ok());
/// let error = Colors::within(&picture, &Needs::default(), 160 << 20).unwrap_err().to_string();
/// assert!(error.starts_with("2048 x 2048 pixels of up to 4194304 colors need "), "{error}");
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Bytes that reading took.
    pub read: u64,
    /// Errors are diffused.
    pub dither: bool,
    /// Errors are drawn.
    pub error_picture: bool,
    /// Places on a sheet.
    pub rungs: usize,
    /// A device does the work; what it takes itself is not counted.
    pub device: bool,
}

/// What is known of a picture whose colours are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub width: u64,
    pub height: u64,
    /// Pixels that are transparent in part.
    pub partial: u64,
    /// Distinct colours, those of partial pixels as often as there are pixels.
    pub colors: u64,
}

/// So much memory, of so much.
pub(super) fn beyond(needed: u64, memory: u64) -> String {
    let (needed, allowed) = (needed.div_ceil(1 << 20), memory >> 20);
    format!("{needed} MiB of memory, --memory allows {allowed} MiB")
}

impl Needs {
    /// Bytes that everything else takes.
    pub(super) fn program() -> u64 {
        PROGRAM + rayon::current_num_threads() as u64 * THREAD
    }

    /// Bytes of a picture while its colours are counted: pixels of four, low bits of their places of two and where these end, and
    /// pairs of a place and a colour.
    pub(super) fn counting(pixels: u64, partial: u64) -> u64 {
        6 * pixels + pixels / 32 + 8 * partial
    }

    /// Bytes of all of it. The allocator may keep what is given back for a second, which is longer than most jobs take: only what
    /// is soon taken again in the same size is not counted twice.
    pub(super) fn memory(&self, size: Size) -> u64 {
        let Size { width, height, partial, colors } = size;
        let (pixels, rungs) = (width * height, self.rungs as u64);
        // Colours, counts, points, and points by coordinates: 1,312 bytes for 64.
        let counted = (4 + 4 + 8 + 21) * colors;
        let there = if self.device { 24 * colors + pixels } else { 0 };
        // Cells of colours; their means, weights and blocks, and the distances or members of every start.
        let most_cells = if partial > 0 { (1 << 20) + (1 << 15) } else { 1 << 16 };
        let threads = rayon::current_num_threads() as u64;
        let cells = 8 * colors + colors.min(most_cells) * (57 + 16 * threads);
        // The entry of every colour, in a table or sorted, and of every pixel.
        let entries = match pixels < TABLED {
            true => 9 * colors,
            false => TABLE + colors + 8 * (partial + 1),
        };
        let dithering = if self.dither { super::dither::MEMORY + 48 * width } else { 0 };
        let (small, sheet) = super::sheet::areas(width, height, rungs);
        let drawn =
            if self.error_picture { 4 * pixels } else { 0 } + 4 * sheet + (4 * rungs + 96) * small;
        // Files take no more than their pixels do, and a little.
        let written = pixels + drawn;
        Self::program()
            + self.read
            + Self::counting(pixels, partial)
            + counted
            + there
            + cells
            + entries
            + pixels
            + dithering
            + drawn
            + written
            + written / 32
    }
}
