// ranges[g] = (smallest, largest) weight of group g, as order keys, over all elements of the group that are in the tile.
// Group 0 holds the first `first` elements, every later group `group` of them, the last one what is left.
// LANES invocations share a group; a workgroup serves WG / LANES groups.

struct Params { elements: u32, group: u32, first: u32, groups: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read_write> ranges: array<u32>;     // [groups, 2]

override WG: u32;
override LANES: u32;
override DTYPE: u32;

var<workgroup> lows: array<u32, WG>;
var<workgroup> highs: array<u32, WG>;

fn weight(i: u32) -> u32 {
    let w = word_of(DTYPE, i);
    if DTYPE == F64 { return decode(DTYPE, weights[w], weights[w + 1u], i); }
    return decode(DTYPE, weights[w], 0u, i);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = workgroup_index(wid, groups) * (WG / LANES) + lane / LANES;
    var low = 0xffffffffu;
    var high = 0u;
    if g < params.groups {
        let start = select(params.first + (g - 1u) * params.group, 0u, g == 0u);
        let end = min(params.elements, params.first + g * params.group);
        for (var i = start + lane % LANES; i < end; i += LANES) {
            let key = order_key(weight(i));
            low = min(low, key);
            high = max(high, key);
        }
    }
    lows[lane] = low;
    highs[lane] = high;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half {
            lows[lane] = min(lows[lane], lows[lane + half]);
            highs[lane] = max(highs[lane], highs[lane + half]);
        }
    }
    if lane % LANES == 0u && g < params.groups {
        ranges[2u * g] = lows[lane];
        ranges[2u * g + 1u] = highs[lane];
    }
}
