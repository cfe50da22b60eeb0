// dot[m, n] = cols - 2 * (number of bits in which row m of a differs from row n of w)
// out[m, n] = dot as an i32 if `sums`, otherwise dot * (a_scales[m] * w_scales[n]), plus bias[n] if `biased`, as an f32.
//
// ROWS > 0, for at most so many rows of a: every word of w is read once. LANES invocations share a row of w and its outputs,
// and a workgroup serves WG / LANES of them.
// ROWS = 0: a workgroup has 64 x 64 outputs and keeps 16 words of 64 rows of both matrices; an invocation has 4 x 4 of them,
// 16 rows and 16 columns apart, so that neighbours write neighbouring columns.

struct Params { m: u32, n: u32, cols: u32, words: u32, sums: u32, biased: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;                // [m, words], padding zero
@group(0) @binding(2) var<storage, read> w: array<u32>;                // [n, words], padding zero
@group(0) @binding(3) var<storage, read> a_scales: array<f32>;         // [m]
@group(0) @binding(4) var<storage, read> w_scales: array<f32>;         // [n]
@group(0) @binding(5) var<storage, read> bias: array<f32>;             // [n], if `biased`
@group(0) @binding(6) var<storage, read_write> out: array<u32>;        // [m, n]

override WG: u32;        // 256: 16 x 16 invocations of a tile
override ROWS: u32;      // 0, 1, 2, 4 or 8
override LANES: u32;     // 1 to 64, a power of two

const SIDE: u32 = 64u;
const DEPTH: u32 = 16u;
// A vector more than the 16 of a word's rows, so that the words of a row lie in different banks.
const PITCH: u32 = 17u;
const W: u32 = DEPTH * PITCH;

// The tiles of a and of w, or the partial sums of the few.
var<workgroup> shared_words: array<vec4<u32>, 2u * DEPTH * PITCH>;

// Without branches, of which && would be one, too: there would be some for every word, and compilers take long over them.
fn a_word(row: u32, k: u32) -> u32 {
    let there = (row < params.m) & (k < params.words);
    return select(0u, a[select(0u, row * params.words + k, there)], there);
}

fn w_word(row: u32, k: u32) -> u32 {
    let there = (row < params.n) & (k < params.words);
    return select(0u, w[select(0u, row * params.words + k, there)], there);
}

fn store(m: u32, n: u32, mismatches: u32) {
    if (m >= params.m) | (n >= params.n) { return; }
    let dot = i32(params.cols) - 2 * i32(mismatches);
    let i = m * params.n + n;
    if params.sums == 1u {
        out[i] = bitcast<u32>(dot);
        return;
    }
    var y = f32(dot) * (a_scales[m] * w_scales[n]);
    if params.biased == 1u { y += bias[n]; }
    out[i] = bitcast<u32>(y);
}

// Four words of a row of a, as far apart as this invocation's of w.
fn a_words(row: u32, k: u32) -> vec4<u32> {
    return vec4(a_word(row, k), a_word(row, k + LANES), a_word(row, k + 2u * LANES), a_word(row, k + 3u * LANES));
}

fn few(group: u32, lane: u32) {
    let n = group * (WG / LANES) + lane / LANES;
    let words = select(0u, params.words, n < params.n);
    var s0 = vec4(0u);
    var s1 = vec4(0u);
    var s2 = vec4(0u);
    var s3 = vec4(0u);
    var s4 = vec4(0u);
    var s5 = vec4(0u);
    var s6 = vec4(0u);
    var s7 = vec4(0u);
    for (var k = lane % LANES; k < words; k += 4u * LANES) {
        let x = vec4(w_word(n, k), w_word(n, k + LANES), w_word(n, k + 2u * LANES), w_word(n, k + 3u * LANES));
        s0 += countOneBits(x ^ a_words(0u, k));
        if ROWS > 1u {
            s1 += countOneBits(x ^ a_words(1u, k));
        }
        if ROWS > 2u {
            s2 += countOneBits(x ^ a_words(2u, k));
            s3 += countOneBits(x ^ a_words(3u, k));
        }
        if ROWS > 4u {
            s4 += countOneBits(x ^ a_words(4u, k));
            s5 += countOneBits(x ^ a_words(5u, k));
            s6 += countOneBits(x ^ a_words(6u, k));
            s7 += countOneBits(x ^ a_words(7u, k));
        }
    }
    let one = vec4(1u);
    shared_words[lane] = vec4(dot(s0, one), dot(s1, one), dot(s2, one), dot(s3, one));
    shared_words[WG + lane] = vec4(dot(s4, one), dot(s5, one), dot(s6, one), dot(s7, one));
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half {
            shared_words[lane] += shared_words[lane + half];
            shared_words[WG + lane] += shared_words[WG + lane + half];
        }
    }
    if lane % LANES == 0u {
        let low = shared_words[lane];
        store(0u, n, low.x);
        store(1u, n, low.y);
        store(2u, n, low.z);
        store(3u, n, low.w);
        let high = shared_words[WG + lane];
        store(4u, n, high.x);
        store(5u, n, high.y);
        store(6u, n, high.z);
        store(7u, n, high.w);
    }
}

// Mismatches of four rows of a (r0 to r3) with four of w.
struct Mismatches { r0: vec4<u32>, r1: vec4<u32>, r2: vec4<u32>, r3: vec4<u32> }

// Adds word k of the tiles.
fn step(k: u32, x: u32, y: u32, s: ptr<function, Mismatches>) {
    let rows = shared_words[k * PITCH + y];
    let columns = shared_words[W + k * PITCH + x];
    (*s).r0 += countOneBits(columns ^ vec4(rows.x));
    (*s).r1 += countOneBits(columns ^ vec4(rows.y));
    (*s).r2 += countOneBits(columns ^ vec4(rows.z));
    (*s).r3 += countOneBits(columns ^ vec4(rows.w));
}

fn store_row(m: u32, n: u32, s: vec4<u32>) {
    store(m, n, s.x);
    store(m, n + 16u, s.y);
    store(m, n + 32u, s.z);
    store(m, n + 48u, s.w);
}

fn tile(group: u32, lane: u32) {
    let across = (params.n + SIDE - 1u) / SIDE;
    let x = lane % 16u;
    let y = lane / 16u;
    let m = group / across * SIDE + y;
    let n0 = group % across * SIDE;
    var s = Mismatches(vec4(0u), vec4(0u), vec4(0u), vec4(0u));
    // Word x of every 16 of rows y, y + 16, y + 32 and y + 48; the next ones are under way while these are counted.
    let n = n0 + y;
    var rows = vec4(a_word(m, x), a_word(m + 16u, x), a_word(m + 32u, x), a_word(m + 48u, x));
    var columns = vec4(w_word(n, x), w_word(n + 16u, x), w_word(n + 32u, x), w_word(n + 48u, x));
    for (var start = 0u; start < params.words; start += DEPTH) {
        workgroupBarrier();
        shared_words[x * PITCH + y] = rows;
        shared_words[W + x * PITCH + y] = columns;
        workgroupBarrier();
        let k = start + DEPTH + x;
        rows = vec4(a_word(m, k), a_word(m + 16u, k), a_word(m + 32u, k), a_word(m + 48u, k));
        columns = vec4(w_word(n, k), w_word(n + 16u, k), w_word(n + 32u, k), w_word(n + 48u, k));
        for (var k = 0u; k < DEPTH; k += 4u) {
            step(k, x, y, &s);
            step(k + 1u, x, y, &s);
            step(k + 2u, x, y, &s);
            step(k + 3u, x, y, &s);
        }
    }
    store_row(m, n0 + x, s.r0);
    store_row(m + 16u, n0 + x, s.r1);
    store_row(m + 32u, n0 + x, s.r2);
    store_row(m + 48u, n0 + x, s.r3);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = workgroup_index(wid, groups);
    if ROWS > 0u {
        few(group, lane);
    } else {
        tile(group, lane);
    }
}
