use std::{
    marker::PhantomData,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A rectangle of a row-major matrix that one task may write.
pub(super) struct Block<'a, T> {
    first: *mut T,
    stride: usize,
    /// Rows of the matrix that it spans.
    pub rows: Range<usize>,
    /// Columns of the matrix that it spans.
    pub cols: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` with gaps.
unsafe impl<T: Send> Send for Block<'_, T> {}

impl<T> Block<'_, T> {
    /// One row of the rectangle, counted from its first.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows.len());
        // SAFETY: the row lies in the matrix, and no other block has any of its elements (`for_each_block`).
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.cols.len())
        }
    }

    /// Its first element, and the distance from one row to the next.
    pub fn as_mut_ptr(&mut self) -> (*mut T, usize) {
        (self.first, self.stride)
    }
}

/// Cuts the matrix `out` of `n` columns into rectangles of at most `rows` x `cols` and does each one's work, on at most `tasks`
/// threads.
pub(super) fn for_each_block<T: Send>(
    out: &mut [T],
    n: usize,
    (rows, cols): (usize, usize),
    tasks: usize,
    work: impl Fn(Block<'_, T>) + Sync,
) {
    assert!(out.len().is_multiple_of(n) && rows > 0 && cols > 0);
    let (m, across) = (out.len() / n, n.div_ceil(cols));
    let matrix = Matrix(out.as_mut_ptr());
    share(m.div_ceil(rows) * across, tasks, &|block| {
        let matrix = &matrix;
        let (row, col) = (block / across * rows, block % across * cols);
        work(Block {
            // SAFETY: (row, col) is an element of the matrix.
            first: unsafe { matrix.0.add(row * n + col) },
            stride: n,
            rows: row..(row + rows).min(m),
            cols: col..(col + cols).min(n),
            matrix: PhantomData,
        });
    });
}

/// What waking a thread takes, in nanoseconds; in the tests little, so that small matrices are shared too.
const WAKING: usize = if cfg!(test) { 10 } else { 10_000 };

/// Tasks that are worth the while for work of so many nanoseconds.
pub(super) fn tasks(nanoseconds: usize) -> usize {
    match rayon::current_num_threads() {
        threads if threads > 1 && nanoseconds > 4 * WAKING => {
            (nanoseconds / WAKING).min(4 * threads)
        }
        _ => 1,
    }
}

/// Does pieces of work on this thread and, while there are more, on others, at most on `tasks`. This thread starts at once,
/// whether it is one of rayon's or not, so that little work does not wait for one to wake.
fn share(pieces: usize, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let take = || {
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                break;
            }
            work(piece);
        }
    };
    let threads = rayon::current_num_threads().min(tasks).min(pieces);
    if threads < 2 {
        return take();
    }
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| take());
        }
        take();
    });
}

/// The matrix that blocks are cut from.
struct Matrix<T>(*mut T);

// SAFETY: tasks take nothing from it but disjoint blocks.
unsafe impl<T: Send> Sync for Matrix<T> {}
