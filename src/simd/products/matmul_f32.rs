use crate::simd::products::{
    blocks::{Block, for_each_block, tasks},
    floats::{FloatWork, Floats, LANES, Plain},
};

/// Multiplies two matrices of f32.
///
/// `out[i, j] = sum_k x[i, k] w[j, k]`
///
/// - `x`: `[m, k]`, `w`: `[n, k]`.
/// - `out`: `[m, n]`.
///
/// The same bits on every machine, with any number of threads, whatever the other rows: sixteen sums of every sixteenth product,
/// products and sums rounded apart, are added pairwise: a term meets `r = ceil(K / 16) + 5` roundings, so that the result is within
/// `r 2^-24 / (1 - r 2^-24) sum_k |x w|` of the exact sum.
pub(crate) fn matmul_f32(x: &[f32], w: &[f32], (m, n, k): (usize, usize, usize), out: &mut [f32]) {
    assert!(x.len() == m * k && w.len() == n * k && out.len() == m * n);
    if out.is_empty() || k == 0 {
        return out.fill(0.0);
    }
    #[cfg(target_arch = "x86_64")]
    {
        use super::floats::{Avx, Avx512};
        if let Some(floats) = Avx512::detect() {
            return product(floats, x, w, (m, n, k), out);
        }
        if let Some(floats) = Avx::detect() {
            return product(floats, x, w, (m, n, k), out);
        }
    }
    product(Plain, x, w, (m, n, k), out);
}

/// Columns of a tile.
const COLS: usize = 4;

/// Elements of `x` that a task goes through for every four rows of `w`: they stay in the second cache.
const TASK: usize = 1 << 16;

fn product<F: Floats>(
    floats: F,
    x: &[f32],
    w: &[f32],
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
) {
    let tasks = tasks(n * k * (m + 8) / 64);
    let most = (TASK / k).clamp(12, 96);
    let rows = m.div_ceil(m.div_ceil(most)).next_multiple_of(6);
    let cols = n.div_ceil(tasks.div_ceil(m.div_ceil(rows))).next_multiple_of(COLS);
    for_each_block(out, n, (rows, cols), tasks, |out| floats.enter(Task { x, w, k, out }));
}

/// Some rows and columns of outputs.
struct Task<'a> {
    x: &'a [f32],
    w: &'a [f32],
    k: usize,
    out: Block<'a, f32>,
}

impl FloatWork for Task<'_> {
    #[inline(always)]
    fn run<F: Floats>(self, floats: F) {
        let Self { x, w, k, mut out } = self;
        let (rows, cols) = (out.rows.clone(), out.cols.clone());
        for col in cols.clone().step_by(COLS) {
            // Columns that are not there repeat the last.
            let w = [0, 1, 2, 3].map(|c| w[(col + c).min(cols.end - 1) * k..][..k].as_ptr());
            let mut row = 0;
            while row < rows.len() {
                let left = rows.len() - row;
                let x = x[(rows.start + row) * k..][..left * k].as_ptr();
                let mut put = |sums: &[[f32; COLS]]| {
                    for sums in sums {
                        let to = &mut out.row(row)[col - cols.start..];
                        let there = to.len().min(COLS);
                        to[..there].copy_from_slice(&sums[..there]);
                        row += 1;
                    }
                };
                // SAFETY: as many rows of `x` are left; they and the rows of `w` have `k` elements each.
                unsafe {
                    if F::ROWS >= 6 && left >= 6 {
                        put(&dots::<F, 6>(floats, x, w, k));
                    } else if F::ROWS >= 4 && left >= 4 {
                        put(&dots::<F, 4>(floats, x, w, k));
                    } else if F::ROWS >= 2 && left >= 2 {
                        put(&dots::<F, 2>(floats, x, w, k));
                    } else {
                        put(&dots::<F, 1>(floats, x, w, k));
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
/// All rows must have `k` elements, those of `x` one after another.
#[inline(always)]
unsafe fn dots<F: Floats, const R: usize>(
    floats: F,
    x: *const f32,
    w: [*const f32; COLS],
    k: usize,
) -> [[f32; COLS]; R] {
    let mut sums = [[floats.zero(); COLS]; R];
    let full = k / LANES * LANES;
    // SAFETY: the caller answers for the rows, and the elements are within them.
    unsafe {
        for at in (0..full).step_by(LANES) {
            step::<F, R>(floats, x, w, k, at, LANES, &mut sums);
        }
        if full < k {
            step::<F, R>(floats, x, w, k, full, k - full, &mut sums);
        }
    }
    let mut totals = [[0.0; COLS]; R];
    for (total, sums) in totals.iter_mut().zip(sums) {
        *total = floats.totals(sums);
    }
    totals
}

/// # Safety
///
/// As above.
#[inline(always)]
unsafe fn step<F: Floats, const R: usize>(
    floats: F,
    x: *const f32,
    w: [*const f32; COLS],
    k: usize,
    at: usize,
    count: usize,
    sums: &mut [[F::V; COLS]; R],
) {
    // SAFETY: the caller answers for all of it.
    unsafe {
        let mut rows = [floats.zero(); R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = floats.load(x.add(r * k + at), count);
        }
        for (c, w) in w.into_iter().enumerate() {
            let w = floats.load(w.add(at), count);
            for (sums, row) in sums.iter_mut().zip(rows) {
                sums[c] = floats.mul_add(sums[c], row, w);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(0x3f80_0000 | (state >> 9)) - 1.5
        };
        // Of very different magnitudes.
        (0..count).map(|i| random() * [1.0, 1e-3, 300.0][i % 3]).collect()
    }

    /// The sum as the contract describes it.
    fn described(x: &[f32], w: &[f32]) -> f32 {
        let mut v = [0.0; LANES];
        for (k, (x, w)) in x.iter().zip(w).enumerate() {
            v[k % LANES] += x * w;
        }
        let quarter = |q: usize| (v[4 * q] + v[4 * q + 2]) + (v[4 * q + 1] + v[4 * q + 3]);
        (quarter(0) + quarter(2)) + (quarter(1) + quarter(3))
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn check<F: Floats>(name: &str) {
        let Some(floats) = F::detect() else {
            return eprintln!("SKIPPED: this machine has no {name}");
        };
        let sizes = [1, 2, 3, 4, 5, 6, 7, 11, 13, 97];
        for (i, m) in sizes.into_iter().enumerate() {
            for (j, n) in sizes.into_iter().enumerate() {
                let k = [1, 2, 15, 16, 17, 31, 32, 33, 100][(i + 2 * j) % 9];
                let (x, w) = (noise(1, m * k), noise(2, n * k));
                let mut got = vec![f32::NAN; m * n];
                product(floats, &x, &w, (m, n, k), &mut got);
                for at in 0..m * n {
                    let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
                    let expected = described(x, w);
                    assert_eq!(
                        got[at].to_bits(),
                        expected.to_bits(),
                        "{name}, {m} x {n} x {k}: [{at}] is {}, not {expected}",
                        got[at]
                    );
                }
            }
        }
    }

    #[test]
    fn every_machine_adds_in_the_same_order() {
        check::<Plain>("plain code");
        #[cfg(target_arch = "x86_64")]
        {
            check::<crate::simd::products::floats::Avx512>("AVX-512");
            check::<crate::simd::products::floats::Avx>("AVX");
        }
    }

    #[test]
    fn sums_are_within_their_bound() {
        for (m, n, k) in [(3, 5, 1), (7, 9, 100), (2, 3, 5000)] {
            let (x, w) = (noise(3, m * k), noise(4, n * k));
            let mut got = vec![f32::NAN; m * n];
            matmul_f32(&x, &w, (m, n, k), &mut got);
            for at in 0..m * n {
                let products = x[at / n * k..][..k].iter().zip(&w[at % n * k..][..k]);
                let products: Vec<f64> =
                    products.map(|(x, w)| f64::from(*x) * f64::from(*w)).collect();
                let error = (products.iter().sum::<f64>() - f64::from(got[at])).abs();
                let magnitude: f64 = products.iter().map(|p| p.abs()).sum();
                let r = (k.div_ceil(16) + 5) as f64 * 2f64.powi(-24);
                assert!(error <= r / (1.0 - r) * magnitude, "{m} x {n} x {k}");
            }
        }
    }

    #[test]
    fn neither_threads_nor_other_rows_change_a_bit() {
        let (m, n, k) = (101, 203, 333);
        let (x, w) = (noise(5, m * k), noise(6, n * k));
        let run = |threads: usize, rows: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![f32::NAN; rows * n];
            pool.install(|| matmul_f32(&x[..rows * k], &w, (rows, n, k), &mut out));
            bits(&out)
        };
        let expected = run(1, m);
        for (threads, rows) in [(2, m), (5, m), (1, 1), (1, 2), (2, 7), (3, 64)] {
            assert_eq!(run(threads, rows), expected[..rows * n], "{threads} threads, {rows} rows");
        }
    }

    #[test]
    fn nothing_is_zero_and_what_is_not_finite_stays_so() {
        let mut out = [f32::NAN; 2];
        matmul_f32(&[], &[], (1, 2, 0), &mut out);
        assert_eq!(out, [0.0, 0.0]);
        matmul_f32(&[f32::INFINITY, 0.0], &[1.0, 2.0, 0.0, 3.0], (1, 2, 2), &mut out);
        assert!(out[0] == f32::INFINITY && out[1].is_nan());
        matmul_f32(&[], &[1.0], (0, 1, 1), &mut []);
    }
}
