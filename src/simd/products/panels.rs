//! Many rows of `a`: `w` is packed into panels whose step is a few whole vectors, side by side; a row's step, repeated in all
//! lanes, is multiplied with them.

use crate::simd::products::{
    blocks::{Block, for_each_block, tasks},
    codes::Codes,
    isa::{Isa, Work, flip},
};
use std::{arch::x86_64::*, borrow::Cow};

/// Steps of a panel that stay in the first cache while all rows of a task pass by: 24 KiB of 48 lanes.
const DEPTH: usize = 128;

/// Rows of a task, or a few more: their codes stay in the second cache while all panels pass by.
const ROWS: usize = 128;

/// The product by panels.
pub(super) fn product<I: Isa>(
    isa: I,
    (a, a_signed): Codes,
    w: Codes,
    sizes: (usize, usize, usize),
    out: &mut [i32],
) {
    multiply(isa, (a, a_signed), (&pack(isa, w, a_signed, sizes.1), w.1), sizes, out);
}

/// Packs `n` rows of `w`, which are not empty, for products with signed or unsigned codes.
pub(super) fn pack<I: Isa>(isa: I, (w, signed): Codes, a_signed: bool, n: usize) -> Vec<u32> {
    let (words, flip) = (w.len() / n, flip::<I>(a_signed, signed));
    let width = I::TILE.1 * I::LANES;
    let size = width * words * I::STEPS;
    let count = n.div_ceil(width);
    // One panel a row.
    let mut panels = vec![0; count * size];
    let pack = tasks(n * words / 4);
    for_each_block(&mut panels, size, (count.div_ceil(pack), size), pack, |mut panels| {
        for (at, panel) in panels.rows.clone().enumerate() {
            let rows = panel * width..n.min((panel + 1) * width);
            // The last panel has fewer vectors if those are enough.
            let size = rows.len().next_multiple_of(I::LANES) * words * I::STEPS;
            let panel = &mut panels.row(at)[..size];
            let w = &w[rows.start * words..rows.end * words];
            isa.enter(Pack { w, words, signed, flip, panel });
        }
    });
    panels.truncate(n.next_multiple_of(I::LANES) * words * I::STEPS);
    panels
}

/// The product with packed rows, signed or not.
pub(super) fn multiply<I: Isa>(
    isa: I,
    (a, a_signed): Codes,
    (panels, w_signed): (&[u32], bool),
    (m, n, words): (usize, usize, usize),
    out: &mut [i32],
) {
    assert!(panels.len() >= n.next_multiple_of(I::LANES) * words * I::STEPS);
    let flipped = flip::<I>(a_signed, w_signed) != 0;
    let width = I::TILE.1 * I::LANES;
    let tasks = tasks(n * words * (m + 5) / 128);
    let down = m.div_ceil(ROWS);
    // Panels are read once for all rows where there are enough of them to share.
    let rows = match n.div_ceil(width) >= tasks.div_ceil(down) {
        true => m.div_ceil(down),
        false => m.div_ceil(tasks.max(down)),
    };
    let rows = rows.next_multiple_of(I::TILE.0);
    let cols = n.div_ceil(tasks.div_ceil(m.div_ceil(rows))).next_multiple_of(width);
    for_each_block(out, n, (rows, cols), tasks, |out| {
        let task = Task { a, words, panels, flipped, out };
        if a_signed {
            isa.enter(Signed::<true>(task));
        } else {
            isa.enter(Signed::<false>(task));
        }
    });
}

/// Packs some rows of `w` into a panel.
struct Pack<'a> {
    w: &'a [u32],
    words: usize,
    signed: bool,
    flip: u32,
    panel: &'a mut [u32],
}

impl Work for Pack<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self { w, words, signed, flip, panel } = self;
        let width = panel.len() / (words * I::STEPS);
        // Words that make four steps.
        let four = 4 / I::STEPS;
        for (quarter, rows) in w.chunks(4 * words).enumerate() {
            // Rows that are not there repeat the last: nobody looks at their sums.
            let last = rows.len() / words - 1;
            let rows = [0, 1, 2, 3].map(|r| &rows[last.min(r) * words..][..words]);
            for at in (0..words / four * four).step_by(four) {
                let rows = rows.map(|row| row[at..][..four].as_ptr());
                let to = &mut panel[at * I::STEPS * width + 4 * quarter..][..3 * width + 4];
                // SAFETY: the slices are as long as they must be.
                unsafe { transpose::<I>(rows, signed, flip, to.as_mut_ptr(), width) };
            }
            for at in words / four * four..words {
                for (r, row) in rows.iter().enumerate() {
                    let lane = 4 * quarter + r;
                    if I::STEPS == 1 {
                        panel[at * width + lane] = row[at] ^ flip;
                    } else {
                        let [low, high] = widen(row[at], signed);
                        panel[2 * at * width + lane] = low;
                        panel[(2 * at + 1) * width + lane] = high;
                    }
                }
            }
        }
    }
}

/// Takes four steps of each of four rows and writes four lanes of each of four steps of a panel.
///
/// # Safety
///
/// The rows must have as many words, the panel as many lanes, and the machine must have the instructions of `I`.
#[inline(always)]
unsafe fn transpose<I: Isa>(
    rows: [*const u32; 4],
    signed: bool,
    flip: u32,
    to: *mut u32,
    width: usize,
) {
    // SAFETY: the caller answers for all of it.
    unsafe {
        let mut steps = [_mm_set1_epi32(flip as i32); 4];
        for (step, row) in steps.iter_mut().zip(rows) {
            *step = match (I::STEPS, signed) {
                (1, _) => _mm_xor_si128(_mm_loadu_si128(row.cast()), *step),
                (_, true) => _mm_cvtepi8_epi16(_mm_loadl_epi64(row.cast())),
                (_, false) => _mm_cvtepu8_epi16(_mm_loadl_epi64(row.cast())),
            };
        }
        let [a, b, c, d] = steps;
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        _mm_storeu_si128(to.cast(), _mm_unpacklo_epi64(ab, cd));
        _mm_storeu_si128(to.add(width).cast(), _mm_unpackhi_epi64(ab, cd));
        let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        _mm_storeu_si128(to.add(2 * width).cast(), _mm_unpacklo_epi64(ab, cd));
        _mm_storeu_si128(to.add(3 * width).cast(), _mm_unpackhi_epi64(ab, cd));
    }
}

/// A word of four codes as two steps of 16-bit integers.
#[inline(always)]
fn widen(word: u32, signed: bool) -> [u32; 2] {
    let code = |byte: u32| {
        let byte = (word >> (8 * byte)) as u8;
        if signed { u32::from(byte as i8 as u16) } else { byte.into() }
    };
    [code(0) | code(1) << 16, code(2) | code(3) << 16]
}

/// Rows of `a` as steps.
#[inline(always)]
pub(super) fn steps<I: Isa>(a: &[u32], signed: bool) -> Cow<'_, [u32]> {
    if I::STEPS == 1 {
        return a.into();
    }
    let mut steps = vec![0; 2 * a.len()];
    for (word, steps) in a.iter().zip(steps.chunks_exact_mut(2)) {
        steps.copy_from_slice(&widen(*word, signed));
    }
    steps.into()
}

/// What the flip of `w`'s bytes takes from the sums of every row of `a`: it adds 128 to a byte to make it unsigned, and takes 128
/// to make it signed.
#[inline(always)]
pub(super) fn corrections<I: Isa, const A_SIGNED: bool>(isa: I, a: &[u32], starts: &mut [i32]) {
    let steps = a.len() / starts.len();
    for (row, start) in a.chunks_exact(steps).zip(starts) {
        let mut sum = isa.splat(0);
        for part in row.chunks(I::LANES) {
            // SAFETY: the part is as long as it says.
            let codes = unsafe { isa.load(part.as_ptr(), part.len()) };
            sum = isa.dot::<A_SIGNED>(sum, codes, isa.splat(0x0101_0101));
        }
        let [sum, ..] = isa.sums([sum; 4]);
        *start = sum.wrapping_mul(if A_SIGNED { -128 } else { 128 });
    }
}

/// A block of outputs; its columns begin with a panel.
struct Task<'a> {
    a: &'a [u32],
    words: usize,
    panels: &'a [u32],
    flipped: bool,
    out: Block<'a, i32>,
}

/// A task, and whether `a` is signed.
struct Signed<'a, const A_SIGNED: bool>(Task<'a>);

impl<const A_SIGNED: bool> Work for Signed<'_, A_SIGNED> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Task { a, words, panels, flipped, mut out } = self.0;
        let (rows, cols) = (out.rows.len(), out.cols.len());
        let a = steps::<I>(&a[out.rows.start * words..out.rows.end * words], A_SIGNED);
        let steps = words * I::STEPS;
        let mut starts = vec![0; rows];
        if flipped {
            corrections::<I, A_SIGNED>(isa, &a, &mut starts);
        }
        let width = I::TILE.1 * I::LANES;
        let (first, out_stride) = out.as_mut_ptr();
        for col in (0..cols).step_by(width) {
            let lanes = (cols - col).min(width);
            let vectors = lanes.div_ceil(I::LANES);
            let panel = &panels[(out.cols.start + col) * steps..][..vectors * I::LANES * steps];
            for at in (0..steps).step_by(DEPTH) {
                let tiles = Tiles {
                    a: a[at..].as_ptr(),
                    a_stride: steps,
                    panel: panel[at * vectors * I::LANES..].as_ptr(),
                    steps: (steps - at).min(DEPTH),
                    starts: if at == 0 { &starts } else { &[] },
                    out: first.wrapping_add(col),
                    out_stride,
                    rows,
                    cols: lanes,
                };
                // SAFETY: `a` has `rows` rows of `steps` steps, the panel `steps` times as many vectors, the block `rows` rows of `lanes`
                // outputs from here.
                unsafe {
                    match vectors {
                        1 => tiles.run::<I, A_SIGNED, 1>(isa),
                        3 if I::TILE.1 == 3 => tiles.run::<I, A_SIGNED, 3>(isa),
                        _ => tiles.run::<I, A_SIGNED, 2>(isa),
                    }
                }
            }
        }
    }
}

/// Steps of a panel, and the rows that they meet.
struct Tiles<'a> {
    a: *const u32,
    a_stride: usize,
    panel: *const u32,
    steps: usize,
    /// What the sums start with, row by row; nothing if they go on from what is in `out`.
    starts: &'a [i32],
    out: *mut i32,
    out_stride: usize,
    rows: usize,
    cols: usize,
}

impl Tiles<'_> {
    /// # Safety
    ///
    /// Everything must lie where it says.
    #[inline(always)]
    unsafe fn run<I: Isa, const A_SIGNED: bool, const C: usize>(mut self, isa: I) {
        while self.rows > 0 {
            // SAFETY: the caller answers for the rest, and as many rows are left.
            let done = unsafe {
                if I::TILE.0 == 8 && self.rows >= 8 {
                    self.tile::<I, A_SIGNED, 8, C>(isa)
                } else if I::TILE.0 == 6 && self.rows >= 6 {
                    self.tile::<I, A_SIGNED, 6, C>(isa)
                } else if self.rows >= 4 {
                    self.tile::<I, A_SIGNED, 4, C>(isa)
                } else if self.rows >= 2 {
                    self.tile::<I, A_SIGNED, 2, C>(isa)
                } else {
                    self.tile::<I, A_SIGNED, 1, C>(isa)
                }
            };
            self.rows -= done;
            // After the last row they may point to nothing.
            self.a = self.a.wrapping_add(done * self.a_stride);
            self.out = self.out.wrapping_add(done * self.out_stride);
            self.starts = self.starts.get(done..).unwrap_or(&[]);
        }
    }

    /// `R` rows of `C` vectors of outputs; returns `R`.
    ///
    /// # Safety
    ///
    /// As above, and as many rows must be there.
    #[inline(always)]
    unsafe fn tile<I: Isa, const A_SIGNED: bool, const R: usize, const C: usize>(
        &self,
        isa: I,
    ) -> usize {
        let mut sums = [[isa.splat(0); C]; R];
        // SAFETY: the caller answers for all of it.
        unsafe {
            for at in 0..self.steps {
                let mut w = [isa.splat(0); C];
                for (c, w) in w.iter_mut().enumerate() {
                    *w = isa.load(self.panel.add((at * C + c) * I::LANES), I::LANES);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = isa.splat(*self.a.add(r * self.a_stride + at));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = isa.dot::<A_SIGNED>(*sum, a, w);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    let to = self.out.add(r * self.out_stride + c * I::LANES);
                    let count = self.cols - c * I::LANES;
                    let start = match self.starts.get(r) {
                        Some(start) => isa.splat(*start as u32),
                        None => isa.load(to.cast(), count),
                    };
                    isa.store(to, count, isa.add(sum, start));
                }
            }
        }
        R
    }
}
