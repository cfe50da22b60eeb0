// weights[r, c] = (codes[r, c] - zero_point) * scale, rounded to DTYPE.
// One invocation per word of weights; per element, which is two words, for F64.

struct Params { elements: u32, cols: u32, words: u32, group: u32, first: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;            // [rows, words]
@group(0) @binding(2) var<storage, read> scales: array<vec2<u32>>;     // [groups]: f32 bits of the scale, zero point
@group(0) @binding(3) var<storage, read_write> weights: array<u32>;    // [rows, cols], of type DTYPE

override WG: u32;
override DTYPE: u32;
override BITS: u32;
override SIGNED: bool;

fn restored(i: u32) -> u32 {
    let at = (i % params.cols) * BITS;
    let w = (i / params.cols) * params.words + at / 32u;
    var code = codes[w] >> (at % 32u);
    if at % 32u + BITS > 32u { code |= codes[w + 1u] << (32u - at % 32u); }
    let g = select(1u + (i - params.first) / params.group, 0u, i < params.first);
    let scale = scales[g];
    let value = select(i32(extractBits(code, 0u, BITS)), extractBits(i32(code), 0u, BITS), SIGNED);
    return bitcast<u32>(f32(value - i32(scale.y)) * bitcast<f32>(scale.x));
}
