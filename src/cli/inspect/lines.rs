//! The text of `inspect`.

use crate::cli::{
    inspect::groups::{Group, group},
    table::{self, Rows},
};
use std::collections::BTreeMap;
use tersor::inspect::{ArchivedSummary, TensorSummary, WeightSummary};

/// Tensors that are named where not all their values are finite, at most.
const NAMED: usize = 20;

/// The tensors of a checkpoint; `measured`: whether their data was read.
pub fn of_checkpoint(tensors: &[&TensorSummary], all: bool, measured: bool, bytes: u64) -> String {
    let mut text = match (all, measured) {
        (true, true) => everything(tensors),
        _ => grouped(tensors, all, measured),
    };
    let odd: Vec<_> = tensors
        .iter()
        .filter_map(|t| Some((t, t.weights.as_ref()?.nonfinite)))
        .filter(|(_, n)| *n > 0)
        .collect();
    if !odd.is_empty() {
        text += "\nNaN or infinite:\n";
        for (t, n) in odd.iter().take(NAMED) {
            text += &format!("  {n} of {} in {}\n", t.elements, table::name(&t.name));
        }
        if odd.len() > NAMED {
            text += &format!("  and in {} more tensors, see --json\n", odd.len() - NAMED);
        }
    }
    text.push('\n');
    text += &totals(tensors, bytes);
    if measured {
        text += match all {
            true => ALL,
            false => SOME,
        };
    }
    text
}

const SOME: &str = "
outliers: more than 6 deviations from the mean. Bits per weight: entropy of the
pattern (of F32 and F64 the upper 20 bits); palette4: about what the preset
takes; lossless: at most about that, less where low bits of mantissas are no
noise. --all has range, mean, deviation and histogram.
";

const ALL: &str = "
range, mean and deviation are those of the finite values; outliers lie more than
6 deviations from the mean; the histogram goes from -4 to 4 deviations. Bits per
weight: entropy of the whole pattern, or of the upper 20 bits of a wider one;
lossless: at most about what the preset takes; palette4: what 4-bit codes of the weights
that are not zero take, with an index of the zeros: packed, by Huffman, by rANS.
";

/// A line for what repeats.
fn grouped(tensors: &[&TensorSummary], all: bool, measured: bool) -> String {
    let mut titles = vec!["tensor", "type", "shape", "bytes"];
    if measured {
        titles.extend(["outliers", "entropy", "lossless", "palette4"]);
    }
    let mut rows: Rows = table::head(&titles);
    let groups: Vec<Group<TensorSummary>> = match all {
        true => {
            let alone = |t: &&'_ TensorSummary| t.name.clone();
            tensors.iter().map(|t| Group { name: alone(t), members: vec![*t] }).collect()
        }
        false => group(tensors.iter().copied(), |t| &t.name, |t| (t.dtype, t.shape.clone())),
    };
    for g in &groups {
        let bytes = g.members.iter().map(|t| t.bytes).sum();
        let mut row = named(g, g.members[0].dtype, &g.members[0].shape, bytes);
        if measured {
            row.extend(figures(&g.members));
        }
        rows.push(row);
    }
    table::narrow(&rows)
}

fn named<T>(g: &Group<T>, dtype: &str, shape: &[u64], bytes: u64) -> Vec<String> {
    let name = match g.members.len() {
        1 => table::name(&g.name),
        n => format!("{n} x {}", table::name(&g.name)),
    };
    vec![name, dtype.into(), table::shape(shape), table::bytes(bytes)]
}

/// Outliers of all; bits of a weight of all.
fn figures(members: &[&TensorSummary]) -> [String; 4] {
    let measured =
        || members.iter().filter_map(|t| Some((t.elements as f64, t.weights.as_deref()?)));
    let mean = |of: &dyn Fn(&WeightSummary) -> Option<f64>| {
        let (mut bits, mut weights) = (0.0, 0.0);
        for (elements, w) in measured() {
            bits += of(w)? * elements;
            weights += elements;
        }
        (weights > 0.0).then(|| bits / weights)
    };
    let bits = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.2}"));
    let outliers: Option<u64> =
        mean(&|_| Some(0.0)).map(|_| measured().map(|(_, w)| w.outliers).sum());
    [
        outliers.map_or("-".into(), |n| n.to_string()),
        bits(mean(&|w| Some(w.entropy_bits))),
        bits(mean(&|w| w.lossless_bits)),
        bits(mean(&|w| w.palette4.map(|bits| bits.rans))),
    ]
}

/// A line for every tensor, with every column.
fn everything(tensors: &[&TensorSummary]) -> String {
    let mut rows: Rows = table::head(&[
        "tensor",
        "type",
        "shape",
        "bytes",
        "min",
        "max",
        "mean",
        "deviation",
        "zeros",
        "outliers",
        "entropy",
        "lossless",
        "palette4",
        "histogram",
    ]);
    for t in tensors {
        let shape = table::shape(&t.shape);
        let mut row = vec![table::name(&t.name), t.dtype.into(), shape, table::bytes(t.bytes)];
        match &t.weights {
            None => row.extend(["-"; 10].map(String::from)),
            Some(w) => row.extend([
                table::number(w.min),
                table::number(w.max),
                table::number(w.mean),
                table::number(w.deviation),
                w.zeros.to_string(),
                w.outliers.to_string(),
                format!("{:.2} of {}", w.entropy_bits, w.entropy_of_bits),
                w.lossless_bits.map_or("-".into(), |bits| format!("{bits:.2}")),
                w.palette4.map_or("-".into(), |bits| {
                    format!("{:.2} {:.2} {:.2}", bits.raw, bits.huffman, bits.rans)
                }),
                sparkline(&w.histogram),
            ]),
        }
        rows.push(row);
    }
    table::table(&rows)
}

/// Sums for each type and for all.
fn totals(tensors: &[&TensorSummary], bytes: u64) -> String {
    let mut types: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for t in tensors {
        let sums = types.entry(t.dtype).or_default();
        *sums = [sums[0] + 1, sums[1] + t.elements, sums[2] + t.bytes];
    }
    let mut rows: Rows = table::head(&["in all", "tensors", "elements", "bytes"]);
    let row = |name: &str, [tensors, elements, bytes]: [u64; 3]| {
        vec![name.into(), tensors.to_string(), elements.to_string(), table::bytes(bytes)]
    };
    rows.extend(types.iter().map(|(name, sums)| row(name, *sums)));
    let sum = |i: usize| types.values().map(|sums| sums[i]).sum();
    rows.push(row("all", [sum(0), sum(1), sum(2)]));
    format!("{}the files take {}\n", table::table(&rows), table::bytes(bytes))
}

/// The tensors of an archive.
pub fn of_archive(tensors: &[&ArchivedSummary], all: bool, bytes: u64) -> String {
    let mut rows: Rows =
        table::head(&["tensor", "type", "shape", "bytes", "ratio", "bits", "stored as"]);
    let groups: Vec<Group<ArchivedSummary>> = match all {
        true => tensors.iter().map(|t| Group { name: t.name.clone(), members: vec![*t] }).collect(),
        false => group(
            tensors.iter().copied(),
            |t| &t.name,
            |t| (t.dtype, t.shape.clone(), t.method.as_str().to_owned()),
        ),
    };
    for g in &groups {
        let sum = |of: fn(&ArchivedSummary) -> u64| g.members.iter().map(|t| of(t)).sum::<u64>();
        let (stored, original) = (sum(|t| t.bytes), sum(|t| t.original_bytes));
        let mut row = named(g, g.members[0].dtype, &g.members[0].shape, stored);
        let elements = sum(|t| t.elements).max(1);
        row.push(format!("{:.2}x", original as f64 / stored as f64));
        row.push(format!("{:.2}", 8.0 * stored as f64 / elements as f64));
        let method = &g.members[0].method;
        let tied = method.tied_to().map(|to| format!("tied to {}", table::name(to)));
        row.push(tied.unwrap_or_else(|| method.to_string()));
        rows.push(row);
    }
    let sum = |of: fn(&ArchivedSummary) -> u64| tensors.iter().map(|t| of(t)).sum::<u64>();
    let (stored, original) = (sum(|t| t.bytes), sum(|t| t.original_bytes));
    format!(
        "{}\n{} tensors, {} elements: {} stored, {} restored ({:.2}x)\nthe files take {}; bits are per weight, all bytes of a tensor counted\n",
        table::narrow(&rows),
        tensors.len(),
        sum(|t| t.elements),
        table::in_unit_of(stored, original),
        table::in_unit_of(original, original),
        original as f64 / stored.max(1) as f64,
        table::bytes(bytes),
    )
}

fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let bar = |n: &u64| match (*n * 8).div_ceil(most) {
        0 => ' ',
        level => char::from_u32(0x2580 + level as u32).unwrap_or(' '),
    };
    counts.iter().map(bar).collect()
}
