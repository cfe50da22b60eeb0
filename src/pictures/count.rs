//! The distinct colours of a picture, and how many pixels have each.
//!
//! Colours without transparency, which are most, are counted by their place on a Z-curve: the bits of red, green and blue in
//! turn, the highest first. Colours that follow one another there are alike, which is what makes the search for the nearest entry
//! short. Pieces of the picture are first sorted by the highest nine bits, so that the counters of what follows fit a cache.

use super::Color;
use crate::parallel;
use multiversion::multiversion;
use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

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

/// Pixels sorted by the high bits of their places, of which it is known how many colours they have.
pub(super) struct Sorted {
    /// The low bits, piece by piece and bucket by bucket.
    low: Vec<u16>,
    pieces: Vec<Piece>,
    /// Distinct places in each bucket.
    places: Vec<usize>,
    /// Colours with some transparency, and their places on their own curve.
    pub partial: Vec<(u32, Color)>,
    clear: u32,
}

impl Sorted {
    pub fn of(pixels: &[Color]) -> Self {
        // All that is large is one piece of memory: what threads allocate by themselves stays with them for a while.
        let mut low = vec![0; pixels.len()];
        let pieces: Vec<(&[Color], Mutex<&mut [u16]>)> =
            pixels.chunks(PIECE).zip(low.chunks_mut(PIECE).map(Mutex::new)).collect();
        let pieces = parallel::map(&pieces, &|(pixels, low)| Piece::of(pixels, &mut locked(low)));
        let count = |is: fn(u8) -> bool| {
            let seen = pixels.chunks(PIECE).zip(&pieces).filter(|(_, piece)| piece.transparent);
            seen.flat_map(|(pixels, _)| pixels).filter(move |p| is(p[3]))
        };
        let is_partial = |alpha| !matches!(alpha, 0 | 255);
        let mut partial = Vec::with_capacity(count(is_partial).count());
        partial.extend(count(is_partial).map(|pixel| (place_with_alpha(*pixel), *pixel)));
        let clear = count(|alpha| alpha == 0).count() as u32;
        let mut sorted = Self { low, pieces, places: vec![], partial, clear };
        let buckets: Vec<usize> = (0..BUCKETS).collect();
        sorted.places = parallel::map(&buckets, &|bucket| sorted.places_in(*bucket));
        sorted
    }

    /// How many colours there are at most: those with some transparency as often as there are pixels.
    pub fn most(&self) -> usize {
        self.places.iter().sum::<usize>() + self.partial.len() + usize::from(self.clear > 0)
    }

    /// Counts them.
    pub fn counted(mut self) -> Distinct {
        self.partial.sort_unstable();
        let same = || self.partial.chunk_by(|a, b| a == b);
        let opaque: usize = self.places.iter().sum();
        let all = opaque + same().count() + usize::from(self.clear > 0);
        let mut found =
            Distinct { colors: vec![CLEAR; all], counts: vec![self.clear; all], opaque };
        let (mut colors, mut counts) = (&mut found.colors[..], &mut found.counts[..]);
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (bucket, places) in self.places.iter().enumerate() {
            let (own, rest) = (colors.split_at_mut(*places), counts.split_at_mut(*places));
            buckets.push((bucket, Mutex::new((own.0, rest.0))));
            (colors, counts) = (own.1, rest.1);
        }
        for (same, (color, count)) in same().zip(colors.iter_mut().zip(counts)) {
            (*color, *count) = (same[0].1, same.len() as u32);
        }
        parallel::map(&buckets, &|(bucket, own)| {
            let (colors, counts) = &mut *locked(own);
            self.count_bucket(*bucket, colors, counts);
        });
        found
    }

    /// The low bits of the pixels of a bucket, by pieces.
    fn bucket(&self, bucket: usize) -> impl Iterator<Item = &[u16]> {
        let pieces = self.low.chunks(PIECE).zip(&self.pieces);
        pieces.map(move |(low, piece)| &low[piece.range(bucket)])
    }

    /// How many distinct places on the curve there are in one bucket.
    fn places_in(&self, bucket: usize) -> usize {
        if self.bucket(bucket).all(<[u16]>::is_empty) {
            return 0;
        }
        let mut seen = vec![0u8; 1 << LOW];
        for low in self.bucket(bucket) {
            low.iter().for_each(|low| seen[usize::from(*low) % (1 << LOW)] = 1);
        }
        seen.iter().map(|seen| usize::from(*seen)).sum()
    }

    /// The colours of one bucket, along the curve, and how many pixels have each.
    fn count_bucket(&self, bucket: usize, colors: &mut [Color], found: &mut [u32]) {
        if colors.is_empty() {
            return;
        }
        let high = (bucket as u32) << LOW;
        let mut counts = vec![0u32; 1 << LOW];
        for low in self.bucket(bucket) {
            low.iter().for_each(|low| counts[usize::from(*low) % (1 << LOW)] += 1);
        }
        let mut places = colors.iter_mut().zip(found);
        for (at, counts) in counts.chunks(16).enumerate() {
            if counts.iter().fold(0, |any, c| any | c) == 0 {
                continue;
            }
            for (i, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
                let Some((color, found)) = places.next() else { return };
                (*color, *found) = (on_curve(high | (at * 16 + i) as u32), *count);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the buckets of some pixels lie.
struct Piece {
    /// Where each ends.
    ends: Vec<u32>,
    /// Whether some pixels have transparency, and are in no bucket.
    transparent: bool,
}

impl Piece {
    /// Sorts the low bits of the pixels without transparency.
    fn of(pixels: &[Color], low: &mut [u16]) -> Self {
        let mut codes = vec![0; pixels.len()];
        let transparent = !curve(pixels, &mut codes);
        if transparent {
            codes.clear();
            codes.extend(pixels.iter().filter(|p| p[3] == 255).map(|p| place(*p)));
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
        for code in codes {
            let at = &mut ends[(code >> LOW) as usize % BUCKETS];
            low[*at as usize] = (code & ((1 << LOW) - 1)) as u16;
            *at += 1;
        }
        Self { ends, transparent }
    }

    fn range(&self, bucket: usize) -> Range<usize> {
        let start = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
        start as usize..self.ends[bucket] as usize
    }
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
                let sorted = Sorted::of(&pixels);
                let (most, partial) = (sorted.most(), sorted.partial.len());
                let found = sorted.counted();
                let expected = counted(&pixels);
                let pairs = found.colors.iter().copied().zip(found.counts.iter().copied());
                assert_eq!(pairs.collect::<BTreeMap<_, _>>(), expected, "{n} {alphas:?}");
                assert_eq!(found.colors.len(), expected.len(), "each once");
                assert_eq!(partial, pixels.iter().filter(|p| !matches!(p[3], 0 | 255)).count());
                let clear = usize::from(expected.contains_key(&CLEAR));
                assert_eq!(most, found.opaque + partial + clear);
                assert_eq!(found.opaque, expected.keys().filter(|c| c[3] == 255).count());
                assert!(found.colors[..found.opaque].is_sorted_by_key(|c| place(*c)));
            }
        }
    }
}
