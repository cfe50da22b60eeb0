//! The page of a job: `compress`, or `verify` with a source or without.

use crate::{
    DType,
    page::{
        Asked, ROWS,
        bars::{Bar, bars},
        choice::{self, MOST},
        histogram::histogram,
        html::{count, end, named, of, page_list, section, short, terms, text},
        of_rows,
        scatter::{self, COLOURS, Point, legend, scatter},
        table::{Column, Kind, number as numbers, table, words},
        weights::Weights,
    },
    report::{
        Report, TensorReport,
        figures::{bits, bytes, in_unit_of, number, shape},
        sums::{self, bits_per_weight, elements},
    },
};
use std::collections::HashMap;

/// Tensors that are listed as the worst, at most.
const WORST: usize = 20;
/// Tensors that are named for each reason to keep them, at most.
const NAMED: usize = 12;

/// The page of a job whose tensors have errors if it is `measured` against a source.
pub fn job(asked: &Asked, report: &Report, measured: bool, weights: &[Weights]) -> String {
    let treated = sums::treated(report);
    let worst = sums::worst(&treated);
    let mut out = String::new();
    let most = report.input_bytes.max(report.output_bytes);
    let [before, after] = [report.input_bytes, report.output_bytes].map(|n| in_unit_of(n, most));
    asked.head(&mut out, &format!("{before} \u{2192} {after} ({:.2}x)", report.ratio));
    warnings(&mut out, report);
    sizes(&mut out, report, &treated, worst.first().map(|w| w.0));
    if measured {
        rate_and_distortion(&mut out, report, &treated);
        worst_first(&mut out, &worst, weights, report);
    } else {
        section(
            &mut out,
            "rd",
            "Rate and distortion",
            "The archive was compared with nothing, so that no errors are known: <code>tersor verify ARCHIVE --against MODEL</code> \
             measures them.",
        );
        end(&mut out);
    }
    histograms(&mut out, report, weights, measured);
    forms(&mut out, &treated);
    kept(&mut out, report);
    tied(&mut out, report);
    tensors(&mut out, report, measured, &worst);
    asked.recipe(&mut out);
    asked.page(out)
}

fn warnings(out: &mut String, report: &Report) {
    let mut said = report.warnings.clone();
    said.extend(report.cpu_reasons.iter().cloned());
    let flushed: u64 = report.tensors.iter().map(|t| t.flushed).sum();
    if flushed > 0 {
        let weights = of(flushed, "weight");
        said.push(format!("{weights} became zero with their groups, which are too small to scale"));
    }
    page_list(out, "Warnings", &said);
}

fn sizes(out: &mut String, report: &Report, treated: &[&TensorReport], worst: Option<f64>) {
    section(out, "sizes", "Sizes", "");
    let most = report.input_bytes.max(report.output_bytes);
    let bar = |label: &str, n: u64| Bar {
        label: label.into(),
        value: in_unit_of(n, most),
        length: n as f64,
    };
    bars(out, &[bar("before", report.input_bytes), bar("after", report.output_bytes)]);
    let holds_weights = |t: &&TensorReport| DType::parse(t.dtype).is_some_and(DType::is_weight);
    let all: Vec<&TensorReport> = report.tensors.iter().filter(holds_weights).collect();
    let tied = report.tensors.iter().filter(|t| t.method.tied_to().is_some()).count();
    let kept = report.tensors.len() - treated.len() - tied;
    let mut facts = vec![
        ("before".into(), format!("{} bytes", count(report.input_bytes))),
        ("after".into(), format!("{} bytes", count(report.output_bytes))),
        ("ratio".into(), format!("{:.3}x", report.ratio)),
        ("tensors".into(), count(report.tensors.len() as u64)),
        ("treated".into(), count(treated.len() as u64)),
        ("kept bit for bit".into(), count(kept as u64)),
    ];
    if tied > 0 {
        facts.push(("stored once, being equal".into(), count(tied as u64)));
    }
    for (which, tensors) in [("treated", treated), ("all", &all)] {
        if let Some(bits) = bits_per_weight(tensors) {
            facts.push((format!("bits per weight, {which}"), format!("{bits:.3}")));
        }
    }
    if let Some(worst) = worst {
        facts.push(("largest relative error".into(), short(worst)));
    }
    terms(out, &facts);
    *out += "<h3>Where the bytes are</h3>\n";
    let sums = sums::by_component(report);
    let all: u64 = sums.iter().map(|s| s.1).sum();
    let share = |(name, n): &(&str, u64)| Bar {
        label: (*name).into(),
        value: format!("{} ({:.1} %)", bytes(*n), 100.0 * *n as f64 / all.max(1) as f64),
        length: *n as f64,
    };
    bars(out, &sums.iter().map(share).collect::<Vec<_>>());
    end(out);
}

fn rate_and_distortion(out: &mut String, report: &Report, treated: &[&TensorReport]) {
    let methods: Vec<String> =
        sums::by_method(treated).into_iter().map(|(method, _)| method.to_owned()).collect();
    let by_name: HashMap<&str, usize> =
        methods.iter().enumerate().map(|(i, m)| (m.as_str(), i)).collect();
    // Kept tensors have the last colour.
    let colour_of = |t: &TensorReport| match by_name.get(t.method.as_str()) {
        Some(i) => (*i).min(COLOURS - 2),
        None => COLOURS - 1,
    };
    let point = |t: &'_ TensorReport| -> Option<(f64, u64)> {
        let weights = DType::parse(t.dtype).is_some_and(DType::is_weight) && elements(t) > 0;
        (weights && t.method.tied_to().is_none())
            .then_some(())
            .and(t.error.rel_error)
            .map(|error| (error, elements(t)))
    };
    let all: Vec<Point> = report
        .tensors
        .iter()
        .filter_map(|t| {
            let (error, weights) = point(t)?;
            let (name, bits, colour) = (t.name.as_str(), t.bits_per_weight, colour_of(t));
            Some(Point { name, bits, error, weights, colour })
        })
        .collect();
    // As wide as what is kept, and a little more: a tensor of few weights takes its name beside them.
    let widths = all.iter().zip(report.tensors.iter().filter(|t| point(t).is_some()));
    let widest = widths
        .filter_map(|(_, t)| Some(DType::parse(t.dtype)?.bits() as f64 * 1.125))
        .fold(0.0, f64::max);
    let total = all.len();
    let beyond = all.iter().filter(|p| p.bits > widest).count();
    let errors: Vec<f64> = all.iter().map(|p| p.error).collect();
    let weights: Vec<u64> = all.iter().map(|p| p.weights).collect();
    let chosen = match total > scatter::MOST {
        true => choice::of((0..total).collect(), |i| errors[i], |i| weights[i], scatter::MOST),
        false => (0..total).collect(),
    };
    let mut by_number: Vec<Option<Point>> = all.into_iter().map(Some).collect();
    let points: Vec<Point> = chosen.into_iter().filter_map(|i| by_number[i].take()).collect();
    let mut lead = String::from(
        "Each tensor that holds weights: bits per weight, all of its bytes counted, against its relative error \u{2016}W\u{2212}Q\u{2016} / \
         \u{2016}W\u{2016}. The larger the point, the more weights. Lower and further left is better.",
    );
    if points.len() < total {
        let (shown, all) = (count(points.len() as u64), count(total as u64));
        lead += &format!(" {shown} of {all} are drawn: the worst and the largest.");
    }
    if beyond > 0 {
        let tensors = of(beyond as u64, "tensor");
        lead += &format!(
            " {tensors} of more than {} bits, mostly of few weights, which take a header all the same, at the right edge.",
            short(widest)
        );
    }
    section(out, "rd", "Rate and distortion", &lead);
    *out += "<figure class=\"scatter\">\n";
    scatter(out, &points, widest);
    *out += "</figure>\n";
    let mut forms: Vec<String> = methods;
    if forms.len() > COLOURS - 1 {
        forms.truncate(COLOURS - 2);
        forms.push("other forms".into());
    }
    let mut named: Vec<(usize, String)> = forms.into_iter().enumerate().collect();
    named.push((COLOURS - 1, "kept bit for bit".into()));
    legend(out, &named);
    end(out);
}

fn worst_first(
    out: &mut String,
    worst: &[(f64, &TensorReport)],
    weights: &[Weights],
    report: &Report,
) {
    let lead = match worst.len() {
        0 => "Every tensor comes back bit for bit.".into(),
        n if n > WORST => {
            format!("The {WORST} of {} with the largest relative error.", of(n as u64, "tensor"))
        }
        _ => String::new(),
    };
    section(out, "worst", "Worst tensors", &lead);
    let drawn: HashMap<&str, usize> =
        weights.iter().map(|w| (report.tensors[w.tensor].name.as_str(), w.tensor)).collect();
    if !worst.is_empty() {
        *out += "<ol class=\"worst\">\n";
    }
    for (error, t) in worst.iter().take(WORST) {
        let name = named(&t.name);
        let name = match drawn.get(t.name.as_str()) {
            Some(i) => format!("<a href=\"#w{i}\">{name}</a>"),
            None => name,
        };
        let sqnr = t.error.sqnr_db.map_or(String::new(), |db| format!(", SQNR {db:.1} dB"));
        *out += &format!(
            "<li>{name}: error {}{sqnr}, {} bits per weight, {}</li>\n",
            short(*error),
            bits(Some(t.bits_per_weight)),
            text(t.method.as_str()),
        );
    }
    if !worst.is_empty() {
        *out += "</ol>\n";
    }
    end(out);
}

fn histograms(out: &mut String, report: &Report, weights: &[Weights], measured: bool) {
    if weights.is_empty() {
        return;
    }
    let which = match measured {
        true => format!("at most {} with the largest errors, then the largest", MOST / 2),
        false => "the largest".into(),
    };
    let lead = format!(
        "{} of {}: {which}. Lines or marks are what codes stand for; zeros are counted and not drawn.",
        count(weights.len() as u64),
        of(report.tensors.len() as u64, "tensor")
    );
    section(out, "weights", "Weights", &lead);
    *out += "<div class=\"figures\">\n";
    for w in weights {
        let t = &report.tensors[w.tensor];
        let mut what = format!("{}, {} bits per weight", t.method, bits(Some(t.bits_per_weight)));
        match t.error.rel_error {
            Some(error) if error > 0.0 => what += &format!(", error {}", short(error)),
            _ => {}
        }
        histogram(out, w, &t.name, &what);
    }
    *out += "</div>\n";
    end(out);
}

fn forms(out: &mut String, treated: &[&TensorReport]) {
    if treated.is_empty() {
        return;
    }
    const COLUMNS: [Column; 5] = [
        words("", "Stored as", Kind::Words),
        numbers("", "Tensors"),
        numbers("", "Weights"),
        numbers("", "Bits per weight"),
        numbers("", "Order-0 bits"),
    ];
    section(
        out,
        "forms",
        "Forms",
        "How treated tensors are stored. Order-0 bits: what an ideal coder of single codes would need.",
    );
    let found = sums::by_method(treated);
    let rows = found.iter().map(|(method, tensors)| {
        vec![
            (*method).to_owned(),
            count(tensors.len() as u64),
            count(tensors.iter().map(|t| elements(t)).sum()),
            bits(bits_per_weight(tensors)),
            bits(sums::entropy_bits(tensors)),
        ]
    });
    table(out, None, "Forms", &COLUMNS, rows.take(ROWS));
    end(out);
}

fn kept(out: &mut String, report: &Report) {
    let found = sums::by_reason(report);
    if found.is_empty() {
        return;
    }
    section(out, "kept", "Kept bit for bit, and why", "");
    for (why, tensors) in found.iter().take(ROWS) {
        let size: u64 = tensors.iter().map(|t| t.bytes).sum();
        let many = of(tensors.len() as u64, "tensor");
        *out += &format!("<h3>{}</h3>\n<p>{many}, {}: ", text(why), bytes(size));
        let names = tensors.iter().take(NAMED);
        let names: Vec<_> = names.map(|t| named(&t.name)).collect();
        *out += &names.join(", ");
        if tensors.len() > NAMED {
            *out += &format!(" and {} more", count((tensors.len() - NAMED) as u64));
        }
        *out += "</p>\n";
    }
    end(out);
}

fn tied(out: &mut String, report: &Report) {
    let found = report.tensors.iter().filter_map(|t| Some((t, t.method.tied_to()?)));
    let said: Vec<_> =
        found.map(|(t, to)| format!("<li>{} is {}</li>\n", named(&t.name), named(to))).collect();
    if said.is_empty() {
        return;
    }
    section(out, "tied", "Stored once, being equal", "");
    *out += &format!("<ul>\n{}</ul>\n", said.iter().take(ROWS).cloned().collect::<String>());
    end(out);
}

const COLUMNS: [Column; 8] = [
    words("name", "Tensor", Kind::Words),
    words("type", "Type", Kind::Text),
    words("shape", "Shape", Kind::Text),
    words("form", "Stored as", Kind::Words),
    numbers("bytes", "Bytes"),
    numbers("bits", "Bits per weight"),
    numbers("entropy", "Order-0 bits"),
    numbers("density", "Density"),
];

const ERRORS: [Column; 4] = [
    numbers("error", "Relative error"),
    numbers("sqnr", "SQNR, dB"),
    numbers("cosine", "Cosine"),
    numbers("max", "Largest error"),
];

fn tensors(out: &mut String, report: &Report, measured: bool, worst: &[(f64, &TensorReport)]) {
    let all = report.tensors.len();
    let mut shown: Vec<usize> = (0..all).collect();
    if all > ROWS {
        let errors: HashMap<&str, f64> = worst.iter().map(|(e, t)| (t.name.as_str(), *e)).collect();
        let error = |i: usize| errors.get(report.tensors[i].name.as_str()).copied().unwrap_or(0.0);
        shown = choice::of(shown, error, |i| report.tensors[i].bytes, ROWS);
        shown.sort_unstable();
    }
    let lead = of_rows(shown.len(), all, "the worst and the largest, in their order");
    section(out, "tensors", "Tensors", &lead);
    let mut columns = Vec::from(COLUMNS);
    if measured {
        columns.extend(ERRORS);
    }
    let rows = shown.iter().map(|i| {
        let t = &report.tensors[*i];
        let form = match &t.reason {
            Some(why) => format!("{}: {why}", t.method),
            None => t.method.to_string(),
        };
        let error = t.error;
        let mut row = vec![
            t.name.clone(),
            t.dtype.into(),
            shape(&t.shape),
            form,
            count(t.bytes),
            bits(Some(t.bits_per_weight)),
            bits(t.entropy_bits),
            bits(t.density),
        ];
        if measured {
            row.extend([
                number(error.rel_error),
                error.sqnr_db.map_or("-".into(), |db| format!("{db:.2}")),
                number(error.cosine),
                number(error.max_abs_error),
            ]);
        }
        row
    });
    table(out, Some("table"), "Tensors", &columns, rows);
    end(out);
}
