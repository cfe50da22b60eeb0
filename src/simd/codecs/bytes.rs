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

/// The two bytes that a table has for every byte.
pub(crate) fn look_up_halves(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
    assert_eq!(bytes.len(), out.len());
    #[cfg(target_arch = "x86_64")]
    if vbmi::detect() {
        return vbmi::look_up_halves(table, bytes, out);
    }
    plain_halves(table, bytes, out);
}

fn plain_halves(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
    bytes.iter().zip(out).for_each(|(b, to)| *to = table[usize::from(*b)]);
}

/// Positions of bytes that are not below one, ascending.
pub(crate) fn positions(bytes: &[u8], least: u8) -> Vec<usize> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    if vbmi::detect() {
        vbmi::positions(bytes, least, &mut found);
        return found;
    }
    plain_positions(bytes, least, 0, &mut found);
    found
}

/// Appends the positions of such bytes, counted from `first` on.
fn plain_positions(bytes: &[u8], least: u8, first: usize, found: &mut Vec<usize>) {
    for (chunk, c) in bytes.chunks(64).zip(0..) {
        // They are rare: most chunks are done with one comparison of all their bytes.
        if chunk.iter().fold(false, |any, b| any | (*b >= least)) {
            let here = chunk.iter().zip(first + 64 * c..).filter(|(b, _)| **b >= least);
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

    pub(super) fn look_up_halves(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { halves_by_permutes(table, bytes, out) }
    }

    pub(super) fn positions(bytes: &[u8], least: u8, found: &mut Vec<usize>) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { by_masks(bytes, least, found) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn by_masks(bytes: &[u8], least: u8, found: &mut Vec<usize>) {
        let (whole, rest) = bytes.as_chunks::<64>();
        for (chunk, c) in whole.iter().zip(0..) {
            // SAFETY: a chunk is a vector long.
            let chunk = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let mut set = _mm512_cmpge_epu8_mask(chunk, _mm512_set1_epi8(least as i8));
            while set != 0 {
                found.push(64 * c + set.trailing_zeros() as usize);
                set &= set - 1;
            }
        }
        super::plain_positions(rest, least, 64 * whole.len(), found);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(table: &[u8; 256]) -> [__m512i; 4] {
        // SAFETY: the table is four vectors long.
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) })
    }

    /// The entries of bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn entries(t: [__m512i; 4], at: __m512i) -> __m512i {
        let low = _mm512_permutex2var_epi8(t[0], at, t[1]);
        let high = _mm512_permutex2var_epi8(t[2], at, t[3]);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn by_permutes(table: &[u8; 256], bytes: &mut [u8]) {
        let t = load(table);
        let (whole, rest) = bytes.as_chunks_mut::<64>();
        for chunk in whole {
            // SAFETY: a chunk is a vector long.
            let at = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(chunk.as_mut_ptr().cast(), entries(t, at)) };
        }
        super::plain(table, rest);
    }

    /// The lower and the upper byte of every entry, side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn halves_by_permutes(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
        let tables = [0, 8].map(|shift| load(&table.map(|entry| (entry >> shift) as u8)));
        // Byte 2 i of a vector of both comes from byte i of the lower ones, byte 2 i + 1 from byte i of the upper ones.
        let from: [[u8; 64]; 2] = [0, 32].map(|first| {
            std::array::from_fn(|i| (first + i / 2) as u8 | if i % 2 == 1 { 64 } else { 0 })
        });
        // SAFETY: it is as long as a vector.
        let from = from.map(|from| unsafe { _mm512_loadu_si512(from.as_ptr().cast()) });
        let ((whole, rest), (halves, rest_out)) =
            (bytes.as_chunks::<64>(), out.as_chunks_mut::<64>());
        for (chunk, halves) in whole.iter().zip(halves) {
            // SAFETY: a chunk is a vector long.
            let at = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let [lower, upper] = tables.map(|t| entries(t, at));
            for (from, to) in from.iter().zip(halves.as_chunks_mut::<32>().0) {
                let both = _mm512_permutex2var_epi8(lower, *from, upper);
                // SAFETY: 32 of them are as long as a vector.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), both) };
            }
        }
        super::plain_halves(table, rest, rest_out);
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
    fn every_byte_gives_its_two() {
        let table: [u16; 256] = std::array::from_fn(|b| (b * 26_417 + 13) as u16);
        for length in [0, 1, 63, 64, 65, 256, 1000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 3) as u8).collect();
            let (mut expected, mut got) = (vec![0; length], vec![7; length]);
            plain_halves(&table, &bytes, &mut expected);
            look_up_halves(&table, &bytes, &mut got);
            assert_eq!(got, expected, "{length}");
            assert!(bytes.iter().zip(&got).all(|(b, t)| table[usize::from(*b)] == *t));
        }
    }

    #[test]
    fn every_position_is_found() {
        for length in [0, 1, 63, 64, 65, 200] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * i % 7) as u8).collect();
            for least in 0..8 {
                let expected: Vec<usize> = (0..length).filter(|i| bytes[*i] >= least).collect();
                assert_eq!(positions(&bytes, least), expected, "{least} of {length}");
                let mut plain = Vec::new();
                plain_positions(&bytes, least, 0, &mut plain);
                assert_eq!(plain, expected, "{least} of {length}");
            }
        }
    }
}
