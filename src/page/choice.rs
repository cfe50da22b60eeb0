//! Which tensors have a histogram or a row: the worst and the largest, so that a page does not grow with the model.

use crate::{
    DType,
    inspect::{ArchivedSummary, TensorSummary},
    report::{Report, sums},
};
use std::{cmp::Reverse, collections::HashSet};

/// Histograms, at most: half of them of the worst tensors.
pub const MOST: usize = 24;

/// Of a job: the largest errors and the largest tensors of weights, by their numbers.
pub fn of_report(report: &Report) -> Vec<usize> {
    let able = |i: &usize| {
        let t = &report.tensors[*i];
        let weights = DType::parse(t.dtype).is_some_and(DType::is_weight);
        weights && sums::elements(t) > 0 && t.method.tied_to().is_none()
    };
    let error = |i: usize| report.tensors[i].error.rel_error.unwrap_or(0.0);
    of(
        (0..report.tensors.len()).filter(able).collect(),
        error,
        |i| sums::elements(&report.tensors[i]),
        MOST,
    )
}

/// Of a checkpoint: those with the largest share of outliers, and the largest.
pub fn of_summaries(tensors: &[&TensorSummary]) -> Vec<usize> {
    let able = (0..tensors.len()).filter(|i| tensors[*i].weights.is_some()).collect();
    let outliers = |i: usize| match &tensors[i].weights {
        Some(w) => w.outliers as f64 / tensors[i].elements as f64,
        None => 0.0,
    };
    of(able, outliers, |i| tensors[i].elements, MOST)
}

/// Of an archive that nothing is compared with: the largest.
pub fn of_archived(tensors: &[&ArchivedSummary]) -> Vec<usize> {
    let able = |i: &usize| {
        let t = tensors[*i];
        let weights = DType::parse(t.dtype).is_some_and(DType::is_weight);
        weights && t.elements > 0 && t.method.tied_to().is_none()
    };
    let able = (0..tensors.len()).filter(able).collect();
    of(able, |_| 0.0, |i| tensors[i].elements, MOST)
}

/// The numbers of at most `most`: up to half of them those with the largest above 0 of one measure, the largest first, then those
/// with the largest of another; equal ones in their order.
pub fn of(
    able: Vec<usize>,
    worse: impl Fn(usize) -> f64,
    larger: impl Fn(usize) -> u64,
    most: usize,
) -> Vec<usize> {
    let mut worst: Vec<usize> = able.iter().copied().filter(|i| worse(*i) > 0.0).collect();
    worst.sort_by(|a, b| worse(*b).total_cmp(&worse(*a)));
    worst.truncate(most / 2);
    let there: HashSet<usize> = worst.iter().copied().collect();
    let mut largest: Vec<usize> = able.into_iter().filter(|i| !there.contains(i)).collect();
    largest.sort_by_key(|i| Reverse(larger(*i)));
    largest.truncate(most - worst.len());
    worst.extend(largest);
    worst
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn the_worst_then_the_largest_each_once() {
        let (errors, sizes) = ([0.0, 0.5, 0.1, 0.0, 0.9], [7, 1, 2, 9, 3]);
        let chosen = |most| of((0..5).collect(), |i| errors[i], |i| sizes[i], most);
        assert_eq!(chosen(4), [4, 1, 3, 0]);
        assert_eq!(chosen(18), [4, 1, 2, 3, 0]);
        assert_eq!(of(vec![2, 3], |i| errors[i], |i| sizes[i], 2), [2, 3]);
        // Where few are bad, the large ones take their places.
        assert_eq!(of(vec![0, 1, 2, 3], |_| 0.0, |i| sizes[i], 3), [3, 0, 2]);
    }
}
