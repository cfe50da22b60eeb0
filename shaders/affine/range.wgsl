// ranges[slice] = (smallest, largest) weight of the slice, as order keys; of a slice without weights: (the largest key, 0).
// Group 0 holds the first `first` elements, every later group `group` of them, the last one what is left; each is cut into
// `per_group` slices of at most `slice` elements.
// LANES invocations share a slice; a workgroup serves WG / LANES slices.

struct Params { elements: u32, group: u32, first: u32, per_group: u32, slice: u32, slices: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read_write> ranges: array<u32>;     // [slices, 2]

override WG: u32;
override LANES: u32;
override DTYPE: u32;

var<workgroup> lows: array<u32, WG>;
var<workgroup> highs: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slice = workgroup_index(wid, groups) * (WG / LANES) + lane / LANES;
    var low = 0xffffffffu;
    var high = 0u;
    if slice < params.slices {
        let g = slice / params.per_group;
        let from_group = select(params.first + (g - 1u) * params.group, 0u, g == 0u);
        let start = from_group + (slice % params.per_group) * params.slice;
        let end = min(min(params.elements, params.first + g * params.group), start + params.slice);
        for (var i = start + lane % LANES; i < end; i += LANES) {
            let w = words_of(DTYPE, i);
            let key = order_key(decode(DTYPE, weights[w.x], weights[w.y], i));
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
    if lane % LANES == 0u && slice < params.slices {
        ranges[2u * slice] = lows[lane];
        ranges[2u * slice + 1u] = highs[lane];
    }
}
