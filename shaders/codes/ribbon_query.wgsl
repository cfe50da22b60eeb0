// Asks ribbons (src/codec/ribbon.rs) for all positions, in frames/retrieval.

struct Params { positions: u32, total: u32, ribbons: u32, listed: u32, slot_words: u32, buckets: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ribbons: array<u32>;          // [ribbons, 7]: ordered, seed, shift, scale, first bucket, buckets, first word
@group(0) @binding(2) var<storage, read> bumps: array<u32>;            // a bucket each
@group(0) @binding(3) var<storage, read> slots: array<u32>;            // [groups, T, 2] of each ribbon
@group(0) @binding(4) var<storage, read> list: array<u32>;             // [listed, 2]: position, value; ascending
@group(0) @binding(5) var<storage, read_write> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> values: array<u32>;     // four a word

override WG: u32;
override T: u32;
override R: u32;

fn slot_word(i: u32) -> u32 {
    return slots[min(i, params.slot_words - 1u)];
}

// The result of one ribbon, or NONE if it has bumped the position.
fn result_in(ribbon: u32, position: u32) -> u32 {
    let record = 7u * ribbon;
    let low = mix(position + ribbons[record + 1u]);
    let upper = mix(low + STEP);
    let other = mix(upper + STEP);
    let at = select(other, position << ribbons[record + 2u], ribbons[record] == 1u);
    let start = high(at, ribbons[record + 3u]);
    let bucket = start / 128u;
    if bucket < ribbons[record + 5u] && (start & 127u) < bumps[min(ribbons[record + 4u] + bucket, params.buckets - 1u)] { return NONE; }
    // The window begins in one of two words of 32 slots; what it needs is in three.
    let group = ribbons[record + 6u] + (start / 64u) * 2u * T;
    let odd = (start >> 5u) & 1u;
    let shift = start & 31u;
    var result = 0u;
    for (var k = 0u; k < T; k++) {
        let a = slot_word(group + 2u * k);
        let b = slot_word(group + 2u * k + 1u);
        let c = slot_word(group + 2u * T + 2u * k);
        let d = slot_word(group + 2u * T + 2u * k + 1u);
        let first = select(a, b, odd == 1u);
        let second = select(b, c, odd == 1u);
        let third = select(c, d, odd == 1u);
        // A shift by 32 in two steps gives 0.
        let one = (first >> shift) | ((second << 1u) << (31u - shift));
        let two = (second >> shift) | ((third << 1u) << (31u - shift));
        result |= (countOneBits((one & (low | 1u)) ^ (two & upper)) & 1u) << k;
    }
    return result ^ (other & ((1u << T) - 1u));
}

fn result_of(position: u32) -> u32 {
    // What no ribbon holds is listed.
    var next = 0u;
    var end = params.listed;
    while next < end {
        let middle = (next + end) / 2u;
        if list[2u * middle] < position { next = middle + 1u; } else { end = middle; }
    }
    if next < params.listed && list[2u * next] == position { return list[2u * next + 1u]; }
    var result = NONE;
    for (var ribbon = 0u; ribbon < params.ribbons && result == NONE; ribbon++) { result = result_in(ribbon, position); }
    return result;
}
