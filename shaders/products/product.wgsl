// y[m, n] = activation(sum over k of x[m, k] * w[n, k] + bias[n]): what the products of f32 activations with weights share.
// The kernel's own file, which follows, holds the weights, and y as its last binding. It defines
//   weights(n, q): the quad of weights 4q to 4q + 3 of row n; those beyond the row may be anything;
//   unit(sums, n, u, at): sums, and the products of unit u, which is QUADS quads of each of four rows n, with x.
// It calls product(id, lane). Workgroups are 256 invocations.

struct Params {
    rows: u32,
    outputs: u32,
    cols: u32,
    words: u32,
    group: u32,
    share: u32,
    entries: u32,
    sign: u32,
    lanes: u32,
    depth: u32,
    activation: u32,
    biased: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;          // [rows, cols], as consecutive fours
@group(0) @binding(2) var<storage, read> bias: array<f32>;             // [outputs], if biased

override WG: u32;
override TILED: bool;
override ROWS: u32;
override QUADS: u32;
override WIDE: bool;

// Quads of x, and of weights where they are decoded once for many rows; in the end, sums.
var<workgroup> slots: array<vec4<f32>, 640>;

// Sums of four outputs for each of up to eight rows of x.
struct Sums { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32> }

// Quad q of row m of x; zeros beyond it.
fn inputs(m: u32, q: u32) -> vec4<f32> {
    let k = 4u * q;
    if (m >= params.rows) | (k >= params.cols) { return vec4(0.0); }
    let i = m * params.cols + k;
    if params.cols % 4u == 0u { return x[i / 4u]; }
    var quad = vec4(x[i / 4u][i % 4u], 0.0, 0.0, 0.0);
    if k + 1u < params.cols { quad.y = x[(i + 1u) / 4u][(i + 1u) % 4u]; }
    if k + 2u < params.cols { quad.z = x[(i + 2u) / 4u][(i + 2u) % 4u]; }
    if k + 3u < params.cols { quad.w = x[(i + 3u) / 4u][(i + 3u) % 4u]; }
    return quad;
}

// Quad q of row n of the weights; zeros beyond the row, so that what lies there takes no part even if it is no number.
fn quad(n: u32, q: u32) -> vec4<f32> {
    let k = 4u * q;
    if k >= params.cols { return vec4(0.0); }
    let w = weights(n, q);
    if k + 3u < params.cols { return w; }
    return select(w, vec4(0.0), vec4(k, k + 1u, k + 2u, k + 3u) >= vec4(params.cols));
}

// Quad q of four rows.
fn quads(n: vec4<u32>, q: u32) -> mat4x4<f32> {
    return mat4x4(quad(n.x, q), quad(n.y, q), quad(n.z, q), quad(n.w, q));
}

// Slots of a row of x in a tile of by_rows.
fn tile_slots() -> u32 {
    return params.lanes * params.depth * QUADS;
}

// sums, and the products of a quad of four rows of w with the quad of every row of x that slot `at` of a tile holds.
fn added(sums: Sums, w: mat4x4<f32>, at: u32) -> Sums {
    let row = tile_slots();
    var to = sums;
    to.a += slots[at] * w;
    if ROWS > 1u { to.b += slots[at + row] * w; }
    if ROWS > 2u {
        to.c += slots[at + 2u * row] * w;
        to.d += slots[at + 3u * row] * w;
    }
    if ROWS > 4u {
        to.e += slots[at + 4u * row] * w;
        to.f += slots[at + 5u * row] * w;
        to.g += slots[at + 6u * row] * w;
        to.h += slots[at + 7u * row] * w;
    }
    return to;
}

// Outputs that a workgroup computes.
fn breadth() -> u32 {
    return select(WG / params.lanes * 4u, 64u, TILED);
}

fn first_output(id: u32) -> u32 {
    return id % ((params.outputs + breadth() - 1u) / breadth()) * breadth();
}

fn first_row(id: u32) -> u32 {
    return id / ((params.outputs + breadth() - 1u) / breadth()) * select(ROWS, 64u, TILED);
}

// Writes output i of the eight that slots[at] and slots[WG + at] hold: rows m and m + step of x by four outputs, from n on,
// as far apart.
fn write(i: u32, m: u32, n: u32, step: u32, at: u32) {
    let row = m + i / 4u * step;
    let output = n + i % 4u * step;
    if (row >= params.rows) | (output >= params.outputs) { return; }
    var sum = slots[i / 4u * WG + at][i % 4u];
    if params.biased != 0u { sum += bias[output]; }
    y[row * params.outputs + output] = activated(params.activation, sum);
}

// The sums that a set of invocations has of rows m and m + 1, added up in one order and written.
fn finish(m: u32, n: u32, lane: u32, first: vec4<f32>, second: vec4<f32>) {
    let in_set = lane % params.lanes;
    workgroupBarrier();
    slots[lane] = first;
    slots[WG + lane] = second;
    for (var half = params.lanes / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if in_set < half {
            slots[lane] += slots[lane + half];
            slots[WG + lane] += slots[WG + lane + half];
        }
    }
    workgroupBarrier();
    for (var i = in_set; i < min(ROWS, 2u) * 4u; i += params.lanes) { write(i, m, n, 1u, lane - in_set); }
}

// For few rows of x: a set of `lanes` invocations computes four outputs of ROWS rows. A tile of x is lanes * depth units long;
// each invocation multiplies `depth` of them as they come from memory.
fn by_rows(id: u32, lane: u32) {
    let m = first_row(id);
    let n = first_output(id) + lane / params.lanes * 4u;
    let four = min(vec4(n, n + 1u, n + 2u, n + 3u), vec4(params.outputs - 1u));
    let units = (params.cols + 4u * QUADS - 1u) / (4u * QUADS);
    let in_set = lane % params.lanes;
    var sums = Sums();
    for (var first = 0u; first < units; first += params.lanes * params.depth) {
        workgroupBarrier();
        for (var i = lane; i < tile_slots(); i += WG) {
            // The quads that neighbouring invocations read at a time lie side by side.
            let j = i / params.lanes;
            let u = first + j / QUADS * params.lanes + i % params.lanes;
            for (var r = 0u; r < ROWS; r++) { slots[i + r * tile_slots()] = inputs(m + r, u * QUADS + j % QUADS); }
        }
        workgroupBarrier();
        for (var d = 0u; d < params.depth; d++) {
            let u = first + d * params.lanes + in_set;
            if u < units { sums = unit(sums, four, u, d * QUADS * params.lanes + in_set); }
        }
    }
    finish(m, n, lane, sums.a, sums.b);
    if ROWS > 2u { finish(m + 2u, n, lane, sums.c, sums.d); }
    if ROWS > 4u {
        finish(m + 4u, n, lane, sums.e, sums.f);
        finish(m + 6u, n, lane, sums.g, sums.h);
    }
}

// The sums of rows m and m + 16 by outputs n, n + 16, n + 32 and n + 48 that one invocation has, written.
fn finish_tile(m: u32, n: u32, lane: u32, first: vec4<f32>, second: vec4<f32>) {
    slots[lane] = first;
    slots[WG + lane] = second;
    for (var i = 0u; i < 8u; i++) { write(i, m, n, 16u, lane); }
}

// For many rows of x: 64 rows by 64 outputs, 16 of them each invocation's, every weight decoded once. A tile is four quads
// deep; the pitch of five spreads its rows over the banks of the memory.
fn by_tiles(id: u32, lane: u32) {
    let m = first_row(id);
    let n = first_output(id);
    let row = lane / 4u;
    let w_row = min(n + row, params.outputs - 1u);
    let put = row * 5u + lane % 4u;
    let i = lane / 16u;
    let j = lane % 16u;
    let tiles = (params.cols + 15u) / 16u;
    var sums = Sums();
    for (var tile = 0u; tile <= tiles; tile++) {
        // The next quads are on their way while those at hand are multiplied.
        let q = 4u * tile + lane % 4u;
        let next_x = inputs(m + row, q);
        let next_w = quad(w_row, q);
        if tile > 0u {
            for (var k = 0u; k < 4u; k++) {
                let at = 320u + j * 5u + k;
                let w = mat4x4(slots[at], slots[at + 80u], slots[at + 160u], slots[at + 240u]);
                sums.a += slots[i * 5u + k] * w;
                sums.b += slots[i * 5u + 80u + k] * w;
                sums.c += slots[i * 5u + 160u + k] * w;
                sums.d += slots[i * 5u + 240u + k] * w;
            }
        }
        workgroupBarrier();
        slots[put] = next_x;
        slots[320u + put] = next_w;
        workgroupBarrier();
    }
    // The last tile is zeros, which nobody reads.
    finish_tile(m + i, n + j, lane, sums.a, sums.b);
    finish_tile(m + i + 32u, n + j, lane, sums.c, sums.d);
}

fn product(id: u32, lane: u32) {
    if TILED { by_tiles(id, lane); } else { by_rows(id, lane); }
}
