mod cluster;
mod dequantize_vectors;
mod nearest;
mod vector_points;

use crate::support::splitmix64;

/// Random numbers of vectors, from end to end of a reach.
pub fn numbers(seed: u64, len: usize, reach: i16) -> Vec<i16> {
    let span = 2 * u64::from(reach.unsigned_abs()) + 1;
    splitmix64(seed).map(|z| (z % span) as i16 - reach).take(len).collect()
}
