//! Where the distance of two colours is measured: colours as points of fixed-point numbers, and points as colours.
//!
//! Everything here is a fixed sequence of IEEE operations, and what is no such operation in hardware (powers) is `libm`'s, so that
//! every machine gives a colour the same point.

use super::Color;
use multiversion::multiversion;
use std::sync::LazyLock;

/// A colour space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// Red, green and blue as they are stored (sRGB).
    #[default]
    Rgb,
    /// Oklab: lightness and two axes of hue, in which equal distances look alike. B. Ottosson, A perceptual color space for image
    /// processing, 2020.
    Oklab,
}

impl Space {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Oklab => "oklab",
        }
    }
}

/// Steps of a channel from 0 to 255 in a point.
const STEPS: i32 = 8;
/// What stands for 1: points are at most this far from 0. Four squared differences of it are less than 2^24, so that floats of
/// single precision hold every squared distance exactly.
pub(super) const ONE: i32 = 255 * STEPS;

/// A point: three coordinates, premultiplied by alpha, and alpha.
pub(super) type Point = [i16; 4];

/// The points of colours.
pub(super) fn points(space: Space, colors: &[Color], out: &mut [Point]) {
    match space {
        Space::Rgb => rgb(colors, out),
        Space::Oklab => oklab(colors, &LINEAR, out),
    }
}

/// Between which points the colours of a space lie.
pub(super) fn range(space: Space) -> ([i32; 4], [i32; 4]) {
    match space {
        Space::Rgb => ([0; 4], [ONE; 4]),
        // The axes of hue go from -0.32 to 0.28.
        Space::Oklab => ([0, -ONE / 3, -ONE / 3, 0], [ONE, ONE / 3, ONE / 3, ONE]),
    }
}

/// The colour that is nearest to a point, rounded channel by channel.
pub(super) fn color(space: Space, point: Point) -> Color {
    let alpha = (i32::from(point[3]) + STEPS / 2) / STEPS;
    if alpha <= 0 {
        return [0; 4];
    }
    match space {
        Space::Rgb => {
            let channel = |x: i16| {
                // x = v alpha STEPS / 255, and v is rounded.
                let (x, alpha) = (i32::from(x).max(0), i32::from(point[3]).max(1));
                ((x * 510 + alpha) / (2 * alpha)).min(255) as u8
            };
            [channel(point[0]), channel(point[1]), channel(point[2]), alpha.min(255) as u8]
        }
        Space::Oklab => {
            let [l, a, b] = [point[0], point[1], point[2]].map(|x| f64::from(x) / f64::from(point[3]));
            let root = [
                l + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
                l - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
                l - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
            ];
            let [l, m, s] = root.map(|x| x * x * x);
            let [r, g, b] = [
                4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
                -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
                -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
            ]
            .map(encoded);
            [r, g, b, alpha.min(255) as u8]
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn rgb(colors: &[Color], out: &mut [Point]) {
    for (color, out) in colors.iter().zip(out) {
        let alpha = i32::from(color[3]);
        // Exact for alpha = 255.
        let channel = |v: u8| ((i32::from(v) * alpha * STEPS * 2 + 255) / 510) as i16;
        *out = [channel(color[0]), channel(color[1]), channel(color[2]), (alpha * STEPS) as i16];
    }
}

/// Light of an encoded channel.
static LINEAR: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|v| {
        let x = v as f64 / 255.0;
        let light = if x <= 0.040_45 { x / 12.92 } else { libm::pow((x + 0.055) / 1.055, 2.4) };
        light as f32
    })
});

/// The channel of an amount of light.
fn encoded(light: f64) -> u8 {
    let light = light.clamp(0.0, 1.0);
    let x = match light <= 0.003_130_8 {
        true => light * 12.92,
        false => 1.055 * libm::pow(light, 1.0 / 2.4) - 0.055,
    };
    (x * 255.0 + 0.5) as u8
}

/// The cube root of a number from 0 to 1, to a few units in the last place: a guess from the exponent, and two steps of Halley's.
#[inline(always)]
fn cube_root(x: f32) -> f32 {
    // Nothing is so dark but black, which would be 0 / 0.
    let x = x.max(1e-15);
    let mut y = f32::from_bits(x.to_bits() / 3 + 0x2a51_4067);
    for _ in 0..2 {
        let cube = y * y * y;
        y = y * (cube + (x + x)) / ((cube + cube) + x);
    }
    y
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn oklab(colors: &[Color], linear: &[f32; 256], out: &mut [Point]) {
    const BLOCK: usize = 64;
    let mut light = [[0f32; BLOCK]; 3];
    let mut scale = [0f32; BLOCK];
    let mut found = [[0i32; BLOCK]; 4];
    for (colors, out) in colors.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        for (i, color) in colors.iter().enumerate() {
            for (light, v) in light.iter_mut().zip(color) {
                light[i] = linear[usize::from(*v)];
            }
            scale[i] = f32::from(color[3]) * STEPS as f32;
            found[3][i] = i32::from(color[3]) * STEPS;
        }
        for i in 0..BLOCK {
            let [r, g, b] = [light[0][i], light[1][i], light[2][i]];
            let l = cube_root(0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b);
            let m = cube_root(0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b);
            let s = cube_root(0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b);
            let scaled = |x: f32| {
                // Rounded by truncating what is made positive.
                (x * scale[i] + (ONE as f32 + 0.5)) as i32 - ONE
            };
            found[0][i] = scaled(0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s);
            found[1][i] = scaled(1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s);
            found[2][i] = scaled(0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s);
        }
        for (i, out) in out.iter_mut().enumerate() {
            *out = [found[0][i] as i16, found[1][i] as i16, found[2][i] as i16, found[3][i] as i16];
        }
    }
}
