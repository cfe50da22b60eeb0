//! The distinct colours of a picture, and how many pixels have each.
//!
//! Colours without transparency, which are most, are counted by their place on a Z-curve: the bits of red, green and blue in
//! turn, the highest first. Colours that follow one another there are alike, which is what makes the search for the nearest entry
//! short. Pieces of the picture are first sorted by the highest nine bits, so that the counters of what follows fit a cache.

use super::Color;
use crate::parallel;
use multiversion::multiversion;

/// Fully transparent pixels are all the same colour, whatever they hold.
pub(super) const CLEAR: Color = [0; 4];

/// Distinct colours in a fixed order: those without transparency along their Z-curve, then those with some along theirs, then
/// [`CLEAR`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distinct {
    pub colors: Vec<Color>,
    /// Pixels of each.
    pub counts: Vec<u32>,
    /// How many have no transparency; they come first.
    pub opaque: usize,
}

/// Pixels that are sorted together.
const PIECE: usize = 1 << 16;
/// Bits by which they are sorted first, and of what is left.
const HIGH: u32 = 9;
const LOW: u32 = 24 - HIGH;
const BUCKETS: usize = 1 << HIGH;

/// Counts the colours of pixels.
pub(super) fn distinct(pixels: &[Color]) -> Distinct {
    let pieces: Vec<&[Color]> = pixels.chunks(PIECE).collect();
    let pieces = parallel::map(&pieces, &|piece| Piece::of(piece));
    let buckets: Vec<usize> = (0..BUCKETS).collect();
    let counted = parallel::map(&buckets, &|bucket| count_bucket(*bucket, &pieces));
    let mut found = Distinct::default();
    let opaque: usize = counted.iter().map(|c| c.len()).sum();
    found.colors.reserve(opaque);
    found.counts.reserve(opaque);
    for bucket in &counted {
        found.colors.extend(bucket.iter().map(|(code, _)| on_curve(*code)));
        found.counts.extend(bucket.iter().map(|(_, count)| count));
    }
    found.opaque = opaque;
    let mut partial: Vec<(u32, Color)> =
        pieces.iter().flat_map(|p| p.partial.iter().copied()).collect();
    partial.sort_unstable();
    for same in partial.chunk_by(|a, b| a == b) {
        found.colors.push(same[0].1);
        found.counts.push(same.len() as u32);
    }
    let clear = pieces.iter().map(|p| p.clear).sum();
    if clear > 0 {
        found.colors.push(CLEAR);
        found.counts.push(clear);
    }
    found
}

/// Pixels sorted by the high bits of their place on the curve.
struct Piece {
    /// Where each bucket ends.
    ends: Vec<u32>,
    /// The low bits, bucket by bucket.
    low: Vec<u16>,
    /// Colours with some transparency, and their places on their own curve.
    partial: Vec<(u32, Color)>,
    clear: u32,
}

impl Piece {
    fn of(pixels: &[Color]) -> Self {
        let mut codes = vec![0; pixels.len()];
        let (mut partial, mut clear) = (Vec::new(), 0);
        if !curve(pixels, &mut codes) {
            codes.clear();
            for pixel in pixels {
                match pixel[3] {
                    255 => codes.push(place(*pixel)),
                    0 => clear += 1,
                    _ => partial.push((place_with_alpha(*pixel), *pixel)),
                }
            }
        }
        // Four counters each, because neighbours are mostly alike, and a counter that was just written is late.
        let mut counts = [[0u32; BUCKETS]; 4];
        for four in codes.chunks(4) {
            for (code, counts) in four.iter().zip(&mut counts) {
                counts[(code >> LOW) as usize % BUCKETS] += 1;
            }
        }
        let (mut ends, mut sum) = (vec![0; BUCKETS], 0);
        for (bucket, end) in ends.iter_mut().enumerate() {
            *end = sum;
            sum += counts.iter().map(|c| c[bucket]).sum::<u32>();
        }
        let mut low = vec![0; codes.len()];
        for code in codes {
            let at = &mut ends[(code >> LOW) as usize % BUCKETS];
            low[*at as usize] = (code & ((1 << LOW) - 1)) as u16;
            *at += 1;
        }
        Self { ends, low, partial, clear }
    }

    fn bucket(&self, bucket: usize) -> &[u16] {
        let start = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
        &self.low[start as usize..self.ends[bucket] as usize]
    }
}

/// The distinct places on the curve in one bucket, ascending, and how many pixels have each.
fn count_bucket(bucket: usize, pieces: &[Piece]) -> Vec<(u32, u32)> {
    let high = (bucket as u32) << LOW;
    let pixels: usize = pieces.iter().map(|p| p.bucket(bucket).len()).sum();
    let mut found = Vec::new();
    if pixels == 0 {
        return found;
    }
    let mut counts = vec![0u32; 1 << LOW];
    for piece in pieces {
        for low in piece.bucket(bucket) {
            counts[usize::from(*low) % (1 << LOW)] += 1;
        }
    }
    for (at, counts) in counts.chunks(16).enumerate() {
        if counts.iter().fold(0, |any, c| any | c) == 0 {
            continue;
        }
        for (i, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            found.push((high | (16 * at + i) as u32, *count));
        }
    }
    found
}

/// Every third bit of a place, from the bits of a channel.
const fn spread(x: u32) -> u32 {
    let x = (x | x << 8) & 0xf00f;
    let x = (x | x << 4) & 0x000c_30c3;
    (x | x << 2) & 0x0024_9249
}

const fn gather(x: u32) -> u32 {
    let x = x & 0x0024_9249;
    let x = (x | x >> 2) & 0x000c_30c3;
    let x = (x | x >> 4) & 0x00_f00f;
    (x | x >> 8) & 0xff
}

/// The place of a colour without transparency on its curve, below 2^24.
fn place(color: Color) -> u32 {
    let [r, g, b, _] = color.map(u32::from);
    spread(r) << 2 | spread(g) << 1 | spread(b)
}

/// The colour at a place.
fn on_curve(code: u32) -> Color {
    [gather(code >> 2) as u8, gather(code >> 1) as u8, gather(code) as u8, 255]
}

/// The place of a colour among those with transparency, from four channels.
fn place_with_alpha(color: Color) -> u32 {
    let spread = |x: u8| {
        let x = u32::from(x);
        let x = (x | x << 12) & 0x000f_000f;
        let x = (x | x << 6) & 0x0303_0303;
        (x | x << 3) & 0x1111_1111
    };
    let [r, g, b, a] = color.map(spread);
    r << 3 | g << 2 | b << 1 | a
}

/// The places of pixels; whether none of them has any transparency.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn curve(pixels: &[Color], codes: &mut [u32]) -> bool {
    let mut alpha = u32::MAX;
    for (pixel, code) in pixels.iter().zip(codes) {
        let x = u32::from_le_bytes(*pixel);
        alpha &= x;
        *code = spread(x & 255) << 2 | spread(x >> 8 & 255) << 1 | spread(x >> 16 & 255);
    }
    alpha >> 24 == 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Colours and counts by a map.
    fn counted(pixels: &[Color]) -> BTreeMap<Color, u32> {
        let mut found = BTreeMap::new();
        for pixel in pixels {
            let color = if pixel[3] == 0 { CLEAR } else { *pixel };
            *found.entry(color).or_default() += 1;
        }
        found
    }

    fn pixels(n: usize, alphas: &[u8]) -> Vec<Color> {
        let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761).rotate_left(13);
        let pixel = |i: usize| {
            let [r, g, b, _] = random(i * i).to_le_bytes();
            [r & 0x1f | 0x60, g & 0xcf, b, alphas[random(i) as usize % alphas.len()]]
        };
        (0..n).map(pixel).collect()
    }

    #[test]
    fn places_are_a_curve_through_all_colours() {
        for code in (0..1 << 24).step_by(977).chain([0xff_ffff]) {
            assert_eq!(place(on_curve(code)), code);
        }
        assert_eq!(place([0x80, 0, 0, 255]), 1 << 23);
        assert_eq!(place([0, 0x80, 0, 255]), 1 << 22);
        assert_eq!(place([0, 0, 1, 255]), 1);
        assert_eq!(place_with_alpha([255, 0, 0, 0]), 0x8888_8888);
        assert_eq!(place_with_alpha([0, 0, 0, 255]), 0x1111_1111);
    }

    #[test]
    fn counts_are_those_of_a_map() {
        for n in [0, 1, 2, 1000, PIECE, 3 * PIECE + 17] {
            for alphas in [&[255][..], &[0], &[255, 0], &[0, 1, 128, 254, 255]] {
                let pixels = pixels(n, alphas);
                let found = distinct(&pixels);
                let expected = counted(&pixels);
                let pairs = found.colors.iter().copied().zip(found.counts.iter().copied());
                assert_eq!(pairs.collect::<BTreeMap<_, _>>(), expected, "{n} {alphas:?}");
                assert_eq!(found.colors.len(), expected.len(), "each once");
                assert_eq!(found.opaque, expected.keys().filter(|c| c[3] == 255).count());
                assert!(found.colors[..found.opaque].is_sorted_by_key(|c| place(*c)));
            }
        }
    }
}
