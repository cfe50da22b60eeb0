// mask[r, c] = 1 where fewer than n of the m weights of c's group are larger in magnitude, or equal and before it.
// Groups are m consecutive weights of a row; what is left at its end is kept whole.
// One invocation per word of the mask, which reads every group that reaches into it.

struct Params { cols: u32, words: u32, n: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read_write> mask: array<u32>;       // [rows, words], first weight in the low bit

override WG: u32;
override DTYPE: u32;
override M: u32;

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
    for (var g = start / M * M; g < end; g += M) {
        var group: array<u32, 16>;
        let whole = g + M <= params.cols;
        if whole {
            for (var k = 0u; k < M; k++) { group[k] = magnitude(row + g + k); }
        }
        for (var k = 0u; k < M; k++) {
            let c = g + k;
            if c < start || c >= end { continue; }
            var ahead = 0u;
            if whole {
                for (var o = 0u; o < M; o++) {
                    ahead += u32(group[o] > group[k] || (group[o] == group[k] && o < k));
                }
            }
            if ahead < params.n { bits |= 1u << (c - start); }
        }
    }
    mask[id] = bits;
}
