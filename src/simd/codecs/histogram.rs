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

/// How often each of the two numbers of 4 bits that every byte holds occurs.
pub(crate) fn histogram_nibbles(bytes: &[u8]) -> [u64; 16] {
    #[cfg(target_arch = "x86_64")]
    if planes::detect() {
        return planes::histogram_nibbles(bytes);
    }
    nibbles(&histogram(bytes))
}

/// The same, of how often bytes occur.
fn nibbles(bytes: &[u64; 256]) -> [u64; 16] {
    let mut counts = [0; 16];
    for (byte, n) in bytes.iter().enumerate() {
        counts[byte & 15] += n;
        counts[byte >> 4] += n;
    }
    counts
}

/// By planes of bits: 512 symbols become a vector of their first bits, one of their second bits and so on, and the ones of all
/// products of planes are counted; no table, so no symbol waits for an equal one.
#[cfg(target_arch = "x86_64")]
mod planes {
    use std::arch::x86_64::*;

    /// Symbols that become planes at once.
    const PART: usize = 512;
    /// Symbols that are counted at once.
    pub(super) const BATCH: usize = 2 * PART;
    /// Fewer are not worth sums for each of four groups.
    const MANY: usize = 8 * BATCH;

    /// The ones of all products of six planes, eight sums of each; by the set of planes, as bits.
    type Ones = [__m512i; 64];

    /// Whether the machine has the instructions.
    pub(super) fn detect() -> bool {
        detected!("avx512bw")
            && detected!("avx512vbmi")
            && detected!("avx512vbmi2")
            && detected!("avx512vpopcntdq")
            && detected!("gfni")
    }

    pub(super) fn histogram(symbols: &[u8]) -> [u64; 256] {
        assert!(detect());
        let (batches, rest) = symbols.as_chunks::<BATCH>();
        // What is wide from the first batch on is not looked at further.
        let bits = |(least, most): (u8, u8)| u8::BITS - most.saturating_sub(least).leading_zeros();
        // SAFETY: the machine was asked.
        let of_first = unsafe { ends(&batches[..batches.len().min(1)]) };
        // SAFETY: as before.
        let (least, most) = if bits(of_first) > 6 { of_first } else { unsafe { ends(batches) } };
        let mut counts = super::portable(rest);
        let shifted = &mut counts[usize::from(least.min(most))..];
        // SAFETY: the machine was asked.
        unsafe {
            // Few symbols that lie far from zero need no more bits than the same near it.
            match bits((least, most)) {
                0..=4 => count::<4>(batches, least, shifted),
                5 => count::<5>(batches, least, shifted),
                6 => count::<6>(batches, least, shifted),
                _ if symbols.len() >= MANY => count_groups(batches, &mut counts),
                _ => {
                    let counted = super::portable(batches.as_flattened());
                    counts.iter_mut().zip(counted).for_each(|(n, m)| *n += m);
                }
            }
        }
        counts
    }

    pub(super) fn histogram_nibbles(bytes: &[u8]) -> [u64; 16] {
        assert!(detect());
        let (parts, rest) = bytes.as_chunks::<PART>();
        let mut counts = super::nibbles(&super::portable(rest));
        // SAFETY: the machine was asked.
        unsafe { count_nibbles(parts, &mut counts) };
        counts
    }

    /// The least and the largest symbol; the least is above it where there are none.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn ends(batches: &[[u8; BATCH]]) -> (u8, u8) {
        let (mut least, mut most) = ([u8::MAX; 64], [0; 64]);
        for part in batches.as_flattened().as_chunks::<64>().0 {
            for (i, symbol) in part.iter().enumerate() {
                least[i] = least[i].min(*symbol);
                most[i] = most[i].max(*symbol);
            }
        }
        let ends = least.into_iter().min().zip(most.into_iter().max());
        ends.unwrap_or((u8::MAX, 0))
    }

    /// For symbols that are `P` bits above the least, four or more.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq,gfni")]
    fn count<const P: usize>(batches: &[[u8; BATCH]], least: u8, counts: &mut [u64]) {
        let mut ones = [_mm512_setzero_si512(); 64];
        batches.iter().for_each(|batch| add::<P>(batch, least, &mut ones));
        put(&ones[..1 << P], BATCH * batches.len(), counts);
    }

    /// For any symbols: products double with every bit, so that they are put into four groups by their highest two bits before.
    #[target_feature(
        enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,avx512vpopcntdq,gfni,popcnt"
    )]
    fn count_groups(batches: &[[u8; BATCH]], counts: &mut [u64; 256]) {
        let mut ones = [[_mm512_setzero_si512(); 64]; 4];
        let (mut groups, mut lengths, mut counted) = ([[0u8; BATCH + 128]; 4], [0; 4], [0; 4]);
        for symbols in batches.as_flattened().as_chunks::<64>().0 {
            // SAFETY: they are a vector long.
            let symbols = unsafe { _mm512_loadu_si512(symbols.as_ptr().cast()) };
            let high = _mm512_movepi8_mask(symbols);
            let low = _mm512_movepi8_mask(_mm512_add_epi8(symbols, symbols));
            let of_groups = [!high & !low, !high & low, high & !low, high & low];
            for ((group, length), mask) in groups.iter_mut().zip(&mut lengths).zip(of_groups) {
                let own = _mm512_maskz_compress_epi8(mask, symbols);
                let to = group[*length..].first_chunk_mut::<64>().expect("fewer than a batch wait");
                // SAFETY: it is a vector long.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), own) };
                *length += mask.count_ones() as usize;
            }
            for g in 0..4 {
                if lengths[g] >= BATCH {
                    let (batch, rest) = groups[g].split_first_chunk_mut().expect("it is longer");
                    add::<6>(batch, 64 * g as u8, &mut ones[g]);
                    counted[g] += BATCH;
                    lengths[g] -= BATCH;
                    batch[..64].copy_from_slice(&rest[..64]);
                }
            }
        }
        for g in 0..4 {
            put(&ones[g], counted[g], &mut counts[64 * g..]);
            groups[g][..lengths[g]].iter().for_each(|s| counts[usize::from(*s)] += 1);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq,gfni")]
    fn count_nibbles(parts: &[[u8; PART]], counts: &mut [u64; 16]) {
        let mut ones = [_mm512_setzero_si512(); 16];
        for part in parts {
            let p = transpose::<8>(part, 0);
            for of in [[p[0], p[1], p[2], p[3]], [p[4], p[5], p[6], p[7]]] {
                let low = products([of[0], of[1], of[2]]);
                for i in 0..8 {
                    let both = _mm512_and_si512(low[i], of[3]);
                    ones[i] = _mm512_add_epi64(ones[i], _mm512_popcnt_epi64(low[i]));
                    ones[8 + i] = _mm512_add_epi64(ones[8 + i], _mm512_popcnt_epi64(both));
                }
            }
        }
        put(&ones, 2 * PART * parts.len(), counts);
    }

    /// Adds the ones of the products of the planes of a batch, two parts at a time: half as many sums to load and store.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq,gfni")]
    fn add<const P: usize>(batch: &[u8; BATCH], least: u8, ones: &mut Ones) {
        let (parts, _) = batch.as_chunks::<PART>();
        let (a, b) = (transpose::<P>(&parts[0], least), transpose::<P>(&parts[1], least));
        let (low, high) = (products([a[0], a[1], a[2]]), products([a[3], a[4], a[5]]));
        let (low_b, high_b) = (products([b[0], b[1], b[2]]), products([b[3], b[4], b[5]]));
        for j in 0..1 << (P - 3) {
            for i in 0..8 {
                let n = _mm512_popcnt_epi64(_mm512_and_si512(low[i], high[j]));
                let m = _mm512_popcnt_epi64(_mm512_and_si512(low_b[i], high_b[j]));
                ones[8 * j + i] = _mm512_add_epi64(ones[8 * j + i], _mm512_add_epi64(n, m));
            }
        }
    }

    /// The products of the sets of three planes, the empty one's first.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn products([a, b, c]: [__m512i; 3]) -> [__m512i; 8] {
        let ab = _mm512_and_si512(a, b);
        let (ac, bc, abc) =
            (_mm512_and_si512(a, c), _mm512_and_si512(b, c), _mm512_and_si512(ab, c));
        [_mm512_set1_epi64(-1), a, b, ab, c, ac, bc, abc]
    }

    /// Adds how often each symbol is there, of so many, to its count; there may be fewer of these, where no symbol is that large.
    #[target_feature(enable = "avx512f")]
    fn put(ones: &[__m512i], of: usize, counts: &mut [u64]) {
        let mut symbols = [0; 64];
        let symbols = &mut symbols[..ones.len()];
        for (symbol, ones) in symbols.iter_mut().zip(ones) {
            *symbol = _mm512_reduce_add_epi64(*ones) as u64;
        }
        symbols[0] = of as u64;
        // Symbols with these bits and perhaps others, less those with others: Möbius' inversion.
        for bit in (0..symbols.len().ilog2()).map(|p| 1 << p) {
            for set in (0..symbols.len()).filter(|set| set & bit == 0) {
                symbols[set] -= symbols[set | bit];
            }
        }
        counts.iter_mut().zip(symbols).for_each(|(n, m)| *n += *m);
    }

    /// Plane `p` holds bit `p` of every symbol less the least, all in one order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
    fn transpose<const P: usize>(part: &[u8; PART], least: u8) -> [__m512i; 8] {
        // As a matrix, eight symbols times the rows of this one are the eight bytes of their planes.
        let identity = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
        // SAFETY: a part is eight vectors long.
        let eights: [__m512i; 8] = std::array::from_fn(|i| unsafe {
            let symbols = _mm512_loadu_si512(part.as_ptr().add(64 * i).cast());
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
    use super::{histogram, histogram_nibbles, portable};

    #[test]
    fn every_byte_is_counted() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state >> 16
        };
        for bits in 0..=8 {
            for length in [0, 1, 3, 511, 512, 1023, 1024, 1025, 5000, 20_000] {
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
                let mut nibbles = [0; 16];
                for symbol in &symbols {
                    nibbles[usize::from(symbol & 15)] += 1;
                    nibbles[usize::from(symbol >> 4)] += 1;
                }
                assert_eq!(histogram_nibbles(&symbols), nibbles, "{bits} bits, {length} symbols");
            }
        }
        for symbol in 0..=255 {
            let counts = histogram(&[symbol; 2000]);
            assert_eq!((counts[usize::from(symbol)], counts.iter().sum()), (2000, 2000u64));
            // Nearly all in one group.
            let mut symbols = vec![symbol; 10_000];
            symbols[..2].copy_from_slice(&[0, 255]);
            let mut expected = [0; 256];
            symbols.iter().for_each(|s| expected[usize::from(*s)] += 1);
            assert_eq!(histogram(&symbols), expected, "{symbol}");
        }
    }
}
