// points[v, j] = clamp(round_ties_even(weights[v * dim + j] * inverse), -LIMIT, LIMIT), two to a word, the first in the low half.
// One invocation per word of points; of an odd vector the last upper half is zero.

struct Params { pairs: u32, dim: u32, group: u32, first: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [vectors, dim], of type DTYPE
@group(0) @binding(2) var<storage, read> inverses: array<u32>;         // [groups], f32 bits
@group(0) @binding(3) var<storage, read_write> points: array<u32>;     // [vectors, pairs]

override WG: u32;
override DTYPE: u32;
override INTEGER: bool;    // this device does not round as IEEE: do it in integers

const LIMIT: i32 = 2047;

fn point(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    let g = select(1u + (i - params.first) / params.group, 0u, i < params.first);
    let q = rounded(decode(DTYPE, weights[w.x], weights[w.y], i), inverses[g], INTEGER);
    return u32(clamp(q, -LIMIT, LIMIT)) & 0xffffu;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let j = (id % params.pairs) * 2u;
    let i = (id / params.pairs) * params.dim + j;
    var pair = point(i);
    if j + 1u < params.dim { pair |= point(i + 1u) << 16u; }
    points[id] = pair;
}
