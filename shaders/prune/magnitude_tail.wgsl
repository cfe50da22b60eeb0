// counts[b] = how many weights have the magnitude bits prefix << 12 | b: the second step to an exact threshold, after the
// histogram of the bits above.
// One invocation per `invocations`-th weight. Integer additions: their order does not matter.

struct Params { elements: u32, prefix: u32, invocations: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;                  // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;     // [4096]

override WG: u32;
override DTYPE: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.invocations { return; }
    for (var i = id; i < params.elements; i += params.invocations) {
        let w = words_of(DTYPE, i);
        let magnitude = decode(DTYPE, weights[w.x], weights[w.y], i) & 0x7fffffffu;
        if (magnitude >> 12u) == params.prefix { atomicAdd(&counts[magnitude & 0xfffu], 1u); }
    }
}
