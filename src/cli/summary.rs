//! The closing summary of a job.

use crate::cli::table::{Rows, bytes, head, in_unit_of, name, narrow, number};
use tersor::{
    DType,
    report::{Report, RetrievalReport, TensorReport},
};

/// What a job says at its end: totals, where the bytes are, what was treated how, the worst five tensors, what was kept and
/// why. Warnings were said when they arose; what there is to say of every tensor, `--json` says.
pub fn summary(report: &Report) -> String {
    let treated: Vec<&TensorReport> =
        report.tensors.iter().filter(|t| t.method.is_treated()).collect();
    let mut tables = vec![totals(report, &treated), whereabouts(report)];
    if !treated.is_empty() {
        tables.push(methods(&treated));
    }
    tables.extend(retrievals(&treated));
    tables.extend(worst(&treated));
    tables.extend(tied(report));
    tables.extend(kept(report));
    let mut out = tables.iter().map(|rows| narrow(rows)).collect::<Vec<_>>().join("\n");
    let flushed: u64 = report.tensors.iter().map(|t| t.flushed).sum();
    if flushed > 0 {
        out += &format!("\n{flushed} weights below 2^-110 in groups of such weights became zero\n");
    }
    out
}

fn elements(t: &TensorReport) -> u64 {
    t.shape.iter().product()
}

fn totals(report: &Report, treated: &[&TensorReport]) -> Rows {
    let most = report.input_bytes.max(report.output_bytes);
    let mut rows = vec![
        vec!["in".into(), in_unit_of(report.input_bytes, most)],
        vec!["out".into(), in_unit_of(report.output_bytes, most)],
        vec!["ratio".into(), format!("{:.3}x", report.ratio)],
    ];
    let holds_weights = |t: &&TensorReport| DType::parse(t.dtype).is_some_and(DType::is_weight);
    let all: Vec<&TensorReport> = report.tensors.iter().filter(holds_weights).collect();
    for (of, tensors) in [("treated", treated), ("all", &all)] {
        if let Some(bits) = bits_per_weight(tensors) {
            rows.push(vec![format!("bits per weight, {of}"), format!("{bits:.3}")]);
        }
    }
    rows.extend(work(report));
    rows
}

/// All bytes of some tensors over their weights, where they have any.
fn bits_per_weight(tensors: &[&TensorReport]) -> Option<f64> {
    let weights: u64 = tensors.iter().map(|t| elements(t)).sum();
    let stored: u64 = tensors.iter().map(|t| t.bytes).sum();
    (weights > 0).then(|| stored as f64 * 8.0 / weights as f64)
}

/// How long a job took, and where.
pub fn work(report: &Report) -> Rows {
    let speed = bytes((report.input_bytes as f64 / report.seconds.max(1e-9)) as u64);
    let mut rows = vec![
        vec!["seconds".into(), format!("{} ({speed}/s)", seconds(report.seconds))],
        vec!["backend".into(), report.backend.clone()],
    ];
    if report.gpu_tiles + report.cpu_tiles > 0 {
        let mut tiles = format!("{} gpu, {} cpu", report.gpu_tiles, report.cpu_tiles);
        if report.checked_tiles > 0 {
            tiles += &format!(", {} of them on both", report.checked_tiles);
        }
        if report.repaired_tiles > 0 {
            tiles += &format!(" ({} failed on the gpu or were wrong)", report.repaired_tiles);
        }
        rows.push(vec!["kernel runs on tiles".into(), tiles]);
    }
    if report.resumed_files > 0 {
        rows.push(vec!["files done before".into(), report.resumed_files.to_string()]);
    }
    rows
}

/// Seconds in as many digits as say something.
pub fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{seconds:.4}") } else { format!("{seconds:.2}") }
}

/// Every byte of the archive, by component.
fn whereabouts(report: &Report) -> Rows {
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
    let all: u64 = sums.iter().map(|s| s.1).sum();
    let mut rows = head(&["where the bytes are", "bytes", "share"]);
    rows.extend(sums.iter().filter(|s| s.1 > 0).map(|(name, n)| {
        vec![(*name).to_owned(), n.to_string(), format!("{:.2} %", 100.0 * *n as f64 / all as f64)]
    }));
    rows.push(vec!["all of the archive".into(), all.to_string(), "100.00 %".into()]);
    rows
}

fn methods(treated: &[&TensorReport]) -> Rows {
    let mut found: Vec<(&str, Vec<&TensorReport>)> = Vec::new();
    for t in treated {
        match found.iter_mut().find(|m| m.0 == t.method.as_str()) {
            Some(m) => m.1.push(t),
            None => found.push((t.method.as_str(), vec![t])),
        }
    }
    let mut rows = head(&["treated", "tensors", "weights", "bits/weight", "order-0 bits"]);
    rows.extend(found.iter().map(|(method, tensors)| {
        let weights: u64 = tensors.iter().map(|t| elements(t)).sum();
        let bound: Option<f64> =
            tensors.iter().map(|t| Some(t.entropy_bits? * elements(t) as f64)).sum();
        vec![
            (*method).to_owned(),
            tensors.len().to_string(),
            weights.to_string(),
            bits(bits_per_weight(tensors)),
            bits(bound.map(|b| b / weights as f64)),
        ]
    }));
    rows
}

/// What retrieval structures have made of layers, and whether they were worth it.
fn retrievals(treated: &[&TensorReport]) -> Option<Rows> {
    let found: Vec<_> = treated.iter().filter_map(|t| Some((t, t.retrieval?))).collect();
    let sum = |of: fn(&RetrievalReport) -> u64| found.iter().map(|(_, r)| of(r)).sum::<u64>();
    let (coded, streams) = (sum(|r| r.coded_bytes), sum(|r| r.stream_bytes));
    let weights: u64 = found.iter().map(|(t, _)| elements(t)).sum();
    let wrong = sum(|r| r.false_positives);
    let mut rows = head(&["retrieved layers", "false positives", "bytes", "as streams", "smaller"]);
    rows.push(vec![
        found.len().to_string(),
        format!("{:.3} %", 100.0 * wrong as f64 / weights as f64),
        coded.to_string(),
        streams.to_string(),
        if coded < streams { "retrieval" } else { "streams (deep)" }.into(),
    ]);
    (!found.is_empty()).then_some(rows)
}

fn worst(treated: &[&TensorReport]) -> Option<Rows> {
    let mut found: Vec<_> = treated.iter().filter_map(|t| Some((t.error.rel_error?, t))).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let titles = ["worst tensors", "rel error", "SQNR dB", "cosine", "bits/weight", "order-0 bits"];
    let mut rows = head(&titles);
    rows.extend(found.iter().take(5).map(|(rel_error, t)| {
        vec![
            name(&t.name),
            number(Some(*rel_error)),
            t.error.sqnr_db.map_or("-".into(), |x| format!("{x:.2}")),
            number(t.error.cosine),
            format!("{:.3}", t.bits_per_weight),
            bits(t.entropy_bits),
        ]
    }));
    // Of what comes back bit for bit none is worse than another.
    found.iter().any(|(rel_error, _)| *rel_error > 0.0).then_some(rows)
}

fn kept(report: &Report) -> Option<Rows> {
    let mut found: Vec<(&str, usize, u64)> = Vec::new();
    for t in report.tensors.iter().filter(|t| t.method.is_kept()) {
        let why = t.reason.as_deref().unwrap_or("(an archive does not store why)");
        match found.iter_mut().find(|k| k.0 == why) {
            Some(k) => *k = (why, k.1 + 1, k.2 + t.bytes),
            None => found.push((why, 1, t.bytes)),
        }
    }
    let mut rows = head(&["kept bit for bit, because", "tensors", "bytes"]);
    rows.extend(found.iter().map(|k| vec![k.0.to_owned(), k.1.to_string(), k.2.to_string()]));
    (!found.is_empty()).then_some(rows)
}

/// What is stored under the name of another.
fn tied(report: &Report) -> Option<Rows> {
    let mut rows = head(&["stored once, being equal", "to"]);
    let found = report.tensors.iter().filter_map(|t| Some((t, t.method.tied_to()?)));
    rows.extend(found.map(|(t, to)| vec![name(&t.name), name(to)]));
    (rows.len() > 1).then_some(rows)
}

fn bits(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{x:.3}"))
}
