//! What other sizes would have: rate and distortion of a model, as a table and as a picture.

use crate::page::{
    axes::{Axes, HEIGHT, WIDTH},
    html::at,
};
use serde::Serialize;
use std::fmt::Write;

/// What one size would have, as samples say.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// The preset that has it; none of the best that was found.
    pub preset: Option<&'static str>,
    /// Of all files of the output.
    pub bytes: u64,
    /// Those over the elements of the checkpoint.
    pub bits_per_weight: f64,
    /// The root of the mean of the squared relative errors.
    pub rel_error: f64,
}

/// Sizes from the smallest to the largest, and presets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Curve {
    /// In the order of their bytes, presets last.
    pub points: Vec<CurvePoint>,
    #[serde(skip)]
    elements: u64,
}

/// Points of a curve at most, and the bits of the last that a picture shows.
const POINTS: usize = 128;
const WIDEST: f64 = 16.0;

impl Curve {
    pub(super) fn new(elements: u64) -> Self {
        Self { points: Vec::new(), elements }
    }

    pub(super) fn push(&mut self, preset: Option<&'static str>, bytes: f64, rel_error: f64) {
        let bits_per_weight = 8.0 * bytes / self.elements.max(1) as f64;
        self.points.push(CurvePoint { preset, bytes: bytes as u64, bits_per_weight, rel_error });
    }

    /// Leaves as many points as a picture shows, about evenly along the bits.
    pub(super) fn thin(&mut self) {
        let own = self.points.iter().filter(|p| p.preset.is_none());
        let (least, most) = own.fold((f64::MAX, 0.0f64), |(least, most), p| {
            (least.min(p.bits_per_weight), most.max(p.bits_per_weight))
        });
        let mut next = least;
        let step = (most.min(WIDEST) - least).max(0.0) / POINTS as f64;
        self.points.retain(|p| {
            let keep = p.preset.is_some() || p.bits_per_weight >= next || p.bits_per_weight >= most;
            if keep && p.preset.is_none() {
                next = p.bits_per_weight + step;
            }
            keep
        });
    }

    /// As CSV, with a line that names the columns.
    pub fn csv(&self) -> String {
        let mut text = String::from("what,bytes,bits_per_weight,rel_error\n");
        for p in &self.points {
            let what = p.preset.unwrap_or("best");
            _ = writeln!(text, "{what},{},{:.5},{:.6e}", p.bytes, p.bits_per_weight, p.rel_error);
        }
        text
    }

    /// As a picture: bits of a weight to the right, the error upwards. `chosen` is marked.
    pub fn svg(&self, chosen: Option<(u64, f64)>) -> String {
        let shown = |p: &&CurvePoint| p.rel_error > 0.0 && p.bits_per_weight <= WIDEST;
        let shown: Vec<&CurvePoint> = self.points.iter().filter(shown).collect();
        let most = shown.iter().map(|p| p.bits_per_weight).fold(0.0, f64::max);
        let axes = Axes::new(most, shown.iter().map(|p| p.rel_error), 0.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>Relative error of the searched weights, by bits per weight</title>\n\
             <style>.axis {{ stroke: #ddd; fill: none }} .best {{ stroke: #1f6feb; stroke-width: 2; fill: none }} .preset {{ fill: #d1242f }}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        axes.decades(&mut svg);
        axes.bits(
            &mut svg,
            "bits per weight, every byte of the output counted; upwards the relative error",
        );
        let place = |bits: f64, error: f64| (axes.x(bits), axes.y(error));
        let best = shown.iter().filter(|p| p.preset.is_none());
        let best = best.map(|p| place(p.bits_per_weight, p.rel_error));
        let line: Vec<String> = best.map(|(x, y)| format!("{} {}", at(x), at(y))).collect();
        if !line.is_empty() {
            _ = writeln!(svg, "<path class=\"best\" d=\"M{}\"/>", line.join("L"));
        }
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for (p, preset) in shown.iter().filter_map(|p| Some((p, p.preset?))) {
            let (x, y) = place(p.bits_per_weight, p.rel_error);
            // Below where the name of another stands above.
            let near = |(a, b): &(f64, f64)| (a - x).abs() < 60.0 && (b - y).abs() < 18.0;
            let beside = if taken.iter().any(near) { y + 15.0 } else { y - 5.0 };
            taken.push((x, y));
            _ = writeln!(
                svg,
                "<circle class=\"preset\" cx=\"{}\" cy=\"{}\" r=\"4\"/><text x=\"{}\" y=\"{}\">{preset}</text>",
                at(x),
                at(y),
                at(x + 7.0),
                at(beside),
            );
        }
        if let Some((bytes, error)) = chosen.filter(|c| c.1 > 0.0) {
            let (x, y) = place(8.0 * bytes as f64 / self.elements.max(1) as f64, error);
            _ = writeln!(svg, "<circle class=\"best\" cx=\"{}\" cy=\"{}\" r=\"5\"/>", at(x), at(y));
        }
        svg += "</svg>\n";
        svg
    }
}
