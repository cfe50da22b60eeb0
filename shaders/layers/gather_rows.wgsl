// gathered[i, ..] = table[rows[i], ..], as words. One invocation per word.

struct Params { words: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;            // [rows of the table, words]
@group(0) @binding(2) var<storage, read> rows: array<u32>;             // [rows]
@group(0) @binding(3) var<storage, read_write> gathered: array<u32>;   // [rows, words]

override WG: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    gathered[id] = table[rows[id / params.words] * params.words + id % params.words];
}
