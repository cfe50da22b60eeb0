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

/// The two bytes that a table has for every byte, all of which are below `most`; what it has for others, or whether it panics, is not
/// said.
pub(crate) fn look_up_halves(table: &[u16; 256], most: usize, bytes: &[u8], out: &mut [u16]) {
    assert_eq!(bytes.len(), out.len());
    #[cfg(target_arch = "x86_64")]
    {
        if vbmi::detect() {
            return vbmi::look_up_halves(table, most, bytes, out);
        }
        if most <= FEW && detected!("avx2") {
            // SAFETY: the machine was asked.
            return unsafe { avx2::few_halves(table, bytes, out) };
        }
    }
    let _ = most;
    plain_halves(table, bytes, out);
}

/// Whether that is faster than arithmetic, of tables of so many entries.
pub(crate) fn looks_up_halves(most: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        vbmi::detect() || most <= FEW && detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = most;
        false
    }
}

/// Entries of a table that fits a vector of sixteen bytes.
#[cfg(target_arch = "x86_64")]
const FEW: usize = 16;

fn plain_halves(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
    bytes.iter().zip(out).for_each(|(b, to)| *to = table[usize::from(*b)]);
}

/// Positions of bytes that are not below one, ascending.
pub(crate) fn positions(bytes: &[u8], least: u8) -> Vec<usize> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if vbmi::detect() {
            vbmi::positions(bytes, least, &mut found);
            return found;
        }
        if detected!("avx2") && detected!("bmi1") && detected!("popcnt") {
            // SAFETY: the machine was asked.
            unsafe { avx2::positions(bytes, least, &mut found) };
            return found;
        }
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

/// Positions on their way to those that were found before: none, one or two of 64 bytes mostly, which nothing foretells.
#[cfg(target_arch = "x86_64")]
struct Positions<'a> {
    found: &'a mut Vec<usize>,
    here: [usize; FULL + 64],
    n: usize,
}

/// So many positions are moved together.
#[cfg(target_arch = "x86_64")]
const FULL: usize = 256;

#[cfg(target_arch = "x86_64")]
impl<'a> Positions<'a> {
    fn new(found: &'a mut Vec<usize>) -> Self {
        Self { found, here: [0; FULL + 64], n: 0 }
    }

    /// Those of the bits of a set, counted from `first` on.
    #[inline(always)]
    fn push(&mut self, set: u64, first: usize) {
        let (here, n) = (&mut self.here, &mut self.n);
        let but_one = set & set.wrapping_sub(1);
        // Two are always written, and so many kept as there are.
        here[*n] = first + set.trailing_zeros() as usize;
        here[*n + 1] = first + but_one.trailing_zeros() as usize;
        *n += (set.count_ones() as usize).min(2);
        let mut set = but_one & but_one.wrapping_sub(1);
        while set != 0 {
            here[*n] = first + set.trailing_zeros() as usize;
            *n += 1;
            set &= set - 1;
        }
        if *n >= FULL {
            self.found.extend_from_slice(&here[..*n]);
            *n = 0;
        }
    }

    fn finish(self) {
        self.found.extend_from_slice(&self.here[..self.n]);
    }
}

/// Where a register has sixteen entries of a table.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,bmi1,popcnt")]
    pub(super) fn positions(bytes: &[u8], least: u8, found: &mut Vec<usize>) {
        let (whole, rest) = bytes.as_chunks::<64>();
        let mut some = super::Positions::new(found);
        let least_of_all = _mm256_set1_epi8(least as i8);
        for (chunk, c) in whole.iter().zip(0..) {
            let mut set = 0;
            for (half, i) in chunk.as_chunks::<32>().0.iter().zip(0..) {
                // SAFETY: half of a chunk is a vector long.
                let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
                let not_below = _mm256_cmpeq_epi8(_mm256_max_epu8(half, least_of_all), half);
                set |= u64::from(_mm256_movemask_epi8(not_below) as u32) << (32 * i);
            }
            some.push(set, 64 * c);
        }
        some.finish();
        super::plain_positions(rest, least, 64 * whole.len(), found);
    }

    /// A table of sixteen entries in two registers, of their lower and their upper bytes.
    #[target_feature(enable = "avx2")]
    pub(super) fn few_halves(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
        let of = |shift: u32| {
            let bytes: [u8; 16] = std::array::from_fn(|i| (table[i] >> shift) as u8);
            // SAFETY: it is a vector long.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        let (lower, upper) = (of(0), of(8));
        let ((whole, rest), (halves, rest_out)) =
            (bytes.as_chunks::<32>(), out.as_chunks_mut::<32>());
        for (chunk, halves) in whole.iter().zip(halves) {
            // SAFETY: a chunk is a vector long.
            let at = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
            // Bytes of two vectors side by side come out eight from each half.
            let at = _mm256_permute4x64_epi64::<0b11_01_10_00>(at);
            let (low, high) = (_mm256_shuffle_epi8(lower, at), _mm256_shuffle_epi8(upper, at));
            let (first, last) = (_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high));
            // SAFETY: 32 of them are as long as two vectors.
            unsafe {
                let to = halves.as_mut_ptr();
                _mm256_storeu_si256(to.cast(), first);
                _mm256_storeu_si256(to.add(16).cast(), last);
            }
        }
        super::plain_halves(table, rest, rest_out);
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

    pub(super) fn look_up_halves(table: &[u16; 256], most: usize, bytes: &[u8], out: &mut [u16]) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe {
            match most {
                0..=64 => halves_by_permutes::<true>(table, bytes, out),
                _ => halves_by_permutes::<false>(table, bytes, out),
            }
        }
    }

    pub(super) fn positions(bytes: &[u8], least: u8, found: &mut Vec<usize>) {
        assert!(detect());
        // SAFETY: the machine was asked.
        unsafe { by_masks(bytes, least, found) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn by_masks(bytes: &[u8], least: u8, found: &mut Vec<usize>) {
        let (whole, rest) = bytes.as_chunks::<64>();
        let mut some = super::Positions::new(found);
        for (chunk, c) in whole.iter().zip(0..) {
            // SAFETY: a chunk is a vector long.
            let chunk = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            some.push(_mm512_cmpge_epu8_mask(chunk, _mm512_set1_epi8(least as i8)), 64 * c);
        }
        some.finish();
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

    /// The lower bytes of two vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn narrow(a: __m512i, b: __m512i) -> __m512i {
        let a = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(a));
        _mm512_inserti64x4::<1>(a, _mm512_cvtepi16_epi8(b))
    }

    /// The lower and the upper byte of every entry, side by side. `FEW`: of tables that fit a vector.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn halves_by_permutes<const FEW: bool>(table: &[u16; 256], bytes: &[u8], out: &mut [u16]) {
        let (mut lower, mut upper) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
        for i in 0..if FEW { 1 } else { 4 } {
            // SAFETY: the table is eight vectors long.
            let halves = unsafe {
                let from = table.as_ptr().add(64 * i);
                [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(32).cast())]
            };
            lower[i] = narrow(halves[0], halves[1]);
            upper[i] = narrow(_mm512_srli_epi16::<8>(halves[0]), _mm512_srli_epi16::<8>(halves[1]));
        }
        // Bytes of two vectors side by side come out eight from every quarter: what is looked up is put where that is in order.
        let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
        let ((whole, rest), (halves, rest_out)) =
            (bytes.as_chunks::<64>(), out.as_chunks_mut::<64>());
        for (chunk, halves) in whole.iter().zip(halves) {
            // SAFETY: a chunk is a vector long.
            let at = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            let at = _mm512_permutexvar_epi64(order, at);
            let (low, high) = match FEW {
                true => {
                    (_mm512_permutexvar_epi8(at, lower[0]), _mm512_permutexvar_epi8(at, upper[0]))
                }
                false => (entries(lower, at), entries(upper, at)),
            };
            let (first, last) = (_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high));
            // SAFETY: 64 of them are as long as two vectors.
            unsafe {
                let to = halves.as_mut_ptr();
                _mm512_storeu_si512(to.cast(), first);
                _mm512_storeu_si512(to.add(32).cast(), last);
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
        for length in [0, 1, 31, 32, 63, 64, 65, 256, 1000] {
            for most in [1, 2, 16, 17, 64, 65, 256] {
                let bytes: Vec<u8> = (0..length).map(|i| (i * 3 % most) as u8).collect();
                let (mut expected, mut got) = (vec![0; length], vec![7; length]);
                plain_halves(&table, &bytes, &mut expected);
                look_up_halves(&table, most, &bytes, &mut got);
                assert_eq!(got, expected, "{length} below {most}");
                assert!(bytes.iter().zip(&got).all(|(b, t)| table[usize::from(*b)] == *t));
                #[cfg(target_arch = "x86_64")]
                if most <= FEW && detected!("avx2") {
                    got.fill(7);
                    // SAFETY: the machine was asked.
                    unsafe { avx2::few_halves(&table, &bytes, &mut got) };
                    assert_eq!(got, expected, "{length} below {most}");
                }
            }
        }
    }

    #[test]
    fn every_position_is_found() {
        for length in [0, 1, 63, 64, 65, 200, 3000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * i / 5 % 7) as u8).collect();
            for least in 0..8 {
                let expected: Vec<usize> = (0..length).filter(|i| bytes[*i] >= least).collect();
                assert_eq!(positions(&bytes, least), expected, "{least} of {length}");
                let mut plain = Vec::new();
                plain_positions(&bytes, least, 0, &mut plain);
                assert_eq!(plain, expected, "{least} of {length}");
                #[cfg(target_arch = "x86_64")]
                if detected!("avx2") && detected!("bmi1") && detected!("popcnt") {
                    plain.clear();
                    // SAFETY: the machine was asked.
                    unsafe { avx2::positions(&bytes, least, &mut plain) };
                    assert_eq!(plain, expected, "{least} of {length}");
                }
            }
        }
    }
}
