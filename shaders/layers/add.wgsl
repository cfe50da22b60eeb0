// sums[r, c] = x[r, c] + y[r mod rows of y, c]
// One invocation per element.

struct Params { elements: u32, repeat: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [rows, cols]
@group(0) @binding(2) var<storage, read> y: array<f32>;            // [repeat / cols, cols]
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;   // [rows, cols]

override WG: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup_index(wid, groups) * WG + lane;
    if i >= params.elements { return; }
    sums[i] = x[i] + y[i % params.repeat];
}
