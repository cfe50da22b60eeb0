//! Plain text tables, and the closing summary of a job.

use tersor::report::{Report, TensorReport};

/// Columns as wide as their longest cell; the first is aligned left, the others right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            match c {
                0 => line += &format!("{cell}{pad}"),
                _ => line += &format!("  {pad}{cell}"),
            }
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

/// What a job says at its end: totals, what was treated how, the worst five tensors, what was kept and why.
pub fn summary(report: &Report) -> String {
    let elements = |t: &TensorReport| t.shape.iter().product::<u64>();
    let treated: Vec<&TensorReport> =
        report.tensors.iter().filter(|t| t.method != "kept").collect();
    let weights: u64 = treated.iter().map(|t| elements(t)).sum();
    let stored: u64 = treated.iter().map(|t| t.bytes).sum();
    let mut rows = vec![
        vec!["in".into(), bytes(report.input_bytes)],
        vec!["out".into(), bytes(report.output_bytes)],
        vec!["ratio".into(), format!("{:.3}x", report.ratio)],
    ];
    if weights > 0 {
        rows.push(vec![
            "bits per weight".into(),
            format!("{:.3}", stored as f64 * 8.0 / weights as f64),
        ]);
    }
    let speed = report.input_bytes as f64 / 1e9 / report.seconds.max(1e-9);
    rows.push(vec!["seconds".into(), format!("{:.2} ({speed:.2} GB/s)", report.seconds)]);
    rows.push(vec!["backend".into(), report.backend.clone()]);
    rows.push(vec!["tiles".into(), format!("{} gpu, {} cpu", report.gpu_tiles, report.cpu_tiles)]);
    let mut out = table(&rows);

    let mut methods: Vec<(&str, usize, u64)> = Vec::new();
    for t in &treated {
        match methods.iter_mut().find(|m| m.0 == t.method) {
            Some(m) => *m = (m.0, m.1 + 1, m.2 + elements(t)),
            None => methods.push((&t.method, 1, elements(t))),
        }
    }
    if !methods.is_empty() {
        let mut rows = vec![vec!["treated".into(), "tensors".into(), "weights".into()]];
        rows.extend(methods.iter().map(|m| vec![m.0.to_owned(), m.1.to_string(), m.2.to_string()]));
        out += &format!("\n{}", table(&rows));
    }
    let mut worst: Vec<&&TensorReport> =
        treated.iter().filter(|t| t.error.rel_error.is_some()).collect();
    worst.sort_by(|a, b| {
        b.error.rel_error.partial_cmp(&a.error.rel_error).unwrap_or(std::cmp::Ordering::Equal)
    });
    if !worst.is_empty() {
        let head = ["worst tensors", "rel error", "SQNR dB", "cosine", "bits/weight"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(worst.iter().take(5).map(|t| {
            let e = &t.error;
            vec![
                name(&t.name),
                number(e.rel_error),
                number(e.sqnr_db),
                number(e.cosine),
                format!("{:.3}", t.bits_per_weight),
            ]
        }));
        out += &format!("\n{}", table(&rows));
    }
    let mut kept: Vec<(String, usize, u64)> = Vec::new();
    for t in report.tensors.iter().filter(|t| t.method == "kept") {
        let why = t.reason.clone().unwrap_or_else(|| "stored as it was".into());
        match kept.iter_mut().find(|k| k.0 == why) {
            Some(k) => *k = (why, k.1 + 1, k.2 + t.bytes),
            None => kept.push((why, 1, t.bytes)),
        }
    }
    if !kept.is_empty() {
        let mut rows =
            vec![vec!["kept bit for bit, because".into(), "tensors".into(), "bytes".into()]];
        rows.extend(kept.iter().map(|k| vec![k.0.clone(), k.1.to_string(), bytes(k.2)]));
        out += &format!("\n{}", table(&rows));
    }
    let flushed: u64 = report.tensors.iter().map(|t| t.flushed).sum();
    if flushed > 0 {
        out += &format!("\n{flushed} weights below 2^-110 in groups of such weights became zero\n");
    }
    for message in report.warnings.iter().chain(&report.cpu_reasons) {
        out += &format!("warning: {message}\n");
    }
    out
}
