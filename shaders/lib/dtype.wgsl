// Pure helpers only. Weights of every type to the bits of an f32 and back, in integer code: devices may flush
// subnormals, round conversions either way, or lose NaN payloads. Reference: src/dtype.rs.
// The numbers of the types are those of dtype::code in src/dtype.rs.
const F64: u32 = 0u;
const F32: u32 = 1u;
const F16: u32 = 2u;
const BF16: u32 = 3u;
const F8_E4M3: u32 = 4u;
const F8_E5M2: u32 = 5u;

// Elements in one 32-bit word of storage; an F64 takes two words and has its own rule.
fn per_word(dtype: u32) -> u32 {
    if dtype == F16 || dtype == BF16 { return 2u; }
    if dtype == F8_E4M3 || dtype == F8_E5M2 { return 4u; }
    return 1u;
}

// Which word holds (the low word of) element i.
fn word_of(dtype: u32, i: u32) -> u32 {
    if dtype == F64 { return 2u * i; }
    return i / per_word(dtype);
}

// Which words hold element i: the low and the high one of an F64, otherwise twice the same.
fn words_of(dtype: u32, i: u32) -> vec2<u32> {
    let w = word_of(dtype, i);
    return vec2(w, select(w, w + 1u, dtype == F64));
}

// The raw pattern of element i, given the word that holds it.
fn pattern(dtype: u32, word: u32, i: u32) -> u32 {
    let per = per_word(dtype);
    if per == 2u { return (word >> (16u * (i & 1u))) & 0xffffu; }
    if per == 4u { return (word >> (8u * (i & 3u))) & 0xffu; }
    return word;
}

// A float of few bits, exponent bias given, subnormals made normal. No infinities or NaN.
fn widen(sign: u32, exponent: u32, mantissa: u32, mantissa_bits: u32, bias: u32) -> u32 {
    if exponent > 0u {
        return sign | ((exponent + 127u - bias) << 23u) | (mantissa << (23u - mantissa_bits));
    }
    if mantissa == 0u { return sign; }
    let shift = countLeadingZeros(mantissa) - (31u - mantissa_bits);
    let fraction = (mantissa << (shift + 23u - mantissa_bits)) & 0x7fffffu;
    return sign | ((128u - bias - shift) << 23u) | fraction;
}

fn f32_bits_of_f16(h: u32) -> u32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let mantissa = h & 0x3ffu;
    if exponent == 31u { return sign | 0x7f800000u | (mantissa << 13u); }
    return widen(sign, exponent, mantissa, 10u, 15u);
}

fn f32_bits_of_e4m3(b: u32) -> u32 {
    let sign = (b & 0x80u) << 24u;
    if (b & 0x7fu) == 0x7fu { return sign | 0x7fc00000u; }
    return widen(sign, (b >> 3u) & 15u, b & 7u, 3u, 7u);
}

// f64 to f32, round to nearest even; beyond the range of f32: infinite.
fn f32_bits_of_f64(lo: u32, hi: u32) -> u32 {
    let sign = hi & 0x80000000u;
    let exponent = (hi >> 20u) & 0x7ffu;
    let fraction = ((hi & 0xfffffu) << 3u) | (lo >> 29u);
    let rest = lo & 0x1fffffffu;
    if exponent == 0x7ffu {
        if ((hi & 0xfffffu) | lo) != 0u { return sign | 0x7fc00000u; }
        return sign | 0x7f800000u;
    }
    if exponent > 1150u { return sign | 0x7f800000u; }
    if exponent >= 897u {
        let up = u32(rest > 0x10000000u || (rest == 0x10000000u && (fraction & 1u) == 1u));
        return sign | ((((exponent - 896u) << 23u) | fraction) + up);
    }
    let shift = 897u - exponent;
    if exponent == 0u || shift > 24u { return sign; }
    let full = 0x800000u | fraction;
    let kept = full >> shift;
    let lost = full & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = u32(lost > half || (lost == half && (rest > 0u || (kept & 1u) == 1u)));
    return sign | (kept + up);
}

// The f32 bits of element i, given its words: decode(DTYPE, weights[w.x], weights[w.y], i), where w = words_of(DTYPE, i).
fn decode(dtype: u32, word: u32, high: u32, i: u32) -> u32 {
    let p = pattern(dtype, word, i);
    switch dtype {
        case F64: { return f32_bits_of_f64(word, high); }
        case F16: { return f32_bits_of_f16(p); }
        case BF16: { return p << 16u; }
        case F8_E4M3: { return f32_bits_of_e4m3(p); }
        case F8_E5M2: { return f32_bits_of_f16(p << 8u); }
        default: { return p; }
    }
}

// Both F16 of a word, for products, in fewer operations. A subnormal becomes normal by a subtraction of normal numbers.
fn halves(word: u32) -> vec2<f32> {
    let h = vec2(word << 16u, word);
    let magnitude = (h & vec2(0x7fff0000u)) >> vec2(3u);
    let subnormal = bitcast<vec2<u32>>(bitcast<vec2<f32>>(magnitude + 0x38800000u) - 0.00006103515625);
    let finite = select(magnitude + 0x38000000u, subnormal, magnitude < vec2(0x00800000u));
    let special = magnitude + 0x70000000u;
    return bitcast<vec2<f32>>((h & vec2(0x80000000u)) | select(finite, special, magnitude >= vec2(0x0f800000u)));
}

// All four F8 of a word, likewise.
fn quarters(dtype: u32, word: u32) -> vec4<f32> {
    let b = (vec4(word) << vec4(24u, 16u, 8u, 0u)) & vec4(0xff000000u);
    if dtype == F8_E5M2 { return vec4(halves((b.x >> 16u) | b.y), halves((b.z >> 16u) | b.w)); }
    let magnitude = (b << vec4(1u)) >> vec4(5u);
    let subnormal = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude + 0x3c800000u) - 0.015625);
    let finite = select(magnitude + 0x3c000000u, subnormal, magnitude < vec4(0x00800000u));
    return bitcast<vec4<f32>>((b & vec4(0x80000000u)) | select(finite, vec4(0x7fc00000u), magnitude == vec4(0x07f00000u)));
}

// f32 bits to a narrower float, round to nearest even, saturating at `largest`, the pattern of its largest finite value.
fn narrow(bits: u32, mantissa_bits: u32, bias: u32, largest: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    let exponent = magnitude >> 23u;
    var shift = 23u - mantissa_bits;
    var full = magnitude;
    if exponent + bias <= 127u {
        // Subnormal in the target: the hidden bit becomes explicit and moves right.
        shift += 128u - bias - exponent;
        if exponent == 0u || shift > 24u { return 0u; }
        full = (magnitude & 0x7fffffu) | 0x800000u;
    } else {
        full -= (127u - bias) << 23u;
    }
    let kept = full >> shift;
    let lost = full & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = u32(lost > half || (lost == half && (kept & 1u) == 1u));
    return min(kept + up, largest);
}

// The pattern, in `dtype`, nearest to finite or infinite f32 bits; what lies beyond its range becomes its largest finite
// value. F64 is not for this function: see f64_words.
fn encode(dtype: u32, bits: u32) -> u32 {
    switch dtype {
        case F16: { return ((bits >> 16u) & 0x8000u) | narrow(bits, 10u, 15u, 0x7bffu); }
        case BF16: { return ((bits >> 16u) & 0x8000u) | min(((bits & 0x7fffffffu) + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u, 0x7f7fu); }
        case F8_E4M3: { return ((bits >> 24u) & 0x80u) | narrow(bits, 3u, 7u, 0x7eu); }
        case F8_E5M2: { return ((bits >> 24u) & 0x80u) | narrow(bits, 2u, 15u, 0x7bu); }
        default: { return (bits & 0x80000000u) | min(bits & 0x7fffffffu, 0x7f7fffffu); }
    }
}

// A finite f32 widened to f64: (low word, high word).
fn f64_words(bits: u32) -> vec2<u32> {
    let b = encode(F32, bits);
    let sign = b & 0x80000000u;
    var exponent = (b >> 23u) & 255u;
    var fraction = b & 0x7fffffu;
    if exponent == 0u {
        if fraction == 0u { return vec2(0u, sign); }
        let shift = countLeadingZeros(fraction) - 8u;
        fraction = (fraction << shift) & 0x7fffffu;
        return vec2(fraction << 29u, sign | ((897u - shift) << 20u) | (fraction >> 3u));
    }
    return vec2(fraction << 29u, sign | ((exponent + 896u) << 20u) | (fraction >> 3u));
}

// The order of finite floats as the order of unsigned integers; -0 comes just before +0.
fn order_key(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
