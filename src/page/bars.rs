//! Bars that lie beside their names and values.

use crate::page::html::{at, text};

/// A bar: its name, what is written beside it, and how long it is.
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its value, in words.
    pub value: String,
    /// Its value.
    pub length: f64,
}

/// A list of bars of which the longest fills its line.
pub fn bars(out: &mut String, bars: &[Bar]) {
    let most = bars.iter().map(|b| b.length).fold(0.0, f64::max);
    *out += "<ul class=\"bars\">\n";
    for Bar { label, value, length } in bars {
        let share = if most > 0.0 { 100.0 * length / most } else { 0.0 };
        // What is there is seen.
        let share = if *length > 0.0 { share.max(0.2) } else { share };
        *out += &format!(
            "<li><span class=\"label\">{}</span><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" width=\"100\" height=\"10\"/><rect class=\"bar\" width=\"{}\" height=\"10\"/></svg>\
             <span class=\"value\">{}</span></li>\n",
            text(label),
            at(share),
            text(value),
        );
    }
    *out += "</ul>\n";
}
