//! How work on the CPU is cut, and how much one invocation of a shader may do.

/// Iterations that an invocation may take in all its loops together: llvmpipe ends them silently after 65,535, and a card that
/// is kept busy for so long by one invocation is badly used anyway. Kernels cut their work or refuse it.
pub(crate) const ITERATIONS: usize = 65_535;

/// Folds values sixteen side by side: such loops become SIMD, and their order does not depend on the machine.
#[inline(always)]
pub(crate) fn sixteen<T: Copy, A: Copy>(
    values: &[T],
    start: A,
    fold: impl Fn(A, T) -> A,
) -> [A; 16] {
    let mut lanes = [start; 16];
    let whole = values.chunks_exact(16);
    for (lane, x) in lanes.iter_mut().zip(whole.remainder()) {
        *lane = fold(*lane, *x);
    }
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = fold(*lane, *x);
        }
    }
    lanes
}

/// Rows that one task of a CPU kernel takes: about a million elements, and a multiple of 4, so that tasks start on 32-bit
/// boundaries whatever the type.
pub(crate) fn task_rows(rows: usize, cols: usize) -> usize {
    let wanted = (1usize << 20).div_ceil(cols.max(1)).next_multiple_of(4);
    wanted.min(rows.next_multiple_of(4)).max(4)
}
