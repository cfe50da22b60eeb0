// Row r reaches from -low to high, zero included: zero = 255 low / (low + high), rounded, scale = max(low / zero, high / (255 -
// zero)), inverse = 1 / scale, codes[r, c] = clamp(round_ties_even(x[r, c] * inverse) + zero, 0, 255).
// LANES invocations share a row; a workgroup serves WG / LANES rows. All quotients are found by long division.

struct Params { rows: u32, cols: u32, words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;                // [rows, cols], f32 bits
@group(0) @binding(2) var<storage, read> x4: array<vec4<u32>>;         // the same, where cols is a multiple of 4 (ALIGNED)
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [rows, words]
@group(0) @binding(4) var<storage, read_write> scales: array<vec2<u32>>;    // [rows]: scale and zero point, f32 bits

override WG: u32;
override LANES: u32;
override ALIGNED: bool;
override INTEGER: bool;    // this device does not round as IEEE: do it in integers

const INFINITE: u32 = 0x7f800000u;
const NAN: u32 = 0x7fc00000u;
const SMALLEST: u32 = 0x08800000u;    // 2^-110

// The largest magnitudes below zero and above; then the inverse and the zero point.
var<workgroup> largest: array<vec2<u32>, WG>;

// Elements 4 w to 4 w + 3 of a row; zero beyond it.
fn four(row: u32, w: u32) -> vec4<u32> {
    let i = row * params.cols + 4u * w;
    if ALIGNED { return x4[i / 4u]; }
    let left = params.cols - 4u * w;
    var v = vec4(x[i], 0u, 0u, 0u);
    if left > 1u { v.y = x[i + 1u]; }
    if left > 2u { v.z = x[i + 2u]; }
    if left > 3u { v.w = x[i + 3u]; }
    return v;
}

// The code of zero. Magnitudes are taken at the exponent of the larger one; those below 2^-126 count as nothing.
fn zero_point(low: u32, high: u32) -> u32 {
    let exponent = max(low, high) >> 23u;
    let a = aligned_mantissa(low, exponent);
    let b = aligned_mantissa(high, exponent);
    return (255u * a + (a + b) / 2u) / (a + b);
}

fn aligned_mantissa(magnitude: u32, exponent: u32) -> u32 {
    let shift = exponent - (magnitude >> 23u);
    if magnitude < 0x800000u || shift > 23u { return 0u; }
    return ((magnitude & 0x7fffffu) | 0x800000u) >> shift;
}

// f32(f64(magnitude) / d) of an integer d below 256, 0 if that is 0: the quotient of the mantissas has 24 bits, and the way through
// f64 never crosses a tie, from which it is a 512th of a unit away or nothing. A normal number in, a normal number out.
fn quotient(magnitude: u32, d: u32) -> u32 {
    if d == 0u { return 0u; }
    let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    var shift = 31u - countLeadingZeros(d);
    if (mantissa << shift) < (d << 23u) { shift += 1u; }
    let q = (mantissa << shift) / d;
    let rest = 2u * ((mantissa << shift) % d);
    let up = u32(rest > d || (rest == d && (q & 1u) == 1u));
    return (((magnitude >> 23u) - shift) << 23u) + (q - 0x800000u) + up;
}

// f32(1 / f64(scale)), where both are normal: 2^47 over the mantissa, bit by bit. Only a power of two divides 2^48, so there
// are no ties.
fn inverse_of(scale: u32) -> u32 {
    let exponent = scale >> 23u;
    let mantissa = (scale & 0x7fffffu) | 0x800000u;
    if mantissa == 0x800000u { return (254u - exponent) << 23u; }
    var rest = 0x800000u;
    var quotient = 0u;
    for (var bit = 0u; bit < 24u; bit++) {
        rest <<= 1u;
        quotient <<= 1u;
        if rest >= mantissa {
            rest -= mantissa;
            quotient |= 1u;
        }
    }
    return ((253u - exponent) << 23u) + (quotient - 0x800000u) + u32(2u * rest > mantissa);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup_index(wid, groups) * (WG / LANES) + lane / LANES;
    var reach = vec2(0u);
    if row < params.rows {
        for (var w = lane % LANES; w < params.words; w += LANES) {
            let v = four(row, w);
            reach = max(max(reach, sided(v.x)), max(sided(v.y), max(sided(v.z), sided(v.w))));
        }
    }
    largest[lane] = reach;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half { largest[lane] = max(largest[lane], largest[lane + half]); }
    }
    workgroupBarrier();
    if lane % LANES == 0u {
        reach = largest[lane];
        let absmax = max(reach.x, reach.y);
        var scale = 0u;
        var zero = 0u;
        var inverse = 0u;
        if absmax >= INFINITE {
            scale = NAN;
        } else if absmax >= SMALLEST {
            zero = zero_point(reach.x, reach.y);
            scale = max(quotient(reach.x, zero), quotient(reach.y, 255u - zero));
            inverse = inverse_of(scale);
        }
        if row < params.rows { scales[row] = vec2(scale, bitcast<u32>(f32(zero))); }
        largest[lane] = vec2(inverse, zero);
    }
    workgroupBarrier();
    let found = largest[lane - lane % LANES];
    if row >= params.rows { return; }
    for (var w = lane % LANES; w < params.words; w += LANES) {
        var word = 0u;
        if found.x != 0u {
            let v = four(row, w);
            word = code(v.x, found) | (code(v.y, found) << 8u) | (code(v.z, found) << 16u) | (code(v.w, found) << 24u);
            // Padding is zero, and not the code of zero.
            word &= 0xffffffffu >> (8u * (4u - min(params.cols - 4u * w, 4u)));
        }
        codes[row * params.words + w] = word;
    }
}

// A magnitude on its side of zero.
fn sided(x: u32) -> vec2<u32> {
    let magnitude = x & 0x7fffffffu;
    return select(vec2(0u, magnitude), vec2(magnitude, 0u), (x >> 31u) == 1u);
}

fn code(x: u32, found: vec2<u32>) -> u32 {
    return u32(clamp(rounded(x, found.x, INTEGER) + i32(found.y), 0, 255));
}
