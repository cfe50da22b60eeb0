//! The closing summary of a job.

use crate::cli::table::{Rows, bits, bytes, head, in_unit_of, name, narrow, number};
use tersor::{
    DType,
    report::{
        Report, RetrievalReport, TensorReport,
        sums::{self, bits_per_weight, elements},
    },
};

/// What a job says at its end: totals, where the bytes are, what was treated how, the worst five tensors, what was kept and
/// why. Warnings were said when they arose; what there is to say of every tensor, `--json` says.
pub fn summary(report: &Report) -> String {
    let treated = sums::treated(report);
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
        let weights = if flushed == 1 { "weight" } else { "weights" };
        out += &format!(
            "\n{flushed} {weights} became zero with their groups, which are too small to scale\n"
        );
    }
    out
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
    let sums = sums::by_component(report);
    let all: u64 = sums.iter().map(|s| s.1).sum();
    let mut rows = head(&["where the bytes are", "bytes", "share"]);
    rows.extend(sums.iter().map(|(name, n)| {
        vec![(*name).to_owned(), n.to_string(), format!("{:.2} %", 100.0 * *n as f64 / all as f64)]
    }));
    rows.push(vec!["all of the archive".into(), all.to_string(), "100.00 %".into()]);
    rows
}

fn methods(treated: &[&TensorReport]) -> Rows {
    let mut rows = head(&["treated", "tensors", "weights", "bits/weight", "order-0 bits"]);
    rows.extend(sums::by_method(treated).iter().map(|(method, tensors)| {
        vec![
            (*method).to_owned(),
            tensors.len().to_string(),
            tensors.iter().map(|t| elements(t)).sum::<u64>().to_string(),
            bits(bits_per_weight(tensors)),
            bits(sums::entropy_bits(tensors)),
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
    // Of what comes back bit for bit none is worse than another.
    let found = sums::worst(treated);
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
    (!found.is_empty()).then_some(rows)
}

fn kept(report: &Report) -> Option<Rows> {
    let found = sums::by_reason(report);
    let mut rows = head(&["kept bit for bit, because", "tensors", "bytes"]);
    rows.extend(found.iter().map(|(why, tensors)| {
        let bytes: u64 = tensors.iter().map(|t| t.bytes).sum();
        vec![(*why).to_owned(), tensors.len().to_string(), bytes.to_string()]
    }));
    (!found.is_empty()).then_some(rows)
}

/// What is stored under the name of another.
fn tied(report: &Report) -> Option<Rows> {
    let mut rows = head(&["stored once, being equal", "to"]);
    let found = report.tensors.iter().filter_map(|t| Some((t, t.method.tied_to()?)));
    rows.extend(found.map(|(t, to)| vec![name(&t.name), name(to)]));
    (rows.len() > 1).then_some(rows)
}
