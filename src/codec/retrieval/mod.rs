//! What retrieval structures share: a function from positions to results of `t` bits that is right for survivors, and as good as
//! random elsewhere. A result below `2^r` is a value, any other is null: a position without a survivor is a false positive with
//! probability `2^(r - t)`.

pub mod bloomier;
pub mod ribbon;

use crate::codec::Malformed;

/// What encodes survivors: see [`ribbon::encode`](crate::codec::retrieval::ribbon::encode).
pub(super) type Encode = fn(usize, &[u32], &[u8], (u32, u32), &mut Vec<u8>);
/// What asks for all positions: see [`ribbon::decode`](crate::codec::retrieval::ribbon::decode).
pub(super) type Decode = fn(&[u8], &mut [u32], &mut [u8]) -> Result<(), Malformed>;

/// Bits of a value and of a result, and something else, in a byte.
pub(super) fn put_bits(r: u32, t: u32, flag: bool, out: &mut Vec<u8>) {
    out.push((t | (r - 1) << 4 | u32::from(flag) << 7) as u8);
}

pub(super) fn take_bits(bytes: &mut &[u8]) -> Result<(u32, u32, bool), Malformed> {
    let byte = u32::from(*bytes.split_off_first().ok_or(Malformed("ends in a head"))?);
    let (r, t) = ((byte >> 4 & 7) + 1, byte & 15);
    if t < r {
        return Err(Malformed("results have fewer bits than values"));
    }
    Ok((r, t, byte >> 7 == 1))
}

/// The survivors' positions and values.
///
/// # Panics
///
/// If mask and values do not fit each other or the number of positions, or bits are not `1 <= r <= 8`, `r <= t <= 15`.
pub(super) fn keys(
    positions: usize,
    mask: &[u32],
    values: &[u8],
    (r, t): (u32, u32),
) -> Vec<(u32, u16)> {
    assert!((1..=8).contains(&r) && (r..=15).contains(&t) && u32::try_from(positions).is_ok());
    assert!(
        mask.len() == positions.div_ceil(32) && super::sparse::padding_is_zero(mask, positions)
    );
    let mut keys = Vec::with_capacity(values.len());
    for (w, word) in mask.iter().enumerate() {
        let mut bits = *word;
        while bits != 0 {
            let value = values[keys.len()];
            assert!(u32::from(value) >> r == 0);
            keys.push((w as u32 * 32 + bits.trailing_zeros(), value.into()));
            bits &= bits - 1;
        }
    }
    assert!(keys.len() == values.len());
    keys
}

/// Turns 32 results at a time into values, zeros for nulls, and a mask.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(super) fn values(results: &[u16], r: u32, mask: &mut [u32], values: &mut [u8]) {
    let limit = 1u16 << r;
    for ((results, values), mask) in results.chunks(32).zip(values.chunks_mut(32)).zip(mask) {
        *mask = 0;
        for (i, (result, value)) in results.iter().zip(values).enumerate() {
            let is_value = *result < limit;
            *mask |= u32::from(is_value) << i;
            *value = if is_value { *result as u8 } else { 0 };
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Decode, Encode};

    /// A mask of survivors and their values.
    pub(crate) struct Case {
        pub(crate) name: &'static str,
        pub(crate) positions: usize,
        pub(crate) mask: Vec<u32>,
        pub(crate) values: Vec<u8>,
    }

    impl Case {
        fn encoded(&self, bits: (u32, u32), encode: Encode) -> Vec<u8> {
            let mut bytes = vec![];
            encode(self.positions, &self.mask, &self.values, bits, &mut bytes);
            bytes
        }

        /// Demands that every survivor comes back and as few others as expected; returns what was tested, and its bytes.
        pub(crate) fn answers(
            &self,
            (r, t): (u32, u32),
            (encode, decode): (Encode, Decode),
        ) -> (String, usize) {
            let Self { name, positions, mask, values } = self;
            let bytes = self.encoded((r, t), encode);
            let (mut got, mut out) = (vec![7; mask.len()], vec![7; *positions]);
            decode(&bytes, &mut got, &mut out).unwrap();
            let what = format!("{name} of {positions}, {r} and {t} bits");
            let (mut left, mut wrong) = (values.iter(), 0);
            for i in 0..*positions {
                let (kept, read) = (mask[i / 32] >> (i % 32) & 1, got[i / 32] >> (i % 32) & 1);
                if kept == 1 {
                    assert_eq!((read, Some(&out[i])), (1, left.next()), "{what}: {i}");
                } else {
                    wrong += read;
                    assert!(read == 1 || out[i] == 0, "{what}: {i}");
                }
            }
            assert!(crate::codec::sparse::padding_is_zero(&got, *positions), "{what}");
            let others = *positions - values.len();
            let expected =
                if bytes.is_empty() { 0.0 } else { others as f64 / f64::from(1 << (t - r)) };
            assert!(
                (f64::from(wrong) - expected).abs() <= 5.0 * expected.sqrt() + 3.0,
                "{what}: {wrong} false positives, expected {expected}"
            );
            (what, bytes.len())
        }

        /// Whatever the bytes, an answer or a refusal; and no answer for one of the first `cuts` cuts, nor for a byte more.
        pub(crate) fn damage_does_no_harm(&self, cuts: usize, (encode, decode): (Encode, Decode)) {
            let mut bytes = self.encoded((4, 7), encode);
            let (mut mask, mut out) = (vec![0; self.mask.len()], vec![0; self.positions]);
            for end in 1..bytes.len().min(cuts) {
                assert!(decode(&bytes[..end], &mut mask, &mut out).is_err(), "{}", self.name);
            }
            for bit in 0..8 * bytes.len().min(60) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                _ = decode(&bytes, &mut mask, &mut out);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(0);
            assert!(decode(&bytes, &mut mask, &mut out).is_err(), "{}", self.name);
        }
    }

    fn random() -> impl FnMut() -> u32 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        }
    }

    /// Even and uneven sets of positions, from none to all.
    pub(crate) fn cases(r: u32) -> Vec<Case> {
        let mut random = random();
        let mut cases = vec![];
        let mut add = |name, positions: usize, keep: &dyn Fn(usize, u32) -> bool| {
            let mut case =
                Case { name, positions, mask: vec![0; positions.div_ceil(32)], values: vec![] };
            for i in 0..positions {
                if keep(i, random() >> 8) {
                    case.mask[i / 32] |= 1 << (i % 32);
                    case.values.push((random() >> (32 - r)) as u8);
                }
            }
            cases.push(case);
        };
        for positions in [0, 1, 2, 31, 32, 33, 100, 3000] {
            add("none", positions, &|_, _| false);
            add("all", positions, &|_, _| true);
            add("a tenth", positions, &|_, r| r % 10 == 0);
        }
        add("one", 40_000, &|i, _| i == 39_999);
        add("a tenth", 262_144, &|_, r| r % 10 == 0);
        add("rare", 262_144, &|_, r| r % 1000 == 0);
        add("half", 50_001, &|_, r| r % 2 == 0);
        add("the first half only", 100_000, &|i, r| i < 50_000 && r % 5 == 0);
        add("blocks", 100_000, &|i, _| i / 1000 % 7 == 0);
        add("columns", 100_000, &|i, _| i % 100 < 9);
        add("ever more", 100_000, &|i, r| r as usize % 100_000 < i / 5);
        cases
    }
}
