//! The weights of a tensor as bars, with the palette or the steps of its first group drawn in.

use crate::page::{
    html::{at, broken, count, name, of, short, text},
    weights::{Bars, Grid, Weights},
};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 168.0;
const SIDE: f64 = 6.0;
const TOP: f64 = 8.0;
/// Where the bars stand; below them are the marks of the grid, then the numbers.
const FLOOR: f64 = 132.0;
const MARKS: f64 = 8.0;
/// Values that have a line through the picture, at most: of more only the marks.
const LINES: usize = 32;

/// A picture with its name and what there is to say of it; `what`: how it is stored and how far it is off.
pub fn histogram(out: &mut String, weights: &Weights, tensor: &str, what: &str) {
    let i = weights.tensor;
    *out += &format!(
        "<figure id=\"w{i}\" aria-labelledby=\"w{i}-h\">\n<h3 id=\"w{i}-h\" class=\"name\">{}</h3>\n",
        broken(tensor)
    );
    if let Some(bars) = &weights.bars {
        picture(out, bars, weights.grid.as_ref(), tensor);
    }
    let mut said = vec![what.to_owned()];
    said.extend(seen(weights));
    *out += &format!("<figcaption>{}</figcaption>\n</figure>\n", text(&said.join("; ")));
}

fn picture(out: &mut String, bars: &Bars, grid: Option<&Grid>, tensor: &str) {
    let most = bars.counts.iter().max().copied().unwrap_or(0).max(1) as f64;
    let x = |v: f64| SIDE + (WIDTH - 2.0 * SIDE) * (v - bars.low) / (bars.high - bars.low);
    *out += &format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>Histogram of {}, from {} to {}</title>\n",
        name(tensor),
        short(bars.low),
        short(bars.high),
    );
    *out += &format!("<path class=\"bar\" d=\"{}\"/>\n", outline(&bars.counts, most));
    if let Some(survivors) = &bars.survivors {
        *out += &format!("<path class=\"survivor\" d=\"{}\"/>\n", outline(survivors, most));
    }
    *out +=
        &format!("<path class=\"axis\" d=\"M{} {}H{}\"/>\n", at(SIDE), at(FLOOR), at(WIDTH - SIDE));
    if let Some(grid) = grid {
        let inside = shown(grid, bars);
        let line = |v: &f64| format!("M{} {}V{}", at(x(*v)), at(FLOOR + MARKS), at(TOP));
        let mark = |v: &f64| format!("M{} {}v{}", at(x(*v)), at(FLOOR + 1.0), at(MARKS - 1.0));
        let path: String = match inside.len() > LINES {
            false => inside.iter().map(line).collect(),
            true => inside.iter().map(mark).collect(),
        };
        *out += &format!("<path class=\"lines\" d=\"{path}\"/>\n");
    }
    let middle = if bars.low < 0.0 && bars.high > 0.0 { 0.0 } else { (bars.low + bars.high) / 2.0 };
    // Near an end it would stand on the number there.
    let fits = (0.25..=0.75).contains(&((middle - bars.low) / (bars.high - bars.low)));
    let numbers = [(bars.low, "start"), (bars.high, "end"), (middle, "middle")];
    for (v, anchor) in numbers.into_iter().take(if fits { 3 } else { 2 }) {
        *out += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
            at(x(v)),
            at(HEIGHT - 8.0),
            short(v)
        );
    }
    *out += "</svg>\n";
}

/// The values of a grid that lie within the picture.
fn shown(grid: &Grid, bars: &Bars) -> Vec<f64> {
    let values = grid.values.iter().map(|v| f64::from(*v));
    values.filter(|v| (bars.low..=bars.high).contains(v)).collect()
}

/// Bars as one outline.
fn outline(counts: &[u64], most: f64) -> String {
    let width = (WIDTH - 2.0 * SIDE) / counts.len().max(1) as f64;
    let mut path = format!("M{} {}", at(SIDE), at(FLOOR));
    for (i, n) in counts.iter().enumerate() {
        // What is there is seen.
        let height = (FLOOR - TOP) * *n as f64 / most;
        let height = if *n > 0 { height.max(0.75) } else { 0.0 };
        path += &format!("V{}H{}", at(FLOOR - height), at(SIDE + width * (i + 1) as f64));
    }
    path + &format!("V{}Z", at(FLOOR))
}

/// What a picture does not show by itself.
fn seen(weights: &Weights) -> Vec<String> {
    let mut said = Vec::new();
    if !weights.of_source {
        said.push("as restored".into());
    }
    if weights.seen < weights.of {
        said.push(format!("{} of {} weights", count(weights.seen), count(weights.of)));
    }
    if let Some(grid) = &weights.grid {
        let kind = if grid.palette { "entries of a palette" } else { "steps of a scale" };
        let first = match grid.groups {
            0 | 1 => String::new(),
            n => format!(", the first of {}", count(n)),
        };
        said.push(format!("{} {kind}{first}", count(grid.values.len() as u64)));
        let hidden =
            weights.bars.as_ref().map_or(0, |bars| grid.values.len() - shown(grid, bars).len());
        if hidden > 0 {
            said.push(format!("{hidden} of them beyond the picture"));
        }
    }
    if weights.bars.as_ref().is_some_and(|bars| bars.survivors.is_some()) {
        said.push("dark: what survives".into());
    }
    if weights.zeros > 0 {
        said.push(format!("{} not drawn", of(weights.zeros, "zero")));
    }
    if weights.nonfinite > 0 {
        said.push(format!("{} NaN or infinite", count(weights.nonfinite)));
    }
    if let Some(bars) = weights.bars.as_ref().filter(|bars| bars.beyond > 0) {
        said.push(format!("{} beyond, in the outermost bars", count(bars.beyond)));
    }
    said
}
