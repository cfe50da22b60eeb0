// y[m, n] = activation(sum over k of x[m, k] * w[n, k] + bias[n]), w of type DTYPE. The frame is frames/product.wgsl.
// WIDE: rows of w are whole units of 16 bytes.

@group(0) @binding(3) var<storage, read> w: array<vec4<u32>>;          // [outputs, cols], of type DTYPE, as fours of words
@group(0) @binding(4) var<storage, read_write> y: array<f32>;          // [rows, outputs]

override DTYPE: u32;

fn word(i: u32) -> u32 {
    return w[i / 4u][i % 4u];
}

fn weight(i: u32) -> f32 {
    let at = word_of(DTYPE, i);
    let next = select(at, at + 1u, DTYPE == F64);
    return bitcast<f32>(decode(DTYPE, word(at), word(next), i));
}

// Two weights of 16 bits.
fn two(word: u32) -> vec2<f32> {
    if DTYPE == F16 { return halves(word); }
    return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u));
}

// Quad j of a unit.
fn part(words: vec4<u32>, j: u32) -> vec4<f32> {
    if QUADS == 1u { return bitcast<vec4<f32>>(words); }
    if QUADS == 2u {
        let pair = select(words.xy, words.zw, j == 1u);
        return vec4(two(pair.x), two(pair.y));
    }
    return quarters(DTYPE, words[j]);
}

fn weights(n: u32, q: u32) -> vec4<f32> {
    if WIDE { return part(w[n * (params.words / 4u) + q / QUADS], q % QUADS); }
    let last = n * params.cols + params.cols - 1u;
    var quad: vec4<f32>;
    for (var j = 0u; j < 4u; j++) { quad[j] = weight(min(n * params.cols + 4u * q + j, last)); }
    return quad;
}

fn unit(sums: Sums, n: vec4<u32>, u: u32, at: u32) -> Sums {
    if !WIDE { return added(sums, quads(n, u), at); }
    let i = n * (params.words / 4u) + u;
    let a = w[i.x];
    let b = w[i.y];
    let c = w[i.z];
    let d = w[i.w];
    var to = sums;
    for (var j = 0u; j < QUADS; j++) {
        to = added(to, mat4x4(part(a, j), part(b, j), part(c, j), part(d, j)), at + j * params.lanes);
    }
    return to;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    product(workgroup_index(wid, groups), lane);
}
