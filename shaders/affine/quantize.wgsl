// codes[r, c] = clamp(round_ties_even(weights[r, c] * inverse) + zero_point, lowest, highest), packed in BITS bits.
// One invocation per word of codes.

struct Params { elements: u32, cols: u32, words: u32, group: u32, first: u32, lowest: i32, highest: i32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> scales: array<vec2<u32>>;     // [groups]: f32 bits of the inverse, zero point
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [rows, words]

override WG: u32;
override DTYPE: u32;
override BITS: u32;
override INTEGER: bool;    // this device does not round as IEEE: do it in integers

fn weight(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i);
}

fn code(i: u32) -> u32 {
    let g = select(1u + (i - params.first) / params.group, 0u, i < params.first);
    let scale = scales[g];
    let w = weight(i);
    let q = rounded(w, scale.x, INTEGER);
    return u32(clamp(q + i32(scale.y), params.lowest, params.highest));
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
