// weights[r, c] = scale * sum over stages s of entries[book of c's vector, s, code of that stage, c % dim], rounded to DTYPE.
// A code above 8 bits is two symbols, the low one first. One invocation per word of weights; per element, which is two words,
// for F64.

struct Params {
    elements: u32, cols: u32, words: u32, group: u32, first: u32, total: u32,
    dim: u32, pairs: u32, k: u32, spaces: u32, stages: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;            // [rows, words]
@group(0) @binding(2) var<storage, read> entries: array<u32>;          // [spaces, stages, k, pairs], halves are numbers
@group(0) @binding(3) var<storage, read> scales: array<u32>;           // [groups], f32 bits
@group(0) @binding(4) var<storage, read_write> weights: array<u32>;    // [rows, cols], of type DTYPE

override WG: u32;
override DTYPE: u32;
override BITS: u32;        // of a symbol
override SYMBOLS: u32;     // of a code, 1 or 2

fn symbol(row: u32, i: u32) -> u32 {
    let at = i * BITS;
    let w = row * params.words + at / 32u;
    var found = codes[w] >> (at % 32u);
    if at % 32u + BITS > 32u { found |= codes[w + 1u] << (32u - at % 32u); }
    return extractBits(found, 0u, BITS);
}

fn restored(i: u32) -> u32 {
    let row = i / params.cols;
    let c = i % params.cols;
    let v = c / params.dim;
    let j = c % params.dim;
    var sum = 0;
    for (var s = 0u; s < params.stages; s++) {
        let at = (v * params.stages + s) * SYMBOLS;
        var code = symbol(row, at);
        if SYMBOLS > 1u { code |= symbol(row, at + 1u) << BITS; }
        let book = (v % params.spaces) * params.stages + s;
        let entry = entries[(book * params.k + min(code, params.k - 1u)) * params.pairs + j / 2u];
        sum += extractBits(i32(entry), (j & 1u) * 16u, 16u);
    }
    let g = select(1u + (i - params.first) / params.group, 0u, i < params.first);
    return bitcast<u32>(f32(sum) * bitcast<f32>(scales[g]));
}
