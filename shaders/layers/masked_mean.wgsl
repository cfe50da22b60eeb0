// means[b, c] = the mean of x[b, s, c] over s < lengths[b], or 0 if there is none.
// A workgroup takes 16 columns of a sequence. Each of 16 invocations a column adds every sixteenth row, then a tree adds the 16
// sums: the same order on every device.

struct Params { rows: u32, cols: u32, blocks: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [sequences, rows, cols]
@group(0) @binding(2) var<storage, read> lengths: array<u32>;          // [sequences]
@group(0) @binding(3) var<storage, read_write> means: array<f32>;      // [sequences, cols]

override WG: u32;          // 16 x 16

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    if id >= params.total { return; }
    let sequence = id / params.blocks;
    let col = (id % params.blocks) * 16u + lane % 16u;
    let length = lengths[sequence];
    var sum = 0.0;
    if col < params.cols {
        for (var s = lane / 16u; s < length; s += 16u) { sum += x[(sequence * params.rows + s) * params.cols + col]; }
    }
    sums[lane] = sum;
    for (var half = 8u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane / 16u < half { sums[lane] += sums[lane + 16u * half]; }
    }
    if lane < 16u && col < params.cols {
        means[sequence * params.cols + col] = sums[lane] / f32(max(length, 1u));
    }
}
