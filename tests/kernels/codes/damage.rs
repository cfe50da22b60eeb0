//! What the tests of decoders share: random numbers, and that a device refuses what the reference refuses.

use crate::support::CPU;
use tersor::{Backend, Error, Result, Tensor};

pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    }
}

/// Decodes a stream of so many symbols.
pub type Decode<'a> = &'a dyn Fn(&Backend, &[u8], usize) -> Result<Tensor>;

pub fn is_refused(decode: Decode, on: &Backend, bytes: &[u8], len: usize) -> bool {
    match decode(on, bytes, len) {
        Ok(_) => false,
        Err(Error::Malformed { .. }) => true,
        Err(e) => panic!("{e}"),
    }
}

/// Whatever the bytes, a device ends, and refuses what the reference refuses but for frequencies that are not the best: 60 times a
/// stream with a bit of its first `reach` bytes changed, and streams that are cut. Says how often both say the same of the former.
pub fn refusals_that_agree(
    gpu: &Backend,
    decode: Decode,
    (seed, bytes, len): (u64, &[u8], usize),
    reach: usize,
) -> usize {
    let mut agree = 0;
    let mut random = random(seed);
    for _ in 0..60 {
        let mut damaged = bytes.to_vec();
        let bit = random() as usize % (8 * bytes.len().min(reach));
        damaged[bit / 8] ^= 1 << (bit % 8);
        let [cpu, gpu] = [&CPU, gpu].map(|on| is_refused(decode, on, &damaged, len));
        assert!(cpu || !gpu, "{seed}, {len}, bit {bit}: only the GPU refuses");
        agree += usize::from(cpu == gpu);
    }
    for cut in [1, 2, 3] {
        let damaged = &bytes[..bytes.len().saturating_sub(cut)];
        let [cpu, gpu] = [&CPU, gpu].map(|on| is_refused(decode, on, damaged, len));
        assert!(cpu && (gpu || len < 2048), "{seed}, {len}: {cut} bytes less");
    }
    agree
}
