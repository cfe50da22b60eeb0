// counts[slot, low] += 1 for every weight whose order key has bins[slot] as its top 20 bits and `low` as the 12 below.
// One invocation per `invocations`-th weight. Integer additions: their order does not matter.

struct Params { elements: u32, slots: u32, invocations: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;                  // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read> bins: array<u32>;                     // [slots], ascending
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;     // [slots, 4096]

override WG: u32;
override DTYPE: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.invocations { return; }
    for (var i = id; i < params.elements; i += params.invocations) {
        let w = words_of(DTYPE, i);
        let key = order_key(decode(DTYPE, weights[w.x], weights[w.y], i));
        // The last bin that is not above the key's.
        var slot = 0u;
        var end = params.slots;
        while end - slot > 1u {
            let middle = (slot + end) / 2u;
            if bins[middle] <= (key >> 12u) { slot = middle; } else { end = middle; }
        }
        if bins[slot] == (key >> 12u) { atomicAdd(&counts[slot * 4096u + (key & 0xfffu)], 1u); }
    }
}
