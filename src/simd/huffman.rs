//! Up to 64 interleaved lanes of codes of at most 8 bits: symbol `i` is in lane `i % lanes`, first bit of a code lowest.

/// The most lanes.
pub(crate) const MOST: usize = 64;

/// Bytes that must follow the last lane, whatever they are.
pub(crate) const AHEAD: usize = 8;

/// Appends the lanes of `symbols`, one after the other, each padded with zeros to whole bytes, and says how long each is.
///
/// - `code`: by symbol: its code in the low byte, its length in the high one.
/// - `lengths`: as many as there are lanes, at most [`MOST`].
pub(crate) fn encode(code: &[u16; 256], symbols: &[u8], lengths: &mut [u32], out: &mut Vec<u8>) {
    let lanes = lengths.len();
    let rows = symbols.len().div_ceil(lanes);
    // A symbol takes at most a byte; whole words are written.
    let stride = rows + 8;
    let mut space = vec![0; stride * lanes];
    let mut chunks = space.chunks_mut(stride);
    let mut first = 0;
    while first < lanes {
        first += match lanes - first {
            8.. => encode_some::<8>(code, symbols, (lanes, first), &mut chunks, lengths),
            4.. => encode_some::<4>(code, symbols, (lanes, first), &mut chunks, lengths),
            _ => encode_some::<1>(code, symbols, (lanes, first), &mut chunks, lengths),
        };
    }
    for (chunk, length) in space.chunks(stride).zip(lengths) {
        out.extend_from_slice(&chunk[..*length as usize]);
    }
}

/// Encodes `N` lanes from `first` on, side by side.
fn encode_some<'a, const N: usize>(
    code: &[u16; 256],
    symbols: &[u8],
    (lanes, first): (usize, usize),
    space: &mut impl Iterator<Item = &'a mut [u8]>,
    lengths: &mut [u32],
) -> usize {
    let space: [&mut [u8]; N] =
        std::array::from_fn(|_| space.next().expect("a chunk for every lane"));
    let (mut buffer, mut held, mut at) = ([0u64; N], [0u32; N], [0usize; N]);
    let whole = symbols.len() / lanes;
    let mut row = 0;
    while row < whole {
        let rows = (whole - row).min(7);
        for rows in symbols[row * lanes..][..rows * lanes].chunks_exact(lanes) {
            let symbols: &[u8; N] = rows[first..].first_chunk().expect("a row holds all lanes");
            for l in 0..N {
                let word = code[usize::from(symbols[l])];
                buffer[l] |= u64::from(word & 0xff) << held[l];
                held[l] += u32::from(word >> 8);
            }
        }
        row += rows;
        for l in 0..N {
            space[l][at[l]..][..8].copy_from_slice(&buffer[l].to_le_bytes());
            at[l] += held[l] as usize / 8;
            buffer[l] >>= held[l] & !7;
            held[l] %= 8;
        }
    }
    for l in 0..N {
        if let Some(symbol) = symbols.get(whole * lanes + first + l) {
            let word = code[usize::from(*symbol)];
            buffer[l] |= u64::from(word & 0xff) << held[l];
            held[l] += u32::from(word >> 8);
        }
        let bytes = held[l].div_ceil(8) as usize;
        space[l][at[l]..][..bytes].copy_from_slice(&buffer[l].to_le_bytes()[..bytes]);
        lengths[first + l] = (at[l] + bytes) as u32;
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
    portable(code, bytes, &mut at[..lanes], out);
    ends.iter().zip(at).all(|(end, at)| {
        at.div_ceil(8) == *end && (at % 8 == 0 || bytes[at as usize / 8] >> (at % 8) == 0)
    })
}

/// Decodes from bit `at` of every lane on, and moves it.
fn portable(code: &[u16; 256], bytes: &[u8], at: &mut [u32], out: &mut [u8]) {
    let lanes = at.len();
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
    let last = bytes.len() - 8;
    let window = |at: u32| {
        let from = (at as usize / 8).min(last);
        let bytes = bytes[from..].first_chunk().expect("eight bytes from there");
        u64::from_le_bytes(*bytes) >> (at % 8)
    };
    let (whole, rest) = out.split_at_mut(out.len() / lanes * lanes);
    // Of 64 bits at most 7 are another's, which leaves seven codes.
    for rows in whole.chunks_mut(7 * lanes) {
        let mut windows: [u64; N] = std::array::from_fn(|l| window(at[l]));
        for row in rows.chunks_exact_mut(lanes) {
            let row: &mut [u8; N] = row[first..].first_chunk_mut().expect("a row holds all lanes");
            for l in 0..N {
                let word = code[(windows[l] & 0xff) as usize];
                row[l] = word as u8;
                windows[l] >>= word >> 8;
                at[l] += u32::from(word >> 8);
            }
        }
    }
    for (l, symbol) in rest.iter_mut().skip(first).take(N).enumerate() {
        let word = code[(window(at[l]) & 0xff) as usize];
        *symbol = word as u8;
        at[l] += u32::from(word >> 8);
    }
    N
}
