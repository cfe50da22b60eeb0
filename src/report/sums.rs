//! What is said of many tensors at once: the summary of a job and its page say the same.

use crate::report::{Report, TensorReport};

/// How many elements a tensor has.
pub fn elements(t: &TensorReport) -> u64 {
    crate::tensor::elements(&t.shape)
}

/// Those that have a treated form of their own.
pub fn treated(report: &Report) -> Vec<&TensorReport> {
    report.tensors.iter().filter(|t| t.method.is_treated()).collect()
}

/// All bytes of some tensors over their weights, where they have any.
pub fn bits_per_weight(tensors: &[&TensorReport]) -> Option<f64> {
    let weights: u64 = tensors.iter().map(|t| elements(t)).sum();
    let stored: u64 = tensors.iter().map(|t| t.bytes).sum();
    (weights > 0).then(|| stored as f64 * 8.0 / weights as f64)
}

/// The order-0 bound of some tensors over their weights, where every one has it.
pub fn entropy_bits(tensors: &[&TensorReport]) -> Option<f64> {
    let weights: u64 = tensors.iter().map(|t| elements(t)).sum();
    let bound: Option<f64> =
        tensors.iter().map(|t| Some(t.entropy_bits? * elements(t) as f64)).sum();
    bound.filter(|_| weights > 0).map(|bits| bits / weights as f64)
}

/// Every byte of the archive, by component, the most first.
pub fn by_component(report: &Report) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    let of_tensors = report.tensors.iter().flat_map(|t| &t.components);
    for c in of_tensors.chain(&report.overhead) {
        let name = if c.name == "header" { "headers" } else { c.name };
        match sums.iter_mut().find(|s| s.0 == name) {
            Some(sum) => sum.1 += c.bytes,
            None => sums.push((name, c.bytes)),
        }
    }
    sums.sort_by_key(|s| std::cmp::Reverse(s.1));
    sums.retain(|s| s.1 > 0);
    sums
}

/// The treated tensors by how they are stored, in words, in the order in which these are met.
pub fn by_method<'a>(treated: &[&'a TensorReport]) -> Vec<(&'a str, Vec<&'a TensorReport>)> {
    gathered(treated.iter().copied(), |t| t.method.as_str())
}

/// The kept tensors by why they are, in the order in which reasons are met.
pub fn by_reason(report: &Report) -> Vec<(&str, Vec<&TensorReport>)> {
    let kept = report.tensors.iter().filter(|t| t.method.is_kept());
    gathered(kept, |t| t.reason.as_deref().unwrap_or("(an archive does not store why)"))
}

/// The treated tensors that are not what they were, the worst first; of equal ones, in their order.
pub fn worst<'a>(treated: &[&'a TensorReport]) -> Vec<(f64, &'a TensorReport)> {
    let mut found: Vec<_> = treated.iter().filter_map(|t| Some((t.error.rel_error?, *t))).collect();
    found.retain(|(rel_error, _)| *rel_error > 0.0);
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
}

fn gathered<'a>(
    tensors: impl Iterator<Item = &'a TensorReport>,
    key: impl Fn(&'a TensorReport) -> &'a str,
) -> Vec<(&'a str, Vec<&'a TensorReport>)> {
    let mut found: Vec<(&str, Vec<&TensorReport>)> = Vec::new();
    for t in tensors {
        match found.iter_mut().find(|m| m.0 == key(t)) {
            Some(m) => m.1.push(t),
            None => found.push((key(t), vec![t])),
        }
    }
    found
}
