// weights[b, i] = sign[i] sum over k of M[k, i] coefficients[b, k] q[k], blocks of `block` numbers of a row, in integers.
// One workgroup per 256 weights.

struct Params { elements: u32, block: u32, unit: i32, down: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> coefficients: array<u32>;           // [rows, cols], f32 bits
@group(0) @binding(2) var<storage, read> table: array<i32>;                  // flips, steps, factors: [3, block]; M: [block, block], none of a Hadamard transform
@group(0) @binding(3) var<storage, read_write> weights: array<u32>;          // [rows, cols], of type DTYPE

override WG: u32;
override DTYPE: u32;

fn mixed(c: u32) -> i32 {
    if HADAMARD { return integers[c]; }
    let i = c % params.block;
    var high = 0;
    var low = 0;
    for (var k = 0u; k < params.block; k++) {
        let n = integers[c - i + k];
        let factor = table[(3u + k) * params.block + i];
        high += (n >> 11u) * factor;
        low += (n & 2047) * factor;
    }
    return halves_to_whole(high, low);
}

// The f32 bits of weight c of the workgroup's.
fn weight(c: u32) -> u32 {
    let flip = table[c % params.block];
    let factor = u32(table[2u * params.block + c % params.block]);
    let unit = i32(exponent_of(c, params.block)) + params.unit;
    return float_bits(scaled((mixed(c) ^ flip) - flip, factor, 32u), unit);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = workgroup_index(wid, groups) * SPAN;
    begin(lane, WG);
    for (var c = lane; c < SPAN; c += WG) {
        if start + c < params.elements { see(c, params.block, coefficients[start + c]); }
    }
    workgroupBarrier();
    for (var c = lane; c < SPAN; c += WG) {
        var n = 0;
        if start + c < params.elements {
            let step = table[params.block + c % params.block];
            n = whole(coefficients[start + c], exponent_of(c, params.block)) * step;
            n = (n + ((1 << params.down) >> 1u)) >> params.down;
        }
        integers[c] = n;
    }
    sum_up(lane, WG, params.block);
    if DTYPE == F64 {
        for (var c = lane; c < SPAN; c += WG) {
            let pair = f64_words(weight(c));
            if start + c < params.elements {
                weights[2u * (start + c)] = pair.x;
                weights[2u * (start + c) + 1u] = pair.y;
            }
        }
        return;
    }
    let per = per_word(DTYPE);
    for (var first = lane * per; first < SPAN; first += WG * per) {
        if start + first < params.elements {
            var word = 0u;
            for (var k = 0u; k < per; k++) {
                word |= encode(DTYPE, weight(first + k)) << (k * (32u / per));
            }
            weights[(start + first) / per] = word;
        }
    }
}
