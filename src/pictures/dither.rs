//! Floyd and Steinberg's diffusion of errors, in whole numbers.

use super::{
    Picture, Space,
    spaces::{self, Point},
};
use crate::{Cancel, Result};

/// Bytes of what is known of cubes at most.
pub(super) const MEMORY: u64 = (4 * CUBES + LISTED) as u64;
/// Cubes at most, and bytes of their lists before all are forgotten.
const CUBES: usize = 1 << 20;
const LISTED: usize = 1 << 20;

/// Values of an axis: points are from -2040 to 2040.
const OFFSET: i32 = 2048;

/// The entry of every pixel.
///
/// Rows go from the left and from the right in turn. What a pixel is off by goes to the four neighbours that are still to come, in
/// sixteenths: 7 to the next, 3, 5 and 1 to the row below. Fully transparent pixels take their entry and pass nothing on.
///
/// # Errors
///
/// An interrupt.
pub(super) fn dither(
    picture: &Picture,
    space: Space,
    entries: &[Point],
    with_alpha: bool,
    cancel: &Cancel,
) -> Result<Vec<u8>> {
    let width = picture.width();
    let (least, greatest) = spaces::range(space);
    let mut grid = Grid::new(entries, with_alpha);
    let mut out = vec![0; picture.pixels().len()];
    let mut row = vec![[0; 4]; width];
    // A column more on either side, so that none is special.
    let (mut here, mut below) = (vec![[0i32; 4]; width + 2], vec![[0i32; 4]; width + 2]);
    for (y, (pixels, out)) in picture.pixels().chunks(width).zip(out.chunks_mut(width)).enumerate()
    {
        if y % 64 == 0 {
            cancel.check()?;
        }
        spaces::points(space, pixels, &mut row);
        let forward = y % 2 == 0;
        for i in 0..width {
            let x = if forward { i } else { width - 1 - i };
            if pixels[x][3] == 0 {
                out[x] = grid.nearest([0; 4]);
                continue;
            }
            let wanted: [i32; 4] = std::array::from_fn(|axis| {
                let value = i32::from(row[x][axis]) + ((here[x + 1][axis] + 8) >> 4);
                // What no colour is would only be passed on and on.
                value.clamp(least[axis], greatest[axis])
            });
            let index = grid.nearest(wanted);
            out[x] = index;
            let (next, last) = if forward { (x + 2, x) } else { (x, x + 2) };
            for axis in 0..4 {
                let off = wanted[axis] - i32::from(entries[usize::from(index)][axis]);
                here[next][axis] += 7 * off;
                below[last][axis] += 3 * off;
                below[x + 1][axis] += 5 * off;
                below[next][axis] += off;
            }
        }
        std::mem::swap(&mut here, &mut below);
        below.fill([0; 4]);
    }
    Ok(out)
}

/// The nearest entry of any point: a cube of points has the few entries in its list that may be the nearest of one of them.
struct Grid {
    entries: Vec<[i32; 4]>,
    dim: usize,
    /// Bits of a coordinate within a cube.
    bits: u32,
    /// Where the list of each cube that was asked for ends.
    lists: Vec<u32>,
    /// Lists, each with its length behind it, less 1.
    listed: Vec<u8>,
    /// How long they may become together.
    most: usize,
}

impl Grid {
    fn new(entries: &[Point], with_alpha: bool) -> Self {
        let (dim, bits) = if with_alpha { (4, 7) } else { (3, 6) };
        let cubes = 1 << ((12 - bits) * dim as u32);
        Self {
            entries: entries.iter().map(|e| e.map(i32::from)).collect(),
            dim,
            bits,
            lists: vec![0; cubes],
            listed: Vec::with_capacity(LISTED),
            most: LISTED,
        }
    }

    fn nearest(&mut self, point: [i32; 4]) -> u8 {
        let mut cube = 0;
        for x in &point[..self.dim] {
            cube = cube << (12 - self.bits) | ((x + OFFSET) >> self.bits) as usize;
        }
        if self.lists[cube] == 0 {
            let list = self.list(point);
            if self.listed.len() + list.len() + 1 > self.most {
                self.listed.clear();
                self.lists.fill(0);
            }
            self.listed.extend_from_slice(&list);
            self.listed.push((list.len() - 1) as u8);
            self.lists[cube] = self.listed.len() as u32;
        }
        let end = self.lists[cube] as usize - 1;
        let list = &self.listed[end - usize::from(self.listed[end]) - 1..end];
        let distance = |label: &u8| {
            let entry = &self.entries[usize::from(*label)];
            let pairs = point.iter().zip(entry).take(self.dim);
            (pairs.map(|(a, b)| (a - b).pow(2)).sum::<i32>(), *label)
        };
        list.iter().map(distance).min().map_or(0, |(_, label)| label)
    }

    /// The entries that may be the nearest of a point in the cube around one: those that are no farther from the cube than
    /// another is from all of it.
    fn list(&self, point: [i32; 4]) -> Vec<u8> {
        let last = (1 << self.bits) - 1;
        let bounds = |entry: &[i32; 4]| {
            let (mut near, mut far) = (0, 0);
            for axis in 0..self.dim {
                let low = ((point[axis] + OFFSET) & !last) - OFFSET;
                let (below, above) = (low - entry[axis], entry[axis] - low - last);
                near += below.max(above).max(0).pow(2);
                far += (-below).max(-above).pow(2);
            }
            (near, far)
        };
        let bounds: Vec<(i32, i32)> = self.entries.iter().map(bounds).collect();
        let farthest = bounds.iter().map(|(_, far)| *far).min().unwrap_or(0);
        (0..)
            .zip(&bounds)
            .filter(|(_, (near, _))| *near <= farthest)
            .map(|(i, _)| i as u8)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::spaces::ONE;

    #[test]
    fn lists_hold_the_nearest_of_every_point() {
        let random = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(11) ^ i;
        for (k, with_alpha) in [(1, false), (7, true), (256, false), (256, true)] {
            let entry =
                |i: u32| std::array::from_fn(|axis| (random(i * 4 + axis as u32) % 2041) as i16);
            let mut entries: Vec<Point> = (0..k).map(entry).collect();
            // The first of two alike.
            if k > 4 {
                entries[5] = entries[2];
            }
            let mut grid = Grid::new(&entries, with_alpha);
            // Lists are forgotten now and then.
            grid.most = 1000;
            let dim = if with_alpha { 4 } else { 3 };
            for i in 0..5000 {
                let mut point: [i32; 4] = std::array::from_fn(|axis| {
                    (random(i * 7 + axis as u32) % 2041) as i32 - (axis as i32 % 3) * 700
                });
                if i % 3 == 0 {
                    point = entries[i as usize % entries.len()].map(i32::from);
                }
                let distance = |entry: &Point| -> i32 {
                    (0..dim).map(|axis| (i32::from(entry[axis]) - point[axis]).pow(2)).sum()
                };
                let expected = (0..entries.len()).min_by_key(|i| distance(&entries[*i])).unwrap();
                assert_eq!(usize::from(grid.nearest(point)), expected);
                assert!(grid.listed.len() <= grid.most);
            }
        }
    }

    #[test]
    fn half_grey_becomes_half_the_pixels() {
        let picture = Picture::new(16, 16, vec![[128, 128, 128, 255]; 256]).unwrap();
        let entries = [[0, 0, 0, ONE as i16], [ONE as i16; 4]];
        let found = dither(&picture, Space::Rgb, &entries, false, &Cancel::new()).unwrap();
        let white = found.iter().filter(|i| **i == 1).count();
        assert!((126..=131).contains(&white), "{white}");
        // The first is nearer to white; what it is too bright by makes the next black.
        assert_eq!(found[..4], [1, 0, 1, 0]);
    }

    /// All that a pixel is off by goes on, but for the borders.
    #[test]
    fn a_flat_grey_keeps_its_mean() {
        for grey in [30u8, 100, 220] {
            let picture = Picture::new(96, 96, vec![[grey, grey, grey, 255]; 96 * 96]).unwrap();
            let entries = [[0, 0, 0, ONE as i16], [ONE as i16; 4]];
            let found = dither(&picture, Space::Rgb, &entries, false, &Cancel::new()).unwrap();
            let white = found.iter().filter(|i| **i == 1).count() as f64 / found.len() as f64;
            let expected = f64::from(grey) / 255.0;
            assert!((white - expected).abs() < 0.006, "{grey}: {white}, expected {expected}");
        }
    }
}
