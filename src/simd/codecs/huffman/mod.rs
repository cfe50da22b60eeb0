//! Up to 64 interleaved lanes of codes of at most 8 bits: symbol `i` is in lane `i % lanes`, first bit of a code lowest.

#[cfg(target_arch = "x86_64")]
mod vbmi;

/// The most lanes.
pub(crate) const MOST: usize = 64;

/// Bytes that must follow the last lane, whatever they are.
pub(crate) const AHEAD: usize = 8;

/// Encodes blocks, one after the other.
#[derive(Default)]
pub(crate) struct Encoder {
    /// A part for every lane.
    space: Vec<u8>,
}

impl Encoder {
    /// Appends the lanes of `symbols`, one after the other, each padded with zeros to whole bytes, and says how long each is.
    ///
    /// - `code`: by symbol: its code in the low byte, its length in the high one.
    /// - `lengths`: as many as there are lanes, at most [`MOST`].
    pub(crate) fn encode(
        &mut self,
        code: &[u16; 256],
        symbols: &[u8],
        lengths: &mut [u32],
        out: &mut Vec<u8>,
    ) {
        let lanes = lengths.len();
        // A symbol takes at most a byte; eight bytes are written at a time.
        let stride = symbols.len().div_ceil(lanes) + 8;
        self.space.resize(stride * lanes, 0);
        let mut written = Written::default();
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if lanes == MOST && vbmi::detect() {
            done = vbmi::encode(code, symbols, &mut self.space, &mut written);
        }
        encode_lanes(code, &symbols[done..], lanes, &mut self.space, &mut written);
        for ((part, length), bits) in self.space.chunks(stride).zip(lengths).zip(written.bits) {
            *length = bits.div_ceil(8);
            out.extend_from_slice(&part[..*length as usize]);
        }
    }
}

/// How far every lane is.
struct Written {
    bits: [u32; MOST],
    /// The byte that is not full yet.
    last: [u8; MOST],
}

impl Default for Written {
    fn default() -> Self {
        Self { bits: [0; MOST], last: [0; MOST] }
    }
}

/// Encodes every lane to its part of `space`.
fn encode_lanes(
    code: &[u16; 256],
    symbols: &[u8],
    lanes: usize,
    space: &mut [u8],
    written: &mut Written,
) {
    let mut parts = space.chunks_mut(space.len() / lanes);
    let mut first = 0;
    while first < lanes {
        first += match lanes - first {
            8.. => encode_some::<8>(code, symbols, (lanes, first), &mut parts, written),
            4.. => encode_some::<4>(code, symbols, (lanes, first), &mut parts, written),
            _ => encode_some::<1>(code, symbols, (lanes, first), &mut parts, written),
        };
    }
}

/// Encodes `N` lanes from `first` on, side by side.
fn encode_some<'a, const N: usize>(
    code: &[u16; 256],
    symbols: &[u8],
    (lanes, first): (usize, usize),
    parts: &mut impl Iterator<Item = &'a mut [u8]>,
    written: &mut Written,
) -> usize {
    let parts: [&mut [u8]; N] =
        std::array::from_fn(|_| parts.next().expect("a part for every lane"));
    let bits: &mut [u32; N] = written.bits[first..].first_chunk_mut().expect("as many lanes");
    let mut buffer: [u64; N] = std::array::from_fn(|l| written.last[first + l].into());
    let mut held: [u32; N] = bits.map(|bits| bits % 8);
    let mut at: [usize; N] = bits.map(|bits| bits as usize / 8);
    let (whole, rest) = symbols.split_at(symbols.len() / lanes * lanes);
    // Seven codes and what a byte holds of another fit 64 bits.
    for rows in whole.chunks(7 * lanes) {
        for row in rows.chunks_exact(lanes) {
            let row: &[u8; N] = row[first..].first_chunk().expect("a row holds all lanes");
            for l in 0..N {
                let word = code[usize::from(row[l])];
                buffer[l] |= u64::from(word & 0xff) << held[l];
                held[l] += u32::from(word >> 8);
            }
        }
        for l in 0..N {
            parts[l][at[l]..][..8].copy_from_slice(&buffer[l].to_le_bytes());
            at[l] += held[l] as usize / 8;
            buffer[l] >>= held[l] & !7;
            held[l] %= 8;
        }
    }
    for l in 0..N {
        if let Some(symbol) = rest.get(first + l) {
            let word = code[usize::from(*symbol)];
            buffer[l] |= u64::from(word & 0xff) << held[l];
            held[l] += u32::from(word >> 8);
        }
        parts[l][at[l]..][..8].copy_from_slice(&buffer[l].to_le_bytes());
        bits[l] = 8 * at[l] as u32 + held[l];
    }
    N
}

/// Decodes as many symbols as `out` holds; returns whether every lane ends where `ends` says, padded with less than a byte of
/// zeros.
///
/// - `code`: by the next eight bits: their symbol in the low byte, the length of its code, 1 to 8, in the high one.
/// - `bytes`: the lanes, one after the other, and [`AHEAD`] bytes more.
/// - `ends`: of each lane, in bytes; ascending, at most [`MOST`].
pub(crate) fn decode(code: &[u16; 256], bytes: &[u8], ends: &[u32], out: &mut [u8]) -> bool {
    let lanes = ends.len();
    assert!((1..=MOST).contains(&lanes) && bytes.len() >= ends[lanes - 1] as usize + AHEAD);
    let mut at = [0; MOST];
    for (at, end) in at[1..].iter_mut().zip(ends) {
        *at = 8 * end;
    }
    let at = &mut at[..lanes];
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if lanes >= 16 && vbmi::detect() {
        done = vbmi::decode(code, bytes, at, out);
    }
    portable(code, bytes, at, &mut out[done..]);
    ends.iter().zip(&*at).all(|(end, at)| {
        at.div_ceil(8) == *end && (at % 8 == 0 || bytes[*at as usize / 8] >> (at % 8) == 0)
    })
}

/// Decodes from bit `at` of every lane on, and moves it.
fn portable(code: &[u16; 256], bytes: &[u8], at: &mut [u32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if detected!("bmi2") && detected!("lzcnt") {
        /// Shifts by any register, and counts of zeros, in an instruction each.
        #[target_feature(enable = "bmi1,bmi2,lzcnt")]
        fn fast(code: &[u16; 256], bytes: &[u8], at: &mut [u32], out: &mut [u8]) {
            plain(code, bytes, at, out);
        }
        // SAFETY: the machine was asked.
        return unsafe { fast(code, bytes, at, out) };
    }
    plain(code, bytes, at, out);
}

#[inline(always)]
fn plain(code: &[u16; 256], bytes: &[u8], at: &mut [u32], out: &mut [u8]) {
    let lanes = at.len();
    // The length low: so a shift needs no other preparation.
    let code = &code.map(u16::swap_bytes);
    let mut first = 0;
    while first < lanes {
        first += match lanes - first {
            8.. => decode_some::<8>(code, bytes, at, first, out),
            4.. => decode_some::<4>(code, bytes, at, first, out),
            _ => decode_some::<1>(code, bytes, at, first, out),
        };
    }
}

/// Decodes `N` lanes from `first` on, side by side.
#[inline(always)]
fn decode_some<const N: usize>(
    code: &[u16; 256],
    bytes: &[u8],
    at: &mut [u32],
    first: usize,
    out: &mut [u8],
) -> usize {
    let lanes = at.len();
    let at: &mut [u32; N] = at[first..].first_chunk_mut().expect("as many lanes");
    // Lanes of malformed bytes may run beyond their ends, and then read what is there.
    let last = bytes.len() - AHEAD;
    let window = |at: u32| {
        let from = (at as usize / 8).min(last);
        let bytes = bytes[from..].first_chunk().expect("eight bytes from there");
        u64::from_le_bytes(*bytes) >> (at % 8)
    };
    let (whole, rest) = out.split_at_mut(out.len() / lanes * lanes);
    // Of 64 bits at most 7 are another's, which leaves seven codes, and the highest bit to see how far they were shifted.
    for rows in whole.chunks_mut(7 * lanes) {
        let mut windows: [u64; N] = std::array::from_fn(|l| window(at[l]) | 1 << 63);
        for row in rows.chunks_exact_mut(lanes) {
            let row: &mut [u8; N] = row[first..].first_chunk_mut().expect("a row holds all lanes");
            for l in 0..N {
                let word = code[(windows[l] & 0xff) as usize];
                row[l] = (word >> 8) as u8;
                windows[l] >>= word & 63;
            }
        }
        for l in 0..N {
            at[l] += windows[l].leading_zeros();
        }
    }
    for (l, symbol) in rest.iter_mut().skip(first).take(N).enumerate() {
        let word = code[(window(at[l]) & 0xff) as usize];
        *symbol = (word >> 8) as u8;
        at[l] += u32::from(word & 63);
    }
    N
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> impl FnMut() -> u32 {
        let mut state = 1u32;
        move || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state ^ state >> 15
        }
    }

    /// A complete code of `symbols` symbols of at most `limit` bits, by window.
    fn random_code(symbols: usize, limit: u32, noise: &mut impl FnMut() -> u32) -> [u16; 256] {
        let mut lengths = vec![0];
        while lengths.len() < symbols {
            let i = noise() as usize % lengths.len();
            if lengths[i] < limit {
                lengths[i] += 1;
                lengths.push(lengths[i]);
            }
        }
        // Shortest first, so that every code's windows begin at a multiple of their number.
        lengths.sort_unstable();
        let (mut code, mut next) = ([0; 256], 0u8);
        for (rank, length) in lengths.iter().enumerate() {
            for _ in 0..256 >> length {
                code[usize::from(next.reverse_bits())] =
                    (rank * 7 + 3) as u16 & 0xff | (*length as u16) << 8;
                next = next.wrapping_add(1);
            }
        }
        code
    }

    type Decode = fn(&[u16; 256], &[u8], &mut [u32], &mut [u8]) -> usize;

    /// Every way that this machine has.
    fn ways() -> Vec<(&'static str, Decode)> {
        let mut ways: Vec<(_, Decode)> = vec![("portable", |code, bytes, at, out| {
            portable(code, bytes, at, out);
            out.len()
        })];
        #[cfg(target_arch = "x86_64")]
        if vbmi::detect() {
            ways.push(("AVX512-VBMI", |code, bytes, at, out| match at.len() {
                16 | 32 | 64 => vbmi::decode(code, bytes, at, out),
                _ => 0,
            }));
        }
        ways
    }

    /// Beyond the bytes, lanes read what there is, each way in its own; they end beyond them either way, and so are refused.
    #[test]
    fn every_way_decodes_any_bytes_alike() {
        let (mut noise, mut checked) = (noise(), 0);
        for (symbols, limit) in [
            (2, 1),
            (2, 8),
            (9, 8),
            (16, 4),
            (16, 6),
            (16, 7),
            (16, 8),
            (17, 6),
            (40, 6),
            (64, 6),
            (70, 7),
            (128, 7),
            (128, 8),
            (200, 8),
        ] {
            for lanes in (0..7).map(|i| 1 << i) {
                let code = random_code(symbols, limit, &mut noise);
                for length in [0, 1, 7, 8, 9, 100, 10_000] {
                    // Fewer bytes than the lanes want, and lanes that do not end where they should.
                    let bytes: Vec<u8> = (0..length + AHEAD).map(|_| noise() as u8).collect();
                    let starts: Vec<u32> =
                        (0..lanes).map(|_| noise() % (8 * length as u32 + 1)).collect();
                    let count = lanes * (noise() as usize % 40) + noise() as usize % lanes;
                    let mut expected = vec![0; count];
                    let mut expected_at = starts.clone();
                    plain(&code, &bytes, &mut expected_at, &mut expected);
                    for (name, way) in ways() {
                        let (mut out, mut at) = (vec![0x5a; count], starts.clone());
                        let done = way(&code, &bytes, &mut at, &mut out);
                        plain(&code, &bytes, &mut at, &mut out[done..]);
                        let what = (name, symbols, limit, lanes, length, count);
                        for lane in 0..lanes {
                            if expected_at[lane] > 8 * length as u32 {
                                assert!(at[lane] > 8 * length as u32, "{what:?}");
                                continue;
                            }
                            let of_lane = |out: &[u8]| -> Vec<u8> {
                                out.iter().skip(lane).step_by(lanes).copied().collect()
                            };
                            assert_eq!(at[lane], expected_at[lane], "{what:?}");
                            assert_eq!(of_lane(&out), of_lane(&expected), "{what:?}");
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 4000, "{checked}");
    }

    #[test]
    fn every_way_encodes_alike_what_comes_back() {
        let mut noise = noise();
        for (kinds, limit) in
            [(2, 1), (2, 8), (16, 4), (16, 7), (64, 6), (70, 7), (128, 8), (200, 8)]
        {
            let decoder = random_code(kinds, limit, &mut noise);
            let mut code = [0; 256];
            for (window, word) in decoder.iter().enumerate().rev() {
                let low = window & ((1 << (word >> 8)) - 1);
                code[usize::from(word & 0xff)] = low as u16 | word & 0xff00;
            }
            for count in [1, 63, 64, 65, 255, 256, 511, 512, 513, 3000, 65_536, 70_001] {
                for lanes in [1, 2, 8, 32, 64] {
                    let symbols: Vec<u8> =
                        (0..count).map(|_| decoder[noise() as usize % 256] as u8).collect();
                    let (mut lengths, mut out) = (vec![0; lanes], Vec::new());
                    Encoder::default().encode(&code, &symbols, &mut lengths, &mut out);
                    let stride = count / lanes + 9;
                    let (mut space, mut written) = (vec![0; stride * lanes], Written::default());
                    encode_lanes(&code, &symbols, lanes, &mut space, &mut written);
                    let (mut end, mut expected) = (0, Vec::new());
                    for (part, bits) in space.chunks(stride).zip(written.bits) {
                        expected.extend_from_slice(&part[..bits.div_ceil(8) as usize]);
                    }
                    assert!(out == expected, "{limit} bits, {count} symbols in {lanes} lanes");
                    let ends: Vec<u32> = lengths
                        .iter()
                        .map(|length| {
                            end += length;
                            end
                        })
                        .collect();
                    out.extend([0xff; AHEAD]);
                    let mut back = vec![0; count];
                    assert!(
                        decode(&decoder, &out, &ends, &mut back),
                        "{kinds}, {limit} bits, {count} symbols in {lanes} lanes"
                    );
                    assert!(back == symbols, "{limit} bits, {count} symbols in {lanes} lanes");
                }
            }
        }
    }

    #[test]
    fn lanes_are_as_long_as_their_codes() {
        // One bit for 0, two for 1 and 2, by hand: 0, 10, 11, first bit lowest.
        let mut code = [0; 256];
        code[..3].copy_from_slice(&[0x100, 0x201, 0x203]);
        let mut lengths = [0; 2];
        let mut out = vec![9];
        Encoder::default().encode(&code, &[0, 1, 2, 2, 0, 0, 1, 1, 2], &mut lengths, &mut out);
        // Lane 0: 0, 2, 0, 1, 2; lane 1: 1, 2, 0, 1.
        assert_eq!((&out[..], lengths), (&[9, 0b1101_0110, 0b0010_1101][..], [1, 1]));
    }
}
