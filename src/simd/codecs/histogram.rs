/// How often every byte occurs.
pub(crate) fn histogram(symbols: &[u8]) -> [u64; 256] {
    #[cfg(target_arch = "x86_64")]
    if symbols.len() >= planes::BATCH && planes::detect() {
        return planes::histogram(symbols);
    }
    portable(symbols)
}

/// Counts in eight tables, so that equal neighbours do not wait for each other.
fn portable(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    // A table's counts fit 32 bits.
    for symbols in symbols.chunks(1 << 31) {
        let mut tables = [[0u32; 256]; 8];
        let eights = symbols.chunks_exact(8);
        for symbol in eights.remainder() {
            tables[0][usize::from(*symbol)] += 1;
        }
        for eight in eights {
            for (table, symbol) in tables.iter_mut().zip(eight) {
                table[usize::from(*symbol)] += 1;
            }
        }
        for table in tables {
            counts.iter_mut().zip(table).for_each(|(n, m)| *n += u64::from(m));
        }
    }
    counts
}

/// By planes of bits: 512 symbols become a vector of their first bits, one of their second bits and so on, and the ones of all
/// products of planes are counted; no table, so no symbol waits for an equal one.
#[cfg(target_arch = "x86_64")]
mod planes {
    use std::arch::x86_64::*;

    /// Symbols that are counted at once.
    pub(super) const BATCH: usize = 512;

    /// Whether the machine has the instructions.
    pub(super) fn detect() -> bool {
        detected!("avx512bw")
            && detected!("avx512vbmi")
            && detected!("avx512vpopcntdq")
            && detected!("gfni")
    }

    pub(super) fn histogram(symbols: &[u8]) -> [u64; 256] {
        assert!(detect());
        let (batches, rest) = symbols.as_chunks::<BATCH>();
        // Few symbols that lie far from zero need no more bits than the same near it.
        let (least, most) = batches
            .iter()
            .flatten()
            .fold((255, 0), |(least, most), s| (s.min(&least).to_owned(), s.max(&most).to_owned()));
        let mut counts = super::portable(rest);
        let shifted = &mut counts[usize::from(least.min(most))..];
        // SAFETY: the machine was asked.
        unsafe {
            match u8::BITS - most.saturating_sub(least).leading_zeros() {
                0..=4 => count::<4>(batches, least, shifted),
                5 => count::<5>(batches, least, shifted),
                6 => count::<6>(batches, least, shifted),
                // Products double with every bit, and tables do not.
                _ => {
                    let counted = super::portable(batches.as_flattened());
                    counts.iter_mut().zip(counted).for_each(|(n, m)| *n += m);
                }
            }
        }
        counts
    }

    /// For symbols that are `P` bits above the least, four or more.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq,gfni")]
    fn count<const P: usize>(batches: &[[u8; BATCH]], least: u8, counts: &mut [u64]) {
        let zero = _mm512_setzero_si512();
        // By the set of planes that are multiplied, as bits.
        let (mut ones, mut products) = ([zero; 64], [zero; 64]);
        for batch in batches {
            let planes = transpose::<P>(batch, least);
            for set in 1..1usize << P {
                let plane = planes[set.ilog2() as usize];
                let rest = set & !(1 << set.ilog2());
                products[set] =
                    if rest == 0 { plane } else { _mm512_and_si512(products[rest], plane) };
                ones[set] = _mm512_add_epi64(ones[set], _mm512_popcnt_epi64(products[set]));
            }
        }
        let mut symbols: [u64; 64] =
            std::array::from_fn(|set| _mm512_reduce_add_epi64(ones[set]) as u64);
        symbols[0] = (BATCH * batches.len()) as u64;
        // Symbols with these bits and perhaps others, less those with others: Möbius' inversion.
        for bit in (0..P).map(|p| 1 << p) {
            for set in (0..1 << P).filter(|set| set & bit == 0) {
                symbols[set] -= symbols[set | bit];
            }
        }
        counts.iter_mut().zip(&symbols[..1 << P]).for_each(|(n, m)| *n += m);
    }

    /// Plane `p` holds bit `p` of every symbol less the least, all in one order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
    fn transpose<const P: usize>(batch: &[u8; BATCH], least: u8) -> [__m512i; 8] {
        // As a matrix, eight symbols times the rows of this one are the eight bytes of their planes.
        let identity = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
        // SAFETY: a batch is eight vectors long.
        let eights: [__m512i; 8] = std::array::from_fn(|i| unsafe {
            let symbols = _mm512_loadu_si512(batch.as_ptr().add(64 * i).cast());
            let symbols = _mm512_sub_epi8(symbols, _mm512_set1_epi8(least as i8));
            _mm512_gf2p8affine_epi64_epi8::<0>(identity, symbols)
        });
        let zero = _mm512_setzero_si512();
        let (mut fours, mut twos, mut planes) = ([zero; 8], [zero; 8], [zero; 8]);
        let halves = |size: usize, half: usize| -> __m512i {
            let mut from = [0u8; 64];
            for (i, from) in from.iter_mut().enumerate() {
                *from = (i / size * 2 * size + half * size + i % size) as u8;
            }
            // SAFETY: the array is a vector long.
            unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
        };
        // Low halves of two vectors' units to one vector, high halves to another: units of 8, 4 and 2 bytes.
        let low = halves(4, 0);
        for i in 0..4 {
            fours[i] = _mm512_permutex2var_epi8(eights[2 * i], low, eights[2 * i + 1]);
        }
        if P > 4 {
            let high = halves(4, 1);
            for i in 0..4 {
                fours[4 + i] = _mm512_permutex2var_epi8(eights[2 * i], high, eights[2 * i + 1]);
            }
        }
        for i in 0..if P > 4 { 4 } else { 2 } {
            let (a, b) = (fours[2 * i], fours[2 * i + 1]);
            let to = i / 2 * 4 + i % 2;
            twos[to] = _mm512_permutex2var_epi8(a, halves(2, 0), b);
            twos[to + 2] = _mm512_permutex2var_epi8(a, halves(2, 1), b);
        }
        for i in 0..if P > 6 {
            4
        } else if P > 4 {
            3
        } else {
            2
        } {
            let (a, b) = (twos[2 * i], twos[2 * i + 1]);
            planes[2 * i] = _mm512_permutex2var_epi8(a, halves(1, 0), b);
            planes[2 * i + 1] = _mm512_permutex2var_epi8(a, halves(1, 1), b);
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use super::{histogram, portable};

    #[test]
    fn every_byte_is_counted() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state >> 16
        };
        for bits in 0..=8 {
            for length in [0, 1, 3, 511, 512, 513, 1024, 5000] {
                let symbols: Vec<u8> = (0..length)
                    .map(|_| {
                        (noise() & noise() & 0xff) as u8
                            >> (8 - bits).min(7)
                            >> u32::from(bits == 0)
                    })
                    .collect();
                let mut expected = [0; 256];
                symbols.iter().for_each(|s| expected[usize::from(*s)] += 1);
                assert_eq!(histogram(&symbols), expected, "{bits} bits, {length} symbols");
                assert_eq!(portable(&symbols), expected, "{bits} bits, {length} symbols");
            }
        }
        for symbol in 0..=255 {
            let counts = histogram(&[symbol; 2000]);
            assert_eq!((counts[usize::from(symbol)], counts.iter().sum()), (2000, 2000u64));
        }
    }
}
