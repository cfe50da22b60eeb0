//! The pages of `inspect`: of a checkpoint, and of an archive.

use crate::{
    inspect::{ArchivedSummary, TensorSummary},
    page::{
        Asked, ROWS,
        bars::{Bar, bars},
        choice::{self, MOST},
        histogram::histogram,
        html::{count, end, of, page_list, section, terms},
        of_rows,
        table::{Column, Kind, number as numbers, table, words},
        weights::Weights,
    },
    report::figures::{bits, bytes, number, shape},
};
use std::collections::BTreeMap;

/// What is left out of the table where it has not all tensors.
const LARGEST: &str = "the largest, in their order";

/// Tensors that are named where not all their values are finite, at most.
const NAMED: usize = 20;

/// The page of a checkpoint whose files take `size` bytes; the weights with the names of their tensors.
pub fn checkpoint(
    asked: &Asked,
    tensors: &[&TensorSummary],
    weights: &[(&str, Weights)],
    size: u64,
) -> String {
    let mut out = String::new();
    let elements = tensors.iter().map(|t| t.elements).sum();
    let headline = format!(
        "{}, {}, {}",
        of(tensors.len() as u64, "tensor"),
        of(elements, "element"),
        bytes(size)
    );
    asked.head(&mut out, &headline);
    odd(&mut out, tensors);
    types(&mut out, tensors.iter().map(|t| (t.dtype, t.elements, t.bytes)), size);
    pictures(
        &mut out,
        weights,
        tensors.len(),
        &format!("at most {} with the largest shares of outliers, then the largest", MOST / 2),
    );
    let measured = tensors.iter().any(|t| t.weights.is_some());
    rows_of_checkpoint(&mut out, tensors, measured);
    asked.page(out)
}

/// What is not finite.
fn odd(out: &mut String, tensors: &[&TensorSummary]) {
    let odd = tensors.iter().filter_map(|t| Some((t, t.weights.as_ref()?.nonfinite)));
    let odd: Vec<_> = odd.filter(|(_, n)| *n > 0).collect();
    let line = |(t, n): &(&&TensorSummary, u64)| {
        format!("{}: {} of {} NaN or infinite", t.name, count(*n), count(t.elements))
    };
    let mut said: Vec<String> = odd.iter().take(NAMED).map(line).collect();
    if odd.len() > NAMED {
        said.push(format!("and in {} more", of((odd.len() - NAMED) as u64, "tensor")));
    }
    page_list(out, "Warnings", &said);
}

fn rows_of_checkpoint(out: &mut String, tensors: &[&TensorSummary], measured: bool) {
    let shown = largest(tensors.len(), |i| tensors[i].bytes);
    let mut lead = of_rows(shown.len(), tensors.len(), LARGEST);
    if measured {
        lead += "Outliers lie more than 6 deviations from the mean; entropy is that of the pattern, of F32 and F64 of its upper 20 \
                 bits; palette4 and lossless: about what these presets take.";
    }
    section(out, "tensors", "Tensors", &lead);
    let mut columns = vec![
        words("name", "Tensor", Kind::Words),
        words("type", "Type", Kind::Text),
        words("shape", "Shape", Kind::Text),
        numbers("elements", "Elements"),
        numbers("bytes", "Bytes"),
    ];
    if measured {
        columns.extend([
            numbers("min", "Min"),
            numbers("max", "Max"),
            numbers("mean", "Mean"),
            numbers("deviation", "Deviation"),
            numbers("zeros", "Zeros"),
            numbers("outliers", "Outliers"),
            numbers("entropy", "Entropy"),
            numbers("lossless", "Lossless"),
            numbers("palette4", "Palette4"),
        ]);
    }
    let rows = shown.iter().map(|i| {
        let t = tensors[*i];
        let (elements, size) = (count(t.elements), count(t.bytes));
        let mut row = vec![t.name.clone(), t.dtype.into(), shape(&t.shape), elements, size];
        match &t.weights {
            _ if !measured => {}
            None => row.extend(["-"; 9].map(String::from)),
            Some(w) => row.extend([
                number(w.min),
                number(w.max),
                number(w.mean),
                number(w.deviation),
                count(w.zeros),
                count(w.outliers),
                bits(Some(w.entropy_bits)),
                bits(w.lossless_bits),
                bits(w.palette4.map(|p| p.rans)),
            ]),
        }
        row
    });
    table(out, Some("table"), "Tensors", &columns, rows);
    end(out);
}

/// The page of an archive.
pub fn archived(
    asked: &Asked,
    tensors: &[&ArchivedSummary],
    weights: &[(&str, Weights)],
    size: u64,
) -> String {
    let mut out = String::new();
    let sum = |of: fn(&ArchivedSummary) -> u64| tensors.iter().map(|t| of(t)).sum::<u64>();
    let (stored, original) = (sum(|t| t.bytes), sum(|t| t.original_bytes));
    let headline = format!(
        "{}: {} stored, {} restored ({:.2}x)",
        of(tensors.len() as u64, "tensor"),
        bytes(stored),
        bytes(original),
        original as f64 / stored.max(1) as f64
    );
    asked.head(&mut out, &headline);
    section(&mut out, "sizes", "Sizes", "");
    let bar = |label: &str, n: u64| Bar { label: label.into(), value: bytes(n), length: n as f64 };
    bars(&mut out, &[bar("restored", original), bar("stored", stored)]);
    let mut facts = vec![
        ("elements".to_owned(), count(sum(|t| t.elements))),
        ("the files take".to_owned(), format!("{} bytes", count(size))),
    ];
    let all = sum(|t| t.elements);
    if all > 0 {
        facts.push(("bits per weight".into(), bits(Some(8.0 * stored as f64 / all as f64))));
    }
    terms(&mut out, &facts);
    of_forms(&mut out, tensors);
    end(&mut out);
    pictures(&mut out, weights, tensors.len(), "the largest, as they are restored");
    let shown = largest(tensors.len(), |i| tensors[i].bytes);
    section(&mut out, "tensors", "Tensors", &of_rows(shown.len(), tensors.len(), LARGEST));
    const COLUMNS: [Column; 8] = [
        words("name", "Tensor", Kind::Words),
        words("type", "Type", Kind::Text),
        words("shape", "Shape", Kind::Text),
        words("form", "Stored as", Kind::Words),
        numbers("elements", "Elements"),
        numbers("bytes", "Bytes"),
        numbers("ratio", "Ratio"),
        numbers("bits", "Bits per weight"),
    ];
    let rows = shown.iter().map(|i| {
        let t = tensors[*i];
        vec![
            t.name.clone(),
            t.dtype.into(),
            shape(&t.shape),
            t.method.to_string(),
            count(t.elements),
            count(t.bytes),
            format!("{:.2}", t.ratio),
            bits(Some(t.bits_per_weight)),
        ]
    });
    table(&mut out, Some("table"), "Tensors", &COLUMNS, rows);
    end(&mut out);
    asked.page(out)
}

/// What each form takes.
fn of_forms(out: &mut String, tensors: &[&ArchivedSummary]) {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for t in tensors {
        let form = if t.method.tied_to().is_some() { "tied" } else { t.method.as_str() };
        let sum = sums.entry(form).or_default();
        *sum = (sum.0 + 1, sum.1 + t.bytes);
    }
    let bar = |(form, (n, size)): (&&str, &(u64, u64))| Bar {
        label: (*form).into(),
        value: format!("{}, {}", of(*n, "tensor"), bytes(*size)),
        length: *size as f64,
    };
    *out += "<h3>How they are stored</h3>\n";
    bars(out, &sums.iter().map(bar).take(ROWS).collect::<Vec<_>>());
}

/// Sums for each type.
fn types<'a>(out: &mut String, tensors: impl Iterator<Item = (&'a str, u64, u64)>, size: u64) {
    let mut types: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for (dtype, elements, bytes) in tensors {
        let sums = types.entry(dtype).or_default();
        *sums = [sums[0] + 1, sums[1] + elements, sums[2] + bytes];
    }
    section(out, "sizes", "Sizes", "");
    let bar = |(dtype, [n, elements, size]): (&&str, &[u64; 3])| Bar {
        label: (*dtype).into(),
        value: format!("{}, {}, {}", of(*n, "tensor"), of(*elements, "element"), bytes(*size)),
        length: *size as f64,
    };
    bars(out, &types.iter().map(bar).collect::<Vec<_>>());
    terms(out, &[("the files take".into(), format!("{} bytes", count(size)))]);
    end(out);
}

fn pictures(out: &mut String, weights: &[(&str, Weights)], all: usize, which: &str) {
    if weights.is_empty() {
        return;
    }
    let lead = format!(
        "{} of {}: {which}. Zeros are counted and not drawn.",
        count(weights.len() as u64),
        of(all as u64, "tensor")
    );
    section(out, "weights", "Weights", &lead);
    *out += "<div class=\"figures\">\n";
    for (name, w) in weights {
        histogram(out, w, name, &of(w.of, "weight"));
    }
    *out += "</div>\n";
    end(out);
}

/// The numbers of the rows that are shown, in their order.
fn largest(all: usize, size: impl Fn(usize) -> u64) -> Vec<usize> {
    let mut shown = choice::of((0..all).collect(), |_| 0.0, size, ROWS);
    shown.sort_unstable();
    shown
}
