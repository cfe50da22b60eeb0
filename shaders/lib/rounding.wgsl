// Pure helpers only. round_ties_even(f32(a * b)) of f32 bits, clamped to -4000 and 4000: beyond every code and every number of
// a vector.

// The mantissa with its hidden bit, and the exponent that makes the value mantissa * 2^(exponent - 150).
fn split(bits: u32) -> vec2<u32> {
    let exponent = (bits >> 23u) & 255u;
    let fraction = bits & 0x7fffffu;
    if exponent > 0u { return vec2(fraction | 0x800000u, exponent + 32u); }
    if fraction == 0u { return vec2(0u, 0u); }
    let shift = countLeadingZeros(fraction) - 8u;
    return vec2(fraction << shift, 33u - shift);
}

// Magnitude of round_ties_even(f32(a * b)), at most 4000, by the two roundings of IEEE. The exponents of `split` are 32 too large.
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
    if exponent >= -11 { return 4000; }
    if exponent < -25 { return 0; }
    let shift = u32(-exponent);
    let kept = m >> shift;
    let lost = m & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return min(4000, i32(kept + u32(lost > half || (lost == half && (kept & 1u) == 1u))));
}

// The same with its sign; `integer` where the device does not round as IEEE.
fn rounded(a: u32, b: u32, integer: bool) -> i32 {
    if !integer { return i32(round(clamp(bitcast<f32>(a) * bitcast<f32>(b), -4000.0, 4000.0))); }
    let q = rounded_product(a, b);
    return select(q, -q, ((a ^ b) >> 31u) == 1u);
}
