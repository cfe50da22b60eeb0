// scale[r] = absmax of row r / 127, inverse = 1 / scale, codes[r, c] = clamp(round_ties_even(x[r, c] * inverse), -127, 127).
// LANES invocations share a row; a workgroup serves WG / LANES rows. Both quotients are found by long division.

struct Params { rows: u32, cols: u32, words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;                // [rows, cols], f32 bits
@group(0) @binding(2) var<storage, read> x4: array<vec4<u32>>;         // the same, where cols is a multiple of 4 (ALIGNED)
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;      // [rows, words]
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;     // [rows], f32 bits

override WG: u32;
override LANES: u32;
override ALIGNED: bool;
override INTEGER: bool;    // this device does not round as IEEE: do it in integers

const INFINITE: u32 = 0x7f800000u;
const NAN: u32 = 0x7fc00000u;
const SMALLEST: u32 = 0x08800000u;    // 2^-110

var<workgroup> largest: array<u32, WG>;

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

// f32(f64(absmax) / 127): the quotient of the mantissas has 24 bits and is never half way between two floats, because 127 does
// not divide the mantissa of a tie. A normal number in, a normal number out.
fn scale_of(absmax: u32) -> u32 {
    let exponent = absmax >> 23u;
    let mantissa = (absmax & 0x7fffffu) | 0x800000u;
    let shift = select(7u, 6u, mantissa >= (127u << 17u));
    let dividend = mantissa << shift;
    let up = u32(2u * (dividend % 127u) > 127u);
    return ((exponent - shift) << 23u) + (dividend / 127u - 0x800000u) + up;
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
    var absmax = 0u;
    if row < params.rows {
        for (var w = lane % LANES; w < params.words; w += LANES) {
            let v = four(row, w) & vec4(0x7fffffffu);
            absmax = max(absmax, max(max(v.x, v.y), max(v.z, v.w)));
        }
    }
    largest[lane] = absmax;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane % LANES < half { largest[lane] = max(largest[lane], largest[lane + half]); }
    }
    workgroupBarrier();
    if lane % LANES == 0u {
        absmax = largest[lane];
        var scale = 0u;
        var inverse = 0u;
        if absmax >= INFINITE {
            scale = NAN;
        } else if absmax >= SMALLEST {
            scale = scale_of(absmax);
            inverse = inverse_of(scale);
        }
        if row < params.rows { scales[row] = scale; }
        largest[lane] = inverse;
    }
    workgroupBarrier();
    let inverse = largest[lane - lane % LANES];
    if row >= params.rows { return; }
    for (var w = lane % LANES; w < params.words; w += LANES) {
        var word = 0u;
        if inverse != 0u {
            let v = four(row, w);
            word = code(v.x, inverse) | (code(v.y, inverse) << 8u) | (code(v.z, inverse) << 16u) | (code(v.w, inverse) << 24u);
        }
        codes[row * params.words + w] = word;
    }
}

fn code(x: u32, inverse: u32) -> u32 {
    return u32(clamp(rounded(x, inverse, INTEGER), -127, 127)) & 255u;
}
