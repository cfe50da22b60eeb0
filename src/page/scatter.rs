//! Rate and distortion: bits per weight against the error of every tensor.

use crate::page::{
    axes::{Axes, BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH},
    html::{at, name, short, text},
};

/// Points that are drawn, at most.
pub const MOST: usize = 2000;
/// Colours that tell stored forms apart.
pub const COLOURS: usize = 8;

/// The strip of those that come back bit for bit.
const STRIP: f64 = 56.0;

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
    let most_bits = points.iter().map(|p| p.bits.min(widest)).fold(0.0, f64::max);
    let axes = Axes::new(most_bits, points.iter().map(|p| p.error), STRIP);
    let exact = HEIGHT - BOTTOM - STRIP / 2.0;
    *out += &format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"rd-t rd-d\">\
         <title id=\"rd-t\">Bits per weight against the error of every tensor</title>\
         <desc id=\"rd-d\">A point for each tensor: to the right, bits per weight; upwards, the relative error on a logarithmic \
         scale; in the strip at the bottom those that come back bit for bit. The table has the same figures.</desc>\n"
    );
    axes.decades(out);
    *out += &format!(
        "<path class=\"axis\" d=\"M{} {}H{}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\" dy=\".35em\">exact</text>\n",
        at(LEFT),
        at(HEIGHT - BOTTOM),
        at(WIDTH - RIGHT),
        at(LEFT - 8.0),
        at(exact),
    );
    axes.bits(out, "bits per weight");
    let most = points.iter().map(|p| p.weights).max().unwrap_or(0).max(1) as f64;
    let mut drawn: Vec<&Point> = points.iter().collect();
    // The small ones over the large ones.
    drawn.sort_by_key(|p| std::cmp::Reverse(p.weights));
    for p in drawn {
        let radius = 3.0 + 8.0 * (p.weights as f64 / most).sqrt();
        let centre = if p.error > 0.0 { axes.y(p.error) } else { exact };
        let error =
            if p.error > 0.0 { format!("error {}", short(p.error)) } else { "exact".into() };
        *out += &format!(
            "<circle class=\"m{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{}: {} bits, {error}</title></circle>\n",
            p.colour,
            at(axes.x(p.bits)),
            at(centre),
            at(radius),
            name(p.name),
            short(p.bits),
        );
    }
    *out += "</svg>\n";
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
