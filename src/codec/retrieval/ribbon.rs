//! The bumped ribbon: a function from positions to results of `t` bits that is right for survivors, in little more than `t` bits for
//! each.
//!
//! Each survivor gives a linear equation modulo 2: the exclusive or of those of 64 neighbouring slots that its 64 coefficients
//! choose is its value, masked by a hash: the high bits of all values are zero, and the slots would be, too. The window starts
//! in proportion to the position, so the equations are sorted as they come and a query of all positions is a stream; where survivors are so uneven that this pays too many slots, it starts at a hash instead. There are
//! fewer slots than survivors: where a bucket of 128 starts has too many, those that start in its low part are bumped, all of
//! them, which takes 2 bits to say, and get a smaller ribbon of their own, hashed. The last ribbon bumps nothing: what does not
//! fit it is listed with its position.
//!
//! # Bytes
//!
//! None for no survivors. Else bits of results, values and the order in one byte; the number of ribbons that bump; the groups
//! of 64 slots of each and of the last, and the length of the list, as LEB128; the bumps of each ribbon, 2 bits a bucket; the
//! list, ascending; the slots of each ribbon: `t` words of 64 bits for each group, first word of the lowest bits.
//!
//! # Source
//!
//! Dillinger, Hübschle-Schneider, Sanders, Walzer 2022, "Fast succinct retrieval and approximate membership using ribbon".

use crate::{
    codec::{
        Malformed,
        bits::{Reader, Writer, put_number, take_number},
        retrieval::{keys, put_bits, take_bits, values},
    },
    simd::codecs::{
        hash::{NONE, mix},
        ribbon::{BUCKET, Ribbon, results},
    },
};

/// How many of the low starts of a bucket may be bumped.
const BUMPS: [u8; 4] = [0, 24, 60, 128];
/// Most ribbons that bump.
const BUMPING: usize = 4;
/// So few survivors are left for the last ribbon.
const LAST: usize = 1600;
/// Bytes in a thousand beyond those of the survivors' results that an ordered ribbon may have before a hashed one is tried.
const UNEVEN: usize = 15;

/// Appends a ribbon of the survivors.
///
/// - `mask`: a bit for each position, first in the low bit; `values`: one below `2^r` for each that is set.
/// - `t`: bits of a result; a position without a survivor becomes a false positive with probability `2^(r - t)`.
///
/// # Panics
///
/// If these do not fit each other, or not `1 <= r <= 8` and `r <= t <= 15`.
pub fn encode(
    positions: usize,
    mask: &[u32],
    values: &[u8],
    (r, t): (u32, u32),
    out: &mut Vec<u8>,
) {
    let keys = keys(positions, mask, values, (r, t));
    if keys.is_empty() {
        return;
    }
    let mut best = Vec::new();
    build(positions, &keys, (r, t), true, &mut best);
    let plain = keys.len() * t as usize / 8;
    if best.len() > plain + plain * UNEVEN / 1000 + 100 {
        let mut hashed = Vec::new();
        build(positions, &keys, (r, t), false, &mut hashed);
        if hashed.len() < best.len() {
            best = hashed;
        }
    }
    out.extend_from_slice(&best);
}

fn build(
    positions: usize,
    keys: &[(u32, u16)],
    (r, t): (u32, u32),
    ordered: bool,
    out: &mut Vec<u8>,
) {
    let (mut ribbons, mut left) = (vec![], keys.to_vec());
    while left.len() > LAST && ribbons.len() < BUMPING {
        // 4 % more survivors than slots: those that are bumped cost less than slots that stay free.
        let groups = (left.len() * 100 / 104 / 64).max(1);
        let ordered = ordered && ribbons.is_empty();
        let (ribbon, bumped) =
            solve(Ribbon::new(ribbons.len(), ordered, positions, groups), &left, true, t);
        ribbons.push(ribbon);
        left = bumped;
    }
    let bumping = ribbons.len();
    if !left.is_empty() {
        // As many groups as make these and the list shortest.
        let entry = position_bits(positions) + r;
        let last = |groups| {
            let ribbon = Ribbon::new(bumping, false, positions, groups);
            let (ribbon, listed) = solve(ribbon, &left, false, t);
            (groups * 64 * t as usize + listed.len() * entry as usize, ribbon, listed)
        };
        let most = left.len().div_ceil(64) + 1;
        let tries = (most.saturating_sub(3).max(1)..=most).map(last);
        if let Some((_, ribbon, listed)) = tries.min_by_key(|(bits, ..)| *bits) {
            ribbons.push(ribbon);
            left = listed;
        }
    }

    put_bits(r, t, ordered, out);
    put_number(bumping, out);
    ribbons.iter().for_each(|ribbon| put_number(ribbon.groups, out));
    if ribbons.len() == bumping {
        put_number(0, out);
    }
    put_number(left.len(), out);
    for ribbon in &ribbons[..bumping] {
        let mut bits = Writer::new(out);
        for bump in &ribbon.bumps {
            let code = BUMPS.iter().position(|b| b == bump).expect("bumps are of these");
            bits.put(code as u32, 2);
        }
        bits.finish();
    }
    let mut bits = Writer::new(out);
    for (position, value) in left {
        bits.put(position, position_bits(positions));
        bits.put(value.into(), r);
    }
    bits.finish();
    for ribbon in ribbons {
        let slots = &ribbon.slots[..ribbon.slots.len() - t as usize];
        out.extend_from_slice(bytemuck::cast_slice(slots));
    }
}

fn position_bits(positions: usize) -> u32 {
    usize::BITS - (positions - 1).leading_zeros()
}

/// The reduced equations: of the slot that each determines, further coefficients and what the sum is.
struct Rows {
    coefficients: Vec<u64>,
    sums: Vec<u16>,
}

impl Rows {
    /// Where an equation is put, if it does not follow from others; or none if it contradicts them.
    fn insert(&mut self, start: u32, mut coefficients: u64, mut sum: u16) -> Option<Option<usize>> {
        let mut slot = start as usize;
        while coefficients != 0 {
            let zeros = coefficients.trailing_zeros();
            slot += zeros as usize;
            coefficients >>= zeros;
            if self.coefficients[slot] == 0 {
                (self.coefficients[slot], self.sums[slot]) = (coefficients, sum);
                return Some(Some(slot));
            }
            coefficients ^= self.coefficients[slot];
            sum ^= self.sums[slot];
        }
        (sum == 0).then_some(None)
    }
}

/// Fills the slots of a ribbon; returns the survivors that are not in it, too: those that it has bumped, or if it must not,
/// those that contradict others.
fn solve(
    mut ribbon: Ribbon,
    keys: &[(u32, u16)],
    bumps: bool,
    t: u32,
) -> (Ribbon, Vec<(u32, u16)>) {
    let mut equations: Vec<_> = keys
        .iter()
        .map(|key| {
            let (start, coefficients, mask) = ribbon.equation(key.0);
            (start, coefficients, (key.1 ^ mask) & ((1 << t) - 1), *key)
        })
        .collect();
    if !ribbon.ordered {
        equations.sort_by_key(|equation| equation.0);
    }
    let slots = 64 * ribbon.groups;
    let mut rows = Rows { coefficients: vec![0; slots], sums: vec![0; slots] };
    let mut left = vec![];
    if bumps {
        ribbon.bumps = vec![0; (slots - 63).div_ceil(BUCKET)];
    }
    let mut placed = vec![];
    for bucket in equations.chunk_by(|a, b| a.0 as usize / BUCKET == b.0 as usize / BUCKET) {
        placed.clear();
        // From right to left: what is bumped has then reduced nothing that stays.
        for (start, coefficients, sum, key) in bucket.iter().rev() {
            match rows.insert(*start, *coefficients, *sum) {
                Some(slot) => placed.push(slot),
                None if !bumps => left.push(*key),
                None => {
                    let needed = *start as usize % BUCKET + 1;
                    let bump = BUMPS.into_iter().find(|b| usize::from(*b) >= needed);
                    ribbon.bumps[*start as usize / BUCKET] = bump.unwrap_or(BUCKET as u8);
                    break;
                }
            }
        }
        let slots = placed.iter().copied().chain(std::iter::repeat(None));
        for ((start, _, _, key), slot) in bucket.iter().rev().zip(slots) {
            if ribbon.bumped(*start) {
                left.push(*key);
                if let Some(slot) = slot {
                    (rows.coefficients[slot], rows.sums[slot]) = (0, 0);
                }
            }
        }
    }
    left.sort_unstable();
    // From the last slot to the first; those that nothing determines look random, for the sake of other positions.
    ribbon.slots = vec![0; (ribbon.groups + 1) * t as usize];
    let mut windows = [0u64; 15];
    for slot in (0..slots).rev() {
        let (row, sum) = (rows.coefficients[slot], rows.sums[slot]);
        let free = mix(ribbon.seed ^ slot as u32);
        let group = &mut ribbon.slots[slot / 64 * t as usize..][..t as usize];
        for (k, (word, window)) in group.iter_mut().zip(&mut windows).enumerate() {
            *window <<= 1;
            let bit = match row {
                0 => free >> k & 1,
                _ => u32::from(sum >> k & 1) ^ (*window & row).count_ones() & 1,
            };
            *window |= u64::from(bit);
            *word |= u64::from(bit) << (slot % 64);
        }
    }
    (ribbon, left)
}

/// The parts of an encoded function.
pub(crate) struct Parts {
    pub(crate) r: u32,
    pub(crate) t: u32,
    pub(crate) ribbons: Vec<Ribbon>,
    /// Positions that no ribbon is right for, and their values.
    pub(crate) list: Vec<(u32, u8)>,
}

/// Takes an encoded function apart; `None` if there are no survivors.
pub(crate) fn parts(mut bytes: &[u8], positions: usize) -> Result<Option<Parts>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if positions == 0 || u32::try_from(positions).is_err() {
        return Err(Malformed("survivors of no positions, or of too many"));
    }
    let (r, t, ordered) = take_bits(&mut bytes)?;
    let bumping = take_number(&mut bytes)?;
    if bumping > BUMPING {
        return Err(Malformed("too many ribbons"));
    }
    let mut ribbons = Vec::new();
    for number in 0..=bumping {
        let groups = take_number(&mut bytes)?;
        if groups > bytes.len() / 8 || groups == 0 && number < bumping {
            return Err(Malformed("a ribbon has too many groups, or none"));
        }
        if groups > 0 {
            ribbons.push(Ribbon::new(
                number,
                ordered && number == 0 && bumping > 0,
                positions,
                groups,
            ));
        }
    }
    let listed = take_number(&mut bytes)?;
    if listed > bytes.len() {
        return Err(Malformed("the list is too long"));
    }
    for ribbon in &mut ribbons[..bumping] {
        let mut bits = Reader::new(bytes);
        for _ in 0..(64 * ribbon.groups - 63).div_ceil(BUCKET) {
            ribbon.bumps.push(BUMPS[bits.take(2)? as usize]);
        }
        bytes = bits.finish()?;
    }
    let (mut list, mut bits) = (Vec::with_capacity(listed), Reader::new(bytes));
    for _ in 0..listed {
        let position = bits.take(position_bits(positions))?;
        list.push((position, bits.take(r)? as u8));
    }
    bytes = bits.finish()?;
    let in_order = list.is_sorted_by(|a, b| a.0 < b.0);
    if !in_order || list.last().is_some_and(|(position, _)| *position as usize >= positions) {
        return Err(Malformed("the list is not in order, or beyond the positions"));
    }
    for ribbon in &mut ribbons {
        let length = ribbon.groups * t as usize * 8;
        let slots = bytes.split_off(..length).ok_or(Malformed("ends in a ribbon"))?;
        ribbon.slots = bytemuck::pod_collect_to_vec(slots);
        ribbon.slots.resize((ribbon.groups + 1) * t as usize, 0);
    }
    if !bytes.is_empty() {
        return Err(Malformed("bytes after the ribbons"));
    }
    Ok(Some(Parts { r, t, ribbons, list }))
}

/// Asks for all positions: `mask` gets a bit for each that is a survivor or a false positive, `out` its value, or 0.
///
/// # Errors
///
/// [`Malformed`] if the bytes are no ribbons of so many positions.
///
/// # Panics
///
/// If `mask` has not a bit for each byte of `out`.
pub fn decode(bytes: &[u8], mask: &mut [u32], out: &mut [u8]) -> Result<(), Malformed> {
    assert!(mask.len() == out.len().div_ceil(32));
    let Some(Parts { r, t, ribbons, list }) = parts(bytes, out.len())? else {
        mask.fill(0);
        out.fill(0);
        return Ok(());
    };
    let mut found = [NONE; 1024];
    for (i, (out, mask)) in out.chunks_mut(1024).zip(mask.chunks_mut(32)).enumerate() {
        let (first, found) = (1024 * i as u32, &mut found[..out.len()]);
        found.fill(NONE);
        if let Some((ribbon, others)) = ribbons.split_first() {
            results(ribbon, t, first, found);
            for (result, position) in found.iter_mut().zip(first..) {
                let mut others = others.iter();
                while *result == NONE
                    && let Some(ribbon) = others.next()
                {
                    *result = ribbon.result(position, t);
                }
            }
        }
        values(found, r, mask, out);
    }
    for (position, value) in list {
        mask[position as usize / 32] |= 1 << (position % 32);
        out[position as usize] = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::retrieval::tests::cases;

    #[test]
    fn survivors_come_back_and_others_are_rarely_values() {
        for (r, t) in [(1, 1), (4, 8), (4, 9), (8, 8), (8, 15), (2, 10)] {
            for case in cases(r) {
                let (what, bytes) = case.answers((r, t), (encode, decode));
                let floor = (case.values.len() * t as usize).div_ceil(8);
                let over = bytes as f64 / floor.max(1) as f64 - 1.0;
                if case.values.len() > 5000 {
                    println!("{what}: {bytes} bytes, {:.2} % over", 100.0 * over);
                    assert!(over < 0.01 + 0.03 / f64::from(t), "{what}: {bytes} bytes, {floor}");
                }
            }
        }
    }

    #[test]
    fn damage_does_no_harm() {
        for case in cases(4).into_iter().filter(|case| case.positions <= 40_000) {
            case.damage_does_no_harm(200, (encode, decode));
        }
    }

    #[test]
    fn results_in_a_stream_are_those_one_by_one() {
        let mask: Vec<u32> =
            (0..1000u32).map(|i| i.wrapping_mul(0x9e37_79b9) & 0x1111_0101).collect();
        let survivors: u32 = mask.iter().map(|word| word.count_ones()).sum();
        let values = vec![1; survivors as usize];
        for t in 1..=15 {
            let mut bytes = vec![];
            encode(32_000, &mask, &values, (1, t), &mut bytes);
            let Parts { ribbons, .. } = parts(&bytes, 32_000).unwrap().unwrap();
            assert!(ribbons.len() > 1 && ribbons[0].bumps.iter().any(|b| *b > 0));
            for ribbon in &ribbons {
                for (first, len) in [(0, 100), (5, 1), (1003, 1024), (31_000, 1000)] {
                    let mut got = vec![7; len];
                    results(ribbon, t, first, &mut got);
                    let expected: Vec<u16> =
                        (first..).take(len).map(|position| ribbon.result(position, t)).collect();
                    assert_eq!(got, expected, "{t} bits, from {first}");
                }
            }
        }
    }
}
