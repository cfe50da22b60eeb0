// Pure helpers only. Blocks of integers that share an exponent. Reference: src/kernels/transforms/mixing.rs.

// The number of f32 bits in units of 2^(exponent - 148), exponent at least that of the number: rounded to nearest, half away from zero.
fn whole(bits: u32, exponent: u32) -> i32 {
    let field = (bits >> 23u) & 255u;
    let mantissa = (bits & 0x7fffffu) | select(0u, 0x800000u, field > 0u);
    let shift = min(exponent - max(field, 1u) + 2u, 31u);
    let n = i32((mantissa + (1u << (shift - 1u))) >> shift);
    return select(n, -n, (bits >> 31u) == 1u);
}

// The bits of an integer of at most 24 bits times 2^unit: +0 below the normal numbers, the largest number beyond all.
fn float_bits(n: i32, unit: i32) -> u32 {
    if n == 0 { return 0u; }
    let magnitude = u32(abs(n));
    let top = 31u - countLeadingZeros(magnitude);
    let field = i32(top) + 127 + unit;
    if field < 1 { return 0u; }
    let sign = u32(n) & 0x80000000u;
    if field > 254 { return sign | 0x7f7fffffu; }
    let fraction = select(magnitude << ((23u - top) & 31u), magnitude >> ((top - 23u) & 31u), top > 23u);
    return sign | (u32(field) << 23u) | (fraction & 0x7fffffu);
}
