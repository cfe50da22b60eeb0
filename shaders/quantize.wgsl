// codes[r, c] = clamp(round_ties_even(weights[r, c] * inverse) + zero_point, lowest, highest), packed in BITS bits.
// One invocation per word of codes.

struct Params { elements: u32, cols: u32, words: u32, group: u32, first: u32, lowest: i32, highest: i32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, cols], of type DTYPE
@group(0) @binding(2) var<storage, read> scales: array<vec2<u32>>;     // [groups]: f32 bits of the inverse, zero point
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [rows, words]

override WG: u32;
override DTYPE: u32;
override BITS: u32;
override INTEGER: bool;    // this device does not round as IEEE: do it in integers

fn weight(i: u32) -> u32 {
    let w = words_of(DTYPE, i);
    return decode(DTYPE, weights[w.x], weights[w.y], i);
}

// The mantissa with its hidden bit, and the exponent that makes the value mantissa * 2^(exponent - 150).
fn split(bits: u32) -> vec2<u32> {
    let exponent = (bits >> 23u) & 255u;
    let fraction = bits & 0x7fffffu;
    if exponent > 0u { return vec2(fraction | 0x800000u, exponent + 32u); }
    if fraction == 0u { return vec2(0u, 0u); }
    let shift = countLeadingZeros(fraction) - 8u;
    return vec2(fraction << shift, 33u - shift);
}

// Magnitude of round_ties_even(f32(a * b)), at most 1000, by the two roundings of IEEE. The exponents of `split` are 32 too large.
fn rounded_product(a: u32, b: u32) -> i32 {
    let x = split(a);
    let y = split(b);
    if x.x == 0u || y.x == 0u { return 0; }
    let x1 = x.x >> 12u;
    let x0 = x.x & 0xfffu;
    let y1 = y.x >> 12u;
    let y0 = y.x & 0xfffu;
    let mid = x1 * y0 + x0 * y1;
    let low = x0 * y0 + ((mid & 0xfffu) << 12u);
    let high = x1 * y1 + (mid >> 12u) + (low >> 24u);
    var m = high;
    var rest = low & 0xffffffu;
    var exponent = i32(x.y + y.y) - 364 + 24;
    if high < 0x800000u {
        m = (high << 1u) | (rest >> 23u);
        rest = (rest << 1u) & 0xffffffu;
        exponent -= 1;
    }
    m += u32(rest > 0x800000u || (rest == 0x800000u && (m & 1u) == 1u));
    if exponent >= -13 { return 1000; }
    if exponent < -25 { return 0; }
    let shift = u32(-exponent);
    let kept = m >> shift;
    let lost = m & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return min(1000, i32(kept + u32(lost > half || (lost == half && (kept & 1u) == 1u))));
}

fn code(i: u32) -> u32 {
    let g = select(1u + (i - params.first) / params.group, 0u, i < params.first);
    let scale = scales[g];
    let w = weight(i);
    var q: i32;
    if INTEGER {
        q = rounded_product(w, scale.x);
        if (w >> 31u) == 1u { q = -q; }
    } else {
        q = i32(round(clamp(bitcast<f32>(w) * bitcast<f32>(scale.x), -1000.0, 1000.0)));
    }
    return u32(clamp(q + i32(scale.y), params.lowest, params.highest));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = workgroup_index(wid, groups) * WG + lane;
    if id >= params.total { return; }
    let row = id / params.words;
    let w = id % params.words;
    let end = min(params.cols, (w * 32u + 31u) / BITS + 1u);
    var word = 0u;
    for (var j = first_code(w, BITS); j < end; j++) {
        word |= placed(code(row * params.cols + j), j, w, BITS);
    }
    codes[id] = word;
}
