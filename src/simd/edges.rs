//! Between which of a few edges a number of 16 bits lies.

/// Edges at most.
pub(crate) const MOST: usize = 31;

/// Edges in ascending order, filled up with the largest number.
pub(crate) type Edges = [i16; 32];

/// Whether the machine finds them faster than a table of all patterns does.
pub(crate) fn finds_edges() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::detect();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// How many of the edges, of which there are `count`, lie below each float of 16 bits, all of them in the order of their keys.
pub(crate) fn edges_below(halves: &[u16], edges: &Edges, count: usize, below: &mut [u8]) {
    assert!(halves.len() == below.len() && count <= MOST);
    #[cfg(target_arch = "x86_64")]
    if avx512::detect() {
        // SAFETY: the machine was asked.
        return unsafe { avx512::edges_below(halves, edges, count, below) };
    }
    plain(halves, edges, count, below);
}

/// The pattern of a float of 16 bits as a number that is larger for a larger float.
pub(crate) fn key(half: u16) -> i16 {
    half as i16 ^ ((half as i16 >> 15) as u16 >> 1) as i16
}

fn plain(halves: &[u16], edges: &Edges, count: usize, below: &mut [u8]) {
    for (half, below) in halves.iter().zip(below) {
        *below = edges[..count].partition_point(|edge| *edge < key(*half)) as u8;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Edges;
    use std::arch::x86_64::*;

    pub(super) fn detect() -> bool {
        detected!("avx512bw")
    }

    /// Halves what is left of the edges, which are all in one register, for 32 floats at a time.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn edges_below(halves: &[u16], edges: &Edges, count: usize, below: &mut [u8]) {
        // SAFETY: they are a vector long.
        let table = unsafe { _mm512_loadu_si512(edges.as_ptr().cast()) };
        let first = (count + 1).next_power_of_two() as i16 / 2;
        let ((whole, rest), (found, rest_found)) =
            (halves.as_chunks::<32>(), below.as_chunks_mut::<32>());
        for (halves, found) in whole.iter().zip(found) {
            // SAFETY: they are a vector long.
            let half = unsafe { _mm512_loadu_si512(halves.as_ptr().cast()) };
            let sign = _mm512_srai_epi16::<15>(half);
            let key = _mm512_xor_si512(half, _mm512_srli_epi16::<1>(sign));
            let (mut at, mut step) = (_mm512_setzero_si512(), first);
            while step > 0 {
                let next = _mm512_add_epi16(at, _mm512_set1_epi16(step - 1));
                let edge = _mm512_permutexvar_epi16(next, table);
                let above = _mm512_cmpgt_epi16_mask(key, edge);
                at = _mm512_mask_add_epi16(at, above, at, _mm512_set1_epi16(step));
                step /= 2;
            }
            // SAFETY: 32 bytes are as long as half a vector.
            unsafe {
                _mm256_storeu_si256(found.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(at));
            }
        }
        super::plain(rest, edges, count, rest_found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_lies_between_the_right_edges() {
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        for count in [0, 1, 2, 3, 7, 14, 15, 16, 30, 31] {
            let mut edges = [i16::MAX; 32];
            let mut some: Vec<i16> =
                (0..count as u32).map(|i| (i * i).wrapping_mul(2_654_435_761) as i16).collect();
            some.sort_unstable();
            edges[..count].copy_from_slice(&some);
            for len in [1 << 16, 1000, 31] {
                let mut below = vec![99; len];
                edges_below(&halves[..len], &edges, count, &mut below);
                let mut expected = vec![99; len];
                plain(&halves[..len], &edges, count, &mut expected);
                assert_eq!(below, expected, "{count} edges");
            }
        }
        let float = |half: u16| f32::from_bits(u32::from(half) << 16);
        for (a, b) in halves.windows(2).map(|pair| (pair[0], pair[1])) {
            if let Some(order) = float(a).partial_cmp(&float(b)) {
                assert_eq!(key(a).cmp(&key(b)), order);
            }
        }
    }
}
