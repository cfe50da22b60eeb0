//! Asking retrieval structures for all positions: what the tests of every structure are.

use crate::support::{CPU, backends, cross_check, gpu};
use tersor::{Backend, Error, Result, Tensor};

/// Positions, mask, values, bits of a value and of a result.
type Encode = fn(usize, &[u32], &[u8], (u32, u32), &mut Vec<u8>);
/// Mask and values of so many positions.
type Query = fn(&Backend, &[u8], usize) -> Result<(Tensor, Tensor)>;

/// A structure: what encodes it, and the kernel that asks it.
pub(crate) struct Structure {
    pub(crate) encode: Encode,
    pub(crate) query: Query,
}

/// A name, how many positions, a mask and a value of 4 bits for each survivor.
type Case = (&'static str, usize, Vec<u32>, Vec<u8>);

/// Even and uneven sets, small ones and one that needs several ribbons.
fn cases() -> Vec<Case> {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u32
    };
    let mut cases = vec![];
    let mut add = |name, positions: usize, keep: &dyn Fn(usize, u32) -> bool| {
        let (mut mask, mut values) = (vec![0; positions.div_ceil(32)], vec![]);
        for i in 0..positions {
            if keep(i, random()) {
                mask[i / 32] |= 1 << (i % 32);
                values.push((random() >> 5) as u8 & 15);
            }
        }
        cases.push((name, positions, mask, values));
    };
    add("none", 100, &|_, _| false);
    add("one", 1, &|_, _| true);
    add("all", 31, &|_, _| true);
    add("half", 33, &|_, r| r.is_multiple_of(2));
    add("a fifth", 20_001, &|_, r| r.is_multiple_of(5));
    add("blocks", 30_000, &|i, _| (i / 1000).is_multiple_of(3));
    add("a tenth", 100_000, &|_, r| r.is_multiple_of(10));
    cases
}

/// Demands that mask and values, one after the other, hold every survivor.
fn expect(got: &[u32], positions: usize, mask: &[u32], values: &[u8]) {
    let (read, out) = got.split_at(mask.len());
    let mut values = values.iter();
    for i in (0..positions).filter(|i| mask[i / 32] >> (i % 32) & 1 == 1) {
        let value = (out[i / 4] >> (8 * (i % 4))) as u8;
        assert_eq!((read[i / 32] >> (i % 32) & 1, Some(&value)), (1, values.next()), "{i}");
    }
}

impl Structure {
    /// Mask and values, one after the other.
    fn query(&self, on: &Backend, bytes: &[u8], positions: usize) -> Result<Vec<u32>> {
        let (mask, values) = (self.query)(on, bytes, positions)?;
        Ok([mask.read(on)?, values.read(on)?].concat())
    }

    pub(crate) fn worked_example(&self) {
        // Survivors 3 and 33 of 40 positions have values 2 and 1; 15 bits make false positives rare: there is none.
        let mut bytes = vec![];
        (self.encode)(40, &[8, 2], &[2, 1], (2, 15), &mut bytes);
        for on in backends() {
            let got = self.query(on, &bytes, 40).unwrap();
            assert_eq!(got, [8, 2, 2 << 24, 0, 0, 0, 0, 0, 0, 0, 1 << 8, 0], "{}", on.name());
            assert_eq!(self.query(on, &[], 5).unwrap(), [0; 3], "{}", on.name());
        }
    }

    pub(crate) fn gpu_agrees_with_reference(&self) {
        for (name, positions, mask, values) in cases() {
            for bits in [(4, 4), (4, 7), (4, 8), (6, 9), (8, 15)] {
                let mut bytes = vec![];
                (self.encode)(positions, &mask, &values, bits, &mut bytes);
                expect(&self.query(&CPU, &bytes, positions).unwrap(), positions, &mask, &values);
                cross_check((name, positions, bits), |on| self.query(on, &bytes, positions));
            }
        }
    }

    pub(crate) fn damage_is_refused_or_answered_alike(&self) {
        let Some(gpu) = gpu() else { return };
        let (_, positions, mask, values) = cases().swap_remove(4);
        let mut bytes = vec![];
        (self.encode)(positions, &mask, &values, (4, 8), &mut bytes);
        for bit in (0..64).chain((64..8 * bytes.len()).step_by(8 * bytes.len() / 40)) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (cpu, gpu) =
                (self.query(&CPU, &bytes, positions), self.query(gpu, &bytes, positions));
            assert_eq!(cpu.ok(), gpu.ok(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for on in backends() {
            let error = self.query(on, &bytes[1..], positions).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{}", on.name());
        }
    }
}
