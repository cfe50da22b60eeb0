// limits[r] = (the magnitude bits of the keep-th largest weight of row r, the column from which ties with it are dropped).
// One workgroup per row: four passes find the magnitude digit by digit (radix select), a last one the column.

struct Params { rows: u32, cols: u32, keep: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;              // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read_write> limits: array<vec2<u32>>;   // [rows]

override WG: u32;
override DTYPE: u32;

var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> ties: array<u32, WG>;
var<workgroup> prefix: u32;
var<workgroup> left: u32;

fn magnitude(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i) & 0x7fffffffu;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup_index(wid, groups);
    if row >= params.rows { return; }
    let start = row * params.cols;
    if lane == 0u {
        prefix = 0u;
        left = params.keep;
    }
    for (var digit = 0u; digit < 4u; digit++) {
        let shift = 24u - 8u * digit;
        for (var b = lane; b < 256u; b += WG) { atomicStore(&counts[b], 0u); }
        workgroupBarrier();
        for (var c = lane; c < params.cols; c += WG) {
            let m = magnitude(start + c);
            if digit == 0u || (m >> (shift + 8u)) == prefix { atomicAdd(&counts[(m >> shift) & 255u], 1u); }
        }
        workgroupBarrier();
        if lane == 0u {
            var b = 255u;
            for (; b > 0u; b--) {
                let n = atomicLoad(&counts[b]);
                if n >= left { break; }
                left -= n;
            }
            prefix = (prefix << 8u) | b;
        }
        workgroupBarrier();
    }
    // Each lane counts the ties of its own stretch of columns, so that they are in order.
    let stretch = (params.cols + WG - 1u) / WG;
    let from_col = min(lane * stretch, params.cols);
    let to_col = min(from_col + stretch, params.cols);
    var mine = 0u;
    for (var c = from_col; c < to_col; c++) { mine += u32(magnitude(start + c) == prefix); }
    ties[lane] = mine;
    workgroupBarrier();
    var before = 0u;
    for (var l = 0u; l < lane; l++) { before += ties[l]; }
    if before < left && left <= before + mine {
        var c = from_col;
        for (; c < to_col; c++) {
            before += u32(magnitude(start + c) == prefix);
            if before == left { break; }
        }
        limits[row] = vec2(prefix, c + 1u);
    }
}
