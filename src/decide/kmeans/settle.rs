//! Lloyd's iteration from a palette that is nearly optimal: boundaries move to the middle of centroids, and these to the means
//! of their runs, until none does.
//!
//! Source: Lloyd 1982, "Least squares quantization in PCM", IEEE Trans. IT 28(2).

use crate::decide::kmeans::Bins;

/// Most steps. One costs little: it looks at the boundaries alone.
const STEPS: usize = 1000;

/// Moves ascending centroids; the error does not grow.
pub(super) fn settle(bins: &Bins, centroids: &mut [f64]) {
    let (values, weights) = (&bins.values, &bins.weights);
    let middle = |centroids: &[f64], q: usize| 0.5 * (centroids[q] + centroids[q + 1]);
    let inner = centroids.len() - 1;
    let at = |q| values.partition_point(|v| *v <= middle(centroids, q));
    let mut cuts: Vec<usize> = (0..inner).map(at).collect();
    cuts.push(values.len());
    // Weight and moment of each run, around where its centroid was: what moves is added here and taken off there.
    let around = centroids.to_vec();
    let mut sums = vec![[0.0; 2]; centroids.len()];
    let add = |sums: &mut [[f64; 2]], run: usize, i: usize, sign: f64| {
        sums[run][0] += sign * weights[i];
        sums[run][1] += sign * weights[i] * (values[i] - around[run]);
    };
    let mut start = 0;
    for (run, end) in cuts.iter().enumerate() {
        (start..*end).for_each(|i| add(&mut sums, run, i, 1.0));
        start = *end;
    }
    for _ in 0..STEPS {
        for ((centroid, around), [weight, moment]) in centroids.iter_mut().zip(&around).zip(&sums) {
            if *weight > 0.0 {
                *centroid = around + moment / weight;
            }
        }
        let mut moved = false;
        for q in 0..inner {
            let middle = middle(centroids, q);
            let (low, high) = (if q > 0 { cuts[q - 1] } else { 0 }, cuts[q + 1]);
            let before = cuts[q];
            while cuts[q] < high && values[cuts[q]] <= middle {
                add(&mut sums, q + 1, cuts[q], -1.0);
                add(&mut sums, q, cuts[q], 1.0);
                cuts[q] += 1;
            }
            while cuts[q] > low && values[cuts[q] - 1] > middle {
                cuts[q] -= 1;
                add(&mut sums, q, cuts[q], -1.0);
                add(&mut sums, q + 1, cuts[q], 1.0);
            }
            moved |= cuts[q] != before;
        }
        if !moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        // From 2 and 9, with 4 on the left of 5.5; then 5 comes over.
        let bins = Bins { values: vec![0.0, 4.0, 5.0, 9.0, 12.0], weights: vec![1.0; 5] };
        let mut centroids = [2.0, 9.0];
        settle(&bins, &mut centroids);
        assert_eq!(centroids, [3.0, 10.5]);
        // One centroid, and one that no value takes.
        let mut one = [7.0];
        settle(&bins, &mut one);
        assert_eq!(one, [6.0]);
        let mut idle = [6.0, 100.0];
        settle(&bins, &mut idle);
        assert_eq!(idle, [6.0, 100.0]);
    }
}
