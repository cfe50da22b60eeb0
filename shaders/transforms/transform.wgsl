// coefficients[b, k] = sum over i of M[k, i] sign[i] weights[b, i] / q[k], blocks of `block` numbers of a row, in integers.
// One workgroup per 256 weights.

struct Params { elements: u32, block: u32, unit: i32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;                // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> table: array<i32>;                  // flips, steps, factors: [3, block]; M: [block, block], none of a Hadamard transform
@group(0) @binding(3) var<storage, read_write> coefficients: array<u32>;     // [rows, cols], f32 bits

override WG: u32;
override DTYPE: u32;

var<workgroup> bits: array<u32, SPAN>;

fn mixed(c: u32) -> i32 {
    if HADAMARD { return integers[c]; }
    let k = c % params.block;
    var high = 0;
    var low = 0;
    for (var i = 0u; i < params.block; i++) {
        let n = integers[c - k + i];
        let factor = table[(3u + i) * params.block + k];
        high += (n >> 11u) * factor;
        low += (n & 2047) * factor;
    }
    return halves_to_whole(high, low);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = workgroup_index(wid, groups) * SPAN;
    begin(lane, WG);
    for (var c = lane; c < SPAN; c += WG) {
        var x = 0u;
        if start + c < params.elements {
            let w = words_of(DTYPE, start + c);
            x = decode(DTYPE, weights[w.x], weights[w.y], start + c);
        }
        bits[c] = x;
        see(c, params.block, x);
    }
    workgroupBarrier();
    for (var c = lane; c < SPAN; c += WG) {
        let flip = table[c % params.block];
        integers[c] = (whole(bits[c], exponent_of(c, params.block)) ^ flip) - flip;
    }
    sum_up(lane, WG, params.block);
    for (var c = lane; c < SPAN; c += WG) {
        if start + c < params.elements {
            let factor = u32(table[2u * params.block + c % params.block]);
            let unit = i32(exponent_of(c, params.block)) + params.unit;
            coefficients[start + c] = float_bits(scaled(mixed(c), factor, 32u), unit);
        }
    }
}
