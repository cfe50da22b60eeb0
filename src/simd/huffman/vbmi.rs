//! A lane in 32 bits of a vector, a byte permute for the table: AVX-512 with VBMI and VBMI2.

use super::AHEAD;
use std::arch::x86_64::*;

/// Whether the machine has the instructions.
pub(super) fn detect() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
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
