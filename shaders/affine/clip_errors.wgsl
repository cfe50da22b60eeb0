// errors[slice, i] = sum over the slice's weights of (u - restored)^2 at clip 32 + i, as ClipGrid in src/affine.rs defines it;
// or, with DECIDE, best[slice] = the clip of least error, ties to the larger.
// A slice is at most SLICE weights of one group. One workgroup per slice: all lanes turn 64 weights into integers, then lane i
// takes them at clip 32 + i.

struct Params { elements: u32, group: u32, first: u32, per_group: u32, shift: u32, slices: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [elements], of type DTYPE
@group(0) @binding(2) var<storage, read> grids: array<vec4<u32>>;      // [groups]: f32 bits of the inverse, steps per 64th, codes per u, limits
@group(0) @binding(3) var<storage, read> reciprocals: array<u32>;      // [33]
@group(0) @binding(4) var<storage, read_write> results: array<u32>;    // [slices, 33, 2], low word first; or [slices]

override WG: u32;
override DTYPE: u32;
override SLICE: u32;
override DECIDE: bool;

var<workgroup> magnitudes: array<u32, 64>;
var<workgroup> limits: array<u32, 64>;
var<workgroup> sums: array<vec2<u32>, 64>;

fn weight(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slice = workgroup_index(wid, groups);
    let g = slice / params.per_group;
    var start = 0u;
    var end = 0u;
    var grid = vec4(0u);
    if slice < params.slices {
        grid = grids[g];
        let from_group = select(params.first + (g - 1u) * params.group, 0u, g == 0u);
        start = from_group + (slice % params.per_group) * SLICE;
        end = min(min(params.elements, params.first + g * params.group), start + SLICE);
    }
    let i = min(lane, 32u);
    let step = grid.y * (32u + i);
    let m = (grid.z * reciprocals[i] + 16384u) >> 15u;
    let half = (1u << params.shift) >> 1u;
    var low = 0u;
    var high = 0u;
    for (var at = 0u; at < SLICE; at += 64u) {
        workgroupBarrier();
        let bits = weight(min(start + at + lane, params.elements - 1u));
        let u = u32(round(bitcast<f32>(bits & 0x7fffffffu) * bitcast<f32>(grid.x)));
        magnitudes[lane] = min(u, 32767u);
        limits[lane] = select(grid.w & 0xffffu, grid.w >> 16u, (bits >> 31u) == 1u);
        workgroupBarrier();
        let count = min(64u, max(end, start + at) - (start + at));
        for (var k = 0u; k < count; k++) {
            let code = min((magnitudes[k] * m + half) >> params.shift, limits[k]);
            let restored = (code * step + 16384u) >> 15u;
            let error = max(magnitudes[k], restored) - min(magnitudes[k], restored);
            let square = error * error;
            low += square;
            high += u32(low < square);
        }
    }
    if slice >= params.slices { return; }
    if !DECIDE {
        if lane < 33u {
            results[(slice * 33u + lane) * 2u] = low;
            results[(slice * 33u + lane) * 2u + 1u] = high;
        }
        return;
    }
    sums[lane] = vec2(low, high);
    workgroupBarrier();
    if lane == 0u {
        var best = 32u;
        for (var k = 31u; k < 32u; k--) {
            let less = sums[k].y < sums[best].y || (sums[k].y == sums[best].y && sums[k].x < sums[best].x);
            if less { best = k; }
        }
        results[slice] = 32u + best;
    }
}
