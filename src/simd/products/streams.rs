//! Few rows of `a`: `w` is read once, as it lies, four rows at a time, and the lanes of a vector run along K.

use crate::simd::products::{
    blocks::{Block, for_each_block, tasks},
    codes::Codes,
    isa::{Isa, Work, flip},
    panels::{corrections, steps},
};

/// Rows of `w` that are read side by side.
const COLS: usize = 4;

/// The product by streams.
pub(super) fn product<I: Isa>(
    isa: I,
    (a, a_signed): Codes,
    (w, w_signed): Codes,
    (m, n, words): (usize, usize, usize),
    out: &mut [i32],
) {
    let a = &steps::<I>(a, a_signed);
    let flipped = flip::<I>(a_signed, w_signed) != 0;
    let tasks = tasks(n * words * (m + 5) / 128);
    let cols = n.div_ceil(tasks).next_multiple_of(COLS);
    for_each_block(out, n, (m, cols), tasks, |out| {
        let task = Task { a, w, words, flipped, out };
        match (a_signed, w_signed) {
            (false, false) => isa.enter(Signed::<false, false>(task)),
            (false, true) => isa.enter(Signed::<false, true>(task)),
            (true, false) => isa.enter(Signed::<true, false>(task)),
            (true, true) => isa.enter(Signed::<true, true>(task)),
        }
    });
}

/// Some columns of outputs.
struct Task<'a> {
    a: &'a [u32],
    w: &'a [u32],
    words: usize,
    flipped: bool,
    out: Block<'a, i32>,
}

/// A task, and whether `a` and `w` are signed.
struct Signed<'a, const A_SIGNED: bool, const W_SIGNED: bool>(Task<'a>);

impl<const A_SIGNED: bool, const W_SIGNED: bool> Work for Signed<'_, A_SIGNED, W_SIGNED> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Task { a, w, words, flipped, mut out } = self.0;
        let (rows, cols) = (out.rows.len(), out.cols.clone());
        let mut starts = vec![0; rows];
        if flipped {
            corrections::<I, A_SIGNED>(isa, a, &mut starts);
        }
        for col in cols.clone().step_by(COLS) {
            // Columns that are not there repeat the last.
            let w =
                [0, 1, 2, 3].map(|c| w[(col + c).min(cols.end - 1) * words..][..words].as_ptr());
            let mut row = 0;
            while row < rows {
                let left = rows - row;
                let a = a[row * words * I::STEPS..][..left * words * I::STEPS].as_ptr();
                let mut put = |sums: &[[i32; COLS]]| {
                    for sums in sums {
                        let to = out.row(row)[col - cols.start..].iter_mut();
                        to.zip(sums).for_each(|(to, sum)| *to = sum.wrapping_add(starts[row]));
                        row += 1;
                    }
                };
                // SAFETY: as many rows of `a` are left; they and the rows of `w` have `words` words each.
                unsafe {
                    if I::TILE.0 >= 8 && left >= 4 {
                        put(&dots::<I, A_SIGNED, W_SIGNED, 4>(isa, a, w, words));
                    } else if left >= 2 {
                        put(&dots::<I, A_SIGNED, W_SIGNED, 2>(isa, a, w, words));
                    } else {
                        put(&dots::<I, A_SIGNED, W_SIGNED, 1>(isa, a, w, words));
                    }
                }
            }
        }
    }
}

/// `R` rows of four outputs.
///
/// # Safety
///
/// All rows must have `words` words, those of `a` one after another, as steps.
#[inline(always)]
unsafe fn dots<I: Isa, const A_SIGNED: bool, const W_SIGNED: bool, const R: usize>(
    isa: I,
    a: *const u32,
    w: [*const u32; COLS],
    words: usize,
) -> [[i32; COLS]; R] {
    let vector = I::LANES / I::STEPS;
    let full = words / vector * vector;
    let mut sums = [[isa.splat(0); COLS]; R];
    // SAFETY: the caller answers for the rows, and the words are within them.
    unsafe {
        for at in (0..full).step_by(vector) {
            step::<I, A_SIGNED, W_SIGNED, R>(isa, a, w, words, (at, vector), &mut sums);
        }
        if full < words {
            step::<I, A_SIGNED, W_SIGNED, R>(isa, a, w, words, (full, words - full), &mut sums);
        }
    }
    let mut totals = [[0; COLS]; R];
    for (total, sums) in totals.iter_mut().zip(sums) {
        *total = isa.sums(sums);
    }
    totals
}

/// Adds the products of `count` words from `at` on.
///
/// # Safety
///
/// As above, and the words must be within the rows.
#[inline(always)]
unsafe fn step<I: Isa, const A_SIGNED: bool, const W_SIGNED: bool, const R: usize>(
    isa: I,
    a: *const u32,
    w: [*const u32; COLS],
    words: usize,
    (at, count): (usize, usize),
    sums: &mut [[I::V; COLS]; R],
) {
    // SAFETY: the caller answers for all of it.
    unsafe {
        let mut rows = [isa.splat(0); R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = isa.load(a.add((r * words + at) * I::STEPS), count * I::STEPS);
        }
        for (c, w) in w.into_iter().enumerate() {
            let w = isa.codes::<A_SIGNED, W_SIGNED>(w.add(at), count);
            for (sums, row) in sums.iter_mut().zip(rows) {
                sums[c] = isa.dot::<A_SIGNED>(sums[c], row, w);
            }
        }
    }
}
