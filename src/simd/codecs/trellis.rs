//! Paths of least cost through a trellis, for 32 lanes side by side: the algorithm of Viterbi. [`crate::codec::trellis`] says
//! which paths there are.
//!
//! All costs are integers that never overflow 16 bits, so that every machine finds the same path.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Lanes of a row.
const LANES: usize = 32;

/// The most that a weight costs in one subset.
pub(crate) const COST: u16 = 4095;

/// Rows after which the least of all sums is taken off: sums of states differ by at most 6 costs, for that many steps lead from
/// any state to any other, and where a lane is before it has begun by one cost more; `(6 + 1 + 8) * COST < 2^16`.
const ROWS: usize = 8;

/// `h0 >> 1` and `h1 >> 1` of the trellis of so many states.
pub(crate) const fn taps(states: usize) -> Option<[u8; 2]> {
    // In octal, as the literature writes them.
    let [h0, h1] = match states {
        4 => [0o5u8, 0o2],
        8 => [0o13, 0o4],
        16 => [0o23, 0o4],
        32 => [0o45, 0o10],
        64 => [0o103, 0o24],
        _ => return None,
    };
    Some([h0 >> 1, h1 >> 1])
}

/// The states from which a code of the first and of the second subset of a superset lead to a state. Both have the same parity, that
/// of the codes: whether the state is one of the upper half.
const fn before<const S: usize>(state: usize) -> ([usize; 2], usize) {
    let Some([lost, led]) = taps(S) else { panic!("there is no such trellis") };
    let parity = state / (S / 2);
    let first = state ^ (parity * lost as usize);
    ([2 * first + parity, 2 * (first ^ led as usize) + parity], parity)
}

/// What a weight costs in each subset, and which code of it costs that, by the position of the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices<'a> {
    /// At most [`COST`] each.
    pub(crate) costs: &'a [[u16; 4]],
    pub(crate) codes: &'a [[u8; 4]],
}

/// Sums of costs of the best path to every state, lane by lane.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Sums<const S: usize>([[u16; LANES]; S]);

/// The codes of weights at these positions along the paths of least cost from state 0, one path for each of `lanes` lanes, which take
/// turns. Of two paths that cost the same to a state the one by the first subset is taken, of ends the lowest state.
///
/// - `kept`: room to work in.
///
/// # Panics
///
/// If there is no trellis of so many states, or a position has no choices.
pub(crate) fn search(
    states: usize,
    lanes: usize,
    choices: Choices,
    positions: &[u16],
    kept: &mut Vec<u32>,
    codes: &mut [u8],
) {
    let search = match states {
        4 => search_in::<4>,
        8 => search_in::<8>,
        16 => search_in::<16>,
        32 => search_in::<32>,
        _ => search_in::<64>,
    };
    assert!(taps(states).is_some() && lanes <= LANES && positions.len() == codes.len());
    let last = positions.iter().fold(0, |a, b| a.max(*b));
    assert!(usize::from(last) < choices.costs.len() && choices.costs.len() == choices.codes.len());
    search(lanes, choices, positions, kept, codes);
}

fn search_in<const S: usize>(
    lanes: usize,
    choices: Choices,
    positions: &[u16],
    kept: &mut Vec<u32>,
    codes: &mut [u8],
) {
    let rows = positions.len().div_ceil(lanes);
    if kept.len() < rows * S {
        kept.resize(rows * S, 0);
    }
    // Whoever begins elsewhere than at state 0 never catches up: in as many steps as lead from there to anywhere that one pays less.
    let begin = |s: usize| if s == 0 { 0 } else { S.ilog2() as u16 * COST + 1 };
    let mut sums: Sums<S> = Sums(std::array::from_fn(|s| [begin(s); LANES]));
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if has_avx512() && lanes == LANES {
        done = positions.len() / LANES;
        // SAFETY: the machine has the instructions; positions have been looked at; there is room for so many rows.
        unsafe { forward_avx512::<S>(choices, &positions[..done * LANES], kept, &mut sums) };
    }
    forward::<S>(choices.costs, &positions[done * lanes..], (done, lanes), kept, &mut sums);
    let mut ends: [u32; LANES] = std::array::from_fn(|lane| {
        (0..S).min_by_key(|s| sums.0[*s][lane]).expect("there are states") as u32
    });
    let Some(led) = taps(S) else { return };
    let rows = positions.chunks(lanes).zip(codes.chunks_mut(lanes)).enumerate();
    for (i, (positions, codes)) in rows.skip(done).rev() {
        for (lane, end) in ends[..lanes].iter_mut().enumerate() {
            let state = *end as usize;
            let (parity, second) = (state / (S / 2), (kept[i * S + state] >> lane & 1) as usize);
            let first = state ^ (parity * led[0] as usize) ^ (second * led[1] as usize);
            *end = (2 * first + parity) as u32;
            // Lanes that the last row does not reach have taken a step for nothing.
            if let Some(position) = positions.get(lane) {
                codes[lane] = choices.codes[usize::from(*position)][2 * second + parity];
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if done > 0 {
        let (positions, codes) = (&positions[..done * LANES], &mut codes[..done * LANES]);
        // SAFETY: as above, where those rows were kept.
        unsafe { back_avx512::<S>(choices, positions, kept, &mut ends, codes) };
    }
}

/// What the weights of a row cost in each subset; nothing where a lane has none.
fn gather(costs: &[[u16; 4]], row: &[u16]) -> [[u16; LANES]; 4] {
    let mut of = [[0; LANES]; 4];
    for (lane, position) in row.iter().enumerate() {
        for (of, cost) in of.iter_mut().zip(costs[usize::from(*position)]) {
            of[lane] = cost;
        }
    }
    of
}

/// Takes the least sum of each lane off all of them.
#[inline(always)]
fn settle<const S: usize>(sums: &mut Sums<S>) {
    let mut least = sums.0[0];
    for of in &sums.0[1..] {
        least.iter_mut().zip(of).for_each(|(least, sum)| *least = *sum.min(least));
    }
    for of in &mut sums.0 {
        of.iter_mut().zip(&least).for_each(|(sum, least)| *sum -= least);
    }
}

/// The sums after rows of `lanes` weights, of which the first is number `first`, and for each row and state in `kept` the lanes that
/// come to it by the second subset.
fn forward<const S: usize>(
    costs: &[[u16; 4]],
    positions: &[u16],
    (first, lanes): (usize, usize),
    kept: &mut [u32],
    sums: &mut Sums<S>,
) {
    #[cfg(target_arch = "x86_64")]
    if detected!("avx2") {
        // SAFETY: the machine has the instructions.
        return unsafe { forward_avx2::<S>(costs, positions, (first, lanes), kept, sums) };
    }
    by_rows(costs, positions, (first, lanes), kept, sums, plain_step::<S>);
}

/// The same, row by row, by a function that is given sums and costs, and finds the next sums and what is kept.
#[inline(always)]
fn by_rows<const S: usize>(
    costs: &[[u16; 4]],
    positions: &[u16],
    (first, lanes): (usize, usize),
    kept: &mut [u32],
    sums: &mut Sums<S>,
    step: impl Fn(&Sums<S>, &mut Sums<S>, &[[u16; LANES]; 4], &mut [u32]),
) {
    let mut other = *sums;
    let (mut from, mut to) = (&mut *sums, &mut other);
    let rows = positions.len().div_ceil(lanes);
    for (i, row) in (first..).zip(positions.chunks(lanes)) {
        step(from, to, &gather(costs, row), &mut kept[i * S..(i + 1) * S]);
        std::mem::swap(&mut from, &mut to);
        if (i + 1).is_multiple_of(ROWS) {
            settle(from);
        }
    }
    if rows % 2 == 1 {
        *sums = other;
    }
}

#[inline(always)]
fn plain_step<const S: usize>(
    from: &Sums<S>,
    to: &mut Sums<S>,
    costs: &[[u16; LANES]; 4],
    kept: &mut [u32],
) {
    for (state, (sums, kept)) in to.0.iter_mut().zip(kept).enumerate() {
        let (before, parity) = const { &befores::<S>() }[state];
        let (first, second) = (&from.0[before[0]], &from.0[before[1]]);
        let (a, b) = (&costs[parity], &costs[2 + parity]);
        let mut seconds = [0u16; LANES];
        for lane in 0..LANES {
            let (a, b) = (first[lane] + a[lane], second[lane] + b[lane]);
            seconds[lane] = u16::from(b < a);
            sums[lane] = a.min(b);
        }
        *kept = seconds.iter().rev().fold(0, |bits, second| bits << 1 | u32::from(*second));
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    detected!("avx512f") && detected!("avx512bw") && detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn forward_avx2<const S: usize>(
    costs: &[[u16; 4]],
    positions: &[u16],
    (first, lanes): (usize, usize),
    kept: &mut [u32],
    sums: &mut Sums<S>,
) {
    let mut other = *sums;
    let rows = positions.len().div_ceil(lanes);
    for (i, row) in positions.chunks(lanes).enumerate() {
        let costs = match row.first_chunk() {
            Some(row) => gather_avx2(costs, row),
            None => gather(costs, row).map(|of| load_avx2(&of)),
        };
        let (from, to) = if i % 2 == 0 { (&*sums, &mut other) } else { (&other, &mut *sums) };
        step_avx2::<S>(from, to, &costs, &mut kept[(first + i) * S..][..S]);
        if (first + i + 1).is_multiple_of(ROWS) {
            settle(to);
        }
    }
    if rows % 2 == 1 {
        *sums = other;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load_avx2(of: &[u16; LANES]) -> [__m256i; 2] {
    // SAFETY: halves of 32 lanes.
    unsafe {
        let at = of.as_ptr().cast::<__m256i>();
        [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
    }
}

/// What [`gather`] finds, of a whole row.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn gather_avx2(costs: &[[u16; 4]], row: &[u16; LANES]) -> [[__m256i; 2]; 4] {
    // Of four costs of two lanes at a time the same cost of eight.
    let eight = |eight: &[u16]| {
        let two = |i: usize| {
            let [a, b] = [2 * i, 2 * i + 1].map(|i| &costs[usize::from(eight[i])]);
            let [a, b] = [a, b].map(|c| bytemuck::cast::<[u16; 4], i64>(*c));
            _mm_set_epi64x(b, a)
        };
        let four = |a, b| {
            let (even, odd) = (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
            [_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)]
        };
        let ([a01, a23], [b01, b23]) = (four(two(0), two(1)), four(two(2), two(3)));
        [
            _mm_unpacklo_epi64(a01, b01),
            _mm_unpackhi_epi64(a01, b01),
            _mm_unpacklo_epi64(a23, b23),
            _mm_unpackhi_epi64(a23, b23),
        ]
    };
    let [a, b, c, d] = [0, 8, 16, 24].map(|i| eight(&row[i..i + 8]));
    [0, 1, 2, 3].map(|i: usize| [_mm256_set_m128i(b[i], a[i]), _mm256_set_m128i(d[i], c[i])])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn step_avx2<const S: usize>(
    from: &Sums<S>,
    to: &mut Sums<S>,
    costs: &[[__m256i; 2]; 4],
    kept: &mut [u32],
) {
    let kept: &mut [u32; S] = kept.first_chunk_mut().expect("there is a word for each state");
    for (state, (before, parity)) in const { &befores::<S>() }.iter().enumerate() {
        let parity = *parity;
        let (first, second) = (load_avx2(&from.0[before[0]]), load_avx2(&from.0[before[1]]));
        let (mut least, mut firsts) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
        for half in 0..2 {
            let a = _mm256_add_epi16(first[half], costs[parity][half]);
            let b = _mm256_add_epi16(second[half], costs[2 + parity][half]);
            least[half] = _mm256_min_epu16(a, b);
            firsts[half] = _mm256_cmpeq_epi16(least[half], a);
        }
        let packed = _mm256_permute4x64_epi64::<0xd8>(_mm256_packs_epi16(firsts[0], firsts[1]));
        kept[state] = !_mm256_movemask_epi8(packed) as u32;
        // SAFETY: halves of 32 lanes.
        unsafe {
            let at = to.0[state].as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(at, least[0]);
            _mm256_storeu_si256(at.add(1), least[1]);
        }
    }
}

/// # Safety
///
/// Positions must be whole rows, each have a choice, and `kept` have room for S words a row.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn forward_avx512<const S: usize>(
    choices: Choices,
    positions: &[u16],
    kept: &mut [u32],
    sums: &mut Sums<S>,
) {
    // Those of few states stay in registers, of many they go to and fro.
    let mut now: [__m512i; S] = std::array::from_fn(|s| load_avx512(&sums.0[s]));
    let mut other = *sums;
    // Of two registers of the four costs of eight lanes the first two costs, or the last two, of all.
    let halves: [[u16; LANES]; 2] = std::array::from_fn(|half| {
        std::array::from_fn(|i| {
            let lane = i as u16 % 16;
            4 * (lane % 8) + 32 * (lane / 8) + 2 * half as u16 + i as u16 / 16
        })
    });
    // SAFETY: as above.
    let halves = halves.map(|half| unsafe { _mm512_loadu_si512(half.as_ptr().cast()) });
    for (i, (row, kept)) in positions.chunks_exact(LANES).zip(kept.chunks_exact_mut(S)).enumerate()
    {
        let eight: [__m512i; 4] = std::array::from_fn(|i| {
            // SAFETY: eight positions, each of a choice.
            unsafe {
                let at = _mm256_cvtepu16_epi32(_mm_loadu_si128(row.as_ptr().add(8 * i).cast()));
                _mm512_i32gather_epi64::<8>(at, choices.costs.as_ptr().cast())
            }
        });
        let pairs = |half: usize| {
            let a = _mm512_permutex2var_epi16(eight[0], halves[half], eight[1]);
            let b = _mm512_permutex2var_epi16(eight[2], halves[half], eight[3]);
            [_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b)]
        };
        let ([c0, c1], [c2, c3]) = (pairs(0), pairs(1));
        let costs = [c0, c1, c2, c3];
        let settles = (i + 1).is_multiple_of(ROWS);
        if S <= 16 {
            let mut next = [_mm512_setzero_si512(); S];
            for (state, (from, parity)) in const { &befores::<S>() }.iter().enumerate() {
                let parity = *parity;
                let a = _mm512_add_epi16(now[from[0]], costs[parity]);
                let b = _mm512_add_epi16(now[from[1]], costs[2 + parity]);
                kept[state] = _mm512_cmplt_epu16_mask(b, a);
                next[state] = _mm512_min_epu16(a, b);
            }
            now = next;
            if settles {
                let least = now[1..].iter().fold(now[0], |a, b| _mm512_min_epu16(a, *b));
                now.iter_mut().for_each(|sums| *sums = _mm512_sub_epi16(*sums, least));
            }
        } else {
            let (from, to) = if i % 2 == 0 { (&*sums, &mut other) } else { (&other, &mut *sums) };
            let kept: &mut [u32; S] = kept.first_chunk_mut().expect("a word for each state");
            for (state, (before, parity)) in const { &befores::<S>() }.iter().enumerate() {
                let parity = *parity;
                let a = _mm512_add_epi16(load_avx512(&from.0[before[0]]), costs[parity]);
                let b = _mm512_add_epi16(load_avx512(&from.0[before[1]]), costs[2 + parity]);
                kept[state] = _mm512_cmplt_epu16_mask(b, a);
                store_avx512(&mut to.0[state], _mm512_min_epu16(a, b));
            }
            if settles {
                settle(to);
            }
        }
    }
    if S <= 16 {
        sums.0.iter_mut().zip(now).for_each(|(sums, now)| store_avx512(sums, now));
    } else if (positions.len() / LANES) % 2 == 1 {
        *sums = other;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn load_avx512(sums: &[u16; LANES]) -> __m512i {
    // SAFETY: 32 lanes of 16 bits.
    unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn store_avx512(sums: &mut [u16; LANES], now: __m512i) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), now) };
}

/// [`before`] of all states.
const fn befores<const S: usize>() -> [([usize; 2], usize); S] {
    let mut all = [([0; 2], 0); S];
    let mut state = 0;
    while state < S {
        all[state] = before::<S>(state);
        state += 1;
    }
    all
}

/// # Safety
///
/// As [`forward_avx512`], whose rows `kept` must hold; `ends` must be states.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn back_avx512<const S: usize>(
    choices: Choices,
    positions: &[u16],
    kept: &[u32],
    ends: &mut [u32; LANES],
    codes: &mut [u8],
) {
    let Some(led) = taps(S) else { return };
    let led = led.map(|tap| _mm512_set1_epi32(tap.into()));
    let (one, upper) = (_mm512_set1_epi32(1), _mm512_set1_epi32(S as i32 / 2));
    let rows = positions.len() / LANES;
    for half in 0..2 {
        // SAFETY: halves of 32 lanes.
        let mut state = unsafe { _mm512_loadu_si512(ends[16 * half..].as_ptr().cast()) };
        let lanes: [i32; 16] = std::array::from_fn(|lane| (16 * half + lane) as i32);
        // SAFETY: as above.
        let lanes = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
        for row in (0..rows).rev() {
            let at = row * LANES + 16 * half;
            // SAFETY: S words of the row are kept, and a state is one of S; the half row has positions and codes.
            unsafe {
                let seconds = _mm512_i32gather_epi32::<4>(state, kept[row * S..].as_ptr().cast());
                let second = _mm512_and_si512(_mm512_srlv_epi32(seconds, lanes), one);
                let odd = _mm512_cmpge_epu32_mask(state, upper);
                let by_second = _mm512_test_epi32_mask(second, one);
                let first = _mm512_mask_xor_epi32(state, odd, state, led[0]);
                let first = _mm512_mask_xor_epi32(first, by_second, first, led[1]);
                let twice = _mm512_slli_epi32::<1>(first);
                state = _mm512_mask_or_epi32(twice, odd, twice, one);
                let position = _mm256_loadu_si256(positions.as_ptr().add(at).cast());
                let position = _mm512_cvtepu16_epi32(position);
                let four = _mm512_i32gather_epi32::<4>(position, choices.codes.as_ptr().cast());
                // Eight bits for each subset.
                let shift = _mm512_slli_epi32::<4>(second);
                let shift = _mm512_mask_or_epi32(shift, odd, shift, _mm512_set1_epi32(8));
                let code = _mm512_cvtepi32_epi8(_mm512_srlv_epi32(four, shift));
                _mm_storeu_si128(codes.as_mut_ptr().add(at).cast(), code);
            }
        }
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(ends[16 * half..].as_mut_ptr().cast(), state) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        }
    }

    /// Costs of positions, also the largest, and codes that say subset and position.
    fn choices(random: &mut impl FnMut() -> u32) -> (Vec<[u16; 4]>, Vec<[u8; 4]>) {
        let costs = (0..64).map(|i| {
            std::array::from_fn(|_| match i {
                0 => COST,
                1 => 0,
                _ => (random() % (u32::from(COST) + 1)) as u16 >> (i % 12),
            })
        });
        let codes = (0..64).map(|i| std::array::from_fn(|s| 4 * i as u8 + s as u8));
        (costs.collect(), codes.collect())
    }

    fn next(states: usize, state: usize, code: u8) -> usize {
        let [lost, led] = taps(states).unwrap().map(usize::from);
        (state >> 1) ^ (lost * (state & 1)) ^ (led * usize::from(code >> 1 & 1))
    }

    #[test]
    fn every_state_leads_to_two_and_in_few_steps_to_all() {
        for states in [4usize, 8, 16, 32, 64] {
            let mut reached = vec![0usize];
            for _ in 0..states.ilog2() {
                let further = reached.iter().flat_map(|s| [0, 2].map(|c| next(states, *s, c)));
                reached = further.collect();
            }
            reached.sort_unstable();
            assert_eq!(reached, (0..states).collect::<Vec<_>>(), "{states} states");
            for state in 0..states {
                let (from, parity) = match states {
                    4 => before::<4>(state),
                    8 => before::<8>(state),
                    16 => before::<16>(state),
                    32 => before::<32>(state),
                    _ => before::<64>(state),
                };
                for (subset, from) in from.into_iter().enumerate() {
                    assert_eq!((next(states, from, 2 * subset as u8), from % 2), (state, parity));
                }
            }
        }
        assert_eq!([0, 2, 12, 128].map(taps), [None; 4]);
    }

    /// The least that any path costs, by trying all.
    fn least(states: usize, costs: &[[u16; 4]], positions: &[u16]) -> u32 {
        let paths = 0u32..1 << positions.len();
        let cost = |path: u32| {
            let (mut state, mut sum) = (0, 0);
            for (i, position) in positions.iter().enumerate() {
                let code = 2 * (path >> i & 1) as usize + state % 2;
                sum += u32::from(costs[usize::from(*position)][code]);
                state = next(states, state, code as u8);
            }
            sum
        };
        paths.map(cost).min().unwrap()
    }

    #[test]
    fn no_path_costs_less() {
        let mut random = random(1);
        for states in [4, 8, 16, 32, 64] {
            let (costs, of) = choices(&mut random);
            for lanes in [1, 4, 32] {
                let positions: Vec<u16> =
                    (0..9 * lanes + lanes / 2).map(|_| (random() % 64) as u16).collect();
                let mut codes = vec![0; positions.len()];
                let choices = Choices { costs: &costs, codes: &of };
                search(states, lanes, choices, &positions, &mut Vec::new(), &mut codes);
                for lane in 0..lanes {
                    let own: Vec<u16> =
                        positions.iter().skip(lane).step_by(lanes).copied().collect();
                    let (mut state, mut sum) = (0, 0);
                    for (position, code) in own.iter().zip(codes.iter().skip(lane).step_by(lanes)) {
                        assert_eq!(usize::from(*code) % 2, state % 2, "off the path");
                        assert_eq!(u16::from(*code) / 4, *position);
                        sum += u32::from(costs[usize::from(*position)][usize::from(*code) % 4]);
                        state = next(states, state, *code);
                    }
                    assert_eq!(
                        sum,
                        least(states, &costs, &own),
                        "{states} states, lane {lane} of {lanes}"
                    );
                }
            }
        }
    }

    /// Row by row, by the plain step alone.
    fn plain<const S: usize>(choices: Choices, positions: &[u16], codes: &mut [u8]) {
        let begin = |s: usize| if s == 0 { 0 } else { S.ilog2() as u16 * COST + 1 };
        let mut sums: Sums<S> = Sums(std::array::from_fn(|s| [begin(s); LANES]));
        let mut kept = vec![0; positions.len() / LANES * S];
        by_rows(choices.costs, positions, (0, LANES), &mut kept, &mut sums, plain_step::<S>);
        for lane in 0..LANES {
            let mut state = (0..S).min_by_key(|s| sums.0[*s][lane]).unwrap();
            for row in (0..positions.len() / LANES).rev() {
                let (from, parity) = before::<S>(state);
                let second = (kept[row * S + state] >> lane & 1) as usize;
                let at = row * LANES + lane;
                codes[at] = choices.codes[usize::from(positions[at])][2 * second + parity];
                state = from[second];
            }
        }
    }

    type Search = fn(Choices, &[u16], &mut [u8]);

    #[test]
    fn every_search_is_the_plain_one() {
        let mut random = random(7);
        for rows in [1, 7, 8, 9, 100] {
            let (costs, of) = choices(&mut random);
            let choices = Choices { costs: &costs, codes: &of };
            let positions: Vec<u16> = (0..rows * LANES).map(|_| (random() % 64) as u16).collect();
            let searches: [(usize, Search); 5] = [
                (4, plain::<4>),
                (8, plain::<8>),
                (16, plain::<16>),
                (32, plain::<32>),
                (64, plain::<64>),
            ];
            for (states, plain) in searches {
                let (mut found, mut expected) =
                    (vec![0; positions.len()], vec![0; positions.len()]);
                search(states, LANES, choices, &positions, &mut Vec::new(), &mut found);
                plain(choices, &positions, &mut expected);
                assert_eq!(found, expected, "{states} states, {rows} rows");
                #[cfg(target_arch = "x86_64")]
                if detected!("avx2") {
                    let start: Sums<8> =
                        Sums(std::array::from_fn(|s| [(s as u16 * 911) % 24_571; LANES]));
                    let (mut a, mut b) = ((start, vec![0; 8 * rows]), (start, vec![0; 8 * rows]));
                    let (costs, at) = (choices.costs, (0, LANES));
                    by_rows(costs, &positions, at, &mut a.1, &mut a.0, plain_step::<8>);
                    // SAFETY: the machine has the instructions.
                    unsafe { forward_avx2::<8>(costs, &positions, at, &mut b.1, &mut b.0) };
                    assert_eq!((a.0.0, a.1), (b.0.0, b.1));
                }
            }
        }
    }
}
