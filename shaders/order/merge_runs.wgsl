// merged[r, ..] = keys[r, ..], every two neighbouring sorted runs of `run` keys merged into one; the last may be shorter.
// One invocation per STEP merged keys of a row: a binary search finds how many of those before them come from the first run.

struct Params { cols: u32, run: u32, per_row: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;             // [rows, cols]
@group(0) @binding(2) var<storage, read_write> merged: array<u32>;     // [rows, cols]

override WG: u32;
override STEP: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = (id / params.per_row) * params.cols;
    let start = (id % params.per_row) * STEP;
    let pair = start / (2u * params.run) * (2u * params.run);
    let middle = min(pair + params.run, params.cols);
    let end = min(middle + params.run, params.cols);
    let before = start - pair;
    var low = max(before, end - middle) - (end - middle);
    var high = min(before, middle - pair);
    while low < high {
        let i = (low + high) / 2u;
        if keys[row + pair + i] <= keys[row + middle + before - 1u - i] { low = i + 1u; } else { high = i; }
    }
    var a = pair + low;
    var b = middle + before - low;
    for (var i = start; i < min(start + STEP, params.cols); i++) {
        // A run that is used up is still read, within the row.
        let x = keys[row + min(a, params.cols - 1u)];
        let y = keys[row + min(b, params.cols - 1u)];
        let first = b == end || (a < middle && x <= y);
        merged[row + i] = select(y, x, first);
        a += u32(first);
        b += u32(!first);
    }
}
