//! Planes of bytes of signs and mantissas: most look like noise and stay as they are, the others are coded.

use crate::{
    codec::{
        Malformed,
        stream::{self, Coder},
    },
    simd::histogram,
};

/// Bytes of a plane that are looked at before it is coded, at most.
const SAMPLE: usize = 1 << 14;

/// Whether a plane of bytes is coded: if it becomes shorter, and a sample of it does not look like noise, as most planes do; those of
/// weights that once were halves have many zeros.
fn is_coded(plane: &[u8]) -> bool {
    const PIECE: usize = 64;
    let step = plane.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<u8> = plane.chunks(PIECE).step_by(step).flatten().copied().collect();
    // Of noise, the squares of counts add up to a 256th of the square of all, and a little more.
    let (squares, all) =
        (histogram(&sample).iter().map(|n| n * n).sum::<u64>(), sample.len() as u64);
    let coded = || 4 + stream::cost(&histogram(plane), 8, Coder::Auto);
    8 * 256 * squares >= 9 * all * all && coded() < plane.len() as u64
}

/// Codes the planes of `count` bytes that stand at the end of `out` from `at` on, where that is worth it: each of these becomes its
/// length (u32) and its stream. Which they are: a bit for each plane.
pub(super) fn encode(out: &mut Vec<u8>, at: usize, count: usize) -> u8 {
    let planes = out[at..].chunks_exact(count.max(1)).zip(0..);
    let flags = planes.fold(0, |flags, (plane, p)| flags | u8::from(is_coded(plane)) << p);
    if flags == 0 {
        return 0;
    }
    let planes = out.split_off(at);
    for (plane, p) in planes.chunks_exact(count).zip(0..) {
        if flags >> p & 1 == 0 {
            out.extend_from_slice(plane);
            continue;
        }
        let at = out.len();
        out.extend([0; 4]);
        stream::encode(plane, 8, Coder::Auto, out);
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    flags
}

/// The planes, some of which are coded, one after the other, and the bytes after them.
pub(super) fn decode(
    flags: u8,
    mut bytes: &[u8],
    planes: usize,
    count: usize,
) -> Result<(Vec<u8>, &[u8]), Malformed> {
    let short = Malformed("the bytes end before the floats");
    if flags >> planes != 0 {
        return Err(Malformed("a plane of bytes that is not there"));
    }
    let mut low = vec![0; planes * count];
    for (plane, p) in low.chunks_exact_mut(count.max(1)).zip(0..) {
        if flags >> p & 1 == 0 {
            let (plain, rest) = bytes.split_at_checked(count).ok_or(short)?;
            plane.copy_from_slice(plain);
            bytes = rest;
            continue;
        }
        let (length, rest) = bytes.split_first_chunk().ok_or(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (coded, rest) = rest.split_at_checked(length).ok_or(short)?;
        stream::decode(coded, 8, plane)?;
        bytes = rest;
    }
    Ok((low, bytes))
}
