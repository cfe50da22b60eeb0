// y[i] = activation(x[i]). One invocation per element.

struct Params { elements: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [elements]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;          // [elements]

override WG: u32;
override ACTIVATION: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup_index(wid, groups) * WG + lane;
    if i < params.elements { y[i] = activated(ACTIVATION, x[i]); }
}
