//! The least error of any palette in whole numbers, and inputs on which floating point goes wrong.

use crate::{
    DType,
    decide::kmeans::{Bins, Palette, palette},
    dtype,
};

/// A whole number of 832 bits, the lowest first.
type Whole = [u64; 13];

fn add(mut a: Whole, b: &Whole) -> Whole {
    let mut carry = 0;
    for (a, b) in a.iter_mut().zip(b) {
        let sum = u128::from(*a) + u128::from(*b) + carry;
        (*a, carry) = (sum as u64, sum >> 64);
    }
    assert_eq!(carry, 0);
    a
}

fn subtract(mut a: Whole, b: &Whole) -> Whole {
    let mut borrow = false;
    for (a, b) in a.iter_mut().zip(b) {
        let (difference, under) = a.overflowing_sub(*b);
        let (difference, again) = difference.overflowing_sub(borrow.into());
        (*a, borrow) = (difference, under || again);
    }
    assert!(!borrow);
    a
}

fn multiply(a: &Whole, b: &Whole) -> Whole {
    let mut product = [0; 13];
    for (i, a) in a.iter().enumerate().filter(|(_, a)| **a > 0) {
        let mut carry = 0;
        for (j, b) in b.iter().enumerate() {
            let Some(place) = product.get_mut(i + j) else {
                assert!(*b == 0 && carry == 0);
                continue;
            };
            let sum = u128::from(*place) + u128::from(*a) * u128::from(*b) + carry;
            (*place, carry) = (sum as u64, sum >> 64);
        }
    }
    product
}

fn divide(mut a: Whole, b: u64) -> Whole {
    let mut rest = 0;
    for a in a.iter_mut().rev() {
        let part = rest << 64 | u128::from(*a);
        (*a, rest) = ((part / u128::from(b)) as u64, part % u128::from(b));
    }
    a
}

fn whole(value: u64) -> Whole {
    let mut all = [0; 13];
    all[0] = value;
    all
}

fn compare(a: &Whole, b: &Whole) -> std::cmp::Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

/// The magnitude of an f32, in units of the smallest one.
fn units(value: f64) -> Whole {
    let bits = (value.abs() as f32).to_bits();
    assert_eq!(f64::from(f32::from_bits(bits)), value.abs(), "an f32 value");
    let (exponent, mantissa) = ((bits >> 23).max(1) - 1, u64::from(bits & 0x7f_ffff));
    let mantissa = if bits >> 23 > 0 { mantissa | 1 << 23 } else { mantissa };
    let (place, shift) = (exponent as usize / 64, exponent % 64);
    let mut all = [0; 13];
    let shifted = u128::from(mantissa) << shift;
    (all[place], all[place + 1]) = (shifted as u64, (shifted >> 64) as u64);
    all
}

/// Errors in units of 2^-362: rounded down by less than 2^-63 of the least there is.
struct Errors {
    values: Vec<Whole>,
    weights: Vec<u64>,
}

impl Errors {
    fn new(bins: &Bins) -> Self {
        // From the lowest value on, so that nothing is negative.
        let lowest = bins.values[0];
        let above = |v: &f64| match (*v < 0.0, lowest < 0.0) {
            (true, _) => subtract(units(lowest), &units(*v)),
            (false, true) => add(units(lowest), &units(*v)),
            (false, false) => subtract(units(*v), &units(lowest)),
        };
        let weights = bins.weights.iter().map(|w| *w as u64).collect();
        Self { values: bins.values.iter().map(above).collect(), weights }
    }

    /// Of runs that start at i, one for every end.
    fn from(&self, i: usize) -> Vec<Whole> {
        let (mut weight, mut moment, mut square) = (0u64, [0; 13], [0; 13]);
        let runs = self.values[i..].iter().zip(&self.weights[i..]).map(|(v, w)| {
            let moment_of = multiply(v, &whole(*w));
            weight += w;
            moment = add(moment, &moment_of);
            square = add(square, &multiply(&moment_of, v));
            let over = subtract(multiply(&square, &whole(weight)), &multiply(&moment, &moment));
            let mut finer = [0; 13];
            finer[1..].copy_from_slice(&over[..12]);
            assert_eq!(over[12], 0);
            divide(finer, weight)
        });
        runs.collect()
    }

    /// Of the best partition into so many runs, for every number of them up to k.
    fn least(&self, k: usize) -> Vec<Whole> {
        let n = self.values.len();
        let runs: Vec<Vec<Whole>> = (0..n).map(|i| self.from(i)).collect();
        let mut best: Vec<Option<Whole>> = vec![None; n + 1];
        best[0] = Some([0; 13]);
        let layer = |_| {
            let mut next = vec![None; n + 1];
            for j in 1..=n {
                let ways = (0..j).filter_map(|i| Some(add(best[i]?, &runs[i][j - 1 - i])));
                next[j] = ways.min_by(compare);
            }
            best = next;
            best[n].expect("no more runs than values")
        };
        (1..=k).map(layer).collect()
    }

    /// Of the partition that a palette makes.
    fn of(&self, bins: &Bins, palette: &Palette) -> Whole {
        let cut = |t: &f32| bins.values.partition_point(|v| *v <= f64::from(*t));
        let mut cuts: Vec<usize> = palette.thresholds.iter().map(cut).collect();
        cuts.insert(0, 0);
        cuts.push(bins.values.len());
        let runs = cuts.windows(2).filter(|c| c[0] < c[1]);
        runs.fold([0; 13], |sum, c| add(sum, &self.from(c[0])[c[1] - c[0] - 1]))
    }
}

/// Checks that palettes of some numbers of entries have the least error, but for one part in 2^30.
fn check(what: &str, values: &[f32], weights: impl Fn(usize) -> u64) {
    let mut sorted: Vec<(f64, f64)> =
        values.iter().enumerate().map(|(i, v)| (f64::from(*v), weights(i) as f64)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins = Bins::of_sorted(sorted);
    let n = bins.values.len();
    let errors = Errors::new(&bins);
    let least = errors.least(12.min(n - 1));
    for (k, least) in (1..).zip(&least) {
        let p = palette(&bins, k, DType::F32);
        let found = errors.of(&bins, &p);
        let allowed = add(*least, &divide(*least, 1 << 30));
        assert!(compare(&found, &allowed).is_le(), "{what}, k = {k} of {n}: {p:?}");
    }
}

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn worked_example() {
    // {0, 1} and {10, 11, 15}: errors 1/2 and 14.
    let bins = Bins { values: vec![0.0, 1.0, 10.0, 11.0, 15.0], weights: vec![1.0; 5] };
    let least = Errors::new(&bins).least(2)[1];
    // 14.5 units of 2^-298, the square of an f32's, with 64 bits below.
    let mut expected = multiply(&whole(29), &units(1.0));
    expected = multiply(&expected, &units(1.0));
    let mut finer = [0; 13];
    finer[1..].copy_from_slice(&expected[..12]);
    assert_eq!(least, divide(finer, 2));
    // And a partition that is not the best has more.
    let worse = Palette { entries: vec![5.5, 13.0], thresholds: vec![10.5] };
    let worse = Errors::new(&bins).of(&bins, &worse);
    assert!(compare(&worse, &least).is_gt());
}

#[test]
fn outliers_of_every_ratio_leave_the_rest_its_optimum() {
    for power in 4..=39 {
        for seed in 0..4 {
            let mut random = noise(40 * power + seed);
            let mut values: Vec<f32> = (0..36).map(|_| (0.04 * random() - 0.02) as f32).collect();
            let outlier = (0.02 * 10f64.powi(power as i32)).min(3e38) as f32;
            match seed {
                0 => values.extend([outlier; 3]),
                1 => values.extend([-outlier; 3]),
                2 => values.extend([-outlier, outlier, 0.7 * outlier]),
                // Neighbours of an outlier, which share an entry or do not.
                _ => values.extend([-outlier, -outlier.next_down(), 0.9 * outlier]),
            }
            check(&format!("10^{power}, {seed}"), &values, |_| 1);
            check(&format!("10^{power}, {seed}, weighted"), &values, |i| 1 + (i * i) as u64 % 17);
            check(&format!("10^{power}, {seed}, often"), &values, |i| match i {
                0..36 => 1 << 30,
                _ => 1,
            });
        }
    }
}

#[test]
fn clusters_of_every_scale_take_the_entries_that_lower_the_error_most() {
    for seed in 0..20 {
        let mut random = noise(1000 + seed);
        let mut cluster = |at: f64, width: f64, n: usize| -> Vec<f32> {
            (0..n).map(|_| (at + width * (random() - 0.5)) as f32).collect()
        };
        let clusters = [
            [(1e-38, 1e-39), (1e-20, 1e-21), (1.0, 0.1), (1e20, 1e19), (3e38, 1e37)],
            [(-3e38, 1e37), (-1e9, 1e2), (0.0, 1e-3), (1e9, 1e2), (3e38, 1e37)],
            [(-1.0, 1e-6), (0.0, 1e-30), (1.0, 1e-6), (1e4, 1e-2), (1e8, 1e3)],
            [(1e30, 1e24), (1e30, 1e25), (2e30, 1e24), (-1e30, 1e24), (-1e-30, 1e-30)],
        ];
        for (c, clusters) in clusters.iter().enumerate() {
            let values: Vec<f32> =
                clusters.iter().flat_map(|(at, width)| cluster(*at, *width, 7)).collect();
            check(&format!("clusters {c}, {seed}"), &values, |_| 1);
            check(&format!("clusters {c}, {seed}, weighted"), &values, |i| {
                [1, 1_000_000, 1 << 40, 7][i % 4]
            });
        }
        let wide: Vec<f32> = (0..40)
            .map(|_| {
                let magnitude = 10f64.powf(76.0 * random() - 38.0);
                (if random() < 0.5 { magnitude } else { -magnitude }) as f32
            })
            .collect();
        check(&format!("every magnitude, {seed}"), &wide, |_| 1);
        let tiny: Vec<f32> =
            (0..40).map(|i| f32::from_bits((random() * 99.0) as u32 | ((i % 2) << 31))).collect();
        check(&format!("subnormal, {seed}"), &tiny, |_| 1);
    }
}

#[test]
fn a_massive_weight_leaves_the_rest_its_optimum() {
    for power in 0..=44 {
        for seed in 0..4 {
            let mut random = noise(4000 + 40 * power + seed);
            let values: Vec<f32> = (0..40).map(|_| (0.04 * random() - 0.02) as f32).collect();
            check(&format!("2^{power}, {seed}"), &values, |i| match i % 10 {
                0 => 10 << power,
                _ => 10 + i as u64 % 3,
            });
        }
    }
}

#[test]
fn narrow_types_of_every_pattern_have_their_optimum() {
    for dtype in [DType::BF16, DType::F16, DType::F8E4M3, DType::F8E5M2] {
        let patterns = 1u32 << dtype.bits();
        for seed in 0..24 {
            let mut random = noise(7000 + seed);
            let mut values = Vec::new();
            while values.len() < 40 {
                let mut value = [0.0];
                dtype::decode(dtype, &[(random() * f64::from(patterns)) as u32], 0, &mut value);
                values.extend(value.iter().filter(|v| v.is_finite()));
            }
            check(&format!("{} {seed}", dtype.name()), &values, |i| 1 + (i * 7) as u64 % 1000);
        }
    }
}

#[test]
fn three_outliers_among_8192_weights_cost_one_entry() {
    let mut random = noise(3);
    let mut body: Vec<f64> = (0..8189)
        .map(|_| {
            let gaussian =
                (-2.0 * random().max(1e-18).ln()).sqrt() * (std::f64::consts::TAU * random()).cos();
            f64::from((0.02 * gaussian) as f32)
        })
        .collect();
    body.sort_by(f64::total_cmp);
    let error = |p: &Palette| -> f64 {
        let entry = |v: &f64| p.thresholds.partition_point(|t| f64::from(*t) < *v);
        let of = |v: &f64| v - f64::from(p.entries[entry(v)]);
        body.iter().map(|v| of(v) * of(v)).sum()
    };
    for k in [16, 256] {
        let rest = palette(&Bins::of_sorted(body.iter().map(|v| (*v, 1.0))), k - 1, DType::F32);
        let least = error(&rest);
        for power in (4..=40).step_by(6) {
            let outlier = f64::from((10f64.powi(power).min(3.4e38)) as f32);
            let low = [-outlier; 3].into_iter().chain(body.iter().copied());
            let high = body.iter().copied().chain([outlier; 3]);
            for sorted in [low.collect::<Vec<_>>(), high.collect()] {
                let bins = Bins::of_sorted(sorted.into_iter().map(|v| (v, 1.0)));
                let found = error(&palette(&bins, k, DType::F32));
                assert!(found <= least * 1.000_001, "10^{power}, k = {k}: {}", found / least);
            }
        }
    }
}
