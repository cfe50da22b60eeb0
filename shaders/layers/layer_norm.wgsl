// y[r, c] = gamma[c] (z[r, c] - mean) / sqrt(variance + epsilon) + beta[c], z = x + residual, mean and variance those of row r of z.
// LANES invocations share a row; a workgroup serves WG / LANES rows. Each adds every LANES-th column, then a tree adds their sums:
// the same order on every device.

struct Params { rows: u32, cols: u32, epsilon: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [rows, cols]
@group(0) @binding(2) var<storage, read> residual: array<f32>;         // [rows, cols]; read if RESIDUAL
@group(0) @binding(3) var<storage, read> gamma: array<f32>;            // [cols]
@group(0) @binding(4) var<storage, read> beta: array<f32>;             // [cols]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;          // [rows, cols]

override WG: u32;
override LANES: u32;       // a power of two
override RESIDUAL: bool;

var<workgroup> partial: array<vec2<f32>, WG>;

// The sums over the lanes of a row, for all of them.
fn row_sums(values: vec2<f32>, lane: u32) -> vec2<f32> {
    partial[lane] = values;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half { partial[lane] += partial[lane + half]; }
    }
    workgroupBarrier();
    let sums = partial[lane - lane % LANES];
    workgroupBarrier();
    return sums;
}

fn z(i: u32) -> f32 {
    if RESIDUAL { return x[i] + residual[i]; }
    return x[i];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup_index(wid, groups) * (WG / LANES) + lane / LANES;
    // Rows beyond the last have no columns, but meet the others at the barriers.
    let cols = select(0u, params.cols, row < params.rows);
    let start = row * params.cols;
    let count = f32(params.cols);
    var sum = 0.0;
    for (var c = lane % LANES; c < cols; c += LANES) { sum += z(start + c); }
    // Where values are large beside their deviation this is only about their mean. What is left of them then is small, and so is
    // the error of its own mean, which makes up the rest.
    let about = row_sums(vec2(sum, 0.0), lane).x / count;
    var rest = vec2(0.0);
    for (var c = lane % LANES; c < cols; c += LANES) {
        let d = z(start + c) - about;
        rest += vec2(d, d * d);
    }
    let moments = row_sums(rest, lane) / count;
    let variance = max(moments.y - moments.x * moments.x, 0.0);
    let scale = inverseSqrt(variance + params.epsilon);
    for (var c = lane % LANES; c < cols; c += LANES) {
        let centred = (z(start + c) - about) - moments.x;
        y[start + c] = gamma[c] * (centred * scale) + beta[c];
    }
}
