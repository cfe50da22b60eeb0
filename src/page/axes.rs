//! The axes of rate and distortion: bits per weight to the right, the relative error upwards, a line for every decade.

use crate::page::html::{at, short};

/// The picture, and what is around the axes.
pub const WIDTH: f64 = 720.0;
pub const HEIGHT: f64 = 416.0;
pub const LEFT: f64 = 84.0;
pub const RIGHT: f64 = 20.0;
pub const TOP: f64 = 16.0;
pub const BOTTOM: f64 = 64.0;

/// Axes for some points.
pub struct Axes {
    /// Bits at the right edge, and from one mark to the next.
    right: f64,
    step: f64,
    /// The lowest and the highest decade.
    low: f64,
    high: f64,
    /// Where the lowest is.
    floor: f64,
}

impl Axes {
    /// For points of up to so many bits, and of these errors, whose axis of bits is so far below the lowest decade.
    pub fn new(most_bits: f64, errors: impl Iterator<Item = f64> + Clone, strip: f64) -> Self {
        let most_bits = most_bits.max(1.0);
        let step = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0].into_iter().find(|s| most_bits / s <= 9.0);
        let step = step.unwrap_or(16.0);
        let right = (most_bits / step).ceil() * step;
        // Whole decades around the errors; some picture even where there are none.
        let errors = errors.filter(|e| *e > 0.0);
        let low = libm::log10(errors.clone().fold(1.0, f64::min)).floor().max(-40.0);
        let high = libm::log10(errors.fold(power(low), f64::max)).ceil().clamp(low + 1.0, 40.0);
        Self { right, step, low, high, floor: HEIGHT - BOTTOM - strip }
    }

    /// Where so many bits are; those beyond the right edge, there.
    pub fn x(&self, bits: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * bits.min(self.right) / self.right
    }

    /// Where an error is.
    pub fn y(&self, error: f64) -> f64 {
        let decades = libm::log10(error).clamp(self.low, self.high) - self.low;
        self.floor - (self.floor - TOP) * (decades / (self.high - self.low))
    }

    /// A line and a number for every decade, or for every so many.
    pub fn decades(&self, out: &mut String) {
        let decades = (self.high - self.low) as i32;
        let every = (decades / 6).max(0) + 1;
        for decade in (0..=decades).step_by(every as usize).map(|d| self.low as i32 + d) {
            let at_y = at(self.y(power(decade.into())));
            let label = short(power(decade.into()));
            *out += &format!(
                "<path class=\"axis\" d=\"M{} {at_y}H{}\"/><text x=\"{}\" y=\"{at_y}\" text-anchor=\"end\" dy=\".35em\">{label}</text>\n",
                at(LEFT),
                at(WIDTH - RIGHT),
                at(LEFT - 8.0),
            );
        }
    }

    /// Marks and numbers of bits, and what they are.
    pub fn bits(&self, out: &mut String, label: &str) {
        for tick in 0..=(self.right / self.step).round() as u32 {
            let bits = f64::from(tick) * self.step;
            let at_x = at(self.x(bits));
            *out += &format!(
                "<path class=\"axis\" d=\"M{at_x} {}v5\"/><text x=\"{at_x}\" y=\"{}\" text-anchor=\"middle\" dy=\"1.3em\">{}</text>\n",
                at(HEIGHT - BOTTOM),
                at(HEIGHT - BOTTOM + 3.0),
                short(bits),
            );
        }
        *out += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
            at((LEFT + WIDTH - RIGHT) / 2.0),
            at(HEIGHT - 8.0),
        );
    }
}

fn power(decade: f64) -> f64 {
    libm::pow(10.0, decade)
}
