//! A lane in 32 bits of a vector, a byte permute for the table: AVX-512 with VBMI and VBMI2.

use crate::simd::codecs::huffman::{AHEAD, MOST, Written};
use std::arch::x86_64::*;

/// Whether the machine has the instructions.
pub(super) fn detect() -> bool {
    detected!("avx512bw") && detected!("avx512vbmi") && detected!("avx512vbmi2")
}

/// Decodes whole rows from bit `at` of every lane on, but for the last few, and moves the lanes; returns how many symbols these
/// rows are. The lanes are 16, 32 or 64.
///
/// # Panics
///
/// If the machine has not the instructions, or the lanes are of another number.
pub(super) fn decode(code: &[u16; 256], bytes: &[u8], at: &mut [u32], out: &mut [u8]) -> usize {
    assert!(detect() && (AHEAD..1 << 28).contains(&bytes.len()));
    let tables = Tables::of(code);
    let rows = match (code.iter().map(|word| word >> 8).max(), tables.ranked) {
        (Some(0..=6), true) => by_lanes::<6, true>,
        (Some(0..=6), false) => by_lanes::<6, false>,
        (Some(7), true) => by_lanes::<7, true>,
        (Some(7), false) => by_lanes::<7, false>,
        (_, true) => by_lanes::<8, true>,
        (_, false) => by_lanes::<8, false>,
    };
    rows(&tables, bytes, at, out)
}

/// What the next eight bits mean, as bytes.
struct Tables {
    /// The length of their code; if `ranked` in the low half, and in the high half the symbol's rank among all.
    lengths: [u8; 256],
    /// Their symbol, or, if `ranked`, the symbol of every rank.
    symbols: [u8; 256],
    /// Whether there are so few symbols that one lookup tells both.
    ranked: bool,
}

impl Tables {
    fn of(code: &[u16; 256]) -> Self {
        let mut lengths = code.map(|word| (word >> 8) as u8);
        let mut symbols = code.map(|word| word as u8);
        let mut kinds = [0; 16];
        let mut found = 0;
        // Symbols of a code are equal neighbours once the bits are read from the first on.
        let mut ranks = [0; 256];
        for window in (0..=255u8).map(u8::reverse_bits).map(usize::from) {
            if found == 0 || kinds[found - 1] != symbols[window] {
                if found == kinds.len() {
                    return Self { lengths, symbols, ranked: false };
                }
                kinds[found] = symbols[window];
                found += 1;
            }
            ranks[window] = found as u8 - 1;
        }
        lengths.iter_mut().zip(ranks).for_each(|(length, rank)| *length |= rank << 4);
        symbols[..16].copy_from_slice(&kinds);
        Self { lengths, symbols, ranked: true }
    }
}

fn by_lanes<const L: u32, const RANKED: bool>(
    tables: &Tables,
    bytes: &[u8],
    at: &mut [u32],
    out: &mut [u8],
) -> usize {
    // SAFETY: `decode` has asked the machine.
    unsafe {
        match at.len() {
            64 => rows::<L, RANKED, 4>(tables, bytes, at, out),
            32 => rows::<L, RANKED, 2>(tables, bytes, at, out),
            16 => rows::<L, RANKED, 1>(tables, bytes, at, out),
            lanes => panic!("{lanes} lanes"),
        }
    }
}

/// For codes of at most `L` bits in `V` vectors of lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn rows<const L: u32, const RANKED: bool, const V: usize>(
    tables: &Tables,
    bytes: &[u8],
    at: &mut [u32],
    out: &mut [u8],
) -> usize {
    assert!(at.len() == 16 * V && bytes.len() >= AHEAD);
    let load = |table: &[u8; 256]| -> [__m512i; 4] {
        // SAFETY: a table is four vectors long.
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) })
    };
    let (lengths, symbols) = (load(&tables.lengths), load(&tables.symbols));
    let mask = _mm512_set1_epi32(if RANKED { 15 } else { 255 });
    let (seven, nibble) = (_mm512_set1_epi32(7), _mm512_set1_epi8(15));
    // Lanes of malformed bytes may run beyond their ends, and then read what is there.
    let last = _mm512_set1_epi32((bytes.len() - AHEAD) as i32);
    let steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let evens = _mm512_slli_epi32::<1>(steps);
    let odds = _mm512_or_si512(evens, _mm512_set1_epi32(1));
    // The low bytes of two vectors' lanes.
    let low: [u8; 64] = std::array::from_fn(|i| (4 * i % 128) as u8);
    // SAFETY: the array is a vector long.
    let low = unsafe { _mm512_loadu_si512(low.as_ptr().cast()) };
    // SAFETY: `at` holds `V` vectors.
    let mut position: [__m512i; V] =
        std::array::from_fn(|v| unsafe { _mm512_loadu_si512(at.as_ptr().add(16 * v).cast()) });
    // Of the 64 bits read at most 7 are another's; the rest is used in two windows of 32 bits.
    let (first, second) = if L == 8 { (3, 4) } else { (4, 4) };
    let row_bytes = 16 * V;
    let whole = out.len() / (row_bytes * (first + second));
    let mut to = out.as_mut_ptr();
    for _ in 0..whole {
        let mut windows = [_mm512_setzero_si512(); V];
        let (mut early, mut late) = (windows, windows);
        for v in 0..V {
            let from = _mm512_min_epu32(_mm512_srli_epi32::<3>(position[v]), last);
            let (from_a, from_b) =
                (_mm512_castsi512_si256(from), _mm512_extracti64x4_epi64::<1>(from));
            // SAFETY: eight bytes from `last` on, and so from `from` on, are among `bytes`.
            let (a, b) = unsafe {
                let bytes = bytes.as_ptr().cast();
                (
                    _mm512_i32gather_epi64::<1>(from_a, bytes),
                    _mm512_i32gather_epi64::<1>(from_b, bytes),
                )
            };
            let low = _mm512_permutex2var_epi32(a, evens, b);
            let high = _mm512_permutex2var_epi32(a, odds, b);
            let shift = _mm512_and_si512(position[v], seven);
            early[v] = _mm512_shrdv_epi32(low, high, shift);
            late[v] = _mm512_srlv_epi32(high, shift);
        }
        let before = position;
        for step in 0..first + second {
            if step == 0 {
                windows = early;
            }
            if step == first {
                for v in 0..V {
                    // Less than 32 bits.
                    let used = _mm512_sub_epi32(position[v], before[v]);
                    windows[v] = _mm512_shrdv_epi32(early[v], late[v], used);
                }
            }
            let mut found = windows;
            for v in 0..V {
                let length = look_up::<L>(&lengths, windows[v]);
                found[v] = if RANKED { length } else { look_up::<L>(&symbols, windows[v]) };
                let length = _mm512_and_si512(length, mask);
                windows[v] = _mm512_srlv_epi32(windows[v], length);
                position[v] = _mm512_add_epi32(position[v], length);
            }
            let mut row = match V {
                4 => _mm512_inserti64x4::<1>(
                    _mm512_permutex2var_epi8(found[0], low, found[1 % V]),
                    _mm512_castsi512_si256(_mm512_permutex2var_epi8(
                        found[2 % V],
                        low,
                        found[3 % V],
                    )),
                ),
                _ => _mm512_permutex2var_epi8(found[0], low, found[1 % V]),
            };
            if RANKED {
                let rank = _mm512_and_si512(_mm512_srli_epi16::<4>(row), nibble);
                row = _mm512_permutexvar_epi8(rank, symbols[0]);
            }
            // SAFETY: `whole` chunks of so many rows are among `out`.
            unsafe {
                match V {
                    4 => _mm512_storeu_si512(to.cast(), row),
                    2 => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(row)),
                    _ => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(row)),
                }
                to = to.add(row_bytes);
            }
        }
    }
    for (v, position) in position.into_iter().enumerate() {
        // SAFETY: `at` holds `V` vectors.
        unsafe { _mm512_storeu_si512(at.as_mut_ptr().add(16 * v).cast(), position) };
    }
    whole * row_bytes * (first + second)
}

/// The bytes of a table at the low `L` bits of every byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up<const L: u32>(table: &[__m512i; 4], at: __m512i) -> __m512i {
    match L {
        6 => _mm512_permutexvar_epi8(at, table[0]),
        7 => _mm512_permutex2var_epi8(table[0], at, table[1]),
        _ => {
            let low = _mm512_permutex2var_epi8(table[0], at, table[1]);
            let high = _mm512_permutex2var_epi8(table[2], at, table[3]);
            _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high)
        }
    }
}

/// Encodes whole rows of [`MOST`] lanes to their parts of `space`, but for the last few; returns how many symbols these are.
///
/// # Panics
///
/// If the machine has not the instructions, or `space` is too short.
pub(super) fn encode(
    code: &[u16; 256],
    symbols: &[u8],
    space: &mut [u8],
    written: &mut Written,
) -> usize {
    assert!(detect() && space.len() / MOST >= symbols.len().div_ceil(MOST) + 8);
    let longest = code.iter().map(|word| word >> 8).max().unwrap_or(0);
    let (last, _) = code.iter().enumerate().rfind(|(_, word)| **word > 0).unwrap_or((0, &0));
    // SAFETY: the machine was asked.
    unsafe {
        match (last, longest) {
            (0..64, 0..=7) => rows_of_codes::<6, 2>(code, symbols, space, written),
            (_, 0..=7) => rows_of_codes::<8, 2>(code, symbols, space, written),
            _ => rows_of_codes::<8, 1>(code, symbols, space, written),
        }
    }
}

/// For symbols of at most `L` bits, `FOURS` times four rows at a time: as many as one word can take beside less than a byte.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn rows_of_codes<const L: u32, const FOURS: usize>(
    code: &[u16; 256],
    symbols: &[u8],
    space: &mut [u8],
    written: &mut Written,
) -> usize {
    let load = |table: [u8; 256]| -> [__m512i; 4] {
        // SAFETY: a table is four vectors long.
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) })
    };
    let codes = load(code.map(|word| word as u8));
    let lengths = load(code.map(|word| (word >> 8) as u8));
    let stride = space.len() / MOST;
    let chunks = symbols.chunks_exact(4 * FOURS * MOST);
    let done = symbols.len() - chunks.remainder().len();
    for chunk in chunks {
        let fours: [[Joined; 4]; FOURS] = std::array::from_fn(|f| {
            let mut rows = [Joined::zero(); 4];
            for (row, symbols) in rows.iter_mut().zip(chunk[4 * MOST * f..].chunks_exact(MOST)) {
                // SAFETY: a row is a vector long.
                let symbols = unsafe { _mm512_loadu_si512(symbols.as_ptr().cast()) };
                row.codes = look_up::<L>(&codes, symbols);
                row.lengths = look_up::<L>(&lengths, symbols);
            }
            let [a, b] = [(0, 1), (2, 3)].map(|(i, j)| pairs::<8>(rows[i], rows[j]));
            let [c, d] = [(0, 0), (1, 1)].map(|(i, j)| pairs::<16>(a[i], b[j]));
            [c[0], c[1], d[0], d[1]]
        });
        for (i, first) in fours[0].into_iter().enumerate() {
            // Units of 64 bits: the lanes of a unit are neighbours in every 128 bits.
            let second = if FOURS == 2 { fours[1 % FOURS][i] } else { Joined::zero() };
            for (word, offset) in pairs::<32>(first, second).into_iter().zip([0, 2]) {
                let (mut bits, mut counts) = ([0u64; 8], [0u64; 8]);
                // SAFETY: the arrays are a vector long.
                unsafe {
                    _mm512_storeu_si512(bits.as_mut_ptr().cast(), word.codes);
                    _mm512_storeu_si512(counts.as_mut_ptr().cast(), word.lengths);
                }
                for (unit, (bits, count)) in bits.into_iter().zip(counts).enumerate() {
                    let lane = unit / 2 * 16 + 4 * i + offset + unit % 2;
                    let at = written.bits[lane];
                    let all = u64::from(written.last[lane]) | bits << (at % 8);
                    let to = &mut space[stride * lane + at as usize / 8..][..8];
                    to.copy_from_slice(&all.to_le_bytes());
                    written.last[lane] = (all >> ((at % 8 + count as u32) & !7)) as u8;
                    written.bits[lane] = at + count as u32;
                }
            }
        }
    }
    done
}

/// Codes one after the other, first lowest, and how long they are together; a lane's in every unit of some bits.
#[derive(Clone, Copy)]
struct Joined {
    codes: __m512i,
    lengths: __m512i,
}

impl Joined {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self { codes: _mm512_setzero_si512(), lengths: _mm512_setzero_si512() }
    }
}

/// Joins the codes of `a` and `b`, in units of `BITS` bits, in units of twice as many: first the lower halves of every 128 bits,
/// then the upper.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs<const BITS: u32>(a: Joined, b: Joined) -> [Joined; 2] {
    let (codes, lengths) = match BITS {
        8 => (
            [_mm512_unpacklo_epi8(a.codes, b.codes), _mm512_unpackhi_epi8(a.codes, b.codes)],
            [
                _mm512_unpacklo_epi8(a.lengths, b.lengths),
                _mm512_unpackhi_epi8(a.lengths, b.lengths),
            ],
        ),
        16 => (
            [_mm512_unpacklo_epi16(a.codes, b.codes), _mm512_unpackhi_epi16(a.codes, b.codes)],
            [
                _mm512_unpacklo_epi16(a.lengths, b.lengths),
                _mm512_unpackhi_epi16(a.lengths, b.lengths),
            ],
        ),
        _ => (
            [_mm512_unpacklo_epi32(a.codes, b.codes), _mm512_unpackhi_epi32(a.codes, b.codes)],
            [
                _mm512_unpacklo_epi32(a.lengths, b.lengths),
                _mm512_unpackhi_epi32(a.lengths, b.lengths),
            ],
        ),
    };
    std::array::from_fn(|i| {
        let (codes, lengths) = (codes[i], lengths[i]);
        match BITS {
            8 => {
                let low = _mm512_set1_epi16(0xff);
                let first = _mm512_and_si512(lengths, low);
                let second = _mm512_sllv_epi16(_mm512_srli_epi16::<8>(codes), first);
                Joined {
                    codes: _mm512_or_si512(_mm512_and_si512(codes, low), second),
                    lengths: _mm512_add_epi16(first, _mm512_srli_epi16::<8>(lengths)),
                }
            }
            16 => {
                let low = _mm512_set1_epi32(0xffff);
                let first = _mm512_and_si512(lengths, low);
                let second = _mm512_sllv_epi32(_mm512_srli_epi32::<16>(codes), first);
                Joined {
                    codes: _mm512_or_si512(_mm512_and_si512(codes, low), second),
                    lengths: _mm512_add_epi32(first, _mm512_srli_epi32::<16>(lengths)),
                }
            }
            _ => {
                let low = _mm512_set1_epi64(0xffff_ffff);
                let first = _mm512_and_si512(lengths, low);
                let second = _mm512_sllv_epi64(_mm512_srli_epi64::<32>(codes), first);
                Joined {
                    codes: _mm512_or_si512(_mm512_and_si512(codes, low), second),
                    lengths: _mm512_add_epi64(first, _mm512_srli_epi64::<32>(lengths)),
                }
            }
        }
    })
}
