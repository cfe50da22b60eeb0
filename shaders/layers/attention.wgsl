// y[b, i, h] = sum over the keys j < lengths[b] of p[j] v[b, j, h] / sum of p, p[j] = 2^(scale q[b, i, h] . k[b, j, h] - highest),
// scale = log2(e) / sqrt(columns of a head); rows i from lengths[b] on are 0.
// One workgroup per block of 32 queries of a head of a sequence. It takes the keys in blocks of 32, and columns in slices of 32, and
// carries the highest score and the sum of p from block to block, so that a sequence may have any length. Of its 8 x 8 invocations
// (i, j) holds the scores of queries 4j to 4j + 3 with keys i, i + 8, i + 16, i + 24, and then columns 4i to 4i + 3 of what those
// queries gather from the values.

struct Params { rows: u32, heads: u32, width: u32, blocks: u32, total: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;          // [sequences, rows, heads, width], 4 columns an element
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;          // [sequences, rows, heads, width]
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;          // [sequences, rows, heads, width]
@group(0) @binding(4) var<storage, read> lengths: array<u32>;          // [sequences]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;    // [sequences, rows, heads, width]

override WG: u32;          // 8 x 8
override SLICES: u32;      // slices of 8 elements that a head has: 1 to 4

const BLOCK: u32 = 32u;
const SLICE: u32 = 8u;
// Elements from one row of a tile to the next: one more than it has, so that the same column of 8 rows lies in 8 places.
const PITCH: u32 = 9u;
const LOWEST: f32 = -1e38;

var<workgroup> queries: array<vec4<f32>, 288>;
var<workgroup> tile: array<vec4<f32>, 288>;        // keys, then values
var<workgroup> weights: array<vec4<f32>, 288>;     // p of every key (a row) and query
var<workgroup> partial: array<vec4<f32>, WG>;

// 2^t of t <= 0. What is too small for a normal number is 0 on every device.
fn power(t: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), exp2(t), t > vec4(-126.0));
}

// The sum over the keys of a block of p times value: a column per query.
fn gathered(keys: u32, i: u32, j: u32) -> mat4x4<f32> {
    var sum = mat4x4<f32>();
    for (var key = 0u; key < keys; key++) {
        let p = weights[key * PITCH + j];
        let value = tile[key * PITCH + i];
        sum += mat4x4<f32>(p.x * value, p.y * value, p.z * value, p.w * value);
    }
    return sum;
}

fn scaled(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}

fn write(row: u32, length: u32, to: u32, value: vec4<f32>) {
    if row < params.rows { y[to] = select(vec4(0.0), value, row < length); }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups);
    if id >= params.total { return; }
    let i = lane % 8u;
    let j = lane / 8u;
    let first = (id % params.blocks) * BLOCK;
    let head = (id / params.blocks) % params.heads;
    let sequence = id / (params.blocks * params.heads);
    // Element c of row r of this head is start + r * stride + c.
    let stride = params.heads * params.width;
    let start = sequence * params.rows * stride + head * params.width;
    let length = lengths[sequence];
    // A block of nothing but padding has no keys to look at.
    let keys = select(0u, length, first < length);

    var highest = vec4(LOWEST);
    var sum = vec4(0.0);
    var y0 = mat4x4<f32>();
    var y1 = mat4x4<f32>();
    var y2 = mat4x4<f32>();
    var y3 = mat4x4<f32>();
    for (var at = 0u; at < keys; at += BLOCK) {
        let here = min(keys - at, BLOCK);
        // Scores of four queries with each of four keys.
        var s0 = vec4(0.0);
        var s1 = vec4(0.0);
        var s2 = vec4(0.0);
        var s3 = vec4(0.0);
        for (var slice = 0u; slice < SLICES; slice++) {
            let c = slice * SLICE + i;
            workgroupBarrier();
            for (var r = j; r < BLOCK; r += 8u) {
                // The only slice of the queries stays where it is.
                if SLICES > 1u || at == 0u {
                    var query = vec4(0.0);
                    if c < params.width && first + r < length { query = q[start + (first + r) * stride + c]; }
                    queries[r * PITCH + i] = query;
                }
                var key = vec4(0.0);
                if c < params.width && r < here { key = k[start + (at + r) * stride + c]; }
                tile[r * PITCH + i] = key;
            }
            workgroupBarrier();
            for (var e = 0u; e < min(params.width - slice * SLICE, SLICE); e++) {
                let four = 4u * j * PITCH + e;
                let rows = mat4x4<f32>(queries[four], queries[four + PITCH], queries[four + 2u * PITCH], queries[four + 3u * PITCH]);
                s0 += tile[i * PITCH + e] * rows;
                s1 += tile[(i + 8u) * PITCH + e] * rows;
                s2 += tile[(i + 16u) * PITCH + e] * rows;
                s3 += tile[(i + 24u) * PITCH + e] * rows;
            }
        }
        s0 = select(vec4(LOWEST), s0 * params.scale, i < here);
        s1 = select(vec4(LOWEST), s1 * params.scale, i + 8u < here);
        s2 = select(vec4(LOWEST), s2 * params.scale, i + 16u < here);
        s3 = select(vec4(LOWEST), s3 * params.scale, i + 24u < here);

        partial[lane] = max(max(s0, s1), max(s2, s3));
        workgroupBarrier();
        var top = highest;
        for (var other = 0u; other < 8u; other++) { top = max(top, partial[8u * j + other]); }
        let shrink = power(highest - top);
        highest = top;
        let p0 = power(s0 - top);
        let p1 = power(s1 - top);
        let p2 = power(s2 - top);
        let p3 = power(s3 - top);
        sum = sum * shrink + ((p0 + p1) + (p2 + p3));
        weights[i * PITCH + j] = p0;
        weights[(i + 8u) * PITCH + j] = p1;
        weights[(i + 16u) * PITCH + j] = p2;
        weights[(i + 24u) * PITCH + j] = p3;

        for (var slice = 0u; slice < SLICES; slice++) {
            let c = slice * SLICE + i;
            if slice > 0u { workgroupBarrier(); }
            for (var r = j; r < BLOCK; r += 8u) {
                var value = vec4(0.0);
                if c < params.width && r < here { value = v[start + (at + r) * stride + c]; }
                tile[r * PITCH + i] = value;
            }
            workgroupBarrier();
            let more = gathered(here, i, j);
            if slice == 0u { y0 = scaled(y0, shrink) + more; }
            if slice == 1u { y1 = scaled(y1, shrink) + more; }
            if slice == 2u { y2 = scaled(y2, shrink) + more; }
            if slice == 3u { y3 = scaled(y3, shrink) + more; }
        }
    }

    partial[lane] = sum;
    workgroupBarrier();
    sum = vec4(0.0);
    for (var other = 0u; other < 8u; other++) { sum += partial[8u * j + other]; }
    let inverse = 1.0 / sum;
    for (var slice = 0u; slice < SLICES; slice++) {
        var columns = y0;
        if slice == 1u { columns = y1; }
        if slice == 2u { columns = y2; }
        if slice == 3u { columns = y3; }
        columns = scaled(columns, inverse);
        let c = slice * SLICE + i;
        if c < params.width {
            let row = first + 4u * j;
            let to = start + row * stride + c;
            write(row, length, to, columns[0]);
            write(row + 1u, length, to + stride, columns[1]);
            write(row + 2u, length, to + 2u * stride, columns[2]);
            write(row + 3u, length, to + 3u * stride, columns[3]);
        }
    }
}
