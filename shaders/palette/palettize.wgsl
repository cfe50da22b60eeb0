// codes[r, c] = how many thresholds of the weight's table lie below the weight, packed in BITS bits.
// Thresholds come as order keys, those that a table lacks as 0xffffffff, so the comparison is of integers.
// One invocation per word of codes.

struct Params { cols: u32, words: u32, group: u32, first: u32, stride: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> thresholds: array<u32>;       // [tables, stride]; stride a power of two
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [rows, words]

override WG: u32;
override DTYPE: u32;
override BITS: u32;

fn weight(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i);
}

fn code(i: u32) -> u32 {
    let table = select(1u + (i - params.first) / params.group, 0u, i < params.first) * params.stride;
    let key = order_key(weight(i));
    // The last threshold is never below a weight, so the answer is less than the stride.
    var below = 0u;
    for (var step = params.stride / 2u; step > 0u; step /= 2u) {
        if thresholds[table + below + step - 1u] < key { below += step; }
    }
    return below;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = id / params.words;
    let w = id % params.words;
    let end = min(params.cols, (w * 32u + 31u) / BITS + 1u);
    var word = 0u;
    for (var j = first_code(w, BITS); j < end; j++) {
        word |= placed(code(row * params.cols + j), j, w, BITS);
    }
    codes[id] = word;
}
