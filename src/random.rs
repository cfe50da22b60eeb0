//! Numbers that look like chance and are the same everywhere: splitmix64, whose i-th number is known without those before it.

/// Number `i` of the stream that starts at a state.
///
/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"; the constants are Vigna's.
pub fn number(state: u64, i: u64) -> u64 {
    let z = state.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
