//! Rate and distortion: bits per weight against the error of every tensor.

use crate::page::html::{at, name, short, text};

/// Points that are drawn, at most.
pub const MOST: usize = 2000;
/// Colours that tell stored forms apart.
pub const COLOURS: usize = 8;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 416.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
/// The strip of those that come back bit for bit, and the axis below it.
const STRIP: f64 = 56.0;
const BOTTOM: f64 = 64.0;

/// A tensor.
pub struct Point<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bits per weight.
    pub bits: f64,
    /// Its relative error; 0 where it comes back bit for bit.
    pub error: f64,
    /// How many weights it has.
    pub weights: u64,
    /// Its colour.
    pub colour: usize,
}

/// The picture. Those of more than `widest` bits stand at the right edge.
pub fn scatter(out: &mut String, points: &[Point], widest: f64) {
    let most_bits = points.iter().map(|p| p.bits.min(widest)).fold(0.0, f64::max).max(1.0);
    let step = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0].into_iter().find(|s| most_bits / s <= 9.0);
    let step = step.unwrap_or(16.0);
    let right = (most_bits / step).ceil() * step;
    let x = |bits: f64| LEFT + (WIDTH - LEFT - RIGHT) * bits.min(right) / right;
    let errors = || points.iter().map(|p| p.error).filter(|e| *e > 0.0);
    // Whole decades around the errors; some picture even where there are none.
    let low = libm::log10(errors().fold(1.0, f64::min)).floor().max(-40.0);
    let high = libm::log10(errors().fold(power(low), f64::max)).ceil().clamp(low + 1.0, 40.0);
    let floor = HEIGHT - BOTTOM - STRIP;
    let y = |error: f64| {
        let share = (libm::log10(error).clamp(low, high) - low) / (high - low);
        floor - (floor - TOP) * share
    };
    let exact = HEIGHT - BOTTOM - STRIP / 2.0;
    *out += &format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"rd-t rd-d\">\
         <title id=\"rd-t\">Bits per weight against the error of every tensor</title>\
         <desc id=\"rd-d\">A point for each tensor: to the right, bits per weight; upwards, the relative error on a logarithmic \
         scale; in the strip at the bottom those that come back bit for bit. The table has the same figures.</desc>\n"
    );
    let decades = (high - low) as i32;
    let every = (decades / 6).max(0) + 1;
    for decade in (0..=decades).step_by(every as usize).map(|d| low as i32 + d) {
        let at_y = at(y(power(decade.into())));
        let label = short(power(decade.into()));
        *out += &format!(
            "<path class=\"axis\" d=\"M{} {at_y}H{}\"/><text x=\"{}\" y=\"{at_y}\" text-anchor=\"end\" dy=\".35em\">{label}</text>\n",
            at(LEFT),
            at(WIDTH - RIGHT),
            at(LEFT - 8.0),
        );
    }
    *out += &format!(
        "<path class=\"axis\" d=\"M{} {}H{}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\" dy=\".35em\">exact</text>\n",
        at(LEFT),
        at(HEIGHT - BOTTOM),
        at(WIDTH - RIGHT),
        at(LEFT - 8.0),
        at(exact),
    );
    for tick in 0..=(right / step).round() as u32 {
        let bits = f64::from(tick) * step;
        let at_x = at(x(bits));
        *out += &format!(
            "<path class=\"axis\" d=\"M{at_x} {}v5\"/><text x=\"{at_x}\" y=\"{}\" text-anchor=\"middle\" dy=\"1.3em\">{}</text>\n",
            at(HEIGHT - BOTTOM),
            at(HEIGHT - BOTTOM + 3.0),
            short(bits),
        );
    }
    *out += &format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">bits per weight</text>\n",
        at((LEFT + WIDTH - RIGHT) / 2.0),
        at(HEIGHT - 8.0),
    );
    let most = points.iter().map(|p| p.weights).max().unwrap_or(0).max(1) as f64;
    let mut drawn: Vec<&Point> = points.iter().collect();
    // The small ones over the large ones.
    drawn.sort_by_key(|p| std::cmp::Reverse(p.weights));
    for p in drawn {
        let radius = 3.0 + 8.0 * (p.weights as f64 / most).sqrt();
        let centre = if p.error > 0.0 { y(p.error) } else { exact };
        let error =
            if p.error > 0.0 { format!("error {}", short(p.error)) } else { "exact".into() };
        *out += &format!(
            "<circle class=\"m{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{}: {} bits, {error}</title></circle>\n",
            p.colour,
            at(x(p.bits)),
            at(centre),
            at(radius),
            name(p.name),
            short(p.bits),
        );
    }
    *out += "</svg>\n";
}

fn power(decade: f64) -> f64 {
    libm::pow(10.0, decade)
}

/// What the colours are.
pub fn legend(out: &mut String, forms: &[(usize, String)]) {
    *out += "<ul class=\"legend\">\n";
    for (colour, form) in forms {
        *out += &format!(
            "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle class=\"m{colour}\" cx=\"5\" cy=\"5\" r=\"5\"/></svg>{}</li>\n",
            text(form)
        );
    }
    *out += "</ul>\n";
}
