//! Tables of bytes, and where a byte is.

/// Replaces every byte by its entry.
pub(crate) fn translate(table: &[u8; 256], bytes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if vbmi::detect() {
        return vbmi::translate(table, bytes);
    }
    plain(table, bytes);
}

fn plain(table: &[u8; 256], bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|b| *b = table[usize::from(*b)]);
}

/// Positions of a byte, ascending.
pub(crate) fn positions(bytes: &[u8], wanted: u8) -> Vec<usize> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    if vbmi::detect() {
        vbmi::positions(bytes, wanted, &mut found);
        return found;
    }
    plain_positions(bytes, wanted, 0, &mut found);
    found
}

/// Appends the positions of a byte, counted from `first` on.
fn plain_positions(bytes: &[u8], wanted: u8, first: usize, found: &mut Vec<usize>) {
    for (chunk, c) in bytes.chunks(64).zip(0..) {
        // It is rare: most chunks are done with one comparison of all their bytes.
        if chunk.iter().fold(false, |any, b| any | (*b == wanted)) {
            let here = chunk.iter().zip(first + 64 * c..).filter(|(b, _)| **b == wanted);
            found.extend(here.map(|(_, i)| i));
        }
    }
}

/// Whole tables in registers: AVX-512 with VBMI.
#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::*;

    pub(super) fn detect() -> bool {
        detected!("avx512bw") && detected!("avx512vbmi")
    }

    pub(super) fn translate(table: &[u8; 256], bytes: &mut [u8]) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { by_permutes(table, bytes) }
    }

    pub(super) fn positions(bytes: &[u8], wanted: u8, found: &mut Vec<usize>) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { by_masks(bytes, wanted, found) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn by_masks(bytes: &[u8], wanted: u8, found: &mut Vec<usize>) {
        let (whole, rest) = bytes.as_chunks::<64>();
        for (chunk, c) in whole.iter().zip(0..) {
            // SAFETY: a chunk is a vector long.
            let chunk = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let mut set = _mm512_cmpeq_epi8_mask(chunk, _mm512_set1_epi8(wanted as i8));
            while set != 0 {
                found.push(64 * c + set.trailing_zeros() as usize);
                set &= set - 1;
            }
        }
        super::plain_positions(rest, wanted, 64 * whole.len(), found);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn by_permutes(table: &[u8; 256], bytes: &mut [u8]) {
        // SAFETY: the table is four vectors long.
        let t: [__m512i; 4] = std::array::from_fn(|i| unsafe {
            _mm512_loadu_si512(table.as_ptr().add(64 * i).cast())
        });
        let (whole, rest) = bytes.as_chunks_mut::<64>();
        for chunk in whole {
            // SAFETY: a chunk is a vector long, here and below.
            let at = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let low = _mm512_permutex2var_epi8(t[0], at, t[1]);
            let high = _mm512_permutex2var_epi8(t[2], at, t[3]);
            let entries = _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(chunk.as_mut_ptr().cast(), entries) };
        }
        super::plain(table, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_replaced_by_its_entry() {
        let table: [u8; 256] = std::array::from_fn(|b| (b * 167 + 13) as u8);
        for length in [0, 1, 63, 64, 65, 256, 1000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 3) as u8).collect();
            let (mut expected, mut got) = (bytes.clone(), bytes.clone());
            plain(&table, &mut expected);
            translate(&table, &mut got);
            assert_eq!(got, expected, "{length}");
            assert!(bytes.iter().zip(&got).all(|(b, t)| table[usize::from(*b)] == *t));
        }
    }

    #[test]
    fn every_position_is_found() {
        for length in [0, 1, 63, 64, 65, 200] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * i % 7) as u8).collect();
            for wanted in 0..8 {
                let expected: Vec<usize> = (0..length).filter(|i| bytes[*i] == wanted).collect();
                assert_eq!(positions(&bytes, wanted), expected, "{wanted} of {length}");
                let mut plain = Vec::new();
                plain_positions(&bytes, wanted, 0, &mut plain);
                assert_eq!(plain, expected, "{wanted} of {length}");
            }
        }
    }
}
