// counts[b - first] += 1 and lows[b - first] += low bits, for every weight whose bin b is in the window first .. first + bins.
// The bin is the top 20 bits of the order key of an f32 (or F64), whose low 12 bits are summed; for narrower types it is the
// order key of the pattern itself and there is nothing to sum.
// One invocation per STRIDE weights. Integer additions: their order does not matter.

struct Params { elements: u32, first: u32, bins: u32, invocations: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;                      // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;         // [bins]
@group(0) @binding(3) var<storage, read_write> lows: array<atomic<u32>>;           // [bins], low halves of the sums
@group(0) @binding(4) var<storage, read_write> carries: array<atomic<u32>>;        // [bins], high halves

override WG: u32;
override DTYPE: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.invocations { return; }
    for (var i = id; i < params.elements; i += params.invocations) {
        let w = words_of(DTYPE, i);
        var bin: u32;
        var low = 0u;
        if DTYPE == F32 || DTYPE == F64 {
            let key = order_key(decode(DTYPE, weights[w.x], weights[w.y], i));
            bin = key >> 12u;
            low = key & 0xfffu;
        } else {
            let width = 32u / per_word(DTYPE);
            let p = pattern(DTYPE, weights[w.x], i);
            let sign = 1u << (width - 1u);
            bin = select(p | sign, ~p & (2u * sign - 1u), (p & sign) != 0u);
        }
        let at = bin - params.first;
        if bin >= params.first && at < params.bins {
            atomicAdd(&counts[at], 1u);
            if low != 0u {
                let before = atomicAdd(&lows[at], low);
                if before + low < before { atomicAdd(&carries[at], 1u); }
            }
        }
    }
}
