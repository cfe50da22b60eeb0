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
            let [l, a, b] =
                [point[0], point[1], point[2]].map(|x| f64::from(x) / f64::from(point[3]));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Oklab as its author gives it, in double precision with the platform's functions.
    fn plain(color: Color) -> [f64; 4] {
        let [r, g, b] = [color[0], color[1], color[2]].map(|v| {
            let x = f64::from(v) / 255.0;
            if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        });
        let l = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b).cbrt();
        let m = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b).cbrt();
        let s = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b).cbrt();
        let alpha = f64::from(color[3]) / 255.0;
        [
            alpha * (0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s),
            alpha * (1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s),
            alpha * (0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s),
            alpha,
        ]
    }

    fn colors() -> Vec<Color> {
        let random = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(9).to_le_bytes();
        let mut colors: Vec<Color> = (0..40_000).map(random).collect();
        let levels = [0, 1, 2, 9, 10, 11, 127, 254, 255];
        for r in levels {
            for g in levels {
                colors.extend(levels.iter().flat_map(|b| [[r, g, *b, 255], [r, g, *b, 77]]));
            }
        }
        colors
    }

    #[test]
    fn points_of_oklab_are_those_of_its_definition() {
        let colors = colors();
        let mut found = vec![[0; 4]; colors.len()];
        points(Space::Oklab, &colors, &mut found);
        for (color, found) in colors.iter().zip(found) {
            for (exact, found) in plain(*color).into_iter().zip(found) {
                let off = (exact * f64::from(ONE) - f64::from(found)).abs();
                assert!(off <= 0.502, "{color:?}: {exact} {found}");
            }
        }
        let mut known = [[0; 4]; 3];
        points(Space::Oklab, &[[0, 0, 0, 255], [255; 4], [255, 0, 0, 255]], &mut known);
        assert_eq!(known, [[0, 0, 0, 2040], [2040, 0, 0, 2040], [1281, 459, 257, 2040]]);
    }

    #[test]
    fn points_of_rgb_are_eight_times_the_channel() {
        let mut found = [[0; 4]; 3];
        points(Space::Rgb, &[[1, 2, 255, 255], [255, 100, 3, 51], [9, 9, 9, 0]], &mut found);
        assert_eq!(found, [[8, 16, 2040, 2040], [408, 160, 5, 408], [0; 4]]);
    }

    #[test]
    fn a_colour_comes_back_from_its_point() {
        let colors = colors();
        for space in [Space::Rgb, Space::Oklab] {
            let mut found = vec![[0; 4]; colors.len()];
            points(space, &colors, &mut found);
            for (before, point) in colors.iter().zip(found) {
                let after = color(space, point);
                assert_eq!(after[3], before[3]);
                if before[3] == 255 && space == Space::Rgb {
                    assert_eq!(after, *before);
                }
                // A step of a point is an eighth of one of a channel in RGB; in Oklab, and where little is seen, more.
                let most = match (space, before[3]) {
                    (_, 0..16) => continue,
                    (Space::Rgb, alpha) => 255 / i32::from(alpha) / 8 + 1,
                    (Space::Oklab, alpha) => 8 * 255 / i32::from(alpha),
                };
                for (a, b) in before.iter().zip(after) {
                    let off = (i32::from(*a) - i32::from(b)).abs();
                    assert!(off <= most, "{space:?}: {before:?} {after:?}");
                }
            }
        }
    }

    /// What the search for the nearest entry rests on.
    #[test]
    fn squared_distances_are_exact_in_single_precision() {
        const { assert!(4 * ONE * ONE < 1 << 24) };
        let colors = colors();
        let (least, greatest) = range(Space::Oklab);
        let mut found = vec![[0; 4]; colors.len()];
        points(Space::Oklab, &colors, &mut found);
        for point in found {
            for axis in 0..4 {
                assert!(
                    (least[axis]..=greatest[axis]).contains(&i32::from(point[axis])),
                    "{point:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_seen_is_clear() {
        assert_eq!(color(Space::Rgb, [9, 9, 9, 3]), [0; 4]);
        assert_eq!(color(Space::Oklab, [9, 9, 9, 3]), [0; 4]);
    }
}
