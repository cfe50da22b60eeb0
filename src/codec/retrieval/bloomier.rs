//! The Bloomier filter: a function from positions to results of `t` bits that is right for survivors, in 1.23 cells of `t` bits for
//! each.
//!
//! A position's result is the exclusive or of a mask, which is a hash, and of three cells, one in each third, at hashes. Survivors are
//! put in an order in which each has a cell that no earlier one uses: cells that only one survivor uses are peeled off until
//! none is left, and filled in the reverse order.
//!
//! # Bytes
//!
//! None for no survivors. Else bits of results and values in one byte; the cells of a third, as LEB128; the number of the seed in
//! a byte; the cells, `t` bits each.
//!
//! # Source
//!
//! Chazelle, Kilian, Rubinfeld, Tal 2004, "The Bloomier filter"; Reagen et al. 2018, "Weightless: lossy weight encoding for
//! deep neural network compression".

use crate::{
    codec::{
        Malformed,
        bits::{Reader, Writer, put_number, take_number},
        retrieval::{keys, put_bits, take_bits, values},
    },
    simd::codecs::hash::{STEP, high, mix},
};

/// An encoded function.
pub(crate) struct Filter {
    pub(crate) r: u32,
    pub(crate) t: u32,
    /// Cells of each third.
    pub(crate) third: u32,
    pub(crate) seed: u32,
    pub(crate) cells: Vec<u16>,
}

/// Cells of a position, one of each third, and its mask.
#[inline(always)]
fn hashes(position: u32, seed: u32, third: u32) -> ([u32; 3], u32) {
    let a = mix(position.wrapping_add(seed));
    let b = mix(a.wrapping_add(STEP));
    let c = mix(b.wrapping_add(STEP));
    let cells = [high(a, third), third + high(b, third), 2 * third + high(c, third)];
    (cells, mix(c.wrapping_add(STEP)))
}

impl Filter {
    #[inline(always)]
    fn result(&self, position: u32) -> u16 {
        let (cells, mask) = hashes(position, self.seed, self.third);
        let sum = cells.iter().fold(mask as u16, |sum, cell| sum ^ self.cells[*cell as usize]);
        sum & ((1 << self.t) - 1)
    }
}

fn seed(number: u8) -> u32 {
    STEP.wrapping_mul(u32::from(number) + 1)
}

/// Appends a filter of the survivors. Arguments and panics are those of [`ribbon::encode`](crate::codec::retrieval::ribbon::encode).
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
    // Few survivors need more: there a seed fails more often.
    let mut third = (keys.len() as u32).div_ceil(100).saturating_mul(41).max(1);
    let (number, cells) = loop {
        let tries = 0..=255;
        if let Some(found) =
            tries.into_iter().find_map(|number| Some((number, fill(&keys, number, third)?)))
        {
            break found;
        }
        third += third / 16 + 1;
    };
    put_bits(r, t, false, out);
    put_number(third as usize, out);
    out.push(number);
    let mut bits = Writer::new(out);
    cells.iter().for_each(|cell| bits.put(u32::from(*cell) & ((1 << t) - 1), t));
    bits.finish();
}

/// The cells, unless this seed leaves some survivors without a cell of their own.
fn fill(keys: &[(u32, u16)], number: u8, third: u32) -> Option<Vec<u16>> {
    let seed = seed(number);
    // How many use a cell, and the exclusive or of which.
    let mut uses = vec![(0u32, 0u32); 3 * third as usize];
    for (key, (position, _)) in keys.iter().enumerate() {
        for cell in hashes(*position, seed, third).0 {
            uses[cell as usize].0 += 1;
            uses[cell as usize].1 ^= key as u32;
        }
    }
    let mut lone: Vec<u32> = (0..3 * third).filter(|c| uses[*c as usize].0 == 1).collect();
    let mut order = Vec::with_capacity(keys.len());
    while let Some(cell) = lone.pop() {
        let (1, key) = uses[cell as usize] else { continue };
        order.push((key, cell));
        for cell in hashes(keys[key as usize].0, seed, third).0 {
            let uses = &mut uses[cell as usize];
            uses.0 -= 1;
            uses.1 ^= key;
            if uses.0 == 1 {
                lone.push(cell);
            }
        }
    }
    if order.len() < keys.len() {
        return None;
    }
    // Cells that nobody uses stay 0: masks alone make other positions' results random.
    let mut cells = vec![0u16; 3 * third as usize];
    for (key, own) in order.into_iter().rev() {
        let (position, value) = keys[key as usize];
        let (others, mask) = hashes(position, seed, third);
        let others = others.iter().filter(|cell| **cell != own);
        cells[own as usize] =
            others.fold(value ^ mask as u16, |sum, cell| sum ^ cells[*cell as usize]);
    }
    Some(cells)
}

/// Takes an encoded function apart; `None` if there are no survivors.
pub(crate) fn parts(mut bytes: &[u8], positions: usize) -> Result<Option<Filter>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if positions == 0 || u32::try_from(positions).is_err() {
        return Err(Malformed("survivors of no positions, or of too many"));
    }
    let (r, t, flag) = take_bits(&mut bytes)?;
    let third = take_number(&mut bytes)?;
    let number = *bytes.split_off_first().ok_or(Malformed("ends in a head"))?;
    let fits =
        third.checked_mul(3 * t as usize).is_some_and(|bits| bits.div_ceil(8) == bytes.len());
    if flag || third == 0 || !fits || third > 1 << 30 {
        return Err(Malformed("not as many cells as bytes"));
    }
    let mut bits = Reader::new(bytes);
    let cells = (0..3 * third).map(|_| Ok(bits.take(t)? as u16)).collect::<Result<_, _>>()?;
    bits.finish()?;
    Ok(Some(Filter { r, t, third: third as u32, seed: seed(number), cells }))
}

/// Asks for all positions: `mask` gets a bit for each that is a survivor or a false positive, `out` its value, or 0.
///
/// # Errors
///
/// [`Malformed`] if the bytes are no filter.
///
/// # Panics
///
/// If `mask` has not a bit for each byte of `out`.
pub fn decode(bytes: &[u8], mask: &mut [u32], out: &mut [u8]) -> Result<(), Malformed> {
    assert!(mask.len() == out.len().div_ceil(32));
    let Some(filter) = parts(bytes, out.len())? else {
        mask.fill(0);
        out.fill(0);
        return Ok(());
    };
    let mut results = [0; 1024];
    for (i, (out, mask)) in out.chunks_mut(1024).zip(mask.chunks_mut(32)).enumerate() {
        let results = &mut results[..out.len()];
        for (result, position) in results.iter_mut().zip(1024 * i as u32..) {
            *result = filter.result(position);
        }
        values(results, filter.r, mask, out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::retrieval::tests::cases;

    #[test]
    fn survivors_come_back_and_others_are_rarely_values() {
        for (r, t) in [(1, 1), (4, 8), (8, 15), (2, 10)] {
            for case in cases(r) {
                let (what, bytes) = case.answers((r, t), (encode, decode));
                let cells = case.values.len() as f64 * 1.23 * 1.14 + 124.0;
                assert!(bytes as f64 <= cells * f64::from(t) / 8.0 + 8.0, "{what}: {bytes} bytes");
            }
        }
    }

    #[test]
    fn damage_does_no_harm() {
        for case in cases(4).into_iter().filter(|case| case.positions <= 3000) {
            case.damage_does_no_harm(usize::MAX, (encode, decode));
        }
    }
}
