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
    for (c, chunk) in bytes.chunks(64).enumerate() {
        let mut set = equal(chunk, wanted);
        while set != 0 {
            found.push(64 * c + set.trailing_zeros() as usize);
            set &= set - 1;
        }
    }
    found
}

/// Which of at most 64 bytes are this one, first byte lowest.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn equal(bytes: &[u8], wanted: u8) -> u64 {
    bytes.iter().zip(0..).fold(0, |set, (b, i)| set | u64::from(*b == wanted) << i)
}

/// Whole tables in registers: AVX-512 with VBMI.
#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::*;

    pub(super) fn detect() -> bool {
        is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi")
    }

    pub(super) fn translate(table: &[u8; 256], bytes: &mut [u8]) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { by_permutes(table, bytes) }
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
            }
        }
    }
}
