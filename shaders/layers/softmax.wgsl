// y[r, c] = exp(x[r, c] - highest) / sum of exp(x[r, ..] - highest), highest the largest of row r.
// LANES invocations share a row; a workgroup serves WG / LANES rows. Each adds every LANES-th column, then a tree adds their sums:
// the same order on every device.

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;          // [rows, cols]

override WG: u32;
override LANES: u32;       // a power of two

// Beyond it a value counts as it: no difference overflows, so infinities need no case of their own.
const LIMIT: f32 = 1e38;

var<workgroup> partial: array<f32, WG>;

// What a tree leaves in the first lane of a row, for all of its lanes.
fn shared_result(lane: u32) -> f32 {
    workgroupBarrier();
    let result = partial[lane - lane % LANES];
    workgroupBarrier();
    return result;
}

fn row_max(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half { partial[lane] = max(partial[lane], partial[lane + half]); }
    }
    return shared_result(lane);
}

fn row_sum(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half { partial[lane] += partial[lane + half]; }
    }
    return shared_result(lane);
}

fn value(i: u32) -> f32 { return clamp(x[i], -LIMIT, LIMIT); }

// e^t of t <= 0. What is too small for a normal number is 0 on every device.
fn power(t: f32) -> f32 { return select(0.0, exp(t), t > -87.0); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup_index(wid, groups) * (WG / LANES) + lane / LANES;
    // Rows beyond the last have no columns, but meet the others at the barriers.
    let cols = select(0u, params.cols, row < params.rows);
    let start = row * params.cols;
    var mine = -LIMIT;
    for (var c = lane % LANES; c < cols; c += LANES) { mine = max(mine, value(start + c)); }
    let highest = row_max(mine, lane);
    var sum = 0.0;
    for (var c = lane % LANES; c < cols; c += LANES) { sum += power(value(start + c) - highest); }
    let scale = 1.0 / row_sum(sum, lane);
    for (var c = lane % LANES; c < cols; c += LANES) { y[start + c] = power(value(start + c) - highest) * scale; }
}
