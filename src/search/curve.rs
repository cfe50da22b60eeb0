//! What other sizes would have: rate and distortion of a model, as a table and as a picture.

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

/// The picture, and its margins.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Points of a curve at most.
const POINTS: usize = 128;

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
        let step = (most.min(16.0) - least).max(0.0) / POINTS as f64;
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

    /// As a picture: bits of a weight to the right, the error upwards, a factor of ten for every line. `chosen` is marked.
    pub fn svg(&self, chosen: Option<(u64, f64)>) -> String {
        let shown = |p: &&CurvePoint| p.rel_error > 0.0 && p.bits_per_weight <= 16.0;
        let shown: Vec<&CurvePoint> = self.points.iter().filter(shown).collect();
        let bits = |p: &&&CurvePoint| p.bits_per_weight;
        let most = shown.iter().map(|p| bits(&p)).fold(1.0, f64::max).ceil();
        let errors = || shown.iter().map(|p| libm::log10(p.rel_error));
        let (low, high) =
            (errors().fold(0.0, f64::min).floor(), errors().fold(-9.0, f64::max).ceil());
        let high = high.max(low + 1.0);
        let x = |bits: f64| LEFT + bits / most * (WIDTH - LEFT - RIGHT);
        let y = |error: f64| {
            TOP + (high - libm::log10(error).max(low)) / (high - low) * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        for b in 0..=most as u32 {
            let at = x(b.into());
            _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#e4e4e4\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{b}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            );
        }
        for power in low as i32..=high as i32 {
            let error = libm::exp10(power.into());
            let at = y(error);
            _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#e4e4e4\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{error}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        let path: Vec<String> = shown
            .iter()
            .filter(|p| p.preset.is_none())
            .map(|p| format!("{:.1} {:.1}", x(p.bits_per_weight), y(p.rel_error)))
            .collect();
        _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\"/>",
            path.join("L")
        );
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for p in &shown {
            if let Some(preset) = p.preset {
                let (x, y) = (x(p.bits_per_weight), y(p.rel_error));
                // Below where the name of another stands above.
                let near = |(a, b): &(f64, f64)| (a - x).abs() < 60.0 && (b - y).abs() < 18.0;
                let beside = if taken.iter().any(near) { y + 15.0 } else { y - 5.0 };
                taken.push((x, y));
                _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#d1242f\"/><text x=\"{:.1}\" y=\"{:.1}\">{preset}</text>",
                    x + 7.0,
                    beside
                );
            }
        }
        if let Some((bytes, error)) = chosen.filter(|c| c.1 > 0.0) {
            let bits = 8.0 * bytes as f64 / self.elements.max(1) as f64;
            _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\"/>",
                x(bits.min(most)),
                y(error)
            );
        }
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">bits per weight, every byte of the output counted</text>\n\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">relative error of the treated weights</text>\n</svg>",
            (WIDTH + LEFT) / 2.0,
            HEIGHT - 12.0,
            HEIGHT / 2.0
        );
        svg
    }
}
