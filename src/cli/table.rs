//! Plain text tables, and the closing summary of a job.

use tersor::{
    DType,
    report::{Report, RetrievalReport, TensorReport},
};

/// Columns as wide as their longest cell. A column whose cells below its first are numbers is aligned right, others left.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |c: usize| rows.iter().filter_map(move |r| r.get(c));
    let number = |s: &String| s.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let widths: Vec<usize> =
        (0..columns).map(|c| cells(c).map(|s| s.chars().count()).max().unwrap_or(0)).collect();
    let right: Vec<bool> = (0..columns)
        .map(|c| c > 0 && cells(c).skip(1).all(|s| s.is_empty() || number(s)))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            line += if c == 0 { "" } else { "  " };
            line += &if right[c] { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// A name from a file, safe to print and not too long.
pub fn name(name: &str) -> String {
    let quoted = tersor::format::quoted(name);
    quoted[1..quoted.len() - 1].to_owned()
}

/// Bytes with a unit.
pub fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// A number where there is one.
pub fn number(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| match x.abs() {
        0.0 => "0".into(),
        1e-3..1e5 => format!("{x:.5}"),
        _ => format!("{x:.3e}"),
    })
}

/// What a job says at its end: totals, where the bytes are, what was treated how, the worst five tensors, what was kept and
/// why. Warnings were said when they arose.
pub fn summary(report: &Report) -> String {
    let treated: Vec<&TensorReport> =
        report.tensors.iter().filter(|t| !t.method.is_kept()).collect();
    let mut tables = vec![totals(report, &treated), whereabouts(report)];
    if !treated.is_empty() {
        tables.push(methods(&treated));
    }
    tables.extend(layers(&treated));
    tables.extend(retrievals(&treated));
    tables.extend(worst(&treated));
    tables.extend(kept(report));
    let mut out = tables.iter().map(|rows| table(rows)).collect::<Vec<_>>().join("\n");
    let flushed: u64 = report.tensors.iter().map(|t| t.flushed).sum();
    if flushed > 0 {
        out += &format!("\n{flushed} weights below 2^-110 in groups of such weights became zero\n");
    }
    out
}

type Rows = Vec<Vec<String>>;

fn head(cells: &[&str]) -> Rows {
    vec![cells.iter().map(|c| (*c).to_owned()).collect()]
}

fn elements(t: &TensorReport) -> u64 {
    t.shape.iter().product()
}

fn totals(report: &Report, treated: &[&TensorReport]) -> Rows {
    let mut rows = vec![
        vec!["in".into(), bytes(report.input_bytes)],
        vec!["out".into(), bytes(report.output_bytes)],
        vec!["ratio".into(), format!("{:.3}x", report.ratio)],
    ];
    let weights: u64 = treated.iter().map(|t| elements(t)).sum();
    if weights > 0 {
        let stored: u64 = treated.iter().map(|t| t.bytes).sum();
        let bits = stored as f64 * 8.0 / weights as f64;
        rows.push(vec!["bits per weight".into(), format!("{bits:.3}")]);
    }
    rows.extend(work(report));
    rows
}

/// How long a job took, and where.
pub fn work(report: &Report) -> Rows {
    let speed = report.input_bytes as f64 / 1e9 / report.seconds.max(1e-9);
    let mut rows = vec![
        vec!["seconds".into(), format!("{:.2} ({speed:.2} GB/s)", report.seconds)],
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
    let mut rows = head(&["treated", "tensors", "weights", "bits/weight", "entropy bound"]);
    rows.extend(found.iter().map(|(method, tensors)| {
        let weights: u64 = tensors.iter().map(|t| elements(t)).sum();
        let stored: u64 = tensors.iter().map(|t| t.bytes).sum();
        let bound: Option<f64> =
            tensors.iter().map(|t| Some(t.entropy_bits? * elements(t) as f64)).sum();
        vec![
            (*method).to_owned(),
            tensors.len().to_string(),
            weights.to_string(),
            format!("{:.3}", stored as f64 * 8.0 / weights as f64),
            bits(bound.map(|b| b / weights as f64)),
        ]
    }));
    rows
}

/// Coded layers that are listed, at most.
const LAYERS: usize = 40;

/// The table of Deep Compression: of every coded layer what survives, the bits of a survivor's code before and after coding,
/// and those that say where it is.
fn layers(treated: &[&TensorReport]) -> Option<Rows> {
    let coded: Vec<_> = treated.iter().filter(|t| t.coded && t.density.is_some()).collect();
    let titles = ["coded layers", "weights", "kept", "bits", "coded", "index", "bytes", "ratio"];
    let mut rows = head(&titles);
    for t in coded.iter().take(LAYERS) {
        let weights = elements(t);
        let component = |names: &[&str]| {
            let named = t.components.iter().filter(|c| names.contains(&c.name));
            named.map(|c| c.bytes).sum::<u64>() as f64 * 8.0
        };
        let survivors = match component(&["index"]) == 0.0 && t.retrieval.is_none() {
            true => weights as f64,
            false => (t.density.unwrap_or(1.0) * weights as f64).round().max(1.0),
        };
        let size = DType::parse(t.dtype).map_or(0, |d| d.bits()) as f64;
        rows.push(vec![
            name(&t.name),
            weights.to_string(),
            format!("{:.2} %", 100.0 * survivors / weights as f64),
            t.code_bits.map_or(t.dtype.to_owned(), |bits| bits.to_string()),
            format!("{:.3}", component(&["codes", "values"]) / survivors),
            format!("{:.3}", component(&["index"]) / survivors),
            t.bytes.to_string(),
            format!("{:.2}x", size * weights as f64 / 8.0 / t.bytes as f64),
        ]);
    }
    if coded.len() > LAYERS {
        rows.push(vec![format!("and {} more, see --json", coded.len() - LAYERS)]);
    }
    (!coded.is_empty()).then_some(rows)
}

/// What retrieval structures have made of layers, and whether they were worth it.
fn retrievals(treated: &[&TensorReport]) -> Option<Rows> {
    let found: Vec<_> = treated.iter().filter_map(|t| Some((t, t.retrieval?))).collect();
    let titles = [
        "retrieved layers",
        "result bits",
        "false positives",
        "share",
        "bytes",
        "as streams",
        "smaller",
    ];
    let smaller = |coded, streams| if coded < streams { "retrieval" } else { "streams (deep)" };
    let mut rows = head(&titles);
    rows.extend(found.iter().take(LAYERS).map(|(t, r)| {
        vec![
            name(&t.name),
            r.result_bits.to_string(),
            r.false_positives.to_string(),
            format!("{:.3} %", 100.0 * r.false_positives as f64 / elements(t) as f64),
            r.coded_bytes.to_string(),
            r.stream_bytes.to_string(),
            smaller(r.coded_bytes, r.stream_bytes).into(),
        ]
    }));
    let sum = |of: fn(&RetrievalReport) -> u64| found.iter().map(|(_, r)| of(r)).sum::<u64>();
    let (coded, streams) = (sum(|r| r.coded_bytes), sum(|r| r.stream_bytes));
    let all = [
        "all of them",
        "",
        &sum(|r| r.false_positives).to_string(),
        "",
        &coded.to_string(),
        &streams.to_string(),
        smaller(coded, streams),
    ];
    rows.push(all.map(str::to_owned).to_vec());
    (!found.is_empty()).then_some(rows)
}

fn worst(treated: &[&TensorReport]) -> Option<Rows> {
    let mut found: Vec<_> = treated.iter().filter_map(|t| Some((t.error.rel_error?, t))).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let titles =
        ["worst tensors", "rel error", "SQNR dB", "cosine", "bits/weight", "entropy bound"];
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

fn bits(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{x:.3}"))
}
