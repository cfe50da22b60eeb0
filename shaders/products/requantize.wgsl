// codes[m, n] = clamp(zero_point + floor(sums[m, n] * multiplier[n] / 2^shift[n] + 1/2), lowest, highest), four to a word.
// One invocation per word of codes.

struct Params { n: u32, words: u32, total: u32, zero_point: i32, lowest: i32, highest: i32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<i32>;             // [M, N]
@group(0) @binding(2) var<storage, read> channels: array<vec4<u32>>;   // [N]: ignored, ignored, multiplier, shift
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [M, words]

override WG: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = id / params.words;
    let first = 4u * (id % params.words);
    let end = min(first + 4u, params.n);
    var word = 0u;
    for (var n = first; n < end; n++) {
        let c = channels[n];
        let code = requantized(sums[row * params.n + n], c.z, c.w, params.zero_point, params.lowest, params.highest);
        word |= code << (8u * (n - first));
    }
    codes[id] = word;
}
