// y[m, n] = activation(sum over k of x[m, k] * (codes[n, k] - zero_point) * scale + bias[n]). The frame is frames/product.wgsl.
// A group is `group` elements of a row, or `share` whole rows. WIDE: rows of codes are whole units of 16 bytes, each within a
// group and without a code that straddles words. `sign` is the sign bit of signed codes, 0 for unsigned ones.

@group(0) @binding(3) var<storage, read> codes: array<vec4<u32>>;      // [outputs, words], as fours of words
@group(0) @binding(4) var<storage, read> scales: array<vec2<u32>>;     // [groups]: f32 bits of the scale, zero point
@group(0) @binding(5) var<storage, read_write> y: array<f32>;          // [rows, outputs]

override BITS: u32;

fn word(i: u32) -> u32 {
    return codes[i / 4u][i % 4u];
}

// Which group holds element k of each row n.
fn group_of(n: vec4<u32>, k: u32) -> vec4<u32> {
    return n / params.share * (params.cols / params.group) + k / params.group;
}

// Four codes from bit `at` of a word on, as floats that are `offset` too large. They are put into the mantissa of 2^23, which
// costs less than a conversion. A signed code's sign bit is flipped, which adds half the alphabet to it.
fn raised(word: u32, at: u32) -> vec4<f32> {
    let shifted = vec4(word) >> vec4(at, at + BITS, at + 2u * BITS, at + 3u * BITS);
    return bitcast<vec4<f32>>((shifted & vec4((1u << BITS) - 1u)) ^ vec4(0x4b000000u | params.sign));
}

fn offset(zero_point: u32) -> f32 {
    return 8388608.0 + f32(select(zero_point, params.sign, params.sign > 0u));
}

fn weights(n: u32, q: u32) -> vec4<f32> {
    let at = q * BITS / 8u;
    let shift = q * BITS % 8u * 4u;
    var four = word(n * params.words + at) >> shift;
    if shift + 4u * BITS > 32u && at + 1u < params.words {
        four |= word(n * params.words + at + 1u) << (32u - shift);
    }
    let k = 4u * q;
    let last = min(k + 3u, params.cols - 1u);
    let g = n / params.share * (params.cols / params.group);
    let first = k / params.group;
    let scale = scales[g + first];
    var values = (raised(four, 0u) - offset(scale.y)) * bitcast<f32>(scale.x);
    if last / params.group == first { return values; }
    // Groups end within the quad.
    let b = scales[g + min(k + 1u, last) / params.group];
    let c = scales[g + min(k + 2u, last) / params.group];
    let d = scales[g + last / params.group];
    let offsets = vec4(offset(scale.y), offset(b.y), offset(c.y), offset(d.y));
    return (raised(four, 0u) - offsets) * bitcast<vec4<f32>>(vec4(scale.x, b.x, c.x, d.x));
}

// sums, and the products of the codes in one word of each of four rows.
fn word_added(sums: Sums, words: vec4<u32>, offsets: vec4<f32>, at: u32) -> Sums {
    var to = sums;
    var slot = at;
    for (var bit = 0u; bit < 32u; bit += 4u * BITS) {
        let four = mat4x4(
            raised(words.x, bit) - offsets.x,
            raised(words.y, bit) - offsets.y,
            raised(words.z, bit) - offsets.z,
            raised(words.w, bit) - offsets.w,
        );
        to = added(to, four, slot);
        slot += params.lanes;
    }
    return to;
}

fn unit(sums: Sums, n: vec4<u32>, u: u32, at: u32) -> Sums {
    if !WIDE { return added(sums, quads(n, u), at); }
    let i = n * (params.words / 4u) + u;
    let a = codes[i.x];
    let b = codes[i.y];
    let c = codes[i.z];
    let d = codes[i.w];
    let g = group_of(n, u * 4u * QUADS);
    let p = scales[g.x];
    let q = scales[g.y];
    let r = scales[g.z];
    let s = scales[g.w];
    let offsets = vec4(offset(p.y), offset(q.y), offset(r.y), offset(s.y));
    let step = params.lanes * QUADS / 4u;
    // The scale multiplies the sum of the unit.
    var part = word_added(Sums(), vec4(a.x, b.x, c.x, d.x), offsets, at);
    part = word_added(part, vec4(a.y, b.y, c.y, d.y), offsets, at + step);
    part = word_added(part, vec4(a.z, b.z, c.z, d.z), offsets, at + 2u * step);
    part = word_added(part, vec4(a.w, b.w, c.w, d.w), offsets, at + 3u * step);
    return scaled(sums, part, bitcast<vec4<f32>>(vec4(p.x, q.x, r.x, s.x)));
}

fn scaled(sums: Sums, part: Sums, scale: vec4<f32>) -> Sums {
    var to = sums;
    to.a += part.a * scale;
    if ROWS > 1u { to.b += part.b * scale; }
    if ROWS > 2u {
        to.c += part.c * scale;
        to.d += part.d * scale;
    }
    if ROWS > 4u {
        to.e += part.e * scale;
        to.f += part.f * scale;
        to.g += part.g * scale;
        to.h += part.h * scale;
    }
    return to;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    product(workgroup_index(wid, groups), lane);
}
