// bits[r, c] = 1 where weights[r, c] < 0; -0 is not.
// Eight invocations share a word, four weights each, so that neighbours read neighbouring weights.

struct Params { cols: u32, words: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read_write> bits: array<u32>;       // [rows, words], first weight in the low bit

override WG: u32;
override DTYPE: u32;

var<workgroup> parts: array<u32, WG>;

fn weight(i: u32) -> u32 {
    let w = word_of(DTYPE, i);
    if DTYPE == F64 { return decode(DTYPE, weights[w], weights[w + 1u], i); }
    return decode(DTYPE, weights[w], 0u, i);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * (WG / 8u) + lane / 8u;
    var part = 0u;
    if id < params.total {
        let row = id / params.words;
        let start = lane % 8u * 4u;
        for (var k = start; k < start + 4u; k++) {
            let c = id % params.words * 32u + k;
            if c < params.cols && weight(row * params.cols + c) > 0x80000000u { part |= 1u << k; }
        }
    }
    parts[lane] = part;
    workgroupBarrier();
    if lane % 8u == 0u && id < params.total {
        var word = part;
        for (var l = 1u; l < 8u; l++) { word |= parts[lane + l]; }
        bits[id] = word;
    }
}
