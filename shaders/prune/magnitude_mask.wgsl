// mask[r, c] = 1 where the magnitude of the weight is above its group's threshold, or on it and the weight is one of the
// tile's first ties_before elements.
// One invocation per word of the mask.

struct Params { cols: u32, words: u32, group: u32, first: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> limits: array<vec2<u32>>;     // [groups]: threshold, ties_before
@group(0) @binding(3) var<storage, read_write> mask: array<u32>;       // [rows, words], first weight in the low bit

override WG: u32;
override DTYPE: u32;

fn magnitude(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i) & 0x7fffffffu;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = (id / params.words) * params.cols;
    let start = (id % params.words) * 32u;
    let end = min(start + 32u, params.cols);
    var bits = 0u;
    for (var c = start; c < end; c++) {
        let i = row + c;
        let limit = limits[select(1u + (i - params.first) / params.group, 0u, i < params.first)];
        let m = magnitude(i);
        bits |= u32(m > limit.x || (m == limit.x && i < limit.y)) << (c - start);
    }
    mask[id] = bits;
}
