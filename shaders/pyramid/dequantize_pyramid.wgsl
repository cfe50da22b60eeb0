// weights[g, i] = vector(number of g)[i] * gains[gain of g], rounded to DTYPE. A group's code is its gain in GAIN bits and then its
// number in BITS; groups of a row follow one another bit by bit. One invocation per group of 4 * WORDS weights.
// counts[m, j]: how many vectors of m integers there are whose magnitudes add up to j, as four words, the low one first.

struct Params { groups: u32, of_row: u32, words: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;            // [rows, words]
@group(0) @binding(2) var<storage, read> gains: array<u32>;            // [2^GAIN], f32 bits
@group(0) @binding(3) var<storage, read> counts: array<vec4<u32>>;     // [n + 1, k + 1]
@group(0) @binding(4) var<storage, read_write> weights: array<u32>;    // [groups, 4 * WORDS], of type DTYPE

override WG: u32;
override DTYPE: u32;
override WORDS: u32;       // 1 to 16
override BITS: u32;        // of a number, 1 to 120
override GAIN: u32;        // bits of a gain

// `bits` bits, at most 32, from bit `at` of a row on.
fn field(row: u32, at: u32, bits: u32) -> u32 {
    if bits == 0u { return 0u; }
    let w = row * params.words + at / 32u;
    var found = codes[w] >> (at % 32u);
    if at % 32u + bits > 32u { found |= codes[w + 1u] << (32u - at % 32u); }
    return extractBits(found, 0u, bits);
}

fn below(a: vec4<u32>, b: vec4<u32>) -> bool {
    if a.w != b.w { return a.w < b.w; }
    if a.z != b.z { return a.z < b.z; }
    if a.y != b.y { return a.y < b.y; }
    return a.x < b.x;
}

// a - b, which is not negative.
fn difference(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let x = a.x - b.x;
    let borrow_x = u32(a.x < b.x);
    let y = a.y - b.y - borrow_x;
    let borrow_y = u32(a.y < b.y || (a.y == b.y && borrow_x == 1u));
    let z = a.z - b.z - borrow_y;
    let borrow_z = u32(a.z < b.z || (a.z == b.z && borrow_y == 1u));
    return vec4(x, y, z, a.w - b.w - borrow_z);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.groups { return; }
    let row = id / params.of_row;
    let at = id % params.of_row * (GAIN + BITS);
    let gain = bitcast<f32>(gains[field(row, at, GAIN)]);
    let start = at + GAIN;
    var number = vec4(
        field(row, start, min(BITS, 32u)),
        field(row, start + 32u, clamp(BITS, 32u, 64u) - 32u),
        field(row, start + 64u, clamp(BITS, 64u, 96u) - 64u),
        field(row, start + 96u, clamp(BITS, 96u, 128u) - 96u),
    );
    let n = 4u * WORDS;
    let width = params.k + 1u;
    var left = params.k;
    var word = 0u;
    for (var i = 0u; i < n; i++) {
        let rest = (n - 1u - i) * width;
        var value = 0;
        var here = counts[rest + left];
        // What is no vector's number ends where nothing is left.
        for (var turn = 0u; turn < 2u * left && !below(number, here); turn++) {
            number = difference(number, here);
            value = select(1 - value, -value, value > 0);
            here = counts[rest + left - u32(abs(value))];
        }
        left -= u32(abs(value));
        let weight = bitcast<u32>(f32(value) * gain);
        let at_word = id * n + i;
        if DTYPE == F64 {
            let pair = f64_words(weight);
            weights[2u * at_word] = pair.x;
            weights[2u * at_word + 1u] = pair.y;
        } else {
            let per = per_word(DTYPE);
            let k = at_word % per;
            if k == 0u { word = 0u; }
            word |= encode(DTYPE, weight) << (k * (32u / per));
            if k == per - 1u { weights[at_word / per] = word; }
        }
    }
}
