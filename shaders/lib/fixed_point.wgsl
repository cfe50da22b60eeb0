// Pure helpers only. Multiplication by a real number that is given as multiplier * 2^-shift, in 64-bit integers made of two
// u32. Reference: src/kernels/requantize.rs.

// floor(sum * multiplier / 2^shift + 1/2), saturated; multiplier below 2^31, shift 1 to 62.
fn scaled(sum: i32, multiplier: u32, shift: u32) -> i32 {
    let x = u32(sum);
    let x1 = x >> 16u;
    let x0 = x & 0xffffu;
    let y1 = multiplier >> 16u;
    let y0 = multiplier & 0xffffu;
    let mid = x1 * y0 + ((x0 * y0) >> 16u);
    let mid2 = x0 * y1 + (mid & 0xffffu);
    // A negative sum was taken as 2^32 more than it is.
    let high = x1 * y1 + (mid >> 16u) + (mid2 >> 16u) - select(0u, multiplier, sum < 0);
    let low = x * multiplier;

    let half = 1u << ((shift - 1u) & 31u);
    let low_half = select(0u, half, shift <= 32u);
    let lo = low + low_half;
    let hi = high + (half - low_half) + u32(lo < low);

    if shift >= 32u { return i32(hi) >> (shift - 32u); }
    let q = i32((lo >> shift) | (hi << (32u - shift)));
    if (i32(hi) >> shift) == (q >> 31u) { return q; }
    return (i32(hi) >> 31u) ^ 0x7fffffff;
}

// The code of a sum: zero_point + scaled(...), clamped; |zero_point|, |lowest| and |highest| are at most 255.
fn requantized(sum: i32, multiplier: u32, shift: u32, zero_point: i32, lowest: i32, highest: i32) -> u32 {
    let q = clamp(scaled(sum, multiplier, shift), lowest - zero_point, highest - zero_point);
    return u32(q + zero_point) & 255u;
}
