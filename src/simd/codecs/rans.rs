//! Rows of 32 symbols of rANS, a lane each: the inner loops of [`crate::codec::rans`], which says what they do.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Lanes of a row.
const LANES: usize = 32;

/// A block that is being decoded: what is done is cut off its words and symbols.
pub(crate) struct Lanes<'a> {
    pub(crate) states: [u32; LANES],
    /// Where each lane is on its path through a trellis; zeros where there is none.
    pub(crate) paths: [u32; LANES],
    pub(crate) words: &'a [u8],
    pub(crate) symbols: &'a mut [u8],
}

impl Lanes<'_> {
    /// Rows that can be decoded whatever the states are: a row needs at most a word for each lane.
    fn safe_rows(&self) -> usize {
        (self.symbols.len() / LANES).min(self.words.len() / (2 * LANES))
    }

    fn cut(&mut self, words: usize, symbols: usize) {
        self.words = &self.words[words..];
        self.symbols = &mut std::mem::take(&mut self.symbols)[symbols..];
    }
}

/// Decodes rows of blocks side by side, as long as each has rows and as many words as any row could need. None are decoded
/// where the machine has no instructions that make it fast.
///
/// `slots`: for each value of the low 12 bits of a state, the symbol, above it 12 bits to add, above them the frequency.
pub(crate) fn decode_rows<const N: usize>(slots: &[u32; 4096], blocks: &mut [Lanes; N]) {
    decode::<N, false>(slots, [0; 2], blocks);
}

/// The same of symbols that lead along a path through a trellis: of the two tables the one that the lowest bit of the path
/// chooses says the symbol, whose second bit then leads on. The path loses its lowest bit, and is changed by the first of `taps`
/// if that was one, by the second if the symbol's is.
pub(crate) fn decode_path_rows<const N: usize>(
    slots: &[u32; 8192],
    taps: [u32; 2],
    blocks: &mut [Lanes; N],
) {
    decode::<N, true>(slots, taps, blocks);
}

/// `PATHS`: whether there are two tables.
fn decode<const N: usize, const PATHS: bool>(
    slots: &[u32],
    taps: [u32; 2],
    blocks: &mut [Lanes; N],
) {
    assert!(slots.len() == if PATHS { 8192 } else { 4096 });
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the machine has the instructions, and there are as many slots.
            return unsafe { decode_avx512::<N, PATHS>(slots, taps, blocks) };
        }
        if detected!("avx2") {
            for block in blocks {
                // SAFETY: as above.
                unsafe { decode_avx2::<PATHS>(slots, taps, block) }
            }
            return;
        }
    }
    let _ = (slots, taps, blocks);
}

/// Encodes all rows from the last to the first; returns how many symbols that were: all, or none where the machine has no
/// instructions that make it fast.
///
/// - `symbols`: whole rows.
/// - `shares`: for each symbol its frequency, and its start 16 bits higher; `reciprocals`: `2^32 - 1` by the
///   frequency, rounded down.
/// - `words`, `at`: words are put before `at`, which moves; there must be room for one a symbol.
pub(crate) fn encode_rows(
    symbols: &[u8],
    (shares, reciprocals): (&[u32; 256], &[u32; 256]),
    states: &mut [u32; LANES],
    words: &mut [u16],
    at: &mut usize,
) -> usize {
    assert!(symbols.len().is_multiple_of(LANES) && symbols.len() <= *at && *at <= words.len());
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        let few = shares[LANES..].iter().all(|share| *share == 0);
        // SAFETY: the machine has the instructions, and there is room.
        unsafe {
            if few {
                encode_avx512::<true>(symbols, (shares, reciprocals), states, words, at);
            } else {
                encode_avx512::<false>(symbols, (shares, reciprocals), states, words, at);
            }
        }
        return symbols.len();
    }
    let _ = (symbols, shares, reciprocals, states, words, at);
    0
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    detected!("avx512f") && detected!("avx512bw") && detected!("avx512vl")
}

/// # Safety
///
/// There must be 4096 slots, or of paths 8192.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
unsafe fn decode_avx512<const N: usize, const PATHS: bool>(
    slots: &[u32],
    taps: [u32; 2],
    blocks: &mut [Lanes; N],
) {
    // SAFETY: the halves of 32 states.
    let load = |states: &[u32; LANES], i: usize| unsafe {
        _mm512_loadu_si512(states[16 * i..].as_ptr().cast())
    };
    let mut x: [[__m512i; 2]; N] =
        std::array::from_fn(|n| [load(&blocks[n].states, 0), load(&blocks[n].states, 1)]);
    let mut paths: [[__m512i; 2]; N] =
        std::array::from_fn(|n| [load(&blocks[n].paths, 0), load(&blocks[n].paths, 1)]);
    let taps = taps.map(|tap| _mm512_set1_epi32(tap as i32));
    let (one, two) = (_mm512_set1_epi32(1), _mm512_set1_epi32(2));
    let (low, middle) = (_mm512_set1_epi32(0xfff), _mm512_set1_epi32(1 << 16));
    loop {
        let rows = blocks.iter().map(Lanes::safe_rows).min().unwrap_or(0);
        if rows == 0 {
            break;
        }
        let mut words: [*const u8; N] = std::array::from_fn(|n| blocks[n].words.as_ptr());
        for row in 0..rows {
            for n in 0..N {
                let symbols = &mut blocks[n].symbols[LANES * row..LANES * (row + 1)];
                let lanes = x[n].iter_mut().zip(&mut paths[n]);
                for ((x, path), symbols) in lanes.zip(symbols.chunks_exact_mut(16)) {
                    // SAFETY: 12 bits are an index of `slots`, and of two tables one bit more; this half of the row is 16 bytes; so
                    // many rows have words.
                    unsafe {
                        let mut at = _mm512_and_si512(*x, low);
                        if PATHS {
                            let table = _mm512_slli_epi32::<12>(_mm512_and_si512(*path, one));
                            at = _mm512_or_si512(at, table);
                        }
                        let slot = _mm512_i32gather_epi32::<4>(at, slots.as_ptr().cast());
                        if PATHS {
                            let lost = _mm512_test_epi32_mask(*path, one);
                            let led = _mm512_test_epi32_mask(slot, two);
                            let rest = _mm512_srli_epi32::<1>(*path);
                            let rest = _mm512_mask_xor_epi32(rest, lost, rest, taps[0]);
                            *path = _mm512_mask_xor_epi32(rest, led, rest, taps[1]);
                        }
                        _mm_storeu_si128(symbols.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(slot));
                        let product = _mm512_mullo_epi32(
                            _mm512_srli_epi32::<20>(slot),
                            _mm512_srli_epi32::<12>(*x),
                        );
                        let offset = _mm512_and_si512(_mm512_srli_epi32::<8>(slot), low);
                        let next = _mm512_add_epi32(product, offset);
                        let needs = _mm512_cmplt_epu32_mask(next, middle);
                        let taken = _mm256_loadu_si256(words[n].cast());
                        let taken = _mm512_maskz_expand_epi32(needs, _mm512_cvtepu16_epi32(taken));
                        let longer = _mm512_slli_epi32::<16>(next);
                        *x = _mm512_mask_or_epi32(next, needs, longer, taken);
                        words[n] = words[n].add(2 * needs.count_ones() as usize);
                    }
                }
            }
        }
        for (block, words) in blocks.iter_mut().zip(words) {
            let taken = words.addr() - block.words.as_ptr().addr();
            block.cut(taken, LANES * rows);
        }
    }
    for (block, (x, paths)) in blocks.iter_mut().zip(x.into_iter().zip(paths)) {
        let states = x.iter().zip(block.states.chunks_exact_mut(16));
        for (x, states) in states.chain(paths.iter().zip(block.paths.chunks_exact_mut(16))) {
            // SAFETY: half of the states, or of the paths.
            unsafe { _mm512_storeu_si512(states.as_mut_ptr().cast(), *x) };
        }
    }
}

/// Which word each lane takes, for every set of lanes that take one.
#[cfg(target_arch = "x86_64")]
static EXPAND: [[u32; 8]; 256] = {
    let mut expand = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            expand[set][lane] = next;
            next += (set >> lane & 1) as u32;
            lane += 1;
        }
        set += 1;
    }
    expand
};

/// # Safety
///
/// There must be 4096 slots, or of paths 8192.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn decode_avx2<const PATHS: bool>(slots: &[u32], taps: [u32; 2], block: &mut Lanes) {
    let Lanes { states, paths, words, symbols } = block;
    // SAFETY: the quarters of 32 states.
    let load = |states: &[u32; LANES], i: usize| unsafe {
        _mm256_loadu_si256(states[8 * i..].as_ptr().cast())
    };
    let mut x: [__m256i; 4] = std::array::from_fn(|i| load(states, i));
    let mut path: [__m256i; 4] = std::array::from_fn(|i| load(paths, i));
    let taps = taps.map(|tap| _mm256_set1_epi32(tap as i32));
    let (zero, one) = (_mm256_setzero_si256(), _mm256_set1_epi32(1));
    let low = _mm256_set1_epi32(0xfff);
    // The lowest byte of each lane, in the lowest four of each half.
    let bytes = _mm256_set1_epi64x(0x0c08_0400);
    let (mut at, mut done) = (0, 0);
    for row in symbols.chunks_exact_mut(LANES) {
        if words.len() - at < 2 * LANES {
            break;
        }
        for ((x, path), symbols) in x.iter_mut().zip(&mut path).zip(row.chunks_exact_mut(8)) {
            // SAFETY: 12 bits are an index of `slots`, and of two tables one bit more; words of all quarters are left.
            unsafe {
                let mut of = _mm256_and_si256(*x, low);
                let lost = _mm256_and_si256(*path, one);
                if PATHS {
                    of = _mm256_or_si256(of, _mm256_slli_epi32::<12>(lost));
                }
                let slot = _mm256_i32gather_epi32::<4>(slots.as_ptr().cast(), of);
                if PATHS {
                    // All bits of a lane where the bit is one.
                    let lost = _mm256_sub_epi32(zero, lost);
                    let led = _mm256_and_si256(_mm256_srli_epi32::<1>(slot), one);
                    let led = _mm256_sub_epi32(zero, led);
                    let changed = _mm256_xor_si256(
                        _mm256_and_si256(lost, taps[0]),
                        _mm256_and_si256(led, taps[1]),
                    );
                    *path = _mm256_xor_si256(_mm256_srli_epi32::<1>(*path), changed);
                }
                let packed = _mm256_shuffle_epi8(slot, bytes);
                symbols[..4].copy_from_slice(&_mm256_extract_epi32::<0>(packed).to_le_bytes());
                symbols[4..].copy_from_slice(&_mm256_extract_epi32::<4>(packed).to_le_bytes());
                let product =
                    _mm256_mullo_epi32(_mm256_srli_epi32::<20>(slot), _mm256_srli_epi32::<12>(*x));
                let next =
                    _mm256_add_epi32(product, _mm256_and_si256(_mm256_srli_epi32::<8>(slot), low));
                let needs =
                    _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(next), _mm256_setzero_si256());
                let set = _mm256_movemask_ps(_mm256_castsi256_ps(needs)) as usize;
                let taken = _mm_loadu_si128(words.as_ptr().add(at).cast());
                let order = _mm256_loadu_si256(EXPAND[set].as_ptr().cast());
                let taken = _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(taken), order);
                let longer = _mm256_or_si256(_mm256_slli_epi32::<16>(next), taken);
                *x = _mm256_blendv_epi8(next, longer, needs);
                at += 2 * set.count_ones() as usize;
            }
        }
        done += LANES;
    }
    let states = x.iter().zip(states.chunks_exact_mut(8));
    for (x, states) in states.chain(path.iter().zip(paths.chunks_exact_mut(8))) {
        // SAFETY: a quarter of the states, or of the paths.
        unsafe { _mm256_storeu_si256(states.as_mut_ptr().cast(), *x) };
    }
    block.cut(at, done);
}

/// `FEW`: symbols are below 32, so that tables fit registers.
///
/// # Safety
///
/// There must be room for a word a symbol before `at`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
unsafe fn encode_avx512<const FEW: bool>(
    symbols: &[u8],
    (shares, reciprocals): (&[u32; 256], &[u32; 256]),
    states: &mut [u32; LANES],
    words: &mut [u16],
    at: &mut usize,
) {
    // SAFETY: 16 lanes each.
    let load = |table: &[u32], i: usize| unsafe {
        _mm512_loadu_si512(table[16 * i..16 * i + 16].as_ptr().cast())
    };
    let tables = [shares, reciprocals].map(|table| (load(table, 0), load(table, 1)));
    let mut x: [__m512i; 2] = std::array::from_fn(|i| load(states, i));
    let low = _mm512_set1_epi32(0xffff);
    let one = _mm512_set1_epi32(1);
    for row in symbols.rchunks_exact(LANES) {
        for (x, symbols) in x.iter_mut().zip(row.chunks_exact(16)).rev() {
            // SAFETY: 16 symbols; a byte is an index of the tables.
            let (share, reciprocal) = unsafe {
                let symbols = _mm512_cvtepu8_epi32(_mm_loadu_si128(symbols.as_ptr().cast()));
                if FEW {
                    let [shares, reciprocals] =
                        tables.map(|(a, b)| _mm512_permutex2var_epi32(a, symbols, b));
                    (shares, reciprocals)
                } else {
                    let share = _mm512_i32gather_epi32::<4>(symbols, shares.as_ptr().cast());
                    let reciprocal =
                        _mm512_i32gather_epi32::<4>(symbols, reciprocals.as_ptr().cast());
                    (share, reciprocal)
                }
            };
            let frequency = _mm512_and_si512(share, low);
            let gives = _mm512_cmple_epu32_mask(frequency, _mm512_srli_epi32::<20>(*x));
            let given = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(gives, *x));
            let count = gives.count_ones();
            *at -= count as usize;
            let first = ((1u32 << count) - 1) as u16;
            // SAFETY: the caller answers for the room.
            unsafe { _mm256_mask_storeu_epi16(words.as_mut_ptr().add(*at).cast(), first, given) };
            let kept = _mm512_mask_srli_epi32::<16>(*x, gives, *x);
            // The quotient by way of the reciprocal is at most 1 too small.
            let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(kept, reciprocal));
            let odd = _mm512_mul_epu32(
                _mm512_srli_epi64::<32>(kept),
                _mm512_srli_epi64::<32>(reciprocal),
            );
            let quotient = _mm512_mask_blend_epi32(0xaaaa, even, odd);
            let rest = _mm512_sub_epi32(kept, _mm512_mullo_epi32(quotient, frequency));
            let more = _mm512_cmpge_epu32_mask(rest, frequency);
            let quotient = _mm512_mask_add_epi32(quotient, more, quotient, one);
            let rest = _mm512_mask_sub_epi32(rest, more, rest, frequency);
            let slot = _mm512_add_epi32(rest, _mm512_srli_epi32::<16>(share));
            *x = _mm512_add_epi32(_mm512_slli_epi32::<12>(quotient), slot);
        }
    }
    for (x, states) in x.iter().zip(states.chunks_exact_mut(16)) {
        // SAFETY: half of the states.
        unsafe { _mm512_storeu_si512(states.as_mut_ptr().cast(), *x) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row at a time, as the formulas say.
    fn plain_decode(slots: &[u32], taps: [u32; 2], block: &mut Lanes) {
        while block.safe_rows() > 0 {
            for lane in 0..LANES {
                let (x, path) = (&mut block.states[lane], &mut block.paths[lane]);
                let mut at = *x as usize % 4096;
                if slots.len() > 4096 {
                    at += 4096 * (*path as usize % 2);
                }
                let slot = slots[at];
                if slots.len() > 4096 {
                    *path = (*path / 2) ^ (taps[0] * (*path % 2)) ^ (taps[1] * (slot >> 1 & 1));
                }
                block.symbols[lane] = slot as u8;
                *x = (slot >> 20) * (*x / 4096) + (slot >> 8) % 4096;
                if *x < 1 << 16 {
                    let word = u16::from_le_bytes([block.words[0], block.words[1]]);
                    *x = *x << 16 | u32::from(word);
                    block.words = &block.words[2..];
                }
            }
            block.cut(0, LANES);
        }
    }

    fn plain_encode(
        symbols: &[u8],
        shares: &[u32; 256],
        states: &mut [u32; LANES],
        words: &mut [u16],
        at: &mut usize,
    ) {
        for (i, symbol) in symbols.iter().enumerate().rev() {
            let x = &mut states[i % LANES];
            let share = shares[usize::from(*symbol)];
            let (frequency, start) = (share & 0xffff, share >> 16);
            if u64::from(*x) >= u64::from(frequency) << 20 {
                *at -= 1;
                words[*at] = *x as u16;
                *x >>= 16;
            }
            *x = *x / frequency * 4096 + *x % frequency + start;
        }
    }

    fn random() -> impl FnMut() -> u32 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        }
    }

    /// Symbols and frequencies of sum 4096: few or many, even or skewed.
    fn tables() -> Vec<Vec<(u8, u32)>> {
        vec![
            vec![(0, 1), (31, 4095)],
            vec![(3, 4095), (255, 1)],
            vec![(0, 2048), (1, 1024), (2, 512), (7, 256), (9, 128), (32, 127), (33, 1)],
            vec![(5, 2897), (6, 1199)],
            (0..=255).map(|s| (s, 16)).collect(),
            (0..32).map(|s| (s, 66 + 4 * u32::from(s))).collect(),
        ]
    }

    fn shares(table: &[(u8, u32)]) -> [u32; 256] {
        let (mut shares, mut start) = ([0; 256], 0);
        for (symbol, frequency) in table {
            shares[usize::from(*symbol)] = start << 16 | frequency;
            start += frequency;
        }
        assert_eq!(start, 4096);
        shares
    }

    type Decode = fn(&[u32], [u32; 2], &mut Lanes);

    /// Decoders of one table, or of two.
    fn decoders<const PATHS: bool>() -> Vec<(&'static str, Decode)> {
        let mut decoders: Vec<(&str, Decode)> = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                // SAFETY: the machine has the instructions, here and below.
                decoders.push(("AVX-512", |a, t, b| unsafe {
                    decode_avx512::<1, PATHS>(a, t, std::array::from_mut(b));
                }));
            }
            if detected!("avx2") {
                decoders.push(("AVX2", |a, t, b| unsafe { decode_avx2::<PATHS>(a, t, b) }));
                decoders
                    .push(("chosen", |a, t, b| decode::<1, PATHS>(a, t, std::array::from_mut(b))));
            }
        }
        decoders
    }

    /// Of one table, or of two.
    fn check_decoders<const PATHS: bool>(slots: &[u32], random: &mut impl FnMut() -> u32) {
        let taps = [5, 2];
        // Also states that no stream has.
        for (len, taken) in [(0, 99), (31, 99), (32, 64), (32, 63), (3200, 9999), (3200, 1000)] {
            let states: [u32; LANES] = std::array::from_fn(|_| random());
            let paths = states.map(|x| if PATHS { x % 8 } else { 0 });
            let words: Vec<u8> = (0..taken).map(|_| random() as u8).collect();
            let ends =
                |block: &Lanes| (block.states, block.paths, block.words.len(), block.symbols.len());
            let run = |decode: Decode| {
                let mut out = vec![7; len];
                let mut block = Lanes { states, paths, words: &words, symbols: &mut out };
                decode(slots, taps, &mut block);
                (ends(&block), out)
            };
            for (name, decode) in decoders::<PATHS>() {
                assert_eq!(run(decode), run(plain_decode), "{name}, {len} symbols");
            }
            // Two blocks side by side, of which one ends first.
            let more: Vec<u8> = (0..1500).map(|_| random() as u8).collect();
            let two = |together: bool| {
                let (mut a, mut b) = (vec![7; len], vec![7; 640]);
                let mut pair = [
                    Lanes { states, paths, words: &words, symbols: &mut a },
                    Lanes { states: states.map(|x| !x), paths, words: &more, symbols: &mut b },
                ];
                if together {
                    decode::<2, PATHS>(slots, taps, &mut pair);
                }
                pair.iter_mut().for_each(|block| plain_decode(slots, taps, block));
                let ends = [ends(&pair[0]), ends(&pair[1])];
                (ends, a, b)
            };
            assert_eq!(two(true), two(false), "two blocks, {len} symbols");
        }
    }

    #[test]
    fn every_decoder_is_the_plain_one() {
        let mut random = random();
        let mut before = None;
        for table in tables() {
            let mut slots = Vec::new();
            for (symbol, frequency) in &table {
                slots
                    .extend((0..*frequency).map(|i| frequency << 20 | i << 8 | u32::from(*symbol)));
            }
            check_decoders::<false>(&slots, &mut random);
            if let Some(before) = before {
                check_decoders::<true>(&[before, slots.clone()].concat(), &mut random);
            }
            before = Some(slots);
        }
    }

    #[test]
    fn the_encoder_is_the_plain_one() {
        let mut random = random();
        for table in tables() {
            let shares = shares(&table);
            let reciprocals = shares.map(|s| u32::MAX.checked_div(s & 0xffff).unwrap_or(0));
            for rows in [0, 1, 2, 50] {
                let symbols: Vec<u8> =
                    (0..32 * rows).map(|_| table[random() as usize % table.len()].0).collect();
                let states: [u32; LANES] = std::array::from_fn(|_| random() | 1 << 16);
                let mut expected = (states, vec![7; 32 * rows + 5], 32 * rows + 3);
                plain_encode(&symbols, &shares, &mut expected.0, &mut expected.1, &mut expected.2);
                let mut got = (states, vec![7; 32 * rows + 5], 32 * rows + 3);
                let tables = (&shares, &reciprocals);
                if encode_rows(&symbols, tables, &mut got.0, &mut got.1, &mut got.2) > 0 {
                    assert_eq!(got, expected, "{rows} rows");
                }
            }
        }
    }
}
