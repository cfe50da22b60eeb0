//! Sets of survivors for the tests of retrieval structures.

/// A name, how many positions, a mask and a value of 4 bits for each survivor.
pub(crate) type Case = (&'static str, usize, Vec<u32>, Vec<u8>);

/// Even and uneven sets, small ones and one that needs several ribbons.
pub(crate) fn cases() -> Vec<Case> {
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
pub(crate) fn expect(got: &[u32], positions: usize, mask: &[u32], values: &[u8]) {
    let (read, out) = got.split_at(mask.len());
    let mut values = values.iter();
    for i in (0..positions).filter(|i| mask[i / 32] >> (i % 32) & 1 == 1) {
        let value = (out[i / 4] >> (8 * (i % 4))) as u8;
        assert_eq!((read[i / 32] >> (i % 32) & 1, Some(&value)), (1, values.next()), "{i}");
    }
}
