//! The weights of a tensor as bars, with the palette or the steps of its first group drawn in, or the outline of what they come
//! back as; and entries that are pairs of weights as points.

use crate::page::{
    html::{at, broken, count, name, of, short, text},
    weights::{Bars, Grid, Pairs, Weights},
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
/// A side of the picture of pairs, and points in it at most.
const SQUARE: f64 = 168.0;
const POINTS: usize = 512;

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
    if let Some(pairs) = &weights.pairs {
        points(out, pairs, tensor);
    }
    let mut said = vec![what.to_owned()];
    said.extend(seen(weights));
    *out += &format!("<figcaption>{}</figcaption>\n</figure>\n", text(&said.join("; ")));
}

fn picture(out: &mut String, bars: &Bars, grid: Option<&Grid>, tensor: &str) {
    let highest = |counts: &[u64]| counts.iter().max().copied().unwrap_or(0);
    let most = highest(&bars.counts).max(1);
    // Few values that many weights come back as would make all else flat.
    let after = bars.after.as_ref().map_or(0, |a| highest(&a.counts));
    let most = most.max(after.min(2 * most)) as f64;
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
    if let Some(after) = &bars.after {
        *out += &format!("<path class=\"after\" d=\"{}\"/>\n", outline(&after.counts, most));
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

/// Entries that are pairs, one number to the right and one upwards, around zero.
fn points(out: &mut String, pairs: &Pairs, tensor: &str) {
    let most = pairs.entries.iter().flatten().map(|v| v.unsigned_abs()).max().unwrap_or(0).max(1);
    let place =
        |v: i16| (SQUARE - 2.0 * SIDE) / 2.0 * f64::from(v) / f64::from(most) + SQUARE / 2.0;
    *out += &format!(
        "<svg class=\"pairs\" viewBox=\"0 0 {SQUARE} {SQUARE}\" role=\"img\"><title>Entries of the codebook of {}</title>\n\
         <path class=\"axis\" d=\"M{} {}V{}M{} {}H{}\"/>\n",
        name(tensor),
        at(place(0)),
        at(SIDE),
        at(SQUARE - SIDE),
        at(SIDE),
        at(place(0)),
        at(SQUARE - SIDE),
    );
    // Of length nothing, with round ends.
    let dot = |[a, b]: &[i16; 2]| format!("M{} {}h0", at(place(*a)), at(SQUARE - place(*b)));
    let path: String = drawn(pairs).map(dot).collect();
    *out += &format!("<path class=\"dots\" d=\"{path}\"/>\n</svg>\n");
}

/// Every so many of the entries, the first of them among these.
fn drawn(pairs: &Pairs) -> impl Iterator<Item = &[i16; 2]> {
    pairs.entries.iter().step_by(pairs.entries.len().div_ceil(POINTS).max(1))
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
        let height = (FLOOR - TOP) * (*n as f64 / most).min(1.0);
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
    if let Some(after) = weights.bars.as_ref().and_then(|bars| bars.after.as_ref()) {
        let zeros = match after.zeros {
            0 => String::new(),
            n => format!(", but for {}", of(n, "zero")),
        };
        said.push(format!("line: what they come back as{zeros}"));
    }
    if let Some(pairs) = &weights.pairs {
        let (shown, all) = (drawn(pairs).count(), pairs.entries.len());
        let some = if shown < all { format!("{} of ", count(shown as u64)) } else { String::new() };
        let first = match pairs.books {
            1 => String::new(),
            n => format!(", the first of {n} codebooks"),
        };
        said.push(format!("points: {some}{} entries{first}", count(all as u64)));
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
