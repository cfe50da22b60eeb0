// sorted[r, ..] = the weights of row r as order keys, every run of 4096 of them in ascending order.
// One workgroup per run: a bitonic sort in workgroup memory, padded with the largest key.

struct Params { cols: u32, per_row: u32, padded: u32, runs: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read_write> sorted: array<u32>;     // [rows, cols]

override WG: u32;
override DTYPE: u32;

var<workgroup> keys: array<u32, 4096>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let run_index = workgroup_index(wid, groups);
    if run_index >= params.runs { return; }
    let first = (run_index % params.per_row) * 4096u;
    let start = (run_index / params.per_row) * params.cols + first;
    let count = min(4096u, params.cols - first);
    for (var c = lane; c < params.padded; c += WG) {
        var key = 0xffffffffu;
        if c < count {
            let w = words_of(DTYPE, start + c);
            key = order_key(decode(DTYPE, weights[w.x], weights[w.y], start + c));
        }
        keys[c] = key;
    }
    for (var run = 2u; run <= params.padded; run *= 2u) {
        for (var gap = run / 2u; gap > 0u; gap /= 2u) {
            workgroupBarrier();
            for (var t = lane; t < params.padded / 2u; t += WG) {
                let i = 2u * gap * (t / gap) + t % gap;
                let a = keys[i];
                let b = keys[i + gap];
                if (a > b) == ((i & run) == 0u) {
                    keys[i] = b;
                    keys[i + gap] = a;
                }
            }
        }
    }
    workgroupBarrier();
    for (var c = lane; c < count; c += WG) { sorted[start + c] = keys[c]; }
}
