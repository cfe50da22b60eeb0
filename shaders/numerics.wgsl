// results[0, i] = a[i] * b[i]; results[1, i] = round(a[i] * b[i]); results[2, i] = a[i] * b[i] + c[i];
// results[3, i] = (a[i] + b[i]) - a[i]; results[4, i] = a[i] + b[i]; results[5, i] = d[i] != d[i];
// results[6, i] = (a[i] + b[i]) - a[i], the sum through integers and zero[i]; results[7, i] = f16(a[i]), f16(b[i]). All as bits.
// One invocation per i. A probe, not a computation: the host compares with IEEE and records what the device does.

struct Params { len: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> operands: array<u32>;         // [5, len]: a, b, c, d and zero, f32 bits
@group(0) @binding(2) var<storage, read_write> results: array<u32>;    // [8, len]

override WG: u32;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = workgroup_index(wid, groups) * WG + lane;
    if i >= params.len { return; }
    let a = bitcast<f32>(operands[i]);
    let b = bitcast<f32>(operands[params.len + i]);
    let c = bitcast<f32>(operands[2u * params.len + i]);
    results[i] = bitcast<u32>(a * b);
    results[params.len + i] = bitcast<u32>(round(a * b));
    results[2u * params.len + i] = bitcast<u32>(a * b + c);
    results[3u * params.len + i] = bitcast<u32>((a + b) - a);
    let d = bitcast<f32>(operands[3u * params.len + i]);
    results[4u * params.len + i] = bitcast<u32>(a + b);
    results[5u * params.len + i] = select(0u, 1u, d != d);
    let sum = bitcast<f32>(bitcast<u32>(a + b) ^ operands[4u * params.len + i]);
    results[6u * params.len + i] = bitcast<u32>(sum - a);
    results[7u * params.len + i] = pack2x16float(vec2(a, b));
}
