//! How far restored weights are from their source: f64, in one fixed order, whatever the machine and the number of threads.

use crate::report::ErrorReport;
use multiversion::multiversion;

/// Sums that run side by side; their number, not the machine's, fixes the order of additions.
const LANES: usize = 16;

/// Where everything is smaller than this, squares could underflow.
const TINY: f64 = 1e-120;

/// Sums over some rows of a source W and its restored Q.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    elements: u64,
    /// Restored elements that are not zero.
    nonzero: u64,
    absolute_error: f64,
    largest_error: f64,
    squares: Squares,
    /// Per column: Σ |w - q|.
    column_error: Vec<f64>,
    /// Per column: Σ |w|.
    column_weight: Vec<f64>,
}

/// Sums of products of two numbers, each taken times 2^scale.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    scale: i32,
    /// Σ (w - q)²
    error: f64,
    /// Σ w²
    weight: f64,
    /// Σ w (w - q)
    weight_error: f64,
}

impl Squares {
    /// The sums with another, not larger, scale.
    fn scaled(self, scale: i32) -> Self {
        let to = |x: f64| libm::ldexp(x, 2 * (scale - self.scale));
        let (error, weight) = (to(self.error), to(self.weight));
        Self { scale, error, weight, weight_error: to(self.weight_error) }
    }

    /// The sums of both: with the scale of the larger numbers, beside which the squares of much smaller ones are nothing.
    fn add(self, next: Self) -> Self {
        let is_zero = |s: &Self| s.error == 0.0 && s.weight == 0.0;
        let scale = match (is_zero(&self), is_zero(&next)) {
            (true, _) => next.scale,
            (_, true) => self.scale,
            _ => self.scale.min(next.scale),
        };
        let (a, b) = (self.scaled(scale), next.scaled(scale));
        Self {
            scale,
            error: a.error + b.error,
            weight: a.weight + b.weight,
            weight_error: a.weight_error + b.weight_error,
        }
    }
}

impl Sums {
    /// The sums over `rows` rows of `cols` weights, all but how many are not zero. Pairs are asked for a part of a row at a time.
    pub fn of<T: Copy + Into<f64>>(rows: usize, cols: usize, mut pairs: impl Pairs<T>) -> Self {
        let mut sums = Self {
            column_error: vec![0.0; cols],
            column_weight: vec![0.0; cols],
            ..Self::default()
        };
        let mut lanes = Lanes::default();
        // Down a strip of columns, so that its column sums stay in the first cache too.
        for start in (0..cols).step_by(PART) {
            let len = PART.min(cols - start);
            let (errors, weights) = (
                &mut sums.column_error[start..start + len],
                &mut sums.column_weight[start..start + len],
            );
            for row in 0..rows {
                let (w, q) = pairs.part(row * cols + start, len);
                add_row(w, q, &mut lanes, errors, weights);
            }
        }
        let sum = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>();
        sums.elements = (rows * cols) as u64;
        sums.absolute_error = sum(&lanes.absolute_error);
        sums.largest_error = lanes.largest_error.iter().fold(0.0, |a, b| larger(a, *b));
        sums.squares = Squares {
            scale: 0,
            error: sum(&lanes.squared_error),
            weight: sum(&lanes.squared_weight),
            weight_error: sum(&lanes.weight_error),
        };
        let columns = sums.column_error.iter().chain(&sums.column_weight);
        let largest = columns.fold(0.0, |a, b| larger(a, *b));
        if largest > 0.0 && largest < TINY {
            // Only F64 comes here. Once more, with the largest near 1.
            let (mut squares, (_, exponent)) = (Squares::default(), libm::frexp(largest));
            squares.scale = (-exponent).min(1000);
            let factor = libm::ldexp(1.0, squares.scale);
            for start in (0..cols).step_by(PART) {
                let len = PART.min(cols - start);
                for row in 0..rows {
                    let (w, q) = pairs.part(row * cols + start, len);
                    for (w, q) in w.iter().zip(q) {
                        let (w, error) = ((*w).into(), (*w).into() - (*q).into());
                        let (w, error): (f64, f64) = (w * factor, error * factor);
                        squares.error += error * error;
                        squares.weight += w * w;
                        squares.weight_error += w * error;
                    }
                }
            }
            sums.squares = squares;
        }
        sums
    }

    /// The sums over `rows` rows of `cols` weights, all but how many are not zero, with sums of f32 within a few of them: half the
    /// work, and exact to some six digits. None where squares could leave the range of f32.
    pub fn of_halves(rows: usize, cols: usize, source: &[Bf16], restored: &[Bf16]) -> Option<Self> {
        let (mut lanes, mut columns) = (Lanes::default(), [vec![0.0; cols], vec![0.0; cols]]);
        for start in (0..cols).step_by(PART) {
            let len = PART.min(cols - start);
            for row in (0..rows).step_by(BAND) {
                let shape = (BAND.min(rows - row), cols, len);
                let [w, q] = [source, restored].map(|all| &all[row * cols + start..]);
                let mut of_band = [[0.0f32; PART]; 2];
                add_band([w, q], shape, &mut lanes, &mut of_band);
                for (sums, of_band) in columns.iter_mut().zip(&of_band) {
                    let sums = &mut sums[start..start + len];
                    sums.iter_mut().zip(of_band).for_each(|(sum, part)| *sum += f64::from(*part));
                }
            }
        }
        let sum = |sums: &[f64]| sums.iter().sum::<f64>();
        let largest_error = lanes.largest_error.iter().fold(0.0, |a, b| larger(a, *b));
        let squares = Squares {
            scale: 0,
            error: sum(&lanes.squared_error),
            weight: sum(&lanes.squared_weight),
            weight_error: sum(&lanes.weight_error),
        };
        let [column_error, column_weight] = columns;
        let (absolute_error, weights) = (sum(&column_error), sum(&column_weight));
        let fits = |squares: f64, sizes: f64| match squares == 0.0 {
            true => sizes == 0.0,
            false => (1.0 / WIDE..=WIDE).contains(&squares),
        };
        let elements = (rows * cols) as u64;
        (fits(squares.error, largest_error) && fits(squares.weight, weights)).then_some(Self {
            elements,
            nonzero: 0,
            absolute_error,
            largest_error,
            squares,
            column_error,
            column_weight,
        })
    }

    /// The sums over rows that are in memory.
    #[cfg(test)]
    fn of_slices<T: Copy + Into<f64>>(source: &[T], restored: &[T], cols: usize) -> Self {
        let nonzero = restored.iter().filter(|q| (**q).into() != 0.0).count() as u64;
        Self::of(source.len() / cols, cols, Slices(source, restored)).with_nonzero(nonzero)
    }

    /// The same, with how many restored elements are not zero, which their patterns tell sooner than their values.
    pub fn with_nonzero(self, nonzero: u64) -> Self {
        Self { nonzero, ..self }
    }

    /// Adds the sums of the rows that follow.
    pub fn add(&mut self, next: &Self) {
        self.elements += next.elements;
        self.nonzero += next.nonzero;
        self.absolute_error += next.absolute_error;
        self.largest_error = larger(self.largest_error, next.largest_error);
        self.squares = self.squares.add(next.squares);
        if self.column_error.is_empty() {
            self.column_error.clone_from(&next.column_error);
            self.column_weight.clone_from(&next.column_weight);
            return;
        }
        self.column_error.iter_mut().zip(&next.column_error).for_each(|(a, b)| *a += b);
        self.column_weight.iter_mut().zip(&next.column_weight).for_each(|(a, b)| *a += b);
    }

    /// Replaces the column sums by their largest: for pieces of rows, whose columns are not those of the next piece.
    pub fn finish_columns(&mut self) {
        let largest = |sums: &[f64]| vec![sums.iter().fold(0.0, |a, b| larger(a, *b))];
        self.column_error = largest(&self.column_error);
        self.column_weight = largest(&self.column_weight);
    }

    /// Adds the sums of other columns, both finished.
    pub fn add_columns(&mut self, next: &Self) {
        let largest = |a: &[f64], b: &[f64]| a.iter().chain(b).fold(0.0, |a, b| larger(a, *b));
        let columns = (
            largest(&self.column_error, &next.column_error),
            largest(&self.column_weight, &next.column_weight),
        );
        let alone = Self { column_error: vec![], column_weight: vec![], ..next.clone() };
        self.column_error.clear();
        self.add(&alone);
        (self.column_error, self.column_weight) = (vec![columns.0], vec![columns.1]);
    }

    /// Of weights that came back bit for bit: how many there are, and how many are not zero.
    pub fn exact(elements: u64, nonzero: u64) -> Self {
        Self { elements, nonzero, ..Self::default() }
    }

    /// Share of restored elements that are not zero.
    pub fn density(&self) -> Option<f64> {
        (self.elements > 0).then(|| self.nonzero as f64 / self.elements as f64)
    }

    /// The metrics. Where the restored tensor is exact: error 0, `sqnr_db` null, `cosine` 1.
    pub fn report(&self) -> ErrorReport {
        let n = self.elements as f64;
        let largest = |sums: &[f64]| sums.iter().fold(0.0, |a, b| larger(a, *b));
        let (error, weight) = (largest(&self.column_error), largest(&self.column_weight));
        let squares = self.squares;
        let exact = squares.error == 0.0 && self.largest_error == 0.0;
        // Σ wq and Σ q² from Σ w², Σ w(w-q) and Σ (w-q)².
        let product = squares.weight - squares.weight_error;
        let restored = squares.weight - 2.0 * squares.weight_error + squares.error;
        let norms = (squares.weight * restored.max(0.0)).sqrt();
        ErrorReport {
            mse: Some(libm::ldexp(squares.error / n, -2 * squares.scale)),
            mean_abs_error: Some(self.absolute_error / n),
            max_abs_error: Some(self.largest_error),
            // Errors whose squares underflow beside the weights have no ratio that could be written.
            sqnr_db: (squares.error != 0.0 && squares.weight > 0.0)
                .then(|| 10.0 * (squares.weight / squares.error).log10()),
            cosine: Some(if exact {
                1.0
            } else if norms > 0.0 {
                product / norms
            } else {
                0.0
            }),
            rel_op_norm_1: Some(if exact { 0.0 } else { error / weight }),
            rel_error: Some(if exact { 0.0 } else { (squares.error / squares.weight).sqrt() }),
        }
    }
}

/// The larger of two, a NaN before anything.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

impl ErrorReport {
    /// What an exact copy has.
    pub const EXACT: Self = Self {
        mse: Some(0.0),
        mean_abs_error: Some(0.0),
        max_abs_error: Some(0.0),
        sqnr_db: None,
        cosine: Some(1.0),
        rel_op_norm_1: Some(0.0),
        rel_error: Some(0.0),
    };

    /// The same without metrics that are no finite numbers.
    pub fn finite(self) -> Self {
        let of = |metric: Option<f64>| metric.filter(|m| m.is_finite());
        Self {
            mse: of(self.mse),
            mean_abs_error: of(self.mean_abs_error),
            max_abs_error: of(self.max_abs_error),
            sqnr_db: of(self.sqnr_db),
            cosine: of(self.cosine),
            rel_op_norm_1: of(self.rel_op_norm_1),
            rel_error: of(self.rel_error),
        }
    }

    /// The first metric that is no finite number, by name.
    pub fn not_finite(&self) -> Option<(&'static str, f64)> {
        let all = [
            ("mse", self.mse),
            ("mean_abs_error", self.mean_abs_error),
            ("max_abs_error", self.max_abs_error),
            ("sqnr_db", self.sqnr_db),
            ("cosine", self.cosine),
            ("rel_op_norm_1", self.rel_op_norm_1),
            ("rel_error", self.rel_error),
        ];
        all.into_iter().filter_map(|(name, m)| m.map(|m| (name, m))).find(|(_, m)| !m.is_finite())
    }
}

/// Elements that are looked at together: a multiple of [`LANES`], so that parts do not change the order; few enough that their column
/// sums stay in the first cache.
const PART: usize = 512;

/// Where weights of the source and restored ones come from, as numbers that are exact.
pub trait Pairs<T> {
    /// `len` of both from number `first` on, at most [`PART`].
    fn part(&mut self, first: usize, len: usize) -> (&[T], &[T]);
}

/// Weights in memory, of a type that is a number already.
pub struct Slices<'a, T>(pub &'a [T], pub &'a [T]);

impl<T> Pairs<T> for Slices<'_, T> {
    fn part(&mut self, first: usize, len: usize) -> (&[T], &[T]) {
        (&self.0[first..first + len], &self.1[first..first + len])
    }
}

/// Weights that must be decoded first: `load(first, source, restored)` fills in those from `first` on.
pub struct Loaded<T, F> {
    buffers: [[T; PART]; 2],
    load: F,
}

impl<T: Copy + Default, F: FnMut(usize, &mut [T], &mut [T])> Loaded<T, F> {
    /// Those that a function loads.
    pub fn new(load: F) -> Self {
        Self { buffers: [[T::default(); PART]; 2], load }
    }
}

impl<T, F: FnMut(usize, &mut [T], &mut [T])> Pairs<T> for Loaded<T, F> {
    fn part(&mut self, first: usize, len: usize) -> (&[T], &[T]) {
        let [w, q] = self.buffers.each_mut().map(|buffer| &mut buffer[..len]);
        (self.load)(first, w, q);
        (w, q)
    }
}

/// A BF16, which is the upper half of an f32.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    #[inline(always)]
    fn widened(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl From<Bf16> for f64 {
    fn from(half: Bf16) -> Self {
        Self::from(half.widened())
    }
}

/// Sums of squares in f32 between this and its inverse, 2^100, have lost nothing that counts beside them.
const WIDE: f64 = 1.267_650_600_228_229_4e30;

/// Rows whose column sums are added up in f32, at most.
const BAND: usize = 128;

/// So many numbers of a lane are added up in f32, or some more.
const RUN: usize = 32;

#[derive(Clone, Copy, Default)]
struct Narrow {
    squared_error: [f32; LANES],
    largest_error: [f32; LANES],
    squared_weight: [f32; LANES],
    weight_error: [f32; LANES],
}

impl Narrow {
    /// Adds these to sums of f64, and begins anew.
    #[inline(always)]
    fn flush(&mut self, lanes: &mut Lanes) {
        for l in 0..LANES {
            lanes.squared_error[l] += f64::from(self.squared_error[l]);
            lanes.squared_weight[l] += f64::from(self.squared_weight[l]);
            lanes.weight_error[l] += f64::from(self.weight_error[l]);
            lanes.largest_error[l] = larger(lanes.largest_error[l], self.largest_error[l].into());
        }
        *self = Self::default();
    }

    #[inline(always)]
    fn add(&mut self, w: Bf16, q: Bf16, l: usize, error_sum: &mut f32, weight_sum: &mut f32) {
        let (w, q) = (w.widened(), q.widened());
        let error = w - q;
        let size = error.abs();
        self.squared_error[l] += error * error;
        self.largest_error[l] =
            if size > self.largest_error[l] { size } else { self.largest_error[l] };
        self.squared_weight[l] += w * w;
        self.weight_error[l] += w * error;
        *error_sum += size;
        *weight_sum += w.abs();
    }
}

/// The sums over `rows` rows of `len` weights, each `cols` after the one before.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_band(
    [source, restored]: [&[Bf16]; 2],
    (rows, cols, len): (usize, usize, usize),
    lanes: &mut Lanes,
    [column_error, column_weight]: &mut [[f32; PART]; 2],
) {
    let (mut sums, mut run) = (Narrow::default(), 0);
    let (errors, errors_rest) = column_error[..len].as_chunks_mut::<LANES>();
    let (weights, weights_rest) = column_weight[..len].as_chunks_mut::<LANES>();
    for row in 0..rows {
        let (w, w_rest) = source[row * cols..][..len].as_chunks::<LANES>();
        let (q, q_rest) = restored[row * cols..][..len].as_chunks::<LANES>();
        for (((w, q), errors), weights) in w.iter().zip(q).zip(&mut *errors).zip(&mut *weights) {
            for l in 0..LANES {
                sums.add(w[l], q[l], l, &mut errors[l], &mut weights[l]);
            }
        }
        for l in 0..w_rest.len() {
            sums.add(w_rest[l], q_rest[l], l, &mut errors_rest[l], &mut weights_rest[l]);
        }
        run += len.div_ceil(LANES);
        if run >= RUN {
            sums.flush(lanes);
            run = 0;
        }
    }
    sums.flush(lanes);
}

#[derive(Clone, Copy, Default)]
struct Lanes {
    squared_error: [f64; LANES],
    absolute_error: [f64; LANES],
    largest_error: [f64; LANES],
    squared_weight: [f64; LANES],
    weight_error: [f64; LANES],
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_row<T: Copy + Into<f64>>(
    source: &[T],
    restored: &[T],
    lanes: &mut Lanes,
    column_error: &mut [f64],
    column_weight: &mut [f64],
) {
    // A local copy stays in registers.
    let mut sums = *lanes;
    let (w, w_rest) = source.as_chunks::<LANES>();
    let (q, q_rest) = restored.as_chunks::<LANES>();
    let (errors, errors_rest) = column_error.as_chunks_mut::<LANES>();
    let (weights, weights_rest) = column_weight.as_chunks_mut::<LANES>();
    for (((w, q), errors), weights) in w.iter().zip(q).zip(errors).zip(weights) {
        for l in 0..LANES {
            add_one(w[l].into(), q[l].into(), l, &mut sums, &mut errors[l], &mut weights[l]);
        }
    }
    for l in 0..w_rest.len() {
        add_one(
            w_rest[l].into(),
            q_rest[l].into(),
            l,
            &mut sums,
            &mut errors_rest[l],
            &mut weights_rest[l],
        );
    }
    *lanes = sums;
}

#[inline(always)]
fn add_one(
    w: f64,
    q: f64,
    l: usize,
    lanes: &mut Lanes,
    column_error: &mut f64,
    column_weight: &mut f64,
) {
    let error = w - q;
    let size = error.abs();
    lanes.squared_error[l] += error * error;
    lanes.absolute_error[l] += size;
    // One instruction; that an error is no number shows in the sums.
    lanes.largest_error[l] =
        if size > lanes.largest_error[l] { size } else { lanes.largest_error[l] };
    lanes.squared_weight[l] += w * w;
    lanes.weight_error[l] += w * error;
    *column_error += size;
    *column_weight += w.abs();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        let (w, q) = ([3.0f32, -4.0, 0.0, 1.0], [3.0f32, -3.0, 0.0, 0.0]);
        let sums = Sums::of_slices(&w, &q, 2);
        let r = sums.report();
        assert_eq!((r.mse, r.mean_abs_error, r.max_abs_error), (Some(0.5), Some(0.5), Some(1.0)));
        // Columns: |w| sums to 3 and 5, the error to 0 and 2.
        assert_eq!(r.rel_op_norm_1, Some(0.4));
        assert!((r.cosine.unwrap() - 21.0 / (26.0f64 * 18.0).sqrt()).abs() < 1e-15);
        assert!((r.sqnr_db.unwrap() - 10.0 * 13f64.log10()).abs() < 1e-12);
        assert_eq!(sums.density(), Some(0.5));
    }

    #[test]
    fn what_averages_hide_is_seen() {
        // Vectors that an averaged error lets pass: overflow, underflow, one zeroed element in many.
        let r = Sums::of_slices(&[1e200f64; 4], &[-1e200; 4], 4).report();
        assert!(r.not_finite().is_some());
        let r = Sums::of_slices(&[1e-30f32; 4], &[7e-30; 4], 4).report();
        assert!(r.rel_error.unwrap() > 5.0);
        let mut q = vec![0.5f32; 1 << 16];
        q[12_345] = 0.0;
        assert_eq!(Sums::of_slices(&vec![0.5; 1 << 16], &q, 256).report().max_abs_error, Some(0.5));
        let r = Sums::of_slices(&[f32::NAN, 1.0], &[1.0, 1.0], 2).report();
        assert!(r.not_finite().is_some());
    }

    #[test]
    fn squares_do_not_underflow() {
        let r = Sums::of_slices(&[1e-200f64; 4], &[0.0; 4], 2).report();
        assert_eq!((r.rel_error, r.sqnr_db, r.cosine), (Some(1.0), Some(0.0), Some(0.0)));
        assert_eq!((r.rel_op_norm_1, r.max_abs_error, r.mse), (Some(1.0), Some(1e-200), Some(0.0)));
        // Errors of the last bit of the smallest numbers, and the ratio of the worked example.
        let tiny = |x: f64| x * f64::from_bits(1);
        let r =
            Sums::of_slices(&[3.0, -4.0, 0.0, 1.0].map(tiny), &[3.0, -3.0, 0.0, 0.0].map(tiny), 2);
        assert!((r.report().rel_error.unwrap() - (2.0f64 / 26.0).sqrt()).abs() < 1e-15);
        // Beside larger weights, in whichever order, they are nothing; beside zeros they are all there is.
        let small = Sums::of_slices(&[2e-200, 1e-200], &[1e-200, 1e-200], 2);
        for (w, q, expected) in [(1.0, 0.5, 0.5), (0.0, 0.0, 0.2f64.sqrt())] {
            let other = Sums::of_slices(&[w], &[q], 1);
            for (mut a, b) in [(small.clone(), other.clone()), (other, small.clone())] {
                a.finish_columns();
                a.add(&b);
                assert!((a.report().rel_error.unwrap() - expected).abs() < 1e-15, "{w}");
            }
        }
        // An error that has no square beside weights that do fails no metric.
        let r = Sums::of_slices(&[1.0, 1e-200], &[1.0, 0.0], 2).report();
        assert_eq!((r.not_finite(), r.rel_error, r.sqnr_db), (None, Some(0.0), None));
    }

    #[test]
    fn sums_of_halves_are_those_of_f64() {
        let half = |x: f32| Bf16((x.to_bits() >> 16) as u16);
        let weight = |i: usize, size: f32| half((i as f32 * 1.618).sin() * size);
        for (rows, cols) in [(1, 1), (3, 17), (300, 40), (5, 1100), (129, 512)] {
            for (size, step) in [(1.0, 0.01), (1e-3, 1e-5), (1e12, 1e9), (1e-12, 1e-13), (0.0, 1.0)]
            {
                let w: Vec<_> = (0..rows * cols).map(|i| weight(i, size)).collect();
                let near =
                    |(i, w): (usize, &Bf16)| half(w.widened() + weight(i * i, step).widened());
                let q: Vec<_> = w.iter().enumerate().map(near).collect();
                let found = Sums::of_halves(rows, cols, &w, &q).expect("in range").report();
                let expected = Sums::of(rows, cols, Slices(&w, &q)).report();
                let pairs = [
                    (found.mse, expected.mse),
                    (found.mean_abs_error, expected.mean_abs_error),
                    (found.sqnr_db, expected.sqnr_db),
                    (found.cosine, expected.cosine),
                    (found.rel_op_norm_1, expected.rel_op_norm_1),
                    (found.rel_error, expected.rel_error),
                ];
                assert_eq!(
                    found.max_abs_error,
                    expected.max_abs_error.map(|e| f64::from(e as f32))
                );
                for (a, b) in pairs.map(|(a, b)| (a.unwrap_or(0.0), b.unwrap_or(0.0))) {
                    assert!(a == b || (a - b).abs() <= 1e-6 * b.abs(), "{a} {b} {rows} {cols}");
                }
            }
        }
        // Squares that f32 does not hold, of weights or of errors alone.
        let (one, tiny, huge) = (half(1.0), half(1e-30), half(1e30));
        for (w, q) in [(tiny, one), (one, huge), (huge, huge), (tiny, tiny)] {
            assert!(Sums::of_halves(1, 1, &[w], &[q]).is_none());
        }
        assert!(Sums::of_halves(1, 2, &[one, tiny], &[one, half(0.0)]).is_none());
        assert!(Sums::of_halves(1, 1, &[half(f32::NAN)], &[one]).is_none());
    }

    #[test]
    fn exact_is_exact_and_parts_add_up() {
        let w: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        assert_eq!(Sums::of_slices(&w, &w, 10).report().cosine, Some(1.0));
        let q: Vec<f32> = w.iter().map(|w| (w * 10.0).round() / 10.0).collect();
        let whole = Sums::of_slices(&w, &q, 10).report();
        let mut parts = Sums::of_slices(&w[..500], &q[..500], 10);
        parts.add(&Sums::of_slices(&w[500..], &q[500..], 10));
        let parts = parts.report();
        assert!((whole.mse.unwrap() - parts.mse.unwrap()).abs() < 1e-15);
        assert!((whole.rel_op_norm_1.unwrap() - parts.rel_op_norm_1.unwrap()).abs() < 1e-12);
    }
}
