// y[m, n] = activation(sum over k of x[m, k] * scale * sum over stages s of entries[space, s, codes[n, k / DIM, s], k % DIM] + bias[n]).
// The frame is frames/product.wgsl. A group is `group` elements of a row, or `share` whole rows. A code beyond its codebook
// takes the last entry; one above 8 bits is two symbols, the low one first.

@group(0) @binding(3) var<storage, read> codes: array<u32>;            // [outputs, words]
@group(0) @binding(4) var<storage, read> entries: array<u32>;          // [spaces, stages, k, pairs], halves are numbers
@group(0) @binding(5) var<storage, read> scales: array<f32>;           // [groups]
@group(0) @binding(6) var<storage, read_write> y: array<f32>;          // [rows, outputs]

override BITS: u32;        // of a symbol
override SYMBOLS: u32;     // of a code, 1 or 2
override DIM: u32;
override STAGES: u32;
override SPACES: u32;

fn symbol(n: u32, i: u32) -> u32 {
    let at = i * BITS;
    let w = n * params.words + at / 32u;
    var found = codes[w] >> (at % 32u);
    if at % 32u + BITS > 32u { found |= codes[w + 1u] << (32u - at % 32u); }
    return extractBits(found, 0u, BITS);
}

// Where the entry of stage s of vector v of row n starts.
fn entry(n: u32, v: u32, s: u32) -> u32 {
    let at = (v * STAGES + s) * SYMBOLS;
    var code = symbol(n, at);
    if SYMBOLS > 1u { code |= symbol(n, at + 1u) << BITS; }
    let book = (v % SPACES) * STAGES + s;
    return (book * params.entries + min(code, params.entries - 1u)) * ((DIM + 1u) / 2u);
}

fn scale(n: u32, k: u32) -> f32 {
    return scales[n / params.share * (params.cols / params.group) + k / params.group];
}

fn weight(n: u32, k: u32) -> f32 {
    if k >= params.cols { return 0.0; }
    let j = k % DIM;
    var sum = 0;
    for (var s = 0u; s < STAGES; s++) {
        let at = entry(n, k / DIM, s) + j / 2u;
        sum += extractBits(i32(entries[at]), (j & 1u) * 16u, 16u);
    }
    return f32(sum) * scale(n, k);
}

fn halves(word: u32) -> vec2<i32> {
    return vec2(extractBits(i32(word), 0u, 16u), i32(word) >> 16u);
}

fn weights(n: u32, q: u32) -> vec4<f32> {
    let k = 4u * q;
    if DIM % 4u != 0u {
        return vec4(weight(n, k), weight(n, k + 1u), weight(n, k + 2u), weight(n, k + 3u));
    }
    // The quad lies in one vector.
    var sums = vec4(0);
    for (var s = 0u; s < STAGES; s++) {
        let at = entry(n, k / DIM, s) + k % DIM / 2u;
        sums += vec4(halves(entries[at]), halves(entries[at + 1u]));
    }
    return vec4<f32>(sums) * scale(n, k);
}

fn unit(sums: Sums, n: vec4<u32>, u: u32, at: u32) -> Sums {
    return added(sums, quads(n, u), at);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    product(workgroup_index(wid, groups), lane);
}
